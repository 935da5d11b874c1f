/* Runs that leave their training embeddings behind: what they score, what they keep, what they lose. */
#include <jansson.h>
#include <unistd.h>

#include "io/pt_file.h"
#include "io/safetensors.h"
#include "tiny_run.h"

static char *folder, data[600];

static const char *at(const char *name) {
    return check_path(folder, name);
}

/* Two paths at once. */
static void name_of(char *to, size_t size, const char *name) {
    snprintf(to, size, "%s", at(name));
}

static npos_status export_run(const char *from, const char *to, const char *detector, int64_t size,
                              bool measured) {
    npos_export_options options;
    char run[600], out[600], ood[700];
    npos_export_options_init(&options);
    options.compute.device = check_device();
    options.compute.threads = 1;
    name_of(run, sizeof run, from);
    name_of(out, sizeof out, to);
    snprintf(ood, sizeof ood, "far/other=%s", at("other/set.npy"));
    options.run = run;
    options.out = out;
    options.detector = detector;
    options.size = size;
    options.id = measured ? data : NULL;
    options.ood = (const char *const[]){ood};
    options.ood_count = measured;
    return npos_export(&options);
}

static json_t *json_of(const char *name) {
    json_t *root = json_load_file(at(name), 0, NULL);
    assert_non_null(root);
    return root;
}

/* results[0].ood[0] of an evaluation of the run under its own score. */
static void evaluate(const char *name, double *fpr95, double *auroc) {
    npos_eval_options options;
    char run[600], ood[700], json[600];
    npos_eval_options_init(&options);
    options.compute.device = check_device();
    options.compute.threads = 1;
    name_of(run, sizeof run, name);
    snprintf(ood, sizeof ood, "far/other=%s", at("other/set.npy"));
    name_of(json, sizeof json, "out.json");
    options.run = run;
    options.id = data;
    options.ood = (const char *const[]){ood};
    options.ood_count = 1;
    options.json = json;
    CHECK_OK(npos_eval(&options));
    json_t *root = json_of("out.json");
    json_t *set = json_array_get(
        json_object_get(json_array_get(json_object_get(root, "results"), 0), "ood"), 0);
    *fpr95 = json_number_value(json_object_get(set, "fpr95"));
    *auroc = json_number_value(json_object_get(set, "auroc"));
    json_decref(root);
}

static npos_status calibrate(const char *name, const char *score) {
    npos_calibrate_options options;
    char run[600], id[600];
    npos_calibrate_options_init(&options);
    options.compute.device = check_device();
    options.compute.threads = 1;
    name_of(run, sizeof run, name);
    name_of(id, sizeof id, "held/set.npy");
    options.run = run;
    options.id = id;
    options.score = score;
    return npos_calibrate(&options);
}

static int64_t rows_of(const char *name) {
    npi_safetensors *file;
    const npi_named_tensor *h;
    CHECK_OK(npi_safetensors_open(at(name), &file));
    CHECK_OK(npi_safetensors_get(file, "embeddings", NPI_F32, 2, (int64_t[]){-1, -1}, &h));
    int64_t rows = h->shape[0];
    npi_safetensors_close(file);
    return rows;
}

static bool calibrated(const char *name) {
    npi_safetensors *file;
    CHECK_OK(npi_safetensors_open(at(name), &file));
    bool has = npi_safetensors_metadata(file, "calibration") != NULL;
    npi_safetensors_close(file);
    return has;
}

