#include "ood/neighbours.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

/* Queries handed to the device at a time: each block of them meets every part of a bank in parts. */
enum { BLOCK = 2048, PARTS_BLOCK = 8192 };

static const int64_t host_keeps = (int64_t)1 << 30, host_part = (int64_t)256 << 20,
                     device_part = (int64_t)1 << 30; /* bytes */

struct npi_neighbour_bank {
    npi_device *dev;
    int64_t n;
    int dim;
    float *rows;    /* device memory: [n][dim] unit rows, or [part][dim] of the part at hand */
    int64_t part;   /* rows of a part; 0: all are in `rows` */
    const float *h; /* of a bank in parts: the caller's, and what normalises each row [n] */
    double *scale;
};

static double scale_of(const float *x, int dim) {
    double sum = 0;
    for (int d = 0; d < dim; d++)
        sum += (double)x[d] * (double)x[d];
    return 1 / fmax(sqrt(sum), 1e-12);
}

static void scale_row(const float *x, int dim, double scale, float *z) {
    for (int d = 0; d < dim; d++)
        z[d] = (float)((double)x[d] * scale);
}

void npi_normalise_rows(int64_t n, int dim, const float *x, float *z) {
#pragma omp parallel for schedule(static) if (n > 1000)
    for (int64_t i = 0; i < n; i++)
        scale_row(x + i * dim, dim, scale_of(x + i * dim, dim), z + i * dim);
}

void npi_neighbour_bank_free(npi_neighbour_bank *bank) {
    if (!bank)
        return;
    bank->dev->memory->free(bank->dev, bank->rows);
    npi_free(bank->scale);
    npi_free(bank);
}

int64_t npi_neighbour_bank_count(const npi_neighbour_bank *bank) {
    return bank->n;
}

