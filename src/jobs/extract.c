/* npos_extract: tokens that enter one block of CLIP's image tower, for a set of images. */
#include <stdio.h>
#include <string.h>

#include "base/behind.h"
#include "base/clock.h"
#include "base/memory.h"
#include "data/stream.h"
#include "io/token_store.h"
#include "jobs/clip_images.h"
#include "jobs/compute.h"
#include "jobs/options.h"
#include "jobs/sift.h"
#include "npos/npos.h"

/* Beside another device the processor decodes ahead; a host device needs the cores itself. */
enum { SLOTS = 3 };

/* Chunks of the store in memory.  One thread sums up and writes some 4,000 images a second, a GPU brings up to 16,000:
 * four write while a fifth is filled.  What a host device computes, one thread writes. */
enum { CHUNKS = 5 };

void npos_extract_options_init(npos_extract_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
    options->block = 10;
}

/* Where the device has lanes batches are computed on this one, beside the copies of the batch before. */
enum { LANE = 1 };

/* A batch that is computed while the one before is brought to the host. */
typedef struct flight {
    uint16_t *on_device;
    int count;
    int32_t *index; /* [count] of the images */
} flight;

/* A batch that is looked through and stored while the next ones are computed. */
typedef struct piece {
    struct job *job;
    int count;
    int32_t *index; /* [count] of the images */
    uint16_t *halves;
} piece;

typedef struct job {
    const npos_extract_options *options;
    npi_clip_encoder encoder;
    npi_images images;
    npi_token_writer *writer;
    npi_stream *stream;
    int32_t *missing; /* [left] numbers of the images to extract */
    int64_t left;
    size_t numbers;    /* of an image */
    flight flights[2]; /* in turn */
    piece pieces[2];
    npi_behind behind;
} job;

static npos_status open_writer(job *j) {
    const npos_extract_options *o = j->options;
    const npi_clip_config *c = &j->encoder.clip.config;
    const npi_augment_desc *n = &j->encoder.normalise;
    npi_token_info info = {.images = j->images.count,
                           .block = o->block,
                           .rows = npi_clip_rows(c),
                           .width = c->vision.width,
                           .chunk = NPI_TOKEN_CHUNK,
                           .classes = j->images.classes,
                           .class_names = j->images.class_names,
                           .labels = j->images.labels,
                           .spec = j->images.spec,
                           .reducing_gap = o->reducing_gap};
    char gap[64] = "";
    if (o->reducing_gap > 0)
        snprintf(gap, sizeof gap, "JPEG at 1/2, 1/4 or 1/8 with reducing gap %g, ",
                 o->reducing_gap);
    npi_images *images = &j->images;
    npos_status status;
    NPI_TRY_GOTO(npi_clip_hash(o->clip, &info.model), done);
    NPI_TRY_GOTO(npi_token_names_hash(images->names, images->count, &info.names), done);
    NPI_TRY_GOTO(npi_alloc(&info.skipped, (size_t)images->broken_count, sizeof *info.skipped,
                           "skipped images"),
                 done);
    for (; info.skipped_count < images->broken_count; info.skipped_count++)
        info.skipped[info.skipped_count] = images->broken[info.skipped_count].name;
    NPI_TRY_GOTO(
        npi_format(&info.transform,
                   "%sshort side %d bicubic, centre crop, %d channels, mean %.7g %.7g %.7g, std "
                   "%.7g %.7g %.7g",
                   gap, c->side, c->channels, (double)n->mean[0], (double)n->mean[1],
                   (double)n->mean[2], (double)n->std[0], (double)n->std[1], (double)n->std[2]),
        done);
    status = npi_token_writer_open(o->out, &info, o->resume, j->encoder.clip.dev->host ? 1 : CHUNKS,
                                   &j->writer);
done:
    npi_free(info.transform);
    npi_free(info.skipped);
    return status;
}

static npos_status list_missing(job *j) {
    int64_t count = j->images.count;
    NPI_TRY(npi_alloc(&j->missing, (size_t)count, sizeof *j->missing, "images to extract"));
    for (int64_t i = npi_token_writer_missing(j->writer, 0); i < count;
         i = npi_token_writer_missing(j->writer, i + 1))
        j->missing[j->left++] = (int32_t)i;
    return NPOS_OK;
}

/* npi_stream_order_fn: batch `number` of the missing images. */
static npos_status order(void *context, int64_t number, int32_t *index, int *count) {
    const job *j = context;
    int64_t first = number * j->encoder.most, left = j->left - first;
    *count = left < j->encoder.most ? (int)left : j->encoder.most;
    memcpy(index, j->missing + first, (size_t)*count * sizeof *index);
    return NPOS_OK;
}

