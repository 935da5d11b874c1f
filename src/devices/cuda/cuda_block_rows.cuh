/* devices/cuda/cuda_block_rows.cuh - what a transformer block does between its matrix products.
 *
 * T: the type that products take; R: the tokens'.  Layer norms are made without gamma and beta, xh = (x - m) s; these are
 * folded into the layer behind, whose weights become W' = W diag(gamma) and whose bias b' = b + W beta.  So what backward
 * keeps of a norm is xh, which that layer's gradient needs anyway, and s; and with M = dy^T xh
 *
 *     dW_oj = gamma_j M_oj + beta_j db_o,   dgamma_j = sum_o W_oj M_oj,   dbeta_j = sum_o W_oj db_o
 *
 * without the norm's input, and without its output's gradient where nothing below trains. */
#ifndef NPI_CUDA_BLOCK_ROWS_CUH
#define NPI_CUDA_BLOCK_ROWS_CUH

#include "devices/cuda/cuda_act.cuh"
#include "devices/cuda/cuda_columns.cuh"
#include "devices/cuda/cuda_tokens.cuh"

namespace block_rows {

constexpr int THREADS = 256, WARPS = THREADS / 32, PART = 128, COLUMNS = 32, ROWS = 8;

static inline unsigned warps_for(int64_t rows) {
    return (unsigned)npi_ceil_div(rows, WARPS);
}

/* ---- norms ---- */

/* A warp to each row: v = x (+ added), xh = (v - m) s.  Rows of x are x_step apart; added, sum (= v), scale (= s) may be
 * NULL. */
template <typename R, typename T> struct norm_rows {
    int64_t rows, x_step;
    int width;
    const R *x;
    const T *added;
    R *sum;
    T *xh;
    float *scale;
};

template <int V, typename R, typename T>
static __global__ void __launch_bounds__(THREADS) normalise_kernel(norm_rows<R, T> p) {
    const int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32, width = p.width;
    if (i >= p.rows) /* whole warps */
        return;
    const R *x = p.x + i * p.x_step;
    const T *added = p.added + i * width;
    const auto at = [&](int j) { return npi_load(x + j) + (p.added ? npi_load(added + j) : 0.0f); };
    const auto eight = [&](int j) {
        npi_float8 v = npi_load8(x + j);
        if (p.added) {
            const npi_float8 more = npi_load8(added + j);
#pragma unroll
            for (int e = 0; e < 8; e++)
                v.v[e] += more.v[e];
        }
        return v;
    };
    npi_float8 row[V > 0 ? V : 1];
    const npi_row_stats stats = npi_row_norm<V>(width, lane, row, at, eight);
    if constexpr (V > 0) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            const int64_t j = i * width + 256 * k + 8 * lane;
            if (p.sum)
                npi_store8(p.sum + j, row[k]);
#pragma unroll
            for (int e = 0; e < 8; e++)
                row[k].v[e] = (row[k].v[e] - stats.mean) * stats.scale;
            npi_store8(p.xh + j, row[k]);
        }
    } else {
        for (int j = lane; j < width; j += 32) {
            const float v = at(j);
            if (p.sum)
                npi_store(p.sum + i * width + j, v);
            npi_store(p.xh + i * width + j, (v - stats.mean) * stats.scale);
        }
    }
    if (p.scale && lane == 0)
        p.scale[i] = stats.scale;
}

template <typename R, typename T>
static void normalise(cudaStream_t stream, const norm_rows<R, T> &p) {
    npi_by_width(p.width, [&](auto v) {
        normalise_kernel<decltype(v)::value><<<warps_for(p.rows), THREADS, 0, stream>>>(p);
    });
}

/* A warp to each row: dx = s (g - mean g - xh mean(g xh)) (+ residual).  Every `every`-th row has a residual: row i that of
 * row i / every; residual may be NULL, or dx where every is 1. */
template <typename T> struct norm_gradient {
    int64_t rows;
    int width, every;
    const T *g, *xh, *residual;
    const float *scale;
    T *dx;
};

