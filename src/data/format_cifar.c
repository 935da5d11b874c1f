/* CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky 2009): records of one label byte
 * (CIFAR-100: a coarse and a fine one) and 3 planes of 32 x 32 bytes.
 *
 * A folder holds data_batch_*.bin and test_batch.bin with batches.meta.txt, or train.bin and
 * test.bin with fine_label_names.txt; the tar archive of such a folder is read in place, and a single .bin
 * file is a set too. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/archive_pick.h"
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

/* Files of images, and behind them those of class names. */
static const char *const file_names[] = {
    "data_batch_1.bin", "data_batch_2.bin",    "data_batch_3.bin", "data_batch_4.bin",
    "data_batch_5.bin", "test_batch.bin",      "test.bin",         "train.bin",
    "batches.meta.txt", "fine_label_names.txt"};
enum { TEN_TEST = 5, HUNDRED_TEST, HUNDRED_TRAIN, TEN_NAMES = MAX_FILES, HUNDRED_NAMES, FILES };

static npi_split split_of(int file) {
    return file == TEN_TEST || file == HUNDRED_TEST ? NPI_SPLIT_TEST : NPI_SPLIT_TRAIN;
}

static size_t header_of(int file) {
    return file >= HUNDRED_TEST ? 2 : 1;
}

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
    for (int i = 0; i < MAX_FILES; i++)
        if (strcmp(name, file_names[i]) == 0)
            return split_of(i);
    return NPI_SPLIT_ALL;
}

static bool is_archive(const char *path) {
    return npi_archive_holds(path, file_names, MAX_FILES, -1);
}

static bool has_split(const char *path, npi_split split) {
    if (!npi_is_folder(path))
        return file_split(npi_path_name(path)) == split || is_archive(path);
    for (int i = 0; i < MAX_FILES; i++)
        if (split_of(i) == split && holds(path, file_names[i]))
            return true;
    return false;
}

static bool recognise(const char *path) {
    if (npi_is_folder(path))
        return has_split(path, NPI_SPLIT_TRAIN) || has_split(path, NPI_SPLIT_TEST);
    size_t length = strlen(path);
    return (length > 4 && strcasecmp(path + length - 4, ".bin") == 0 && npi_is_file(path)) ||
           is_archive(path);
}

/* One file's bytes; takes over *path and *bytes. */
static npos_status add_batch(cifar *c, char **path, char **bytes, size_t size) {
    batch *b = &c->batches[c->batch_count++];
    size_t record = c->header + PIXELS;
    b->path = *path;
    b->bytes = *bytes;
    *path = *bytes = NULL;
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

/* Reads and adds the file *path, which is taken over. */
static npos_status read_batch(cifar *c, char **path) {
    char *bytes;
    size_t size;
    NPI_TRY(npi_file_read(*path, &bytes, &size));
    return add_batch(c, path, &bytes, size);
}

/* The records' header follows from the files' names. */
static npos_status take_header(const npi_source *source, int file) {
    cifar *c = source->state;
    if (c->header != 0 && c->header != header_of(file))
        return npi_fail(NPOS_BAD_DATA, "%s: holds files of both CIFAR-10 and CIFAR-100",
                        source->path);
    c->header = header_of(file);
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
        status = read_batch(c, &path);
        npi_free(path);
        return status;
    }
    for (int i = 0; i < MAX_FILES && status == NPOS_OK; i++) {
        if ((split != NPI_SPLIT_ALL && split_of(i) != split) || !holds(source->path, file_names[i]))
            continue;
        NPI_TRY(take_header(source, i));
        NPI_TRY(npi_path_join(&path, source->path, file_names[i]));
        status = read_batch(c, &path);
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
                          file_names[source->classes == 10 ? TEN_NAMES : HUNDRED_NAMES]));
    npos_status status = npi_is_file(path) ? npi_class_names_read(source, path) : NPOS_OK;
    npi_free(path);
    return status;
}

static npos_status open_archive(npi_source *source, npi_split split) {
    cifar *c = source->state;
    const char *wanted[FILES];
    npi_picked files[FILES];
    char *path = NULL, *names = NULL;
    for (int i = 0; i < FILES; i++)
        wanted[i] =
            i >= MAX_FILES || split == NPI_SPLIT_ALL || split_of(i) == split ? file_names[i] : NULL;
    NPI_TRY(npi_archive_pick(source->path, wanted, FILES, files));
    npos_status status = NPOS_OK;
    for (int i = 0; i < MAX_FILES; i++) {
        if (!files[i].bytes)
            continue;
        NPI_TRY_GOTO(take_header(source, i), done);
        NPI_TRY_GOTO(npi_format(&path, "%s/%s", source->path, file_names[i]), done);
        char *bytes = (char *)files[i].bytes;
        files[i].bytes = NULL;
        NPI_TRY_GOTO(add_batch(c, &path, &bytes, files[i].size), done);
    }
    if (c->batch_count == 0) {
        status = npi_no_split(source, split, "its .bin files are not there");
        goto done;
    }
    NPI_TRY_GOTO(read_labels(source), done);
    const npi_picked *told = &files[source->classes == 10 ? TEN_NAMES : HUNDRED_NAMES];
    if (told->bytes) {
        NPI_TRY_GOTO(npi_format(&names, "%.*s", (int)told->size, (const char *)told->bytes), done);
        status = npi_class_names_parse(source, source->path, names);
    }
done:
    npi_free(path);
    npi_free(names);
    npi_picked_clear(files, FILES);
    return status;
}

static npos_status open_cifar(npi_source *source, npi_split split) {
    cifar *c;
    NPI_TRY(npi_alloc(&c, 1, sizeof *c, "CIFAR"));
    source->state = c;
    if (is_archive(source->path))
        return open_archive(source, split);
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
