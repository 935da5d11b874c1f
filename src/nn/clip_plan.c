#include <stdio.h>

#include "base/memory.h"
#include "nn/clip.h"

/* What both towers' plans are made of: the blocks and the end. */
typedef struct tower_plan {
    npi_clip *clip;
    const npi_clip_tower *tower;
    const npi_clip_tower_config *config;
    int n, t;
    npi_block **blocks; /* [layers] */
    npi_tokens tokens;  /* [n][t][width], written in place by block after block */
    float *picked;      /* [n][width] */
} tower_plan;

struct npi_clip_images {
    tower_plan plan;
    npi_patches *patches;
    npi_tokens last; /* [n][1][width]: the last block's */
};

struct npi_clip_texts {
    tower_plan plan;
};

static npos_status make_tokens(npi_clip *clip, int n, int t, int width, npi_tokens *out) {
    *out = (npi_tokens){n, t, width, NULL};
    return clip->dev->memory->alloc(clip->dev, clip->dev->tokens->bytes(clip->dev, n, t, width),
                                    "tokens", &out->data);
}

static npos_status make_tower(tower_plan *p, const char *name, bool image) {
    npi_device *dev = p->clip->dev;
    const npi_clip_tower_config *c = p->config;
    NPI_TRY(npi_alloc(&p->blocks, (size_t)c->layers, sizeof *p->blocks, "blocks"));
    for (int i = 0; i < c->layers; i++) {
        char text[48];
        snprintf(text, sizeof text, "%s.layers.%d", name, i);
        npi_block_desc desc = {.name = text,
                               .n = p->n,
                               .t = p->t,
                               .width = c->width,
                               .heads = c->heads,
                               .hidden = c->hidden,
                               .act = c->act,
                               .causal = !image,
                               .first_only = image && i == c->layers - 1};
        NPI_TRY(dev->blocks->create(dev, &desc, &p->blocks[i]));
    }
    NPI_TRY(make_tokens(p->clip, p->n, p->t, c->width, &p->tokens));
    return dev->memory->alloc(dev, (size_t)p->n * (size_t)c->width * sizeof(float), "picked rows",
                              &p->picked);
}

static void free_tower(tower_plan *p) {
    npi_device *dev = p->clip->dev;
    for (int i = 0; p->blocks && i < p->config->layers; i++)
        dev->blocks->free(dev, p->blocks[i]);
    npi_free(p->blocks);
    dev->memory->free(dev, p->tokens.data);
    dev->memory->free(dev, p->picked);
}

static npi_block_params block_params(const tower_plan *p, int block) {
    return npi_clip_block_values(&p->tower->params,
                                 p->tower->blocks + block * NPI_CLIP_BLOCK_PARAMS);
}

static npos_status pack_tower(const tower_plan *p) {
    for (int i = 0; i < p->config->layers; i++) {
        npi_block_params params = block_params(p, i);
        NPI_TRY(p->clip->dev->blocks->pack(p->blocks[i], &params));
    }
    return NPOS_OK;
}

/* One block.  Where z is not x, x stays as it was. */
static npos_status run_block(const tower_plan *p, int block, npi_tokens x, npi_tokens z) {
    npi_block_params params = block_params(p, block);
    return p->clip->dev->blocks->forward(p->blocks[block], x, &params, z);
}

/* h of the picked rows: layer norm and projection, the tower's last three parameters. */
static npos_status finish(const tower_plan *p, npi_tokens from, const int32_t *at, float *h) {
    npi_device *dev = p->clip->dev;
    const npi_params *params = &p->tower->params;
    int width = p->config->width, last = params->count - 1;
    NPI_TRY(dev->tokens->pick(dev, from, at, p->picked));
    NPI_TRY(dev->rows->layer_norm_forward(dev, from.n, width, p->picked,
                                          npi_param_value(params, last - 2),
                                          npi_param_value(params, last - 1), p->picked, NULL));
    return dev->rows->linear_forward(dev, from.n, width, p->clip->config.projection, p->picked,
                                     npi_param_value(params, last), NULL, false, h);
}

static npi_tokens of(npi_tokens tokens, int n) {
    tokens.n = n;
    return tokens;
}

/* ---- images ---- */

static npi_patches_params patches_params(const npi_params *params) {
    return (npi_patches_params){.class_token = npi_param_value(params, 0),
                                .weight = npi_param_value(params, 1),
                                .positions = npi_param_value(params, 2),
                                .gamma = npi_param_value(params, 3),
                                .beta = npi_param_value(params, 4)};
}

