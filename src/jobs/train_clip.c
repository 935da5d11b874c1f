/* What fine-tuning CLIP does otherwise than training from scratch: tokens for images, tuned blocks for a network, and a
 * run that holds the whole model. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "jobs/clip_recipe.h"
#include "jobs/clip_save.h"
#include "jobs/compute.h"
#include "jobs/model_file.h"
#include "jobs/trainer.h"

npos_status npi_trainer_clip_recipe(npi_trainer *t) {
    npi_recipe *r = &t->recipe;
    npi_train_clip *clip = t->clip;
    if (!*r->clip)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "finetune: no model is given"),
                        "--clip DIR|FILE names the model to fine-tune");
    if (r->views != 1)
        return npi_fail(NPOS_INVALID_ARGUMENT, "views: %d, expected 1: tokens are of one view",
                        r->views);
    NPI_TRY(npi_clip_recipe(r->clip, &clip->config, r));
    int layers = clip->config.vision.layers;
    if (r->first_block >= layers)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "first_block: %d, the image tower of %s has blocks 0 to %d", r->first_block,
                        r->clip, layers - 1);
    return npi_clip_hash(r->clip, &clip->weights);
}

/* ---- images ---- */

static npos_status check_store(const npi_trainer *t, const npi_token_info *info) {
    const npi_recipe *r = &t->recipe;
    const npi_train_clip *clip = t->clip;
    const char *path = r->features;
    int rows = npi_clip_rows(&clip->config), width = clip->config.vision.width;
    if (info->rows != rows || info->width != width)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "%s: tokens of %d rows of %d numbers, those of %s have %d of %d", path,
                        info->rows, info->width, r->clip, rows, width);
    if (info->model && info->model != clip->weights)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "%s: was made with other weights (%016" PRIx64
                                 ") than those of %s (%016" PRIx64 ")",
                                 path, info->model, r->clip, clip->weights),
                        "make it again with: npos extract --clip %s", r->clip);
    if (info->block >= 0 && info->block != r->first_block)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "%s: tokens that enter block %d, the recipe trains from block %d "
                                 "on",
                                 path, info->block, r->first_block),
                        "npos extract --block %d, or --set first_block=%d", r->first_block,
                        info->block);
    if (info->reducing_gap >= 0 && info->reducing_gap != r->reducing_gap)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "%s: tokens of images decoded with reducing_gap %g, the recipe's "
                                 "is %g: the run would see other pixels than it was trained on",
                                 path, info->reducing_gap, r->reducing_gap),
                        "--set reducing_gap=%g, or npos extract --reducing-gap %g into another "
                        "store",
                        info->reducing_gap, r->reducing_gap);
    if (info->images > INT32_MAX)
        return npi_fail(NPOS_UNSUPPORTED, "%s: %" PRId64 " images, at most %d can be held", path,
                        info->images, INT32_MAX);
    return info->block >= 0 ? NPOS_OK
                            : npi_compute_progress(&t->options->compute, "features", 1, 1,
                                                   "they do not say of which weights and block "
                                                   "they are: believed to fit");
}

/* A store says of its images what a set of images would, but for their names. */
static npos_status take_images(npi_trainer *t, const npi_token_info *info) {
    npi_images *to = &t->images;
    size_t count = (size_t)info->images, classes = (size_t)info->classes;
    to->count = to->available = info->images;
    to->size = t->recipe.image_size;
    to->channels = t->recipe.channels;
    NPI_TRY(npi_strdup(&to->spec, t->recipe.features));
    NPI_TRY(npi_alloc(&to->labels, count, sizeof *to->labels, "labels"));
    memcpy(to->labels, info->labels, count * sizeof *to->labels);
    NPI_TRY(npi_alloc(&to->class_names, classes, sizeof *to->class_names, "class names"));
    to->classes = info->classes;
    for (size_t c = 0; c < classes; c++)
        NPI_TRY(npi_strdup(&to->class_names[c], info->class_names[c]));
    return npi_token_store_identity(t->clip->store, &to->hash);
}

static npos_status read_tokens(void *store, int64_t i, void *to) {
    return npi_token_store_read(store, i, to);
}

