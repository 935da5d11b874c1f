/* npos_eval on a run whose network is known by heart. */
#include "fake_sets.h"
#include "report/evaluation_json.h"

static void eval_shares_one_pass(void **state) {
    (void)state;
    char below[800], same[800], *table = NULL;
    size_t size;
    snprintf(below, sizeof below, "far/below=%s", in_folder("below.npy"));
    snprintf(same, sizeof same, "near/same=%s", in_folder("same.npy"));
    const char *ood[] = {below, same};
    npos_eval_options options;
    eval_options(&options, ood, 2);
    options.scores = "all";
    options.json = in_folder("copy.json");
    options.table = open_memstream(&table, &size);
    fake.passes = 0;
    CHECK_OK(npos_eval(&options));
    fclose(options.table);
    assert_int_equal(fake.passes, 3); /* ID and two sets, for thirteen scores */

    npi_evaluation found = {0};
    CHECK_OK(npi_evaluation_read_run(folder, &found));
    assert_int_equal(found.results, 13);
    for (int r = 0; r < found.results; r++) {
        const npi_score_result *result = &found.result[r];
        assert_int_equal(result->id_n, 200);
        assert_int_equal(result->set[0].n, 60);
        assert_string_equal(result->set[0].group, "far");
        /* the lower half is told apart by all scores, images like the test's by none */
        assert_true(result->set[0].measures.auroc > 0.99);
        assert_true(fabs(result->set[1].measures.auroc - 0.5) < 0.15);
        assert_true(result->accuracy.knn == 1 && result->accuracy.prototype == 1 &&
                    result->accuracy.head == 1 && result->accuracy.text == -1);
        int accepted = 0;
        for (int i = 0; i < 200; i++)
            accepted += result->id_scores[i] >= result->threshold;
        assert_true(accepted >= 190 && accepted <= 192); /* more only by ties */
        assert_non_null(strstr(table, result->score));
    }
    assert_true(npi_is_file(in_folder("copy.json")));
    assert_non_null(strstr(table, "nearest prototype 100.00"));
    npi_evaluation_clear(&found);
    free(table);
}

/* The recipe's own score and test set; a subset is drawn, recorded and the same for its seed. */
static void eval_draws_subsets(void **state) {
    (void)state;
    char below[800], *names[3];
    size_t size;
    snprintf(below, sizeof below, "below=%s", in_folder("below.npy"));
    const char *ood[] = {below};
    CHECK_OK(npi_format(&names[0], "test=%s", in_folder("test.npy")));
    CHECK_OK(npi_recipe_set(&fake.recipe, names[0]));
    npi_free(names[0]);
    for (int i = 0; i < 3; i++) {
        npos_eval_options options;
        eval_options(&options, ood, 1);
        options.id = NULL;
        options.max_images = 25;
        options.seed = i == 2 ? 8 : 7;
        CHECK_OK(npos_eval(&options));
        CHECK_OK(npi_file_read(in_folder("scores/below.txt"), &names[i], &size));
    }
    assert_string_equal(names[0], names[1]);
    assert_string_not_equal(names[0], names[2]);
    npi_evaluation found = {0};
    CHECK_OK(npi_evaluation_read_run(folder, &found));
    assert_int_equal(found.results, 1);
    assert_string_equal(found.result->score, "knn");
    assert_int_equal(found.result->set->n, 25);
    assert_int_equal(found.result->set->available, 60);
    assert_int_equal(found.seed, 8);
    npi_evaluation_clear(&found);
    for (int i = 0; i < 3; i++)
        npi_free(names[i]);
    CHECK_OK(npi_recipe_set(&fake.recipe, "test="));
}

