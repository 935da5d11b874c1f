/* The rows of npos_bench with CLIP's image tower, ViT-B/16 with random weights. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "jobs/bench.h"
#include "nn/clip.h"

enum { LAYERS = 12, TUNED = 2, WIDTH = 768, HEADS = 12, HIDDEN = 3072, SIDE = 224, CHANNELS = 3 };

typedef struct tower {
    npi_device *dev;
    npi_clip clip;
    npi_clip_images *plan;
    npi_act images;
    float *h;
} tower;

/* *out = `count` random numbers in device memory, of which `part` differ. */
static npos_status random_floats(npi_device *dev, size_t count, size_t part, float **out) {
    float *host = NULL;
    npos_status status;
    NPI_TRY(dev->memory->alloc(dev, count * sizeof **out, "random numbers", out));
    NPI_TRY(npi_alloc(&host, part, sizeof *host, "random numbers"));
    npi_bench_normals(host, part, 2);
    for (size_t at = 0; at < count; at += part)
        NPI_TRY_GOTO(dev->memory->upload(dev, *out + at, host,
                                         (count - at < part ? count - at : part) * sizeof *host),
                     done);
    status = dev->memory->sync(dev);
done:
    npi_free(host);
    return status;
}

/* Weights of 0.02 times normal numbers, as those of a trained tower about are; norms' scales around 1. */
static npos_status random_weights(npi_params *params) {
    for (int i = 0; i < params->count; i++) {
        const npi_param *p = &params->list[i];
        bool scales = p->ndim == 1 && strstr(p->name, "norm") && strstr(p->name, "weight");
        float *host;
        NPI_TRY(npi_alloc(&host, p->count, sizeof *host, "random weights"));
        npi_bench_normals(host, p->count, 3 + (uint32_t)i);
        for (size_t k = 0; k < p->count; k++)
            host[k] = 0.02f * host[k] + (scales ? 1.0f : 0.0f);
        npos_status status = npi_param_set(params, NPI_ARENA_VALUES, i, host);
        npi_free(host);
        NPI_TRY(status);
    }
    return NPOS_OK;
}

static npos_status make_tower(tower *t, int n) {
    npi_device *dev = t->dev;
    const npi_clip_config config = {.vision = {WIDTH, LAYERS, HEADS, HIDDEN, NPI_ACT_QUICK_GELU},
                                    .channels = CHANNELS,
                                    .side = SIDE,
                                    .patch = 16,
                                    .projection = 512};
    size_t image = (size_t)CHANNELS * SIDE * SIDE;
    float *pixels = NULL;
    npos_status status;
    NPI_TRY(npi_clip_create(dev, &config, &t->clip));
    NPI_TRY(random_weights(&t->clip.vision.params));
    NPI_TRY(npi_clip_images_create(&t->clip, n, &t->plan));
    NPI_TRY(npi_clip_images_pack(t->plan));
    NPI_TRY(dev->memory->alloc(dev, (size_t)n * 512 * sizeof(float), "embeddings", &t->h));
    t->images = (npi_act){.n = n, .c = CHANNELS, .h = SIDE, .w = SIDE};
    NPI_TRY(dev->memory->alloc(dev, dev->acts->bytes(dev, n, CHANNELS, SIDE, SIDE), "images",
                               &t->images.data));
    NPI_TRY_GOTO(random_floats(dev, (size_t)n * image, 4 * image, &pixels), done);
    NPI_TRY_GOTO(dev->acts->import_nchw(dev, pixels, t->images), done);
    status = dev->memory->sync(dev);
done:
    dev->memory->free(dev, pixels);
    return status;
}

static npos_status run_tower(npi_bench *bench, const char *what, npos_status (*work)(void *)) {
    tower t = {.dev = bench->dev};
    bench->images = bench->dev->host ? 4 : 256;
    bench->records = true;
    snprintf(bench->shape, sizeof bench->shape, "CLIP ViT-B/16, %d images of %dx%d, %s",
             bench->images, SIDE, SIDE, what);
    npos_status status = make_tower(&t, bench->images);
    if (status == NPOS_OK)
        status = npi_bench_time(bench, work, &t);
    npi_clip_images_free(t.plan);
    npi_clip_free(&t.clip);
    bench->dev->memory->free(bench->dev, t.images.data);
    bench->dev->memory->free(bench->dev, t.h);
    return status;
}

static npos_status embed(void *context) {
    tower *t = context;
    return npi_clip_images_embed(t->plan, t->images, t->h);
}

static npos_status features(void *context) {
    tower *t = context;
    npi_tokens tokens;
    return npi_clip_images_tokens(t->plan, t->images, LAYERS - TUNED, &tokens);
}

npos_status npi_bench_clip_encoder(npi_bench *bench) {
    return run_tower(bench, "embeddings", embed);
}

npos_status npi_bench_clip_features(npi_bench *bench) {
    return run_tower(bench, "blocks 0 to 9", features);
}

/* ---- the last two blocks, forward and backward ---- */

enum { BLOCK_SIZE = 4 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN + 9 * WIDTH + HIDDEN };

typedef struct tuning {
    npi_device *dev;
    npi_block *blocks[TUNED];
    npi_block_params params[TUNED], grads[TUNED];
    float *values, *slopes, *picked;
    npi_tokens x, y, z, dy, dz; /* x -> y -> z; z has one row */
} tuning;

