/* Fine-tuning CLIP's last blocks beside transformers in float64 (tests/golden/make_finetune.py): every gradient of one step,
 * the losses of 50, of which some have fewer images.  And, of more blocks than those, gradients beside differences. */
#include "base/memory.h"
#include "devices/golden.h"
#include "io/safetensors.h"
#include "jobs/clip_file.h"
#include "ood/objective.h"

enum {
    N = 16,
    FEW = 11,
    CLASSES = 3,
    ROWS = 10,
    WIDTH = 32,
    DIM = 24,
    HEAD = 8,
    RING = 12,
    PICK = 2,
    NOISE = 20,
    STEPS = 50,
    OPEN_FROM = 10
};

static const int32_t labels[N] = {0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 2, 0, 1, 2, 0, 0};
static npi_safetensors *golden;

/* step.py's hash32. */
static void hash32(uint64_t stream, size_t count, float factor, float *out) {
    for (size_t k = 0; k < count; k++) {
        uint64_t u = (k + stream * 1000003 + 1) * UINT64_C(2654435761) & 0xffffffffu;
        u ^= u >> 15;
        u = u * UINT64_C(2246822519) & 0xffffffffu;
        u ^= u >> 13;
        out[k] = ((float)(u >> 8) * 0x1p-22f - 2.0f) * factor;
    }
}

static const void *tensor(const char *name, size_t count) {
    const npi_named_tensor *t = npi_safetensors_find(golden, name);
    if (!t)
        fail_msg("the golden file lacks '%s'", name);
    size_t found = 1;
    for (int i = 0; i < t->ndim; i++)
        found *= (size_t)t->shape[i];
    assert_int_equal(found, count);
    return t->data;
}

typedef struct setup {
    npi_device *dev;
    npi_clip clip;
    npi_model model;
    npi_clip_tuning *plan;
    npi_objective o;
    uint16_t *halves; /* device memory, as the next two */
    float *noise;
    int32_t *picks;
    npi_synth_given given;
} setup;

static void upload(setup *s, void *to, const void *from, size_t bytes) {
    CHECK_OK(s->dev->memory->upload(s->dev, to, from, bytes));
}

static void set_head(npi_params *params) {
    static const char *const names[] = {"phi.0.weight", "phi.0.bias", "phi.2.weight", "phi.2.bias"};
    for (int i = 0; i < 4; i++) {
        float host[HEAD * DIM];
        int at = npi_params_find(params, names[i]);
        assert_true(at >= 0);
        hash32(700 + (uint64_t)i, params->list[at].count, 0.25f, host);
        CHECK_OK(npi_param_set(params, NPI_ARENA_VALUES, at, host));
    }
}

static void open_setup(setup *s, int which, npi_cosine_loss loss) {
    char path[1100];
    *s = (setup){.dev = golden_open(which)};
    snprintf(path, sizeof path, "%s/tests/golden/clip/hf", check_source());
    CHECK_OK(npi_clip_load(s->dev, path, NPI_CLIP_VISION, NPI_CLIP_ACT_AUTO, &s->clip));
    CHECK_OK(npi_clip_tuned_create(&s->clip, 0, HEAD, &s->model));
    set_head(&s->model.params);
    CHECK_OK(npi_clip_tuning_create(&s->model, &s->clip.config, 0, N, &s->plan));
    npi_objective_desc desc = {.method = NPI_METHOD_CLIP,
                               .samples = N,
                               .classes = CLASSES,
                               .alpha = 0.1f,
                               .cosine_loss = loss,
                               .temperature = loss == NPI_COSINE_PLAIN ? 0.1f : 8.0f,
                               .synth = {CLASSES, RING, DIM, 5, 6, PICK, NOISE, 3, 0.1f, false, 1},
                               .sgd = {.momentum = 0.9f, .weight_decay = 1e-4f, .nesterov = true}};
    CHECK_OK(npi_objective_create(npi_comm_self(), &s->model, npi_clip_tuning_encoder(s->plan),
                                  &desc, &s->o));
    CHECK_OK(npi_objective_set_text(&s->o, tensor("text", CLASSES * DIM)));
    float rows[CLASSES * RING * DIM];
    hash32(500, CLASSES * RING * DIM, 1.0f, rows);
    for (int i = 0; i < CLASSES * RING * DIM; i++)
        rows[i] = (float)(0.6 + 0.25 * (double)rows[i]);
    upload(s, s->o.ring.rows, rows, sizeof rows);
    upload(s, s->o.ring.count, (uint64_t[]){12, 17, 30}, CLASSES * sizeof(uint64_t));
    s->halves = golden_alloc(s->dev, NULL, (size_t)N * ROWS * WIDTH * sizeof *s->halves);
    s->noise = golden_alloc(s->dev, NULL, (size_t)NOISE * DIM * sizeof *s->noise);
    s->picks = golden_alloc(s->dev, NULL, (size_t)CLASSES * PICK * sizeof *s->picks);
    s->given = (npi_synth_given){s->noise, s->picks};
}

