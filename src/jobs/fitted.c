#include "jobs/fitted.h"

#include <string.h>

#include "base/memory.h"
#include "jobs/compute.h"

void npi_fitted_close(npi_fitted *fitted) {
    npi_detectors_free(fitted->detectors, fitted->count);
    npi_neighbour_bank_free(fitted->bank);
    npi_run_close(fitted->run);
    memset(fitted, 0, sizeof *fitted);
}

static npos_status take_bank(npi_fitted *fitted) {
    npi_run *run = fitted->run;
    NPI_TRY(npi_run_bank(run));
    if (run->bank.n == 0)
        return NPOS_OK;
    if (run->bank.dim != run->dim)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "%s: the training embeddings have %d numbers, the model's have %d",
                        run->path, run->bank.dim, run->dim);
    NPI_TRY(
        npi_neighbour_bank_make(run->dev, run->bank.n, run->bank.dim, run->bank.h, &fitted->bank));
    fitted->model.bank = fitted->bank;
    fitted->model.bank_labels = run->bank.labels;
    return NPOS_OK;
}

npos_status npi_fitted_open(const char *path, const npos_compute *compute, const char *scores,
                            bool with_bank, npi_fitted *out) {
    memset(out, 0, sizeof *out);
    if (!path)
        return npi_fail(NPOS_INVALID_ARGUMENT, "no run directory was given");
    NPI_TRY(npi_run_open(path, compute, &out->run));
    npi_run *run = out->run;
    out->model = (npi_detector_model){.name = run->path,
                                      .dev = run->dev,
                                      .dim = run->dim,
                                      .proj = run->proj,
                                      .classes = run->classes,
                                      .has_head = run->has_head,
                                      .has_classifier = run->has_classifier,
                                      .prototypes = run->prototypes,
                                      .tau = run->recipe.tau,
                                      .knn_k = run->recipe.knn_k};
    if (!scores)
        scores = run->recipe.score;
    if (with_bank || npi_detectors_need(scores, NPI_NEEDS_BANK))
        NPI_TRY(take_bank(out));
    return npi_detectors_fit(scores, &out->model, &out->detectors, &out->count);
}

npi_outputs npi_outputs_of(const npi_features *features) {
    return (npi_outputs){.n = features->n,
                         .dim = features->dim,
                         .proj = features->proj,
                         .classes = features->classes,
                         .h = features->h,
                         .z = features->z,
                         .phi = features->phi,
                         .logits = features->logits};
}

typedef struct told {
    const npos_compute *compute;
    const char *phase;
} told;

static npos_status tell(void *context, int64_t done, int64_t total) {
    const told *to = context;
    return npi_compute_progress(to->compute, to->phase, done, total, NULL);
}

npos_status npi_fitted_load(const npi_fitted *fitted, const npos_compute *compute,
                            const char *phase, const char *spec, int64_t limit, uint64_t seed,
                            npi_images *out, int64_t *available) {
    told to = {compute, phase};
    NPI_TRY(npi_images_load(spec, &fitted->run->transform, limit, seed, compute->threads, tell, &to,
                            out));
    if (out->count < 1) {
        npi_images_clear(out);
        return npi_fail(NPOS_BAD_DATA, "%s: there are no images", spec);
    }
    if (available)
        *available = out->available;
    return NPOS_OK;
}
