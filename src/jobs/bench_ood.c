/* The rows of npos_bench without a network: neighbours, synthesis, augmentation. */
#include "jobs/bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

enum { DIM = 512 };

/* Device memory with `rows` unit rows of DIM normals. */
static npos_status unit_rows(npi_device *dev, size_t rows, uint32_t item, float **out) {
    float *host = NULL;
    npos_status status;
    *out = NULL;
    NPI_TRY(npi_alloc(&host, rows * DIM, sizeof *host, "random embeddings"));
    npi_bench_normals(host, rows * DIM, item);
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t i = r * DIM; i < (r + 1) * DIM; i++)
            sum += (double)host[i] * (double)host[i];
        for (size_t i = r * DIM; i < (r + 1) * DIM; i++)
            host[i] = (float)(host[i] / sqrt(sum));
    }
    NPI_TRY_GOTO(dev->memory->alloc(dev, rows * DIM * sizeof *host, "random embeddings", out),
                 done);
    status = dev->memory->upload(dev, *out, host, rows * DIM * sizeof *host);
done:
    npi_free(host);
    return status;
}

typedef struct knn {
    npi_device *dev;
    int n;
    float *queries, *bank, *distance;
} knn;

enum { BANK = 50000, NEIGHBOUR = 300 };

static npos_status knn_run(void *context) {
    knn *k = context;
    return k->dev->ood->kth_neighbour(k->dev, k->n, k->queries, BANK, k->bank, DIM, NEIGHBOUR,
                                      k->distance);
}

npos_status npi_bench_knn(npi_bench *bench) {
    npi_device *dev = bench->dev;
    knn k = {.dev = dev, .n = dev->host ? 1000 : 10000};
    npos_status status;
    snprintf(bench->shape, sizeof bench->shape, "%d queries, %d rows of %d, k = %d", k.n, BANK, DIM,
             NEIGHBOUR);
    NPI_TRY_GOTO(unit_rows(dev, (size_t)k.n, 1, &k.queries), done);
    NPI_TRY_GOTO(unit_rows(dev, BANK, 2, &k.bank), done);
    NPI_TRY_GOTO(dev->memory->alloc(dev, (size_t)k.n * sizeof(float), "distances", &k.distance),
                 done);
    status = npi_bench_time(bench, knn_run, &k);
done:
    dev->memory->free(dev, k.queries);
    dev->memory->free(dev, k.bank);
    dev->memory->free(dev, k.distance);
    return status;
}

/* ---- synthesis -------------------------------------------------------------------------------
 */

enum { CLASSES = 10, RING = 1000, PICK = 2, KEEP = 200 };

typedef struct synthesis {
    npi_device *dev;
    npi_ring ring;
    npi_synth *synth;
    npi_step *step;
    float *outliers;
} synthesis;

static npos_status synthesis_run(void *context) {
    synthesis *s = context;
    return s->dev->ood->synthesise(s->synth, &s->ring, s->step, NULL, s->outliers, NULL);
}

static npos_status synthesis_make(synthesis *s) {
    const npi_memory_ops *memory = s->dev->memory;
    npi_synth_desc desc = {.classes = CLASSES,
                           .ring = RING,
                           .dim = DIM,
                           .k = 300,
                           .select = 200,
                           .pick = PICK,
                           .noise = 600,
                           .keep = KEEP,
                           .sigma = 0.1f};
    uint64_t count[CLASSES];
    npi_step step = {.number = 1};
    for (int c = 0; c < CLASSES; c++)
        count[c] = RING;
    s->ring = (npi_ring){.classes = CLASSES, .size = RING, .dim = DIM};
    NPI_TRY(unit_rows(s->dev, CLASSES * RING, 3, &s->ring.rows));
    NPI_TRY(memory->alloc(s->dev, sizeof count, "ring counts", &s->ring.count));
    NPI_TRY(memory->upload(s->dev, s->ring.count, count, sizeof count));
    NPI_TRY(memory->alloc(s->dev, sizeof step, "step", &s->step));
    NPI_TRY(memory->upload(s->dev, s->step, &step, sizeof step));
    NPI_TRY(memory->alloc(s->dev, sizeof(float) * CLASSES * PICK * KEEP * DIM, "outliers",
                          &s->outliers));
    return s->dev->ood->synth_create(s->dev, &desc, &s->synth);
}

