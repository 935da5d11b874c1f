#include "jobs/clip_names.h"

#include <stdio.h>
#include <string.h>

/* nn/clip's names and OpenAI's; a name that ends in '.' or '_' stands for all that begin with it. */
static const struct {
    const char *ours, *theirs;
    bool transposed;
} whole[] = {
    {"vision_model.embeddings.class_embedding", "visual.class_embedding", false},
    {"vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight", false},
    {"vision_model.embeddings.position_embedding.weight", "visual.positional_embedding", false},
    {"vision_model.pre_layrnorm.", "visual.ln_pre.", false},
    {"vision_model.post_layernorm.", "visual.ln_post.", false},
    {"visual_projection.weight", "visual.proj", true},
    {"text_model.embeddings.token_embedding.weight", "token_embedding.weight", false},
    {"text_model.embeddings.position_embedding.weight", "positional_embedding", false},
    {"text_model.final_layer_norm.", "ln_final.", false},
    {"text_projection.weight", "text_projection", true}};

static const struct {
    const char *ours, *theirs;
} layers[] = {{"vision_model.encoder.layers.", "visual.transformer.resblocks."},
              {"text_model.encoder.layers.", "transformer.resblocks."}},
  in_layer[] = {{"layer_norm1.", "ln_1."},
                {"self_attn.qkv_proj.", "attn.in_proj_"},
                {"self_attn.out_proj.", "attn.out_proj."},
                {"layer_norm2.", "ln_2."},
                {"mlp.fc1.", "mlp.c_fc."},
                {"mlp.fc2.", "mlp.c_proj."}};

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* What follows `start` in `text`, or NULL. */
static const char *after(const char *text, const char *start) {
    size_t length = strlen(start);
    return strncmp(text, start, length) == 0 ? text + length : NULL;
}

static void openai_source(const npi_clip_weights *file, const char *name, npi_clip_source *out) {
    char *to = out->names[0];
    size_t room = sizeof out->names[0];
    const char *rest;
    out->count = 1;
    for (size_t i = 0; i < COUNT(whole); i++)
        if ((rest = after(name, whole[i].ours))) {
            snprintf(to, room, "%s%s%s", file->prefix, whole[i].theirs, rest);
            out->transposed = whole[i].transposed;
            return;
        }
    for (size_t i = 0; i < COUNT(layers); i++) {
        const char *number = after(name, layers[i].ours),
                   *dot = number ? strchr(number, '.') : NULL;
        for (size_t j = 0; dot && j < COUNT(in_layer); j++)
            if ((rest = after(dot + 1, in_layer[j].ours)))
                snprintf(to, room, "%s%s%.*s.%s%s", file->prefix, layers[i].theirs,
                         (int)(dot - number), number, in_layer[j].theirs, rest);
    }
}

void npi_clip_source_of(const npi_clip_weights *file, const char *name, npi_clip_source *out) {
    static const char stacked[] = "qkv_proj";
    const char *at = strstr(name, stacked);
    *out = (npi_clip_source){.count = 1};
    if (file->naming == NPI_CLIP_OPENAI) {
        openai_source(file, name, out);
    } else if (at) {
        out->count = 3;
        for (int i = 0; i < 3; i++)
            snprintf(out->names[i], sizeof out->names[i], "%s%.*s%c_proj%s", file->prefix,
                     (int)(at - name), name, "qkv"[i], at + strlen(stacked));
    } else {
        snprintf(out->names[0], sizeof out->names[0], "%s%s", file->prefix, name);
    }
}

npos_status npi_clip_weights_open(const char *path, npi_clip_weights *out) {
    static const struct {
        const char *name, *prefix;
        npi_clip_naming naming;
    } marks[] = {{"vision_model.embeddings.patch_embedding.weight", "", NPI_CLIP_HUGGING_FACE},
                 {"text_model.embeddings.token_embedding.weight", "", NPI_CLIP_HUGGING_FACE},
                 {"visual.conv1.weight", "", NPI_CLIP_OPENAI},
                 {"token_embedding.weight", "", NPI_CLIP_OPENAI},
                 {"module.visual.conv1.weight", "module.", NPI_CLIP_OPENAI}};
    *out = (npi_clip_weights){0};
    NPI_TRY(npi_weights_open(path, &out->weights));
    for (size_t i = 0; i < COUNT(marks); i++)
        if (npi_weights_find(out->weights, marks[i].name) >= 0) {
            out->naming = marks[i].naming;
            out->prefix = marks[i].prefix;
            return NPOS_OK;
        }
    return npi_hint(
        npi_fail(NPOS_UNSUPPORTED,
                 "%s: holds neither '%s' (Hugging Face's name) nor '%s' (OpenAI's, open_clip's)",
                 path, marks[0].name, marks[2].name),
        "only CLIP models whose image tower is a vision transformer can be read");
}

npos_status npi_clip_shape_of(const npi_clip_weights *file, const char *name, int ndim,
                              int *shape) {
    enum { MOST = 1 << 24 };
    npi_clip_source source;
    npi_clip_source_of(file, name, &source);
    const char *path = npi_weights_path(file->weights);
    int found = npi_weights_find(file->weights, source.names[0]);
    if (found < 0)
        return npi_fail(NPOS_NOT_FOUND, "%s: tensor '%s' is missing", path, source.names[0]);
    const npi_named_tensor *tensor = npi_weights_at(file->weights, found);
    if (tensor->ndim != ndim)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: tensor '%s' has %d dimensions, expected %d", path,
                        source.names[0], tensor->ndim, ndim);
    for (int i = 0; i < ndim; i++) {
        int64_t size = tensor->shape[source.transposed ? ndim - 1 - i : i];
        if (size < 1 || size > MOST)
            return npi_fail(NPOS_SHAPE_MISMATCH,
                            "%s: tensor '%s' has %lld elements in a dimension, expected 1 to %d",
                            path, source.names[0], (long long)size, MOST);
        shape[i] = (int)size;
    }
    return NPOS_OK;
}

bool npi_clip_unneeded(const npi_clip_weights *file, const char *name, npi_clip_towers towers) {
    static const char *const known[] = {"logit_scale",
                                        "text_model.embeddings.position_ids",
                                        "vision_model.embeddings.position_ids",
                                        "input_resolution",
                                        "context_length",
                                        "vocab_size",
                                        "attn_mask"};
    static const char *const vision[] = {"vision_model.", "visual_projection.", "visual."};
    static const char *const text[] = {"text_model.", "text_projection",      "transformer.",
                                       "ln_final.",   "positional_embedding", "token_embedding."};
    const char *rest = after(name, file->prefix);
    if (!rest)
        return false;
    for (size_t i = 0; i < COUNT(known); i++)
        if (strcmp(rest, known[i]) == 0)
            return true;
    for (size_t i = 0; !(towers & NPI_CLIP_VISION) && i < COUNT(vision); i++)
        if (after(rest, vision[i]))
            return true;
    for (size_t i = 0; !(towers & NPI_CLIP_TEXT) && i < COUNT(text); i++)
        if (after(rest, text[i]))
            return true;
    return false;
}