int64_t npi_neighbour_bank_part(const npi_neighbour_bank *bank) {
    return bank->part;
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

static npos_status check_rows(int64_t n, int dim) {
    return n >= 1 && dim >= 1
               ? NPOS_OK
               : npi_fail(NPOS_INVALID_ARGUMENT,
                          "training embeddings: %lld rows of %d numbers, expected at least one",
                          (long long)n, dim);
}

static npos_status make_whole(npi_device *dev, int64_t n, int dim, const float *h,
                              npi_neighbour_bank *bank) {
    float *held = NULL;
    npos_status status;
    NPI_TRY(dev->memory->alloc(dev, (size_t)n * (size_t)dim * sizeof *bank->rows,
                               "normalised training embeddings", &bank->rows));
    if (!dev->host)
        NPI_TRY_GOTO(npi_alloc(&held, (size_t)BLOCK * (size_t)dim, sizeof *held, "embeddings"),
                     done);
    NPI_TRY_GOTO(normalise_to_device(dev, n, dim, h, held, bank->rows), done);
    status = dev->memory->sync(dev);
done:
    npi_free(held);
    return status;
}

static npos_status make_parts(npi_device *dev, int64_t n, int dim, const float *h, int64_t rows,
                              npi_neighbour_bank *bank) {
    bank->part = rows < 1 ? 1 : rows > n ? n : rows;
    bank->h = h;
    NPI_TRY(npi_alloc(&bank->scale, (size_t)n, sizeof *bank->scale, "norms of embeddings"));
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        bank->scale[i] = scale_of(h + i * dim, dim);
    return dev->memory->alloc(dev, (size_t)bank->part * (size_t)dim * sizeof *bank->rows,
                              "a part of the training embeddings", &bank->rows);
}

npos_status npi_neighbour_bank_make_parts(npi_device *dev, int64_t n, int dim, const float *h,
                                          int64_t rows, npi_neighbour_bank **out) {
    *out = NULL;
    NPI_TRY(check_rows(n, dim));
    NPI_TRY(npi_alloc(out, 1, sizeof **out, "training embeddings"));
    **out = (npi_neighbour_bank){.dev = dev, .n = n, .dim = dim};
    npos_status status = make_parts(dev, n, dim, h, rows, *out);
    if (status != NPOS_OK) {
        npi_neighbour_bank_free(*out);
        *out = NULL;
    }
    return status;
}

npos_status npi_neighbour_bank_make(npi_device *dev, int64_t n, int dim, const float *h,
                                    npi_neighbour_bank **out) {
    *out = NULL;
    NPI_TRY(check_rows(n, dim));
    const int64_t row = (int64_t)dim * (int64_t)sizeof *h;
    if (dev->host && n > host_keeps / row)
        return npi_neighbour_bank_make_parts(dev, n, dim, h, host_part / row, out);
    NPI_TRY(npi_alloc(out, 1, sizeof **out, "training embeddings"));
    **out = (npi_neighbour_bank){.dev = dev, .n = n, .dim = dim};
    npos_status status = make_whole(dev, n, dim, h, *out);
    if (status == NPOS_OK)
        return NPOS_OK;
    npi_neighbour_bank_free(*out);
    *out = NULL;
    return status == NPOS_OUT_OF_MEMORY && !dev->host && n > device_part / row
               ? npi_neighbour_bank_make_parts(dev, n, dim, h, device_part / row, out)
               : status;
}

/* Device memory of one block of queries and its results, and host memory beside it. */
typedef struct block {
    npi_device *dev;
    float *queries, *distance; /* device memory */
    int64_t *index;            /* device memory */
    float *held;               /* host, where the device's memory is not the host's */
    float *part_rows;          /* likewise, of a bank in parts */
} block;

static void block_free(block *b) {
    const npi_memory_ops *memory = b->dev->memory;
    memory->free(b->dev, b->queries);
    memory->free(b->dev, b->distance);
    memory->free(b->dev, b->index);
    npi_free(b->held);
    npi_free(b->part_rows);
}

static npos_status block_make(npi_device *dev, int64_t n, int64_t most, int dim, int k, block *b) {
    size_t rows = (size_t)(n < most ? n : most);
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

/* ---- in parts ---- */

/* The k nearest rows so far of each query of a block, nearest first, and those of the newest part;
 * host memory. */
typedef struct merged {
    int k;
    int64_t count; /* of each query so far, k of them kept */
    int64_t *index, *found_index, *spare_index;
    float *distance, *found, *spare;
} merged;

static void merged_free(merged *m) {
    npi_free(m->index);
    npi_free(m->found_index);
    npi_free(m->spare_index);
    npi_free(m->distance);
    npi_free(m->found);
    npi_free(m->spare);
}

static npos_status merged_make(int64_t queries, int k, merged *m) {
    size_t all = (size_t)queries * (size_t)k;
    *m = (merged){.k = k};
    NPI_TRY(npi_alloc(&m->index, all, sizeof *m->index, "neighbours"));
    NPI_TRY(npi_alloc(&m->found_index, all, sizeof *m->index, "neighbours of a part"));
    NPI_TRY(npi_alloc(&m->spare_index, (size_t)k, sizeof *m->index, "neighbours"));
    NPI_TRY(npi_alloc(&m->distance, all, sizeof *m->distance, "distances"));
    NPI_TRY(npi_alloc(&m->found, all, sizeof *m->found, "distances of a part"));
    return npi_alloc(&m->spare, (size_t)k, sizeof *m->spare, "distances");
}

/* Of two lists the k nearest; `first`, `size`: the part's rows.  Rows of earlier parts come first among
 * equals, for their index is lower. */
static void merge_query(merged *m, int64_t query, int64_t first, int64_t size, int fresh) {
    int64_t *index = m->index + query * m->k;
    float *distance = m->distance + query * m->k;
    const int64_t *found_index = m->found_index + query * fresh;
    const float *found = m->found + query * fresh;
    int have = m->count < m->k ? (int)m->count : m->k, a = 0, b = 0, kept = 0;
    for (; kept < m->k && (a < have || b < fresh); kept++) {
        bool old = b >= fresh || (a < have && !(found[b] < distance[a]));
        m->spare[kept] = old ? distance[a] : found[b];
        bool there = old || (found_index[b] >= 0 && found_index[b] < size);
        m->spare_index[kept] = old ? index[a] : there ? first + found_index[b] : -1;
        a += old;
        b += !old;
    }
    memcpy(index, m->spare_index, (size_t)kept * sizeof *index);
    memcpy(distance, m->spare, (size_t)kept * sizeof *distance);
}

/* The part that begins with row `first`, normalised, into the device's memory. */
static npos_status load_part(const npi_neighbour_bank *bank, int64_t first, int64_t rows,
                             float *held) {
    npi_device *dev = bank->dev;
    int dim = bank->dim;
    for (int64_t at = 0; at < rows; at += dev->host ? rows : PARTS_BLOCK) {
        int64_t left = rows - at, count = dev->host || left < PARTS_BLOCK ? left : PARTS_BLOCK;
        float *to = dev->host ? bank->rows : held;
#pragma omp parallel for schedule(static)
        for (int64_t i = 0; i < count; i++)
            scale_row(bank->h + (first + at + i) * dim, dim, bank->scale[first + at + i],
                      to + i * dim);
        if (!dev->host)
            NPI_TRY(dev->memory->upload(dev, bank->rows + at * dim, held,
                                        (size_t)count * (size_t)dim * sizeof *held));
    }
    return NPOS_OK;
}

/* m: the k nearest of `rows` queries that are in b. */
static npos_status search_parts(const npi_neighbour_bank *bank, const block *b, int64_t rows,
                                merged *m) {
    npi_device *dev = bank->dev;
    m->count = 0;
    for (int64_t first = 0; first < bank->n; first += bank->part) {
        int64_t size = bank->n - first < bank->part ? bank->n - first : bank->part;
        int fresh = size < m->k ? (int)size : m->k;
        size_t found = (size_t)rows * (size_t)fresh;
        NPI_TRY(load_part(bank, first, size, b->part_rows));
        NPI_TRY(dev->ood->neighbours(dev, (int)rows, b->queries, size, bank->rows, bank->dim, fresh,
                                     b->index, b->distance));
        NPI_TRY(dev->memory->download(dev, m->found_index, b->index, found * sizeof *b->index));
        NPI_TRY(dev->memory->download(dev, m->found, b->distance, found * sizeof *b->distance));
        NPI_TRY(dev->memory->sync(dev));
        for (int64_t q = 0; q < rows; q++)
            merge_query(m, q, first, size, fresh);
        m->count += fresh;
    }
    return NPOS_OK;
}

/* kth (may be NULL) [n]; index and distance (may be NULL) [n][k]. */
static npos_status in_parts(const npi_neighbour_bank *bank, int64_t n, const float *h, int k,
                            double *kth, int64_t *index, float *distance) {
    npi_device *dev = bank->dev;
    block b = {.dev = dev};
    merged m = {0};
    npos_status status;
    int64_t most = n < PARTS_BLOCK ? n : PARTS_BLOCK;
    NPI_TRY_GOTO(block_make(dev, most, most, bank->dim, k, &b), done);
    if (!dev->host)
        NPI_TRY_GOTO(npi_alloc(&b.part_rows, (size_t)PARTS_BLOCK * (size_t)bank->dim,
                               sizeof *b.part_rows, "a part of the training embeddings"),
                     done);
    NPI_TRY_GOTO(merged_make(most, k, &m), done);
    for (int64_t first = 0; first < n; first += most) {
        int64_t rows = n - first < most ? n - first : most;
        NPI_TRY_GOTO(
            normalise_to_device(dev, rows, bank->dim, h + first * bank->dim, b.held, b.queries),
            done);
        NPI_TRY_GOTO(search_parts(bank, &b, rows, &m), done);
        for (int64_t q = 0; kth && q < rows; q++)
            kth[first + q] = (double)m.distance[q * k + k - 1];
        if (index)
            memcpy(index + first * k, m.index, (size_t)rows * (size_t)k * sizeof *index);
        if (distance)
            memcpy(distance + first * k, m.distance, (size_t)rows * (size_t)k * sizeof *distance);
    }
done:
    block_free(&b);
    merged_free(&m);
    return status;
}

/* ---- as a whole ---- */

npos_status npi_neighbour_kth(const npi_neighbour_bank *bank, int64_t n, const float *h, int k,
                              double *distance) {
    npi_device *dev = bank->dev;
    float *found = NULL;
    block b = {.dev = dev};
    npos_status status;
    NPI_TRY(check_k(bank, k));
    if (bank->part > 0)
        return in_parts(bank, n, h, k, distance, NULL, NULL);
    NPI_TRY_GOTO(block_make(dev, n, BLOCK, bank->dim, 1, &b), done);
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

/* Distances to NaN have no order: the device then finds rows that there are not. */
static npos_status check_found(const npi_neighbour_bank *bank, int64_t first, int64_t n, int k,
                               const int64_t *index) {
    for (int64_t i = first * k; i < (first + n) * k; i++)
        if (index[i] < 0 || index[i] >= bank->n)
            return npi_fail(NPOS_NOT_FINITE,
                            "k-nearest neighbours: embedding %lld has no nearest neighbours, it is "
                            "not finite",
                            (long long)(i / k));
    return NPOS_OK;
}

npos_status npi_neighbour_list(const npi_neighbour_bank *bank, int64_t n, const float *h, int k,
                               int64_t *index, float *distance) {
    npi_device *dev = bank->dev;
    block b = {.dev = dev};
    npos_status status;
    NPI_TRY(check_k(bank, k));
    if (bank->part > 0) {
        NPI_TRY(in_parts(bank, n, h, k, NULL, index, distance));
        return check_found(bank, 0, n, k, index);
    }
    NPI_TRY_GOTO(block_make(dev, n, BLOCK, bank->dim, k, &b), done);
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
        NPI_TRY_GOTO(check_found(bank, first, rows, k, index), done);
        if (distance)
            NPI_TRY_GOTO(dev->memory->download(dev, distance + first * k, b.distance,
                                               found * sizeof *distance),
                         done);
    }
done:
    block_free(&b);
    return status;
}
