#include <string.h>

#include "base/memory.h"
#include "devices/reference/ref.h"

/* Tokens are plain float32: row r of sequence i at (i t + r) width. */

static float *row_of(npi_tokens tokens, ptrdiff_t i, ptrdiff_t row) {
    return (float *)tokens.data + (i * tokens.t + row) * tokens.width;
}

static size_t count_of(npi_tokens tokens) {
    return (size_t)tokens.n * (size_t)tokens.t * (size_t)tokens.width;
}

npos_status npi_ref_check_tokens(const char *what, npi_tokens tokens, int most, int t, int width) {
    if (tokens.n >= 1 && tokens.n <= most && tokens.t == t && tokens.width == width && tokens.data)
        return NPOS_OK;
    return npi_fail(NPOS_SHAPE_MISMATCH,
                    "%s: %d sequences of %d rows of %d%s, expected 1 to %d of %d rows of %d", what,
                    tokens.n, tokens.t, tokens.width, tokens.data ? "" : " without data", most, t,
                    width);
}

static size_t token_bytes(npi_device *dev, int n, int t, int width) {
    (void)dev;
    return (size_t)n * (size_t)t * (size_t)width * sizeof(float);
}

static npos_status import_rows(npi_device *dev, const float *rows, npi_tokens to) {
    (void)dev;
    memcpy(to.data, rows, count_of(to) * sizeof *rows);
    return NPOS_OK;
}

static npos_status export_rows(npi_device *dev, npi_tokens from, float *rows) {
    (void)dev;
    memcpy(rows, from.data, count_of(from) * sizeof *rows);
    return NPOS_OK;
}

static npos_status import_halves(npi_device *dev, const uint16_t *rows, const int32_t *index,
                                 npi_tokens to) {
    (void)dev;
    const size_t numbers = (size_t)to.t * (size_t)to.width;
    for (int i = 0; i < to.n; i++) {
        const uint16_t *from = rows + (size_t)(index ? index[i] : i) * numbers;
        for (size_t k = 0; k < numbers; k++)
            row_of(to, i, 0)[k] = npi_f16_to_f32(from[k]);
    }
    return NPOS_OK;
}

static npos_status export_halves(npi_device *dev, npi_tokens from, uint16_t *rows) {
    (void)dev;
    for (size_t i = 0; i < count_of(from); i++)
        rows[i] = npi_f32_to_f16(((const float *)from.data)[i]);
    return NPOS_OK;
}

/* ---- embedding ---- */

struct npi_patches {
    npi_device *dev;
    npi_patches_desc desc;
    char *name;
    float *pixels; /* [c][patch][patch] of the patch that is multiplied now */
};

static void patches_free(npi_device *dev, npi_patches *patches) {
    (void)dev;
    if (!patches)
        return;
    npi_free(patches->name);
    npi_free(patches->pixels);
    npi_free(patches);
}

static npos_status patches_create(npi_device *dev, const npi_patches_desc *desc,
                                  npi_patches **out) {
    const npi_patches_desc *d = desc;
    const char *name = d->name ? d->name : "unnamed";
    *out = NULL;
    if (d->n < 1 || d->c < 1 || d->h < 1 || d->w < 1 || d->patch < 1 || d->width < 1 ||
        d->h % d->patch != 0 || d->w % d->patch != 0)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "patches '%s': images %d x %d x %d x %d, patches of %d, width %d; expected "
                        "sizes of at least 1 and sides that are multiples of the patch",
                        name, d->n, d->c, d->h, d->w, d->patch, d->width);
    npi_patches *p;
    npos_status status;
    NPI_TRY(npi_alloc(&p, 1, sizeof *p, name));
    p->dev = dev;
    p->desc = *d;
    NPI_TRY_GOTO(npi_strdup(&p->name, name), fail);
    NPI_TRY_GOTO(npi_alloc(&p->pixels, (size_t)d->c * (size_t)d->patch * (size_t)d->patch,
                           sizeof *p->pixels, name),
                 fail);
    *out = p;
    return NPOS_OK;
fail:
    patches_free(dev, p);
    return status;
}

static npos_status patches_pack(npi_patches *patches, const npi_patches_params *params) {
    (void)patches;
    (void)params;
    return NPOS_OK; /* the weights are used as they are */
}