/* Without --id and `test`, the #test split of the training data serves, with the same classes. */
static void eval_finds_the_test_split(void **state) {
    (void)state;
    char below[800], *setting;
    const char *splits[] = {"train", "test"};
    for (int split = 0; split < 2; split++) {
        for (int i = 0; i < 12; i++) { /* classes 0, 1 and 2; the model has the first two */
            char name[64];
            snprintf(name, sizeof name, "data/%s/%d", splits[split], i % 3);
            CHECK_OK(npi_make_folders(in_folder("%s", name)));
            snprintf(name, sizeof name, "data/%s/%d/%d.png", splits[split], i % 3, i);
            write_png(name, i % 3, 800 + (uint32_t)i);
        }
    }
    snprintf(below, sizeof below, "below=%s", in_folder("below.npy"));
    const char *ood[] = {below};
    /* what thins out the training images leaves the test images as they are */
    const char *data[] = {"data=%s#train#class=0,1", "data=%s#class=0,1",
                          "data=%s#train#draw=5:1#class=0,1#first=1"};
    for (int i = 0; i < 3; i++) {
        CHECK_OK(npi_format(&setting, data[i], in_folder("data")));
        CHECK_OK(npi_recipe_set(&fake.recipe, setting));
        npi_free(setting);
        npos_eval_options options;
        eval_options(&options, ood, 1);
        options.id = NULL;
        CHECK_OK(npos_eval(&options));
        npi_evaluation found = {0};
        CHECK_OK(npi_evaluation_read_run(folder, &found));
        assert_int_equal(found.result->id_n, 8);
        assert_non_null(strstr(found.id_spec, "/data#test#class=0,1"));
        assert_true(found.result->accuracy.knn == 1);
        npi_evaluation_clear(&found);
    }
    CHECK_OK(npi_recipe_set(&fake.recipe, "data="));
}

