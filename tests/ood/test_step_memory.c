/* A planned step allocates nothing, by any method, with and without outliers; without R_open the outlier head stays as
 * it is. */
#include "check.h"

#include "base/memory.h"
#include "base/philox.h"
#include "jobs/settings.h"
#include "ood/objective.h"

enum { CLASSES = 3, BATCH = 6, SIDE = 12, RING = 12, STEPS = 5 };

typedef struct rig {
    npi_device *dev;
    npi_recipe recipe;
    npi_model model;
    npi_plan *plan;
    npi_objective objective;
} rig;

static void build(rig *r, const char *device, const char *method) {
    const char *const settings[] = {"encoder=resnet-small",
                                    "width=8",
                                    "image_size=12",
                                    "channels=1",
                                    "batch=6",
                                    "ring=12",
                                    "k=5",
                                    "select=6",
                                    "noise=9",
                                    "keep=2",
                                    "draws=8",
                                    "projection_dim=8",
                                    "lr=0.1",
                                    "start_epoch=0",
                                    "head_dim=4",
                                    "clip_norm=1"};
    char setting[32];
    *r = (rig){0};
    CHECK_OK(npi_recipe_defaults(&r->recipe));
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        CHECK_OK(npi_recipe_set(&r->recipe, settings[i]));
    snprintf(setting, sizeof setting, "method=%s", method);
    CHECK_OK(npi_recipe_set(&r->recipe, setting));
    CHECK_OK(npi_device_open(device, NPI_PRECISION_FP32, 1, &r->dev));
    npi_model_desc model = npi_settings_model(&r->recipe, CLASSES);
    CHECK_OK(npi_model_create(r->dev, &model, true, &r->model));
    CHECK_OK(npi_plan_create(&r->model, 2 * BATCH, true, &r->plan));
    npi_objective_desc objective = npi_settings_objective(&r->recipe, CLASSES, r->model.dim);
    CHECK_OK(npi_objective_create(npi_comm_self(), &r->model, npi_plan_encoder(r->plan), &objective,
                                  &r->objective));
    CHECK_OK(npi_params_init(&r->model.params, 1));
}

static void destroy(rig *r) {
    npi_objective_free(&r->objective);
    npi_plan_free(r->plan);
    npi_model_free(&r->model);
    npi_device_close(r->dev);
    npi_recipe_clear(&r->recipe);
}

/* Random views, every class four times a step: RING embeddings of each class lie in the rings after three steps. */
static void upload(rig *r, int number) {
    float pixels[2 * BATCH * SIDE * SIDE];
    int32_t labels[2 * BATCH];
    npi_step step = {(uint64_t)number, 0.1f, 0.1f};
    for (int i = 0; i < 2 * BATCH * SIDE * SIDE; i++)
        pixels[i] = (float)((i * 37 + number * 11 + i / 7) % 101) / 50.0f - 1.0f;
    for (int i = 0; i < 2 * BATCH; i++)
        labels[i] = i % CLASSES;
    CHECK_OK(r->dev->acts->import_nchw(r->dev, pixels, npi_plan_input(r->plan)));
    CHECK_OK(r->dev->memory->upload(r->dev, r->objective.labels, labels, sizeof labels));
    CHECK_OK(r->dev->memory->upload(r->dev, r->objective.step, &step, sizeof step));
}

static double head_sum(const rig *r) {
    const npi_params *p = &r->model.params;
    double sum = 0;
    for (size_t i = 0; i < p->head; i++)
        sum += (double)(p->values[p->body + i] * p->values[p->body + i]);
    return sum;
}

static void steps_allocate_nothing(const char *device, const char *method, bool outliers) {
    rig r;
    uint64_t calls = 0;
    build(&r, device, method);
    double before = head_sum(&r);
    for (int i = 0; i < STEPS; i++) {
        bool open = outliers && i >= 3;
        upload(&r, i);
        CHECK_OK(npi_objective_step(&r.objective, open, NULL));
        assert_true(open || head_sum(&r) == before);
        if (i > 0)
            assert_int_equal(npi_memory_calls(), calls);
        calls = npi_memory_calls();
    }
    assert_true(head_sum(&r) != before || !outliers);
    destroy(&r);
}

static void every_method_on_every_device(void **state) {
    (void)state;
    static const char *const devices[] = {"reference", "cpu"};
    static const char *const methods[] = {"npos", "vos", "cider", "ce"};
    for (int d = 0; d < 2; d++)
        for (int m = 0; m < 4; m++)
            steps_allocate_nothing(devices[d], methods[m], m < 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_method_on_every_device)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
