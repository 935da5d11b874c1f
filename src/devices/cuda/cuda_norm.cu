/* Batch norm: two passes over a map forward (statistics, apply) and two backward (sums, apply), each at the speed of
 * memory. */
#include "devices/cuda/cuda_norm.cuh"

#include <cstring>

/* Order.  A map of the first layers is larger than the L2 cache, and whoever wrote it went from its first row to its last.
 * So the sums go from the last row to the first, and what follows from the first to the last again: each finds in the
 * cache what the one before it had last.
 *
 * ---- the grid of the sums ---- */

enum {
    SLAB = 64,         /* channels of a block of the sums */
    GROUPS = SLAB / 8, /* threads across them */
    LANES = 64,        /* rows at a time */
    THREADS = GROUPS * LANES,
    AHEAD = 4,                           /* loads in flight of one thread */
    FINISHERS = THREADS / (2 * SLAB / 4) /* threads that share one float4 of the last sum */
};

static constexpr float EPSILON = 1e-5f, RUNNING = 0.1f; /* of batch norm */

npos_status npi_norm_create(npi_device *dev, const char *name, int64_t rows, int c, bool training,
                            npi_norm *out) {
    const npi_memory_ops *memory = dev->memory;
    int cp = npi_cuda_padded(c), processors = npi_cuda_of(dev)->multiprocessors;
    size_t channels = (size_t)cp * sizeof(float);
    *out = npi_norm{};
    out->dev = dev;
    out->name = name;
    out->rows = rows;
    out->c = c;
    out->cp = cp;
    out->slabs = npi_ceil_div(cp, SLAB);
    int64_t most = npi_ceil_div(2 * processors, out->slabs), useful = npi_ceil_div(rows, LANES);
    out->chunks = (int)(useful < most ? useful : most);
    NPI_TRY(memory->alloc(dev, channels, name, &out->mean));
    NPI_TRY(memory->alloc(dev, channels, name, &out->inverse));
    if (!training)
        return NPOS_OK;
    size_t sums = (size_t)out->slabs * (size_t)out->chunks * 2 * SLAB;
    NPI_TRY(memory->alloc(dev, 3 * channels, name, &out->factor));
    NPI_TRY(memory->alloc(dev, sums * sizeof(float), name, &out->partial));
    return memory->alloc(dev, (size_t)out->slabs * sizeof(uint32_t), name, &out->arrived);
}

void npi_norm_free(npi_norm *norm) {
    if (!norm->dev)
        return;
    const npi_memory_ops *memory = norm->dev->memory;
    memory->free(norm->dev, norm->mean);
    memory->free(norm->dev, norm->inverse);
    memory->free(norm->dev, norm->factor);
    memory->free(norm->dev, norm->partial);
    memory->free(norm->dev, norm->arrived);
}

/* Two values for each of a thread's 8 channels. */
struct pair8 {
    float a[8], b[8];
};

/* total[2 SLAB], in shared memory: the sum over sums[blocks][2 SLAB].  A thread takes four neighbours of every
 * FINISHERS-th block.  Called by all threads of a block. */
static __device__ void add_blocks(const float *sums, int blocks, double *total) {
    __shared__ double ends[FINISHERS][2 * SLAB];
    const int four = threadIdx.x % (2 * SLAB / 4), share = threadIdx.x / (2 * SLAB / 4);
    double sum[4] = {};
#pragma unroll 8
    for (int i = share; i < blocks; i += FINISHERS) {
        const float4 v = __ldcg((const float4 *)(sums + (size_t)i * 2 * SLAB) + four);
        sum[0] += v.x, sum[1] += v.y, sum[2] += v.z, sum[3] += v.w;
    }
#pragma unroll
    for (int j = 0; j < 4; j++)
        ends[share][four * 4 + j] = sum[j];
    __syncthreads();
    if (threadIdx.x < 2 * SLAB) {
        double all = 0.0;
        for (int i = 0; i < FINISHERS; i++)
            all += ends[i][threadIdx.x];
        total[threadIdx.x] = all;
    }
    __syncthreads();
}

