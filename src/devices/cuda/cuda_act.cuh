/* devices/cuda/cuda_act.cuh - activations of transformers' MLPs: GELU x Phi(x), or QuickGELU x / (1 + exp(-1.702 x)). */
#ifndef NPI_CUDA_ACT_CUH
#define NPI_CUDA_ACT_CUH

#include <type_traits>

/* x / (1 + e^y): in float32 to the last digits, else as fast as 16 bits allow. */
template <typename T> static __device__ __forceinline__ float npi_logistic(float x, float y) {
    if constexpr (std::is_same_v<T, float>)
        return x / (1.0f + expf(y));
    else {
        float power, inverse;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(1.44269504f * y));
        asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + power));
        return x * inverse;
    }
}

template <typename T> static __device__ __forceinline__ float npi_activate(bool gelu, float x) {
    return gelu ? 0.5f * x * (1.0f + erff(x * 0.70710678f)) : npi_logistic<T>(x, -1.702f * x);
}

/* The activation's derivative: Phi(x) + x phi(x), or s + 1.702 x s (1 - s). */
template <typename T> static __device__ __forceinline__ float npi_act_slope(bool gelu, float x) {
    if (gelu)
        return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    const float s = npi_logistic<T>(1.0f, -1.702f * x);
    return s + 1.702f * x * s * (1.0f - s);
}

#endif
