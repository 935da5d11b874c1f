/* jobs/choose_k.h - the neighbour k of the k-NN score, chosen on validation images. */
#ifndef NPI_JOBS_CHOOSE_K_H
#define NPI_JOBS_CHOOSE_K_H

#include "jobs/fitted.h"
#include "jobs/ood_sets.h"

/* *k = that of 1, 5, 10, 20, 50, 100, 200, 300, 500, 1000 (at most the training embeddings' number)
 * whose AUROC between the ID images' features and the OOD sets' images, the mean over the sets, is
 * largest; among equals the smallest.  *auroc is that mean.  Needs the run's bank. */
NPOS_MUST_CHECK npos_status npi_choose_k(const npi_fitted *fitted, const npos_compute *compute,
                                         const npi_features *id, const npi_ood_set *sets, int count,
                                         int *k, double *auroc);

#endif
