/* The report of a made-up run: one well-formed page that needs nothing from elsewhere, with every
 * set in it, whatever names they have and whatever parts are missing. */
#include <ctype.h>
#include <jansson.h>

#include "jobs/report_gather.h"
#include "report/report.h"
#include "report_fixture.h"

static char *read_page(const char *run) {
    char *text;
    size_t size;
    CHECK_OK(npi_file_read(check_path(run, "report/index.html"), &text, &size));
    assert_int_equal(strlen(text), size);
    return text;
}

static npos_status report(const char *run, const char *const *compare, int count) {
    npos_report_options options;
    npos_report_options_init(&options);
    options.run = run;
    options.compare = compare;
    options.compare_count = count;
    return npos_report(&options);
}

/* Every tag closed in order, as XML wants it (but for the doctype and <meta>, which close
 * themselves here). */
static void check_well_formed(const char *text) {
    char open[64][32];
    int depth = 0;
    for (const char *at = text; (at = strchr(at, '<')) != NULL;) {
        const char *end = strchr(at, '>');
        assert_non_null(end);
        if (at[1] == '!') {
            at = end;
            continue;
        }
        bool closing = at[1] == '/', alone = end[-1] == '/';
        char name[32];
        size_t length = 0;
        for (const char *c = at + 1 + closing; isalnum((unsigned char)*c); c++)
            if (length < sizeof name - 1)
                name[length++] = *c;
        name[length] = '\0';
        assert_true(length > 0);
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(open[depth - 1], name);
            depth--;
        } else if (!alone) {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        }
        at = end;
        if (!closing && strcmp(name, "style") == 0)
            at = strstr(at, "</style>");
    }
    assert_int_equal(depth, 0);
}

static void check_offline(const char *text) {
    assert_null(strstr(text, "http://"));
    assert_null(strstr(text, "https://"));
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "<link"));
    assert_null(strstr(text, "@import"));
    for (const char *at = text; (at = strstr(at, "src=\"")) != NULL; at += 5)
        assert_memory_equal(at + 5, "data:image/png;base64,", 22);
}

static int count_of(const char *text, const char *word) {
    int count = 0;
    for (; (text = strstr(text, word)) != NULL; text += strlen(word))
        count++;
    return count;
}

static void whole_page(void **state) {
    (void)state;
    char run[512];
    snprintf(run, sizeof run, "%s", check_folder());
    fix_run(run);
    CHECK_OK(report(run, (const char *const[]){run}, 1));
    char *text = read_page(run);
    check_well_formed(text);
    check_offline(text);
    /* each set: table rows of two scores, keys of plots and sheets */
    assert_true(count_of(text, ">sandals<") >= 4);
    assert_true(count_of(text, "&lt;b&gt;bags &amp; &quot;co&quot;") >= 4);
    assert_true(count_of(text, "letters") >= 4);
    assert_null(strstr(text, "<b>bags"));
    assert_non_null(strstr(text, "&lt;script&gt;hat"));
    assert_non_null(strstr(text, "images&lt;&amp;&gt;"));
    assert_non_null(strstr(text, "protocol <b>oe</b>"));
    assert_non_null(strstr(text, "mean near"));
    assert_non_null(strstr(text, "Beside other runs"));
    /* ID and four sets, twelve most and twelve least typical images each; twelve confident mistakes */
    assert_int_equal(count_of(text, "<img "), 5 * 24 + 12);
    assert_int_equal(count_of(text, "<s>"), count_of(text, "</s>"));
    assert_true(count_of(text, "<s>") >= 12);
    /* angles of five prototypes, both ways; the closest pairs */
    assert_int_equal(count_of(text, "&deg;</td>"), 20);
    assert_non_null(strstr(text, "have 104.5&deg; between any two"));
    assert_non_null(strstr(text, "Protocol: openood"));
    assert_non_null(strstr(text, "Protocol: knn-ood"));
    assert_null(strstr(text, "Protocol: oe"));
    /* losses, prototypes, gradient, dead units, rate, speed; two scores of four histograms, two ROC plots and two of precision;
     * two maps; three drawings of synthesis */
    assert_int_equal(count_of(text, "role=\"img\""), 6 + 2 * (4 + 4) + 2 + 3);
    assert_null(strstr(text, "class=\"missing\""));
    assert_null(strstr(text, "nan"));
    npi_free(text);
    check_remove(run);
}

