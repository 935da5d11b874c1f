/* ood/distances.h - Mahalanobis distances to class means, shared by the two detectors of that name. */
#ifndef NPI_OOD_DISTANCES_H
#define NPI_OOD_DISTANCES_H

#include "ood/detector.h"

typedef struct npi_gaussians {
    int dim, classes, rank;
    double *map;  /* [rank][dim] whitening of the covariance */
    double *mean; /* [classes][rank] whitened means of the classes that have training embeddings */
} npi_gaussians;

/* Fits Gaussians to the model's training embeddings: one mean a class and a covariance that all
 * share, or, with `together`, one of all rows (classes 1).  *out is to be freed also after failure. */
NPOS_MUST_CHECK npos_status npi_gaussians_fit(const npi_detector_model *model, bool together,
                                              npi_gaussians *out);
/* The two arrays of a fit under these names, and a fit from such; released as above. */
void npi_gaussians_arrays(const npi_gaussians *gaussians, const char *map, const char *mean,
                          npi_detector_array array[2]);
NPOS_MUST_CHECK npos_status npi_gaussians_restore(const npi_detector_model *model,
                                                  const npi_saved_detector *saved, const char *map,
                                                  const char *mean, npi_gaussians *out);
void npi_gaussians_clear(npi_gaussians *gaussians);

/* distance[n] = the least squared Mahalanobis distance of h [n][dim] to a mean; NaN for an embedding
 * that holds NaN. */
NPOS_MUST_CHECK npos_status npi_gaussians_nearest(const npi_gaussians *gaussians, int64_t n,
                                                  const float *h, double *distance);

#endif
