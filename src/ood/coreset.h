/* ood/coreset.h - a few training embeddings that stand for all of them.
 *
 * Spherical k-means within each class (Dhillon, Modha, "Concept decompositions for large sparse text
 * data using clustering", Machine Learning 2001): centres are unit vectors, a row belongs to the
 * centre with the largest cosine, a centre moves to the direction of its rows' sum; NPI_CORESET_ROUNDS
 * rounds from rows evenly spread over the class.  The coreset is the row nearest to each centre, so
 * that its members are training images with a name and a class.  Each class gets its share of the
 * rows, at least one.
 *
 * Chosen by measurement over random rows, herding and k-centre greedy: the scores of k-NN over it
 * rank images most like those over the whole bank (docs/detectors.md). */
#ifndef NPI_OOD_CORESET_H
#define NPI_OOD_CORESET_H

#include <stdint.h>

#include "tensor/device.h"

enum { NPI_CORESET_ROUNDS = 10 };

/* *chosen (npi_free) = *count ascending rows of h [n][dim] (host memory, not normalised) with labels[n]
 * in 0..classes-1.  *count is at most about `size`, 1 <= size <= n: rounding gives each class that
 * has rows one at least, and centres that share their nearest row count once.  The same for any number
 * of threads. */
NPOS_MUST_CHECK npos_status npi_coreset(npi_device *dev, int64_t n, int dim, const float *h,
                                        const int32_t *labels, int classes, int64_t size,
                                        int64_t **chosen, int64_t *count);

/* The k of k-NN over `size` of n rows in place of k over all: 2 k size / n rounded, at least 2 and at
 * most size and k. */
int npi_coreset_k(int k, int64_t size, int64_t n);

#endif
