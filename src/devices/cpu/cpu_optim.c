#include <math.h>

#include "devices/cpu/cpu_math.h"

enum { SHARD = 16384 }; /* elements of one partial sum, and of one task */

static npos_status norm(npi_device *dev, size_t count, const float *grads, float *losses) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    const npi_math *math = npi_math_of(cpu->isa);
    ptrdiff_t shards = (ptrdiff_t)((count + SHARD - 1) / SHARD);
    double *partial;
    NPI_TRY(npi_cpu_scratch(dev, (size_t)shards * sizeof *partial + 64, &partial));
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (ptrdiff_t s = 0; s < shards; s++) {
        size_t start = (size_t)s * SHARD, length = count - start < SHARD ? count - start : SHARD;
        partial[s] = math->dot(length, grads + start, grads + start);
    }
    double sum = 0.0;
    for (ptrdiff_t s = 0; s < shards; s++)
        sum += partial[s];
    losses[NPI_LOSS_GRAD_NORM] = (float)sqrt(sum);
    return NPOS_OK;
}

static npos_status sgd(npi_device *dev, const npi_sgd_desc *desc, size_t count, float *weights,
                       const float *grads, float *velocity, const npi_step *step, bool head,
                       const float *losses) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    float rate = head ? step->head_lr : step->lr, clip = 1.0f;
    if (desc->clip_norm > 0.0f && losses[NPI_LOSS_GRAD_NORM] > desc->clip_norm)
        clip = desc->clip_norm / losses[NPI_LOSS_GRAD_NORM];
    const npi_math *math = npi_math_of(cpu->isa);
    ptrdiff_t shards = (ptrdiff_t)((count + SHARD - 1) / SHARD);
#pragma omp parallel for num_threads(shards > 1 ? cpu->threads : 1) schedule(static)
    for (ptrdiff_t s = 0; s < shards; s++) {
        size_t start = (size_t)s * SHARD, length = count - start < SHARD ? count - start : SHARD;
        math->sgd(length, clip, rate, desc->momentum, desc->weight_decay, desc->nesterov,
                  weights + start, grads + start, velocity + start);
    }
    return NPOS_OK;
}

const npi_optim_ops npi_cpu_optim = {.norm = norm, .sgd = sgd};
