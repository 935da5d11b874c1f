/* tests/report/report_fixture.h - a run made up for the report: made-up images, a network known by
 * heart in place of jobs/run.c, an evaluation with its scores, a log and a manifest.
 *
 * Images are 12 x 12 grey: class c is bright along its own wave; OOD sets are other waves and noise.
 * h = a fixed random projection of the image to DIM numbers, kept where positive; z = its first PROJ
 * numbers, normalised; the score is the largest cosine to a prototype. */
#ifndef TESTS_REPORT_FIXTURE_H
#define TESTS_REPORT_FIXTURE_H

#include <math.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "check.h"
#include "devices/devices.h"
#include "io/npy.h"
#include "jobs/run.h"
#include "ood/metrics.h"
#include "report/classes_file.h"
#include "report/evaluation_json.h"
#include "report/page_text.h"

enum {
    FIX_SIZE = 12,
    FIX_PIXELS = FIX_SIZE * FIX_SIZE,
    FIX_CLASSES = 5,
    FIX_DIM = 32,
    FIX_PROJ = 8,
    FIX_BANK = 300,
    FIX_ID = 200,
    FIX_OOD = 100,
    FIX_SETS = 4
};

/* names as a stranger might choose them */
static const char *const fix_names[FIX_SETS] = {"sandals", "<b>bags & \"co\"", "noise", "letters"};
static const char *const fix_groups[FIX_SETS] = {"near", "near", "far", "far"};
static const char *const fix_class_names[FIX_CLASSES] = {"shirt", "coat", "dress", "boot",
                                                         "<script>hat"};

static struct {
    bool has_bank;
    float prototypes[FIX_CLASSES * FIX_PROJ];
    uint8_t *bank_pixels;
} fixture = {.has_bank = true};

static inline float fix_normal(uint32_t stream, uint32_t item, uint32_t index) {
    npi_u32x4 words = npi_philox(21, NPI_RANDOM_TEST, stream, item, index);
    float x, y;
    npi_normal_pair(words.v[0], words.v[1], &x, &y);
    return x;
}

/* kind 0..CLASSES-1: a class; above: OOD sets, the last but one pure noise. */
static inline void fix_image(int kind, uint32_t item, uint8_t *pixels) {
    bool noise = kind == FIX_CLASSES + 2;
    float turn = 0.55f * (float)kind + 0.12f * fix_normal(1, item, (uint32_t)kind);
    float wave = 0.5f + 0.13f * (float)(kind % 4) + 0.03f * fix_normal(2, item, (uint32_t)kind);
    for (uint32_t i = 0; i < FIX_PIXELS; i++) {
        float x = (float)(i % FIX_SIZE) - 5.5f, y = (float)i / FIX_SIZE - 5.5f;
        float level = noise ? 60 * fix_normal(3, item, i)
                            : 90 * sinf(wave * (x * cosf(turn) + y * sinf(turn)) + (float)kind) +
                                  22 * fix_normal(4, item * 16 + (uint32_t)kind, i);
        pixels[i] = (uint8_t)fminf(fmaxf(128 + level, 0), 255);
    }
}

static inline void fix_features(const uint8_t *pixels, float *h, float *z) {
    static float weight[FIX_DIM][FIX_PIXELS];
    static bool ready;
    float norm = 0;
    if (!ready)
        for (uint32_t d = 0; d < FIX_DIM; d++)
            for (uint32_t i = 0; i < FIX_PIXELS; i++)
                weight[d][i] = fix_normal(5, d, i) / FIX_SIZE;
    ready = true;
    for (int d = 0; d < FIX_DIM; d++) {
        h[d] = 0;
        for (int i = 0; i < FIX_PIXELS; i++)
            h[d] += weight[d][i] * ((float)pixels[i] / 255 - 0.5f);
        h[d] = h[d] > 0 ? h[d] : 0.05f * h[d];
    }
    for (int d = 0; d < FIX_PROJ; d++)
        norm += h[d] * h[d];
    for (int d = 0; d < FIX_PROJ; d++)
        z[d] = h[d] / sqrtf(fmaxf(norm, 1e-12f));
}

