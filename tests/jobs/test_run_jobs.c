/* npos_eval, npos_score, npos_embed and npos_calibrate on a run whose network is known by heart. */
#include "check.h"

#include <jansson.h>
#include <png.h>
#include <unistd.h>

#include "base/file.h"
#include "fake_run.h"
#include "io/npy.h"
#include "npos/npos.h"
#include "report/evaluation_json.h"

static char folder[512];

/* Paths of one test, never freed while it runs. */
static const char *in_folder(const char *format, ...) {
    static char paths[16][700];
    static int turn;
    char *path = paths[turn++ % 16];
    size_t start = (size_t)snprintf(path, 700, "%s/", folder);
    va_list args;
    va_start(args, format);
    vsnprintf(path + start, 700 - start, format, args);
    va_end(args);
    return path;
}

/* A set of n images; image i is bright in quadrant first + i % kinds; labels when asked for. */
static void write_set(const char *name, int n, int first, int kinds, uint32_t seed, bool labels) {
    uint8_t *pixels, label[300];
    int64_t shape[3] = {n, FAKE_SIZE, FAKE_SIZE};
    CHECK_OK(npi_alloc(&pixels, (size_t)n, FAKE_SIZE * FAKE_SIZE, "images"));
    for (int i = 0; i < n; i++) {
        fake_image(first + i % kinds, seed + (uint32_t)i, pixels + i * FAKE_SIZE * FAKE_SIZE);
        label[i % 300] = (uint8_t)(i % kinds);
    }
    CHECK_OK(npi_npy_write(in_folder("%s.npy", name), NPI_U8, 3, shape, pixels));
    if (labels)
        CHECK_OK(npi_npy_write(in_folder("%s_labels.npy", name), NPI_U8, 1, shape, label));
    npi_free(pixels);
}

static const char *write_png(const char *name, int bright, uint32_t seed) {
    uint8_t pixels[FAKE_SIZE * FAKE_SIZE];
    fake_image(bright, seed, pixels);
    png_image image = {.version = PNG_IMAGE_VERSION,
                       .width = FAKE_SIZE,
                       .height = FAKE_SIZE,
                       .format = PNG_FORMAT_GRAY};
    const char *path = in_folder("%s", name);
    assert_true(png_image_write_to_file(&image, path, 0, pixels, FAKE_SIZE, NULL));
    return path;
}

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", check_folder());
    fake_setup(folder);
    write_set("test", 200, 0, 2, 1000, true);
    write_set("below", 60, 2, 2, 5000, false); /* bright in the lower half: nothing like training */
    write_set("same", 50, 0, 2, 9000, false);  /* drawn as the test images are: AUROC near 0.5 */
    int64_t shape[3] = {FAKE_BANK, FAKE_SIZE, FAKE_SIZE};
    CHECK_OK(npi_npy_write(in_folder("train.npy"), NPI_U8, 3, shape, fake.bank));
    return 0;
}

static int teardown(void **state) {
    (void)state;
    fake_teardown();
    check_remove(folder);
    return 0;
}

static double at(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("JSON has no number '%s'", key);
    return json_number_value(value);
}

static void eval_options(npos_eval_options *options, const char *const *ood, int count) {
    npos_eval_options_init(options);
    options->run = folder;
    options->id = in_folder("test.npy");
    options->ood = ood;
    options->ood_count = count;
}

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

/* ---- score ---- */

/* Runs npos_score and parses its lines. */
static npos_status score(npos_score_options *options, json_t **lines) {
    char *text = NULL;
    size_t size;
    options->run = folder;
    options->out = open_memstream(&text, &size);
    npos_status status = npos_score(options);
    fclose(options->out);
    *lines = json_array();
    for (char *at = text, *end; (end = strchr(at, '\n')) != NULL; at = end + 1) {
        json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
        assert_non_null(line);
        json_array_append_new(*lines, line);
    }
    free(text);
    return status;
}

static const char *text_at(const json_t *lines, size_t i, const char *key) {
    const char *value = json_string_value(json_object_get(json_array_get(lines, i), key));
    return value ? value : "";
}