/* Sums a block's pairs over its lanes, writes them to `partial` and tells whether this block is the slab's last.  Then
 * total[0..64) and [64..128) are the slab's sums over all blocks. */
static __device__ bool slab_sums(pair8 mine, float *partial, uint32_t *arrived, double *total) {
    __shared__ float sums[LANES / 4][2 * SLAB + 8];
    __shared__ bool last;
    const int group = threadIdx.x % GROUPS, lane = threadIdx.x / GROUPS;
    /* a warp holds 4 lanes of rows: 8 threads apart */
#pragma unroll
    for (int j = 0; j < 8; j++) {
#pragma unroll
        for (int offset = GROUPS; offset < 32; offset *= 2) {
            mine.a[j] += __shfl_xor_sync(0xffffffffu, mine.a[j], offset);
            mine.b[j] += __shfl_xor_sync(0xffffffffu, mine.b[j], offset);
        }
    }
    if (lane % 4 == 0)
#pragma unroll
        for (int j = 0; j < 8; j++) {
            sums[lane / 4][group * 8 + j] = mine.a[j];
            sums[lane / 4][SLAB + group * 8 + j] = mine.b[j];
        }
    __syncthreads();
    float *slab = partial + (size_t)blockIdx.y * gridDim.x * 2 * SLAB;
    if (threadIdx.x < 2 * SLAB) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < LANES / 4; i++)
            sum += sums[i][threadIdx.x];
        slab[(size_t)blockIdx.x * 2 * SLAB + threadIdx.x] = sum;
        __threadfence();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(&arrived[blockIdx.y], 1) == gridDim.x - 1;
        if (last)
            arrived[blockIdx.y] = 0;
    }
    __syncthreads();
    if (!last)
        return false;
    __threadfence();
    add_blocks(slab, (int)gridDim.x, total);
    return true;
}

/* Where a thread's rows begin, from the last. */
static __device__ __forceinline__ int64_t first_row(int64_t rows) {
    return rows - 1 - (int64_t)blockIdx.x * LANES - threadIdx.x / GROUPS;
}

/* ---- forward ---- */

/* Mean, 1/sqrt(v + eps) and running statistics of one channel from its moments. */
struct moments_to {
    float *mean, *inverse, *running_mean, *running_var;
    int c; /* of real channels: those that pad have no running statistics */

    __device__ void take(int at, double rows, double m, double variance) const {
        variance = variance < 0.0 ? 0.0 : variance;
        mean[at] = (float)m;
        inverse[at] = (float)(1.0 / sqrt(variance + (double)EPSILON));
        if (at >= c)
            return;
        double unbiased = rows > 1.0 ? variance * (rows / (rows - 1.0)) : 0.0;
        running_mean[at] += RUNNING * (float)(m - (double)running_mean[at]);
        running_var[at] += RUNNING * (float)(unbiased - (double)running_var[at]);
    }
};

static moments_to moments_of(const npi_norm *n, const npi_unit_params *params) {
    return {n->mean, n->inverse, params->running_mean, params->running_var, n->c};
}

