/* devices/cuda/cuda.cuh - what the files of the cuda module share.
 *
 * Layouts.  Activations are N x H x W x C with the channels padded with zeros to a multiple of 8, bf16 or float32
 * (dev->compute).  Convolution weights are out_c x kernel x kernel x c float32; unit->pack makes the padded copies in
 * the compute precision.  Everything else is as tensor/device.h says.
 *
 * Order.  A device enqueues on one stream, its lane 0; between graph->fork(i) and graph->join(i) on lane i.  Kernels
 * take the stream from npi_cuda_stream.  Scratch belongs to a lane and may be used by the next call on that lane.
 *
 * Same inputs, same bits: no floating-point atomics, sums over blocks in an order fixed by the shapes. */
#ifndef NPI_CUDA_CUH
#define NPI_CUDA_CUH

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <cudnn.h>

#include "tensor/device.h"

enum { NPI_CUDA_LANES = 4 };

typedef struct npi_cuda {
    npi_device base;
    char name[16];
    int ordinal, multiprocessors, capability; /* capability: 90 for 9.0 */
    bool synchronous; /* NPOS_CUDA_SYNC=1: wait after each operation, so that errors name it */
    bool capturing;
    int graphs; /* recorded and not freed */
    int lane;   /* where work is enqueued now */
    struct {
        cudaStream_t stream;
        cudaEvent_t forked, joined;
        cublasHandle_t blas;
        cudnnHandle_t dnn;
        void *blas_memory, *scratch;
        size_t scratch_bytes;
    } lanes[NPI_CUDA_LANES];
    size_t bytes, peak;
    void *blocks; /* what alloc handed out: cuda_memory.cu */
    void *convs;  /* planned convolutions: cuda_conv.cu */
    void *packs;  /* weights to be packed: cuda_weights.cu */
    void *posted; /* pinned: NPI_POST_SLOTS times NPI_POST_BYTES */
    cudaEvent_t posts[NPI_POST_SLOTS];
} npi_cuda;

static inline npi_cuda *npi_cuda_of(npi_device *dev) {
    return (npi_cuda *)dev->own;
}

static inline cudaStream_t npi_cuda_stream(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    return cuda->lanes[cuda->lane].stream;
}

/* NPOS_OK, or NPOS_DEVICE (NPOS_OUT_OF_MEMORY) with CUDA's text behind the operation's name. */
npos_status npi_cuda_status(cudaError_t error, const char *operation);
npos_status npi_cublas_status(cublasStatus_t error, const char *operation);
npos_status npi_cudnn_status(cudnnStatus_t error, const char *operation);

#define CUDA_TRY(operation, call) NPI_TRY(npi_cuda_status((call), (operation)))
#define CUBLAS_TRY(operation, call) NPI_TRY(npi_cublas_status((call), (operation)))
#define CUDNN_TRY(operation, call) NPI_TRY(npi_cudnn_status((call), (operation)))

/* After the launches of an operation: reports what the launches themselves found, waits where NPOS_CUDA_SYNC asks. */
npos_status npi_cuda_launched(npi_device *dev, const char *operation);

/* *out = at least `bytes` of device memory, valid for work enqueued by this call of the operation on this lane.  Grows
 * outside of recordings only: whoever records has run the same step before. */
npos_status npi_cuda_scratch(npi_device *dev, size_t bytes, void *out);

/* Frees what alloc handed out and nobody gave back. */
void npi_cuda_free_all(npi_device *dev);

/* The lane's handles, their stream set; cuBLAS computes in float32, or TF32 where the device computes in bf16. */
cublasHandle_t npi_cuda_blas(npi_device *dev);
cudnnHandle_t npi_cuda_dnn(npi_device *dev);
/* What that cuBLAS handle works in, for products that are not its own on the same lane. */
enum { NPI_CUDA_BLAS_BYTES = 32 << 20 };
void *npi_cuda_blas_memory(npi_device *dev);

/* Channels in memory. */
static inline __host__ __device__ int npi_cuda_padded(int c) {
    return (c + 7) & ~7;
}

static inline __host__ __device__ int npi_ceil_div(int64_t a, int64_t b) {
    return (int)((a + b - 1) / b);
}

/* Elements of activations as float32 and back. */
static __device__ __forceinline__ float npi_load(const float *p) {
    return *p;
}
static __device__ __forceinline__ float npi_load(const __nv_bfloat16 *p) {
    return __bfloat162float(*p);
}
static __device__ __forceinline__ void npi_store(float *p, float value) {
    *p = value;
}
static __device__ __forceinline__ void npi_store(__nv_bfloat16 *p, float value) {
    *p = __float2bfloat16(value);
}

/* Eight neighbouring channels: one 16-byte access in bf16, two in float32.  Pointers are 16-byte aligned. */
struct npi_float8 {
    float v[8];
};
static __device__ __forceinline__ npi_float8 npi_load8(const float *p) {
    float4 a = *(const float4 *)p, b = *(const float4 *)(p + 4);
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
static __device__ __forceinline__ npi_float8 npi_load8(const __nv_bfloat16 *p) {
    uint4 words = *(const uint4 *)p;
    uint32_t w[4] = {words.x, words.y, words.z, words.w};
    npi_float8 out;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out.v[2 * i] = __uint_as_float(w[i] << 16);
        out.v[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u);
    }
    return out;
}
static __device__ __forceinline__ void npi_store8(float *p, npi_float8 value) {
    *(float4 *)p = make_float4(value.v[0], value.v[1], value.v[2], value.v[3]);
    *(float4 *)(p + 4) = make_float4(value.v[4], value.v[5], value.v[6], value.v[7]);
}
static __device__ __forceinline__ void npi_store8(__nv_bfloat16 *p, npi_float8 value) {
    __nv_bfloat162 pairs[4];
#pragma unroll
    for (int i = 0; i < 4; i++)
        pairs[i] = __floats2bfloat162_rn(value.v[2 * i], value.v[2 * i + 1]);
    *(uint4 *)p = *(const uint4 *)pairs;
}

/* The sum over a warp, in every lane; the same order always. */
static __device__ __forceinline__ float npi_warp_sum(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

/* Calls f<T>(...) with the compute type of the device: float or __nv_bfloat16. */
#define NPI_BY_TYPE(dev, f, ...)                                                                   \
    ((dev)->compute == NPI_BF16 ? f<__nv_bfloat16>(__VA_ARGS__) : f<float>(__VA_ARGS__))

extern const npi_memory_ops npi_cuda_memory;
extern const npi_graph_ops npi_cuda_graph;
extern const npi_act_ops npi_cuda_acts;
extern const npi_unit_ops npi_cuda_units;
extern const npi_pool_ops npi_cuda_pools;
extern const npi_rows_ops npi_cuda_rows;
extern const npi_loss_ops npi_cuda_losses;
extern const npi_ood_ops npi_cuda_ood;
extern const npi_augment_ops npi_cuda_augment;
extern const npi_optim_ops npi_cuda_optim;
extern const npi_token_ops npi_cuda_tokens;
extern const npi_block_ops npi_cuda_blocks;

#endif
