#include "devices/cpu/cpu_tokens.h"

#include <string.h>

#include "base/memory.h"
#include "devices/cpu/cpu_kernels.h"

static float *row_of(npi_tokens tokens, ptrdiff_t i, ptrdiff_t row) {
    return (float *)tokens.data + (i * tokens.t + row) * tokens.width;
}

static size_t count_of(npi_tokens tokens) {
    return (size_t)tokens.n * (size_t)tokens.t * (size_t)tokens.width;
}

npos_status npi_cpu_check_tokens(const char *what, npi_tokens tokens, int most, int t, int width) {
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
    const size_t numbers = (size_t)to.t * (size_t)to.width;
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (int i = 0; i < to.n; i++) {
        const uint16_t *from = rows + (size_t)(index ? index[i] : i) * numbers;
        float *out = (float *)to.data + (size_t)i * numbers;
        for (size_t k = 0; k < numbers; k++)
            out[k] = npi_f16_to_f32(from[k]);
    }
    return NPOS_OK;
}

static npos_status export_halves(npi_device *dev, npi_tokens from, uint16_t *rows) {
    size_t count = count_of(from);
    const float *in = from.data;
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (size_t i = 0; i < count; i++)
        rows[i] = npi_f32_to_f16(in[i]);
    return NPOS_OK;
}

/* ---- embedding ---- */

struct npi_patches {
    npi_device *dev;
    npi_patches_desc desc;
    char *name;
    float *pixels; /* [patches of an image][c][patch][patch], in the order of the weights */
};

static void patches_free(npi_device *dev, npi_patches *patches) {
    if (!patches)
        return;
    npi_free(patches->name);
    npi_host_memory.free(dev, patches->pixels);
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
    NPI_TRY_GOTO(
        npi_host_memory.alloc(dev, (size_t)d->c * (size_t)d->h * (size_t)d->w * sizeof *p->pixels,
                              name, &p->pixels),
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
    return NPOS_OK; /* products pack them, which is little beside the products */
}

/* The pixels of patch number `patch` of image n. */
static void take_patch(const npi_patches *p, npi_act image, int n, int patch) {
    int side = p->desc.patch, across = p->desc.w / side, channels = p->desc.c;
    const int y0 = patch / across * side, x0 = patch % across * side;
    bool half = p->dev->compute == NPI_BF16;
    float *to = p->pixels + (ptrdiff_t)patch * channels * side * side;
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++) {
            size_t at = npi_cpu_place(image, n, (y0 + y) * p->desc.w + x0 + x);
            for (int c = 0; c < channels; c++)
                to[((ptrdiff_t)c * side + y) * side + x] =
                    half ? npi_bf16_to_f32(((const uint16_t *)image.data)[at + (size_t)c])
                         : ((const float *)image.data)[at + (size_t)c];
        }
}

static npos_status check_image(const npi_patches *p, npi_act image, int n) {
    const npi_patches_desc *d = &p->desc;
    if (image.n == n && image.c == d->c && image.h == d->h && image.w == d->w)
        return NPOS_OK;
    return npi_fail(NPOS_SHAPE_MISMATCH,
                    "patches '%s': image is %d x %d x %d x %d, expected %d x %d x %d x %d", p->name,
                    image.n, image.c, image.h, image.w, n, d->c, d->h, d->w);
}

static npos_status embed_image(npi_patches *p, npi_act image, const npi_patches_params *params,
                               npi_tokens to) {
    const npi_patches_desc *d = &p->desc;
    int count = d->h / d->patch * (d->w / d->patch), length = d->c * d->patch * d->patch;
    int threads = npi_cpu_of(p->dev)->threads, width = d->width;
    const npi_math *math = npi_math_of(npi_cpu_of(p->dev)->isa);
    npos_status status = npi_cpu_check_tokens("tokens", to, d->n, count + 1, width);
    if (status != NPOS_OK)
        return npi_fail_in(status, "patches '%s'", p->name);
    NPI_TRY(check_image(p, image, to.n));
    for (int i = 0; i < to.n; i++) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int patch = 0; patch < count; patch++)
            take_patch(p, image, i, patch);
        npi_gemm g = {.m = count,
                      .n = width,
                      .k = length,
                      .a = p->pixels,
                      .a_row = length,
                      .a_col = 1,
                      .b = params->weight,
                      .b_row = 1,
                      .b_col = length,
                      .c = row_of(to, i, 1),
                      .ldc = width};
        NPI_TRY(npi_cpu_gemm(p->dev, &g));
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int r = 0; r < count + 1; r++) {
            float *row = row_of(to, i, r);
            const float *position = params->positions + (ptrdiff_t)r * width;
            for (int j = 0; j < width; j++)
                row[j] = (r > 0 ? row[j] : params->class_token[j]) + position[j];
            math->layer_norm(width, row, params->gamma, params->beta, row, NULL);
        }
    }
    return NPOS_OK;
}

static npos_status embed_text(npi_device *dev, const int32_t *ids, int vocabulary,
                              const float *table, const float *positions, npi_tokens to) {
    (void)dev;
    NPI_TRY(npi_cpu_check_tokens("text", to, to.n, to.t, to.width));
    for (ptrdiff_t i = 0; i < to.n; i++)
        for (ptrdiff_t r = 0; r < to.t; r++) {
            int32_t id = ids[i * to.t + r];
            if (id < 0 || id >= vocabulary)
                return npi_fail(NPOS_INVALID_ARGUMENT,
                                "text: id %d in row %td of text %td, expected 0 to %d", id, r, i,
                                vocabulary - 1);
            float *row = row_of(to, i, r);
            for (ptrdiff_t j = 0; j < to.width; j++)
                row[j] = table[(ptrdiff_t)id * to.width + j] + positions[r * to.width + j];
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

const npi_token_ops npi_cpu_tokens = {.bytes = token_bytes,
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
