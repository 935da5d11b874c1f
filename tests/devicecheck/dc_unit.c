#include <stdio.h>
#include <string.h>

#include "dc.h"

static float *uniform_between(dc *d, int count, double low, double high) {
    float *out = dc_host(d, (size_t)count * sizeof *out);
    for (int i = 0; i < count; i++)
        out[i] = (float)(low + (high - low) * (double)npi_unit_float(dc_bits(d)));
    return out;
}

bool dc_unit_make(dc *d, dc_unit *u, npi_unit_desc desc) {
    size_t weights = (size_t)desc.out_c * (size_t)desc.c * (size_t)(desc.kernel * desc.kernel);
    size_t channels = (size_t)desc.out_c * sizeof(float);
    *u = (dc_unit){.desc = desc,
                   .oh = (desc.h + 2 * desc.pad - desc.kernel) / desc.stride + 1,
                   .ow = (desc.w + 2 * desc.pad - desc.kernel) / desc.stride + 1};
    double fan = (double)desc.c * desc.kernel * desc.kernel;
    float *oihw = dc_act_normals(d, weights, 1.4 / __builtin_sqrt(fan));
    u->weight = dc_output(d, "weight", weights * sizeof(float));
    u->gamma = dc_input(d, "gamma", uniform_between(d, desc.out_c, 0.5, 1.5), channels);
    u->beta = dc_input(d, "beta", uniform_between(d, desc.out_c, -0.5, 0.5), channels);
    u->mean = dc_input(d, "running_mean", uniform_between(d, desc.out_c, -0.1, 0.1), channels);
    u->var = dc_input(d, "running_var", uniform_between(d, desc.out_c, 0.5, 2.0), channels);
    u->dweight = dc_output(d, "dweight", weights * sizeof(float));
    u->dgamma = dc_output(d, "dgamma", channels);
    u->dbeta = dc_output(d, "dbeta", channels);
    for (int s = 0; s < 2; s++) {
        const npi_unit_ops *units = d->side[s]->units;
        npi_unit_params params = dc_unit_params(u, s);
        if (!dc_passed(d, "create", units->create(d->side[s], &desc, &u->unit[s])) ||
            !dc_passed(d, "weight_import", units->weight_import(u->unit[s], oihw, params.weight)) ||
            !dc_passed(d, "pack", units->pack(u->unit[s], &params)))
            return false;
        float *back = dc_host(d, weights * sizeof *back);
        if (!dc_passed(d, "weight_export", units->weight_export(u->unit[s], params.weight, back)))
            return false;
        dc_compare(d, "weight_export", weights, oihw, back, DC_EXACT);
    }
    dc_guards(d, u->weight);
    if (d->verbose)
        printf("     %-44s %s\n", d->shape, d->side[1]->units->variant(u->unit[1]));
    return true;
}

void dc_unit_free(dc *d, dc_unit *u) {
    for (int s = 0; s < 2; s++)
        if (u->unit[s])
            d->side[s]->units->free(d->side[s], u->unit[s]);
}

npi_unit_params dc_unit_params(const dc_unit *u, int side) {
    return (npi_unit_params){dc_at(u->weight, side), dc_at(u->gamma, side), dc_at(u->beta, side),
                             dc_at(u->mean, side), dc_at(u->var, side)};
}

npi_unit_params dc_unit_grads(const dc_unit *u, int side) {
    return (npi_unit_params){.weight = dc_at(u->dweight, side),
                             .gamma = dc_at(u->dgamma, side),
                             .beta = dc_at(u->dbeta, side)};
}

void dc_unit_check_grads(dc *d, const dc_unit *u) {
    size_t count = u->dweight->bytes[1] / sizeof(float);
    float *oihw[2];
    for (int s = 0; s < 2; s++) {
        oihw[s] = dc_host(d, count * sizeof(float));
        DC_RUN(d->side[s]->units->weight_export(u->unit[s], dc_at(u->dweight, s), oihw[s]));
    }
    dc_guards(d, u->dweight);
    dc_compare(d, "dweight", count, oihw[0], oihw[1], DC_PARAM_GRAD);
    dc_floats(d, u->dgamma, DC_PARAM_GRAD);
    dc_floats(d, u->dbeta, DC_PARAM_GRAD);
}

void dc_unit_check_stats(dc *d, const dc_unit *u) {
    dc_floats(d, u->mean, DC_STATS);
    dc_floats(d, u->var, DC_STATS);
}

/* ---- import and export ---- */

