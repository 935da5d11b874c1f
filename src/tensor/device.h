/* tensor/device.h - all that a device can do: a few small tables of functions, one per family.
 *
 * A device owns its memory; pointers named "device memory" below came from its memory->alloc and
 * are meaningless to others.  On host devices they are ordinary pointers.  Work is enqueued in
 * order; only memory->download and sync wait.  Nothing is allocated except by alloc and the
 * *_create functions, so a step that has been planned allocates nothing and, where `graph` is not
 * NULL, can be recorded once and replayed.  For that, everything that changes from step to step
 * (npi_step, batch indices) is read from device memory.
 *
 * Three kinds of data:
 *   - rows: plain row-major arrays in device memory, float32 (embeddings, logits, prototypes,
 * parameters);
 *   - activations (npi_act): N x C x H x W feature maps in the device's own layout and precision
 *     (dev->compute).  Only the device looks inside; `acts` imports and exports float32 NCHW;
 *   - tokens (npi_tokens): N sequences of T rows, what transformers compute on, likewise the
 *     device's own; `tokens` imports and exports float32 and float16 rows.
 * Parameters are float32 in a layout of the device's choice for convolution weights
 * (unit->weight_import and weight_export convert from and to PyTorch's OIHW) and plain for all
 * others.
 *
 * Sums are taken in an order fixed by the shapes, not by the number of threads: same inputs, same
 * bits. Aliasing: outputs never overlap inputs unless a function says so. Every function returns a
 * status; a device's error names the operation.
 *
 * `tokens`, `blocks`, and the entries of `rows` and `losses` that say so, are NULL on a device that
 * cannot run transformers yet; who needs them asks first and fails with NPOS_UNSUPPORTED.
 *
 * Tables are filled by the devices in src/devices/; `devicecheck` compares each entry with the
 * reference. */
#ifndef NPI_TENSOR_DEVICE_H
#define NPI_TENSOR_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"
#include "tensor/augment_params.h"
#include "tensor/dtype.h"

typedef struct npi_device npi_device;

/* What changes from step to step, in device memory, written before each step with memory->upload.
 */
typedef struct npi_step {
    uint64_t
        number; /* global step, counted over all epochs from 0: the counter of every random draw */
    float lr, head_lr; /* rates of the encoder's group and of the outlier head's */
} npi_step;

/* A feature map in the device's layout.  Images past n that the layout pads are zero in every
 * activation. */
typedef struct npi_act {
    int n, c, h, w;
    void *data; /* acts->bytes(n, c, h, w) bytes of device memory */
} npi_act;

/* ---- memory and execution
 * ------------------------------------------------------------------------ */

enum { NPI_POST_SLOTS = 16, NPI_POST_BYTES = 64 };

typedef struct npi_memory_ops {
    /* *out = zeroed device memory, 256-byte aligned on GPUs, 64 on hosts; `what` names it in
     * errors. */
    npos_status (*alloc)(npi_device *dev, size_t bytes, const char *what, void *out);
    void (*free)(npi_device *dev, void *memory); /* NULL is accepted */
    npos_status (*upload)(npi_device *dev, void *to, const void *host, size_t bytes);
    npos_status (*download)(npi_device *dev, void *host, const void *from,
                            size_t bytes); /* waits */
    npos_status (*copy)(npi_device *dev, void *to, const void *from, size_t bytes);
    npos_status (*zero)(npi_device *dev, void *to, size_t bytes);
    /* Reading without waiting: post enqueues a copy of at most NPI_POST_BYTES into slot 0..NPI_POST_SLOTS-1; collect
     * waits for the newest post to that slot alone and hands its bytes out. */
    npos_status (*post)(npi_device *dev, int slot, const void *from, size_t bytes);
    npos_status (*collect)(npi_device *dev, int slot, void *host, size_t bytes);
    npos_status (*sync)(npi_device *dev); /* waits for all enqueued work and reports its errors */
    /* Bytes that this device handed out now and at the most. */
    void (*usage)(npi_device *dev, size_t *now, size_t *peak);
} npi_memory_ops;

