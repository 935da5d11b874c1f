#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "devices/reference/ref.h"

static const double epsilon = 1e-5, running = 0.1; /* of batch norm */

/* What a forward pass keeps for its backward pass: the convolution's output c, the statistics m and
 * 1/sqrt(v + eps), and where ReLU let through. */
struct npi_unit {
    npi_device *dev;
    npi_unit_desc desc;
    char *name;
    int oh, ow;
    float *conv;          /* [n][out_c][oh][ow] */
    double *mean, *scale; /* [out_c]: m and 1/sqrt(v + eps) of the newest forward */
    uint8_t *passed;      /* [n][out_c][oh][ow]: y > 0, or 1 everywhere without ReLU */
    bool ran;             /* forward was called: conv and statistics are there */
};

static size_t plane_size(const npi_unit *u) {
    return (size_t)u->oh * (size_t)u->ow;
}

static npi_act conv_act(const npi_unit *u) {
    return (npi_act){u->desc.n, u->desc.out_c, u->oh, u->ow, u->conv};
}

static void unit_free(npi_device *dev, npi_unit *unit) {
    (void)dev;
    if (!unit)
        return;
    npi_free(unit->name);
    npi_free(unit->conv);
    npi_free(unit->mean);
    npi_free(unit->scale);
    npi_free(unit->passed);
    npi_free(unit);
}

static npos_status unit_create(npi_device *dev, const npi_unit_desc *desc, npi_unit **out) {
    const npi_unit_desc *d = desc;
    const char *name = d->name ? d->name : "unnamed";
    *out = NULL;
    if (d->n < 1 || d->c < 1 || d->h < 1 || d->w < 1 || d->out_c < 1 || d->kernel < 1 ||
        d->stride < 1 || d->pad < 0)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "unit '%s': input %d x %d x %d x %d, %d channels out, kernel %d, stride "
                        "%d, padding %d; expected sizes of at least 1",
                        name, d->n, d->c, d->h, d->w, d->out_c, d->kernel, d->stride, d->pad);
    if (d->h + 2 * d->pad < d->kernel || d->w + 2 * d->pad < d->kernel)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "unit '%s': a kernel of %d does not fit into %d x %d with padding %d", name,
                        d->kernel, d->h, d->w, d->pad);
    npi_unit *u;
    NPI_TRY(npi_alloc(&u, 1, sizeof *u, name));
    u->dev = dev;
    u->desc = *d;
    u->oh = (d->h + 2 * d->pad - d->kernel) / d->stride + 1;
    u->ow = (d->w + 2 * d->pad - d->kernel) / d->stride + 1;
    size_t count = (size_t)d->n * (size_t)d->out_c * plane_size(u), channels = (size_t)d->out_c;
    npos_status status;
    NPI_TRY_GOTO(npi_strdup(&u->name, name), fail);
    NPI_TRY_GOTO(npi_alloc(&u->conv, count, sizeof *u->conv, name), fail);
    NPI_TRY_GOTO(npi_alloc(&u->mean, channels, sizeof *u->mean, name), fail);
    NPI_TRY_GOTO(npi_alloc(&u->scale, channels, sizeof *u->scale, name), fail);
    NPI_TRY_GOTO(npi_alloc(&u->passed, count, 1, name), fail);
    *out = u;
    return NPOS_OK;
fail:
    unit_free(dev, u);
    return status;
}

static size_t weight_count(const npi_unit *u) {
    return (size_t)u->desc.out_c * (size_t)u->desc.c * (size_t)u->desc.kernel *
           (size_t)u->desc.kernel;
}

/* This device's weights are OIHW. */
static npos_status weight_import(npi_unit *unit, const float *host_oihw, float *weight) {
    memcpy(weight, host_oihw, weight_count(unit) * sizeof *weight);
    return NPOS_OK;
}

static npos_status weight_export(npi_unit *unit, const float *weight, float *host_oihw) {
    memcpy(host_oihw, weight, weight_count(unit) * sizeof *weight);
    return NPOS_OK;
}

static npos_status pack(npi_unit *unit, const npi_unit_params *params) {
    (void)unit;
    (void)params;
    return NPOS_OK; /* the weights are used as they are */
}

/* ---- convolution ---- */

/* Output coordinates [first, last) whose input coordinate o * stride - pad + tap lies in
 * 0..size-1. */
static void outputs_inside(const npi_unit *u, int tap, int size, int out, int *first, int *last) {
    int shift = u->desc.pad - tap, stride = u->desc.stride;
    *first = shift > 0 ? (shift + stride - 1) / stride : 0;
    *last = size - 1 + shift < 0 ? 0 : (size - 1 + shift) / stride + 1;
    *last = *last < out ? *last : out;
}

