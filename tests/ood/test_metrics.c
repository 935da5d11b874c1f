/* Measures against scikit-learn's and NumPy's (tests/golden/metrics.py), intervals, bad scores. */
#include "check.h"

#include <math.h>

#include "base/memory.h"
#include "base/philox.h"
#include "ood/metrics.h"
#include "ood/statistics.h"

enum { MOST = 1000 };

static void near(const char *what, double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance))
        fail_msg("%s: got %.17g, expected %.17g", what, got, expected);
}

static double number(FILE *file) {
    char word[64];
    assert_int_equal(fscanf(file, "%63s", word), 1);
    return strtod(word, NULL);
}

static void check_case(FILE *file) {
    static double id[MOST], ood[MOST];
    char name[64], word[64], what[160];
    int n, m;
    assert_int_equal(fscanf(file, "%63s %d %d", name, &n, &m), 3);
    assert_true(n <= MOST && m <= MOST);
    for (int i = 0; i < n; i++)
        id[i] = number(file);
    for (int i = 0; i < m; i++)
        ood[i] = number(file);
    npi_scores in = {"id", n, id}, out = {name, m, ood};
    npi_measures got;
    for (int p = 0; p < 3; p++) {
        npi_protocol protocol;
        assert_int_equal(fscanf(file, "%63s", word), 1);
        CHECK_OK(npi_protocol_parse(word, &protocol));
        CHECK_OK(npi_measure(protocol, &in, &out, 1, &got));
        double values[] = {got.fpr95, got.auroc, got.aupr_in, got.aupr_out};
        const char *names[] = {"fpr95", "auroc", "aupr_in", "aupr_out"};
        for (int v = 0; v < 4; v++) {
            snprintf(what, sizeof what, "%s, %s, %s", name, word, names[v]);
            near(what, values[v], number(file), 1e-12);
            assert_true(values[v] >= 0 && values[v] <= 1); /* not 1 + 1e-16: JSON says fractions */
        }
        assert_true(got.fpr95_ci[0] <= got.fpr95 && got.fpr95 <= got.fpr95_ci[1]);
        assert_true(got.auroc_ci[0] <= got.auroc && got.auroc <= got.auroc_ci[1]);
        assert_true(got.fpr95_ci[0] >= 0 && got.fpr95_ci[1] <= 1);
        assert_true(got.aupr_in_ci[0] <= got.aupr_in && got.aupr_in <= got.aupr_in_ci[1]);
        assert_true(got.aupr_out_ci[0] <= got.aupr_out && got.aupr_out <= got.aupr_out_ci[1]);
        assert_true(got.aupr_in_ci[0] >= 0 && got.aupr_in_ci[1] <= 1);
        assert_true(got.aupr_out_ci[0] >= 0 && got.aupr_out_ci[1] <= 1);
    }
    assert_int_equal(fscanf(file, "%63s", word), 1);
    assert_string_equal(word, "delong");
    double lo = number(file), hi = number(file);
    if (!isnan(lo)) {
        near(name, got.auroc_ci[0], lo, 1e-12);
        near(name, got.auroc_ci[1], hi, 1e-12);
    }
}

static void golden(void **state) {
    (void)state;
    FILE *file = fopen(NPOS_SOURCE_DIR "/tests/golden/metrics.txt", "r");
    assert_non_null(file);
    char word[64];
    int cases = 0, intervals = 0;
    while (fscanf(file, "%63s", word) == 1) {
        if (strcmp(word, "case") == 0) {
            check_case(file);
            cases++;
            continue;
        }
        assert_string_equal(word, "cp");
        double k = number(file), n = number(file), got[2];
        npi_clopper_pearson((int64_t)k, (int64_t)n, 0.05, got);
        for (int i = 0; i < 2; i++) {
            double expected = number(file);
            snprintf(word, sizeof word, "Clopper-Pearson of %.0f in %.0f", k, n);
            near(word, got[i], expected, 1e-9 * expected + 1e-15);
        }
        intervals++;
    }
    fclose(file);
    assert_true(cases >= 70);
    assert_int_equal(intervals, 13);
}