/* Sums are of x - x[0]: where the mean is far from 0, squares would lose what the variance is made of. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    stats_kernel(const T *x, int64_t rows, int cp, float *partial, uint32_t *arrived,
                 moments_to to) {
    __shared__ double total[2 * SLAB];
    const int channel = blockIdx.y * SLAB + threadIdx.x % GROUPS * 8;
    pair8 mine = {};
    const int64_t stride = (int64_t)gridDim.x * LANES;
    if (channel < cp) {
        const npi_float8 pivot = npi_load8(x + channel);
        for (int64_t row = first_row(rows); row >= 0; row -= stride * AHEAD) {
            npi_float8 v[AHEAD];
#pragma unroll
            for (int u = 0; u < AHEAD; u++)
                if (row >= u * stride)
                    v[u] = npi_load8(x + (row - u * stride) * cp + channel);
#pragma unroll
            for (int u = 0; u < AHEAD; u++)
                if (row >= u * stride)
#pragma unroll
                    for (int j = 0; j < 8; j++) {
                        float d = v[u].v[j] - pivot.v[j];
                        mine.a[j] += d;
                        mine.b[j] += d * d;
                    }
        }
    }
    if (!slab_sums(mine, partial, arrived, total) || threadIdx.x >= SLAB)
        return;
    const int at = blockIdx.y * SLAB + threadIdx.x;
    if (at >= cp)
        return;
    const double count = (double)rows, off = total[threadIdx.x] / count;
    to.take(at, count, (double)npi_load(x + at) + off,
            total[SLAB + threadIdx.x] / count - off * off);
}

template <typename T>
static void launch_stats(npi_norm *n, const void *c, const npi_unit_params *params) {
    stats_kernel<T>
        <<<dim3((unsigned)n->chunks, (unsigned)n->slabs), THREADS, 0, npi_cuda_stream(n->dev)>>>(
            (const T *)c, n->rows, n->cp, n->partial, n->arrived, moments_of(n, params));
}

npos_status npi_norm_stats(npi_norm *norm, const void *c, const npi_unit_params *params) {
    NPI_BY_TYPE(norm->dev, launch_stats, norm, c, params);
    return npi_cuda_launched(norm->dev, norm->name);
}

static __global__ void __launch_bounds__(THREADS)
    from_sums_kernel(const float *sums, int blocks, int64_t rows, moments_to to) {
    __shared__ double total[2 * SLAB];
    add_blocks(sums, blocks, total);
    const double count = (double)rows, m = total[threadIdx.x % SLAB] / count;
    if (threadIdx.x < SLAB)
        to.take(threadIdx.x, count, m, total[SLAB + threadIdx.x] / count - m * m);
}

npos_status npi_norm_from_sums(npi_norm *norm, const float *sums, int blocks,
                               const npi_unit_params *params) {
    from_sums_kernel<<<1, THREADS, 0, npi_cuda_stream(norm->dev)>>>(sums, blocks, norm->rows,
                                                                    moments_of(norm, params));
    return npi_cuda_launched(norm->dev, norm->name);
}

static __global__ void running_kernel(int c, int cp, const float *running_mean,
                                      const float *running_var, float *mean, float *inverse) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= cp)
        return;
    mean[at] = at < c ? running_mean[at] : 0.0f;
    inverse[at] = at < c ? (float)(1.0 / sqrt((double)running_var[at] + (double)EPSILON)) : 0.0f;
}

npos_status npi_norm_running(npi_norm *norm, const npi_unit_params *params) {
    running_kernel<<<npi_ceil_div(norm->cp, 128), 128, 0, npi_cuda_stream(norm->dev)>>>(
        norm->c, norm->cp, params->running_mean, params->running_var, norm->mean, norm->inverse);
    return npi_cuda_launched(norm->dev, norm->name);
}

/* ---- maps, 8 channels a thread: a thread's channels stay the same from one stride to the next ---- */

static constexpr unsigned MAP_THREADS = 256;

/* Threads of a block: a multiple of the groups of 8 channels, or a divisor of them. */
static unsigned map_threads(const npi_norm *n) {
    unsigned groups = (unsigned)n->cp / 8;
    return groups >= MAP_THREADS || MAP_THREADS % groups == 0 ? MAP_THREADS
                                                              : MAP_THREADS / groups * groups;
}

