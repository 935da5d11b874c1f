#include "devices/cuda/cuda_columns.cuh"

enum { COLUMNS = 32, ROWS = 8 };

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
    if (columns > 0)
        finish_columns<<<(unsigned)npi_ceil_div(columns, COLUMNS), dim3(COLUMNS, ROWS), 0,
                         npi_cuda_stream(dev)>>>(parts, first, columns, partial, to_first,
                                                 to_second);
    return npi_cuda_launched(dev, "sums over rows");
}