npos_status npi_bench_synthesis(npi_bench *bench) {
    synthesis s = {.dev = bench->dev};
    snprintf(bench->shape, sizeof bench->shape,
             "%d classes, rings of %d rows of %d, k = 300, %d outliers", CLASSES, RING, DIM,
             CLASSES * PICK * KEEP);
    bench->records = true;
    npos_status status = synthesis_make(&s);
    if (status == NPOS_OK)
        status = npi_bench_time(bench, synthesis_run, &s);
    if (s.synth)
        s.dev->ood->synth_free(s.dev, s.synth);
    s.dev->memory->free(s.dev, s.ring.rows);
    s.dev->memory->free(s.dev, s.ring.count);
    s.dev->memory->free(s.dev, s.step);
    s.dev->memory->free(s.dev, s.outliers);
    return status;
}

/* ---- augmentation ----------------------------------------------------------------------------
 */

enum { SIDE = 32, BATCH = NPI_BENCH_VIEWS / 2, IMAGE_BYTES = SIDE * SIDE * 3 };

typedef struct augmentation {
    npi_device *dev;
    npi_augment_desc desc;
    uint8_t *images;
    int32_t *index;
    npi_step *step;
    npi_act to;
} augmentation;

static npos_status augment_run(void *context) {
    augmentation *a = context;
    return a->dev->augment->augment(a->dev, &a->desc, a->images, a->index, a->step, NULL, a->to);
}

static npos_status augment_make(augmentation *a) {
    const npi_memory_ops *memory = a->dev->memory;
    static uint8_t image[IMAGE_BYTES];
    int32_t index[BATCH];
    npi_step step = {.number = 1};
    NPI_TRY(memory->alloc(a->dev, (size_t)BATCH * IMAGE_BYTES, "images", &a->images));
    for (int i = 0; i < BATCH; i++) {
        index[i] = BATCH - 1 - i;
        for (int k = 0; k < IMAGE_BYTES; k++)
            image[k] = (uint8_t)((unsigned)(k + i * IMAGE_BYTES) * 2654435761u >> 24);
        NPI_TRY(memory->upload(a->dev, a->images + (size_t)i * IMAGE_BYTES, image, IMAGE_BYTES));
        NPI_TRY(memory->sync(a->dev));
    }
    NPI_TRY(memory->alloc(a->dev, sizeof index, "indices", &a->index));
    NPI_TRY(memory->upload(a->dev, a->index, index, sizeof index));
    NPI_TRY(memory->alloc(a->dev, sizeof step, "step", &a->step));
    NPI_TRY(memory->upload(a->dev, a->step, &step, sizeof step));
    a->to = (npi_act){NPI_BENCH_VIEWS, 3, SIDE, SIDE, NULL};
    return memory->alloc(a->dev, a->dev->acts->bytes(a->dev, NPI_BENCH_VIEWS, 3, SIDE, SIDE),
                         "views", &a->to.data);
}

npos_status npi_bench_augment(npi_bench *bench) {
    augmentation a = {.dev = bench->dev,
                      .desc = {.batch = BATCH,
                               .views = 2,
                               .src_h = SIDE,
                               .src_w = SIDE,
                               .channels = 3,
                               .out_h = SIDE,
                               .out_w = SIDE,
                               .crop = NPI_CROP_RESIZED,
                               .scale_lo = 0.2f,
                               .scale_hi = 1,
                               .ratio_lo = 3.0f / 4,
                               .ratio_hi = 4.0f / 3,
                               .flip_p = 0.5f,
                               .jitter_p = 0.8f,
                               .brightness = 0.4f,
                               .contrast = 0.4f,
                               .saturation = 0.4f,
                               .hue = 0.1f,
                               .grey_p = 0.2f,
                               .mean = {0.4914f, 0.4822f, 0.4465f},
                               .std = {0.2471f, 0.2435f, 0.2616f}}};
    snprintf(bench->shape, sizeof bench->shape, "%d views of 3x%dx%d, crop, flip, jitter, grey",
             NPI_BENCH_VIEWS, SIDE, SIDE);
    bench->images = NPI_BENCH_VIEWS;
    bench->records = true;
    npos_status status = augment_make(&a);
    if (status == NPOS_OK)
        status = npi_bench_time(bench, augment_run, &a);
    a.dev->memory->free(a.dev, a.images);
    a.dev->memory->free(a.dev, a.index);
    a.dev->memory->free(a.dev, a.step);
    a.dev->memory->free(a.dev, a.to.data);
    return status;
}
