/* Coresets of planted groups, and Spearman's correlation by hand. */
#include "check.h"
#include "ood/brute_device.h"
#include "ood/coreset.h"
#include "ood/statistics.h"

enum { CLASSES = 3, GROUPS = 4, EACH = 5, N = CLASSES * GROUPS * EACH, DIM = 6 };

/* Class c has GROUPS tight groups of EACH rows; rows of all classes are mixed. Lengths vary, which
 * normalised rows do not see. */
static void plant(float *h, int32_t *labels, int *group) {
    for (int i = 0; i < N; i++) {
        labels[i] = i % CLASSES;
        group[i] = i / CLASSES % GROUPS;
        for (int d = 0; d < DIM; d++)
            h[i * DIM + d] = (float)(1 + i % 7) * ((d == group[i] ? 1.0f : 0.0f) +
                                                   (d == 4 ? 0.3f * (float)labels[i] : 0.0f) +
                                                   0.01f * (float)((i * 31 + d * 17) % 11));
    }
}

static void one_of_each_group(void **state) {
    (void)state;
    npi_device device = brute_device(false);
    float h[N * DIM];
    int32_t labels[N];
    int group[N], seen[CLASSES][GROUPS] = {{0}};
    int64_t *chosen, count;
    plant(h, labels, group);
    CHECK_OK(npi_coreset(&device, N, DIM, h, labels, CLASSES, CLASSES * GROUPS, &chosen, &count));
    assert_int_equal(count, CLASSES * GROUPS);
    for (int64_t i = 0; i < count; i++) {
        assert_true(i == 0 || chosen[i] > chosen[i - 1]);
        seen[labels[chosen[i]]][group[chosen[i]]]++;
    }
    for (int c = 0; c < CLASSES; c++)
        for (int g = 0; g < GROUPS; g++)
            assert_int_equal(seen[c][g], 1);
    npi_free(chosen);
}

static void sizes(void **state) {
    (void)state;
    npi_device device = brute_device(true);
    float h[N * DIM];
    int32_t labels[N];
    int group[N];
    int64_t *chosen, count;
    plant(h, labels, group);
    CHECK_OK(npi_coreset(&device, N, DIM, h, labels, CLASSES, N, &chosen, &count));
    assert_int_equal(count, N);
    for (int i = 0; i < N; i++)
        assert_int_equal(chosen[i], i);
    npi_free(chosen);
    /* every class that has rows keeps one, and class 3 has none */
    CHECK_OK(npi_coreset(&device, N, DIM, h, labels, CLASSES + 1, 1, &chosen, &count));
    assert_int_equal(count, CLASSES);
    npi_free(chosen);
    CHECK_FAILS(npi_coreset(&device, N, DIM, h, labels, CLASSES, 0, &chosen, &count),
                NPOS_INVALID_ARGUMENT, "0 rows were asked for, there are 60");
    CHECK_FAILS(npi_coreset(&device, N, DIM, h, labels, CLASSES, N + 1, &chosen, &count),
                NPOS_INVALID_ARGUMENT, "61 rows");
    CHECK_FAILS(npi_coreset(&device, N, DIM, h, labels, 2, 6, &chosen, &count), NPOS_BAD_DATA,
                "training embedding 2 has label 2, the model has 2 classes");
    /* equal rows: centres that share their nearest row count once */
    for (int i = 0; i < N * DIM; i++)
        h[i] = 1;
    CHECK_OK(npi_coreset(&device, N, DIM, h, labels, CLASSES, 30, &chosen, &count));
    assert_int_equal(count, CLASSES);
    npi_free(chosen);
}

static void k_of_fewer_rows(void **state) {
    (void)state;
    assert_int_equal(npi_coreset_k(50, 2400, 48000), 5);
    assert_int_equal(npi_coreset_k(50, 4800, 48000), 10);
    assert_int_equal(npi_coreset_k(50, 480, 48000), 2);
    assert_int_equal(npi_coreset_k(50, 48000, 48000), 50);
    assert_int_equal(npi_coreset_k(1, 10, 1000), 1);
    assert_int_equal(npi_coreset_k(300, 1, 1000), 1);
}

static void survives_failing_memory(void **state) {
    (void)state;
    npi_device device = brute_device(false);
    float h[N * DIM];
    int32_t labels[N];
    int group[N], failures = 0;
    int64_t *chosen, count;
    plant(h, labels, group);
    for (int64_t n = 1; n < 400; n += 1 + n / 8) {
        npi_memory_fail_after(n);
        npos_status status =
            npi_coreset(&device, N, DIM, h, labels, CLASSES, CLASSES * GROUPS, &chosen, &count);
        npi_memory_fail_after(0);
        if (status == NPOS_OK) {
            npi_free(chosen);
            continue;
        }
        assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        assert_null(chosen);
        failures++;
    }
    assert_true(failures > 5);
}

static void rank_correlation(void **state) {
    (void)state;
    double r;
    const double a[] = {1, 2, 2, 3}, b[] = {10, 30, 20, INFINITY}, c[] = {4, 3, 2, 1};
    /* ranks -1.5 0 0 1.5 and -1.5 .5 -.5 1.5 */
    CHECK_OK(npi_rank_correlation(4, a, b, &r));
    assert_true(fabs(r - 4.5 / sqrt(4.5 * 5)) <= 1e-15);
    CHECK_OK(npi_rank_correlation(4, b, b, &r));
    assert_true(fabs(r - 1) <= 1e-15);
    const double rising[] = {-1, 0, 5, 6};
    CHECK_OK(npi_rank_correlation(4, rising, c, &r));
    assert_true(fabs(r + 1) <= 1e-15);
    const double flat[] = {2, 2, 2, 2};
    CHECK_OK(npi_rank_correlation(4, flat, c, &r));
    assert_true(isnan(r));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_of_each_group), cmocka_unit_test(sizes),
        cmocka_unit_test(k_of_fewer_rows),   cmocka_unit_test(survives_failing_memory),
        cmocka_unit_test(rank_correlation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
