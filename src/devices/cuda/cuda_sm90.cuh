/* devices/cuda/cuda_sm90.cuh - the instructions of Hopper (sm_90a) that CUDA C++ has no words for.
 *
 * Barriers (mbarrier), the bulk copy engine (TMA) and the matrix products of a warpgroup (wgmma).  Shared memory is
 * addressed by 32-bit addresses.  To be included by files whose kernels keep their bodies under NPI_SM90A; the wrappers
 * are templates or inline and cost nothing elsewhere.
 *
 * Source: NVIDIA, PTX ISA 8.7, sections "mbarrier", "cp.async.bulk.tensor" and "wgmma.mma_async". */
#ifndef NPI_CUDA_SM90_CUH
#define NPI_CUDA_SM90_CUH

#include <cuda.h>
#include <stdint.h>

/* Set while device code for sm_90a is compiled; other targets have no wgmma. */
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define NPI_SM90A 1

static __device__ __forceinline__ uint32_t npi_shared(const void *p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void npi_barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

/* After npi_barrier_init, before others (the copy engine among them) use the barriers. */
static __device__ __forceinline__ void npi_barrier_init_done(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

static __device__ __forceinline__ void npi_barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* Arrives, and makes the phase wait for `bytes` more from the copy engine. */
static __device__ __forceinline__ void npi_barrier_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

/* The same at the barrier in that place of block `rank` of the cluster; orders nothing that ordinary stores wrote before. */
static __device__ __forceinline__ void npi_barrier_arrive_at(uint32_t barrier, uint32_t rank) {
    asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n}\n" ::"r"(barrier),
                 "r"(rank)
                 : "memory");
}

/* All threads of all blocks of the cluster, but those that have ended. */
static __device__ __forceinline__ void npi_cluster_barrier(void) {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

/* Which block of its cluster this is. */
static __device__ __forceinline__ uint32_t npi_cluster_rank(void) {
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/* Until the phase of this parity is complete. */
static __device__ __forceinline__ void npi_barrier_wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{\n.reg .pred done;\n"
                 "again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n}\n" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

/* A barrier of `threads` threads (whole warps); id 0 is __syncthreads. */
static __device__ __forceinline__ void npi_named_barrier(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Arrives at such a barrier and goes on. */
static __device__ __forceinline__ void npi_named_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/* Registers of this warpgroup's threads from now on: all of its warps call it, in the one branch of the kernel that is
 * theirs. */
template <int COUNT> static __device__ __forceinline__ void npi_registers_more(void) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT> static __device__ __forceinline__ void npi_registers_fewer(void) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

/* A ring of shared memory between the copy engine and the warpgroups. */
struct npi_ring_place {
    uint32_t stage, parity;
    __device__ __forceinline__ void next(uint32_t stages) {
        if (++stage == stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* The number of the thread's warp, known to the compiler to be the same in all of its lanes. */
static __device__ __forceinline__ int npi_warp(void) {
    return __shfl_sync(0xffffffffu, (int)threadIdx.x / 32, 0);
}

/* Plain copy of bytes (a multiple of 16) into shared memory. */
static __device__ __forceinline__ void npi_bulk_load(uint32_t to, const void *from, uint32_t bytes,
                                                     uint32_t barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(bytes), "r"(barrier)
                 : "memory");
}

/* A box of a tensor into shared memory; coordinates innermost first, may lie outside (zeros there). */
static __device__ __forceinline__ void npi_box_load(uint32_t to, const CUtensorMap *map, int c0,
                                                    int c1, int c2, int c3, uint32_t barrier) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
                 "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier)
                 : "memory");
}

/* The same into the same place of all blocks of the cluster that `mask` names, and their barriers. */
static __device__ __forceinline__ void npi_box_share(uint32_t to, const CUtensorMap *map, int c0,
                                                     int c1, int c2, int c3, uint32_t barrier,
                                                     uint16_t mask) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(to),
                 "l"(map), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(barrier), "h"(mask)
                 : "memory");
}

/* And back; what lies outside is not written.  Belongs to the thread's open bulk group. */
static __device__ __forceinline__ void npi_box_store(uint32_t from, const CUtensorMap *map, int c0,
                                                     int c1, int c2, int c3) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group "
                 "[%0, {%1, %2, %3, %4}], [%5];" ::"l"(map),
                 "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(from)
                 : "memory");
}

/* As npi_box_store, added to what is there: one rounding to the tensor's type per addition. */
static __device__ __forceinline__ void npi_box_add(uint32_t from, const CUtensorMap *map, int c0,
                                                   int c1, int c2, int c3) {
    asm volatile("cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group "
                 "[%0, {%1, %2, %3, %4}], [%5];" ::"l"(map),
                 "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(from)
                 : "memory");
}

static __device__ __forceinline__ void npi_bulk_commit(void) {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

/* Until at most PENDING bulk groups of the thread still read shared memory. */
template <int PENDING> static __device__ __forceinline__ void npi_bulk_wait_read(void) {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

template <int PENDING> static __device__ __forceinline__ void npi_bulk_wait(void) {
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
}

/* Between ordinary stores to shared memory and their being read by wgmma or the copy engine. */
static __device__ __forceinline__ void npi_fence_async(void) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* 8 bytes into shared memory while the thread goes on; zeros, and nothing is read, where not `inside`. */
static __device__ __forceinline__ void npi_copy8(uint32_t to, const void *from, bool inside) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from),
                 "r"(inside ? 8 : 0)
                 : "memory");
}

