/* npos_compare on runs whose scores are known: figures, pairs, tables, JSON, what cannot be compared. */
#include "check.h"

#include <math.h>

#include <jansson.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/npy.h"
#include "npos/npos.h"

enum { ID = 40, OOD = 20 };

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

static void write_file(const char *run, const char *name, const char *text) {
    char *path;
    CHECK_OK(npi_format(&path, "%s/%s/%s", folder, run, name));
    CHECK_OK(npi_file_write(path, text, strlen(text)));
    npi_free(path);
}

/* ID scores 0..39; the OOD sets' scores are 0..19 and 5..24, lower by `shift`. */
static void write_score(const char *run, const char *score, double shift) {
    char *path;
    double id[ID], ood[OOD];
    CHECK_OK(npi_format(&path, "%s/%s/scores/%s", folder, run, score));
    CHECK_OK(npi_make_folders(path));
    npi_free(path);
    for (int i = 0; i < ID; i++)
        id[i] = i;
    for (int set = -1; set < 2; set++) {
        const char *names[] = {"id", "a", "b"};
        int64_t n = set < 0 ? ID : OOD;
        for (int i = 0; i < OOD; i++)
            ood[i] = i + 5 * set - shift;
        CHECK_OK(npi_format(&path, "%s/%s/scores/%s/%s.npy", folder, run, score, names[set + 1]));
        CHECK_OK(npi_npy_write(path, NPI_F64, 1, &n, set < 0 ? id : ood));
        npi_free(path);
    }
}

#define SET(name, group)                                                                           \
    "{\"name\":\"" name "\",\"group\":\"" group                                                    \
    "\",\"spec\":\"s\",\"n\":20,\"available\":20,\"fpr95\":0.5,"                                   \
    "\"auroc\":0.5,\"aupr_in\":0.5,\"aupr_out\":0.5,\"fpr95_ci\":[0,1],\"auroc_ci\":[0,1]}"

/* A run as train and eval leave it, with one or two scores. */
static void write_run(const char *run, int seed, double accuracy, const char *score,
                      const char *second, double shift) {
    char text[3000] = "";
    const char *scores[] = {score, second};
    for (int i = 0; i < 2 && scores[i]; i++) {
        size_t used = strlen(text);
        write_score(run, scores[i], shift + 2 * i);
        snprintf(text + used, sizeof text - used,
                 "%s{\"score\":\"%s\",\"threshold\":1,\"id\":{\"spec\":\"s\",\"n\":40,"
                 "\"accuracy\":{\"knn\":%g}},\"ood\":[" SET("a", "near") "," SET("b", "far") "]}",
                 i ? "," : "", scores[i], accuracy);
    }
    char *json;
    CHECK_OK(
        npi_format(&json, "{\"schema\":1,\"protocol\":\"oe\",\"seed\":0,\"results\":[%s]}", text));
    write_file(run, "eval.json", json);
    npi_free(json);
    snprintf(text, sizeof text, "{\"seed\": %d}", seed);
    write_file(run, "manifest.json", text);
    write_file(run, "scores/id.txt", "x\n");
    write_file(run, "scores/a.txt", "y\n");
    write_file(run, "scores/b.txt", "z\n");
}

/* The options of a comparison of "METHOD=NAME" or "NAME" for runs in the test's folder. */
static npos_compare_options *options_of(int count, const char *const *runs) {
    static npos_compare_options options;
    static char text[8][700];
    static const char *list[8];
    npos_compare_options_init(&options);
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(runs[i], '=');
        snprintf(text[i], sizeof text[i], "%.*s%s/%s", equals ? (int)(equals + 1 - runs[i]) : 0,
                 runs[i], folder, equals ? equals + 1 : runs[i]);
        list[i] = text[i];
    }
    options.runs = list;
    options.run_count = count;
    return &options;
}

static json_t *compare(npos_compare_options *options) {
    options->json = check_path(folder, "out.json");
    CHECK_OK(npos_compare(options));
    json_t *root = json_load_file(options->json, 0, NULL);
    assert_non_null(root);
    return root;
}