static void score_gives_a_line_an_image(void **state) {
    (void)state;
    const char *files[4] = {write_png("left.png", 0, 70), write_png("right.png", 1, 71),
                            in_folder("broken.png"), write_png("below.png", 2, 72)};
    CHECK_OK(npi_file_write(files[2], "\x89PNG\r\n\x1a\nand no more", 19));
    npos_score_options options;
    npos_score_options_init(&options);
    options.files = files;
    options.file_count = 4;
    options.score = "head"; /* 180/255 for a bright upper quadrant, the negative for a lower one */
    options.has_threshold = 1;
    options.threshold = 0;
    options.neighbours = 3;
    json_t *lines;
    assert_int_equal(score(&options, &lines), NPOS_BAD_DATA);
    assert_non_null(strstr(npos_error_message(), "1 of 4 files could not be scored"));
    assert_int_equal(json_array_size(lines), 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(text_at(lines, i, "file"), files[i]);
    assert_string_equal(text_at(lines, 0, "verdict"), "id");
    assert_string_equal(text_at(lines, 0, "class"), "0");
    assert_string_equal(text_at(lines, 1, "class"), "1");
    assert_string_equal(text_at(lines, 3, "verdict"), "ood");
    assert_non_null(strstr(text_at(lines, 2, "error"), "broken.png"));
    assert_null(json_object_get(json_array_get(lines, 2), "score"));
    json_t *first = json_array_get(lines, 0);
    assert_true(fabs(at(first, "score") - 180.0 / 255) < 0.1 && at(first, "threshold") == 0);
    assert_true(at(first, "confidence") > 0.5 && at(first, "confidence") <= 1);
    json_t *nearest = json_object_get(first, "neighbours");
    assert_int_equal(json_array_size(nearest), 3);
    double before = 0;
    for (size_t i = 0; i < 3; i++) {
        json_t *one = json_array_get(nearest, i);
        assert_string_equal(json_string_value(json_object_get(one, "class")), "0");
        assert_memory_equal(json_string_value(json_object_get(one, "name")), "train/", 6);
        assert_true(at(one, "distance") >= before);
        before = at(one, "distance");
    }
    json_decref(lines);
}

/* More names than a block, from a stream: order kept, blocks of constant size, and the same scores
 * as one by one. */
static void score_streams(void **state) {
    (void)state;
    enum { FILES = 150 };
    char *names = NULL, *one_name;
    size_t size;
    FILE *list = open_memstream(&names, &size);
    for (int i = 0; i < FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, i % 10 == 3 ? "gone%d.png" : "s%d.png", i);
        const char *path =
            i % 10 == 3 ? in_folder("%s", name) : write_png(name, i % 4, 300 + (uint32_t)i);
        fprintf(list, "%s\n%s", path, i == 5 ? "\n" : "");
    }
    fclose(list);
    const char *dash[] = {"-"};
    npos_score_options options;
    npos_score_options_init(&options);
    options.files = dash;
    options.file_count = 1;
    options.names = fmemopen(names, size, "r");
    fake.most = 0;
    json_t *lines, *one;
    size_t before = npi_memory_now();
    assert_int_equal(score(&options, &lines), NPOS_BAD_DATA);
    assert_int_equal(npi_memory_now(), before);
    assert_non_null(strstr(npos_error_message(), "15 of 150"));
    fclose(options.names);
    assert_true(fake.most <= 896);
    assert_int_equal(json_array_size(lines), FILES);
    char *at_line = names;
    for (size_t i = 0; i < FILES; i++) {
        at_line += *at_line == '\n';
        size_t length = strcspn(at_line, "\n");
        const char *file = text_at(lines, i, "file");
        assert_int_equal(strlen(file), length);
        assert_memory_equal(file, at_line, length);
        at_line += length + 1;
        assert_int_equal(text_at(lines, i, "error")[0] != '\0', i % 10 == 3);
    }
    CHECK_OK(npi_strdup(&one_name, text_at(lines, 147, "file")));
    const char *single[] = {one_name};
    options.files = single;
    CHECK_OK(score(&options, &one));
    assert_true(json_equal(json_array_get(lines, 147), json_array_get(one, 0)));
    assert_true(json_is_null(json_object_get(json_array_get(one, 0), "verdict")));
    json_decref(lines);
    json_decref(one);
    npi_free(one_name);
    free(names);
}