void dc_check_acts(dc *d) {
    static const int shapes[][4] = {{1, 3, 5, 7}, {31, 16, 3, 3}, {33, 24, 2, 5}, {64, 48, 4, 4}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int *s = shapes[i];
        dc_case(d, "%d x %d x %d x %d", s[0], s[1], s[2], s[3]);
        float *x = dc_act_normals(d, (size_t)(s[0] * s[1] * s[2] * s[3]), 10.0);
        dc_act_check(d, dc_act_input(d, "x", s[0], s[1], s[2], s[3], x), DC_EXACT);
    }
}

/* ---- one unit ---- */

typedef struct shape {
    int n, c, h, w, out_c, kernel, stride;
    bool relu, residual, dx, accumulate;
    double scale;
} shape;

static const shape shapes[] = {
    /* n, c, h, w, out, k, s, relu, residual, dx, accumulate, scale of x */
    {2, 3, 8, 8, 16, 3, 1, true, false, false, false, 1.0},
    {33, 3, 6, 6, 64, 3, 1, true, false, false, false, 1.0},
    {3, 3, 17, 19, 64, 7, 2, true, false, false, false, 1.0},
    {31, 16, 5, 7, 24, 3, 1, true, true, true, false, 1.0},
    {32, 24, 6, 6, 48, 3, 2, true, false, true, true, 1.0},
    {64, 32, 4, 4, 32, 3, 1, false, false, true, false, 1.0},
    {1, 64, 9, 5, 64, 3, 1, true, true, true, true, 1.0},
    {33, 48, 7, 5, 16, 1, 1, true, false, true, false, 1.0},
    {7, 32, 6, 6, 64, 1, 2, false, false, true, true, 1.0},
    {5, 128, 4, 4, 128, 3, 1, true, true, true, false, 1.0},
    {4, 128, 4, 4, 256, 3, 2, true, false, true, false, 1.0},
    {2, 256, 3, 3, 512, 1, 1, true, false, true, false, 1.0},
    {3, 512, 2, 2, 64, 3, 1, true, true, true, true, 1.0},
    {33, 1, 6, 6, 16, 3, 1, true, false, false, false, 1.0},
    {9, 64, 16, 16, 64, 3, 1, true, true, true, true, 1.0},
    {9, 3, 16, 32, 64, 3, 1, true, false, false, false, 1.0},
    {16, 16, 6, 6, 16, 3, 1, true, true, true, false, 1e3},  /* large */
    {16, 16, 6, 6, 16, 3, 1, true, false, true, false, 1e-2} /* small: v is near epsilon */
};

static npi_unit_desc desc_of(const shape *s, const char *name, bool training) {
    return (npi_unit_desc){.name = name,
                           .n = s->n,
                           .c = s->c,
                           .h = s->h,
                           .w = s->w,
                           .out_c = s->out_c,
                           .kernel = s->kernel,
                           .stride = s->stride,
                           .pad = s->kernel / 2,
                           .relu = s->relu,
                           .residual = s->residual,
                           .needs_dx = s->dx,
                           .training = training};
}

static void name_case(dc *d, const shape *s) {
    dc_case(d, "%d x %d x %d x %d -> %d, kernel %d, stride %d%s%s%s, scale %g", s->n, s->c, s->h,
            s->w, s->out_c, s->kernel, s->stride, s->relu ? ", relu" : "",
            s->residual ? ", residual" : "", s->accumulate ? ", accumulate" : "", s->scale);
}

static size_t volume(int n, int c, int h, int w) {
    return (size_t)n * (size_t)c * (size_t)h * (size_t)w;
}

/* A random gradient of y, 0 where rounding put the two sides on different sides of ReLU's edge. */
static dc_act gradient_of(dc *d, dc_act y) {
    size_t count = volume(y.n, y.c, y.h, y.w);
    const float *a = dc_act_read(d, y, 0), *b = dc_act_read(d, y, 1);
    float *g = dc_act_normals(d, count, 1.0);
    for (size_t i = 0; i < count; i++)
        if ((a[i] > 0.0f) != (b[i] > 0.0f))
            g[i] = 0.0f;
    return dc_act_input(d, "dy", y.n, y.c, y.h, y.w, g);
}