/* One OOD set, and ID images of a full spectrum: words for them, and the sheets of the test images that are left. */
static void a_full_spectrum(void **state) {
    (void)state;
    char run[512], *path;
    snprintf(run, sizeof run, "%s", check_folder());
    fix_run(run);
    CHECK_OK(npi_path_join(&path, run, "eval.json"));
    json_t *root = json_load_file(path, 0, NULL), *result, *set;
    size_t i, at;
    assert_non_null(root);
    json_array_foreach(json_object_get(root, "results"), i, result) {
        json_t *id = json_object_get(result, "id"), *ood = json_object_get(result, "ood");
        json_int_t n = json_integer_value(json_object_get(id, "n"));
        json_object_set_new(id, "parts",
                            json_pack("[{s:s, s:s, s:I, s:{}}, {s:s, s:s, s:I, s:{}}]", "name",
                                      "id", "spec", "gone", "n", n - 3, "accuracy", "name",
                                      "shifted<&", "spec", "gone too", "n", (json_int_t)3,
                                      "accuracy"));
        json_array_foreach(ood, at, set) if (at > 0) json_array_remove(ood, at--);
    }
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    CHECK_OK(report(run, (const char *const[]){run}, 1));
    char *text = read_page(run);
    check_well_formed(text);
    assert_non_null(strstr(text, "on 1 set of images of something else"));
    assert_non_null(strstr(text, " ID images of a full spectrum (test images "));
    assert_non_null(strstr(text, ", shifted&lt;&amp; 3), threshold "));
    assert_non_null(strstr(text, "counts as ID: shifted&lt;&amp;"));
    npi_free(text);
    npi_free(path);
    check_remove(run);
}

/* The shares of each class, against counts over the scores. */
static void classes_err(void **state) {
    (void)state;
    char run[512], expected[200];
    npi_evaluation evaluation = {0};
    snprintf(run, sizeof run, "%s", check_folder());
    fix_run(run);
    CHECK_OK(npi_evaluation_read_run(run, &evaluation));
    CHECK_OK(report(run, NULL, 0));
    char *text = read_page(run), *section = strstr(text, "id=\"classes\"");
    assert_non_null(section);
    const npi_score_result *main = &evaluation.result[0];
    int passing[2] = {0, 0}, own[2] = {0, 0};
    for (int i = 0; i < FIX_OOD; i++)
        passing[i % 2] += main->set[0].scores[i] >= main->threshold;
    for (int i = 0; i < FIX_ID; i++)
        own[0] += i % FIX_CLASSES == 1 && main->id_scores[i] >= main->threshold;
    /* all of set 0 is taken for "coat", the others never */
    snprintf(expected, sizeof expected, "<tr><td>coat</td><td>%.1f</td>",
             100.0 * own[0] / (FIX_ID / FIX_CLASSES));
    char *row = strstr(section, expected);
    assert_non_null(row);
    snprintf(expected, sizeof expected, "%%\">%.1f</td>",
             100.0 * (passing[0] + passing[1]) / FIX_OOD);
    assert_non_null(strstr(row, expected));
    assert_true(strstr(row, expected) < strstr(row, "</tr>"));
    assert_int_equal(count_of(section, "<div class=\"bars\">"), 2);
    char *bars = strstr(section, "<div class=\"bars\">");
    snprintf(expected, sizeof expected, "<span>%d %% of 50</span>", 2 * passing[1]);
    char *odd = strstr(bars, ">odd &amp; &lt;i&gt;</span>");
    assert_non_null(odd);
    assert_memory_equal(strstr(odd, "<span>"), expected, strlen(expected));
    npi_free(text);
    /* a file of an older run has none, a damaged one is named */
    fix_text(run, "scores/classes.safetensors", "no such thing");
    CHECK_OK(report(run, NULL, 0));
    text = read_page(run);
    check_well_formed(text);
    assert_int_equal(count_of(text, "class=\"missing\""), 1);
    assert_non_null(strstr(text, "classes.safetensors"));
    npi_free(text);
    assert_int_equal(remove(check_path(run, "scores/classes.safetensors")), 0);
    CHECK_OK(report(run, NULL, 0));
    npi_evaluation_clear(&evaluation);
    check_remove(run);
}

