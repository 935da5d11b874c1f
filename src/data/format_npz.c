/* NumPy's .npz archives (numpy.savez, savez_compressed): images and labels under the names that are in
 * use, MedMNIST's among them.  Stored arrays stay in the mapped file, deflated ones are unpacked. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/array_images.h"
#include "data/format.h"
#include "io/zip_map.h"

typedef enum role { TRAIN, TEST, VALIDATION, WHOLE } role;

/* In the order in which they are looked for; of those without a split the first counts. */
static const struct {
    const char *images, *labels;
    role role;
} known[] = {
    {"x_train", "y_train", TRAIN},
    {"x_test", "y_test", TEST},
    {"x_val", "y_val", VALIDATION},
    {"X_train", "y_train", TRAIN},
    {"X_test", "y_test", TEST},
    {"X_val", "y_val", VALIDATION},
    {"train_images", "train_labels", TRAIN},
    {"test_images", "test_labels", TEST},
    {"val_images", "val_labels", VALIDATION},
    {"images", "labels", WHOLE},
    {"x", "y", WHOLE},
    {"X", "y", WHOLE},
    {"data", "labels", WHOLE},
    {"arr_0", "arr_1", WHOLE},
};
enum { KNOWN = sizeof known / sizeof *known };

typedef struct part {
    const char *name;
    uint8_t *bytes; /* of an array that was deflated */
    npi_npy images;
} part;

typedef struct npz {
    npi_zip *zip;
    part parts[KNOWN];
    int part_count;
} npz;

static const npi_zip_entry *find_entry(const npi_zip *zip, const char *array) {
    char name[32];
    size_t length = strlen(array);
    memcpy(name, array, length);
    memcpy(name + length, ".npy", 4);
    return npi_zip_find(zip, name, length + 4);
}

/* By the first entry's name, which stands behind the 30 bytes of its local header. */
static bool recognise(const char *path) {
    unsigned char start[30 + 256];
    size_t size = npi_file_start(path, start, sizeof start);
    if (size < 34 || memcmp(start, "PK\x03\x04", 4) != 0)
        return false;
    size_t length = (size_t)start[26] | (size_t)start[27] << 8;
    return length > 4 && length <= size - 30 && memcmp(start + 30 + length - 4, ".npy", 4) == 0;
}

/* The roles that answer a split: validation stands in for a test that is not there. */
static bool is_chosen(const npi_zip *zip, role own, npi_split split) {
    bool has_test = false;
    for (int i = 0; i < KNOWN; i++)
        has_test = has_test || (known[i].role == TEST && find_entry(zip, known[i].images));
    return split == NPI_SPLIT_ALL     ? own != WHOLE
           : split == NPI_SPLIT_TRAIN ? own == TRAIN
                                      : own == (has_test ? TEST : VALIDATION);
}

/* *out = an array's bytes as a .npy file; *owned is to be freed, NULL where they lie in the mapping. */
static npos_status read_array(const npi_source *source, const char *array, npi_npy *out,
                              uint8_t **owned) {
    const npz *n = source->state;
    const npi_zip_entry *entry = find_entry(n->zip, array);
    char *name;
    *owned = NULL;
    if (entry->data)
        NPI_TRY(npi_zip_check(n->zip, entry));
    else
        NPI_TRY(npi_zip_unpack(n->zip, entry, owned));
    npos_status status = npi_format(&name, "%s, array %s", source->path, array);
    if (status == NPOS_OK)
        status = npi_npy_view(name, entry->data ? entry->data : *owned, entry->size, out);
    npi_free(name);
    return status;
}

static npos_status add_part(npi_source *source, int row) {
    npz *n = source->state;
    part *p = &n->parts[n->part_count++];
    char *name;
    p->name = known[row].images;
    NPI_TRY(read_array(source, p->name, &p->images, &p->bytes));
    NPI_TRY(npi_format(&name, "%s, array %s", source->path, p->name));
    npos_status status = npi_array_images_check(&p->images, name);
    npi_free(name);
    NPI_TRY(status);
    bool labelled = find_entry(n->zip, known[row].labels) != NULL;
    if (n->part_count > 1 && labelled != (source->labels != NULL))
        return npi_fail(NPOS_BAD_DATA, "%s: %s has %s, unlike %s", source->path, p->name,
                        labelled ? "labels" : "no labels", n->parts[0].name);
    if (labelled) {
        npi_npy labels;
        uint8_t *owned;
        name = NULL;
        status = read_array(source, known[row].labels, &labels, &owned);
        if (status == NPOS_OK)
            status = npi_format(&name, "%s, array %s", source->path, known[row].labels);
        if (status == NPOS_OK)
            status = npi_array_labels_add(source, &labels, name, p->images.shape[0]);
        npi_free(name);
        npi_free(owned);
    }
    if (status == NPOS_OK)
        source->count += p->images.shape[0];
    return status;
}

