#include <stdlib.h>

#include "devices/cpu/cpu_ood_knn.h"

enum { AHEAD = 2 }; /* rows under way from memory */

static int nearer(const void *a, const void *b) {
    const npi_scored *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static npi_scored score(const npi_knn *s, int q, int32_t row) {
    double d = s->math->distance((size_t)s->dim, s->queries + (ptrdiff_t)q * s->dim,
                                 s->bank + (ptrdiff_t)row * s->dim);
    return (npi_scored){isnan(d) ? INFINITY : (float)d, row};
}

/* The rows lie anywhere in memory: a little ahead, they arrive while others are computed. */
static void fetch(const npi_knn *s, int32_t row) {
    const char *at = (const char *)(s->bank + (ptrdiff_t)row * s->dim);
    for (size_t i = 0; i < (size_t)s->dim * sizeof(float); i += 64)
        __builtin_prefetch(at + i);
}

/* Keeps the `k` nearest of `count` scored rows in front (unordered but for the k-th). */
static void keep_nearest(npi_scored *rows, int count, int k) {
    int low = 0, high = count - 1;
    while (low < high) {
        npi_scored pivot = rows[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (nearer(&rows[i], &pivot) < 0)
                i++;
            while (nearer(&rows[j], &pivot) > 0)
                j--;
            if (i <= j) {
                npi_scored held = rows[i];
                rows[i++] = rows[j];
                rows[j--] = held;
            }
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
}

/* Every row of the bank. */
static void plain_search(const npi_knn *s, int q, npi_scored *rows) {
    int count = 0;
    float limit = INFINITY;
    for (int64_t r = 0; r < s->m; r++) {
        npi_scored row = score(s, q, (int32_t)r);
        if (count >= s->k && !(row.distance < limit))
            continue; /* an equal distance loses to the lower index */
        rows[count++] = row;
        if (count == 2 * s->k) {
            keep_nearest(rows, count, s->k);
            count = s->k;
            limit = rows[s->k - 1].distance;
        }
    }
    keep_nearest(rows, count, s->k);
}

float npi_nearest(const npi_knn *s, int q, bool all, float *spare, npi_scored *rows) {
    npi_list *l = &s->lists[q];
    const size_t at = (size_t)q * (size_t)(s->room + NPI_LIST_SLACK);
    const float *upper = s->upper + at, *lower = s->lower + at;
    const int32_t *index = s->index + at;
    const int held = npi_list_count(l);
    float limit = INFINITY;
    if (!l->lost && held >= s->k)
        limit = -npi_kth_largest(s->math, held, upper, s->k, &l->guess, spare);
    int rank = s->k;
    if (!(limit <= 1e30f && limit <= l->limit)) {
        plain_search(s, q, rows);
    } else {
        float beyond = npi_beyond(limit);
        float least = -npi_kth_largest(s->math, held, lower, s->k, &l->guess, spare);
        int count = 0;
        for (int j = 0; j < held; j++) { /* without branches: they would be guessed wrongly */
            /* one of the k nearest, but not the k-th */
            const bool sure = !all & (npi_beyond(-upper[j]) < least);
            rank -= sure;
            rows[count].index = index[j];
            count += !sure & (-lower[j] <= beyond);
        }
        for (int j = 0; j < count; j++) {
            if (j + AHEAD < count)
                fetch(s, rows[j + AHEAD].index);
            rows[j] = score(s, q, rows[j].index);
        }
        keep_nearest(rows, count, rank);
    }
    if (all)
        qsort(rows, (size_t)s->k, sizeof *rows, nearer);
    return rows[rank - 1].distance;
}
