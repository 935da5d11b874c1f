/* Nearest prototype (CIDER's geometry; Ming, Sun, Dia, Li, ICLR 2023): the largest cosine of the
 * projection z with a class's prototype. */
#include "ood/detector.h"

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)state;
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *z = outputs->z + i * model->proj;
        out[i] = -2; /* below any cosine */
        for (int c = 0; c < model->classes; c++) {
            const float *mu = model->prototypes + (int64_t)c * model->proj;
            double cosine = 0;
            for (int d = 0; d < model->proj; d++)
                cosine += (double)z[d] * (double)mu[d];
            /* written so that NaN is kept: metrics then name the image */
            out[i] = cosine <= out[i] ? out[i] : cosine;
        }
    }
    return NPOS_OK;
}

const npi_detector_kind npi_detector_prototype = {
    .name = "prototype", .needs = NPI_NEEDS_PROTOTYPES, .score = score};
