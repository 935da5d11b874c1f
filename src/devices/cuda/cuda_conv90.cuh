/* devices/cuda/cuda_conv90.cuh - 3x3 convolutions with 64 output channels on Hopper's matrix units (sm_90a).
 *
 *     out[n, y, x, k] = sum over r, s < 3 and c < C of in[n, y + r - 1, x + s - 1, c] w[k, r, s, c]
 *
 * stride 1, zeros outside of the image; C = 64, or C = 8 for the network's first layer, whose images have 3 channels
 * padded with zeros.  Activations are N x H x W x C bf16, 16-byte aligned; sums are float32.  These are the layers of a
 * ResNet-18 on 32x32 images at which cuDNN leaves most of the machine unused: with 64 channels a tile of its implicit
 * GEMM is too narrow to keep the matrix units busy from shared memory.
 *
 * How.  A work unit is 8 images, 16 columns and a band of rows.  Each image row arrives once, by the copy engine, as
 * 18 columns of 8 images with the images inside the columns: a column is then 1024 bytes, one period of the 128-byte
 * swizzle, and the operand of a tap shifted by s columns begins s periods further.  No copies for the taps, no
 * unaligned descriptors; what lies outside of the image or beyond the last image is filled with zeros by the copy
 * engine.  One product serves three output rows: the row y of the input times the weights of r = 0, 1, 2 side by side
 * (64 x 192) adds to the output rows y + 1, y and y - 1, whose sums stay in registers; afterwards row y - 1 is
 * complete.
 *
 * Weight gradients use the same tiles the other way round: three warpgroups, one for each r, keep 64 x 192 sums
 * (k by s, c) over all pixels of the block's units; a second kernel adds the blocks' sums in their order.
 *
 * The same inputs give the same bits on devices with the same number of multiprocessors.  Nothing here allocates or
 * waits; all calls may be recorded into a graph.  The caller checks that the capability is 90 and that the module holds
 * code for sm_90a: elsewhere the kernels trap. */
#ifndef NPI_CUDA_CONV90_CUH
#define NPI_CUDA_CONV90_CUH

#include "devices/cuda/cuda.cuh"

enum { NPI_CONV90_K = 64 }; /* output channels */

/* How a shape is cut; filled by npi_conv90_plan. */
typedef struct npi_conv90 {
    int n, h, w, c;
    int tiles, bands, band_rows, units; /* units = ceil(n / 8) * tiles * bands */
    int blocks;                         /* of a launch, and rows of `sums` */
} npi_conv90;

/* Whether npi_conv90 serves a convolution: c as padded in memory. */
static inline bool npi_conv90_serves(int capability, int kernel, int stride, int c, int k) {
    return capability == 90 && kernel == 3 && stride == 1 && k == NPI_CONV90_K &&
           (c == NPI_CONV90_K || c == 8);
}

npi_conv90 npi_conv90_plan(int n, int h, int w, int c, int multiprocessors);

/* The weights as the kernels take them. */
static inline size_t npi_conv90_image_bytes(int c) {
    return c == 8 ? 12288 : 73728;
}

/* forward = the image of w[64][3][3][w_c], w_c <= c, for npi_conv90_run; backward, where not NULL (c = w_c = 64 only),
 * that of the convolution which takes gradients to the input: w'[c][r][s][k] = w[k][2 - r][2 - s][c]. */
npos_status npi_conv90_pack(const float *w, int w_c, int c, void *forward, void *backward,
                            cudaStream_t stream);

/* For npi_conv90_infer: the image of scale w, and bias = beta - running_mean scale, [64]; scale = gamma /
 * sqrt(running_var + 1e-5). */
npos_status npi_conv90_fold(const npi_unit_params *params, int w_c, int c, void *image, float *bias,
                            cudaStream_t stream);

/* out = the convolution of `in` with the image's weights, or out += it where `add` (in bf16: rounded, then added).
 * sums, where not NULL, receives of each of plan->blocks blocks the sums over its pixels of the outputs before
 * rounding, and of their squares: [blocks][2][64], every element written. */
npos_status npi_conv90_run(const npi_conv90 *plan, const __nv_bfloat16 *in, const void *image,
                           __nv_bfloat16 *out, bool add, float *sums, cudaStream_t stream);

/* out = relu?(the convolution + bias + residual).  bias: [64]; residual: a map like out (it may be out), or NULL. */
npos_status npi_conv90_infer(const npi_conv90 *plan, const __nv_bfloat16 *in, const void *image,
                             const float *bias, const __nv_bfloat16 *residual, bool relu,
                             __nv_bfloat16 *out, cudaStream_t stream);

/* The layer whose output is the convolution's input: the map c that its batch norm took, that map's mean [64], and
 * where its ReLU let values pass: [pixels][8], bit j of byte i for channel 8 i + j, 8-byte aligned. */
typedef struct npi_conv90_before {
    const __nv_bfloat16 *c;
    const float *mean;
    const uint8_t *passed;
} npi_conv90_before;

/* dx = the gradient of the input by `image`, the backward one, or dx += it where `add` (rounded once, unlike
 * npi_conv90_run); and what that layer's batch norm needs: with dz = dx before rounding where `passed`, 0 elsewhere,
 * each block's sums of dz and of dz (c - mean): [blocks][2][64], every element written.  dx itself is not masked.
 * C = 64 only. */
npos_status npi_conv90_back(const npi_conv90 *plan, const __nv_bfloat16 *dout, const void *image,
                            const npi_conv90_before *before, __nv_bfloat16 *dx, bool add,
                            float *sums, cudaStream_t stream);

/* dw[k][r][s][c] = sum over n, y, x of dout[n, y, x, k] in[n, y + r - 1, x + s - 1, c], c < w_c.  scratch:
 * npi_conv90_scratch_bytes(plan) bytes of device memory, 16-byte aligned. */
size_t npi_conv90_scratch_bytes(const npi_conv90 *plan);
npos_status npi_conv90_weights(const npi_conv90 *plan, const __nv_bfloat16 *in,
                               const __nv_bfloat16 *dout, int w_c, float *dw, float *scratch,
                               cudaStream_t stream);

#endif
