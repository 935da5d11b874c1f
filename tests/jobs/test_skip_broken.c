/* skip_broken: broken images are errors without it; with it they are left out, told and listed. */
#include <jansson.h>

#include "jobs/tiny_run.h"
#include "report/evaluation_json.h"

static char folder[512];

/* SET/NAME becomes a grey image of the class's brightness. */
static void put_image(const char *name, int label, int shift) {
    char text[64], path[700];
    uint8_t bytes[64 + SIDE * SIDE];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    *strrchr(path, '/') = '\0';
    CHECK_OK(npi_make_folders(path));
    size_t head = (size_t)snprintf(text, sizeof text, "P5 %d %d 255\n", SIDE, SIDE);
    memcpy(bytes, text, head);
    for (int j = 0; j < SIDE * SIDE; j++)
        bytes[head + (size_t)j] = (uint8_t)(60 * label + (shift * 31 + j * (7 + label)) % 60);
    CHECK_OK(npi_file_write(check_path(folder, name), bytes, head + SIDE * SIDE));
}

static void put_broken(const char *name, const char *text) {
    CHECK_OK(npi_file_write(check_path(folder, name), text, strlen(text)));
}

static int setup(void **state) {
    (void)state;
    char name[64];
    snprintf(folder, sizeof folder, "%s", check_folder());
    CHECK_OK(npi_file_write(check_path(folder, "tiny.yaml"), recipe, strlen(recipe)));
    for (int i = 0; i < 48; i++) {
        snprintf(name, sizeof name, "set/%s/%c/%02d.pgm", i < 36 ? "train" : "test", 'a' + i % 3,
                 i);
        put_image(name, i % 3, i);
    }
    for (int i = 0; i < 9; i++) {
        snprintf(name, sizeof name, "ood/%02d.pgm", i);
        put_image(name, 3, i);
    }
    put_broken("set/train/a/00x.jpg", "<html>404</html>");
    put_broken("set/train/c/zz.png", "");
    put_broken("set/test/b/broken.pgm", "P5 12 12 255\nnot enough");
    put_broken("ood/04x.pgm", "P5 99999 99999 255\n");
    put_broken("ood/99.png", "\x89PNG\r\n\x1a\n");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

static struct {
    int lines;
    char text[4096];
} told;

static int listen(void *context, const char *phase, int64_t done, int64_t total, const char *text) {
    (void)context, (void)done, (void)total;
    if (strcmp(phase, "skipped") == 0) {
        told.lines++;
        strcat(told.text, text);
        strcat(told.text, "\n");
    }
    return 0;
}

static void train(job *j) {
    snprintf(j->data, sizeof j->data, "%s/set", folder);
    j->options.compute.skip_broken = 1;
    j->options.compute.progress = listen;
    memset(&told, 0, sizeof told);
    CHECK_OK(npos_train(&j->options));
}

static json_t *read_json(const char *name) {
    json_error_t error;
    json_t *object = json_load_file(check_path(folder, name), 0, &error);
    if (!object)
        fail_msg("%s: %s", name, error.text);
    return object;
}

static void check_names(const json_t *names, const char *first, const char *second) {
    assert_int_equal(json_array_size(names), second ? 2 : 1);
    assert_string_equal(json_string_value(json_array_get(names, 0)), first);
    if (second)
        assert_string_equal(json_string_value(json_array_get(names, 1)), second);
}

static void training_leaves_them_out(void **state) {
    (void)state;
    job *j = make_job(folder, "plain");
    snprintf(j->data, sizeof j->data, "%s/set", folder);
    CHECK_FAILS(npos_train(&j->options), NPOS_BAD_DATA, "a/00x.jpg: not an image");
    train(make_job(folder, "run"));
    assert_int_equal(told.lines, 3);
    assert_non_null(strstr(told.text, "a/00x.jpg: not an image"));
    assert_non_null(strstr(told.text, "c/zz.png: the file is empty"));
    assert_non_null(strstr(told.text, "2 broken images in all, 36 are left"));
    json_t *manifest = read_json("run/manifest.json"), *data = json_object_get(manifest, "data");
    assert_int_equal(json_integer_value(json_object_get(data, "images")), 36);
    check_names(json_object_get(data, "skipped"), "train/a/00x.jpg", "train/c/zz.png");
    json_decref(manifest);
    /* the same run as from a set without them */
    assert_int_equal(remove(check_path(folder, "set/train/a/00x.jpg")), 0);
    assert_int_equal(remove(check_path(folder, "set/train/c/zz.png")), 0);
    train(make_job(folder, "clean"));
    assert_int_equal(told.lines, 0);
    assert_same_file(folder, "run/model.safetensors", "clean/model.safetensors");
    manifest = read_json("clean/manifest.json");
    assert_null(json_object_get(json_object_get(manifest, "data"), "skipped"));
    json_decref(manifest);
}

static void evaluation_lists_them(void **state) {
    (void)state;
    train(make_job(folder, "run"));
    npos_eval_options options;
    char run[700], ood[700];
    snprintf(run, sizeof run, "%s/run", folder);
    snprintf(ood, sizeof ood, "dark=%s/ood", folder);
    const char *sets[] = {ood};
    npos_eval_options_init(&options);
    options.run = run;
    options.ood = sets;
    options.ood_count = 1;
    options.compute.device = check_device();
    options.compute.threads = 2;
    CHECK_FAILS(npos_eval(&options), NPOS_BAD_DATA, "test/b/broken.pgm: the file is truncated");
    options.compute.skip_broken = 1;
    options.compute.progress = listen;
    memset(&told, 0, sizeof told);
    CHECK_OK(npos_eval(&options));
    assert_int_equal(told.lines, 2 + 3);
    assert_non_null(strstr(told.text, "04x.pgm: "));
    npi_evaluation read = {0};
    CHECK_OK(npi_evaluation_read_run(run, &read));
    assert_int_equal(read.result[0].id_n, 12);
    assert_int_equal(read.result[0].set[0].n, 9);
    assert_int_equal(read.result[0].set[0].available, 11);
    assert_string_equal(npi_evaluation_skipped(&read, -1)->names[0], "test/b/broken.pgm");
    assert_int_equal(npi_evaluation_skipped(&read, 0)->count, 2);
    assert_string_equal(npi_evaluation_skipped(&read, 0)->names[0], "04x.pgm");
    assert_string_equal(npi_evaluation_skipped(&read, 0)->names[1], "99.png");
    npi_evaluation_clear(&read);
    /* the report finds the images that were evaluated */
    npos_report_options report;
    npos_report_options_init(&report);
    report.run = run;
    report.compute.device = check_device();
    report.compute.threads = 1;
    CHECK_OK(npos_report(&report));
    char *page;
    size_t size;
    CHECK_OK(npi_file_read(check_path(folder, "run/report/index.html"), &page, &size));
    assert_null(strstr(page, "were evaluated"));
    npi_free(page);
}

static void embeddings_tell_which_have_no_row(void **state) {
    (void)state;
    train(make_job(folder, "run"));
    npos_embed_options options;
    char run[700], data[700], out[700];
    snprintf(run, sizeof run, "%s/run", folder);
    snprintf(data, sizeof data, "%s/ood", folder);
    snprintf(out, sizeof out, "%s/h.npy", folder);
    npos_embed_options_init(&options);
    options.run = run;
    options.data = data;
    options.out = out;
    options.compute.device = check_device();
    CHECK_FAILS(npos_embed(&options), NPOS_BAD_DATA, "04x.pgm");
    options.compute.skip_broken = 1;
    CHECK_OK(npos_embed(&options));
    int64_t shape[4];
    float *rows;
    CHECK_OK(npi_npy_read_f32(out, 2, shape, &rows));
    npi_free(rows);
    assert_int_equal(shape[0], 9);
    char *text;
    size_t size;
    CHECK_OK(npi_file_read(check_path(folder, "h.npy.skipped.txt"), &text, &size));
    assert_string_equal(text, "04x.pgm\n99.png\n");
    npi_free(text);
    /* once the set is mended the list is gone */
    assert_int_equal(remove(check_path(folder, "ood/04x.pgm")), 0);
    assert_int_equal(remove(check_path(folder, "ood/99.png")), 0);
    CHECK_OK(npos_embed(&options));
    assert_false(npi_is_file(check_path(folder, "h.npy.skipped.txt")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(training_leaves_them_out, setup, teardown),
        cmocka_unit_test_setup_teardown(evaluation_lists_them, setup, teardown),
        cmocka_unit_test_setup_teardown(embeddings_tell_which_have_no_row, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