npos_status npi_clip_images_create(npi_clip *clip, int n, npi_clip_images **out) {
    const npi_clip_config *c = &clip->config;
    npi_clip_images *plan;
    npos_status status;
    *out = NULL;
    if (!c->vision.layers)
        return npi_fail(NPOS_INVALID_ARGUMENT, "the model has no image tower");
    NPI_TRY(npi_alloc(&plan, 1, sizeof *plan, "plan of images"));
    plan->plan = (tower_plan){
        .clip = clip, .tower = &clip->vision, .config = &c->vision, .n = n, .t = npi_clip_rows(c)};
    npi_patches_desc desc = {"vision", n, c->channels, c->side, c->side, c->patch, c->vision.width};
    NPI_TRY_GOTO(clip->dev->tokens->patches_create(clip->dev, &desc, &plan->patches), fail);
    NPI_TRY_GOTO(make_tower(&plan->plan, "vision", true), fail);
    NPI_TRY_GOTO(make_tokens(clip, n, 1, c->vision.width, &plan->last), fail);
    *out = plan;
    return NPOS_OK;
fail:
    npi_clip_images_free(plan);
    return status;
}

void npi_clip_images_free(npi_clip_images *plan) {
    if (!plan)
        return;
    npi_device *dev = plan->plan.clip->dev;
    dev->tokens->patches_free(dev, plan->patches);
    dev->memory->free(dev, plan->last.data);
    free_tower(&plan->plan);
    npi_free(plan);
}

npos_status npi_clip_images_pack(npi_clip_images *plan) {
    npi_patches_params params = patches_params(&plan->plan.tower->params);
    NPI_TRY(plan->plan.clip->dev->tokens->patches_pack(plan->patches, &params));
    return pack_tower(&plan->plan);
}

static npos_status check_block(const npi_clip_images *plan, int block) {
    int layers = plan->plan.config->layers;
    if (block >= 0 && block < layers)
        return NPOS_OK;
    return npi_fail(NPOS_INVALID_ARGUMENT, "block %d of the image tower, expected 0 to %d", block,
                    layers - 1);
}

npos_status npi_clip_images_tokens(npi_clip_images *plan, npi_act images, int block,
                                   npi_tokens *out) {
    npi_patches_params params = patches_params(&plan->plan.tower->params);
    npi_tokens tokens = of(plan->plan.tokens, images.n);
    NPI_TRY(check_block(plan, block));
    NPI_TRY(plan->plan.clip->dev->tokens->embed_image(plan->patches, images, &params, tokens));
    for (int i = 0; i < block; i++)
        NPI_TRY(run_block(&plan->plan, i, tokens, tokens));
    *out = tokens;
    return NPOS_OK;
}

npos_status npi_clip_images_finish(npi_clip_images *plan, npi_tokens tokens, int block, float *h) {
    const tower_plan *p = &plan->plan;
    NPI_TRY(check_block(plan, block));
    for (; block < p->config->layers - 1; block++) {
        npi_tokens to = of(p->tokens, tokens.n);
        NPI_TRY(run_block(p, block, tokens, to));
        tokens = to;
    }
    npi_tokens last = of(plan->last, tokens.n);
    NPI_TRY(run_block(p, block, tokens, last));
    return finish(p, last, NULL, h);
}

npos_status npi_clip_images_embed(npi_clip_images *plan, npi_act images, float *h) {
    npi_tokens tokens;
    NPI_TRY(npi_clip_images_tokens(plan, images, 0, &tokens));
    return npi_clip_images_finish(plan, tokens, 0, h);
}

/* ---- texts ---- */

npos_status npi_clip_texts_create(npi_clip *clip, int n, int t, npi_clip_texts **out) {
    const npi_clip_config *c = &clip->config;
    npi_clip_texts *plan;
    npos_status status;
    *out = NULL;
    if (!c->text.layers)
        return npi_fail(NPOS_INVALID_ARGUMENT, "the model has no text tower");
    if (t < 1 || t > c->context)
        return npi_fail(NPOS_INVALID_ARGUMENT, "texts of %d rows, expected 1 to %d", t, c->context);
    NPI_TRY(npi_alloc(&plan, 1, sizeof *plan, "plan of texts"));
    plan->plan =
        (tower_plan){.clip = clip, .tower = &clip->text, .config = &c->text, .n = n, .t = t};
    NPI_TRY_GOTO(make_tower(&plan->plan, "text", false), fail);
    *out = plan;
    return NPOS_OK;
fail:
    npi_clip_texts_free(plan);
    return status;
}

void npi_clip_texts_free(npi_clip_texts *plan) {
    if (!plan)
        return;
    free_tower(&plan->plan);
    npi_free(plan);
}

npos_status npi_clip_texts_pack(npi_clip_texts *plan) {
    return pack_tower(&plan->plan);
}

npos_status npi_clip_texts_embed(npi_clip_texts *plan, int count, const int32_t *ids,
                                 const int32_t *ends, float *h) {
    const tower_plan *p = &plan->plan;
    const npi_params *params = &p->tower->params;
    npi_tokens tokens = of(p->tokens, count);
    if (count < 1 || count > p->n)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%d texts, expected 1 to %d", count, p->n);
    NPI_TRY(p->clip->dev->tokens->embed_text(p->clip->dev, ids, p->clip->config.vocabulary,
                                             npi_param_value(params, 0), npi_param_value(params, 1),
                                             tokens));
    for (int i = 0; i < p->config->layers; i++)
        NPI_TRY(run_block(p, i, tokens, tokens));
    return finish(p, tokens, ends, h);
}
