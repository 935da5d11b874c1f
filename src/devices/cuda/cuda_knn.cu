/* The entries for neighbours: rows to halves, products by cuBLAS, the rest in cuda_knn_select.cu. */
#include <cstring>

#include "devices/cuda/cuda_knn.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, WORKSPACE_BYTES = 512 << 20, FEW_QUERIES = 64 };

/* By one lane of a warp; most calls find that there is nothing to do. */
static __device__ __forceinline__ void raise(uint32_t *to, uint32_t bits) {
    if (bits > *(volatile uint32_t *)to)
        atomicMax(to, bits);
}

/* A warp to each row: the largest element of all. */
static __global__ void __launch_bounds__(THREADS)
    measure_rows(npi_half_rows rows, int64_t n, int dim) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (row >= n) /* whole warps */
        return;
    bool fours = npi_in_fours(rows.from, dim);
    const float *from = rows.from + row * dim;
    float most = 0.0f;
#pragma unroll 4
    for (int j = 4 * lane; j < dim; j += 128) {
        float4 x = npi_load_four(fours, from, j, dim);
        float size[4] = {fabsf(x.x), fabsf(x.y), fabsf(x.z), fabsf(x.w)};
#pragma unroll
        for (int i = 0; i < 4; i++)
            most = size[i] < INFINITY ? fmaxf(most, size[i]) : most;
    }
    most = npi_warp_max(most);
    if (lane == 0)
        raise(&rows.bounds->element, __float_as_uint(most));
}

/* A warp to each row. */
static __global__ void __launch_bounds__(THREADS)
    round_rows(npi_half_rows rows, int64_t n, int64_t padded, int dim, int depth) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (row >= padded) /* whole warps */
        return;
    /* the largest element becomes 2^13 to 2^14: what is small beside it keeps its bits too */
    float largest = __uint_as_float(rows.bounds->element);
    int power = largest > 0.0f ? min(max(13 - ilogbf(largest), -100), 100) : 0;
    float scale = ldexpf(1.0f, power);
    double inverse = ldexp(1.0, -power), square = 0.0, error = 0.0;
    bool fours = npi_in_fours(rows.from, dim);
    const float *from = rows.from + row * dim;
    __half *to = rows.to + row * depth;
#pragma unroll 4
    for (int j = 4 * lane; j < depth; j += 128) {
        float4 four = npi_load_four(fours, from, j, row < n ? dim : 0);
        float x[4] = {four.x, four.y, four.z, four.w};
        __half rounded[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            rounded[i] = __float2half_rn(x[i] * scale);
            double missing = (double)x[i] - (double)__half2float(rounded[i]) * inverse;
            square += (double)x[i] * (double)x[i];
            error += missing * missing;
        }
        uint2 bits;
        memcpy(&bits, rounded, sizeof bits);
        *(uint2 *)(to + j) = bits;
    }
    square = npi_warp_sum_double(square);
    error = npi_warp_sum_double(error);
    bool bounded = square < 1e30; /* false for what is not a number, too */
    for (int j = 4 * lane; !bounded && j < depth; j += 128)
        *(uint2 *)(to + j) = make_uint2(0, 0);
    if (lane != 0)
        return;
    if (row == 0)
        *rows.scale = scale;
    if (rows.square)
        rows.square[row] = bounded && row < n ? (float)square : INFINITY;
    if (row >= n)
        return;
    float norm = bounded ? __double2float_ru(sqrt(square) * (1.0 + 1e-9)) : INFINITY,
          off = bounded ? __double2float_ru(sqrt(error) * (1.0 + 1e-9)) : INFINITY;
    if (rows.norm) {
        rows.norm[row] = norm;
        rows.error[row] = off;
    }
    if (!bounded) {
        raise(&rows.bounds->unbounded, square < INFINITY ? 2 : 1);
        return;
    }
    raise(&rows.bounds->norm, __float_as_uint(norm));
    raise(&rows.bounds->error, __float_as_uint(off));
    raise(&rows.bounds->square, __float_as_uint((float)square));
    raise(&rows.bounds->least_square, ~__float_as_uint((float)square));
}

static npos_status to_halves(npi_device *dev, const npi_half_rows *rows, int64_t n, int64_t padded,
                             int dim, int depth) {
    cudaStream_t stream = npi_cuda_stream(dev);
    unsigned blocks = (unsigned)npi_ceil_div(padded, WARPS);
    CUDA_TRY("neighbours", cudaMemsetAsync(rows->bounds, 0, sizeof *rows->bounds, stream));
    measure_rows<<<blocks, THREADS, 0, stream>>>(*rows, n, dim);
    round_rows<<<blocks, THREADS, 0, stream>>>(*rows, n, padded, dim, depth);
    return npi_cuda_launched(dev, "neighbours: rows");
}

