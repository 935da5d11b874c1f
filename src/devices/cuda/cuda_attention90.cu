/* Attention in 16 bits on Hopper's matrix units (sm_90a), heads of 64, sequences of LEAST to MOST rows: those of a
 * ViT-B/16 at 224 x 224 have 197.
 *
 * One block a multiprocessor goes through heads of sequences.  Another warp has the copy engine bring q, k and v of a
 * head, each as MOST rows, ahead of the warpgroups, which take 64 queries at a time: all scores of a query are in
 * registers at once (64 x MOST sums), so softmax needs no running maxima, and what it leaves is, packed in pairs, the
 * first factor of the product with v.  The warpgroups take turns with the matrix units: while one takes exponentials the
 * other multiplies its weights by v and its next queries by k.
 *
 * Backward stays with cuda_attention_mma.cu: the same way, two kernels in turns, took 1.12 (by query) and 1.16 ms (by key) for
 * 800 images in bf16 on an H200, those of cuda_attention_mma.cu 0.77 and 1.12.
 *
 * A warpgroup makes a tile of 64 rows; its thread t holds of row 16 (t / 32) + (t % 32) / 4, and of 8 rows below, the columns
 * 8j + 2 (t % 4) + {0, 1}: s[4j], s[4j + 1], and s[4j + 2], s[4j + 3]. */
#include <type_traits>

#include "devices/cuda/cuda_attention_mma.cuh"
#include "devices/cuda/cuda_box.cuh"
#include "devices/cuda/cuda_sm90.cuh"

namespace {

enum {
    HEAD = NPI_ATTENTION_FAST,
    LEAST = 193, /* rows of a sequence: four tiles */
    MOST = 208,
    TILE = 64,
    SCORES = MOST / 2,            /* of a tile, a thread's */
    PART = MOST * HEAD * 2,       /* bytes of a head's q, k or v, swizzled */
    SIXTEEN = 16 * HEAD * 2 / 16, /* what moves an operand by 16 rows of a part */
    STAGE = 3 * PART,
    STAGES = 2,
    WARPGROUPS = 2,
    TILES = 2,                 /* of a head: a warpgroup's */
    PRODUCER = WARPGROUPS * 4, /* the warp that feeds the others, first of a warpgroup */
    THREADS = PRODUCER * 32 + 128,
    ALIGN = 1024,
    BYTES = ALIGN + STAGES * STAGE + 2 * STAGES * 8
};

#ifdef NPI_SM90A

/* s (64 x MOST; + s where `add`) = 16 of the head of 64 rows times the same of others, transposed. */
#define MULTIPLY(TYPE)                                                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %106, 0;\n"                                     \
                 "wgmma.mma_async.sync.aligned.m64n208k16.f32." TYPE "." TYPE " {"                 \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "                              \
                 "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "                    \
                 "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "                    \
                 "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                    \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "                    \
                 "%60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, "                    \
                 "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, "                    \
                 "%84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                    \
                 "%96, %97, %98, %99, %100, %101, %102, %103"                                      \
                 "}, "                                                                             \
                 "%104, %105, p, 1, 1, 0, 0;\n}\n"                                                 \
                 : NPI_ACC8(s, 0), NPI_ACC8(s, 8), NPI_ACC8(s, 16), NPI_ACC8(s, 24),               \
                   NPI_ACC8(s, 32), NPI_ACC8(s, 40), NPI_ACC8(s, 48), NPI_ACC8(s, 56),             \
                   NPI_ACC8(s, 64), NPI_ACC8(s, 72), NPI_ACC8(s, 80), NPI_ACC8(s, 88),             \
                   NPI_ACC8(s, 96)                                                                 \
                 : "l"(a), "l"(b), "r"((int)add))
__device__ __forceinline__ void score(float (&s)[104], uint64_t a, uint64_t b, bool add, __half) {
    MULTIPLY("f16");
}
__device__ __forceinline__ void score(float (&s)[104], uint64_t a, uint64_t b, bool add,
                                      __nv_bfloat16) {
    MULTIPLY("bf16");
}
#undef MULTIPLY
/* s (64 x 64; + s where `add`) = weights of 16 rows, as pairs, times these rows. */
#define MULTIPLY(TYPE)                                                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                      \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {"                  \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "                              \
                 "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "                    \
                 "%24, %25, %26, %27, %28, %29, %30, %31"                                          \
                 "}, "                                                                             \
                 "{%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}\n"                                     \
                 : NPI_ACC8(s, 0), NPI_ACC8(s, 8), NPI_ACC8(s, 16), NPI_ACC8(s, 24)                \
                 : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "l"(b), "r"((int)add))
__device__ __forceinline__ void add_rows(float (&s)[32], const uint32_t (&w)[4], uint64_t b,
                                         bool add, __half) {
    MULTIPLY("f16");
}
__device__ __forceinline__ void add_rows(float (&s)[32], const uint32_t (&w)[4], uint64_t b,
                                         bool add, __nv_bfloat16) {
    MULTIPLY("bf16");
}
#undef MULTIPLY

