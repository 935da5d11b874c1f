#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/clip_names.h"

/* ---- sizes, from the tensors ---- */

static npos_status tower_sizes(const npi_clip_weights *file, const char *tower,
                               npi_clip_tower_config *out) {
    char name[128];
    int shape[2];
    npi_clip_source source;
    for (out->layers = 0;; out->layers++) {
        snprintf(name, sizeof name, "%s.encoder.layers.%d.layer_norm1.weight", tower, out->layers);
        npi_clip_source_of(file, name, &source);
        if (npi_weights_find(file->weights, source.names[0]) < 0)
            break;
    }
    snprintf(name, sizeof name, "%s.encoder.layers.0.mlp.fc1.weight", tower);
    NPI_TRY(npi_clip_shape_of(file, name, 2, shape));
    out->hidden = shape[0];
    out->width = shape[1];
    if (out->layers > 0)
        return NPOS_OK;
    snprintf(name, sizeof name, "%s.encoder.layers.0.layer_norm1.weight", tower);
    return npi_clip_shape_of(file, name, 1, shape); /* names what is missing */
}

static npos_status vision_sizes(const npi_clip_weights *file, npi_clip_config *out) {
    int shape[4];
    NPI_TRY(tower_sizes(file, "vision_model", &out->vision));
    NPI_TRY(npi_clip_shape_of(file, "vision_model.embeddings.patch_embedding.weight", 4, shape));
    out->channels = shape[1];
    out->patch = shape[2];
    NPI_TRY(npi_clip_shape_of(file, "vision_model.embeddings.position_embedding.weight", 2, shape));
    int across = (int)lround(sqrt((double)(shape[0] - 1)));
    if (across < 1 || across * across != shape[0] - 1)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "%s: %d positions of image tokens, expected one more than a square",
                        npi_weights_path(file->weights), shape[0]);
    out->side = across * out->patch;
    NPI_TRY(npi_clip_shape_of(file, "visual_projection.weight", 2, shape));
    out->projection = shape[0];
    return NPOS_OK;
}

static npos_status text_sizes(const npi_clip_weights *file, npi_clip_config *out) {
    int shape[2], images = out->projection;
    NPI_TRY(tower_sizes(file, "text_model", &out->text));
    NPI_TRY(npi_clip_shape_of(file, "text_model.embeddings.token_embedding.weight", 2, shape));
    out->vocabulary = shape[0];
    NPI_TRY(npi_clip_shape_of(file, "text_model.embeddings.position_embedding.weight", 2, shape));
    out->context = shape[0];
    NPI_TRY(npi_clip_shape_of(file, "text_projection.weight", 2, shape));
    out->projection = shape[0];
    if (images && images != shape[0])
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "%s: embeddings of images have %d numbers, those of texts %d",
                        npi_weights_path(file->weights), images, shape[0]);
    return NPOS_OK;
}

/* ---- what only a configuration tells ---- */

/* Key `key` of `object`: where it is there it must be the integer `expected` that the tensors tell. */
static npos_status agrees(const char *path, const json_t *object, const char *key, int expected) {
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value))
        return NPOS_OK;
    if (!json_is_integer(value))
        return npi_fail(NPOS_UNSUPPORTED, "%s: %s is no integer; the tensors say %d", path, key,
                        expected);
    if (json_integer_value(value) == expected)
        return NPOS_OK;
    return npi_fail(NPOS_SHAPE_MISMATCH, "%s: %s is %lld, but the tensors say %d", path, key,
                    (long long)json_integer_value(value), expected);
}

/* *out = an integer of 1..most, `otherwise` where there is none. */
static npos_status positive(const char *path, const json_t *object, const char *key, int otherwise,
                            int most, int *out) {
    const json_t *value = json_object_get(object, key);
    *out = otherwise;
    if (!value || json_is_null(value))
        return NPOS_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        json_integer_value(value) > most)
        return npi_fail(NPOS_BAD_DATA, "%s: %s, expected an integer from 1 to %d", path, key, most);
    *out = (int)json_integer_value(value);
    return NPOS_OK;
}

