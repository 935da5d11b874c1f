/* devices/cuda/cuda_attention90.cuh - products of Hopper's matrix units as attention needs them (sm_90a), in 16 bits.
 *
 * A warpgroup makes a tile of 64 rows; its thread t holds of row 16 (t / 32) + (t % 32) / 4, and of 8 rows below, the columns
 * 8j + 2 (t % 4) + {0, 1}: s[4j], s[4j + 1], and s[4j + 2], s[4j + 3].  Packed in pairs, 16 columns are a first factor. */
#ifndef NPI_CUDA_ATTENTION90_CUH
#define NPI_CUDA_ATTENTION90_CUH

#include <type_traits>

#include "devices/cuda/cuda_attention.cuh"
#include "devices/cuda/cuda_box.cuh"
#include "devices/cuda/cuda_sm90.cuh"

enum {
    NPI_TILE = 64,
    NPI_ROWS_LEAST = 193, /* of a sequence: four tiles */
    NPI_ROWS_MOST = 208,
    NPI_PART = NPI_ROWS_MOST * NPI_ATTENTION_FAST *
               2, /* bytes of a head's q, k, v or their like, swizzled */
    NPI_SIXTEEN = 16 * NPI_ATTENTION_FAST * 2 / 16, /* what moves an operand by 16 rows of a part */
    NPI_TAKERS = 256 /* threads of the two warpgroups that take turns */
};

/* *map = of data [n][t][parts][heads][head] as [n][t][parts x heads x head]: boxes of a head's rows, one part. */
template <typename T>
npos_status npi_attention90_map(CUtensorMap *map, const npi_attention *p, const void *data,
                                int parts) {
    const CUtensorMapDataType type = std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                                               : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    const cuuint64_t width = (cuuint64_t)(parts * p->heads * p->head), t = (cuuint64_t)p->t;
    const cuuint64_t dims[4] = {width, t, (cuuint64_t)p->n, 1},
                     strides[3] = {2 * width, 2 * width * t, 2 * width * t * (cuuint64_t)p->n};
    const cuuint32_t box[4] = {NPI_ATTENTION_FAST, NPI_ROWS_MOST, 1, 1};
    return npi_cuda_box(map, type, data, dims, strides, box, true);
}

/* Where row 0 of a head (unit: sequence x heads + head) lies in an array like a, and in part 0, 1, 2 of one like qkv. */
template <typename T>
static __device__ __forceinline__ T *npi_asked_at(const npi_attention &p, const void *a, int unit) {
    return (T *)a +
           ((int64_t)(unit / p.heads) * p.t * p.heads + unit % p.heads) * NPI_ATTENTION_FAST;
}
template <typename T>
static __device__ __forceinline__ T *npi_part_of(const npi_attention &p, void *qkv, int unit,
                                                 int part) {
    return (T *)qkv + (((int64_t)(unit / p.heads) * p.t * 3 + part) * p.heads + unit % p.heads) *
                          NPI_ATTENTION_FAST;
}

#ifdef NPI_SM90A

constexpr float NPI_LOG2E = 1.4426950408889634f, NPI_SCALE = 0.125f; /* 1 / sqrt(64) */

#define S4(i) "+f"(s[i]), "+f"(s[i + 1]), "+f"(s[i + 2]), "+f"(s[i + 3])
#define S8(i) S4(i), S4(i + 4)

/* s (64 x 208, 80 or 64; + s where `add`) = 16 of the head of 64 rows times the same of others, transposed. */
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
                 : "l"(a), "l"(b), "r"((int)add))
static __device__ __forceinline__ void npi_score(float (&s)[104], uint64_t a, uint64_t b, bool add,
                                                 __half) {
    MULTIPLY("f16");
}
static __device__ __forceinline__ void npi_score(float (&s)[104], uint64_t a, uint64_t b, bool add,
                                                 __nv_bfloat16) {
    MULTIPLY("bf16");
}
#undef MULTIPLY
#define MULTIPLY(TYPE)                                                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %42, 0;\n"                                      \
                 "wgmma.mma_async.sync.aligned.m64n80k16.f32." TYPE "." TYPE " {"                  \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "                              \
                 "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "                    \
                 "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "                    \
                 "%36, %37, %38, %39"                                                              \
                 "}, "                                                                             \
                 "%40, %41, p, 1, 1, 0, 0;\n}\n"                                                   \
                 : S8(0), S8(8), S8(16), S8(24), S8(32)                                            \
                 : "l"(a), "l"(b), "r"((int)add))
