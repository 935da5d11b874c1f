/* Schedule, starting values, and whole encoders: names and shapes against torchvision's, gradients against
 * differences, inference against training. */
#include "check.h"

#include <math.h>

#include "base/file.h"
#include "base/memory.h"
#include "nn/model.h"
#include "nn/schedule.h"

static void assert_near(double seen, double expected, double tolerance) {
    if (!(fabs(seen - expected) <= tolerance))
        fail_msg("%.12g, expected %.12g within %g", seen, expected, tolerance);
}

/* ---- schedule ---- */

static void cosine_falls_by_epoch(void **state) {
    (void)state;
    npi_schedule s = {.lr = 0.5, .end = 0.0005, .epochs = 500, .steps = 195};
    assert_near(npi_schedule_rate(&s, 0, 0), 0.5, 1e-15);
    assert_near(npi_schedule_rate(&s, 0, 194), 0.5, 1e-15);
    assert_near(npi_schedule_rate(&s, 250, 3), 0.25025, 1e-15);          /* cos(pi/2) = 0 */
    assert_near(npi_schedule_rate(&s, 125, 0), 0.42684991860134, 1e-13); /* cos = sqrt(1/2) */
    assert_near(npi_schedule_rate(&s, 499, 0), 0.0005049299, 1e-9);
}

static void warm_up_rises_by_step(void **state) {
    (void)state;
    npi_schedule s = {.lr = 0.5,
                      .end = 0.0005,
                      .epochs = 100,
                      .steps = 4,
                      .warmup_epochs = 10,
                      .warmup_from = 0.01};
    double top = 0.0005 + 0.4995 * (1.0 + 0.95105651629515357) / 2.0; /* cos(pi/10) */
    assert_near(npi_schedule_rate(&s, 0, 0), 0.01, 1e-15);
    assert_near(npi_schedule_rate(&s, 0, 1), 0.01 + (top - 0.01) / 40.0, 1e-14);
    assert_near(npi_schedule_rate(&s, 5, 2), 0.01 + (top - 0.01) * 22.0 / 40.0, 1e-14);
    assert_near(npi_schedule_rate(&s, 9, 3), 0.01 + (top - 0.01) * 39.0 / 40.0, 1e-14);
    assert_near(npi_schedule_rate(&s, 10, 0), top, 1e-14);
    assert_near(npi_schedule_rate(&s, 10, 3), top, 1e-14);
}

static void a_step_falls_once(void **state) {
    (void)state;
    npi_schedule s = {.lr = 0.1, .epochs = 100, .steps = 4, .drop_epoch = 60, .drop = 0.1};
    assert_near(npi_schedule_rate(&s, 0, 0), 0.1, 1e-15);
    assert_near(npi_schedule_rate(&s, 59, 3), 0.1, 1e-15);
    assert_near(npi_schedule_rate(&s, 60, 0), 0.01, 1e-15);
    assert_near(npi_schedule_rate(&s, 99, 3), 0.01, 1e-15);
}

/* ---- names and shapes ---- */

static npi_model make_model(npi_device *dev, const npi_model_desc *desc, bool training) {
    npi_model model;
    CHECK_OK(npi_model_create(dev, desc, training, &model));
    return model;
}

/* Compares the lines "model name shape" of one model with ours; returns their number. */
static int compare_names(const char *text, const char *encoder, const npi_params *params) {
    int lines = 0;
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        char model[32], name[64], full[96];
        int used;
        assert_int_equal(sscanf(line, "%31s %63s%n", model, name, &used), 2);
        if (strcmp(model, encoder) != 0)
            continue;
        snprintf(full, sizeof full, "encoder.%s", name);
        int i = npi_params_find(params, full);
        if (i < 0)
            fail_msg("%s lacks %s", encoder, full);
        const char *at = line + used;
        for (int k = 0; k < params->list[i].ndim; k++) {
            char *end;
            assert_int_equal(strtol(at, &end, 10), params->list[i].shape[k]);
            at = end;
        }
        assert_int_equal(*at, '\n');
        lines++;
    }
    return lines;
}

static void encoders_are_torchvisions(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t parameters;
    } known[] = {{"resnet18", 11176512},
                 {"resnet34", 21284672},
                 {"resnet50", 23508032},
                 {"resnet101", 42500160}};
    char *text;
    size_t size;
    npi_device *dev;
    CHECK_OK(npi_file_read(NPOS_SOURCE_DIR "/tests/golden/resnet.txt", &text, &size));
    CHECK_OK(npi_device_open("reference", NPI_PRECISION_FP32, 1, &dev));
    for (int e = 0; e < 4; e++) {
        npi_model model =
            make_model(dev, &(npi_model_desc){.arch = {known[e].name, "7x7", 64, 3, 64}}, false);
        const npi_params *params = &model.params;
        assert_int_equal(compare_names(text, known[e].name, params), params->count);
        int64_t parameters = 0;
        for (int i = 0; i < params->count; i++)
            parameters += params->list[i].buffer ? 0 : (int64_t)params->list[i].count;
        assert_int_equal(parameters, known[e].parameters);
        npi_model_free(&model);
    }
    npi_device_close(dev);
    npi_free(text);
}

