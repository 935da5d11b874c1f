/* ODIN's step and score against PyTorch's autograd (tests/golden/perturb.py), on every host device. */
#include "check.h"

#include <math.h>

#include "base/memory.h"
#include "nn/perturb.h"
#include "ood/detector.h"

enum { N = 4, CLASSES = 5, WIDTH = 8 };

/* perturb.py's hash32. */
static void noise(uint64_t stream, size_t count, float *out) {
    for (size_t k = 0; k < count; k++) {
        uint64_t u = (k + stream * 1000003 + 1) * UINT64_C(2654435761) & 0xffffffffu;
        u ^= u >> 15;
        u = u * UINT64_C(2246822519) & 0xffffffffu;
        u ^= u >> 13;
        out[k] = (float)(u >> 8) * 0x1p-22f - 2.0f;
    }
}

static bool ends(const char *name, const char *with) {
    size_t a = strlen(name), b = strlen(with);
    return a >= b && strcmp(name + a - b, with) == 0;
}

static void set_weights(npi_model *model) {
    for (int i = 0; i < model->params.count; i++) {
        const npi_param *p = &model->params.list[i];
        float *u;
        CHECK_OK(npi_alloc(&u, p->count, sizeof *u, "weights"));
        noise((uint64_t)(300 + i), p->count, u);
        for (size_t k = 0; k < p->count; k++) {
            double v = (double)u[k];
            if (p->ndim == 4)
                v *= sqrt(1.5 / (double)(p->shape[0] * p->shape[2] * p->shape[3]));
            else if (p->ndim == 2)
                v *= 2 / sqrt((double)p->shape[1]);
            else if (ends(p->name, "running_var"))
                v = 1.0 + 0.25 * v;
            else if (ends(p->name, "weight"))
                v = 1.0 + 0.2 * v;
            else
                v *= 0.1;
            u[k] = (float)v;
        }
        CHECK_OK(npi_param_set(&model->params, NPI_ARENA_VALUES, i, u));
        npi_free(u);
    }
}

static void golden(const char *of, const char *name, int count, double *out) {
    char a[16], b[16];
    FILE *file = fopen(NPOS_SOURCE_DIR "/tests/golden/perturb.txt", "r");
    assert_non_null(file);
    for (;;) {
        if (fscanf(file, "%15s %15s", a, b) != 2)
            fail_msg("the golden file has no '%s %s'", of, name);
        if (strcmp(a, of) == 0 && strcmp(b, name) == 0)
            break;
        assert_true(fscanf(file, "%*[^\n]") == 0);
    }
    for (int i = 0; i < count; i++)
        assert_int_equal(fscanf(file, "%lf", &out[i]), 1);
    fclose(file);
}

static void logits_of(npi_model *model, npi_plan *plan, float *to) {
    float *h, *logits;
    npi_device *dev = model->dev;
    CHECK_OK(dev->memory->alloc(dev, (size_t)(N * model->dim) * sizeof *h, "h", &h));
    CHECK_OK(dev->memory->alloc(dev, N * CLASSES * sizeof *logits, "logits", &logits));
    CHECK_OK(npi_plan_forward(plan, h));
    CHECK_OK(npi_linear_forward(model, &model->classifier, N, h, false, logits));
    CHECK_OK(dev->memory->download(dev, to, logits, N * CLASSES * sizeof *logits));
    dev->memory->free(dev, h);
    dev->memory->free(dev, logits);
}

/* Within a hundredth of what the step changes: a slope of nearly 0 may round to the other sign. */
static void compare(const char *what, const float *seen, const double *expected,
                    const double *before) {
    double most = 0;
    for (int i = 0; i < N * CLASSES; i++)
        most = fmax(most, fabs(expected[i] - before[i]));
    for (int i = 0; i < N * CLASSES; i++)
        if (!(fabs((double)seen[i] - expected[i]) <= 0.01 * most))
            fail_msg("%s: logit %d is %.9g, expected %.9g (the step changes %.3g)", what, i,
                     (double)seen[i], expected[i], most);
}

static void check(const char *device, const char *name, int side, const char *stem, int feature) {
    npi_device *dev;
    npi_model model;
    npi_plan *plan;
    npi_perturb *perturb;
    float images[N * 3 * 20 * 20], plain[N * CLASSES], moved[N * CLASSES], *nchw;
    double before[N * CLASSES], after[N * CLASSES], score[N], expected[N];
    size_t bytes = (size_t)(N * 3 * side * side) * sizeof(float);
    const npi_model_desc desc = {
        .arch = {"resnet-small", stem, WIDTH, 3, side}, .feature_dim = feature, .classes = CLASSES};
    const npi_perturb_desc how = {NPI_ODIN_EPSILON, NPI_ODIN_TEMPERATURE, {0.25f, 0.2f, 0.3f}};
    CHECK_OK(npi_device_open(device, NPI_PRECISION_FP32, 2, &dev));
    CHECK_OK(npi_model_create(dev, &desc, false, &model));
    CHECK_OK(npi_plan_create(&model, N, false, &plan));
    set_weights(&model);
    CHECK_OK(npi_plan_pack(plan));
    CHECK_OK(npi_perturb_create(&model, N, &how, &perturb));
    noise(100, bytes / sizeof(float), images);
    CHECK_OK(dev->memory->alloc(dev, bytes, "images", &nchw));
    CHECK_OK(dev->memory->upload(dev, nchw, images, bytes));
    CHECK_OK(dev->acts->import_nchw(dev, nchw, npi_plan_input(plan)));
    CHECK_OK(dev->acts->import_nchw(dev, nchw, npi_perturb_input(perturb)));
    logits_of(&model, plan, plain);
    CHECK_OK(npi_perturb_run(perturb, npi_plan_input(plan)));
    logits_of(&model, plan, moved);
    golden(name, "plain", N * CLASSES, before);
    golden(name, "moved", N * CLASSES, after);
    golden(name, "score", N, expected);
    compare("plain", plain, before, after);
    compare("moved", moved, after, before);
    npi_detector_model of = {.name = "run", .classes = CLASSES, .has_perturbed = true};
    npi_outputs outputs = {.n = N, .classes = CLASSES, .perturbed = moved};
    npi_detector *odin;
    int count;
    CHECK_OK(npi_detectors_fit("odin", &of, &odin, &count));
    CHECK_OK(npi_detector_score(odin, &outputs, score));
    for (int i = 0; i < N; i++) /* a score is 1 / CLASSES and the logits' thousandth part */
        if (!(fabs(score[i] - expected[i]) <= 1e-3 * fabs(expected[i] - 1.0 / CLASSES)))
            fail_msg("%s: score %d is %.9g, expected %.9g", name, i, score[i], expected[i]);
    npi_detectors_free(odin, count);
    dev->memory->free(dev, nchw);
    npi_perturb_free(perturb);
    npi_plan_free(plan);
    npi_model_free(&model);
    npi_device_close(dev);
}

static void equals_autograd(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *device = i ? "reference" : "cpu";
        check(device, "small", 8, "3x3", 0);
        check(device, "large", 20, "7x7", 12);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_autograd)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
