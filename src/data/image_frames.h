/* data/image_frames.h - images that come raw, one behind the other, on a stream.
 *
 * A frame is a binary PPM (P6, three channels) or PGM (P5, one): "P6 WIDTH HEIGHT 255" in ASCII with
 * white space between, comments from # to the end of the line, one white byte, then the pixels, as
 * `ffmpeg -f image2pipe -c:v ppm` writes them (Netpbm's formats ppm(5), pgm(5); at most 8 bits). */
#ifndef NPI_DATA_IMAGE_FRAMES_H
#define NPI_DATA_IMAGE_FRAMES_H

#include <stdio.h>

#include "data/dataset.h"

enum { NPI_FRAME_MOST_SIDE = 65535, NPI_FRAME_MOST_BYTES = 1 << 30 };

/* Reads the next frame; *end instead where the stream ends before one.  A frame that is cut short or of
 * another kind is NPOS_BAD_DATA: where the next one begins is unknown then. */
NPOS_MUST_CHECK npos_status npi_image_frame_read(FILE *stream, npi_image *out, bool *end);

#endif