npos_status npi_trainer_clip_load(npi_trainer *t) {
    npi_train_clip *clip = t->clip;
    if (*t->recipe.features && *t->recipe.data)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "finetune: features '%s' and data '%s'",
                                 t->recipe.features, t->recipe.data),
                        "the features are the images: give one of them");
    if (*t->recipe.features) {
        NPI_TRY(npi_token_store_open(t->recipe.features, &clip->store));
        const npi_token_info *info = npi_token_store_info(clip->store);
        NPI_TRY(check_store(t, info));
        NPI_TRY(take_images(t, info));
        size_t numbers = (size_t)info->rows * (size_t)info->width;
        clip->items =
            (npi_stream_items){info->images, numbers * sizeof(uint16_t), read_tokens, clip->store};
    }
    return npi_trainer_classes(t);
}

/* ---- network and tokens ---- */

npos_status npi_trainer_clip_plan(npi_trainer *t) {
    npi_train_clip *clip = t->clip;
    const npi_recipe *r = &t->recipe;
    npi_clip tower = {0};
    npi_clip *of = clip->made_up ? clip->made_up : clip->store ? &tower : &clip->encoder.clip;
    npos_status status = NPOS_OK;
    if (of == &tower)
        status = npi_clip_load(t->dev, r->clip, NPI_CLIP_VISION, NPI_CLIP_ACT_AUTO, &tower);
    else if (!clip->made_up)
        status = npi_clip_encoder_open(t->dev, r->clip, npi_clip_pass(t->dev), &clip->encoder);
    if (status == NPOS_OK)
        status = npi_clip_tuned_create(of, r->first_block, r->head_dim, &t->model);
    if (tower.dev)
        npi_clip_free(&tower);
    NPI_TRY(status);
    return npi_clip_tuning_create(&t->model, &clip->config, r->first_block, t->batch, &clip->plan);
}

/* Every chunk's checksum, in the order of the disk, before batches read them here and there. */
static npos_status check_chunks(npi_trainer *t) {
    const npi_token_info *info = npi_token_store_info(t->clip->store);
    uint16_t *image;
    npos_status status = NPOS_OK;
    NPI_TRY(npi_alloc(&image, (size_t)info->rows * (size_t)info->width, sizeof *image, "tokens"));
    for (int64_t i = 0; status == NPOS_OK && i < info->images; i += info->chunk) {
        status =
            npi_compute_progress(&t->options->compute, "check features", i, info->images, NULL);
        if (status == NPOS_OK)
            status = npi_token_store_read(t->clip->store, i, image);
    }
    npi_free(image);
    return status == NPOS_OK ? npi_compute_progress(&t->options->compute, "check features",
                                                    info->images, info->images, NULL)
                             : status;
}

/* Tokens of images are kept where they take no more than other sets in memory may, and of a processor's memory a quarter:
 * the frozen blocks then run once.  A store is kept on a device that has room for it; to a host device the disk's cache is
 * as good.  On processors no number depends on it. */
