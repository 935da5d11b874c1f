/* Units: convolutions by cuda_conv.cu, batch norm by cuda_norm.cu, weights in both precisions. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "devices/cuda/cuda_conv.cuh"
#include "devices/cuda/cuda_norm.cuh"
#include "devices/cuda/cuda_weights.cuh"

struct npi_unit {
    npi_device *dev;
    npi_unit_desc desc;
    char name[64], variant[96];
    int oh, ow;
    npi_norm norm;
    npi_conv *forward, *filter;
    npi_conv *data[2]; /* dx = and dx +=; planned when first asked for */
    npi_conv
        *fused[2];   /* inference without and with residual: all of the unit in one; both or none */
    float *bias;     /* [out_c padded]: fused's; `weight` is then times the batch norm's scale */
    void *weight;    /* [out_c padded][kernel][kernel][c padded], compute precision */
    void *conv;      /* training: the convolution's output */
    uint8_t *passed; /* training with ReLU: where it let through */
    void *dweight;   /* the weight's gradient where it cannot be written to its place */
    void *dx;        /* the input's, where cuDNN cannot add to it */
    bool ran;
};

static int64_t out_rows(const npi_unit *u) {
    return (int64_t)u->desc.n * u->oh * u->ow;
}

static size_t element(npi_dtype type) {
    return type == NPI_BF16 ? 2 : 4;
}

static npi_weights weights_of(const npi_unit *u) {
    return {u->desc.out_c, u->desc.c, u->desc.kernel * u->desc.kernel};
}

static size_t padded_weights(const npi_unit *u) {
    return (size_t)npi_weights_padded(weights_of(u));
}

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

static npi_conv_desc conv_desc(const npi_unit *u, npi_conv_pass pass) {
    const npi_unit_desc *d = &u->desc;
    npi_conv_desc out = {};
    out.name = u->name;
    out.pass = pass;
    out.n = d->n;
    out.c = npi_cuda_padded(d->c);
    out.h = d->h;
    out.w = d->w;
    out.out_c = npi_cuda_padded(d->out_c);
    out.oh = u->oh;
    out.ow = u->ow;
    out.kernel = d->kernel;
    out.stride = d->stride;
    out.pad = d->pad;
    return out;
}

/* In bf16 the gradient comes in bf16 too: cuDNN's engines for float32 results of bf16 maps take ten times as long. */
static npos_status plan_filter(npi_unit *u) {
    npi_conv_desc filter = conv_desc(u, NPI_CONV_FILTER);
    bool pads = u->desc.c % 8 != 0 || u->desc.out_c % 8 != 0;
    NPI_TRY(npi_conv_create(u->dev, &filter, false, &u->filter));
    if (!pads && u->dev->compute == NPI_F32)
        return NPOS_OK;
    return u->dev->memory->alloc(u->dev, padded_weights(u) * element(u->dev->compute), u->name,
                                 &u->dweight);
}

static npos_status plan_training(npi_unit *u) {
    npi_device *dev = u->dev;
    size_t vectors = (size_t)out_rows(u) * (size_t)(npi_cuda_padded(u->desc.out_c) / 8);
    npi_conv_desc forward = conv_desc(u, NPI_CONV_FORWARD);
    NPI_TRY(npi_conv_create(dev, &forward, false, &u->forward));
    NPI_TRY(plan_filter(u));
    NPI_TRY(dev->memory->alloc(dev, vectors * 8 * element(dev->compute), u->name, &u->conv));
    return u->desc.relu ? dev->memory->alloc(dev, vectors, u->name, &u->passed) : NPOS_OK;
}

/* One operation where cuDNN can, else convolution and batch norm. */
static npos_status plan_inference(npi_unit *u) {
    npi_conv_desc desc = conv_desc(u, NPI_CONV_BIAS);
    npos_status status = NPOS_OK;
    desc.relu = u->desc.relu;
    for (int i = 0; i < 2 && status == NPOS_OK; i++) {
        desc.residual = i == 1;
        status = npi_conv_create(u->dev, &desc, true, &u->fused[i]);
    }
    if (status == NPOS_OK)
        return u->dev->memory->alloc(u->dev, (size_t)npi_cuda_padded(u->desc.out_c) * sizeof(float),
                                     u->name, &u->bias);
    if (status != NPOS_UNSUPPORTED)
        return status;
    npi_conv_free(u->fused[0]);
    u->fused[0] = NULL;
    desc = conv_desc(u, NPI_CONV_FORWARD);
    return npi_conv_create(u->dev, &desc, false, &u->forward);
}

static npos_status plan_all(npi_unit *u) {
    npi_device *dev = u->dev;
    NPI_TRY(npi_norm_create(dev, u->name, out_rows(u), u->desc.out_c, u->desc.training, &u->norm));
    NPI_TRY(
        dev->memory->alloc(dev, padded_weights(u) * element(dev->compute), u->name, &u->weight));
    if (u->desc.training)
        return plan_training(u);
    return plan_inference(u);
}

static void unit_free(npi_device *dev, npi_unit *unit) {
    if (!unit)
        return;
    npi_conv_free(unit->forward);
    for (int i = 0; i < 2; i++) {
        npi_conv_free(unit->data[i]);
        npi_conv_free(unit->fused[i]);
    }
    npi_conv_free(unit->filter);
    npi_norm_free(&unit->norm);
    npi_pack_forget(dev, unit->weight);
    dev->memory->free(dev, unit->weight);
    dev->memory->free(dev, unit->bias);
    dev->memory->free(dev, unit->conv);
    dev->memory->free(dev, unit->passed);
    dev->memory->free(dev, unit->dweight);
    dev->memory->free(dev, unit->dx);
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
    const npi_pack_job job = {weights_of(unit), *params, unit->weight, unit->bias};
    return npi_pack_later(unit->dev, &job);
}

