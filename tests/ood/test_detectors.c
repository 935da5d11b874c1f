/* Each detector and each way to a class against scikit-learn, SciPy and NumPy
 * (tests/golden/detectors.py); independence of the batch; what a model lacks; wrong names. */
#include "check.h"

#include <math.h>

#include "base/memory.h"
#include "base/philox.h"
#include "brute_device.h"
#include "ood/accuracy.h"
#include "ood/detector.h"

enum { BANK = 60, QUERIES = 25, DIM = 16, PROJ = 8, CLASSES = 4, MOST = BANK * DIM };

/* The golden file's array `name` of `count` numbers. */
static const double *golden(const char *name, int count) {
    static double values[4][MOST];
    static int turn;
    double *out = values[turn++ % 4];
    char word[64];
    int n = 0;
    FILE *file = fopen(NPOS_SOURCE_DIR "/tests/golden/detectors.txt", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "sizes %*d %*d %*d %*d %*d %63s %d", word, &n), 2);
    while (strcmp(word, name) != 0) {
        assert_true(fscanf(file, "%*[^\n]") == 0);
        if (fscanf(file, "%63s %d", word, &n) != 2)
            fail_msg("the golden file has no '%s'", name);
    }
    assert_int_equal(n, count);
    for (int i = 0; i < n; i++)
        assert_int_equal(fscanf(file, "%lf", &out[i]), 1);
    fclose(file);
    return out;
}

static float bank[BANK * DIM], h[QUERIES * DIM], z[QUERIES * PROJ], prototypes[CLASSES * PROJ],
    logits[QUERIES * CLASSES], phi[QUERIES], weight[CLASSES * DIM], bias[CLASSES];
static int32_t labels[BANK];
static npi_device host, away;
static npi_neighbour_bank *host_bank, *away_bank;
static npi_detector_model model;
static npi_outputs outputs;

static void take(const char *name, int count, float *to) {
    const double *values = golden(name, count);
    for (int i = 0; i < count; i++)
        to[i] = (float)values[i];
}

static int setup(void **state) {
    (void)state;
    take("bank", BANK * DIM, bank);
    take("h", QUERIES * DIM, h);
    take("z", QUERIES * PROJ, z);
    take("prototypes", CLASSES * PROJ, prototypes);
    take("logits", QUERIES * CLASSES, logits);
    take("weight", CLASSES * DIM, weight);
    take("bias", CLASSES, bias);
    const double *of = golden("labels", BANK);
    for (int i = 0; i < BANK; i++)
        labels[i] = (int32_t)of[i];
    for (int i = 0; i < QUERIES; i++)
        phi[i] = 0.5f * (float)i - 3;
    host = brute_device(true);
    away = brute_device(false);
    CHECK_OK(npi_neighbour_bank_make(&host, BANK, DIM, bank, &host_bank));
    CHECK_OK(npi_neighbour_bank_make(&away, BANK, DIM, bank, &away_bank));
    model = (npi_detector_model){"run",      &host, DIM,       PROJ,   CLASSES, true, true,
                                 prototypes, 0.1,   host_bank, labels, 7,       bank, weight,
                                 bias,       false, false,     NULL,   0};
    outputs = (npi_outputs){QUERIES, DIM, PROJ, CLASSES, h, z, phi, logits, NULL};
    return 0;
}

static int teardown(void **state) {
    (void)state;
    npi_neighbour_bank_free(host_bank);
    npi_neighbour_bank_free(away_bank);
    return 0;
}

static void compare(const char *what, const double *got, const char *name, double tolerance) {
    const double *expected = golden(name, QUERIES);
    for (int i = 0; i < QUERIES; i++)
        if (!(fabs(got[i] - expected[i]) <= tolerance * fmax(1, fabs(expected[i]))))
            fail_msg("%s of query %d: got %.9g, expected %.9g", what, i, got[i], expected[i]);
}

