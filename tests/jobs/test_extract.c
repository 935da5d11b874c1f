/* npos_extract on tiny CLIP models (tests/golden/make_clip.py): the tokens finish to what the whole tower
 * says, do not depend on the batch, and a stopped extraction ends as an undisturbed one. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "devices/golden.h"
#include "io/token_store.h"
#include "jobs/clip_images.h"
#include "npos/npos.h"

enum { IMAGES = 300, HEIGHT = 15, WIDTH = 20, SIDE = 12, ROWS = 10, TOKENS = 32, PROJECTION = 24 };

typedef struct job {
    char *folder, clip[900], data[600], out[600];
    npos_extract_options options;
} job;

static void write_images(const char *folder) {
    uint8_t *pixels;
    int64_t labels[IMAGES];
    CHECK_OK(npi_alloc(&pixels, IMAGES * HEIGHT * WIDTH * 3, 1, "test images"));
    for (int i = 0; i < IMAGES; i++) {
        labels[i] = i % 2;
        for (int j = 0; j < HEIGHT * WIDTH * 3; j++)
            pixels[i * HEIGHT * WIDTH * 3 + j] = (uint8_t)((i * 37 + j * (5 + i % 7)) % 251);
    }
    CHECK_OK(npi_npy_write(check_path(folder, "set.npy"), NPI_U8, 4,
                           (int64_t[]){IMAGES, HEIGHT, WIDTH, 3}, pixels));
    CHECK_OK(npi_npy_write(check_path(folder, "set_labels.npy"), NPI_I64, 1, (int64_t[]){IMAGES},
                           labels));
    npi_free(pixels);
}

static job *make_job(char *folder, const char *device, const char *out) {
    static job jobs[2];
    static int turn;
    job *j = &jobs[turn++ % 2];
    j->folder = folder;
    snprintf(j->clip, sizeof j->clip, "%.800s/tests/golden/clip/hf", check_source());
    snprintf(j->data, sizeof j->data, "%s/set.npy", folder);
    snprintf(j->out, sizeof j->out, "%s/%s", folder, out);
    npos_extract_options_init(&j->options);
    j->options.compute.device = device;
    j->options.compute.threads = 2;
    j->options.clip = j->clip;
    j->options.data = j->data;
    j->options.out = j->out;
    j->options.block = 1;
    return j;
}

/* h of image i through the whole tower. */
static void embed_image(npi_clip_encoder *encoder, const npi_images *images, int i, float *host) {
    npi_device *dev = encoder->clip.dev;
    npi_act act;
    float *h = golden_alloc(dev, NULL, PROJECTION * sizeof *h);
    CHECK_OK(npi_clip_encoder_put(encoder, images->pixels + (size_t)i * SIDE * SIDE * 3, 1, &act));
    CHECK_OK(npi_clip_images_embed(encoder->plan, act, h));
    CHECK_OK(dev->memory->download(dev, host, h, PROJECTION * sizeof *h));
    dev->memory->free(dev, h);
}

static void finish_image(npi_clip_encoder *encoder, const uint16_t *halves, float *host) {
    npi_device *dev = encoder->clip.dev;
    npi_tokens tokens = {1, ROWS, TOKENS, NULL};
    uint16_t *on = golden_alloc(dev, halves, ROWS * TOKENS * sizeof *halves);
    float *h = golden_alloc(dev, NULL, PROJECTION * sizeof *h);
    tokens.data = golden_alloc(dev, NULL, dev->tokens->bytes(dev, 1, ROWS, TOKENS));
    CHECK_OK(dev->tokens->import_halves(dev, on, NULL, tokens));
    CHECK_OK(npi_clip_images_finish(encoder->plan, tokens, 1, h));
    CHECK_OK(dev->memory->download(dev, host, h, PROJECTION * sizeof *h));
    dev->memory->free(dev, tokens.data);
    dev->memory->free(dev, h);
    dev->memory->free(dev, on);
}

