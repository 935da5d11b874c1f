/* Names of OOD classes that are, or hold, names of ID classes. */
#include <ctype.h>
#include <string.h>

#include "base/memory.h"
#include "jobs/data_check.h"
#include "text/prompts.h"

/* The name of a class of ImageNet that is called by its WordNet id; other names as they are. */
static const char *readable(const char *name, const npi_class_list *imagenet) {
    for (int i = 0; i < imagenet->count; i++)
        if (strcmp(imagenet->folders[i], name) == 0)
            return imagenet->names[i];
    return name;
}

/* A name as words: small letters and digits, one blank between and around them. */
static npos_status as_words(const char *name, char **out) {
    NPI_TRY(npi_alloc(out, strlen(name) + 3, 1, "class name"));
    char *to = *out;
    *to++ = ' ';
    for (const unsigned char *at = (const unsigned char *)name; *at; at++) {
        if (isalnum(*at) || *at >= 0x80)
            *to++ = (char)tolower(*at);
        else if (to[-1] != ' ')
            *to++ = ' ';
    }
    if (to[-1] != ' ')
        *to++ = ' ';
    *to = '\0';
    return NPOS_OK;
}

/* Classes that are mere numbers have no names. */
static bool says_something(const char *words) {
    return strspn(words, " 0123456789") < strlen(words);
}

typedef struct words {
    char **text;
    int count;
} words;

static void words_clear(words *w) {
    for (int i = 0; w->text && i < w->count; i++)
        npi_free(w->text[i]);
    npi_free(w->text);
}

static npos_status words_of(const npi_check_set *set, const npi_class_list *imagenet, words *out) {
    int classes = set->survey.classes;
    *out = (words){.count = classes};
    NPI_TRY(npi_alloc(&out->text, (size_t)classes, sizeof *out->text, "class names"));
    for (int c = 0; c < classes; c++)
        NPI_TRY(as_words(readable(npi_dataset_class_name(set->survey.set, c), imagenet),
                         &out->text[c]));
    return NPOS_OK;
}

static npos_status add(npi_check *check, const npi_class_list *imagenet, npi_overlap overlap) {
    size_t count = (size_t)check->overlaps;
    const npi_dataset *ood = check->set[overlap.ood].survey.set;
    NPI_TRY(npi_grow(&check->overlap, count, count + 1, sizeof *check->overlap, "overlaps"));
    NPI_TRY(npi_strdup(&overlap.called,
                       readable(npi_dataset_class_name(ood, overlap.ood_class), imagenet)));
    check->overlap[check->overlaps++] = overlap;
    return NPOS_OK;
}

static npos_status compare(npi_check *check, const npi_class_list *imagenet, int id,
                           const words *id_words, int ood, const words *ood_words) {
    for (int b = 0; b < ood_words->count; b++)
        for (int a = 0; a < id_words->count; a++) {
            const char *in = ood_words->text[b], *what = id_words->text[a];
            if (says_something(what) && strstr(in, what))
                NPI_TRY(add(check, imagenet,
                            (npi_overlap){.ood = ood,
                                          .ood_class = b,
                                          .id = id,
                                          .id_class = a,
                                          .whole = strcmp(in, what) == 0,
                                          .images = check->set[ood].survey.class_count[b]}));
        }
    return NPOS_OK;
}

npos_status npi_check_overlaps(npi_check *check) {
    npi_class_list imagenet = {0};
    words id_words = {0}, ood_words = {0};
    int id = -1;
    npos_status status = NPOS_OK;
    for (int s = check->sets - 1; s >= 0; s--) /* the first set of ID images names their classes */
        if (check->set[s].part != NPI_PART_OOD)
            id = s;
    if (id < 0)
        return NPOS_OK;
    NPI_TRY_GOTO(npi_class_list_open("imagenet-1k", &imagenet), done);
    NPI_TRY_GOTO(words_of(&check->set[id], &imagenet, &id_words), done);
    for (int s = 0; s < check->sets; s++) {
        if (check->set[s].part != NPI_PART_OOD)
            continue;
        NPI_TRY_GOTO(words_of(&check->set[s], &imagenet, &ood_words), done);
        NPI_TRY_GOTO(compare(check, &imagenet, id, &id_words, s, &ood_words), done);
        words_clear(&ood_words);
        ood_words = (words){0};
    }
done:
    words_clear(&id_words);
    words_clear(&ood_words);
    npi_class_list_clear(&imagenet);
    return status;
}
