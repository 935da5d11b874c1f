/* What the tests of npos_eval, npos_score, npos_embed and npos_calibrate share: a folder with the run whose network is known by
 * heart (fake_run.h) and sets of images that it knows, or does not. */
#ifndef FAKE_SETS_H
#define FAKE_SETS_H

#include "check.h"

#include <jansson.h>
#include <png.h>
#include <unistd.h>

#include "base/file.h"
#include "fake_run.h"
#include "io/npy.h"
#include "npos/npos.h"

static char folder[512];

/* Paths of one test, never freed while it runs. */
static inline const char *in_folder(const char *format, ...) {
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
static inline void write_set(const char *name, int n, int first, int kinds, uint32_t seed,
                             bool labels) {
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

static inline const char *write_png(const char *name, int bright, uint32_t seed) {
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

static inline int setup(void **state) {
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

static inline int teardown(void **state) {
    (void)state;
    fake_teardown();
    check_remove(folder);
    return 0;
}

static inline double at(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        fail_msg("JSON has no number '%s'", key);
    return json_number_value(value);
}

static inline void eval_options(npos_eval_options *options, const char *const *ood, int count) {
    npos_eval_options_init(options);
    options->run = folder;
    options->id = in_folder("test.npy");
    options->ood = ood;
    options->ood_count = count;
}

#endif
