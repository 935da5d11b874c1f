#include "devices/cuda/cuda_convs.cuh"

#include <cstdio>

static size_t element(const npi_convs *c) {
    return c->dev->compute == NPI_BF16 ? 2 : 4;
}

/* Padded elements of the input. */
static int64_t input_count(const npi_convs *c) {
    const npi_conv_desc *d = &c->shape;
    return (int64_t)d->n * d->h * d->w * d->c;
}

static npos_status plan_pass(npi_convs *c, npi_conv_pass pass, bool accumulate, bool quiet,
                             npi_conv **out) {
    npi_conv_desc desc = c->shape;
    desc.pass = pass;
    desc.accumulate = accumulate;
    if (pass != NPI_CONV_BIAS)
        desc.residual = desc.relu = false;
    return npi_conv_create(c->dev, &desc, quiet, out);
}

/* ---- creation ---- */

static npos_status plan_bias(npi_convs *c) {
    return c->dev->memory->alloc(c->dev, (size_t)c->shape.out_c * sizeof(float), c->shape.name,
                                 &c->bias);
}

static npos_status plan_own(npi_convs *c) {
    npi_device *dev = c->dev;
    const npi_conv_desc *d = &c->shape;
    c->plan = npi_conv90_plan(d->n, d->h, d->w, d->c, npi_cuda_of(dev)->multiprocessors);
    NPI_TRY(dev->memory->alloc(dev, npi_conv90_image_bytes(d->c), d->name, &c->image));
    if (!c->training)
        return plan_bias(c);
    if (d->c == NPI_CONV90_K)
        NPI_TRY(dev->memory->alloc(dev, npi_conv90_image_bytes(d->c), d->name, &c->image_backward));
    return dev->memory->alloc(dev, (size_t)c->plan.blocks * 2 * NPI_CONV90_K * sizeof(float),
                              d->name, &c->sums);
}

static npos_status plan_training(npi_convs *c) {
    bool pads = c->weights.c % 8 != 0 || c->weights.out_c % 8 != 0;
    NPI_TRY(plan_pass(c, NPI_CONV_FORWARD, false, false, &c->forward));
    /* in bf16 the gradient comes in bf16: cuDNN's engines for float32 results take ten times as long */
    NPI_TRY(plan_pass(c, NPI_CONV_FILTER, false, false, &c->filter));
    if (!pads && c->dev->compute == NPI_F32)
        return NPOS_OK;
    return c->dev->memory->alloc(c->dev, (size_t)npi_weights_padded(c->weights) * element(c),
                                 c->shape.name, &c->dweight);
}

/* One operation where cuDNN can, else the convolution alone. */
static npos_status plan_inference(npi_convs *c) {
    npos_status status = plan_pass(c, NPI_CONV_BIAS, false, true, &c->fused);
    if (status == NPOS_UNSUPPORTED)
        return plan_pass(c, NPI_CONV_FORWARD, false, false, &c->forward);
    return status == NPOS_OK ? plan_bias(c) : status;
}

npos_status npi_convs_create(npi_device *dev, const char *name, const npi_unit_desc *desc, int oh,
                             int ow, npi_convs *out) {
    npi_conv_desc *d = &out->shape;
    *out = npi_convs{};
    out->dev = dev;
    out->weights = {desc->out_c, desc->c, desc->kernel * desc->kernel};
    out->training = desc->training;
    d->name = name;
    d->n = desc->n;
    d->c = npi_cuda_padded(desc->c);
    d->h = desc->h;
    d->w = desc->w;
    d->out_c = npi_cuda_padded(desc->out_c);
    d->oh = oh;
    d->ow = ow;
    d->kernel = desc->kernel;
    d->stride = desc->stride;
    d->pad = desc->pad;
    d->residual = desc->residual;
    d->relu = desc->relu;
    out->own =
        desc->training && dev->compute == NPI_BF16 && desc->out_c == NPI_CONV90_K &&
        desc->pad == 1 && (d->c == NPI_CONV90_K || !desc->needs_dx || !desc->training) &&
        (desc->c == d->c || d->c == 8) &&
        npi_conv90_serves(npi_cuda_of(dev)->capability, d->kernel, d->stride, d->c, d->out_c);
    if (out->own)
        return plan_own(out);
    NPI_TRY(dev->memory->alloc(dev, (size_t)npi_weights_padded(out->weights) * element(out), name,
                               &out->packed));
    return desc->training ? plan_training(out) : plan_inference(out);
}

void npi_convs_free(npi_convs *c) {
    if (!c->dev)
        return;
    npi_pack_forget(c->dev, c->packed);
    void *const all[] = {c->packed, c->bias,           c->dweight, c->dx,
                         c->image,  c->image_backward, c->sums};
    for (void *memory : all)
        c->dev->memory->free(c->dev, memory);
}

npos_status npi_convs_pack(npi_convs *c, const npi_unit_params *params) {
    if (c->own && !c->training)
        return npi_conv90_fold(params, c->weights.c, c->shape.c, c->image, c->bias,
                               npi_cuda_stream(c->dev));
    if (c->own)
        return npi_conv90_pack(params->weight, c->weights.c, c->shape.c, c->image,
                               c->image_backward, npi_cuda_stream(c->dev));
    const npi_pack_job job = {c->weights, *params, c->packed, c->bias};
    return npi_pack_later(c->dev, &job);
}

/* ---- passes ---- */

