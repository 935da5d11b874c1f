#include "jobs/run_clip.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/clip_images.h"
#include "jobs/compute.h"
#include "jobs/external.h"
#include "jobs/model_file.h"
#include "jobs/settings.h"
#include "nn/model.h"
#include "ood/neighbours.h"

struct npi_run_clip {
    npi_clip_encoder encoder;
    float *h;       /* [most][dim], device memory */
    npi_model head; /* phi alone; no parameters where there is none */
    float *weight[2], *bias[2];
};

/* A copy of one of the head's parameters on the host. */
static npos_status copy_param(const npi_params *params, int i, float **out) {
    NPI_TRY(npi_alloc(out, params->list[i].count, sizeof **out, params->list[i].name));
    return npi_param_get(params, NPI_ARENA_VALUES, i, *out);
}

static npos_status read_head(npi_run *run, const npi_safetensors *file) {
    npi_run_clip *clip = run->clip;
    npi_model *head = &clip->head;
    const npi_named_tensor *first;
    *head = (npi_model){.dev = run->dev, .params.dev = run->dev, .dim = run->dim, .proj = run->dim};
    if (!npi_safetensors_find(file, "phi.0.weight"))
        return NPOS_OK;
    NPI_TRY(
        npi_safetensors_get(file, "phi.0.weight", NPI_F32, 2, (int64_t[]){-1, run->dim}, &first));
    if (first->shape[0] < 1 || first->shape[0] > 1 << 16)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: an outlier head of width %lld", run->path,
                        (long long)first->shape[0]);
    NPI_TRY(npi_model_add_phi(head, (int)first->shape[0]));
    NPI_TRY(npi_params_alloc(&head->params, false));
    NPI_TRY(npi_params_read(&head->params, NPI_ARENA_VALUES, file, ""));
    for (int i = 0; i < 2; i++) {
        NPI_TRY(copy_param(&head->params, head->phi[i].weight, &clip->weight[i]));
        NPI_TRY(copy_param(&head->params, head->phi[i].bias, &clip->bias[i]));
    }
    run->has_head = true;
    return NPOS_OK;
}

static npos_status check_names(const npi_run *run, const npi_safetensors *file, const char *path) {
    for (int i = 0; i < npi_safetensors_count(file); i++) {
        const char *name = npi_safetensors_at(file, i)->name;
        if (strcmp(name, "text") != 0 && npi_params_find(&run->clip->head.params, name) < 0)
            return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s' is not of a CLIP run", path, name);
    }
    return NPOS_OK;
}

static npos_status read_text(npi_run *run, const npi_safetensors *file) {
    const npi_named_tensor *tensor;
    size_t count = (size_t)run->classes * (size_t)run->dim;
    NPI_TRY(npi_safetensors_get(file, "text", NPI_F32, 2, (int64_t[]){run->classes, run->dim},
                                &tensor));
    NPI_TRY(npi_alloc(&run->text, count, sizeof *run->text, "text embeddings"));
    memcpy(run->text, tensor->data, count * sizeof *run->text);
    run->has_classifier = true;
    return NPOS_OK;
}

npos_status npi_run_clip_open(npi_run *run, const npi_safetensors *file, const char *path) {
    npi_run_clip *clip;
    char *model;
    NPI_TRY(npi_alloc(&clip, 1, sizeof *clip, "CLIP run"));
    run->clip = clip;
    NPI_TRY(npi_path_join(&model, run->path, "clip"));
    npos_status status =
        npi_clip_encoder_open(run->dev, model, npi_clip_pass(run->dev), &clip->encoder);
    npi_free(model);
    NPI_TRY(status);
    const npi_transform *wanted = &clip->encoder.transform, *told = &run->transform;
    if (told->size != wanted->size || told->channels != wanted->channels ||
        told->interpolation != wanted->interpolation)
        return npi_fail(
            NPOS_INVALID_ARGUMENT,
            "%s: the recipe's images are %d x %d of %d channels, the model's %d x %d of "
            "%d, bicubic",
            run->path, told->size, told->size, told->channels, wanted->size, wanted->size,
            wanted->channels);
    npi_augment_desc stored = npi_settings_augment(&run->recipe);
    memcpy(clip->encoder.normalise.mean, stored.mean, sizeof stored.mean);
    memcpy(clip->encoder.normalise.std, stored.std, sizeof stored.std);
    run->dim = run->proj = clip->encoder.clip.config.projection;
    NPI_TRY(run->dev->memory->alloc(run->dev,
                                    (size_t)clip->encoder.most * (size_t)run->dim * sizeof(float),
                                    "embeddings", &clip->h));
    NPI_TRY(read_text(run, file));
    NPI_TRY(read_head(run, file));
    return check_names(run, file, path);
}

