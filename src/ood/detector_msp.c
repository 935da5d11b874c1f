/* Maximum softmax probability (Hendrycks, Gimpel, ICLR 2017): max_c exp(l_c) / sum_j exp(l_j). */
#include "ood/detector.h"
#include "ood/logit_sums.h"

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)state;
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *logit = outputs->logits + i * model->classes;
        double most = npi_logit_max(logit, model->classes);
        out[i] = 1 / npi_logit_sum(logit, model->classes, most);
    }
    return NPOS_OK;
}

const npi_detector_kind npi_detector_msp = {
    .name = "msp", .needs = NPI_NEEDS_CLASSIFIER, .score = score};
