/* Attention by plain arithmetic, for any head up to NPI_ATTENTION_HEAD and any type: a warp to each row that is summed for;
 * what it is summed over goes through shared memory, 32 rows at a time, one to a lane. */
#include "devices/cuda/cuda_attention.cuh"

enum { WARPS = 8, THREADS = WARPS * 32, PER_LANE = NPI_ATTENTION_HEAD / 32 };

/* Where a block works: a sequence's head, WARPS rows of it. */
struct place {
    int64_t sequence;
    int head, row; /* row: this warp's */
};

static __device__ __forceinline__ place my_place(const npi_attention &p, int rows) {
    const int tiles = (rows + WARPS - 1) / WARPS, tile = (int)(blockIdx.x % tiles);
    const int64_t pair = blockIdx.x / tiles;
    return {pair / p.heads, (int)(pair % p.heads), tile * WARPS + (int)threadIdx.x / 32};
}

/* Part 0, 1, 2 (q, k, v) of row r. */
template <typename T>
static __device__ __forceinline__ int64_t part_at(const npi_attention &p, const place &at, int r,
                                                  int part) {
    const int64_t width = (int64_t)p.heads * p.head;
    return ((at.sequence * p.t + r) * 3 + part) * width + (int64_t)at.head * p.head;
}

static __device__ __forceinline__ int64_t asked_at(const npi_attention &p, const place &at, int r) {
    return ((at.sequence * p.rows + r) * p.heads + at.head) * p.head;
}

/* 32 rows of `head` numbers from `first` on, `step` apart, rows past `rows` as zeros. */
template <typename T>
static __device__ __forceinline__ void load_tile(const T *from, int64_t step, int first, int rows,
                                                 int head, float *to) {
    for (int i = (int)threadIdx.x; i < 32 * head; i += THREADS) {
        const int r = i / head, j = i % head;
        to[r * (head + 1) + j] = first + r < rows ? npi_load(from + (first + r) * step + j) : 0.0f;
    }
}

static __device__ __forceinline__ float dot(int head, const float *a, const float *b) {
    float sum = 0.0f;
    for (int j = 0; j < head; j++)
        sum = fmaf(a[j], b[j], sum);
    return sum;
}

/* sum[] += the sum over lanes s of weight_s times row s of the tile; lane l has numbers l, l + 32, .. */
static __device__ __forceinline__ void add_rows(int head, int lane, float weight, const float *tile,
                                                float (&sum)[PER_LANE]) {
    for (int s = 0; s < 32; s++) {
        const float w = __shfl_sync(0xffffffffu, weight, s);
#pragma unroll
        for (int k = 0; k < PER_LANE; k++)
            if (lane + 32 * k < head)
                sum[k] = fmaf(w, tile[s * (head + 1) + lane + 32 * k], sum[k]);
    }
}

template <typename T>
static __global__ void __launch_bounds__(THREADS) forward_kernel(npi_attention p) {
    extern __shared__ float shared[];
    const int head = p.head, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float *keys = shared, *values = keys + 32 * (head + 1), *q = values + 32 * (head + 1);
    const place at = my_place(p, p.rows);
    const T *qkv = (const T *)p.qkv;
    const int64_t step = 3 * (int64_t)p.heads * head;
    const float scale = 1.0f / sqrtf((float)head);
    const bool works = at.row < p.rows;
    q += warp * head;
    for (int j = lane; j < head; j += 32)
        q[j] = works ? npi_load(qkv + part_at<T>(p, at, at.row, 0) + j) : 0.0f;
    float largest = -INFINITY, total = 0.0f, sum[PER_LANE] = {};
    for (int first = 0; first < p.t; first += 32) {
        __syncthreads();
        load_tile(qkv + part_at<T>(p, at, 0, 1), step, first, p.t, head, keys);
        load_tile(qkv + part_at<T>(p, at, 0, 2), step, first, p.t, head, values);
        __syncthreads();
        const int s = first + lane;
        const bool seen = works && s < p.t && (!p.causal || s <= at.row);
        if (!__any_sync(0xffffffffu, seen))
            continue;
        const float score = seen ? scale * dot(head, q, keys + lane * (head + 1)) : -INFINITY;
        const float now = fmaxf(largest, npi_warp_max(score));
        const float kept = expf(largest - now), share = seen ? expf(score - now) : 0.0f;
        total = total * kept + npi_warp_sum(share);
        largest = now;
#pragma unroll
        for (int k = 0; k < PER_LANE; k++)
            sum[k] *= kept;
        add_rows(head, lane, share, values, sum);
    }
    if (!works)
        return;
    T *a = (T *)p.a + asked_at(p, at, at.row);
#pragma unroll
    for (int k = 0; k < PER_LANE; k++)
        if (lane + 32 * k < head)
            npi_store(a + lane + 32 * k, sum[k] / total);
    if (p.lse && lane == 0)
        p.lse[(at.sequence * p.heads + at.head) * p.rows + at.row] = largest + logf(total);
}

