/* devices/cpu/cpu_ood_knn.h - what the files of exact nearest neighbours share.
 *
 * The distance of a pair is defined as the sum of squared differences in float64, rounded to
 * float32; NaN counts as infinitely far.  Three stages, each of which drops only what provably is
 * not among the k nearest, so that the answer is the same for every instruction set, block size,
 * order of work and number of threads:
 *
 * 1. strips of the bank against panels of queries: cpu_ood_screen.h,
 * 2. the pairs that pass: bounds of their distance from two bytes a number, or where these are too
 *    wide for a query so near, from float32 (npi_math.near), while the strip's rows are still in the
 *    cache; those that may be within the query's limit go to its list,
 * 3. of a list, the rows whose bounds hold the k-th distance: as defined (cpu_ood_nearest.c).
 *
 * A query's limit L is meant to be at least the k-th smallest distance.  Bank rows are taken in an
 * order that spreads over the whole bank, so those seen are a sample of it; the limit is then not
 * the k-th smallest upper bound seen but a much smaller rank, which all but certainly leaves k rows
 * in the end.  What is dropped is farther than L; so if in the end the k-th smallest upper bound of
 * the list is at most the smallest L ever used, nothing that was dropped could be among the k
 * nearest.  Otherwise, or when a list overflows (thousands of rows at the same distance), the query
 * is answered by plain search. */
#ifndef NPI_DEVICES_CPU_OOD_KNN_H
#define NPI_DEVICES_CPU_OOD_KNN_H

#include <math.h>
#include <stdatomic.h>

#include "devices/cpu/cpu_ood_screen.h"

enum { NPI_LIST_SLACK = 16 }; /* entries that vector loops may write beyond a list's room */

typedef struct npi_list { /* candidates of one query */
    _Atomic float limit;  /* L; falls only */
    _Atomic bool lost;    /* this query is answered by plain search */
    atomic_flag busy;     /* held while the list is changed */
    _Atomic int count;
    _Atomic int full; /* at this many entries it is shortened */
    npi_kth_guess guess;
} npi_list;

/* Others than the list's holder get a number that may be old. */
static inline int npi_list_count(const npi_list *l) {
    return atomic_load_explicit(&l->count, memory_order_relaxed);
}

typedef struct npi_knn {
    const npi_math *math;
    int n; /* queries in this chunk */
    const float *queries;
    int64_t m;
    const float *bank;
    int dim, k;
    int room;    /* entries of a list */
    float error; /* npi_math.near's, relative */
    npi_list *lists;
    float *upper, *lower; /* [n][room + NPI_LIST_SLACK]: negative bounds of distances */
    int32_t *index;       /* likewise: bank rows */
} npi_knn;

typedef struct npi_scored {
    float distance; /* as defined */
    int32_t index;
} npi_scored;

/* No row whose distance is beyond this is as near as one within `limit`, even after rounding to
 * float32. */
static inline float npi_beyond(float limit) {
    return limit * 1.000001f + 1e-36f;
}

/* cpu_ood_knn.c: the limit from the rank-th smallest upper bound of a list, which then loses what
 * is beyond it. spare: npi_kth_largest's room. */
void npi_list_shorten(const npi_knn *s, int q, int rank, float *spare);

/* cpu_ood_nearest.c: answers query q from its list: the k nearest in `rows` in order of distance,
 * ties by lower index (`all`), or the k-th distance alone.  Returns the k-th distance.  rows: room
 * for npi_knn.room + 2 k. */
float npi_nearest(const npi_knn *s, int q, bool all, float *spare, npi_scored *rows);

#endif