typedef struct npi_graph npi_graph;

/* NULL on host devices: there a step is simply called again. */
typedef struct npi_graph_ops {
    npos_status (*begin)(npi_device *dev);
    npos_status (*end)(npi_device *dev, npi_graph **out);
    npos_status (*launch)(npi_device *dev, npi_graph *graph);
    void (*free)(npi_device *dev, npi_graph *graph);
    /* Work that may run beside the main lane: between fork(lane), lane 1..3, and leave it is enqueued on that lane, after
     * all that was enqueued before the fork; after leave again on the main lane, which waits for it at join(lane). */
    npos_status (*fork)(npi_device *dev, int lane);
    npos_status (*leave)(npi_device *dev);
    npos_status (*join)(npi_device *dev, int lane);
} npi_graph_ops;

/* ---- activations
 * ---------------------------------------------------------------------------------- */

typedef struct npi_act_ops {
    size_t (*bytes)(npi_device *dev, int n, int c, int h, int w);
    npos_status (*import_nchw)(npi_device *dev, const float *nchw,
                               npi_act to); /* nchw: device memory */
    npos_status (*export_nchw)(npi_device *dev, npi_act from, float *nchw);
} npi_act_ops;

/* ---- unit: convolution + batch norm (+ residual) (+ ReLU)
 * ----------------------------------------- *
 *
 *   c = conv(x, weight)                          no bias
 *   training:  m, v = mean and biased variance of c over N,H,W;  u = (c - m) / sqrt(v + 1e-5) *
 * gamma + beta running_mean += 0.1 (m - running_mean); running_var likewise with the unbiased
 * variance inference: the same with the running statistics y = relu?( u + residual ) The residual
 * is an activation of y's shape, or a shortcut: another unit that was run with y = NULL just
 * before, whose normalised output is added, so that both batch norms are applied in one pass.
 * One entry, so that a device can sum statistics in the convolution and apply everything in one
 * pass. */

typedef struct npi_unit
    npi_unit; /* a planned unit: shapes, algorithm, workspace, what backward needs */

typedef struct npi_unit_desc {
    const char *name; /* "layer3.0.conv1", for errors and profiles */
    int n, c, h, w;   /* input */
    int out_c, kernel, stride,
        pad; /* square kernels; output side (h + 2 pad - kernel) / stride + 1 */
    bool relu;
    bool needs_dx; /* false for the stem */
    bool training; /* false: only infer will be called; nothing is kept for backward */
    bool residual; /* inference: infer will be given a residual */
    bool frozen;   /* training: forward takes the running statistics as constants and leaves them
                      alone; backward gives no gradients of parameters (grads NULL) */
} npi_unit_desc;

typedef struct npi_unit_params {       /* device memory; the gradients use the same struct */
    float *weight;                     /* out_c*c*kernel*kernel, device layout */
    float *gamma, *beta;               /* out_c */
    float *running_mean, *running_var; /* out_c; unused in gradients */
} npi_unit_params;