static void tokens_finish_to_embeddings(void **state) {
    (void)state;
    static const char *const devices[] = {"reference", "cpu"};
    char *folder = check_folder();
    write_images(folder);
    for (int d = 0; d < 2; d++) {
        job *j = make_job(folder, devices[d], devices[d]);
        npi_device *dev;
        npi_clip_encoder encoder;
        npi_images images;
        npi_token_store *store;
        uint64_t hash;
        CHECK_OK(npos_extract(&j->options));
        CHECK_OK(npi_token_store_open(j->out, &store));
        const npi_token_info *info = npi_token_store_info(store);
        CHECK_OK(npi_clip_hash(j->clip, &hash));
        assert_true(info->model == hash);
        assert_int_equal(info->images, IMAGES);
        assert_int_equal(info->block, 1);
        assert_int_equal(info->rows, ROWS);
        assert_int_equal(info->width, TOKENS);
        assert_int_equal(info->labels[3], 1);
        assert_string_equal(info->transform,
                            "short side 12 bicubic, centre crop, 3 channels, mean 0.4814547 "
                            "0.4578275 0.4082107, std 0.2686296 0.2613026 0.2757771");
        CHECK_OK(npi_device_open(devices[d], NPI_PRECISION_FP32, 1, &dev));
        CHECK_OK(npi_clip_encoder_open(dev, j->clip, 2, &encoder));
        CHECK_OK(npi_images_load(j->data, &encoder.transform, 0, 0, 1, NULL, NULL, &images));
        for (int i = 0; i < IMAGES; i += 23) {
            uint16_t halves[ROWS * TOKENS];
            float whole[PROJECTION], finished[PROJECTION];
            CHECK_OK(npi_token_store_read(store, i, halves));
            embed_image(&encoder, &images, i, whole);
            finish_image(&encoder, halves, finished);
            for (int k = 0; k < PROJECTION; k++) /* float16 holds 11 bits of numbers up to 8 */
                assert_true(fabsf(whole[k] - finished[k]) < 0.02f);
        }
        npi_images_clear(&images);
        npi_clip_encoder_close(&encoder);
        npi_device_close(dev);
        npi_token_store_close(store);
    }
    check_remove(folder);
}

static void assert_same_store(const char *folder, const char *a, const char *b) {
    char command[1500];
    snprintf(command, sizeof command, "diff -r '%s/%s' '%s/%s'", folder, a, folder, b);
    assert_int_equal(system(command), 0);
}

static void tokens_do_not_depend_on_the_batch(void **state) {
    (void)state;
    char *folder = check_folder();
    write_images(folder);
    CHECK_OK(npos_extract(&make_job(folder, "cpu", "a")->options));
    job *j = make_job(folder, "cpu", "b");
    j->options.batch = 7;
    j->options.compute.threads = 1;
    CHECK_OK(npos_extract(&j->options));
    assert_same_store(folder, "a", "b");
    check_remove(folder);
}

/* Asks to stop once `at` images are done. */
static int stop_at(void *context, const char *phase, int64_t done, int64_t total,
                   const char *text) {
    (void)text;
    assert_string_equal(phase, "extract");
    assert_int_equal(total, IMAGES);
    return done >= *(const int64_t *)context;
}

static int signal_at(void *context, const char *phase, int64_t done, int64_t total,
                     const char *text) {
    if (stop_at(context, phase, done, total, text) && done < total)
        raise(SIGINT);
    return 0;
}

static void a_stopped_extraction_goes_on(void **state) {
    (void)state;
    static const int64_t stops[] = {0, 32, 260, 270};
    char *folder = check_folder();
    write_images(folder);
    CHECK_OK(npos_extract(&make_job(folder, "cpu", "whole")->options));
    for (int i = 0; i < 8; i++) {
        char name[16];
        snprintf(name, sizeof name, "run%d", i);
        job *j = make_job(folder, "cpu", name);
        j->options.compute.progress = i % 2 ? signal_at : stop_at;
        j->options.compute.progress_context = (void *)(uintptr_t)&stops[i / 2];
        CHECK_FAILS(npos_extract(&j->options), NPOS_INTERRUPTED, "extract: stopped at");
        assert_non_null(strstr(npos_error_hint(), "--resume"));
        j->options.compute.progress = NULL;
        CHECK_FAILS(npos_extract(&j->options), NPOS_INVALID_ARGUMENT, "there is one already");
        j->options.resume = 1;
        CHECK_OK(npos_extract(&j->options));
        assert_same_store(folder, "whole", name);
        CHECK_OK(npos_extract(&j->options)); /* nothing is left to do */
    }
    check_remove(folder);
}

