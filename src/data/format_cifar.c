/* CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky 2009): records of one label byte
 * (CIFAR-100: a coarse and a fine one) and 3 planes of 32 x 32 bytes.
 *
 * A folder holds data_batch_*.bin and test_batch.bin with batches.meta.txt, or train.bin and
 * test.bin with fine_label_names.txt; a single .bin file is a set too. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/format.h"
#include "data/image_decode.h"

enum { SIDE = 32, PLANE = SIDE * SIDE, PIXELS = 3 * PLANE, MAX_FILES = 8 };

typedef struct batch {
    char *path;
    char *bytes;
    int64_t count;
} batch;

typedef struct cifar {
    batch batches[MAX_FILES];
    int batch_count;
    size_t header; /* label bytes of a record: 1 (CIFAR-10) or 2 (CIFAR-100) */
} cifar;

static const struct {
    const char *name;
    npi_split split;
    int header;
} known_files[] = {
    {"data_batch_1.bin", NPI_SPLIT_TRAIN, 1}, {"data_batch_2.bin", NPI_SPLIT_TRAIN, 1},
    {"data_batch_3.bin", NPI_SPLIT_TRAIN, 1}, {"data_batch_4.bin", NPI_SPLIT_TRAIN, 1},
    {"data_batch_5.bin", NPI_SPLIT_TRAIN, 1}, {"test_batch.bin", NPI_SPLIT_TEST, 1},
    {"test.bin", NPI_SPLIT_TEST, 2},          {"train.bin", NPI_SPLIT_TRAIN, 2},
};
enum { KNOWN_FILES = sizeof known_files / sizeof *known_files };

/* Whether folder/name is a file. */
static bool holds(const char *folder, const char *name) {
    char *path;
    if (npi_path_join(&path, folder, name) != NPOS_OK)
        return false;
    bool found = npi_is_file(path);
    npi_free(path);
    return found;
}

static npi_split file_split(const char *name) {
    for (int i = 0; i < KNOWN_FILES; i++)
        if (strcmp(name, known_files[i].name) == 0)
            return known_files[i].split;
    return NPI_SPLIT_ALL;
}

static bool has_split(const char *path, npi_split split) {
    if (!npi_is_folder(path))
        return file_split(npi_path_name(path)) == split;
    for (int i = 0; i < KNOWN_FILES; i++)
        if (known_files[i].split == split && holds(path, known_files[i].name))
            return true;
    return false;
}

static bool recognise(const char *path) {
    if (npi_is_folder(path))
        return has_split(path, NPI_SPLIT_TRAIN) || has_split(path, NPI_SPLIT_TEST);
    size_t length = strlen(path);
    return length > 4 && strcasecmp(path + length - 4, ".bin") == 0 && npi_is_file(path);
}

/* Reads one file; takes over *path. */
static npos_status add_batch(cifar *c, char **path) {
    batch *b = &c->batches[c->batch_count++];
    size_t size, record = c->header + PIXELS;
    b->path = *path;
    *path = NULL;
    NPI_TRY(npi_file_read(b->path, &b->bytes, &size));
    if (record == PIXELS) { /* a single file: the size tells which of the two it is */
        c->header = size % (1 + PIXELS) != 0 && size % (2 + PIXELS) == 0 ? 2 : 1;
        record = c->header + PIXELS;
    }
    if (size == 0 || size % record != 0)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: %zu bytes, expected a multiple of %zu (CIFAR-%s, %zu label bytes and "
                        "32 x 32 x 3 pixels an image)",
                        b->path, size, record, c->header == 1 ? "10" : "100", c->header);
    b->count = (int64_t)(size / record);
    return NPOS_OK;
}

