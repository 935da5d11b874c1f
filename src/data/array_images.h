/* data/array_images.h - images and labels in NumPy's arrays, of .npy and .npz files.
 *
 * Images are uint8 [N][H][W] or [N][H][W][C], C = 1 or 3; labels uint8, int32 or int64, [N] or [N][1]. */
#ifndef NPI_DATA_ARRAY_IMAGES_H
#define NPI_DATA_ARRAY_IMAGES_H

#include "data/format.h"
#include "io/npy.h"

/* Whether the array holds images, at least one; `name` stands in messages. */
NPOS_MUST_CHECK npos_status npi_array_images_check(const npi_npy *images, const char *name);

/* Image i of an array that was checked. */
NPOS_MUST_CHECK npos_status npi_array_image(const npi_npy *images, int64_t i, const char *name,
                                            npi_image *out);

/* Adds labels for `count` images to those that source->count images have already; source->classes grows
 * with them, source->count is the caller's. */
NPOS_MUST_CHECK npos_status npi_array_labels_add(npi_source *source, const npi_npy *labels,
                                                 const char *name, int64_t count);

#endif