/* One set of scores, three protocols, three answers: why every table names its own. */
static void protocols_differ(void **state) {
    (void)state;
    double id[20], ood[20];
    for (int i = 0; i < 20; i++) {
        id[i] = i;
        ood[i] = i < 10 ? 0.5 : -i;
    }
    npi_scores in = {"id", 20, id}, out = {"ood", 20, ood};
    npi_measures oe, knn, openood;
    CHECK_OK(npi_measure_points(NPI_PROTOCOL_OE, &in, &out, &oe));
    CHECK_OK(npi_measure_points(NPI_PROTOCOL_KNN_OOD, &in, &out, &knn));
    CHECK_OK(npi_measure_points(NPI_PROTOCOL_OPENOOD, &in, &out, &openood));
    /* TPR is 0.95 at the thresholds 0.5 and 1, the lowest counts: ten OOD lie at 0.5 */
    near("oe", oe.fpr95, 0.5, 0);
    near("knn-ood", knn.fpr95, 0, 0);        /* strictly above the ID score number 1, which is 1 */
    near("openood", openood.fpr95, 0.05, 0); /* 0.5 rejects all OOD, and the ID score 0 */
    assert_true(oe.auroc == knn.auroc && oe.auroc == openood.auroc);
    assert_true(oe.aupr_in != knn.aupr_in && oe.aupr_in != openood.aupr_in);
}

static void normal_scores(double *to, int n, uint32_t item, double mean) {
    for (int i = 0; i < n; i++) {
        npi_u32x4 words = npi_philox(5, NPI_RANDOM_TEST, 0, item, (uint32_t)i);
        float x, y;
        npi_normal_pair(words.v[0], words.v[1], &x, &y);
        to[i] = mean + (double)x;
    }
}

/* The bootstrap gives the same bits again, another seed gives others, and about 95% of the
 * intervals of fresh draws hold the true FPR95 of two unit normals 2 apart: P(N(0,1) > 2 - 1.645).
 */
static void bootstrap(void **state) {
    (void)state;
    enum { N = 500, TRIALS = 60 };
    static double id[N], ood[N];
    npi_scores in = {"id", N, id}, out = {"ood", N, ood};
    double truth = 0.5 * erfc((2 - 1.6448536269514722) / sqrt(2));
    /* the average precision of many such images, half of them ID: mean precision over ID scores */
    double precision = 0;
    for (double x = -8; x < 8; x += 0.001) { /* an ID score is 2 + x */
        double in_above = erfc(x / sqrt(2)), out_above = erfc((x + 2) / sqrt(2));
        precision += 0.001 * exp(-x * x / 2) / sqrt(2 * M_PI) * in_above / (in_above + out_above);
    }
    int held = 0, held_auroc = 0, held_in = 0, held_out = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        npi_measures a, b;
        normal_scores(id, N, (uint32_t)(2 * trial), 2);
        normal_scores(ood, N, (uint32_t)(2 * trial + 1), 0);
        CHECK_OK(npi_measure(NPI_PROTOCOL_OE, &in, &out, 3, &a));
        held += a.fpr95_ci[0] <= truth && truth <= a.fpr95_ci[1];
        double area = 0.5 * erfc(-2 / sqrt(2) / sqrt(2));
        held_auroc += a.auroc_ci[0] <= area && area <= a.auroc_ci[1];
        assert_true(a.fpr95_ci[1] - a.fpr95_ci[0] < 0.35);
        held_in += a.aupr_in_ci[0] <= precision && precision <= a.aupr_in_ci[1];
        held_out += a.aupr_out_ci[0] <= precision && precision <= a.aupr_out_ci[1];
        assert_true(a.aupr_in_ci[1] - a.aupr_in_ci[0] < 0.06);
        if (trial > 0)
            continue;
        CHECK_OK(npi_measure(NPI_PROTOCOL_OE, &in, &out, 3, &b));
        assert_memory_equal(&a, &b, sizeof a);
        CHECK_OK(npi_measure(NPI_PROTOCOL_OE, &in, &out, 4, &b));
        assert_true(a.fpr95_ci[0] != b.fpr95_ci[0] || a.fpr95_ci[1] != b.fpr95_ci[1]);
        CHECK_OK(npi_measure_points(NPI_PROTOCOL_OE, &in, &out, &b));
        assert_true(a.fpr95 == b.fpr95 && b.fpr95_ci[0] == 0 && b.fpr95_ci[1] == 1);
    }
    /* 60 trials at 95%: fewer than 51 would happen once in 2,000 */
    assert_true(held >= 51);
    assert_true(held_auroc >= 51);
    assert_true(held_in >= 51 && held_out >= 51);
}

