/* Pairs of runs against SciPy and DeLong's covariance (tests/golden/paired.py); what a paired
 * bootstrap must do whatever the scores are. */
#include "check.h"

#include <math.h>

#include "base/memory.h"
#include "ood/paired.h"
#include "ood/score_counts.h"
#include "ood/statistics.h"

enum { MOST = 256, DRAWS = NPI_BOOTSTRAP_DRAWS };

static void near(const char *what, double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance))
        fail_msg("%s: got %.17g, expected %.17g", what, got, expected);
}

static double number(FILE *file) {
    char word[64];
    assert_int_equal(fscanf(file, "%63s", word), 1);
    return strtod(word, NULL);
}

static void numbers(FILE *file, int n, double *to) {
    for (int i = 0; i < n; i++)
        to[i] = number(file);
}

static void check_pairs(FILE *file) {
    int n = (int)number(file);
    double a[MOST], b[MOST];
    npi_difference got;
    numbers(file, n, a);
    numbers(file, n, b);
    for (int i = 0; i < n; i++)
        b[i] -= a[i];
    npi_difference_of_pairs(b, n, &got);
    near("mean", got.value, number(file), 1e-14);
    near("lo", got.ci[0], number(file), 1e-9);
    near("hi", got.ci[1], number(file), 1e-9);
    near("p", got.p, number(file), 1e-10);
}

/* The paired bootstrap's interval of the AUROC's difference is DeLong's to a tenth of its width. */
static void check_scores(FILE *file) {
    static double value[4][MOST], drawn[DRAWS];
    int n = (int)number(file), m = (int)number(file);
    double *draws;
    char word[64];
    for (int i = 0; i < 4; i++)
        numbers(file, i % 2 ? m : n, value[i]);
    npi_scores id[2] = {{"a", n, value[0]}, {"b", n, value[2]}};
    npi_scores ood[2] = {{"a", m, value[1]}, {"b", m, value[3]}};
    npi_panel panel = {2, 1, id, ood};
    npi_measures measures[2];
    assert_int_equal(fscanf(file, "%63s", word), 1);
    for (int i = 0; i < 2; i++) {
        CHECK_OK(npi_measure_points(NPI_PROTOCOL_OE, &id[i], &ood[i], &measures[i]));
        near("auroc", measures[i].auroc, number(file), 1e-12);
    }
    CHECK_OK(npi_paired_bootstrap(NPI_PROTOCOL_OE, &panel, 5, &draws));
    for (int d = 0; d < DRAWS; d++)
        drawn[d] = draws[(d * 2 + 1) * NPI_MEASURES + 1] - draws[d * 2 * NPI_MEASURES + 1];
    npi_difference got;
    npi_difference_of_draws(measures[1].auroc - measures[0].auroc, drawn, &got);
    assert_int_equal(fscanf(file, "%63s", word), 1);
    double lo = number(file), hi = number(file);
    near("lo", got.ci[0], lo, 0.1 * (hi - lo));
    near("hi", got.ci[1], hi, 0.1 * (hi - lo));
    npi_free(draws);
}

static void golden(void **state) {
    (void)state;
    FILE *file = fopen(NPOS_SOURCE_DIR "/tests/golden/paired.txt", "r");
    char word[64];
    int seen = 0;
    assert_non_null(file);
    for (; fscanf(file, "%63s", word) == 1; seen++) {
        if (strcmp(word, "tails") == 0) {
            double t = number(file);
            int df = (int)number(file);
            double p = number(file);
            near("tails", npi_student_tails(t, df), p, 1e-11 * p);
        } else if (strcmp(word, "quantile") == 0) {
            double tails = number(file);
            int df = (int)number(file);
            double t = number(file);
            near("quantile", npi_student_quantile(tails, df), t, 1e-9 * t);
        } else if (strcmp(word, "pairs") == 0) {
            check_pairs(file);
        } else {
            assert_string_equal(word, "scores");
            check_scores(file);
        }
    }
    fclose(file);
    assert_int_equal(seen, 19);
}

static void fill(double *to, int n, int step) {
    for (int i = 0; i < n; i++)
        to[i] = i * step % 101;
}

/* A model beside itself, and beside one whose scores are an increasing function of its own: every
 * draw is of the same images, so every difference is 0. */
