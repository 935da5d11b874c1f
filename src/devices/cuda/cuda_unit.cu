/* Units: convolutions by cuda_convs.cu, batch norm by cuda_norm.cu. */
#include <cstdio>
#include <cstdlib>

#include "devices/cuda/cuda_convs.cuh"
#include "devices/cuda/cuda_norm.cuh"

struct npi_unit {
    npi_device *dev;
    npi_unit_desc desc;
    char name[64], variant[96];
    int oh, ow;
    npi_convs convs;
    npi_norm norm;
    void *conv;      /* training: the convolution's output */
    uint8_t *passed; /* training with ReLU: where it let through */
    bool ran;
    const float *
        dy_sums; /* of the newest forward's gradient, where the unit behind took them: cuda_norm.cuh */
    int dy_blocks;
};

/* ---- creation ---- */

static npos_status check(const npi_unit_desc *d, const char *name) {
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
    return NPOS_OK;
}

static npos_status plan_all(npi_unit *u) {
    npi_device *dev = u->dev;
    const int64_t rows = (int64_t)u->desc.n * u->oh * u->ow;
    const size_t vectors = (size_t)rows * (size_t)(npi_cuda_padded(u->desc.out_c) / 8);
    NPI_TRY(npi_convs_create(dev, u->name, &u->desc, u->oh, u->ow, &u->convs));
    NPI_TRY(npi_norm_create(dev, u->name, rows, u->desc.out_c, u->desc.training, &u->norm));
    if (!u->desc.training)
        return NPOS_OK;
    NPI_TRY(dev->memory->alloc(dev, dev->acts->bytes(dev, u->desc.n, u->desc.out_c, u->oh, u->ow),
                               u->name, &u->conv));
    return u->desc.relu ? dev->memory->alloc(dev, vectors, u->name, &u->passed) : NPOS_OK;
}

static void unit_free(npi_device *dev, npi_unit *unit) {
    if (!unit)
        return;
    npi_convs_free(&unit->convs);
    npi_norm_free(&unit->norm);
    dev->memory->free(dev, unit->conv);
    dev->memory->free(dev, unit->passed);
    free(unit);
}

static npos_status unit_create(npi_device *dev, const npi_unit_desc *desc, npi_unit **out) {
    const char *name = desc->name ? desc->name : "unnamed";
    *out = NULL;
    NPI_TRY(check(desc, name));
    npi_unit *u = (npi_unit *)calloc(1, sizeof *u);
    if (!u)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu bytes", name, sizeof *u);
    u->dev = dev;
    u->desc = *desc;
    snprintf(u->name, sizeof u->name, "%s", name);
    u->desc.name = u->name;
    u->oh = (desc->h + 2 * desc->pad - desc->kernel) / desc->stride + 1;
    u->ow = (desc->w + 2 * desc->pad - desc->kernel) / desc->stride + 1;
    npos_status status = plan_all(u);
    if (status == NPOS_OK)
        *out = u;
    else
        unit_free(dev, u);
    return status;
}

/* ---- weights ---- */

/* OIHW to and from O, H, W, I. */
static void reorder(const npi_unit *u, bool to_oihw, const float *from, float *to) {
    const int area = u->desc.kernel * u->desc.kernel, c = u->desc.c;
    for (int64_t o = 0; o < u->desc.out_c; o++)
        for (int i = 0; i < c; i++)
            for (int k = 0; k < area; k++) {
                int64_t oihw = (o * c + i) * area + k, ohwi = (o * area + k) * c + i;
                to[to_oihw ? oihw : ohwi] = from[to_oihw ? ohwi : oihw];
            }
}

static npos_status weight_copy(npi_unit *u, const float *host, float *weight, float *host_out) {
    size_t count =
        (size_t)u->desc.out_c * (size_t)u->desc.c * (size_t)(u->desc.kernel * u->desc.kernel);
    const npi_memory_ops *memory = u->dev->memory;
    float *staged = (float *)malloc(count * sizeof *staged);
    if (!staged)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu bytes", u->name,
                        count * sizeof *staged);
    npos_status status;
    if (host) {
        reorder(u, false, host, staged);
        status = memory->upload(u->dev, weight, staged, count * sizeof *staged);
        if (status == NPOS_OK)
            status = memory->sync(u->dev); /* `staged` is gone after this */
    } else {
        status = memory->download(u->dev, staged, weight, count * sizeof *staged);
        if (status == NPOS_OK)
            reorder(u, true, staged, host_out);
    }
    free(staged);
    return status;
}

static npos_status weight_import(npi_unit *unit, const float *host_oihw, float *weight) {
    return weight_copy(unit, host_oihw, weight, NULL);
}

static npos_status weight_export(npi_unit *unit, const float *weight, float *host_oihw) {
    return weight_copy(unit, NULL, (float *)weight, host_oihw);
}