/* "rows/1/means/all/auroc/mean" */
static const json_t *at(const json_t *root, const char *path) {
    char word[64];
    const json_t *value = root;
    for (const char *from = path; value && *from;) {
        size_t length = strcspn(from, "/");
        snprintf(word, sizeof word, "%.*s", (int)length, from);
        value = json_is_array(value) ? json_array_get(value, (size_t)atoi(word))
                                     : json_object_get(value, word);
        from += length + (from[length] == '/');
    }
    if (!value)
        fail_msg("the JSON has no %s", path);
    return value;
}

static void near(const json_t *root, const char *path, double expected) {
    double got = json_number_value(at(root, path));
    if (!(fabs(got - expected) <= 1e-9))
        fail_msg("%s: got %.12g, expected %.12g", path, got, expected);
}

/* By hand: OOD i - shift against ID 0..39: below it lie 39 - (i - shift) ID scores, half a tie; with a
 * shift of at least 20 all pairs are in order. */
static double area(double shift) {
    double sum = 0;
    for (int i = 0; i < OOD; i++)
        for (int j = 0; j < ID; j++)
            sum += j > i - shift ? 1 : j == i - shift ? 0.5 : 0;
    return sum / (ID * OOD);
}

static void seeds_of_two_methods(void **state) {
    (void)state;
    write_run("p0", 0, 0.9, "knn", "head", 0);
    write_run("p1", 1, 0.8, "knn", "head", 2);
    write_run("q0", 0, 0.95, "knn", NULL, 1);
    write_run("q1", 1, 0.85, "knn", NULL, 5);
    write_run("r1", 1, 0.5, "msp", NULL, 3);
    write_run("r0", 0, 0.4, "msp", NULL, 3);
    const char *runs[] = {"p=p1", "p=p0", "q=q0", "q=q1", "r=r1", "r=r0"};
    json_t *root = compare(options_of(6, runs));
    assert_string_equal(json_string_value(at(root, "over")), "runs");
    assert_int_equal(json_array_size(at(root, "rows")), 4); /* p knn, p head, q knn, r msp */
    near(root, "rows/0/seeds/0", 0);                        /* sorted by seed */
    assert_non_null(strstr(json_string_value(at(root, "rows/0/runs/1")), "/p1"));
    assert_true(json_is_null(at(root, "rows/0/against")));
    assert_true(json_is_null(at(root, "rows/1/against")));
    near(root, "rows/2/against", 0);
    near(root, "rows/3/against", 0); /* no msp there: the first score */
    double p = (area(0) + area(2)) / 2, d0 = area(1) - area(0), d1 = area(5) - area(2);
    near(root, "rows/0/ood/0/auroc/mean", p);
    near(root, "rows/0/ood/0/auroc/std", fabs(area(2) - area(0)) / sqrt(2));
    near(root, "rows/2/ood/0/auroc/difference/mean", (d0 + d1) / 2);
    /* two pairs: t with one degree of freedom, 12.706 */
    double half = 12.706204736174694 * fabs(d1 - d0) / 2;
    near(root, "rows/2/ood/0/auroc/difference/ci/0", (d0 + d1) / 2 - half);
    near(root, "rows/2/ood/0/auroc/difference/ci/1", (d0 + d1) / 2 + half);
    near(root, "rows/2/accuracy/knn/mean", 0.9);
    near(root, "rows/2/accuracy/knn/difference/mean", 0.05);
    near(root, "rows/0/means/near/auroc/mean", p);
    near(root, "rows/0/means/all/auroc/mean", (p + (area(-5) + area(-3)) / 2) / 2);
    json_decref(root);
    npos_compare_options *options = options_of(2, (const char *[]){"p0", "p1"});
    options->seeds = 1;
    options->scores = "head,msp";
    root = compare(options);
    assert_int_equal(json_array_size(at(root, "rows")), 1);
    near(root, "rows/0/ood/0/auroc/mean", (area(2) + area(4)) / 2);
    assert_true(json_is_null(at(root, "rows/0/ood/0/auroc/difference")));
    json_decref(root);
}

