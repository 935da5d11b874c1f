/* Neighbours of the cpu device against plain loops in float64: ragged sizes, ties, extremes of k,
 * every instruction set here, and the same bits for 1, 2 and 3 threads. */
#include "check.h"

#include <math.h>

#include "devices/cpu/cpu_ood.h"
#include "devices/cpu_plain.h"
#include "devices/normal_rows.h"

static void plain_neighbours(int n, const float *q, int64_t m, const float *b, int dim, int k,
                             int64_t *index, float *distance) {
    pair *all = get((size_t)m, sizeof *all);
    for (int i = 0; i < n; i++) {
        for (int64_t r = 0; r < m; r++) {
            double sum = 0.0;
            for (int j = 0; j < dim; j++) {
                double d = (double)q[i * dim + j] - (double)b[r * dim + j];
                sum += d * d;
            }
            all[r] = (pair){(float)sum, r};
        }
        qsort(all, (size_t)m, sizeof *all, nearer);
        for (int j = 0; j < k; j++) {
            index[i * k + j] = all[j].i;
            distance[i * k + j] = all[j].d;
        }
    }
    npi_free(all);
}

static void compare_neighbours(npi_isa isa, int threads, int n, const float *q, int64_t m,
                               const float *b, int dim, int k) {
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, isa, threads);
    size_t count = (size_t)n * (size_t)k;
    int64_t *index = get(count, 8), *expected = get(count, 8);
    float *distance = get(count, 4), *far = get(count, 4), *kth = get((size_t)n, 4);
    plain_neighbours(n, q, m, b, dim, k, expected, far);
    assert_int_equal(dev->ood->neighbours(dev, n, q, m, b, dim, k, index, distance), NPOS_OK);
    assert_int_equal(dev->ood->kth_neighbour(dev, n, q, m, b, dim, k, kth), NPOS_OK);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < k; j++) {
            size_t at = (size_t)(i * k + j);
            /* sums of float64 in another order may round the other way once in 2^29 */
            assert_true(fabsf(distance[at] - far[at]) <= 1.2e-7f * far[at]);
            if (distance[at] == far[at])
                assert_int_equal(index[at], expected[at]);
        }
        assert_true(kth[i] == distance[i * k + k - 1]);
    }
    void *all[] = {index, expected, distance, far, kth};
    for (int i = 0; i < 5; i++)
        npi_free(all[i]);
    plain_cpu_close(&cpu);
}

static void test_neighbours_ragged(void **state) {
    (void)state;
    static const struct {
        int n, m, dim, k;
    } shape[] = {{1, 1, 1, 1},       {1, 3, 1, 3},      {3, 40, 5, 7},     {17, 513, 33, 1},
                 {15, 1030, 64, 50}, {29, 700, 7, 700}, {2, 2000, 129, 3}, {40, 1500, 16, 300}};
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        for (size_t s = 0; s < sizeof shape / sizeof *shape; s++) {
            float *q = normals((size_t)(shape[s].n * shape[s].dim), 1);
            float *b = normals((size_t)(shape[s].m * shape[s].dim), 2);
            compare_neighbours(isa, 2, shape[s].n, q, shape[s].m, b, shape[s].dim, shape[s].k);
            npi_free(q);
            npi_free(b);
        }
    }
}

/* Duplicates, a query that is in the bank, near duplicates far from the origin, zero rows, one
 * huge row: where |q|^2 + |b|^2 - 2 q.b would have no digits left. */
