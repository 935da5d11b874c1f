#include <math.h>

#include "devices/reference/ref.h"

static npos_status norm(npi_device *dev, size_t count, const float *grads, float *losses) {
    (void)dev;
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += (double)grads[i] * (double)grads[i];
    losses[NPI_LOSS_GRAD_NORM] = (float)sqrt(sum);
    return NPOS_OK;
}

/* g = clip dw + decay w;  v = momentum v + g;  w -= lr (nesterov ? g + momentum v : v) */
static npos_status sgd(npi_device *dev, const npi_sgd_desc *desc, size_t count, float *weights,
                       const float *grads, float *velocity, const npi_step *step, bool head,
                       const float *losses) {
    (void)dev;
    double momentum = (double)desc->momentum, decay = (double)desc->weight_decay;
    double rate = (double)(head ? step->head_lr : step->lr), clip = 1.0;
    if (desc->clip_norm > 0.0f) {
        if (!losses)
            return npi_fail(NPOS_INVALID_ARGUMENT, "sgd: clip_norm is %g, but no norm was given",
                            (double)desc->clip_norm);
        if (losses[NPI_LOSS_GRAD_NORM] > desc->clip_norm)
            clip = (double)desc->clip_norm / (double)losses[NPI_LOSS_GRAD_NORM];
    }
    for (size_t i = 0; i < count; i++) {
        double g = clip * (double)grads[i] + decay * (double)weights[i];
        double v = momentum * (double)velocity[i] + g;
        velocity[i] = (float)v;
        weights[i] = (float)((double)weights[i] - rate * (desc->nesterov ? g + momentum * v : v));
    }
    return NPOS_OK;
}

const npi_optim_ops npi_ref_optim = {.norm = norm, .sgd = sgd};
