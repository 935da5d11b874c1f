/* Training on streamed images: the same weights as from memory where nothing is cropped before the
 * device, the same for any number of decoders, resume within an epoch, errors. */
#include "data/make_sets.h"

#include <signal.h>

#include "npos/npos.h"

enum { IMAGES = 60, CLASSES = 3 };

static char *folder;

static const char recipe[] =
    "name: tiny\nencoder: resnet-small\nwidth: 16\nimage_size: 12\nchannels: 3\n"
    "batch: 8\nepochs: 2\nstart_epoch: 1\nlr: 0.1\nring: 12\nk: 5\nselect: 6\npick: 2\n"
    "noise: 20\nkeep: 3\nprojection_dim: 16\nhead_dim: 8\nknn_k: 5\n";

/* Noisy images of three brightnesses and different sizes. */
static int setup(void **state) {
    (void)state;
    folder = check_folder();
    for (int i = 0; i < IMAGES; i++) {
        char name[64];
        npi_image image = make_pattern(12 + i % 5, 14 + i % 3, 3, 0);
        size_t row = (size_t)image.width * 3;
        for (size_t j = 0; j < row * (size_t)image.height; j++)
            image.pixels[j] = (uint8_t)(80 * (i % CLASSES) + image.pixels[j] % 80);
        file_bytes png = make_png(image.height, image.width, 8, PNG_COLOR_TYPE_RGB,
                                  PNG_INTERLACE_NONE, image.pixels, row);
        snprintf(name, sizeof name, "s/%c/%03d.png", 'a' + i % CLASSES, i);
        put_bytes(folder, name, png.bytes, png.size);
        npi_free(png.bytes);
        npi_image_clear(&image);
    }
    put_text(folder, "tiny.yaml", recipe);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

typedef struct job {
    npos_train_options options;
    const char *settings[4];
    char recipe[600], data[600], out[600];
} job;

static job *make_job(const char *out, int threads, const char *a, const char *b, const char *c) {
    static job kept;
    job *j = &kept;
    npos_train_options_init(&j->options);
    snprintf(j->recipe, sizeof j->recipe, "%s/tiny.yaml", folder);
    snprintf(j->data, sizeof j->data, "%s/s", folder);
    snprintf(j->out, sizeof j->out, "%s/%s", folder, out);
    j->options.recipe = j->recipe;
    j->options.data = j->data;
    j->options.out = j->out;
    j->options.compute.device = check_device();
    j->options.compute.precision = check_precision();
    j->options.compute.threads = threads;
    j->settings[0] = a;
    j->settings[1] = b;
    j->settings[2] = c;
    j->options.set = j->settings;
    j->options.set_count = c ? 3 : b ? 2 : 1;
    return j;
}

static bool same_file(const char *a, const char *b, const char *name) {
    char *x, *y, path[600];
    size_t nx, ny;
    snprintf(path, sizeof path, "%s/%s/%s", folder, a, name);
    CHECK_OK(npi_file_read(path, &x, &nx));
    snprintf(path, sizeof path, "%s/%s/%s", folder, b, name);
    CHECK_OK(npi_file_read(path, &y, &ny));
    bool same = nx == ny && memcmp(x, y, nx) == 0;
    npi_free(x);
    npi_free(y);
    return same;
}

static void assert_same_run(const char *a, const char *b) {
    assert_true(same_file(a, b, "model.safetensors"));
    assert_true(same_file(a, b, "bank.safetensors"));
}

static void train(const char *out, int threads, const char *a, const char *b, const char *c) {
    CHECK_OK(npos_train(&make_job(out, threads, a, b, c)->options));
}

/* The flip is drawn for the same item, a padded crop is the device's: the bits are memory's. */
static void what_the_device_crops_is_memory_bit_for_bit(void **state) {
    (void)state;
    static const char *const augments[] = {"augment=none", "augment=pad-crop"};
    for (int i = 0; i < 2; i++) {
        char memory[16], stream[16];
        snprintf(memory, sizeof memory, "memory%d", i);
        snprintf(stream, sizeof stream, "stream%d", i);
        train(memory, 1, augments[i], "loading=memory", "flip_p=0.5");
        train(stream, 3, augments[i], "loading=stream", "flip_p=0.5");
        assert_same_run(memory, stream);
    }
    assert_false(same_file("memory0", "memory1", "model.safetensors"));
}

/* Square images of the encoder's size, whole areas: each crop is the whole image, and the flips,
 * colours and greys that follow are drawn for the same items. */
static void whole_crops_are_memory_bit_for_bit(void **state) {
    (void)state;
    for (int i = 0; i < IMAGES; i++) {
        char name[64];
        snprintf(name, sizeof name, "s/%c/%03d.png", 'a' + i % CLASSES, i);
        put_png(folder, name, 12, 3, 80 * (i % CLASSES) + i);
    }
    train("memory", 1, "crop_lo=1", "loading=memory", NULL);
    train("stream", 2, "crop_lo=1", "loading=stream", NULL);
    assert_same_run("memory", "stream");
}

static void decoders_do_not_change_the_weights(void **state) {
    (void)state;
    train("one", 1, "loading=stream", "crop_filter=bicubic", NULL);
    train("three", 3, "loading=stream", "crop_filter=bicubic", NULL);
    assert_same_run("one", "three");
    train("linear", 3, "loading=stream", "crop_filter=bilinear", NULL);
    assert_false(same_file("one", "linear", "model.safetensors"));
    train("auto", 2, "crop_filter=bicubic", "loading=auto", NULL);
    assert_same_run("one", "auto");
}

static void one_view_of_a_classifier(void **state) {
    (void)state;
    train("memory", 1, "method=ce", "views=1", "augment=none");
    job *j = make_job("stream", 2, "method=ce", "views=1", "augment=none");
    j->settings[3] = "loading=stream";
    j->options.set_count = 4;
    CHECK_OK(npos_train(&j->options));
    assert_same_run("memory", "stream");
}

static int stop_in_epoch(void *context, const char *phase, int64_t done, int64_t total,
                         const char *text) {
    (void)total, (void)text;
    int *at = context;
    if (strcmp(phase, "train") == 0 && *at >= 0 && done >= *at) {
        *at = -1;
        raise(SIGTERM);
    }
    return 0;
}

static void a_resume_within_an_epoch_goes_on_bit_for_bit(void **state) {
    (void)state;
    train("whole", 2, "loading=stream", "crop_filter=bicubic", NULL);
    job *j = make_job("parts", 2, "loading=stream", "crop_filter=bicubic", NULL);
    int at = IMAGES / 8 + 1;
    j->options.compute.progress = stop_in_epoch;
    j->options.compute.progress_context = &at;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "is saved");
    j->options.compute.progress = NULL;
    j->options.compute.threads = 1;
    j->options.resume = 1;
    j->options.set_count = 0;
    j->options.recipe = NULL;
    CHECK_OK(npos_train(&j->options));
    assert_same_run("whole", "parts");
}