static void unknown_encoders_are_named(void **state) {
    (void)state;
    npi_arch arch;
    CHECK_FAILS(npi_arch_build(&(npi_arch_desc){"resnet19", "3x3", 64, 3, 32}, &arch),
                NPOS_INVALID_ARGUMENT, "resnet19");
    CHECK_FAILS(npi_arch_build(&(npi_arch_desc){"resnet18", "5x5", 64, 3, 32}, &arch),
                NPOS_INVALID_ARGUMENT, "5x5");
}

/* ---- starting values ---- */

typedef struct moments {
    double mean, square, largest;
} moments;

static moments moments_of(const npi_params *params, const char *name) {
    int i = npi_params_find(params, name);
    assert_true(i >= 0);
    size_t count = params->list[i].count;
    float *host;
    moments m = {0};
    CHECK_OK(npi_alloc(&host, count, sizeof *host, "values"));
    CHECK_OK(npi_param_get(params, NPI_ARENA_VALUES, i, host));
    for (size_t k = 0; k < count; k++) {
        m.mean += (double)host[k] / (double)count;
        m.square += (double)host[k] * (double)host[k] / (double)count;
        m.largest = fmax(m.largest, fabs((double)host[k]));
    }
    npi_free(host);
    return m;
}

static void starting_values_are_pytorchs(void **state) {
    (void)state;
    npi_device *dev;
    npi_plan *plan;
    CHECK_OK(npi_device_open("reference", NPI_PRECISION_FP32, 1, &dev));
    npi_model model = make_model(dev,
                                 &(npi_model_desc){.arch = {"resnet18", "3x3", 16, 3, 16},
                                                   .projection_dim = 64,
                                                   .head_dim = 32,
                                                   .classes = 5},
                                 false);
    const npi_params *params = &model.params;
    CHECK_OK(npi_plan_create(&model, 1, false, &plan));
    CHECK_OK(npi_params_init(&model.params, 1));
    /* Kaiming-normal, fan-out: variance 2 / (128 3 3); 5 standard errors of 147,456 values */
    double variance = 2.0 / (128 * 9);
    moments m = moments_of(params, "encoder.layer4.1.conv2.weight");
    assert_near(m.square, variance, 5.0 * variance * sqrt(2.0 / 147456));
    assert_near(m.mean, 0.0, 5.0 * sqrt(variance / 147456));
    assert_true(m.largest > 4.0 * sqrt(variance));
    variance = 2.0 / 128; /* the shortcut's 1x1: 8,192 values */
    m = moments_of(params, "encoder.layer4.0.downsample.0.weight");
    assert_near(m.square, variance, 5.0 * variance * sqrt(2.0 / 8192));
    /* linear layers: uniform within 1 / sqrt(fan in), biases too */
    static const char *const linear[] = {"head.0.weight", "head.0.bias", "head.2.weight",
                                         "head.2.bias",   "fc.weight",   "phi.0.weight"};
    double bound = 1.0 / sqrt(128.0);
    for (size_t i = 0; i < sizeof linear / sizeof *linear; i++) {
        m = moments_of(params, linear[i]);
        assert_true(m.largest <= bound + 1e-7);
        assert_true(m.largest > 0.95 * bound);
        assert_near(m.square, bound * bound / 3.0, 0.25 * bound * bound);
    }
    m = moments_of(params, "head.0.weight"); /* 16,384 values */
    assert_near(m.square, bound * bound / 3.0, 5.0 * bound * bound * sqrt(4.0 / 45 / 16384));
    assert_true(moments_of(params, "phi.2.bias").largest <= 1.0 / sqrt(32.0));
    static const struct {
        const char *name;
        double value;
    } constant[] = {{"encoder.bn1.weight", 1.0},
                    {"encoder.bn1.bias", 0.0},
                    {"encoder.bn1.running_mean", 0.0},
                    {"encoder.layer2.0.downsample.1.running_var", 1.0}};
    for (size_t i = 0; i < sizeof constant / sizeof *constant; i++) {
        m = moments_of(params, constant[i].name);
        assert_near(m.mean, constant[i].value, 0.0);
        assert_near(m.square, constant[i].value, 0.0);
    }
    npi_plan_free(plan);
    npi_model_free(&model);
    npi_device_close(dev);
}

/* ---- plans ---- */

