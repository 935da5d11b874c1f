/* The units of the cpu device against double loops: ragged shapes, every instruction set that this
 * processor has, both precisions, and the same bits for 1, 2 and 3 threads. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/philox.h"
#include "devices/cpu/cpu.h"
#include "devices/devices.h"
#include "emulated_amx.h"

typedef enum extra { ALONE, RESIDUAL, SHORTCUT } extra;

typedef struct shape {
    int n, c, h, w, out_c, kernel, stride, pad;
    bool relu, accumulate;
    extra extra;
    float offset; /* added to x: large means must not cost precision */
} shape;

static const shape shapes[] = {
    {32, 32, 4, 4, 32, 3, 1, 1, true, false, ALONE, 0},
    {33, 16, 5, 3, 48, 3, 1, 1, true, true, RESIDUAL, 0},
    {7, 64, 6, 6, 32, 3, 2, 1, true, false, SHORTCUT, 0},
    {64, 32, 8, 8, 64, 3, 2, 1, true, true, SHORTCUT, 0},
    {40, 32, 7, 7, 64, 1, 2, 0, false, true, ALONE, 0},
    {5, 96, 3, 3, 32, 1, 1, 0, true, false, RESIDUAL, 0},
    {35, 3, 9, 8, 64, 3, 1, 1, true, false, ALONE, 0},
    {33, 1, 11, 11, 32, 3, 2, 1, true, false, ALONE, 0},
    {3, 3, 17, 15, 64, 7, 2, 3, true, true, ALONE, 0},
    {9, 5, 6, 5, 7, 3, 1, 1, true, true, RESIDUAL, 0},
    {34, 17, 4, 6, 19, 3, 2, 1, false, false, SHORTCUT, 0},
    {2, 20, 5, 5, 24, 5, 3, 2, true, false, ALONE, 0},
    {1, 32, 2, 2, 32, 3, 1, 1, true, false, ALONE, 0},
    {65, 48, 1, 1, 80, 3, 1, 1, true, false, RESIDUAL, 0},
    {66, 64, 4, 4, 128, 3, 1, 1, true, false, ALONE, 20.0f},
    {34, 36, 7, 8, 40, 3, 1, 1, true, true, RESIDUAL, 0},
    {5, 33, 10, 9, 48, 3, 1, 2, true, false, ALONE, 0},
    {2, 64, 9, 10, 72, 3, 1, 0, true, true, RESIDUAL, 0},
};

/* ---- arrays, NCHW in double ---- */

static float *randoms(size_t count, uint32_t item, float scale, float offset) {
    float *out = malloc((count + 1) * sizeof *out);
    assert_non_null(out);
    for (size_t i = 0; i < count; i++) {
        npi_u32x4 words = npi_philox(7, NPI_RANDOM_TEST, 0, item, (uint32_t)i);
        float a, b;
        npi_normal_pair(words.v[0], words.v[1], &a, &b);
        out[i] = offset + scale * a;
    }
    return out;
}

static void round_to_bf16(float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        values[i] = npi_bf16_to_f32(npi_f32_to_bf16(values[i]));
}

static double *zeros(size_t count) {
    double *out = calloc(count + 1, sizeof *out);
    assert_non_null(out);
    return out;
}

/* out[n][o][y][x]; with back set, x's and the weights' gradients of dc instead. */
static void convolve(const shape *s, int ho, int wo, const float *x, const float *weight,
                     double *out, const double *dc, double *dx, double *dweight) {
    int k = s->kernel;
    for (int n = 0; n < s->n; n++)
        for (int o = 0; o < s->out_c; o++)
            for (int y = 0; y < ho; y++)
                for (int px = 0; px < wo; px++) {
                    size_t to =
                        (((size_t)n * (size_t)s->out_c + (size_t)o) * (size_t)ho + (size_t)y) *
                            (size_t)wo +
                        (size_t)px;
                    double sum = 0.0;
                    for (int i = 0; i < s->c; i++)
                        for (int tap = 0; tap < k * k; tap++) {
                            int iy = y * s->stride + tap / k - s->pad;
                            int ix = px * s->stride + tap % k - s->pad;
                            if (iy < 0 || ix < 0 || iy >= s->h || ix >= s->w)
                                continue;
                            size_t from = (((size_t)n * (size_t)s->c + (size_t)i) * (size_t)s->h +
                                           (size_t)iy) *
                                              (size_t)s->w +
                                          (size_t)ix;
                            size_t at = ((size_t)o * (size_t)s->c + (size_t)i) * (size_t)(k * k) +
                                        (size_t)tap;
                            if (dc) {
                                dx[from] += dc[to] * (double)weight[at];
                                dweight[at] += dc[to] * (double)x[from];
                            } else {
                                sum += (double)x[from] * (double)weight[at];
                            }
                        }
                    if (!dc)
                        out[to] = sum;
                }
}

