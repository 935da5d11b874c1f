/* Backward of cuda_attention90.cu: two kernels that make the scores again, one summing by query, one by key, so that
 * nothing is added atomically.
 *
 * As there, one block a multiprocessor goes through heads; a warp feeds two warpgroups, which take 64 rows at a time and
 * turns with the matrix units.  The 208 others of a tile come as FIRST, SECOND and SECOND, because the scores and their
 * gradients are in registers together. */
#include "devices/cuda/cuda_attention90.cuh"

namespace {

enum {
    HEAD = NPI_ATTENTION_FAST,
    PARTS = 4, /* q, k, v, da */
    STAGE = PARTS * NPI_PART,
    STAGES = 2,
    TILES = 2, /* of a head: a warpgroup's */
    FIRST = 80,
    SECOND = 64,
    WARPS = NPI_TAKERS / 32,
    PRODUCER = WARPS, /* the warp that feeds the others, first of a warpgroup */
    THREADS = NPI_TAKERS + 128,
    ALIGN = 1024,
    SUMS = 2 * WARPS * HEAD * 4,  /* what a warp keeps of a head's columns */
    ROWS = NPI_ROWS_MOST * 2 * 4, /* lse log2(e) and delta of a head's queries */
    BYTES = ALIGN + STAGES * (STAGE + ROWS) + SUMS + 2 * STAGES * 8
};
static_assert(FIRST + 2 * SECOND == NPI_ROWS_MOST && BYTES <= 227 * 1024,
              "a block's shared memory");

/* Shared memory; heads one after another, and where in it the present one is. */
struct place {
    uint32_t base, full, empty, stage, parity;
    float2 *rows; /* [STAGES][NPI_ROWS_MOST] */
    float *sums;  /* the warp's [2][HEAD] */

    __device__ __forceinline__ uint32_t part(int which) const {
        return base + stage * STAGE + (uint32_t)which * NPI_PART;
    }
    __device__ __forceinline__ float2 *head_rows(void) const {
        return rows + stage * NPI_ROWS_MOST;
    }
    __device__ __forceinline__ void next(void) {
        stage = (stage + 1) % STAGES;
        parity ^= stage == 0;
    }
};

#ifdef NPI_SM90A

__device__ __forceinline__ place make_place(uint8_t *raw) {
    place at = {};
    at.base = (npi_shared(raw) + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
    uint8_t *const behind = raw + (at.base - npi_shared(raw)) + STAGES * STAGE;
    at.rows = (float2 *)behind;
    at.sums = (float *)(behind + STAGES * ROWS) + npi_warp() % WARPS * 2 * HEAD;
    at.full = at.base + STAGES * (STAGE + ROWS) + SUMS;
    at.empty = at.full + STAGES * 8;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            npi_barrier_init(at.full + i * 8, 33);
            npi_barrier_init(at.empty + i * 8, WARPS);
        }
        npi_barrier_init_done();
    }
    __syncthreads();
    return at;
}

/* The feeding warp: parts by the copy engine, with `rows` also what is known of the queries. */
__device__ __forceinline__ void feed(place at, const CUtensorMap *qkv, const CUtensorMap *da,
                                     const npi_attention &p, bool rows) {
    const int lane = (int)threadIdx.x % 32;
    for (int u = (int)blockIdx.x; u < p.n * p.heads; u += (int)gridDim.x) {
        const uint32_t full = at.full + at.stage * 8;
        npi_barrier_wait(at.empty + at.stage * 8, at.parity ^ 1);
        if (lane == 0) {
            npi_barrier_expect(full, STAGE);
            for (int part = 0; part < 3; part++)
                npi_box_load(at.part(part), qkv, (part * p.heads + u % p.heads) * HEAD, 0,
                             u / p.heads, 0, full);
            npi_box_load(at.part(3), da, u % p.heads * HEAD, 0, u / p.heads, 0, full);
        }
        for (int r = lane; rows && r < NPI_ROWS_MOST;
             r += 32) /* no weight for rows that there are not */
            at.head_rows()[r] = r < p.t ? make_float2(p.lse[(int64_t)u * p.t + r] * NPI_LOG2E,
                                                      p.delta[(int64_t)u * p.t + r])
                                        : make_float2(INFINITY, 0.0f);
        npi_barrier_arrive(full);
        at.next();
    }
}

