/* devices/cuda/cuda_norm.cuh - batch norm with residual and ReLU, around a convolution's output c.
 *
 * Maps are rows x cp elements of the compute type (rows = n x h x w, cp = channels in memory), 8 channels an access.  Per
 * channel, of `c` real channels; those that pad get zeros.  Sums: float32 within a thread, then a block, then float64
 * over blocks, in an order that the shape and the GPU fix. */
#ifndef NPI_CUDA_NORM_CUH
#define NPI_CUDA_NORM_CUH

#include "devices/cuda/cuda.cuh"

typedef struct npi_norm { /* one unit's: planned once */
    npi_device *dev;
    const char *name; /* for errors; must outlive the plan */
    int64_t rows;
    int c, cp;
    int slabs, chunks;     /* the grid of the sums: 64 channels x a chunk of rows */
    float *mean, *inverse; /* [cp]: m and 1/sqrt(v + 1e-5) of the newest forward */
    float *factor;         /* [3][cp]: what the backward pass multiplies with */
    float *partial;        /* [slabs][chunks][2][64] */
    uint32_t *arrived;     /* [slabs]: blocks that are done; 0 between calls */
} npi_norm;

/* Release in any case; `training` false: nothing but what npi_norm_running and apply need. */
npos_status npi_norm_create(npi_device *dev, const char *name, int64_t rows, int c, bool training,
                            npi_norm *out);
void npi_norm_free(npi_norm *norm);

/* mean and inverse of map c; the running statistics move a tenth of the way. */
npos_status npi_norm_stats(npi_norm *norm, const void *c, const npi_unit_params *params);
/* The same from sums over c and over its squares that its maker took: [blocks][2][64], for 64 channels. */
npos_status npi_norm_from_sums(npi_norm *norm, const float *sums, int blocks,
                               const npi_unit_params *params);
/* mean and inverse from the running statistics. */
npos_status npi_norm_running(npi_norm *norm, const npi_unit_params *params);

typedef struct npi_norm_apply {
    const void *c;
    const npi_unit_params *params;
    const void *residual; /* a map, or NULL */
    const npi_norm
        *other; /* a shortcut's statistics for its convolution's output `residual`, or NULL */
    const npi_unit_params *other_params;
    bool relu;
    void *y; /* may be c */
    uint8_t
        *passed; /* [rows][cp / 8]: bit j of a byte: channel 8 i + j is above 0; NULL: not kept */
} npi_norm_apply;

/* y = relu?( (c - mean) inverse gamma + beta + residual ) */
npos_status npi_norm_forward(npi_norm *norm, const npi_norm_apply *apply);

typedef struct npi_norm_gradient {
    void *dy;
    const void *c;
    const uint8_t *passed;                 /* NULL: everywhere */
    const npi_unit_params *params, *grads; /* grads NULL: mean and inverse are constants */
    void *dresidual;                       /* may be NULL */
    const float *
        sums; /* [blocks][2][64] of dz and of dz (c - mean), if its maker took them; 64 channels; else NULL */
    int blocks;
} npi_norm_gradient;

/* With dz = dy where `passed`:
 *   dbeta = sum dz,   dgamma = inverse sum dz (c - mean)
 *   dy <- the gradient of c,   dresidual = dz
 * and where mean and inverse are constants only dy <- gamma inverse dz. */
npos_status npi_norm_backward(npi_norm *norm, const npi_norm_gradient *gradient);

#endif
