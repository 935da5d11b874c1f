/* idx, the format of MNIST and its kin: two zero bytes, the type (8: uint8), the number of
 * dimensions, the dimensions as big-endian 32-bit numbers, the values; plain or gzipped.
 *
 * An images file ("t10k-images-idx3-ubyte.gz") finds its labels by name ("t10k-labels-idx1-ubyte",
 * gzipped or not); a folder holds train-images... and t10k-images...  Labels are numbers; names
 * come from classes.txt beside them, and of Fashion-MNIST are known. */
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/format.h"
#include "data/image_decode.h"
#include "data/split_files.h"

enum { MAX_DIMS = 3, MAX_SETS = 2, GZIP_RATIO = 1032 };

typedef struct array {
    int ndim;
    int64_t shape[MAX_DIMS];
    int64_t count; /* product */
    uint8_t *values;
} array;

typedef struct part {
    char *path;
    array images;
} part;

typedef struct idx {
    part parts[MAX_SETS];
    int part_count;
} idx;

/* gzread reads plain files too. */
static npos_status read_bytes(const char *path, gzFile file, void *to, int64_t size) {
    uint8_t *at = to;
    while (size > 0) {
        int n = gzread(file, at, (unsigned)(size < INT_MAX / 2 ? size : INT_MAX / 2));
        if (n < 0) {
            int code;
            return npi_fail(NPOS_BAD_DATA, "%s: damaged gzip: %s", path, gzerror(file, &code));
        }
        if (n == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: truncated, %lld bytes are missing", path,
                            (long long)size);
        at += n;
        size -= n;
    }
    return NPOS_OK;
}

static npos_status read_header(const char *path, gzFile file, int64_t file_bytes, array *out) {
    uint8_t head[4], size[4];
    NPI_TRY(read_bytes(path, file, head, 4));
    if (head[0] != 0 || head[1] != 0)
        return npi_fail(NPOS_BAD_DATA, "%s: not an idx file", path);
    if (head[2] != 8)
        return npi_fail(NPOS_UNSUPPORTED, "%s: idx values of type 0x%02x, expected 0x08 (uint8)",
                        path, head[2]);
    if (head[3] < 1 || head[3] > MAX_DIMS)
        return npi_fail(NPOS_BAD_DATA, "%s: idx of %d dimensions, expected 1 to %d", path, head[3],
                        MAX_DIMS);
    out->ndim = head[3];
    out->count = 1;
    for (int d = 0; d < out->ndim; d++) {
        NPI_TRY(read_bytes(path, file, size, 4));
        out->shape[d] = (int64_t)size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3];
        if (out->shape[d] != 0 && out->count > INT64_MAX / 2 / GZIP_RATIO / out->shape[d])
            out->count = INT64_MAX / 2 / GZIP_RATIO; /* refused below */
        else
            out->count *= out->shape[d];
    }
    int64_t most = file_bytes * (gzdirect(file) ? 1 : GZIP_RATIO);
    if (out->count > most)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: truncated: the header promises %lld values, the file of %lld bytes "
                        "holds fewer",
                        path, (long long)out->count, (long long)file_bytes);
    return NPOS_OK;
}

static npos_status read_array(const char *path, int ndim, array *out) {
    struct stat info;
    *out = (array){0};
    if (stat(path, &info) != 0)
        return npi_fail(NPOS_NOT_FOUND, "%s: no such file", path);
    gzFile file = gzopen(path, "rbe");
    if (!file)
        return npi_fail_errno("%s: cannot open", path);
    npos_status status;
    uint8_t more;
    NPI_TRY_GOTO(read_header(path, file, info.st_size, out), done);
    if (out->ndim != ndim) {
        status = npi_fail(NPOS_BAD_DATA, "%s: idx of %d dimensions, expected %d (%s)", path,
                          out->ndim, ndim, ndim == 1 ? "labels" : "images");
        goto done;
    }
    NPI_TRY_GOTO(npi_alloc(&out->values, (size_t)out->count, 1, path), done);
    NPI_TRY_GOTO(read_bytes(path, file, out->values, out->count), done);
    int n = gzread(file, &more, 1);
    if (n > 0)
        status = npi_fail(NPOS_BAD_DATA, "%s: longer than the %lld values that its header promises",
                          path, (long long)out->count);
    else if (n < 0)
        status = npi_fail(NPOS_BAD_DATA, "%s: damaged gzip behind the last value", path);
done:
    gzclose(file);
    if (status != NPOS_OK) {
        npi_free(out->values);
        *out = (array){0};
    }
    return status;
}