template <int V, typename T>
static __global__ void __launch_bounds__(THREADS) norm_back_kernel(norm_gradient<T> p) {
    const int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32, width = p.width;
    if (i >= p.rows) /* whole warps */
        return;
    const T *g = p.g + i * width, *xh = p.xh + i * width;
    const T *residual = p.residual && i % p.every == 0 ? p.residual + i / p.every * width : NULL;
    const float scale = p.scale[i];
    float sum = 0.0f, along = 0.0f;
    T *dx = p.dx + i * width;
    if constexpr (V > 0) {
        npi_float8 gs[V], xs[V];
#pragma unroll
        for (int k = 0; k < V; k++) {
            gs[k] = npi_load8(g + 256 * k + 8 * lane);
            xs[k] = npi_load8(xh + 256 * k + 8 * lane);
#pragma unroll
            for (int e = 0; e < 8; e++) {
                sum += gs[k].v[e];
                along = fmaf(gs[k].v[e], xs[k].v[e], along);
            }
        }
        sum = npi_warp_sum(sum) / (float)width;
        along = npi_warp_sum(along) / (float)width;
#pragma unroll
        for (int k = 0; k < V; k++) {
            const int j = 256 * k + 8 * lane;
            npi_float8 out = {};
            if (residual)
                out = npi_load8(residual + j);
#pragma unroll
            for (int e = 0; e < 8; e++)
                out.v[e] += scale * (gs[k].v[e] - sum - xs[k].v[e] * along);
            npi_store8(dx + j, out);
        }
    } else {
        for (int j = lane; j < width; j += 32) {
            sum += npi_load(g + j);
            along = fmaf(npi_load(g + j), npi_load(xh + j), along);
        }
        sum = npi_warp_sum(sum) / (float)width;
        along = npi_warp_sum(along) / (float)width;
        for (int j = lane; j < width; j += 32)
            npi_store(dx + j, (residual ? npi_load(residual + j) : 0.0f) +
                                  scale * (npi_load(g + j) - sum - npi_load(xh + j) * along));
    }
}

template <typename T> static void norm_back(cudaStream_t stream, const norm_gradient<T> &p) {
    npi_by_width(p.width, [&](auto v) {
        norm_back_kernel<decltype(v)::value><<<warps_for(p.rows), THREADS, 0, stream>>>(p);
    });
}

/* ---- elementwise: a thread to each 8 numbers; counts are multiples of 8 ---- */

static inline unsigned eights(int64_t count) {
    return (unsigned)npi_ceil_div(count / 8, THREADS);
}

template <typename R, typename T>
static __global__ void __launch_bounds__(THREADS)
    add_kernel(int64_t count, const R *a, const T *b, R *sum) {
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * 8;
    if (i >= count)
        return;
    npi_float8 v = npi_load8(a + i);
    const npi_float8 more = npi_load8(b + i);
#pragma unroll
    for (int e = 0; e < 8; e++)
        v.v[e] += more.v[e];
    npi_store8(sum + i, v);
}

/* acted may be f. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    act_kernel(int64_t count, bool gelu, const T *f, T *acted) {
    const int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * 8;
    if (i >= count)
        return;
    npi_float8 v = npi_load8(f + i);
#pragma unroll
    for (int e = 0; e < 8; e += 2) {
        float2 slope;
        const float2 two = npi_activate<T>(gelu, make_float2(v.v[e], v.v[e + 1]), &slope);
        v.v[e] = two.x;
        v.v[e + 1] = two.y;
    }
    npi_store8(acted + i, v);
}

/* ---- sums over rows ---- */