static void run_unit(dc *d, const shape *s, dc_unit *u) {
    size_t in = volume(s->n, s->c, s->h, s->w), out = volume(s->n, s->out_c, u->oh, u->ow);
    dc_act x = dc_act_input(d, "x", s->n, s->c, s->h, s->w, dc_act_normals(d, in, s->scale));
    dc_act y = dc_act_output(d, "y", s->n, s->out_c, u->oh, u->ow), residual = {0}, dresidual = {0};
    if (s->residual) {
        residual =
            dc_act_input(d, "residual", s->n, s->out_c, u->oh, u->ow, dc_act_normals(d, out, 1.0));
        dresidual = dc_act_output(d, "dresidual", s->n, s->out_c, u->oh, u->ow);
    }
    dc_act dx = dc_act_output(d, "dx", s->n, s->c, s->h, s->w);
    if (s->accumulate)
        dx = dc_act_input(d, "dx", s->n, s->c, s->h, s->w, dc_act_normals(d, in, 0.5 / s->scale));
    for (int i = 0; i < 2; i++) {
        npi_unit_params params = dc_unit_params(u, i);
        npi_act to = dc_act_at(y, i), add;
        if (s->residual)
            add = dc_act_at(residual, i);
        DC_RUN(d->side[i]->units->forward(u->unit[i], dc_act_at(x, i), &params,
                                          s->residual ? &add : NULL, NULL, NULL, &to));
    }
    dc_act dy = gradient_of(d, y);
    for (int i = 0; i < 2; i++) {
        npi_unit_params params = dc_unit_params(u, i), grads = dc_unit_grads(u, i);
        npi_act back = dc_act_at(dx, i), dadd;
        if (s->residual)
            dadd = dc_act_at(dresidual, i);
        DC_RUN(d->side[i]->units->backward(
            u->unit[i], dc_act_at(dy, i), dc_act_at(x, i), &params, u->desc.frozen ? NULL : &grads,
            u->desc.needs_dx ? &back : NULL, s->accumulate, s->residual ? &dadd : NULL, NULL));
    }
    dc_act_check(d, y, DC_ACT);
    dc_unit_check_stats(d, u);
    if (!u->desc.frozen)
        dc_unit_check_grads(d, u);
    if (s->residual)
        dc_act_check(d, dresidual, DC_ACT_GRAD);
    if (u->desc.needs_dx)
        dc_act_check(d, dx, DC_ACT_GRAD);
}

void dc_check_unit(dc *d) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !d->skipped; i++) {
        dc_unit u;
        name_case(d, &shapes[i]);
        if (dc_unit_make(d, &u, desc_of(&shapes[i], "conv", true)))
            run_unit(d, &shapes[i], &u);
        dc_unit_free(d, &u);
        dc_release(d);
    }
}

/* The gradient of the images under the running statistics: stems too have a dx. */
void dc_check_unit_frozen(dc *d) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !d->skipped; i++) {
        dc_unit u;
        npi_unit_desc desc = desc_of(&shapes[i], "conv", true);
        desc.needs_dx = desc.frozen = true;
        name_case(d, &shapes[i]);
        if (dc_unit_make(d, &u, desc))
            run_unit(d, &shapes[i], &u);
        dc_unit_free(d, &u);
        dc_release(d);
    }
}

static void run_infer(dc *d, const shape *s, dc_unit *u) {
    size_t in = volume(s->n, s->c, s->h, s->w), out = volume(s->n, s->out_c, u->oh, u->ow);
    dc_act x = dc_act_input(d, "x", s->n, s->c, s->h, s->w, dc_act_normals(d, in, s->scale));
    dc_act y = dc_act_output(d, "y", s->n, s->out_c, u->oh, u->ow);
    dc_act residual =
        dc_act_input(d, "residual", s->n, s->out_c, u->oh, u->ow, dc_act_normals(d, out, 1.0));
    void *mean = dc_read(d, u->mean, 1), *var = dc_read(d, u->var, 1);
    for (int i = 0; i < 2; i++) {
        npi_unit_params params = dc_unit_params(u, i);
        npi_act to = dc_act_at(y, i), add = dc_act_at(residual, i);
        DC_RUN(d->side[i]->units->infer(u->unit[i], dc_act_at(x, i), &params,
                                        s->residual ? &add : NULL, &to));
    }
    dc_act_check(d, y, DC_ACT);
    /* inference leaves the running statistics alone */
    size_t channels = (size_t)s->out_c;
    dc_compare(d, "running_mean", channels, mean, dc_read(d, u->mean, 1), DC_EXACT);
    dc_compare(d, "running_var", channels, var, dc_read(d, u->var, 1), DC_EXACT);
}

void dc_check_unit_infer(dc *d) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !d->skipped; i++) {
        dc_unit u;
        name_case(d, &shapes[i]);
        if (dc_unit_make(d, &u, desc_of(&shapes[i], "conv", false)))
            run_infer(d, &shapes[i], &u);
        dc_unit_free(d, &u);
        dc_release(d);
    }
}

/* ---- a unit whose residual is a shortcut unit ---- */