/* `count` raw images; the first may be larger than the model's. */
static FILE *frames_of(int count, bool large, char **text, size_t *size) {
    FILE *stream = open_memstream(text, size);
    for (int i = 0; i < count; i++) {
        uint8_t pixels[FAKE_SIZE * FAKE_SIZE];
        int times = large && i % 100 == 0 ? 2 : 1, side = times * FAKE_SIZE;
        fake_image(i % 4, 7000 + (uint32_t)i, pixels);
        fprintf(stream, "P5 %d %d 255\n", side, side);
        for (int y = 0; y < side; y++)
            for (int x = 0; x < side; x++)
                fputc(pixels[y / times * FAKE_SIZE + x / times], stream);
    }
    fclose(stream);
    return fmemopen(*text, *size, "r");
}

/* Beside a device images are decoded ahead, on a host in turns; more of them than the ring holds: the same lines, in
 * order, in constant memory. */
static void score_decodes_ahead(void **state) {
    (void)state;
    static const struct {
        int frames;
        bool host;
    } turns[] = {{9000, false}, {9000, true}, {60000, true}, {60000, false}};
    const char *dash[] = {"-"};
    json_t *lines[4];
    char *text;
    size_t size, peak[4];
    for (int t = 0; t < 4; t++) {
        npos_score_options options;
        npos_score_options_init(&options);
        options.files = dash;
        options.file_count = 1;
        options.stream = "raw";
        options.score = "head";
        options.names = frames_of(turns[t].frames, true, &text, &size);
        fake.device = brute_device(turns[t].host);
        fake.most = 0;
        size_t before = npi_memory_now();
        CHECK_OK(score(&options, &lines[t]));
        peak[t] = npi_memory_peak();
        assert_int_equal(npi_memory_now(), before);
        assert_true(fake.most <= (turns[t].host ? 896 : 7168));
        fclose(options.names);
        free(text);
    }
    fake.device = brute_device(true);
    assert_int_equal(json_array_size(lines[0]), 9000);
    assert_true(json_equal(lines[0], lines[1]));
    assert_true(json_equal(lines[2], lines[3]));
    for (size_t i = 0; i < 60000; i += 997) {
        char name[32];
        snprintf(name, sizeof name, "image %zu", i);
        assert_string_equal(text_at(lines[2], i, "file"), name);
    }
    for (size_t i = 0; i < 9000; i++)
        assert_true(json_equal(json_array_get(lines[0], i), json_array_get(lines[2], i)));
    assert_true(peak[3] - peak[0] <
                4 << 20); /* of 60,000 images pixels and slots alone take 35 MB */
    for (int t = 0; t < 4; t++)
        json_decref(lines[t]);
}

/* A reader of the lines that is gone ends the job, though its images' writer says no more. */
static void score_does_not_wait_for_input(void **state) {
    (void)state;
    int ends[2];
    char *text;
    size_t size;
    npos_score_options options;
    npos_score_options_init(&options);
    assert_int_equal(pipe(ends), 0);
    fclose(frames_of(130, false, &text, &size));
    assert_int_equal(write(ends[1], text, size), (ssize_t)size); /* fits a pipe */
    free(text);
    options.files = (const char *[]){"-"};
    options.file_count = 1;
    options.stream = "raw";
    options.names = fdopen(ends[0], "r");
    options.run = folder;
    options.out = fopen("/dev/full", "w");
    size_t before = npi_memory_now();
    alarm(60);
    if (options.out)
        CHECK_FAILS(npos_score(&options), NPOS_IO, "writing the scores");
    alarm(0);
    assert_int_equal(npi_memory_now(), before);
    fclose(options.out);
    fclose(options.names);
    close(ends[1]);
}

