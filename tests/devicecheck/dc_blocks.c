#include <math.h>
#include <stdio.h>
#include <string.h>

#include "dc.h"

enum { PARTS = 12 };

typedef struct part {
    const char *name;
    size_t count;
    double scale; /* of starting values */
} part;

/* The parameters of a block in the order of npi_block_params. */
static void parts_of(const npi_block_desc *b, part *out) {
    size_t width = (size_t)b->width, hidden = (size_t)b->hidden;
    double even = 1.0 / sqrt((double)width);
    const part parts[PARTS] = {{"ln1_gamma", width, 1.0},
                               {"ln1_beta", width, 0.3},
                               {"qkv_weight", 3 * width * width, even},
                               {"qkv_bias", 3 * width, 0.3},
                               {"out_weight", width * width, even},
                               {"out_bias", width, 0.3},
                               {"ln2_gamma", width, 1.0},
                               {"ln2_beta", width, 0.3},
                               {"fc1_weight", hidden * width, even},
                               {"fc1_bias", hidden, 0.3},
                               {"fc2_weight", width * hidden, 1.0 / sqrt((double)hidden)},
                               {"fc2_bias", width, 0.3}};
    memcpy(out, parts, sizeof parts);
}

static npi_block_params params_at(float *const at[PARTS]) {
    return (npi_block_params){at[0], at[1], at[2], at[3], at[4],  at[5],
                              at[6], at[7], at[8], at[9], at[10], at[11]};
}

static npi_block_params params_of(dc_buf *const bufs[PARTS], int side) {
    float *at[PARTS];
    for (int i = 0; i < PARTS; i++)
        at[i] = dc_at(bufs[i], side);
    return params_at(at);
}

typedef struct arrays {
    int n;
    dc_buf *params[PARTS], *grads[PARTS];
    dc_tok x, z, dz, dx;
} arrays;

/* Forward and, for a training block, backward on one side. */
static bool run_side(dc *d, const npi_block_desc *desc, arrays *a, int side) {
    npi_device *dev = d->side[side];
    npi_block *block = NULL;
    npi_block_params params = params_of(a->params, side), grads = params_of(a->grads, side);
    npi_tokens dx = dc_tok_at(a->dx, side);
    bool done =
        dc_passed(d, "create", dev->blocks->create(dev, desc, &block)) &&
        dc_passed(d, "pack", dev->blocks->pack(block, &params)) &&
        dc_passed(
            d, "forward",
            dev->blocks->forward(block, dc_tok_at(a->x, side), &params, dc_tok_at(a->z, side))) &&
        (!desc->training ||
         dc_passed(d, "backward",
                   dev->blocks->backward(block, dc_tok_at(a->dz, side), dc_tok_at(a->x, side),
                                         &params, &grads, desc->needs_dx ? &dx : NULL)));
    dev->blocks->free(dev, block);
    return done;
}

/* steep: how many times as large queries and keys are, so that softmax is steeper by its square. */
static void run_block(dc *d, const npi_block_desc *desc, int n, double steep) {
    part parts[PARTS];
    arrays a = {.n = n};
    int rows = desc->first_only ? 1 : desc->t;
    size_t width = (size_t)desc->width, in = (size_t)n * (size_t)desc->t * width,
           out = (size_t)n * (size_t)rows * width;
    parts_of(desc, parts);
    parts[2].scale *= steep;
    for (int i = 0; i < PARTS; i++) {
        size_t bytes = parts[i].count * 4;
        a.params[i] =
            dc_input(d, parts[i].name, dc_act_normals(d, parts[i].count, parts[i].scale), bytes);
        a.grads[i] = dc_output(d, parts[i].name, bytes);
    }
    a.x = dc_tok_input(d, "x", n, desc->t, desc->width, dc_act_normals(d, in, 1.0));
    a.z = dc_tok_output(d, "z", n, rows, desc->width);
    a.dz = dc_dtok_input(d, "dz", n, rows, desc->width, dc_act_normals(d, out, 1.0));
    a.dx = dc_dtok_output(d, "dx", n, desc->t, desc->width);
    if (!run_side(d, desc, &a, 0) || !run_side(d, desc, &a, 1))
        return;
    dc_tok_check(d, a.z, DC_ACT);
    if (!desc->training)
        return;
    if (desc->needs_dx)
        dc_tok_check(d, a.dx, DC_ACT_GRAD);
    for (int i = 0; i < PARTS; i++)
        dc_floats(d, a.grads[i], DC_PARAM_GRAD);
}