/* ---- one unit: its host arrays and its device memory ---- */

typedef struct side {
    shape s;
    int ho, wo;
    size_t x_count, y_count, w_count;
    float *x, *weight, *gamma, *beta, *mean0, *var0; /* host */
    double *conv, *mean, *inverse;                   /* double truth */
    npi_unit *unit;
    npi_unit_params params, grads;
    npi_act ax, adx;
} side;

static void *device_floats(npi_device *dev, const float *from, size_t count) {
    float *out;
    assert_int_equal(dev->memory->alloc(dev, count * sizeof *out, "test", &out), NPOS_OK);
    if (from)
        assert_int_equal(dev->memory->upload(dev, out, from, count * sizeof *out), NPOS_OK);
    return out;
}

static npi_act act_of(npi_device *dev, int n, int c, int h, int w, const float *nchw) {
    npi_act act = {.n = n, .c = c, .h = h, .w = w};
    assert_int_equal(dev->memory->alloc(dev, dev->acts->bytes(dev, n, c, h, w), "test", &act.data),
                     NPOS_OK);
    memset(act.data, 0x7f, dev->acts->bytes(dev, n, c, h, w)); /* must be overwritten, pads too */
    if (nchw)
        assert_int_equal(dev->acts->import_nchw(dev, nchw, act), NPOS_OK);
    return act;
}

static float *exported(npi_device *dev, npi_act act) {
    size_t count = (size_t)act.n * (size_t)act.c * (size_t)act.h * (size_t)act.w;
    float *out = calloc(count + 1, sizeof *out);
    assert_non_null(out);
    assert_int_equal(dev->acts->export_nchw(dev, act, out), NPOS_OK);
    return out;
}

/* Images past n must be zero in every activation that a unit writes. */
static void check_pads(npi_device *dev, npi_act act) {
    size_t row = (size_t)act.c * npi_dtype_bytes(dev->compute);
    int blocks = (act.n + 31) / 32, pixels = act.h * act.w;
    const char *zero = calloc(1, row);
    assert_non_null(zero);
    for (int p = 0; p < pixels; p++)
        for (int n = act.n; n < blocks * 32; n++) {
            size_t at = (((size_t)(n / 32) * (size_t)pixels + (size_t)p) * 32 + (size_t)(n % 32));
            assert_memory_equal((char *)act.data + at * row, zero, row);
        }
    free((void *)zero);
}

