#include "ood/coreset.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "ood/neighbours.h"

int npi_coreset_k(int k, int64_t size, int64_t n) {
    int64_t best = llround(2.0 * k * (double)size / (double)n);
    int64_t most = size < k ? size : k;
    best = best < 2 ? 2 : best;
    return (int)(best > most ? most : best);
}

/* One class. */
typedef struct cluster {
    npi_device *dev;
    int dim;
    int64_t n, centres;
    int64_t *row;    /* [n] of the bank */
    float *x;        /* [n][dim] its unit rows */
    float *centre;   /* [centres][dim] */
    double *sum;     /* [centres][dim] */
    int64_t *member; /* [n] centre of each row, or [centres] row of each centre */
} cluster;

static void cluster_free(cluster *c) {
    npi_free(c->row);
    npi_free(c->x);
    npi_free(c->centre);
    npi_free(c->sum);
    npi_free(c->member);
    *c = (cluster){0};
}

static npos_status cluster_make(cluster *c, const float *h, const int32_t *labels, int64_t rows,
                                int which, int64_t size) {
    size_t dim = (size_t)c->dim;
    for (int64_t i = 0; i < rows; i++)
        c->n += labels[i] == which;
    int64_t share = llround((double)size * (double)c->n / (double)rows);
    c->centres = c->n == 0 ? 0 : share < 1 ? 1 : share > c->n ? c->n : share;
    NPI_TRY(npi_alloc(&c->row, (size_t)c->n, sizeof *c->row, "rows of a class"));
    NPI_TRY(npi_alloc(&c->x, (size_t)c->n * dim, sizeof *c->x, "embeddings of a class"));
    NPI_TRY(npi_alloc(&c->centre, (size_t)c->centres * dim, sizeof *c->centre, "centres"));
    NPI_TRY(npi_alloc(&c->sum, (size_t)c->centres * dim, sizeof *c->sum, "centres"));
    NPI_TRY(npi_alloc(&c->member, (size_t)c->n, sizeof *c->member, "members of centres"));
    for (int64_t i = 0, at = 0; i < rows; i++) {
        if (labels[i] != which)
            continue;
        c->row[at] = i;
        npi_normalise_rows(1, c->dim, h + i * c->dim, c->x + at++ * c->dim);
    }
    for (int64_t j = 0; j < c->centres; j++)
        memcpy(c->centre + j * c->dim, c->x + j * c->n / c->centres * c->dim,
               dim * sizeof *c->centre);
    return NPOS_OK;
}

/* c->member[queries] = the nearest of the bank's rows to each query. */
static npos_status nearest(cluster *c, int64_t rows, const float *bank, int64_t queries,
                           const float *x) {
    npi_neighbour_bank *made;
    NPI_TRY(npi_neighbour_bank_make(c->dev, rows, c->dim, bank, &made));
    npos_status status = npi_neighbour_list(made, queries, x, 1, c->member, NULL);
    npi_neighbour_bank_free(made);
    return status;
}

/* Centres move to the direction of their rows' sum; one without rows, or whose rows cancel, stays. */
static void move_centres(cluster *c) {
    memset(c->sum, 0, (size_t)c->centres * (size_t)c->dim * sizeof *c->sum);
    for (int64_t i = 0; i < c->n; i++) {
        double *sum = c->sum + c->member[i] * c->dim;
        for (int d = 0; d < c->dim; d++)
            sum[d] += (double)c->x[i * c->dim + d];
    }
    for (int64_t j = 0; j < c->centres; j++) {
        const double *sum = c->sum + j * c->dim;
        double square = 0;
        for (int d = 0; d < c->dim; d++)
            square += sum[d] * sum[d];
        for (int d = 0; d < c->dim && square > 1e-12; d++)
            c->centre[j * c->dim + d] = (float)(sum[d] / sqrt(square));
    }
}

static int rising(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* Appends the bank's rows that are nearest to the centres, each once. */
static npos_status choose(cluster *c, int64_t *chosen, int64_t *count) {
    for (int round = 0; round < NPI_CORESET_ROUNDS && c->centres < c->n; round++) {
        NPI_TRY(nearest(c, c->centres, c->centre, c->n, c->x));
        move_centres(c);
    }
    NPI_TRY(nearest(c, c->n, c->x, c->centres, c->centre));
    qsort(c->member, (size_t)c->centres, sizeof *c->member, rising);
    for (int64_t j = 0; j < c->centres; j++)
        if (j == 0 || c->member[j] != c->member[j - 1])
            chosen[(*count)++] = c->row[c->member[j]];
    return NPOS_OK;
}

npos_status npi_coreset(npi_device *dev, int64_t n, int dim, const float *h, const int32_t *labels,
                        int classes, int64_t size, int64_t **chosen, int64_t *count) {
    npos_status status = NPOS_OK;
    *chosen = NULL;
    *count = 0;
    if (size < 1 || size > n)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "coreset: %lld rows were asked for, there are %lld training embeddings",
                        (long long)size, (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return npi_fail(NPOS_BAD_DATA,
                            "coreset: training embedding %lld has label %d, the model has %d "
                            "classes",
                            (long long)i, labels[i], classes);
    NPI_TRY(npi_alloc(chosen, (size_t)(size + classes), sizeof **chosen, "coreset"));
    for (int which = 0; which < classes && status == NPOS_OK; which++) {
        cluster c = {.dev = dev, .dim = dim};
        status = cluster_make(&c, h, labels, n, which, size);
        if (status == NPOS_OK && c.n > 0)
            status = choose(&c, *chosen, count);
        cluster_free(&c);
    }
    if (status == NPOS_OK) {
        qsort(*chosen, (size_t)*count, sizeof **chosen, rising);
        return NPOS_OK;
    }
    npi_free(*chosen);
    *chosen = NULL;
    return status;
}