static void images_of_two_runs(void **state) {
    (void)state;
    write_run("x", 0, 0.9, "knn", NULL, 0);
    write_run("y", 7, 0.8, "knn", NULL, 30);
    write_run("z", 7, 0.8, "knn", NULL, 0);
    json_t *root = compare(options_of(3, (const char *[]){"x", "y", "z"}));
    assert_string_equal(json_string_value(at(root, "over")), "images");
    near(root, "rows/1/means/all/auroc/mean", 1);
    near(root, "rows/1/ood/0/auroc/difference/mean", 1 - area(0));
    near(root, "rows/1/ood/0/auroc/difference/p", 2.0 / 1001);
    near(root, "rows/2/means/all/fpr95/difference/mean", 0); /* the same scores */
    near(root, "rows/2/means/all/fpr95/difference/p", 1);
    double lo = json_number_value(at(root, "rows/0/ood/0/auroc/ci/0")),
           hi = json_number_value(at(root, "rows/0/ood/0/auroc/ci/1"));
    assert_true(0.6 < lo && lo < area(0) && area(0) < hi && hi < 0.9);
    assert_true(json_is_null(at(root, "rows/0/ood/0/auroc/std")));
    json_decref(root);
    npos_compare_options *options = options_of(2, (const char *[]){"x", "y"});
    options->protocol = "openood";
    root = compare(options);
    assert_string_equal(json_string_value(at(root, "protocol")), "openood");
    near(root, "rows/1/ood/0/fpr95/mean", 0);
    json_decref(root);
}

static char *table(npos_compare_options *options, const char *format) {
    char *text = NULL;
    size_t size;
    options->json = NULL;
    options->format = format;
    options->table = open_memstream(&text, &size);
    CHECK_OK(npos_compare(options));
    fclose(options->table);
    return text;
}

