#include "devices/cuda/cuda_sums.cuh"

/* Both entries move memory and little else: 16 bytes an access, and the grid is fixed by the number
 * of elements alone, so that the sum has the same order on every chip. */
enum { THREADS = 256, NORM_LOADS = 4, NORM_BLOCKS = 1024 };

/* Floats before the first address that is a multiple of 16 bytes, at most count. */
static size_t until_aligned(const float *p, size_t count) {
    size_t floats = (16 - (uintptr_t)p % 16) % 16 / sizeof(float);
    return floats < count ? floats : count;
}

static __device__ __forceinline__ double square(float x) {
    return (double)x * (double)x;
}

/* partial[block] = sum of squares of the block's share; `lead` floats stand before the aligned ones,
 * up to three behind them. */
static __global__ void __launch_bounds__(THREADS)
    sum_squares(size_t count, size_t lead, const float *grads, double *partial) {
    const float4 *quads = (const float4 *)(grads + lead);
    size_t quad_count = (count - lead) / 4, tail = lead + 4 * quad_count;
    size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x, step = (size_t)gridDim.x * THREADS;
    double sums[NORM_LOADS] = {};
    size_t i = first;
    for (; i + (NORM_LOADS - 1) * step < quad_count; i += NORM_LOADS * step) {
        float4 q[NORM_LOADS];
#pragma unroll
        for (int k = 0; k < NORM_LOADS; k++)
            q[k] = quads[i + (size_t)k * step];
#pragma unroll
        for (int k = 0; k < NORM_LOADS; k++)
            sums[k] += (square(q[k].x) + square(q[k].y)) + (square(q[k].z) + square(q[k].w));
    }
    for (; i < quad_count; i += step) {
        float4 q = quads[i];
        sums[0] += (square(q.x) + square(q.y)) + (square(q.z) + square(q.w));
    }
    if (first < lead)
        sums[1] += square(grads[first]);
    if (first < count - tail)
        sums[2] += square(grads[tail + first]);
    double sum = npi_block_sum<THREADS>((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(THREADS)
    finish_norm(int parts, const double *partial, float *losses) {
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < parts; i += THREADS)
        sum += partial[i];
    sum = npi_block_sum<THREADS>(sum);
    if (threadIdx.x == 0)
        losses[NPI_LOSS_GRAD_NORM] = (float)sqrt(sum);
}

static npos_status norm(npi_device *dev, size_t count, const float *grads, float *losses) {
    size_t wanted = (count / 4 + THREADS) / THREADS;
    int blocks = wanted < NORM_BLOCKS ? (int)wanted : NORM_BLOCKS;
    double *partial;
    NPI_TRY(npi_cuda_scratch(dev, (size_t)blocks * sizeof *partial, &partial));
    cudaStream_t stream = npi_cuda_stream(dev);
    sum_squares<<<blocks, THREADS, 0, stream>>>(count, until_aligned(grads, count), grads, partial);
    finish_norm<<<1, THREADS, 0, stream>>>(blocks, partial, losses);
    return npi_cuda_launched(dev, "gradient norm");
}

typedef struct sgd_rule {
    float momentum, decay, clip_norm; /* clip_norm 0: off */
    bool nesterov, head;
} sgd_rule;

/* g = clip dw + decay w;  v = momentum v + g;  w -= lr (nesterov ? g + momentum v : v) */
static __device__ __forceinline__ void update(const sgd_rule &rule, float rate, float clip,
                                              float *w, float dw, float *v) {
    float g = fmaf(rule.decay, *w, clip * dw);
    *v = fmaf(rule.momentum, *v, g);
    *w = fmaf(-rate, rule.nesterov ? fmaf(rule.momentum, *v, g) : *v, *w);
}

/* Four weights a thread from `lead` on; the floats before and behind them one a thread. */
static __global__ void __launch_bounds__(THREADS)
    sgd_update(sgd_rule rule, size_t count, size_t lead, float *weights, const float *grads,
               float *velocity, const npi_step *step, const float *losses) {
    float rate = rule.head ? step->head_lr : step->lr, clip = 1.0f;
    if (rule.clip_norm > 0.0f && losses[NPI_LOSS_GRAD_NORM] > rule.clip_norm)
        clip = rule.clip_norm / losses[NPI_LOSS_GRAD_NORM];
    size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
    size_t quads = (count - lead) / 4, tail = lead + 4 * quads;
    if (i < quads) {
        size_t at = lead + 4 * i;
        float4 w = *(const float4 *)(weights + at), v = *(const float4 *)(velocity + at);
        float4 dw = *(const float4 *)(grads + at);
        update(rule, rate, clip, &w.x, dw.x, &v.x);
        update(rule, rate, clip, &w.y, dw.y, &v.y);
        update(rule, rate, clip, &w.z, dw.z, &v.z);
        update(rule, rate, clip, &w.w, dw.w, &v.w);
        *(float4 *)(weights + at) = w;
        *(float4 *)(velocity + at) = v;
    }
    if (i < lead)
        update(rule, rate, clip, weights + i, grads[i], velocity + i);
    if (i < count - tail)
        update(rule, rate, clip, weights + tail + i, grads[tail + i], velocity + tail + i);
}

static npos_status sgd(npi_device *dev, const npi_sgd_desc *desc, size_t count, float *weights,
                       const float *grads, float *velocity, const npi_step *step, bool head,
                       const float *losses) {
    if (desc->clip_norm > 0.0f && !losses)
        return npi_fail(NPOS_INVALID_ARGUMENT, "sgd: clip_norm is %g, but no norm was given",
                        (double)desc->clip_norm);
    if (count == 0)
        return NPOS_OK;
    /* arrays that are not aligned alike have no quads in common: all is "lead", a float a thread */
    size_t lead = until_aligned(weights, count);
    if (until_aligned(grads, count) != lead || until_aligned(velocity, count) != lead)
        lead = count;
    size_t quads = (count - lead) / 4;
    size_t threads = quads > lead ? quads : lead;
    if (threads < 3) /* the tail */
        threads = 3;
    sgd_rule rule = {desc->momentum, desc->weight_decay, desc->clip_norm, desc->nesterov, head};
    sgd_update<<<(unsigned)((threads + THREADS - 1) / THREADS), THREADS, 0, npi_cuda_stream(dev)>>>(
        rule, count, lead, weights, grads, velocity, step, losses);
    return npi_cuda_launched(dev, "sgd");
}

const npi_optim_ops npi_cuda_optim = {.norm = norm, .sgd = sgd};