void dc_check_blocks(dc *d) {
    static const struct {
        npi_block_desc desc;
        int n;
        double steep;
    } shapes[] = {
        {{"smallest", 1, 2, 8, 1, 8, NPI_ACT_QUICK_GELU, false, false, true, true}, 1, 1},
        {{"partial", 5, 7, 48, 3, 100, NPI_ACT_QUICK_GELU, false, false, true, true}, 3, 1},
        {{"causal", 4, 19, 64, 2, 256, NPI_ACT_QUICK_GELU, true, false, true, true}, 4, 1},
        {{"gelu", 3, 10, 32, 4, 128, NPI_ACT_GELU, false, false, true, true}, 3, 1},
        {{"first", 3, 50, 64, 1, 256, NPI_ACT_QUICK_GELU, false, true, true, true}, 2, 1},
        {{"no dx", 3, 17, 64, 4, 96, NPI_ACT_GELU, false, true, true, false}, 3, 1},
        {{"first causal", 2, 5, 24, 3, 40, NPI_ACT_QUICK_GELU, true, true, true, true}, 2, 1},
        {{"image tower", 2, 197, 128, 2, 512, NPI_ACT_QUICK_GELU, false, false, true, true}, 2, 1},
        {{"many heads", 36, 197, 256, 4, 16, NPI_ACT_GELU, false, false, false, false}, 36, 1},
        {{"193 rows", 3, 193, 64, 1, 16, NPI_ACT_GELU, false, false, true, true}, 2, 1},
        {{"208 rows", 2, 208, 64, 1, 16, NPI_ACT_GELU, false, false, false, false}, 2, 2.5},
        {{"inference", 7, 50, 128, 2, 512, NPI_ACT_QUICK_GELU, false, false, false, false}, 7, 1},
        {{"first, inference", 9, 26, 64, 1, 256, NPI_ACT_GELU, false, true, false, false}, 9, 1},
        {{"causal, 64 to a head", 2, 77, 128, 2, 40, NPI_ACT_GELU, true, false, true, true}, 2, 1},
        {{"long", 2, 290, 64, 1, 16, NPI_ACT_QUICK_GELU, false, false, true, true}, 2, 1},
        {{"long, causal", 1, 290, 64, 1, 16, NPI_ACT_QUICK_GELU, true, false, true, true}, 1, 1},
        {{"steep", 2, 197, 64, 1, 16, NPI_ACT_GELU, false, false, true, true}, 2, 2.5},
        {{"steep, causal", 3, 101, 64, 1, 16, NPI_ACT_GELU, true, false, false, false}, 3, 2.5},
        {{"wide", 2, 5, 768, 12, 256, NPI_ACT_QUICK_GELU, false, false, true, true}, 2, 1},
        {{"wide, first", 3, 9, 512, 8, 64, NPI_ACT_QUICK_GELU, false, true, true, true}, 3, 1},
        {{"wide, inference", 3, 17, 256, 4, 64, NPI_ACT_GELU, false, false, false, false}, 2, 1},
        {{"text, inference", 6, 77, 64, 1, 256, NPI_ACT_QUICK_GELU, true, false, false, false},
         5,
         1}};
    if (!d->side[1]->blocks) {
        dc_passed(d, "blocks", NPOS_UNSUPPORTED);
        return;
    }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !d->skipped; i++) {
        const npi_block_desc *b = &shapes[i].desc;
        dc_case(d, "%s: %d of %d x %d x %d, %d heads, MLP of %d", b->name, shapes[i].n, b->n, b->t,
                b->width, b->heads, b->hidden);
        run_block(d, b, shapes[i].n, shapes[i].steep);
        dc_release(d);
    }
}

