/* tests/jobs/fake_run.h - a run whose network is known by heart, in place of jobs/run.c: so that the
 * jobs on a run are tested by themselves, against figures that a reader can check.
 *
 * Images are 8 x 8 grey.  h = means of the four quadrants in [0, 1]; z = normalize(h0 - h2, h1 - h3);
 * phi = h0 + h1 - h2 - h3; logits = 10 (h0, h1), the classifier's weights say so.  Class "left" is bright in quadrant 0 (upper left),
 * class "right" in quadrant 1 (upper right); prototypes are (1, 0) and (0, 1). */
#ifndef TESTS_JOBS_FAKE_RUN_H
#define TESTS_JOBS_FAKE_RUN_H

#include <math.h>

#include "base/memory.h"
#include "check.h"
#include "jobs/run.h"
#include "ood/brute_device.h"

enum { FAKE_SIZE = 8, FAKE_BANK = 40 };

static struct {
    const char *folder; /* the only path that npi_run_open opens */
    npi_recipe recipe;  /* borrowed by the runs */
    npi_device device;
    bool has_head, has_classifier, has_bank, has_names;
    char *class_names[2];
    float prototypes[4], weight[8];
    uint8_t bank[FAKE_BANK][FAKE_SIZE * FAKE_SIZE];
    float bank_h[FAKE_BANK * 4];
    int32_t bank_labels[FAKE_BANK];
    char *bank_names[FAKE_BANK];
    char calibrated[32];
    npi_calibration calibration;
    int passes;       /* calls of npi_run_features */
    int64_t most;     /* images of the largest one */
    int64_t nan_from; /* h of this image of every call is NaN; -1: of none */
} fake;

/* One image: quadrant `bright` at 200, the others at 20, noise of +-15 that `seed` chooses. */
static inline void fake_image(int bright, uint32_t seed, uint8_t *pixels) {
    for (int i = 0; i < FAKE_SIZE * FAKE_SIZE; i++) {
        int quadrant = i / 32 * 2 + i % 8 / 4;
        npi_u32x4 words = npi_philox(11, NPI_RANDOM_TEST, 0, seed, (uint32_t)i);
        int level = quadrant == bright ? 200 : 20;
        pixels[i] = (uint8_t)(level + (int)npi_below(words.v[0], 31) - 15);
    }
}

static inline void fake_h(const uint8_t *pixels, float h[4]) {
    for (int q = 0; q < 4; q++)
        h[q] = 0;
    for (int i = 0; i < FAKE_SIZE * FAKE_SIZE; i++)
        h[i / 32 * 2 + i % 8 / 4] += (float)pixels[i] / 255 / 16;
}

static inline void fake_setup(const char *folder) {
    memset(&fake, 0, sizeof fake);
    fake.folder = folder;
    fake.device = brute_device(true);
    fake.has_head = fake.has_classifier = fake.has_bank = fake.has_names = true;
    fake.class_names[0] = (char *)"0";
    fake.class_names[1] = (char *)"1";
    fake.prototypes[0] = fake.prototypes[3] = 1;
    fake.weight[0] = fake.weight[5] = 10;
    fake.nan_from = -1;
    CHECK_OK(npi_recipe_defaults(&fake.recipe));
    CHECK_OK(npi_recipe_set(&fake.recipe, "knn_k=5"));
    for (int i = 0; i < FAKE_BANK; i++) {
        fake_image(i % 2, (uint32_t)i, fake.bank[i]);
        fake_h(fake.bank[i], fake.bank_h + 4 * i);
        fake.bank_labels[i] = i % 2;
        CHECK_OK(npi_format(&fake.bank_names[i], "train/%d.png", i));
    }
}

static inline void fake_teardown(void) {
    npi_recipe_clear(&fake.recipe);
    for (int i = 0; i < FAKE_BANK; i++)
        npi_free(fake.bank_names[i]);
}