void npi_run_clip_close(npi_run *run) {
    npi_run_clip *clip = run->clip;
    if (!clip)
        return;
    run->dev->memory->free(run->dev, clip->h);
    npi_clip_encoder_close(&clip->encoder);
    if (clip->head.dev)
        npi_model_free(&clip->head);
    for (int i = 0; i < 2; i++) {
        npi_free(clip->weight[i]);
        npi_free(clip->bias[i]);
    }
    npi_free(clip);
    run->clip = NULL;
}

const npi_params *npi_run_clip_params(const npi_run *run) {
    return run->clip && run->has_head ? &run->clip->head.params : NULL;
}

static npos_status make_room(const npi_run *run, int64_t n, npi_features *out) {
    size_t rows = (size_t)n, dim = (size_t)run->dim;
    out->n = n;
    out->dim = out->proj = run->dim;
    out->classes = run->classes;
    NPI_TRY(npi_alloc(&out->h, rows * dim, sizeof *out->h, "embeddings"));
    NPI_TRY(npi_alloc(&out->z, rows * dim, sizeof *out->z, "projections"));
    NPI_TRY(npi_alloc(&out->logits, rows * (size_t)run->classes, sizeof *out->logits, "logits"));
    return run->has_head ? npi_alloc(&out->phi, rows, sizeof *out->phi, "head's logits") : NPOS_OK;
}

static npos_status embed(const npi_run *run, const uint8_t *pixels, int64_t n,
                         const npos_compute *compute, const char *phase, float *h) {
    npi_clip_encoder *encoder = &run->clip->encoder;
    size_t image =
        (size_t)run->transform.size * (size_t)run->transform.size * (size_t)run->transform.channels;
    for (int64_t first = 0; first < n; first += encoder->most) {
        int count = n - first < encoder->most ? (int)(n - first) : encoder->most;
        npi_act act;
        NPI_TRY(npi_compute_progress(compute, phase, first, n, NULL));
        NPI_TRY(npi_clip_encoder_put(encoder, pixels + (size_t)first * image, count, &act));
        if (!run->dev->host) /* a GPU's libraries sum by the number of rows: always the same */
            act.n = encoder->most;
        NPI_TRY(npi_clip_images_embed(encoder->plan, act, run->clip->h));
        NPI_TRY(run->dev->memory->download(run->dev, h + first * run->dim, run->clip->h,
                                           (size_t)count * (size_t)run->dim * sizeof *h));
    }
    return npi_compute_progress(compute, phase, n, n, NULL);
}

static npos_status run_head(const npi_run *run, int64_t n, const float *h, float *phi) {
    const npi_run_clip *clip = run->clip;
    int width = clip->head.phi[0].out;
    size_t count = (size_t)n * (size_t)width;
    float *hidden;
    NPI_TRY(npi_alloc(&hidden, count, sizeof *hidden, "the outlier head"));
    npi_external_logits(clip->weight[0], clip->bias[0], width, run->dim, n, h, hidden);
    for (size_t i = 0; i < count; i++)
        hidden[i] = hidden[i] > 0 ? hidden[i] : 0;
    npi_external_logits(clip->weight[1], clip->bias[1], 1, width, n, hidden, phi);
    npi_free(hidden);
    return NPOS_OK;
}

npos_status npi_run_clip_features(const npi_run *run, const uint8_t *pixels, int64_t n,
                                  const npos_compute *compute, const char *phase,
                                  npi_features *out) {
    npos_status status = make_room(run, n, out);
    if (status == NPOS_OK)
        status = embed(run, pixels, n, compute, phase, out->h);
    if (status == NPOS_OK) {
        npi_normalise_rows(n, run->dim, out->h, out->z);
        npi_external_logits(run->text, NULL, run->classes, run->dim, n, out->z, out->logits);
    }
    if (status == NPOS_OK && run->has_head)
        status = run_head(run, n, out->h, out->phi);
    if (status != NPOS_OK)
        npi_features_clear(out);
    return status;
}
