/* npos_fit and what eval, calibrate and score make of its runs: embeddings instead of images. */
#include "check.h"

#include <math.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "io/npy.h"
#include "jobs/run.h"
#include "npos/npos.h"
#include "report/evaluation_json.h"

enum { D = 8, C = 3, TRAIN = 90, TEST = 40, OTHER = 30 };

static char folder[512];
static float train[TRAIN * D], test[TEST * D], other[OTHER * D], weight[C * D], bias[C];
static int64_t train_labels[TRAIN], test_labels[TEST];

static double draw(uint32_t item, int i) {
    npi_u32x4 words = npi_philox(23, NPI_RANDOM_TEST, 0, item, (uint32_t)i);
    return (double)npi_unit_float(words.v[0]) - 0.5;
}

static const char *in_folder(const char *name) {
    static char paths[8][700];
    static int turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_rows(const char *name, int64_t rows, int64_t columns, const float *values) {
    int64_t shape[2] = {rows, columns};
    CHECK_OK(npi_npy_write(in_folder(name), NPI_F32, columns > 0 ? 2 : 1, shape, values));
}

static double logit(const float *h, int c) {
    double sum = (double)bias[c];
    for (int d = 0; d < D; d++)
        sum += (double)weight[c * D + d] * (double)h[d];
    return sum;
}

static void write_logits(const char *name, int rows, const float *h) {
    float of[TRAIN * C];
    for (int i = 0; i < rows * C; i++)
        of[i] = (float)logit(h + i / C * D, i % C);
    write_rows(name, rows, C, of);
}

/* Class c is large in feature c; the others are large in a feature of none. */
static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", check_folder());
    for (int i = 0; i < TRAIN * D; i++) {
        train_labels[i / D] = i / D % C;
        train[i] = (float)(2 * (i % D == i / D % C) + draw(0, i));
    }
    for (int i = 0; i < TEST * D; i++) {
        test_labels[i / D] = i / D % C;
        test[i] = (float)(2 * (i % D == i / D % C) + draw(1, i));
    }
    for (int i = 0; i < OTHER * D; i++)
        other[i] = (float)(2 * (i % D == C + i / D % C) + draw(2, i));
    for (int i = 0; i < C * D; i++)
        weight[i] = (float)((i % D == i / D) + 0.1 * draw(3, i));
    for (int c = 0; c < C; c++)
        bias[c] = (float)draw(4, c);
    write_rows("h.npy", TRAIN, D, train);
    write_rows("t.npy", TEST, D, test);
    write_rows("o.npy", OTHER, D, other);
    write_rows("w.npy", C, D, weight);
    write_rows("b.npy", C, 0, bias);
    write_logits("l.npy", TRAIN, train);
    write_logits("tl.npy", TEST, test);
    write_logits("ol.npy", OTHER, other);
    int64_t n = TRAIN, m = TEST;
    CHECK_OK(npi_npy_write(in_folder("y.npy"), NPI_I64, 1, &n, train_labels));
    CHECK_OK(npi_npy_write(in_folder("ty.npy"), NPI_I64, 1, &m, test_labels));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

/* Options over copies of their paths. */
static npos_fit_options fit_options(const char *out, bool head, bool logits) {
    static char text[6][700];
    const char *names[] = {"h.npy", "y.npy", "l.npy", "w.npy", "b.npy", out};
    for (int i = 0; i < 6; i++)
        snprintf(text[i], sizeof text[i], "%s/%s", folder, names[i]);
    npos_fit_options options;
    npos_fit_options_init(&options);
    options.embeddings = text[0];
    options.labels = text[1];
    options.logits = logits ? text[2] : NULL;
    options.head = head ? text[3] : NULL;
    options.bias = head ? text[4] : NULL;
    options.out = text[5];
    options.knn_k = 5;
    return options;
}

static npos_status evaluate(const char *run, const char *id, const char *ood, int64_t most) {
    npos_eval_options options;
    const char *sets[] = {ood};
    npos_eval_options_init(&options);
    options.compute.device = "reference";
    options.run = run;
    options.id = id;
    options.ood = sets;
    options.ood_count = 1;
    options.scores = "all";
    options.max_images = most;
    return npos_eval(&options);
}

static const npi_score_result *find(const npi_evaluation *e, const char *score) {
    for (int i = 0; i < e->results; i++)
        if (strcmp(e->result[i].score, score) == 0)
            return &e->result[i];
    fail_msg("no score '%s'", score);
    return NULL;
}

static void check_evaluation(const char *run, int scores) {
    npi_evaluation e = {0};
    CHECK_OK(npi_evaluation_read_run(run, &e));
    assert_int_equal(e.results, scores);
    const npi_score_result *maxlogit = find(&e, "maxlogit"), *knn = find(&e, "knn");
    assert_true(maxlogit->accuracy.head == 1 && maxlogit->accuracy.prototype == 1 &&
                maxlogit->accuracy.knn == 1);
    assert_int_equal(knn->set[0].n, OTHER);
    assert_true(knn->set[0].measures.auroc > 0.99);
    assert_true(find(&e, "mahalanobis")->set[0].measures.auroc > 0.99);
    for (int i = 0; i < OTHER; i++) {
        double most =
            fmax(logit(other + i * D, 0), fmax(logit(other + i * D, 1), logit(other + i * D, 2)));
        assert_true(fabs(maxlogit->set[0].scores[i] - most) < 1e-5);
    }
    npi_evaluation_clear(&e);
}

static void head_serves_all_detectors(void **state) {
    (void)state;
    char run[700], id[1500], ood[800];
    npos_fit_options options = fit_options("head", true, true);
    CHECK_OK(npos_fit(&options));
    snprintf(run, sizeof run, "%s", in_folder("head"));
    snprintf(id, sizeof id, "embeddings:%s#labels=%s", in_folder("t.npy"), in_folder("ty.npy"));
    snprintf(ood, sizeof ood, "far/o=embeddings:%s", in_folder("o.npy"));
    CHECK_OK(evaluate(run, id, ood, -1));
    check_evaluation(run, 12); /* all but the outlier head */
    CHECK_OK(evaluate(run, id, ood, 7));
    char *names;
    size_t size;
    CHECK_OK(npi_file_read(in_folder("head/scores/o.txt"), &names, &size));
    int last = -1, lines = 0;
    for (const char *at = names; *at; at = strchr(at, '\n') + 1, lines++) {
        int number;
        assert_int_equal(sscanf(at, "o.npy[%d]", &number), 1);
        assert_true(number > last && number < OTHER);
        last = number;
    }
    assert_int_equal(lines, 7);
    npi_free(names);
    npi_evaluation e = {0};
    CHECK_OK(npi_evaluation_read_run(run, &e));
    assert_int_equal(e.result[0].set[0].available, OTHER);
    int number = 0;
    CHECK_OK(npi_file_read(in_folder("head/scores/o.txt"), &names, &size));
    for (const char *at = names; *at;
         at = strchr(at, '\n') + 1, number++) { /* the row's own score */
        const float *h = other + atoi(at + strlen("o.npy[")) * D;
        double most = fmax(logit(h, 0), fmax(logit(h, 1), logit(h, 2)));
        assert_true(fabs(find(&e, "maxlogit")->set[0].scores[number] - most) < 1e-5);
    }
    npi_free(names);
    npi_evaluation_clear(&e);
}

/* What was fitted is saved, taken again, and fitted anew when the run is another one. */
static void fitted_detectors_are_saved(void **state) {
    (void)state;
    char id[1500], ood[800], run[560], file[800];
    char *first, *second;
    size_t size, other_size;
    npos_fit_options options = fit_options("saved", true, false);
    CHECK_OK(npos_fit(&options));
    snprintf(run, sizeof run, "%s", in_folder("saved"));
    snprintf(file, sizeof file, "%s/detectors.safetensors", run);
    snprintf(id, sizeof id, "embeddings:%s#labels=%s", in_folder("t.npy"), in_folder("ty.npy"));
    snprintf(ood, sizeof ood, "far/o=embeddings:%s", in_folder("o.npy"));
    CHECK_OK(evaluate(run, id, ood, -1));
    npi_evaluation before = {0}, after = {0};
    CHECK_OK(npi_evaluation_read_run(run, &before));
    CHECK_OK(npi_file_read(file, &first, &size));
    CHECK_OK(evaluate(run, id, ood, -1));
    CHECK_OK(npi_evaluation_read_run(run, &after));
    for (int r = 0; r < before.results; r++)
        assert_memory_equal(before.result[r].id_scores, after.result[r].id_scores,
                            TEST * sizeof(double));
    npi_evaluation_clear(&before);
    npi_evaluation_clear(&after);
    check_remove(run);
    train[0] += 1;
    write_rows("h.npy", TRAIN, D, train);
    CHECK_OK(npos_fit(&options));
    CHECK_OK(npi_file_write(file, first, size));
    CHECK_OK(evaluate(run, id, ood, -1));
    CHECK_OK(npi_file_read(file, &second, &other_size));
    assert_true(size != other_size || memcmp(first, second, size) != 0);
    first[size - 1] ^= 1;
    CHECK_OK(npi_file_write(file, first, size));
    CHECK_FAILS(evaluate(run, id, ood, -1), NPOS_BAD_DATA, "detectors.safetensors");
    train[0] -= 1;
    write_rows("h.npy", TRAIN, D, train);
    npi_free(first);
    npi_free(second);
}

static void logits_serve_without_a_head(void **state) {
    (void)state;
    char run[700], id[2200], ood[1500], bare[800];
    npos_fit_options options = fit_options("logits", false, true);
    CHECK_OK(npos_fit(&options));
    snprintf(run, sizeof run, "%s", in_folder("logits"));
    snprintf(id, sizeof id, "%s#labels=%s#logits=%s", in_folder("t.npy"), in_folder("ty.npy"),
             in_folder("tl.npy"));
    snprintf(ood, sizeof ood, "o=%s#logits=%s", in_folder("o.npy"), in_folder("ol.npy"));
    CHECK_OK(evaluate(run, id, ood, -1));
    check_evaluation(run, 8); /* knn prototype msp maxlogit energy gen and two Mahalanobis */
    snprintf(bare, sizeof bare, "o=%s", in_folder("o.npy"));
    CHECK_FAILS(evaluate(run, id, bare, -1), NPOS_INVALID_ARGUMENT, "has no logits, and");
}

static void embeddings_alone(void **state) {
    (void)state;
    char run[700], ood[800];
    npos_fit_options options = fit_options("plain", false, false);
    CHECK_OK(npos_fit(&options));
    snprintf(run, sizeof run, "%s", in_folder("plain"));
    snprintf(ood, sizeof ood, "o=%s", in_folder("o.npy"));
    CHECK_OK(evaluate(run, in_folder("t.npy"), ood, -1));
    npi_evaluation e = {0};
    CHECK_OK(npi_evaluation_read_run(run, &e));
    assert_int_equal(e.results, 4);              /* knn prototype and two Mahalanobis */
    assert_true(e.result[0].accuracy.knn == -1); /* no labels were given */
    npi_evaluation_clear(&e);
}

static void calibrate_and_score(void **state) {
    (void)state;
    npos_fit_options options = fit_options("deploy", true, false);
    CHECK_OK(npos_fit(&options));
    npos_calibrate_options c;
    npos_calibrate_options_init(&c);
    c.compute.device = "reference";
    c.run = in_folder("deploy");
    c.id = in_folder("t.npy");
    c.score = "vim";
    CHECK_OK(npos_calibrate(&c));
    c.id = in_folder("h.npy");
    CHECK_FAILS(npos_calibrate(&c), NPOS_INVALID_ARGUMENT, "train"); /* the training embeddings */
    npi_run *run;
    npos_compute compute = c.compute;
    CHECK_OK(npi_run_open(c.run, &compute, &run));
    assert_string_equal(run->calibration.score, "vim");
    assert_true(run->external && run->dim == D && run->proj == D && run->classes == C);
    assert_memory_equal(run->weight, weight, sizeof weight);
    assert_memory_equal(run->bias, bias, sizeof bias);
    for (int k = 0; k < C; k++) {
        double squares = 0;
        for (int d = 0; d < D; d++)
            squares += (double)run->prototypes[k * D + d] * (double)run->prototypes[k * D + d];
        assert_true(fabs(squares - 1) < 1e-6);
    }
    uint8_t pixel = 0;
    npi_features none = {0};
    CHECK_FAILS(npi_run_features(run, &pixel, 1, &compute, "x", &none), NPOS_UNSUPPORTED,
                "has no network");
    npi_run_close(run);
    npos_score_options s;
    char *lines = NULL, spec[700];
    size_t size;
    npos_score_options_init(&s);
    snprintf(spec, sizeof spec, "embeddings:%s", in_folder("o.npy"));
    const char *files[] = {spec, in_folder("h.npy")};
    s.compute.device = "reference";
    s.run = c.run;
    s.score = "vim";
    s.files = files;
    s.file_count = 2;
    s.neighbours = 2;
    s.out = open_memstream(&lines, &size);
    CHECK_OK(npos_score(&s));
    fclose(s.out);
    int count = 0, ood = 0;
    for (const char *at = lines; *at; at = strchr(at, '\n') + 1, count++)
        ood += count < OTHER && strstr(at, "\"verdict\":\"ood\"") < strchr(at, '\n') &&
               strstr(at, "\"verdict\":\"ood\"") != NULL;
    assert_int_equal(count, OTHER + TRAIN);
    assert_true(ood > OTHER / 2);
    assert_non_null(strstr(lines, "{\"file\":\"o.npy[29]\""));
    assert_non_null(strstr(lines, "{\"file\":\"h.npy[70]\""));
    assert_non_null(strstr(lines, "\"neighbours\":[{\"index\":70,")); /* itself, at distance 0 */
    free(lines);
}

/* -distance^2 of the k-th nearest training direction, the slow way. */
static double knn_score(const float *h, int k) {
    double squares[TRAIN], norm = 0;
    for (int d = 0; d < D; d++)
        norm += (double)h[d] * (double)h[d];
    for (int i = 0; i < TRAIN; i++) {
        double of = 0;
        for (int d = 0; d < D; d++)
            of += (double)train[i * D + d] * (double)train[i * D + d];
        double sum = 0;
        for (int d = 0; d < D; d++) {
            double gap = (double)h[d] / sqrt(norm) - (double)train[i * D + d] / sqrt(of);
            sum += gap * gap;
        }
        int at = i;
        for (; at > 0 && squares[at - 1] > sum; at--)
            squares[at] = squares[at - 1];
        squares[at] = sum;
    }
    return -squares[k - 1];
}

static void calibrate_chooses_k(void **state) {
    (void)state;
    static const int ks[] = {1, 5, 10, 20, 50};
    float near[OTHER * D]; /* hard: half ID */
    for (int i = 0; i < OTHER * D; i++)
        near[i] = (float)(0.9 * (i % D == i / D % C) + 0.5 * (i % D == 6) + 1.5 * draw(9, i));
    write_rows("near.npy", OTHER, D, near);
    double best = -1;
    int expected = 0;
    for (int c = 0; c < 5; c++) {
        double area = 0;
        for (int i = 0; i < TEST; i++)
            for (int j = 0; j < OTHER; j++)
                area += knn_score(test + i * D, ks[c]) > knn_score(near + j * D, ks[c]);
        if (area > best) {
            best = area;
            expected = ks[c];
        }
    }
    npos_fit_options options = fit_options("k", false, false);
    CHECK_OK(npos_fit(&options));
    npos_calibrate_options c;
    npos_calibrate_options_init(&c);
    char set[800], *text = NULL;
    size_t size;
    snprintf(set, sizeof set, "near=%s", in_folder("near.npy"));
    const char *sets[] = {set};
    c.compute.device = "reference";
    c.run = in_folder("k");
    c.id = in_folder("t.npy");
    c.ood = sets;
    c.ood_count = 1;
    c.out = open_memstream(&text, &size);
    CHECK_OK(npos_calibrate(&c));
    fclose(c.out);
    c.out = NULL;
    int told;
    double area;
    assert_int_equal(sscanf(text, "knn: k = %d has the largest AUROC, %lf%%", &told, &area), 2);
    assert_int_equal(told, expected);
    assert_true(fabs(area - 100 * best / (TEST * OTHER)) < 0.006);
    free(text);
    c.score = "mahalanobis";
    CHECK_FAILS(npos_calibrate(&c), NPOS_INVALID_ARGUMENT, "but the score is 'mahalanobis'");
    c.ood_count = 0; /* another score's threshold leaves k as it is */
    CHECK_OK(npos_calibrate(&c));
    CHECK_OK(evaluate(c.run, in_folder("t.npy"), set, -1));
    npi_evaluation e = {0};
    CHECK_OK(npi_evaluation_read_run(c.run, &e));
    assert_true(fabs(find(&e, "knn")->set[0].scores[3] - knn_score(near + 3 * D, expected)) < 1e-5);
    npi_evaluation_clear(&e);
}

static void bad_input(void **state) {
    (void)state;
    float nans[D] = {0, 0, NAN};
    int64_t wrong[TRAIN] = {0, 7}, n = TRAIN;
    write_rows("nan.npy", 1, D, nans);
    write_rows("thin.npy", TRAIN, 2, train);
    CHECK_OK(npi_npy_write(in_folder("wrong.npy"), NPI_I64, 1, &n, wrong));
    wrong[1] = -1;
    CHECK_OK(npi_npy_write(in_folder("minus.npy"), NPI_I64, 1, &n, wrong));
    const struct {
        const char *embeddings, *labels, *logits, *head, *bias, *message;
    } cases[] = {
        {"gone.npy", "y.npy", 0, 0, 0, "gone.npy: no such file"},
        {"nan.npy", "y.npy", 0, 0, 0, "nan.npy: row 0 holds nan"},
        {"h.npy", "ty.npy", 0, 0, 0, "ty.npy: 40 labels in 1 dimensions, expected 90"},
        {"h.npy", "h.npy", 0, 0, 0, "h.npy: 720 labels in 2 dimensions"},
        {"h.npy", "minus.npy", 0, 0, 0, "minus.npy: label 1 is -1"},
        {"h.npy", "wrong.npy", "l.npy", 0, 0, "label 1 is 7, but"},
        {"h.npy", "y.npy", "tl.npy", 0, 0, "tl.npy: 40 rows of 3 numbers, expected 90 of 3"},
        {"h.npy", "y.npy", 0, "thin.npy", 0, "thin.npy: 90 rows of 2 numbers, expected 90 of 8"},
        {"h.npy", "y.npy", 0, "b.npy", 0, "b.npy: expected two dimensions"},
        {"h.npy", "y.npy", "l.npy", "w.npy", 0, "times the embedding is"},
        {"h.npy", "y.npy", 0, 0, "b.npy", "a bias belongs to a head's weights"},
        {"y.npy", "y.npy", 0, 0, 0, "y.npy"},
        {"h.npy", NULL, 0, 0, 0, "'labels' is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        npos_fit_options o;
        size_t before = npi_memory_now();
        npos_fit_options_init(&o);
        o.embeddings = in_folder(cases[i].embeddings);
        o.labels = cases[i].labels ? in_folder(cases[i].labels) : NULL;
        o.logits = cases[i].logits ? in_folder(cases[i].logits) : NULL;
        o.head = cases[i].head ? in_folder(cases[i].head) : NULL;
        o.bias = cases[i].bias ? in_folder(cases[i].bias) : NULL;
        o.out = in_folder("bad");
        npos_status status = npos_fit(&o);
        assert_int_not_equal(status, NPOS_OK);
        if (!strstr(npos_error_message(), cases[i].message))
            fail_msg("'%s' does not say '%s'", npos_error_message(), cases[i].message);
        assert_int_equal(npi_memory_now(), before);
        assert_false(npi_is_folder(in_folder("bad")));
    }
    npos_fit_options o = fit_options("twice", true, false);
    o.knn_k = TRAIN + 1;
    CHECK_FAILS(npos_fit(&o), NPOS_INVALID_ARGUMENT, "knn_k is 91, but there are 90");
    o.knn_k = 0;
    o.score = "nearest";
    CHECK_FAILS(npos_fit(&o), NPOS_INVALID_ARGUMENT, "nearest");
    o.score = NULL;
    CHECK_OK(npos_fit(&o));
    CHECK_FAILS(npos_fit(&o), NPOS_INVALID_ARGUMENT, "there is a run already");
    CHECK_FAILS(evaluate(in_folder("twice"), "photo.png", "o=x", -1), NPOS_INVALID_ARGUMENT,
                "has no network and takes no images");
    CHECK_FAILS(evaluate(in_folder("twice"), in_folder("thin.npy"), "o=x", -1), NPOS_SHAPE_MISMATCH,
                "90 rows of 2 numbers, expected any number of 8");
    CHECK_FAILS(evaluate(in_folder("twice"), in_folder("t.npy#class=1"), "o=x", -1),
                NPOS_INVALID_ARGUMENT, "'#class=1' is not known");
}

static void no_memory(void **state) {
    (void)state;
    npos_fit_options o = fit_options("memory", true, true);
    size_t before = npi_memory_now();
    for (int n = 1; n < 2000; n++) {
        npi_memory_fail_after(n);
        npos_status status = npos_fit(&o);
        npi_memory_fail_after(0);
        assert_int_equal(npi_memory_now(), before);
        if (status == NPOS_OK) {
            assert_true(n > 20);
            return;
        }
        assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        assert_false(npi_is_file(in_folder("memory/model.safetensors")));
    }
    fail_msg("never enough memory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(head_serves_all_detectors),
        cmocka_unit_test(fitted_detectors_are_saved),
        cmocka_unit_test(logits_serve_without_a_head),
        cmocka_unit_test(embeddings_alone),
        cmocka_unit_test(calibrate_and_score),
        cmocka_unit_test(calibrate_chooses_k),
        cmocka_unit_test(bad_input),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