static void score_refuses_bad_input(void **state) {
    (void)state;
    const char *files[] = {write_png("a.png", 0, 1)}, *dash[] = {"-"};
    json_t *lines;
    npos_score_options options;
    npos_score_options_init(&options);
    options.files = files;
    options.file_count = 1;
    options.neighbours = 41;
    CHECK_FAILS(score(&options, &lines), NPOS_INVALID_ARGUMENT, "41 neighbours");
    json_decref(lines);
    options.neighbours = -1;
    CHECK_FAILS(score(&options, &lines), NPOS_INVALID_ARGUMENT, "neighbours: -1");
    json_decref(lines);
    options.neighbours = 0;
    options.score = "knn,head";
    CHECK_FAILS(score(&options, &lines), NPOS_INVALID_ARGUMENT, "expected one score");
    json_decref(lines);
    options.score = NULL;
    options.files = dash;
    CHECK_FAILS(score(&options, &lines), NPOS_INVALID_ARGUMENT, "no stream of names");
    json_decref(lines);
    options.files = files;
    options.stream = "raw"; /* which would not be read */
    CHECK_FAILS(score(&options, &lines), NPOS_INVALID_ARGUMENT, "'-' is not among the files");
    json_decref(lines);
    options.stream = "names";
    fake.nan_from = 0; /* the network breaks down on this image: its line says so */
    CHECK_FAILS(score(&options, &lines), NPOS_BAD_DATA, "1 of 1 files");
    assert_non_null(strstr(text_at(lines, 0, "error"), "NaN"));
    json_decref(lines);
    fake.nan_from = -1;
    options.run = folder;
    options.out = fopen("/dev/full", "w");
    if (options.out) {
        CHECK_FAILS(npos_score(&options), NPOS_IO, "writing the scores");
        fclose(options.out);
    }
}

/* ---- calibrate ---- */

static void calibrate_stores_a_threshold(void **state) {
    (void)state;
    npos_calibrate_options options;
    npos_calibrate_options_init(&options);
    char *text = NULL;
    size_t size;
    options.run = folder;
    options.id = in_folder("test.npy");
    options.tpr = 0.9;
    options.json = in_folder("threshold.json");
    options.out = open_memstream(&text, &size);
    CHECK_OK(npos_calibrate(&options));
    fclose(options.out);
    assert_string_equal(fake.calibration.score, "knn");
    assert_int_equal(fake.calibration.n, 200);
    assert_true(fake.calibration.tpr == 0.9);
    /* scipy.stats.beta: 180 of 200 */
    assert_true(fabs(fake.calibration.tpr_ci[0] - 0.8497) < 1e-3 &&
                fabs(fake.calibration.tpr_ci[1] - 0.9378) < 1e-3);
    assert_non_null(strstr(text, "accepts 180 of 200 ID images, 90.00%"));
    free(text);
    json_t *json = json_load_file(options.json, 0, NULL);
    assert_true(at(json, "threshold") == fake.calibration.threshold && at(json, "tpr") == 0.9);
    json_decref(json);

    /* eval and score now use it */
    char below[800];
    snprintf(below, sizeof below, "below=%s", in_folder("below.npy"));
    const char *ood[] = {below};
    npos_eval_options eval;
    eval_options(&eval, ood, 1);
    eval.scores = "knn,head";
    fake.calibration.knn_k = 7; /* as if chosen on validation sets: told beside what it made */
    eval.table = open_memstream(&text, &size);
    CHECK_OK(npos_eval(&eval));
    fclose(eval.table);
    fake.calibration.knn_k = 0;
    assert_non_null(strstr(text, "k = 7, chosen on validation sets"));
    free(text);
    npi_evaluation found = {0};
    CHECK_OK(npi_evaluation_read_run(folder, &found));
    assert_int_equal(found.result[0].chosen_k, 7);
    assert_int_equal(found.result[1].chosen_k, 0);
    assert_true(found.result[0].threshold == fake.calibration.threshold);
    assert_true(found.result[1].threshold != fake.calibration.threshold);
    npi_evaluation_clear(&found);

    /* the same images as those of the evaluation: said, not refused */
    options.out = open_memstream(&text, &size);
    CHECK_OK(npos_calibrate(&options));
    fclose(options.out);
    assert_non_null(strstr(text, "note: these are of the run's test images"));
    free(text);
    json = json_load_file(options.json, 0, NULL);
    assert_true(json_is_true(json_object_get(json, "test_split")));
    json_decref(json);
    char part[800]; /* a part of them is told too */
    snprintf(part, sizeof part, "%s#first=90", in_folder("test.npy"));
    options.id = part;
    options.out = open_memstream(&text, &size);
    CHECK_OK(npos_calibrate(&options));
    fclose(options.out);
    assert_non_null(strstr(text, "note: these are of the run's test images"));
    free(text);
    options.id = in_folder("below.npy");
    options.out = open_memstream(&text, &size);
    CHECK_OK(npos_calibrate(&options));
    fclose(options.out);
    assert_null(strstr(text, "note:"));
    free(text);
    options.id = in_folder("test.npy");
    options.out = NULL;
    CHECK_OK(npos_calibrate(&options));

    const char *files[] = {write_png("new.png", 3, 400)};
    npos_score_options scoring;
    npos_score_options_init(&scoring);
    scoring.files = files;
    scoring.file_count = 1;
    json_t *lines;
    CHECK_OK(score(&scoring, &lines));
    assert_string_equal(text_at(lines, 0, "verdict"), "ood");
    json_decref(lines);
    scoring.score = "head"; /* another score: the threshold is not its */
    CHECK_OK(score(&scoring, &lines));
    assert_true(json_is_null(json_object_get(json_array_get(lines, 0), "threshold")));
    json_decref(lines);
    memset(&fake.calibration, 0, sizeof fake.calibration);
}