void npi_features_clear(npi_features *features) {
    npi_free(features->h);
    npi_free(features->z);
    npi_free(features->phi);
    npi_free(features->logits);
    memset(features, 0, sizeof *features);
}

void npi_bank_clear(npi_bank *bank) {
    memset(bank, 0, sizeof *bank);
}

npos_status npi_run_open(const char *path, const npos_compute *compute, npi_run **out) {
    (void)compute;
    *out = NULL;
    if (strcmp(path, fake.folder) != 0)
        return npi_fail(NPOS_NOT_FOUND, "%s: no run", path);
    NPI_TRY(npi_alloc(out, 1, sizeof **out, "run"));
    npi_run *run = *out;
    *run = (npi_run){.recipe = fake.recipe,
                     .transform = {FAKE_SIZE, 1, NPI_BILINEAR, 0},
                     .dev = &fake.device,
                     .classes = 2,
                     .dim = 4,
                     .proj = 2,
                     .class_names = fake.class_names,
                     .prototypes = fake.prototypes,
                     .has_head = fake.has_head,
                     .has_classifier = fake.has_classifier,
                     .weight = fake.has_classifier ? fake.weight : NULL,
                     .calibration = fake.calibration};
    return npi_strdup(&run->path, path);
}

void npi_run_close(npi_run *run) {
    if (run)
        npi_free(run->path);
    npi_free(run);
}

npos_status npi_run_bank(npi_run *run) {
    if (fake.has_bank)
        run->bank = (npi_bank){.n = FAKE_BANK,
                               .dim = 4,
                               .h = fake.bank_h,
                               .labels = fake.bank_labels,
                               .names = fake.has_names ? fake.bank_names : NULL};
    return NPOS_OK;
}

npos_status npi_run_features(npi_run *run, const uint8_t *pixels, int64_t n,
                             const npos_compute *compute, const char *phase, npi_features *out) {
    if (compute->progress && compute->progress(compute->progress_context, phase, n, n, "") != 0)
        return npi_fail(NPOS_INTERRUPTED, "stopped");
    *out = (npi_features){.n = n, .dim = 4, .proj = 2, .classes = 2};
    NPI_TRY(npi_alloc(&out->h, (size_t)n * 4, sizeof(float), "h"));
    NPI_TRY(npi_alloc(&out->z, (size_t)n * 2, sizeof(float), "z"));
    if (run->has_head)
        NPI_TRY(npi_alloc(&out->phi, (size_t)n, sizeof(float), "phi"));
    if (run->has_classifier)
        NPI_TRY(npi_alloc(&out->logits, (size_t)n * 2, sizeof(float), "logits"));
    for (int64_t i = 0; i < n; i++) {
        float *h = out->h + 4 * i, *z = out->z + 2 * i;
        fake_h(pixels + i * FAKE_SIZE * FAKE_SIZE, h);
        if (i == fake.nan_from)
            h[0] = NAN;
        float x = h[0] - h[2], y = h[1] - h[3], norm = sqrtf(x * x + y * y);
        z[0] = x / norm;
        z[1] = y / norm;
        if (out->phi)
            out->phi[i] = h[0] + h[1] - h[2] - h[3];
        for (int c = 0; out->logits && c < 2; c++)
            out->logits[2 * i + c] = 10 * h[c];
    }
    fake.passes++;
    fake.most = n > fake.most ? n : fake.most;
    return NPOS_OK;
}

bool npi_run_perturbs(const npi_run *run) {
    (void)run;
    return false;
}

npos_status npi_run_perturb(npi_run *run) {
    return npi_fail(NPOS_UNSUPPORTED, "%s: a fake run does not perturb", run->path);
}

npos_status npi_run_set_calibration(npi_run *run, const npi_calibration *calibration) {
    (void)run;
    fake.calibration = *calibration;
    snprintf(fake.calibrated, sizeof fake.calibrated, "%s", calibration->score);
    fake.calibration.score = fake.calibrated;
    return NPOS_OK;
}

#endif
