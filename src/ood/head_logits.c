#include "ood/head_logits.h"

#include <math.h>

#include "base/memory.h"

void npi_head_logits(const npi_detector_model *model, int64_t n, const float *h, double *logits) {
    int dim = model->dim, classes = model->classes;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < classes; c++) {
            const float *w = model->weight + (int64_t)c * dim, *x = h + i * dim;
            double sum = model->bias ? (double)model->bias[c] : 0;
            for (int d = 0; d < dim; d++)
                sum += (double)w[d] * (double)x[d];
            logits[i * classes + c] = sum;
        }
}

double npi_log_sum_exp(const double *logit, int n) {
    double most = logit[0], sum = 0;
    for (int i = 1; i < n; i++)
        most = logit[i] <= most || isnan(most) ? most : logit[i];
    if (isinf(most) || isnan(most))
        return most;
    for (int i = 0; i < n; i++)
        sum += exp(logit[i] - most);
    return most + log(sum);
}

int npi_largest(const double *logit, int n) {
    int best = 0;
    for (int i = 1; i < n; i++)
        best = logit[i] > logit[best] ? i : best;
    return best;
}

npos_status npi_head_energy(const npi_detector_model *model, const npi_outputs *outputs,
                            void (*change)(const void *state, int dim, const float *h, float *to),
                            const void *state, double *score) {
    int dim = model->dim, classes = model->classes;
    float *changed = NULL;
    double *logits = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&changed, NPI_HEAD_BLOCK * (size_t)dim, sizeof *changed, "embeddings"),
                 done);
    NPI_TRY_GOTO(npi_alloc(&logits, NPI_HEAD_BLOCK * (size_t)classes, sizeof *logits, "logits"),
                 done);
    for (int64_t first = 0; first < outputs->n; first += NPI_HEAD_BLOCK) {
        int64_t rows = outputs->n - first < NPI_HEAD_BLOCK ? outputs->n - first : NPI_HEAD_BLOCK;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < rows; i++)
            change(state, dim, outputs->h + (first + i) * dim, changed + i * dim);
        npi_head_logits(model, rows, changed, logits);
        for (int64_t i = 0; i < rows; i++)
            score[first + i] = npi_log_sum_exp(logits + i * classes, classes);
    }
done:
    npi_free(changed);
    npi_free(logits);
    return status;
}
