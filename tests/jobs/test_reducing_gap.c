/* JPEGs that are decoded smaller, from extraction to scores: a store says so, and a run sees the same pixels in training and
 * afterwards or is refused. */
#include "data/make_sets.h"

#include <jansson.h>

#include "io/token_store.h"
#include "jobs/fitted.h"
#include "jobs/recipe.h"
#include "jobs/tiny_clip.h"

enum { FILES = 48, HEIGHT = 50, WIDTH = 63 };

/* FILES noisy photographs of three brightnesses, in class folders. */
static void write_photographs(const char *folder) {
    npi_image image = make_pattern(HEIGHT, WIDTH, 3, 0);
    for (int i = 0; i < FILES; i++) {
        char name[64];
        for (int k = 0; k < HEIGHT * WIDTH * 3; k++)
            image.pixels[k] = (uint8_t)(70 * (i % 3) + (i * 31 + k * (7 + k % 5)) % 80);
        file_bytes jpeg = make_jpeg(&image, 90);
        snprintf(name, sizeof name, "jpegs/%d/%02d.jpg", i % 3, i);
        put_bytes(folder, name, jpeg.bytes, jpeg.size);
        npi_free(jpeg.bytes);
    }
    npi_image_clear(&image);
}

static void prepare_jpegs(char *folder, size_t size) {
    snprintf(folder, size, "%s", check_folder());
    const tuning *j = make_tuning(folder, "hf", "");
    CHECK_OK(npi_file_write(j->recipe, clip_recipe, strlen(clip_recipe)));
    write_directions(j->text, j->clip, CLASSES, 0);
    write_photographs(folder);
}

static npos_status extract(const char *folder, const char *out, double gap, int resume) {
    const tuning *j = make_tuning(folder, "hf", "");
    npos_extract_options options;
    char data[1000];
    snprintf(data, sizeof data, "%s/jpegs", folder);
    npos_extract_options_init(&options);
    options.compute = j->options.compute;
    options.clip = j->clip;
    options.data = data;
    options.out = check_path(folder, out);
    options.block = 1;
    options.reducing_gap = gap;
    options.resume = resume;
    return npos_extract(&options);
}

static void a_store_says_how_its_images_were_decoded(void **state) {
    (void)state;
    char folder[512];
    uint16_t halves[2][10 * 32];
    static const char *const names[] = {"whole", "smaller"};
    prepare_jpegs(folder, sizeof folder);
    for (int i = 0; i < 2; i++) {
        npi_token_store *store;
        CHECK_OK(extract(folder, names[i], 2 * i, 0));
        CHECK_OK(npi_token_store_open(check_path(folder, names[i]), &store));
        const npi_token_info *info = npi_token_store_info(store);
        assert_true(info->reducing_gap == 2 * i);
        assert_true(!strstr(info->transform, "reducing gap 2, ") == (i == 0));
        CHECK_OK(npi_token_store_read(store, 0, halves[i]));
        npi_token_store_close(store);
    }
    assert_true(memcmp(halves[0], halves[1], sizeof halves[0]) != 0);
    CHECK_FAILS(extract(folder, "whole", 2, 1), NPOS_INVALID_ARGUMENT, "reducing gap 2");
    CHECK_FAILS(extract(folder, "smaller", 0, 1), NPOS_INVALID_ARGUMENT, "reducing gap 2");
    CHECK_FAILS(extract(folder, "smaller", 3, 1), NPOS_INVALID_ARGUMENT, "reducing gap");
    CHECK_FAILS(extract(folder, "none", 0.5, 0), NPOS_INVALID_ARGUMENT, "reducing gap 0.5");
    assert_false(npi_is_folder(check_path(folder, "none")));
    check_remove(folder);
}

/* `from`: a store, or NULL for the images themselves. */
static npos_status tune(const char *folder, const char *from, const char *setting,
                        const char *run) {
    tuning *j = make_tuning(folder, "hf", run);
    char data[1000];
    snprintf(data, sizeof data, "%s/jpegs", folder);
    if (from)
        j->options.features = check_path(folder, from);
    else
        j->options.data = data;
    j->options.set = &setting;
    j->options.set_count = setting ? 1 : 0;
    return npos_finetune(&j->options);
}