/* The largest cosine to a prototype. */
static inline double fix_score(const uint8_t *pixels) {
    float h[FIX_DIM], z[FIX_PROJ];
    double best = -1;
    fix_features(pixels, h, z);
    for (int c = 0; c < FIX_CLASSES; c++) {
        double dot = 0;
        for (int d = 0; d < FIX_PROJ; d++)
            dot += (double)z[d] * (double)fixture.prototypes[c * FIX_PROJ + d];
        best = fmax(best, dot);
    }
    return best;
}

static inline void fix_prototypes(void) {
    uint8_t pixels[FIX_PIXELS];
    float h[FIX_DIM], z[FIX_PROJ];
    for (int c = 0; c < FIX_CLASSES; c++) {
        float *mu = fixture.prototypes + c * FIX_PROJ, norm = 0;
        memset(mu, 0, FIX_PROJ * sizeof *mu);
        for (uint32_t i = 0; i < 50; i++) {
            fix_image(c, 5000 + i, pixels);
            fix_features(pixels, h, z);
            for (int d = 0; d < FIX_PROJ; d++)
                mu[d] += z[d];
        }
        for (int d = 0; d < FIX_PROJ; d++)
            norm += mu[d] * mu[d];
        for (int d = 0; d < FIX_PROJ; d++)
            mu[d] /= sqrtf(norm);
    }
}

/* ---- in place of jobs/run.c ---- */

void npi_features_clear(npi_features *features) {
    npi_free(features->h);
    npi_free(features->z);
    npi_free(features->phi);
    npi_free(features->logits);
    memset(features, 0, sizeof *features);
}

void npi_bank_clear(npi_bank *bank) {
    npi_free(bank->h);
    npi_free(bank->labels);
    memset(bank, 0, sizeof *bank);
}

npos_status npi_run_open(const char *path, const npos_compute *compute, npi_run **out) {
    (void)compute;
    *out = NULL;
    if (!npi_is_folder(path))
        return npi_fail(NPOS_NOT_FOUND, "%s: no run", path);
    NPI_TRY(npi_alloc(out, 1, sizeof **out, "run"));
    npi_run *run = *out;
    npos_status status;
    run->transform = (npi_transform){FIX_SIZE, 1, NPI_BILINEAR, 0};
    run->classes = FIX_CLASSES;
    run->dim = FIX_DIM;
    run->proj = FIX_PROJ;
    run->class_names = (char **)(uintptr_t)fix_class_names;
    run->prototypes = fixture.prototypes;
    run->has_head = true;
    NPI_TRY_GOTO(npi_cpu_open(NPI_PRECISION_FP32, 1, &run->dev), fail);
    NPI_TRY_GOTO(npi_strdup(&run->path, path), fail);
    NPI_TRY_GOTO(npi_recipe_defaults(&run->recipe), fail);
    static const char *const settings[] = {"name=fixture",    "ring=100",  "k=30",
                                           "select=20",       "noise=60",  "keep=20",
                                           "score=prototype", "epochs=40", "start_epoch=16"};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        NPI_TRY_GOTO(npi_recipe_set(&run->recipe, settings[i]), fail);
    return NPOS_OK;
fail:
    npi_run_close(run);
    *out = NULL;
    return status;
}

void npi_run_close(npi_run *run) {
    if (!run)
        return;
    npi_device_close(run->dev);
    npi_recipe_clear(&run->recipe);
    npi_bank_clear(&run->bank);
    npi_free(run->path);
    npi_free(run);
}

npos_status npi_run_bank(npi_run *run) {
    uint8_t pixels[FIX_PIXELS];
    float z[FIX_PROJ];
    if (!fixture.has_bank)
        return npi_fail(NPOS_NOT_FOUND, "%s/bank.safetensors: no such file", run->path);
    npi_bank *bank = &run->bank;
    bank->n = FIX_BANK;
    bank->dim = FIX_DIM;
    NPI_TRY(npi_alloc(&bank->h, FIX_BANK * FIX_DIM, sizeof *bank->h, "bank"));
    NPI_TRY(npi_alloc(&bank->labels, FIX_BANK, sizeof *bank->labels, "bank"));
    for (int i = 0; i < FIX_BANK; i++) {
        bank->labels[i] = i % FIX_CLASSES;
        fix_image(i % FIX_CLASSES, (uint32_t)i, pixels);
        fix_features(pixels, bank->h + i * FIX_DIM, z);
    }
    return NPOS_OK;
}

