/* Attention in 16 bits on tensor units, heads of 64.
 *
 * A block takes a sequence's head.  Each of its warps sums for 16 rows, held in registers, over all others, which lie in
 * shared memory, up to STAGE at a time: 208, so that the 197 rows of an image of 14 x 14 patches are read once.  Backward
 * takes two kernels that make the scores again, one summing by query, one by key, so that nothing is added atomically. */
#include "devices/cuda/cuda_attention_mma.cuh"

namespace {

enum {
    HEAD = NPI_ATTENTION_FAST,
    STEP = HEAD + 8, /* of rows in shared memory: ldmatrix meets all banks */
    STAGE = 208,
    WARPS = 7, /* 13 tiles of 16 rows in two rounds */
    THREADS = WARPS * 32,
    ROUNDS = 2,
    KEYS = 64, /* that forward's softmax takes at once */
    SIDE = 2
};

/* What is common to a block's work. */
struct work {
    int64_t sequence, width;
    int head, first; /* the group's first tile */
    bool causal;
};

#ifdef NPI_HAS_MMA

__device__ __forceinline__ work my_work(const npi_attention &p) {
    return {blockIdx.x / p.heads, (int64_t)p.heads * HEAD, (int)(blockIdx.x % p.heads),
            (int)blockIdx.y * ROUNDS * WARPS, p.causal};
}

/* Row r of part 0, 1, 2 (q, k, v) of the block's head. */
template <typename T>
__device__ __forceinline__ int64_t part_at(const npi_attention &p, const work &w, int64_t r,
                                           int part) {
    return ((w.sequence * p.t + r) * 3 + part) * w.width + w.head * HEAD;
}

__device__ __forceinline__ int64_t asked_at(const npi_attention &p, const work &w, int64_t r) {
    return (w.sequence * p.t + r) * w.width + w.head * HEAD;
}

/* Rows first .. of `from`, `step` apart, as many as a stage holds, up to the next multiple of 16 as zeros. */
template <typename T>
__device__ __forceinline__ void load_stage(uint32_t to, const T *from, int64_t step, int first,
                                           int t) {
    const int rows = min(STAGE, (t - first + 15) & ~15);
    for (int i = (int)threadIdx.x; i < rows * 8; i += THREADS) {
        const int r = i / 8, chunk = i % 8, row = min(first + r, t - 1);
        mma_copy16(to + (uint32_t)(r * STEP + chunk * 8) * 2, from + row * step + chunk * 8,
                   first + r < t);
    }
}

/* 16 rows from `first` on, `step` apart, rows past t as zeros: factors a of four products along the head. */
template <typename T>
__device__ __forceinline__ void load_rows(const T *from, int64_t step, int first, int t,
                                          uint32_t (&a)[4][4]) {
    const int lane = (int)threadIdx.x % 32, column = 2 * (lane % 4);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = first + lane / 4 + 8 * half;
        const T *at = from + (int64_t)min(row, t - 1) * step + column;
#pragma unroll
        for (int k = 0; k < 4; k++)
#pragma unroll
            for (int side = 0; side < 2; side++)
                a[k][2 * side + half] = row < t ? *(const uint32_t *)(at + 16 * k + 8 * side) : 0u;
    }
}

/* c[2] = a times 16 rows of shared memory, transposed: 16 x 16 scores. */
template <typename T>
__device__ __forceinline__ void scores(float (&c)[2][4], const uint32_t (&a)[4][4], uint32_t rows) {
    const uint32_t lane = threadIdx.x % 32, matrix = lane / 8;
    const uint32_t at = rows + ((matrix / 2 * 8 + lane % 8) * STEP + matrix % 2 * 8) * 2;
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            c[i][e] = 0.0f;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint32_t b[4];
        mma_load(at + k * 32, b);
        mma(c[0], a[k], b[0], b[1], T());
        mma(c[1], a[k], b[2], b[3], T());
    }
}

