/* NumPy arrays: X.npy uint8 [N][H][W] or [N][H][W][C], C = 1 or 3; labels, if any, integers in
 * X_labels.npy or labels.npy beside it. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/format.h"
#include "data/image_decode.h"
#include "io/npy.h"

enum { MAX_CLASSES = 1 << 20 };

static bool recognise(const char *path) {
    char magic[6];
    return npi_file_start(path, magic, sizeof magic) == sizeof magic &&
           memcmp(magic, "\x93NUMPY", 6) == 0;
}

/* *out = the labels' file beside `path`, NULL when there is none. */
static npos_status find_labels(const char *path, char **out) {
    size_t folder = (size_t)(npi_path_name(path) - path), stem = strlen(path);
    if (stem > 4 && strcmp(path + stem - 4, ".npy") == 0)
        stem -= 4;
    NPI_TRY(npi_format(out, "%.*s_labels.npy", (int)stem, path));
    if (npi_is_file(*out))
        return NPOS_OK;
    npi_free(*out);
    NPI_TRY(npi_format(out, "%.*slabels.npy", (int)folder, path));
    if (npi_is_file(*out))
        return NPOS_OK;
    npi_free(*out);
    *out = NULL;
    return NPOS_OK;
}

static npos_status take_labels(npi_source *source, const char *path, const npi_npy *array) {
    if (array->ndim != 1 || array->count != source->count)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: %lld labels (%d dimensions), %s has %lld images",
                        path, (long long)array->count, array->ndim, source->path,
                        (long long)source->count);
    if (array->dtype != NPI_U8 && array->dtype != NPI_I32 && array->dtype != NPI_I64)
        return npi_fail(NPOS_BAD_DATA, "%s: labels are %s, expected uint8, int32 or int64", path,
                        npi_dtype_name(array->dtype));
    NPI_TRY(npi_alloc(&source->labels, (size_t)source->count, sizeof *source->labels, "labels"));
    for (int64_t i = 0; i < source->count; i++) {
        int64_t label = array->dtype == NPI_U8    ? ((const uint8_t *)array->data)[i]
                        : array->dtype == NPI_I32 ? ((const int32_t *)array->data)[i]
                                                  : ((const int64_t *)array->data)[i];
        if (label < 0 || label >= MAX_CLASSES)
            return npi_fail(NPOS_BAD_DATA, "%s: label %lld of image %lld, expected 0..%d", path,
                            (long long)label, (long long)i, MAX_CLASSES - 1);
        source->labels[i] = (int32_t)label;
        if (label >= source->classes)
            source->classes = (int)label + 1;
    }
    return NPOS_OK;
}

static npos_status open_npy(npi_source *source, npi_split split) {
    npi_npy *images;
    if (split != NPI_SPLIT_ALL)
        return npi_no_split(source, split, "an array has none");
    NPI_TRY(npi_alloc(&images, 1, sizeof *images, "array"));
    source->state = images;
    NPI_TRY(npi_npy_read(source->path, images));
    int64_t channels = images->ndim == 4 ? images->shape[3] : 1;
    if (images->dtype != NPI_U8 || (images->ndim != 3 && images->ndim != 4) ||
        (channels != 1 && channels != 3))
        return npi_fail(NPOS_BAD_DATA,
                        "%s: %s of %d dimensions, %lld channels; expected uint8 [N][H][W] or "
                        "[N][H][W][C] with 1 or 3 channels",
                        source->path, npi_dtype_name(images->dtype), images->ndim,
                        (long long)channels);
    if (images->count == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: no images", source->path);
    source->count = images->shape[0];
    char *path;
    NPI_TRY(find_labels(source->path, &path));
    if (!path)
        return NPOS_OK;
    npi_npy labels = {0};
    npos_status status = npi_npy_read(path, &labels);
    if (status == NPOS_OK)
        status = take_labels(source, path, &labels);
    if (status == NPOS_OK)
        status = npi_class_names_beside(source);
    npi_npy_clear(&labels);
    npi_free(path);
    return status;
}

static void close_npy(npi_source *source) {
    if (source->state)
        npi_npy_clear(source->state);
    npi_free(source->state);
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    return npi_format(out, "%s[%lld]", npi_path_name(source->path), (long long)i);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const npi_npy *images = source->state;
    int channels = images->ndim == 4 ? (int)images->shape[3] : 1;
    NPI_TRY(npi_image_alloc(out, images->shape[1], images->shape[2], channels, source->path));
    size_t bytes = (size_t)out->height * (size_t)out->width * (size_t)channels;
    memcpy(out->pixels, (const uint8_t *)images->data + (size_t)i * bytes, bytes);
    return NPOS_OK;
}

static bool has_split(const char *path, npi_split split) {
    (void)path;
    (void)split;
    return false;
}

extern const npi_data_format npi_format_npy;
const npi_data_format npi_format_npy = {.name = "npy",
                                        .recognise = recognise,
                                        .open = open_npy,
                                        .name_of = name_of,
                                        .decode = decode,
                                        .has_split = has_split,
                                        .close = close_npy};
