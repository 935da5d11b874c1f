/* One lock guards all counters; decoding happens outside it.  Batch b lives in slot b % slots:
 *
 *     released <= handed <= filling <= released + slots
 *
 * Batches before `released` are done with, those before `handed` are with the caller, those before
 * `filling` have all their images given to decoders, and `filling` is the one whose images are being
 * given out. */
#include "data/stream.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "data/images_open.h"
#include "data/resize.h"

/* A batch in the making.  `failed` is the place of the first image that could not be made (batch:
 * none); where the order itself failed the batch has no images and failed is 0. */
typedef struct slot {
    int64_t number; /* -1: none yet */
    int count, given, done, failed;
    int32_t *index;
    uint8_t *pixels;
    npos_status status;
    char message[1024], hint[512];
} slot;

struct npi_stream {
    npi_stream_desc desc;
    npi_augment_desc crop;
    npi_stream_items items;
    int64_t count; /* images or items that there are */
    size_t image_bytes;
    slot *slots;
    uint8_t *own; /* [slots] batches, where the caller gave none */
    int32_t *indices;
    pthread_t threads[NPI_MAX_DECODERS];
    int started;
    pthread_mutex_t lock;
    pthread_cond_t work, ready; /* a slot became free, or the end; a batch became whole */
    int64_t released, handed, filling, end;
    bool closing;
};

size_t npi_stream_slot_bytes(const npi_stream_desc *desc) {
    if (desc->items)
        return (size_t)desc->batch * desc->items->bytes;
    return (size_t)desc->batch * (size_t)desc->views * (size_t)desc->transform.size *
           (size_t)desc->transform.size * (size_t)desc->transform.channels;
}

static slot *slot_of(const npi_stream *s, int64_t number) {
    return &s->slots[number % s->desc.slots];
}

static void record_failure(slot *batch, int place, npos_status status) {
    if (place >= batch->failed)
        return;
    batch->failed = place;
    batch->status = status;
    snprintf(batch->message, sizeof batch->message, "%s", npos_error_message());
    snprintf(batch->hint, sizeof batch->hint, "%s", npos_error_hint());
}

/* ---- decoders -------------------------------------------------------------------------------- */

static npos_status order_of(npi_stream *s, int64_t number, slot *to) {
    const npi_stream_desc *d = &s->desc;
    int64_t count = s->count, first = number * d->batch;
    if (!d->order) {
        to->count = first + d->batch <= count ? d->batch : (int)(count - first);
        for (int i = 0; i < to->count; i++)
            to->index[i] = (int32_t)(first + i);
        return NPOS_OK;
    }
    NPI_TRY(d->order(d->context, number, to->index, &to->count));
    if (to->count < 1 || to->count > d->batch)
        return npi_fail(NPOS_INVALID_ARGUMENT, "stream: a batch of %d images, expected 1 to %d",
                        to->count, d->batch);
    for (int i = 0; i < to->count; i++)
        if (to->index[i] < 0 || to->index[i] >= count)
            return npi_fail(NPOS_INVALID_ARGUMENT, "stream: image %d of %s, which has %lld",
                            (int)to->index[i], d->items ? "a store" : d->images->spec,
                            (long long)count);
    return NPOS_OK;
}

/* Under the lock: the batch `filling` gets its order.  One without an order is the last. */
static void begin_batch(npi_stream *s, slot *batch) {
    batch->number = s->filling;
    batch->given = batch->done = batch->count = 0;
    batch->failed = s->desc.batch;
    npos_status status = order_of(s, s->filling, batch);
    if (status == NPOS_OK)
        return;
    batch->count = 0;
    record_failure(batch, 0, status);
    s->filling++;
    s->end = s->filling;
    pthread_cond_broadcast(&s->ready);
}