typedef struct passes {
    npi_device *dev;
    npi_model model;
    npi_plan *training, *inference;
    int n;
    size_t values; /* of h */
    float *h, *dh, *host, *weight;
} passes;

/* Even in [-1, 1); neighbours have nothing to do with each other. */
static float scattered(uint32_t i) {
    uint32_t u = (i + 1) * 2654435761u;
    u = (u ^ u >> 15) * 2246822519u;
    return (float)((u ^ u >> 13) >> 8) * 0x1p-23f - 1.0f;
}

static void put_images(passes *p, npi_plan *plan) {
    npi_act act = npi_plan_input(plan);
    size_t count = (size_t)(act.n * act.c * act.h * act.w);
    float *host, *images;
    CHECK_OK(npi_alloc(&host, count, sizeof *host, "images"));
    CHECK_OK(p->dev->memory->alloc(p->dev, count * sizeof *host, "images", &images));
    for (size_t i = 0; i < count; i++)
        host[i] = scattered((uint32_t)i);
    CHECK_OK(p->dev->memory->upload(p->dev, images, host, count * sizeof *host));
    CHECK_OK(p->dev->acts->import_nchw(p->dev, images, act));
    p->dev->memory->free(p->dev, images);
    npi_free(host);
}

/* A quarter of each block's branch: deep encoders at their start are so steep that differences say little. */
static void calm_branches(npi_model *model) {
    for (int b = 0; b < model->arch.block_count; b++) {
        const npi_stage_block *block = &model->arch.blocks[b];
        int last = block->layer[block->count - 1];
        float gamma[2048];
        for (int c = 0; c < model->arch.layers[last].out_c; c++)
            gamma[c] = 0.25f;
        CHECK_OK(
            npi_param_set(&model->params, NPI_ARENA_VALUES, model->layer_param[last] + 1, gamma));
    }
}

static void open_passes(passes *p, const char *device, const npi_model_desc *desc, int n) {
    *p = (passes){.n = n};
    CHECK_OK(npi_device_open(device, NPI_PRECISION_FP32, 2, &p->dev));
    p->model = make_model(p->dev, desc, true);
    CHECK_OK(npi_plan_create(&p->model, n, true, &p->training));
    CHECK_OK(npi_plan_create(&p->model, n, false, &p->inference));
    CHECK_OK(npi_params_init(&p->model.params, 3));
    calm_branches(&p->model);
    p->values = (size_t)n * (size_t)p->model.dim;
    CHECK_OK(p->dev->memory->alloc(p->dev, p->values * sizeof(float), "h", &p->h));
    CHECK_OK(p->dev->memory->alloc(p->dev, p->values * sizeof(float), "dh", &p->dh));
    CHECK_OK(npi_alloc(&p->host, p->values, sizeof(float), "h"));
    CHECK_OK(npi_alloc(&p->weight, p->values, sizeof(float), "weights of h"));
    for (size_t i = 0; i < p->values; i++)
        p->weight[i] = scattered((uint32_t)i + 1000000);
    put_images(p, p->training);
    put_images(p, p->inference);
}

static void close_passes(passes *p) {
    p->dev->memory->free(p->dev, p->h);
    p->dev->memory->free(p->dev, p->dh);
    npi_free(p->host);
    npi_free(p->weight);
    npi_plan_free(p->inference);
    npi_plan_free(p->training);
    npi_model_free(&p->model);
    npi_device_close(p->dev);
}

/* sum of weight h after a forward pass; h stays in p->host. */
static double forward(passes *p, npi_plan *plan) {
    CHECK_OK(npi_plan_pack(plan));
    CHECK_OK(npi_plan_forward(plan, p->h));
    CHECK_OK(p->dev->memory->download(p->dev, p->host, p->h, p->values * sizeof(float)));
    double sum = 0.0;
    for (size_t i = 0; i < p->values; i++)
        sum += (double)p->weight[i] * (double)p->host[i];
    return sum;
}

/* After one training forward from running mean 0 and variance 1: sets both to the batch's own, the biased variance. */
static void set_batch_statistics(passes *p) {
    npi_params *params = &p->model.params;
    for (int l = 0; l < p->model.arch.layer_count; l++) {
        const npi_layer *layer = &p->model.arch.layers[l];
        int side = (layer->side + 2 * layer->pad - layer->kernel) / layer->stride + 1;
        double n = (double)p->n * side * side;
        float values[2048];
        for (int k = 0; k < 2; k++) {
            int i = p->model.layer_param[l] + 3 + k;
            CHECK_OK(npi_param_get(params, NPI_ARENA_VALUES, i, values));
            for (int c = 0; c < layer->out_c; c++) {
                double batch = ((double)values[c] - (k ? 0.9 : 0.0)) / 0.1;
                values[c] = (float)(k ? batch * (n - 1.0) / n : batch);
            }
            CHECK_OK(npi_param_set(params, NPI_ARENA_VALUES, i, values));
        }
    }
}