/* What the three convolutions below do at tap (ky, kx) of channels (o, c) of one image. */
typedef struct tap {
    int y0, y1, x0, x1; /* outputs that exist */
    ptrdiff_t shift;    /* input offset of output (0, 0) */
    size_t weight;      /* place in OIHW */
} tap;

static tap tap_at(const npi_unit *u, int o, int c, int ky, int kx) {
    tap t;
    outputs_inside(u, ky, u->desc.h, u->oh, &t.y0, &t.y1);
    outputs_inside(u, kx, u->desc.w, u->ow, &t.x0, &t.x1);
    t.shift = (ptrdiff_t)(ky - u->desc.pad) * u->desc.w + kx - u->desc.pad;
    t.weight = (((size_t)o * (size_t)u->desc.c + (size_t)c) * (size_t)u->desc.kernel + (size_t)ky) *
                   (size_t)u->desc.kernel +
               (size_t)kx;
    return t;
}

/* c[n][o][y][x] = sum over i, ky, kx of w[o][i][ky][kx] x[n][i][y s - p + ky][x s - p + kx] */
static npos_status convolve(npi_unit *u, npi_act x, const float *weight) {
    const npi_unit_desc *d = &u->desc;
    double *sum;
    NPI_TRY(npi_ref_scratch(u->dev, plane_size(u) * sizeof *sum, &sum));
    for (int n = 0; n < d->n; n++)
        for (int o = 0; o < d->out_c; o++) {
            memset(sum, 0, plane_size(u) * sizeof *sum);
            for (int c = 0; c < d->c; c++)
                for (int k = 0; k < d->kernel * d->kernel; k++) {
                    tap t = tap_at(u, o, c, k / d->kernel, k % d->kernel);
                    const float *from = npi_ref_plane(x, n, c);
                    double w = (double)weight[t.weight];
                    for (int oy = t.y0; oy < t.y1; oy++)
                        for (int ox = t.x0; ox < t.x1; ox++)
                            sum[oy * u->ow + ox] +=
                                w * (double)from[(oy * d->w + ox) * d->stride + t.shift];
                }
            float *to = npi_ref_plane(conv_act(u), n, o);
            for (size_t i = 0; i < plane_size(u); i++)
                to[i] = (float)sum[i];
        }
    return NPOS_OK;
}

/* dw[o][i][ky][kx] = sum over n, y, x of dc[n][o][y][x] x[n][i][y s - p + ky][x s - p + kx] */
static void convolve_to_weights(const npi_unit *u, npi_act dc, npi_act x, float *dweight) {
    const npi_unit_desc *d = &u->desc;
    for (int o = 0; o < d->out_c; o++)
        for (int c = 0; c < d->c; c++)
            for (int k = 0; k < d->kernel * d->kernel; k++) {
                tap t = tap_at(u, o, c, k / d->kernel, k % d->kernel);
                double sum = 0.0;
                for (int n = 0; n < d->n; n++) {
                    const float *from = npi_ref_plane(x, n, c), *g = npi_ref_plane(dc, n, o);
                    for (int oy = t.y0; oy < t.y1; oy++)
                        for (int ox = t.x0; ox < t.x1; ox++)
                            sum += (double)g[oy * u->ow + ox] *
                                   (double)from[(oy * d->w + ox) * d->stride + t.shift];
                }
                dweight[t.weight] = (float)sum;
            }
}

/* dx[n][i][y s - p + ky][x s - p + kx] (+)= sum over o, ky, kx of w[o][i][ky][kx] dc[n][o][y][x] */
static npos_status convolve_to_data(npi_unit *u, npi_act dc, const float *weight, npi_act dx,
                                    bool accumulate) {
    const npi_unit_desc *d = &u->desc;
    size_t count = (size_t)d->h * (size_t)d->w;
    double *sum;
    NPI_TRY(npi_ref_scratch(u->dev, count * sizeof *sum, &sum));
    for (int n = 0; n < d->n; n++)
        for (int c = 0; c < d->c; c++) {
            memset(sum, 0, count * sizeof *sum);
            for (int o = 0; o < d->out_c; o++)
                for (int k = 0; k < d->kernel * d->kernel; k++) {
                    tap t = tap_at(u, o, c, k / d->kernel, k % d->kernel);
                    const float *g = npi_ref_plane(dc, n, o);
                    double w = (double)weight[t.weight];
                    for (int oy = t.y0; oy < t.y1; oy++)
                        for (int ox = t.x0; ox < t.x1; ox++)
                            sum[(oy * d->w + ox) * d->stride + t.shift] +=
                                w * (double)g[oy * u->ow + ox];
                }
            float *to = npi_ref_plane(dx, n, c);
            for (size_t i = 0; i < count; i++)
                to[i] = accumulate ? (float)((double)to[i] + sum[i]) : (float)sum[i];
        }
    return NPOS_OK;
}