static npos_status read_json(const char *path, json_t **out) {
    char *text;
    size_t size;
    json_error_t error;
    NPI_TRY(npi_file_read(path, &text, &size));
    *out = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    npi_free(text);
    if (json_is_object(*out))
        return NPOS_OK;
    npos_status status = npi_fail(NPOS_BAD_DATA, "%s: no JSON object: %s", path,
                                  *out ? "it is of another kind" : error.text);
    json_decref(*out);
    *out = NULL;
    return status;
}

static npos_status hugging_face_tower(const char *path, const json_t *object, int heads,
                                      npi_clip_tower_config *out) {
    const json_t *act = json_object_get(object, "hidden_act"),
                 *epsilon = json_object_get(object, "layer_norm_eps");
    const char *name = act ? json_string_value(act) : "quick_gelu"; /* transformers' default */
    NPI_TRY(agrees(path, object, "hidden_size", out->width));
    NPI_TRY(agrees(path, object, "intermediate_size", out->hidden));
    NPI_TRY(agrees(path, object, "num_hidden_layers", out->layers));
    NPI_TRY(positive(path, object, "num_attention_heads", heads, out->width, &out->heads));
    if (epsilon && !(fabs(json_number_value(epsilon) - 1e-5) <= 1e-11))
        return npi_fail(NPOS_UNSUPPORTED, "%s: layer_norm_eps is %g, expected 1e-05", path,
                        json_number_value(epsilon));
    if (!name || (strcmp(name, "quick_gelu") != 0 && strcmp(name, "gelu") != 0))
        return npi_fail(NPOS_UNSUPPORTED, "%s: hidden_act is '%s', expected 'quick_gelu' or 'gelu'",
                        path, name ? name : "no text");
    out->act = strcmp(name, "gelu") == 0 ? NPI_ACT_GELU : NPI_ACT_QUICK_GELU;
    return NPOS_OK;
}

static npos_status hugging_face(const char *path, const json_t *root, npi_clip_config *out) {
    const json_t *vision = json_object_get(root, "vision_config"),
                 *text = json_object_get(root, "text_config");
    enum { VISION_HEADS = 12, TEXT_HEADS = 8 }; /* transformers' defaults */
    if (out->vision.layers) {
        NPI_TRY(hugging_face_tower(path, vision, VISION_HEADS, &out->vision));
        NPI_TRY(agrees(path, vision, "patch_size", out->patch));
        NPI_TRY(agrees(path, vision, "image_size", out->side));
        NPI_TRY(agrees(path, vision, "num_channels", out->channels));
    }
    if (out->text.layers) {
        NPI_TRY(hugging_face_tower(path, text, TEXT_HEADS, &out->text));
        NPI_TRY(agrees(path, text, "vocab_size", out->vocabulary));
        NPI_TRY(agrees(path, text, "max_position_embeddings", out->context));
    }
    return agrees(path, root, "projection_dim", out->projection);
}

/* open_clip has many more settings than CLIP's: those that are not known change what is computed. */
static npos_status only(const char *path, const json_t *object, const char *const *known,
                        size_t count) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        bool found = false;
        for (size_t i = 0; i < count; i++)
            found = found || strcmp(key, known[i]) == 0;
        if (!found)
            return npi_fail(NPOS_UNSUPPORTED, "%s: the setting '%s' is not one of CLIP's", path,
                            key);
    }
    return NPOS_OK;
}

