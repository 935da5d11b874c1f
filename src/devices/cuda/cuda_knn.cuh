/* devices/cuda/cuda_knn.cuh - exact nearest neighbours from inexact products: what the two files
 * share.
 *
 * The distance of a pair is the sum of squared differences in float64, rounded to float32.  With
 * s = 2 q.b - |b|^2 (larger is nearer), tensor cores give approximate values s~ from rows rounded
 * to half precision, |s~ - s| <= e for a query and all rows of the bank.  The true k nearest have
 * s~ >= (k-th largest s~) - 2 e; a row with s~ > (k-th largest s~) + 2 e is certainly one of them.
 * Only the rows between are computed as defined, so the answer does not depend on the precision of
 * the products, and
 *
 *     e = 2 (|q| db + dq (|b| + db) + a (|q| + dq) (|b| + db)) + 8 u (|q| + |b|)^2,  u = 2^-24
 *
 * with |b| and db the largest over the bank, dq = |q - half(q)| and db = |b - half(b)| as measured,
 * a = (depth + 16) 2^-23 for sums in float32 that a tensor core truncates, and the last term for the
 * rounding of |b|^2, of s~ and of the distance itself.  Unit rows of dimension 512: e is about 1e-3,
 * and some 70 of 50,000 random rows lie between.
 *
 * Where more rows lie between than there is room for (all rows alike, distances far smaller than the
 * norms), or nothing is bounded (rows of 1e15 and more, infinite ones), the query is answered by the
 * distances of all rows. */
#ifndef NPI_CUDA_KNN_CUH
#define NPI_CUDA_KNN_CUH

#include <cuda_fp16.h>

#include "devices/cuda/cuda_ood.cuh"

/* Over a set of rows, of those that are finite; each the bits of a float >= 0, so that the largest
 * bits are the largest number.  Starts as zeros. */
typedef struct npi_row_bounds {
    uint32_t element, norm, error; /* the largest |x_j|, |x|, |x - half(x)| */
    uint32_t square;               /* the largest |x|^2 */
    uint32_t least_square;         /* bits of the least |x|^2, inverted */
    uint32_t unbounded;            /* 1: some row is not finite; 2: some is of 1e15 and more */
} npi_row_bounds;

/* A set of rows for products of halves: row i times *scale, rounded, zeros up to the depth.  The
 * scale is a power of two; rows that are not finite are zeros.  A bank has squares, queries have norms
 * and errors. */
typedef struct npi_half_rows {
    const float *from; /* [n][dim] */
    __half *to;        /* [padded n][depth] */
    float *square;     /* [padded n] |x|^2, infinite for rows that are not finite and in the pad */
    float *norm;       /* [n] >= |x|, infinite where unbounded */
    float *error;      /* [n] >= |x - half(x)| */
    float *scale;
    npi_row_bounds *bounds;
} npi_half_rows;

typedef struct npi_search {
    int dim, depth, k;
    int m;
    int columns;    /* m, padded */
    int room;       /* rows of a query that may lie between */
    bool plain;     /* the distances of all rows, always */
    float *product; /* [queries][columns] */
    npi_half_rows queries, bank;
} npi_search;

/* cuda_knn_select.cu: from the products of `count` queries the answers: kth[q], or index[q][k] and
 * distance[q][k] (either may be NULL). */
npos_status npi_cuda_select(npi_device *dev, const npi_search *s, int count, float *kth,
                            int64_t *index, float *distance);

/* Rows that a list for k must hold; 0: k is too large for lists. */
int npi_cuda_select_room(int k);

#endif