/* ---- batch norm ---- */

/* m and v over n, y, x by channel; the running statistics move a tenth of the way, the variance by
 * its unbiased value (with one element there is none, and the biased one, 0, is taken). */
static void take_statistics(npi_unit *u, const npi_unit_params *params) {
    double count = (double)u->desc.n * (double)plane_size(u);
    for (int o = 0; o < u->desc.out_c; o++) {
        double sum = 0.0, squares = 0.0;
        for (int n = 0; n < u->desc.n; n++) {
            const float *c = npi_ref_plane(conv_act(u), n, o);
            for (size_t i = 0; i < plane_size(u); i++)
                sum += (double)c[i];
        }
        double mean = sum / count;
        for (int n = 0; n < u->desc.n; n++) {
            const float *c = npi_ref_plane(conv_act(u), n, o);
            for (size_t i = 0; i < plane_size(u); i++)
                squares += ((double)c[i] - mean) * ((double)c[i] - mean);
        }
        double variance = squares / count, unbiased = count > 1.0 ? squares / (count - 1.0) : 0.0;
        u->mean[o] = mean;
        u->scale[o] = 1.0 / sqrt(variance + epsilon);
        float *m = &params->running_mean[o], *v = &params->running_var[o];
        *m = (float)((double)*m + running * (mean - (double)*m));
        *v = (float)((double)*v + running * (unbiased - (double)*v));
    }
}

static void take_running_statistics(npi_unit *u, const npi_unit_params *params) {
    for (int o = 0; o < u->desc.out_c; o++) {
        u->mean[o] = (double)params->running_mean[o];
        u->scale[o] = 1.0 / sqrt((double)params->running_var[o] + epsilon);
    }
}

/* u = (c - m) / sqrt(v + eps) gamma + beta, of element i of plane (n, o) */
static double normalised(const npi_unit *u, const npi_unit_params *params, int n, int o, size_t i) {
    double c = (double)npi_ref_plane(conv_act(u), n, o)[i];
    return (c - u->mean[o]) * u->scale[o] * (double)params->gamma[o] + (double)params->beta[o];
}

/* y = relu?( u + residual or the shortcut's u ) */
static void apply(npi_unit *u, const npi_unit_params *params, const npi_act *residual,
                  const npi_unit *shortcut, const npi_unit_params *shortcut_params, npi_act y) {
    for (int n = 0; n < u->desc.n; n++)
        for (int o = 0; o < u->desc.out_c; o++) {
            float *to = npi_ref_plane(y, n, o);
            uint8_t *passed =
                u->passed + ((size_t)n * (size_t)u->desc.out_c + (size_t)o) * plane_size(u);
            for (size_t i = 0; i < plane_size(u); i++) {
                double value = normalised(u, params, n, o, i);
                if (residual)
                    value += (double)npi_ref_plane(*residual, n, o)[i];
                if (shortcut)
                    value += normalised(shortcut, shortcut_params, n, o, i);
                passed[i] = !u->desc.relu || value > 0.0;
                to[i] = u->desc.relu && value <= 0.0 ? 0.0f : (float)value;
            }
        }
}

/* ---- the entries ---- */

static npos_status in_unit(const npi_unit *u, npos_status status) {
    return status == NPOS_OK ? status : npi_fail_in(status, "unit '%s'", u->name);
}

static npos_status check_input(const npi_unit *u, const char *what, npi_act act) {
    const npi_unit_desc *d = &u->desc;
    return in_unit(u, npi_ref_check_act(what, act, d->n, d->c, d->h, d->w));
}

static npos_status check_output(const npi_unit *u, const char *what, npi_act act) {
    return in_unit(u, npi_ref_check_act(what, act, u->desc.n, u->desc.out_c, u->oh, u->ow));
}

static npos_status forward(npi_unit *unit, npi_act x, const npi_unit_params *params,
                           const npi_act *residual, npi_unit *shortcut,
                           const npi_unit_params *shortcut_params, npi_act *y) {
    if (!unit->desc.training)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "unit '%s': forward, but it was planned for "
                        "inference",
                        unit->name);
    if (residual && shortcut)
        return npi_fail(NPOS_INVALID_ARGUMENT, "unit '%s': both a residual and a shortcut",
                        unit->name);
    if (!y && (unit->desc.relu || residual || shortcut))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "unit '%s': without y it is a shortcut, which has no ReLU and no residual",
                        unit->name);
    if (shortcut && !shortcut->ran)
        return npi_fail(NPOS_INVALID_ARGUMENT, "unit '%s': its shortcut '%s' was not run",
                        unit->name, shortcut->name);
    NPI_TRY(check_input(unit, "x", x));
    if (y)
        NPI_TRY(check_output(unit, "y", *y));
    if (residual)
        NPI_TRY(check_output(unit, "residual", *residual));
    if (shortcut)
        NPI_TRY(check_output(unit, "shortcut", conv_act(shortcut)));
    NPI_TRY(convolve(unit, x, params->weight));
    if (unit->desc.frozen)
        take_running_statistics(unit, params);
    else
        take_statistics(unit, params);
    unit->ran = true;
    if (y)
        apply(unit, params, residual, shortcut, shortcut_params, *y);
    else
        memset(unit->passed, 1, (size_t)unit->desc.n * (size_t)unit->desc.out_c * plane_size(unit));
    return NPOS_OK;
}