static void close_setup(setup *s) {
    s->dev->memory->free(s->dev, s->halves);
    s->dev->memory->free(s->dev, s->noise);
    s->dev->memory->free(s->dev, s->picks);
    npi_objective_free(&s->o);
    npi_clip_tuning_free(s->plan);
    npi_model_free(&s->model);
    npi_clip_free(&s->clip);
    npi_device_close(s->dev);
}

/* All that step `number` of n images is given. */
static void give(setup *s, int number, int n, const int32_t *picks) {
    static float tokens[N * ROWS * WIDTH], noise[NOISE * DIM];
    static uint16_t halves[N * ROWS * WIDTH];
    hash32(600 + (uint64_t)number, N * ROWS * WIDTH, 0.5f, tokens);
    for (int i = 0; i < N; i++)
        tokens[(i * ROWS + 3) * WIDTH + labels[i]] += 2.0f;
    for (int k = 0; k < N * ROWS * WIDTH; k++)
        halves[k] = npi_f32_to_f16(tokens[k]);
    hash32(200 + (uint64_t)number, NOISE * DIM, 1.0f, noise);
    npi_tokens input = npi_clip_tuning_input(s->plan);
    input.n = n;
    upload(s, s->halves, halves, sizeof halves);
    CHECK_OK(s->dev->tokens->import_halves(s->dev, s->halves, NULL, input));
    upload(s, s->noise, noise, sizeof noise);
    upload(s, s->picks, picks, (size_t)CLASSES * PICK * sizeof *picks);
    upload(s, s->o.labels, labels, (size_t)n * sizeof *labels);
    npi_step step = {(uint64_t)number, 0.1f, 0.01f};
    upload(s, s->o.step, &step, sizeof step);
    s->o.n = n;
}

/* |seen - expected| <= tolerance |expected| + tiny */
static void assert_close(const char *where, const char *what, const float *seen,
                         const float *expected, size_t count, double tolerance, double tiny) {
    double error = 0.0, norm = 0.0;
    for (size_t i = 0; i < count; i++) {
        double e = (double)seen[i] - (double)expected[i];
        error += e * e;
        norm += (double)expected[i] * (double)expected[i];
    }
    if (!(sqrt(error) <= tolerance * sqrt(norm) + tiny))
        fail_msg("%s: %s is off by %g of %g", where, what, sqrt(error), sqrt(norm));
}

static void assert_losses(setup *s, const char *where, const float *expected, double tolerance) {
    static const char *const names[] = {"L_disp", "L_comp", "R_open", "CE", "gradient norm"};
    float seen[NPI_LOSS_COUNT];
    CHECK_OK(s->dev->memory->download(s->dev, seen, s->o.losses, sizeof seen));
    for (int i = 0; i < NPI_LOSS_COUNT; i++)
        assert_close(where, names[i], &seen[i], &expected[i], 1, tolerance, 1e-7);
}