static void changed_images_are_noticed_at_a_resume(void **state) {
    (void)state;
    job *j = make_job("run", 2, "loading=stream", "crop_filter=bicubic", NULL);
    j->options.stop_after_epoch = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "is saved");
    put_png(folder, "s/a/000.png", 12, 3, 40);
    j->options.resume = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_BAD_DATA, "training images changed");
}

static void a_broken_image_is_named(void **state) {
    (void)state;
    put_text(folder, "s/b/031.png", "\x89PNG\r\n\x1a\n and no more");
    CHECK_FAILS(npos_train(&make_job("run", 2, "loading=stream", "method=ce", NULL)->options),
                NPOS_BAD_DATA, "031.png");
    CHECK_FAILS(npos_train(&make_job("run2", 2, "loading=stream", "method=npos", NULL)->options),
                NPOS_BAD_DATA, "031.png");
}

static void bicubic_crops_need_streaming(void **state) {
    (void)state;
    CHECK_FAILS(
        npos_train(&make_job("run", 1, "loading=memory", "crop_filter=bicubic", NULL)->options),
        NPOS_INVALID_ARGUMENT, "made of streamed images");
    assert_non_null(strstr(npos_error_hint(), "loading=stream"));
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(what_the_device_crops_is_memory_bit_for_bit),
        CASE(whole_crops_are_memory_bit_for_bit),
        CASE(decoders_do_not_change_the_weights),
        CASE(one_view_of_a_classifier),
        CASE(a_resume_within_an_epoch_goes_on_bit_for_bit),
        CASE(changed_images_are_noticed_at_a_resume),
        CASE(a_broken_image_is_named),
        CASE(bicubic_crops_need_streaming),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
