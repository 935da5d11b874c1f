/* devices/reference/ref.h - what the files of the reference device share.
 *
 * The reference is the specification in code: plain loops in the order of the equations, one
 * thread, float32 in memory, sums in float64.  Other devices are compared with it (devicecheck);
 * nothing here is written for speed beyond a sensible loop order.
 *
 * Activations are plain NCHW float32: element (n, c, y, x) at ((n*C + c)*H + y)*W + x; tokens plain
 * float32: row r of sequence n at (n*T + r)*width. */
#ifndef NPI_DEVICES_REFERENCE_REF_H
#define NPI_DEVICES_REFERENCE_REF_H

#include "devices/host_memory.h"
#include "tensor/device.h"

typedef struct npi_ref {  /* npi_device.own */
    npi_host_bytes bytes; /* first: npi_host_memory counts here */
    char *scratch;
    size_t scratch_bytes;
} npi_ref;

extern const npi_act_ops npi_ref_acts;
extern const npi_unit_ops npi_ref_units;
extern const npi_pool_ops npi_ref_pools;
extern const npi_rows_ops npi_ref_rows;
extern const npi_loss_ops npi_ref_losses;
extern const npi_ood_ops npi_ref_ood;
extern const npi_augment_ops npi_ref_augment;
extern const npi_optim_ops npi_ref_optim;
extern const npi_token_ops npi_ref_tokens;
extern const npi_block_ops npi_ref_blocks;

/* *out = `bytes` of room that lives until the next call on this device; contents are undefined.
 * NPOS_OUT_OF_MEMORY when it has to grow and cannot. */
NPOS_MUST_CHECK npos_status npi_ref_scratch(npi_device *dev, size_t bytes, void *out);

/* Fails with NPOS_SHAPE_MISMATCH, naming `what`, unless the activation is n x c x h x w. */
NPOS_MUST_CHECK npos_status npi_ref_check_act(const char *what, npi_act act, int n, int c, int h,
                                              int w);

/* Fails with NPOS_SHAPE_MISMATCH, naming `what`, unless there are 1..most sequences of t x width. */
NPOS_MUST_CHECK npos_status npi_ref_check_tokens(const char *what, npi_tokens tokens, int most,
                                                 int t, int width);

/* Fails with NPOS_INVALID_ARGUMENT unless every label lies in least..classes-1. */
NPOS_MUST_CHECK npos_status npi_ref_check_labels(const char *what, int n, const int32_t *labels,
                                                 int least, int classes);

/* sum of a_i b_i, and of (a_i - b_i)^2, from i = 0 upwards in float64 */
double npi_ref_dot(int n, const float *a, const float *b);
double npi_ref_square_distance(int n, const float *a, const float *b);

/* z = x / max(|x|, 1e-12); the divisor. */
float npi_ref_normalize(int d, const float *x, float *z);

/* Rows that do not lie one behind the other: row i starts at data + i * step. */
typedef struct npi_ref_rows_at {
    float *data;
    ptrdiff_t step;
} npi_ref_rows_at;
typedef struct npi_ref_rows_in {
    const float *data;
    ptrdiff_t step;
} npi_ref_rows_in;

/* y = x W^T + b of n rows, weight [out][in]; bias may be NULL. */
void npi_ref_linear(int n, int in, int out, npi_ref_rows_in x, const float *weight,
                    const float *bias, npi_ref_rows_at y);

/* dW = dy^T x, db = sum of dy's rows (NULL: not asked for); sum: room for in + 1 numbers. */
void npi_ref_linear_to_weights(int n, int in, int out, npi_ref_rows_in x, npi_ref_rows_in dy,
                               float *dweight, float *dbias, double *sum);

/* dx (+)= dy W; sum: room for in numbers. */
void npi_ref_linear_to_data(int n, int in, int out, const float *weight, npi_ref_rows_in dy,
                            npi_ref_rows_at dx, bool add, double *sum);

/* One row of layer normalisation; stats: m and s (may be NULL).  y may be x. */
void npi_ref_layer_norm(int d, const float *x, const float *gamma, const float *beta, float *y,
                        float *stats);

/* layer_norm_backward of the rows table; dx may be dy. */
npos_status npi_ref_layer_norm_backward(npi_device *dev, int n, int d, const float *x,
                                        const float *stats, const float *gamma, const float *dy,
                                        float *dgamma, float *dbeta, float *dx, bool accumulate);

/* The plane (n, c) of an activation. */
static inline float *npi_ref_plane(npi_act act, int n, int c) {
    return (float *)act.data +
           ((size_t)n * (size_t)act.c + (size_t)c) * (size_t)act.h * (size_t)act.w;
}

#endif
