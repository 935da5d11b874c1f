/* npos_score, npos_embed and npos_calibrate on a run whose network is known by heart; and all of them, npos_eval too, where memory
 * runs out. */
#include "fake_sets.h"
#include "report/evaluation_json.h"

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