typedef struct npi_unit_ops {
    npos_status (*create)(npi_device *dev, const npi_unit_desc *desc, npi_unit **out);
    void (*free)(npi_device *dev, npi_unit *unit);
    /* Converts between host OIHW float32 and the device layout (same number of floats). */
    npos_status (*weight_import)(npi_unit *unit, const float *host_oihw, float *weight);
    npos_status (*weight_export)(npi_unit *unit, const float *weight, float *host_oihw);
    /* Prepares the weights' compute-precision copies; call after each change of the weights. */
    npos_status (*pack)(npi_unit *unit, const npi_unit_params *params);
    /* Training forward.  y == NULL: the unit is a shortcut (no ReLU, no residual) and keeps its
     * convolution's output and statistics for the unit that names it.  At most one of residual and
     * shortcut is not NULL. */
    npos_status (*forward)(npi_unit *unit, npi_act x, const npi_unit_params *params,
                           const npi_act *residual, npi_unit *shortcut,
                           const npi_unit_params *shortcut_params, npi_act *y);
    /* Inference forward with running statistics.  A shortcut is run as a unit of its own (y not
     * NULL, relu false). */
    npos_status (*infer)(npi_unit *unit, npi_act x, const npi_unit_params *params,
                         const npi_act *residual, npi_act *y);
    /* Backward of the newest forward.  dy: gradient of y, may be overwritten.  For a shortcut unit,
     * dy is what its main unit wrote to `dresidual`.  grads are overwritten, not added to; NULL for
     * a frozen unit.  dx may be NULL when needs_dx is false; accumulate: dx += instead of dx =.  dresidual (NULL where
     * there was neither residual nor shortcut): dy times ReLU's mask.  before (may be NULL): the unit
     * whose newest output is x, if dx is then the whole gradient of x and its backward is called
     * with it: a device may sum up on the way what that needs. */
    npos_status (*backward)(npi_unit *unit, npi_act dy, npi_act x, const npi_unit_params *params,
                            const npi_unit_params *grads, npi_act *dx, bool accumulate,
                            npi_act *dresidual, npi_unit *before);
    /* The chosen variants, one line, for -v: "fwd avx512 n8x3, bwd_x ..., bwd_w ...". */
    const char *(*variant)(npi_unit *unit);
} npi_unit_ops;

/* ---- pooling
 * --------------------------------------------------------------------------------------- */

typedef struct npi_pool_ops {
    /* 3x3 stride 2 padding 1 (the 7x7 stem's); `index` holds n*c*oh*ow bytes, the winner's place
     * 0..8 (the first on ties). */
    npos_status (*max_forward)(npi_device *dev, npi_act x, npi_act y, uint8_t *index);
    npos_status (*max_backward)(npi_device *dev, npi_act dy, const uint8_t *index, npi_act dx);
    /* Global average: rows[n][c] float32. */
    npos_status (*mean_forward)(npi_device *dev, npi_act x, float *rows);
    npos_status (*mean_backward)(npi_device *dev, const float *drows, npi_act dx);
} npi_pool_ops;

/* ---- rows: linear layers, normalisation
 * ------------------------------------------------------------ */

/* Of every layer normalisation, in rows, tokens and blocks. */
#define NPI_LAYER_NORM_EPSILON 1e-5f

typedef struct npi_rows_ops {
    /* y[n][out] = relu?( x[n][in] weight^T + bias ), weight [out][in] as PyTorch; bias may be NULL.
     */
    npos_status (*linear_forward)(npi_device *dev, int n, int in, int out, const float *x,
                                  const float *weight, const float *bias, bool relu, float *y);
    /* dy[n][out] (with relu it is masked by y > 0, in place); dweight, dbias overwritten, dbias
     * NULL where there is no bias; dx may be NULL and has dx_rows <= n rows (the first ones); accumulate: dx +=. */
    npos_status (*linear_backward)(npi_device *dev, int n, int in, int out, const float *x,
                                   const float *weight, const float *y, bool relu, float *dy,
                                   float *dweight, float *dbias, float *dx, int dx_rows,
                                   bool accumulate);
    /* z = x / max(|x|, 1e-12) by row; norms[n] kept for backward (may be NULL when not needed). */
    npos_status (*normalize_forward)(npi_device *dev, int n, int d, const float *x, float *z,
                                     float *norms);
    /* dx = (dz - z (z.dz)) / norm; accumulate: dx +=. */
    npos_status (*normalize_backward)(npi_device *dev, int n, int d, const float *z,
                                      const float *norms, const float *dz, float *dx,
                                      bool accumulate);
    /* y = (x - m) s gamma + beta by row, with m = mean_j x_j, v = mean_j (x_j - m)^2 and
     * s = 1 / sqrt(v + NPI_LAYER_NORM_EPSILON), as torch.nn.LayerNorm(d).  x, y [n][d]; gamma, beta
     * [d]; stats [n][2] = m and s of each row, kept for backward (may be NULL when not needed).
     * y may be x where backward is not called.  Both entries may be NULL. */
    npos_status (*layer_norm_forward)(npi_device *dev, int n, int d, const float *x,
                                      const float *gamma, const float *beta, float *y,
                                      float *stats);
    /* With xh = (x - m) s, g = dy gamma and means over the row:
     *     dbeta = sum_i dy_i,  dgamma = sum_i dy_i xh_i,  dx = s (g - mean g - xh mean(g xh))
     * dgamma, dbeta [d] overwritten; dx [n][d] may be NULL; accumulate: dx +=. */
    npos_status (*layer_norm_backward)(npi_device *dev, int n, int d, const float *x,
                                       const float *stats, const float *gamma, const float *dy,
                                       float *dgamma, float *dbeta, float *dx, bool accumulate);
} npi_rows_ops;

