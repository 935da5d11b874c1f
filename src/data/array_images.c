#include "data/array_images.h"

#include <string.h>

#include "base/memory.h"
#include "data/image_decode.h"

enum { MAX_CLASSES = 1 << 20 };

npos_status npi_array_images_check(const npi_npy *images, const char *name) {
    int64_t channels = images->ndim == 4 ? images->shape[3] : 1;
    if (images->dtype != NPI_U8 || (images->ndim != 3 && images->ndim != 4) ||
        (channels != 1 && channels != 3))
        return npi_fail(NPOS_BAD_DATA,
                        "%s: %s of %d dimensions, %lld channels; expected uint8 [N][H][W] or "
                        "[N][H][W][C] with 1 or 3 channels",
                        name, npi_dtype_name(images->dtype), images->ndim, (long long)channels);
    return images->count > 0 ? NPOS_OK : npi_fail(NPOS_BAD_DATA, "%s: no images", name);
}

npos_status npi_array_image(const npi_npy *images, int64_t i, const char *name, npi_image *out) {
    int channels = images->ndim == 4 ? (int)images->shape[3] : 1;
    NPI_TRY(npi_image_alloc(out, images->shape[1], images->shape[2], channels, name));
    size_t bytes = (size_t)out->height * (size_t)out->width * (size_t)channels;
    memcpy(out->pixels, (const uint8_t *)images->data + (size_t)i * bytes, bytes);
    return NPOS_OK;
}

/* Element i; the array may lie anywhere. */
static int64_t value(const npi_npy *array, int64_t i) {
    const uint8_t *at = (const uint8_t *)array->data + (size_t)i * npi_dtype_bytes(array->dtype);
    int32_t narrow;
    int64_t wide;
    if (array->dtype == NPI_U8)
        return *at;
    if (array->dtype == NPI_I32) {
        memcpy(&narrow, at, sizeof narrow);
        return narrow;
    }
    memcpy(&wide, at, sizeof wide);
    return wide;
}

npos_status npi_array_labels_add(npi_source *source, const npi_npy *labels, const char *name,
                                 int64_t count) {
    bool column = labels->ndim == 2 && labels->shape[1] == 1;
    if ((labels->ndim != 1 && !column) || labels->count != count)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: %lld labels (%d dimensions), %s has %lld images",
                        name, (long long)labels->count, labels->ndim, source->path,
                        (long long)count);
    if (labels->dtype != NPI_U8 && labels->dtype != NPI_I32 && labels->dtype != NPI_I64)
        return npi_fail(NPOS_BAD_DATA, "%s: labels are %s, expected uint8, int32 or int64", name,
                        npi_dtype_name(labels->dtype));
    NPI_TRY(npi_grow(&source->labels, (size_t)source->count, (size_t)(source->count + count),
                     sizeof *source->labels, "labels"));
    for (int64_t i = 0; i < count; i++) {
        int64_t label = value(labels, i);
        if (label < 0 || label >= MAX_CLASSES)
            return npi_fail(NPOS_BAD_DATA, "%s: label %lld of image %lld, expected 0..%d", name,
                            (long long)label, (long long)i, MAX_CLASSES - 1);
        source->labels[source->count + i] = (int32_t)label;
        if (label >= source->classes)
            source->classes = (int)label + 1;
    }
    return NPOS_OK;
}