/* The files of a split in a folder, plain or gzipped, in the spellings that are in use. */
static npos_status find_images(const char *folder, npi_split split, char **out) {
    static const char *const endings[] = {"-images-idx3-ubyte", "-images.idx3-ubyte"};
    const char *stem = split == NPI_SPLIT_TRAIN ? "train" : "t10k";
    for (int i = 0; i < 4; i++) {
        NPI_TRY(npi_format(out, "%s/%s%s%s", folder, stem, endings[i / 2], i % 2 ? ".gz" : ""));
        if (npi_is_file(*out))
            return NPOS_OK;
        npi_free(*out);
        *out = NULL;
    }
    return NPOS_OK;
}

/* *out = the labels of an images file, NULL when there are none. */
static npos_status find_labels(const char *images, char **out) {
    *out = NULL;
    const char *name = npi_path_name(images), *word = strstr(name, "images");
    if (!word)
        return NPOS_OK;
    char *stem;
    NPI_TRY(npi_format(&stem, "%.*slabels%s", (int)(word - images), images, word + 6));
    char *rank = strstr(stem + (name - images), "idx3");
    if (rank)
        rank[3] = '1';
    size_t length = strlen(stem);
    if (length > 3 && strcmp(stem + length - 3, ".gz") == 0)
        stem[length - 3] = '\0';
    npos_status status = NPOS_OK;
    for (int i = 0; i < 2 && status == NPOS_OK; i++) {
        status = npi_format(out, "%s%s", stem, i ? ".gz" : "");
        if (status == NPOS_OK && npi_is_file(*out))
            break;
        npi_free(*out);
        *out = NULL;
    }
    npi_free(stem);
    return status;
}

static npi_split file_split(const char *name) {
    return strncmp(name, "train", 5) == 0                                   ? NPI_SPLIT_TRAIN
           : strncmp(name, "t10k", 4) == 0 || strncmp(name, "test", 4) == 0 ? NPI_SPLIT_TEST
                                                                            : NPI_SPLIT_ALL;
}