/* Plans that cannot be are refused by both, with a message that names the block. */
void dc_check_block_errors(dc *d) {
    const npi_block_desc wrong[] = {
        {"none", 0, 3, 8, 2, 8, NPI_ACT_GELU, false, false, false, false},
        {"none", 2, 3, 8, 3, 8, NPI_ACT_GELU, false, false, false, false},
        {"none", 2, 3, 8, 2, 0, NPI_ACT_GELU, false, false, false, false}};
    if (!d->side[1]->blocks) {
        dc_passed(d, "blocks", NPOS_UNSUPPORTED);
        return;
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        for (int s = 0; s < 2; s++) {
            npi_block *block = NULL;
            dc_case(d, "wrong plan %zu", i);
            d->compared++;
            npos_status status = d->side[s]->blocks->create(d->side[s], &wrong[i], &block);
            if (status != NPOS_INVALID_ARGUMENT || !strstr(npos_error_message(), "none")) {
                dc_fail(d, "%s: status %s, message '%s'", d->side[s]->name,
                        npos_status_name(status), npos_error_message());
                d->side[s]->blocks->free(d->side[s], block);
            }
        }
}

/* ---- finite differences ---- */

enum { N = 2, T = 4, WIDTH = 12, HEADS = 3, HIDDEN = 10 };

typedef struct block_state {
    npi_device *dev;
    npi_block *block;
    npi_block_params params;
    npi_tokens x, z;
    float *r;
    size_t out;
} block_state;

static double block_value(void *state) {
    block_state *s = state;
    return s->dev->blocks->forward(s->block, s->x, &s->params, s->z) == NPOS_OK
               ? dc_weighted(s->r, s->z.data, s->out)
               : NAN;
}

static void grad_block(dc *d, const npi_block_desc *desc) {
    npi_device *dev = d->side[0];
    part parts[PARTS];
    float *values[PARTS], *grads[PARTS];
    int rows = desc->first_only ? 1 : T;
    size_t in = N * T * WIDTH, out = (size_t)(N * rows * WIDTH);
    block_state s = {.dev = dev, .out = out};
    dc_case(d, "%s", desc->name);
    parts_of(desc, parts);
    for (int i = 0; i < PARTS; i++) {
        values[i] = dc_normals(d, parts[i].count, parts[i].scale);
        grads[i] = dc_host(d, parts[i].count * 4);
    }
    s.params = params_at(values);
    s.x = (npi_tokens){N, T, WIDTH, dc_normals(d, in, 1.0)};
    s.z = (npi_tokens){N, rows, WIDTH, dc_host(d, out * 4)};
    s.r = dc_normals(d, out, 1.0);
    npi_tokens dz = {N, rows, WIDTH, dc_host(d, out * 4)}, dx = {N, T, WIDTH, dc_host(d, in * 4)};
    memcpy(dz.data, s.r, out * 4); /* backward may overwrite it */
    npi_block_params to = params_at(grads);
    DC_RUN(dev->blocks->create(dev, desc, &s.block));
    block_value(&s);
    if (dc_passed(d, "backward", dev->blocks->backward(s.block, dz, s.x, &s.params, &to, &dx))) {
        dc_check_direction(&(dc_probe){d, "x", block_value, &s}, s.x.data, in, dx.data, 3e-3, 3e-3);
        for (int i = 0; i < PARTS; i++)
            dc_check_direction(&(dc_probe){d, parts[i].name, block_value, &s}, values[i],
                               parts[i].count, grads[i], 3e-3, 3e-3);
    }
    dev->blocks->free(dev, s.block);
}

typedef struct rows_state {
    npi_device *dev;
    float *x, *gamma, *beta, *y, *stats, *r, temperature;
    int32_t *labels;
    bool norm;
} rows_state;

static double norm_value(void *state) {
    rows_state *s = state;
    return s->dev->rows->layer_norm_forward(s->dev, N * T, WIDTH, s->x, s->gamma, s->beta, s->y,
                                            s->stats) == NPOS_OK
               ? dc_weighted(s->r, s->y, N * T * WIDTH)
               : NAN;
}

static void grad_norm(dc *d) {
    enum { COUNT = N * T * WIDTH };
    rows_state s = {.dev = d->side[0],
                    .x = dc_normals(d, COUNT, 1.0),
                    .gamma = dc_normals(d, WIDTH, 1.0),
                    .beta = dc_normals(d, WIDTH, 1.0),
                    .y = dc_host(d, COUNT * 4),
                    .stats = dc_host(d, N * T * 2 * 4),
                    .r = dc_normals(d, COUNT, 1.0)};
    float *dx = dc_host(d, COUNT * 4), *dgamma = dc_host(d, WIDTH * 4),
          *dbeta = dc_host(d, WIDTH * 4);
    dc_case(d, "layer norm");
    norm_value(&s);
    DC_RUN(s.dev->rows->layer_norm_backward(s.dev, N * T, WIDTH, s.x, s.stats, s.gamma, s.r, dgamma,
                                            dbeta, dx, false));
    dc_check_direction(&(dc_probe){d, "x", norm_value, &s}, s.x, COUNT, dx, 3e-3, 2e-3);
    dc_check_direction(&(dc_probe){d, "gamma", norm_value, &s}, s.gamma, WIDTH, dgamma, 1e-2, 1e-3);
    dc_check_direction(&(dc_probe){d, "beta", norm_value, &s}, s.beta, WIDTH, dbeta, 1e-2, 1e-3);
}

static double cosine_value(void *state) {
    rows_state *s = state;
    float losses[NPI_LOSS_COUNT];
    return (s->norm ? s->dev->losses->logit_norm_ce : s->dev->losses->cosine_ce)(
               s->dev, N * T, WIDTH, s->temperature, s->x, s->labels, 1.0f, losses, s->y) == NPOS_OK
               ? (double)losses[NPI_LOSS_CE]
               : NAN;
}

static void grad_cosines(dc *d, bool norm, float temperature) {
    enum { COUNT = N * T * WIDTH };
    rows_state s = {.dev = d->side[0],
                    .x = dc_normals(d, COUNT, 0.3),
                    .y = dc_host(d, COUNT * 4),
                    .temperature = temperature,
                    .labels = dc_labels(d, N * T, WIDTH, false),
                    .norm = norm};
    float *gradient = dc_host(d, COUNT * 4);
    dc_case(d, "%s, temperature %g", norm ? "LogitNorm" : "cosines", (double)temperature);
    cosine_value(&s);
    memcpy(gradient, s.y, COUNT * 4);
    dc_check_direction(&(dc_probe){d, "l", cosine_value, &s}, s.x, COUNT, gradient, 1e-3, 5e-3);
}

void dc_grad_blocks(dc *d) {
    for (int i = 0; i < 6; i++) {
        static const char *const names[] = {"block",      "causal block", "block, row 0",
                                            "GELU block", "GELU, causal", "GELU, row 0"};
        npi_block_desc desc = {.name = names[i],
                               .n = N,
                               .t = T,
                               .width = WIDTH,
                               .heads = HEADS,
                               .hidden = HIDDEN,
                               .act = i < 3 ? NPI_ACT_QUICK_GELU : NPI_ACT_GELU,
                               .causal = i % 3 == 1,
                               .first_only = i % 3 == 2,
                               .training = true,
                               .needs_dx = true};
        grad_block(d, &desc);
    }
    grad_norm(d);
    grad_cosines(d, false, 0.1f);
    grad_cosines(d, true, 0.5f);
}
