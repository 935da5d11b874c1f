/* devices/cuda/cuda_tokens.cuh - tokens: plain rows, row r of sequence i at (i t + r) width.
 *
 *                       float32 device   bf16 device
 *     tokens            float32          float16     sums of all blocks so far: 11 bits
 *     their gradients   float32          bf16        a mean over a batch is small: float32's range
 *
 * Blocks that do not train, and embeddings, multiply in the tokens' type; training blocks in the gradients'. */
#ifndef NPI_CUDA_TOKENS_CUH
#define NPI_CUDA_TOKENS_CUH

#include <cuda_fp16.h>

#include <type_traits>

#include "devices/cuda/cuda_sums.cuh"

static __device__ __forceinline__ float npi_load(const __half *p) {
    return __half2float(*p);
}
static __device__ __forceinline__ void npi_store(__half *p, float value) {
    *p = __float2half_rn(value);
}

static __device__ __forceinline__ npi_float8 npi_load8(const __half *p) {
    const uint4 words = *(const uint4 *)p;
    const __half2 *pairs = (const __half2 *)&words;
    npi_float8 out;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 two = __half22float2(pairs[i]);
        out.v[2 * i] = two.x;
        out.v[2 * i + 1] = two.y;
    }
    return out;
}
static __device__ __forceinline__ void npi_store8(__half *p, npi_float8 value) {
    __half2 pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pairs[i] = __floats2half2_rn(value.v[2 * i], value.v[2 * i + 1]);
    *(uint4 *)p = *(const uint4 *)pairs;
}

/* Two floats as a pair of 16-bit numbers, `low` in the lower half; and back. */
static __device__ __forceinline__ uint32_t npi_pair(float low, float high, __half) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *(const uint32_t *)&pair;
}
static __device__ __forceinline__ uint32_t npi_pair(float low, float high, __nv_bfloat16) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *(const uint32_t *)&pair;
}
static __device__ __forceinline__ float2 npi_two(uint32_t pair, __half) {
    return __half22float2(*(const __half2 *)&pair);
}
static __device__ __forceinline__ float2 npi_two(uint32_t pair, __nv_bfloat16) {
    return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

/* What cuBLAS calls a type. */
template <typename T> struct npi_cuda_type;
template <> struct npi_cuda_type<float> { static constexpr cudaDataType_t value = CUDA_R_32F; };
template <> struct npi_cuda_type<__half> { static constexpr cudaDataType_t value = CUDA_R_16F; };
template <> struct npi_cuda_type<__nv_bfloat16> {
    static constexpr cudaDataType_t value = CUDA_R_16BF;
};

/* Bytes of a number of tokens or of their gradients. */
static inline size_t npi_token_element(npi_device *dev) {
    return dev->compute == NPI_BF16 ? 2 : 4;
}

/* NPOS_SHAPE_MISMATCH, naming `what`, unless these are 1..most sequences of t rows of `width`. */
npos_status npi_check_tokens(const char *what, npi_tokens tokens, int most, int t, int width);

/* A row of `width` numbers held by a warp: with V > 0, width = 256 V, lane l holds numbers 256 k + 8 l + 0..7 of each k < V
 * (16-byte accesses); with V = 0, any width, lane l has numbers l, l + 32, .. and loads them again at each pass.  Calls
 * launch(std::integral_constant<int, V>) with the V of a width. */
template <typename F> static inline void npi_by_width(int width, F launch) {
    switch (width % 256 == 0 ? width / 256 : 0) {
    case 1:
        return launch(std::integral_constant<int, 1>());
    case 2:
        return launch(std::integral_constant<int, 2>());
    case 3:
        return launch(std::integral_constant<int, 3>());
    case 4:
        return launch(std::integral_constant<int, 4>());
    default:
        return launch(std::integral_constant<int, 0>());
    }
}

/* Mean and 1 / sqrt(variance + epsilon) of a row, in every lane.  at(j): number j of the row; eight(j): numbers j..j + 7;
 * what they gave stays in `row` for V > 0. */
struct npi_row_stats {
    float mean, scale;
};
template <int V, typename At, typename Eight>
static __device__ __forceinline__ npi_row_stats npi_row_norm(int width, int lane,
                                                             npi_float8 (&row)[V > 0 ? V : 1],
                                                             At at, Eight eight) {
    float sum = 0.0f, square = 0.0f;
    if constexpr (V > 0) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            row[k] = eight(256 * k + 8 * lane);
#pragma unroll
            for (int i = 0; i < 8; i++)
                sum += row[k].v[i];
        }
    } else {
        for (int j = lane; j < width; j += 32)
            sum += at(j);
    }
    const float mean = npi_warp_sum(sum) / (float)width;
    if constexpr (V > 0) {
#pragma unroll
        for (int k = 0; k < V; k++)
#pragma unroll
            for (int i = 0; i < 8; i++)
                square = fmaf(row[k].v[i] - mean, row[k].v[i] - mean, square);
    } else {
        for (int j = lane; j < width; j += 32)
            square = fmaf(at(j) - mean, at(j) - mean, square);
    }
    return {mean, 1.0f / sqrtf(npi_warp_sum(square) / (float)width + NPI_LAYER_NORM_EPSILON)};
}

#endif
