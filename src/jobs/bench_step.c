/* The rows of npos_bench with the step of a larger recipe: the trainer's own steps on made-up images, uploads and the
 * reading of losses included. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "jobs/bench.h"
#include "jobs/trainer.h"
#include "tensor/dtype.h"

/* Images are more than a GPU's caches hold; hosts take a small batch. */
enum { IMAGES = 50000, LARGE_SIDE = 64, HOST_BATCH = 16 };

typedef struct stepper {
    npos_train_options options;
    npi_trainer trainer;
    npi_clip tower;   /* of clip */
    uint16_t *tokens; /* of all its images */
} stepper;

static npos_status load_recipe(const npi_bench *bench, const char *name, npi_recipe *recipe) {
    char batch[32];
    NPI_TRY(npi_recipe_load(name, recipe));
    NPI_TRY(npi_recipe_set(recipe, "lr=0.001")); /* the images teach nothing: weights stay small */
    snprintf(batch, sizeof batch, "batch=%d", HOST_BATCH);
    if (bench->dev->host)
        NPI_TRY(npi_recipe_set(recipe, batch));
    return npi_recipe_check(recipe);
}

/* Noise, labels in turn; as many as the recipe's set has, fewer of large ones. */
static npos_status make_images(npi_trainer *t, int classes) {
    const npi_recipe *r = &t->recipe;
    npi_images *images = &t->images;
    size_t bytes = (size_t)r->image_size * (size_t)r->image_size * (size_t)r->channels;
    images->count = t->dev->host || r->image_size > LARGE_SIDE ? 4 * (int64_t)r->batch : IMAGES;
    images->size = r->image_size;
    images->channels = r->channels;
    images->classes = classes;
    NPI_TRY(npi_alloc(&images->labels, (size_t)images->count, sizeof *images->labels, "labels"));
    if (!t->clip) {
        NPI_TRY(npi_alloc(&images->pixels, (size_t)images->count, bytes, "made-up images"));
        for (size_t k = 0; k < (size_t)images->count * bytes; k++)
            images->pixels[k] = (uint8_t)(k * 2654435761u >> 24);
    }
    for (int64_t i = 0; i < images->count; i++)
        images->labels[i] = (int32_t)(i % classes);
    return NPOS_OK;
}

/* Weights as at the start, prototypes along the axes, full rings. */
static npos_status fill(npi_trainer *t) {
    const npi_memory_ops *memory = t->dev->memory;
    const npi_ring *ring = &t->objective.ring;
    size_t classes = (size_t)t->images.classes, proj = (size_t)t->model.proj;
    float *host = NULL;
    npos_status status;
    NPI_TRY(npi_params_init(&t->model.params, 0));
    size_t rows = (size_t)ring->size * (size_t)ring->dim;
    size_t most = rows > classes * proj ? rows : classes * proj;
    NPI_TRY_GOTO(npi_alloc(&host, most, sizeof *host, "rings"), done);
    for (size_t c = 0; c < classes; c++)
        host[c * proj + c % proj] = 1.0f;
    NPI_TRY_GOTO(t->clip
                     ? npi_objective_set_text(&t->objective, host)
                     : memory->upload(t->dev, t->objective.mu, host, classes * proj * sizeof *host),
                 done);
    npi_bench_normals(host, rows, 4);
    for (size_t c = 0; c < classes; c++) {
        uint64_t full = (uint64_t)ring->size;
        t->pushed[c] = full;
        NPI_TRY_GOTO(memory->upload(t->dev, ring->rows + c * rows, host, rows * sizeof *host),
                     done);
        NPI_TRY_GOTO(memory->upload(t->dev, ring->count + c, &full, sizeof full), done);
    }
    for (int64_t i = 0; i < t->images.count; i++)
        t->order[i] = (int32_t)i;
    status = memory->sync(t->dev);
done:
    npi_free(host);
    return status;
}

