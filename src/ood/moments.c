#include "ood/moments.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "ood/symmetric.h"

enum { BLOCK = 64, KEYS = 1 << 16 };

npos_status npi_class_means(int64_t n, int dim, const float *h, const int32_t *labels, int classes,
                            double *mean, int64_t *count) {
    memset(mean, 0, (size_t)classes * (size_t)dim * sizeof *mean);
    memset(count, 0, (size_t)classes * sizeof *count);
    for (int64_t i = 0; i < n; i++) {
        int32_t c = labels ? labels[i] : 0;
        if (c < 0 || c >= classes)
            return npi_fail(NPOS_BAD_DATA, "training embedding %lld has label %d of %d classes",
                            (long long)i, c, classes);
        double *to = mean + (int64_t)c * dim;
        for (int d = 0; d < dim; d++) {
            double x = (double)h[i * dim + d];
            if (!isfinite(x))
                return npi_fail(NPOS_NOT_FINITE, "training embedding %lld holds %g", (long long)i,
                                x);
            to[d] += x;
        }
        count[c]++;
    }
    for (int c = 0; c < classes; c++)
        for (int d = 0; d < dim && count[c] > 0; d++)
            mean[(int64_t)c * dim + d] /= (double)count[c];
    return NPOS_OK;
}

npos_status npi_scatter(int64_t n, int dim, const float *h, const int32_t *labels,
                        const double *mean, double *scatter) {
    double *centred;
    NPI_TRY(npi_alloc(&centred, (size_t)BLOCK * (size_t)dim, sizeof *centred, "centred rows"));
    memset(scatter, 0, (size_t)dim * (size_t)dim * sizeof *scatter);
    for (int64_t first = 0; first < n; first += BLOCK) {
        int rows = n - first < BLOCK ? (int)(n - first) : BLOCK;
        for (int i = 0; i < rows; i++) {
            const double *m = mean + (labels ? (int64_t)labels[first + i] * dim : 0);
            for (int d = 0; d < dim; d++)
                centred[i * dim + d] = (double)h[(first + i) * dim + d] - m[d];
        }
#pragma omp parallel for schedule(static, 8)
        for (int a = 0; a < dim; a++) {
            double *to = scatter + (int64_t)a * dim;
            for (int i = 0; i < rows; i++) {
                const double *x = centred + (int64_t)i * dim;
                for (int b = a; b < dim; b++)
                    to[b] += x[a] * x[b];
            }
        }
    }
    for (int a = 0; a < dim; a++)
        for (int b = a; b < dim; b++)
            scatter[(int64_t)b * dim + a] = scatter[(int64_t)a * dim + b] /= (double)n;
    npi_free(centred);
    return NPOS_OK;
}

npos_status npi_whitening(int dim, double *covariance, double *map, int *rank) {
    double *value;
    NPI_TRY(npi_alloc(&value, (size_t)dim, sizeof *value, "eigenvalues"));
    npos_status status = npi_symmetric_eigen(dim, covariance, value, map);
    *rank = 0;
    while (status == NPOS_OK && *rank < dim && value[*rank] > 0 &&
           value[*rank] > dim * DBL_EPSILON * value[0]) {
        double *row = map + (int64_t)*rank * dim;
        for (int d = 0; d < dim; d++)
            row[d] /= sqrt(value[*rank]);
        (*rank)++;
    }
    npi_free(value);
    return status;
}

/* Bits of a float that ascend with it. */
static uint32_t key_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float value_of(uint32_t key) {
    uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The number of rank `rank`, ascending from 0: counted by the upper half of its key, then by the
 * lower. */
static float order_statistic(int64_t n, const float *values, int64_t rank, int64_t *counts) {
    uint32_t upper = 0, lower = 0;
    memset(counts, 0, KEYS * sizeof *counts);
    for (int64_t i = 0; i < n; i++)
        counts[key_of(values[i]) >> 16]++;
    while (rank >= counts[upper])
        rank -= counts[upper++];
    memset(counts, 0, KEYS * sizeof *counts);
    for (int64_t i = 0; i < n; i++)
        if (key_of(values[i]) >> 16 == upper)
            counts[key_of(values[i]) & 0xffffu]++;
    while (rank >= counts[lower])
        rank -= counts[lower++];
    return value_of(upper << 16 | lower);
}

npos_status npi_quantile_of(int64_t n, const float *values, double p, double *out) {
    int64_t *counts;
    NPI_TRY(npi_alloc(&counts, KEYS, sizeof *counts, "counts of numbers"));
    double at = p * (double)(n - 1);
    int64_t below = (int64_t)at;
    double low = (double)order_statistic(n, values, below, counts), high = low;
    if (below + 1 < n)
        high = (double)order_statistic(n, values, below + 1, counts);
    *out = low + (at - (double)below) * (high - low);
    npi_free(counts);
    return NPOS_OK;
}