/* Parameters that the golden file has as "PREFIX.name"; returns their number. */
static int assert_params(setup *s, const char *prefix, npi_arena arena, double tolerance,
                         double tiny) {
    const npi_params *params = &s->model.params;
    int compared = 0;
    for (int i = 0; i < params->count; i++) {
        const npi_param *p = &params->list[i];
        char name[128];
        float *host;
        snprintf(name, sizeof name, "%s.%s", prefix, p->name);
        if (!npi_safetensors_find(golden, name))
            continue;
        CHECK_OK(npi_alloc(&host, p->count, sizeof *host, "parameter"));
        CHECK_OK(npi_param_get(params, arena, i, host));
        assert_close(s->dev->name, name, host, tensor(name, p->count), p->count, tolerance, tiny);
        npi_free(host);
        compared++;
    }
    return compared;
}

static void every_gradient_of_a_step(void **state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        setup s;
        const float *losses = tensor("losses", NPI_LOSS_COUNT);
        open_setup(&s, which, NPI_COSINE_LOGIT_NORM);
        give(&s, 0, N, tensor("picks", CLASSES * PICK));
        CHECK_OK(npi_objective_step(&s.o, true, &s.given));
        assert_losses(&s, s.dev->name, losses, 1e-4);
        double tiny = 1e-6 * (double)losses[NPI_LOSS_GRAD_NORM];
        assert_int_equal(assert_params(&s, "grad", NPI_ARENA_GRADS, 1e-4, tiny),
                         2 * NPI_CLIP_BLOCK_PARAMS + 3 + 4);
        assert_int_equal(s.model.params.count, 2 * NPI_CLIP_BLOCK_PARAMS + 3 + 4);
        close_setup(&s);
    }
}

static void plain_cosines(void **state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        setup s;
        const int32_t none[CLASSES * PICK] = {0};
        open_setup(&s, which, NPI_COSINE_PLAIN);
        give(&s, 0, N, none);
        CHECK_OK(npi_objective_step(&s.o, false, NULL));
        assert_losses(&s, s.dev->name, tensor("plain.losses", NPI_LOSS_COUNT), 1e-4);
        close_setup(&s);
    }
}

static void fifty_steps(void **state) {
    (void)state;
    const float *losses = tensor("curve.losses", STEPS * NPI_LOSS_COUNT);
    const int32_t *picks = tensor("curve.picks", STEPS * CLASSES * PICK);
    for (int which = 0; which < 2; which++) {
        setup s;
        uint64_t calls = 0;
        open_setup(&s, which, NPI_COSINE_LOGIT_NORM);
        for (int i = 0; i < STEPS; i++) {
            char where[64];
            snprintf(where, sizeof where, "%s, step %d", s.dev->name, i);
            give(&s, i, i % 7 == 6 ? FEW : N, picks + i * CLASSES * PICK);
            uint64_t before = npi_memory_calls();
            CHECK_OK(npi_objective_step(&s.o, i >= OPEN_FROM, &s.given));
            calls += i > 0 ? npi_memory_calls() - before : 0;
            assert_losses(&s, where, losses + i * NPI_LOSS_COUNT, 1e-3);
        }
        assert_int_equal(calls, 0);
        float ring[CLASSES * RING * DIM];
        CHECK_OK(s.dev->memory->download(s.dev, ring, s.o.ring.rows, sizeof ring));
        assert_close(s.dev->name, "rings", ring, tensor("curve.ring", CLASSES * RING * DIM),
                     CLASSES * RING * DIM, 1e-3, 0.0);
        assert_int_equal(assert_params(&s, "curve", NPI_ARENA_VALUES, 1e-3, 0.0), 3);
        close_setup(&s);
    }
}

/* ---- more blocks ---- */

enum { SMALL = 2, SMALL_ROWS = 5 };

/* sum of h G over all numbers */
static double weighed(npi_device *dev, npi_encoder encoder, const float *weights, float *h) {
    float host[SMALL * DIM];
    double sum = 0.0;
    CHECK_OK(encoder.pack(encoder.plan));
    CHECK_OK(encoder.forward(encoder.plan, SMALL, h));
    CHECK_OK(dev->memory->download(dev, host, h, sizeof host));
    for (int k = 0; k < SMALL * DIM; k++)
        sum += (double)host[k] * (double)weights[k];
    return sum;
}

