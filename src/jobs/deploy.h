/* jobs/deploy.h - a run without its training embeddings: what npos_export makes with a detector. */
#ifndef NPI_JOBS_DEPLOY_H
#define NPI_JOBS_DEPLOY_H

#include "npos/npos.h"

/* npos_export with options->detector. */
NPOS_MUST_CHECK npos_status npi_deploy(const npos_export_options *options);

#endif
