/* devices/cuda/cuda_attention_mma.cuh - small products of 16-bit numbers by a warp, from GPUs of 8.0 on, and what softmax does
 * with them.
 *
 * With g = lane / 4 and t = lane % 4, a warp holds of a product of 16 x 16 by 16 x 8
 *     a[0..3]  rows g, g + 8, g, g + 8, of each the two columns 2t, 2t + 1, from a[2] on 8 further
 *     b[0..1]  column g, its two rows 2t, 2t + 1, in b[1] 8 further
 *     c[0..3]  rows g, g, g + 8, g + 8, columns 2t, 2t + 1, 2t, 2t + 1
 * so that the sums of two products beside each other are, packed in pairs, a factor a of the next.
 *
 * Source: NVIDIA, PTX ISA 8.7, sections "mma.m16n8k16", "ldmatrix" and "cp.async". */
#ifndef NPI_CUDA_ATTENTION_MMA_CUH
#define NPI_CUDA_ATTENTION_MMA_CUH

#include "devices/cuda/cuda_attention.cuh"

/* From 8.0 on: what is compiled for older GPUs has no bodies. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define NPI_HAS_MMA 1

static __device__ __forceinline__ uint32_t mma_shared(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                           uint32_t b1, __half) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
static __device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                           uint32_t b1, __nv_bfloat16) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8 x 8 matrices; lane 8i + j gives the address of row j of matrix i; as they lie, or transposed. */
static __device__ __forceinline__ void mma_load(uint32_t row, uint32_t (&to)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}
static __device__ __forceinline__ void mma_load_transposed(uint32_t row, uint32_t (&to)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

/* 16 bytes into shared memory while the thread goes on; zeros, and nothing is read, where not `inside`. */
static __device__ __forceinline__ void mma_copy16(uint32_t to, const void *from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(inside ? 16 : 0)
                 : "memory");
}
static __device__ __forceinline__ void mma_copied(void) {
    asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;" ::: "memory");
}

/* ---- softmax ---- */

constexpr float MMA_LOG2E = 1.4426950408889634f, MMA_SCALE = 0.125f; /* 1 / sqrt(64) */

/* 2^x, 0 where that is not a normal number. */
static __device__ __forceinline__ float mma_two_to(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* The largest, or the sum, over the four lanes that hold a row. */
static __device__ __forceinline__ float mma_row_max(float value) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
    return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
static __device__ __forceinline__ float mma_row_sum(float value) {
    value += __shfl_xor_sync(0xffffffffu, value, 1);
    return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

#endif
#endif
