/* nn/params.h - a model's parameters and buffers: names, shapes, values.
 *
 * Names are PyTorch's.  All are float32 in device memory: one arena of trainable values with arenas of gradients and
 * velocities of the same layout, and one arena of buffers (running statistics).  The outlier head's parameters
 * (phi.*) lie behind all others, so that an optimiser can treat the two groups as two ranges.
 * A convolution's weight lies in its unit's layout (which depends on its shape alone, not on the batch) and is
 * converted from and to OIHW where it is read or written by name. */
#ifndef NPI_NN_PARAMS_H
#define NPI_NN_PARAMS_H

#include "tensor/device.h"

typedef struct npi_param {
    char name[64];
    int ndim;
    int64_t shape[4];
    bool buffer;
    size_t offset, count; /* floats, in the arena of parameters or of buffers */
    npi_unit *unit; /* of a convolution's weight, else NULL; set when a plan has made its units */
} npi_param;

typedef struct npi_params {
    npi_device *dev;
    npi_param *list;
    int count;
    size_t body, head, buffers; /* floats: all but phi, phi, buffers */
    float *values, *grads, *velocity, *running;
} npi_params;

/* Appends a parameter (before npi_params_alloc); returns its number in *index.  Parameters of the outlier head must
 * come last. */
NPOS_MUST_CHECK npos_status npi_params_add(npi_params *params, const char *name, int ndim,
                                           const int64_t *shape, bool buffer, bool head,
                                           int *index);
/* Allocates the arenas; gradients and velocities only when `training`. */
NPOS_MUST_CHECK npos_status npi_params_alloc(npi_params *params, bool training);
void npi_params_free(npi_params *params);

/* Device pointers of one parameter. */
static inline float *npi_param_value(const npi_params *params, int i) {
    const npi_param *p = &params->list[i];
    return (p->buffer ? params->running : params->values) + p->offset;
}
static inline float *npi_param_grad(const npi_params *params, int i) {
    return params->grads + params->list[i].offset;
}

/* One of the arenas: values, gradients or velocities. */
typedef enum npi_arena { NPI_ARENA_VALUES, NPI_ARENA_GRADS, NPI_ARENA_VELOCITY } npi_arena;

/* Copies a parameter to or from the host in PyTorch's layout; buffers have values only. */
NPOS_MUST_CHECK npos_status npi_param_get(const npi_params *params, npi_arena arena, int i,
                                          float *host);
NPOS_MUST_CHECK npos_status npi_param_set(npi_params *params, npi_arena arena, int i,
                                          const float *host);

/* Index of a name, or -1. */
int npi_params_find(const npi_params *params, const char *name);

/* PyTorch's default start: linear layers uniform +-1/sqrt(fan_in), convolutions Kaiming-normal with fan-out, batch norm
 * 1 and 0.  Philox, purpose NPI_RANDOM_INIT, item = number of the parameter. */
NPOS_MUST_CHECK npos_status npi_params_init(npi_params *params, uint64_t seed);
/* The outlier head's alone. */
NPOS_MUST_CHECK npos_status npi_params_init_head(npi_params *params, uint64_t seed);

#endif
