#include "nn/model.h"

#include <stdio.h>

#include "base/memory.h"

static npos_status add_linear(npi_model *model, const char *name, int in, int out, bool head,
                              npi_linear *layer) {
    char text[64];
    *layer = (npi_linear){.in = in, .out = out};
    snprintf(text, sizeof text, "%s.weight", name);
    NPI_TRY(
        npi_params_add(&model->params, text, 2, (int64_t[]){out, in}, false, head, &layer->weight));
    snprintf(text, sizeof text, "%s.bias", name);
    return npi_params_add(&model->params, text, 1, (int64_t[]){out}, false, head, &layer->bias);
}

/* weight, gamma, beta, running mean, running variance, in this order and next to each other. */
static npos_status add_layer(npi_model *model, int i) {
    const npi_layer *l = &model->arch.layers[i];
    const int64_t conv[4] = {l->out_c, l->c, l->kernel, l->kernel}, channels[1] = {l->out_c};
    static const char *const endings[] = {"weight", "bias", "running_mean", "running_var"};
    char text[64];
    int unused;
    snprintf(text, sizeof text, "encoder.%s.weight", l->conv);
    NPI_TRY(npi_params_add(&model->params, text, 4, conv, false, false, &model->layer_param[i]));
    for (int k = 0; k < 4; k++) {
        snprintf(text, sizeof text, "encoder.%s.%s", l->norm, endings[k]);
        NPI_TRY(npi_params_add(&model->params, text, 1, channels, k >= 2, false, &unused));
    }
    return NPOS_OK;
}

npos_status npi_model_add_phi(npi_model *model, int head_dim) {
    model->has_phi = head_dim > 0;
    if (!model->has_phi)
        return NPOS_OK;
    NPI_TRY(add_linear(model, "phi.0", model->dim, head_dim, true, &model->phi[0]));
    return add_linear(model, "phi.2", head_dim, 1, true, &model->phi[1]);
}

npos_status npi_model_create(npi_device *dev, const npi_model_desc *desc, bool training,
                             npi_model *out) {
    *out = (npi_model){.dev = dev, .params.dev = dev};
    NPI_TRY(npi_arch_build(&desc->arch, &out->arch));
    for (int i = 0; i < out->arch.layer_count; i++)
        NPI_TRY(add_layer(out, i));
    out->has_feature = desc->feature_dim > 0;
    out->has_projection = desc->projection_dim > 0;
    out->has_classifier = desc->classes > 0;
    out->dim = out->has_feature ? desc->feature_dim : out->arch.width;
    out->proj = out->has_projection ? desc->projection_dim : out->dim;
    if (out->has_feature)
        NPI_TRY(
            add_linear(out, "encoder.feature", out->arch.width, out->dim, false, &out->feature));
    if (out->has_projection) {
        NPI_TRY(add_linear(out, "head.0", out->dim, out->dim, false, &out->projection[0]));
        NPI_TRY(add_linear(out, "head.2", out->dim, out->proj, false, &out->projection[1]));
    }
    if (out->has_classifier)
        NPI_TRY(add_linear(out, "fc", out->dim, desc->classes, false, &out->classifier));
    NPI_TRY(npi_model_add_phi(out, desc->head_dim));
    return npi_params_alloc(&out->params, training);
}

void npi_model_free(npi_model *model) {
    npi_params_free(&model->params);
}

npos_status npi_linear_forward(const npi_model *model, const npi_linear *layer, int n,
                               const float *x, bool relu, float *y) {
    return model->dev->rows->linear_forward(model->dev, n, layer->in, layer->out, x,
                                            npi_param_value(&model->params, layer->weight),
                                            npi_param_value(&model->params, layer->bias), relu, y);
}

npos_status npi_linear_backward(const npi_model *model, const npi_linear *layer, int n,
                                const float *x, const float *y, bool relu, float *dy, float *dx,
                                int dx_rows, bool accumulate) {
    return model->dev->rows->linear_backward(
        model->dev, n, layer->in, layer->out, x, npi_param_value(&model->params, layer->weight), y,
        relu, dy, npi_param_grad(&model->params, layer->weight),
        npi_param_grad(&model->params, layer->bias), dx, dx_rows, accumulate);
}
