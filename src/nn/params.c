#include "nn/params.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"

npos_status npi_params_add(npi_params *params, const char *name, int ndim, const int64_t *shape,
                           bool buffer, bool head, int *index) {
    size_t count = (size_t)params->count;
    NPI_TRY(npi_grow(&params->list, count, count + 1, sizeof *params->list, "parameter list"));
    npi_param *p = &params->list[params->count];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->ndim = ndim;
    p->buffer = buffer;
    p->count = 1;
    for (int i = 0; i < ndim; i++) {
        p->shape[i] = shape[i];
        p->count *= (size_t)shape[i];
    }
    size_t room = (p->count + 15) / 16 * 16; /* each starts on a cache line */
    if (buffer) {
        p->offset = params->buffers;
        params->buffers += room;
    } else if (head) {
        p->offset = params->body + params->head;
        params->head += room;
    } else if (params->head != 0) {
        return npi_fail(NPOS_INTERNAL, "parameter '%s' comes behind the outlier head's", name);
    } else {
        p->offset = params->body;
        params->body += room;
    }
    *index = params->count++;
    return NPOS_OK;
}

npos_status npi_params_alloc(npi_params *params, bool training) {
    const npi_memory_ops *memory = params->dev->memory;
    size_t bytes = (params->body + params->head) * sizeof(float);
    NPI_TRY(memory->alloc(params->dev, bytes, "parameters", &params->values));
    NPI_TRY(memory->alloc(params->dev, params->buffers * sizeof(float), "running statistics",
                          &params->running));
    if (!training)
        return NPOS_OK;
    NPI_TRY(memory->alloc(params->dev, bytes, "gradients", &params->grads));
    return memory->alloc(params->dev, bytes, "velocities", &params->velocity);
}

void npi_params_free(npi_params *params) {
    if (params->dev) {
        const npi_memory_ops *memory = params->dev->memory;
        memory->free(params->dev, params->values);
        memory->free(params->dev, params->running);
        memory->free(params->dev, params->grads);
        memory->free(params->dev, params->velocity);
    }
    npi_free(params->list);
    *params = (npi_params){0};
}

static float *place(const npi_params *params, npi_arena arena, const npi_param *p) {
    if (p->buffer)
        return params->running + p->offset;
    float *const arenas[] = {params->values, params->grads, params->velocity};
    return arenas[arena] + p->offset;
}

npos_status npi_param_get(const npi_params *params, npi_arena arena, int i, float *host) {
    const npi_param *p = &params->list[i];
    npi_device *dev = params->dev;
    float *at = place(params, arena, p);
    return p->unit ? dev->units->weight_export(p->unit, at, host)
                   : dev->memory->download(dev, host, at, p->count * sizeof(float));
}

npos_status npi_param_set(npi_params *params, npi_arena arena, int i, const float *host) {
    const npi_param *p = &params->list[i];
    npi_device *dev = params->dev;
    float *at = place(params, arena, p);
    return p->unit ? dev->units->weight_import(p->unit, host, at)
                   : dev->memory->upload(dev, at, host, p->count * sizeof(float));
}

int npi_params_find(const npi_params *params, const char *name) {
    for (int i = 0; i < params->count; i++)
        if (strcmp(params->list[i].name, name) == 0)
            return i;
    return -1;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* Starting value number k of a parameter: convolutions have 4 dimensions, linear weights 2; of vectors, a linear
 * layer's bias follows its weight and takes its bound. */
static void fill(const npi_params *params, int i, uint64_t seed, float *host) {
    const npi_param *p = &params->list[i];
    bool bias_of_linear = ends_with(p->name, ".bias") && i > 0 && params->list[i - 1].ndim == 2;
    float constant =
        (ends_with(p->name, ".weight") && p->ndim == 1) || ends_with(p->name, "running_var") ? 1.0f
                                                                                             : 0.0f;
    if (p->ndim < 2 && !bias_of_linear) {
        for (size_t k = 0; k < p->count; k++)
            host[k] = constant;
        return;
    }
    int64_t fan_in = bias_of_linear ? params->list[i - 1].shape[1] : p->shape[1];
    float deviation =
        p->ndim == 4 ? sqrtf(2.0f / (float)(p->shape[0] * p->shape[2] * p->shape[3])) : 0.0f;
    float bound = 1.0f / sqrtf((float)fan_in);
    for (size_t k = 0; k < p->count; k += 4) {
        npi_u32x4 r = npi_philox(seed, NPI_RANDOM_INIT, 0, (uint32_t)i, (uint32_t)(k / 4));
        float x[4];
        npi_normal_pair(r.v[0], r.v[1], &x[0], &x[1]);
        npi_normal_pair(r.v[2], r.v[3], &x[2], &x[3]);
        for (size_t j = 0; j < 4 && k + j < p->count; j++)
            host[k + j] =
                p->ndim == 4 ? deviation * x[j] : bound * (2.0f * npi_unit_float(r.v[j]) - 1.0f);
    }
}

static npos_status init_from(npi_params *params, int first, uint64_t seed) {
    size_t largest = 1;
    for (int i = first; i < params->count; i++)
        largest = params->list[i].count > largest ? params->list[i].count : largest;
    float *host;
    NPI_TRY(npi_alloc(&host, largest, sizeof *host, "initial weights"));
    npos_status status = NPOS_OK;
    for (int i = first; status == NPOS_OK && i < params->count; i++) {
        fill(params, i, seed, host);
        status = npi_param_set(params, NPI_ARENA_VALUES, i, host);
    }
    npi_free(host);
    return status;
}

npos_status npi_params_init(npi_params *params, uint64_t seed) {
    return init_from(params, 0, seed);
}

npos_status npi_params_init_head(npi_params *params, uint64_t seed) {
    int first = 0;
    while (first < params->count && strncmp(params->list[first].name, "phi.", 4) != 0)
        first++;
    return init_from(params, first, seed);
}