/* sum (16 x 64) += weights (16 x 16, as scores gives them) times 16 rows of shared memory. */
template <typename T>
__device__ __forceinline__ void add_rows(float (&sum)[8][4], const float (&weight)[2][4],
                                         uint32_t rows) {
    const uint32_t lane = threadIdx.x % 32, matrix = lane / 8;
    const uint32_t at = rows + ((matrix % 2 * 8 + lane % 8) * STEP + matrix / 2 * 8) * 2;
    const uint32_t a[4] = {
        npi_pair(weight[0][0], weight[0][1], T()), npi_pair(weight[0][2], weight[0][3], T()),
        npi_pair(weight[1][0], weight[1][1], T()), npi_pair(weight[1][2], weight[1][3], T())};
#pragma unroll
    for (int j = 0; j < 4; j++) {
        uint32_t b[4];
        mma_load_transposed(at + j * 32, b);
        mma(sum[2 * j], a, b[0], b[1], T());
        mma(sum[2 * j + 1], a, b[2], b[3], T());
    }
}

/* 16 rows of sums times a factor of each row's half, to rows of `to`. */
template <typename T>
__device__ __forceinline__ void store_rows(const float (&sum)[8][4], const float (&factor)[2],
                                           T *to, int64_t step, int first, int t) {
    const int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = first + lane / 4 + 8 * half;
        if (row < t)
#pragma unroll
            for (int j = 0; j < 8; j++)
                *(uint32_t *)(to + row * step + 8 * j + 2 * (lane % 4)) = npi_pair(
                    sum[j][2 * half] * factor[half], sum[j][2 * half + 1] * factor[half], T());
    }
}

/* Row and column, within 16 x 16 scores, of element e of part i. */
__device__ __forceinline__ int score_row(int e) {
    return (int)(threadIdx.x % 32) / 4 + (e / 2) * 8;
}
__device__ __forceinline__ int score_column(int i, int e) {
    return 8 * i + 2 * ((int)threadIdx.x % 4) + e % 2;
}

/* The running softmax of 16 rows, by the row's half: sum of 2^(log2(e) score / 8 - base), that times values.
 * base: the largest exponent some keys ago; sum: this lane's columns alone. */
struct running {
    float base[2], sum[2], out[8][4];
};

/* Exponents may exceed their base by this: 2^AHEAD is far below float16's largest number. */
constexpr float AHEAD = 8.0f;

/* Raises the bases to `largest` (exponents) where one of the warp's rows is too far ahead of its own. */
__device__ __forceinline__ void rebase(running &o, const float (&largest)[2]) {
    const bool ahead = largest[0] > o.base[0] + AHEAD || largest[1] > o.base[1] + AHEAD;
    if (!__any_sync(0xffffffffu, ahead))
        return;
    float kept[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float base = fmaxf(o.base[half], largest[half]);
        kept[half] = mma_two_to(o.base[half] - base);
        o.base[half] = base;
        o.sum[half] *= kept[half];
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            o.out[j][e] *= kept[e / 2];
}

/* Goes on over KEYS keys from `first` on, of which `blocks` sixteens are in shared memory. */
template <typename T>
__device__ __forceinline__ void attend(running &o, const uint32_t (&q)[4][4], uint32_t keys,
                                       uint32_t values, int blocks, int first, int tile, int t,
                                       bool causal) {
    float s[KEYS / 16][2][4], largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int b = 0; b < KEYS / 16; b++)
        if (b < blocks)
            scores<T>(s[b], q, keys + b * 16 * STEP * 2);
    if (blocks < KEYS / 16 || first + KEYS > t || (causal && first + KEYS > tile * 16 + 1)) {
#pragma unroll
        for (int b = 0; b < KEYS / 16; b++) /* not all are seen */
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const int column = first + 16 * b + score_column(i, e);
                    if (b >= blocks || column >= t || (causal && column > tile * 16 + score_row(e)))
                        s[b][i][e] = -INFINITY;
                }
    }
#pragma unroll
    for (int b = 0; b < KEYS / 16; b++)
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                largest[e / 2] = fmaxf(largest[e / 2], s[b][i][e]);
#pragma unroll
    for (int half = 0; half < 2; half++)
        largest[half] = mma_row_max(largest[half]) * (MMA_SCALE * MMA_LOG2E);
    rebase(o, largest);
