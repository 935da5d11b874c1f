/* jobs/token_feed.h - tokens that enter the first tuned block, batch by batch in an order that is known ahead: from
 * a store, from images through the frozen blocks below, or from memory where all of them were kept.
 *
 *     NPI_TRY(npi_token_feed_open(dev, &desc, &feed));
 *     NPI_TRY(npi_token_feed_keep(feed, ...));                      may be: all tokens into the device's memory
 *     NPI_TRY(npi_token_feed_begin(feed, order, context, first, end));
 *     for each batch:
 *         NPI_TRY(npi_token_feed_next(feed, index, count, &halves)); enqueues; waits for readers or decoders alone
 *     npi_token_feed_close(feed);
 *
 * Whichever way they come, the tokens are the same float16 numbers: an image's do not depend on its batch. */
#ifndef NPI_JOBS_TOKEN_FEED_H
#define NPI_JOBS_TOKEN_FEED_H

#include "data/stream.h"
#include "jobs/clip_images.h"

typedef struct npi_token_feed npi_token_feed;

typedef struct npi_token_feed_desc {
    const npi_stream_items *items; /* tokens that are there; NULL: images through encoder */
    npi_clip_encoder *encoder;     /* of images; all of these outlive the feed */
    const npi_images *images;      /* opened; of the encoder's size */
    int block;                     /* tokens enter this one */
    int rows, width;               /* of an image's tokens */
    int batch, threads;
} npi_token_feed_desc;

/* Allocates the room of a batch on the device.  Beside another device batches are read ahead; a host device
 * needs the cores itself. */
NPOS_MUST_CHECK npos_status npi_token_feed_open(npi_device *dev, const npi_token_feed_desc *desc,
                                                npi_token_feed **out);
void npi_token_feed_close(npi_token_feed *feed); /* NULL is accepted */

/* Reads all tokens once into the device's memory, where batches then come from.  NPOS_OUT_OF_MEMORY where there
 * is no room for them, and on GPUs for 2 GiB more: the feed is as it was.  progress may be NULL. */
NPOS_MUST_CHECK npos_status npi_token_feed_keep(npi_token_feed *feed, npi_progress_fn *progress,
                                                void *context);
bool npi_token_feed_kept(const npi_token_feed *feed);

/* Begins at batch `first` and ends before `end`, as npi_stream_desc says; order NULL: all images in their order. */
NPOS_MUST_CHECK npos_status npi_token_feed_begin(npi_token_feed *feed, npi_stream_order_fn *order,
                                                 void *context, int64_t first, int64_t end);

/* Stops reading ahead: nothing of the order is looked at from then on. */
void npi_token_feed_end(npi_token_feed *feed);

/* The tokens of the images index[count], as tokens->import_halves takes them: sequences *halves, of which *at (NULL: the
 * first `count`) are the batch's.  Both are device memory and stay where they are from batch to batch, but halves on host
 * devices; valid until the next call.  The caller's images must be those of the order. */
NPOS_MUST_CHECK npos_status npi_token_feed_next(npi_token_feed *feed, const int32_t *index,
                                                int count, const uint16_t **halves,
                                                const int32_t **at);

/* Host memory of the batches that are read ahead, and all tokens' bytes. */
size_t npi_token_feed_ring_bytes(const npi_token_feed *feed);
size_t npi_token_feed_all_bytes(const npi_token_feed *feed);

#endif