/* All bits of the exponent are set in infinities and NaNs alone: the largest number without its sign tells. */
static bool all_finite(const uint16_t *halves, size_t count) {
    int16_t most = 0;
    for (size_t k = 0; k < count; k++) {
        int16_t size = (int16_t)(halves[k] & 0x7fff);
        most = size > most ? size : most;
    }
    return most < 0x7c00;
}

/* A token that float16 cannot hold names its image. */
static npos_status store(void *context) {
    const piece *p = context;
    const job *j = p->job;
    for (int i = 0; i < p->count; i++) {
        const uint16_t *at = p->halves + (size_t)i * j->numbers;
        if (all_finite(at, j->numbers))
            continue;
        size_t k = 0;
        while (all_finite(at + k, 1))
            k++;
        return npi_fail(NPOS_NOT_FINITE, "%s: token %zu of block %d is not finite in float16",
                        j->images.names[p->index[i]],
                        k / (size_t)j->encoder.clip.config.vision.width, j->options->block);
    }
    return npi_token_writer_add(j->writer, p->count, p->halves);
}

static npos_status compute(job *j, const npi_stream_batch *batch, uint16_t *on_device) {
    npi_act act;
    npi_tokens tokens;
    NPI_TRY(npi_clip_encoder_put(&j->encoder, batch->pixels, batch->count, &act));
    NPI_TRY(npi_clip_images_tokens(j->encoder.plan, act, j->options->block, &tokens));
    return j->encoder.clip.dev->tokens->export_halves(j->encoder.clip.dev, tokens, on_device);
}

/* What is enqueued from now on waits for the batch that was begun last. */
static npos_status await_batch(const job *j) {
    npi_device *dev = j->encoder.clip.dev;
    return dev->graph ? dev->graph->join(dev, LANE) : NPOS_OK;
}

/* Begins the tokens of a batch; what is enqueued behind it does not wait for them. */
static npos_status begin_batch(job *j, const npi_stream_batch *batch, flight *f) {
    npi_device *dev = j->encoder.clip.dev;
    f->count = batch->count;
    memcpy(f->index, batch->index, (size_t)batch->count * sizeof *f->index);
    if (!dev->graph)
        return compute(j, batch, f->on_device);
    NPI_TRY(dev->graph->fork(dev, LANE));
    npos_status status = compute(j, batch, f->on_device);
    npos_status left = dev->graph->leave(dev);
    return status == NPOS_OK ? left : status;
}

/* Brings batch number b to the host, where it is stored behind. */
static npos_status fetch_batch(job *j, int64_t b) {
    npi_device *dev = j->encoder.clip.dev;
    const flight *f = &j->flights[b % 2];
    piece *p = &j->pieces[b % 2];
    NPI_TRY(dev->memory->download(dev, p->halves, f->on_device,
                                  (size_t)f->count * j->numbers * sizeof *p->halves));
    p->count = f->count;
    memcpy(p->index, f->index, (size_t)f->count * sizeof *p->index);
    return npi_behind_run(&j->behind, store, p);
}

static npos_status tell(const job *j, int64_t now, double seconds) {
    char text[48] = "";
    int64_t total = j->images.count, before = total - j->left;
    if (now > 0)
        snprintf(text, sizeof text, "%.4g images/s", (double)now / seconds);
    NPI_TRY(npi_compute_progress(&j->options->compute, "extract", before + now, total, text));
    return now < j->left && npi_stop_requested()
               ? npi_fail(NPOS_INTERRUPTED, "extract: stopped at %lld of %lld",
                          (long long)(before + now), (long long)total)
               : NPOS_OK;
}

static npos_status extract_all(job *j) {
    int most = j->encoder.most;
    npi_stream_batch batch;
    double start = npi_seconds();
    bool host = j->encoder.clip.dev->host;
    npi_stream_desc desc = {.images = &j->images,
                            .transform = j->encoder.transform,
                            .batch = most,
                            .views = 1,
                            .end = (j->left + most - 1) / most,
                            .order = order,
                            .context = j,
                            .threads = j->options->compute.threads,
                            .slots = host ? 1 : SLOTS};
    NPI_TRY(tell(j, 0, 0));
    if (j->left == 0)
        return NPOS_OK;
    NPI_TRY(npi_stream_open(&desc, &j->stream));
    int64_t done = 0;
    for (int64_t b = 0; b <= desc.end; b++) { /* begins batch b, stores the one before */
        NPI_TRY(await_batch(j));
        if (b < desc.end) {
            NPI_TRY(npi_stream_next(j->stream, &batch));
            NPI_TRY(begin_batch(j, &batch, &j->flights[b % 2]));
            npi_stream_release(j->stream);
        }
        if (b == 0)
            continue;
        NPI_TRY(fetch_batch(j, b - 1));
        done += j->flights[(b - 1) % 2].count;
        NPI_TRY(tell(j, done, npi_seconds() - start));
    }
    return NPOS_OK;
}