static void side_open(side *u, npi_device *dev, const shape *s, uint32_t item, bool relu) {
    u->s = *s;
    u->s.relu = relu;
    u->ho = (s->h + 2 * s->pad - s->kernel) / s->stride + 1;
    u->wo = (s->w + 2 * s->pad - s->kernel) / s->stride + 1;
    u->x_count = (size_t)s->n * (size_t)s->c * (size_t)s->h * (size_t)s->w;
    u->y_count = (size_t)s->n * (size_t)s->out_c * (size_t)u->ho * (size_t)u->wo;
    u->w_count = (size_t)s->out_c * (size_t)s->c * (size_t)(s->kernel * s->kernel);
    size_t o = (size_t)s->out_c;
    u->x = randoms(u->x_count, item, 1.0f, s->offset);
    u->weight = randoms(u->w_count, item + 1, 0.2f, 0.0f);
    u->gamma = randoms(o, item + 2, 0.2f, 1.0f);
    u->beta = randoms(o, item + 3, 0.5f, 0.2f);
    u->mean0 = randoms(o, item + 4, 0.3f, 0.0f);
    u->var0 = randoms(o, item + 5, 0.0f, 1.5f);
    if (dev->compute == NPI_BF16) {
        round_to_bf16(u->x, u->x_count);
        round_to_bf16(u->weight, u->w_count);
    }
    npi_unit_desc desc = {.name = "test",
                          .n = s->n,
                          .c = s->c,
                          .h = s->h,
                          .w = s->w,
                          .out_c = s->out_c,
                          .kernel = s->kernel,
                          .stride = s->stride,
                          .pad = s->pad,
                          .relu = relu,
                          .needs_dx = true,
                          .training = true};
    assert_int_equal(dev->units->create(dev, &desc, &u->unit), NPOS_OK);
    u->params = (npi_unit_params){.weight = device_floats(dev, NULL, u->w_count),
                                  .gamma = device_floats(dev, u->gamma, o),
                                  .beta = device_floats(dev, u->beta, o),
                                  .running_mean = device_floats(dev, u->mean0, o),
                                  .running_var = device_floats(dev, u->var0, o)};
    u->grads = (npi_unit_params){.weight = device_floats(dev, NULL, u->w_count),
                                 .gamma = device_floats(dev, NULL, o),
                                 .beta = device_floats(dev, NULL, o)};
    assert_int_equal(dev->units->weight_import(u->unit, u->weight, u->params.weight), NPOS_OK);
    assert_int_equal(dev->units->pack(u->unit, &u->params), NPOS_OK);
    u->ax = act_of(dev, s->n, s->c, s->h, s->w, u->x);
    u->adx = act_of(dev, s->n, s->c, s->h, s->w, s->accumulate ? u->x : NULL);
    u->conv = zeros(u->y_count);
    u->mean = zeros(o);
    u->inverse = zeros(o);
}

static void side_close(side *u, npi_device *dev) {
    void *memory[] = {u->params.weight,
                      u->params.gamma,
                      u->params.beta,
                      u->params.running_mean,
                      u->params.running_var,
                      u->grads.weight,
                      u->grads.gamma,
                      u->grads.beta,
                      u->ax.data,
                      u->adx.data};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        dev->memory->free(dev, memory[i]);
    dev->units->free(dev, u->unit);
    void *host[] = {u->x,    u->weight, u->gamma, u->beta,   u->mean0,
                    u->var0, u->conv,   u->mean,  u->inverse};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
}

/* ---- the truth ---- */

static size_t channel_of(const side *u, size_t i) {
    return i / (size_t)(u->ho * u->wo) % (size_t)u->s.out_c;
}

/* Adds the unit's normalised output to y. */
static void truth_forward(side *u, double *y, double *unbiased) {
    size_t o = (size_t)u->s.out_c;
    double rows = (double)u->y_count / (double)o, *variance = zeros(o);
    convolve(&u->s, u->ho, u->wo, u->x, u->weight, u->conv, NULL, NULL, NULL);
    for (size_t i = 0; i < u->y_count; i++)
        u->mean[channel_of(u, i)] += u->conv[i] / rows;
    for (size_t i = 0; i < u->y_count; i++) {
        double d = u->conv[i] - u->mean[channel_of(u, i)];
        variance[channel_of(u, i)] += d * d / rows;
    }
    for (size_t c = 0; c < o; c++) {
        u->inverse[c] = 1.0 / sqrt(variance[c] + 1e-5);
        unbiased[c] = rows > 1 ? variance[c] * rows / (rows - 1) : variance[c];
    }
    for (size_t i = 0; i < u->y_count; i++) {
        size_t c = channel_of(u, i);
        y[i] +=
            (u->conv[i] - u->mean[c]) * u->inverse[c] * (double)u->gamma[c] + (double)u->beta[c];
    }
    free(variance);
}

