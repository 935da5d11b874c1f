/* A zero-shot run of a tiny CLIP model beside transformers (tests/golden/make_zero_shot.py): embeddings,
 * cosines, MCM; what one image scores does not depend on the others; what does not fit is named. */
#include <math.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "devices/golden.h"
#include "io/safetensors.h"
#include "jobs/clip_file.h"
#include "jobs/fitted.h"
#include "jobs/model_file.h"
#include "npos/npos.h"
#include "report/evaluation_json.h"

enum { IMAGES = 6, CLASSES = 3, DIM = 24, SIDE = 12 };

typedef struct files {
    char *folder, clip[900], images[900], text[600], run[600];
} files;

static files make_files(void) {
    files f = {.folder = check_folder()};
    char classes[600];
    npos_text_options options;
    snprintf(f.clip, sizeof f.clip, "%.700s/tests/golden/clip/words", check_source());
    snprintf(f.images, sizeof f.images, "%.700s/tests/golden/clip/zero_shot_images.npy",
             check_source());
    snprintf(f.text, sizeof f.text, "%s/t.safetensors", f.folder);
    snprintf(f.run, sizeof f.run, "%s/run", f.folder);
    snprintf(classes, sizeof classes, "%s/classes", f.folder);
    const char *list = "0\tcat\n1\tSnow leopard\n2\tcafé\n",
               *templates = "a photo of a {}.\nthe {}\n";
    CHECK_OK(npi_file_write(classes, list, strlen(list)));
    CHECK_OK(npi_file_write(check_path(f.folder, "templates"), templates, strlen(templates)));
    npos_text_options_init(&options);
    options.compute.device = "cpu";
    options.clip = f.clip;
    options.classes = classes;
    options.templates = check_path(f.folder, "templates");
    options.out = f.text;
    CHECK_OK(npos_text(&options));
    return f;
}

static npos_status import(const files *f, const char *data) {
    npos_train_options options;
    npos_train_options_init(&options);
    options.compute.device = "cpu";
    options.compute.precision = "fp32";
    options.init = f->clip;
    options.text = f->text;
    options.out = f->run;
    options.data = data;
    return npos_import(&options);
}

/* Detectors point into *out: it is not to be copied. */
static void open_run(const files *f, const char *device, const char *scores, bool with_bank,
                     npi_fitted *out) {
    npos_compute compute = {.device = device, .precision = "fp32", .threads = 2};
    CHECK_OK(npi_fitted_open(f->run, &compute, scores, with_bank, out));
}

static npi_npy read_golden(const char *name) {
    char path[900];
    npi_npy array;
    snprintf(path, sizeof path, "%.700s/tests/golden/clip/zero_shot_%s.npy", check_source(), name);
    CHECK_OK(npi_npy_read(path, &array));
    return array;
}

static void near(const char *name, const float *seen, double tolerance) {
    npi_npy golden = read_golden(name);
    golden_compare(name, golden, seen, tolerance);
    npi_npy_clear(&golden);
}

static void agrees_with_transformers(void **state) {
    (void)state;
    static const char *const devices[] = {"reference", "cpu"};
    files f = make_files();
    CHECK_OK(import(&f, NULL));
    npi_npy pixels = read_golden("images"), mcm = read_golden("mcm");
    for (int d = 0; d < 2; d++) {
        npi_fitted fitted;
        open_run(&f, devices[d], "mcm,maxlogit,energy", true, &fitted);
        npos_compute quiet = {.device = devices[d]};
        npi_features all = {0};
        double scores[IMAGES];
        assert_null(fitted.bank);
        CHECK_OK(npi_run_features(fitted.run, pixels.data, IMAGES, &quiet, "embed", &all));
        assert_int_equal(all.dim, DIM);
        assert_null(all.phi);
        near("h", all.h, 2e-5);
        near("cosines", all.logits, 1e-5);
        npi_outputs outputs = npi_outputs_of(&all);
        CHECK_OK(npi_detector_score(&fitted.detectors[0], &outputs, scores));
        for (int i = 0; i < IMAGES; i++) {
            double expected = ((double *)mcm.data)[i];
            npi_features one = {0};
            assert_true(fabs(scores[i] - expected) <= 1e-6);
            CHECK_OK(npi_run_features(fitted.run, (uint8_t *)pixels.data + i * SIDE * SIDE * 3, 1,
                                      &quiet, "embed", &one));
            assert_memory_equal(one.h, all.h + i * DIM, DIM * sizeof(float));
            assert_memory_equal(one.logits, all.logits + i * CLASSES, CLASSES * sizeof(float));
            npi_features_clear(&one);
        }
        npi_features_clear(&all);
        npi_fitted_close(&fitted);
    }
    npi_npy_clear(&pixels);
    npi_npy_clear(&mcm);
    check_remove(f.folder);
}

