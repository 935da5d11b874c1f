/* jobs/run_clip.h - a run whose network is CLIP's image tower, zero-shot or fine-tuned (encoder clip).
 *
 *     RUN/clip/               the model, as npi_clip_load takes it
 *     RUN/model.safetensors   `text` [classes][dim], unit rows; phi.0 and phi.2 where there is an outlier
 *                             head; classes and calibration in the metadata
 *
 *     h the image embedding, z = h / |h|, logits = z text^T (cosines), phi(h)
 *
 * The heads are computed on the host in float64, row by row: what is said of an image does not depend on
 * the images beside it. */
#ifndef NPI_JOBS_RUN_CLIP_H
#define NPI_JOBS_RUN_CLIP_H

#include "io/safetensors.h"
#include "jobs/run.h"
#include "nn/params.h"

/* Reads the network of a run whose recipe, classes and device are known: sets run->clip, dim, proj,
 * has_head, has_classifier and text.  `file` is model.safetensors at `path`.  What is missing, unknown,
 * of another shape or of another image size than the recipe's is an error that names it. */
NPOS_MUST_CHECK npos_status npi_run_clip_open(npi_run *run, const npi_safetensors *file,
                                              const char *path);
void npi_run_clip_close(npi_run *run);

/* npi_run_features of such a run. */
NPOS_MUST_CHECK npos_status npi_run_clip_features(const npi_run *run, const uint8_t *pixels,
                                                  int64_t n, const npos_compute *compute,
                                                  const char *phase, npi_features *out);

/* The outlier head's parameters; NULL where there is none or the run is none of CLIP. */
const npi_params *npi_run_clip_params(const npi_run *run);

#endif