static void inference_follows_training(passes *p, const char *name) {
    float *trained;
    forward(p, p->training);
    CHECK_OK(npi_alloc(&trained, p->values, sizeof *trained, "h"));
    memcpy(trained, p->host, p->values * sizeof *trained);
    set_batch_statistics(p);
    forward(p, p->inference);
    double error = 0.0, norm = 0.0;
    for (size_t i = 0; i < p->values; i++) {
        error += pow((double)p->host[i] - (double)trained[i], 2.0);
        norm += pow((double)trained[i], 2.0);
    }
    npi_free(trained);
    if (!(norm > 0.01) || !(sqrt(error) <= 1e-3 * sqrt(norm)))
        fail_msg("%s: inference is off by %g of %g", name, sqrt(error), sqrt(norm));
}

/* The derivative along the gradient g of all convolutions, norms and the feature layer:
 * (L(w + e g) - L(w - e g)) / 2 = e |g|^2. */
static void gradient_follows_differences(passes *p, const char *name) {
    npi_params *params = &p->model.params;
    size_t count = params->body;
    float *start, *gradient, *moved;
    CHECK_OK(npi_alloc(&start, count, sizeof *start, "parameters"));
    CHECK_OK(npi_alloc(&gradient, count, sizeof *gradient, "gradient"));
    CHECK_OK(npi_alloc(&moved, count, sizeof *moved, "parameters"));
    forward(p, p->training);
    CHECK_OK(p->dev->memory->upload(p->dev, p->dh, p->weight, p->values * sizeof(float)));
    CHECK_OK(npi_plan_backward(p->training, p->h, p->dh));
    CHECK_OK(p->dev->memory->download(p->dev, start, params->values, count * sizeof *start));
    CHECK_OK(p->dev->memory->download(p->dev, gradient, params->grads, count * sizeof *gradient));
    double square = 0.0, loss[2];
    for (size_t i = 0; i < count; i++)
        square += (double)gradient[i] * (double)gradient[i];
    if (!(square > 0.0 && square < 1e12))
        fail_msg("%s: the gradient's squared norm is %g", name, square);
    double step = 1e-4 / sqrt(square);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < count; i++)
            moved[i] = (float)((double)start[i] + (side ? step : -step) * (double)gradient[i]);
        CHECK_OK(p->dev->memory->upload(p->dev, params->values, moved, count * sizeof *moved));
        loss[side] = forward(p, p->training);
    }
    CHECK_OK(p->dev->memory->upload(p->dev, params->values, start, count * sizeof *start));
    double ratio = (loss[1] - loss[0]) / 2.0 / (step * square);
    if (!(fabs(ratio - 1.0) <= 0.01))
        fail_msg("%s: the difference is %g times what the gradient says", name, ratio);
    npi_free(start);
    npi_free(gradient);
    npi_free(moved);
}

static void every_encoder_runs(void **state) {
    (void)state;
    static const struct {
        npi_model_desc desc;
        const char *device;
    } cases[] = {
        {{.arch = {"resnet-small", "3x3", 16, 1, 28}}, "reference"},
        {{.arch = {"resnet18", "3x3", 16, 3, 16}}, "reference"},
        {{.arch = {"resnet18", "3x3s2", 16, 3, 32}}, "cpu"},
        {{.arch = {"resnet18", "7x7", 16, 3, 64}}, "reference"},
        {{.arch = {"resnet34", "3x3", 16, 3, 16}}, "cpu"},
        {{.arch = {"resnet50", "3x3", 16, 3, 16}}, "cpu"},
        {{.arch = {"resnet50", "7x7", 16, 3, 64}, .feature_dim = 24}, "cpu"},
        {{.arch = {"resnet101", "7x7", 16, 3, 64}, .feature_dim = 32}, "cpu"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        passes p;
        char name[64];
        snprintf(name, sizeof name, "%s %s, %s", cases[i].desc.arch.encoder,
                 cases[i].desc.arch.stem, cases[i].device);
        open_passes(&p, cases[i].device, &cases[i].desc, 4);
        inference_follows_training(&p, name);
        gradient_follows_differences(&p, name);
        close_passes(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cosine_falls_by_epoch),
        cmocka_unit_test(warm_up_rises_by_step),
        cmocka_unit_test(a_step_falls_once),
        cmocka_unit_test(encoders_are_torchvisions),
        cmocka_unit_test(unknown_encoders_are_named),
        cmocka_unit_test(starting_values_are_pytorchs),
        cmocka_unit_test(every_encoder_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