/* Numbers that are no class. */
static void wrong_classes_are_refused(void **state) {
    (void)state;
    char *folder = check_folder();
    npi_classes_list list = {0}, back = {0};
    const int32_t taken[] = {0, 4, -1}, own[] = {-1, 1, 0};
    const char *names[] = {"a", "b"};
    CHECK_OK(npi_classes_list_add(&list, "set", 3, taken, own, (char **)(uintptr_t)names, 2));
    CHECK_OK(npi_classes_file_write(&list, check_path(folder, "c.safetensors")));
    CHECK_OK(npi_classes_file_read(check_path(folder, "c.safetensors"), 5, &back));
    const npi_set_classes *set = npi_classes_list_find(&back, "set");
    assert_non_null(set);
    assert_null(npi_classes_list_find(&back, "id"));
    assert_int_equal(set->n, 3);
    assert_memory_equal(set->taken, taken, sizeof taken);
    assert_memory_equal(set->own, own, sizeof own);
    assert_string_equal(set->class_names[1], "b");
    npi_classes_list_clear(&back);
    CHECK_FAILS(npi_classes_file_read(check_path(folder, "c.safetensors"), 4, &back), NPOS_BAD_DATA,
                "'set.taken' says class 4 of image 1, there are 4");
    npi_classes_list_clear(&back);
    list.set->classes = 1;
    CHECK_OK(npi_classes_file_write(&list, check_path(folder, "d.safetensors")));
    list.set->classes = 2;
    CHECK_FAILS(npi_classes_file_read(check_path(folder, "d.safetensors"), 5, &back), NPOS_BAD_DATA,
                "'set.own' says class 1");
    npi_classes_list_clear(&back);
    npi_classes_list_clear(&list);
    /* of ID images the classes are the model's: others would count beyond its tables */
    CHECK_OK(npi_classes_list_add(&list, "id", 3, taken, own, (char **)(uintptr_t)names, 2));
    CHECK_OK(npi_classes_file_write(&list, check_path(folder, "e.safetensors")));
    CHECK_FAILS(npi_classes_file_read(check_path(folder, "e.safetensors"), 5, &back), NPOS_BAD_DATA,
                "ID images of 2 classes, the model has 5");
    npi_classes_list_clear(&back);
    npi_classes_list_clear(&list);
    check_remove(folder);
}

/* The same run gives the same page, but for the moment it was written. */
static void same_page_again(void **state) {
    (void)state;
    char run[512];
    snprintf(run, sizeof run, "%s", check_folder());
    fix_run(run);
    CHECK_OK(report(run, NULL, 0));
    char *first = read_page(run);
    CHECK_OK(report(run, NULL, 0));
    char *second = read_page(run);
    char *moment = strstr(first, "<p class=\"mute\">Written by"),
         *again = strstr(second, "<p class=\"mute\">Written by");
    assert_non_null(moment);
    assert_non_null(again);
    *moment = *again = '\0';
    assert_string_equal(first, second);
    npi_free(first);
    npi_free(second);
    check_remove(run);
}

static void missing_parts_are_named(void **state) {
    (void)state;
    char run[512];
    snprintf(run, sizeof run, "%s", check_folder());
    fix_run(run);
    /* one set's images are gone */
    assert_int_equal(remove(check_path(run, "data-6.npy")), 0);
    CHECK_OK(report(run, NULL, 0));
    char *text = read_page(run);
    check_well_formed(text);
    assert_int_equal(count_of(text, "class=\"missing\""), 1);
    assert_non_null(strstr(text, "data-6.npy"));
    assert_int_equal(count_of(text, "<img "), 4 * 24 + 12);
    npi_free(text);
    /* they are back, but broken */
    CHECK_OK(npi_make_folders(check_path(run, "data-6.npy")));
    for (int i = 0; i < FIX_OOD; i++) {
        char name[64];
        snprintf(name, sizeof name, "data-6.npy/%03d.png", i);
        fix_text(run, name, "\x89PNG\r\n\x1a\n and no more");
    }
    CHECK_OK(report(run, NULL, 0));
    text = read_page(run);
    check_well_formed(text);
    assert_int_equal(count_of(text, "class=\"missing\""), 1);
#ifdef NPI_HAVE_PNG
    assert_non_null(strstr(text, ".png: damaged PNG"));
#else
    assert_non_null(strstr(text, ".png: a PNG image, and this build has no libpng"));
#endif
    npi_free(text);
    /* nothing is there but the model */
    assert_int_equal(remove(check_path(run, "eval.json")), 0);
    assert_int_equal(remove(check_path(run, "log.jsonl")), 0);
    assert_int_equal(remove(check_path(run, "manifest.json")), 0);
    fixture.has_bank = false;
    CHECK_OK(report(run, NULL, 0));
    fixture.has_bank = true;
    text = read_page(run);
    check_well_formed(text);
    assert_int_equal(count_of(text, "class=\"missing\""), 4);
    assert_non_null(strstr(text, "eval.json"));
    assert_non_null(strstr(text, "log.jsonl"));
    assert_non_null(strstr(text, "manifest.json"));
    assert_non_null(strstr(text, "bank.safetensors"));
    npi_free(text);
    check_remove(run);
}