/* What was begun is stored, or the error of that. */
static npos_status finish_store(job *j) {
    NPI_TRY(npi_behind_wait(&j->behind));
    return npi_token_writer_finish(j->writer);
}

static npos_status prepare(job *j, npi_device *dev) {
    const npos_extract_options *o = j->options;
    int most = o->batch ? o->batch : npi_clip_pass(dev);
    NPI_TRY(npi_clip_encoder_open(dev, o->clip, most, &j->encoder));
    const npi_clip_config *c = &j->encoder.clip.config;
    if (o->block < 0 || o->block >= c->vision.layers)
        return npi_fail(NPOS_INVALID_ARGUMENT, "block %d: the image tower of %s has blocks 0 to %d",
                        o->block, o->clip, c->vision.layers - 1);
    j->encoder.transform.reducing_gap = o->reducing_gap;
    NPI_TRY(npi_images_open(o->data, &j->encoder.transform, 0, 0, &j->images));
    NPI_TRY(npi_sift(&o->compute, &j->images));
    if (j->images.count < 1)
        return npi_fail(NPOS_BAD_DATA, "%s: there are no images", o->data);
    j->numbers = (size_t)npi_clip_rows(c) * (size_t)c->vision.width;
    size_t numbers = (size_t)most * j->numbers;
    for (int i = 0; i < 2; i++) {
        flight *f = &j->flights[i];
        piece *p = &j->pieces[i];
        NPI_TRY(dev->memory->alloc(dev, numbers * sizeof *f->on_device, "tokens", &f->on_device));
        NPI_TRY(npi_alloc(&f->index, (size_t)most, sizeof *f->index, "images of a batch"));
        p->job = j;
        NPI_TRY(npi_alloc(&p->halves, numbers, sizeof *p->halves, "tokens"));
        NPI_TRY(npi_alloc(&p->index, (size_t)most, sizeof *p->index, "images of a batch"));
    }
    NPI_TRY(open_writer(j));
    return list_missing(j);
}

/* Whatever stopped it: the chunks that are there stay. */
static npos_status say_how_to_go_on(const job *j, npos_status status) {
    const char *mend = npos_error_hint();
    if (status == NPOS_OK || !j->writer)
        return status;
    return npi_hint(status, "%s%swhat is whole stays: go on with the same command and --resume",
                    mend, *mend ? "; " : "");
}

static npos_status extract(const npos_extract_options *options, npi_device *dev) {
    job j = {.options = options};
    npos_status status = prepare(&j, dev);
    if (status == NPOS_OK) {
        npi_stop_watch();
        status = extract_all(&j);
        npos_status stored = finish_store(&j);
        npi_stop_unwatch();
        status = stored == NPOS_OK ? status : stored;
    }
    status = say_how_to_go_on(&j, status);
    npi_stream_close(j.stream);
    npi_token_writer_close(j.writer);
    npi_free(j.missing);
    for (int i = 0; i < 2; i++) {
        npi_free(j.pieces[i].halves);
        npi_free(j.pieces[i].index);
        npi_free(j.flights[i].index);
        dev->memory->free(dev, j.flights[i].on_device);
    }
    npi_images_clear(&j.images);
    npi_clip_encoder_close(&j.encoder);
    return status;
}

npos_status npos_extract(const npos_extract_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_extract");
    npi_device *dev;
    if (!options->clip || !options->data || !options->out)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_extract: clip, data and out must be given, '%s' is missing",
                        !options->clip   ? "clip"
                        : !options->data ? "data"
                                         : "out");
    if (options->batch < 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "batch %d, expected 1 or more", options->batch);
    if (!(options->reducing_gap == 0 ||
          (options->reducing_gap >= 1 && options->reducing_gap <= 64)))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "reducing gap %g, expected 0 (images are decoded whole), or 1 to 64",
                        options->reducing_gap);
    NPI_TRY(npi_compute_open(&options->compute, &dev));
    npos_status status = extract(options, dev);
    npi_device_close(dev);
    return status;
}