static void test_neighbours_ties(void **state) {
    (void)state;
    enum { N = 9, M = 1300, DIM = 24 };
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        float *b = normals(M * DIM, 3), *q = normals(N * DIM, 4);
        for (int r = 0; r < M; r++)
            for (int j = 0; j < DIM; j++) {
                if (r % 3 == 1)
                    b[r * DIM + j] = b[(r - 1) * DIM + j]; /* duplicate of the row before */
                if (r >= 600 && r < 700) /* near duplicates at distance 1e-3 around (50, 50, ..) */
                    b[r * DIM + j] = 50.0f + 1e-3f * b[r * DIM + j];
                if (r >= 700 && r < 710)
                    b[r * DIM + j] = 0.0f;
                if (r == 1299)
                    b[r * DIM + j] = 1e6f;
            }
        memcpy(q, b + 30 * DIM, DIM * sizeof *q);
        memcpy(q + DIM, b + 640 * DIM, DIM * sizeof *q);
        memset(q + 2 * DIM, 0, DIM * sizeof *q);
        for (int j = 0; j < DIM; j++)
            q[3 * DIM + j] = 50.0f;
        static const int ks[] = {1, 2, 3, 20, 100, M};
        for (size_t i = 0; i < sizeof ks / sizeof *ks; i++)
            compare_neighbours(isa, 2, N, q, M, b, DIM, ks[i]);
        float d;
        plain_cpu cpu;
        npi_device *dev = plain_cpu_open(&cpu, isa, 1);
        assert_int_equal(dev->ood->kth_neighbour(dev, 1, q, M, b, DIM, 2, &d), NPOS_OK);
        assert_true(d == 0.0f); /* row 30 and its duplicate, row 31 */
        plain_cpu_close(&cpu);
        npi_free(b);
        npi_free(q);
    }
}

/* All rows equal: more candidates than any list holds; NaN and infinity are infinitely far. */
static void test_neighbours_degenerate(void **state) {
    (void)state;
    enum { M = 4000, DIM = 8, K = 5 };
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        float *b = get(M * DIM, 4), q[2 * DIM];
        for (int i = 0; i < M * DIM; i++)
            b[i] = 0.3f;
        for (int j = 0; j < 2 * DIM; j++)
            q[j] = 0.1f;
        compare_neighbours(isa, 2, 2, q, M, b, DIM, K);
        plain_cpu cpu;
        npi_device *dev = plain_cpu_open(&cpu, isa, 2);
        int64_t index[2 * K];
        float distance[2 * K];
        b[0] = NAN;
        b[DIM] = INFINITY;
        q[DIM] = NAN;
        assert_int_equal(dev->ood->neighbours(dev, 2, q, M, b, DIM, K, index, distance), NPOS_OK);
        for (int j = 0; j < K; j++) {
            assert_int_equal(index[j], j + 2);
            assert_true(distance[j] > 0.31f && distance[j] < 0.33f);
            assert_int_equal(index[K + j], j);
            assert_true(isinf(distance[K + j]));
        }
        assert_int_equal(dev->ood->neighbours(dev, 2, q, M, b, DIM, M + 1, index, distance),
                         NPOS_INVALID_ARGUMENT);
        assert_int_equal(dev->ood->kth_neighbour(dev, 2, q, M, b, DIM, 0, distance),
                         NPOS_INVALID_ARGUMENT);
        plain_cpu_close(&cpu);
        npi_free(b);
    }
}

/* Every table of kernels that this processor runs, and each number of threads, gives the same
 * bits. */
static void same_everywhere(int n, const float *q, int64_t m, const float *b, int dim, int k) {
    const npi_math *math[] = {&npi_math_generic, npi_math_of(NPI_ISA_AVX2), NULL, NULL};
    if (!isa_present(NPI_ISA_AVX2))
        math[1] = NULL;
#if defined(__x86_64__)
    if (isa_present(NPI_ISA_AVX512)) {
        math[2] = &npi_math_avx512;
        math[3] = npi_math_of(NPI_ISA_AVX512); /* bytes, where the processor has their products */
    }
#endif
    size_t count = (size_t)n * (size_t)k;
    int64_t *first = get(count, 8), *index = get(count, 8);
    float *first_d = get(count, 4), *distance = get(count, 4), *kth = get((size_t)n, 4);
    plain_neighbours(n, q, m, b, dim, k, index, distance);
    for (int i = 0; i < 4; i++)
        for (int threads = 1; threads <= 3 && math[i]; threads++) {
            plain_cpu cpu;
            npi_device *dev = plain_cpu_open(&cpu, NPI_ISA_GENERIC, threads);
            bool start = i == 0 && threads == 1;
            assert_int_equal(npi_cpu_find(dev, math[i], n, q, m, b, dim, k, start ? first : index,
                                          start ? first_d : distance, true),
                             NPOS_OK);
            assert_int_equal(npi_cpu_find(dev, math[i], n, q, m, b, dim, k, NULL, kth, false),
                             NPOS_OK);
            for (size_t j = 0; start && j < count; j++)
                assert_true(fabsf(first_d[j] - distance[j]) <= 1.2e-7f * distance[j]);
            if (!start) {
                assert_memory_equal(first, index, count * sizeof *index);
                assert_memory_equal(first_d, distance, count * sizeof *distance);
            }
            for (int j = 0; j < n; j++)
                assert_true(kth[j] == first_d[j * k + k - 1]);
            plain_cpu_close(&cpu);
        }
    void *all[] = {first, index, first_d, distance, kth};
    for (int i = 0; i < 5; i++)
        npi_free(all[i]);
}

