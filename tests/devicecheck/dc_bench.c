#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "dc.h"

/* Shapes of the CIFAR-10 recipe at a batch of 64 images; the best of a few repetitions. */
typedef struct timing {
    dc *d;
    const char *only;
    bool json;
} timing;

typedef struct job {
    npos_status (*run)(void *state);
    void *state;
} job;

/* work: floating-point operations, or bytes where `bytes` is set. */
static void measure(const timing *t, const char *name, const char *shape, job j, double work,
                    bool bytes) {
    if (t->only && !strstr(name, t->only))
        return;
    npi_device *dev = t->d->side[1];
    double best = INFINITY, spent = 0.0;
    for (int i = 0; i < 20 && (i < 2 || spent < 0.5); i++) {
        double start = npi_seconds();
        if (!dc_passed(t->d, name, j.run(j.state)) ||
            !dc_passed(t->d, "sync", dev->memory->sync(dev)))
            return;
        double seconds = npi_seconds() - start;
        best = fmin(best, seconds);
        spent += seconds;
    }
    if (t->json)
        printf("{\"op\": \"%s\", \"shape\": \"%s\", \"ms\": %.4f, \"%s\": %.2f}\n", name, shape,
               best * 1e3, bytes ? "gb_s" : "gflop_s", work / best * 1e-9);
    else
        printf("%-16s %-34s %9.3f ms %9.2f %s\n", name, shape, best * 1e3, work / best * 1e-9,
               bytes ? "GB/s" : "GFLOP/s");
}

typedef struct unit_job {
    npi_device *dev;
    npi_unit *unit;
    npi_unit_params params, grads;
    npi_act x, y, dy, dx;
} unit_job;

static npos_status unit_forward(void *state) {
    unit_job *u = state;
    return u->dev->units->forward(u->unit, u->x, &u->params, NULL, NULL, NULL, &u->y);
}

static npos_status unit_backward(void *state) {
    unit_job *u = state;
    return u->dev->units->backward(u->unit, u->dy, u->x, &u->params, &u->grads,
                                   u->dx.data ? &u->dx : NULL, false, NULL, NULL);
}

static npos_status unit_infer(void *state) {
    unit_job *u = state;
    return u->dev->units->infer(u->unit, u->x, &u->params, NULL, &u->y);
}

static void bench_units(const timing *t) {
    static const int shapes[][6] = {/* c, side, out, kernel, stride, needs dx */
                                    {3, 32, 64, 3, 1, 0},    {64, 32, 64, 3, 1, 1},
                                    {64, 32, 128, 3, 2, 1},  {64, 32, 128, 1, 2, 1},
                                    {128, 16, 128, 3, 1, 1}, {256, 8, 256, 3, 1, 1},
                                    {512, 4, 512, 3, 1, 1}};
    enum { N = 64 };
    dc *d = t->d;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        char shape[64];
        snprintf(shape, sizeof shape, "%d x %d x %d x %d -> %d, %dx%d/%d", N, s[0], s[1], s[1],
                 s[2], s[3], s[3], s[4]);
        npi_unit_desc desc = {"bench", N,        s[0], s[1],      s[1], s[2],  s[3],
                              s[4],    s[3] / 2, true, s[5] != 0, true, false, false};
        dc_unit u;
        if (dc_unit_make(d, &u, desc)) {
            size_t in = (size_t)(N * s[0] * s[1] * s[1]), out = (size_t)(N * s[2] * u.oh * u.ow);
            unit_job j = {
                d->side[1],
                u.unit[1],
                dc_unit_params(&u, 1),
                dc_unit_grads(&u, 1),
                .x = dc_act_at(
                    dc_act_input(d, "x", N, s[0], s[1], s[1], dc_act_normals(d, in, 1.0)), 1),
                .y = dc_act_at(dc_act_output(d, "y", N, s[2], u.oh, u.ow), 1),
                .dy = dc_act_at(
                    dc_act_input(d, "dy", N, s[2], u.oh, u.ow, dc_act_normals(d, out, 1.0)), 1)};
            if (s[5])
                j.dx = dc_act_at(dc_act_output(d, "dx", N, s[0], s[1], s[1]), 1);
            double flop = 2.0 * (double)out * s[0] * s[3] * s[3];
            measure(t, "unit_infer", shape, (job){unit_infer, &j}, flop, false);
            measure(t, "unit_forward", shape, (job){unit_forward, &j}, flop, false);
            if (dc_passed(d, "forward", unit_forward(&j)))
                measure(t, "unit_backward", shape, (job){unit_backward, &j}, flop * (1 + s[5]),
                        false);
        }
        dc_unit_free(d, &u);
        dc_release(d);
    }
}