static npos_status add_batches(npi_source *source, npi_split split) {
    cifar *c = source->state;
    char *path = NULL;
    npos_status status = NPOS_OK;
    if (!npi_is_folder(source->path)) {
        if (split != NPI_SPLIT_ALL && file_split(npi_path_name(source->path)) != split)
            return npi_no_split(source, split, "the file's name is not one of that split");
        NPI_TRY(npi_strdup(&path, source->path));
        status = add_batch(c, &path);
        npi_free(path);
        return status;
    }
    for (int i = 0; i < KNOWN_FILES && status == NPOS_OK; i++) {
        if ((split != NPI_SPLIT_ALL && known_files[i].split != split) ||
            !holds(source->path, known_files[i].name))
            continue;
        if (c->header != 0 && c->header != (size_t)known_files[i].header)
            return npi_fail(NPOS_BAD_DATA, "%s: holds files of both CIFAR-10 and CIFAR-100",
                            source->path);
        c->header = (size_t)known_files[i].header;
        NPI_TRY(npi_path_join(&path, source->path, known_files[i].name));
        status = add_batch(c, &path);
        npi_free(path);
        path = NULL;
    }
    if (status == NPOS_OK && c->batch_count == 0)
        return npi_no_split(source, split, "its .bin files are not there");
    return status;
}

static npos_status read_labels(npi_source *source) {
    const cifar *c = source->state;
    for (int b = 0; b < c->batch_count; b++)
        source->count += c->batches[b].count;
    source->classes = c->header == 1 ? 10 : 100;
    NPI_TRY(npi_alloc(&source->labels, (size_t)source->count, sizeof *source->labels, "labels"));
    int32_t *to = source->labels;
    for (int b = 0; b < c->batch_count; b++)
        for (int64_t i = 0; i < c->batches[b].count; i++) {
            size_t at = (size_t)i * (c->header + PIXELS) + c->header - 1;
            int label = (unsigned char)c->batches[b].bytes[at];
            if (label >= source->classes)
                return npi_fail(NPOS_BAD_DATA, "%s: label %d of image %lld, expected 0..%d",
                                c->batches[b].path, label, (long long)i, source->classes - 1);
            *to++ = label;
        }
    return NPOS_OK;
}

/* Class names, a line each, from the folder's file of them; without it classes are numbers. */
static npos_status read_names(npi_source *source, const char *folder) {
    char *path;
    NPI_TRY(npi_path_join(&path, folder,
                          source->classes == 10 ? "batches.meta.txt" : "fine_label_names.txt"));
    npos_status status = npi_is_file(path) ? npi_class_names_read(source, path) : NPOS_OK;
    npi_free(path);
    return status;
}

static npos_status open_cifar(npi_source *source, npi_split split) {
    cifar *c;
    NPI_TRY(npi_alloc(&c, 1, sizeof *c, "CIFAR"));
    source->state = c;
    NPI_TRY(add_batches(source, split));
    NPI_TRY(read_labels(source));
    if (npi_is_folder(source->path))
        return read_names(source, source->path);
    char *folder;
    size_t length = (size_t)(npi_path_name(source->path) - source->path);
    NPI_TRY(npi_format(&folder, "%.*s.", (int)length, source->path));
    npos_status status = read_names(source, folder);
    npi_free(folder);
    return status;
}

static void close_cifar(npi_source *source) {
    cifar *c = source->state;
    for (int i = 0; c && i < c->batch_count; i++) {
        npi_free(c->batches[i].path);
        npi_free(c->batches[i].bytes);
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
    const uint8_t *planes =
        (const uint8_t *)b->bytes + (size_t)i * (c->header + PIXELS) + c->header;
    NPI_TRY(npi_image_alloc(out, SIDE, SIDE, 3, b->path));
    for (int p = 0; p < PLANE; p++)
        for (int channel = 0; channel < 3; channel++)
            out->pixels[3 * p + channel] = planes[channel * PLANE + p];
    return NPOS_OK;
}

extern const npi_data_format npi_format_cifar;
const npi_data_format npi_format_cifar = {.name = "cifar",
                                          .recognise = recognise,
                                          .open = open_cifar,
                                          .name_of = name_of,
                                          .decode = decode,
                                          .has_split = has_split,
                                          .close = close_cifar};
