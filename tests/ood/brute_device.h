/* tests/ood/brute_device.h - a device that can do nothing but keep memory and find neighbours, by
 * brute force in float64: so that detectors are tested by themselves.  With `host` false the code
 * under test must upload and download, as for a GPU. */
#ifndef TESTS_OOD_BRUTE_DEVICE_H
#define TESTS_OOD_BRUTE_DEVICE_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tensor/device.h"

static inline npos_status brute_alloc(npi_device *dev, size_t bytes, const char *what, void *out) {
    (void)dev;
    return npi_alloc(out, bytes, 1, what);
}

static inline void brute_free(npi_device *dev, void *memory) {
    (void)dev;
    npi_free(memory);
}

static inline npos_status brute_copy_in(npi_device *dev, void *to, const void *from, size_t n) {
    (void)dev;
    memcpy(to, from, n);
    return NPOS_OK;
}

static inline npos_status brute_sync(npi_device *dev) {
    (void)dev;
    return NPOS_OK;
}

typedef struct brute_pair {
    double distance;
    int64_t index;
} brute_pair;

static inline int brute_order(const void *left, const void *right) {
    const brute_pair *a = left, *b = right;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static inline npos_status brute_neighbours(npi_device *dev, int n, const float *queries, int64_t m,
                                           const float *bank, int dim, int k, int64_t *index,
                                           float *distance) {
    brute_pair *pairs;
    (void)dev;
    NPI_TRY(npi_alloc(&pairs, (size_t)m, sizeof *pairs, "pairs"));
    for (int i = 0; i < n; i++) {
        for (int64_t j = 0; j < m; j++) {
            double sum = 0;
            for (int d = 0; d < dim; d++) {
                double gap = (double)queries[i * dim + d] - (double)bank[j * dim + d];
                sum += gap * gap;
            }
            pairs[j] = (brute_pair){(double)(float)sum, j}; /* equal in float32 is equal */
        }
        qsort(pairs, (size_t)m, sizeof *pairs, brute_order);
        for (int j = 0; j < k; j++) {
            if (index)
                index[(int64_t)i * k + j] = isnan(pairs[j].distance) ? -1 : pairs[j].index;
            if (distance)
                distance[(int64_t)i * k + j] = (float)pairs[j].distance;
        }
    }
    npi_free(pairs);
    return NPOS_OK;
}

static inline npos_status brute_kth(npi_device *dev, int n, const float *queries, int64_t m,
                                    const float *bank, int dim, int k, float *distance) {
    float *all;
    NPI_TRY(npi_alloc(&all, (size_t)n * (size_t)k, sizeof *all, "distances"));
    npos_status status = brute_neighbours(dev, n, queries, m, bank, dim, k, NULL, all);
    for (int i = 0; status == NPOS_OK && i < n; i++)
        distance[i] = all[(int64_t)i * k + k - 1];
    npi_free(all);
    return status;
}

static const npi_memory_ops brute_memory = {.alloc = brute_alloc,
                                            .free = brute_free,
                                            .upload = brute_copy_in,
                                            .download = brute_copy_in,
                                            .sync = brute_sync};
static const npi_ood_ops brute_ood = {.kth_neighbour = brute_kth, .neighbours = brute_neighbours};

static inline npi_device brute_device(bool host) {
    return (npi_device){.name = "brute", .host = host, .memory = &brute_memory, .ood = &brute_ood};
}

#endif