/* Blocks: a stride of the grid is a multiple of the groups. */
static unsigned map_blocks(const npi_norm *n) {
    unsigned threads = map_threads(n), groups = (unsigned)n->cp / 8, unit = 1;
    while ((uint64_t)unit * threads % groups != 0)
        unit++;
    int64_t vectors = n->rows * (int64_t)groups,
            useful = (vectors + (int64_t)threads * AHEAD - 1) / ((int64_t)threads * AHEAD);
    int64_t most = 8 * (int64_t)npi_cuda_of(n->dev)->multiprocessors;
    int64_t blocks = useful < most ? useful : most;
    return (unsigned)((blocks + unit - 1) / unit) * unit;
}

/* u = (c - mean) scale + shift of 8 channels; where channels pad, 0. */
struct affine8 {
    float mean[8], scale[8], shift[8];
};

static __device__ affine8 affine_of(int channel, int c, const float *mean, const float *inverse,
                                    const float *gamma, const float *beta) {
    affine8 out;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        bool real = channel + j < c;
        out.mean[j] = mean[channel + j];
        out.scale[j] = real ? inverse[channel + j] * gamma[channel + j] : 0.0f;
        out.shift[j] = real ? beta[channel + j] : 0.0f;
    }
    return out;
}

struct bn_pointers { /* of one batch norm */
    const float *mean, *inverse, *gamma, *beta;
};

enum residual_kind { NO_RESIDUAL, MAP_RESIDUAL, SHORTCUT_RESIDUAL };

template <typename T, int RESIDUAL>
static __global__ void __launch_bounds__(MAP_THREADS)
    apply_kernel(int64_t vectors, int c, int cp, const T *x, bn_pointers bn, const T *residual,
                 bn_pointers other, bool relu, T *y, uint8_t *passed) {
    const int groups = cp / 8;
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x,
                  stride = (int64_t)gridDim.x * blockDim.x;
    const int channel = (int)(first % groups) * 8;
    const affine8 f = affine_of(channel, c, bn.mean, bn.inverse, bn.gamma, bn.beta);
    affine8 g;
    if (RESIDUAL == SHORTCUT_RESIDUAL)
        g = affine_of(channel, c, other.mean, other.inverse, other.gamma, other.beta);
    constexpr int BATCH = RESIDUAL == NO_RESIDUAL ? AHEAD : AHEAD / 2;
    for (int64_t i = first; i < vectors; i += stride * BATCH) {
        npi_float8 v[BATCH], r[BATCH];
#pragma unroll
        for (int u = 0; u < BATCH; u++)
            if (i + u * stride < vectors) {
                v[u] = npi_load8(x + (i + u * stride) * 8);
                if (RESIDUAL != NO_RESIDUAL)
                    r[u] = npi_load8(residual + (i + u * stride) * 8);
            }
#pragma unroll
        for (int u = 0; u < BATCH; u++) {
            if (i + u * stride >= vectors)
                break;
            unsigned bits = 0;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float z = (v[u].v[j] - f.mean[j]) * f.scale[j] + f.shift[j];
                if (RESIDUAL == MAP_RESIDUAL)
                    z += r[u].v[j];
                if (RESIDUAL == SHORTCUT_RESIDUAL)
                    z += (r[u].v[j] - g.mean[j]) * g.scale[j] + g.shift[j];
                if (relu && !(z > 0.0f) && z == z)
                    z = 0.0f;
                bits |= (z > 0.0f ? 1u : 0u) << j;
                v[u].v[j] = z;
            }
            npi_store8(y + (i + u * stride) * 8, v[u]);
            if (passed)
                passed[i + u * stride] = (uint8_t)bits;
        }
    }
}

static bn_pointers pointers_of(const npi_norm *n, const npi_unit_params *p) {
    return {n->mean, n->inverse, p->gamma, p->beta};
}

