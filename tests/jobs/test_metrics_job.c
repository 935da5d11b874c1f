/* npos_metrics from files to JSON and table, and back; bad input. */
#include "check.h"

#include <math.h>

#include <jansson.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/npy.h"
#include "jobs/ood_sets.h"
#include "npos/npos.h"
#include "report/evaluation_json.h"
#include "report/evaluation_table.h"

static char folder[512];

static int open_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", check_folder());
    return 0;
}

static int close_folder(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

static const char *write_scores(const char *name, int n, double first, double step) {
    double values[64];
    for (int i = 0; i < n; i++)
        values[i] = first + step * i;
    const char *path = check_path(folder, name);
    int64_t shape[1] = {n};
    CHECK_OK(npi_npy_write(path, NPI_F64, 1, shape, values));
    return path;
}

static double at(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("JSON has no number '%s'", key);
    return json_number_value(value);
}

static const char *text_at(const json_t *object, const char *key) {
    const char *value = json_string_value(json_object_get(object, key));
    if (!value)
        fail_msg("JSON has no text '%s'", key);
    return value;
}

/* Runs the job and returns its table (to be freed) and, in *json, the object. */
static char *run(npos_metrics_options *options, json_t **json, char **notes) {
    char *table = NULL;
    size_t size, notes_size;
    char path[600];
    snprintf(path, sizeof path, "%s/out.json", folder);
    options->json = path;
    options->table = open_memstream(&table, &size);
    options->notes = open_memstream(notes, &notes_size);
    CHECK_OK(npos_metrics(options));
    fclose(options->table);
    fclose(options->notes);
    json_error_t error;
    *json = json_load_file(path, 0, &error);
    assert_non_null(*json);
    return table;
}

static void the_contract_of_the_json(void **state) {
    (void)state;
    char id[600], near[700], far[700], plain[700], *notes;
    snprintf(id, sizeof id, "%s", write_scores("id.npy", 20, 10, 1));          /* 10..29 */
    snprintf(near, sizeof near, "near/a=%s", write_scores("a.npy", 10, 5, 1)); /* 5..14 */
    snprintf(far, sizeof far, "far/b=%s", write_scores("b.npy", 4, 0, 1));     /* 0..3 */
    snprintf(plain, sizeof plain, "c=%s", write_scores("c.npy", 9, 100, 1));   /* the wrong way */
    const char *ood[] = {near, far, plain};
    npos_metrics_options options;
    npos_metrics_options_init(&options);
    options.id = id;
    options.ood = ood;
    options.ood_count = 3;
    json_t *json;
    char *table = run(&options, &json, &notes);

    assert_int_equal(at(json, "schema"), 1);
    assert_string_equal(text_at(json, "protocol"), "oe");
    assert_string_equal(text_at(json, "positive"), "id");
    json_t *result = json_array_get(json_object_get(json, "results"), 0);
    assert_int_equal(at(json_object_get(result, "id"), "n"), 20);
    assert_int_equal(json_object_size(json_object_get(json_object_get(result, "id"), "accuracy")),
                     0);
    json_t *sets = json_object_get(result, "ood");
    assert_int_equal(json_array_size(sets), 3);
    json_t *a = json_array_get(sets, 0), *c = json_array_get(sets, 2);
    assert_string_equal(text_at(a, "name"), "a");
    assert_string_equal(text_at(a, "group"), "near");
    assert_string_equal(text_at(c, "group"), "");
    /* TPR 0.95 at the threshold 11: 11..14 of 5..14 are accepted; 10 pairs of 200 are the wrong way
     * round (10 < 11..14: 4, 11: 3, 12: 2, 13: 1), 5 tie */
    assert_true(at(a, "fpr95") == 0.4);
    assert_true(fabs(at(a, "auroc") - (200 - 10 - 2.5) / 200) < 1e-15);
    assert_true(at(c, "auroc") == 0 && at(c, "fpr95") == 1);
    json_t *means = json_object_get(result, "means");
    assert_int_equal(json_object_size(means), 3);
    assert_true(fabs(at(json_object_get(means, "all"), "fpr95") - 1.4 / 3) < 1e-15);
    assert_true(at(json_object_get(means, "far"), "auroc") == 1);
    assert_true(at(json_object_get(means, "near"), "fpr95") == 0.4);
    json_t *mean_ci = json_object_get(json_object_get(means, "all"), "auroc_ci");
    assert_true(json_number_value(json_array_get(mean_ci, 0)) <
                at(json_object_get(means, "all"), "auroc"));
    npi_evaluation back = {0};
    npi_measures mean;
    char path[600];
    snprintf(path, sizeof path, "%s/out.json", folder);
    CHECK_OK(npi_evaluation_read(path, &back));
    npi_mean_measures(back.result, NULL, &mean);
    assert_true(mean.auroc_ci[0] == json_number_value(json_array_get(mean_ci, 0)));
    npi_mean_measures(back.result, "far", &mean);
    assert_memory_equal(&mean, &back.result->set[1].measures, sizeof mean);
    npi_evaluation_clear(&back);
    json_t *ci = json_object_get(a, "fpr95_ci");
    assert_true(json_number_value(json_array_get(ci, 0)) < 0.4 &&
                json_number_value(json_array_get(ci, 1)) > 0.4);

    assert_non_null(strstr(table, "protocol oe (ID positive)"));
    assert_non_null(strstr(table, " 40.00 ["));
    assert_non_null(strstr(table, "mean of 3"));
    assert_null(strstr(table, "nan"));
    assert_non_null(strstr(notes, "AUROC of c is 0.00%"));
    assert_non_null(strstr(notes, "--larger ood"));
    assert_null(strstr(notes, "AUROC of b"));
    json_decref(json);
    free(table);
    free(notes);
}

static void larger_ood_is_the_same_negated(void **state) {
    (void)state;
    char id[600], b[700], id_minus[600], b_minus[700], *notes;
    snprintf(id, sizeof id, "%s", write_scores("id.npy", 30, 2, 0.5));
    snprintf(b, sizeof b, "b=%s", write_scores("b.npy", 30, 0, 0.25));
    snprintf(id_minus, sizeof id_minus, "%s", write_scores("im.npy", 30, -2, -0.5));
    snprintf(b_minus, sizeof b_minus, "b=%s", write_scores("bm.npy", 30, 0, -0.25));
    const char *protocols[] = {"oe", "openood", "knn-ood"}, *ood[1];
    for (int p = 0; p < 3; p++) {
        json_t *one, *other;
        npos_metrics_options options;
        npos_metrics_options_init(&options);
        options.protocol = protocols[p];
        options.ood_count = 1;
        options.ood = ood;
        options.id = id;
        ood[0] = b;
        free(run(&options, &one, &notes));
        free(notes);
        options.id = id_minus;
        ood[0] = b_minus;
        options.larger_is_ood = 1;
        free(run(&options, &other, &notes));
        free(notes);
        json_t *x = json_array_get(
            json_object_get(json_array_get(json_object_get(one, "results"), 0), "ood"), 0);
        json_t *y = json_array_get(
            json_object_get(json_array_get(json_object_get(other, "results"), 0), "ood"), 0);
        const char *keys[] = {"fpr95", "auroc", "aupr_in", "aupr_out", "fpr95_ci", "auroc_ci"};
        for (int k = 0; k < 6; k++)
            assert_true(json_equal(json_object_get(x, keys[k]), json_object_get(y, keys[k])));
        json_decref(one);
        json_decref(other);
    }
}

/* Infinite scores have measures; the infinite threshold is null in JSON. */
static void infinities(void **state) {
    (void)state;
    double id[3] = {INFINITY, INFINITY, INFINITY}, b[2] = {-INFINITY, 1};
    int64_t n = 3, m = 2;
    char ood[700], path[600], *notes;
    CHECK_OK(npi_npy_write(check_path(folder, "id.npy"), NPI_F64, 1, &n, id));
    CHECK_OK(npi_npy_write(check_path(folder, "b.npy"), NPI_F64, 1, &m, b));
    snprintf(path, sizeof path, "%s/id.npy", folder);
    snprintf(ood, sizeof ood, "b=%s/b.npy", folder);
    const char *list[] = {ood};
    npos_metrics_options options;
    npos_metrics_options_init(&options);
    options.id = path;
    options.ood = list;
    options.ood_count = 1;
    json_t *json;
    free(run(&options, &json, &notes));
    free(notes);
    json_t *result = json_array_get(json_object_get(json, "results"), 0);
    assert_true(json_is_null(json_object_get(result, "threshold")));
    assert_true(at(json_array_get(json_object_get(result, "ood"), 0), "auroc") == 1);
    json_decref(json);
    npi_evaluation back = {0};
    CHECK_OK(npi_evaluation_read(check_path(folder, "out.json"), &back));
    npi_evaluation_clear(&back);
}

/* What is written is read back, names that are not UTF-8 included. */
static void json_comes_back(void **state) {
    (void)state;
    double id[2] = {3, 4}, ood[1] = {1};
    npi_set_result set = {
        .name = "a\xff",
        .group = "far",
        .spec = "x",
        .n = 1,
        .available = 70000,
        .scores = ood,
        .measures = {0.25, 0.1234567890123456, 0.5, 1, {0, 1}, {0.1, 0.9}, {0.2, 0.8}, {0.3, 1}}};
    npi_score_result result = {.score = "knn",
                               .id_n = 2,
                               .id_scores = id,
                               .threshold = -0.1,
                               .accuracy = {0.5, -1, 0.25, -1},
                               .sets = 1,
                               .set = &set};
    char *broken[] = {"a.png", "b.png"};
    npi_skipped skipped = {2, broken};
    npi_evaluation evaluation = {.protocol = NPI_PROTOCOL_KNN_OOD,
                                 .seed = 7,
                                 .id_spec = "mnist#test",
                                 .results = 1,
                                 .result = &result,
                                 .skipped = &skipped,
                                 .skipped_sets = 1},
                   back = {0};
    const char *path = check_path(folder, "eval.json");
    CHECK_OK(npi_evaluation_write(&evaluation, path));
    CHECK_OK(npi_evaluation_read(path, &back));
    assert_int_equal(back.protocol, NPI_PROTOCOL_KNN_OOD);
    assert_int_equal(back.seed, 7);
    assert_string_equal(back.id_spec, "mnist#test");
    assert_int_equal(back.results, 1);
    assert_true(back.result->threshold == -0.1);
    assert_true(back.result->accuracy.knn == 0.5 && back.result->accuracy.prototype == -1 &&
                back.result->accuracy.head == 0.25);
    npi_set_result *read = back.result->set;
    assert_string_equal(read->name, "a\xef\xbf\xbd");
    assert_int_equal(read->available, 70000);
    assert_null(npi_evaluation_skipped(&back, -1));
    assert_int_equal(npi_evaluation_skipped(&back, 0)->count, 2);
    assert_string_equal(npi_evaluation_skipped(&back, 0)->names[1], "b.png");
    assert_true(read->measures.auroc == set.measures.auroc);
    assert_memory_equal(&read->measures, &set.measures, sizeof set.measures);

    char *table = NULL;
    size_t size;
    FILE *stream = open_memstream(&table, &size);
    CHECK_OK(npi_evaluation_table(&evaluation, NPI_FORMAT_TABLE, stream));
    fclose(stream);
    assert_non_null(strstr(table, "50-NN vote 50.00, classifier 25.00\n"));
    assert_non_null(strstr(table, "1 of 70,000 images, drawn with seed 7"));
    assert_non_null(strstr(table, ": 2 broken images left out\n"));
    free(table);
    npi_evaluation_clear(&back);
    CHECK_FAILS(npi_evaluation_read_run(folder, &back), NPOS_NOT_FOUND, "scores/knn/id.npy");
    for (int format = NPI_FORMAT_TABLE; format <= NPI_FORMAT_JSON; format++) {
        FILE *full = fopen("/dev/full", "w");
        if (!full)
            break;
        CHECK_FAILS(npi_evaluation_table(&evaluation, (npi_format_kind)format, full), NPOS_IO,
                    "writing the");
        fclose(full);
    }
}

static void damaged_json(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "line 1"},
        {"{\"schema\": 1", "line 1"},
        {"[]", "\"schema\": 1"},
        {"{\"schema\": 2}", "\"schema\": 1"},
        {"{\"schema\": 1}", "'protocol'"},
        {"{\"schema\": 1, \"protocol\": \"of\"}", "protocol 'of'"},
        {"{\"schema\": 1, \"protocol\": \"oe\", \"seed\": 0, \"results\": []}", "'results'"},
        {"{\"schema\": 1, \"protocol\": \"oe\", \"seed\": 0, \"results\": [1]}", "'spec'"},
        {"{\"schema\": 1, \"protocol\": \"oe\", \"seed\": 0, \"results\": [{\"score\": \"knn\", "
         "\"threshold\": 1, \"id\": {\"spec\": \"a\", \"n\": 1, \"accuracy\": {\"knn\": 7}}}]}",
         "'knn' is 7"},
        {"{\"schema\": 1, \"protocol\": \"oe\", \"seed\": 0, \"results\": [{\"score\": \"knn\", "
         "\"threshold\": 1, \"id\": {\"spec\": \"a\", \"n\": 1}, \"ood\": [{\"name\": \"x\", "
         "\"group\": \"\", \"spec\": \"y\", \"n\": -1}]}]}",
         "'n'"},
    };
    npi_evaluation out = {0};
    const char *path = check_path(folder, "bad.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t before = npi_memory_now();
        CHECK_OK(npi_file_write(path, cases[i].text, strlen(cases[i].text)));
        CHECK_FAILS(npi_evaluation_read(path, &out), NPOS_BAD_DATA, cases[i].message);
        assert_int_equal(npi_memory_now(), before);
    }
}