/* Under the lock: the next image to decode; NULL where there is nothing to do now. */
static slot *take(npi_stream *s, int *place) {
    if (s->filling >= s->end || s->filling - s->released >= s->desc.slots)
        return NULL;
    slot *batch = slot_of(s, s->filling);
    if (batch->number != s->filling)
        begin_batch(s, batch);
    if (batch->count == 0)
        return NULL;
    *place = batch->given++;
    if (batch->given == batch->count)
        s->filling++;
    return batch;
}

static npos_status make_view(const npi_stream *s, const npi_image *stored, int64_t step,
                             uint32_t item, npi_image *out) {
    if (!s->desc.crop)
        return npi_transform_apply(&s->desc.transform, stored, out);
    npi_augment_desc d = s->crop;
    d.src_h = stored->height;
    d.src_w = stored->width;
    npi_augment_params p = npi_augment_draw(&d, (uint64_t)step, item);
    npi_window window = {p.top, p.left, p.height, p.width};
    return npi_transform_crop(&s->desc.transform, stored, window, out);
}

/* All views of one image of a batch. */
static npos_status make(const npi_stream *s, const slot *batch, int place) {
    const npi_stream_desc *d = &s->desc;
    npi_image stored, view = {0};
    npos_status status = NPOS_OK;
    int32_t number = batch->index[place];
    if (d->items)
        return d->items->read(d->items->source, number,
                              batch->pixels + (size_t)place * s->image_bytes);
    NPI_TRY(npi_images_decode(d->images, number, &stored));
    for (int v = 0; v < d->views && status == NPOS_OK; v++) {
        if (v == 0 || d->crop) {
            npi_image_clear(&view);
            status = make_view(s, &stored, batch->number, (uint32_t)(v * d->batch + place), &view);
        }
        if (status == NPOS_OK)
            memcpy(batch->pixels +
                       ((size_t)v * (size_t)batch->count + (size_t)place) * s->image_bytes,
                   view.pixels, s->image_bytes);
        else
            npi_fail_in(status, "%s", d->images->names[number]);
    }
    npi_image_clear(&view);
    npi_image_clear(&stored);
    return status;
}