template <typename T> static void launch_apply(npi_norm *n, const npi_norm_apply *a) {
    const int64_t vectors = n->rows * (n->cp / 8);
    const bn_pointers bn = pointers_of(n, a->params),
                      other = a->other ? pointers_of(a->other, a->other_params) : bn_pointers{};
    auto *kernel = a->other      ? apply_kernel<T, SHORTCUT_RESIDUAL>
                   : a->residual ? apply_kernel<T, MAP_RESIDUAL>
                                 : apply_kernel<T, NO_RESIDUAL>;
    kernel<<<map_blocks(n), map_threads(n), 0, npi_cuda_stream(n->dev)>>>(
        vectors, n->c, n->cp, (const T *)a->c, bn, (const T *)a->residual, other, a->relu,
        (T *)a->y, a->passed);
}

npos_status npi_norm_forward(npi_norm *norm, const npi_norm_apply *apply) {
    NPI_BY_TYPE(norm->dev, launch_apply, norm, apply);
    return npi_cuda_launched(norm->dev, norm->name);
}

/* ---- backward ---- */

static __device__ __forceinline__ float masked(float dy, unsigned bits, int j) {
    return bits >> j & 1 ? dy : 0.0f;
}

struct gradients_to {
    const float *inverse, *gamma;
    float *factor, *dgamma, *dbeta;
    int c, cp;

    /* Of one channel, from S1 and S2 below. */
    __device__ void take(int at, double rows, double s1, double s2) const {
        const double inv = inverse[at];
        factor[at] = at < c ? (float)(inv * (double)gamma[at]) : 0.0f;
        factor[cp + at] = (float)(s1 / rows);
        factor[2 * cp + at] = (float)(inv * inv * s2 / rows);
        if (at < c) {
            dgamma[at] = (float)(inv * s2);
            dbeta[at] = (float)s1;
        }
    }
};

/* With S1 = sum dz and S2 = sum dz (c - mean) over all rows:
 *   dc = gamma inverse (dz - S1 / rows - (c - mean) inverse^2 S2 / rows)
 * factor holds gamma inverse, S1 / rows and inverse^2 S2 / rows. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    backward_sums_kernel(const T *dy, const T *x, const uint8_t *passed, int64_t rows, int cp,
                         const float *mean, float *partial, uint32_t *arrived, gradients_to to) {
    __shared__ double total[2 * SLAB];
    const int channel = blockIdx.y * SLAB + threadIdx.x % GROUPS * 8;
    pair8 mine = {};
    const int64_t stride = (int64_t)gridDim.x * LANES;
    if (channel < cp) {
        float m[8];
#pragma unroll
        for (int j = 0; j < 8; j++)
            m[j] = mean[channel + j];
        constexpr int BATCH = AHEAD / 2;
        for (int64_t row = first_row(rows); row >= 0; row -= stride * BATCH) {
            npi_float8 d[BATCH], v[BATCH];
            unsigned bits[BATCH];
#pragma unroll
            for (int u = 0; u < BATCH; u++)
                if (row >= u * stride) {
                    int64_t at = (row - u * stride) * cp + channel;
                    d[u] = npi_load8(dy + at);
                    v[u] = npi_load8(x + at);
                    bits[u] = passed ? passed[at / 8] : 0xffu;
                }
#pragma unroll
            for (int u = 0; u < BATCH; u++)
                if (row >= u * stride)
#pragma unroll
                    for (int j = 0; j < 8; j++) {
                        float dz = masked(d[u].v[j], bits[u], j);
                        mine.a[j] += dz;
                        mine.b[j] += dz * (v[u].v[j] - m[j]);
                    }
        }
    }
    if (!slab_sums(mine, partial, arrived, total) || threadIdx.x >= SLAB)
        return;
    const int at = blockIdx.y * SLAB + threadIdx.x;
    if (at >= cp)
        return;
    to.take(at, (double)rows, total[threadIdx.x], total[SLAB + threadIdx.x]);
}

static __global__ void __launch_bounds__(THREADS)
    backward_from_sums_kernel(const float *sums, int blocks, int64_t rows, gradients_to to) {
    __shared__ double total[2 * SLAB];
    add_blocks(sums, blocks, total);
    if (threadIdx.x < SLAB)
        to.take(threadIdx.x, (double)rows, total[threadIdx.x], total[SLAB + threadIdx.x]);
}

/* The factors where mean and inverse are constants. */
static __global__ void constant_kernel(int c, int cp, const float *inverse, const float *gamma,
                                       float *factor) {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= cp)
        return;
    factor[at] = at < c ? inverse[at] * gamma[at] : 0.0f;
    factor[cp + at] = factor[2 * cp + at] = 0.0f;
}

