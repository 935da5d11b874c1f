/* Names of OOD classes that are, or hold, names of ID classes, synonyms included. */
#include <string.h>

#include "base/memory.h"
#include "jobs/data_check.h"
#include "text/synonyms.h"

/* The name of a class of ImageNet that is called by its WordNet id; other names as they are. */
static const char *readable(const char *name, const npi_class_list *imagenet) {
    for (int i = 0; i < imagenet->count; i++)
        if (strcmp(imagenet->folders[i], name) == 0)
            return imagenet->names[i];
    return name;
}

/* The classes of a set, as they may be read. */
typedef struct names {
    npi_readings *of; /* [count] */
    int count;
} names;

static void names_clear(names *n) {
    for (int i = 0; n->of && i < n->count; i++)
        npi_readings_clear(&n->of[i]);
    npi_free(n->of);
}

static npos_status names_of(const npi_check_set *set, const npi_synonyms *synonyms, names *out) {
    int classes = set->survey.classes;
    *out = (names){.count = classes};
    NPI_TRY(npi_alloc(&out->of, (size_t)classes, sizeof *out->of, "class names"));
    for (int c = 0; c < classes; c++)
        NPI_TRY(npi_readings_of(synonyms, npi_dataset_class_name(set->survey.set, c), &out->of[c]));
    return NPOS_OK;
}

typedef enum likeness { UNLIKE, WITHIN, WHOLE } likeness;

/* Whether an OOD class is what the ID class is, by any of their names, or has its own name in one of its own ("frog" in
 * "tree frog").  A synonym of a synonym is neither: one side is to be called by its own name. */
static likeness compare_names(const npi_readings *id, const npi_readings *ood) {
    likeness found = UNLIKE;
    for (int a = 0; a < id->count; a++)
        for (int b = 0; b < ood->count; b++) {
            if (a >= id->own && b >= ood->own)
                continue;
            if (strcmp(id->text[a], ood->text[b]) == 0)
                return WHOLE;
            if (a < id->own && b < ood->own && strstr(ood->text[b], id->text[a]))
                found = WITHIN;
        }
    return found;
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
                           const names *id_names, int ood, const names *ood_names) {
    for (int b = 0; b < ood_names->count; b++)
        for (int a = 0; a < id_names->count; a++) {
            likeness found = compare_names(&id_names->of[a], &ood_names->of[b]);
            if (found != UNLIKE)
                NPI_TRY(add(check, imagenet,
                            (npi_overlap){.ood = ood,
                                          .ood_class = b,
                                          .id = id,
                                          .id_class = a,
                                          .whole = found == WHOLE,
                                          .images = check->set[ood].survey.class_count[b]}));
        }
    return NPOS_OK;
}

npos_status npi_check_overlaps(npi_check *check) {
    npi_synonyms synonyms = {0};
    names id_names = {0}, ood_names = {0};
    int id = -1;
    npos_status status = NPOS_OK;
    for (int s = check->sets - 1; s >= 0; s--) /* the first set of ID images names their classes */
        if (check->set[s].part != NPI_PART_OOD)
            id = s;
    if (id < 0)
        return NPOS_OK;
    NPI_TRY_GOTO(npi_synonyms_open(&synonyms), done);
    NPI_TRY_GOTO(names_of(&check->set[id], &synonyms, &id_names), done);
    for (int s = 0; s < check->sets; s++) {
        if (check->set[s].part != NPI_PART_OOD)
            continue;
        NPI_TRY_GOTO(names_of(&check->set[s], &synonyms, &ood_names), done);
        NPI_TRY_GOTO(compare(check, &synonyms.classes, id, &id_names, s, &ood_names), done);
        names_clear(&ood_names);
        ood_names = (names){0};
    }
done:
    names_clear(&id_names);
    names_clear(&ood_names);
    npi_synonyms_close(&synonyms);
    return status;
}
