/* ood/neighbours.h - nearest neighbours among normalised training embeddings.
 *
 * Rows are normalised as x / max(|x|, 1e-12), so squared distances lie in [0, 4].  The device searches
 * exactly (ood->kth_neighbour, ood->neighbours); queries go to it in blocks, and the result of a
 * query does not depend on the block it falls into.
 *
 * A bank that fits is kept normalised in the device's memory.  One that does not (more than 1 GiB on a
 * host, more than there is on another device) stays where it is, in the caller's memory or in a mapped
 * file: each block of queries meets it in parts, normalised into a buffer of at most 256 MiB (another
 * device: 1 GiB), and the k nearest of the parts are merged.  Distances are those of pairs, so the
 * result is the same bit for bit. */
#ifndef NPI_OOD_NEIGHBOURS_H
#define NPI_OOD_NEIGHBOURS_H

#include <stdint.h>

#include "tensor/device.h"

typedef struct npi_neighbour_bank npi_neighbour_bank;

/* Of h [n][dim], host memory that must outlive the bank; n >= 1. */
NPOS_MUST_CHECK npos_status npi_neighbour_bank_make(npi_device *dev, int64_t n, int dim,
                                                    const float *h, npi_neighbour_bank **out);
/* The same in parts of `rows` rows, whatever fits. */
NPOS_MUST_CHECK npos_status npi_neighbour_bank_make_parts(npi_device *dev, int64_t n, int dim,
                                                          const float *h, int64_t rows,
                                                          npi_neighbour_bank **out);
void npi_neighbour_bank_free(npi_neighbour_bank *bank); /* NULL is accepted */
int64_t npi_neighbour_bank_count(const npi_neighbour_bank *bank);
/* Rows of a part; 0: the bank is kept whole. */
int64_t npi_neighbour_bank_part(const npi_neighbour_bank *bank);

/* Both take queries h [n][dim] in host memory, not normalised, and write to host memory.
 * distance[n] = squared L2 distance to the k-th nearest row (1 is the nearest), 1 <= k <= count. */
NPOS_MUST_CHECK npos_status npi_neighbour_kth(const npi_neighbour_bank *bank, int64_t n,
                                              const float *h, int k, double *distance);
/* index[n][k] and distance[n][k] (may be NULL), nearest first, ties: lower index first. */
NPOS_MUST_CHECK npos_status npi_neighbour_list(const npi_neighbour_bank *bank, int64_t n,
                                               const float *h, int k, int64_t *index,
                                               float *distance);

/* z = x / max(|x|, 1e-12) by row, the norm summed in float64; z may be x. */
void npi_normalise_rows(int64_t n, int dim, const float *x, float *z);

#endif
