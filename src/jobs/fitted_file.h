/* jobs/fitted_file.h - detectors.safetensors of a run directory: fitted detectors, saved with the model.
 *
 * Tensors "SCORE.ARRAY" of float64; metadata: `bank` and `weights`, checksums of what they were fitted on.
 * A file of another bank or of other weights counts as none, and is written anew by who fits next. */
#ifndef NPI_JOBS_FITTED_FILE_H
#define NPI_JOBS_FITTED_FILE_H

#include "io/safetensors.h"
#include "jobs/run.h"
#include "ood/detector.h"

typedef struct npi_fitted_file {
    npi_safetensors *file; /* NULL: none, or of another model */
    npi_saved_detector *saved;
    int count;
} npi_fitted_file;

/* Reads what was fitted on the run's training embeddings (npi_run_bank first; without them the weights
 * alone are compared) and its classifier.  Release with npi_fitted_file_close, also after a failure. */
NPOS_MUST_CHECK npos_status npi_fitted_file_open(const npi_run *run, npi_fitted_file *out);
void npi_fitted_file_close(npi_fitted_file *file);

/* Writes the detectors that have something to save, and of `before` those that are not among them. */
NPOS_MUST_CHECK npos_status npi_fitted_file_write(const npi_run *run, const npi_detector *detectors,
                                                  int count, const npi_fitted_file *before);

#endif