static void knn_equals_sklearn(void **state) {
    (void)state;
    const int ks[] = {1, 7, BANK};
    const char *names[] = {"knn_1", "knn_7", "knn_60"};
    for (int i = 0; i < 6; i++) {
        npi_detector_model m = model;
        npi_detector *detectors;
        double score[QUERIES];
        int count;
        m.dev = i < 3 ? &host : &away;
        m.bank = i < 3 ? host_bank : away_bank;
        m.knn_k = ks[i % 3];
        CHECK_OK(npi_detectors_fit("knn", &m, &detectors, &count));
        assert_int_equal(count, 1);
        CHECK_OK(npi_detector_score(detectors, &outputs, score));
        compare(names[i % 3], score, names[i % 3], 1e-6);
        npi_detectors_free(detectors, count);
    }
}

static void all_others_equal_numpy(void **state) {
    (void)state;
    npi_detector *detectors;
    double score[QUERIES];
    int count;
    CHECK_OK(
        npi_detectors_fit("knn,head,prototype,msp,maxlogit,energy", &model, &detectors, &count));
    assert_int_equal(count, 6);
    for (int d = 0; d < count; d++) {
        const char *name = detectors[d].kind->name;
        CHECK_OK(npi_detector_score(&detectors[d], &outputs, score));
        if (strcmp(name, "head") == 0) {
            for (int i = 0; i < QUERIES; i++)
                assert_true(score[i] == (double)phi[i]);
        } else {
            compare(name, score, strcmp(name, "knn") == 0 ? "knn_7" : name, 1e-6);
        }
    }
    npi_detectors_free(detectors, count);
}

/* With a feature that is always 0, as a dead unit's: the covariances are singular. */
static void fitted_ones_equal_scipy(void **state) {
    (void)state;
    static const char *const names[] = {
        "gen", "react", "ash", "she", "vim", "mahalanobis", "relative_mahalanobis"};
    static float rows[BANK * DIM], queries[QUERIES * DIM], of[QUERIES * CLASSES];
    memcpy(rows, bank, sizeof rows);
    memcpy(queries, h, sizeof queries);
    for (int i = 0; i < BANK; i++)
        rows[i * DIM + 5] = 0;
    for (int i = 0; i < QUERIES; i++)
        queries[i * DIM + 5] = 0;
    take("head_logits", QUERIES * CLASSES, of);
    npi_detector_model m = model;
    npi_outputs asked = {QUERIES, DIM, PROJ, CLASSES, queries, z, phi, of, NULL};
    m.bank_h = rows;
    for (int i = 0; i < 7; i++) {
        npi_detector *detector;
        double score[QUERIES];
        int count;
        CHECK_OK(npi_detectors_fit(names[i], &m, &detector, &count));
        CHECK_OK(npi_detector_score(detector, &asked, score));
        compare(names[i], score, names[i], 1e-6);
        npi_detectors_free(detector, count);
    }
}

/* What a fit must refuse, and that it leaves nothing behind when memory runs out. */
static void bad_training_data(void **state) {
    (void)state;
    npi_detector *detectors;
    int count;
    int32_t wrong[BANK];
    memcpy(wrong, labels, sizeof wrong);
    wrong[3] = CLASSES;
    npi_detector_model m = model;
    m.bank_labels = wrong;
    CHECK_FAILS(npi_detectors_fit("mahalanobis", &m, &detectors, &count), NPOS_BAD_DATA,
                "score 'mahalanobis': training embedding 3 has label 4 of 4 classes");
    CHECK_FAILS(npi_detectors_fit("she", &m, &detectors, &count), NPOS_BAD_DATA, "label 4 of 4");
    m = model;
    m.weight = NULL;
    CHECK_FAILS(npi_detectors_fit("vim", &m, &detectors, &count), NPOS_INVALID_ARGUMENT,
                "score 'vim' needs a classifier's weights, and run has none");
    float same[BANK * DIM];
    for (int i = 0; i < BANK * DIM; i++)
        same[i] = 1;
    m = model;
    m.bank_h = same; /* no variance at all: every distance is 0 */
    CHECK_OK(npi_detectors_fit("mahalanobis", &m, &detectors, &count));
    double score[QUERIES];
    CHECK_OK(npi_detector_score(detectors, &outputs, score));
    assert_true(score[0] == 0 && score[QUERIES - 1] == 0);
    npi_detectors_free(detectors, count);
    size_t before = npi_memory_now();
    for (int n = 1;; n++) {
        npi_memory_fail_after(n);
        npos_status status = npi_detectors_fit("all", &model, &detectors, &count);
        npi_memory_fail_after(0);
        if (status == NPOS_OK)
            break;
        assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        assert_int_equal(npi_memory_now(), before);
        assert_true(n < 200);
    }
    npi_detectors_free(detectors, count);
    assert_int_equal(npi_memory_now(), before);
}

