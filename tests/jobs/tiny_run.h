/* tests/jobs/tiny_run.h - training on tiny images in a folder of its own: a recipe of a few seconds, jobs with it, and
 * whether two runs are the same. */
#ifndef TESTS_JOBS_TINY_RUN_H
#define TESTS_JOBS_TINY_RUN_H

#include "base/file.h"
#include "base/memory.h"
#include "check.h"
#include "io/npy.h"
#include "npos/npos.h"

enum { IMAGES = 66, SIDE = 12, CLASSES = 3 };

/* IMAGES noisy grey images of three brightnesses. */
static inline void write_images(const char *folder, int images, int classes, int shift) {
    uint8_t *pixels;
    int64_t labels[IMAGES];
    CHECK_OK(npi_alloc(&pixels, (size_t)images * SIDE * SIDE, 1, "test images"));
    for (int i = 0; i < images; i++) {
        labels[i] = i % classes;
        for (int j = 0; j < SIDE * SIDE; j++)
            pixels[i * SIDE * SIDE + j] =
                (uint8_t)(60 * labels[i] + (i * 31 + j * (7 + labels[i]) + shift) % 60);
    }
    CHECK_OK(npi_npy_write(check_path(folder, "set.npy"), NPI_U8, 3,
                           (int64_t[]){images, SIDE, SIDE}, pixels));
    CHECK_OK(npi_npy_write(check_path(folder, "set_labels.npy"), NPI_I64, 1, (int64_t[]){images},
                           labels));
    npi_free(pixels);
}

static const char recipe[] =
    "name: tiny\nencoder: resnet-small\nwidth: 16\nimage_size: 12\nchannels: 1\n"
    "batch: 8\nepochs: 4\nstart_epoch: 1\nlr: 0.1\nring: 12\nk: 5\nselect: 6\npick: 2\n"
    "noise: 20\nkeep: 3\nprojection_dim: 16\nhead_dim: 8\nmean: 0.3\nstd: 0.2\n"
    "warmup_epochs: 1\nknn_k: 5\n";

/* A folder with the images and the recipe. */
static inline char *prepare(void) {
    char *folder = check_folder();
    write_images(folder, IMAGES, CLASSES, 0);
    CHECK_OK(npi_file_write(check_path(folder, "tiny.yaml"), recipe, strlen(recipe)));
    return folder;
}

typedef struct job {
    npos_train_options options;
    char recipe[600], data[600], out[600];
} job;

static inline job *make_job(const char *folder, const char *out) {
    static job jobs[2];
    static int turn;
    job *j = &jobs[turn++ % 2];
    npos_train_options_init(&j->options);
    snprintf(j->recipe, sizeof j->recipe, "%s/tiny.yaml", folder);
    snprintf(j->data, sizeof j->data, "%s/set.npy", folder);
    snprintf(j->out, sizeof j->out, "%s/%s", folder, out);
    j->options.recipe = j->recipe;
    j->options.data = j->data;
    j->options.out = j->out;
    j->options.compute.device = check_device();
    j->options.compute.precision = check_precision();
    j->options.compute.threads = 1;
    return j;
}

static inline void assert_same_file(const char *folder, const char *a, const char *b) {
    char *x, *y;
    size_t nx, ny;
    CHECK_OK(npi_file_read(check_path(folder, a), &x, &nx));
    CHECK_OK(npi_file_read(check_path(folder, b), &y, &ny));
    assert_int_equal(nx, ny);
    assert_memory_equal(x, y, nx);
    npi_free(x);
    npi_free(y);
}

static inline void assert_same_run(const char *folder, const char *a, const char *b) {
    static const char *const names[] = {"model.safetensors", "bank.safetensors"};
    for (int i = 0; i < 2; i++) {
        char x[64], y[64];
        snprintf(x, sizeof x, "%s/%s", a, names[i]);
        snprintf(y, sizeof y, "%s/%s", b, names[i]);
        assert_same_file(folder, x, y);
    }
}

/* The losses of each epoch, without times, must be the same text. */
static inline void read_losses(const char *folder, const char *run, char *out, size_t size) {
    char *text, name[64];
    size_t length;
    snprintf(name, sizeof name, "%s/log.jsonl", run);
    CHECK_OK(npi_file_read(check_path(folder, name), &text, &length));
    out[0] = '\0';
    for (char *line = text; *line; line += strcspn(line, "\n") + 1) {
        const char *end = strstr(line, "\"images_per_s\"");
        assert_non_null(end);
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%.*s\n", (int)(end - line), line);
        if (!line[strcspn(line, "\n")])
            break;
    }
    npi_free(text);
}

static inline void assert_same_log(const char *folder, const char *a, const char *b) {
    char x[4096], y[4096];
    read_losses(folder, a, x, sizeof x);
    read_losses(folder, b, y, sizeof y);
    assert_string_equal(x, y);
    assert_non_null(strstr(x, "\"epoch\":3"));
}

static inline void train_whole(const char *folder, const char *out) {
    CHECK_OK(npos_train(&make_job(folder, out)->options));
}

#endif
