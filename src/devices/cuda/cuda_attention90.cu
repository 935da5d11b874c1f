/* Attention in 16 bits on Hopper's matrix units (sm_90a), heads of 64, sequences of LEAST to MOST rows: those of a
 * ViT-B/16 at 224 x 224 have 197.
 *
 * One block a multiprocessor goes through heads of sequences.  Another warp has the copy engine bring q, k and v of a
 * head, each as MOST rows, ahead of the warpgroups, which take 64 queries at a time: all scores of a query are in
 * registers at once (64 x MOST sums), so softmax needs no running maxima, and what it leaves is, packed in pairs, the
 * first factor of the product with v.  The warpgroups take turns with the matrix units: while one takes exponentials the
 * other multiplies its weights by v and its next queries by k. */
#include "devices/cuda/cuda_attention.cuh"
#include "devices/cuda/cuda_box.cuh"
#include "devices/cuda/cuda_sm90.cuh"

namespace {

enum {
    HEAD = NPI_ATTENTION_FAST,
    LEAST = 193,
    MOST = 208,
    SCORES = MOST / 2, /* of 64 queries, a thread's */
    PART = MOST * HEAD * 2,
    STAGE = 3 * PART,
    STAGES = 2,
    WARPGROUPS = 2,
    TILES = 2,                 /* of 64 queries, of a head: a warpgroup's */
    PRODUCER = WARPGROUPS * 4, /* the warp that feeds the others, first of a warpgroup */
    THREADS = PRODUCER * 32 + 128,
    ALIGN = 1024,
    BYTES = ALIGN + STAGES * STAGE + 2 * STAGES * 8
};

#ifdef NPI_SM90A

constexpr float LOG2E = 1.4426950408889634f, SCALE = 0.125f; /* 1 / sqrt(64) */

#define S4(i) "+f"(s[i]), "+f"(s[i + 1]), "+f"(s[i + 2]), "+f"(s[i + 3])
#define S8(i) S4(i), S4(i + 4)

/* s (64 x MOST; + s where `add`) = 16 of the head of 64 queries times the same of MOST keys, transposed. */
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
                 : S8(0), S8(8), S8(16), S8(24), S8(32), S8(40), S8(48), S8(56), S8(64), S8(72),   \
                   S8(80), S8(88), S8(96)                                                          \
                 : "l"(q), "l"(k), "r"((int)add))
__device__ __forceinline__ void score(float (&s)[SCORES], uint64_t q, uint64_t k, bool add,
                                      __half) {
    MULTIPLY("f16");
}
__device__ __forceinline__ void score(float (&s)[SCORES], uint64_t q, uint64_t k, bool add,
                                      __nv_bfloat16) {
    MULTIPLY("bf16");
}
#undef MULTIPLY

/* s (64 x 64; + s where `add`) = weights of 16 keys, as pairs, times their values. */
#define MULTIPLY(TYPE)                                                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                      \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {"                  \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "                              \
                 "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "                    \
                 "%24, %25, %26, %27, %28, %29, %30, %31"                                          \
                 "}, "                                                                             \
                 "{%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}\n"                                     \
                 : S8(0), S8(8), S8(16), S8(24)                                                    \
                 : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "l"(v), "r"((int)add))
__device__ __forceinline__ void add_values(float (&s)[HEAD / 2], const uint32_t (&w)[4], uint64_t v,
                                           bool add, __half) {
    MULTIPLY("f16");
}
__device__ __forceinline__ void add_values(float (&s)[HEAD / 2], const uint32_t (&w)[4], uint64_t v,
                                           bool add, __nv_bfloat16) {
    MULTIPLY("bf16");
}
#undef MULTIPLY
#undef S8
#undef S4

__device__ __forceinline__ uint32_t pair(float low, float high, __half) {
    const __half2 both = __floats2half2_rn(low, high);
    return *(const uint32_t *)&both;
}
__device__ __forceinline__ uint32_t pair(float low, float high, __nv_bfloat16) {
    return npi_pack_bf16(low, high);
}

/* 2^x, 0 where that is not a normal number. */
__device__ __forceinline__ float two_to(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Over the four lanes that hold a row. */
__device__ __forceinline__ float row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
    return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ __forceinline__ float row_sum(float value) {
    value += __shfl_xor_sync(0xffffffffu, value, 1);
    return value + __shfl_xor_sync(0xffffffffu, value, 2);
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
        most = row_max(most) * (SCALE * LOG2E);
#pragma unroll
        for (int i = 2 * half; i < SCORES; i += 4) {
            s[i] = two_to(fmaf(s[i], SCALE * LOG2E, -most));
            s[i + 1] = two_to(fmaf(s[i + 1], SCALE * LOG2E, -most));
            sum += s[i] + s[i + 1];
        }
        sum = row_sum(sum);
        lse[half] = most / LOG2E + logf(sum);
        factor[half] = 1.0f / sum;
    }
}