typedef struct rows_job {
    npi_device *dev;
    dc_buf *x, *w, *y, *dy, *dw, *db, *dx, *labels, *mu, *losses, *workspace, *step;
    npi_contrast_desc contrast;
    npi_sgd_desc sgd;
    int n, in, out, k;
    npi_synth *synth;
    npi_ring ring;
} rows_job;

static npos_status linear_forward(void *state) {
    rows_job *r = state;
    return r->dev->rows->linear_forward(r->dev, r->n, r->in, r->out, dc_at(r->x, 1), dc_at(r->w, 1),
                                        NULL, true, dc_at(r->y, 1));
}

static npos_status linear_backward(void *state) {
    rows_job *r = state;
    return r->dev->rows->linear_backward(
        r->dev, r->n, r->in, r->out, dc_at(r->x, 1), dc_at(r->w, 1), dc_at(r->y, 1), true,
        dc_at(r->dy, 1), dc_at(r->dw, 1), dc_at(r->db, 1), dc_at(r->dx, 1), r->n, false);
}

static npos_status contrast(void *state) {
    rows_job *r = state;
    return r->dev->losses->contrast(r->dev, &r->contrast, dc_at(r->x, 1), dc_at(r->labels, 1),
                                    dc_at(r->mu, 1), dc_at(r->losses, 1), dc_at(r->dx, 1),
                                    dc_at(r->workspace, 1));
}

static npos_status kth_neighbour(void *state) {
    rows_job *r = state;
    return r->dev->ood->kth_neighbour(r->dev, r->n, dc_at(r->x, 1), r->out, dc_at(r->w, 1), r->in,
                                      r->k, dc_at(r->y, 1));
}

static npos_status synthesise(void *state) {
    rows_job *r = state;
    return r->dev->ood->synthesise(r->synth, &r->ring, dc_at(r->step, 1), NULL, dc_at(r->y, 1),
                                   NULL);
}

static npos_status sgd(void *state) {
    rows_job *r = state;
    return r->dev->optim->sgd(r->dev, &r->sgd, (size_t)r->n, dc_at(r->w, 1), dc_at(r->x, 1),
                              dc_at(r->y, 1), dc_at(r->step, 1), false, NULL);
}

static dc_buf *rows_of(dc *d, const char *name, size_t count) {
    return dc_input(d, name, dc_normals(d, count, 1.0), count * 4);
}