/* The images with labels: those of the nearest direction for four of them, another for two. */
static const char *labelled_images(const files *f) {
    npi_npy pixels = read_golden("images"), cosines = read_golden("cosines");
    int64_t labels[IMAGES];
    for (int i = 0; i < IMAGES; i++) {
        const double *row = (double *)cosines.data + i * CLASSES;
        int best = row[1] > row[0] ? 1 : 0;
        best = row[2] > row[best] ? 2 : best;
        labels[i] = i < 4 ? best : (best + 1) % CLASSES;
    }
    CHECK_OK(npi_npy_write(check_path(f->folder, "set.npy"), NPI_U8, 4,
                           (int64_t[]){IMAGES, SIDE, SIDE, 3}, pixels.data));
    CHECK_OK(npi_npy_write(check_path(f->folder, "set_labels.npy"), NPI_I64, 1, (int64_t[]){IMAGES},
                           labels));
    npi_npy_clear(&pixels);
    npi_npy_clear(&cosines);
    static char path[600];
    snprintf(path, sizeof path, "%s/set.npy", f->folder);
    return path;
}

static void eval_measures_what_the_model_has(void **state) {
    (void)state;
    files f = make_files();
    char ood[1000];
    const char *list[1] = {ood}, *labelled = labelled_images(&f);
    npos_eval_options options;
    npi_evaluation evaluation;
    snprintf(ood, sizeof ood, "same=%s", f.images);
    CHECK_OK(import(&f, labelled));
    npos_eval_options_init(&options);
    options.compute.device = "cpu";
    options.compute.precision = "fp32";
    options.run = f.run;
    options.id = labelled;
    options.ood = list;
    options.ood_count = 1;
    CHECK_OK(npos_eval(&options));
    CHECK_OK(npi_evaluation_read(check_path(f.run, "eval.json"), &evaluation));
    assert_int_equal(evaluation.results, 1);
    assert_string_equal(evaluation.result[0].score, "mcm");
    assert_true(fabs(evaluation.result[0].accuracy.text - 4.0 / 6) < 1e-9);
    assert_true(evaluation.result[0].accuracy.knn >= 0);
    assert_true(evaluation.result[0].accuracy.head < 0);
    assert_true(fabs(evaluation.result[0].set[0].measures.auroc - 0.5) < 1e-9);
    npi_evaluation_clear(&evaluation);
    options.scores = "all";
    CHECK_OK(npos_eval(&options));
    CHECK_OK(npi_evaluation_read(check_path(f.run, "eval.json"), &evaluation));
    assert_true(evaluation.results >= 6); /* knn, msp, maxlogit, energy, gen, mcm, ... */
    npi_evaluation_clear(&evaluation);
    options.scores = "react";
    CHECK_FAILS(npos_eval(&options), NPOS_INVALID_ARGUMENT, "a classifier's weights");
    check_remove(f.folder);
}

/* A calibration rewrites the model: it must stay what it was. */
static void calibration_keeps_the_model(void **state) {
    (void)state;
    files f = make_files();
    npos_calibrate_options options;
    CHECK_OK(import(&f, NULL));
    npos_calibrate_options_init(&options);
    options.compute.device = "cpu";
    options.run = f.run;
    options.id = f.images;
    CHECK_OK(npos_calibrate(&options));
    npi_fitted fitted;
    open_run(&f, "cpu", NULL, false, &fitted);
    assert_string_equal(fitted.run->calibration.score, "mcm");
    assert_string_equal(fitted.run->class_names[2], "2");
    npi_fitted_close(&fitted);
    check_remove(f.folder);
}

