/* Eigenvectors, whitening, quantiles: by what they must do. */
#include "check.h"

#include <math.h>

#include "base/memory.h"
#include "base/philox.h"
#include "ood/moments.h"
#include "ood/symmetric.h"

static double draw(uint32_t item, uint32_t i) {
    npi_u32x4 words = npi_philox(17, NPI_RANDOM_TEST, 0, item, i);
    return (double)npi_unit_float(words.v[0]) - 0.5;
}

/* A = B^T B of `rank` random rows, n x n. */
static void fill(int n, int rank, uint32_t item, double *a) {
    double *b;
    CHECK_OK(npi_alloc(&b, (size_t)(rank * n) + 1, sizeof *b, "rows"));
    for (int i = 0; i < rank * n; i++)
        b[i] = draw(item, (uint32_t)i);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            a[i * n + j] = 0;
            for (int k = 0; k < rank; k++)
                a[i * n + j] += b[k * n + i] * b[k * n + j];
        }
    npi_free(b);
}

static void check_eigen(int n, const double *a) {
    double *copy, *value, *vector, worst = 0, scale = 1e-300;
    size_t count = (size_t)n;
    CHECK_OK(npi_alloc(&copy, count * count, sizeof *copy, "a"));
    CHECK_OK(npi_alloc(&vector, count * count, sizeof *vector, "vectors"));
    CHECK_OK(npi_alloc(&value, count, sizeof *value, "values"));
    memcpy(copy, a, count * count * sizeof *a);
    CHECK_OK(npi_symmetric_eigen(n, copy, value, vector));
    for (int k = 0; k < n; k++)
        scale = fmax(scale, fabs(value[k]));
    for (int k = 0; k < n; k++) {
        const double *v = vector + k * n;
        assert_true(k == 0 || value[k] <= value[k - 1]);
        for (int i = 0; i < n; i++) { /* A v = lambda v */
            double sum = 0;
            for (int j = 0; j < n; j++)
                sum += a[i * n + j] * v[j];
            worst = fmax(worst, fabs(sum - value[k] * v[i]) / scale);
        }
        for (int j = k; j < n; j++) { /* unit length, at right angles */
            double sum = 0;
            for (int i = 0; i < n; i++)
                sum += v[i] * vector[j * n + i];
            worst = fmax(worst, fabs(sum - (j == k)));
        }
    }
    if (!(worst <= 1e-13 * (n + 10)))
        fail_msg("n %d: %g beside the truth", n, worst);
    npi_free(copy);
    npi_free(value);
    npi_free(vector);
}

static void eigenvectors(void **state) {
    (void)state;
    static double a[200 * 200];
    const int sizes[] = {1, 2, 3, 4, 7, 16, 61, 200};
    for (int i = 0; i < 8; i++) {
        int n = sizes[i];
        fill(n, n + 3, (uint32_t)i, a);
        check_eigen(n, a);
        fill(n, n / 3, (uint32_t)i, a); /* singular */
        check_eigen(n, a);
        for (int j = 0; j < n * n; j++) /* with negative values, and many equal ones */
            a[j] = j % (n + 1) == 0 ? (j % 2 ? 3 : -3) : 0;
        check_eigen(n, a);
        for (int j = 0; j < n; j++) /* dead features beside live ones, tiny beside large */
            for (int k = 0; k < n; k++)
                a[j * n + k] = j % 3 && k % 3 ? 1e-8 * (j + 1) * (k + 1) + (j == k ? j : 0) : 0;
        check_eigen(n, a);
        memset(a, 0, sizeof a);
        check_eigen(n, a);
    }
    double value[2], vector[4], bad[4] = {1, NAN, NAN, 1};
    CHECK_FAILS(npi_symmetric_eigen(2, bad, value, vector), NPOS_NOT_FINITE, "2 x 2 holds nan");
    double known[4] = {2, 1, 1, 2};
    CHECK_OK(npi_symmetric_eigen(2, known, value, vector));
    assert_true(fabs(value[0] - 3) < 1e-15 && fabs(value[1] - 1) < 1e-15);
}

/* Whitened rows have unit second moments in every direction kept, and none in the others. */
static void whitening(void **state) {
    (void)state;
    enum { N = 300, D = 12 };
    static float h[N * D];
    static double mean[D], scatter[D * D], map[D * D], y[N * D];
    int64_t count;
    int rank;
    for (int i = 0; i < N; i++)
        for (int d = 0; d < D; d++)
            h[i * D + d] = (float)((d + 1) * draw(40, (uint32_t)(i * D + d)) + 3);
    for (int i = 0; i < N; i++) { /* one copies another, one is constant */
        h[i * D + 4] = h[i * D + 2];
        h[i * D + 7] = 0.75f;
    }
    CHECK_OK(npi_class_means(N, D, h, NULL, 1, mean, &count));
    assert_int_equal(count, N);
    CHECK_OK(npi_scatter(N, D, h, NULL, mean, scatter));
    CHECK_OK(npi_whitening(D, scatter, map, &rank));
    assert_int_equal(rank, D - 2);
    for (int i = 0; i < N; i++)
        for (int k = 0; k < rank; k++) {
            y[i * D + k] = 0;
            for (int d = 0; d < D; d++)
                y[i * D + k] += map[k * D + d] * ((double)h[i * D + d] - mean[d]);
        }
    for (int a = 0; a < rank; a++)
        for (int b = 0; b < rank; b++) {
            double sum = 0;
            for (int i = 0; i < N; i++)
                sum += y[i * D + a] * y[i * D + b] / N;
            assert_true(fabs(sum - (a == b)) < 1e-11);
        }
    h[5] = INFINITY;
    CHECK_FAILS(npi_class_means(N, D, h, NULL, 1, mean, &count), NPOS_NOT_FINITE,
                "training embedding 0 holds inf");
}

static int by_value(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

static void quantiles(void **state) {
    (void)state;
    enum { N = 1001 };
    static float values[N], sorted[N];
    double got;
    for (int i = 0; i < N; i++)
        values[i] = i % 7 == 0 ? 0 : (float)(draw(50, (uint32_t)i) * pow(10, i % 9 - 4));
    values[3] = -INFINITY;
    values[9] = -0.0f;
    for (int n = 1; n <= N; n += n < 20 ? 1 : 109) {
        memcpy(sorted, values, (size_t)n * sizeof *sorted);
        qsort(sorted, (size_t)n, sizeof *sorted, by_value);
        const double ps[] = {0, 0.1, 0.5, 0.9, 1};
        for (int i = 0; i < 5; i++) {
            double at = ps[i] * (n - 1), low = (double)sorted[(int)at],
                   high = (double)sorted[(int)at + 1 < n ? (int)at + 1 : n - 1];
            CHECK_OK(npi_quantile_of(n, values, ps[i], &got));
            double expected = low + (at - floor(at)) * (high - low);
            if (isinf(low))
                continue;
            if (!(fabs(got - expected) <= 1e-12 * fabs(expected)))
                fail_msg("%g of %d: got %g, expected %g", ps[i], n, got, expected);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigenvectors),
        cmocka_unit_test(whitening),
        cmocka_unit_test(quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