/* A NaN in an embedding or a logit gives NaN, by which eval names the image. */
static void nan_is_kept(void **state) {
    (void)state;
    npi_detector *detectors;
    int count;
    float bad_h[DIM], bad_logits[CLASSES];
    memcpy(bad_h, h, sizeof bad_h);
    memcpy(bad_logits, logits, sizeof bad_logits);
    bad_h[2] = bad_logits[1] = NAN;
    npi_outputs one = {1, DIM, PROJ, CLASSES, bad_h, z, phi, bad_logits, NULL};
    CHECK_OK(npi_detectors_fit("gen,react,ash,she,vim,mahalanobis,relative_mahalanobis", &model,
                               &detectors, &count));
    for (int d = 0; d < count; d++) {
        double score = 0;
        CHECK_OK(npi_detector_score(&detectors[d], &one, &score));
        if (!isnan(score))
            fail_msg("%s gives %g", detectors[d].kind->name, score);
    }
    npi_detectors_free(detectors, count);
}

/* An image's score is the same alone, among others, and whatever the others are. */
static void scores_do_not_depend_on_the_batch(void **state) {
    (void)state;
    npi_detector *detectors;
    double together[QUERIES], alone;
    int count;
    CHECK_OK(npi_detectors_fit("all", &model, &detectors, &count));
    for (int d = 0; d < count; d++) {
        CHECK_OK(npi_detector_score(&detectors[d], &outputs, together));
        for (int i = 0; i < QUERIES; i++) {
            npi_outputs one = {1,           DIM,          PROJ,    CLASSES,
                               h + i * DIM, z + i * PROJ, phi + i, logits + i * CLASSES,
                               NULL};
            CHECK_OK(npi_detector_score(&detectors[d], &one, &alone));
            assert_true(alone == together[i]);
        }
    }
    npi_detectors_free(detectors, count);
}

static void classes_and_accuracy(void **state) {
    (void)state;
    int32_t class_of[QUERIES], truth[QUERIES];
    double confidence[QUERIES], found[QUERIES];
    const char *names[] = {"vote", "nearest", "argmax"};
    for (int way = 0; way < 3; way++) {
        if (way == 0)
            CHECK_OK(npi_classify_knn(&model, &outputs, class_of, confidence));
        else if (way == 1)
            npi_classify_prototype(&model, &outputs, class_of, confidence);
        else
            npi_classify_head(&model, &outputs, class_of, confidence);
        for (int i = 0; i < QUERIES; i++)
            found[i] = class_of[i];
        compare(names[way], found, names[way], 0);
        compare("confidence", confidence,
                way == 0   ? "vote_share"
                : way == 1 ? "nearest_share"
                           : "msp",
                1e-6);
    }
    /* of the first 10 labelled images 3 are wrong on purpose */
    const double *right = golden("argmax", QUERIES);
    for (int i = 0; i < QUERIES; i++)
        truth[i] = i >= 10 ? -1 : ((int32_t)right[i] + (i < 3)) % CLASSES;
    npi_found counts;
    CHECK_OK(npi_count_found(&model, &outputs, truth, &counts));
    npi_accuracy accuracy = npi_accuracy_of(&counts);
    assert_true(accuracy.head == 0.7 && accuracy.text == -1);
    assert_true(accuracy.knn >= 0 && accuracy.prototype >= 0);
    npi_detector_model plain = model;
    plain.prototypes = NULL;
    plain.bank = NULL;
    for (int i = 0; i < QUERIES; i++)
        truth[i] = -1;
    CHECK_OK(npi_count_found(&plain, &outputs, truth, &counts));
    accuracy = npi_accuracy_of(&counts);
    assert_true(accuracy.head == -1 && accuracy.knn == -1 && accuracy.prototype == -1);
}

