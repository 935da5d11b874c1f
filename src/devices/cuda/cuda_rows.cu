#include "devices/cuda/cuda_columns.cuh"

/* Linear layers: the products by cuBLAS, all else by kernels of our own.  A layer with few outputs
 * (the outlier head's last has one) is no matter for a matrix product: it is summed here.
 *
 * Sums over rows, of which there may be 40,000: PART rows to a block, one float32 partial sum a
 * block and column; then the partial sums in order, in float64. */
enum { COLUMNS = 32, ROWS = 8, PART = 128, NARROW = 4, WARPS = 8 };

static dim3 tile(void) {
    return dim3(COLUMNS, ROWS);
}

/* Of an n x columns array: its rows by `rows` in x (2^31 may be), its columns by COLUMNS in y. */
static dim3 tiles(int64_t n, int rows, int columns) {
    return dim3((unsigned)npi_ceil_div(n, rows), (unsigned)npi_ceil_div(columns, COLUMNS));
}

/* y = relu?( y + bias ), in place */
static __global__ void add_bias(int n, int out, const float *bias, bool relu, float *y) {
    int o = (int)(blockIdx.y * COLUMNS + threadIdx.x);
    if (o >= out)
        return;
    float b = bias ? bias[o] : 0.0f;
    int64_t i = (int64_t)blockIdx.x * (4 * ROWS) + threadIdx.y;
#pragma unroll
    for (int k = 0; k < 4; k++, i += ROWS)
        if (i < n) {
            float sum = y[i * out + o] + b;
            y[i * out + o] = relu && sum <= 0.0f ? 0.0f : sum;
        }
}

/* A warp to each row, for out <= NARROW. */
static __global__ void narrow_forward(int n, int in, int out, const float *x, const float *weight,
                                      const float *bias, bool relu, float *y) {
    int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (i >= n) /* whole warps */
        return;
    float sum[NARROW] = {};
    for (int j = lane; j < in; j += 32) {
        float value = x[i * in + j];
#pragma unroll
        for (int o = 0; o < NARROW; o++)
            if (o < out)
                sum[o] = fmaf(value, weight[(int64_t)o * in + j], sum[o]);
    }
#pragma unroll
    for (int o = 0; o < NARROW; o++)
        if (o < out) {
            float total = npi_warp_sum(sum[o]) + (bias ? bias[o] : 0.0f);
            if (lane == 0)
                y[i * out + o] = relu && total <= 0.0f ? 0.0f : total;
        }
}

static npos_status linear_forward(npi_device *dev, int n, int in, int out, const float *x,
                                  const float *weight, const float *bias, bool relu, float *y) {
    if (n == 0 || out == 0)
        return NPOS_OK;
    cudaStream_t stream = npi_cuda_stream(dev);
    if (out <= NARROW) {
        narrow_forward<<<(unsigned)npi_ceil_div(n, WARPS), 32 * WARPS, 0, stream>>>(
            n, in, out, x, weight, bias, relu, y);
        return npi_cuda_launched(dev, "linear forward");
    }
    const float one = 1.0f, zero = 0.0f;
    /* to cuBLAS, which counts by columns, a row-major array is its transpose: y^T = W x^T */
    CUBLAS_TRY("linear forward", cublasSgemm(npi_cuda_blas(dev), CUBLAS_OP_T, CUBLAS_OP_N, out, n,
                                             in, &one, weight, in, x, in, &zero, y, out));
    if (bias || relu)
        add_bias<<<tiles(n, 4 * ROWS, out), tile(), 0, stream>>>(n, out, bias, relu, y);
    return npi_cuda_launched(dev, "linear forward");
}