npos_status npi_convs_forward(npi_convs *c, const void *x, void *y, const float **sums,
                              int *blocks) {
    npi_conv_args args = {};
    if (c->own) {
        *sums = c->sums;
        *blocks = c->plan.blocks;
        NPI_TRY(npi_conv90_run(&c->plan, (const __nv_bfloat16 *)x, c->image, (__nv_bfloat16 *)y,
                               false, c->sums, npi_cuda_stream(c->dev)));
        return npi_cuda_launched(c->dev, c->shape.name);
    }
    *sums = NULL;
    NPI_TRY(npi_pack_flush(c->dev));
    args.name = c->shape.name;
    args.x = (void *)x;
    args.w = c->packed;
    args.y = y;
    return npi_conv_run(c->forward, &args);
}

npos_status npi_convs_infer(npi_convs *c, const void *x, const void *residual, void *y) {
    npi_conv_args args = {};
    if ((residual != NULL) != c->shape.residual)
        return npi_fail(NPOS_INTERNAL, "%s: planned %s residual, run %s", c->shape.name,
                        c->shape.residual ? "with" : "without", residual ? "with" : "without");
    if (c->own) {
        NPI_TRY(npi_conv90_infer(&c->plan, (const __nv_bfloat16 *)x, c->image, c->bias,
                                 (const __nv_bfloat16 *)residual, c->shape.relu, (__nv_bfloat16 *)y,
                                 npi_cuda_stream(c->dev)));
        return npi_cuda_launched(c->dev, c->shape.name);
    }
    NPI_TRY(npi_pack_flush(c->dev));
    args.name = c->shape.name;
    args.x = (void *)x;
    args.w = c->packed;
    args.y = y;
    args.bias = c->bias;
    args.residual = residual;
    return npi_conv_run(c->fused, &args);
}

npos_status npi_convs_filter(npi_convs *c, const void *x, const void *dy, float *dweight) {
    npi_conv_args args = {};
    if (c->own) {
        float *scratch;
        NPI_TRY(npi_cuda_scratch(c->dev, npi_conv90_scratch_bytes(&c->plan), &scratch));
        NPI_TRY(npi_conv90_weights(&c->plan, (const __nv_bfloat16 *)x, (const __nv_bfloat16 *)dy,
                                   c->weights.c, dweight, scratch, npi_cuda_stream(c->dev)));
        return npi_cuda_launched(c->dev, c->shape.name);
    }
    args.name = c->shape.name;
    args.x = (void *)x;
    args.y = (void *)dy;
    args.w = c->dweight ? c->dweight : dweight;
    NPI_TRY(npi_conv_run(c->filter, &args));
    return c->dweight ? npi_weights_unpack(c->dev, c->weights, c->dweight, dweight) : NPOS_OK;
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

template <typename T> static void launch_add(npi_convs *c, void *to) {
    const int64_t vectors = input_count(c) / 8;
    add_kernel<T><<<npi_ceil_div(vectors, 256), 256, 0, npi_cuda_stream(c->dev)>>>(
        vectors, (const T *)c->dx, (T *)to);
}

/* A plan is made when it is first asked for, as a caller may never add, or always. */
static npos_status plan_data(npi_convs *c, bool accumulate) {
    if (!c->data[accumulate] && !(accumulate && c->dx)) {
        npos_status status =
            plan_pass(c, NPI_CONV_DATA, accumulate, accumulate, &c->data[accumulate]);
        if (!accumulate || status != NPOS_UNSUPPORTED)
            return status;
        NPI_TRY(c->dev->memory->alloc(c->dev, (size_t)input_count(c) * element(c), c->shape.name,
                                      &c->dx));
    }
    return accumulate && c->dx ? plan_data(c, false) : NPOS_OK;
}

npos_status npi_convs_data(npi_convs *c, const void *dy, void *dx, bool accumulate,
                           const npi_conv90_before *before, const float **sums, int *blocks) {
    npi_conv_args args = {};
    *sums = NULL;
    if (c->own && before) {
        *sums = c->sums;
        *blocks = c->plan.blocks;
        NPI_TRY(npi_conv90_back(&c->plan, (const __nv_bfloat16 *)dy, c->image_backward, before,
                                (__nv_bfloat16 *)dx, accumulate, c->sums, npi_cuda_stream(c->dev)));
        return npi_cuda_launched(c->dev, c->shape.name);
    }
    if (c->own) {
        NPI_TRY(npi_conv90_run(&c->plan, (const __nv_bfloat16 *)dy, c->image_backward,
                               (__nv_bfloat16 *)dx, accumulate, NULL, npi_cuda_stream(c->dev)));
        return npi_cuda_launched(c->dev, c->shape.name);
    }
    NPI_TRY(plan_data(c, accumulate));
    const bool apart = accumulate && c->dx;
    args.name = c->shape.name;
    args.x = apart ? c->dx : dx;
    args.w = c->packed;
    args.y = (void *)dy;
    NPI_TRY(npi_conv_run(c->data[accumulate && !apart], &args));
    if (!apart)
        return NPOS_OK;
    NPI_BY_TYPE(c->dev, launch_add, c, dx);
    return npi_cuda_launched(c->dev, c->shape.name);
}

void npi_convs_variant(const npi_convs *c, char *to, size_t bytes) {
    npi_conv *const plans[] = {c->forward, c->data[0], c->data[1], c->filter};
    int engine[4];
    for (int i = 0; i < 4; i++)
        engine[i] = plans[i] ? npi_conv_engine(plans[i]) : -1;
    if (c->own)
        snprintf(to, bytes, "npos wgmma, %d blocks", c->plan.blocks);
    else if (c->fused)
        snprintf(to, bytes, "cuDNN engine %d, fused", npi_conv_engine(c->fused));
    else if (!c->training)
        snprintf(to, bytes, "cuDNN engine %d", engine[0]);
    else
        snprintf(to, bytes, "cuDNN engines: fwd %d, bwd_x %d, bwd_x+ %d%s, bwd_w %d", engine[0],
                 engine[1], engine[2], c->dx ? " (add apart)" : "", engine[3]);
}
