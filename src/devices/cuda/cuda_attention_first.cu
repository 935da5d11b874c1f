/* Attention of row 0 alone, heads of 64: a block to each sequence's head; eight lanes hold a row of keys or values, eight
 * numbers each, so that both are read once, and whole lines at a time. */
#include "devices/cuda/cuda_attention.cuh"

enum { HEAD = NPI_ATTENTION_FAST, THREADS = 128, GROUPS = THREADS / 8 };

/* The sum over the eight lanes of a group, in all of them. */
static __device__ __forceinline__ float group_sum(float value) {
#pragma unroll
    for (int offset = 4; offset > 0; offset >>= 1)
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

static __device__ __forceinline__ float dot(const npi_float8 &a, const npi_float8 &b) {
    float sum = 0.0f;
#pragma unroll
    for (int e = 0; e < 8; e++)
        sum = fmaf(a.v[e], b.v[e], sum);
    return sum;
}

/* to[64] = the groups' sums, added in order. */
template <typename T>
static __device__ __forceinline__ void add_groups(float (*shared)[HEAD], const npi_float8 &mine,
                                                  float factor, T *to) {
    const int group = (int)threadIdx.x / 8, part = (int)threadIdx.x % 8;
#pragma unroll
    for (int e = 0; e < 8; e++)
        shared[group][part * 8 + e] = mine.v[e];
    __syncthreads();
    if (threadIdx.x >= HEAD)
        return;
    float sum = 0.0f;
    for (int i = 0; i < GROUPS; i++)
        sum += shared[i][threadIdx.x];
    npi_store(to + threadIdx.x, sum * factor);
}

template <typename T>
static __global__ void __launch_bounds__(THREADS) forward_kernel(npi_attention p) {
    extern __shared__ float scores[];
    __shared__ float shared[GROUPS][HEAD];
    const int group = (int)threadIdx.x / 8, part = (int)threadIdx.x % 8, lane = threadIdx.x % 32;
    const int seen = p.causal ? 1 : p.t;
    const int64_t width = (int64_t)p.heads * HEAD, sequence = blockIdx.x / p.heads,
                  head = blockIdx.x % p.heads;
    const T *q = (const T *)p.qkv + sequence * p.t * 3 * width + head * HEAD + part * 8;
    const npi_float8 mine = npi_load8(q);
    for (int first = 0; first < seen; first += GROUPS) { /* the same for all lanes of a warp */
        const int s = first + group;
        const npi_float8 key = npi_load8(q + width + (int64_t)min(s, seen - 1) * 3 * width);
        const float score = group_sum(dot(mine, key)) * 0.125f; /* 1 / sqrt(64) */
        if (part == 0 && s < seen)
            scores[s] = score;
    }
    __syncthreads();
    float largest = -INFINITY, total = 0.0f;
    for (int s = lane; s < seen; s += 32)
        largest = fmaxf(largest, scores[s]);
    largest = npi_warp_max(largest);
    for (int s = lane; s < seen; s += 32)
        total += expf(scores[s] - largest);
    total = npi_warp_sum(total);
    npi_float8 sum = {};
#pragma unroll 4
    for (int s = group; s < seen; s += GROUPS) {
        const npi_float8 value = npi_load8(q + 2 * width + (int64_t)s * 3 * width);
        const float share = expf(scores[s] - largest);
#pragma unroll
        for (int e = 0; e < 8; e++)
            sum.v[e] = fmaf(share, value.v[e], sum.v[e]);
    }
    add_groups(shared, sum, 1.0f / total, (T *)p.a + (int64_t)blockIdx.x * HEAD);
    if (p.lse && threadIdx.x == 0)
        p.lse[blockIdx.x] = largest + logf(total);
}

template <typename T>
static __global__ void __launch_bounds__(THREADS) backward_kernel(npi_attention p) {
    __shared__ float shared[GROUPS][HEAD];
    const int group = (int)threadIdx.x / 8, part = (int)threadIdx.x % 8;
    const int64_t width = (int64_t)p.heads * HEAD, sequence = blockIdx.x / p.heads,
                  head = blockIdx.x % p.heads,
                  at = sequence * p.t * 3 * width + head * HEAD + part * 8,
                  mine = (int64_t)blockIdx.x * HEAD + part * 8;
    const T *qkv = (const T *)p.qkv + at;
    T *dqkv = (T *)p.dqkv + at;
    const npi_float8 q = npi_load8(qkv), g = npi_load8((const T *)p.da + mine);
    const float delta = group_sum(dot(g, npi_load8((const T *)p.a + mine)));
    const float lse = p.lse[blockIdx.x];
    npi_float8 dq = {};
    for (int first = 0; first < p.t; first += GROUPS) { /* the same for all lanes of a warp */
        const int s = first + group;
        const bool seen = s < p.t && (!p.causal || s == 0);
        const int64_t row = (int64_t)min(s, p.t - 1) * 3 * width;
        const npi_float8 key = npi_load8(qkv + width + row),
                         value = npi_load8(qkv + 2 * width + row);
        const float score = group_sum(dot(q, key)) * 0.125f, along = group_sum(dot(g, value));
        const float share = seen ? expf(score - lse) : 0.0f;
        const float c = share * (along - delta) * 0.125f;
        npi_float8 dk, dv;
#pragma unroll
        for (int e = 0; e < 8; e++) {
            dk.v[e] = c * q.v[e];
            dv.v[e] = share * g.v[e];
            dq.v[e] = fmaf(c, key.v[e], dq.v[e]);
        }
        if (s < p.t) {
            npi_store8(dqkv + width + row, dk);
            npi_store8(dqkv + 2 * width + row, dv);
        }
    }
    add_groups(shared, dq, 1.0f, dqkv - part * 8);
}

template <typename T>
npos_status npi_attention_first_forward(npi_device *dev, const npi_attention *p) {
    forward_kernel<T><<<(unsigned)((int64_t)p->n * p->heads), THREADS, (size_t)p->t * sizeof(float),
                        npi_cuda_stream(dev)>>>(*p);
    return npi_cuda_launched(dev, "attention of row 0");
}

template <typename T>
npos_status npi_attention_first_backward(npi_device *dev, const npi_attention *p) {
    backward_kernel<T>
        <<<(unsigned)((int64_t)p->n * p->heads), THREADS, 0, npi_cuda_stream(dev)>>>(*p);
    return npi_cuda_launched(dev, "attention of row 0, backward");
}

template npos_status npi_attention_first_forward<float>(npi_device *, const npi_attention *);
template npos_status npi_attention_first_forward<__half>(npi_device *, const npi_attention *);
template npos_status npi_attention_first_forward<__nv_bfloat16>(npi_device *,
                                                                const npi_attention *);
template npos_status npi_attention_first_backward<float>(npi_device *, const npi_attention *);
template npos_status npi_attention_first_backward<__nv_bfloat16>(npi_device *,
                                                                 const npi_attention *);
