/* devices/cpu/cpu_pairs.h - products of float32 rows by weights that are kept in bf16.
 *
 *     y (+)= bf16(x) W^T + b       x [n][in], W [out][in]; sums and y are float32
 *
 * Two of the depth lie side by side in a word, and one instruction multiplies and adds both:
 *
 *   columns panel b[q * nr + j]   row j < nr of W at depths 2q (the lower half) and 2q + 1
 *   rows panel    a[q * mr + i]   the same of row i < mr of x, or, where a tile wants whole rows, a[i * pairs + q]
 *
 * What pads a panel is zero.  As with cpu_math.h's products an element's bits depend on its row and column alone. */
#ifndef NPI_DEVICES_CPU_PAIRS_H
#define NPI_DEVICES_CPU_PAIRS_H

#include <stddef.h>

#include "devices/cpu/cpu.h"

typedef struct npi_pairs {
    int mr, nr;
    int depth; /* the depth is padded to a multiple of this */
    /* c[i * ldc + j] = (add ? c : 0) + sum over q < pairs; a whole mr x nr tile is written. */
    void (*tile)(int pairs, const uint32_t *a, const uint32_t *b, float *c, ptrdiff_t ldc,
                 bool add);
    /* to = a panel of rows, or columns, of which `there` are from[i * step + p], p < depth. */
    void (*pack_rows)(int there, int depth, const float *from, ptrdiff_t step, uint32_t *to);
    void (*pack_columns)(int there, int depth, const float *from, ptrdiff_t step, uint32_t *to);
    void (*enter)(void), (*leave)(void); /* around a thread's tiles; may be NULL */
} npi_pairs;

/* The kernels of a device that computes in bf16, else NULL. */
const npi_pairs *npi_pairs_of(const npi_device *dev);

#if defined(__x86_64__)
extern const npi_pairs npi_pairs_avx512bf16, npi_pairs_amx;
#endif

/* Words of W's panels. */
size_t npi_pairs_words(const npi_pairs *pairs, int in, int out);
/* panels = W, on cache lines */
void npi_pairs_pack(const npi_device *dev, const npi_pairs *pairs, int in, int out,
                    const float *weight, uint32_t *panels);
/* Row i of x starts at x + i * x_step, of y at y + i * y_step.  bias may be NULL. */
NPOS_MUST_CHECK npos_status npi_pairs_multiply(npi_device *dev, const npi_pairs *pairs, int n,
                                               int in, int out, const float *x, ptrdiff_t x_step,
                                               const uint32_t *panels, const float *bias, bool add,
                                               float *y, ptrdiff_t y_step);

#endif