/* dgamma, dbeta, dweight, dx from the gradient of the normalised output. */
static void truth_backward(const side *u, const double *dy, double *dgamma, double *dbeta,
                           double *dx, double *dweight) {
    size_t o = (size_t)u->s.out_c;
    double rows = (double)u->y_count / (double)o, *dc = zeros(u->y_count);
    for (size_t i = 0; i < u->y_count; i++) {
        size_t c = channel_of(u, i);
        dbeta[c] += dy[i];
        dgamma[c] += dy[i] * (u->conv[i] - u->mean[c]) * u->inverse[c];
    }
    for (size_t i = 0; i < u->y_count; i++) {
        size_t c = channel_of(u, i);
        double normal = (u->conv[i] - u->mean[c]) * u->inverse[c];
        dc[i] = (double)u->gamma[c] * u->inverse[c] *
                (dy[i] - dbeta[c] / rows - normal * dgamma[c] / rows);
    }
    convolve(&u->s, u->ho, u->wo, u->x, u->weight, NULL, dc, dx, dweight);
    free(dc);
}

/* ---- comparison ---- */

static double largest_error, rms_error; /* of all that was compared with the present device */

static void compare(const char *what, const shape *s, npi_dtype type, const float *got,
                    const double *want, size_t count) {
    double squares = 0.0, error = 0.0, errors = 0.0;
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double)got[i] - want[i]);
        squares += want[i] * want[i];
        errors += d * d;
        if (!(d <= error))
            error = d;
    }
    double rms = sqrt(squares / (double)count) + 1e-3;
    double most = error / rms, mean = sqrt(errors / (double)count) / rms;
    double bound = type == NPI_BF16 ? 0.1 : 5e-5, mean_bound = type == NPI_BF16 ? 0.01 : 5e-6;
    if (s->offset > 0) { /* the convolution's own rounding is amplified by mean / deviation */
        bound *= type == NPI_BF16 ? 40 : 10;
        mean_bound *= type == NPI_BF16 ? 40 : 10;
    }
    if (most > largest_error && s->offset <= 0)
        largest_error = most;
    if (mean > rms_error && s->offset <= 0)
        rms_error = mean;
    if (!(most <= bound) || !(mean <= mean_bound))
        fail_msg("%s: n %d c %d %dx%d out %d k %d s %d: error %.2e (bound %.2e), rms %.2e (%.2e)",
                 what, s->n, s->c, s->h, s->w, s->out_c, s->kernel, s->stride, most, bound, mean,
                 mean_bound);
}

/* Every output of a case, one after the other: to compare threads bit by bit. */
typedef struct record {
    float *values;
    size_t count, room;
} record;

static void keep(record *all, const float *values, size_t count) {
    if (all->count + count > all->room) {
        all->room = 2 * (all->count + count);
        all->values = realloc(all->values, all->room * sizeof *all->values);
        assert_non_null(all->values);
    }
    memcpy(all->values + all->count, values, count * sizeof *values);
    all->count += count;
}

static void check_side(side *u, npi_device *dev, const double *dy, const double *unbiased,
                       record *all, bool truth) {
    size_t o = (size_t)u->s.out_c;
    float *weight = calloc(u->w_count, sizeof *weight), *dx = exported(dev, u->adx);
    assert_non_null(weight);
    assert_int_equal(dev->units->weight_export(u->unit, u->grads.weight, weight), NPOS_OK);
    check_pads(dev, u->adx);
    keep(all, weight, u->w_count);
    keep(all, dx, u->x_count);
    keep(all, u->grads.gamma, o);
    keep(all, u->grads.beta, o);
    keep(all, u->params.running_mean, o);
    keep(all, u->params.running_var, o);
    if (truth) {
        double *dgamma = zeros(o), *dbeta = zeros(o), *tdx = zeros(u->x_count);
        double *dweight = zeros(u->w_count), *mean = zeros(o), *var = zeros(o);
        for (size_t i = 0; u->s.accumulate && i < u->x_count; i++)
            tdx[i] = (double)u->x[i];
        truth_backward(u, dy, dgamma, dbeta, tdx, dweight);
        for (size_t c = 0; c < o; c++) {
            mean[c] = 0.9 * (double)u->mean0[c] + 0.1 * u->mean[c];
            var[c] = 0.9 * (double)u->var0[c] + 0.1 * unbiased[c];
        }
        npi_dtype type = dev->compute;
        compare("dweight", &u->s, type, weight, dweight, u->w_count);
        compare("dx", &u->s, type, dx, tdx, u->x_count);
        compare("dgamma", &u->s, type, u->grads.gamma, dgamma, o);
        compare("dbeta", &u->s, type, u->grads.beta, dbeta, o);
        compare("running mean", &u->s, type, u->params.running_mean, mean, o);
        compare("running variance", &u->s, type, u->params.running_var, var, o);
        double *temporary[] = {dgamma, dbeta, tdx, dweight, mean, var};
        for (size_t i = 0; i < sizeof temporary / sizeof *temporary; i++)
            free(temporary[i]);
    }
    free(weight);
    free(dx);
}