/* s and d = a tile's scores and their shares' gradients: of `rows` with N rows of `others` from `from` on, by parts. */
template <typename T, int N>
__device__ __forceinline__ void multiply(float (&s)[N / 2], float (&d)[N / 2], const place &at,
                                         int first, int from, const int (&rows)[2],
                                         const int (&others)[2], int warpgroup) {
    const uint64_t a = npi_part_at(at.part(rows[0]), first),
                   b = npi_part_at(at.part(others[0]), from),
                   e = npi_part_at(at.part(rows[1]), first),
                   f = npi_part_at(at.part(others[1]), from);
    npi_take_turn(warpgroup);
    npi_wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; i++)
        npi_score(s, a + i * 2, b + i * 2, i > 0, T());
#pragma unroll
    for (int i = 0; i < 4; i++)
        npi_score(d, e + i * 2, f + i * 2, i > 0, T());
    npi_wgmma_commit();
    npi_give_turn(warpgroup);
    npi_wgmma_wait<0>();
    npi_settle(s);
    npi_settle(d);
}

/* The warp's sums of a tile's columns, times `factor`: kept of the first tile, with it written of the second. */
__device__ __forceinline__ void sum_columns(const npi_attention &p, const place &at, int which,
                                            const float (&s)[HEAD / 2], float factor, int tile,
                                            int first, int unit, int part) {
    const int lane = (int)threadIdx.x % 32, row = first + npi_tile_row();
    float *const kept = at.sums + which * HEAD;
    float *const to =
        p.sums +
        ((((int64_t)(unit / p.heads) * WARPS + npi_warp()) * 3 + part) * p.heads + unit % p.heads) *
            HEAD;
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float sum =
                (row < p.t ? s[4 * j + e] : 0.0f) + (row + 8 < p.t ? s[4 * j + 2 + e] : 0.0f);
#pragma unroll
            for (int offset = 4; offset < 32; offset *= 2)
                sum += __shfl_xor_sync(0xffffffffu, sum, offset);
            const int column = 8 * j + 2 * lane + e;
            if (lane >= 4)
                continue;
            if (tile == 0)
                kept[column] = sum;
            else
                to[column] = factor * (kept[column] + sum);
        }
}

/* The second product's turn.  Nobody waits for the very last one. */
__device__ __forceinline__ void give_turn(int warpgroup, bool last) {
    if (!last || warpgroup == 0)
        npi_give_turn(warpgroup);
}

#endif