/* Classes are counted over all splits, so that train and test agree. */
static npos_status count_classes(npi_source *source) {
    const npz *n = source->state;
    for (int i = 0; i < KNOWN; i++) {
        npi_source other = {.path = source->path};
        npi_npy labels;
        uint8_t *owned;
        if (known[i].role == WHOLE || !find_entry(n->zip, known[i].images) ||
            !find_entry(n->zip, known[i].labels))
            continue;
        npos_status status = read_array(source, known[i].labels, &labels, &owned);
        if (status == NPOS_OK)
            status = npi_array_labels_add(&other, &labels, known[i].labels, labels.count);
        if (status == NPOS_OK && other.classes > source->classes)
            source->classes = other.classes;
        npi_free(other.labels);
        npi_free(owned);
        NPI_TRY(status);
    }
    return NPOS_OK;
}

static npos_status open_npz(npi_source *source, npi_split split) {
    npz *n;
    NPI_TRY(npi_alloc(&n, 1, sizeof *n, "npz"));
    source->state = n;
    NPI_TRY(npi_zip_open(source->path, &n->zip));
    for (int i = 0; i < KNOWN; i++)
        if (find_entry(n->zip, known[i].images) && is_chosen(n->zip, known[i].role, split))
            NPI_TRY(add_part(source, i));
    if (n->part_count == 0 && split != NPI_SPLIT_ALL)
        return npi_no_split(source, split, "expected arrays like x_train or train_images");
    for (int i = 0; i < KNOWN && n->part_count == 0; i++)
        if (known[i].role == WHOLE && find_entry(n->zip, known[i].images))
            NPI_TRY(add_part(source, i));
    if (n->part_count == 0)
        return npi_hint(
            npi_fail(NPOS_BAD_DATA, "%s: none of its %zu arrays has a name that npos knows",
                     source->path, npi_zip_count(n->zip)),
            "images are looked for as x_train, train_images, images, x, data or arr_0 and the like "
            "(docs/data.md)");
    if (!source->labels)
        return NPOS_OK;
    if (split != NPI_SPLIT_ALL)
        NPI_TRY(count_classes(source));
    return npi_class_names_beside(source);
}

static void close_npz(npi_source *source) {
    npz *n = source->state;
    for (int i = 0; n && i < n->part_count; i++)
        npi_free(n->parts[i].bytes);
    if (n)
        npi_zip_close(n->zip);
    npi_free(n);
}

static bool has_split(const char *path, npi_split split) {
    npi_zip *zip;
    bool found = false;
    if (npi_zip_open(path, &zip) != NPOS_OK)
        return false;
    for (int i = 0; i < KNOWN; i++)
        found = found || (find_entry(zip, known[i].images) && is_chosen(zip, known[i].role, split));
    npi_zip_close(zip);
    return found;
}

/* The array that holds image *i; *i becomes its number there. */
static const part *find(const npz *n, int64_t *i) {
    const part *p = n->parts;
    while (*i >= p->images.shape[0])
        *i -= p++->images.shape[0];
    return p;
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const part *p = find(source->state, &i);
    return npi_format(out, "%s/%s[%lld]", npi_path_name(source->path), p->name, (long long)i);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const part *p = find(source->state, &i);
    return npi_array_image(&p->images, i, source->path, out);
}

extern const npi_data_format npi_format_npz;
const npi_data_format npi_format_npz = {.name = "npz",
                                        .recognise = recognise,
                                        .open = open_npz,
                                        .name_of = name_of,
                                        .decode = decode,
                                        .has_split = has_split,
                                        .close = close_npz};
