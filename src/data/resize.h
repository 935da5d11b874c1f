/* data/resize.h - a part of a resized image; a part of an image, resized. */
#ifndef NPI_DATA_RESIZE_H
#define NPI_DATA_RESIZE_H

#include "data/dataset.h"

/* Rows top..top+rows-1 and columns left..left+columns-1 of what npi_resize(in, height, width, ...)
 * gives, without computing the rest.  `box` may be NULL. */
typedef struct npi_window {
    int top, left, rows, columns;
} npi_window;
NPOS_MUST_CHECK npos_status npi_resize_window(const npi_image *in, int64_t height, int64_t width,
                                              npi_interpolation interpolation, const float box[4],
                                              npi_window window, npi_image *out);

/* torchvision's resized_crop on an image of Pillow's, after convert("L") or convert("RGB"): the part
 * `crop` of the image, as if there were nothing around it, to size x size with the transform's
 * filter; out is size x size x channels. */
NPOS_MUST_CHECK npos_status npi_transform_crop(const npi_transform *transform, const npi_image *in,
                                               npi_window crop, npi_image *out);

#endif