/* The sum of a tile's rows of threads, in threadIdx.y == 0. */
static __device__ __forceinline__ float tile_sum(float (*shared)[COLUMNS], float value) {
    __syncthreads();
    shared[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    float sum = 0.0f;
    for (int r = 0; threadIdx.y == 0 && r < ROWS; r++)
        sum += shared[r][threadIdx.x];
    return sum;
}

/* dy is masked by y > 0 where there is a y; partial[part * stride + o] = the part's sum of column o
 * where there is a partial. */
static __global__ void mask_and_sum(int n, int out, const float *y, float *dy, float *partial,
                                    int64_t stride) {
    __shared__ float shared[ROWS][COLUMNS];
    int o = (int)(blockIdx.y * COLUMNS + threadIdx.x);
    int64_t first = (int64_t)blockIdx.x * PART, end = min(first + PART, (int64_t)n);
    float sum = 0.0f, g[PART / ROWS],
          passed[PART / ROWS]; /* all loads first: few threads, long waits */
#pragma unroll
    for (int k = 0; k < PART / ROWS; k++) {
        int64_t i = first + threadIdx.y + k * ROWS;
        bool there = o < out && i < end;
        g[k] = there ? dy[i * out + o] : 0.0f;
        passed[k] = there && y ? y[i * out + o] : 1.0f;
    }
#pragma unroll
    for (int k = 0; k < PART / ROWS; k++) {
        int64_t i = first + threadIdx.y + k * ROWS;
        if (passed[k] > 0.0f) {
            sum += g[k];
        } else if (o < out && i < end) {
            dy[i * out + o] = 0.0f;
        }
    }
    sum = tile_sum(shared, sum);
    if (partial && threadIdx.y == 0 && o < out)
        partial[(int64_t)blockIdx.x * stride + o] = sum;
}

/* partial[part * stride + o * in + j] = the part's sum of dy_io x_ij, for out <= NARROW */
static __global__ void narrow_weights(int n, int in, int out, const float *x, const float *dy,
                                      float *partial, int64_t stride) {
    __shared__ float shared[ROWS][COLUMNS];
    int j = (int)(blockIdx.y * COLUMNS + threadIdx.x);
    int64_t first = (int64_t)blockIdx.x * PART, end = min(first + PART, (int64_t)n);
    float sum[NARROW] = {};
#pragma unroll 4
    for (int64_t i = first + threadIdx.y; j < in && i < end; i += ROWS) {
        float value = x[i * in + j];
#pragma unroll
        for (int o = 0; o < NARROW; o++)
            if (o < out)
                sum[o] = fmaf(dy[i * out + o], value, sum[o]);
    }
#pragma unroll
    for (int o = 0; o < NARROW; o++)
        if (o < out) { /* the same for the whole block, which tile_sum needs */
            float total = tile_sum(shared, sum[o]);
            if (threadIdx.y == 0 && j < in)
                partial[(int64_t)blockIdx.x * stride + (int64_t)o * in + j] = total;
        }
}

/* dx (+)= dy W, for out <= NARROW */
static __global__ void narrow_inputs(int n, int in, int out, const float *dy, const float *weight,
                                     bool accumulate, float *dx) {
    int j = (int)(blockIdx.y * COLUMNS + threadIdx.x);
    if (j >= in)
        return;
    float w[NARROW];
#pragma unroll
    for (int o = 0; o < NARROW; o++)
        w[o] = o < out ? weight[(int64_t)o * in + j] : 0.0f;
    int64_t i = (int64_t)blockIdx.x * (4 * ROWS) + threadIdx.y;
#pragma unroll
    for (int k = 0; k < 4; k++, i += ROWS)
        if (i < n) {
            float sum = accumulate ? dx[i * in + j] : 0.0f;
#pragma unroll
            for (int o = 0; o < NARROW; o++)
                if (o < out)
                    sum = fmaf(dy[i * out + o], w[o], sum);
            dx[i * in + j] = sum;
        }
}

/* dW = dy^T x,  db = sum of dy's rows,  dx (+)= dy W of the first dx_rows rows */
static npos_status linear_backward(npi_device *dev, int n, int in, int out, const float *x,
                                   const float *weight, const float *y, bool relu, float *dy,
                                   float *dweight, float *dbias, float *dx, int dx_rows,
                                   bool accumulate) {
    if (dx && (dx_rows < 0 || dx_rows > n))
        return npi_fail(NPOS_INVALID_ARGUMENT, "linear: dx has %d rows, expected 0 to %d", dx_rows,
                        n);
    if (out == 0 || in == 0)
        return NPOS_OK;
    cudaStream_t stream = npi_cuda_stream(dev);
    bool narrow = out <= NARROW, inputs = dx && dx_rows > 0;
    int parts = npi_ceil_div(n, PART);
    int64_t weights = narrow ? (int64_t)out * in : 0, biases = dbias ? out : 0;
    int64_t columns = weights + biases;
    float *partial;
    NPI_TRY(npi_cuda_scratch(dev, (size_t)(parts * columns) * sizeof *partial + 1, &partial));
    if (n > 0 && (relu || dbias))
        mask_and_sum<<<tiles(n, PART, out), tile(), 0, stream>>>(
            n, out, relu ? y : NULL, dy, dbias ? partial + weights : NULL, columns);
    if (n > 0 && narrow)
        narrow_weights<<<tiles(n, PART, in), tile(), 0, stream>>>(n, in, out, x, dy, partial,
                                                                  columns);
    NPI_TRY(npi_finish_columns(dev, parts, weights, biases, partial, dweight, dbias));
    if (narrow && inputs)
        narrow_inputs<<<tiles(dx_rows, 4 * ROWS, in), tile(), 0, stream>>>(dx_rows, in, out, dy,
                                                                           weight, accumulate, dx);
    if (narrow)
        return npi_cuda_launched(dev, "linear backward");
    if (n == 0)
        return npi_cuda_status(
            cudaMemsetAsync(dweight, 0, (size_t)out * (size_t)in * sizeof *dweight, stream),
            "linear backward");
    cublasHandle_t blas = npi_cuda_blas(dev);
    const float one = 1.0f, zero = 0.0f;
    CUBLAS_TRY("linear backward", cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_T, in, out, n, &one, x,
                                              in, dy, out, &zero, dweight, in));
    if (inputs)
        CUBLAS_TRY("linear backward",
                   cublasSgemm(blas, CUBLAS_OP_N, CUBLAS_OP_N, in, dx_rows, out, &one, weight, in,
                               dy, out, accumulate ? &one : &zero, dx, in));
    return npi_cuda_launched(dev, "linear backward");
}

