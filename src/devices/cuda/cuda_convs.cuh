/* devices/cuda/cuda_convs.cuh - a unit's convolution with its gradients, by our kernels where they win, else by cuDNN.
 *
 * Owns the weights' copies and what the gradients need on their way.  Activations and names as in cuda_conv.cuh. */
#ifndef NPI_CUDA_CONVS_CUH
#define NPI_CUDA_CONVS_CUH

#include "devices/cuda/cuda_conv.cuh"
#include "devices/cuda/cuda_conv90.cuh"
#include "devices/cuda/cuda_weights.cuh"

typedef struct npi_convs {
    npi_device *dev;
    npi_conv_desc shape; /* of all passes; its name outlives this */
    npi_weights weights;
    bool training;
    /* cuDNN's */
    npi_conv *forward, *filter;
    npi_conv *data[2]; /* dx = and dx +=; planned when first asked for */
    npi_conv *
        fused; /* inference: convolution, batch norm, residual and ReLU in one, where cuDNN has it */
    void *packed;  /* weights: cuda_weights.cuh */
    float *bias;   /* fused's */
    void *dweight; /* the weight's gradient where it cannot be written to its place */
    void *dx;      /* the input's, where cuDNN cannot add to it */
    /* ours (own) */
    bool own;
    npi_conv90 plan;
    void *image, *image_backward; /* weights: cuda_conv90.cuh */
    float *sums;                  /* [plan.blocks][2][64] */
} npi_convs;

/* `name` must outlive it.  Release in any case. */
npos_status npi_convs_create(npi_device *dev, const char *name, const npi_unit_desc *desc, int oh,
                             int ow, npi_convs *out);
void npi_convs_free(npi_convs *convs);
npos_status npi_convs_pack(npi_convs *convs, const npi_unit_params *params);

/* y = conv(x).  *sums = [*blocks][2][64] sums of y and of its squares, or NULL where nobody took them. */
npos_status npi_convs_forward(npi_convs *convs, const void *x, void *y, const float **sums,
                              int *blocks);
/* Whether npi_convs_infer serves this inference unit: convolution, batch norm, residual and ReLU in one. */
static inline bool npi_convs_fused(const npi_convs *convs) {
    return !convs->training && (convs->fused || convs->own);
}
/* y = all of an inference unit. */
npos_status npi_convs_infer(npi_convs *convs, const void *x, const void *residual, void *y);
/* dweight = the weight's gradient, in the arena's layout. */
npos_status npi_convs_filter(npi_convs *convs, const void *x, const void *dy, float *dweight);
/* dx = or += the input's gradient.  before (NULL: none): of the unit that made the input; *sums = [*blocks][2][64] sums of
 * its dz and dz (c - mean), valid until the next call, or NULL where they were not taken. */
npos_status npi_convs_data(npi_convs *convs, const void *dy, void *dx, bool accumulate,
                           const npi_conv90_before *before, const float **sums, int *blocks);

/* One line for -v. */
void npi_convs_variant(const npi_convs *convs, char *to, size_t bytes);

#endif
