/* CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky 2009): records of one label byte
 * (CIFAR-100: a coarse and a fine one) and 3 planes of 32 x 32 bytes.
 *
 * A folder holds data_batch_*.bin and test_batch.bin with batches.meta.txt, or train.bin and
 * test.bin with fine_label_names.txt; the tar archive of such a folder is read in place, and a single .bin
 * file is a set too. */
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/cifar_files.h"
#include "data/format.h"

enum { PIXELS = NPI_CIFAR_PIXELS };

typedef struct batch {
    char *path;
    npi_picked file;
    int64_t count;
} batch;

typedef struct cifar {
    batch batches[NPI_CIFAR_BATCHES];
    int batch_count;
    size_t header; /* label bytes of a record: 1 (CIFAR-10) or 2 (CIFAR-100) */
} cifar;

/* ---- one file ---- */

/* The labels of the newest batch. */
static npos_status take_labels(npi_source *source, const cifar *c, const batch *b) {
    int64_t all = source->count + b->count;
    source->classes = c->header == 1 ? 10 : 100;
    NPI_TRY(npi_grow(&source->labels, (size_t)source->count, (size_t)all, sizeof *source->labels,
                     "labels"));
    for (int64_t i = 0; i < b->count; i++) {
        int label = b->file.bytes[(size_t)i * (c->header + PIXELS) + c->header - 1];
        if (label >= source->classes)
            return npi_fail(NPOS_BAD_DATA, "%s: label %d of image %lld, expected 0..%d", b->path,
                            label, (long long)i, source->classes - 1);
        source->labels[source->count + i] = label;
    }
    source->count = all;
    return NPOS_OK;
}

/* The records' header follows from a file's name; of a single file the size tells. */
static npos_status take_header(const npi_source *source, int file, size_t size) {
    cifar *c = source->state;
    size_t header = file >= 0 ? 1 + npi_cifar_is_hundred(file)
                    : size % (1 + PIXELS) != 0 && size % (2 + PIXELS) == 0 ? 2
                                                                           : 1;
    if (c->header != 0 && c->header != header)
        return npi_fail(NPOS_BAD_DATA, "%s: holds files of both CIFAR-10 and CIFAR-100",
                        source->path);
    c->header = header;
    return NPOS_OK;
}

static npos_status add_batch(npi_source *source, int file, char **path, npi_picked *bytes) {
    cifar *c = source->state;
    size_t size = bytes->size;
    NPI_TRY(take_header(source, file, size));
    batch *b = &c->batches[c->batch_count++];
    *b = (batch){.path = *path, .file = *bytes};
    *path = NULL;
    *bytes = (npi_picked){0};
    size_t record = c->header + PIXELS;
    if (size == 0 || size % record != 0)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: %zu bytes, expected a multiple of %zu (CIFAR-%s, %zu label bytes and "
                        "32 x 32 x 3 pixels an image)",
                        b->path, size, record, c->header == 1 ? "10" : "100", c->header);
    b->count = (int64_t)(size / record);
    return take_labels(source, c, b);
}

/* A line a class. */
static npos_status take_names(npi_source *source, const char *path, const npi_picked *file) {
    char *text;
    NPI_TRY(npi_format(&text, "%.*s", (int)file->size, (const char *)file->bytes));
    npos_status status = npi_class_names_parse(source, path, text);
    npi_free(text);
    return status;
}

/* ---- the set ---- */

static const char *const file_names[NPI_CIFAR_FILES] = {
    "data_batch_1.bin", "data_batch_2.bin",    "data_batch_3.bin", "data_batch_4.bin",
    "data_batch_5.bin", "test_batch.bin",      "test.bin",         "train.bin",
    "batches.meta.txt", "fine_label_names.txt"};

static const npi_cifar_files files = {.names = file_names,
                                      .first = -1,
                                      .is_batch = npi_is_file,
                                      .add = add_batch,
                                      .take_names = take_names,
                                      .missing = "its .bin files are not there"};

static bool has_split(const char *path, npi_split split) {
    return npi_cifar_has_split(&files, path, split);
}

static bool recognise(const char *path) {
    if (npi_is_folder(path))
        return has_split(path, NPI_SPLIT_TRAIN) || has_split(path, NPI_SPLIT_TEST);
    size_t length = strlen(path);
    return (length > 4 && strcasecmp(path + length - 4, ".bin") == 0 && npi_is_file(path)) ||
           npi_cifar_is_archive(&files, path);
}

static npos_status open_cifar(npi_source *source, npi_split split) {
    cifar *c;
    NPI_TRY(npi_alloc(&c, 1, sizeof *c, "CIFAR"));
    source->state = c;
    return npi_cifar_open(&files, source, split);
}

static void close_cifar(npi_source *source) {
    cifar *c = source->state;
    for (int i = 0; c && i < c->batch_count; i++) {
        npi_free(c->batches[i].path);
        npi_picked_clear(&c->batches[i].file, 1);
    }
    npi_free(c);
}

/* The batch that holds image *i; *i becomes its number there. */
static const batch *find(const cifar *c, int64_t *i) {
    const batch *b = c->batches;
    while (*i >= b->count)
        *i -= b++->count;
    return b;
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const batch *b = find(source->state, &i);
    return npi_format(out, "%s[%lld]", npi_path_name(b->path), (long long)i);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const cifar *c = source->state;
    const batch *b = find(c, &i);
    return npi_cifar_image(b->file.bytes + (size_t)i * (c->header + PIXELS) + c->header, b->path,
                           out);
}

extern const npi_data_format npi_format_cifar;
const npi_data_format npi_format_cifar = {.name = "cifar",
                                          .recognise = recognise,
                                          .open = open_cifar,
                                          .name_of = name_of,
                                          .decode = decode,
                                          .has_split = has_split,
                                          .close = close_cifar};