/* ---- losses: forward and backward in one, they end the graph
 * ---------------------------------------- */

/* Where losses are written in device memory: losses[NPI_LOSS_COUNT] float32. */
typedef enum npi_loss {
    NPI_LOSS_DISP,      /* L_disp, unweighted */
    NPI_LOSS_COMP,      /* L_comp with its factor tau/0.07, unweighted otherwise */
    NPI_LOSS_OPEN,      /* R_open, unweighted */
    NPI_LOSS_CE,        /* cross-entropy of the classifier (method ce) or over cosines (clip) */
    NPI_LOSS_GRAD_NORM, /* L2 norm of all gradients before clipping */
    NPI_LOSS_COUNT
} npi_loss;

typedef struct npi_contrast_desc {
    int n, classes, dim;
    float momentum, tau; /* m of the prototypes; temperature */
    float disp_weight, comp_weight;
} npi_contrast_desc;

typedef struct npi_loss_ops {
    /* L_disp and L_comp (METHOD; CIDER eq. 5-8).  Sample by sample, in order of rows: mu_y <-
     * normalize(m mu_y + (1-m) z). Then disp = 1/C sum_i log(1/(C-1) sum_{j!=i} exp(mu_i.mu_j/tau))
     * of the updated prototypes and comp = (tau/0.07) mean_j CE(z_j mu^T / tau, y_j), prototypes
     * constant.  Writes losses[DISP], losses[COMP], updates mu [classes][dim] in place and sets dz
     * [n][dim] = gradient of disp_weight*disp + comp_weight*comp, where disp's flows to every z
     * through the whole chain of normalised updates.  Labels of -1 are skipped everywhere.
     * workspace: contrast_workspace(desc) bytes of device memory. */
    size_t (*contrast_workspace)(npi_device *dev, const npi_contrast_desc *desc);
    npos_status (*contrast)(npi_device *dev, const npi_contrast_desc *desc, const float *z,
                            const int32_t *labels, float *mu, float *losses, float *dz,
                            void *workspace);
    /* losses[CE] = mean_i CE(logits_i, y_i); dlogits = weight * its gradient. */
    npos_status (*cross_entropy)(npi_device *dev, int n, int classes, const float *logits,
                                 const int32_t *labels, float weight, float *losses,
                                 float *dlogits);
    /* losses[OPEN] = mean over n_in + n_out of BCE-with-logits, the first n_in against 1, the
     * others against 0; dlogits = weight * its gradient. */
    npos_status (*outlier_bce)(npi_device *dev, int n_in, int n_out, const float *logits,
                               float weight, float *losses, float *dlogits);
    /* The closed-set losses over cosines l[n][classes] = cos(h_i, T_c), labels in 0..classes-1:
     *     cosine_ce:      CE(l / temperature, y)
     *     logit_norm_ce:  CE(l / (|l| + 1e-7) / temperature, y),  |l| the L2 norm of a row
     * (LogitNorm: Wei et al., ICML 2022, which divides by its temperature, 0.04 there).
     * losses[CE] = the mean over the rows; dcosines = weight * its gradient; temperature > 0.  A
     * row of zeros has |l| = 0, whose gradient counts as 0.  Both entries may be NULL. */
    npos_status (*cosine_ce)(npi_device *dev, int n, int classes, float temperature,
                             const float *cosines, const int32_t *labels, float weight,
                             float *losses, float *dcosines);
    npos_status (*logit_norm_ce)(npi_device *dev, int n, int classes, float temperature,
                                 const float *cosines, const int32_t *labels, float weight,
                                 float *losses, float *dcosines);
} npi_loss_ops;