static void *decoder(void *argument) {
    npi_stream *s = argument;
    int place;
    pthread_mutex_lock(&s->lock);
    while (!s->closing) {
        slot *batch = take(s, &place);
        if (!batch) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        npos_status status = make(s, batch, place);
        pthread_mutex_lock(&s->lock);
        if (status != NPOS_OK)
            record_failure(batch, place, status);
        if (++batch->done == batch->count)
            pthread_cond_broadcast(&s->ready);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- the caller's side ------------------------------------------------------------------------- */

static npos_status check(const npi_stream_desc *d) {
    bool there = d->items || (d->images && d->images->set);
    int64_t count = !there ? 0 : d->items ? d->items->count : d->images->count;
    if (!there || count > INT32_MAX)
        return npi_fail(NPOS_INVALID_ARGUMENT, "stream: needs an opened set of at most %d images",
                        INT32_MAX);
    if (d->batch < 1 || d->views < 1 || (d->items && d->views != 1) || d->slots < 1 ||
        d->first < 0 || d->end < d->first)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "stream: batches %lld to %lld of %d images, %d views, %d slots",
                        (long long)d->first, (long long)d->end, d->batch, d->views, d->slots);
    if (!d->order && (d->end - 1) * d->batch >= count)
        return npi_fail(NPOS_INVALID_ARGUMENT, "stream: %lld batches of %d from %lld images",
                        (long long)d->end, d->batch, (long long)count);
    if (d->crop && !d->items && d->crop->crop != NPI_CROP_RESIZED)
        return npi_fail(NPOS_INVALID_ARGUMENT, "stream: crops random parts that are resized only");
    return NPOS_OK;
}

static npos_status make_slots(npi_stream *s) {
    const npi_stream_desc *d = &s->desc;
    size_t slots = (size_t)d->slots, batch = (size_t)d->batch, bytes = npi_stream_slot_bytes(d);
    NPI_TRY(npi_alloc(&s->slots, slots, sizeof *s->slots, "stream"));
    NPI_TRY(npi_alloc(&s->indices, slots * batch, sizeof *s->indices, "stream"));
    if (!d->buffers)
        NPI_TRY(npi_alloc(&s->own, slots, bytes, "streamed batches"));
    for (size_t i = 0; i < slots; i++) {
        s->slots[i].number = -1;
        s->slots[i].index = s->indices + i * batch;
        s->slots[i].pixels = d->buffers ? d->buffers[i] : s->own + i * bytes;
    }
    return NPOS_OK;
}

static npos_status start(npi_stream *s) {
    const npi_stream_desc *d = &s->desc;
    int64_t batches = d->end - d->first < d->slots ? d->end - d->first : d->slots;
    int wanted = npi_decoder_threads(d->threads);
    if (wanted > batches * d->batch)
        wanted = batches > 0 ? (int)(batches * d->batch) : 1;
    while (s->started < wanted && pthread_create(&s->threads[s->started], NULL, decoder, s) == 0)
        s->started++;
    /* fewer are slower, not wrong */
    return s->started > 0 ? NPOS_OK
                          : npi_fail(NPOS_OUT_OF_MEMORY, "stream: the system starts no thread");
}

npos_status npi_stream_open(const npi_stream_desc *desc, npi_stream **out) {
    npi_stream *s;
    *out = NULL;
    NPI_TRY(check(desc));
    NPI_TRY(npi_alloc(&s, 1, sizeof *s, "stream"));
    s->desc = *desc;
    if (desc->crop) {
        s->crop = *desc->crop;
        s->desc.crop = &s->crop;
    }
    s->count = desc->items ? desc->items->count : desc->images->count;
    if (desc->items) {
        s->items = *desc->items;
        s->desc.items = &s->items;
    }
    s->image_bytes = npi_stream_slot_bytes(desc) / ((size_t)desc->batch * (size_t)desc->views);
    s->released = s->handed = s->filling = desc->first;
    s->end = desc->end;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->ready, NULL);
    npos_status status = make_slots(s);
    s->desc.buffers = NULL;
    if (status == NPOS_OK)
        status = start(s);
    if (status == NPOS_OK)
        *out = s;
    else
        npi_stream_close(s);
    return status;
}

void npi_stream_close(npi_stream *s) {
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->started; i++)
        pthread_join(s->threads[i], NULL);
    pthread_cond_destroy(&s->ready);
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    npi_free(s->own);
    npi_free(s->indices);
    npi_free(s->slots);
    npi_free(s);
}

/* Under the lock: waits for batch `handed` and gives it out. */
static npos_status next(npi_stream *s, npi_stream_batch *out) {
    if (s->handed >= s->end)
        return npi_fail(NPOS_INVALID_ARGUMENT, "stream: there is no batch %lld, the last is %lld",
                        (long long)s->handed, (long long)s->end - 1);
    if (s->handed - s->released >= s->desc.slots)
        return npi_fail(NPOS_INVALID_ARGUMENT, "stream: all %d slots are held", s->desc.slots);
    slot *batch = slot_of(s, s->handed);
    while (batch->number != s->handed || batch->done < batch->count)
        pthread_cond_wait(&s->ready, &s->lock);
    if (batch->failed < s->desc.batch) {
        s->end = s->handed + 1;
        return npi_hint(npi_fail(batch->status, "%s", batch->message), "%s", batch->hint);
    }
    *out = (npi_stream_batch){s->handed, batch->count, batch->index, batch->pixels};
    s->handed++;
    return NPOS_OK;
}

npos_status npi_stream_next(npi_stream *s, npi_stream_batch *out) {
    *out = (npi_stream_batch){0};
    pthread_mutex_lock(&s->lock);
    npos_status status = next(s, out);
    pthread_mutex_unlock(&s->lock);
    return status;
}

void npi_stream_release(npi_stream *s) {
    pthread_mutex_lock(&s->lock);
    if (s->released < s->handed)
        s->released++;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
}
