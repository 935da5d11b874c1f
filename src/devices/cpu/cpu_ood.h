/* devices/cpu/cpu_ood.h - entries of npi_cpu_ood, by file. */
#ifndef NPI_DEVICES_CPU_OOD_H
#define NPI_DEVICES_CPU_OOD_H

#include "devices/cpu/cpu_math.h"

/* cpu_ood_knn.c; find: both entries with given kernels (index or distance may be NULL; all: k of
 * each a query, else the k-th distance) */
npos_status npi_cpu_find(npi_device *dev, const npi_math *math, int n, const float *queries,
                         int64_t m, const float *bank, int dim, int k, int64_t *index,
                         float *distance, bool all);
npos_status npi_cpu_kth_neighbour(npi_device *dev, int n, const float *queries, int64_t m,
                                  const float *bank, int dim, int k, float *distance);
npos_status npi_cpu_neighbours(npi_device *dev, int n, const float *queries, int64_t m,
                               const float *bank, int dim, int k, int64_t *index, float *distance);

/* cpu_ood_synth.c */
npos_status npi_cpu_synth_create(npi_device *dev, const npi_synth_desc *desc, npi_synth **out);
npos_status npi_cpu_synthesise(npi_synth *synth, const npi_ring *ring, const npi_step *step,
                               const npi_synth_given *given, float *outliers, int32_t *boundary);

/* cpu_ood_gauss.c */
npos_status npi_cpu_gauss_create(npi_device *dev, const npi_gauss_desc *desc, npi_synth **out);
npos_status npi_cpu_gauss_synthesise(npi_synth *synth, const npi_ring *ring, const npi_step *step,
                                     float *outliers);

/* Both kinds of plan begin with this: one block of host memory, counted by the device. */
struct npi_synth {
    npi_device *dev;
    bool gauss;
};

/* value[rank], index[rank]: sorts pairs by falling value, ties by rising index. */
typedef struct npi_ranked {
    float value;
    int32_t index;
} npi_ranked;
void npi_rank_falling(npi_ranked *pairs, int n);

#endif