static npos_status one_step(void *context) {
    npi_trainer *t = context;
    if (t->step == t->schedule.steps)
        t->step = 0;
    return npi_trainer_step(t);
}

/* ---- CLIP: a ViT-B/16 that was never trained, made-up tokens, kept in the device's memory ---- */

enum { ROWS = 197, WIDTH = 768, NUMBERS = ROWS * WIDTH, SHIFT = 64 };

/* Each image's are the last one's, SHIFT numbers on. */
static npos_status read_tokens(void *tokens, int64_t i, void *to) {
    memcpy(to, (const uint16_t *)tokens + i * SHIFT, NUMBERS * sizeof(uint16_t));
    return NPOS_OK;
}

static npos_status make_clip(stepper *s) {
    npi_trainer *t = &s->trainer;
    const npi_clip_config config = {.vision = {WIDTH, 12, 12, 3072, NPI_ACT_QUICK_GELU},
                                    .channels = 3,
                                    .side = 224,
                                    .patch = 16,
                                    .projection = 512};
    float *host;
    NPI_TRY(npi_recipe_set(&t->recipe, "loading=memory"));
    NPI_TRY(npi_clip_create(t->dev, &config, &s->tower));
    const int64_t images = 4 * (int64_t)t->recipe.batch;
    const size_t numbers = NUMBERS + (size_t)images * SHIFT;
    NPI_TRY(npi_alloc(&s->tokens, numbers, sizeof *s->tokens, "made-up tokens"));
    NPI_TRY(npi_alloc(&host, numbers, sizeof *host, "made-up tokens"));
    npi_bench_normals(host, numbers, 5);
    for (size_t k = 0; k < numbers; k++)
        s->tokens[k] = npi_f32_to_f16(host[k]);
    npi_free(host);
    NPI_TRY(npi_alloc(&t->clip, 1, sizeof *t->clip, "fine-tuning"));
    t->clip->config = config;
    t->clip->made_up = &s->tower;
    t->clip->items =
        (npi_stream_items){images, NUMBERS * sizeof *s->tokens, read_tokens, s->tokens};
    return NPOS_OK;
}

static npos_status run(npi_bench *bench, const char *recipe, int classes) {
    stepper *s;
    npos_status status;
    NPI_TRY(npi_alloc(&s, 1, sizeof *s, "trainer"));
    npi_trainer *t = &s->trainer;
    s->options = (npos_train_options){.compute = *bench->compute, .out = "bench"};
    t->options = &s->options;
    t->dev = bench->dev;
    NPI_TRY_GOTO(load_recipe(bench, recipe, &t->recipe), done);
    if (npi_settings_method(&t->recipe) == NPI_METHOD_CLIP)
        NPI_TRY_GOTO(make_clip(s), done);
    NPI_TRY_GOTO(make_images(t, classes), done);
    NPI_TRY_GOTO(npi_trainer_plan(t), done);
    NPI_TRY_GOTO(fill(t), done);
    t->epoch = t->recipe.start_epoch;
    snprintf(bench->shape, sizeof bench->shape,
             "recipe %s, %d images in %d views of %dx%d, %d classes", recipe, t->recipe.batch,
             t->recipe.views, t->recipe.image_size, t->recipe.image_size, classes);
    status = npi_bench_time(bench, one_step, t);
    if (status == NPOS_OK)
        status = npi_trainer_settle(t);
done:
    npi_trainer_unplan(t);
    if (s->tower.dev)
        npi_clip_free(&s->tower);
    npi_free(s->tokens);
    npi_free(s);
    return status;
}

npos_status npi_bench_step_cifar100(npi_bench *bench) {
    return run(bench, "cifar100", 100);
}

npos_status npi_bench_step_imagenet100(npi_bench *bench) {
    return run(bench, "imagenet100", 100);
}

npos_status npi_bench_clip_step(npi_bench *bench) {
    return run(bench, "clip-imagenet100", 100);
}