static void calibrate_refuses_bad_input(void **state) {
    (void)state;
    npos_calibrate_options options;
    npos_calibrate_options_init(&options);
    options.run = folder;
    options.id = in_folder("train.npy");
    CHECK_FAILS(npos_calibrate(&options), NPOS_INVALID_ARGUMENT,
                "40 of 40 images have the embedding of a training image");
    options.score = "head";
    CHECK_FAILS(npos_calibrate(&options), NPOS_INVALID_ARGUMENT, "training image");
    options.id = in_folder("test.npy");
    options.score = "knn,head";
    CHECK_FAILS(npos_calibrate(&options), NPOS_INVALID_ARGUMENT, "belongs to one score");
    options.score = NULL;
    options.tpr = 1.01;
    CHECK_FAILS(npos_calibrate(&options), NPOS_INVALID_ARGUMENT, "tpr: 1.01");
    options.tpr = 0.95;
    options.id = NULL;
    CHECK_FAILS(npos_calibrate(&options), NPOS_INVALID_ARGUMENT, "no ID images");
    options.id = in_folder("none.npy");
    CHECK_FAILS(npos_calibrate(&options), NPOS_NOT_FOUND, "none.npy");
    assert_null(fake.calibration.score);
}

/* ---- embed ---- */

static void embed_writes_arrays(void **state) {
    (void)state;
    npos_embed_options options;
    npos_embed_options_init(&options);
    options.run = folder;
    options.data = in_folder("test.npy");
    options.out = in_folder("h.npy");
    options.logits = in_folder("l.npy");
    options.labels = in_folder("y.npy");
    CHECK_OK(npos_embed(&options));
    int64_t shape[4];
    float *h, *logits, expected[4];
    npi_npy labels = {0};
    uint8_t pixels[FAKE_SIZE * FAKE_SIZE];
    CHECK_OK(npi_npy_read_f32(options.out, 2, shape, &h));
    assert_true(shape[0] == 200 && shape[1] == 4);
    CHECK_OK(npi_npy_read_f32(options.logits, 2, shape, &logits));
    assert_true(shape[0] == 200 && shape[1] == 2);
    CHECK_OK(npi_npy_read(options.labels, &labels));
    assert_true(labels.dtype == NPI_I64 && labels.count == 200);
    for (int i = 0; i < 200; i++) {
        fake_image(i % 2, 1000 + (uint32_t)i, pixels);
        fake_h(pixels, expected);
        assert_memory_equal(h + 4 * i, expected, sizeof expected);
        assert_true(logits[2 * i] == 10 * expected[0]);
        assert_int_equal(((const int64_t *)labels.data)[i], i % 2);
    }
    npi_free(h);
    npi_free(logits);
    npi_npy_clear(&labels);

    fake.has_classifier = false;
    CHECK_FAILS(npos_embed(&options), NPOS_INVALID_ARGUMENT, "the model has no classifier");
    fake.has_classifier = true;
    options.data = NULL;
    CHECK_FAILS(npos_embed(&options), NPOS_INVALID_ARGUMENT, "'data' is missing");
    options.data = in_folder("test.npy");
    options.out = in_folder("no/such/folder/h.npy");
    CHECK_FAILS(npos_embed(&options), NPOS_IO, "h.npy");
}