static npos_status pack(npi_unit *unit, const npi_unit_params *params) {
    return npi_convs_pack(&unit->convs, params);
}

/* ---- forward ---- */

static npos_status convolve(npi_unit *u, const void *x, const npi_unit_params *params) {
    const float *sums;
    int blocks;
    NPI_TRY(npi_convs_forward(&u->convs, x, u->conv, &sums, &blocks));
    if (u->desc.frozen)
        return npi_norm_running(&u->norm, params);
    return sums ? npi_norm_from_sums(&u->norm, sums, blocks, params)
                : npi_norm_stats(&u->norm, u->conv, params);
}

static npos_status forward(npi_unit *unit, npi_act x, const npi_unit_params *params,
                           const npi_act *residual, npi_unit *shortcut,
                           const npi_unit_params *shortcut_params, npi_act *y) {
    npi_unit *u = unit;
    if (!u->desc.training)
        return npi_fail(NPOS_INTERNAL, "unit '%s' was planned for inference", u->name);
    if (shortcut && !shortcut->ran)
        return npi_fail(NPOS_INTERNAL, "unit '%s': its shortcut '%s' was not run", u->name,
                        shortcut->name);
    NPI_TRY(convolve(u, x.data, params));
    u->ran = true;
    u->dy_sums = NULL;
    if (!y)
        return NPOS_OK;
    npi_norm_apply apply = {};
    apply.c = u->conv;
    apply.params = params;
    apply.residual = shortcut ? shortcut->conv : residual ? residual->data : NULL;
    apply.other = shortcut ? &shortcut->norm : NULL;
    apply.other_params = shortcut_params;
    apply.relu = u->desc.relu;
    apply.y = y->data;
    apply.passed = u->passed;
    return npi_norm_forward(&u->norm, &apply);
}

static npos_status infer(npi_unit *unit, npi_act x, const npi_unit_params *params,
                         const npi_act *residual, npi_act *y) {
    npi_norm_apply apply = {};
    const float *unused;
    int blocks;
    if (npi_convs_fused(&unit->convs))
        return npi_convs_infer(&unit->convs, x.data, residual ? residual->data : NULL, y->data);
    NPI_TRY(npi_convs_forward(&unit->convs, x.data, y->data, &unused, &blocks));
    NPI_TRY(npi_norm_running(&unit->norm, params));
    apply.c = y->data;
    apply.params = params;
    apply.residual = residual ? residual->data : NULL;
    apply.relu = unit->desc.relu;
    apply.y = y->data;
    return npi_norm_forward(&unit->norm, &apply);
}

/* ---- backward ---- */

/* The input's gradient; where `before` made the input, the sums over it that its batch norm needs. */
static npos_status data_gradient(npi_unit *u, void *dc, npi_act dx, bool accumulate,
                                 npi_unit *before) {
    npi_conv90_before made = {};
    const float *sums;
    int blocks;
    bool takes = before && before->passed && before->conv && before->desc.out_c == NPI_CONV90_K;
    if (takes)
        made = {(const __nv_bfloat16 *)before->conv, before->norm.mean, before->passed};
    NPI_TRY(
        npi_convs_data(&u->convs, dc, dx.data, accumulate, takes ? &made : NULL, &sums, &blocks));
    if (sums) {
        before->dy_sums = sums;
        before->dy_blocks = blocks;
    }
    return NPOS_OK;
}

static npos_status backward(npi_unit *unit, npi_act dy, npi_act x, const npi_unit_params *params,
                            const npi_unit_params *grads, npi_act *dx, bool accumulate,
                            npi_act *dresidual, npi_unit *before) {
    npi_unit *u = unit;
    if (!u->ran)
        return npi_fail(NPOS_INTERNAL, "unit '%s': backward before forward", u->name);
    const npi_norm_gradient gradient = {dy.data,    u->conv,     u->passed,
                                        params,     grads,       dresidual ? dresidual->data : NULL,
                                        u->dy_sums, u->dy_blocks};
    u->dy_sums = NULL;
    NPI_TRY(npi_norm_backward(&u->norm, &gradient));
    if (!u->desc.frozen)
        NPI_TRY(npi_convs_filter(&u->convs, x.data, dy.data, grads->weight));
    return dx ? data_gradient(u, dy.data, *dx, accumulate, before) : NPOS_OK;
}

static const char *variant(npi_unit *unit) {
    npi_convs_variant(&unit->convs, unit->variant, sizeof unit->variant);
    return unit->variant;
}

const npi_unit_ops npi_cuda_units = {.create = unit_create,
                                     .free = unit_free,
                                     .weight_import = weight_import,
                                     .weight_export = weight_export,
                                     .pack = pack,
                                     .forward = forward,
                                     .infer = infer,
                                     .backward = backward,
                                     .variant = variant};