/* ---- forward ---- */

static npos_status convolve(npi_unit *u, npi_act x, void *to) {
    npi_conv_args args = {};
    NPI_TRY(npi_pack_flush(u->dev));
    args.x = x.data;
    args.w = u->weight;
    args.y = to;
    return npi_conv_run(u->forward, &args);
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
    NPI_TRY(convolve(u, x, u->conv));
    NPI_TRY(npi_norm_stats(&u->norm, u->conv, params));
    u->ran = true;
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
    if (unit->fused[0]) {
        npi_conv_args args = {};
        NPI_TRY(npi_pack_flush(unit->dev));
        args.x = x.data;
        args.w = unit->weight;
        args.y = y->data;
        args.bias = unit->bias;
        args.residual = residual ? residual->data : NULL;
        return npi_conv_run(unit->fused[residual != NULL], &args);
    }
    npi_norm_apply apply = {};
    NPI_TRY(convolve(unit, x, y->data));
    NPI_TRY(npi_norm_running(&unit->norm, params));
    apply.c = y->data;
    apply.params = params;
    apply.residual = residual ? residual->data : NULL;
    apply.relu = unit->desc.relu;
    apply.y = y->data;
    return npi_norm_forward(&unit->norm, &apply);
}

/* ---- backward ---- */

static npos_status filter_gradient(npi_unit *u, npi_act x, npi_act dc, float *dweight) {
    npi_conv_args args = {};
    args.x = x.data;
    args.y = dc.data;
    args.w = u->dweight ? u->dweight : dweight;
    NPI_TRY(npi_conv_run(u->filter, &args));
    return u->dweight ? npi_weights_unpack(u->dev, weights_of(u), u->dweight, dweight) : NPOS_OK;
}

template <typename T> static __global__ void add_kernel(int64_t vectors, const T *from, T *to) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= vectors)
        return;
    npi_float8 a = npi_load8(to + i * 8), b = npi_load8(from + i * 8);
#pragma unroll
    for (int j = 0; j < 8; j++)
        a.v[j] += b.v[j];
    npi_store8(to + i * 8, a);
}

static int64_t input_vectors(const npi_unit *u) {
    return (int64_t)u->desc.n * u->desc.h * u->desc.w * (npi_cuda_padded(u->desc.c) / 8);
}

template <typename T> static void launch_add(npi_unit *u, void *to) {
    const int64_t vectors = input_vectors(u);
    add_kernel<T><<<npi_ceil_div(vectors, 256), 256, 0, npi_cuda_stream(u->dev)>>>(
        vectors, (const T *)u->dx, (T *)to);
}

/* A plan is made when it is first asked for, as a caller may never add, or always. */
static npos_status plan_data(npi_unit *u, bool accumulate) {
    npi_conv_desc desc = conv_desc(u, NPI_CONV_DATA);
    desc.accumulate = accumulate;
    if (!u->data[accumulate] && !(accumulate && u->dx)) {
        npos_status status = npi_conv_create(u->dev, &desc, accumulate, &u->data[accumulate]);
        if (!accumulate || status != NPOS_UNSUPPORTED)
            return status;
        NPI_TRY(u->dev->memory->alloc(
            u->dev, (size_t)input_vectors(u) * 8 * element(u->dev->compute), u->name, &u->dx));
    }
    return accumulate && u->dx ? plan_data(u, false) : NPOS_OK;
}

static npos_status data_gradient(npi_unit *u, npi_act dc, npi_act dx, bool accumulate) {
    npi_conv_args args = {};
    NPI_TRY(plan_data(u, accumulate));
    const bool apart = accumulate && u->dx;
    args.x = apart ? u->dx : dx.data;
    args.w = u->weight;
    args.y = dc.data;
    NPI_TRY(npi_conv_run(u->data[accumulate && !apart], &args));
    if (!apart)
        return NPOS_OK;
    NPI_BY_TYPE(u->dev, launch_add, u, dx.data);
    return npi_cuda_launched(u->dev, u->name);
}

static npos_status backward(npi_unit *unit, npi_act dy, npi_act x, const npi_unit_params *params,
                            const npi_unit_params *grads, npi_act *dx, bool accumulate,
                            npi_act *dresidual) {
    npi_unit *u = unit;
    if (!u->ran)
        return npi_fail(NPOS_INTERNAL, "unit '%s': backward before forward", u->name);
    NPI_TRY(npi_norm_backward(&u->norm, dy.data, u->conv, u->passed, params, grads,
                              dresidual ? dresidual->data : NULL));
    NPI_TRY(filter_gradient(u, x, dy, grads->weight));
    return dx ? data_gradient(u, dy, *dx, accumulate) : NPOS_OK;
}

static const char *variant(npi_unit *unit) {
    npi_unit *u = unit;
    int engine[4] = {-1, -1, -1, -1};
    npi_conv *const plans[4] = {u->forward, u->data[0], u->data[1], u->filter};
    for (int i = 0; i < 4; i++)
        if (plans[i])
            engine[i] = npi_conv_engine(plans[i]);
    if (!u->desc.training)
        snprintf(u->variant, sizeof u->variant, "cuDNN engine %d%s",
                 u->fused[0] ? npi_conv_engine(u->fused[0]) : engine[0],
                 u->fused[0] ? " with bias, residual, relu" : "");
    else
        snprintf(u->variant, sizeof u->variant,
                 "cuDNN engines: fwd %d, bwd_x %d, bwd_x+ %d%s, bwd_w %d", engine[0], engine[1],
                 engine[2], u->dx ? " (add apart)" : "", engine[3]);
    return u->variant;
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