/* Moves parameter i by `by` along the hash of its own number. */
static void move(npi_params *params, int i, float by) {
    float host[1024], along[1024];
    size_t count = params->list[i].count;
    assert_true(count <= 1024);
    hash32(900 + (uint64_t)i, count, by, along);
    CHECK_OK(npi_param_get(params, NPI_ARENA_VALUES, i, host));
    for (size_t k = 0; k < count; k++)
        host[k] += along[k];
    CHECK_OK(npi_param_set(params, NPI_ARENA_VALUES, i, host));
}

static void gradients_of_four_blocks(void **state) {
    (void)state;
    const float small = 0x1p-8f;
    npi_device *dev = golden_open(0);
    npi_clip clip;
    npi_model model;
    npi_clip_tuning *plan;
    npi_clip_config config = {.vision = {8, 5, 2, 16, NPI_ACT_QUICK_GELU},
                              .channels = 1,
                              .side = 4,
                              .patch = 2,
                              .projection = DIM};
    float tokens[SMALL * SMALL_ROWS * 8], weights[SMALL * DIM], along[1024], grad[1024];
    CHECK_OK(npi_clip_create(dev, &config, &clip));
    CHECK_OK(npi_params_init(&clip.vision.params, 3));
    CHECK_FAILS(npi_clip_tuned_create(&clip, 5, 0, &model), NPOS_INVALID_ARGUMENT, "block 5");
    npi_model_free(&model);
    CHECK_OK(npi_clip_tuned_create(&clip, 1, 0, &model));
    CHECK_OK(npi_clip_tuning_create(&model, &config, 1, SMALL, &plan));
    npi_encoder encoder = npi_clip_tuning_encoder(plan);
    hash32(1, SMALL * SMALL_ROWS * 8, 1.0f, tokens);
    hash32(2, SMALL * DIM, 1.0f, weights);
    CHECK_OK(dev->tokens->import_rows(dev, tokens, npi_clip_tuning_input(plan)));
    float *h = golden_alloc(dev, NULL, sizeof weights),
          *dh = golden_alloc(dev, weights, sizeof weights);
    weighed(dev, encoder, weights, h);
    CHECK_OK(encoder.backward(encoder.plan, h, dh));
    CHECK_FAILS(encoder.forward(encoder.plan, SMALL + 1, h), NPOS_INVALID_ARGUMENT, "3 images");
    for (int i = 0; i < model.params.count; i++) {
        double slope = 0.0, size = 0.0;
        size_t count = model.params.list[i].count;
        hash32(900 + (uint64_t)i, count, 1.0f, along);
        CHECK_OK(npi_param_get(&model.params, NPI_ARENA_GRADS, i, grad));
        for (size_t k = 0; k < count; k++) {
            slope += (double)grad[k] * (double)along[k];
            size += fabs((double)grad[k] * (double)along[k]);
        }
        move(&model.params, i, small);
        double up = weighed(dev, encoder, weights, h);
        move(&model.params, i, -2.0f * small);
        double seen = (up - weighed(dev, encoder, weights, h)) / (2.0 * (double)small);
        move(&model.params, i, small);
        if (!(fabs(seen - slope) <= 2e-3 * size + 2e-3))
            fail_msg("%s: slope %g, by differences %g", model.params.list[i].name, slope, seen);
    }
    dev->memory->free(dev, h);
    dev->memory->free(dev, dh);
    npi_clip_tuning_free(plan);
    npi_model_free(&model);
    npi_clip_free(&clip);
    npi_device_close(dev);
}

static int open_golden(void **state) {
    char path[1100];
    (void)state;
    snprintf(path, sizeof path, "%s/tests/golden/clip/finetune.safetensors", check_source());
    CHECK_OK(npi_safetensors_open(path, &golden));
    return 0;
}

static int close_golden(void **state) {
    (void)state;
    npi_safetensors_close(golden);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_of_a_step), cmocka_unit_test(plain_cosines),
        cmocka_unit_test(fifty_steps), cmocka_unit_test(gradients_of_four_blocks)};
    return cmocka_run_group_tests(tests, open_golden, close_golden);
}
