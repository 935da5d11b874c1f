/* jobs/sift.h - broken images left out of a set, where the user asked for that. */
#ifndef NPI_JOBS_SIFT_H
#define NPI_JOBS_SIFT_H

#include <jansson.h>

#include "data/dataset.h"
#include "npos/npos.h"

/* With compute->skip_broken: leaves out of an opened set what cannot be read, and tells each such image's
 * error as a line of the phase "skipped".  Else nothing. */
NPOS_MUST_CHECK npos_status npi_sift(const npos_compute *compute, npi_images *images);

/* Their names as a new JSON array (NULL: no memory). */
json_t *npi_sifted_json(const npi_images *images);

#endif