static int setup(void **state) {
    (void)state;
    folder = prepare();
    snprintf(data, sizeof data, "%s/set.npy", folder);
    CHECK_OK(npi_make_folders(at("other")));
    CHECK_OK(npi_make_folders(at("held")));
    char place[600];
    name_of(place, sizeof place, "held");
    write_images(place, 60, CLASSES, 23);
    name_of(place, sizeof place, "other");
    write_images(place, 50, 2, 41);
    train_whole(folder, "run");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

/* The figures in the manifest are those of an evaluation of either run. */
static void coreset(void **state) {
    (void)state;
    double own[2], deployed[2];
    CHECK_OK(calibrate("run", "knn"));
    CHECK_OK(export_run("run", "core", "coreset", 12, true));
    assert_int_equal(rows_of("core/bank.safetensors"), 12);
    assert_int_equal(rows_of("run/bank.safetensors"), IMAGES);
    evaluate("run", &own[0], &own[1]);
    evaluate("core", &deployed[0], &deployed[1]);
    json_t *root = json_of("core/manifest.json"), *export = json_object_get(root, "export"),
           *loss = json_object_get(export, "loss"),
           *set = json_array_get(json_object_get(loss, "ood"), 0);
    assert_string_equal(json_string_value(json_object_get(export, "score")), "knn");
    assert_int_equal(json_integer_value(json_object_get(export, "rows")), 12);
    assert_int_equal(json_integer_value(json_object_get(export, "of")), IMAGES);
    assert_int_equal(json_integer_value(json_object_get(export, "knn_k")), 2); /* 5 2 12/66 */
    for (size_t i = 0; i < 2; i++) {
        json_t *pair = json_object_get(set, i ? "auroc" : "fpr95");
        assert_true(json_number_value(json_array_get(pair, 0)) == own[i]);
        assert_true(json_number_value(json_array_get(pair, 1)) == deployed[i]);
    }
    double r = json_number_value(json_object_get(loss, "rank_correlation"));
    assert_true(r > 0.5 && r <= 1);
    json_decref(root);
    /* other scores, so the threshold stays behind, and can be taken anew */
    assert_true(calibrated("run/model.safetensors"));
    assert_false(calibrated("core/model.safetensors"));
    assert_false(npi_is_file(at("core/calibration.safetensors")));
    CHECK_OK(calibrate("core", NULL));
    assert_true(calibrated("core/model.safetensors"));
}

/* What detectors keep was fitted on all training embeddings. */
static void coreset_keeps_fitted(void **state) {
    (void)state;
    npos_eval_options options;
    char run[600], ood[700];
    CHECK_OK(export_run("run", "whole", "coreset", 9, false));
    npi_safetensors *a;
    CHECK_OK(npi_safetensors_open(at("whole/detectors.safetensors"), &a));
    assert_non_null(npi_safetensors_find(a, "mahalanobis.means"));
    npi_safetensors_close(a);
    const char *runs[] = {"run", "whole"};
    for (int i = 0; i < 2; i++) {
        npos_eval_options_init(&options);
        options.compute.device = check_device();
        options.compute.threads = 1;
        name_of(run, sizeof run, runs[i]);
        snprintf(ood, sizeof ood, "other=%s", at("other/set.npy"));
        options.run = run;
        options.id = data;
        options.ood = (const char *const[]){ood};
        options.ood_count = 1;
        options.scores = "mahalanobis";
        CHECK_OK(npos_eval(&options));
    }
    assert_same_file(folder, "run/scores/mahalanobis/other.npy",
                     "whole/scores/mahalanobis/other.npy");
}

static void head(void **state) {
    (void)state;
    char *text[2];
    size_t size;
    CHECK_OK(calibrate("run", "head"));
    CHECK_OK(export_run("run", "phi", "head", 0, true));
    assert_int_equal(rows_of("phi/bank.safetensors"), 0);
    /* the same score: the threshold and the ID scores go along */
    assert_true(calibrated("phi/model.safetensors"));
    assert_same_file(folder, "run/model.safetensors", "phi/model.safetensors");
    assert_same_file(folder, "run/calibration.safetensors", "phi/calibration.safetensors");
    const char *runs[] = {"run", "phi"};
    for (int i = 0; i < 2; i++) {
        npos_score_options options;
        char run[600], image[600];
        npos_score_options_init(&options);
        options.compute.device = check_device();
        options.compute.threads = 1;
        name_of(run, sizeof run, runs[i]);
        int length = snprintf(image, sizeof image, "P5 %d %d 255\n", SIDE, SIDE);
        for (int p = 0; p < SIDE * SIDE; p++)
            image[length + p] = (char)((p * 7) % 256);
        options.run = run;
        options.score = "head";
        options.files = (const char *const[]){"-"};
        options.file_count = 1;
        options.stream = "raw";
        options.names = fmemopen(image, (size_t)length + SIDE * SIDE, "rb");
        options.out = open_memstream(&text[i], &size);
        CHECK_OK(npos_score(&options));
        assert_int_equal(fclose(options.out) | fclose(options.names), 0);
        assert_non_null(strstr(text[i], "\"verdict\":\""));
    }
    assert_string_equal(text[0], text[1]);
    free(text[0]);
    free(text[1]);
    /* another score: its threshold is not this one's */
    CHECK_OK(export_run("run", "mu", "prototype", 0, false));
    assert_false(calibrated("mu/model.safetensors"));
    json_t *root = json_of("mu/manifest.json");
    assert_true(json_is_null(json_object_get(json_object_get(root, "export"), "loss")));
    json_decref(root);
}

/* A raw stream that ends inside a frame: the whole frames before it have their lines. */
static void a_cut_stream_loses_no_frame(void **state) {
    (void)state;
    npos_score_options options;
    char run[600], frames[2 * (32 + SIDE * SIDE)] = "", *text;
    size_t size;
    npos_score_options_init(&options);
    options.compute.device = check_device();
    options.compute.threads = 1;
    name_of(run, sizeof run, "run");
    options.run = run;
    options.score = "head";
    options.files = (const char *const[]){"-"};
    options.file_count = 1;
    options.stream = "raw";
    int one = snprintf(frames, sizeof frames, "P5 %d %d 255\n", SIDE, SIDE) + SIDE * SIDE;
    memcpy(frames + one, frames, (size_t)one);
    options.names = fmemopen(frames, (size_t)(2 * one - 1), "rb");
    options.out = open_memstream(&text, &size);
    CHECK_FAILS(npos_score(&options), NPOS_BAD_DATA, "image 1: a frame of");
    assert_int_equal(fclose(options.out) | fclose(options.names), 0);
    assert_non_null(strstr(text, "\"image 0\""));
    assert_null(strstr(text, "\"image 1\""));
    free(text);
}

static void refusals(void **state) {
    (void)state;
    CHECK_OK(export_run("run", "once", "prototype", 0, false));
    CHECK_FAILS(export_run("run", "once", "prototype", 0, false), NPOS_INVALID_ARGUMENT,
                "there is a run already");
    CHECK_FAILS(export_run("run", "no", "knn", 0, false), NPOS_INVALID_ARGUMENT,
                "expected coreset or one score");
    CHECK_FAILS(export_run("run", "no", "head,prototype", 0, false), NPOS_INVALID_ARGUMENT,
                "expected coreset or one score");
    CHECK_FAILS(export_run("run", "no", "msp", 0, false), NPOS_INVALID_ARGUMENT,
                "needs a classifier");
    CHECK_FAILS(export_run("run", "no", "coreset", IMAGES + 1, false), NPOS_INVALID_ARGUMENT,
                "67 rows was asked for");
    CHECK_FAILS(export_run("run", "no", "coreset", -1, false), NPOS_INVALID_ARGUMENT, "size: -1");
    CHECK_FAILS(export_run("once", "no", "coreset", 3, false), NPOS_INVALID_ARGUMENT,
                "needs training embeddings");
    assert_false(npi_is_folder(at("no")));
    npos_export_options options;
    npos_export_options_init(&options);
    options.run = "run";
    options.out = "w.pt";
    options.size = 3;
    CHECK_FAILS(npos_export(&options), NPOS_INVALID_ARGUMENT, "belong to a detector");
}

/* ---- weights ---- */

static npos_status export_weights(const char *out, const char *to) {
    npos_export_options options;
    char run[600], path[600];
    npos_export_options_init(&options);
    name_of(run, sizeof run, "run");
    options.run = run;
    options.to = to;
    if (out) {
        name_of(path, sizeof path, out);
        options.out = path;
    }
    return npos_export(&options);
}

/* All tensors of the model with their numbers, the encoder's without "encoder.". */
static void weights_as_a_state_dict(void **state) {
    (void)state;
    npi_safetensors *model, *own;
    npi_pt *file;
    CHECK_OK(export_weights(NULL, "pt"));
    CHECK_OK(export_weights(NULL, "safetensors"));
    CHECK_OK(export_weights("named.pth", NULL));
    assert_same_file(folder, "run/weights.pt", "named.pth");
    CHECK_OK(npi_safetensors_open(at("run/model.safetensors"), &model));
    CHECK_OK(npi_safetensors_open(at("run/weights.safetensors"), &own));
    CHECK_OK(npi_pt_open(at("named.pth"), &file));
    assert_int_equal(npi_pt_count(file), npi_safetensors_count(model));
    int encoder = 0;
    for (int i = 0; i < npi_pt_count(file); i++) {
        const npi_named_tensor *expected = npi_safetensors_at(model, i), *seen = npi_pt_at(file, i);
        const char *name = expected->name;
        size_t bytes = sizeof(float);
        encoder += strncmp(name, "encoder.", 8) == 0;
        name += strncmp(name, "encoder.", 8) == 0 ? 8 : 0;
        assert_string_equal(seen->name, name);
        assert_non_null(npi_safetensors_find(own, name));
        for (int d = 0; d < seen->ndim; d++)
            bytes *= (size_t)seen->shape[d];
        CHECK_OK(npi_pt_check(file, i));
        assert_memory_equal(seen->data, expected->data, bytes);
        assert_memory_equal(npi_safetensors_find(own, name)->data, expected->data, bytes);
    }
    assert_true(encoder > 10);
    npi_pt_close(file);
    npi_safetensors_close(own);
    npi_safetensors_close(model);
    CHECK_FAILS(export_weights("named.onnx", NULL), NPOS_INVALID_ARGUMENT, "named.onnx");
    CHECK_FAILS(export_weights("named.pt", "onnx"), NPOS_INVALID_ARGUMENT, "'onnx' is not known");
    CHECK_OK(npi_make_folders(at("run/clip")));
    CHECK_FAILS(export_weights(NULL, "pt"), NPOS_UNSUPPORTED, "a run of CLIP");
    assert_int_equal(rmdir(at("run/clip")), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(coreset),  cmocka_unit_test(coreset_keeps_fitted),
        cmocka_unit_test(head),     cmocka_unit_test(a_cut_stream_loses_no_frame),
        cmocka_unit_test(refusals), cmocka_unit_test(weights_as_a_state_dict)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