#pragma unroll
    for (int b = 0; b < KEYS / 16; b++) {
        if (b >= blocks)
            continue;
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                s[b][i][e] = mma_two_to(fmaf(s[b][i][e], MMA_SCALE * MMA_LOG2E, -o.base[e / 2]));
                o.sum[e / 2] += s[b][i][e];
            }
        add_rows<T>(o.out, s[b], values + b * 16 * STEP * 2);
    }
}

#endif

template <typename T>
__global__ void __launch_bounds__(THREADS, 2) forward_kernel(npi_attention p) {
#ifdef NPI_HAS_MMA
    extern __shared__ __align__(16) uint8_t raw[];
    const work w = my_work(p);
    const uint32_t keys = mma_shared(raw),
                   values = keys + (uint32_t)min(STAGE, (p.t + 15) & ~15) * STEP * 2;
    const T *qkv = (const T *)p.qkv;
    const int tiles = (p.t + 15) / 16, warp = (int)threadIdx.x / 32;
    const int64_t step = 3 * w.width;
    for (int round = 0; round < ROUNDS && w.first + round * WARPS < tiles; round++) {
        const int tile = w.first + round * WARPS + warp;
        uint32_t q[4][4];
        running o = {{-INFINITY, -INFINITY}, {}, {}};
        if (tile < tiles)
            load_rows(qkv + part_at<T>(p, w, 0, 0), step, tile * 16, p.t, q);
        for (int first = 0; first < p.t; first += STAGE) {
            if (round == 0 || p.t > STAGE) {
                __syncthreads();
                load_stage(keys, qkv + part_at<T>(p, w, 0, 1), step, first, p.t);
                load_stage(values, qkv + part_at<T>(p, w, 0, 2), step, first, p.t);
                mma_copied();
                __syncthreads();
            }
            if (tile >= tiles)
                continue;
            const int end = min(min(first + STAGE, p.t), w.causal ? tile * 16 + 16 : p.t);
            for (int base = first; base < end; base += KEYS) {
                const uint32_t at = (uint32_t)(base - first) * STEP * 2;
                attend<T>(o, q, keys + at, values + at, min(KEYS / 16, (end - base + 15) / 16),
                          base, tile, p.t, w.causal);
            }
        }
        if (tile >= tiles)
            continue;
        float factor[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float total = mma_row_sum(o.sum[half]);
            const int row = tile * 16 + score_row(2 * half);
            factor[half] = 1.0f / total;
            if (p.lse && threadIdx.x % 4 == 0 && row < p.t)
                p.lse[(w.sequence * p.heads + w.head) * p.t + row] =
                    o.base[half] / MMA_LOG2E + logf(total);
        }
        store_rows(o.out, factor, (T *)p.a + asked_at(p, w, 0), w.width, tile * 16, p.t);
    }
#endif
}

#ifdef NPI_HAS_MMA

/* Zeros for 16 keys' gradients of scores, from key `first` on, that there are not or that the rows from `row` on do not
 * see. */
__device__ __forceinline__ void hide(float (&d)[2][4], int first, int t, int row) {
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const int column = first + score_column(i, e);
            if (column >= t || column > row + score_row(e))
                d[i][e] = 0.0f;
        }
}

#endif

