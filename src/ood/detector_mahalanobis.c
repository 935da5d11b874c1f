/* Mahalanobis distance on the penultimate embedding (Lee, Lee, Lee, Shin, "A simple unified framework
 * for detecting out-of-distribution samples and adversarial attacks", NeurIPS 2018, equations 1 and 2):
 * -min_c (h - m_c)^T S^+ (h - m_c), S = (1/n) sum_i (h_i - m_{y_i})(h_i - m_{y_i})^T. */
#include "base/memory.h"
#include "ood/detector.h"
#include "ood/distances.h"

static void release(void *state) {
    if (state)
        npi_gaussians_clear(state);
    npi_free(state);
}

static npos_status fit(const npi_detector_model *model, void **state) {
    NPI_TRY(npi_alloc(state, 1, sizeof(npi_gaussians), "Mahalanobis distance"));
    npos_status status = npi_gaussians_fit(model, false, *state);
    if (status != NPOS_OK) {
        release(*state);
        *state = NULL;
    }
    return status;
}

static int arrays(const npi_detector_model *model, const void *state, npi_detector_array *array) {
    (void)model;
    npi_gaussians_arrays(state, "map", "means", array);
    return 2;
}

static npos_status restore(const npi_detector_model *model, const npi_saved_detector *saved,
                           void **state) {
    NPI_TRY(npi_alloc(state, 1, sizeof(npi_gaussians), "Mahalanobis distance"));
    npos_status status = npi_gaussians_restore(model, saved, "map", "means", *state);
    if (status != NPOS_OK) {
        release(*state);
        *state = NULL;
    }
    return status;
}

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    (void)model;
    NPI_TRY(npi_gaussians_nearest(state, outputs->n, outputs->h, out));
    for (int64_t i = 0; i < outputs->n; i++)
        out[i] = -out[i];
    return NPOS_OK;
}

const npi_detector_kind npi_detector_mahalanobis = {.name = "mahalanobis",
                                                    .needs = NPI_NEEDS_BANK,
                                                    .fit = fit,
                                                    .free = release,
                                                    .arrays = arrays,
                                                    .restore = restore,
                                                    .score = score};
