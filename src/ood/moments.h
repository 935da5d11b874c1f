/* ood/moments.h - means, covariances and quantiles of training embeddings: what detectors are fitted
 * with.  All sums in float64 in the order of the rows, whatever the number of threads. */
#ifndef NPI_OOD_MOMENTS_H
#define NPI_OOD_MOMENTS_H

#include <stdint.h>

#include "base/fail.h"

/* mean[classes][dim] over the rows of each class (0 for a class without rows), count[classes].  A
 * label outside 0..classes-1 is NPOS_BAD_DATA, a number that is not finite NPOS_NOT_FINITE. */
NPOS_MUST_CHECK npos_status npi_class_means(int64_t n, int dim, const float *h,
                                            const int32_t *labels, int classes, double *mean,
                                            int64_t *count);

/* scatter[dim][dim] = (1/n) sum_i (h_i - m_i)(h_i - m_i)^T with m_i = mean[labels[i]], or mean[0]
 * where labels is NULL. */
NPOS_MUST_CHECK npos_status npi_scatter(int64_t n, int dim, const float *h, const int32_t *labels,
                                        const double *mean, double *scatter);

/* A whitening of a covariance (destroyed): rows u_k / sqrt(lambda_k) of its eigenvectors, those with
 * lambda_k > dim 2^-52 lambda_1, *rank of them, so that |map (x - m)|^2 = (x - m)^T S^+ (x - m) with
 * the pseudo-inverse S^+.  map: room for [dim][dim].  A covariance of 0 has rank 0. */
NPOS_MUST_CHECK npos_status npi_whitening(int dim, double *covariance, double *map, int *rank);

/* The p-quantile of n >= 1 numbers, linear between order statistics as NumPy's percentile, without
 * a copy of them.  NaN must not be among them. */
NPOS_MUST_CHECK npos_status npi_quantile_of(int64_t n, const float *values, double p, double *out);

#endif
