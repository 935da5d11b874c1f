#include "jobs/token_feed.h"

#include <string.h>

#include "base/memory.h"

/* Batches that are read ahead beside a device, the one in use included. */
enum { SLOTS = 4 };

struct npi_token_feed {
    npi_device *dev;
    npi_token_feed_desc desc;
    size_t numbers; /* of an image */
    npi_stream *stream;
    uint16_t *halves; /* [batch][numbers], device memory */
    int32_t *index;   /* [batch], device memory: what is taken of the kept tokens */
    uint16_t *kept;   /* [images][numbers], device memory; NULL: not kept */
};

static int64_t images_of(const npi_token_feed *f) {
    return f->desc.items ? f->desc.items->count : f->desc.images->count;
}

static int slots(const npi_token_feed *f) {
    return f->dev->host ? 1 : SLOTS;
}

static npi_stream_desc stream_desc(const npi_token_feed *f) {
    const npi_token_feed_desc *d = &f->desc;
    npi_stream_desc stream = {.batch = d->batch, .views = 1, .threads = d->threads};
    stream.slots = slots(f);
    if (d->items) {
        stream.items = d->items;
    } else {
        stream.images = d->images;
        stream.transform = d->encoder->transform;
    }
    return stream;
}

size_t npi_token_feed_ring_bytes(const npi_token_feed *f) {
    npi_stream_desc stream = stream_desc(f);
    return f->kept ? 0 : (size_t)stream.slots * npi_stream_slot_bytes(&stream);
}

size_t npi_token_feed_all_bytes(const npi_token_feed *f) {
    return (size_t)images_of(f) * f->numbers * sizeof *f->halves;
}

bool npi_token_feed_kept(const npi_token_feed *f) {
    return f->kept != NULL;
}

npos_status npi_token_feed_open(npi_device *dev, const npi_token_feed_desc *desc,
                                npi_token_feed **out) {
    npi_token_feed *f;
    *out = NULL;
    NPI_TRY(npi_alloc(&f, 1, sizeof *f, "feed of tokens"));
    f->dev = dev;
    f->desc = *desc;
    f->numbers = (size_t)desc->rows * (size_t)desc->width;
    npos_status status = dev->memory->alloc(
        dev, (size_t)desc->batch * f->numbers * sizeof *f->halves, "a batch of tokens", &f->halves);
    if (status == NPOS_OK)
        *out = f;
    else
        npi_token_feed_close(f);
    return status;
}

void npi_token_feed_close(npi_token_feed *f) {
    if (!f)
        return;
    npi_stream_close(f->stream);
    f->dev->memory->free(f->dev, f->halves);
    f->dev->memory->free(f->dev, f->index);
    f->dev->memory->free(f->dev, f->kept);
    npi_free(f);
}

void npi_token_feed_end(npi_token_feed *f) {
    npi_stream_close(f->stream);
    f->stream = NULL;
}

npos_status npi_token_feed_begin(npi_token_feed *f, npi_stream_order_fn *order, void *context,
                                 int64_t first, int64_t end) {
    npi_token_feed_end(f);
    if (f->kept)
        return NPOS_OK;
    npi_stream_desc stream = stream_desc(f);
    stream.order = order;
    stream.context = context;
    stream.first = first;
    stream.end = end;
    return npi_stream_open(&stream, &f->stream);
}

/* Images through the frozen blocks, as many at once as the encoder takes. */
static npos_status compute_tokens(npi_token_feed *f, const npi_stream_batch *batch) {
    npi_device *dev = f->dev;
    npi_clip_encoder *encoder = f->desc.encoder;
    const npi_transform *t = &encoder->transform;
    size_t image = (size_t)t->size * (size_t)t->size * (size_t)t->channels;
    for (int first = 0; first < batch->count; first += encoder->most) {
        int n = batch->count - first < encoder->most ? batch->count - first : encoder->most;
        npi_act act;
        npi_tokens tokens;
        NPI_TRY(npi_clip_encoder_put(encoder, batch->pixels + (size_t)first * image, n, &act));
        NPI_TRY(npi_clip_images_tokens(encoder->plan, act, f->desc.block, &tokens));
        NPI_TRY(dev->tokens->export_halves(dev, tokens, f->halves + (size_t)first * f->numbers));
    }
    return NPOS_OK;
}

/* A host device reads a store's batch where it lies: it is held until the next one is asked for. */
static npos_status stream_next(npi_token_feed *f, int count, const uint16_t **halves) {
    npi_stream_batch batch;
    npi_stream_release(f->stream);
    NPI_TRY(npi_stream_next(f->stream, &batch));
    if (batch.count != count)
        return npi_fail(NPOS_INTERNAL, "batch %lld has %d images, expected %d",
                        (long long)batch.number, batch.count, count);
    *halves = f->halves;
    if (!f->desc.items)
        return compute_tokens(f, &batch);
    if (!f->dev->host)
        return f->dev->memory->upload(f->dev, f->halves, batch.pixels,
                                      (size_t)count * f->numbers * sizeof *f->halves);
    *halves = (const void *)batch.pixels;
    return NPOS_OK;
}

npos_status npi_token_feed_next(npi_token_feed *f, const int32_t *index, int count,
                                const uint16_t **halves, const int32_t **at) {
    *at = NULL;
    if (!f->kept)
        return stream_next(f, count, halves);
    *halves = f->kept;
    *at = f->index;
    return f->dev->memory->upload(f->dev, f->index, index, (size_t)count * sizeof *index);
}

static npos_status keep_all(npi_token_feed *f, uint16_t *to, npi_progress_fn *progress,
                            void *context) {
    int64_t count = images_of(f), most = f->desc.batch;
    NPI_TRY(npi_token_feed_begin(f, NULL, NULL, 0, (count + most - 1) / most));
    for (int64_t first = 0; first < count; first += most) {
        int n = count - first < most ? (int)(count - first) : (int)most;
        const uint16_t *halves;
        if (progress)
            NPI_TRY(progress(context, first, count));
        NPI_TRY(stream_next(f, n, &halves));
        NPI_TRY(f->dev->memory->copy(f->dev, to + (size_t)first * f->numbers, halves,
                                     (size_t)n * f->numbers * sizeof *halves));
    }
    return progress ? progress(context, count, count) : NPOS_OK;
}

/* What a device may yet need when it computes its first step: libraries take memory of their own. */
static npos_status check_spare(const npi_token_feed *f) {
    const size_t spare = (size_t)2 << 30;
    void *memory;
    if (f->dev->host)
        return NPOS_OK;
    NPI_TRY(f->dev->memory->alloc(f->dev, spare, "room beside all tokens", &memory));
    f->dev->memory->free(f->dev, memory);
    return NPOS_OK;
}

npos_status npi_token_feed_keep(npi_token_feed *f, npi_progress_fn *progress, void *context) {
    npi_device *dev = f->dev;
    uint16_t *kept = NULL;
    npos_status status;
    NPI_TRY_GOTO(dev->memory->alloc(dev, npi_token_feed_all_bytes(f), "all tokens", &kept), done);
    NPI_TRY_GOTO(check_spare(f), done);
    NPI_TRY_GOTO(keep_all(f, kept, progress, context), done);
    status = dev->memory->alloc(dev, (size_t)f->desc.batch * sizeof *f->index, "batch indices",
                                &f->index);
done:
    npi_token_feed_end(f);
    if (status != NPOS_OK) {
        dev->memory->free(dev, kept);
        return status;
    }
    f->kept = kept;
    dev->memory->free(dev, f->halves); /* no batch lies there any more */
    f->halves = NULL;
    return NPOS_OK;
}