static void check_infer(side *u, npi_device *dev, const npi_act *residual, const float *added,
                        record *all, bool truth) {
    npi_act y = act_of(dev, u->s.n, u->s.out_c, u->ho, u->wo, NULL);
    size_t o = (size_t)u->s.out_c;
    npi_unit_params params = u->params;
    params.running_mean = device_floats(dev, u->mean0, o);
    params.running_var = device_floats(dev, u->var0, o);
    assert_int_equal(dev->units->infer(u->unit, u->ax, &params, residual, &y), NPOS_OK);
    check_pads(dev, y);
    float *got = exported(dev, y);
    keep(all, got, u->y_count);
    if (truth) {
        double *want = zeros(u->y_count);
        for (size_t i = 0; i < u->y_count; i++) {
            size_t c = channel_of(u, i);
            want[i] = (u->conv[i] - (double)u->mean0[c]) / sqrt((double)u->var0[c] + 1e-5) *
                          (double)u->gamma[c] +
                      (double)u->beta[c] + (residual ? (double)added[i] : 0.0);
            if (u->s.relu && want[i] < 0)
                want[i] = 0;
        }
        compare("infer", &u->s, dev->compute, got, want, u->y_count);
        free(want);
    }
    free(got);
    dev->memory->free(dev, params.running_mean);
    dev->memory->free(dev, params.running_var);
    dev->memory->free(dev, y.data);
}

static void run_shape(npi_device *dev, const shape *s, record *all, bool truth) {
    side main = {0}, cut = {0};
    shape second = *s;
    second.c = s->c == 64 ? 32 : s->c;
    side_open(&main, dev, s, 100, s->relu);
    if (s->extra == SHORTCUT)
        side_open(&cut, dev, &second, 200, false);
    size_t o = (size_t)s->out_c, count = main.y_count;
    float *added = randoms(count, 300, 1.0f, 0.0f), *dy = randoms(count, 301, 1.0f, 0.1f);
    if (dev->compute == NPI_BF16) {
        round_to_bf16(added, count);
        round_to_bf16(dy, count);
    }
    npi_act residual = act_of(dev, s->n, s->out_c, main.ho, main.wo, added);
    npi_act dresidual = act_of(dev, s->n, s->out_c, main.ho, main.wo, NULL);
    npi_act ady = act_of(dev, s->n, s->out_c, main.ho, main.wo, dy);
    npi_act y = act_of(dev, s->n, s->out_c, main.ho, main.wo, NULL);
    uint64_t calls = npi_memory_calls();
    if (s->extra == SHORTCUT)
        assert_int_equal(dev->units->forward(cut.unit, cut.ax, &cut.params, NULL, NULL, NULL, NULL),
                         NPOS_OK);
    assert_int_equal(dev->units->forward(main.unit, main.ax, &main.params,
                                         s->extra == RESIDUAL ? &residual : NULL,
                                         s->extra == SHORTCUT ? cut.unit : NULL,
                                         s->extra == SHORTCUT ? &cut.params : NULL, &y),
                     NPOS_OK);
    assert_int_equal(dev->units->backward(main.unit, ady, main.ax, &main.params, &main.grads,
                                          &main.adx, s->accumulate,
                                          s->extra == ALONE ? NULL : &dresidual, NULL),
                     NPOS_OK);
    check_pads(dev, dresidual.n && s->extra != ALONE ? dresidual : y);
    float *masked = s->extra == ALONE ? NULL : exported(dev, dresidual);
    if (s->extra == SHORTCUT)
        assert_int_equal(dev->units->backward(cut.unit, dresidual, cut.ax, &cut.params, &cut.grads,
                                              &cut.adx, s->accumulate, NULL, NULL),
                         NPOS_OK);
    assert_true(npi_memory_calls() == calls); /* nothing is allocated in a step */
    check_pads(dev, y);
    float *got = exported(dev, y);
    keep(all, got, count);
    double *want = zeros(count), *unbiased = zeros(o), *unbiased_cut = zeros(o);
    double *gradient = zeros(count);
    if (truth) {
        truth_forward(&main, want, unbiased);
        if (s->extra == SHORTCUT)
            truth_forward(&cut, want, unbiased_cut);
        for (size_t i = 0; i < count; i++) {
            want[i] += s->extra == RESIDUAL ? (double)added[i] : 0.0;
            if (s->relu && want[i] < 0)
                want[i] = 0;
            /* the device's own mask: a value next to zero may fall on either side */
            gradient[i] = s->relu && !(got[i] > 0) ? 0.0 : (double)dy[i];
        }
        compare("y", s, dev->compute, got, want, count);
        if (masked)
            compare("dresidual", s, dev->compute, masked, gradient, count);
    }
    check_side(&main, dev, gradient, unbiased, all, truth);
    if (s->extra == SHORTCUT)
        check_side(&cut, dev, gradient, unbiased_cut, all, truth);
    check_infer(&main, dev, s->extra == RESIDUAL ? &residual : NULL, added, all, truth);
    npi_act acts[] = {residual, dresidual, ady, y};
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        dev->memory->free(dev, acts[i].data);
    void *host[] = {added, dy, masked, got, want, unbiased, unbiased_cut, gradient};
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    side_close(&main, dev);
    if (s->extra == SHORTCUT)
        side_close(&cut, dev);
}