static void tables(void **state) {
    (void)state;
    write_run("s0", 0, 0.9, "knn", NULL, 0);
    write_run("s1", 1, 0.8, "knn", NULL, 2);
    write_run("t0", 0, 0.7, "knn", NULL, 4);
    write_run("t1", 1, 0.9, "knn", NULL, 8);
    npos_compare_options *options =
        options_of(4, (const char *[]){"s,_=s0", "s,_=s1", "t|=t0", "t|=t1"});
    const struct {
        const char *format, *holds[4];
    } cases[] = {
        {"table", {"protocol oe (ID positive)", "t| knn - s,_ knn", "a          near", " ± "}},
        {"md", {"| OOD set | group |", "|---|---|", "| t\\| |", "| mean of 2 | all | s,_ |"}},
        {"csv", {"set,group,method,", "a,near,\"s,_\",knn,2,", ",fpr95_p,", "\"s,_ knn\",oe,runs"}},
        {"latex", {"\\begin{tabular}{lllllrrrrrr}", "s,\\_", "$\\Delta$AUROC", "% protocol oe"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = table(options, cases[i].format);
        for (int j = 0; j < 4; j++)
            if (!strstr(text, cases[i].holds[j]))
                fail_msg("%s has no '%s':\n%s", cases[i].format, cases[i].holds[j], text);
        assert_null(strstr(text, " \n")); /* no line ends in a space */
        assert_null(strstr(text, "nan"));
        free(text);
    }
    char *csv = table(options, "csv"); /* all lines have as many fields */
    int fields = 0;
    for (const char *line = csv; *line; line += strcspn(line, "\n") + 1) {
        int commas = 0, quoted = 0;
        for (const char *c = line; *c != '\n'; c++) {
            quoted ^= *c == '"';
            commas += *c == ',' && !quoted;
        }
        fields = fields ? fields : commas;
        assert_int_equal(commas, fields);
    }
    free(csv);
    options->format = "markdown";
    CHECK_FAILS(npos_compare(options), NPOS_INVALID_ARGUMENT, "format 'markdown' is not known");
}

static void what_cannot_be_compared(void **state) {
    (void)state;
    npos_compare_options *options;
    write_run("m0", 0, 0.9, "knn", NULL, 0);
    write_run("m1", 1, 0.9, "knn", "head", 0);
    write_run("n0", 0, 0.9, "msp", NULL, 0);
    const struct {
        const char *runs[3];
        const char *message;
    } cases[] = {{{"u=m0", "u=m1", "v=n0"}, "'u' (2) and 'v' (1) do not pair by seed"},
                 {{"u=m0", "u=n0", "v=m1"}, "both have seed 0"},
                 {{"m0", "m0", "m1"}, "was given twice"},
                 {{"m0", "gone", "m1"}, "gone/eval.json"},
                 {{"u=m1", "u=m0", "w=m1"}, "do not pair by seed"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t before = npi_memory_now();
        options = options_of(3, cases[i].runs);
        npos_status status = npos_compare(options);
        assert_int_not_equal(status, NPOS_OK);
        if (!strstr(npos_error_message(), cases[i].message))
            fail_msg("'%s' does not say '%s'", npos_error_message(), cases[i].message);
        assert_int_equal(npi_memory_now(), before);
    }
    options = options_of(2, (const char *[]){"m1", "m0"});
    options->seeds = 1;
    options->scores = "head";
    CHECK_FAILS(npos_compare(options), NPOS_INVALID_ARGUMENT, "no score of head is in");
    options->scores = NULL; /* knn is in both */
    CHECK_OK(npos_compare(options));
    options = options_of(0, NULL);
    CHECK_FAILS(npos_compare(options), NPOS_INVALID_ARGUMENT, "no run was given");
    write_file("m1", "scores/b.txt", "other\n");
    options = options_of(2, (const char *[]){"m0", "m1"});
    CHECK_FAILS(npos_compare(options), NPOS_INVALID_ARGUMENT, "scored other images of 'b'");
    write_file("m1", "manifest.json", "{\"seed\": \"one\"}");
    CHECK_FAILS(npos_compare(options), NPOS_BAD_DATA, "manifest.json: 'seed' is missing");
}

/* Committed results keep eval.json alone: its measures serve a comparison over runs. */
static void without_scores(void **state) {
    (void)state;
    npos_compare_options *options;
    write_run("e0", 0, 0.9, "knn", NULL, 0);
    write_run("e1", 1, 0.9, "knn", NULL, 0);
    check_remove(check_path(folder, "e0/scores"));
    options = options_of(2, (const char *[]){"e0", "e1"});
    options->seeds = 1;
    json_t *root = compare(options);
    near(root, "rows/0/ood/0/auroc/mean", (0.5 + area(0)) / 2); /* eval.json says 0.5 */
    json_decref(root);
    options->protocol = "knn-ood";
    CHECK_FAILS(npos_compare(options), NPOS_INVALID_ARGUMENT,
                "e0: has no scores, and its measures are those of protocol oe, not knn-ood");
    options->protocol = NULL;
    options->seeds = 0;
    CHECK_FAILS(npos_compare(options), NPOS_INVALID_ARGUMENT, "e0: has no scores, which");
}

static void no_memory(void **state) {
    (void)state;
    write_run("k0", 0, 0.9, "knn", NULL, 0);
    write_run("k1", 0, 0.8, "knn", NULL, 3);
    npos_compare_options *options = options_of(2, (const char *[]){"k0", "k1"});
    size_t before = npi_memory_now();
    for (int n = 1; n < 1000; n++) {
        npi_memory_fail_after(n);
        npos_status status = npos_compare(options);
        npi_memory_fail_after(0);
        assert_int_equal(npi_memory_now(), before);
        if (status == NPOS_OK) {
            assert_true(n > 20);
            return;
        }
        assert_int_equal(status, NPOS_OUT_OF_MEMORY);
    }
    fail_msg("never enough memory");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds_of_two_methods),
        cmocka_unit_test(images_of_two_runs),
        cmocka_unit_test(tables),
        cmocka_unit_test(what_cannot_be_compared),
        cmocka_unit_test(without_scores),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}