/* The matrix units are the warpgroup's (0 or 1) from take_turn to give_turn, then the other's. */
__device__ __forceinline__ void take_turn(int warpgroup) {
    npi_named_barrier(1 + warpgroup, PRODUCER * 32);
}
__device__ __forceinline__ void give_turn(int warpgroup) {
    npi_named_arrive(2 - warpgroup, PRODUCER * 32);
}

/* What the products above are told of a part from its row `row` on, a multiple of 8. */
__device__ __forceinline__ uint64_t part_at(uint32_t part, int row) {
    return npi_operand(part + (uint32_t)row * NPI_ATTENTION_FAST * 2, 16, 1024, 1);
}

/* w = COLUMNS columns of sums as first factors. */
template <typename T, int COLUMNS>
__device__ __forceinline__ void pack(const float (&s)[COLUMNS / 2],
                                     uint32_t (&w)[COLUMNS / 16][4]) {
#pragma unroll
    for (int k = 0; k < COLUMNS / 16; k++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            w[k][e] = npi_pair(s[8 * k + 2 * e], s[8 * k + 2 * e + 1], T());
}

/* The thread's rows of a tile: this and 8 further. */
__device__ __forceinline__ int tile_row(void) {
    return (int)threadIdx.x % 128 / 32 * 16 + (int)threadIdx.x % 32 / 4;
}

/* A tile's sums, times a factor of each row's half, to rows first .. of `to`, `step` elements apart, up to row t. */
template <typename T>
__device__ __forceinline__ void store_tile(const float (&s)[32], const float (&factor)[2], T *to,
                                           int64_t step, int first, int t) {
    const int row = first + tile_row();
    T *const at = to + row * step + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        if (row < t)
            *(uint32_t *)(at + 8 * j) =
                npi_pair(s[4 * j] * factor[0], s[4 * j + 1] * factor[0], T());
        if (row + 8 < t)
            *(uint32_t *)(at + 8 * step + 8 * j) =
                npi_pair(s[4 * j + 2] * factor[1], s[4 * j + 3] * factor[1], T());
    }
}

/* The scores' softmax but for the division: of a thread's two rows, lse and one over the sum. */
__device__ __forceinline__ void soften(float (&s)[SCORES], int t, float (&lse)[2],
                                       float (&factor)[2]) {
    const int column = 2 * ((int)threadIdx.x % 4);
#pragma unroll
    for (int i = (LEAST - 1) / 8 * 4; i < SCORES; i++) /* keys that there are not */
        if (i / 4 * 8 + column + i % 2 >= t)
            s[i] = -INFINITY;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = -INFINITY, sum = 0.0f;
#pragma unroll
        for (int i = 2 * half; i < SCORES; i += 4)
            most = fmaxf(most, fmaxf(s[i], s[i + 1]));
        most = mma_row_max(most) * (MMA_SCALE * MMA_LOG2E);
#pragma unroll
        for (int i = 2 * half; i < SCORES; i += 4) {
            s[i] = mma_two_to(fmaf(s[i], MMA_SCALE * MMA_LOG2E, -most));
            s[i + 1] = mma_two_to(fmaf(s[i + 1], MMA_SCALE * MMA_LOG2E, -most));
            sum += s[i] + s[i + 1];
        }
        sum = mma_row_sum(sum);
        lse[half] = most / MMA_LOG2E + logf(sum);
        factor[half] = 1.0f / sum;
    }
}

#endif

