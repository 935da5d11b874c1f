/* data/stream.h - batches of images decoded ahead of their use, in bounded memory.
 *
 * Threads decode the images of a known order, crop and resize them to the size that the network
 * sees, and fill a ring of slots, one batch each; the caller takes whole batches in order:
 *
 *     NPI_TRY(npi_stream_open(&desc, &stream));
 *     for each batch:
 *         NPI_TRY(npi_stream_next(stream, &batch));       waits until the batch is whole
 *         ... batch.pixels [views][batch.count][size][size][channels] ...
 *         npi_stream_release(stream);                     gives the slot back
 *     npi_stream_close(stream);                           at any time
 *
 * What comes out is a function of (images, desc, batch number) alone, whatever the number of threads
 * and slots.  No more than `slots` batches are held; besides them each thread holds one decoded
 * image.  One thread may call next, release and close; the decoders are the stream's own. */
#ifndef NPI_DATA_STREAM_H
#define NPI_DATA_STREAM_H

#include <stddef.h>

#include "data/dataset.h"
#include "tensor/augment_params.h"

typedef struct npi_stream npi_stream;

/* index[batch] = numbers of the images of one batch, *count = how many there are (1..batch).  Called
 * once a batch, in ascending order, by one decoder at a time; `context` is the caller's and nobody
 * else's until the stream is closed. */
typedef npos_status npi_stream_order_fn(void *context, int64_t number, int32_t *index, int *count);

/* What is streamed where it is no images: `count` items of `bytes` each, of which `read` brings number i
 * to `to`, from several threads at once. */
typedef struct npi_stream_items {
    int64_t count;
    size_t bytes;
    npos_status (*read)(void *source, int64_t i, void *to);
    void *source;
} npi_stream_items;

typedef struct npi_stream_desc {
    const npi_images *images;      /* of npi_images_open; must outlive the stream */
    const npi_stream_items *items; /* not NULL: these in their place, as they are; images, transform
                                      and crop are not looked at, views is 1 */
    npi_transform transform;
    /* NULL: every image goes through `transform`, all views are equal.  Else view v of image i of
     * batch b is cropped as npi_augment_draw says for step b and item v * batch + i, with the
     * stored image's own size as the source, and resized with `transform`'s filter. */
    const npi_augment_desc *crop;
    int batch, views;
    int64_t first, end;         /* numbers of the batches: first .. end - 1 */
    npi_stream_order_fn *order; /* NULL: batch b is the images from b * batch on, in order; the last
                                   may be smaller */
    void *context;              /* of order */
    int threads;                /* decoders; 0: as many as processors */
    int slots;                  /* at least 1; with fewer than 2 nothing is decoded ahead */
    /* [slots], each of npi_stream_slot_bytes (pinned memory, for instance), the caller's; NULL: the
     * stream's own memory. */
    uint8_t *const *buffers;
} npi_stream_desc;

typedef struct npi_stream_batch {
    int64_t number;
    int count;            /* images; each has `views` views */
    const int32_t *index; /* [count] their numbers in the set */
    const uint8_t *pixels;
} npi_stream_batch;

size_t npi_stream_slot_bytes(const npi_stream_desc *desc);

/* Starts decoding.  `desc` and what it points at, but for images, context and buffers, are copied. */
NPOS_MUST_CHECK npos_status npi_stream_open(const npi_stream_desc *desc, npi_stream **out);
void npi_stream_close(npi_stream *stream); /* NULL is accepted; returns when all threads ended */

/* Hands out the next batch; it stays valid until its release.  Several may be held, up to `slots`.
 * An image that cannot be decoded is an error of its batch that names the file (the first of the
 * batch); the stream is then at its end, and later calls give the same error.  To ask for a batch
 * past the end, or while all slots are held, is NPOS_INVALID_ARGUMENT. */
NPOS_MUST_CHECK npos_status npi_stream_next(npi_stream *stream, npi_stream_batch *out);

/* Gives the slot of the oldest batch that is held back to the decoders. */
void npi_stream_release(npi_stream *stream);

#endif
