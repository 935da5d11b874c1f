/* The outlier head of NPOS (Tao, Du, Zhu, Li, ICLR 2023): the logit phi(h), trained to be large on
 * ID embeddings and small on synthesised outliers. */
#include "ood/detector.h"

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)model;
    (void)state;
    for (int64_t i = 0; i < outputs->n; i++)
        out[i] = (double)outputs->phi[i];
    return NPOS_OK;
}

const npi_detector_kind npi_detector_head = {
    .name = "head", .needs = NPI_NEEDS_HEAD, .score = score};
