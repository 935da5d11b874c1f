/* The input of a step: views of images that lie in (device) memory, or of a batch that decoders have cropped. */
#include "base/memory.h"
#include "jobs/trainer.h"

/* Batches that are decoded ahead beside a device, the one in use included.  A host device needs the processor's cores
 * itself: there decoding and the step take turns. */
enum { SLOTS = 4 };

static int slots(const npi_trainer *t) {
    return t->dev->host ? 1 : SLOTS;
}

static bool streams(const npi_trainer *t) {
    return t->images.set != NULL;
}

static size_t batch_bytes(const npi_trainer *t) {
    return (size_t)t->recipe.batch * (size_t)t->recipe.views * (size_t)t->images.size *
           (size_t)t->images.size * (size_t)t->images.channels;
}

size_t npi_trainer_input_bytes(const npi_trainer *t) {
    if (t->clip)
        return npi_token_feed_kept(t->clip->feed) ? npi_token_feed_all_bytes(t->clip->feed)
                                                  : npi_token_feed_ring_bytes(t->clip->feed);
    size_t image = (size_t)t->images.size * (size_t)t->images.size * (size_t)t->images.channels;
    return streams(t) ? (size_t)slots(t) * batch_bytes(t) : (size_t)t->images.count * image;
}

/* The loader has cropped (but for padded crops, which it leaves to the device): view v of image i is image v * batch + i
 * of the uploaded batch, and draws the rest of its augmentation as the same item as it would in memory. */
static npos_status plan_stream(npi_trainer *t) {
    npi_device *dev = t->dev;
    int samples = t->recipe.batch * t->recipe.views;
    t->crop = t->augment;
    if (t->augment.crop == NPI_CROP_RESIZED)
        t->augment.crop = NPI_CROP_NONE;
    t->augment.batch = samples;
    t->augment.views = 1;
    int32_t *each;
    NPI_TRY(npi_alloc(&each, (size_t)samples, sizeof *each, "batch indices"));
    for (int i = 0; i < samples; i++)
        each[i] = i;
    npos_status status = dev->memory->upload(dev, t->index, each, (size_t)samples * sizeof *each);
    npi_free(each);
    if (status != NPOS_OK || dev->host)
        return status;
    NPI_TRY(dev->memory->alloc(dev, batch_bytes(t), "streamed images", &t->pixels_owned));
    t->pixels = t->pixels_owned;
    return NPOS_OK;
}

npos_status npi_trainer_input_plan(npi_trainer *t) {
    npi_device *dev = t->dev;
    size_t samples = (size_t)t->recipe.batch * (size_t)t->recipe.views;
    t->stream_epoch = -1;
    NPI_TRY(npi_alloc(&t->stream_order, (size_t)t->images.count, sizeof *t->stream_order,
                      "order of the images"));
    if (t->clip)
        return npi_trainer_clip_feed(t);
    NPI_TRY(dev->memory->alloc(dev, samples * sizeof(int32_t), "batch indices", &t->index));
    if (streams(t))
        return plan_stream(t);
    t->pixels = t->images.pixels;
    if (dev->host)
        return NPOS_OK;
    size_t bytes = npi_trainer_input_bytes(t);
    NPI_TRY(dev->memory->alloc(dev, bytes, "training images", &t->pixels_owned));
    t->pixels = t->pixels_owned;
    return dev->memory->upload(dev, t->pixels_owned, t->images.pixels, bytes);
}

/* Called by the decoders for the batches to come, those of later epochs too. */
npos_status npi_trainer_order(void *context, int64_t number, int32_t *index, int *count) {
    npi_trainer *t = context;
    int64_t epoch = number / t->schedule.steps, step = number % t->schedule.steps;
    if (epoch != t->stream_epoch)
        npi_permutation((uint64_t)t->recipe.seed, NPI_RANDOM_PERMUTATION, (uint64_t)epoch,
                        t->stream_order, (int32_t)t->images.count);
    t->stream_epoch = epoch;
    *count = npi_trainer_count(t, step);
    for (int i = 0; i < *count; i++)
        index[i] = t->stream_order[step * t->batch + i];
    return NPOS_OK;
}

/* Begins at the step that the trainer stands at: 0, or where a resumed run goes on. */
static npos_status begin_stream(npi_trainer *t) {
    int64_t steps = t->schedule.steps;
    bool crops = t->crop.crop == NPI_CROP_RESIZED;
    npi_stream_desc desc = {.images = &t->images,
                            .transform = crops ? npi_settings_crop_transform(&t->recipe)
                                               : npi_settings_transform(&t->recipe),
                            .crop = crops ? &t->crop : NULL,
                            .batch = t->recipe.batch,
                            .views = t->recipe.views,
                            .first = t->epoch * steps + t->step,
                            .end = t->recipe.epochs * steps,
                            .order = npi_trainer_order,
                            .context = t,
                            .threads = t->options->compute.threads,
                            .slots = slots(t)};
    return npi_stream_open(&desc, &t->stream);
}

/* A host device reads the batch where it lies.  It is held through the step and given back when the next one is asked
 * for. */
npos_status npi_trainer_feed(npi_trainer *t) {
    const npi_memory_ops *memory = t->dev->memory;
    npi_stream_batch batch;
    if (t->clip)
        return npi_trainer_clip_next(t);
    if (!streams(t))
        return memory->upload(t->dev, t->index, t->batch_index,
                              (size_t)t->recipe.batch * sizeof *t->batch_index);
    if (!t->stream)
        NPI_TRY(begin_stream(t));
    npi_stream_release(t->stream);
    NPI_TRY(npi_stream_next(t->stream, &batch));
    if (!t->dev->host)
        return memory->upload(t->dev, t->pixels_owned, batch.pixels, batch_bytes(t));
    t->pixels = batch.pixels;
    return NPOS_OK;
}

void npi_trainer_input_close(npi_trainer *t) {
    if (t->clip && t->clip->feed)
        npi_token_feed_end(t->clip->feed);
    npi_stream_close(t->stream);
    t->stream = NULL;
    npi_free(t->stream_order);
    t->stream_order = NULL;
}
