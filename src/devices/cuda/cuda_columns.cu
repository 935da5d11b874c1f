#include "devices/cuda/cuda_columns.cuh"

enum { COLUMNS = 32, FEW = 8, MANY = 32, MANY_PARTS = 256 };

/* A block of COLUMNS x ROWS threads to COLUMNS columns. */
template <int ROWS>
static __global__ void finish_columns(int parts, int64_t first, int64_t columns,
                                      const float *partial, float *to_first, float *to_second) {
    __shared__ double shared[ROWS][COLUMNS];
    int64_t j = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
    double sum = 0.0;
#pragma unroll 4
    for (int p = (int)threadIdx.y; j < columns && p < parts; p += ROWS)
        sum += (double)partial[p * columns + j];
    shared[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || j >= columns)
        return;
    for (int r = 1; r < ROWS; r++)
        sum += shared[r][threadIdx.x];
    if (j < first)
        to_first[j] = (float)sum;
    else
        to_second[j - first] = (float)sum;
}

npos_status npi_finish_columns(npi_device *dev, int parts, int64_t first, int64_t second,
                               const float *partial, float *to_first, float *to_second) {
    int64_t columns = first + second;
    const bool many = parts >= MANY_PARTS; /* a thread waits for each of its parts */
    if (columns > 0)
        (many ? finish_columns<MANY>
              : finish_columns<FEW>)<<<(unsigned)npi_ceil_div(columns, COLUMNS),
                                       dim3(COLUMNS, many ? MANY : FEW), 0, npi_cuda_stream(dev)>>>(
            parts, first, columns, partial, to_first, to_second);
    return npi_cuda_launched(dev, "sums over rows");
}
