/* devices/cuda/cuda_act.cuh - activations of transformers' MLPs: GELU x Phi(x), or QuickGELU x / (1 + exp(-1.702 x)). */
#ifndef NPI_CUDA_ACT_CUH
#define NPI_CUDA_ACT_CUH

#include <type_traits>

/* 1 / (1 + e^-(1.702 x)) in float32 to the last digits. */
static __device__ __forceinline__ float npi_logistic(float x) {
    return 1.0f / (1.0f + expf(-1.702f * x));
}

/* The same of two numbers, to some 22 bits, by three of the slow instructions where four would do it one by one: with
 * r = 1 / (a b), 1 / a = r b.  At least 2^-60, so that a b is finite. */
static __device__ __forceinline__ float2 npi_logistics(float2 x) {
    const auto power = [](float of) {
        float y;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(fminf(-1.702f * 1.44269504f * of, 60.0f)));
        return 1.0f + y;
    };
    const float a = power(x.x), b = power(x.y);
    float inverse;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(a * b));
    return make_float2(inverse * b, inverse * a);
}

template <typename T> static __device__ __forceinline__ float2 npi_logistics_of(float2 x) {
    if constexpr (std::is_same_v<T, float>)
        return make_float2(npi_logistic(x.x), npi_logistic(x.y));
    else
        return npi_logistics(x);
}

/* Two numbers activated, and the activation's derivative there: Phi(x) + x phi(x), or s + 1.702 x s (1 - s).  T: the type that
 * they are of in memory; those of 16 bits need fewer digits. */
template <typename T>
static __device__ __forceinline__ float2 npi_activate(bool gelu, float2 x, float2 *slope) {
    if (gelu) {
        const auto phi = [](float of) { return 0.39894228f * expf(-0.5f * of * of); };
        const float2 under = make_float2(0.5f * (1.0f + erff(x.x * 0.70710678f)),
                                         0.5f * (1.0f + erff(x.y * 0.70710678f)));
        *slope = make_float2(under.x + x.x * phi(x.x), under.y + x.y * phi(x.y));
        return make_float2(x.x * under.x, x.y * under.y);
    }
    const float2 s = npi_logistics_of<T>(x), acted = make_float2(x.x * s.x, x.y * s.y);
    *slope =
        make_float2(s.x + 1.702f * acted.x * (1.0f - s.x), s.y + 1.702f * acted.y * (1.0f - s.y));
    return acted;
}

#endif
