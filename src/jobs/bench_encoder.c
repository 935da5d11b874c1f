/* The encoder rows of npos_bench: ResNet-18 with the 3x3 stem, written as its list of units so that
 * nothing but the device is timed. */
#include "jobs/bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "jobs/compute.h"

enum {
    DEVICE_IMAGES = 1000,
    SIDE = 32,
    BLOCKS = 8,
    UNITS = 1 + 2 * BLOCKS + 3,
    STEM = 0,
    GRADIENTS = 3
};

typedef struct block {
    int conv1, conv2, shortcut; /* unit numbers; shortcut 0: the identity */
} block;

typedef struct encoder {
    npi_device *dev;
    int n; /* images */
    bool training;
    npi_unit_desc desc[UNITS];
    npi_unit *unit[UNITS];
    npi_unit_params params[UNITS], grads[UNITS];
    npi_act input, y[UNITS]; /* y of a shortcut only in inference */
    block blocks[BLOCKS];
    void *gradient[GRADIENTS]; /* each as large as the largest activation */
    float *rows;               /* [n][512] */
    uint8_t *images;           /* inference: [n][32][32][3] */
    int units;
} encoder;

static int add_unit(encoder *e, int c, int side, int out_c, int kernel, int stride, bool relu) {
    int i = e->units++;
    e->desc[i] = (npi_unit_desc){.name = "encoder",
                                 .n = e->n,
                                 .c = c,
                                 .h = side,
                                 .w = side,
                                 .out_c = out_c,
                                 .kernel = kernel,
                                 .stride = stride,
                                 .pad = kernel / 2,
                                 .relu = relu,
                                 .needs_dx = i != STEM,
                                 .training = e->training};
    e->y[i] = (npi_act){e->n, out_c, side / stride, side / stride, NULL};
    return i;
}

static void describe(encoder *e) {
    int c = 64, side = SIDE;
    e->input = (npi_act){e->n, 3, SIDE, SIDE, NULL};
    add_unit(e, 3, SIDE, 64, 3, 1, true);
    for (int b = 0; b < BLOCKS; b++) {
        int out_c = 64 << (b / 2), stride = b > 0 && b % 2 == 0 ? 2 : 1;
        block *to = &e->blocks[b];
        to->shortcut = stride > 1 ? add_unit(e, c, side, out_c, 1, stride, false) : 0;
        to->conv1 = add_unit(e, c, side, out_c, 3, stride, true);
        side /= stride;
        c = out_c;
        to->conv2 = add_unit(e, c, side, c, 3, 1, true);
        e->desc[to->conv2].residual = true;
    }
}

static npos_status alloc(encoder *e, size_t bytes, void *out) {
    return e->dev->memory->alloc(e->dev, bytes, "the benchmark's encoder", out);
}

static npos_status make_unit(encoder *e, int i, float *host) {
    const npi_unit_desc *d = &e->desc[i];
    npi_unit_params *p = &e->params[i], *g = &e->grads[i];
    size_t fan = (size_t)d->c * (size_t)(d->kernel * d->kernel), out = (size_t)d->out_c;
    const npi_memory_ops *memory = e->dev->memory;
    NPI_TRY(e->dev->units->create(e->dev, d, &e->unit[i]));
    NPI_TRY(alloc(e, out * fan * sizeof(float), &p->weight));
    float *const *vectors[] = {&p->gamma, &p->beta, &p->running_mean, &p->running_var};
    for (int v = 0; v < 4; v++) {
        NPI_TRY(alloc(e, out * sizeof(float), (void *)vectors[v]));
        for (size_t k = 0; k < out; k++)
            host[k] = v == 0 || v == 3 ? 1.0f : 0.0f;
        NPI_TRY(memory->upload(e->dev, *vectors[v], host, out * sizeof(float)));
    }
    if (e->training) {
        NPI_TRY(alloc(e, out * fan * sizeof(float), &g->weight));
        NPI_TRY(alloc(e, out * sizeof(float), &g->gamma));
        NPI_TRY(alloc(e, out * sizeof(float), &g->beta));
    }
    npi_bench_normals(host, out * fan, (uint32_t)i);
    float scale = sqrtf(2.0f / (float)(d->out_c * d->kernel * d->kernel));
    for (size_t k = 0; k < out * fan; k++)
        host[k] *= scale;
    NPI_TRY(e->dev->units->weight_import(e->unit[i], host, p->weight));
    return e->dev->units->pack(e->unit[i], p);
}

