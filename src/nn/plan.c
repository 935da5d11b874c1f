
#include "base/memory.h"
#include "nn/model.h"

/* Training keeps every layer's output; gradients turn through three buffers.  Inference turns through four. */
enum { TRAINING_BUFFERS = 3, INFERENCE_BUFFERS = 4 };

struct npi_plan {
    npi_model *model;
    npi_device *dev;
    int n;
    bool training, frozen; /* a frozen plan is a training one without gradients of parameters */
    npi_unit *unit[NPI_ARCH_LAYERS];
    npi_act input, pooled;      /* pooled: behind the stem's max-pool */
    npi_act y[NPI_ARCH_LAYERS]; /* training: owned, none for shortcuts; inference: shapes only */
    uint8_t *pool_index;
    void *buffer[INFERENCE_BUFFERS];
    npi_act input_gradient; /* frozen, after backward: in one of the buffers */
    float *mean, *dmean;    /* [n][width]; only with a feature layer */
    float *unused;          /* frozen: the feature layer's gradients, which nobody reads */
};

static npos_status alloc_act(npi_plan *plan, const char *what, npi_act *act) {
    return plan->dev->memory->alloc(
        plan->dev, plan->dev->acts->bytes(plan->dev, act->n, act->c, act->h, act->w), what,
        &act->data);
}

static npi_unit_params unit_params(const npi_plan *plan, int layer) {
    const npi_params *p = &plan->model->params;
    int i = plan->model->layer_param[layer];
    return (npi_unit_params){npi_param_value(p, i), npi_param_value(p, i + 1),
                             npi_param_value(p, i + 2), npi_param_value(p, i + 3),
                             npi_param_value(p, i + 4)};
}

static npi_unit_params unit_grads(const npi_plan *plan, int layer) {
    const npi_params *p = &plan->model->params;
    int i = plan->model->layer_param[layer];
    return (npi_unit_params){.weight = npi_param_grad(p, i),
                             .gamma = npi_param_grad(p, i + 1),
                             .beta = npi_param_grad(p, i + 2)};
}

static npos_status make_unit(npi_plan *plan, int i) {
    npi_model *model = plan->model;
    const npi_layer *l = &model->arch.layers[i];
    npi_unit_desc desc = {.name = l->conv,
                          .n = plan->n,
                          .c = l->c,
                          .h = l->side,
                          .w = l->side,
                          .out_c = l->out_c,
                          .kernel = l->kernel,
                          .stride = l->stride,
                          .pad = l->pad,
                          .relu = l->relu,
                          .residual = l->residual,
                          .needs_dx = i != 0 || plan->frozen,
                          .training = plan->training,
                          .frozen = plan->frozen};
    int side = (l->side + 2 * l->pad - l->kernel) / l->stride + 1;
    NPI_TRY(plan->dev->units->create(plan->dev, &desc, &plan->unit[i]));
    plan->y[i] = (npi_act){plan->n, l->out_c, side, side, NULL};
    npi_param *weight = &model->params.list[model->layer_param[i]];
    if (!weight->unit)
        weight->unit = plan->unit[i];
    return NPOS_OK;
}

static npos_status make_buffers(npi_plan *plan) {
    const npi_arch *arch = &plan->model->arch;
    const npi_act *input = &plan->input;
    size_t largest = plan->frozen
                         ? plan->dev->acts->bytes(plan->dev, input->n, input->c, input->h, input->w)
                         : 0;
    for (int i = 0; i < arch->layer_count; i++) {
        npi_act *y = &plan->y[i];
        size_t bytes = plan->dev->acts->bytes(plan->dev, y->n, y->c, y->h, y->w);
        largest = bytes > largest ? bytes : largest;
        if (plan->training && (i == 0 || arch->layers[i].relu))
            NPI_TRY(alloc_act(plan, arch->layers[i].conv, y));
    }
    for (int i = 0; i < (plan->training ? TRAINING_BUFFERS : INFERENCE_BUFFERS); i++)
        NPI_TRY(
            plan->dev->memory->alloc(plan->dev, largest, "activation buffer", &plan->buffer[i]));
    plan->pooled = plan->y[0];
    if (arch->max_pool) {
        int side = (plan->y[0].h - 1) / 2 + 1;
        plan->pooled = (npi_act){plan->n, plan->y[0].c, side, side, NULL};
        size_t count = (size_t)plan->n * (size_t)plan->y[0].c * (size_t)(side * side);
        NPI_TRY(
            plan->dev->memory->alloc(plan->dev, count, "max-pool's winners", &plan->pool_index));
        if (plan->training)
            NPI_TRY(alloc_act(plan, "max-pool", &plan->pooled));
    }
    if (!plan->model->has_feature)
        return NPOS_OK;
    size_t bytes = (size_t)plan->n * (size_t)arch->width * sizeof(float);
    NPI_TRY(plan->dev->memory->alloc(plan->dev, bytes, "mean features", &plan->mean));
    NPI_TRY(plan->dev->memory->alloc(plan->dev, bytes, "mean features' gradient", &plan->dmean));
    if (!plan->frozen)
        return NPOS_OK;
    const npi_linear *feature = &plan->model->feature;
    return plan->dev->memory->alloc(
        plan->dev, (size_t)(feature->in + 1) * (size_t)feature->out * sizeof(float),
        "feature layer", &plan->unused);
}