/* ---- memory that runs out ---- */

static npos_status eval_once(void) {
    static char below[800];
    snprintf(below, sizeof below, "far/below=%s", in_folder("below.npy"));
    const char *ood[] = {below};
    npos_eval_options options;
    eval_options(&options, ood, 1);
    options.scores = "all";
    options.compute.threads = 1;
    return npos_eval(&options);
}

static npos_status score_once(void) {
    const char *files[] = {in_folder("memory.png")};
    json_t *lines;
    npos_score_options options;
    npos_score_options_init(&options);
    options.files = files;
    options.file_count = 1;
    options.neighbours = 2;
    npos_status status = score(&options, &lines);
    json_decref(lines);
    return status;
}

static npos_status calibrate_once(void) {
    npos_calibrate_options options;
    npos_calibrate_options_init(&options);
    options.run = folder;
    options.id = in_folder("test.npy");
    options.compute.threads = 1;
    npos_status status = npos_calibrate(&options);
    memset(&fake.calibration, 0, sizeof fake.calibration);
    return status;
}

static npos_status embed_once(void) {
    npos_embed_options options;
    npos_embed_options_init(&options);
    options.run = folder;
    options.data = in_folder("test.npy");
    options.out = in_folder("memory.npy");
    options.labels = in_folder("memory-labels.npy");
    options.compute.threads = 1;
    return npos_embed(&options);
}

/* Whichever allocation fails, the job says so and leaks nothing; a file whose memory ran out is that
 * file's error. */
static void no_allocation_is_trusted(void **state) {
    (void)state;
    npos_status (*const jobs[])(void) = {eval_once, score_once, calibrate_once, embed_once};
    write_png("memory.png", 0, 1);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        size_t before = npi_memory_now();
        int n = 1;
        npos_status status;
        do {
            npi_memory_fail_after(n);
            status = jobs[i]();
            npi_memory_fail_after(0);
            assert_int_equal(npi_memory_now(), before);
            assert_true(status == NPOS_OK || status == NPOS_OUT_OF_MEMORY ||
                        (status == NPOS_BAD_DATA && i == 1));
        } while (status != NPOS_OK && ++n < 2000);
        assert_int_equal(status, NPOS_OK);
        assert_true(n > 20);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eval_shares_one_pass),
        cmocka_unit_test(eval_draws_subsets),
        cmocka_unit_test(eval_finds_the_test_split),
        cmocka_unit_test(eval_of_a_full_spectrum),
        cmocka_unit_test(eval_tells_its_progress),
        cmocka_unit_test(eval_refuses_bad_input),
        cmocka_unit_test(score_gives_a_line_an_image),
        cmocka_unit_test(score_streams),
        cmocka_unit_test(score_decodes_ahead),
        cmocka_unit_test(score_does_not_wait_for_input),
        cmocka_unit_test(score_refuses_bad_input),
        cmocka_unit_test(calibrate_stores_a_threshold),
        cmocka_unit_test(calibrate_refuses_bad_input),
        cmocka_unit_test(embed_writes_arrays),
        cmocka_unit_test(no_allocation_is_trusted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