static npos_status lay_out(npi_device *dev, npi_search *s, int chunk) {
    size_t q = (size_t)chunk, columns = (size_t)s->columns, depth = (size_t)s->depth;
    npi_piece pieces[] = {{&s->product, q * columns * sizeof(float)},
                          {&s->queries.to, q * depth * sizeof(__half)},
                          {&s->queries.norm, q * sizeof(float)},
                          {&s->queries.error, q * sizeof(float)},
                          {&s->queries.scale, sizeof(float)},
                          {&s->queries.bounds, sizeof(npi_row_bounds)},
                          {&s->bank.to, columns * depth * sizeof(__half)},
                          {&s->bank.square, columns * sizeof(float)},
                          {&s->bank.scale, sizeof(float)},
                          {&s->bank.bounds, sizeof(npi_row_bounds)}};
    int count = s->plain ? 1 : (int)(sizeof pieces / sizeof *pieces);
    void *memory;
    NPI_TRY(npi_cuda_scratch(dev, npi_cuda_lay_out(pieces, count, NULL), &memory));
    npi_cuda_lay_out(pieces, count, memory);
    return NPOS_OK;
}

/* Queries at a time: what WORKSPACE_BYTES hold, in chunks of about one size. */
static int chunk_of(int n, int columns) {
    int64_t fit = WORKSPACE_BYTES / ((int64_t)sizeof(float) * columns);
    int most = fit < FEW_QUERIES ? FEW_QUERIES : fit < n ? (int)fit : n;
    int chunk = npi_ceil_div(n, npi_ceil_div(n, most)), whole = (chunk + 127) / 128 * 128;
    return whole <= most ? whole : chunk;
}

static npos_status find(npi_device *dev, int n, const float *queries, int64_t m, const float *bank,
                        int dim, int k, float *kth, int64_t *index, float *distance) {
    if (n < 0 || dim < 1 || k < 1 || k > m || m > INT32_MAX - 65536)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "neighbours: k is %d, expected 1 to the bank's %lld rows, fewer than 2^31 "
                        "(%d queries of dimension %d)",
                        k, (long long)m, n, dim);
    if (n == 0)
        return NPOS_OK;
    npi_search s = {.dim = dim,
                    .depth = npi_cuda_padded(dim),
                    .k = k,
                    .m = (int)m,
                    .columns = npi_cuda_padded((int)m),
                    .room = npi_cuda_select_room(k),
                    .plain = npi_cuda_select_room(k) == 0};
    int chunk = chunk_of(n, s.columns);
    NPI_TRY(lay_out(dev, &s, chunk));
    s.bank.from = bank;
    if (!s.plain)
        NPI_TRY(to_halves(dev, &s.bank, m, s.columns, dim, s.depth));
    for (int first = 0; first < n; first += chunk) {
        int count = min(chunk, n - first);
        int64_t at = (int64_t)first * k;
        s.queries.from = queries + (int64_t)first * dim;
        npi_row_product product = {.type = CUDA_R_16F,
                                   .x_rows = count,
                                   .y_rows = s.columns,
                                   .depth = s.depth,
                                   .x = s.queries.to,
                                   .y = s.bank.to,
                                   .c = s.product,
                                   .ldx = s.depth,
                                   .ldy = s.depth,
                                   .ldc = s.columns,
                                   .scale = 1.0f,
                                   .batch = 1};
        if (!s.plain) {
            NPI_TRY(to_halves(dev, &s.queries, count, count, dim, s.depth));
            NPI_TRY(npi_cuda_row_product(dev, "neighbours", &product));
        }
        NPI_TRY(npi_cuda_select(dev, &s, count, kth ? kth + first : NULL, index ? index + at : NULL,
                                distance ? distance + at : NULL));
    }
    return NPOS_OK;
}

npos_status npi_cuda_kth_neighbour(npi_device *dev, int n, const float *queries, int64_t m,
                                   const float *bank, int dim, int k, float *distance) {
    return find(dev, n, queries, m, bank, dim, k, distance, NULL, NULL);
}

npos_status npi_cuda_neighbours(npi_device *dev, int n, const float *queries, int64_t m,
                                const float *bank, int dim, int k, int64_t *index,
                                float *distance) {
    return find(dev, n, queries, m, bank, dim, k, NULL, index, distance);
}