static __device__ __forceinline__ void npi_score(float (&s)[40], uint64_t a, uint64_t b, bool add,
                                                 __half) {
    MULTIPLY("f16");
}
static __device__ __forceinline__ void npi_score(float (&s)[40], uint64_t a, uint64_t b, bool add,
                                                 __nv_bfloat16) {
    MULTIPLY("bf16");
}
#undef MULTIPLY
#define MULTIPLY(TYPE)                                                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"                                      \
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " {"                  \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "                              \
                 "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "                    \
                 "%24, %25, %26, %27, %28, %29, %30, %31"                                          \
                 "}, "                                                                             \
                 "%32, %33, p, 1, 1, 0, 0;\n}\n"                                                   \
                 : S8(0), S8(8), S8(16), S8(24)                                                    \
                 : "l"(a), "l"(b), "r"((int)add))
static __device__ __forceinline__ void npi_score(float (&s)[32], uint64_t a, uint64_t b, bool add,
                                                 __half) {
    MULTIPLY("f16");
}
static __device__ __forceinline__ void npi_score(float (&s)[32], uint64_t a, uint64_t b, bool add,
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
                 : S8(0), S8(8), S8(16), S8(24)                                                    \
                 : "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]), "l"(b), "r"((int)add))
static __device__ __forceinline__ void npi_add_rows(float (&s)[32], const uint32_t (&w)[4],
                                                    uint64_t b, bool add, __half) {
    MULTIPLY("f16");
}
static __device__ __forceinline__ void npi_add_rows(float (&s)[32], const uint32_t (&w)[4],
                                                    uint64_t b, bool add, __nv_bfloat16) {
    MULTIPLY("bf16");
}
#undef MULTIPLY
#undef S8
#undef S4

/* The matrix units are the warpgroup's (0 or 1) from npi_take_turn to npi_give_turn, then the other's. */
static __device__ __forceinline__ void npi_take_turn(int warpgroup) {
    npi_named_barrier(1 + warpgroup, NPI_TAKERS);
}
static __device__ __forceinline__ void npi_give_turn(int warpgroup) {
    npi_named_arrive(2 - warpgroup, NPI_TAKERS);
}

/* What the products above are told of a part from its row `row` on, a multiple of 8. */
static __device__ __forceinline__ uint64_t npi_part_at(uint32_t part, int row) {
    return npi_operand(part + (uint32_t)row * NPI_ATTENTION_FAST * 2, 16, 1024, 1);
}

static __device__ __forceinline__ uint32_t npi_pair(float low, float high, __half) {
    const __half2 both = __floats2half2_rn(low, high);
    return *(const uint32_t *)&both;
}
static __device__ __forceinline__ uint32_t npi_pair(float low, float high, __nv_bfloat16) {
    return npi_pack_bf16(low, high);
}

/* w = COLUMNS columns of sums as first factors. */
template <typename T, int COLUMNS>
static __device__ __forceinline__ void npi_pack(const float (&s)[COLUMNS / 2],
                                                uint32_t (&w)[COLUMNS / 16][4]) {
#pragma unroll
    for (int k = 0; k < COLUMNS / 16; k++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            w[k][e] = npi_pair(s[8 * k + 2 * e], s[8 * k + 2 * e + 1], T());
}

/* 2^x, 0 where that is not a normal number. */
static __device__ __forceinline__ float npi_two_to(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* The largest, or the sum, over the four lanes that hold a row. */
static __device__ __forceinline__ float npi_row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
    return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
static __device__ __forceinline__ float npi_row_sum(float value) {
    value += __shfl_xor_sync(0xffffffffu, value, 1);
    return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

/* The thread's rows of a tile: this and 8 further. */
static __device__ __forceinline__ int npi_tile_row(void) {
    return (int)threadIdx.x % 128 / 32 * 16 + (int)threadIdx.x % 32 / 4;
}

/* A tile's sums, times a factor of each row's half, to rows first .. of `to`, `step` elements apart, up to row t. */
template <typename T>
static __device__ __forceinline__ void npi_store_tile(const float (&s)[32],
                                                      const float (&factor)[2], T *to, int64_t step,
                                                      int first, int t) {
    const int row = first + npi_tile_row();
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

#endif
#endif
