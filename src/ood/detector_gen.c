/* GEN (Liu, Lochman, Zach, "GEN: pushing the limits of softmax-based out-of-distribution detection",
 * CVPR 2023, equation 5) with its gamma = 0.1 and M = 100: -sum_j p_j^gamma (1 - p_j)^gamma over the
 * min(M, C) largest softmax probabilities. */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "ood/detector.h"
#include "ood/logit_sums.h"

enum { MOST = 100 };

static int descending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a < b) - (a > b);
}

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    int classes = model->classes, used = classes < MOST ? classes : MOST;
    double *p;
    (void)state;
    NPI_TRY(npi_alloc(&p, (size_t)classes, sizeof *p, "probabilities"));
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *logit = outputs->logits + i * classes;
        double most = npi_logit_max(logit, classes), sum = npi_logit_sum(logit, classes, most);
        for (int c = 0; c < classes; c++)
            p[c] = exp((double)logit[c] - most) / sum;
        qsort(p, (size_t)classes, sizeof *p, descending);
        out[i] = isnan(sum) ? sum : 0;
        for (int c = 0; c < used; c++)
            out[i] -= pow(p[c] * (1 - p[c]), 0.1);
    }
    npi_free(p);
    return NPOS_OK;
}

const npi_detector_kind npi_detector_gen = {
    .name = "gen", .needs = NPI_NEEDS_CLASSIFIER, .score = score};