/* A full spectrum: sets of the classes under other conditions count as ID with the test images. */
static void eval_of_a_full_spectrum(void **state) {
    (void)state;
    char below[800], same[800], dark[800], *table = NULL, *names;
    size_t size, lines = 0;
    int64_t n[2];
    npi_evaluation plain = {0}, full = {0};
    /* labelled 0 and 1, bright in the lower half: all of them are taken for the wrong class or are near the border */
    write_set("dark", 40, 2, 2, 12000, true);
    snprintf(below, sizeof below, "far/below=%s", in_folder("below.npy"));
    snprintf(same, sizeof same, "same=%s", in_folder("same.npy"));
    snprintf(dark, sizeof dark, "dark=%s", in_folder("dark.npy"));
    const char *ood[] = {below}, *csid[] = {dark, same};
    npos_eval_options options;
    eval_options(&options, ood, 1);
    options.scores = "head,knn";
    options.protocol = "openood";
    CHECK_OK(npos_eval(&options));
    CHECK_OK(npi_evaluation_read_run(folder, &plain));
    assert_int_equal(plain.id_parts, 0);
    options.csid = csid;
    options.csid_count = 2;
    options.table = open_memstream(&table, &size);
    CHECK_OK(npos_eval(&options));
    fclose(options.table);
    CHECK_OK(npi_evaluation_read_run(folder, &full));
    assert_int_equal(full.id_parts, 3);
    assert_string_equal(full.id_part[0].name, "id");
    assert_string_equal(full.id_part[1].name, "dark");
    assert_string_equal(full.id_part[2].name, "same");
    assert_int_equal(full.id_part[0].n, 200);
    assert_int_equal(full.id_part[1].n, 40);
    assert_int_equal(full.id_part[2].n, 50);
    assert_true(full.id_part[0].accuracy.prototype == 1);
    assert_true(full.id_part[1].accuracy.prototype >= 0 && full.id_part[1].accuracy.prototype < 1);
    assert_true(full.id_part[2].accuracy.prototype == -1); /* without labels */
    for (int r = 0; r < 2; r++) {
        const npi_score_result *a = &plain.result[r], *b = &full.result[r];
        n[0] = a->id_n, n[1] = b->id_n;
        assert_int_equal(n[0], 200);
        assert_int_equal(n[1], 290);
        /* accuracy over all that have labels */
        double right = 200 + 40 * full.id_part[1].accuracy.prototype;
        assert_true(fabs(b->accuracy.prototype - right / 240) < 1e-12);
        assert_memory_equal(a->id_scores, b->id_scores, 200 * sizeof *a->id_scores);
        assert_memory_equal(a->set->scores, b->set->scores, (size_t)a->set->n * sizeof(double));
        /* AUROC by its definition, over pairs of all that count as ID */
        double sum = 0;
        for (int64_t i = 0; i < n[1]; i++)
            for (int64_t o = 0; o < b->set->n; o++)
                sum += b->id_scores[i] > b->set->scores[o]    ? 1
                       : b->id_scores[i] == b->set->scores[o] ? 0.5
                                                              : 0;
        assert_true(fabs(b->set->measures.auroc - sum / (double)(n[1] * b->set->n)) < 1e-12);
        assert_true(b->set->measures.auroc < a->set->measures.auroc);
    }
    assert_non_null(strstr(table, "full spectrum: 290 images of 3 sets count as ID"));
    assert_non_null(strstr(table, "dark: "));
    CHECK_OK(npi_file_read(in_folder("scores/id.txt"), &names, &size));
    for (size_t i = 0; i < size; i++)
        lines += names[i] == '\n';
    assert_int_equal(lines, 290);
    npi_free(names);
    /* classes by name: numbers of an array and of a benchmark's list stand for them in order, folders are called like them */
    fake.class_names[0] = (char *)"left";
    fake.class_names[1] = (char *)"right";
    CHECK_OK(npi_make_folders(in_folder("benchmark_imglist/cifar10")));
    FILE *list = fopen(in_folder("benchmark_imglist/cifar10/test_cifar10c.txt"), "w");
    CHECK_OK(npi_make_folders(in_folder("images_classic/c")));
    for (int i = 0; i < 6; i++) { /* three of each class, in the folders' order */
        char name[64];
        snprintf(name, sizeof name, "shifted/%s", i < 3 ? "left" : "right");
        CHECK_OK(npi_make_folders(in_folder("%s", name)));
        snprintf(name, sizeof name, "shifted/%s/%d.png", i < 3 ? "left" : "right", i);
        write_png(name, i / 3, 900 + (uint32_t)i);
        snprintf(name, sizeof name, "images_classic/c/%d.png", i);
        write_png(name, i / 3, 900 + (uint32_t)i);
        fprintf(list, "c/%d.png %d\n", i, i / 3);
    }
    fclose(list);
    snprintf(dark, sizeof dark, "shifted=%s", in_folder("shifted"));
    csid[1] = "openood-cifar10";
    setenv("NPOS_DATA", folder, 1);
    options.table = NULL;
    options.id = in_folder("test.npy");
    CHECK_OK(npos_eval(&options));
    unsetenv("NPOS_DATA");
    npi_evaluation_clear(&full);
    CHECK_OK(npi_evaluation_read_run(folder, &full));
    assert_string_equal(full.id_part[2].name, "cifar10c");
    assert_int_equal(full.result->id_n, 212);
    for (int i = 0; i < 3; i++)
        assert_true(full.id_part[i].accuracy.prototype == 1);
    assert_memory_equal(full.result->id_scores + 200, full.result->id_scores + 206,
                        6 * sizeof(double));
    fake.class_names[0] = (char *)"0";
    fake.class_names[1] = (char *)"1";
    /* the same images cannot be both */
    snprintf(same, sizeof same, "same=%s", in_folder("below.npy"));
    csid[1] = same;
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "is to count as ID and as OOD");
    npi_evaluation_clear(&plain);
    npi_evaluation_clear(&full);
    free(table);
}

static int stop_at_once(void *context, const char *phase, int64_t done, int64_t total,
                        const char *text) {
    (void)phase, (void)done, (void)total, (void)text;
    ++*(int *)context;
    return 1;
}

static int count_measures(void *context, const char *phase, int64_t done, int64_t total,
                          const char *text) {
    (void)text;
    if (strcmp(phase, "measure") == 0) {
        assert_int_equal(total, 2); /* two scores of one set */
        assert_int_equal(done, ++*(int *)context);
    }
    return 0;
}

static void eval_tells_its_progress(void **state) {
    (void)state;
    char below[800];
    int measured = 0;
    snprintf(below, sizeof below, "below=%s", in_folder("below.npy"));
    const char *ood[] = {below};
    npos_eval_options options;
    eval_options(&options, ood, 1);
    options.scores = "head,msp";
    options.compute.progress = count_measures;
    options.compute.progress_context = &measured;
    CHECK_OK(npos_eval(&options));
    assert_int_equal(measured, 2);
}

