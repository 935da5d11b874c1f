/* k-nearest neighbours (Sun, Ming, Zhu, Li, "Out-of-distribution detection with deep nearest
 * neighbors", ICML 2022): minus the squared distance of the normalised embedding to its k-th nearest
 * training embedding. */
#include "ood/detector.h"

static npos_status fit(const npi_detector_model *model, void **state) {
    int64_t n = npi_neighbour_bank_count(model->bank);
    *state = NULL;
    if (model->knn_k < 1 || model->knn_k > n)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "knn_k is %d, but %s has %lld training embeddings", model->knn_k,
                                 model->name, (long long)n),
                        "set knn_k to at most the number of training images");
    return NPOS_OK;
}

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)state;
    NPI_TRY(npi_neighbour_kth(model->bank, outputs->n, outputs->h, model->knn_k, out));
    for (int64_t i = 0; i < outputs->n; i++)
        out[i] = -out[i];
    return NPOS_OK;
}

const npi_detector_kind npi_detector_knn = {
    .name = "knn", .needs = NPI_NEEDS_BANK, .fit = fit, .score = score};