static npos_status make(encoder *e) {
    npos_status status;
    float *host = NULL;
    size_t largest = 0, images = (size_t)e->n * 3 * SIDE * SIDE;
    describe(e);
    NPI_TRY(npi_alloc(&host, 512 * 512 * 9, sizeof *host, "random weights"));
    for (int i = 0; i < e->units; i++) {
        npi_act *y = &e->y[i];
        size_t bytes = e->dev->acts->bytes(e->dev, y->n, y->c, y->h, y->w);
        largest = bytes > largest ? bytes : largest;
        NPI_TRY_GOTO(make_unit(e, i, host), done);
        NPI_TRY_GOTO(alloc(e, bytes, &y->data), done);
    }
    NPI_TRY_GOTO(alloc(e, e->dev->acts->bytes(e->dev, e->n, 3, SIDE, SIDE), &e->input.data), done);
    NPI_TRY_GOTO(alloc(e, (size_t)e->n * 512 * sizeof(float), &e->rows), done);
    if (e->training) {
        void *nchw;
        for (int g = 0; g < GRADIENTS; g++)
            NPI_TRY_GOTO(alloc(e, largest, &e->gradient[g]), done);
        npi_bench_normals(host, images, UNITS);
        NPI_TRY_GOTO(alloc(e, images * sizeof(float), &nchw), done);
        status = e->dev->memory->upload(e->dev, nchw, host, images * sizeof(float));
        if (status == NPOS_OK)
            status = e->dev->acts->import_nchw(e->dev, nchw, e->input);
        if (status == NPOS_OK)
            status = e->dev->memory->sync(e->dev);
        e->dev->memory->free(e->dev, nchw);
    } else {
        for (size_t k = 0; k < images; k++)
            ((uint8_t *)host)[k] = (uint8_t)(k * 2654435761u >> 24);
        NPI_TRY_GOTO(alloc(e, images, &e->images), done);
        status = e->dev->memory->upload(e->dev, e->images, host, images);
    }
done:
    npi_free(host);
    return status;
}

static void destroy(encoder *e) {
    const npi_memory_ops *memory = e->dev->memory;
    for (int i = 0; i < e->units; i++) {
        npi_unit_params *p = &e->params[i], *g = &e->grads[i];
        if (e->unit[i])
            e->dev->units->free(e->dev, e->unit[i]);
        float *all[] = {p->weight,      p->gamma,  p->beta,  p->running_mean,
                        p->running_var, g->weight, g->gamma, g->beta};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            memory->free(e->dev, all[k]);
        memory->free(e->dev, e->y[i].data);
    }
    for (int g = 0; g < GRADIENTS; g++)
        memory->free(e->dev, e->gradient[g]);
    memory->free(e->dev, e->input.data);
    memory->free(e->dev, e->rows);
    memory->free(e->dev, e->images);
}

/* A gradient of y's shape in buffer `g`. */
static npi_act gradient_of(encoder *e, npi_act y, int g) {
    y.data = e->gradient[g];
    return y;
}

static npos_status forward(encoder *e, int i, npi_act x, const npi_act *residual, int shortcut,
                           npi_act *y) {
    const npi_unit_ops *units = e->dev->units;
    NPI_TRY(units->pack(e->unit[i], &e->params[i]));
    return units->forward(e->unit[i], x, &e->params[i], residual,
                          shortcut ? e->unit[shortcut] : NULL,
                          shortcut ? &e->params[shortcut] : NULL, y);
}

static npos_status backward(encoder *e, int i, npi_act dy, npi_act x, npi_act *dx, bool accumulate,
                            npi_act *dresidual) {
    return e->dev->units->backward(e->unit[i], dy, x, &e->params[i], &e->grads[i], dx, accumulate,
                                   dresidual);
}

/* The gradient of the block's output lies in buffer `at`; returns in *at where that of its input
 * is. */
static npos_status block_backward(encoder *e, const block *b, npi_act x, int *at) {
    int inner = (*at + 1) % GRADIENTS, side = (*at + 2) % GRADIENTS;
    npi_act dy = gradient_of(e, e->y[b->conv2], *at);
    npi_act dinner = gradient_of(e, e->y[b->conv1], inner);
    npi_act dside = gradient_of(e, e->y[b->conv2], side);
    NPI_TRY(backward(e, b->conv2, dy, e->y[b->conv1], &dinner, false, &dside));
    if (!b->shortcut) {
        *at = side;
        return backward(e, b->conv1, dinner, x, &dside, true, NULL);
    }
    npi_act dx = gradient_of(e, x, *at);
    NPI_TRY(backward(e, b->conv1, dinner, x, &dx, false, NULL));
    return backward(e, b->shortcut, dside, x, &dx, true, NULL);
}