static void eval_refuses_bad_input(void **state) {
    (void)state;
    char below[800], gone[800], *kept;
    size_t size;
    int calls = 0;
    snprintf(below, sizeof below, "below=%s", in_folder("below.npy"));
    snprintf(gone, sizeof gone, "gone=%s", in_folder("gone.npy"));
    const char *ood[] = {below, gone}, *twice[] = {below, below};
    npos_eval_options options;
    eval_options(&options, ood, 1);
    CHECK_OK(npos_eval(&options));
    CHECK_OK(npi_file_read(in_folder("eval.json"), &kept, &size));

    options.protocol = "opennod";
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "protocol 'opennod'");
    assert_non_null(strstr(npos_error_hint(), "openood"));
    eval_options(&options, ood, 1);
    options.scores = "knn,hed";
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "score 'hed'");
    assert_non_null(strstr(npos_error_hint(), "'head'"));
    eval_options(&options, ood, 2);
    CHECK_FAILS(npos_eval(&options), NPOS_NOT_FOUND, "gone.npy");
    CHECK_OK(npi_make_folders(in_folder("nothing/cat")));
    snprintf(gone, sizeof gone, "nothing=%s", in_folder("nothing"));
    CHECK_FAILS(npos_eval(&options), NPOS_BAD_DATA, "no images");
    CHECK_OK(npi_file_write(in_folder("nothing/cat/a.png"), "\x89PNG\r\n\x1a\ncut", 11));
    CHECK_FAILS(npos_eval(&options), NPOS_BAD_DATA, "cat/a.png");
    eval_options(&options, twice, 2);
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "'below' is used twice");
    eval_options(&options, ood, 0);
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "no OOD set");
    eval_options(&options, ood, 1);
    options.run = "elsewhere";
    CHECK_FAILS(npos_eval(&options), NPOS_NOT_FOUND, "elsewhere");
    options.run = NULL;
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "no run directory");
    eval_options(&options, ood, 1);
    options.id = NULL; /* the recipe names neither test nor data */
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "names no test images");
    eval_options(&options, ood, 1);
    options.max_images = -2;
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "max_images: -2, expected 0 (all)");
    options.max_images = -1;
    options.compute.progress = stop_at_once;
    options.compute.progress_context = &calls;
    const char *late[] = {ood[0], "late=nowhere#tset"};
    options.ood = late;
    options.ood_count = 2;
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "nowhere#tset");
    assert_int_equal(calls, 0); /* before any image is scored */
    options.ood = ood;
    options.ood_count = 1;
    CHECK_FAILS(npos_eval(&options), NPOS_INTERRUPTED, "stopped");
    assert_int_equal(calls, 1);
    eval_options(&options, ood, 1);
    fake.nan_from = 4;
    CHECK_FAILS(npos_eval(&options), NPOS_NOT_FINITE, "of the ID images is NaN at image 4 (");
    fake.nan_from = -1;
    CHECK_OK(npi_recipe_set(&fake.recipe, "knn_k=41"));
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "knn_k is 41");
    CHECK_OK(npi_recipe_set(&fake.recipe, "knn_k=5"));
    fake.has_bank = false;
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "needs training embeddings");
    fake.has_bank = true;
    fake.class_names[1] = (char *)"cat";
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "class '1' is not one of the model's");
    fake.class_names[1] = (char *)"1";

    char *now; /* none of these touched the results of the good call */
    CHECK_OK(npi_file_read(in_folder("eval.json"), &now, &size));
    assert_string_equal(now, kept);
    npi_free(now);
    npi_free(kept);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eval_shares_one_pass),      cmocka_unit_test(eval_draws_subsets),
        cmocka_unit_test(eval_finds_the_test_split), cmocka_unit_test(eval_of_a_full_spectrum),
        cmocka_unit_test(eval_tells_its_progress),   cmocka_unit_test(eval_refuses_bad_input),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