static npos_status create(npi_model *model, int n, bool training, bool frozen, npi_plan **out) {
    npi_plan *plan;
    *out = NULL;
    NPI_TRY(npi_alloc(&plan, 1, sizeof *plan, "plan"));
    plan->model = model;
    plan->dev = model->dev;
    plan->n = n;
    plan->training = training;
    plan->frozen = frozen;
    plan->input = (npi_act){n, model->arch.channels, model->arch.side, model->arch.side, NULL};
    npos_status status = alloc_act(plan, "input images", &plan->input);
    for (int i = 0; status == NPOS_OK && i < model->arch.layer_count; i++)
        status = make_unit(plan, i);
    if (status == NPOS_OK)
        status = make_buffers(plan);
    if (status == NPOS_OK)
        *out = plan;
    else
        npi_plan_free(plan);
    return status;
}

npos_status npi_plan_create(npi_model *model, int n, bool training, npi_plan **out) {
    return create(model, n, training, false, out);
}

npos_status npi_plan_create_frozen(npi_model *model, int n, npi_plan **out) {
    return create(model, n, true, true, out);
}

void npi_plan_free(npi_plan *plan) {
    if (!plan)
        return;
    npi_device *dev = plan->dev;
    npi_params *params = &plan->model->params;
    for (int i = 0; i < plan->model->arch.layer_count; i++) {
        npi_param *weight = &params->list[plan->model->layer_param[i]];
        if (plan->unit[i] && weight->unit == plan->unit[i])
            weight->unit = NULL;
        if (plan->unit[i])
            dev->units->free(dev, plan->unit[i]);
        if (plan->training)
            dev->memory->free(dev, plan->y[i].data);
    }
    if (plan->training && plan->model->arch.max_pool)
        dev->memory->free(dev, plan->pooled.data);
    for (int i = 0; i < INFERENCE_BUFFERS; i++)
        dev->memory->free(dev, plan->buffer[i]);
    dev->memory->free(dev, plan->pool_index);
    dev->memory->free(dev, plan->mean);
    dev->memory->free(dev, plan->dmean);
    dev->memory->free(dev, plan->unused);
    dev->memory->free(dev, plan->input.data);
    npi_free(plan);
}

npi_act npi_plan_input(npi_plan *plan) {
    return plan->input;
}

npi_act npi_plan_input_gradient(npi_plan *plan) {
    return plan->input_gradient;
}

const char *npi_plan_variant(npi_plan *plan, int i) {
    return plan->dev->units->variant(plan->unit[i]);
}

npos_status npi_plan_pack(npi_plan *plan) {
    for (int i = 0; i < plan->model->arch.layer_count; i++) {
        npi_unit_params params = unit_params(plan, i);
        NPI_TRY(plan->dev->units->pack(plan->unit[i], &params));
    }
    return NPOS_OK;
}

/* ---- forward ------------------------------------------------------------------------------------- */

/* From the last map to h. */
static npos_status finish(npi_plan *plan, npi_act map, float *h) {
    const npi_model *model = plan->model;
    if (!model->has_feature)
        return plan->dev->pools->mean_forward(plan->dev, map, h);
    NPI_TRY(plan->dev->pools->mean_forward(plan->dev, map, plan->mean));
    return npi_linear_forward(model, &model->feature, plan->n, plan->mean, true, h);
}