static npos_status step(void *context) {
    encoder *e = context;
    const npi_act *x = &e->y[STEM];
    int at = 0;
    NPI_TRY(forward(e, STEM, e->input, NULL, 0, &e->y[STEM]));
    for (int i = 0; i < BLOCKS; i++) {
        const block *b = &e->blocks[i];
        if (b->shortcut)
            NPI_TRY(forward(e, b->shortcut, *x, NULL, 0, NULL));
        NPI_TRY(forward(e, b->conv1, *x, NULL, 0, &e->y[b->conv1]));
        NPI_TRY(forward(e, b->conv2, e->y[b->conv1], b->shortcut ? NULL : x, b->shortcut,
                        &e->y[b->conv2]));
        x = &e->y[b->conv2];
    }
    NPI_TRY(e->dev->pools->mean_forward(e->dev, *x, e->rows));
    NPI_TRY(e->dev->pools->mean_backward(e->dev, e->rows, gradient_of(e, *x, at)));
    for (int i = BLOCKS - 1; i >= 0; i--)
        NPI_TRY(block_backward(e, &e->blocks[i], e->y[i ? e->blocks[i - 1].conv2 : STEM], &at));
    return backward(e, STEM, gradient_of(e, e->y[STEM], at), e->input, NULL, false, NULL);
}

static npos_status infer(encoder *e, int i, npi_act x, const npi_act *residual) {
    return e->dev->units->infer(e->unit[i], x, &e->params[i], residual, &e->y[i]);
}

static npos_status inference(void *context) {
    encoder *e = context;
    npi_augment_desc desc = {.channels = 3,
                             .src_h = SIDE,
                             .src_w = SIDE,
                             .out_h = SIDE,
                             .out_w = SIDE,
                             .mean = {0.5f, 0.5f, 0.5f},
                             .std = {0.25f, 0.25f, 0.25f}};
    const npi_act *x = &e->y[STEM];
    NPI_TRY(e->dev->augment->normalise(e->dev, &desc, e->images, 0, e->n, e->input));
    NPI_TRY(infer(e, STEM, e->input, NULL));
    for (int i = 0; i < BLOCKS; i++) {
        const block *b = &e->blocks[i];
        if (b->shortcut)
            NPI_TRY(infer(e, b->shortcut, *x, NULL));
        NPI_TRY(infer(e, b->conv1, *x, NULL));
        NPI_TRY(infer(e, b->conv2, e->y[b->conv1], b->shortcut ? &e->y[b->shortcut] : x));
        x = &e->y[b->conv2];
    }
    return e->dev->pools->mean_forward(e->dev, *x, e->rows);
}

static npos_status tell_variants(const npi_bench *bench, encoder *e) {
    char text[256], last[256] = "";
    for (int i = 0; bench->compute->verbose && i < e->units; i++) {
        const npi_unit_desc *d = &e->desc[i];
        snprintf(text, sizeof text, "%dx%d %d->%d stride %d at %dx%d: %s", d->kernel, d->kernel,
                 d->c, d->out_c, d->stride, d->h, d->w, e->dev->units->variant(e->unit[i]));
        if (strcmp(text, last) != 0)
            NPI_TRY(npi_compute_progress(bench->compute, "encoder", 0, 0, text));
        memcpy(last, text, sizeof last);
    }
    return NPOS_OK;
}

static npos_status run(npi_bench *bench, bool training) {
    bool many = !training && !bench->dev->host;
    encoder e = {
        .dev = bench->dev, .n = many ? DEVICE_IMAGES : NPI_BENCH_IMAGES, .training = training};
    bench->images = training ? 0 : e.n;
    bench->recorded = true;
    snprintf(bench->shape, sizeof bench->shape, "ResNet-18, %d images of 3x%dx%d, %s", e.n, SIDE,
             SIDE, training ? "forward and backward" : "inference");
    npos_status status = make(&e);
    if (status == NPOS_OK)
        status = tell_variants(bench, &e);
    if (status == NPOS_OK)
        status = npi_bench_time(bench, training ? step : inference, &e);
    destroy(&e);
    return status;
}

npos_status npi_bench_encoder(npi_bench *bench) {
    return run(bench, true);
}

npos_status npi_bench_inference(npi_bench *bench) {
    return run(bench, false);
}