static npos_status infer(npi_unit *unit, npi_act x, const npi_unit_params *params,
                         const npi_act *residual, npi_act *y) {
    NPI_TRY(check_input(unit, "x", x));
    NPI_TRY(check_output(unit, "y", *y));
    if (residual)
        NPI_TRY(check_output(unit, "residual", *residual));
    NPI_TRY(convolve(unit, x, params->weight));
    take_running_statistics(unit, params);
    unit->ran = false; /* what a forward kept is overwritten */
    apply(unit, params, residual, NULL, NULL, *y);
    return NPOS_OK;
}

/* With g = dy where ReLU let through, xh = (c - m) / sqrt(v + eps), and means over n, y, x:
 *     dbeta = sum g,  dgamma = sum g xh,  dc = gamma / sqrt(v + eps) (g - mean g - xh mean(g xh))
 * dy becomes dc in place.  In a frozen unit m and v are constants: dc = gamma / sqrt(v + eps) g. */
static void through_norm(npi_unit *u, npi_act dy, const npi_unit_params *params,
                         const npi_unit_params *grads, const npi_act *dresidual) {
    double count = (double)u->desc.n * (double)plane_size(u);
    for (int o = 0; o < u->desc.out_c; o++) {
        double sum = 0.0, along = 0.0;
        for (int n = 0; n < u->desc.n; n++) {
            float *g = npi_ref_plane(dy, n, o), *c = npi_ref_plane(conv_act(u), n, o);
            const uint8_t *passed =
                u->passed + ((size_t)n * (size_t)u->desc.out_c + (size_t)o) * plane_size(u);
            for (size_t i = 0; i < plane_size(u); i++) {
                g[i] = passed[i] ? g[i] : 0.0f;
                sum += (double)g[i];
                along += (double)g[i] * ((double)c[i] - u->mean[o]) * u->scale[o];
            }
            if (dresidual)
                memcpy(npi_ref_plane(*dresidual, n, o), g, plane_size(u) * sizeof *g);
        }
        if (u->desc.frozen) {
            sum = along = 0.0;
        } else {
            grads->beta[o] = (float)sum;
            grads->gamma[o] = (float)along;
        }
        for (int n = 0; n < u->desc.n; n++) {
            float *g = npi_ref_plane(dy, n, o), *c = npi_ref_plane(conv_act(u), n, o);
            for (size_t i = 0; i < plane_size(u); i++) {
                double xh = ((double)c[i] - u->mean[o]) * u->scale[o];
                g[i] = (float)((double)params->gamma[o] * u->scale[o] *
                               ((double)g[i] - sum / count - xh * along / count));
            }
        }
    }
}

static npos_status backward(npi_unit *unit, npi_act dy, npi_act x, const npi_unit_params *params,
                            const npi_unit_params *grads, npi_act *dx, bool accumulate,
                            npi_act *dresidual, npi_unit *before) {
    (void)before;
    if (!unit->ran)
        return npi_fail(NPOS_INVALID_ARGUMENT, "unit '%s': backward without a training forward",
                        unit->name);
    NPI_TRY(check_output(unit, "dy", dy));
    NPI_TRY(check_input(unit, "x", x));
    if (!dx && unit->desc.needs_dx)
        return npi_fail(NPOS_INVALID_ARGUMENT, "unit '%s': dx is missing", unit->name);
    if (dx)
        NPI_TRY(check_input(unit, "dx", *dx));
    if (dresidual)
        NPI_TRY(check_output(unit, "dresidual", *dresidual));
    through_norm(unit, dy, params, grads, dresidual);
    if (!unit->desc.frozen)
        convolve_to_weights(unit, dy, x, grads->weight);
    return dx ? convolve_to_data(unit, dy, params->weight, *dx, accumulate) : NPOS_OK;
}

static const char *variant(npi_unit *unit) {
    (void)unit;
    return "plain loops, sums in float64";
}

const npi_unit_ops npi_ref_units = {.create = unit_create,
                                    .free = unit_free,
                                    .weight_import = weight_import,
                                    .weight_export = weight_export,
                                    .pack = pack,
                                    .forward = forward,
                                    .infer = infer,
                                    .backward = backward,
                                    .variant = variant};