static npos_status train_layer(npi_plan *plan, int i, npi_act x, const npi_act *residual,
                               int shortcut, npi_act *y) {
    npi_unit_params params = unit_params(plan, i), other = {0};
    if (shortcut >= 0)
        other = unit_params(plan, shortcut);
    return plan->dev->units->forward(plan->unit[i], x, &params, residual,
                                     shortcut >= 0 ? plan->unit[shortcut] : NULL,
                                     shortcut >= 0 ? &other : NULL, y);
}

static npos_status forward_training(npi_plan *plan, float *h) {
    const npi_arch *arch = &plan->model->arch;
    NPI_TRY(train_layer(plan, 0, plan->input, NULL, -1, &plan->y[0]));
    npi_act x = plan->y[0];
    if (arch->max_pool) {
        NPI_TRY(plan->dev->pools->max_forward(plan->dev, x, plan->pooled, plan->pool_index));
        x = plan->pooled;
    }
    for (int b = 0; b < arch->block_count; b++) {
        const npi_stage_block *block = &arch->blocks[b];
        npi_act at = x;
        if (block->shortcut >= 0)
            NPI_TRY(train_layer(plan, block->shortcut, x, NULL, -1, NULL));
        for (int i = 0; i < block->count; i++) {
            int layer = block->layer[i];
            bool last = i == block->count - 1;
            NPI_TRY(train_layer(plan, layer, at, last && block->shortcut < 0 ? &x : NULL,
                                last ? block->shortcut : -1, &plan->y[layer]));
            at = plan->y[layer];
        }
        x = at;
    }
    return finish(plan, x, h);
}

static npos_status infer_layer(npi_plan *plan, int i, npi_act x, const npi_act *residual, void *to,
                               npi_act *y) {
    npi_unit_params params = unit_params(plan, i);
    *y = plan->y[i];
    y->data = to;
    return plan->dev->units->infer(plan->unit[i], x, &params, residual, y);
}

/* The input of a block stays in one buffer, its shortcut in a second, its layers alternate between the others. */
static npos_status forward_inference(npi_plan *plan, float *h) {
    const npi_arch *arch = &plan->model->arch;
    void **buffer = plan->buffer;
    npi_act x;
    int at = 0;
    NPI_TRY(infer_layer(plan, 0, plan->input, NULL, buffer[at], &x));
    if (arch->max_pool) {
        npi_act pooled = plan->pooled;
        pooled.data = buffer[1];
        NPI_TRY(plan->dev->pools->max_forward(plan->dev, x, pooled, plan->pool_index));
        x = pooled;
        at = 1;
    }
    for (int b = 0; b < arch->block_count; b++) {
        const npi_stage_block *block = &arch->blocks[b];
        int side = (at + 1) % 4, to = (at + 2) % 4, next = (at + 3) % 4;
        npi_act residual = x, y = x;
        if (block->shortcut >= 0)
            NPI_TRY(infer_layer(plan, block->shortcut, x, NULL, buffer[side], &residual));
        for (int i = 0; i < block->count; i++) {
            npi_act in = y;
            bool last = i == block->count - 1;
            NPI_TRY(
                infer_layer(plan, block->layer[i], in, last ? &residual : NULL, buffer[to], &y));
            at = to;
            to = next;
            next = at;
        }
        x = y;
    }
    return finish(plan, x, h);
}

npos_status npi_plan_forward(npi_plan *plan, float *h) {
    return plan->training ? forward_training(plan, h) : forward_inference(plan, h);
}

/* ---- backward ------------------------------------------------------------------------------------ */

/* A gradient of y's shape in buffer number `at`. */
static npi_act gradient(npi_plan *plan, npi_act y, int at) {
    y.data = plan->buffer[at];
    return y;
}

/* before: the layer that made x, if *dx is its whole gradient after this, else -1. */
static npos_status layer_backward(npi_plan *plan, int i, npi_act dy, npi_act x, npi_act *dx,
                                  bool accumulate, npi_act *dresidual, int before) {
    npi_unit_params params = unit_params(plan, i);
    if (plan->frozen)
        return plan->dev->units->backward(plan->unit[i], dy, x, &params, NULL, dx, accumulate,
                                          dresidual, NULL);
    npi_unit_params grads = unit_grads(plan, i);
    return plan->dev->units->backward(plan->unit[i], dy, x, &params, &grads, dx, accumulate,
                                      dresidual, before >= 0 ? plan->unit[before] : NULL);
}