static void stores_of_other_pixels_are_refused(void **state) {
    (void)state;
    char folder[512];
    prepare_jpegs(folder, sizeof folder);
    CHECK_OK(extract(folder, "whole", 0, 0));
    CHECK_OK(extract(folder, "smaller", 2, 0));
    CHECK_FAILS(tune(folder, "smaller", NULL, "run"), NPOS_INVALID_ARGUMENT,
                "decoded with reducing_gap 2, the recipe's is 0");
    assert_non_null(strstr(npos_error_hint(), "--set reducing_gap=2"));
    CHECK_FAILS(tune(folder, "whole", "reducing_gap=2", "run"), NPOS_INVALID_ARGUMENT,
                "decoded with reducing_gap 0, the recipe's is 2");
    CHECK_FAILS(tune(folder, NULL, "reducing_gap=0.5", "run"), NPOS_INVALID_ARGUMENT,
                "reducing_gap: 0.5, expected 0");
    CHECK_OK(tune(folder, "smaller", "reducing_gap=2", "run"));
    CHECK_OK(tune(folder, NULL, "reducing_gap=2", "images"));
    CHECK_OK(tune(folder, NULL, NULL, "exact"));
    if (!on_gpu())
        assert_same_tuning(folder, "run", "images");
    char command[1500];
    snprintf(command, sizeof command,
             "cmp -s '%s/run/model.safetensors' '%s/exact/model.safetensors'", folder, folder);
    assert_int_not_equal(system(command), 0);
    check_remove(folder);
}

/* The score of one file by npos_score. */
static double score_file(const char *run, const char *file) {
    char *text = NULL;
    size_t size;
    npos_score_options options;
    npos_score_options_init(&options);
    options.compute.device = check_device();
    options.compute.precision = check_precision();
    options.run = run;
    options.files = &file;
    options.file_count = 1;
    options.out = open_memstream(&text, &size);
    CHECK_OK(npos_score(&options));
    fclose(options.out);
    json_t *line = json_loads(text, 0, NULL);
    double score = json_real_value(json_object_get(line, "score"));
    json_decref(line);
    free(text);
    return score;
}

/* What evaluation and npos score see of a run is decoded as its training images were. */
static void a_run_keeps_its_decoding(void **state) {
    (void)state;
    char folder[512], run[600], data[600];
    double first[2];
    prepare_jpegs(folder, sizeof folder);
    snprintf(data, sizeof data, "%s/jpegs", folder);
    CHECK_OK(tune(folder, NULL, "reducing_gap=2", "a"));
    for (int whole = 0; whole < 2; whole++) {
        npi_fitted fitted;
        npi_images images;
        npi_features features;
        npos_compute quiet = {.device = check_device(), .precision = check_precision()};
        snprintf(run, sizeof run, "%s/a", folder);
        CHECK_OK(npi_fitted_open(run, &quiet, "mcm", false, &fitted));
        assert_true(fitted.run->transform.reducing_gap == 2);
        if (whole) /* as if it had been forgotten */
            fitted.run->transform.reducing_gap = 0;
        CHECK_OK(npi_fitted_features(&fitted, &quiet, "embed", data, 0, 0, &images, &features));
        double scores[FILES];
        npi_outputs outputs = npi_outputs_of(&features);
        CHECK_OK(npi_detector_score(&fitted.detectors[0], &outputs, scores));
        first[whole] = scores[0];
        npi_features_clear(&features);
        npi_images_clear(&images);
        npi_fitted_close(&fitted);
    }
    double alone = score_file(run, check_path(folder, "jpegs/0/00.jpg"));
    assert_true(on_gpu() ? fabs(alone - first[0]) < 2e-2 : alone == first[0]);
    assert_true(first[0] != first[1]);
    check_remove(folder);
}

/* A zero-shot run is told by --set. */
static void an_imported_run_keeps_it_too(void **state) {
    (void)state;
    char folder[512];
    prepare_jpegs(folder, sizeof folder);
    const tuning *j = make_tuning(folder, "hf", "zero");
    npos_train_options options;
    npi_fitted fitted;
    npos_compute quiet = {.device = check_device(), .precision = check_precision()};
    const char *setting = "reducing_gap=2";
    npos_train_options_init(&options);
    options.compute = j->options.compute;
    options.init = j->clip;
    options.text = j->text;
    options.out = j->out;
    options.set = &setting;
    options.set_count = 1;
    CHECK_OK(npos_import(&options));
    CHECK_OK(npi_fitted_open(j->out, &quiet, "mcm", false, &fitted));
    assert_true(fitted.run->transform.reducing_gap == 2);
    npi_fitted_close(&fitted);
    check_remove(folder);
}

static void training_from_scratch_wants_whole_images(void **state) {
    (void)state;
    npi_recipe r;
    CHECK_OK(npi_recipe_load("imagenet100", &r));
    CHECK_OK(npi_recipe_set(&r, "reducing_gap=2"));
    CHECK_FAILS(npi_recipe_check(&r), NPOS_INVALID_ARGUMENT, "reducing_gap: 2 with method 'npos'");
    npi_recipe_clear(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_store_says_how_its_images_were_decoded),
        cmocka_unit_test(stores_of_other_pixels_are_refused),
        cmocka_unit_test(a_run_keeps_its_decoding),
        cmocka_unit_test(an_imported_run_keeps_it_too),
        cmocka_unit_test(training_from_scratch_wants_whole_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
