/* report/embedding_map.h - a map of embeddings in the plane: t-SNE (van der Maaten and Hinton, JMLR
 * 2008), exact, from a start by principal components.
 *
 *   p_ij ~ exp(-|x_i - x_j|^2 / 2 s_i^2), s_i so that each row has the wanted perplexity, made
 *   symmetric; q_ij ~ 1 / (1 + |y_i - y_j|^2); gradient descent with momentum and gains on KL(P | Q),
 *   P twelve times as large in the first quarter of the steps.
 *
 * Near points stay near; distances between far groups mean little.  The result depends on the input
 * and the seed alone, not on the number of threads: each thread sums whole rows, the rows' sums are
 * added in order.  Cost: n^2 * dim once, n^2 a step; n * n floats of memory. */
#ifndef NPI_REPORT_EMBEDDING_MAP_H
#define NPI_REPORT_EMBEDDING_MAP_H

#include <stdint.h>

#include "base/fail.h"

enum { NPI_MAP_MOST = 4000 }; /* points that a map takes */

/* Called before each step; another status than NPOS_OK stops the work. */
typedef npos_status npi_map_progress_fn(void *context, int64_t done, int64_t total);

/* y[n][2] = places of x[n][dim], centred, the larger half-extent 1.  2 <= n <= NPI_MAP_MOST; the
 * perplexity is lowered to n / 4 where n is small.  progress may be NULL. */
NPOS_MUST_CHECK npos_status npi_embedding_map(int n, int dim, const float *x, double perplexity,
                                              int steps, uint64_t seed,
                                              npi_map_progress_fn *progress, void *context,
                                              double *y);

#endif