npos_status npi_run_features(npi_run *run, const uint8_t *pixels, int64_t n,
                             const npos_compute *compute, const char *phase, npi_features *out) {
    (void)run;
    if (compute->progress && compute->progress(compute->progress_context, phase, n, n, "") != 0)
        return npi_fail(NPOS_INTERRUPTED, "stopped");
    *out = (npi_features){.n = n, .dim = FIX_DIM, .proj = FIX_PROJ};
    NPI_TRY(npi_alloc(&out->h, (size_t)n * FIX_DIM, sizeof(float), "h"));
    NPI_TRY(npi_alloc(&out->z, (size_t)n * FIX_PROJ, sizeof(float), "z"));
    for (int64_t i = 0; i < n; i++)
        fix_features(pixels + i * FIX_PIXELS, out->h + i * FIX_DIM, out->z + i * FIX_PROJ);
    return NPOS_OK;
}

npos_status npi_run_set_calibration(npi_run *run, const npi_calibration *calibration) {
    (void)run;
    (void)calibration;
    return NPOS_OK;
}

/* ---- the files ---- */

static inline void fix_text(const char *folder, const char *name, const char *text) {
    CHECK_OK(npi_file_write(check_path(folder, name), text, strlen(text)));
}

/* Images of one set as .npy, its scores beside; returns the scores (npi_free). */
static inline double *fix_set(const char *folder, const char *name, int first_kind, int kinds,
                              int n, const char *score) {
    uint8_t *pixels;
    double *scores;
    char path[900];
    const int64_t shape[3] = {n, FIX_SIZE, FIX_SIZE}, length[1] = {n};
    CHECK_OK(npi_alloc(&pixels, (size_t)n, FIX_PIXELS, "images"));
    CHECK_OK(npi_alloc(&scores, (size_t)n, sizeof *scores, "scores"));
    for (int i = 0; i < n; i++) {
        fix_image(first_kind + i % kinds, 20000 + (uint32_t)i, pixels + (size_t)i * FIX_PIXELS);
        scores[i] = fix_score(pixels + (size_t)i * FIX_PIXELS);
    }
    snprintf(path, sizeof path, "%s/data-%d.npy", folder, first_kind);
    CHECK_OK(npi_npy_write(path, NPI_U8, 3, shape, pixels));
    snprintf(path, sizeof path, "%s/scores/%s", folder, score);
    CHECK_OK(npi_make_folders(path));
    snprintf(path, sizeof path, "%s/scores/%s/%s.npy", folder, score, name);
    CHECK_OK(npi_npy_write(path, NPI_F64, 1, length, scores));
    npi_free(pixels);
    return scores;
}

static inline void fix_log(const char *folder) {
    npi_page log = {0};
    for (int e = 0; e < 40; e++) {
        double fall = exp(-e / 9.0), open = e >= 16 ? 0.55 * exp(-(e - 16) / 8.0) + 0.12 : 0;
        npi_page_add(&log,
                     "{\"epoch\": %d, \"step\": %d, \"lr\": %.5f, \"loss\": %.4f, \"loss_disp\": "
                     "%.4f, \"loss_comp\": %.4f, \"loss_open\": %.4f, \"grad_norm\": %.4f, "
                     "\"prototype_min_distance\": %.4f, \"projection_dead\": %.4f, "
                     "\"images_per_s\": %.1f, \"seconds\": %.2f}\n",
                     e, 60 * e, 0.25 * (1 + cos(0.0785 * e)),
                     2.2 * fall + 0.3 + 0.1 * open + 0.03 * (double)fix_normal(7, 0, (uint32_t)e),
                     -0.5 + 1.5 * fall, 2.6 * fall + 0.6, open, 1.1 + 3 * fall * fall,
                     1.38 - 0.9 * fall, 0.4 * (1 - fall),
                     e >= 16 ? 2100.0 + 40 * (double)fix_normal(8, 0, (uint32_t)e) : 2500.0, 3.1);
    }
    CHECK_OK(log.status);
    fix_text(folder, "log.jsonl", log.bytes);
    npi_page_clear(&log);
}

