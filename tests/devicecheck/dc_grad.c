#include <math.h>
#include <stdio.h>

#include "dc.h"

/* Finite differences: with L(x) = sum_i r_i y_i(x), the gradient along a random direction e is
 * (L(x + t e) - L(x - t e)) / 2t.  Values are float32, sums here float64, so with t of 1e-2 the
 * quotient is good to about 1e-4 of |r||y|. */
void dc_check_direction(const dc_probe *p, float *x, size_t count, const float *gradient, double t,
                        double tolerance) {
    dc *d = p->d;
    float *start = dc_host(d, count * sizeof *start), *e = dc_normals(d, count, 1.0);
    double expected = 0.0, scale = 0.0;
    for (size_t i = 0; i < count; i++) {
        start[i] = x[i];
        expected += (double)e[i] * (double)gradient[i];
        scale += (double)gradient[i] * (double)gradient[i];
    }
    double value[2];
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < count; i++)
            x[i] = (float)((double)start[i] + (side ? t : -t) * (double)e[i]);
        value[side] = p->value(p->state);
    }
    for (size_t i = 0; i < count; i++)
        x[i] = start[i];
    double slope = (value[1] - value[0]) / (2.0 * t), error = fabs(slope - expected);
    d->compared++;
    if (!(error <= tolerance * fmax(sqrt(scale), 1e-3)))
        dc_fail(d, "%s: slope %.6g, gradient %.6g, |gradient| %.3g", p->name, slope, expected,
                sqrt(scale));
}

double dc_weighted(const float *r, const float *y, size_t count) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += (double)r[i] * (double)y[i];
    return sum;
}

/* ---- unit with residual, with and without ReLU ---- */

typedef struct unit_state {
    npi_device *dev;
    npi_unit *unit;
    npi_unit_params params;
    npi_act x, residual, y;
    float *r;
    size_t out;
} unit_state;

static double unit_value(void *state) {
    unit_state *s = state;
    if (s->dev->units->forward(s->unit, s->x, &s->params, &s->residual, NULL, NULL, &s->y) !=
        NPOS_OK)
        return NAN;
    return dc_weighted(s->r, s->y.data, s->out);
}

static void grad_unit(dc *d, bool relu, int stride, int kernel, bool frozen) {
    enum { N = 3, C = 4, H = 6, O = 5 };
    npi_device *dev = d->side[0];
    npi_unit_desc desc = {"grad", N,          C,    H,    H,    O,     kernel,
                          stride, kernel / 2, relu, true, true, false, frozen};
    int oh = (H + 2 * desc.pad - kernel) / stride + 1;
    size_t in = N * C * H * H, out = (size_t)(N * O * oh * oh),
           weights = (size_t)(O * C * kernel * kernel);
    unit_state s = {.dev = dev, .out = out};
    dc_case(d, "unit, kernel %d, stride %d%s%s", kernel, stride, relu ? ", relu" : "",
            frozen ? ", frozen" : "");
    float *stats = dc_host(d, 2 * O * sizeof *stats);
    s.params = (npi_unit_params){dc_normals(d, weights, 0.3), dc_normals(d, O, 1.0),
                                 dc_normals(d, O, 1.0), stats, stats + O};
    s.x = (npi_act){N, C, H, H, dc_normals(d, in, 1.0)};
    s.residual = (npi_act){N, O, oh, oh, dc_normals(d, out, 1.0)};
    for (size_t i = 0; i < out; i++) { /* far from ReLU's edge, where there is no gradient */
        float *a = &((float *)s.residual.data)[i];
        *a += *a > 0.0f ? 8.0f : -8.0f;
    }
    for (int i = 0; i < 2 * O && frozen; i++)
        stats[i] = 0.5f + 0.1f * (float)i;
    s.y = (npi_act){N, O, oh, oh, dc_host(d, out * 4)};
    s.r = dc_normals(d, out, 1.0);
    DC_RUN(dev->units->create(dev, &desc, &s.unit));
    unit_value(&s);
    npi_unit_params grads = {dc_host(d, weights * 4), dc_host(d, O * 4), dc_host(d, O * 4), NULL,
                             NULL};
    npi_act dy = {N, O, oh, oh, dc_host(d, out * 4)}, dx = {N, C, H, H, dc_host(d, in * 4)},
            dr = {N, O, oh, oh, dc_host(d, out * 4)};
    for (size_t i = 0; i < out; i++)
        ((float *)dy.data)[i] = s.r[i];
    npos_status status = dev->units->backward(s.unit, dy, s.x, &s.params, frozen ? NULL : &grads,
                                              &dx, false, &dr, NULL);
    if (dc_passed(d, "backward", status)) {
        double t = 5e-3, tolerance = 3e-3;
        dc_check_direction(&(dc_probe){d, "x", unit_value, &s}, s.x.data, in, dx.data, t,
                           tolerance);
        dc_check_direction(&(dc_probe){d, "residual", unit_value, &s}, s.residual.data, out,
                           dr.data, t, tolerance);
    }
    if (status == NPOS_OK && !frozen) {
        double t = 5e-3, tolerance = 3e-3;
        dc_check_direction(&(dc_probe){d, "weight", unit_value, &s}, s.params.weight, weights,
                           grads.weight, t * 0.3, tolerance);
        dc_check_direction(&(dc_probe){d, "gamma", unit_value, &s}, s.params.gamma, O, grads.gamma,
                           t, tolerance);
        dc_check_direction(&(dc_probe){d, "beta", unit_value, &s}, s.params.beta, O, grads.beta, t,
                           tolerance);
    }
    dev->units->free(dev, s.unit);
}

