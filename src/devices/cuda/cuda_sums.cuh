/* devices/cuda/cuda_sums.cuh - sums whose order the shapes fix, beside npi_warp_sum of cuda.cuh. */
#ifndef NPI_CUDA_SUMS_CUH
#define NPI_CUDA_SUMS_CUH

#include "devices/cuda/cuda.cuh"

/* The sum over a warp in float64, in every lane. */
static __device__ __forceinline__ double npi_warp_sum_double(double value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

/* The largest over a warp, in every lane; NaNs are passed over. */
static __device__ __forceinline__ float npi_warp_max(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

/* The sum over a block of THREADS threads (whole warps), valid in thread 0.  Called by all, once in
 * a kernel. */
template <int THREADS> static __device__ __forceinline__ double npi_block_sum(double value) {
    __shared__ double of_warp[THREADS / 32];
    value = npi_warp_sum_double(value);
    if (threadIdx.x % 32 == 0)
        of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = 0.0;
    for (int i = 0; threadIdx.x == 0 && i < THREADS / 32; i++)
        sum += of_warp[i];
    return sum;
}

#endif
