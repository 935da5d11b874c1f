/* data/image_decode.h - images from memory: JPEG, PNG, WebP, BMP and Netpbm's PBM, PGM, PPM.
 *
 * What comes out is what Pillow 13 gives by Image.open(FILE).convert("RGB"): JPEG as it is stored (an EXIF
 * orientation is not applied), CMYK and YCCK by Adobe's convention brought to RGB; palettes expanded; alpha
 * dropped (not blended); grey of 1, 2 and 4 bits scaled to 0..255; of 16 bits the upper 8 where there is
 * colour or alpha, but grey clipped at 255; of an animation the first frame.  Grey files have 1 channel, all
 * others 3.  Damaged, truncated and absurdly large files are NPOS_BAD_DATA with `name` in the message.
 *
 * least_side > 0 lets a JPEG come out at 1/8, 1/4 or 1/2 of its size, the smallest whose short side is still
 * least_side or longer (stored side / shrink, before rounding up): what Pillow's Image.draft(None,
 * (least_side, least_side)) makes of it.  Each block of 8 x 8 pixels is made of its low frequencies alone
 * (libjpeg's scale_num / scale_denom), which leaves out most of the work but for Huffman's code.  The scales
 * between, such as 5/8, are not used: libjpeg-turbo has no vector code for them, so that they are slower
 * than whole images.  Other kinds of images come out whole.
 *
 * libjpeg, libpng and libwebp are optional: without one its images are NPOS_UNSUPPORTED, and its decoder
 * below is not there (NPI_HAVE_JPEG, NPI_HAVE_PNG, NPI_HAVE_WEBP). */
#ifndef NPI_DATA_IMAGE_DECODE_H
#define NPI_DATA_IMAGE_DECODE_H

#include <stdbool.h>
#include <stddef.h>

#include "data/dataset.h"

/* Longest side and most pixels of an image that is decoded: Pillow's limit against decompression
 * bombs. */
enum { NPI_IMAGE_MAX_SIDE = 65535, NPI_IMAGE_MAX_PIXELS = 178956970 };

/* Bytes that npi_image_known needs to see. */
enum { NPI_IMAGE_MAGIC = 16 };

/* What is read, for messages. */
#define NPI_IMAGE_KINDS "JPEG, PNG, WebP, BMP, PPM, PGM or PBM"

/* Whether the first bytes of a file are those of an image. */
bool npi_image_known(const void *bytes, size_t size);

/* Decodes a whole file that lies in memory; on failure *out is empty. */
NPOS_MUST_CHECK npos_status npi_image_decode(const void *bytes, size_t size, const char *name,
                                             int least_side, npi_image *out);

/* The decoders behind it. */
NPOS_MUST_CHECK npos_status npi_jpeg_decode(const void *bytes, size_t size, const char *name,
                                            int least_side, npi_image *out);
NPOS_MUST_CHECK npos_status npi_png_decode(const void *bytes, size_t size, const char *name,
                                           npi_image *out);

NPOS_MUST_CHECK npos_status npi_webp_decode(const void *bytes, size_t size, const char *name,
                                            npi_image *out);
NPOS_MUST_CHECK npos_status npi_bmp_decode(const void *bytes, size_t size, const char *name,
                                           npi_image *out);
NPOS_MUST_CHECK npos_status npi_pnm_decode(const void *bytes, size_t size, const char *name,
                                           npi_image *out);

/* Whether a header's size is one that is decoded. */
NPOS_MUST_CHECK npos_status npi_image_check(int64_t height, int64_t width, const char *name);

/* Checks a header's size and allocates the pixels. */
NPOS_MUST_CHECK npos_status npi_image_alloc(npi_image *out, int64_t height, int64_t width,
                                            int channels, const char *name);

#endif