static void bench_rows(const timing *t) {
    enum { N = 512, D = 512, CLASSES = 10, Z = 128 };
    dc *d = t->d;
    rows_job r = {.dev = d->side[1], .n = N, .in = D, .out = D};
    r.x = rows_of(d, "x", N * D);
    r.w = rows_of(d, "w", D * D);
    r.y = dc_output(d, "y", N * D * 4);
    r.dy = rows_of(d, "dy", N * D);
    r.dw = dc_output(d, "dw", D * D * 4);
    r.db = dc_output(d, "db", D * 4);
    r.dx = dc_output(d, "dx", N * D * 4);
    double flop = 2.0 * N * D * D;
    measure(t, "linear_forward", "512 x 512 -> 512", (job){linear_forward, &r}, flop, false);
    measure(t, "linear_backward", "512 x 512 -> 512", (job){linear_backward, &r}, 2.0 * flop,
            false);
    r.contrast = (npi_contrast_desc){N, CLASSES, Z, 0.95f, 0.1f, 0.5f, 1.0f};
    float zero[NPI_LOSS_COUNT] = {0};
    r.losses = dc_input(d, "losses", zero, sizeof zero);
    r.labels = dc_input(d, "labels", dc_labels(d, N, CLASSES, false), N * 4);
    r.mu = rows_of(d, "mu", CLASSES * Z);
    r.workspace = dc_output(d, "workspace", r.dev->losses->contrast_workspace(r.dev, &r.contrast));
    measure(t, "contrast", "512 x 128, 10 classes", (job){contrast, &r}, 4.0 * N * CLASSES * Z,
            false);
    dc_release(d);
    enum { WEIGHTS = 11000000 };
    npi_step now = {.lr = 1e-6f};
    r = (rows_job){.dev = d->side[1], .n = WEIGHTS, .sgd = {0.9f, 1e-4f, true, 0.0f}};
    r.x = rows_of(d, "grads", WEIGHTS);
    r.w = rows_of(d, "weights", WEIGHTS);
    r.y = rows_of(d, "velocity", WEIGHTS);
    r.step = dc_input(d, "step", &now, sizeof now);
    measure(t, "sgd", "11,000,000 weights", (job){sgd, &r}, 20.0 * WEIGHTS, true);
    dc_release(d);
}

static void bench_ood(const timing *t) {
    enum { N = 200, D = 512, BANK = 20000 };
    dc *d = t->d;
    rows_job r = {.dev = d->side[1], .n = N, .in = D, .out = BANK, .k = 300};
    r.x = rows_of(d, "queries", N * D);
    r.w = rows_of(d, "bank", (size_t)BANK * D);
    r.y = dc_output(d, "distance", N * 4);
    measure(t, "kth_neighbour", "200 of 20,000 x 512, k 300", (job){kth_neighbour, &r},
            2.0 * N * D * BANK, false);
    dc_release(d);
    npi_synth_desc desc = {10, 1000, 512, 300, 200, 2, 600, 200, 0.1f, false, 1};
    uint64_t counts[10] = {0};
    npi_step now = {.number = 1};
    dc_buf *rows = rows_of(d, "ring", (size_t)desc.classes * (size_t)desc.ring * D);
    dc_buf *count = dc_input(d, "count", counts, sizeof counts);
    r = (rows_job){.dev = d->side[1], .step = dc_input(d, "step", &now, sizeof now)};
    r.y = dc_output(d, "outliers", (size_t)(10 * 2 * 200 * D) * 4);
    r.ring = (npi_ring){desc.classes, desc.ring, desc.dim, dc_at(rows, 1), dc_at(count, 1)};
    if (dc_passed(d, "synth_create", r.dev->ood->synth_create(r.dev, &desc, &r.synth)))
        measure(t, "synthesise", "10 rings of 1000 x 512, unchanged", (job){synthesise, &r},
                2.0 * 10 * 600 * 1000 * D, false);
    r.dev->ood->synth_free(r.dev, r.synth);
    dc_release(d);
}

typedef struct block_job {
    npi_device *dev;
    npi_block *block;
    npi_block_params params, grads;
    npi_tokens x, z, dz, dx;
    npi_block_desc desc;
} block_job;

static npos_status block_forward(void *state) {
    block_job *b = state;
    return b->dev->blocks->forward(b->block, b->x, &b->params, b->z);
}

static npos_status block_both(void *state) {
    block_job *b = state;
    NPI_TRY(block_forward(state));
    return b->dev->blocks->backward(b->block, b->dz, b->x, &b->params, &b->grads,
                                    b->desc.needs_dx ? &b->dx : NULL);
}

