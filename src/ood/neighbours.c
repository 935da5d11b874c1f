#include "ood/neighbours.h"

#include <math.h>

#include "base/memory.h"

enum { BLOCK = 2048 }; /* queries handed to the device at a time */

struct npi_neighbour_bank {
    npi_device *dev;
    int64_t n;
    int dim;
    float *rows; /* [n][dim] unit rows, device memory */
};

void npi_normalise_rows(int64_t n, int dim, const float *x, float *z) {
#pragma omp parallel for schedule(static) if (n > 1000)
    for (int64_t i = 0; i < n; i++) {
        const float *from = x + i * dim;
        float *to = z + i * dim;
        double sum = 0;
        for (int d = 0; d < dim; d++)
            sum += (double)from[d] * (double)from[d];
        double scale = 1 / fmax(sqrt(sum), 1e-12);
        for (int d = 0; d < dim; d++)
            to[d] = (float)((double)from[d] * scale);
    }
}

void npi_neighbour_bank_free(npi_neighbour_bank *bank) {
    if (!bank)
        return;
    bank->dev->memory->free(bank->dev, bank->rows);
    npi_free(bank);
}

int64_t npi_neighbour_bank_count(const npi_neighbour_bank *bank) {
    return bank->n;
}

/* Normalises n host rows into the device memory `to`, through `held` (host, BLOCK rows) where the
 * device's memory is not the host's. */
static npos_status normalise_to_device(npi_device *dev, int64_t n, int dim, const float *h,
                                       float *held, float *to) {
    if (dev->host) {
        npi_normalise_rows(n, dim, h, to);
        return NPOS_OK;
    }
    for (int64_t first = 0; first < n; first += BLOCK) {
        int64_t rows = n - first < BLOCK ? n - first : BLOCK;
        npi_normalise_rows(rows, dim, h + first * dim, held);
        NPI_TRY(dev->memory->upload(dev, to + first * dim, held,
                                    (size_t)rows * (size_t)dim * sizeof *held));
    }
    return NPOS_OK;
}

npos_status npi_neighbour_bank_make(npi_device *dev, int64_t n, int dim, const float *h,
                                    npi_neighbour_bank **out) {
    npi_neighbour_bank *bank = NULL;
    float *held = NULL;
    npos_status status;
    *out = NULL;
    if (n < 1 || dim < 1)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "training embeddings: %lld rows of %d numbers, expected at least one",
                        (long long)n, dim);
    NPI_TRY_GOTO(npi_alloc(&bank, 1, sizeof *bank, "training embeddings"), fail);
    *bank = (npi_neighbour_bank){dev, n, dim, NULL};
    NPI_TRY_GOTO(dev->memory->alloc(dev, (size_t)n * (size_t)dim * sizeof *bank->rows,
                                    "normalised training embeddings", &bank->rows),
                 fail);
    if (!dev->host)
        NPI_TRY_GOTO(npi_alloc(&held, (size_t)BLOCK * (size_t)dim, sizeof *held, "embeddings"),
                     fail);
    NPI_TRY_GOTO(normalise_to_device(dev, n, dim, h, held, bank->rows), fail);
    NPI_TRY_GOTO(dev->memory->sync(dev), fail);
    npi_free(held);
    *out = bank;
    return NPOS_OK;
fail:
    npi_free(held);
    npi_neighbour_bank_free(bank);
    return status;
}

/* Device memory of one block of queries and its results, and host memory beside it. */
typedef struct block {
    npi_device *dev;
    float *queries, *distance; /* device memory */
    int64_t *index;            /* device memory */
    float *held;               /* host, where the device's memory is not the host's */
} block;

static void block_free(block *b) {
    const npi_memory_ops *memory = b->dev->memory;
    memory->free(b->dev, b->queries);
    memory->free(b->dev, b->distance);
    memory->free(b->dev, b->index);
    npi_free(b->held);
}