/* ---- out-of-distribution: rings, synthesis, neighbours
 * ---------------------------------------------- */

/* The queue: for each class the `size` newest embeddings, not normalised. */
typedef struct npi_ring {
    int classes, size, dim;
    float *rows;     /* [classes][size][dim], device memory */
    uint64_t *count; /* [classes], device memory: embeddings pushed so far; the next goes to row
                        count % size */
} npi_ring;

/* NPOS synthesis (METHOD, "Synthesis"). */
typedef struct npi_synth_desc {
    int classes, ring, dim;
    int k, select, pick, noise, keep; /* 1 <= k <= ring, pick <= select <= ring, keep <= noise */
    float sigma;
    bool authors; /* compat: reshape distances as the reference does, zero rows infinitely far */
    uint64_t seed;
} npi_synth_desc;

/* VOS: per class a Gaussian N(mean of its ring, S + 1e-4 I), S shared; of `draws` samples the
 * `keep` least likely. */
typedef struct npi_gauss_desc {
    int classes, ring, dim;
    int draws, keep;
    uint64_t seed;
} npi_gauss_desc;

/* For tests: values instead of random draws, device memory; NULL means draw. */
typedef struct npi_synth_given {
    const float *noise;   /* [noise][dim] standard normals */
    const int32_t *picks; /* [classes][pick] ranks 0..select-1 among the boundary candidates in
                             order of distance */
} npi_synth_given;

typedef struct npi_synth npi_synth; /* a planned synthesis with its workspace */

typedef struct npi_ood_ops {
    /* Pushes h[n][dim] in order of rows, each to its label's ring; labels of -1 are skipped. */
    npos_status (*ring_push)(npi_device *dev, const npi_ring *ring, int n, const float *h,
                             const int32_t *labels);
    npos_status (*synth_create)(npi_device *dev, const npi_synth_desc *desc, npi_synth **out);
    void (*synth_free)(npi_device *dev, npi_synth *synth);
    /* outliers[classes*pick*keep][dim]: class by class, boundary row by boundary row, kept
     * candidates by falling distance (ties: lower candidate first).  boundary (may be NULL):
     * [classes][pick] row numbers in the ring. The j-th pick of class c is drawn by partial
     * Fisher-Yates over the candidates in order of falling distance: swap(j, j +
     * npi_below(philox(seed, NPI_RANDOM_BOUNDARY, step, c, j).v[0], select - j)).  Element d of
     * noise row l is the (d%4)-th of the two npi_normal_pair of philox(seed, NPI_RANDOM_NOISE,
     * step, l, d/4). */
    npos_status (*synthesise)(npi_synth *synth, const npi_ring *ring, const npi_step *step,
                              const npi_synth_given *given, float *outliers, int32_t *boundary);
    npos_status (*gauss_create)(npi_device *dev, const npi_gauss_desc *desc, npi_synth **out);
    /* outliers[classes*keep][dim]; element d of draw s of class c: philox(seed, NPI_RANDOM_GAUSS,
     * step, c*draws+s, d/4). */
    npos_status (*gauss_synthesise)(npi_synth *synth, const npi_ring *ring, const npi_step *step,
                                    float *outliers);
    /* distance[n] = squared L2 distance from each query to its k-th nearest bank row (k = 1 is the
     * nearest), exact in float32.  queries [n][dim], bank [m][dim], 1 <= k <= m.  Unit rows are not
     * assumed.  Host arrays on host devices, device memory elsewhere. */
    npos_status (*kth_neighbour)(npi_device *dev, int n, const float *queries, int64_t m,
                                 const float *bank, int dim, int k, float *distance);
    /* The k nearest in order of distance (ties: lower index): index[n][k], distance[n][k] (either
     * may be NULL). */
    npos_status (*neighbours)(npi_device *dev, int n, const float *queries, int64_t m,
                              const float *bank, int dim, int k, int64_t *index, float *distance);
} npi_ood_ops;

