/* tests/jobs/tiny_clip.h - fine-tuning a tiny CLIP model (tests/golden/make_clip.py) on tiny_run.h's images: the same
 * images as a store of tokens, directions of three classes, a recipe of a second, jobs with it. */
#ifndef TESTS_JOBS_TINY_CLIP_H
#define TESTS_JOBS_TINY_CLIP_H

#include <math.h>

#include "jobs/clip_file.h"
#include "jobs/text_file.h"
#include "jobs/tiny_run.h"

enum { DIM = 24, BATCH = 16, STEPS = (IMAGES + BATCH - 1) / BATCH };

static const char clip_recipe[] =
    "base: clip-imagenet100\nname: tiny\nfirst_block: 1\nbatch: 16\nepochs: 4\nstart_epoch: 1\n"
    "drop_epoch: 3\nlr: 0.05\nring: 12\nk: 5\nselect: 6\npick: 2\nnoise: 20\nkeep: 3\nhead_dim: 8\n"
    "knn_k: 5\n";

typedef struct tuning {
    npos_finetune_options options;
    char clip[900], recipe[1000], store[1000], data[1000], text[1000], out[1000];
} tuning;

/* A job on the model tests/golden/clip/MODEL, with neither features nor data. */
static inline tuning *make_tuning(const char *folder, const char *model, const char *out) {
    static tuning jobs[8];
    static int turn;
    tuning *j = &jobs[turn++ % 8];
    npos_finetune_options_init(&j->options);
    snprintf(j->clip, sizeof j->clip, "%.700s/tests/golden/clip/%s", check_source(), model);
    snprintf(j->recipe, sizeof j->recipe, "%s/clip.yaml", folder);
    snprintf(j->store, sizeof j->store, "%s/store", folder);
    snprintf(j->data, sizeof j->data, "%s/set.npy", folder);
    snprintf(j->text, sizeof j->text, "%s/t.safetensors", folder);
    snprintf(j->out, sizeof j->out, "%s/%s", folder, out);
    j->options.clip = j->clip;
    j->options.recipe = j->recipe;
    j->options.text = j->text;
    j->options.out = j->out;
    j->options.compute.device = check_device();
    j->options.compute.precision = check_precision();
    j->options.compute.threads = 1;
    return j;
}

static inline tuning *on_store(const char *folder, const char *out) {
    tuning *j = make_tuning(folder, "hf", out);
    j->options.features = j->store;
    return j;
}

static inline tuning *on_images(const char *folder, const char *out) {
    tuning *j = make_tuning(folder, "hf", out);
    j->options.data = j->data;
    return j;
}

/* Directions of `classes` classes that folders call 0, 1, ...; made with the weights of `clip`.  shift: others. */
static inline void write_directions(const char *path, const char *clip, int classes, int shift) {
    float rows[8 * DIM];
    char *names[] = {"dark", "grey", "bright", "white"}, *folders[] = {"0", "1", "2", "3"};
    npi_class_list list = {classes, names, folders};
    npi_templates templates;
    uint64_t weights;
    CHECK_OK(npi_clip_hash(clip, &weights));
    CHECK_OK(npi_templates_open(NULL, &templates));
    for (int c = 0; c < classes; c++) {
        double square = 0;
        for (int d = 0; d < DIM; d++) {
            rows[c * DIM + d] = (float)((c * 37 + shift + d * (7 + 4 * c)) % 19 - 9);
            square += (double)rows[c * DIM + d] * (double)rows[c * DIM + d];
        }
        for (int d = 0; d < DIM; d++)
            rows[c * DIM + d] = (float)((double)rows[c * DIM + d] / sqrt(square));
    }
    CHECK_OK(npi_text_file_write(path, weights, DIM, &list, &templates, rows));
    npi_templates_clear(&templates);
}

static inline void extract_tokens(const char *folder, const char *out, int block) {
    const tuning *j = make_tuning(folder, "hf", "");
    npos_extract_options options;
    npos_extract_options_init(&options);
    options.compute = j->options.compute;
    options.clip = j->clip;
    options.data = j->data;
    options.out = check_path(folder, out);
    options.block = block;
    CHECK_OK(npos_extract(&options));
}

/* A folder with images, recipe, directions and store. */
static inline void prepare_clip(char *folder, size_t size) {
    snprintf(folder, size, "%s", prepare());
    const tuning *j = make_tuning(folder, "hf", "");
    CHECK_OK(npi_file_write(j->recipe, clip_recipe, strlen(clip_recipe)));
    write_directions(j->text, j->clip, CLASSES, 0);
    extract_tokens(folder, "store", 1);
}

/* A GPU's libraries choose their kernels by the number of images, so that tokens made in other batches differ by rounding;
 * what is read from one store does not. */
static inline bool on_gpu(void) {
    return strncmp(check_device(), "cuda", 4) == 0;
}

/* The value of `key` in line `line` of a run's log. */
static inline double logged(const char *folder, const char *run, int line, const char *key) {
    char *text, name[64];
    size_t size;
    snprintf(name, sizeof name, "%s/log.jsonl", run);
    CHECK_OK(npi_file_read(check_path(folder, name), &text, &size));
    const char *at = text;
    for (int i = 0; i < line; i++)
        at += strcspn(at, "\n") + 1;
    at = strstr(at, key);
    assert_non_null(at);
    double value = strtod(at + strlen(key) + 2, NULL);
    npi_free(text);
    return value;
}

static inline void assert_same_tuning(const char *folder, const char *a, const char *b) {
    char x[64], y[64];
    snprintf(x, sizeof x, "%s/clip/model.safetensors", a);
    snprintf(y, sizeof y, "%s/clip/model.safetensors", b);
    assert_same_file(folder, x, y);
    snprintf(x, sizeof x, "%s/model.safetensors", a);
    snprintf(y, sizeof y, "%s/model.safetensors", b);
    assert_same_file(folder, x, y);
    assert_same_log(folder, a, b);
}

#endif