/* An outlier head beside T, as fine-tuning leaves it: phi(h) = relu(h_0 - h_1) * 2 + 0.5. */
static void a_head_is_read(void **state) {
    (void)state;
    files f = make_files();
    npi_safetensors *file;
    npi_npy pixels = read_golden("images"), h = read_golden("h");
    float first[DIM] = {1, -1}, zero = 0, two = 2, half = 0.5f;
    CHECK_OK(import(&f, NULL));
    const char *path = check_path(f.run, "model.safetensors");
    CHECK_OK(npi_safetensors_open(path, &file));
    npi_named_tensor tensors[5] = {{"phi.0.weight", NPI_F32, 2, {1, DIM}, first},
                                   {"phi.0.bias", NPI_F32, 1, {1}, &zero},
                                   {"phi.2.weight", NPI_F32, 2, {1, 1}, &two},
                                   {"phi.2.bias", NPI_F32, 1, {1}, &half},
                                   *npi_safetensors_find(file, "text")};
    const char *metadata[] = {"classes", "[\"0\",\"1\",\"2\"]", NULL};
    CHECK_OK(npi_safetensors_write(check_path(f.folder, "model"), tensors, 5, metadata));
    npi_safetensors_close(file);
    assert_int_equal(rename(check_path(f.folder, "model"), check_path(f.run, "model.safetensors")),
                     0);
    npi_fitted fitted;
    open_run(&f, "cpu", "head", false, &fitted);
    npos_compute quiet = {.device = "cpu"};
    npi_features all = {0};
    npi_calibration calibration = {.score = "head", .threshold = 0.25, .tpr = 0.95, .n = 1};
    CHECK_OK(npi_run_set_calibration(fitted.run, &calibration));
    CHECK_OK(npi_run_features(fitted.run, pixels.data, IMAGES, &quiet, "embed", &all));
    for (int i = 0; i < IMAGES; i++) {
        const double *row = (double *)h.data + i * DIM;
        assert_true(fabs((double)all.phi[i] - (fmax(row[0] - row[1], 0) * 2 + 0.5)) < 1e-4);
    }
    npi_features_clear(&all);
    npi_fitted_close(&fitted);
    open_run(&f, "cpu", "head,mcm", false, &fitted); /* what the calibration wrote */
    assert_true(fitted.run->calibration.threshold == 0.25);
    npi_fitted_close(&fitted);
    npi_npy_clear(&pixels);
    npi_npy_clear(&h);
    check_remove(f.folder);
}

/* T with another hash, other rows, other classes. */
static void spoil_text(const files *f, const char *weights, float factor, const char *classes) {
    npi_safetensors *file;
    float rows[CLASSES * DIM];
    CHECK_OK(npi_safetensors_open(f->text, &file));
    npi_named_tensor tensor = *npi_safetensors_find(file, "text");
    for (int i = 0; i < CLASSES * DIM; i++)
        rows[i] = factor * ((const float *)tensor.data)[i];
    tensor.data = rows;
    const char *metadata[] = {
        "format",  "npos-text-1",
        "weights", weights ? weights : npi_safetensors_metadata(file, "weights"),
        "classes", classes,
        NULL};
    CHECK_OK(npi_safetensors_write(check_path(f->folder, "spoilt"), &tensor, 1, metadata));
    npi_safetensors_close(file);
    assert_int_equal(rename(check_path(f->folder, "spoilt"), f->text), 0);
}

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    static const char three[] = "[\"0\",\"1\",\"2\"]";
    files f = make_files();
    spoil_text(&f, "0123456789abcdef", 1, three);
    CHECK_FAILS(import(&f, NULL), NPOS_INVALID_ARGUMENT, "was made with other weights");
    assert_non_null(strstr(npos_error_hint(), "npos text --clip"));
    check_remove(f.folder);
    f = make_files();
    spoil_text(&f, NULL, 2, three);
    CHECK_FAILS(import(&f, NULL), NPOS_BAD_DATA, "has length 2");
    check_remove(f.folder);
    f = make_files();
    spoil_text(&f, NULL, 1, "[\"0\",\"1\"]");
    CHECK_FAILS(import(&f, NULL), NPOS_BAD_DATA, "are not 3 texts");
    check_remove(f.folder);
    f = make_files();
    spoil_text(&f, NULL, 1, "[\"a\",\"b\",\"c\"]");
    CHECK_FAILS(import(&f, labelled_images(&f)), NPOS_INVALID_ARGUMENT, "class '");
    assert_false(npi_is_folder(f.run));
    CHECK_OK(import(&f, NULL));
    CHECK_FAILS(import(&f, NULL), NPOS_INVALID_ARGUMENT, "there is a run already");
    assert_int_equal(unlink(check_path(f.run, "clip/model.safetensors")), 0);
    npi_fitted fitted;
    npos_compute compute = {.device = "cpu"};
    CHECK_FAILS(npi_fitted_open(f.run, &compute, NULL, false, &fitted), NPOS_NOT_FOUND, "run/clip");
    npi_fitted_close(&fitted);
    snprintf(f.text, sizeof f.text, "%.500s/nowhere", f.folder);
    snprintf(f.run, sizeof f.run, "%.500s/other", f.folder);
    CHECK_FAILS(import(&f, NULL), NPOS_NOT_FOUND, "nowhere");
    check_remove(f.folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_transformers),
        cmocka_unit_test(eval_measures_what_the_model_has),
        cmocka_unit_test(calibration_keeps_the_model),
        cmocka_unit_test(a_head_is_read),
        cmocka_unit_test(what_does_not_fit_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