static npos_status open_clip(const char *path, const json_t *root, npi_clip_config *out) {
    static const char *const top[] = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"};
    static const char *const of_vision[] = {"image_size", "layers",     "width",
                                            "patch_size", "head_width", "mlp_ratio"};
    static const char *const of_text[] = {"context_length", "vocab_size", "width",
                                          "heads",          "layers",     "mlp_ratio"};
    const json_t *model = json_object_get(root, "model_cfg"),
                 *vision = json_object_get(model, "vision_cfg"),
                 *text = json_object_get(model, "text_cfg");
    enum { HEAD = 64, TEXT_HEADS = 8 }; /* open_clip's defaults */
    int head;
    NPI_TRY(only(path, model, top, sizeof top / sizeof *top));
    NPI_TRY(only(path, vision, of_vision, sizeof of_vision / sizeof *of_vision));
    NPI_TRY(only(path, text, of_text, sizeof of_text / sizeof *of_text));
    out->vision.act = out->text.act =
        json_is_true(json_object_get(model, "quick_gelu")) ? NPI_ACT_QUICK_GELU : NPI_ACT_GELU;
    if (out->vision.layers) {
        NPI_TRY(agrees(path, vision, "width", out->vision.width));
        NPI_TRY(agrees(path, vision, "layers", out->vision.layers));
        NPI_TRY(agrees(path, vision, "patch_size", out->patch));
        NPI_TRY(agrees(path, vision, "image_size", out->side));
        NPI_TRY(positive(path, vision, "head_width", HEAD, out->vision.width, &head));
        out->vision.heads = out->vision.width / head;
    }
    if (out->text.layers) {
        NPI_TRY(agrees(path, text, "width", out->text.width));
        NPI_TRY(agrees(path, text, "layers", out->text.layers));
        NPI_TRY(agrees(path, text, "vocab_size", out->vocabulary));
        NPI_TRY(agrees(path, text, "context_length", out->context));
        NPI_TRY(positive(path, text, "heads", TEXT_HEADS, out->text.width, &out->text.heads));
    }
    return agrees(path, model, "embed_dim", out->projection);
}

/* OpenAI's rule.  Its files hold three numbers that no checkpoint of open_clip holds. */
static npos_status no_configuration(const npi_clip_weights *file, npi_clip_act act,
                                    npi_clip_config *out) {
    enum { HEAD = 64 };
    const char *path = npi_weights_path(file->weights);
    npi_clip_tower_config *towers[] = {&out->vision, &out->text};
    bool openai = npi_weights_find(file->weights, "input_resolution") >= 0 &&
                  npi_weights_find(file->weights, "context_length") >= 0;
    if (!openai && act == NPI_CLIP_ACT_AUTO)
        return npi_hint(npi_fail(NPOS_UNSUPPORTED,
                                 "%s: nothing tells whether its activation is QuickGELU or GELU",
                                 path),
                        "put it into a folder with its open_clip_config.json");
    for (int i = 0; i < 2; i++) {
        if (towers[i]->layers && towers[i]->width % HEAD != 0)
            return npi_fail(NPOS_UNSUPPORTED,
                            "%s: width %d without a configuration, expected a multiple of %d", path,
                            towers[i]->width, HEAD);
        towers[i]->heads = towers[i]->width / HEAD;
        towers[i]->act = NPI_ACT_QUICK_GELU;
    }
    return NPOS_OK;
}

/* *out = `name` in the folder that `path` is or lies in; to be freed with npi_free. */
static npos_status beside(const char *path, const char *name, char **out) {
    if (npi_is_folder(path))
        return npi_path_join(out, path, name);
    return npi_format(out, "%.*s%s", (int)(npi_path_name(path) - path), path, name);
}

npos_status npi_clip_config_read(const char *path, const npi_clip_weights *file,
                                 npi_clip_towers towers, npi_clip_act act, npi_clip_config *out) {
    bool theirs = file->naming == NPI_CLIP_HUGGING_FACE;
    char *config;
    json_t *root = NULL;
    npos_status status = NPOS_OK;
    *out = (npi_clip_config){0};
    if (towers & NPI_CLIP_VISION)
        NPI_TRY(vision_sizes(file, out));
    if (towers & NPI_CLIP_TEXT)
        NPI_TRY(text_sizes(file, out));
    NPI_TRY(beside(path, theirs ? "config.json" : "open_clip_config.json", &config));
    if (theirs || (npi_is_folder(path) && npi_is_file(config)))
        status = read_json(config, &root);
    if (status == NPOS_OK)
        status = !root    ? no_configuration(file, act, out)
                 : theirs ? hugging_face(config, root, out)
                          : open_clip(config, root, out);
    json_decref(root);
    npi_free(config);
    if (act != NPI_CLIP_ACT_AUTO)
        out->vision.act = out->text.act =
            act == NPI_CLIP_ACT_GELU ? NPI_ACT_GELU : NPI_ACT_QUICK_GELU;
    return status;
}