static void a_chunk_that_was_deleted_is_made_again(void **state) {
    (void)state;
    char *folder = check_folder();
    write_images(folder);
    CHECK_OK(npos_extract(&make_job(folder, "cpu", "whole")->options));
    job *j = make_job(folder, "cpu", "b");
    CHECK_OK(npos_extract(&j->options));
    assert_int_equal(unlink(check_path(folder, "b/00000.tok")), 0);
    j->options.resume = 1;
    CHECK_OK(npos_extract(&j->options));
    assert_same_store(folder, "whole", "b");
    j->options.block = 0;
    CHECK_FAILS(npos_extract(&j->options), NPOS_INVALID_ARGUMENT, "'block' is 1 there");
    check_remove(folder);
}

/* The last chunk is written behind all that is computed: its error ends the extraction, which says how to go on. */
static void a_chunk_that_cannot_be_written_is_told(void **state) {
    (void)state;
    char *folder = check_folder();
    write_images(folder);
    CHECK_OK(npos_extract(&make_job(folder, "cpu", "whole")->options));
    job *j = make_job(folder, "cpu", "b");
    CHECK_OK(npi_make_folders(check_path(folder, "b/00001.tok")));
    CHECK_FAILS(npos_extract(&j->options), NPOS_IO, "00001.tok: cannot write: is a folder");
    const char *hint = strstr(npos_error_hint(), "--resume");
    assert_true(hint && !strstr(hint + 1, "--resume"));
    assert_int_equal(rmdir(check_path(folder, "b/00001.tok")), 0);
    j->options.resume = 1;
    CHECK_OK(npos_extract(&j->options));
    assert_same_store(folder, "whole", "b");
    check_remove(folder);
}

/* A copy of the tiny model whose tensor `name` is filled with `value`. */
static void spoil(job *j, const char *name, float value) {
    char path[1200], config[1200], *text;
    size_t size;
    npi_safetensors *file;
    npi_named_tensor tensors[128];
    float values[1024];
    snprintf(path, sizeof path, "%s/model.safetensors", j->clip);
    snprintf(config, sizeof config, "%s/config.json", j->clip);
    CHECK_OK(npi_safetensors_open(path, &file));
    int count = npi_safetensors_count(file);
    assert_true(count <= 128);
    for (int i = 0; i < count; i++) {
        tensors[i] = *npi_safetensors_at(file, i);
        if (strcmp(tensors[i].name, name) == 0) {
            for (int64_t k = 0; k < tensors[i].shape[0]; k++)
                values[k] = value;
            tensors[i].data = values;
        }
    }
    CHECK_OK(npi_make_folders(check_path(j->folder, "spoilt")));
    CHECK_OK(npi_safetensors_write(check_path(j->folder, "spoilt/model.safetensors"), tensors,
                                   count, NULL));
    npi_safetensors_close(file);
    CHECK_OK(npi_file_read(config, &text, &size));
    CHECK_OK(npi_file_write(check_path(j->folder, "spoilt/config.json"), text, size));
    npi_free(text);
    snprintf(j->clip, sizeof j->clip, "%s/spoilt", j->folder);
}

static void wrong_input_is_named(void **state) {
    (void)state;
    char *folder = check_folder();
    write_images(folder);
    job *j = make_job(folder, "cpu", "run");
    j->options.block = 2;
    CHECK_FAILS(npos_extract(&j->options), NPOS_INVALID_ARGUMENT, "blocks 0 to 1");
    j->options.block = 1;
    j->options.batch = -1;
    CHECK_FAILS(npos_extract(&j->options), NPOS_INVALID_ARGUMENT, "batch -1");
    j->options.batch = 0;
    j->options.data = NULL;
    CHECK_FAILS(npos_extract(&j->options), NPOS_INVALID_ARGUMENT, "'data' is missing");
    j->options.data = j->data;
    assert_false(npi_is_folder(j->out));
    spoil(j, "vision_model.pre_layrnorm.bias", 1e6f);
    CHECK_FAILS(npos_extract(&j->options), NPOS_NOT_FINITE, "set.npy[0]: token 0 of block 1");
    snprintf(j->clip, sizeof j->clip, "%.800s/tests/golden/clip/hf", check_source());
    j->options.resume = 1;
    CHECK_FAILS(npos_extract(&j->options), NPOS_INVALID_ARGUMENT, "'model'");
    check_remove(folder);
}