#endif

#ifdef NPI_SM90A

/* The matrix units are this warpgroup's; or, with `arrive`, the other one's. */
__device__ __forceinline__ void take_turn(int warpgroup, bool arrive) {
    if (arrive)
        npi_named_arrive(1 + (warpgroup ^ 1), PRODUCER * 32);
    else
        npi_named_barrier(1 + warpgroup, PRODUCER * 32);
}

/* Stores 64 rows of a head from `first` on, as they lie in registers, times each row's factor; and lse. */
template <typename T>
__device__ __forceinline__ void store_tile(const npi_attention &p, int unit, int first,
                                           const float (&o)[HEAD / 2], const float (&factor)[2],
                                           const float (&lse)[2]) {
    const int lane = (int)threadIdx.x % 32, width = p.heads * HEAD;
    T *const out =
        (T *)p.a + (int64_t)(unit / p.heads) * p.t * width + unit % p.heads * HEAD + 2 * (lane % 4);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int r = first + (int)threadIdx.x % 128 / 32 * 16 + lane / 4 + 8 * half;
        if (r >= p.t)
            continue;
        if (p.lse && lane % 4 == 0)
            p.lse[(int64_t)unit * p.t + r] = lse[half];
#pragma unroll
        for (int j = 0; j < 8; j++)
            *(uint32_t *)(out + (int64_t)r * width + 8 * j) = pair(
                o[4 * j + 2 * half] * factor[half], o[4 * j + 2 * half + 1] * factor[half], T());
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
        const uint32_t first = (uint32_t)(warpgroup + tile * WARPGROUPS) * 64;
        const uint64_t q = npi_operand(at + first * HEAD * 2, 16, 1024, 1),
                       k = npi_operand(at + PART, 16, 1024, 1);
#pragma unroll
        for (int i = 0; i < 4; i++)
            score(s, q + i * 2, k + i * 2, i > 0, T());
        npi_wgmma_commit();
    };
    if (warpgroup == 1)
        take_turn(warpgroup, true); /* the first one is the other's */
    npi_barrier_wait(full, 0);
    take_turn(warpgroup, false);
    npi_wgmma_fence();
    multiply_keys(base, 0);
    take_turn(warpgroup, true);
    npi_wgmma_wait<0>();
    const int tiles = TILES * heads;
    /* Tile i, whose scores are in s; and, but for the last one, the scores of the next. */
    const auto finish = [&]<bool last>(int i) {
        const int tile = i % TILES, unit = (int)blockIdx.x + i / TILES * (int)gridDim.x;
        const uint32_t at = base + stage * STAGE;
        npi_settle(s);
        soften(s, p.t, lse, factor);
#pragma unroll
        for (int k = 0; k < MOST / 16; k++)
#pragma unroll
            for (int e = 0; e < 4; e++)
                w[k][e] = pair(s[8 * k + 2 * e], s[8 * k + 2 * e + 1], T());
        uint32_t next = stage, next_parity = parity;
        if (!last && tile == TILES - 1) {
            next = (stage + 1) % STAGES;
            next_parity ^= next == 0;
            npi_barrier_wait(full + next * 8, next_parity);
        }
        const uint64_t v = npi_operand(at + 2 * PART, 16, 1024, 1);
        take_turn(warpgroup, false);
        npi_wgmma_fence();
#pragma unroll
        for (int k = 0; k < MOST / 16; k++)
            add_values(o, w[k], v + k * (16 * HEAD * 2 / 16), k > 0, T());
        npi_wgmma_commit();
        if constexpr (!last)
            multiply_keys(base + next * STAGE, (tile + 1) % TILES);
        if (!last || warpgroup == 0) /* nobody waits for the very last turn */
            take_turn(warpgroup, true);
        npi_wgmma_wait<last ? 0 : 1>();
        npi_settle(o);
        if (tile == TILES - 1) {
            __syncwarp();
            if (lane == 0)
                npi_barrier_arrive(empty + stage * 8);
        }
        store_tile<T>(p, unit, (warpgroup + tile * WARPGROUPS) * 64, o, factor, lse);
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
    const cuuint64_t row = (cuuint64_t)p->heads * HEAD * 3 * 2, t = (cuuint64_t)p->t;
    const cuuint64_t dims[4] = {row / 2, t, (cuuint64_t)p->n, 1},
                     strides[3] = {row, row * t, row * t * (cuuint64_t)p->n};
    const cuuint32_t box[4] = {HEAD, MOST, 1, 1};
    const int blocks = min(p->n * p->heads, npi_cuda_of(dev)->multiprocessors);
    const CUtensorMapDataType type = std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                               : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
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