static void bad_input(void **state) {
    (void)state;
    char id[600], good[700], nans[700], square[700], ints[700], missing[700], empty[700];
    double values[4] = {1, NAN, 2, 3};
    int64_t shape[2] = {2, 2}, four = 4, none = 0;
    snprintf(id, sizeof id, "%s", write_scores("id.npy", 10, 0, 1));
    snprintf(good, sizeof good, "good=%s", id);
    CHECK_OK(npi_npy_write(check_path(folder, "nan.npy"), NPI_F64, 1, &four, values));
    snprintf(nans, sizeof nans, "n=%s/nan.npy", folder);
    CHECK_OK(npi_npy_write(check_path(folder, "square.npy"), NPI_F64, 2, shape, values));
    snprintf(square, sizeof square, "s=%s/square.npy", folder);
    CHECK_OK(npi_npy_write(check_path(folder, "int.npy"), NPI_I64, 1, &four, values));
    snprintf(ints, sizeof ints, "i=%s/int.npy", folder);
    CHECK_OK(npi_npy_write(check_path(folder, "empty.npy"), NPI_F64, 1, &none, values));
    snprintf(empty, sizeof empty, "e=%s/empty.npy", folder);
    snprintf(missing, sizeof missing, "m=%s/none.npy", folder);
    char out[600], again[700];
    snprintf(out, sizeof out, "%s/bad-out.json", folder);
    snprintf(again, sizeof again, "far/good=%s", id);
    const struct {
        const char *ood[2];
        npos_status status;
        const char *message;
    } cases[] = {
        {{nans}, NPOS_NOT_FINITE, "nan.npy: score 1 of 4 is NaN"},
        {{good, square}, NPOS_SHAPE_MISMATCH, "square.npy: array of 2 dimensions"},
        {{ints}, NPOS_BAD_DATA, "int.npy: elements are int64"},
        {{empty}, NPOS_INVALID_ARGUMENT, "empty.npy: there are no scores"},
        {{missing}, NPOS_NOT_FOUND, "none.npy"},
        {{id}, NPOS_INVALID_ARGUMENT, "expected [GROUP/]NAME=SPEC"},
        {{"=x.npy"}, NPOS_INVALID_ARGUMENT, "expected [GROUP/]NAME=SPEC"},
        {{"name="}, NPOS_INVALID_ARGUMENT, "expected [GROUP/]NAME=SPEC"},
        {{"a/b/c=x"}, NPOS_INVALID_ARGUMENT, "become file names"},
        {{"/b=x"}, NPOS_INVALID_ARGUMENT, "become file names"},
        {{"a/=x"}, NPOS_INVALID_ARGUMENT, "become file names"},
        {{"..=x"}, NPOS_INVALID_ARGUMENT, "become file names"},
        {{"id=x"}, NPOS_INVALID_ARGUMENT, "have a meaning already"},
        {{"all/b=x"}, NPOS_INVALID_ARGUMENT, "have a meaning already"},
        {{good, again}, NPOS_INVALID_ARGUMENT, "'good' is used twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        npos_metrics_options options;
        npos_metrics_options_init(&options);
        options.id = id;
        options.ood = cases[i].ood;
        options.ood_count = cases[i].ood[1] ? 2 : 1;
        options.json = out;
        size_t before = npi_memory_now();
        CHECK_FAILS(npos_metrics(&options), cases[i].status, cases[i].message);
        assert_int_equal(npi_memory_now(), before);
        assert_false(npi_is_file(out));
    }
    npos_metrics_options options;
    npos_metrics_options_init(&options);
    CHECK_FAILS(npos_metrics(&options), NPOS_INVALID_ARGUMENT, "no ID scores");
    options.id = id;
    CHECK_FAILS(npos_metrics(&options), NPOS_INVALID_ARGUMENT, "no OOD set");
    options.protocol = "odin";
    CHECK_FAILS(npos_metrics(&options), NPOS_INVALID_ARGUMENT, "protocol 'odin'");
    options.struct_size = 8;
    CHECK_FAILS(npos_metrics(&options), NPOS_INVALID_ARGUMENT, "npos_metrics_options_init");
}

/* A path may hold '='; the first one ends the name. */
static void set_names(void **state) {
    (void)state;
    const char *arguments[] = {"far/x=dir/a=b#class=1,2", "y=folder:z"};
    npi_ood_set *sets;
    CHECK_OK(npi_ood_sets_parse(arguments, 2, &sets));
    assert_string_equal(sets[0].group, "far");
    assert_string_equal(sets[0].name, "x");
    assert_string_equal(sets[0].where, "dir/a=b#class=1,2");
    assert_string_equal(sets[1].group, "");
    assert_string_equal(sets[1].where, "folder:z");
    npi_ood_sets_free(sets, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_contract_of_the_json),
        cmocka_unit_test(larger_ood_is_the_same_negated),
        cmocka_unit_test(infinities),
        cmocka_unit_test(json_comes_back),
        cmocka_unit_test(damaged_json),
        cmocka_unit_test(bad_input),
        cmocka_unit_test(set_names),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
