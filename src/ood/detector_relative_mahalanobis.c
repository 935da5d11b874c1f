/* Relative Mahalanobis distance (Ren, Fort, Liu, Roy, Padhy, Lakshminarayanan, "A simple fix to
 * Mahalanobis distance for improving near-OOD detection", 2021, arXiv 2106.09022, equation 3):
 * -min_c (M_c(h) - M_0(h)), M_c the squared Mahalanobis distance to class c with the shared covariance,
 * M_0 that to the mean of all training embeddings with the covariance around it. */
#include "base/memory.h"
#include "ood/detector.h"
#include "ood/distances.h"

typedef struct relative {
    npi_gaussians classes, all;
} relative;

static void release(void *state) {
    relative *r = state;
    if (r) {
        npi_gaussians_clear(&r->classes);
        npi_gaussians_clear(&r->all);
    }
    npi_free(r);
}

static npos_status fit(const npi_detector_model *model, void **state) {
    relative *r;
    NPI_TRY(npi_alloc(&r, 1, sizeof *r, "relative Mahalanobis distance"));
    npos_status status = npi_gaussians_fit(model, false, &r->classes);
    if (status == NPOS_OK)
        status = npi_gaussians_fit(model, true, &r->all);
    if (status == NPOS_OK)
        *state = r;
    else
        release(r);
    return status;
}

static int arrays(const npi_detector_model *model, const void *state, npi_detector_array *array) {
    const relative *r = state;
    (void)model;
    npi_gaussians_arrays(&r->classes, "map", "means", array);
    npi_gaussians_arrays(&r->all, "map_of_all", "mean_of_all", array + 2);
    return 4;
}

static npos_status restore(const npi_detector_model *model, const npi_saved_detector *saved,
                           void **state) {
    relative *r;
    NPI_TRY(npi_alloc(&r, 1, sizeof *r, "relative Mahalanobis distance"));
    npos_status status = npi_gaussians_restore(model, saved, "map", "means", &r->classes);
    if (status == NPOS_OK)
        status = npi_gaussians_restore(model, saved, "map_of_all", "mean_of_all", &r->all);
    if (status == NPOS_OK)
        *state = r;
    else
        release(r);
    return status;
}

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    const relative *r = state;
    double *all;
    (void)model;
    NPI_TRY(npi_alloc(&all, (size_t)outputs->n, sizeof *all, "distances"));
    npos_status status = npi_gaussians_nearest(&r->classes, outputs->n, outputs->h, out);
    if (status == NPOS_OK)
        status = npi_gaussians_nearest(&r->all, outputs->n, outputs->h, all);
    for (int64_t i = 0; status == NPOS_OK && i < outputs->n; i++)
        out[i] = all[i] - out[i];
    npi_free(all);
    return status;
}

const npi_detector_kind npi_detector_relative_mahalanobis = {.name = "relative_mahalanobis",
                                                             .needs = NPI_NEEDS_BANK,
                                                             .fit = fit,
                                                             .free = release,
                                                             .arrays = arrays,
                                                             .restore = restore,
                                                             .score = score};
