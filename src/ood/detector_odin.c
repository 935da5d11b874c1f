/* ODIN (Liang, Li, Srikant, "Enhancing the reliability of out-of-distribution image detection in neural
 * networks", ICLR 2018, equations 1 and 2): max_c softmax(l(x') / T)_c of the image x' that nn/perturb.h
 * moved. */
#include <math.h>

#include "nn/perturb.h"
#include "ood/detector.h"
#include "ood/logit_sums.h"

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)state;
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *logit = outputs->perturbed + i * model->classes;
        double most = npi_logit_max(logit, model->classes), sum = 0;
        for (int c = 0; c < model->classes; c++)
            sum += exp(((double)logit[c] - most) / NPI_ODIN_TEMPERATURE);
        out[i] = 1 / sum;
    }
    return NPOS_OK;
}

const npi_detector_kind npi_detector_odin = {
    .name = "odin", .needs = NPI_NEEDS_PERTURBED, .score = score};