/* Clustered rows, where rounded products alone give other neighbours. */
static void test_neighbours_same_everywhere(void **state) {
    (void)state;
    enum { N = 60, M = 3000, DIM = 96, K = 40 };
    float *b = normals(M * DIM, 5), *q = normals(N * DIM, 6);
    for (int r = 0; r < M; r++)
        for (int j = 0; j < DIM; j++)
            b[r * DIM + j] = normal(8, (size_t)(r % 7 * DIM + j)) + 0.02f * b[r * DIM + j];
    for (int r = 0; r < N; r++)
        for (int j = 0; j < DIM; j++)
            q[r * DIM + j] = normal(8, (size_t)(r % 7 * DIM + j)) + 0.02f * q[r * DIM + j];
    same_everywhere(N, q, M, b, DIM, K);
    /* far from the origin, tiny, huge, and one row that is none of these */
    static const float scale[] = {1.0f, 1e-12f, 1e-21f, 1e13f, 1e18f}, shift[] = {30, 0, 0, 0, 0};
    for (int s = 0; s < 5; s++) {
        float *x = get(M * DIM, 4), *y = get(N * DIM, 4);
        for (int i = 0; i < M * DIM; i++)
            x[i] = (b[i] + shift[s]) * scale[s];
        for (int i = 0; i < N * DIM; i++)
            y[i] = (q[i] + shift[s]) * scale[s];
        for (int j = 0; j < DIM; j++)
            x[77 * DIM + j] *= 1e4f;
        same_everywhere(8, y, 700, x, DIM, 5);
        npi_free(x);
        npi_free(y);
    }
    npi_free(b);
    npi_free(q);
}

/* Rows that mislead a search that takes the bank for a sample of itself: the nearest are neighbours
 * in the bank, come first, last, at regular distances, or by the golden section. */
static void test_neighbours_misleading(void **state) {
    (void)state;
    enum { N = 20, M = 6000, DIM = 16, K = 60, NEAR = 90 };
    for (int order = 0; order < 6; order++) {
        float *b = normals(M * DIM, 9), *q = normals(N * DIM, 10);
        for (int i = 0; i < NEAR; i++) {
            int r = 0;
            switch (order) {
            case 0:
                r = i;
                break;
            case 1:
                r = M - 1 - i;
                break;
            case 2:
                r = 2000 + i;
                break;
            case 3:
                r = i * 64;
                break;
            case 4: /* 929: 1,500 by the golden section, in runs of four */
                r = i / 4 * 929 % 1500 * 4 + i % 4;
                break;
            default:
                r = (M - 1) - (int)((int64_t)i * 3709 % M);
            }
            for (int j = 0; j < DIM; j++)
                b[r * DIM + j] *= 0.2f;
        }
        for (int i = 0; i < N * DIM; i++)
            q[i] *= 0.2f;
        same_everywhere(N, q, M, b, DIM, K);
        npi_free(b);
        npi_free(q);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_neighbours_ragged),
        cmocka_unit_test(test_neighbours_ties),
        cmocka_unit_test(test_neighbours_degenerate),
        cmocka_unit_test(test_neighbours_same_everywhere),
        cmocka_unit_test(test_neighbours_misleading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
