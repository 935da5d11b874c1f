#include "nn/clip.h"

#include <stdio.h>

static npos_status add(npi_params *params, const char *prefix, const char *name, int ndim,
                       const int64_t *shape) {
    char text[128];
    int unused;
    snprintf(text, sizeof text, "%s%s", prefix, name);
    return npi_params_add(params, text, ndim, shape, false, false, &unused);
}

static npos_status add_norm(npi_params *params, const char *prefix, const char *name, int width) {
    char text[64];
    snprintf(text, sizeof text, "%s.weight", name);
    NPI_TRY(add(params, prefix, text, 1, (int64_t[]){width}));
    snprintf(text, sizeof text, "%s.bias", name);
    return add(params, prefix, text, 1, (int64_t[]){width});
}

static npos_status add_linear(npi_params *params, const char *prefix, const char *name, int in,
                              int out) {
    char text[64];
    snprintf(text, sizeof text, "%s.weight", name);
    NPI_TRY(add(params, prefix, text, 2, (int64_t[]){out, in}));
    snprintf(text, sizeof text, "%s.bias", name);
    return add(params, prefix, text, 1, (int64_t[]){out});
}

static npos_status add_blocks(npi_clip_tower *tower, const char *prefix,
                              const npi_clip_tower_config *c) {
    tower->blocks = tower->params.count;
    for (int i = 0; i < c->layers; i++) {
        npi_params *params = &tower->params;
        char text[64];
        snprintf(text, sizeof text, "%s.encoder.layers.%d.", prefix, i);
        NPI_TRY(add_norm(params, text, "layer_norm1", c->width));
        NPI_TRY(add_linear(params, text, "self_attn.qkv_proj", c->width, 3 * c->width));
        NPI_TRY(add_linear(params, text, "self_attn.out_proj", c->width, c->width));
        NPI_TRY(add_norm(params, text, "layer_norm2", c->width));
        NPI_TRY(add_linear(params, text, "mlp.fc1", c->width, c->hidden));
        NPI_TRY(add_linear(params, text, "mlp.fc2", c->hidden, c->width));
    }
    return NPOS_OK;
}

static npos_status add_vision(npi_clip *clip) {
    const npi_clip_config *c = &clip->config;
    npi_params *params = &clip->vision.params;
    int width = c->vision.width;
    const char *embeddings = "vision_model.embeddings.";
    NPI_TRY(add(params, embeddings, "class_embedding", 1, (int64_t[]){width}));
    NPI_TRY(add(params, embeddings, "patch_embedding.weight", 4,
                (int64_t[]){width, c->channels, c->patch, c->patch}));
    NPI_TRY(add(params, embeddings, "position_embedding.weight", 2,
                (int64_t[]){npi_clip_rows(c), width}));
    NPI_TRY(add_norm(params, "vision_model.", "pre_layrnorm", width)); /* transformers' spelling */
    NPI_TRY(add_blocks(&clip->vision, "vision_model", &c->vision));
    NPI_TRY(add_norm(params, "vision_model.", "post_layernorm", width));
    NPI_TRY(add(params, "", "visual_projection.weight", 2, (int64_t[]){c->projection, width}));
    return npi_params_alloc(params, false);
}

static npos_status add_text(npi_clip *clip) {
    const npi_clip_config *c = &clip->config;
    npi_params *params = &clip->text.params;
    int width = c->text.width;
    const char *embeddings = "text_model.embeddings.";
    NPI_TRY(
        add(params, embeddings, "token_embedding.weight", 2, (int64_t[]){c->vocabulary, width}));
    NPI_TRY(
        add(params, embeddings, "position_embedding.weight", 2, (int64_t[]){c->context, width}));
    NPI_TRY(add_blocks(&clip->text, "text_model", &c->text));
    NPI_TRY(add_norm(params, "text_model.", "final_layer_norm", width));
    NPI_TRY(add(params, "", "text_projection.weight", 2, (int64_t[]){c->projection, width}));
    return npi_params_alloc(params, false);
}

static npi_block_params block_of(float *first, const npi_param *list) {
    float *at[NPI_CLIP_BLOCK_PARAMS];
    for (int i = 0; i < NPI_CLIP_BLOCK_PARAMS; i++)
        at[i] = first + list[i].offset;
    return (npi_block_params){at[0], at[1], at[2], at[3], at[4],  at[5],
                              at[6], at[7], at[8], at[9], at[10], at[11]};
}

npi_block_params npi_clip_block_values(const npi_params *params, int at) {
    return block_of(params->values, params->list + at);
}

npi_block_params npi_clip_block_grads(const npi_params *params, int at) {
    return block_of(params->grads, params->list + at);
}

int npi_clip_rows(const npi_clip_config *config) {
    return 1 + config->side / config->patch * (config->side / config->patch);
}

static npos_status check_tower(const char *name, const npi_clip_tower_config *c) {
    if (c->layers < 0 || c->width < 1 || c->heads < 1 || c->hidden < 1 || c->width % c->heads != 0)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "CLIP's %s tower: %d layers of width %d, %d heads, MLP of %d; expected "
                        "sizes of at least 1 and heads that divide the width",
                        name, c->layers, c->width, c->heads, c->hidden);
    return NPOS_OK;
}

npos_status npi_clip_create(npi_device *dev, const npi_clip_config *config, npi_clip *out) {
    const npi_clip_config *c = config;
    *out = (npi_clip){.dev = dev, .config = *c, .vision.params.dev = dev, .text.params.dev = dev};
    if (!dev->tokens || !dev->blocks || !dev->rows->layer_norm_forward)
        return npi_hint(npi_fail(NPOS_UNSUPPORTED, "device %s cannot run transformers", dev->name),
                        "the devices 'cpu' and 'reference' can");
    if (c->projection < 1)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "CLIP's embeddings have %d numbers, expected 1 or more", c->projection);
    if (c->vision.layers) {
        NPI_TRY(check_tower("image", &c->vision));
        if (c->channels < 1 || c->patch < 1 || c->side < c->patch || c->side % c->patch != 0)
            return npi_fail(NPOS_INVALID_ARGUMENT,
                            "CLIP's images: %d channels, side %d, patches of %d; expected patches "
                            "that divide the side",
                            c->channels, c->side, c->patch);
        NPI_TRY(add_vision(out));
    }
    if (c->text.layers) {
        NPI_TRY(check_tower("text", &c->text));
        if (c->vocabulary < 1 || c->context < 1)
            return npi_fail(NPOS_INVALID_ARGUMENT,
                            "CLIP's texts: %d ids, %d rows; expected at least 1", c->vocabulary,
                            c->context);
        NPI_TRY(add_text(out));
    }
    return NPOS_OK;
}

void npi_clip_free(npi_clip *clip) {
    npi_params_free(&clip->vision.params);
    npi_params_free(&clip->text.params);
}
