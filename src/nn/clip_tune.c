/* The part of the image tower that is fine-tuned: blocks first..layers-1, layer norm, projection. */
#include <stdio.h>

#include "base/memory.h"
#include "nn/clip.h"

/* ---- the model ---- */

static int first_param(const npi_clip *clip, int first) {
    return clip->vision.blocks + first * NPI_CLIP_BLOCK_PARAMS;
}

/* Copies values between the tower and the tuned parameters, which lie in the same order. */
static npos_status copy_values(const npi_clip *clip, int first, const npi_model *tuned, bool back) {
    const npi_params *tower = &clip->vision.params, *own = &tuned->params;
    int from = first_param(clip, first);
    for (int i = from; i < tower->count; i++) {
        float *theirs = npi_param_value(tower, i), *ours = npi_param_value(own, i - from);
        NPI_TRY(clip->dev->memory->copy(clip->dev, back ? theirs : ours, back ? ours : theirs,
                                        tower->list[i].count * sizeof(float)));
    }
    return NPOS_OK;
}

npos_status npi_clip_tuned_create(const npi_clip *clip, int first, int head_dim, npi_model *out) {
    const npi_params *tower = &clip->vision.params;
    int unused;
    *out = (npi_model){.dev = clip->dev,
                       .params.dev = clip->dev,
                       .dim = clip->config.projection,
                       .proj = clip->config.projection};
    if (first < 0 || first >= clip->config.vision.layers)
        return npi_fail(NPOS_INVALID_ARGUMENT, "fine-tuning from block %d, expected 0 to %d", first,
                        clip->config.vision.layers - 1);
    for (int i = first_param(clip, first); i < tower->count; i++) {
        const npi_param *p = &tower->list[i];
        NPI_TRY(npi_params_add(&out->params, p->name, p->ndim, p->shape, false, false, &unused));
    }
    NPI_TRY(npi_model_add_phi(out, head_dim));
    NPI_TRY(npi_params_alloc(&out->params, true));
    return copy_values(clip, first, out, false);
}

npos_status npi_clip_tuned_put(const npi_model *tuned, int first, npi_clip *clip) {
    return copy_values(clip, first, tuned, true);
}

/* ---- the plan ---- */

struct npi_clip_tuning {
    npi_model *model;
    npi_device *dev;
    int n, t, width, blocks; /* blocks: that are tuned */
    int now;                 /* images of the newest forward */
    npi_block **block;       /* [blocks] */
    npi_tokens *x;    /* [blocks + 1]: what enters each block, and row 0 of the last one's output */
    npi_tokens dlast; /* gradient of x[blocks] */
    npi_tokens dx[2]; /* of what lies between blocks, in turn */
    float *picked, *stats, *normed, *dnormed, *dpicked;
};

static npos_status make_tokens(npi_clip_tuning *p, int t, npi_tokens *out) {
    *out = (npi_tokens){p->n, t, p->width, NULL};
    return p->dev->memory->alloc(p->dev, p->dev->tokens->bytes(p->dev, p->n, t, p->width),
                                 "tokens of fine-tuning", &out->data);
}

static npos_status make_blocks(npi_clip_tuning *p, const npi_clip_tower_config *c) {
    NPI_TRY(npi_alloc(&p->block, (size_t)p->blocks, sizeof *p->block, "blocks"));
    NPI_TRY(npi_alloc(&p->x, (size_t)p->blocks + 1, sizeof *p->x, "tokens"));
    for (int i = 0; i < p->blocks; i++) {
        bool last = i == p->blocks - 1;
        char text[48];
        snprintf(text, sizeof text, "tuned.layers.%d", c->layers - p->blocks + i);
        npi_block_desc desc = {.name = text,
                               .n = p->n,
                               .t = p->t,
                               .width = c->width,
                               .heads = c->heads,
                               .hidden = c->hidden,
                               .act = c->act,
                               .first_only = last,
                               .training = true,
                               .needs_dx = i > 0};
        NPI_TRY(p->dev->blocks->create(p->dev, &desc, &p->block[i]));
        NPI_TRY(make_tokens(p, p->t, &p->x[i]));
    }
    NPI_TRY(make_tokens(p, 1, &p->x[p->blocks]));
    NPI_TRY(make_tokens(p, 1, &p->dlast));
    for (int i = 0; i < p->blocks - 1 && i < 2; i++)
        NPI_TRY(make_tokens(p, p->t, &p->dx[i]));
    return NPOS_OK;
}

static npos_status make_end(npi_clip_tuning *p) {
    size_t rows = (size_t)p->n * (size_t)p->width * sizeof(float);
    float **const all[] = {&p->picked, &p->normed, &p->dnormed, &p->dpicked};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        NPI_TRY(p->dev->memory->alloc(p->dev, rows, "class tokens", all[i]));
    return p->dev->memory->alloc(p->dev, (size_t)p->n * 2 * sizeof(float),
                                 "layer norm's statistics", &p->stats);
}