/* delta and dq of the rows that ask */
template <typename T>
static __global__ void __launch_bounds__(THREADS) queries_kernel(npi_attention p) {
    extern __shared__ float shared[];
    const int head = p.head, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float *keys = shared, *values = keys + 32 * (head + 1), *q = values + 32 * (head + 1);
    float *g = q + WARPS * head;
    const place at = my_place(p, p.rows);
    const T *qkv = (const T *)p.qkv;
    const int64_t step = 3 * (int64_t)p.heads * head, mine = asked_at(p, at, at.row),
                  place_of_row = (at.sequence * p.heads + at.head) * p.rows + at.row;
    const float scale = 1.0f / sqrtf((float)head);
    const bool works = at.row < p.rows;
    float delta = 0.0f, sum[PER_LANE] = {};
    q += warp * head;
    g += warp * head;
    for (int j = lane; j < head; j += 32) {
        q[j] = works ? npi_load(qkv + part_at<T>(p, at, at.row, 0) + j) : 0.0f;
        g[j] = works ? npi_load((const T *)p.da + mine + j) : 0.0f;
        delta += works ? g[j] * npi_load((const T *)p.a + mine + j) : 0.0f;
    }
    delta = npi_warp_sum(delta);
    const float lse = works ? p.lse[place_of_row] : 0.0f;
    if (works && lane == 0)
        p.delta[place_of_row] = delta;
    for (int first = 0; first < p.t; first += 32) {
        __syncthreads();
        load_tile(qkv + part_at<T>(p, at, 0, 1), step, first, p.t, head, keys);
        load_tile(qkv + part_at<T>(p, at, 0, 2), step, first, p.t, head, values);
        __syncthreads();
        const int s = first + lane;
        const bool seen = works && s < p.t && (!p.causal || s <= at.row);
        if (!__any_sync(0xffffffffu, seen))
            continue;
        const float *key = keys + lane * (head + 1), *value = values + lane * (head + 1);
        const float share = seen ? expf(scale * dot(head, q, key) - lse) : 0.0f;
        const float c = seen ? scale * share * (dot(head, g, value) - delta) : 0.0f;
        add_rows(head, lane, c, keys, sum);
    }
    if (!works)
        return;
    T *dq = (T *)p.dqkv + part_at<T>(p, at, at.row, 0);
#pragma unroll
    for (int k = 0; k < PER_LANE; k++)
        if (lane + 32 * k < head)
            npi_store(dq + lane + 32 * k, sum[k]);
}

