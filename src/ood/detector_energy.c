/* Negative free energy at temperature 1 (Liu, Wang, Owens, Li, "Energy-based out-of-distribution
 * detection", NeurIPS 2020): log sum_c exp(l_c). */
#include "ood/detector.h"
#include "ood/logit_sums.h"

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)state;
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *logit = outputs->logits + i * model->classes;
        double most = npi_logit_max(logit, model->classes);
        out[i] = most + log(npi_logit_sum(logit, model->classes, most));
    }
    return NPOS_OK;
}

const npi_detector_kind npi_detector_energy = {
    .name = "energy", .needs = NPI_NEEDS_CLASSIFIER, .score = score};