static void same_images_for_all(void **state) {
    (void)state;
    enum { N = 90, M = 70 };
    double id[N], ood[2][M], other_id[N], other[2][M];
    fill(id, N, 37);
    fill(ood[0], M, 29);
    fill(ood[1], M, 11);
    for (int i = 0; i < N; i++)
        other_id[i] = exp(id[i] / 10);
    for (int i = 0; i < 2 * M; i++)
        other[i / M][i % M] = exp(ood[i / M][i % M] / 10);
    npi_scores ids[2] = {{"a", N, id}, {"b", N, other_id}};
    npi_scores oods[4] = {
        {"x", M, ood[0]}, {"y", M, ood[1]}, {"x", M, other[0]}, {"y", M, other[1]}};
    npi_panel panel = {2, 2, ids, oods};
    for (int protocol = 0; protocol < 3; protocol++) {
        double *draws, *again;
        CHECK_OK(npi_paired_bootstrap((npi_protocol)protocol, &panel, 1, &draws));
        int moved = 0;
        for (int d = 0; d < DRAWS; d++) {
            const double *a = draws + d * 16, *b = a + 8;
            assert_memory_equal(a, b, 8 * sizeof *a);
            moved += a[1] != draws[1];
        }
        assert_true(moved > DRAWS / 2);
        CHECK_OK(npi_paired_bootstrap((npi_protocol)protocol, &panel, 1, &again));
        assert_memory_equal(draws, again, DRAWS * 16 * sizeof *draws);
        npi_free(again);
        CHECK_OK(npi_paired_bootstrap((npi_protocol)protocol, &panel, 2, &again));
        assert_memory_not_equal(draws, again, DRAWS * 16 * sizeof *draws);
        npi_free(again);
        npi_free(draws);
    }
}

static void differences(void **state) {
    (void)state;
    double draws[DRAWS], equal[3] = {0.25, 0.25, 0.25}, none[2] = {0, 0}, mean, std;
    npi_difference d;
    for (int i = 0; i < DRAWS; i++)
        draws[DRAWS - 1 - i] = i - 19; /* 20 at most 0 */
    npi_difference_of_draws(480, draws, &d);
    near("p", d.p, 2.0 * 21 / (DRAWS + 1), 1e-15);
    near("lo", d.ci[0], -19 + 0.025 * (DRAWS - 1), 1e-9);
    memset(draws, 0, sizeof draws);
    npi_difference_of_draws(0, draws, &d);
    assert_true(d.p == 1 && d.ci[0] == 0 && d.ci[1] == 0);
    for (int i = 0; i < DRAWS; i++)
        draws[i] = 1;
    npi_difference_of_draws(0.5, draws, &d); /* never below what 1,000 draws can tell */
    near("p", d.p, 2.0 / (DRAWS + 1), 1e-15);
    assert_true(d.ci[0] == 0.5 && d.ci[1] == 1);
    npi_difference_of_pairs(equal, 3, &d);
    assert_true(d.value == 0.25 && d.ci[0] == 0.25 && d.ci[1] == 0.25 && d.p == 0);
    npi_difference_of_pairs(none, 2, &d);
    assert_true(d.value == 0 && d.p == 1);
    npi_mean_and_std(equal, 1, &mean, &std);
    assert_true(mean == 0.25 && isnan(std));
}

static void bad_scores_and_no_memory(void **state) {
    (void)state;
    double id[3] = {1, 2, 3}, ood[3] = {0, NAN, 1}, *draws;
    npi_scores ids = {"digits", 3, id}, oods = {"textures", 3, ood};
    npi_panel panel = {1, 1, &ids, &oods};
    CHECK_FAILS(npi_paired_bootstrap(NPI_PROTOCOL_OE, &panel, 0, &draws), NPOS_NOT_FINITE,
                "textures: score 1 of 3 is NaN");
    assert_null(draws);
    ood[1] = 0;
    size_t before = npi_memory_now();
    for (int n = 1;; n++) {
        npi_memory_fail_after(n);
        npos_status status = npi_paired_bootstrap(NPI_PROTOCOL_OE, &panel, 0, &draws);
        npi_memory_fail_after(0);
        if (status == NPOS_OK)
            break;
        assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        assert_null(draws);
        assert_int_equal(npi_memory_now(), before);
        assert_true(n < 60);
    }
    npi_free(draws);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),
        cmocka_unit_test(same_images_for_all),
        cmocka_unit_test(differences),
        cmocka_unit_test(bad_scores_and_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