static npos_status block_make(npi_device *dev, int64_t n, int dim, int k, block *b) {
    size_t rows = (size_t)(n < BLOCK ? n : BLOCK);
    *b = (block){.dev = dev};
    NPI_TRY(dev->memory->alloc(dev, rows * (size_t)dim * sizeof(float), "queries", &b->queries));
    NPI_TRY(dev->memory->alloc(dev, rows * (size_t)k * sizeof(float), "distances", &b->distance));
    NPI_TRY(dev->memory->alloc(dev, rows * (size_t)k * sizeof(int64_t), "neighbours", &b->index));
    return dev->host ? NPOS_OK : npi_alloc(&b->held, rows * (size_t)dim, sizeof(float), "queries");
}

static npos_status check_k(const npi_neighbour_bank *bank, int k) {
    return k >= 1 && k <= bank->n
               ? NPOS_OK
               : npi_fail(NPOS_INVALID_ARGUMENT,
                          "k-nearest neighbours: k is %d, but there are %lld training embeddings",
                          k, (long long)bank->n);
}

npos_status npi_neighbour_kth(const npi_neighbour_bank *bank, int64_t n, const float *h, int k,
                              double *distance) {
    npi_device *dev = bank->dev;
    float *found = NULL;
    block b = {.dev = dev};
    npos_status status;
    NPI_TRY(check_k(bank, k));
    NPI_TRY_GOTO(block_make(dev, n, bank->dim, 1, &b), done);
    NPI_TRY_GOTO(npi_alloc(&found, BLOCK, sizeof *found, "distances"), done);
    for (int64_t first = 0; first < n; first += BLOCK) {
        int64_t rows = n - first < BLOCK ? n - first : BLOCK;
        NPI_TRY_GOTO(
            normalise_to_device(dev, rows, bank->dim, h + first * bank->dim, b.held, b.queries),
            done);
        NPI_TRY_GOTO(dev->ood->kth_neighbour(dev, (int)rows, b.queries, bank->n, bank->rows,
                                             bank->dim, k, b.distance),
                     done);
        NPI_TRY_GOTO(dev->memory->download(dev, found, b.distance, (size_t)rows * sizeof *found),
                     done);
        for (int64_t i = 0; i < rows; i++)
            distance[first + i] = (double)found[i];
    }
done:
    block_free(&b);
    npi_free(found);
    return status;
}

npos_status npi_neighbour_list(const npi_neighbour_bank *bank, int64_t n, const float *h, int k,
                               int64_t *index, float *distance) {
    npi_device *dev = bank->dev;
    block b = {.dev = dev};
    npos_status status;
    NPI_TRY(check_k(bank, k));
    NPI_TRY_GOTO(block_make(dev, n, bank->dim, k, &b), done);
    for (int64_t first = 0; first < n; first += BLOCK) {
        int64_t rows = n - first < BLOCK ? n - first : BLOCK;
        size_t found = (size_t)rows * (size_t)k;
        NPI_TRY_GOTO(
            normalise_to_device(dev, rows, bank->dim, h + first * bank->dim, b.held, b.queries),
            done);
        NPI_TRY_GOTO(dev->ood->neighbours(dev, (int)rows, b.queries, bank->n, bank->rows, bank->dim,
                                          k, b.index, b.distance),
                     done);
        NPI_TRY_GOTO(dev->memory->download(dev, index + first * k, b.index, found * sizeof *index),
                     done);
        for (size_t i = 0; i < found; i++) {
            int64_t row = index[(size_t)first * (size_t)k + i];
            if (row < 0 || row >= bank->n) { /* distances to NaN have no order */
                status = npi_fail(NPOS_NOT_FINITE,
                                  "k-nearest neighbours: embedding %lld has no nearest neighbours, "
                                  "it is not finite",
                                  (long long)(first + (int64_t)i / k));
                goto done;
            }
        }
        if (distance)
            NPI_TRY_GOTO(dev->memory->download(dev, distance + first * k, b.distance,
                                               found * sizeof *distance),
                         done);
    }
done:
    block_free(&b);
    return status;
}
