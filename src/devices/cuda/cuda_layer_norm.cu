/* Layer normalisation of float32 rows: a warp to each row, its sums in float64. */
#include "devices/cuda/cuda_columns.cuh"

enum { COLUMNS = 32, ROWS = 8, PART = 128, WARPS = 8 };

/* y may be x: a lane reads and writes the same places, and the sums wait for all lanes. */
static __global__ void forward_rows(int n, int d, const float *x, const float *gamma,
                                    const float *beta, float *y, float *stats) {
    int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (i >= n) /* whole warps */
        return;
    double sum = 0.0, square = 0.0;
    for (int j = lane; j < d; j += 32)
        sum += (double)x[i * d + j];
    const double mean = npi_warp_sum_double(sum) / d;
    for (int j = lane; j < d; j += 32) {
        double off = (double)x[i * d + j] - mean;
        square += off * off;
    }
    const double scale =
        1.0 / sqrt(npi_warp_sum_double(square) / d + (double)NPI_LAYER_NORM_EPSILON);
    for (int j = lane; j < d; j += 32)
        y[i * d + j] =
            (float)(((double)x[i * d + j] - mean) * scale * (double)gamma[j] + (double)beta[j]);
    if (stats && lane == 0) {
        stats[2 * i] = (float)mean;
        stats[2 * i + 1] = (float)scale;
    }
}

npos_status npi_cuda_layer_norm_forward(npi_device *dev, int n, int d, const float *x,
                                        const float *gamma, const float *beta, float *y,
                                        float *stats) {
    if (n == 0)
        return NPOS_OK;
    forward_rows<<<(unsigned)npi_ceil_div(n, WARPS), 32 * WARPS, 0, npi_cuda_stream(dev)>>>(
        n, d, x, gamma, beta, y, stats);
    return npi_cuda_launched(dev, "layer norm forward");
}

/* dx (+)= s (g - mean g - xh mean(g xh)) with g = dy gamma */
static __global__ void backward_rows(int n, int d, const float *x, const float *stats,
                                     const float *gamma, const float *dy, float *dx,
                                     bool accumulate) {
    int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (i >= n) /* whole warps */
        return;
    const double mean = (double)stats[2 * i], scale = (double)stats[2 * i + 1];
    double sum = 0.0, along = 0.0;
    for (int j = lane; j < d; j += 32) {
        double g = (double)dy[i * d + j] * (double)gamma[j];
        sum += g;
        along += g * ((double)x[i * d + j] - mean) * scale;
    }
    sum = npi_warp_sum_double(sum) / d;
    along = npi_warp_sum_double(along) / d;
    for (int j = lane; j < d; j += 32) {
        double g = (double)dy[i * d + j] * (double)gamma[j];
        double to = scale * (g - sum - ((double)x[i * d + j] - mean) * scale * along);
        dx[i * d + j] = accumulate ? (float)((double)dx[i * d + j] + to) : (float)to;
    }
}

/* partial[part][j] = the part's sum of dy xh in column j, [part][d + j] of dy */
static __global__ void backward_columns(int n, int d, const float *x, const float *stats,
                                        const float *dy, float *partial) {
    __shared__ float shared[2][ROWS][COLUMNS];
    int j = (int)(blockIdx.y * COLUMNS + threadIdx.x);
    int64_t first = (int64_t)blockIdx.x * PART, end = min(first + PART, (int64_t)n);
    float sum = 0.0f, along = 0.0f;
    for (int64_t i = first + threadIdx.y; j < d && i < end; i += ROWS) {
        float g = dy[i * d + j];
        sum += g;
        along = fmaf(g, (x[i * d + j] - stats[2 * i]) * stats[2 * i + 1], along);
    }
    shared[0][threadIdx.y][threadIdx.x] = along;
    shared[1][threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y >= 2 || j >= d)
        return;
    float total = 0.0f;
    for (int r = 0; r < ROWS; r++)
        total += shared[threadIdx.y][r][threadIdx.x];
    partial[((int64_t)blockIdx.x * 2 + threadIdx.y) * d + j] = total;
}

npos_status npi_cuda_layer_norm_backward(npi_device *dev, int n, int d, const float *x,
                                         const float *stats, const float *gamma, const float *dy,
                                         float *dgamma, float *dbeta, float *dx, bool accumulate) {
    cudaStream_t stream = npi_cuda_stream(dev);
    const int parts = npi_ceil_div(n, PART);
    float *partial;
    NPI_TRY(npi_cuda_scratch(dev, ((size_t)parts * 2 * (size_t)d + 1) * sizeof *partial, &partial));
    if (n > 0)
        backward_columns<<<dim3((unsigned)parts, (unsigned)npi_ceil_div(d, COLUMNS)),
                           dim3(COLUMNS, ROWS), 0, stream>>>(n, d, x, stats, dy, partial);
    NPI_TRY(npi_finish_columns(dev, parts, d, d, partial, dgamma, dbeta));
    if (n > 0 && dx)
        backward_rows<<<(unsigned)npi_ceil_div(n, WARPS), 32 * WARPS, 0, stream>>>(
            n, d, x, stats, gamma, dy, dx, accumulate);
    return npi_cuda_launched(dev, "layer norm backward");
}