/* ---- rows ---- */

enum { ROWS = 7, IN = 9, OUT = 5 };

typedef struct rows_state {
    npi_device *dev;
    float *x, *weight, *bias, *y, *norms, *r;
} rows_state;

static double linear_value(void *state) {
    rows_state *s = state;
    if (s->dev->rows->linear_forward(s->dev, ROWS, IN, OUT, s->x, s->weight, s->bias, false,
                                     s->y) != NPOS_OK)
        return NAN;
    return dc_weighted(s->r, s->y, ROWS * OUT);
}

static void grad_linear(dc *d) {
    npi_device *dev = d->side[0];
    rows_state s = {dev,
                    dc_normals(d, ROWS * IN, 1.0),
                    dc_normals(d, OUT * IN, 1.0),
                    dc_normals(d, OUT, 1.0),
                    dc_host(d, ROWS * OUT * 4),
                    NULL,
                    dc_normals(d, ROWS * OUT, 1.0)};
    float *dw = dc_host(d, OUT * IN * 4), *db = dc_host(d, OUT * 4),
          *dx = dc_host(d, ROWS * IN * 4);
    float *dy = dc_host(d, ROWS * OUT * 4);
    for (int i = 0; i < ROWS * OUT; i++)
        dy[i] = s.r[i];
    dc_case(d, "linear");
    DC_RUN(dev->rows->linear_backward(dev, ROWS, IN, OUT, s.x, s.weight, s.y, false, dy, dw, db, dx,
                                      ROWS, false));
    dc_check_direction(&(dc_probe){d, "x", linear_value, &s}, s.x, ROWS * IN, dx, 1e-2, 1e-3);
    dc_check_direction(&(dc_probe){d, "weight", linear_value, &s}, s.weight, OUT * IN, dw, 1e-2,
                       1e-3);
    dc_check_direction(&(dc_probe){d, "bias", linear_value, &s}, s.bias, OUT, db, 1e-2, 1e-3);
}

static double normalize_value(void *state) {
    rows_state *s = state;
    if (s->dev->rows->normalize_forward(s->dev, ROWS, IN, s->x, s->y, s->norms) != NPOS_OK)
        return NAN;
    return dc_weighted(s->r, s->y, ROWS * IN);
}

static void grad_normalize(dc *d) {
    npi_device *dev = d->side[0];
    rows_state s = {.dev = dev,
                    .x = dc_normals(d, ROWS * IN, 1.0),
                    .y = dc_host(d, ROWS * IN * 4),
                    .norms = dc_host(d, ROWS * 4),
                    .r = dc_normals(d, ROWS * IN, 1.0)};
    float *dx = dc_host(d, ROWS * IN * 4);
    dc_case(d, "normalize");
    normalize_value(&s);
    DC_RUN(dev->rows->normalize_backward(dev, ROWS, IN, s.y, s.norms, s.r, dx, false));
    dc_check_direction(&(dc_probe){d, "x", normalize_value, &s}, s.x, ROWS * IN, dx, 3e-3, 2e-3);
}

/* ---- losses ---- */

enum { SAMPLES = 20, CLASSES = 4, DIM = 6 };

typedef struct loss_state {
    npi_device *dev;
    npi_contrast_desc desc;
    float *x, *mu, *moved, *dx, losses[NPI_LOSS_COUNT];
    int32_t *labels;
    void *workspace;
    int which; /* 0 disp, 1 cross-entropy, 2 bce */
} loss_state;

/* The dispersion alone: of the compactness the gradient holds the prototypes constant, which a
 * difference quotient does not. */
static double loss_value(void *state) {
    loss_state *s = state;
    npi_device *dev = s->dev;
    for (int i = 0; i < CLASSES * DIM; i++)
        s->moved[i] = s->mu[i];
    npos_status status =
        s->which == 0 ? dev->losses->contrast(dev, &s->desc, s->x, s->labels, s->moved, s->losses,
                                              s->dx, s->workspace)
        : s->which == 1
            ? dev->losses->cross_entropy(dev, SAMPLES, DIM, s->x, s->labels, 1.0f, s->losses, s->dx)
            : dev->losses->outlier_bce(dev, SAMPLES, SAMPLES * (DIM - 1), s->x, 1.0f, s->losses,
                                       s->dx);
    static const int at[] = {NPI_LOSS_DISP, NPI_LOSS_CE, NPI_LOSS_OPEN};
    return status == NPOS_OK ? (double)s->losses[at[s->which]] : NAN;
}