/* The gradient of the block's output lies in buffer *at; afterwards *at is where that of its input x lies, which layer
 * `before` made (-1: none). */
static npos_status block_backward(npi_plan *plan, const npi_stage_block *block, npi_act x,
                                  int before, int *at) {
    int last = block->count - 1, side = (*at + 1) % 3, spare = (*at + 2) % 3, from = *at;
    npi_act dside = gradient(plan, plan->y[block->layer[last]], side);
    for (int i = last; i > 0; i--) {
        npi_act in = plan->y[block->layer[i - 1]];
        npi_act dy = gradient(plan, plan->y[block->layer[i]], from), dx = gradient(plan, in, spare);
        NPI_TRY(layer_backward(plan, block->layer[i], dy, in, &dx, false, i == last ? &dside : NULL,
                               block->layer[i - 1]));
        int held = from;
        from = spare;
        spare = held;
    }
    npi_act dy = gradient(plan, plan->y[block->layer[0]], from);
    if (block->shortcut < 0) {
        *at = side;
        return layer_backward(plan, block->layer[0], dy, x, &dside, true, NULL, before);
    }
    npi_act dx = gradient(plan, x, spare);
    *at = spare;
    NPI_TRY(layer_backward(plan, block->layer[0], dy, x, &dx, false, NULL, -1));
    return layer_backward(plan, block->shortcut, dside, x, &dx, true, NULL, before);
}

static npos_status feature_backward(npi_plan *plan, const float *h, float *dh) {
    const npi_model *model = plan->model;
    const npi_linear *l = &model->feature;
    if (!plan->frozen)
        return npi_linear_backward(model, l, plan->n, plan->mean, h, true, dh, plan->dmean, plan->n,
                                   false);
    return plan->dev->rows->linear_backward(
        plan->dev, plan->n, l->in, l->out, plan->mean, npi_param_value(&model->params, l->weight),
        h, true, dh, plan->unused, plan->unused + (size_t)l->in * (size_t)l->out, plan->dmean,
        plan->n, false);
}

npos_status npi_plan_backward(npi_plan *plan, const float *h, float *dh) {
    const npi_model *model = plan->model;
    const npi_arch *arch = &model->arch;
    const npi_stage_block *final = &arch->blocks[arch->block_count - 1];
    int at = 0;
    if (model->has_feature) {
        NPI_TRY(feature_backward(plan, h, dh));
        dh = plan->dmean;
    }
    npi_act map = gradient(plan, plan->y[final->layer[final->count - 1]], at);
    NPI_TRY(plan->dev->pools->mean_backward(plan->dev, dh, map));
    for (int b = arch->block_count - 1; b >= 0; b--) {
        const npi_stage_block *above = b > 0 ? &arch->blocks[b - 1] : NULL;
        int before = above ? above->layer[above->count - 1] : arch->max_pool ? -1 : 0;
        npi_act x = above ? plan->y[before] : plan->pooled;
        NPI_TRY(block_backward(plan, &arch->blocks[b], x, before, &at));
    }
    if (arch->max_pool) {
        npi_act dpooled = gradient(plan, plan->pooled, at),
                dstem = gradient(plan, plan->y[0], (at + 1) % 3);
        NPI_TRY(plan->dev->pools->max_backward(plan->dev, dpooled, plan->pool_index, dstem));
        at = (at + 1) % 3;
    }
    npi_act dy = gradient(plan, plan->y[0], at);
    plan->input_gradient = gradient(plan, plan->input, (at + 1) % 3);
    return layer_backward(plan, 0, dy, plan->input, plan->frozen ? &plan->input_gradient : NULL,
                          false, NULL, -1);
}

/* ---- as an encoder ------------------------------------------------------------------------------- */

static npos_status encoder_pack(void *plan) {
    return npi_plan_pack(plan);
}

static npos_status encoder_forward(void *plan, int n, float *h) {
    const npi_plan *p = plan;
    if (n != p->n)
        return npi_fail(NPOS_INTERNAL, "%d images in a plan of %d: batch statistics need all", n,
                        p->n);
    return npi_plan_forward(plan, h);
}

static npos_status encoder_backward(void *plan, const float *h, float *dh) {
    return npi_plan_backward(plan, h, dh);
}

npi_encoder npi_plan_encoder(npi_plan *plan) {
    return (npi_encoder){plan, encoder_pack, encoder_forward, encoder_backward};
}