/* ---- augmentation
 * ----------------------------------------------------------------------------------- */

typedef struct npi_augment_ops {
    /* to[batch*views] = augmented, normalised views of images[index[s % batch]].  images: uint8
     * [count][src_h][src_w] [channels]; index [batch]; step and index in device memory.  given
     * (NULL: npi_augment_draw): parameters by sample, device memory, for tests. */
    npos_status (*augment)(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                           const int32_t *index, const npi_step *step,
                           const npi_augment_params *given, npi_act to);
    /* to[n] = images[first .. first+n) / 255 normalised with desc's mean and std: for inference. */
    npos_status (*normalise)(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                             int64_t first, int n, npi_act to);
} npi_augment_ops;

/* ---- tokens: what transformers compute on
 * ----------------------------------------------------------- */

/* n sequences of t rows of `width` numbers, in the device's own layout and precision (which need
 * not be dev->compute: a device may keep them, the sums of all blocks so far, more exactly). */
typedef struct npi_tokens {
    int n, t, width;
    void *data; /* tokens->bytes(n, t, width) bytes of device memory */
} npi_tokens;

typedef struct npi_patches npi_patches; /* a planned embedding of images with its workspace */

typedef struct npi_patches_desc {
    const char *name; /* "vision", for errors and profiles */
    int n, c, h, w;   /* images at the most; h and w are multiples of patch */
    int patch, width; /* t = 1 + (h / patch) (w / patch) */
} npi_patches_desc;

typedef struct npi_patches_params { /* device memory, layouts as PyTorch's */
    float *weight;                  /* [width][c][patch][patch], no bias */
    float *class_token;             /* [width] */
    float *positions;               /* [t][width] */
    float *gamma, *beta;            /* [width]: the normalisation before the first block */
} npi_patches_params;

typedef struct npi_token_ops {
    size_t (*bytes)(npi_device *dev, int n, int t, int width);
    /* rows: [n][t][width] in device memory, float32 or IEEE float16 (npi_f32_to_f16's rounding). */
    npos_status (*import_rows)(npi_device *dev, const float *rows, npi_tokens to);
    npos_status (*export_rows)(npi_device *dev, npi_tokens from, float *rows);
    /* index [n] in device memory: sequence i is the index[i]-th of rows; NULL: the i-th. */
    npos_status (*import_halves)(npi_device *dev, const uint16_t *rows, const int32_t *index,
                                 npi_tokens to);
    npos_status (*export_halves)(npi_device *dev, npi_tokens from, uint16_t *rows);
    /* Gradients of tokens (pick_backward's `to`, blocks' dz and dx) have another range: a device may
     * keep them in another type of the same size.  These import and export them. */
    npos_status (*import_gradient)(npi_device *dev, const float *rows, npi_tokens to);
    npos_status (*export_gradient)(npi_device *dev, npi_tokens from, float *rows);

    npos_status (*patches_create)(npi_device *dev, const npi_patches_desc *desc, npi_patches **out);
    void (*patches_free)(npi_device *dev, npi_patches *patches); /* NULL is accepted */
    /* Prepares the weights' compute-precision copies; call after each change of the weights. */
    npos_status (*patches_pack)(npi_patches *patches, const npi_patches_params *params);
    /* to = layer_norm(e, gamma, beta) with e_0 = class_token + positions_0 and, for patch i (rows of
     * patches from the top, each from the left), e_{1+i} = weight . patch_i + positions_{1+i}.
     * image: normalised, 1..desc.n images of desc's shape; to: as many sequences. */
    npos_status (*embed_image)(npi_patches *patches, npi_act image,
                               const npi_patches_params *params, npi_tokens to);
    /* to_i = table[ids_i] + positions_i.  ids [n][t], each in 0..vocabulary-1; table
     * [vocabulary][width]; positions [at least t][width].  Under a causal mask rows depend on those
     * before them alone, so t may be cut to the longest text, with the same result. */
    npos_status (*embed_text)(npi_device *dev, const int32_t *ids, int vocabulary,
                              const float *table, const float *positions, npi_tokens to);

    /* rows[i] = row at[i] of sequence i, [n][width] float32.  at [n], each in 0..t-1; NULL: 0. */
    npos_status (*pick)(npi_device *dev, npi_tokens from, const int32_t *at, float *rows);
    /* to = drows[i] at row at[i] of sequence i, zeros elsewhere. */
    npos_status (*pick_backward)(npi_device *dev, const float *drows, const int32_t *at,
                                 npi_tokens to);
} npi_token_ops;

