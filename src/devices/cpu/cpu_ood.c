#include "devices/cpu/cpu_ood.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static int falling(const void *a, const void *b) {
    const npi_ranked *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

void npi_rank_falling(npi_ranked *pairs, int n) {
    for (int i = 0; i < n; i++)
        if (isnan(pairs[i].value))
            pairs[i].value = -INFINITY;
    qsort(pairs, (size_t)n, sizeof *pairs, falling);
}

static npos_status ring_push(npi_device *dev, const npi_ring *ring, int n, const float *h,
                             const int32_t *labels) {
    (void)dev;
    for (int i = 0; i < n; i++) {
        if (labels[i] < 0)
            continue;
        if (labels[i] >= ring->classes)
            return npi_fail(NPOS_INVALID_ARGUMENT, "ring: label %d of row %d, expected -1 to %d",
                            labels[i], i, ring->classes - 1);
        size_t class = (size_t)labels[i], size = (size_t)ring->size, dim = (size_t)ring->dim;
        size_t slot = (size_t)(ring->count[class]++ % (uint64_t)size);
        memcpy(ring->rows + (class * size + slot) * dim, h + (size_t)i * dim, dim * sizeof *h);
    }
    return NPOS_OK;
}

static void synth_free(npi_device *dev, npi_synth *synth) {
    (void)dev;
    npi_free(synth);
}

const npi_ood_ops npi_cpu_ood = {
    .ring_push = ring_push,
    .synth_create = npi_cpu_synth_create,
    .synth_free = synth_free,
    .synthesise = npi_cpu_synthesise,
    .gauss_create = npi_cpu_gauss_create,
    .gauss_synthesise = npi_cpu_gauss_synthesise,
    .kth_neighbour = npi_cpu_kth_neighbour,
    .neighbours = npi_cpu_neighbours,
};