/* A warp to each row; the length in float64, as squares of float32 may leave its range. */
static __global__ void normalize_rows(int n, int d, const float *x, float *z, float *norms) {
    int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (i >= n) /* whole warps */
        return;
    double square = 0.0;
    for (int j = lane; j < d; j += 32)
        square += (double)x[i * d + j] * (double)x[i * d + j];
    double length = sqrt(npi_warp_sum_double(square));
    float norm = (float)(length < 1e-12 ? 1e-12 : length);
    for (int j = lane; j < d; j += 32)
        z[i * d + j] = x[i * d + j] / norm;
    if (norms && lane == 0)
        norms[i] = norm;
}

static npos_status normalize_forward(npi_device *dev, int n, int d, const float *x, float *z,
                                     float *norms) {
    if (n == 0)
        return NPOS_OK;
    normalize_rows<<<(unsigned)npi_ceil_div(n, WARPS), 32 * WARPS, 0, npi_cuda_stream(dev)>>>(
        n, d, x, z, norms);
    return npi_cuda_launched(dev, "normalise forward");
}

/* dx (+)= (dz - z (z . dz)) / |x| */
static __global__ void normalize_rows_backward(int n, int d, const float *z, const float *norms,
                                               const float *dz, float *dx, bool accumulate) {
    int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (i >= n) /* whole warps */
        return;
    double product = 0.0;
    for (int j = lane; j < d; j += 32)
        product += (double)z[i * d + j] * (double)dz[i * d + j];
    float along = (float)npi_warp_sum_double(product), norm = norms[i];
    for (int64_t j = i * d + lane; j < (i + 1) * d; j += 32) {
        float g = fmaf(-along, z[j], dz[j]) / norm;
        dx[j] = accumulate ? dx[j] + g : g;
    }
}

static npos_status normalize_backward(npi_device *dev, int n, int d, const float *z,
                                      const float *norms, const float *dz, float *dx,
                                      bool accumulate) {
    if (n == 0)
        return NPOS_OK;
    normalize_rows_backward<<<(unsigned)npi_ceil_div(n, WARPS), 32 * WARPS, 0,
                              npi_cuda_stream(dev)>>>(n, d, z, norms, dz, dx, accumulate);
    return npi_cuda_launched(dev, "normalise backward");
}

const npi_rows_ops npi_cuda_rows = {.linear_forward = linear_forward,
                                    .linear_backward = linear_backward,
                                    .normalize_forward = normalize_forward,
                                    .normalize_backward = normalize_backward,
                                    .layer_norm_forward = npi_cuda_layer_norm_forward,
                                    .layer_norm_backward = npi_cuda_layer_norm_backward};