/* dk and dv: tiles of keys, the others are queries. */
template <typename T>
__global__ void __launch_bounds__(THREADS, 1)
    keys_kernel(const __grid_constant__ CUtensorMap qkv, const __grid_constant__ CUtensorMap da,
                npi_attention p) {
#ifdef NPI_SM90A
    extern __shared__ uint8_t raw[];
    place at = make_place(raw);
    const int warp = npi_warp(), warpgroup = warp / 4, lane = (int)threadIdx.x % 32;
    const int units = p.n * p.heads;
    if (warp >= PRODUCER) {
        npi_registers_fewer<40>();
        if (warp == PRODUCER)
            feed(at, &qkv, &da, p, true);
        return;
    }
    npi_registers_more<232>();
    if (warpgroup == 1)
        npi_give_turn(warpgroup); /* the first one is the other's */
    float dk[HEAD / 2], dv[HEAD / 2];
    const auto others = [&]<int N>(int first, int from, bool last) __attribute__((always_inline)) {
        float s[N / 2], d[N / 2];
        uint32_t shares[N / 16][4], slopes[N / 16][4];
        multiply<T, N>(s, d, at, first, from, {1, 2}, {0, 3}, warpgroup);
        const float4 *const of_query = (const float4 *)(at.head_rows() + from) + lane % 4;
#pragma unroll
        for (int j = 0; j < N / 8; j++) {
            const float4 two = of_query[4 * j]; /* of two queries: lse log2(e), delta */
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const float share =
                    npi_two_to(fmaf(s[4 * j + e], NPI_SCALE * NPI_LOG2E, -(e % 2 ? two.z : two.x)));
                s[4 * j + e] = share;
                d[4 * j + e] = share * (d[4 * j + e] - (e % 2 ? two.w : two.y));
            }
        }
        npi_pack<T, N>(s, shares);
        npi_pack<T, N>(d, slopes);
        const uint64_t g = npi_part_at(at.part(3), from), q = npi_part_at(at.part(0), from);
        npi_take_turn(warpgroup);
        npi_wgmma_fence();
#pragma unroll
        for (int k = 0; k < N / 16; k++)
            npi_add_rows(dv, shares[k], g + k * NPI_SIXTEEN, from > 0 || k > 0, T());
#pragma unroll
        for (int k = 0; k < N / 16; k++)
            npi_add_rows(dk, slopes[k], q + k * NPI_SIXTEEN, from > 0 || k > 0, T());
        npi_wgmma_commit();
        give_turn(warpgroup, last);
        npi_wgmma_wait<0>();
    };
#pragma unroll 1
    for (int u = (int)blockIdx.x; u < units; u += (int)gridDim.x) {
        npi_barrier_wait(at.full + at.stage * 8, at.parity);
#pragma unroll 1
        for (int tile = 0; tile < TILES; tile++) {
            const int first = (warpgroup + 2 * tile) * NPI_TILE;
            const bool last = tile == TILES - 1 && u + (int)gridDim.x >= units;
            others.template operator()<FIRST>(first, 0, false);
            others.template operator()<SECOND>(first, FIRST, false);
            others.template operator()<SECOND>(first, FIRST + SECOND, last);
            npi_settle(dk);
            npi_settle(dv);
            const float scale[2] = {NPI_SCALE, NPI_SCALE}, one[2] = {1.0f, 1.0f};
            const int64_t step = (int64_t)3 * p.heads * HEAD;
            npi_store_tile(dk, scale, npi_part_of<T>(p, p.dqkv, u, 1), step, first, p.t);
            npi_store_tile(dv, one, npi_part_of<T>(p, p.dqkv, u, 2), step, first, p.t);
            sum_columns(p, at, 0, dk, NPI_SCALE, tile, first, u, 1);
            sum_columns(p, at, 1, dv, 1.0f, tile, first, u, 2);
        }
        __syncwarp();
        if (lane == 0)
            npi_barrier_arrive(at.empty + at.stage * 8);
        at.next();
    }
#endif
}