npos_status npi_clip_tuning_create(npi_model *tuned, const npi_clip_config *config, int first,
                                   int n, npi_clip_tuning **out) {
    npi_clip_tuning *p;
    npos_status status;
    *out = NULL;
    NPI_TRY(npi_alloc(&p, 1, sizeof *p, "plan of fine-tuning"));
    *p = (npi_clip_tuning){.model = tuned,
                           .dev = tuned->dev,
                           .n = n,
                           .t = npi_clip_rows(config),
                           .width = config->vision.width,
                           .blocks = config->vision.layers - first};
    NPI_TRY_GOTO(make_blocks(p, &config->vision), fail);
    NPI_TRY_GOTO(make_end(p), fail);
    *out = p;
    return NPOS_OK;
fail:
    npi_clip_tuning_free(p);
    return status;
}

void npi_clip_tuning_free(npi_clip_tuning *p) {
    if (!p)
        return;
    const npi_memory_ops *memory = p->dev->memory;
    void *const all[] = {p->dlast.data, p->dx[0].data, p->dx[1].data, p->picked,
                         p->stats,      p->normed,     p->dnormed,    p->dpicked};
    for (int i = 0; p->block && i < p->blocks; i++)
        p->dev->blocks->free(p->dev, p->block[i]);
    for (int i = 0; p->x && i <= p->blocks; i++)
        memory->free(p->dev, p->x[i].data);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        memory->free(p->dev, all[i]);
    npi_free(p->block);
    npi_free(p->x);
    npi_free(p);
}

npi_tokens npi_clip_tuning_input(npi_clip_tuning *p) {
    return p->x[0];
}

/* ---- a step ---- */

/* Numbers of layer norm's gamma, after which come its beta and the projection. */
static int end_param(const npi_clip_tuning *p) {
    return p->blocks * NPI_CLIP_BLOCK_PARAMS;
}

static npi_tokens now(const npi_clip_tuning *p, npi_tokens tokens) {
    tokens.n = p->now;
    return tokens;
}

static npos_status tuning_pack(void *plan) {
    npi_clip_tuning *p = plan;
    for (int i = 0; i < p->blocks; i++) {
        npi_block_params params =
            npi_clip_block_values(&p->model->params, i * NPI_CLIP_BLOCK_PARAMS);
        NPI_TRY(p->dev->blocks->pack(p->block[i], &params));
    }
    return NPOS_OK;
}

static npos_status tuning_forward(void *plan, int n, float *h) {
    npi_clip_tuning *p = plan;
    const npi_params *params = &p->model->params;
    int end = end_param(p);
    if (n < 1 || n > p->n)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%d images, expected 1 to %d", n, p->n);
    p->now = n;
    for (int i = 0; i < p->blocks; i++) {
        npi_block_params values = npi_clip_block_values(params, i * NPI_CLIP_BLOCK_PARAMS);
        NPI_TRY(
            p->dev->blocks->forward(p->block[i], now(p, p->x[i]), &values, now(p, p->x[i + 1])));
    }
    NPI_TRY(p->dev->tokens->pick(p->dev, now(p, p->x[p->blocks]), NULL, p->picked));
    NPI_TRY(p->dev->rows->layer_norm_forward(
        p->dev, n, p->width, p->picked, npi_param_value(params, end),
        npi_param_value(params, end + 1), p->normed, p->stats));
    return p->dev->rows->linear_forward(p->dev, n, p->width, p->model->dim, p->normed,
                                        npi_param_value(params, end + 2), NULL, false, h);
}

static npos_status tuning_backward(void *plan, const float *h, float *dh) {
    npi_clip_tuning *p = plan;
    const npi_params *params = &p->model->params;
    const npi_rows_ops *rows = p->dev->rows;
    int n = p->now, end = end_param(p);
    NPI_TRY(rows->linear_backward(p->dev, n, p->width, p->model->dim, p->normed,
                                  npi_param_value(params, end + 2), h, false, dh,
                                  npi_param_grad(params, end + 2), NULL, p->dnormed, n, false));
    NPI_TRY(rows->layer_norm_backward(
        p->dev, n, p->width, p->picked, p->stats, npi_param_value(params, end), p->dnormed,
        npi_param_grad(params, end), npi_param_grad(params, end + 1), p->dpicked, false));
    npi_tokens dz = now(p, p->dlast);
    NPI_TRY(p->dev->tokens->pick_backward(p->dev, p->dpicked, NULL, dz));
    for (int i = p->blocks - 1; i >= 0; i--) {
        npi_block_params values = npi_clip_block_values(params, i * NPI_CLIP_BLOCK_PARAMS),
                         grads = npi_clip_block_grads(params, i * NPI_CLIP_BLOCK_PARAMS);
        npi_tokens dx = now(p, p->dx[(i + 1) % 2]);
        NPI_TRY(p->dev->blocks->backward(p->block[i], dz, now(p, p->x[i]), &values, &grads,
                                         i > 0 ? &dx : NULL));
        dz = dx;
    }
    return NPOS_OK;
}

npi_encoder npi_clip_tuning_encoder(npi_clip_tuning *plan) {
    return (npi_encoder){plan, tuning_pack, tuning_forward, tuning_backward};
}
