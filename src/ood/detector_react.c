/* ReAct (Sun, Guo, Li, "ReAct: out-of-distribution detection with rectified activations", NeurIPS 2021,
 * equations 1 and 2): the energy of the logits of min(h, c), c the 90th percentile of all numbers of
 * the training embeddings. */
#include <math.h>

#include "base/memory.h"
#include "ood/detector.h"
#include "ood/head_logits.h"
#include "ood/moments.h"

static npos_status fit(const npi_detector_model *model, void **state) {
    double *cut;
    NPI_TRY(npi_alloc(&cut, 1, sizeof *cut, "ReAct"));
    npos_status status = npi_quantile_of(npi_neighbour_bank_count(model->bank) * model->dim,
                                         model->bank_h, 0.9, cut);
    if (status == NPOS_OK)
        *state = cut;
    else
        npi_free(cut);
    return status;
}

static int arrays(const npi_detector_model *model, const void *state, npi_detector_array *array) {
    (void)model;
    array[0] = (npi_detector_array){"cut", 1, 1, state};
    return 1;
}

static npos_status restore(const npi_detector_model *model, const npi_saved_detector *saved,
                           void **state) {
    int64_t one = 1;
    double *cut;
    (void)model;
    NPI_TRY(npi_saved_array(saved, "cut", &one, &one, &cut));
    *state = cut;
    return NPOS_OK;
}

static void clip(const void *state, int dim, const float *h, float *to) {
    float cut = (float)*(const double *)state;
    for (int d = 0; d < dim; d++)
        to[d] = h[d] > cut ? cut : h[d]; /* NaN is kept */
}

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    return npi_head_energy(model, outputs, clip, state, out);
}

const npi_detector_kind npi_detector_react = {.name = "react",
                                              .needs = NPI_NEEDS_BANK | NPI_NEEDS_WEIGHTS,
                                              .fit = fit,
                                              .free = npi_free,
                                              .arrays = arrays,
                                              .restore = restore,
                                              .score = score};
