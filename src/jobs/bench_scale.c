/* The rows of npos_bench at ImageNet-1k's size: k-NN over its 1,281,167 training embeddings, or as many as
 * half of the free memory holds, through the bank that eval and score use (ood/neighbours.h): queries in host
 * memory, the bank in parts where it does not fit; and what its evaluation does with the scores. */
#include <stdio.h>
#include <unistd.h>

#include "base/memory.h"
#include "jobs/bench.h"
#include "ood/metrics.h"
#include "ood/neighbours.h"

enum { IMAGENET = 1281167, NEIGHBOUR = 1000 };

typedef struct scale {
    const npi_neighbour_bank *bank;
    int n;
    const float *queries;
    double *distance;
} scale;

/* Rows of uniform numbers in [-1, 1): eight of each draw. */
static void fill(int64_t rows, int dim, uint32_t item, float *to) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows; i++)
        for (int d = 0; d < dim; d += 8) {
            npi_u32x4 r = npi_philox(0, NPI_RANDOM_TEST, (uint64_t)i, item, (uint32_t)d);
            for (int j = 0; j < 8; j++)
                to[i * dim + d + j] = (float)(int16_t)(r.v[j / 2] >> 16 * (j % 2)) / 32768;
        }
}

static int64_t rows_that_fit(int dim) {
    double free_bytes = (double)sysconf(_SC_AVPHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    double rows = free_bytes / 2 / (4.0 * dim);
    return rows > IMAGENET ? IMAGENET : rows < 2 * NEIGHBOUR ? 2 * NEIGHBOUR : (int64_t)rows;
}

static npos_status find(void *context) {
    const scale *s = context;
    return npi_neighbour_kth(s->bank, s->n, s->queries, NEIGHBOUR, s->distance);
}

static npos_status run(npi_bench *bench, int dim) {
    npi_device *dev = bench->dev;
    int64_t rows = rows_that_fit(dim);
    npi_neighbour_bank *made = NULL;
    float *bank = NULL, *queries = NULL;
    scale s = {.n = dev->host ? 100 : 10000};
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&bank, (size_t)rows * (size_t)dim, sizeof *bank, "embeddings"), done);
    NPI_TRY_GOTO(npi_alloc(&queries, (size_t)s.n * (size_t)dim, sizeof *queries, "queries"), done);
    NPI_TRY_GOTO(npi_alloc(&s.distance, (size_t)s.n, sizeof *s.distance, "distances"), done);
    fill(rows, dim, 1, bank);
    fill(s.n, dim, 2, queries);
    NPI_TRY_GOTO(npi_neighbour_bank_make(dev, rows, dim, bank, &made), done);
    s.bank = made;
    s.queries = queries;
    int64_t part = npi_neighbour_bank_part(made);
    int used = snprintf(bench->shape, sizeof bench->shape, "%d queries, %lld rows of %d, k = %d",
                        s.n, (long long)rows, dim, NEIGHBOUR);
    if (part > 0)
        snprintf(bench->shape + used, sizeof bench->shape - (size_t)used, ", in parts of %lld",
                 (long long)part);
    status = npi_bench_time(bench, find, &s);
done:
    npi_neighbour_bank_free(made);
    npi_free(bank);
    npi_free(queries);
    npi_free(s.distance);
    return status;
}

npos_status npi_bench_knn_imagenet(npi_bench *bench) {
    return run(bench, 512);
}

npos_status npi_bench_knn_imagenet_2048(npi_bench *bench) {
    return run(bench, 2048);
}

/* ---- measuring: 50,000 test images and the OOD sets that go with them ---- */

enum { TEST = 50000, SETS = 4 };
static const int set_sizes[SETS] = {10000, 10000, 10000, 5640};

static npos_status measure(void *scores) {
    const double *at = scores;
    const npi_scores id = {"id", TEST, at};
    at += TEST;
    for (int i = 0; i < SETS; at += set_sizes[i++]) {
        const npi_scores ood = {"ood", set_sizes[i], at};
        npi_measures measures;
        NPI_TRY(npi_measure(NPI_PROTOCOL_OE, &id, &ood, 0, &measures));
    }
    return NPOS_OK;
}

npos_status npi_bench_measure(npi_bench *bench) {
    int all = TEST;
    float *normals = NULL;
    double *scores = NULL;
    npos_status status;
    for (int i = 0; i < SETS; i++)
        all += set_sizes[i];
    NPI_TRY_GOTO(npi_alloc(&normals, (size_t)all, sizeof *normals, "scores"), done);
    NPI_TRY_GOTO(npi_alloc(&scores, (size_t)all, sizeof *scores, "scores"), done);
    npi_bench_normals(normals, (size_t)all, 6);
    for (int i = 0; i < all; i++)
        scores[i] = (double)normals[i] - (i < TEST ? 0.0 : 2.0);
    snprintf(bench->shape, sizeof bench->shape,
             "scores of %d ID and %d OOD images in %d sets, protocol oe, with intervals", TEST,
             all - TEST, SETS);
    status = npi_bench_time(bench, measure, scores);
done:
    npi_free(normals);
    npi_free(scores);
    return status;
}
