/* Images in a MATLAB file (version 5), as SVHN is published (Netzer et al. 2011, "Format 2"):
 * X uint8 [H][W][3][N], y [N] of any number type, 10 standing for the digit 0.
 *
 * A file is a set; a folder that holds train_32x32.mat or test_32x32.mat has them as splits (its
 * extra_32x32.mat has to be named itself). */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/format.h"
#include "data/image_decode.h"
#include "data/split_files.h"
#include "io/mat5.h"

enum { DIGITS = 10, FILES = 2 };
static const char *const file_names[FILES] = {"test_32x32.mat", "train_32x32.mat"};

typedef struct part {
    char *path;
    npi_mat images;
    int64_t count;
} part;

typedef struct mat {
    part parts[FILES];
    int part_count;
} mat;

static npos_status find_file(const char *folder, npi_split split, char **out) {
    NPI_TRY(npi_path_join(out, folder, file_names[split == NPI_SPLIT_TRAIN]));
    if (!npi_is_file(*out)) {
        npi_free(*out);
        *out = NULL;
    }
    return NPOS_OK;
}

static npi_split file_split(const char *name) {
    return strstr(name, "train")  ? NPI_SPLIT_TRAIN
           : strstr(name, "test") ? NPI_SPLIT_TEST
                                  : NPI_SPLIT_ALL;
}

static npos_status take_images(part *p, const npi_mat *x) {
    p->images = *x;
    if (!x->data)
        return npi_fail(NPOS_BAD_DATA, "%s: no array X, expected images X [H][W][3][N]", p->path);
    if (!npi_mat_is_bytes(x) || x->ndim < 3 || x->shape[2] != 3)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: X is %s of %d dimensions%s, expected uint8 [H][W][3][N]", p->path,
                        npi_mat_is_bytes(x) ? "uint8" : "not uint8", x->ndim,
                        x->ndim < 3 ? "" : ", the third not 3");
    p->count = x->ndim == 4 ? x->shape[3] : 1;
    return x->count > 0 ? NPOS_OK : npi_fail(NPOS_BAD_DATA, "%s: no images", p->path);
}

static npos_status take_labels(npi_source *source, const part *p, const npi_mat *y) {
    if (y->ndim != 2 || (y->shape[0] != 1 && y->shape[1] != 1) || y->count != p->count)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: %lld labels in y (%d dimensions), %lld images",
                        p->path, (long long)y->count, y->ndim, (long long)p->count);
    NPI_TRY(npi_grow(&source->labels, (size_t)source->count, (size_t)(source->count + p->count),
                     sizeof *source->labels, "labels"));
    for (int64_t i = 0; i < p->count; i++) {
        double label = npi_mat_value(y, i);
        if (!(label >= 0 && label <= DIGITS) || label != (double)(int)label)
            return npi_fail(NPOS_BAD_DATA,
                            "%s: label %g of image %lld, expected whole numbers 0 to %d (%d "
                            "stands for 0)",
                            p->path, label, (long long)i, DIGITS, DIGITS);
        source->labels[source->count + i] = (int)label % DIGITS;
    }
    source->classes = DIGITS;
    return NPOS_OK;
}

/* Reads one file; takes over *path. */
static npos_status add_part(npi_source *source, char **path) {
    static const char *const names[] = {"X", "y"};
    mat *m = source->state;
    part *p = &m->parts[m->part_count++];
    npi_mat arrays[2];
    p->path = *path;
    *path = NULL;
    NPI_TRY(npi_mat5_read(p->path, names, 2, arrays));
    npos_status status = take_images(p, &arrays[0]);
    bool labelled = arrays[1].data != NULL;
    if (status == NPOS_OK && m->part_count > 1 && labelled != (source->labels != NULL))
        status = npi_fail(NPOS_BAD_DATA, "%s: %s labels y, unlike %s", p->path,
                          labelled ? "has" : "has no", m->parts[0].path);
    if (status == NPOS_OK && labelled)
        status = take_labels(source, p, &arrays[1]);
    if (status == NPOS_OK)
        source->count += p->count;
    npi_free(arrays[1].data);
    return status;
}

static const npi_split_files files = {.split_of = file_split,
                                      .find = find_file,
                                      .add = add_part,
                                      .missing = "its .mat file is not there"};

static bool has_split(const char *path, npi_split split) {
    return npi_split_files_have(&files, path, split);
}

static bool recognise(const char *path) {
    char start[NPI_MAT_START];
    if (npi_is_folder(path))
        return has_split(path, NPI_SPLIT_TRAIN) || has_split(path, NPI_SPLIT_TEST);
    return npi_is_file(path) && npi_mat5_known(start, npi_file_start(path, start, sizeof start));
}

static npos_status open_mat(npi_source *source, npi_split split) {
    mat *m;
    NPI_TRY(npi_alloc(&m, 1, sizeof *m, "MATLAB file"));
    source->state = m;
    return npi_split_files_open(&files, source, split);
}

static void close_mat(npi_source *source) {
    mat *m = source->state;
    for (int i = 0; m && i < m->part_count; i++) {
        npi_free(m->parts[i].path);
        npi_free(m->parts[i].images.data);
    }
    npi_free(m);
}

/* The part that holds image *i; *i becomes its number there. */
static const part *find(const mat *m, int64_t *i) {
    const part *p = m->parts;
    while (*i >= p->count)
        *i -= p++->count;
    return p;
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const part *p = find(source->state, &i);
    return npi_format(out, "%s[%lld]", npi_path_name(p->path), (long long)i);
}

/* Element (y, x, c, n) is number y + H (x + W (c + 3 n)). */
static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const part *p = find(source->state, &i);
    NPI_TRY(npi_image_alloc(out, p->images.shape[0], p->images.shape[1], 3, p->path));
    size_t height = (size_t)out->height, width = (size_t)out->width, plane = height * width;
    const uint8_t *from = p->images.data + (size_t)i * 3 * plane;
    uint8_t *to = out->pixels;
    for (size_t y = 0; y < height; y++)
        for (size_t x = 0; x < width; x++)
            for (size_t c = 0; c < 3; c++)
                *to++ = from[c * plane + x * height + y];
    return NPOS_OK;
}

extern const npi_data_format npi_format_mat;
const npi_data_format npi_format_mat = {.name = "mat",
                                        .recognise = recognise,
                                        .open = open_mat,
                                        .name_of = name_of,
                                        .decode = decode,
                                        .has_split = has_split,
                                        .close = close_mat};