/* Patch number `patch` of image n, in the order of the weights. */
static void take_patch(const npi_patches *p, npi_act image, int n, int patch) {
    int side = p->desc.patch, across = p->desc.w / side;
    const int y0 = patch / across * side, x0 = patch % across * side;
    float *to = p->pixels;
    for (int c = 0; c < p->desc.c; c++)
        for (int y = 0; y < side; y++, to += side)
            memcpy(to, npi_ref_plane(image, n, c) + (ptrdiff_t)(y0 + y) * p->desc.w + x0,
                   (size_t)side * sizeof *to);
}

static npos_status embed_image(npi_patches *patches, npi_act image,
                               const npi_patches_params *params, npi_tokens to) {
    const npi_patches_desc *d = &patches->desc;
    int t = 1 + d->h / d->patch * (d->w / d->patch), length = d->c * d->patch * d->patch;
    npos_status status = npi_ref_check_tokens("tokens", to, d->n, t, d->width);
    if (status == NPOS_OK)
        status = npi_ref_check_act("image", image, to.n, d->c, d->h, d->w);
    if (status != NPOS_OK)
        return npi_fail_in(status, "patches '%s'", patches->name);
    for (int i = 0; i < to.n; i++)
        for (int r = 0; r < t; r++) {
            float *row = row_of(to, i, r);
            const float *position = params->positions + (ptrdiff_t)r * d->width;
            if (r > 0)
                take_patch(patches, image, i, r - 1);
            for (ptrdiff_t j = 0; j < d->width; j++) {
                double sum = r > 0
                                 ? npi_ref_dot(length, patches->pixels, params->weight + j * length)
                                 : (double)params->class_token[j];
                row[j] = (float)(sum + (double)position[j]);
            }
            npi_ref_layer_norm(d->width, row, params->gamma, params->beta, row, NULL);
        }
    return NPOS_OK;
}

static npos_status embed_text(npi_device *dev, const int32_t *ids, int vocabulary,
                              const float *table, const float *positions, npi_tokens to) {
    (void)dev;
    NPI_TRY(npi_ref_check_tokens("text", to, to.n, to.t, to.width));
    for (ptrdiff_t i = 0; i < to.n; i++)
        for (ptrdiff_t r = 0; r < to.t; r++) {
            int32_t id = ids[i * to.t + r];
            if (id < 0 || id >= vocabulary)
                return npi_fail(NPOS_INVALID_ARGUMENT,
                                "text: id %d in row %td of text %td, expected 0 to %d", id, r, i,
                                vocabulary - 1);
            for (ptrdiff_t j = 0; j < to.width; j++)
                row_of(to, i, r)[j] = (float)((double)table[(ptrdiff_t)id * to.width + j] +
                                              (double)positions[r * to.width + j]);
        }
    return NPOS_OK;
}

/* ---- rows in and out ---- */

static npos_status check_picks(npi_tokens tokens, const int32_t *at) {
    for (int i = 0; at && i < tokens.n; i++)
        if (at[i] < 0 || at[i] >= tokens.t)
            return npi_fail(NPOS_INVALID_ARGUMENT, "pick: row %d of sequence %d, expected 0 to %d",
                            at[i], i, tokens.t - 1);
    return NPOS_OK;
}

static npos_status pick(npi_device *dev, npi_tokens from, const int32_t *at, float *rows) {
    (void)dev;
    NPI_TRY(check_picks(from, at));
    for (ptrdiff_t i = 0; i < from.n; i++)
        memcpy(rows + i * from.width, row_of(from, i, at ? at[i] : 0),
               (size_t)from.width * sizeof *rows);
    return NPOS_OK;
}

static npos_status pick_backward(npi_device *dev, const float *drows, const int32_t *at,
                                 npi_tokens to) {
    (void)dev;
    NPI_TRY(check_picks(to, at));
    memset(to.data, 0, count_of(to) * sizeof *drows);
    for (ptrdiff_t i = 0; i < to.n; i++)
        memcpy(row_of(to, i, at ? at[i] : 0), drows + i * to.width,
               (size_t)to.width * sizeof *drows);
    return NPOS_OK;
}

const npi_token_ops npi_ref_tokens = {.bytes = token_bytes,
                                      .import_rows = import_rows,
                                      .export_rows = export_rows,
                                      .import_halves = import_halves,
                                      .export_halves = export_halves,
                                      .import_gradient = import_rows,
                                      .export_gradient = export_rows,
                                      .patches_create = patches_create,
                                      .patches_free = patches_free,
                                      .patches_pack = patches_pack,
                                      .embed_image = embed_image,
                                      .embed_text = embed_text,
                                      .pick = pick,
                                      .pick_backward = pick_backward};