static void damaged_parts_are_named(void **state) {
    (void)state;
    char run[512];
    snprintf(run, sizeof run, "%s", check_folder());
    fix_run(run);
    fix_text(run, "log.jsonl", "{\"epoch\": 0, \"loss\": 1}\nnonsense\n");
    fix_text(run, "eval.json", "{\"schema\": 7}");
    CHECK_OK(report(run, NULL, 0));
    char *text = read_page(run);
    check_well_formed(text);
    assert_non_null(strstr(text, "log.jsonl: line 2"));
    assert_non_null(strstr(text, "&quot;schema&quot;: 1"));
    npi_free(text);
    check_remove(run);
}

static void errors(void **state) {
    (void)state;
    char run[512], other[700];
    npos_report_options options;
    snprintf(run, sizeof run, "%s", check_folder());
    snprintf(other, sizeof other, "%s/other", run);
    CHECK_FAILS(report(other, NULL, 0), NPOS_NOT_FOUND, "no run");
    fix_run(run);
    CHECK_FAILS(report(run, (const char *const[]){other}, 1), NPOS_NOT_FOUND, "other/eval.json");
    assert_false(npi_is_file(check_path(run, "report/index.html")));
    memset(&options, 0, sizeof options);
    CHECK_FAILS(npos_report(&options), NPOS_INVALID_ARGUMENT, "npos_report_options_init");
    check_remove(run);
}

static int stop(void *context, const char *phase, int64_t done, int64_t total, const char *text) {
    int *left = context;
    (void)phase;
    (void)done;
    (void)total;
    (void)text;
    return (*left)-- <= 0;
}

static void stops_when_asked(void **state) {
    (void)state;
    char run[512];
    npos_report_options options;
    snprintf(run, sizeof run, "%s", check_folder());
    fix_run(run);
    for (int after = 0; after < 40; after += 13) {
        int left = after;
        npos_report_options_init(&options);
        options.run = run;
        options.compute.progress = stop;
        options.compute.progress_context = &left;
        CHECK_FAILS(npos_report(&options), NPOS_INTERRUPTED, "");
        assert_false(npi_is_file(check_path(run, "report/index.html")));
    }
    check_remove(run);
}

/* Whichever allocation fails, the report fails with it and leaves no page. */
static void survives_failing_memory(void **state) {
    (void)state;
    char run[512];
    int failures = 0;
    snprintf(run, sizeof run, "%s", check_folder());
    fix_run(run);
    for (int64_t n = 1; n < 700; n += 1 + n / 12) {
        npi_memory_fail_after(n);
        npos_status status = report(run, NULL, 0);
        npi_memory_fail_after(0);
        if (status != NPOS_OK) {
            assert_int_equal(status, NPOS_OUT_OF_MEMORY);
            assert_false(npi_is_file(check_path(run, "report/index.html")));
            failures++;
        } else {
            check_remove(check_path(run, "report"));
        }
    }
    assert_true(failures > 10);
    check_remove(run);
}

int main(int argc, char **argv) {
    /* with a folder: writes the made-up run there and its report, to be looked at */
    if (argc > 1) {
        CHECK_OK(npi_make_folders(argv[1]));
        fix_run(argv[1]);
        return report(argv[1], (const char *const[]){argv[1]}, 1) == NPOS_OK ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_page),
        cmocka_unit_test(a_full_spectrum),
        cmocka_unit_test(classes_err),
        cmocka_unit_test(wrong_classes_are_refused),
        cmocka_unit_test(same_page_again),
        cmocka_unit_test(missing_parts_are_named),
        cmocka_unit_test(damaged_parts_are_named),
        cmocka_unit_test(errors),
        cmocka_unit_test(stops_when_asked),
        cmocka_unit_test(survives_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
