/* devices/cpu/cpu_conv.h - convolutions on pixels of 32 images x channels.
 *
 * A pixel of the output is, for 32 images at once, a sum of matrix products over the taps whose
 * source pixel exists:
 *     out[pixel][32][co] = sum over taps  in[source(pixel, tap)][32][ci] * weights[tap][ci][co]
 * Backward by data is the same with transposed weights and the sources of a transposed convolution;
 * stride 2 only changes which sources exist.  With few input channels (stems) or, in bfloat16, an
 * odd number of them, the taps of a pixel are first copied side by side (`gather`), which makes it
 * one product with k = taps * ci.
 *
 * 3 x 3 taps with stride 1 in float32 mostly take another way with fewer products
 * (cpu_winograd.c), which the plan decides by shape.
 *
 * Device layout of the weights: [taps][c][out_c] float32, tap = ky * kernel + kx. */
#ifndef NPI_DEVICES_CPU_CONV_H
#define NPI_DEVICES_CPU_CONV_H

#include "devices/cpu/cpu_kernels.h"

/* One direction of a convolution, planned. */
typedef struct npi_conv {
    const npi_kernels *kernels;
    int threads;
    int n, blocks; /* images; blocks of 32 */
    int ci, hi, wi, co, ho, wo;
    int kernel, stride, pad;
    bool transposed; /* backward by data */
    bool gather;
    bool winograd;  /* cpu_winograd.c */
    int k;          /* elements of k a product, filled up */
    int panels;     /* of 16 output channels, an even number */
    int group;      /* pairs of panels of an item of work; their weights should stay in the cache */
    size_t element; /* bytes */
    size_t panel_bytes, packed_bytes;
    size_t scratch; /* bytes a thread needs */
} npi_conv;

/* Forward of c x h x w -> out_c, or with `transposed` its backward by data (the same arguments). */
npi_conv npi_conv_plan(const npi_cpu *cpu, const npi_kernels *kernels, int n, int c, int h, int w,
                       int out_c, int kernel, int stride, int pad, bool transposed);

/* Device-layout weights to the packed copy of a direction (packed_bytes).  scratch: threads *
 * conv->scratch bytes. */
void npi_conv_pack(const npi_conv *conv, const float *weights, void *packed, char *scratch);

/* What is done with the sums; see npi_store. */
typedef struct npi_conv_out {
    void *y;
    bool add;
    /* Statistics by shard, one shard for each row of pixels of a block of images:
     * [blocks * ho][3][stats_row] (shift, sum, squares), or NULL. */
    float *stats;
    size_t stats_row;
    const float *mean, *scale, *beta; /* inference; NULL otherwise */
    const void *residual;
    bool relu;
} npi_conv_out;

/* scratch: threads * conv->scratch bytes. */
void npi_conv_run(const npi_conv *conv, const void *x, const void *packed, const npi_conv_out *out,
                  char *scratch);

/* Backward by weights, planned: sums over the images in strips of output rows that fit the cache,
 * in an order that does not depend on threads. */
typedef struct npi_conv_weights {
    npi_conv conv;  /* the forward */
    bool packed;    /* operands are copied: bfloat16, gathered, or out_c not a multiple of 32 */
    int rows;       /* output rows of a strip */
    int ci, co;     /* filled up to multiples of 32 when packed */
    int taps;       /* 1 when gathered */
    size_t x_bytes; /* of a strip's turned x, and of its dy in panels */
    size_t dy_bytes;
    size_t scratch; /* bytes a thread needs */
} npi_conv_weights;

npi_conv_weights npi_conv_weights_plan(const npi_conv *forward);

/* dweights = gradient in the device layout, overwritten.  strip: x_bytes + dy_bytes; scratch:
 * threads * scratch bytes. */
void npi_conv_weights_run(const npi_conv_weights *plan, const void *x, const void *dy,
                          float *dweights, char *strip, char *scratch);

#endif