static void grad_losses(dc *d) {
    static const char *const names[] = {"dispersion", "cross entropy", "outlier bce"};
    npi_device *dev = d->side[0];
    for (int which = 0; which < 3; which++) {
        size_t count = SAMPLES * DIM;
        loss_state s = {.dev = dev,
                        .desc = {SAMPLES, CLASSES, DIM, 0.7f, 0.5f, 1.0f, 0.0f},
                        .x = dc_normals(d, count, 1.0),
                        .mu = dc_normals(d, CLASSES * DIM, 1.0),
                        .moved = dc_host(d, CLASSES * DIM * 4),
                        .dx = dc_host(d, count * 4),
                        .labels = dc_labels(d, SAMPLES, CLASSES, which == 0),
                        .which = which};
        s.workspace = dc_host(d, dev->losses->contrast_workspace(dev, &s.desc));
        float *gradient = dc_host(d, count * 4);
        dc_case(d, "%s", names[which]);
        loss_value(&s);
        for (size_t i = 0; i < count; i++)
            gradient[i] = s.dx[i];
        dc_check_direction(&(dc_probe){d, "x", loss_value, &s}, s.x, count, gradient, 1e-2, 5e-3);
    }
}

/* The compactness' gradient at momentum 1, where the prototypes do not move. */
static double compactness_value(void *state) {
    loss_state *s = state;
    loss_value(s);
    return (double)s->losses[NPI_LOSS_COMP];
}

static void grad_compactness(dc *d) {
    npi_device *dev = d->side[0];
    size_t count = SAMPLES * DIM;
    loss_state s = {.dev = dev,
                    .desc = {SAMPLES, CLASSES, DIM, 1.0f, 0.5f, 0.0f, 1.0f},
                    .x = dc_normals(d, count, 1.0),
                    .mu = dc_normals(d, CLASSES * DIM, 1.0),
                    .moved = dc_host(d, CLASSES * DIM * 4),
                    .dx = dc_host(d, count * 4),
                    .labels = dc_labels(d, SAMPLES, CLASSES, true)};
    s.workspace = dc_host(d, dev->losses->contrast_workspace(dev, &s.desc));
    float *gradient = dc_host(d, count * 4);
    dc_case(d, "compactness");
    loss_value(&s);
    for (size_t i = 0; i < count; i++)
        gradient[i] = s.dx[i];
    dc_check_direction(&(dc_probe){d, "x", compactness_value, &s}, s.x, count, gradient, 1e-2,
                       5e-3);
}

/* ---- pooling ---- */

typedef struct pool_state {
    npi_device *dev;
    npi_act x, y;
    uint8_t *index;
    float *r;
    bool mean;
} pool_state;

static double pool_value(void *state) {
    pool_state *s = state;
    npos_status status = s->mean ? s->dev->pools->mean_forward(s->dev, s->x, s->y.data)
                                 : s->dev->pools->max_forward(s->dev, s->x, s->y, s->index);
    size_t count = s->mean ? 6 : 6 * 9;
    return status == NPOS_OK ? dc_weighted(s->r, s->y.data, count) : NAN;
}

static void grad_pools(dc *d) {
    npi_device *dev = d->side[0];
    for (int mean = 0; mean < 2; mean++) {
        pool_state s = {dev,
                        {2, 3, 5, 5, dc_normals(d, 150, 1.0)},
                        {2, 3, 3, 3, dc_host(d, 54 * 4)},
                        dc_host(d, 54),
                        dc_normals(d, 54, 1.0),
                        mean};
        npi_act dx = {2, 3, 5, 5, dc_host(d, 150 * 4)}, dy = {2, 3, 3, 3, s.r};
        dc_case(d, "%s pooling", mean ? "mean" : "max");
        pool_value(&s);
        DC_RUN(mean ? dev->pools->mean_backward(dev, s.r, dx)
                    : dev->pools->max_backward(dev, dy, s.index, dx));
        dc_check_direction(&(dc_probe){d, "x", pool_value, &s}, s.x.data, 150, dx.data, 1e-4, 1e-2);
    }
}

void dc_grad(dc *d) {
    for (int relu = 0; relu < 2; relu++) {
        grad_unit(d, relu, 1, 3, false);
        grad_unit(d, relu, 2, 3, false);
        grad_unit(d, relu, 2, 1, false);
        grad_unit(d, true, 1, 3, true);
        grad_unit(d, false, 2, 1, true);
    }
    grad_linear(d);
    grad_normalize(d);
    grad_losses(d);
    grad_compactness(d);
    grad_pools(d);
    dc_grad_blocks(d);
    printf("%s finite differences: %d directions\n", d->failed ? "FAIL" : "ok  ", d->compared);
}
