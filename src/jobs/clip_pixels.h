/* jobs/clip_pixels.h - how a CLIP model wants its pixels. */
#ifndef NPI_JOBS_CLIP_PIXELS_H
#define NPI_JOBS_CLIP_PIXELS_H

#include "base/fail.h"

/* mean[3] and std[3] of pixels in [0, 1]: of preprocessor_config.json or open_clip_config.json where the
 * model (as npi_clip_load's path) has one that tells them, else those of OpenAI's models.  Values that
 * cannot be, and a resize other than bicubic on the short side, are errors that name the file. */
NPOS_MUST_CHECK npos_status npi_clip_pixels_read(const char *path, float mean[3], float std[3]);

#endif
