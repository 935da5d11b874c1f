#include <math.h>

#include "devices/cpu/cpu_math.h"
#include "devices/cpu/cpu_tokens.h"

static npos_status linear_forward(npi_device *dev, int n, int in, int out, const float *x,
                                  const float *weight, const float *bias, bool relu, float *y) {
    npi_gemm g = {.m = n,
                  .n = out,
                  .k = in,
                  .a = x,
                  .a_row = in,
                  .a_col = 1,
                  .b = weight,
                  .b_row = 1,
                  .b_col = in,
                  .c = y,
                  .ldc = out,
                  .relu = relu,
                  .bias = bias};
    return npi_cpu_gemm(dev, &g);
}

/* 64 columns at a time are one task. */
void npi_cpu_column_sums(int threads, int n, int width, const float *rows, ptrdiff_t step,
                         float *to) {
    enum { STRIP = 64 };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int start = 0; start < width; start += STRIP) {
        int end = start + STRIP < width ? start + STRIP : width;
        double sum[STRIP] = {0};
        for (int i = 0; i < n; i++)
            for (int j = start; j < end; j++)
                sum[j - start] += (double)rows[i * step + j];
        for (int j = start; j < end; j++)
            to[j] = (float)sum[j - start];
    }
}

static npos_status linear_backward(npi_device *dev, int n, int in, int out, const float *x,
                                   const float *weight, const float *y, bool relu, float *dy,
                                   float *dweight, float *dbias, float *dx, int dx_rows,
                                   bool accumulate) {
    int threads = (double)n * out < 3e4 ? 1 : npi_cpu_of(dev)->threads;
    if (relu) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < out; j++) {
                ptrdiff_t at = (ptrdiff_t)i * out + j;
                dy[at] = y[at] > 0.0f ? dy[at] : 0.0f;
            }
    }
    if (dbias)
        npi_cpu_column_sums(threads, n, out, dy, out, dbias);
    npi_gemm by_weights = {.m = out,
                           .n = in,
                           .k = n,
                           .a = dy,
                           .a_row = 1,
                           .a_col = out,
                           .b = x,
                           .b_row = in,
                           .b_col = 1,
                           .c = dweight,
                           .ldc = in};
    NPI_TRY(npi_cpu_gemm(dev, &by_weights));
    if (!dx)
        return NPOS_OK;
    npi_gemm by_data = {.m = dx_rows,
                        .n = in,
                        .k = out,
                        .a = dy,
                        .a_row = out,
                        .a_col = 1,
                        .b = weight,
                        .b_row = in,
                        .b_col = 1,
                        .c = dx,
                        .ldc = in,
                        .add = accumulate};
    return npi_cpu_gemm(dev, &by_data);
}

static npos_status normalize_forward(npi_device *dev, int n, int d, const float *x, float *z,
                                     float *norms) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    const npi_math *math = npi_math_of(cpu->isa);
    int threads = (double)n * d < 3e4 ? 1 : cpu->threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < n; i++) {
        const float *row = x + (ptrdiff_t)i * d;
        float norm = (float)sqrt(math->dot((size_t)d, row, row));
        norm = norm < 1e-12f ? 1e-12f : norm;
        float inverse = 1.0f / norm;
        for (int j = 0; j < d; j++)
            z[(ptrdiff_t)i * d + j] = row[j] * inverse;
        if (norms)
            norms[i] = norm;
    }
    return NPOS_OK;
}

static npos_status normalize_backward(npi_device *dev, int n, int d, const float *z,
                                      const float *norms, const float *dz, float *dx,
                                      bool accumulate) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    const npi_math *math = npi_math_of(cpu->isa);
    int threads = (double)n * d < 3e4 ? 1 : cpu->threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < n; i++) {
        ptrdiff_t at = (ptrdiff_t)i * d;
        float along = (float)math->dot((size_t)d, z + at, dz + at), inverse = 1.0f / norms[i];
        for (int j = 0; j < d; j++) {
            float g = (dz[at + j] - z[at + j] * along) * inverse;
            dx[at + j] = accumulate ? dx[at + j] + g : g;
        }
    }
    return NPOS_OK;
}

const npi_rows_ops npi_cpu_rows = {
    .linear_forward = linear_forward,
    .linear_backward = linear_backward,
    .normalize_forward = normalize_forward,
    .normalize_backward = normalize_backward,
    .layer_norm_forward = npi_cpu_layer_norm_forward,
    .layer_norm_backward = npi_cpu_layer_norm_backward,
};