static npi_block_params place_params(float *at) {
    static const size_t counts[] = {
        WIDTH, WIDTH, 3 * WIDTH * WIDTH, 3 * WIDTH, WIDTH * WIDTH,  WIDTH,
        WIDTH, WIDTH, HIDDEN * WIDTH,    HIDDEN,    WIDTH * HIDDEN, WIDTH};
    float *p[12];
    for (int i = 0; i < 12; i++) {
        p[i] = at;
        at += counts[i];
    }
    return (npi_block_params){p[0], p[1], p[2], p[3], p[4],  p[5],
                              p[6], p[7], p[8], p[9], p[10], p[11]};
}

static npos_status make_tokens(npi_device *dev, int n, int t, npi_tokens *out) {
    *out = (npi_tokens){.n = n, .t = t, .width = WIDTH};
    return dev->memory->alloc(dev, dev->tokens->bytes(dev, n, t, WIDTH), "tokens", &out->data);
}

static npos_status random_tokens(npi_device *dev, npi_tokens to) {
    size_t row = (size_t)to.t * WIDTH, count = (size_t)to.n * row;
    float *rows = NULL;
    npos_status status = random_floats(dev, count, 4 * row, &rows);
    if (status == NPOS_OK)
        status = dev->tokens->import_rows(dev, rows, to);
    if (status == NPOS_OK)
        status = dev->memory->sync(dev);
    dev->memory->free(dev, rows);
    return status;
}

static npos_status make_tuning(tuning *t, int n) {
    npi_device *dev = t->dev;
    int rows = 1 + (SIDE / 16) * (SIDE / 16);
    float *host;
    for (int i = 0; i < TUNED; i++) {
        npi_block_desc desc = {.name = i == 0 ? "vision.layers.10" : "vision.layers.11",
                               .n = n,
                               .t = rows,
                               .width = WIDTH,
                               .heads = HEADS,
                               .hidden = HIDDEN,
                               .act = NPI_ACT_QUICK_GELU,
                               .first_only = i == 1,
                               .training = true,
                               .needs_dx = i == 1};
        NPI_TRY(dev->blocks->create(dev, &desc, &t->blocks[i]));
    }
    NPI_TRY(dev->memory->alloc(dev, TUNED * sizeof(float) * BLOCK_SIZE, "weights", &t->values));
    NPI_TRY(dev->memory->alloc(dev, TUNED * sizeof(float) * BLOCK_SIZE, "gradients", &t->slopes));
    NPI_TRY(npi_alloc(&host, BLOCK_SIZE, sizeof *host, "weights"));
    npi_bench_normals(host, BLOCK_SIZE, 1);
    for (size_t i = 0; i < BLOCK_SIZE; i++)
        host[i] *= 0.02f;
    npos_status status = NPOS_OK;
    for (int i = 0; i < TUNED && status == NPOS_OK; i++) {
        t->params[i] = place_params(t->values + (size_t)i * BLOCK_SIZE);
        t->grads[i] = place_params(t->slopes + (size_t)i * BLOCK_SIZE);
        status = dev->memory->upload(dev, t->values + (size_t)i * BLOCK_SIZE, host,
                                     BLOCK_SIZE * sizeof *host);
    }
    if (status == NPOS_OK)
        status = dev->memory->sync(dev);
    npi_free(host);
    NPI_TRY(status);
    NPI_TRY(make_tokens(dev, n, rows, &t->x));
    NPI_TRY(make_tokens(dev, n, rows, &t->y));
    NPI_TRY(make_tokens(dev, n, rows, &t->dy));
    NPI_TRY(make_tokens(dev, n, 1, &t->z));
    NPI_TRY(make_tokens(dev, n, 1, &t->dz));
    NPI_TRY(random_tokens(dev, t->x));
    return random_floats(dev, (size_t)n * WIDTH, (size_t)n * WIDTH, &t->picked);
}

static npos_status tune(void *context) {
    tuning *t = context;
    const npi_block_ops *ops = t->dev->blocks;
    for (int i = 0; i < TUNED; i++)
        NPI_TRY(ops->pack(t->blocks[i], &t->params[i]));
    NPI_TRY(ops->forward(t->blocks[0], t->x, &t->params[0], t->y));
    NPI_TRY(ops->forward(t->blocks[1], t->y, &t->params[1], t->z));
    NPI_TRY(t->dev->tokens->pick_backward(t->dev, t->picked, NULL, t->dz));
    NPI_TRY(ops->backward(t->blocks[1], t->dz, t->y, &t->params[1], &t->grads[1], &t->dy));
    return ops->backward(t->blocks[0], t->dy, t->x, &t->params[0], &t->grads[0], NULL);
}

npos_status npi_bench_clip_blocks(npi_bench *bench) {
    npi_device *dev = bench->dev;
    tuning t = {.dev = dev};
    int n = dev->host ? 8 : 800;
    if (!dev->blocks)
        return npi_fail(NPOS_UNSUPPORTED, "device '%s' cannot run transformers", dev->name);
    bench->records = true;
    snprintf(bench->shape, sizeof bench->shape,
             "CLIP ViT-B/16's blocks 10 and 11, %d images, forward and backward", n);
    npos_status status = make_tuning(&t, n);
    if (status == NPOS_OK)
        status = npi_bench_time(bench, tune, &t);
    for (int i = 0; i < TUNED; i++)
        dev->blocks->free(dev, t.blocks[i]);
    void *const all[] = {t.values, t.slopes,  t.picked, t.x.data,
                         t.y.data, t.dy.data, t.z.data, t.dz.data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        dev->memory->free(dev, all[i]);
    return status;
}