/* kernels: instead of the device's own, or NULL. */
static void check_isa(const char *isa, npi_precision precision, const struct npi_kernels *kernels) {
    assert_int_equal(setenv("NPOS_ISA", isa, 1), 0);
    npi_device *devs[3];
    for (int t = 0; t < 3; t++) {
        assert_int_equal(npi_cpu_open(precision, t + 1, &devs[t]), NPOS_OK);
        if (kernels)
            npi_cpu_of(devs[t])->kernels = kernels;
    }
    largest_error = rms_error = 0.0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        record records[3] = {0};
        for (int t = 0; t < 3; t++) {
            run_shape(devs[t], &shapes[i], &records[t], t == 0);
            assert_int_equal(records[t].count, records[0].count);
            assert_memory_equal(records[t].values, records[0].values,
                                records[0].count * sizeof(float));
        }
        for (int t = 0; t < 3; t++)
            free(records[t].values);
    }
    print_message("%s: largest error %.1e of the rms, rms error %.1e\n", devs[0]->description,
                  largest_error, rms_error);
    for (int t = 0; t < 3; t++)
        npi_device_close(devs[t]);
    unsetenv("NPOS_ISA");
}

static void generic_fp32(void **state) {
    (void)state;
    check_isa("generic", NPI_PRECISION_FP32, NULL);
}

/* Winograd's way is taken where it saves products, and only in float32. */
static void winograd_planned(void **state) {
    (void)state;
    static const struct {
        npi_unit_desc desc;
        bool forward, back;
    } cases[] = {
        {{.c = 64, .h = 8, .w = 8, .out_c = 64, .kernel = 3, .stride = 1, .pad = 1}, true, true},
        {{.c = 32, .h = 7, .w = 8, .out_c = 33, .kernel = 3, .stride = 1, .pad = 1}, true, true},
        {{.c = 64, .h = 6, .w = 6, .out_c = 64, .kernel = 3, .stride = 1, .pad = 0}, true, false},
        {{.c = 64, .h = 3, .w = 3, .out_c = 64, .kernel = 3, .stride = 1, .pad = 1}, false, false},
        {{.c = 64, .h = 8, .w = 8, .out_c = 64, .kernel = 3, .stride = 2, .pad = 1}, false, false},
        {{.c = 64, .h = 8, .w = 8, .out_c = 64, .kernel = 1, .stride = 1, .pad = 0}, false, false},
        {{.c = 16, .h = 8, .w = 8, .out_c = 64, .kernel = 3, .stride = 1, .pad = 1}, false, false},
    };
    npi_device *dev;
    assert_int_equal(npi_cpu_open(NPI_PRECISION_FP32, 1, &dev), NPOS_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        npi_unit_desc desc = cases[i].desc;
        desc.name = "planned";
        desc.n = 32;
        desc.training = desc.needs_dx = true;
        npi_unit *unit;
        assert_int_equal(dev->units->create(dev, &desc, &unit), NPOS_OK);
        const char *variant = dev->units->variant(unit);
        assert_int_equal(strstr(variant, "fwd winograd") != NULL, cases[i].forward);
        assert_int_equal(strstr(variant, "bwd_x winograd") != NULL, cases[i].back);
        dev->units->free(dev, unit);
    }
    npi_device_close(dev);
}