/* partial[part][j], j < columns, = the part's sum over i of at(i, j), which gives columns j..j + 7 of row i. */
template <typename At>
static __device__ __forceinline__ void sum_part(int64_t rows, int columns, float *partial, At at) {
    __shared__ float shared[ROWS][COLUMNS * 8];
    const int j = (int)(blockIdx.y * COLUMNS + threadIdx.x) * 8;
    const int64_t first = (int64_t)blockIdx.x * PART, end = min(first + PART, rows);
    npi_float8 sum = {};
#pragma unroll 4
    for (int64_t i = first + threadIdx.y; j < columns && i < end; i += ROWS) {
        const npi_float8 v = at(i, j);
#pragma unroll
        for (int e = 0; e < 8; e++)
            sum.v[e] += v.v[e];
    }
#pragma unroll
    for (int e = 0; e < 8; e++)
        shared[threadIdx.y][e * COLUMNS + threadIdx.x] = sum.v[e];
    __syncthreads();
    const int e = (int)threadIdx.y; /* ROWS is 8 too */
    if (j + e >= columns)
        return;
    float total = 0.0f;
    for (int r = 0; r < ROWS; r++)
        total += shared[r][e * COLUMNS + threadIdx.x];
    partial[(int64_t)blockIdx.x * columns + j + e] = total;
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    sum_rows_kernel(int64_t rows, int columns, int64_t step, const T *x, float *partial) {
    sum_part(rows, columns, partial, [&](int64_t i, int j) { return npi_load8(x + i * step + j); });
}

/* f = dacted act'(f), whose rows' sums go to partial. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    act_back_kernel(int64_t rows, int columns, int64_t step, bool gelu, const T *dacted, T *f,
                    float *partial) {
    sum_part(rows, columns, partial, [&](int64_t i, int j) {
        const npi_float8 d = npi_load8(dacted + i * step + j);
        npi_float8 v = npi_load8(f + i * step + j);
#pragma unroll
        for (int e = 0; e < 8; e += 2) {
            float2 slope;
            npi_activate<T>(gelu, make_float2(v.v[e], v.v[e + 1]), &slope);
            v.v[e] = d.v[e] * slope.x;
            v.v[e + 1] = d.v[e + 1] * slope.y;
        }
        npi_store8(f + i * step + j, v);
        return v;
    });
}

static inline int parts_of(int64_t rows) {
    return npi_ceil_div(rows, PART);
}

static inline dim3 part_grid(int64_t rows, int columns) {
    return dim3((unsigned)parts_of(rows), (unsigned)npi_ceil_div(columns, COLUMNS * 8));
}

/* to[columns] = the sum of x's rows, which are `step` apart.  columns: a multiple of 8. */
template <typename T>
static npos_status sum_rows(npi_device *dev, int64_t rows, int columns, int64_t step, const T *x,
                            float *partial, float *to) {
    sum_rows_kernel<<<part_grid(rows, columns), dim3(COLUMNS, ROWS), 0, npi_cuda_stream(dev)>>>(
        rows, columns, step, x, partial);
    return npi_finish_columns(dev, parts_of(rows), columns, 0, partial, to, NULL);
}

/* A block to COLUMNS columns j: to[j] = sum of row[i] matrix[i][j]. */
static __global__ void __launch_bounds__(COLUMNS *COLUMNS)
    row_product_kernel(int rows, int columns, const float *row, const float *matrix, float *to) {
    __shared__ float shared[COLUMNS][COLUMNS];
    const int j = (int)(blockIdx.x * COLUMNS + threadIdx.x);
    float sum = 0.0f;
#pragma unroll 8
    for (int i = (int)threadIdx.y; j < columns && i < rows; i += COLUMNS)
        sum = fmaf(row[i], matrix[(int64_t)i * columns + j], sum);
    shared[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || j >= columns)
        return;
    for (int i = 1; i < COLUMNS; i++)
        sum += shared[i][threadIdx.x];
    to[j] = sum;
}

/* to[columns] = row[rows] matrix[rows][columns], in float32. */
static inline npos_status row_product(npi_device *dev, int rows, int columns, const float *row,
                                      const float *matrix, float *to) {
    row_product_kernel<<<(unsigned)npi_ceil_div(columns, COLUMNS), dim3(COLUMNS, COLUMNS), 0,
                         npi_cuda_stream(dev)>>>(rows, columns, row, matrix, to);
    return npi_cuda_launched(dev, "product of a row");
}

/* dbias[columns] with it.  The last 8 of a row may hang over `columns` into what `step` leaves. */
template <typename T>
static npos_status act_back(npi_device *dev, int64_t rows, int columns, int64_t step, bool gelu,
                            const T *dacted, T *f, float *partial, float *dbias) {
    act_back_kernel<<<part_grid(rows, columns), dim3(COLUMNS, ROWS), 0, npi_cuda_stream(dev)>>>(
        rows, columns, step, gelu, dacted, f, partial);
    return npi_finish_columns(dev, parts_of(rows), columns, 0, partial, dbias, NULL);
}

/* ---- weights ---- */

/* A block to each row o of `room` rows of `step`: folded = W diag(gamma), folded_bias = b + W beta; zeros past `out` and
 * `in`.  gamma and beta may be NULL: 1 and 0. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    fold_kernel(int out, int in, int step, const float *weight, const float *bias,
                const float *gamma, const float *beta, T *folded, T *folded_bias) {
    __shared__ float sums[WARPS];
    const int64_t o = blockIdx.x;
    float sum = 0.0f;
#pragma unroll 4
    for (int j = (int)threadIdx.x; j < step; j += THREADS) {
        const float w = o < out && j < in ? weight[o * in + j] : 0.0f;
        npi_store(folded + o * step + j, gamma && j < in ? w * gamma[j] : w);
        if (beta && j < in)
            sum = fmaf(w, beta[j], sum);
    }
    sum = npi_warp_sum(sum);
    if (threadIdx.x % 32 == 0)
        sums[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x > 0)
        return;
    for (int i = 1; i < WARPS; i++)
        sum += sums[i];
    npi_store(folded_bias + o, (o < out ? bias[o] : 0.0f) + sum);
}

/* grad, which holds M, becomes dW; partial[part][in] and [part][in + in] = the part's sums of W M and W db. */
static __global__ void __launch_bounds__(THREADS)
    unfold_kernel(int out, int in, const float *weight, const float *gamma, const float *beta,
                  const float *dbias, float *grad, float *partial) {
    __shared__ float shared[2][ROWS][COLUMNS];
    const int j = (int)(blockIdx.y * COLUMNS + threadIdx.x);
    const int first = (int)blockIdx.x * PART, end = min(first + PART, out);
    float of_gamma = 0.0f, of_beta = 0.0f;
    for (int o = first + (int)threadIdx.y; j < in && o < end; o += ROWS) {
        const int64_t at = (int64_t)o * in + j;
        const float w = weight[at], m = grad[at], db = dbias[o];
        of_gamma = fmaf(w, m, of_gamma);
        of_beta = fmaf(w, db, of_beta);
        grad[at] = fmaf(gamma[j], m, beta[j] * db);
    }
    shared[0][threadIdx.y][threadIdx.x] = of_gamma;
    shared[1][threadIdx.y][threadIdx.x] = of_beta;
    __syncthreads();
    if (threadIdx.y >= 2 || j >= in)
        return;
    float total = 0.0f;
    for (int r = 0; r < ROWS; r++)
        total += shared[threadIdx.y][r][threadIdx.x];
    partial[((int64_t)blockIdx.x * 2 + threadIdx.y) * in + j] = total;
}

static inline npos_status unfold(npi_device *dev, int out, int in, const float *weight,
                                 const float *gamma, const float *beta, const float *dbias,
                                 float *grad, float *partial, float *dgamma, float *dbeta) {
    const dim3 grid((unsigned)parts_of(out), (unsigned)npi_ceil_div(in, COLUMNS));
    unfold_kernel<<<grid, dim3(COLUMNS, ROWS), 0, npi_cuda_stream(dev)>>>(
        out, in, weight, gamma, beta, dbias, grad, partial);
    return npi_finish_columns(dev, parts_of(out), in, in, partial, dgamma, dbeta);
}

} // namespace block_rows

#endif