/* A detector restored from its own arrays scores the same to the bit, without the bank. */
static void saved_ones_need_no_bank(void **state) {
    (void)state;
    static const char *const names[] = {"react", "she", "vim", "mahalanobis",
                                        "relative_mahalanobis"};
    for (int i = 0; i < 5; i++) {
        npi_detector *fitted, *restored;
        npi_saved_detector saved = {0};
        double before[QUERIES], after[QUERIES];
        int count;
        CHECK_OK(npi_detectors_fit(names[i], &model, &fitted, &count));
        CHECK_OK(npi_detector_score(fitted, &outputs, before));
        assert_false(fitted->restored);
        snprintf(saved.name, sizeof saved.name, "%s", names[i]);
        saved.count = fitted->kind->arrays(&model, fitted->state, saved.array);
        npi_detector_model bare = model;
        bare.bank = NULL;
        bare.bank_h = NULL;
        CHECK_FAILS(npi_detectors_fit(names[i], &bare, &restored, &count), NPOS_INVALID_ARGUMENT,
                    "needs training embeddings");
        bare.saved = &saved;
        bare.saved_count = 1;
        CHECK_OK(npi_detectors_fit(names[i], &bare, &restored, &count));
        CHECK_OK(npi_detector_score(restored, &outputs, after));
        assert_true(restored->restored);
        assert_memory_equal(before, after, sizeof before);
        npi_detectors_free(restored, count);
        saved.array[saved.count - 1].columns++;
        CHECK_FAILS(npi_detectors_fit(names[i], &bare, &restored, &count), NPOS_SHAPE_MISMATCH,
                    "saved");
        saved.count = 0;
        CHECK_FAILS(npi_detectors_fit(names[i], &bare, &restored, &count), NPOS_BAD_DATA,
                    "what was saved of it has no");
        npi_detectors_free(fitted, 1);
    }
}

/* The same figures on the devices that ship, and there too a score that is the image's own. */
static void on_real_devices(void **state) {
    (void)state;
    const char *names[] = {"reference", "cpu"};
    for (int i = 0; i < 2; i++) {
        npi_device *dev;
        npi_neighbour_bank *rows;
        npi_detector *detectors;
        double score[QUERIES], alone;
        int32_t class_of[QUERIES];
        int count;
        CHECK_OK(npi_device_open(names[i], NPI_PRECISION_AUTO, 2, &dev));
        CHECK_OK(npi_neighbour_bank_make(dev, BANK, DIM, bank, &rows));
        npi_detector_model m = model;
        m.dev = dev;
        m.bank = rows;
        CHECK_OK(npi_detectors_fit("knn", &m, &detectors, &count));
        CHECK_OK(npi_detector_score(detectors, &outputs, score));
        compare(names[i], score, "knn_7", 2e-6);
        for (int q = 0; q < QUERIES; q++) {
            npi_outputs one = {.n = 1, .dim = DIM, .h = h + q * DIM};
            CHECK_OK(npi_detector_score(detectors, &one, &alone));
            if (alone != score[q])
                fail_msg("%s: query %d scores %.9g alone, %.9g among others", names[i], q, alone,
                         score[q]);
        }
        CHECK_OK(npi_classify_knn(&m, &outputs, class_of, NULL));
        const double *votes = golden("vote", QUERIES);
        for (int q = 0; q < QUERIES; q++)
            assert_int_equal(class_of[q], (int32_t)votes[q]);
        npi_detectors_free(detectors, count);
        npi_neighbour_bank_free(rows);
        npi_device_close(dev);
    }
}