template <typename T>
static __global__ void __launch_bounds__(MAP_THREADS)
    backward_apply_kernel(int64_t vectors, int cp, T *dy, const T *x, const uint8_t *passed,
                          const float *mean, const float *factor, T *dresidual) {
    const int groups = cp / 8;
    const int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x,
                  stride = (int64_t)gridDim.x * blockDim.x;
    const int channel = (int)(first % groups) * 8;
    float m[8], scale[8], f1[8], f2[8];
#pragma unroll
    for (int j = 0; j < 8; j++) {
        m[j] = mean[channel + j];
        scale[j] = factor[channel + j];
        f1[j] = factor[cp + channel + j];
        f2[j] = factor[2 * cp + channel + j];
    }
    constexpr int BATCH = AHEAD / 2;
    for (int64_t i = first; i < vectors; i += stride * BATCH) {
        npi_float8 d[BATCH], v[BATCH];
        unsigned bits[BATCH];
#pragma unroll
        for (int u = 0; u < BATCH; u++)
            if (i + u * stride < vectors) {
                d[u] = npi_load8(dy + (i + u * stride) * 8);
                v[u] = npi_load8(x + (i + u * stride) * 8);
                bits[u] = passed ? passed[i + u * stride] : 0xffu;
            }
#pragma unroll
        for (int u = 0; u < BATCH; u++) {
            if (i + u * stride >= vectors)
                break;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                float dz = masked(d[u].v[j], bits[u], j);
                d[u].v[j] = dz;
                v[u].v[j] = scale[j] * (dz - f1[j] - (v[u].v[j] - m[j]) * f2[j]);
            }
            npi_store8(dy + (i + u * stride) * 8, v[u]);
            if (dresidual)
                npi_store8(dresidual + (i + u * stride) * 8, d[u]);
        }
    }
}

template <typename T> static void launch_backward(npi_norm *n, const npi_norm_gradient *g) {
    cudaStream_t stream = npi_cuda_stream(n->dev);
    gradients_to to = {n->inverse, g->params->gamma, n->factor, NULL, NULL, n->c, n->cp};
    if (g->grads) {
        to.dgamma = g->grads->gamma;
        to.dbeta = g->grads->beta;
    }
    if (!g->grads)
        constant_kernel<<<npi_ceil_div(n->cp, 128), 128, 0, stream>>>(n->c, n->cp, n->inverse,
                                                                      g->params->gamma, n->factor);
    else if (g->sums)
        backward_from_sums_kernel<<<1, THREADS, 0, stream>>>(g->sums, g->blocks, n->rows, to);
    else
        backward_sums_kernel<T>
            <<<dim3((unsigned)n->chunks, (unsigned)n->slabs), THREADS, 0, stream>>>(
                (const T *)g->dy, (const T *)g->c, g->passed, n->rows, n->cp, n->mean, n->partial,
                n->arrived, to);
    backward_apply_kernel<T><<<map_blocks(n), map_threads(n), 0, stream>>>(
        n->rows * (n->cp / 8), n->cp, (T *)g->dy, (const T *)g->c, g->passed, n->mean, n->factor,
        (T *)g->dresidual);
}

npos_status npi_norm_backward(npi_norm *norm, const npi_norm_gradient *gradient) {
    NPI_BY_TYPE(norm->dev, launch_backward, norm, gradient);
    return npi_cuda_launched(norm->dev, norm->name);
}
