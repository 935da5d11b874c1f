/* What the tests of neighbours and synthesis share: memory, normal draws that a number names, and pairs of a distance and
 * an index in order. */
#ifndef NPI_TESTS_NORMAL_ROWS_H
#define NPI_TESTS_NORMAL_ROWS_H

#include "check.h"

#include "base/memory.h"
#include "base/philox.h"

static inline void *get(size_t count, size_t size) {
    void *p;
    assert_int_equal(npi_alloc(&p, count, size, "test"), NPOS_OK);
    return p;
}

static inline float normal(uint32_t item, size_t i) {
    npi_u32x4 r = npi_philox(7, NPI_RANDOM_TEST, i, item, 0);
    float x, y;
    npi_normal_pair(r.v[0], r.v[1], &x, &y);
    return x;
}

static inline float *normals(size_t n, uint32_t item) {
    float *x = get(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = normal(item, i);
    return x;
}

typedef struct pair {
    float d;
    int64_t i;
} pair;

static inline int nearer(const void *a, const void *b) {
    const pair *x = a, *y = b;
    if (x->d != y->d)
        return x->d < y->d ? -1 : 1;
    return x->i < y->i ? -1 : x->i > y->i;
}

#endif
