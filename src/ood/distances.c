#include "ood/distances.h"

#include <math.h>
#include <stdio.h>

#include "base/memory.h"
#include "ood/moments.h"

enum { BLOCK = 256 };

void npi_gaussians_clear(npi_gaussians *gaussians) {
    npi_free(gaussians->map);
    npi_free(gaussians->mean);
    *gaussians = (npi_gaussians){0};
}

static void whiten(const npi_gaussians *g, const double *x, double *to) {
    for (int k = 0; k < g->rank; k++) {
        const double *row = g->map + (int64_t)k * g->dim;
        double sum = 0;
        for (int d = 0; d < g->dim; d++)
            sum += row[d] * x[d];
        to[k] = sum;
    }
}

npos_status npi_gaussians_fit(const npi_detector_model *model, bool together, npi_gaussians *out) {
    int dim = model->dim, classes = together ? 1 : model->classes;
    int64_t n = npi_neighbour_bank_count(model->bank), *count = NULL;
    const int32_t *labels = together ? NULL : model->bank_labels;
    double *mean = NULL, *covariance = NULL;
    npos_status status;
    size_t square = (size_t)dim * (size_t)dim, means = (size_t)classes * (size_t)dim;
    *out = (npi_gaussians){.dim = dim};
    NPI_TRY_GOTO(npi_alloc(&count, (size_t)classes, sizeof *count, "class counts"), done);
    NPI_TRY_GOTO(npi_alloc(&mean, means, sizeof *mean, "class means"), done);
    NPI_TRY_GOTO(npi_alloc(&covariance, square, sizeof *covariance, "covariance"), done);
    NPI_TRY_GOTO(npi_alloc(&out->map, square, sizeof *out->map, "whitening"), done);
    NPI_TRY_GOTO(npi_alloc(&out->mean, means, sizeof *out->mean, "class means"), done);
    NPI_TRY_GOTO(npi_class_means(n, dim, model->bank_h, labels, classes, mean, count), done);
    NPI_TRY_GOTO(npi_scatter(n, dim, model->bank_h, labels, mean, covariance), done);
    NPI_TRY_GOTO(npi_whitening(dim, covariance, out->map, &out->rank), done);
    for (int c = 0; c < classes; c++)
        if (count[c] > 0)
            whiten(out, mean + (int64_t)c * dim, out->mean + (int64_t)out->classes++ * out->rank);
done:
    npi_free(count);
    npi_free(mean);
    npi_free(covariance);
    return status;
}

void npi_gaussians_arrays(const npi_gaussians *g, const char *map, const char *mean,
                          npi_detector_array array[2]) {
    array[0] = (npi_detector_array){.rows = g->rank, .columns = g->dim, .values = g->map};
    array[1] = (npi_detector_array){.rows = g->classes, .columns = g->rank, .values = g->mean};
    snprintf(array[0].name, sizeof array[0].name, "%s", map);
    snprintf(array[1].name, sizeof array[1].name, "%s", mean);
}

npos_status npi_gaussians_restore(const npi_detector_model *model, const npi_saved_detector *saved,
                                  const char *map, const char *mean, npi_gaussians *out) {
    int64_t rank = 0, dim = model->dim, classes = 0;
    *out = (npi_gaussians){.dim = model->dim};
    NPI_TRY(npi_saved_array(saved, map, &rank, &dim, &out->map));
    int64_t columns = rank; /* more are refused before they are read */
    NPI_TRY(npi_saved_array(saved, mean, &classes, &columns, &out->mean));
    if (columns != rank || rank > dim || classes < 1 || classes > INT32_MAX)
        return npi_fail(NPOS_SHAPE_MISMATCH, "saved '%s' is %lld x %lld, beside a map of rank %lld",
                        mean, (long long)classes, (long long)columns, (long long)rank);
    out->rank = (int)rank;
    out->classes = (int)classes;
    return NPOS_OK;
}

/* The least squared distance of one whitened row. */
static double least(const npi_gaussians *g, const double *y) {
    double best = INFINITY;
    for (int c = 0; c < g->classes; c++) {
        const double *mean = g->mean + (int64_t)c * g->rank;
        double sum = 0;
        for (int k = 0; k < g->rank; k++)
            sum += (y[k] - mean[k]) * (y[k] - mean[k]);
        best = sum >= best ? best : sum; /* NaN is kept */
    }
    return best;
}

npos_status npi_gaussians_nearest(const npi_gaussians *g, int64_t n, const float *h,
                                  double *distance) {
    double *x = NULL, *y = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&x, BLOCK * (size_t)g->dim, sizeof *x, "embeddings"), done);
    NPI_TRY_GOTO(npi_alloc(&y, BLOCK * (size_t)g->dim, sizeof *y, "whitened embeddings"), done);
    for (int64_t first = 0; first < n; first += BLOCK) {
        int64_t rows = n - first < BLOCK ? n - first : BLOCK;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < rows; i++) {
            double *from = x + i * g->dim, *to = y + i * g->dim;
            for (int d = 0; d < g->dim; d++)
                from[d] = (double)h[(first + i) * g->dim + d];
            whiten(g, from, to);
            distance[first + i] = least(g, to);
        }
    }
done:
    npi_free(x);
    npi_free(y);
    return status;
}