/* delta and dq: tiles of queries, the others are keys. */
template <typename T>
__global__ void __launch_bounds__(THREADS, 1)
    queries_kernel(const __grid_constant__ CUtensorMap qkv, const __grid_constant__ CUtensorMap da,
                   npi_attention p) {
#ifdef NPI_SM90A
    extern __shared__ uint8_t raw[];
    place at = make_place(raw);
    const int warp = npi_warp(), warpgroup = warp / 4, lane = (int)threadIdx.x % 32;
    const int units = p.n * p.heads;
    if (warp >= PRODUCER) {
        npi_registers_fewer<40>();
        if (warp == PRODUCER)
            feed(at, &qkv, &da, p, false);
        return;
    }
    npi_registers_more<232>();
    if (warpgroup == 1)
        npi_give_turn(warpgroup); /* the first one is the other's */
    float dq[HEAD / 2], lse[2], delta[2];
    const auto others = [&]<int N>(int first, int from, bool last) __attribute__((always_inline)) {
        float s[N / 2], d[N / 2];
        uint32_t slopes[N / 16][4];
        multiply<T, N>(s, d, at, first, from, {0, 3}, {1, 2}, warpgroup);
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const float share = npi_two_to(fmaf(s[i], NPI_SCALE * NPI_LOG2E, -lse[i / 2 % 2]));
            d[i] = share * (d[i] - delta[i / 2 % 2]);
            if (from + i / 4 * 8 + 7 >= NPI_ROWS_LEAST && /* a key that there is not */
                from + i / 4 * 8 + 2 * (lane % 4) + i % 2 >= p.t)
                d[i] = 0.0f;
        }
        npi_pack<T, N>(d, slopes);
        const uint64_t k = npi_part_at(at.part(1), from);
        npi_take_turn(warpgroup);
        npi_wgmma_fence();
#pragma unroll
        for (int i = 0; i < N / 16; i++)
            npi_add_rows(dq, slopes[i], k + i * NPI_SIXTEEN, from > 0 || i > 0, T());
        npi_wgmma_commit();
        give_turn(warpgroup, last);
        npi_wgmma_wait<0>();
    };
#pragma unroll 1
    for (int u = (int)blockIdx.x; u < units; u += (int)gridDim.x) {
        npi_barrier_wait(at.full + at.stage * 8, at.parity);
#pragma unroll 1
        for (int tile = 0; tile < TILES; tile++) {
            const int first = (warpgroup + 2 * tile) * NPI_TILE, row = first + npi_tile_row();
            const bool last = tile == TILES - 1 && u + (int)gridDim.x >= units;
            const T *const a = npi_asked_at<T>(p, p.a, u), *const g = npi_asked_at<T>(p, p.da, u);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int r = min(row + 8 * half, p.t - 1);
                const int64_t from = (int64_t)r * p.heads * HEAD + 2 * (lane % 4);
                float sum = 0.0f;
#pragma unroll
                for (int j = 0; j < 8; j++)
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        sum += (float)a[from + 8 * j + e] * (float)g[from + 8 * j + e];
                delta[half] = npi_row_sum(sum);
                lse[half] = p.lse[(int64_t)u * p.t + r] * NPI_LOG2E;
                if (lane % 4 == 0 && row + 8 * half < p.t)
                    p.delta[(int64_t)u * p.t + r] = delta[half];
            }
            others.template operator()<FIRST>(first, 0, false);
            others.template operator()<SECOND>(first, FIRST, false);
            others.template operator()<SECOND>(first, FIRST + SECOND, last);
            npi_settle(dq);
            const float scale[2] = {NPI_SCALE, NPI_SCALE};
            npi_store_tile(dq, scale, npi_part_of<T>(p, p.dqkv, u, 0), (int64_t)3 * p.heads * HEAD,
                           first, p.t);
            sum_columns(p, at, 0, dq, NPI_SCALE, tile, first, u, 0);
        }
        __syncwarp();
        if (lane == 0)
            npi_barrier_arrive(at.empty + at.stage * 8);
        at.next();
    }
#endif
}

} // namespace

template <typename T>
npos_status npi_attention90_backward(npi_device *dev, const npi_attention *p) {
    const int blocks = min(p->n * p->heads, npi_cuda_of(dev)->multiprocessors);
    cudaStream_t stream = npi_cuda_stream(dev);
    CUtensorMap qkv, da;
    NPI_TRY(npi_attention90_map<T>(&qkv, p, p->qkv, 3));
    NPI_TRY(npi_attention90_map<T>(&da, p, p->da, 1));
    for (const auto kernel : {queries_kernel<T>, keys_kernel<T>}) {
        CUDA_TRY("attention",
                 cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES));
        kernel<<<blocks, THREADS, BYTES, stream>>>(qkv, da, *p);
    }
    return npi_cuda_launched(dev, "attention");
}

template npos_status npi_attention90_backward<__nv_bfloat16>(npi_device *, const npi_attention *);
