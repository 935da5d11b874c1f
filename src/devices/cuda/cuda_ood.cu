#include "devices/cuda/cuda_ood.cuh"

#include <cstdlib>
#include <cstring>

/* ---- rings ---- */

enum { PUSH_THREADS = 512, PUSH_WARPS = PUSH_THREADS / 32 };

/* A block to each class, so that nobody else reads the count that it writes.  Row number r of the
 * class's `total` in this push goes to place count + r; of more than `size` only the newest are
 * written, so no place is written twice. */
static __global__ void __launch_bounds__(PUSH_THREADS)
    push_rows(npi_ring ring, int n, const float *h, const int32_t *labels) {
    __shared__ int in_warp[PUSH_WARPS];
    int label = (int)blockIdx.x, thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32;
    int total = 0;
    for (int first = 0; first < n; first += PUSH_THREADS)
        total += __syncthreads_count(first + thread < n && labels[first + thread] == label);
    uint64_t count = ring.count[label];
    int before = 0; /* rows of the class in earlier tiles */
    for (int first = 0; first < n && before < total; first += PUSH_THREADS) {
        bool mine = first + thread < n && labels[first + thread] == label;
        unsigned rows = __ballot_sync(0xffffffffu, mine);
        __syncthreads(); /* all have read the tile before */
        if (lane == 0)
            in_warp[warp] = __popc(rows);
        __syncthreads();
        int rank = before;
        for (int w = 0; w < PUSH_WARPS; w++) {
            rank += w < warp ? in_warp[w] : 0;
            before += in_warp[w];
        }
        for (; rows != 0; rows &= rows - 1, rank++) {
            if (rank < total - ring.size)
                continue;
            const float *from = h + (int64_t)(first + 32 * warp + __ffs((int)rows) - 1) * ring.dim;
            uint64_t place = (count + (uint64_t)rank) % (uint64_t)ring.size;
            float *to = ring.rows + ((int64_t)label * ring.size + (int64_t)place) * ring.dim;
#pragma unroll 4
            for (int j = lane; j < ring.dim; j += 32)
                to[j] = from[j];
        }
    }
    __syncthreads();
    if (thread == 0)
        ring.count[label] = count + (uint64_t)total;
}

static npos_status ring_push(npi_device *dev, const npi_ring *ring, int n, const float *h,
                             const int32_t *labels) {
    push_rows<<<(unsigned)ring->classes, PUSH_THREADS, 0, npi_cuda_stream(dev)>>>(*ring, n, h,
                                                                                  labels);
    return npi_cuda_launched(dev, "ring push");
}

/* ---- for all files ---- */

/* As cublasGemmStridedBatchedEx with a float32 result; never in TF32.  To cuBLAS, which counts by
 * columns, a row-major array is its transpose. */
static cublasStatus_t gemm(cublasHandle_t blas, cublasOperation_t op_a, cublasOperation_t op_b,
                           const npi_row_product *p) {
    const float zero = 0.0f;
    cublasMath_t mode;
    cublasStatus_t status = cublasGetMathMode(blas, &mode);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = cublasSetMathMode(blas, CUBLAS_DEFAULT_MATH);
    if (status != CUBLAS_STATUS_SUCCESS)
        return status;
    status = cublasGemmStridedBatchedEx(blas, op_a, op_b, p->y_rows, p->x_rows, p->depth, &p->scale,
                                        p->y, p->type, p->ldy, p->y_stride, p->x, p->type, p->ldx,
                                        p->x_stride, &zero, p->c, CUDA_R_32F, p->ldc, p->c_stride,
                                        p->batch, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    cublasSetMathMode(blas, mode);
    return status;
}

npos_status npi_cuda_row_product(npi_device *dev, const char *operation, const npi_row_product *p) {
    if (p->x_rows == 0 || p->y_rows == 0)
        return NPOS_OK;
    return npi_cublas_status(gemm(npi_cuda_blas(dev), CUBLAS_OP_T, CUBLAS_OP_N, p), operation);
}

npos_status npi_cuda_column_product(npi_device *dev, const char *operation, int rows, int columns,
                                    const float *x, float *c) {
    npi_row_product p = {.type = CUDA_R_32F,
                         .x_rows = columns,
                         .y_rows = columns,
                         .depth = rows,
                         .x = x,
                         .y = x,
                         .c = c,
                         .ldx = columns,
                         .ldy = columns,
                         .ldc = columns,
                         .scale = 1.0f,
                         .batch = 1};
    return npi_cublas_status(gemm(npi_cuda_blas(dev), CUBLAS_OP_N, CUBLAS_OP_T, &p), operation);
}

size_t npi_cuda_lay_out(const npi_piece *pieces, int count, void *at) {
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        if (at) {
            void *place = (char *)at + used;
            memcpy(pieces[i].slot, &place, sizeof place);
        }
        used += (pieces[i].bytes + 255) & ~(size_t)255;
    }
    return used;
}

static void synth_free(npi_device *dev, npi_synth *synth) {
    if (!synth)
        return;
    dev->memory->free(dev, synth->memory);
    free(synth);
}

const npi_ood_ops npi_cuda_ood = {.ring_push = ring_push,
                                  .synth_create = npi_cuda_synth_create,
                                  .synth_free = synth_free,
                                  .synthesise = npi_cuda_synthesise,
                                  .gauss_create = npi_cuda_gauss_create,
                                  .gauss_synthesise = npi_cuda_gauss_synthesise,
                                  .kth_neighbour = npi_cuda_kth_neighbour,
                                  .neighbours = npi_cuda_neighbours};