/* ---- block: one residual attention block of a transformer, normalised first
 * ------------------------ *
 *
 *   u = layer_norm(x, ln1)
 *   q, k, v = u qkv_weight^T + qkv_bias            three vectors of `width`, each cut into heads
 *   a = softmax(q k^T / sqrt(width / heads)) v     by head; causal: row i sees rows 0..i
 *   y = x + a out_weight^T + out_bias
 *   z = y + act(layer_norm(y, ln2) fc1_weight^T + fc1_bias) fc2_weight^T + fc2_bias
 *
 * CLIP's block (Radford et al. 2021; ResidualAttentionBlock of OpenAI's code, CLIPEncoderLayer of
 * transformers).  One entry, so that a device can fuse inside. */

typedef struct npi_block npi_block; /* a planned block: shapes, workspace, what backward needs */

typedef enum npi_block_act {
    NPI_ACT_QUICK_GELU, /* x / (1 + exp(-1.702 x)): OpenAI's models */
    NPI_ACT_GELU        /* x (1 + erf(x / sqrt 2)) / 2: most of open_clip's */
} npi_block_act;

typedef struct npi_block_desc {
    const char *name;  /* "vision.blocks.11", for errors and profiles */
    int n, t, width;   /* sequences at the most; their rows */
    int heads, hidden; /* width is a multiple of heads; hidden: width of the MLP */
    npi_block_act act;
    bool causal;
    bool first_only; /* z has one row a sequence, row 0: queries, attention's output and the MLP are
                        made for that row alone, keys and values for all; the same numbers */
    bool training;   /* false: forward keeps nothing and backward is not called */
    bool needs_dx;   /* false where nothing below is trained */
} npi_block_desc;

/* Device memory, [out][in] as PyTorch; the gradients use the same struct. */
typedef struct npi_block_params {
    float *ln1_gamma, *ln1_beta;  /* [width] */
    float *qkv_weight, *qkv_bias; /* [3 width][width], [3 width]: q's rows, then k's, then v's */
    float *out_weight, *out_bias; /* [width][width], [width] */
    float *ln2_gamma, *ln2_beta;  /* [width] */
    float *fc1_weight, *fc1_bias; /* [hidden][width], [hidden] */
    float *fc2_weight, *fc2_bias; /* [width][hidden], [width] */
} npi_block_params;