/* A larger bank and more queries than one block: blocks of 2048 and single queries agree. */
static void blocks_agree(void **state) {
    (void)state;
    enum { ROWS = 700, ASKED = 2500, WIDE = 48 };
    float *rows, *queries;
    npi_device *dev;
    npi_neighbour_bank *large;
    double *together, alone;
    CHECK_OK(npi_alloc(&rows, (size_t)ROWS * WIDE, sizeof *rows, "rows"));
    CHECK_OK(npi_alloc(&queries, (size_t)ASKED * WIDE, sizeof *queries, "queries"));
    CHECK_OK(npi_alloc(&together, ASKED, sizeof *together, "distances"));
    for (uint32_t i = 0; i < (ROWS + ASKED) * WIDE; i++) {
        npi_u32x4 words = npi_philox(3, NPI_RANDOM_TEST, 0, 0, i);
        float x = npi_unit_float(words.v[0]) - 0.5f;
        *(i < ROWS * WIDE ? rows + i : queries + (i - ROWS * WIDE)) = x;
    }
    CHECK_OK(npi_device_open("cpu", NPI_PRECISION_AUTO, 2, &dev));
    CHECK_OK(npi_neighbour_bank_make(dev, ROWS, WIDE, rows, &large));
    CHECK_OK(npi_neighbour_kth(large, ASKED, queries, 300, together));
    for (int q = 0; q < ASKED; q += 97) {
        CHECK_OK(npi_neighbour_kth(large, 1, queries + q * WIDE, 300, &alone));
        if (alone != together[q])
            fail_msg("query %d: %.9g alone, %.9g among others", q, alone, together[q]);
        assert_true(alone > 0.5 && alone < 3.5);
    }
    npi_neighbour_bank_free(large);
    npi_device_close(dev);
    npi_free(rows);
    npi_free(queries);
    npi_free(together);
}

/* Two classes with as many votes: the one of the nearest voter wins, whatever its number. */
static void vote_ties_go_to_the_nearest(void **state) {
    (void)state;
    const float rows[] = {1, 0, 0.9f, 0.1f, 0, 1, 0.1f, 0.9f}, query[] = {0.2f, 1, 1, 0.2f};
    const int32_t of[] = {0, 1, 1, 0};
    npi_neighbour_bank *small;
    CHECK_OK(npi_neighbour_bank_make(&host, 4, 2, rows, &small));
    npi_detector_model m = {
        .name = "small", .dev = &host, .dim = 2, .classes = 2, .bank = small, .bank_labels = of};
    npi_outputs two = {.n = 2, .dim = 2, .h = query};
    int32_t class_of[2];
    double share[2];
    /* 4 voters of the 50 that the vote would take: (0, 1, 1, 0) is 2 : 2 */
    CHECK_OK(npi_classify_knn(&m, &two, class_of, share));
    assert_int_equal(class_of[0], 0); /* nearest to (0.2, 1): (0.1, 0.9), class 0 */
    assert_int_equal(class_of[1], 1); /* nearest to (1, 0.2): (0.9, 0.1), class 1 */
    assert_true(share[0] == 0.5);
    const int32_t wrong[] = {0, 1, 2, 0};
    m.bank_labels = wrong;
    CHECK_FAILS(npi_classify_knn(&m, &two, class_of, share), NPOS_BAD_DATA,
                "training embedding 2 has label 2");
    npi_neighbour_bank_free(small);
}

static void not_finite(void **state) {
    (void)state;
    float bad[2 * DIM] = {0};
    double distance[2];
    int64_t index[6];
    bad[DIM + 3] = NAN;
    npi_outputs two = {.n = 2, .dim = DIM, .h = bad};
    int32_t class_of[2];
    CHECK_FAILS(npi_neighbour_list(host_bank, 2, bad, 3, index, NULL), NPOS_NOT_FINITE,
                "embedding 1");
    CHECK_FAILS(npi_classify_knn(&model, &two, class_of, NULL), NPOS_NOT_FINITE, "embedding 1");
    CHECK_OK(npi_neighbour_kth(host_bank, 1, bad, 1, distance)); /* zero stays zero: distance 1 */
    assert_true(fabs(distance[0] - 1) < 1e-6);
    float gaps[4] = {1, NAN, 2, 3};
    npi_outputs one = {.n = 1, .classes = CLASSES, .logits = gaps};
    npi_detector *detectors;
    double score;
    int count;
    CHECK_OK(npi_detectors_fit("msp,maxlogit,energy", &model, &detectors, &count));
    for (int d = 0; d < count; d++) {
        CHECK_OK(npi_detector_score(&detectors[d], &one, &score));
        assert_true(isnan(score));
    }
    npi_detectors_free(detectors, count);
}

