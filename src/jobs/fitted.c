#include "jobs/fitted.h"

#include <string.h>

#include "base/memory.h"
#include "data/stream.h"
#include "jobs/compute.h"
#include "jobs/external.h"
#include "jobs/fitted_file.h"
#include "jobs/sift.h"

/* Beside another device the processor decodes ahead.  A host device needs the cores itself: there
 * decoding and embedding take turns, in blocks so large that the turns cost nothing. */
enum { BLOCK = 256, SLOTS = 3, HOST_BLOCK = 4096, HOST_BYTES = 64 << 20 };

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
    fitted->model.bank_h = run->bank.h;
    return NPOS_OK;
}

/* Takes what was fitted before, fits what was not and saves it: a run that cannot be written to, as one
 * of somebody else, is fitted anew each time. */
static npos_status fit_or_restore(npi_fitted *fitted, const char *scores) {
    npi_detector_model *model = &fitted->model;
    npi_fitted_file file;
    bool anew = false;
    npos_status status = npi_fitted_file_open(fitted->run, &file);
    model->saved = file.saved;
    model->saved_count = file.count;
    if (status == NPOS_OK)
        status = npi_detectors_fit(scores, model, &fitted->detectors, &fitted->count);
    for (int i = 0; status == NPOS_OK && i < fitted->count; i++)
        anew |= fitted->detectors[i].kind->arrays && !fitted->detectors[i].restored;
    if (anew)
        status = npi_fitted_file_write(fitted->run, fitted->detectors, fitted->count, &file);
    if (anew && status == NPOS_IO)
        status = NPOS_OK;
    model->saved = NULL;
    model->saved_count = 0;
    npi_fitted_file_close(&file);
    return status;
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
                                      .knn_k = run->calibration.knn_k > 0 ? run->calibration.knn_k
                                                                          : run->recipe.knn_k,
                                      .weight = run->weight,
                                      .bias = run->bias,
                                      .has_perturbed = npi_run_perturbs(run),
                                      .has_text = run->text != NULL};
    if (!scores)
        scores = run->recipe.score;
    if (with_bank || npi_detectors_need(scores, NPI_NEEDS_BANK))
        NPI_TRY(take_bank(out));
    NPI_TRY(fit_or_restore(out, scores));
    for (int i = 0; i < out->count; i++)
        if (out->detectors[i].kind->needs & NPI_NEEDS_PERTURBED)
            return npi_run_perturb(run);
    return NPOS_OK;
}

npi_outputs npi_outputs_of(const npi_features *features) {
    return (npi_outputs){.n = features->n,
                         .dim = features->dim,
                         .proj = features->proj,
                         .classes = features->classes,
                         .h = features->h,
                         .z = features->z,
                         .phi = features->phi,
                         .logits = features->logits,
                         .perturbed = features->perturbed};
}

/* Makes room for n images where the first block's features say which members there are. */
static npos_status make_room(const npi_features *block, int64_t n, npi_features *out) {
    size_t rows = (size_t)n;
    *out =
        (npi_features){.n = n, .dim = block->dim, .proj = block->proj, .classes = block->classes};
    NPI_TRY(npi_alloc(&out->h, rows * (size_t)out->dim, sizeof *out->h, "embeddings"));
    if (block->z)
        NPI_TRY(npi_alloc(&out->z, rows * (size_t)out->proj, sizeof *out->z, "projections"));
    if (block->phi)
        NPI_TRY(npi_alloc(&out->phi, rows, sizeof *out->phi, "head's logits"));
    if (block->logits)
        NPI_TRY(
            npi_alloc(&out->logits, rows * (size_t)out->classes, sizeof *out->logits, "logits"));
    if (block->perturbed)
        NPI_TRY(npi_alloc(&out->perturbed, rows * (size_t)out->classes, sizeof *out->perturbed,
                          "logits of perturbed images"));
    return NPOS_OK;
}

static void put_rows(float *to, const float *from, int64_t first, int64_t rows, int width) {
    if (to)
        memcpy(to + first * width, from, (size_t)(rows * width) * sizeof *to);
}

/* Progress of a block, told as that of the whole set. */
typedef struct shifted {
    const npos_compute *compute;
    int64_t first, of;
} shifted;

static int tell(void *context, const char *phase, int64_t done, int64_t total, const char *text) {
    const shifted *s = context;
    (void)total;
    return s->compute->progress(s->compute->progress_context, phase, s->first + done, s->of, text);
}

static npos_status embed_block(const npi_fitted *fitted, const npos_compute *compute,
                               const char *phase, const npi_stream_batch *batch, int64_t n,
                               npi_features *out) {
    npi_features block = {0};
    int64_t first = batch->index[0], rows = batch->count;
    shifted to = {compute, first, n};
    npos_compute told = *compute;
    told.progress = compute->progress ? tell : NULL;
    told.progress_context = &to;
    npos_status status = npi_run_features(fitted->run, batch->pixels, rows, &told, phase, &block);
    if (status == NPOS_OK && !out->h)
        status = make_room(&block, n, out);
    if (status == NPOS_OK) {
        put_rows(out->h, block.h, first, rows, out->dim);
        put_rows(out->z, block.z, first, rows, out->proj);
        put_rows(out->phi, block.phi, first, rows, 1);
        put_rows(out->logits, block.logits, first, rows, out->classes);
        put_rows(out->perturbed, block.perturbed, first, rows, out->classes);
    }
    npi_features_clear(&block);
    return status;
}

static int host_block(const npi_images *images) {
    int64_t fit = HOST_BYTES / ((int64_t)images->size * images->size * images->channels);
    int64_t block = fit < 1 ? 1 : fit > HOST_BLOCK ? HOST_BLOCK : fit;
    return (int)(block < images->count ? block : images->count);
}

npos_status npi_fitted_features(const npi_fitted *fitted, const npos_compute *compute,
                                const char *phase, const char *spec, int64_t limit, uint64_t seed,
                                npi_images *images, npi_features *out) {
    npi_stream *stream;
    npi_stream_batch batch;
    *out = (npi_features){0};
    if (fitted->run->external)
        return npi_external_features(fitted->run, spec, limit, seed, images, out);
    NPI_TRY(npi_images_open(spec, &fitted->run->transform, limit, seed, images));
    NPI_TRY(npi_sift(compute, images));
    int64_t n = images->count;
    if (n < 1)
        return npi_fail(NPOS_BAD_DATA, "%s: there are no images", spec);
    bool host = fitted->run->dev->host;
    int block = host ? host_block(images) : BLOCK;
    npi_stream_desc desc = {.images = images,
                            .transform = fitted->run->transform,
                            .batch = block,
                            .views = 1,
                            .end = (n + block - 1) / block,
                            .threads = compute->threads,
                            .slots = host ? 1 : SLOTS};
    NPI_TRY(npi_stream_open(&desc, &stream));
    npos_status status = npi_compute_progress(compute, phase, 0, n, NULL);
    for (int64_t b = 0; b < desc.end && status == NPOS_OK; b++) {
        status = npi_stream_next(stream, &batch);
        if (status == NPOS_OK)
            status = embed_block(fitted, compute, phase, &batch, n, out);
        npi_stream_release(stream);
    }
    npi_stream_close(stream);
    return status;
}
