/* jobs/score_feed.h - the images that npos_score is given, read ahead of their use: in order, in bounded memory.
 *
 *     NPI_TRY(npi_feed_open(&desc, &feed));
 *     while ((status = npi_feed_next(feed, &block)) == NPOS_OK && block.count > 0)
 *         ... block.image[block.count], block.pixels[block.images] ...
 *     npi_feed_close(feed);                               at any time
 *
 * A thread of the feed's own reads names and raw images into a ring.  Beside a device that is not the host it decodes them
 * too, with all processors, while the device works; a host device needs the processors itself: there npi_feed_next decodes,
 * and decoding and network take turns.  A block is as many whole passes as wait, up to half of the ring: a slow stream is
 * answered pass by pass, a fast one in blocks that spread over many images what a search among the training embeddings
 * costs however many ask. */
#ifndef NPI_JOBS_SCORE_FEED_H
#define NPI_JOBS_SCORE_FEED_H

#include <stdio.h>

#include "data/dataset.h"

typedef struct npi_feed npi_feed;

typedef struct npi_feed_desc {
    const char *const *files; /* image files; "-": what `names` holds */
    int file_count;
    FILE *names; /* names of files, one a line; read by its descriptor where it has one; or */
    bool frames; /* raw images (data/image_frames.h), called "image 0", "image 1", ... */
    npi_transform transform;
    int pass;    /* images of a pass of the network */
    bool ahead;  /* decode on the feed's own threads */
    int threads; /* decoders; 0: as many as processors */
} npi_feed_desc;

enum { NPI_FEED_ERROR = 512 };

typedef struct npi_feed_image {
    char *file;
    npi_image raw;              /* of a raw image, until it is resized */
    bool made;                  /* tried to bring it to the model's size */
    int row;                    /* of the block's pixels; -1: it has none */
    char error[NPI_FEED_ERROR]; /* why not */
} npi_feed_image;

typedef struct npi_feed_block {
    npi_feed_image *image; /* [count]; the caller may take rows from them (-1, `error`) */
    int count;             /* 0: the end */
    const uint8_t *pixels; /* [images] of the model's size */
    int images;
} npi_feed_block;

/* Starts reading.  What desc points at must outlive the feed. */
NPOS_MUST_CHECK npos_status npi_feed_open(const npi_feed_desc *desc, npi_feed **out);
void npi_feed_close(npi_feed *feed); /* NULL is accepted; does not wait for more input */

/* Gives the block before back and waits for the next.  An image that cannot be read is one without a row.  A stream that
 * cannot be read on (a raw image that is cut short) is an error, after the blocks of what came whole before it. */
NPOS_MUST_CHECK npos_status npi_feed_next(npi_feed *feed, npi_feed_block *out);

/* Images of the largest block. */
int npi_feed_most(const npi_feed *feed);

#endif