/* dk and dv of all rows */
template <typename T>
static __global__ void __launch_bounds__(THREADS) keys_kernel(npi_attention p) {
    extern __shared__ float shared[];
    const int head = p.head, lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    float *queries = shared, *gradients = queries + 32 * (head + 1);
    float *key = gradients + 32 * (head + 1), *value = key + WARPS * head;
    const place at = my_place(p, p.t);
    const T *qkv = (const T *)p.qkv;
    const int64_t width = (int64_t)p.heads * head,
                  rows_at = (at.sequence * p.heads + at.head) * p.rows;
    const float scale = 1.0f / sqrtf((float)head);
    const bool works = at.row < p.t;
    float of_key[PER_LANE] = {}, of_value[PER_LANE] = {};
    key += warp * head;
    value += warp * head;
    for (int j = lane; j < head; j += 32) {
        key[j] = works ? npi_load(qkv + part_at<T>(p, at, at.row, 1) + j) : 0.0f;
        value[j] = works ? npi_load(qkv + part_at<T>(p, at, at.row, 2) + j) : 0.0f;
    }
    for (int first = 0; first < p.rows; first += 32) {
        __syncthreads();
        load_tile(qkv + part_at<T>(p, at, 0, 0), 3 * width, first, p.rows, head, queries);
        load_tile((const T *)p.da + asked_at(p, at, 0), width, first, p.rows, head, gradients);
        __syncthreads();
        const int r = first + lane;
        const bool seen = works && r < p.rows && (!p.causal || at.row <= r);
        if (!__any_sync(0xffffffffu, seen))
            continue;
        const float *q = queries + lane * (head + 1), *g = gradients + lane * (head + 1);
        const float share = seen ? expf(scale * dot(head, key, q) - p.lse[rows_at + r]) : 0.0f;
        const float c = seen ? scale * share * (dot(head, value, g) - p.delta[rows_at + r]) : 0.0f;
        add_rows(head, lane, share, gradients, of_value);
        add_rows(head, lane, c, queries, of_key);
    }
    if (!works)
        return;
    T *dk = (T *)p.dqkv + part_at<T>(p, at, at.row, 1), *dv = dk + width;
#pragma unroll
    for (int k = 0; k < PER_LANE; k++)
        if (lane + 32 * k < head) {
            npi_store(dk + lane + 32 * k, of_key[k]);
            npi_store(dv + lane + 32 * k, of_value[k]);
        }
}

static unsigned blocks_for(const npi_attention *p, int rows) {
    return (unsigned)((int64_t)p->n * p->heads * npi_ceil_div(rows, WARPS));
}

static size_t shared_bytes(const npi_attention *p, int own) {
    return ((size_t)2 * 32 * (size_t)(p->head + 1) + (size_t)own * WARPS * (size_t)p->head) *
           sizeof(float);
}

template <typename T> npos_status npi_attention_forward(npi_device *dev, const npi_attention *p) {
    if (p->head == NPI_ATTENTION_FAST && p->rows == 1)
        return npi_attention_first_forward<T>(dev, p);
    if constexpr (!std::is_same_v<T, float>) {
        if (npi_attention90_serves(dev, p))
            return npi_attention90_forward<T>(dev, p);
        if (p->head == NPI_ATTENTION_FAST)
            return npi_attention_mma_forward<T>(dev, p);
    }
    forward_kernel<T>
        <<<blocks_for(p, p->rows), THREADS, shared_bytes(p, 1), npi_cuda_stream(dev)>>>(*p);
    return npi_cuda_launched(dev, "attention");
}

template <typename T> npos_status npi_attention_backward(npi_device *dev, const npi_attention *p) {
    if (p->head == NPI_ATTENTION_FAST && p->rows == 1)
        return npi_attention_first_backward<T>(dev, p);
    if constexpr (!std::is_same_v<T, float>)
        if (p->head == NPI_ATTENTION_FAST)
            return npi_attention_mma_backward<T>(dev, p);
    cudaStream_t stream = npi_cuda_stream(dev);
    queries_kernel<T><<<blocks_for(p, p->rows), THREADS, shared_bytes(p, 2), stream>>>(*p);
    keys_kernel<T><<<blocks_for(p, p->t), THREADS, shared_bytes(p, 2), stream>>>(*p);
    return npi_cuda_launched(dev, "attention backward");
}

template npos_status npi_attention_forward<float>(npi_device *, const npi_attention *);
template npos_status npi_attention_forward<__half>(npi_device *, const npi_attention *);
template npos_status npi_attention_forward<__nv_bfloat16>(npi_device *, const npi_attention *);
template npos_status npi_attention_backward<float>(npi_device *, const npi_attention *);
template npos_status npi_attention_backward<__nv_bfloat16>(npi_device *, const npi_attention *);