static void bad_lists(void **state) {
    (void)state;
    npi_detector *detectors;
    int count;
    const struct {
        const char *list, *message, *hint;
    } cases[] = {
        {"knm", "score 'knm' is not known", "'knn'"},
        {"prototypes", "score 'prototypes' is not known", "'prototype'"},
        {"knn,", "score '' is not known", ""},
        {"", "expected all or some of knn, head, prototype, msp, maxlogit, energy, gen", ""},
        {"knn,head,knn", "'knn' stands twice", ""},
        {"all,knn", "score 'all'", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t before = npi_memory_now();
        CHECK_FAILS(npi_detectors_fit(cases[i].list, &model, &detectors, &count),
                    NPOS_INVALID_ARGUMENT, cases[i].message);
        assert_non_null(strstr(npos_error_hint(), cases[i].hint));
        assert_int_equal(npi_memory_now(), before);
        assert_null(detectors);
    }
    npi_detector_model m = model;
    m.knn_k = BANK + 1;
    CHECK_FAILS(npi_detectors_fit("knn", &m, &detectors, &count), NPOS_INVALID_ARGUMENT,
                "knn_k is 61, but run has 60 training embeddings");
    m.has_classifier = false;
    CHECK_FAILS(npi_detectors_fit("msp", &m, &detectors, &count), NPOS_INVALID_ARGUMENT,
                "score 'msp' needs a classifier, and run has none");
    m = model;
    m.weight = NULL;
    CHECK_OK(npi_detectors_fit("all", &m, &detectors, &count));
    assert_int_equal(count, 9); /* not react, ash, she, vim */
    npi_detectors_free(detectors, count);
    m = (npi_detector_model){.name = "run", .dev = &host, .has_head = true};
    CHECK_OK(npi_detectors_fit("all", &m, &detectors, &count));
    assert_int_equal(count, 1);
    assert_string_equal(detectors->kind->name, "head");
    npi_detectors_free(detectors, count);
    m.has_head = false;
    CHECK_FAILS(npi_detectors_fit("all", &m, &detectors, &count), NPOS_INVALID_ARGUMENT,
                "serves no score");
    assert_true(npi_detectors_need("head,knn", NPI_NEEDS_BANK));
    assert_false(npi_detectors_need("head,msp", NPI_NEEDS_BANK));
    assert_true(npi_detectors_need("all", NPI_NEEDS_BANK));
    double distance;
    CHECK_FAILS(npi_neighbour_kth(host_bank, 1, h, 0, &distance), NPOS_INVALID_ARGUMENT, "k is 0");
    npi_neighbour_bank *none;
    CHECK_FAILS(npi_neighbour_bank_make(&host, 0, DIM, bank, &none), NPOS_INVALID_ARGUMENT,
                "0 rows");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knn_equals_sklearn),
        cmocka_unit_test(all_others_equal_numpy),
        cmocka_unit_test(fitted_ones_equal_scipy),
        cmocka_unit_test(bad_training_data),
        cmocka_unit_test(nan_is_kept),
        cmocka_unit_test(scores_do_not_depend_on_the_batch),
        cmocka_unit_test(saved_ones_need_no_bank),
        cmocka_unit_test(on_real_devices),
        cmocka_unit_test(blocks_agree),
        cmocka_unit_test(classes_and_accuracy),
        cmocka_unit_test(vote_ties_go_to_the_nearest),
        cmocka_unit_test(not_finite),
        cmocka_unit_test(bad_lists),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