static npi_score_result two_sets(npi_set_result set[2], double *id, double *a, double *b, int n) {
    set[0] = (npi_set_result){.name = (char *)"a", .group = (char *)"far", .n = n, .scores = a};
    set[1] = (npi_set_result){.name = (char *)"b", .group = (char *)"near", .n = n, .scores = b};
    return (npi_score_result){.id_n = n, .id_scores = id, .sets = 2, .set = set};
}

/* Means over sets that meet the same ID images: about 95% of the intervals hold the true mean. */
static void means_have_intervals(void **state) {
    (void)state;
    enum { N = 300, TRIALS = 60 };
    static double id[N], a[N], b[N];
    npi_set_result set[2];
    double area = 0.25 * (erfc(-2 / sqrt(2) / sqrt(2)) + erfc(-1 / sqrt(2) / sqrt(2)));
    double rate = 0.25 * (erfc((2 - 1.6448536269514722) / sqrt(2)) +
                          erfc((1 - 1.6448536269514722) / sqrt(2)));
    int held = 0, held_rate = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        npi_measures mean, again;
        normal_scores(id, N, (uint32_t)(3 * trial), 2);
        normal_scores(a, N, (uint32_t)(3 * trial + 1), 0);
        normal_scores(b, N, (uint32_t)(3 * trial + 2), 1);
        npi_score_result result = two_sets(set, id, a, b, N);
        CHECK_OK(npi_measure_result(NPI_PROTOCOL_OE, "id", 3, &result));
        assert_int_equal(npi_mean_measures(&result, NULL, &mean), 2);
        held += mean.auroc_ci[0] <= area && area <= mean.auroc_ci[1];
        held_rate += mean.fpr95_ci[0] <= rate && rate <= mean.fpr95_ci[1];
        assert_true(mean.auroc_ci[1] - mean.auroc_ci[0] < 0.1);
        assert_true(mean.aupr_in_ci[0] <= mean.aupr_in && mean.aupr_in <= mean.aupr_in_ci[1]);
        /* the first set's intervals are those that it has alone, and its group's mean has them */
        npi_scores in = {"id", N, id}, out = {"a", N, a};
        CHECK_OK(npi_measure(NPI_PROTOCOL_OE, &in, &out, 3, &again));
        assert_memory_equal(&again, &set[0].measures, sizeof again);
        npi_mean_measures(&result, "near", &mean);
        assert_memory_equal(&mean, &set[1].measures, sizeof mean);
        npi_free(result.mean);
        result.mean = NULL;
        npi_mean_measures(&result, NULL, &mean);
        assert_true(isnan(mean.auroc_ci[0]) && isnan(mean.aupr_out_ci[1]));
    }
    assert_true(held >= 51 && held_rate >= 51);
}

/* Perfect parting leaves no variance, yet the intervals are no points. */
static void perfect(void **state) {
    (void)state;
    double id[10], ood[8];
    for (int i = 0; i < 10; i++)
        id[i] = 10 + i;
    for (int i = 0; i < 8; i++)
        ood[i] = i;
    npi_scores in = {"id", 10, id}, out = {"ood", 8, ood};
    npi_measures m;
    CHECK_OK(npi_measure(NPI_PROTOCOL_OE, &in, &out, 0, &m));
    assert_true(m.auroc == 1 && m.fpr95 == 0 && m.fpr95_ci[0] == 0);
    near("auroc", m.auroc_ci[0], pow(0.025, 1.0 / 8), 1e-15);
    near("fpr95", m.fpr95_ci[1], 1 - pow(0.025, 1.0 / 8), 1e-12); /* Clopper-Pearson of 0 in 8 */
    CHECK_OK(npi_measure(NPI_PROTOCOL_OE, &out, &in, 0, &m));
    assert_true(m.auroc == 0 && m.fpr95 == 1 && m.auroc_ci[0] == 0);
    near("auroc", m.auroc_ci[1], 1 - pow(0.025, 1.0 / 8), 1e-15);
}

