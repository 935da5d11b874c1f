/* jobs/compute.h - from npos_compute (what a user asked for) to an open device. */
#ifndef NPI_JOBS_COMPUTE_H
#define NPI_JOBS_COMPUTE_H

#include "npos/npos.h"
#include "tensor/device.h"

/* What npos_X_options_init puts into `compute`: device and precision "auto", all processors,
 * silent. */
npos_compute npi_compute_defaults(void);

/* Opens the device that `compute` names; NULL names are "auto".  An unknown precision is an error
 * that lists the known ones. */
NPOS_MUST_CHECK npos_status npi_compute_open(const npos_compute *compute, npi_device **out);

/* Images of side x side that go through a network in inference at once: what keeps the device busy.  Scores do not
 * depend on what else is in a batch. */
int npi_compute_pass(const npi_device *dev, int side);

/* Tells the progress function, if there is one, how far a phase is; text may be NULL.  Returns
 * NPOS_INTERRUPTED, with a message that names the phase, when it asks to stop. */
NPOS_MUST_CHECK npos_status npi_compute_progress(const npos_compute *compute, const char *phase,
                                                 int64_t done, int64_t total, const char *text);

#endif
