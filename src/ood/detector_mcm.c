/* Maximum concept matching (Ming, Cai, Gu, Sun, Li, Li, "Delving into out-of-distribution detection with
 * vision-language representations", NeurIPS 2022, equation 1): max_c softmax(cos(h, T) / tau)_c, where
 * T_c is the text embedding of class c and tau is 1. */
#include "ood/detector.h"
#include "ood/logit_sums.h"

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)state;
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *cosine = outputs->logits + i * model->classes;
        out[i] = 1 / npi_logit_sum(cosine, model->classes, npi_logit_max(cosine, model->classes));
    }
    return NPOS_OK;
}

const npi_detector_kind npi_detector_mcm = {.name = "mcm", .needs = NPI_NEEDS_TEXT, .score = score};
