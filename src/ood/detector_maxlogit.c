/* Maximum logit (Hendrycks et al., "Scaling out-of-distribution detection for real-world settings",
 * ICML 2022): max_c l_c. */
#include "ood/detector.h"
#include "ood/logit_sums.h"

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)state;
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *logit = outputs->logits + i * model->classes;
        out[i] = npi_logit_max(logit, model->classes);
    }
    return NPOS_OK;
}

const npi_detector_kind npi_detector_maxlogit = {
    .name = "maxlogit", .needs = NPI_NEEDS_CLASSIFIER, .score = score};