/* What a model's files say of its pixels. */
static void statistics_are_the_models(void **state) {
    (void)state;
    static const struct {
        const char *name, *text;
        npos_status status;
        const char *message;
    } files[] = {
        {"preprocessor_config.json", "{\"image_mean\": [0.1, 0.2, 0.3], \"resample\": 3}", NPOS_OK,
         "mean 0.1 0.2 0.3"},
        {"preprocessor_config.json", "{\"resample\": 2}", NPOS_UNSUPPORTED, "'resample' is 2"},
        {"preprocessor_config.json", "{\"image_std\": [0.1, 0, 0.3]}", NPOS_BAD_DATA,
         "'image_std'"},
        {"preprocessor_config.json", "{\"image_mean\": [0.1]}", NPOS_BAD_DATA, "'image_mean'"},
        {"preprocessor_config.json", "[", NPOS_BAD_DATA, "no JSON object"},
        {"open_clip_config.json", "{\"preprocess_cfg\": {\"resize_mode\": \"squash\"}}",
         NPOS_UNSUPPORTED, "'resize_mode' is 'squash'"},
        {"open_clip_config.json", "{\"preprocess_cfg\": {\"interpolation\": \"bilinear\"}}",
         NPOS_UNSUPPORTED, "'interpolation'"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *folder = check_folder();
        npi_device *dev;
        npi_clip_encoder encoder;
        job *j = make_job(folder, "cpu", "run");
        spoil(j, "none", 0);
        CHECK_OK(npi_file_write(check_path(j->clip, files[i].name), files[i].text,
                                strlen(files[i].text)));
        CHECK_OK(npi_device_open("cpu", NPI_PRECISION_FP32, 1, &dev));
        if (files[i].status == NPOS_OK) {
            CHECK_OK(npi_clip_encoder_open(dev, j->clip, 1, &encoder));
            assert_true(encoder.normalise.mean[1] == 0.2f);
            assert_true(encoder.normalise.std[0] > 0.26f && encoder.normalise.std[0] < 0.27f);
        } else {
            CHECK_FAILS(npi_clip_encoder_open(dev, j->clip, 1, &encoder), files[i].status,
                        files[i].message);
        }
        npi_clip_encoder_close(&encoder);
        npi_device_close(dev);
        check_remove(folder);
    }
}

/* The store lists what was left out, and goes on as it was begun. */
static void broken_images_are_left_out(void **state) {
    (void)state;
    char folder[512], path[700], text[2000];
    snprintf(folder, sizeof folder, "%s", check_folder());
    for (int i = 0; i < 3; i++) {
        int head = snprintf(text, sizeof text, "P6 %d %d 255\n", SIDE, SIDE);
        memset(text + head, 40 * i + 1, SIDE * SIDE * 3);
        snprintf(path, sizeof path, "%s/set/%d.ppm", folder, i);
        CHECK_OK(npi_make_folders(check_path(folder, "set")));
        CHECK_OK(npi_file_write(path, text, (size_t)head + (i == 1 ? 7 : SIDE * SIDE * 3)));
    }
    job *j = make_job(folder, "cpu", "store");
    snprintf(j->data, sizeof j->data, "%s/set", folder);
    CHECK_FAILS(npos_extract(&j->options), NPOS_BAD_DATA, "1.ppm: the file is truncated");
    snprintf(j->out, sizeof j->out, "%s/left", folder);
    j->options.compute.skip_broken = 1;
    CHECK_OK(npos_extract(&j->options));
    npi_token_store *store;
    CHECK_OK(npi_token_store_open(j->out, &store));
    assert_int_equal(npi_token_store_info(store)->images, 2);
    npi_token_store_close(store);
    char *index;
    size_t size;
    CHECK_OK(npi_file_read(check_path(folder, "left/index.json"), &index, &size));
    const char *told = strstr(index, "\"skipped\"");
    assert_true(told && strstr(told, "\"1.ppm\"") && !strstr(told, "\"0.ppm\""));
    npi_free(index);
    assert_int_equal(unlink(check_path(folder, "left/00000.tok")), 0);
    j->options.resume = 1;
    CHECK_OK(npos_extract(&j->options));
    CHECK_OK(npi_token_store_open(j->out, &store));
    npi_token_store_close(store);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_finish_to_embeddings),
        cmocka_unit_test(tokens_do_not_depend_on_the_batch),
        cmocka_unit_test(a_stopped_extraction_goes_on),
        cmocka_unit_test(a_chunk_that_was_deleted_is_made_again),
        cmocka_unit_test(a_chunk_that_cannot_be_written_is_told),
        cmocka_unit_test(wrong_input_is_named),
        cmocka_unit_test(broken_images_are_left_out),
        cmocka_unit_test(statistics_are_the_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