/* delta and dq: as the forward kernel, SIDE sixteens of keys side by side. */
template <typename T>
__global__ void __launch_bounds__(THREADS, 2) queries_kernel(npi_attention p) {
#ifdef NPI_HAS_MMA
    extern __shared__ __align__(16) uint8_t raw[];
    const work w = my_work(p);
    const uint32_t keys = mma_shared(raw),
                   values = keys + (uint32_t)min(STAGE, (p.t + 15) & ~15) * STEP * 2;
    const T *qkv = (const T *)p.qkv;
    const int tiles = (p.t + 15) / 16, warp = (int)threadIdx.x / 32;
    const int64_t step = 3 * w.width, rows_at = (w.sequence * p.heads + w.head) * p.t;
    for (int round = 0; round < ROUNDS && w.first + round * WARPS < tiles; round++) {
        const int tile = w.first + round * WARPS + warp;
        uint32_t q[4][4], g[4][4];
        float lse[2], delta[2] = {}, sum[8][4] = {};
        if (tile < tiles) {
            load_rows((const T *)p.a + asked_at(p, w, 0), w.width, tile * 16, p.t, q);
            load_rows((const T *)p.da + asked_at(p, w, 0), w.width, tile * 16, p.t, g);
#pragma unroll
            for (int k = 0; k < 4; k++)
#pragma unroll
                for (int e = 0; e < 4; e++) {
                    const float2 a = npi_two(q[k][e], T()), b = npi_two(g[k][e], T());
                    delta[e % 2] += a.x * b.x + a.y * b.y;
                }
            load_rows(qkv + part_at<T>(p, w, 0, 0), step, tile * 16, p.t, q);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = tile * 16 + score_row(2 * half);
            delta[half] = mma_row_sum(delta[half]);
            lse[half] = row < p.t ? p.lse[rows_at + row] * MMA_LOG2E : 0.0f;
            if (threadIdx.x % 4 == 0 && row < p.t)
                p.delta[rows_at + row] = delta[half];
        }
        for (int first = 0; first < p.t; first += STAGE) {
            if (round == 0 || p.t > STAGE) {
                __syncthreads();
                load_stage(keys, qkv + part_at<T>(p, w, 0, 1), step, first, p.t);
                load_stage(values, qkv + part_at<T>(p, w, 0, 2), step, first, p.t);
                mma_copied();
                __syncthreads();
            }
            if (tile >= tiles)
                continue;
            const int end = min(min(first + STAGE, p.t), w.causal ? tile * 16 + 16 : p.t);
            for (int base = first; base < end; base += 16 * SIDE) {
                const uint32_t at = (uint32_t)(base - first) * STEP * 2;
                const int blocks = min(SIDE, (end - base + 15) / 16);
                float s[SIDE][2][4], d[SIDE][2][4];
#pragma unroll
                for (int b = 0; b < SIDE; b++)
                    if (b < blocks) {
                        scores<T>(s[b], q, keys + at + b * 16 * STEP * 2);
                        scores<T>(d[b], g, values + at + b * 16 * STEP * 2);
                    }
#pragma unroll
                for (int b = 0; b < SIDE; b++) {
                    if (b >= blocks)
                        continue;
#pragma unroll
                    for (int i = 0; i < 2; i++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            d[b][i][e] =
                                mma_two_to(fmaf(s[b][i][e], MMA_SCALE * MMA_LOG2E, -lse[e / 2])) *
                                (d[b][i][e] - delta[e / 2]);
                    const int column = base + 16 * b;
                    if (column + 16 > p.t || (w.causal && column + 15 > tile * 16))
                        hide(d[b], column, p.t, w.causal ? tile * 16 : INT32_MAX / 2);
                    add_rows<T>(sum, d[b], keys + at + b * 16 * STEP * 2);
                }
            }
        }
        const float factor[2] = {MMA_SCALE, MMA_SCALE};
        if (tile >= tiles)
            continue;
        store_rows(sum, factor, (T *)p.dqkv + part_at<T>(p, w, 0, 0), step, tile * 16, p.t);
    }
#endif
}

/* dk and dv: scores have keys for rows, queries for columns. */
template <typename T> __global__ void __launch_bounds__(THREADS, 2) keys_kernel(npi_attention p) {
#ifdef NPI_HAS_MMA
    extern __shared__ __align__(16) uint8_t raw[];
    __shared__ float2 of_query[STAGE]; /* lse log2(e), delta */
    const work w = my_work(p);
    const uint32_t queries = mma_shared(raw),
                   gradients = queries + (uint32_t)min(STAGE, (p.t + 15) & ~15) * STEP * 2;
    const T *qkv = (const T *)p.qkv;
    const int tiles = (p.t + 15) / 16, warp = (int)threadIdx.x / 32;
    const int64_t step = 3 * w.width, rows_at = (w.sequence * p.heads + w.head) * p.t;
    for (int round = 0; round < ROUNDS && w.first + round * WARPS < tiles; round++) {
        const int tile = w.first + round * WARPS + warp;
        uint32_t k[4][4], v[4][4];
        float dk[8][4] = {}, dv[8][4] = {};
        if (tile < tiles) {
            load_rows(qkv + part_at<T>(p, w, 0, 1), step, tile * 16, p.t, k);
            load_rows(qkv + part_at<T>(p, w, 0, 2), step, tile * 16, p.t, v);
        }
        for (int first = 0; first < p.t; first += STAGE) {
            if (round == 0 || p.t > STAGE) {
                __syncthreads();
                load_stage(queries, qkv + part_at<T>(p, w, 0, 0), step, first, p.t);
                load_stage(gradients, (const T *)p.da + asked_at(p, w, 0), w.width, first, p.t);
                for (int r = (int)threadIdx.x; r < STAGE; r += THREADS)
                    of_query[r] = first + r < p.t
                                      ? make_float2(p.lse[rows_at + first + r] * MMA_LOG2E,
                                                    p.delta[rows_at + first + r])
                                      : make_float2(INFINITY, 0.0f);
                mma_copied();
                __syncthreads();
            }
            if (tile >= tiles)
                continue;
            const int end = min(first + STAGE, p.t);
            for (int base = first; base < end; base += 16) {
                if (w.causal && base < tile * 16) /* rows before these keys do not see them */
                    continue;
                const uint32_t at = (uint32_t)(base - first) * STEP * 2;
                float s[2][4], d[2][4];
                scores<T>(s, k, queries + at);
                scores<T>(d, v, gradients + at);
#pragma unroll
                for (int i = 0; i < 2; i++)
#pragma unroll
                    for (int e = 0; e < 4; e++) {
                        const int column = score_column(i, e);
                        const float2 query = of_query[base - first + column];
                        const bool hidden = w.causal && tile * 16 + score_row(e) > base + column;
                        s[i][e] = mma_two_to(
                            hidden ? -INFINITY : fmaf(s[i][e], MMA_SCALE * MMA_LOG2E, -query.x));
                        d[i][e] = s[i][e] * (d[i][e] - query.y);
                    }
                add_rows<T>(dv, s, gradients + at);
                add_rows<T>(dk, d, queries + at);
            }
        }
        const float scale[2] = {MMA_SCALE, MMA_SCALE}, one[2] = {1.0f, 1.0f};
        if (tile >= tiles)
            continue;
        store_rows(dk, scale, (T *)p.dqkv + part_at<T>(p, w, 0, 1), step, tile * 16, p.t);
        store_rows(dv, one, (T *)p.dqkv + part_at<T>(p, w, 0, 2), step, tile * 16, p.t);
    }
#endif
}

/* One block a sequence's head and group of ROUNDS * WARPS tiles; two arrays of a stage. */
npos_status launch(npi_device *dev, const npi_attention *p, void (*kernel)(npi_attention)) {
    const int tiles = npi_ceil_div(p->t, 16), rows = 16 * tiles < STAGE ? 16 * tiles : STAGE;
    const int bytes = 2 * rows * STEP * 2;
    const dim3 grid((unsigned)((int64_t)p->n * p->heads),
                    (unsigned)npi_ceil_div(tiles, ROUNDS * WARPS));
    CUDA_TRY("attention",
             cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    kernel<<<grid, THREADS, (size_t)bytes, npi_cuda_stream(dev)>>>(*p);
    return npi_cuda_launched(dev, "attention");
}

} // namespace

template <typename T>
npos_status npi_attention_mma_forward(npi_device *dev, const npi_attention *p) {
    return launch(dev, p, forward_kernel<T>);
}

template <typename T>
npos_status npi_attention_mma_backward(npi_device *dev, const npi_attention *p) {
    NPI_TRY(launch(dev, p, queries_kernel<T>));
    return launch(dev, p, keys_kernel<T>);
}

template npos_status npi_attention_mma_forward<__half>(npi_device *, const npi_attention *);
template npos_status npi_attention_mma_forward<__nv_bfloat16>(npi_device *, const npi_attention *);
template npos_status npi_attention_mma_backward<__nv_bfloat16>(npi_device *, const npi_attention *);
