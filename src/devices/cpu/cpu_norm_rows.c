#include "devices/cpu/cpu_math.h"
#include "devices/cpu/cpu_tokens.h"

npos_status npi_cpu_layer_norm_forward(npi_device *dev, int n, int d, const float *x,
                                       const float *gamma, const float *beta, float *y,
                                       float *stats) {
    const npi_math *math = npi_math_of(npi_cpu_of(dev)->isa);
    int threads = (double)n * d < 3e4 ? 1 : npi_cpu_of(dev)->threads;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < n; i++)
        math->layer_norm(d, x + (ptrdiff_t)i * d, gamma, beta, y + (ptrdiff_t)i * d,
                         stats ? stats + 2 * (ptrdiff_t)i : NULL);
    return NPOS_OK;
}

/* dgamma and dbeta by columns, rows in order: 64 columns at a time are one task. */
static void to_parameters(int threads, int n, int d, const float *x, const float *stats,
                          const float *dy, float *dgamma, float *dbeta) {
    enum { STRIP = 64 };
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int start = 0; start < d; start += STRIP) {
        int end = start + STRIP < d ? start + STRIP : d;
        double sum[STRIP] = {0}, along[STRIP] = {0};
        for (int i = 0; i < n; i++) {
            double mean = (double)stats[2 * (ptrdiff_t)i],
                   scale = (double)stats[2 * (ptrdiff_t)i + 1];
            const float *g = dy + (ptrdiff_t)i * d, *row = x + (ptrdiff_t)i * d;
            for (int j = start; j < end; j++) {
                sum[j - start] += (double)g[j];
                along[j - start] += (double)g[j] * (((double)row[j] - mean) * scale);
            }
        }
        for (int j = start; j < end; j++) {
            dbeta[j] = (float)sum[j - start];
            dgamma[j] = (float)along[j - start];
        }
    }
}

npos_status npi_cpu_layer_norm_backward(npi_device *dev, int n, int d, const float *x,
                                        const float *stats, const float *gamma, const float *dy,
                                        float *dgamma, float *dbeta, float *dx, bool accumulate) {
    int threads = (double)n * d < 3e4 ? 1 : npi_cpu_of(dev)->threads;
    to_parameters(threads, n, d, x, stats, dy, dgamma, dbeta);
    if (!dx)
        return NPOS_OK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < n; i++) {
        const float *row = x + (ptrdiff_t)i * d, *g = dy + (ptrdiff_t)i * d;
        double mean = (double)stats[2 * (ptrdiff_t)i], scale = (double)stats[2 * (ptrdiff_t)i + 1];
        double sum = 0.0, along = 0.0;
        for (int j = 0; j < d; j++) {
            double to = (double)g[j] * (double)gamma[j];
            sum += to;
            along += to * (((double)row[j] - mean) * scale);
        }
        sum /= d;
        along /= d;
        for (int j = 0; j < d; j++) {
            double xh = ((double)row[j] - mean) * scale;
            double to = scale * ((double)g[j] * (double)gamma[j] - sum - xh * along);
            float *at = dx + (ptrdiff_t)i * d + j;
            *at = (float)(accumulate ? (double)*at + to : to);
        }
    }
    return NPOS_OK;
}
