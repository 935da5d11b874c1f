/* jobs/fitted.h - an opened run with its detectors: what eval, score and calibrate start from. */
#ifndef NPI_JOBS_FITTED_H
#define NPI_JOBS_FITTED_H

#include <stdbool.h>

#include "jobs/run.h"
#include "ood/detector.h"

typedef struct npi_fitted {
    npi_run *run;
    npi_detector_model model;
    npi_neighbour_bank *bank; /* NULL where nothing needs the training embeddings */
    npi_detector *detectors;
    int count;
} npi_fitted;

/* Opens a run and fits the scores of a comma list, of "all", or (NULL) the recipe's own.  The
 * training embeddings are read when a score needs them or `with_bank` asks for them; a run that kept
 * none (a bank of 0 rows) then serves the scores that need none.  Release with npi_fitted_close, also
 * after a failure. */
NPOS_MUST_CHECK npos_status npi_fitted_open(const char *run, const npos_compute *compute,
                                            const char *scores, bool with_bank, npi_fitted *out);
void npi_fitted_close(npi_fitted *fitted);

/* What npi_run_features gave, as detectors take it. */
npi_outputs npi_outputs_of(const npi_features *features);

/* What the run's network says of a SPEC's images at the run's size.  They are decoded block by block
 * (while the blocks before go through the network, where that is not the processor's work too), so
 * that memory holds a few blocks, not the set.
 * limit > 0 draws that many with `seed`.  *images lists them (npi_images_open: labels, names, no
 * pixels); a set without images is an error.  `phase` is told to the progress function.  Both outputs
 * are to be released, also after a failure. */
NPOS_MUST_CHECK npos_status npi_fitted_features(const npi_fitted *fitted,
                                                const npos_compute *compute, const char *phase,
                                                const char *spec, int64_t limit, uint64_t seed,
                                                npi_images *images, npi_features *out);

#endif