static void thresholds(void **state) {
    (void)state;
    double score[100], t;
    int64_t accepted;
    for (int i = 0; i < 100; i++)
        score[i] = (i * 37) % 100;
    npi_scores id = {"id", 100, score};
    CHECK_OK(npi_threshold_at_tpr(&id, 0.95, &t, &accepted));
    assert_true(t == 5 && accepted == 95);
    CHECK_OK(npi_threshold_at_tpr(&id, 0.07, &t, &accepted)); /* 0.07 * 100 > 7 in float64 */
    assert_true(t == 93 && accepted == 7);
    CHECK_OK(npi_threshold_at_tpr(&id, 0.951, &t, &accepted));
    assert_true(t == 4 && accepted == 96);
    CHECK_OK(npi_threshold_at_tpr(&id, 1, &t, NULL));
    assert_true(t == 0);
    double tied[4] = {1, 1, 1, 0};
    npi_scores ties = {"ties", 4, tied};
    CHECK_OK(npi_threshold_at_tpr(&ties, 0.5, &t, &accepted));
    assert_true(t == 1 && accepted == 3);
    CHECK_FAILS(npi_threshold_at_tpr(&id, 0, &t, NULL), NPOS_INVALID_ARGUMENT, "tpr: 0");
    CHECK_FAILS(npi_threshold_at_tpr(&id, 1.5, &t, NULL), NPOS_INVALID_ARGUMENT, "tpr: 1.5");
    CHECK_FAILS(npi_threshold_at_tpr(&id, NAN, &t, NULL), NPOS_INVALID_ARGUMENT, "tpr: nan");
}

static void bad_scores(void **state) {
    (void)state;
    double good[3] = {1, 2, 3}, nans[3] = {1, 2, NAN};
    npi_scores id = {"digits", 3, good}, ood = {"textures", 3, nans}, none = {"empty", 0, good};
    npi_measures m;
    CHECK_FAILS(npi_measure(NPI_PROTOCOL_OE, &id, &ood, 0, &m), NPOS_NOT_FINITE,
                "textures: score 2 of 3 is NaN");
    CHECK_FAILS(npi_measure(NPI_PROTOCOL_OE, &ood, &id, 0, &m), NPOS_NOT_FINITE,
                "textures: score 2 of 3 is NaN");
    CHECK_FAILS(npi_measure_points(NPI_PROTOCOL_OE, &id, &none, &m), NPOS_INVALID_ARGUMENT,
                "empty: there are no scores");
    double t;
    CHECK_FAILS(npi_threshold_at_tpr(&ood, 0.95, &t, NULL), NPOS_NOT_FINITE, "textures");
}

static void protocol_names(void **state) {
    (void)state;
    npi_protocol p;
    CHECK_FAILS(npi_protocol_parse("open-ood", &p), NPOS_INVALID_ARGUMENT, "'open-ood'");
    assert_non_null(strstr(npos_error_hint(), "openood"));
    CHECK_FAILS(npi_protocol_parse("", &p), NPOS_INVALID_ARGUMENT, "''");
    CHECK_OK(npi_protocol_parse("knn-ood", &p));
    assert_string_equal(npi_protocol_name(p), "knn-ood");
    assert_string_equal(npi_protocol_positive(p), "id");
    assert_string_equal(npi_protocol_positive(NPI_PROTOCOL_OPENOOD), "ood");
}

/* Every allocation may fail: a clean error, nothing leaked. */
static void no_memory(void **state) {
    (void)state;
    double a[5] = {1, 2, 3, 4, 5}, b[4] = {0, 2, 1, 7};
    npi_scores id = {"id", 5, a}, ood = {"ood", 4, b};
    npi_measures m;
    size_t before = npi_memory_now();
    int failed = 0;
    for (int n = 1; n < 100; n++) {
        npi_memory_fail_after(n);
        npos_status status = npi_measure(NPI_PROTOCOL_OE, &id, &ood, 0, &m);
        npi_memory_fail_after(0);
        assert_int_equal(npi_memory_now(), before);
        if (status == NPOS_OK)
            break;
        assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        failed++;
    }
    assert_true(failed >= 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),     cmocka_unit_test(protocols_differ),
        cmocka_unit_test(bootstrap),  cmocka_unit_test(means_have_intervals),
        cmocka_unit_test(perfect),    cmocka_unit_test(thresholds),
        cmocka_unit_test(bad_scores), cmocka_unit_test(protocol_names),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