static void run_shortcut(dc *d, const shape *s, dc_unit *main, dc_unit *side) {
    dc_act h = dc_act_input(d, "h", s->n, s->out_c, main->desc.h, main->desc.w,
                            dc_act_normals(d, volume(s->n, s->out_c, main->oh, main->ow), 1.0));
    dc_act x = dc_act_input(d, "x", s->n, s->c, s->h, s->w,
                            dc_act_normals(d, volume(s->n, s->c, s->h, s->w), 1.0));
    dc_act y = dc_act_output(d, "y", s->n, s->out_c, main->oh, main->ow);
    dc_act dh = dc_act_output(d, "dh", s->n, s->out_c, main->desc.h, main->desc.w);
    dc_act dr = dc_act_output(d, "dresidual", s->n, s->out_c, main->oh, main->ow);
    dc_act dx = dc_act_output(d, "dx", s->n, s->c, s->h, s->w);
    for (int i = 0; i < 2; i++) {
        const npi_unit_ops *units = d->side[i]->units;
        npi_unit_params pm = dc_unit_params(main, i), ps = dc_unit_params(side, i);
        npi_act to = dc_act_at(y, i);
        DC_RUN(units->forward(side->unit[i], dc_act_at(x, i), &ps, NULL, NULL, NULL, NULL));
        DC_RUN(units->forward(main->unit[i], dc_act_at(h, i), &pm, NULL, side->unit[i], &ps, &to));
    }
    dc_act dy = gradient_of(d, y);
    for (int i = 0; i < 2; i++) {
        const npi_unit_ops *units = d->side[i]->units;
        npi_unit_params pm = dc_unit_params(main, i), ps = dc_unit_params(side, i);
        npi_unit_params gm = dc_unit_grads(main, i), gs = dc_unit_grads(side, i);
        npi_act dto = dc_act_at(dh, i), dres = dc_act_at(dr, i), back = dc_act_at(dx, i);
        DC_RUN(units->backward(main->unit[i], dc_act_at(dy, i), dc_act_at(h, i), &pm, &gm, &dto,
                               false, &dres, NULL));
        DC_RUN(units->backward(side->unit[i], dres, dc_act_at(x, i), &ps, &gs, &back, false, NULL,
                               NULL));
    }
    dc_act_check(d, y, DC_ACT);
    dc_act_check(d, dh, DC_ACT_GRAD);
    dc_act_check(d, dx, DC_ACT_GRAD);
    dc_unit_check_stats(d, main);
    dc_unit_check_stats(d, side);
    dc_unit_check_grads(d, main);
    dc_unit_check_grads(d, side);
}

void dc_check_unit_shortcut(dc *d) {
    static const shape sides[] = {{31, 16, 6, 6, 32, 1, 2, false, false, true, false, 1.0},
                                  {4, 64, 8, 8, 128, 1, 2, false, false, true, false, 1.0},
                                  {33, 24, 5, 7, 48, 1, 1, false, false, true, false, 1.0},
                                  {2, 128, 4, 4, 512, 1, 2, false, false, true, false, 1.0}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides && !d->skipped; i++) {
        const shape *s = &sides[i];
        dc_unit side = {0}, main = {0};
        name_case(d, s);
        if (dc_unit_make(d, &side, desc_of(s, "shortcut", true))) {
            shape of_main = {s->n, s->out_c, side.oh, side.ow, s->out_c, 3,
                             1,    true,     true,    true,    false,    1.0};
            if (dc_unit_make(d, &main, desc_of(&of_main, "conv2", true)))
                run_shortcut(d, s, &main, &side);
        }
        dc_unit_free(d, &main);
        dc_unit_free(d, &side);
        dc_release(d);
    }
}

/* Plans that cannot be are refused by both, with a message that names the unit. */
void dc_check_unit_errors(dc *d) {
    const npi_unit_desc wrong[] = {
        {"none", 0, 3, 4, 4, 16, 3, 1, 1, true, true, true, false, false},
        {"none", 2, 3, 4, 4, 0, 3, 1, 1, true, true, true, false, false},
        {"none", 2, 3, 2, 2, 16, 7, 1, 0, true, true, true, false, false},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        for (int s = 0; s < 2; s++) {
            npi_unit *unit = NULL;
            dc_case(d, "wrong plan %zu", i);
            d->compared++;
            npos_status status = d->side[s]->units->create(d->side[s], &wrong[i], &unit);
            if (status == NPOS_OK || !strstr(npos_error_message(), "none")) {
                dc_fail(d, "%s: status %s, message '%s'", d->side[s]->name,
                        npos_status_name(status), npos_error_message());
                d->side[s]->units->free(d->side[s], unit);
            }
        }
}