static inline void fix_evaluation(const char *folder) {
    npi_evaluation evaluation = {.protocol = NPI_PROTOCOL_OE};
    static const char *const scores[] = {"prototype", "knn"};
    CHECK_OK(npi_format(&evaluation.id_spec, "%s/data-0.npy", folder));
    CHECK_OK(npi_alloc(&evaluation.result, 2, sizeof *evaluation.result, "results"));
    for (; evaluation.results < 2; evaluation.results++) {
        npi_score_result *result = &evaluation.result[evaluation.results];
        CHECK_OK(npi_strdup(&result->score, scores[evaluation.results]));
        result->accuracy = (npi_accuracy){.knn = 0.912, .prototype = 0.9, .head = -1, .text = -1};
        result->id_n = FIX_ID;
        result->id_scores = fix_set(folder, "id", 0, FIX_CLASSES, FIX_ID, result->score);
        const npi_scores id = {"id", FIX_ID, result->id_scores};
        CHECK_OK(npi_threshold_at_tpr(&id, 0.95, &result->threshold, NULL));
        CHECK_OK(npi_alloc(&result->set, FIX_SETS, sizeof *result->set, "sets"));
        for (; result->sets < FIX_SETS; result->sets++) {
            npi_set_result *set = &result->set[result->sets];
            int kind = FIX_CLASSES + result->sets;
            CHECK_OK(npi_strdup(&set->name, fix_names[result->sets]));
            CHECK_OK(npi_strdup(&set->group, fix_groups[result->sets]));
            CHECK_OK(npi_format(&set->spec, "%s/data-%d.npy", folder, kind));
            set->n = set->available = FIX_OOD;
            set->scores = fix_set(folder, set->name, kind, 1, FIX_OOD, result->score);
            const npi_scores ood = {set->name, FIX_OOD, set->scores};
            CHECK_OK(npi_measure(NPI_PROTOCOL_OE, &id, &ood, 0, &set->measures));
        }
    }
    CHECK_OK(npi_evaluation_write(&evaluation, check_path(folder, "eval.json")));
    npi_evaluation_clear(&evaluation);
}

/* Every eighth ID image is taken for the next class; all of set 0 for class 1, the others for class 4;
 * sets 0 and 1 have two classes, even and odd images, the others have none. */
static inline void fix_classes(const char *folder) {
    static const char *const own_names[] = {"even", "odd & <i>"};
    npi_classes_list list = {0};
    int32_t taken[FIX_ID], own[FIX_ID];
    for (int i = 0; i < FIX_ID; i++) {
        own[i] = i % FIX_CLASSES;
        taken[i] = (own[i] + (i % 8 == 0)) % FIX_CLASSES;
    }
    CHECK_OK(npi_classes_list_add(&list, "id", FIX_ID, taken, own,
                                  (char **)(uintptr_t)fix_class_names, FIX_CLASSES));
    for (int s = 0; s < FIX_SETS; s++) {
        for (int i = 0; i < FIX_OOD; i++) {
            taken[i] = s == 0 ? 1 : 4;
            own[i] = s < 2 ? i % 2 : -1;
        }
        CHECK_OK(npi_classes_list_add(&list, fix_names[s], FIX_OOD, taken, own,
                                      (char **)(uintptr_t)own_names, s < 2 ? 2 : 0));
    }
    CHECK_OK(npi_classes_file_write(&list, check_path(folder, "scores/classes.safetensors")));
    npi_classes_list_clear(&list);
}

/* A whole run in `folder`. */
static inline void fix_run(const char *folder) {
    fix_prototypes();
    fix_log(folder);
    fix_evaluation(folder);
    fix_classes(folder);
    fix_text(folder, "recipe.yaml", "name: fixture\nmethod: npos\n");
    fix_text(folder, "manifest.json",
             "{\"npos\": \"0.1.0\", \"device\": {\"name\": \"cpu\", \"description\": \"made up\"}, "
             "\"seed\": 0, \"data\": [{\"spec\": \"images<&>\", \"hash\": \"7f3a\"}], "
             "\"wall_seconds\": 124.5}");
}

#endif