/* Arrives when the thread's npi_copy8 so far are done. */
static __device__ __forceinline__ void npi_copy_arrive(uint32_t barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

static __device__ __forceinline__ uint2 npi_load_shared8(uint32_t from) {
    uint2 value;
    asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
                 : "=r"(value.x), "=r"(value.y)
                 : "r"(from)
                 : "memory");
    return value;
}

static __device__ __forceinline__ void npi_load_shared16(uint32_t from, uint32_t (&to)[4]) {
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(from)
                 : "memory");
}

/* Four 8x8 matrices of bf16: lane 8i + j gives the address of row j of matrix i. */
static __device__ __forceinline__ void npi_store_matrices(uint32_t row, uint32_t a, uint32_t b,
                                                          uint32_t c, uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row),
                 "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}

/* The reverse of npi_store_matrices. */
static __device__ __forceinline__ void npi_load_matrices(uint32_t row, uint32_t (&to)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

/* Two floats as bf16, `low` in the lower half. */
static __device__ __forceinline__ uint32_t npi_pack_bf16(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/* Half 0 (the lower) or 1 of such a pair. */
static __device__ __forceinline__ float npi_unpack_bf16(uint32_t packed, int half) {
    return __uint_as_float(half ? packed & 0xffff0000u : packed << 16);
}

/* The larger of each pair of bf16; NaN where one of them is. */
static __device__ __forceinline__ uint32_t npi_max_bf16(uint32_t a, uint32_t b) {
    uint32_t larger;
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
}

/* What wgmma is told of an operand in shared memory: layout 0 as it lies, 1 with the 128-byte swizzle (16-byte chunk j
 * of a 128-byte row lies at chunk j ^ (address bits 7-9)).  `lead` and `stride` in bytes:
 *   K innermost, layout 1: stride = from 8 rows to the next 8; lead is not read;
 *   K innermost, layout 0: 8 rows of 16 bytes lie together; stride = to the next 8 rows, lead = to the next 8 of K;
 *   M or N innermost, layout 1: 8 of K lie together as rows of 64 elements; stride = to the next 8 of K, lead = to the
 *     next 64 of M or N;
 *   M or N innermost, layout 0: 8 of K as rows of 8 elements; lead = to the next 8 of K, stride = to the next 8 of M or
 *     N.
 * Adding x >> 4 to a descriptor moves it by x bytes. */
static __device__ __forceinline__ uint64_t npi_operand(uint32_t address, uint32_t lead,
                                                       uint32_t stride, uint32_t layout) {
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(lead >> 4) << 16 |
           (uint64_t)(stride >> 4) << 32 | (uint64_t)layout << 62;
}

static __device__ __forceinline__ void npi_wgmma_fence(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void npi_wgmma_commit(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING> static __device__ __forceinline__ void npi_wgmma_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* The registers' values are final: none of their uses may move above. */
template <int COUNT> static __device__ __forceinline__ void npi_settle(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        asm volatile("" : "+f"(d[i])::"memory");
}

/* Sums of a product as operands of asm: 4 and 8 of an array's. */
#define NPI_ACC4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define NPI_ACC8(d, i) NPI_ACC4(d, i), NPI_ACC4(d, i + 4)

/* d += A * B over 16 of K, by the 128 threads of a warpgroup.  Thread t holds of row 16 (t / 32) + (t % 32) / 4 (d[4j],
 * d[4j + 1]) and of 8 rows below (d[4j + 2], d[4j + 3]) the columns 8j + 2 (t % 4) + {0, 1}.  TRANSPOSED: both operands
 * lie with M and N innermost. */

template <int TRANSPOSED>
static __device__ __forceinline__ void npi_wgmma(float (&d)[96], uint64_t a, uint64_t b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "
                 "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
                 "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "
                 "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "
                 "%60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, "
                 "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, "
                 "%84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95}, "
                 "%96, %97, p, 1, 1, %98, %99;\n}\n"
                 : NPI_ACC8(d, 0), NPI_ACC8(d, 8), NPI_ACC8(d, 16), NPI_ACC8(d, 24),
                   NPI_ACC8(d, 32), NPI_ACC8(d, 40), NPI_ACC8(d, 48), NPI_ACC8(d, 56),
                   NPI_ACC8(d, 64), NPI_ACC8(d, 72), NPI_ACC8(d, 80), NPI_ACC8(d, 88)
                 : "l"(a), "l"(b), "n"(TRANSPOSED), "n"(TRANSPOSED));
}

template <int TRANSPOSED>
static __device__ __forceinline__ void npi_wgmma(float (&d)[12], uint64_t a, uint64_t b) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n24k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11}, "
                 "%12, %13, p, 1, 1, %14, %15;\n}\n"
                 : NPI_ACC8(d, 0), NPI_ACC4(d, 8)
                 : "l"(a), "l"(b), "n"(TRANSPOSED), "n"(TRANSPOSED));
}

#endif
#endif