typedef struct npi_block_ops {
    /* Errors: NPOS_INVALID_ARGUMENT for sizes below 1 or heads that do not divide the width,
     * NPOS_UNSUPPORTED for shapes that the device's kernels lack. */
    npos_status (*create)(npi_device *dev, const npi_block_desc *desc, npi_block **out);
    void (*free)(npi_device *dev, npi_block *block); /* NULL is accepted */
    /* Prepares the weights' compute-precision copies; call after each change of the weights. */
    npos_status (*pack)(npi_block *block, const npi_block_params *params);
    /* x: 1..desc.n sequences of desc.t rows; z: as many of desc.t rows, of 1 with first_only.  z may
     * be x where neither training nor first_only is set. */
    npos_status (*forward)(npi_block *block, npi_tokens x, const npi_block_params *params,
                           npi_tokens z);
    /* Backward of the newest forward, once, whose x and parameters are unchanged.  dz: gradient of z, of
     * z's shape, may be overwritten.  grads are overwritten, not added to.  dx: all rows of x,
     * overwritten; NULL where needs_dx is false. */
    npos_status (*backward)(npi_block *block, npi_tokens dz, npi_tokens x,
                            const npi_block_params *params, const npi_block_params *grads,
                            const npi_tokens *dx);
    /* The chosen variants, one line, for -v. */
    const char *(*variant)(npi_block *block);
} npi_block_ops;

/* ---- optimiser
 * -------------------------------------------------------------------------------------- */

typedef struct npi_sgd_desc {
    float momentum, weight_decay;
    bool nesterov;
    float clip_norm; /* 0: off; otherwise gradients are scaled by min(1, clip_norm / norm) */
} npi_sgd_desc;

typedef struct npi_optim_ops {
    /* losses[GRAD_NORM] = L2 norm of grads[count], in float64 or in sharded float32. */
    npos_status (*norm)(npi_device *dev, size_t count, const float *grads, float *losses);
    /* PyTorch's SGD: g = clip*grad + weight_decay*w; v = momentum*v + g; w -= lr * (nesterov ? g +
     * momentum*v : v). `head` selects step->head_lr instead of step->lr.  clip reads
     * losses[GRAD_NORM]; losses may be NULL when clip_norm is 0. */
    npos_status (*sgd)(npi_device *dev, const npi_sgd_desc *desc, size_t count, float *weights,
                       const float *grads, float *velocity, const npi_step *step, bool head,
                       const float *losses);
} npi_optim_ops;

/* ---- the device
 * ------------------------------------------------------------------------------------- */

struct npi_device {
    const char *name;      /* "reference", "cpu", "cuda:0" */
    char description[256]; /* for people and manifests: processor or GPU, instruction sets in use */
    npi_dtype compute;     /* activations' precision: NPI_F32 or NPI_BF16 */
    bool host;             /* device memory is host memory */
    const npi_memory_ops *memory;
    const npi_graph_ops *graph; /* NULL on hosts */
    const npi_act_ops *acts;
    const npi_unit_ops *units;
    const npi_pool_ops *pools;
    const npi_rows_ops *rows;
    const npi_loss_ops *losses;
    const npi_ood_ops *ood;
    const npi_augment_ops *augment;
    const npi_optim_ops *optim;
    const npi_token_ops *tokens; /* NULL where transformers cannot run yet, as blocks */
    const npi_block_ops *blocks;
    void (*close)(npi_device *dev);
    void *own;
};

typedef enum npi_precision {
    NPI_PRECISION_AUTO,
    NPI_PRECISION_FP32,
    NPI_PRECISION_BF16
} npi_precision;

/* Opens a device by its name: "auto", "cpu", "cuda", "cuda:N", "reference".  threads 0: all that
 * the process may use.  The name the user gave is never replaced by another device; auto takes cuda
 * where its module and a driver are, else cpu.  The environment variable NPOS_ISA caps the cpu
 * device ("avx2", "avx512", "avx512bf16", "amx"). Errors: unknown name, precision that the device
 * lacks, module missing (naming where it was looked for). */
NPOS_MUST_CHECK npos_status npi_device_open(const char *name, npi_precision precision, int threads,
                                            npi_device **out);
void npi_device_close(npi_device *dev); /* NULL is accepted */

#endif