/* Reads one images file with its labels; takes over *path. */
static npos_status add_part(npi_source *source, char **path) {
    idx *x = source->state;
    part *p = &x->parts[x->part_count++];
    char *labels_path = NULL;
    array labels = {0};
    p->path = *path;
    *path = NULL;
    npos_status status;
    NPI_TRY(read_array(p->path, 3, &p->images));
    if (p->images.count == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: no images", p->path);
    int64_t count = p->images.shape[0], before = source->count;
    NPI_TRY(find_labels(p->path, &labels_path));
    if (!labels_path) {
        source->count += count;
        return source->labels ? npi_fail(NPOS_NOT_FOUND, "%s: no labels beside it, %s has some",
                                         p->path, x->parts[0].path)
                              : NPOS_OK;
    }
    NPI_TRY_GOTO(read_array(labels_path, 1, &labels), done);
    if (labels.count != count) {
        status = npi_fail(NPOS_SHAPE_MISMATCH, "%s: %lld labels, %s has %lld images", labels_path,
                          (long long)labels.count, p->path, (long long)count);
        goto done;
    }
    if (before > 0 && !source->labels) {
        status = npi_fail(NPOS_NOT_FOUND, "%s: no labels beside it, %s has some", x->parts[0].path,
                          p->path);
        goto done;
    }
    NPI_TRY_GOTO(npi_grow(&source->labels, (size_t)before, (size_t)(before + count),
                          sizeof *source->labels, "labels"),
                 done);
    for (int64_t i = 0; i < count; i++)
        source->labels[before + i] = labels.values[i];
    source->count += count;
done:
    npi_free(labels.values);
    npi_free(labels_path);
    return status;
}

/* Classes are counted over both splits of a folder, so that train and test agree. */
static npos_status count_classes(npi_source *source) {
    for (int s = NPI_SPLIT_TRAIN; s <= NPI_SPLIT_TEST && npi_is_folder(source->path); s++) {
        char *images, *labels = NULL;
        array values = {0};
        NPI_TRY(find_images(source->path, (npi_split)s, &images));
        npos_status status = images ? find_labels(images, &labels) : NPOS_OK;
        if (status == NPOS_OK && labels)
            status = read_array(labels, 1, &values);
        for (int64_t i = 0; i < values.count; i++)
            if (values.values[i] >= source->classes)
                source->classes = values.values[i] + 1;
        npi_free(values.values);
        npi_free(images);
        npi_free(labels);
        NPI_TRY(status);
    }
    for (int64_t i = 0; i < source->count; i++)
        if (source->labels[i] >= source->classes)
            source->classes = source->labels[i] + 1;
    return NPOS_OK;
}

/* github.com/zalandoresearch/fashion-mnist, "Labels"; a set with "fashion" in its path is taken for it. */
static npos_status fashion_names(npi_source *source) {
    static const char *const names[] = {"T-shirt/top", "Trouser",   "Pullover", "Dress",
                                        "Coat",        "Sandal",    "Shirt",    "Sneaker",
                                        "Bag",         "Ankle boot"};
    int count = sizeof names / sizeof *names;
    if (source->class_names || source->classes > count || !strcasestr(source->path, "fashion"))
        return NPOS_OK;
    NPI_TRY(npi_alloc(&source->class_names, (size_t)source->classes, sizeof *source->class_names,
                      "class names"));
    for (int c = 0; c < source->classes; c++)
        NPI_TRY(npi_strdup(&source->class_names[c], names[c]));
    return NPOS_OK;
}

static const npi_split_files files = {.split_of = file_split,
                                      .find = find_images,
                                      .add = add_part,
                                      .missing = "its images file is not there"};

static bool has_split(const char *path, npi_split split) {
    return npi_split_files_have(&files, path, split);
}

static bool recognise(const char *path) {
    if (npi_is_folder(path))
        return has_split(path, NPI_SPLIT_TRAIN) || has_split(path, NPI_SPLIT_TEST);
    if (!npi_is_file(path))
        return false;
    gzFile file = gzopen(path, "rbe");
    if (!file)
        return false;
    uint8_t head[4];
    int got = gzread(file, head, 4);
    gzclose(file);
    if (got < 0) /* damaged: the name decides who reports it */
        return strstr(npi_path_name(path), "idx3-ubyte") != NULL;
    return got == 4 && memcmp(head, "\0\0\x08\x03", 4) == 0;
}

static npos_status open_idx(npi_source *source, npi_split split) {
    idx *x;
    NPI_TRY(npi_alloc(&x, 1, sizeof *x, "idx"));
    source->state = x;
    NPI_TRY(npi_split_files_open(&files, source, split)); /* t10k sorts before train */
    if (!source->labels)
        return NPOS_OK;
    NPI_TRY(count_classes(source));
    NPI_TRY(npi_class_names_beside(source));
    return fashion_names(source);
}

static void close_idx(npi_source *source) {
    idx *x = source->state;
    for (int i = 0; x && i < x->part_count; i++) {
        npi_free(x->parts[i].path);
        npi_free(x->parts[i].images.values);
    }
    npi_free(x);
}

/* The part that holds image *i; *i becomes its number there. */
static const part *find(const idx *x, int64_t *i) {
    const part *p = x->parts;
    while (*i >= p->images.shape[0])
        *i -= p++->images.shape[0];
    return p;
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const part *p = find(source->state, &i);
    return npi_format(out, "%s[%lld]", npi_path_name(p->path), (long long)i);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const part *p = find(source->state, &i);
    NPI_TRY(npi_image_alloc(out, p->images.shape[1], p->images.shape[2], 1, p->path));
    size_t bytes = (size_t)out->height * (size_t)out->width;
    memcpy(out->pixels, p->images.values + (size_t)i * bytes, bytes);
    return NPOS_OK;
}

extern const npi_data_format npi_format_idx;
const npi_data_format npi_format_idx = {.name = "idx",
                                        .recognise = recognise,
                                        .open = open_idx,
                                        .name_of = name_of,
                                        .decode = decode,
                                        .has_split = has_split,
                                        .close = close_idx};