/* map: qkv as [n][t][3 x width]. */
template <typename T>
__global__ void __launch_bounds__(THREADS, 1)
    forward_kernel(const __grid_constant__ CUtensorMap map, npi_attention p) {
#ifdef NPI_SM90A
    extern __shared__ uint8_t raw[];
    const uint32_t base = (npi_shared(raw) + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
    const uint32_t full = base + STAGES * STAGE, empty = full + STAGES * 8;
    const int warp = npi_warp(), lane = (int)threadIdx.x % 32;
    const int units = p.n * p.heads;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            npi_barrier_init(full + i * 8, 1);
            npi_barrier_init(empty + i * 8, PRODUCER);
        }
        npi_barrier_init_done();
    }
    __syncthreads();
    uint32_t stage = 0, parity = 0;
    if (warp >= PRODUCER) {
        npi_registers_fewer<40>();
        const bool feeds = warp == PRODUCER && lane == 0;
        for (int u = (int)blockIdx.x; feeds && u < units; u += (int)gridDim.x) {
            npi_barrier_wait(empty + stage * 8, parity ^ 1);
            npi_barrier_expect(full + stage * 8, STAGE);
            for (int part = 0; part < 3; part++)
                npi_box_load(base + stage * STAGE + part * PART, &map,
                             (part * p.heads + u % p.heads) * HEAD, 0, u / p.heads, 0,
                             full + stage * 8);
            stage = (stage + 1) % STAGES;
            parity ^= stage == 0;
        }
        return;
    }
    npi_registers_more<232>();
    const int warpgroup = warp / 4, heads = (units - (int)blockIdx.x - 1) / (int)gridDim.x + 1;
    float s[SCORES], o[HEAD / 2], lse[2], factor[2];
    uint32_t w[MOST / 16][4];
    /* Rows of q past MOST are k: nothing is made of them. */
    const auto multiply_keys = [&](uint32_t at, int tile) {
        const uint64_t q = part_at(at, (warpgroup + tile * WARPGROUPS) * TILE),
                       k = part_at(at + PART, 0);
#pragma unroll
        for (int i = 0; i < 4; i++)
            score(s, q + i * 2, k + i * 2, i > 0, T());
        npi_wgmma_commit();
    };
    if (warpgroup == 1)
        give_turn(warpgroup); /* the first one is the other's */
    npi_barrier_wait(full, 0);
    take_turn(warpgroup);
    npi_wgmma_fence();
    multiply_keys(base, 0);
    give_turn(warpgroup);
    npi_wgmma_wait<0>();
    const int tiles = TILES * heads;
    /* Tile i, whose scores are in s; and, but for the last one, the scores of the next. */
    const auto finish = [&]<bool last>(int i) {
        const int tile = i % TILES, unit = (int)blockIdx.x + i / TILES * (int)gridDim.x;
        const uint32_t at = base + stage * STAGE;
        npi_settle(s);
        soften(s, p.t, lse, factor);
        pack<T, MOST>(s, w);
        uint32_t next = stage, next_parity = parity;
        if (!last && tile == TILES - 1) {
            next = (stage + 1) % STAGES;
            next_parity ^= next == 0;
            npi_barrier_wait(full + next * 8, next_parity);
        }
        const uint64_t v = part_at(at + 2 * PART, 0);
        take_turn(warpgroup);
        npi_wgmma_fence();
#pragma unroll
        for (int k = 0; k < MOST / 16; k++)
            add_rows(o, w[k], v + k * SIXTEEN, k > 0, T());
        npi_wgmma_commit();
        if constexpr (!last)
            multiply_keys(base + next * STAGE, (tile + 1) % TILES);
        if (!last || warpgroup == 0) /* nobody waits for the very last turn */
            give_turn(warpgroup);
        npi_wgmma_wait<last ? 0 : 1>();
        npi_settle(o);
        if (tile == TILES - 1) {
            __syncwarp();
            if (lane == 0)
                npi_barrier_arrive(empty + stage * 8);
        }
        const int first = (warpgroup + tile * WARPGROUPS) * TILE, row = first + tile_row();
        for (int half = 0; half < 2 && p.lse && lane % 4 == 0; half++)
            if (row + 8 * half < p.t)
                p.lse[(int64_t)unit * p.t + row + 8 * half] = lse[half];
        store_tile(o, factor,
                   (T *)p.a + ((int64_t)(unit / p.heads) * p.t * p.heads + unit % p.heads) * HEAD,
                   p.heads * HEAD, first, p.t);
        if constexpr (!last)
            npi_wgmma_wait<0>();
        stage = next;
        parity = next_parity;
    };
#pragma unroll 1
    for (int i = 0; i + 1 < tiles; i++)
        finish.template operator()<false>(i);
    finish.template operator()<true>(tiles - 1);
#endif
}

} // namespace

bool npi_attention90_serves(npi_device *dev, const npi_attention *p) {
    return npi_cuda_of(dev)->capability == 90 && p->head == HEAD && p->rows == p->t && !p->causal &&
           p->t >= LEAST && p->t <= MOST;
}

template <typename T> npos_status npi_attention90_forward(npi_device *dev, const npi_attention *p) {
    const int blocks = min(p->n * p->heads, npi_cuda_of(dev)->multiprocessors);
    const CUtensorMapDataType type = std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                               : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    const cuuint64_t width = (cuuint64_t)(3 * p->heads * HEAD), t = (cuuint64_t)p->t;
    const cuuint64_t dims[4] = {width, t, (cuuint64_t)p->n, 1},
                     strides[3] = {2 * width, 2 * width * t, 2 * width * t * (cuuint64_t)p->n};
    const cuuint32_t box[4] = {HEAD, MOST, 1, 1};
    CUtensorMap map;
    NPI_TRY(npi_cuda_box(&map, type, p->qkv, dims, strides, box, true));
    const auto kernel = forward_kernel<T>;
    CUDA_TRY("attention",
             cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES));
    kernel<<<blocks, THREADS, BYTES, npi_cuda_stream(dev)>>>(map, *p);
    return npi_cuda_launched(dev, "attention");
}

template npos_status npi_attention90_forward<__half>(npi_device *, const npi_attention *);
template npos_status npi_attention90_forward<__nv_bfloat16>(npi_device *, const npi_attention *);