static void time_block(const timing *t, const npi_block_desc *desc, const char *shape) {
    dc *d = t->d;
    block_job b = {.dev = d->side[1], .desc = *desc};
    float **params[] = {&b.params.ln1_gamma, &b.params.ln1_beta,   &b.params.qkv_weight,
                        &b.params.qkv_bias,  &b.params.out_weight, &b.params.out_bias,
                        &b.params.ln2_gamma, &b.params.ln2_beta,   &b.params.fc1_weight,
                        &b.params.fc1_bias,  &b.params.fc2_weight, &b.params.fc2_bias},
          **grads[] = {&b.grads.ln1_gamma, &b.grads.ln1_beta,   &b.grads.qkv_weight,
                       &b.grads.qkv_bias,  &b.grads.out_weight, &b.grads.out_bias,
                       &b.grads.ln2_gamma, &b.grads.ln2_beta,   &b.grads.fc1_weight,
                       &b.grads.fc1_bias,  &b.grads.fc2_weight, &b.grads.fc2_bias};
    size_t w = (size_t)desc->width, h = (size_t)desc->hidden;
    const size_t counts[] = {w, w, 3 * w * w, 3 * w, w * w, w, w, w, h * w, h, w * h, w};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        *params[i] =
            dc_at(dc_input(d, "parameter", dc_normals(d, counts[i], 0.03), counts[i] * 4), 1);
        *grads[i] = dc_at(dc_output(d, "gradient", counts[i] * 4), 1);
    }
    int rows = desc->first_only ? 1 : desc->t;
    size_t all = (size_t)desc->n * (size_t)desc->t * w, some = (size_t)(desc->n * rows) * w;
    b.x =
        dc_tok_at(dc_tok_input(d, "x", desc->n, desc->t, desc->width, dc_normals(d, all, 1.0)), 1);
    b.z = dc_tok_at(dc_tok_output(d, "z", desc->n, rows, desc->width), 1);
    b.dz =
        dc_tok_at(dc_dtok_input(d, "dz", desc->n, rows, desc->width, dc_normals(d, some, 1.0)), 1);
    b.dx = dc_tok_at(dc_dtok_output(d, "dx", desc->n, desc->t, desc->width), 1);
    if (!dc_passed(d, "create", b.dev->blocks->create(b.dev, desc, &b.block)))
        return;
    double of_row = 2.0 * (double)(2 * w * w + 2 * w * h), keys = 2.0 * (double)(2 * w * w),
           scores = 4.0 * (double)rows * desc->t * (double)w;
    double flop = desc->n * (rows * of_row + desc->t * keys + scores);
    if (dc_passed(d, "pack", b.dev->blocks->pack(b.block, &b.params)))
        measure(t, desc->training ? "block_both" : "block_forward", shape,
                (job){desc->training ? block_both : block_forward, &b},
                desc->training ? 3.0 * flop : flop, false);
    b.dev->blocks->free(b.dev, b.block);
    dc_release(d);
}

/* CLIP ViT-B/16's blocks. */
static void bench_blocks(const timing *t) {
    npi_block_desc desc = {"bench", 8,     197,   768,  12, 3072, NPI_ACT_QUICK_GELU,
                           false,   false, false, false};
    if (!t->d->side[1]->blocks || (t->only && !strstr("block_forward block_both", t->only)))
        return;
    time_block(t, &desc, "8 x 197 x 768");
    desc.first_only = true;
    time_block(t, &desc, "8 x 197 x 768, row 0");
    desc.training = desc.needs_dx = true;
    time_block(t, &desc, "8 x 197 x 768, row 0");
    desc.first_only = desc.needs_dx = false;
    time_block(t, &desc, "8 x 197 x 768, no dx");
}

void dc_bench(dc *d, const char *only, bool json) {
    timing t = {d, only, json};
    bench_units(&t);
    bench_rows(&t);
    bench_ood(&t);
    bench_blocks(&t);
}