static bool fits(const npi_trainer *t) {
    double most = 8e9, bytes = (double)npi_token_feed_all_bytes(t->clip->feed);
    if (t->clip->store)
        return !t->dev->host;
    if (t->dev->host)
        most = fmin(most, (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / 4);
    return bytes <= most;
}

static npos_status keep(npi_trainer *t) {
    npi_train_clip *clip = t->clip;
    const char *loading = t->recipe.loading;
    bool must = strcmp(loading, "memory") == 0;
    npos_status status = NPOS_OK;
    if (must || (strcmp(loading, "auto") == 0 && fits(t))) {
        status = npi_token_feed_keep(clip->feed, npi_trainer_loading, t);
        if (status == NPOS_OK)
            npi_clip_encoder_close(&clip->encoder);
        if (status != NPOS_OUT_OF_MEMORY || must)
            return status;
    }
    return clip->store ? check_chunks(t) : NPOS_OK;
}

npos_status npi_trainer_clip_feed(npi_trainer *t) {
    npi_train_clip *clip = t->clip;
    const npi_token_feed_desc desc = {.items = clip->items.read ? &clip->items : NULL,
                                      .encoder = &clip->encoder,
                                      .images = &t->images,
                                      .block = t->recipe.first_block,
                                      .rows = npi_clip_rows(&clip->config),
                                      .width = clip->config.vision.width,
                                      .batch = t->batch,
                                      .threads = t->options->compute.threads};
    NPI_TRY(npi_token_feed_open(t->dev, &desc, &clip->feed));
    return keep(t);
}

npos_status npi_trainer_clip_next(npi_trainer *t) {
    npi_train_clip *clip = t->clip;
    int64_t steps = t->schedule.steps;
    if (!clip->begun)
        NPI_TRY(npi_token_feed_begin(clip->feed, npi_trainer_order, t, t->epoch * steps + t->step,
                                     t->recipe.epochs * steps));
    clip->begun = true;
    return npi_token_feed_next(clip->feed, t->batch_index, npi_trainer_count(t, t->step),
                               &clip->halves, &clip->at);
}

npos_status npi_trainer_clip_start(npi_trainer *t) {
    return npi_params_init_head(&t->model.params, (uint64_t)t->recipe.seed);
}

void npi_trainer_clip_close(npi_trainer *t) {
    npi_train_clip *clip = t->clip;
    if (!clip)
        return;
    npi_token_feed_close(clip->feed);
    npi_clip_tuning_free(clip->plan);
    npi_clip_encoder_close(&clip->encoder);
    npi_token_store_close(clip->store);
    npi_text_file_clear(&clip->text);
    npi_free(clip);
    t->clip = NULL;
}

/* ---- the end ---- */

/* The tokens of n images of the batch that the feed brings next, into the plan. */
npos_status npi_trainer_clip_put(const npi_trainer *t, int n) {
    npi_tokens input = npi_clip_tuning_input(t->clip->plan);
    input.n = n;
    return t->dev->tokens->import_halves(t->dev, t->clip->halves, t->clip->at, input);
}

npos_status npi_trainer_clip_embed(npi_trainer *t, float *h) {
    npi_train_clip *clip = t->clip;
    npi_encoder encoder = npi_clip_tuning_encoder(clip->plan);
    const npos_compute *compute = &t->options->compute;
    int64_t count = t->images.count, most = t->batch, dim = t->model.dim;
    float *rows = t->objective.rows;
    NPI_TRY(npi_token_feed_begin(clip->feed, NULL, NULL, 0, (count + most - 1) / most));
    NPI_TRY(encoder.pack(encoder.plan));
    for (int64_t first = 0; first < count; first += most) {
        int n = count - first < most ? (int)(count - first) : (int)most;
        NPI_TRY(npi_compute_progress(compute, "embed training images", first, count, NULL));
        for (int i = 0; i < n; i++)
            t->batch_index[i] = (int32_t)(first + i);
        NPI_TRY(npi_token_feed_next(clip->feed, t->batch_index, n, &clip->halves, &clip->at));
        NPI_TRY(npi_trainer_clip_put(t, n));
        NPI_TRY(encoder.forward(encoder.plan, n, rows));
        NPI_TRY(t->dev->memory->download(t->dev, h + first * dim, rows,
                                         (size_t)n * (size_t)dim * sizeof *h));
    }
    return npi_compute_progress(compute, "embed training images", count, count, NULL);
}

/* phi alone, which RUN/model.safetensors holds beside T. */
static npos_status copy_head(const npi_trainer *t, npi_model *head) {
    const npi_params *tuned = &t->model.params;
    *head = (npi_model){.dev = t->dev, .params.dev = t->dev, .dim = t->model.dim};
    NPI_TRY(npi_model_add_phi(head, t->recipe.head_dim));
    NPI_TRY(npi_params_alloc(&head->params, false));
    return t->dev->memory->copy(t->dev, head->params.values, tuned->values + tuned->body,
                                tuned->head * sizeof *tuned->values);
}

static npos_status write_model(const npi_trainer *t, const char *path) {
    npi_model head;
    npos_status status = copy_head(t, &head);
    npi_model_file model = {.params = &head.params,
                            .classes = t->images.classes,
                            .proj = t->model.dim,
                            .dim = t->model.dim,
                            .class_names = t->images.class_names,
                            .text = t->clip->text.rows,
                            .has_logits = true};
    if (status == NPOS_OK)
        status = npi_model_file_write(path, &model);
    npi_model_free(&head);
    return status;
}

npos_status npi_trainer_clip_write(npi_trainer *t) {
    char *clip = NULL, *model = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_trainer_path(t, "clip", &clip), done);
    NPI_TRY_GOTO(npi_trainer_path(t, "model.safetensors", &model), done);
    NPI_TRY_GOTO(npi_clip_save(t->recipe.clip, &t->model.params, clip), done);
    status = write_model(t, model);
done:
    npi_free(clip);
    npi_free(model);
    return status;
}