static void need(npi_isa isa) {
    if (npi_cpu_detect() < isa) {
        print_message("this processor lacks %s\n", npi_isa_name(isa));
        skip();
    }
}

static void avx2_fp32(void **state) {
    (void)state;
    need(NPI_ISA_AVX2);
    check_isa("avx2", NPI_PRECISION_FP32, NULL);
}

static void avx512_fp32(void **state) {
    (void)state;
    need(NPI_ISA_AVX512);
    check_isa("avx512", NPI_PRECISION_FP32, NULL);
}

static void avx512bf16_bf16(void **state) {
    (void)state;
    need(NPI_ISA_AVX512BF16);
    check_isa("avx512bf16", NPI_PRECISION_BF16, NULL);
}

static void amx_bf16(void **state) {
    (void)state;
    need(NPI_ISA_AMX);
    check_isa("amx", NPI_PRECISION_BF16, NULL);
}

static void amx_emulated(void **state) {
    (void)state;
#if defined(HAVE_EMULATED_AMX)
    need(NPI_ISA_AVX512BF16);
    check_isa("avx512bf16", NPI_PRECISION_BF16, &npi_kernels_amx_emulated);
#else
    skip();
#endif
}

/* Every allocation of open and create fails once: an error, and nothing is left behind. */
static void out_of_memory(void **state) {
    (void)state;
    npi_unit_desc desc = {.name = "layer1.0.conv1",
                          .n = 33,
                          .c = 16,
                          .h = 5,
                          .w = 5,
                          .out_c = 32,
                          .kernel = 3,
                          .stride = 1,
                          .pad = 1,
                          .relu = true,
                          .needs_dx = true,
                          .training = true};
    size_t before = npi_memory_now();
    int failures = 0;
    for (int64_t nth = 1; nth < 100; nth++) {
        npi_device *dev = NULL;
        npi_unit *unit = NULL;
        npi_memory_fail_after(nth);
        npos_status status = npi_cpu_open(NPI_PRECISION_FP32, 2, &dev);
        if (status == NPOS_OK)
            status = dev->units->create(dev, &desc, &unit);
        npi_memory_fail_after(0);
        if (unit)
            dev->units->free(dev, unit);
        npi_device_close(dev);
        assert_int_equal(npi_memory_now(), before);
        if (status == NPOS_OK)
            break;
        assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        assert_null(unit);
        failures++;
    }
    assert_in_range(failures, 10, 90);
}

static void refusals(void **state) {
    (void)state;
    npi_device *dev;
    assert_int_equal(setenv("NPOS_ISA", "avx2", 1), 0);
    assert_int_equal(npi_cpu_open(NPI_PRECISION_BF16, 1, &dev), NPOS_UNSUPPORTED);
    assert_true(strlen(npos_error_hint()) > 0);
    assert_int_equal(setenv("NPOS_ISA", "avx3", 1), 0);
    assert_int_equal(npi_cpu_open(NPI_PRECISION_FP32, 1, &dev), NPOS_INVALID_ARGUMENT);
    assert_non_null(strstr(npos_error_message(), "avx3"));
    unsetenv("NPOS_ISA");
}

int main(void) {
    unsetenv("NPOS_ISA");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generic_fp32),     cmocka_unit_test(avx2_fp32),
        cmocka_unit_test(avx512_fp32),      cmocka_unit_test(avx512bf16_bf16),
        cmocka_unit_test(amx_bf16),         cmocka_unit_test(amx_emulated),
        cmocka_unit_test(out_of_memory),    cmocka_unit_test(refusals),
        cmocka_unit_test(winograd_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
