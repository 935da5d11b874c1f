#include "text/synonyms.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"

/* clang-format off */
#include "text/imagenet_lemmas.inc"
/* clang-format on */
enum { LEMMAS = sizeof imagenet_lemmas / sizeof *imagenet_lemmas, WORDNET_ID = 9 };

/* Names in common use for what the classes of CIFAR, Fashion-MNIST and their kin show. */
static const char *const same[] = {"airplane, aeroplane, plane",
                                   "automobile, car, motorcar, auto",
                                   "truck, lorry",
                                   "ship, boat",
                                   "motorcycle, motorbike",
                                   "bicycle, bike",
                                   "streetcar, tram, trolley car",
                                   "couch, sofa",
                                   "television, tv, television set",
                                   "telephone, phone",
                                   "cell phone, mobile phone, cellular telephone, cellphone",
                                   "refrigerator, fridge, icebox",
                                   "lawn mower, lawnmower",
                                   "trouser, pants",
                                   "pullover, sweater, jumper",
                                   "sneaker, trainer, running shoe",
                                   "t-shirt, tee shirt, tshirt",
                                   "t-shirt/top, t-shirt",
                                   "pine tree, pine",
                                   "rabbit, bunny",
                                   "hippopotamus, hippo",
                                   "rhinoceros, rhino",
                                   "chimpanzee, chimp",
                                   "ladybug, ladybird",
                                   "orca, killer whale"};
enum { SAME = sizeof same / sizeof *same };

/* Cuts the ends of singular and plural alike: "frogs", "cities" and "city", "boxes" and "box", "horses" and "horse" (which
 * becomes "hors"); "grass", "bus" and "iris" keep theirs.  Returns the length that is left. */
static size_t cut(char *word, size_t length) {
    size_t n = length;
    if (n > 3 && word[n - 1] == 's' && !strchr("sui", word[n - 2]))
        n--;
    if (n > 3 && word[n - 1] == 'e') {
        if (strchr("sxz", word[n - 2]) ||
            (n > 4 && word[n - 2] == 'h' && strchr("cs", word[n - 3])))
            n--;
        else if (word[n - 2] == 'i')
            word[--n - 1] = 'y';
    }
    return n;
}

/* `to` has room for length + 3 characters. */
static void as_words(const char *name, size_t length, char *to) {
    char *word = to + 1;
    *to++ = ' ';
    for (size_t i = 0; i <= length; i++) {
        unsigned char c = i < length ? (unsigned char)name[i] : ' ';
        if (isalnum(c) || c >= 0x80) {
            *to++ = (char)tolower(c);
        } else if (to > word) {
            to = word + cut(word, (size_t)(to - word));
            *to++ = ' ';
            word = to;
        }
    }
    *to = '\0';
}

/* Mere numbers are no names. */
static bool says_something(const char *words) {
    return strspn(words, " 0123456789") < strlen(words);
}

/* Takes over `words` of npi_alloc. */
static npos_status add_words(npi_readings *to, char *words) {
    size_t count = (size_t)to->count;
    bool known = !says_something(words);
    for (int i = 0; i < to->count && !known; i++)
        known = strcmp(to->text[i], words) == 0;
    npos_status status =
        known ? NPOS_OK
              : npi_grow(&to->text, count, count + 1, sizeof *to->text, "names of a class");
    if (known || status != NPOS_OK) {
        npi_free(words);
        return status;
    }
    to->text[to->count++] = words;
    return NPOS_OK;
}

static npos_status add(npi_readings *to, const char *name, size_t length) {
    char *words;
    NPI_TRY(npi_alloc(&words, length + 4, 1, "class name"));
    as_words(name, length, words);
    return add_words(to, words);
}

/* A name, and where it ends with words in parentheses also without them. */
static npos_status add_name(npi_readings *to, const char *name, size_t length) {
    const char *open = memchr(name, '(', length);
    NPI_TRY(add(to, name, length));
    return open && open > name ? add(to, name, (size_t)(open - name)) : NPOS_OK;
}

/* The names between commas. */
static npos_status add_list(npi_readings *to, const char *list) {
    while (*list) {
        size_t length = strcspn(list, ",");
        NPI_TRY(add_name(to, list, length));
        list += length + (list[length] == ',');
    }
    return NPOS_OK;
}

/* "n01484850", alone or with something behind it that is no letter or digit. */
static bool is_wordnet_id(const char *name) {
    int at = 0;
    if (name[at++] != 'n')
        return false;
    while (at < WORDNET_ID && isdigit((unsigned char)name[at]))
        at++;
    return at == WORDNET_ID && !isalnum((unsigned char)name[at]);
}

/* Whether one of the readings is one of `other`'s first `own`. */
static bool meet(const npi_readings *a, int own, const npi_readings *other) {
    for (int i = 0; i < own; i++)
        for (int k = 0; k < other->count; k++)
            if (strcmp(a->text[i], other->text[k]) == 0)
                return true;
    return false;
}

static npos_status copy_all(npi_readings *to, const npi_readings *from) {
    for (int i = 0; i < from->count; i++) {
        char *words;
        NPI_TRY(npi_strdup(&words, from->text[i]));
        NPI_TRY(add_words(to, words));
    }
    return NPOS_OK;
}

npos_status npi_synonyms_open(npi_synonyms *out) {
    npos_status status;
    *out = (npi_synonyms){0};
    NPI_TRY(npi_class_list_open("imagenet-1k", &out->classes));
    const npi_class_list *classes = &out->classes;
    NPI_TRY_GOTO(npi_alloc(&out->thing, (size_t)classes->count + SAME, sizeof *out->thing,
                           "names of things"),
                 fail);
    for (int c = 0; c < classes->count && c < LEMMAS; c++) {
        npi_readings *thing = &out->thing[out->count++];
        NPI_TRY_GOTO(add_name(thing, classes->names[c], strlen(classes->names[c])), fail);
        thing->own = thing->count;
        NPI_TRY_GOTO(add_list(thing, imagenet_lemmas[c]), fail);
    }
    for (int i = 0; i < SAME; i++)
        NPI_TRY_GOTO(add_list(&out->thing[out->count++], same[i]), fail);
    return NPOS_OK;
fail:
    npi_synonyms_close(out);
    return status;
}

void npi_synonyms_close(npi_synonyms *synonyms) {
    for (int i = 0; i < synonyms->count; i++)
        npi_readings_clear(&synonyms->thing[i]);
    npi_free(synonyms->thing);
    npi_class_list_clear(&synonyms->classes);
    *synonyms = (npi_synonyms){0};
}

npos_status npi_readings_of(const npi_synonyms *synonyms, const char *name, npi_readings *out) {
    *out = (npi_readings){0};
    for (int c = 0; c < synonyms->classes.count && is_wordnet_id(name); c++)
        if (strncmp(synonyms->classes.folders[c], name, WORDNET_ID) == 0) {
            out->own = synonyms->thing[c].own;
            return copy_all(out, &synonyms->thing[c]);
        }
    NPI_TRY(add_list(out, name));
    out->own = out->count;
    for (int i = 0; i < synonyms->count; i++)
        if (meet(out, out->own, &synonyms->thing[i]))
            NPI_TRY(copy_all(out, &synonyms->thing[i]));
    return NPOS_OK;
}

void npi_readings_clear(npi_readings *readings) {
    for (int i = 0; i < readings->count; i++)
        npi_free(readings->text[i]);
    npi_free(readings->text);
    *readings = (npi_readings){0};
}
