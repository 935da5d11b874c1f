/* The training step against PyTorch in float64 (tests/golden/step.py): every loss, gradient, ring, prototype, outlier,
 * parameter and running statistic of one step, and the losses of ten; of other methods, networks and settings the
 * losses, outliers and gradients; on each device and instruction set.  And: a step allocates nothing. */
#include "check.h"

#include <math.h>

#include "base/memory.h"
#include "comm/comm.h"
#include "io/safetensors.h"
#include "ood/objective.h"

enum {
    N = 16,
    CLASSES = 3,
    SIDE = 16,
    DIM = 32,
    RING = 12,
    PICK = 2,
    NOISE = 20,
    KEEP = 3,
    STEPS = 10,
    OPEN_FROM = 2,
    ZERO_ROW = 11
};

static const int32_t labels[N] = {0, 1, 2, 0, 1, 2, 0, 0, 0, 1, 2, 0, 1, 2, 0, 0};

static npi_safetensors *start, *npos, *kin, *variants; /* the golden files */

/* What differs from the plain step; `name` is the prefix of its tensors in `variants`. */
typedef struct variant {
    const char *name;
    npi_method method;
    int feature;        /* feature_dim */
    bool bare, authors; /* without projection head; compat: authors */
    float clip;         /* clip_norm */
} variant;

/* step.py's hash32. */
static void hash32(uint64_t stream, size_t count, float *out) {
    for (size_t k = 0; k < count; k++) {
        uint64_t u = (k + stream * 1000003 + 1) * UINT64_C(2654435761) & 0xffffffffu;
        u ^= u >> 15;
        u = u * UINT64_C(2246822519) & 0xffffffffu;
        u ^= u >> 13;
        out[k] = (float)(u >> 8) * 0x1p-22f - 2.0f;
    }
}

typedef struct setup {
    const variant *variant;
    npi_device *dev;
    npi_model model;
    npi_plan *plan;
    npi_objective o;
    float *images, *noise; /* device memory */
    int32_t *picks;
    npi_synth_given given;
} setup;

static void upload(setup *s, void *to, const void *from, size_t bytes) {
    CHECK_OK(s->dev->memory->upload(s->dev, to, from, bytes));
}

static const npi_named_tensor *tensor(const npi_safetensors *file, const char *name) {
    const npi_named_tensor *t = npi_safetensors_find(file, name);
    if (!t)
        fail_msg("the golden file lacks '%s'", name);
    return t;
}

/* A variant's own starting value, or that of all. */
static const npi_named_tensor *start_of(const setup *s, const char *name) {
    char own[96];
    snprintf(own, sizeof own, "%s.start.%s", s->variant->name ? s->variant->name : "", name);
    const npi_named_tensor *t = npi_safetensors_find(variants, own);
    return t ? t : tensor(start, name);
}

static size_t count_of(const npi_named_tensor *t) {
    size_t count = 1;
    for (int i = 0; i < t->ndim; i++)
        count *= (size_t)t->shape[i];
    return count;
}

static void set_start(setup *s) {
    npi_params *params = &s->model.params;
    for (int i = 0; i < params->count; i++) {
        const npi_named_tensor *t = start_of(s, params->list[i].name);
        assert_int_equal(count_of(t), params->list[i].count);
        CHECK_OK(npi_param_set(params, NPI_ARENA_VALUES, i, t->data));
    }
    CHECK_OK(s->dev->memory->zero(s->dev, params->velocity,
                                  (params->body + params->head) * sizeof(float)));
    if (s->o.mu) {
        const npi_named_tensor *mu = start_of(s, "mu");
        upload(s, s->o.mu, mu->data, count_of(mu) * sizeof(float));
    }
    if (s->o.ring.rows) {
        float rows[CLASSES * RING * DIM];
        size_t dim = (size_t)s->model.dim, count = CLASSES * RING * dim;
        hash32(500, count, rows);
        for (size_t i = 0; i < count; i++)
            rows[i] = (float)(0.6 + 0.25 * (double)rows[i]);
        for (size_t c = 0; s->variant->authors && c < CLASSES; c++)
            memset(rows + (c * RING + ZERO_ROW) * dim, 0, dim * sizeof *rows);
        upload(s, s->o.ring.rows, rows, count * sizeof *rows);
        upload(s, s->o.ring.count, (uint64_t[]){12, 17, 30}, CLASSES * sizeof(uint64_t));
    }
}

static void open_setup(setup *s, const char *device, npi_precision precision, const variant *v) {
    npi_method method = v->method;
    *s = (setup){.variant = v};
    CHECK_OK(npi_device_open(device, precision, 2, &s->dev));
    npi_model_desc model = {
        .arch = {.encoder = "resnet-small", .stem = "3x3", .width = 8, .channels = 3, .side = SIDE},
        .feature_dim = v->feature,
        .projection_dim = method == NPI_METHOD_CE || v->bare ? 0 : 16,
        .head_dim = method == NPI_METHOD_NPOS || method == NPI_METHOD_VOS ? 8 : 0,
        .classes = method == NPI_METHOD_CE ? CLASSES : 0};
    CHECK_OK(npi_model_create(s->dev, &model, true, &s->model));
    CHECK_OK(npi_plan_create(&s->model, N, true, &s->plan));
    int dim = s->model.dim;
    npi_objective_desc desc = {
        .method = method,
        .samples = N,
        .classes = CLASSES,
        .w_disp = 0.5f,
        .w_comp = 1.0f,
        .alpha = 0.1f,
        .tau = 0.1f,
        .proto_m = 0.95f,
        .synth = {CLASSES, RING, dim, 5, 6, PICK, NOISE, KEEP, 0.1f, v->authors, 1},
        .gauss = {CLASSES, RING, dim, 50, 4, 1},
        .sgd = {.momentum = 0.9f, .weight_decay = 5e-3f, .nesterov = true, .clip_norm = v->clip}};
    CHECK_OK(
        npi_objective_create(npi_comm_self(), &s->model, npi_plan_encoder(s->plan), &desc, &s->o));
    const npi_memory_ops *memory = s->dev->memory;
    CHECK_OK(memory->alloc(s->dev, N * 3 * SIDE * SIDE * sizeof(float), "views", &s->images));
    CHECK_OK(memory->alloc(s->dev, NOISE * DIM * sizeof(float), "noise", &s->noise));
    CHECK_OK(memory->alloc(s->dev, CLASSES * PICK * sizeof(int32_t), "picks", &s->picks));
    s->given = (npi_synth_given){s->noise, s->picks};
    set_start(s);
}

static void close_setup(setup *s) {
    s->dev->memory->free(s->dev, s->images);
    s->dev->memory->free(s->dev, s->noise);
    s->dev->memory->free(s->dev, s->picks);
    npi_objective_free(&s->o);
    npi_plan_free(s->plan);
    npi_model_free(&s->model);
    npi_device_close(s->dev);
}

static const variant plain = {.method = NPI_METHOD_NPOS};

/* All that step number `number` is given. */
static void give(setup *s, int number, const int32_t *picks) {
    static float images[N * 3 * SIDE * SIDE], noise[NOISE * DIM];
    const int pixels = SIDE * SIDE;
    hash32(100 + (uint64_t)number, N * 3 * SIDE * SIDE, images);
    for (int i = 0; i < N; i++)
        for (int p = 0; p < pixels; p++)
            images[(i * 3 + labels[i]) * pixels + p] += 1.0f;
    size_t noises = NOISE * (size_t)s->model.dim;
    hash32(200 + (uint64_t)number, noises, noise);
    upload(s, s->images, images, sizeof images);
    CHECK_OK(s->dev->acts->import_nchw(s->dev, s->images, npi_plan_input(s->plan)));
    upload(s, s->noise, noise, noises * sizeof *noise);
    upload(s, s->picks, picks, CLASSES * PICK * sizeof *picks);
    upload(s, s->o.labels, labels, sizeof labels);
    npi_step step = {(uint64_t)number, 0.002f, 0.05f};
    upload(s, s->o.step, &step, sizeof step);
}

/* || a - b || <= tolerance || b || + tiny; `tiny` stands for the rounding of what should be 0. */
static void assert_close(const char *where, const char *what, const float *seen,
                         const float *expected, size_t count, double tolerance, double tiny) {
    double error = 0.0, norm = 0.0;
    for (size_t i = 0; i < count; i++) {
        double e = (double)seen[i] - (double)expected[i];
        error += e * e;
        norm += (double)expected[i] * (double)expected[i];
    }
    error = sqrt(error);
    norm = sqrt(norm);
    if (!(error <= tolerance * norm + tiny))
        fail_msg("%s: %s is off by %g of %g, expected at most %g of it", where, what, error, norm,
                 tolerance);
}

static void assert_device(setup *s, const char *where, const npi_safetensors *file,
                          const char *name, const float *device, double tolerance) {
    const npi_named_tensor *t = tensor(file, name);
    float *host;
    size_t count = count_of(t);
    CHECK_OK(npi_alloc(&host, count, sizeof *host, "values"));
    CHECK_OK(s->dev->memory->download(s->dev, host, device, count * sizeof *host));
    assert_close(where, name, host, t->data, count, tolerance, 1e-6);
    npi_free(host);
}

/* Each parameter against the golden "PREFIX.name"; those that the file lacks only when `all` is not set. */
static int assert_params(setup *s, const char *where, const npi_safetensors *file,
                         const char *prefix, npi_arena arena, bool all, double tolerance,
                         double tiny) {
    const npi_params *params = &s->model.params;
    int compared = 0;
    for (int i = 0; i < params->count; i++) {
        const npi_param *p = &params->list[i];
        char name[96];
        float *host;
        if (p->buffer && arena != NPI_ARENA_VALUES)
            continue;
        snprintf(name, sizeof name, "%s.%s", prefix, p->name);
        if (!all && !npi_safetensors_find(file, name))
            continue;
        const npi_named_tensor *t = tensor(file, name);
        assert_int_equal(count_of(t), p->count);
        CHECK_OK(npi_alloc(&host, p->count, sizeof *host, "parameter"));
        CHECK_OK(npi_param_get(params, arena, i, host));
        assert_close(where, name, host, t->data, p->count, tolerance, tiny);
        npi_free(host);
        compared++;
    }
    return compared;
}

/* What the step added to each parameter and running statistic that the file has as "PREFIX.name", seen through float32's
 * rounding of the values. */
static int assert_updates(setup *s, const char *where, const npi_safetensors *file,
                          const char *prefix) {
    const npi_params *params = &s->model.params;
    int compared = 0;
    for (int i = 0; i < params->count; i++) {
        const npi_param *p = &params->list[i];
        char name[96];
        float *host, *expected;
        snprintf(name, sizeof name, "%s.%s", prefix, p->name);
        const npi_named_tensor *after = npi_safetensors_find(file, name);
        if (!after)
            continue;
        const float *before = start_of(s, p->name)->data;
        assert_int_equal(count_of(after), p->count);
        CHECK_OK(npi_alloc(&host, p->count, sizeof *host, "parameter"));
        CHECK_OK(npi_alloc(&expected, p->count, sizeof *host, "update"));
        CHECK_OK(npi_param_get(params, NPI_ARENA_VALUES, i, host));
        double norm = 0.0;
        for (size_t k = 0; k < p->count; k++) {
            host[k] -= before[k];
            expected[k] = ((const float *)after->data)[k] - before[k];
            norm += (double)before[k] * (double)before[k];
        }
        assert_close(where, name, host, expected, p->count, 1e-4, 1e-7 * sqrt(norm) + 1e-9);
        npi_free(host);
        npi_free(expected);
        compared++;
    }
    return compared;
}

static void assert_losses(setup *s, const char *where, const float *expected, double tolerance) {
    static const char *const names[] = {"L_disp", "L_comp", "R_open", "CE", "gradient norm"};
    float seen[NPI_LOSS_COUNT];
    CHECK_OK(s->dev->memory->download(s->dev, seen, s->o.losses, sizeof seen));
    for (int i = 0; i < NPI_LOSS_COUNT; i++)
        assert_close(where, names[i], &seen[i], &expected[i], 1, tolerance, 1e-6);
}

/* The gradient's rounding is that of its largest terms: `tiny` is relative to the whole gradient. */
static double gradient_tiny(const npi_safetensors *file, const char *losses, double tolerance) {
    const float *l = tensor(file, losses)->data;
    return 0.01 * tolerance * (double)l[NPI_LOSS_GRAD_NORM];
}

static void check_one_step(const char *where, const char *device) {
    setup s;
    open_setup(&s, device, NPI_PRECISION_FP32, &plain);
    give(&s, 0, tensor(npos, "picks")->data);
    CHECK_OK(npi_objective_step(&s.o, true, &s.given));
    assert_losses(&s, where, tensor(npos, "losses")->data, 1e-4);
    assert_device(&s, where, npos, "h", s.o.rows, 1e-4);
    assert_device(&s, where, npos, "z", s.o.z, 1e-4);
    assert_device(&s, where, npos, "mu", s.o.mu, 1e-4);
    assert_device(&s, where, npos, "ring", s.o.ring.rows, 1e-4);
    assert_device(&s, where, npos, "outliers", s.o.rows + N * DIM, 1e-4);
    int32_t boundary[CLASSES * PICK];
    uint64_t count[CLASSES];
    CHECK_OK(s.dev->memory->download(s.dev, boundary, s.o.picked, sizeof boundary));
    assert_memory_equal(boundary, tensor(npos, "boundary")->data, sizeof boundary);
    CHECK_OK(s.dev->memory->download(s.dev, count, s.o.ring.count, sizeof count));
    for (int c = 0; c < CLASSES; c++)
        assert_int_equal(count[c], ((const int32_t *)tensor(npos, "count")->data)[c]);
    double tiny = gradient_tiny(npos, "losses", 1e-4);
    assert_int_equal(assert_params(&s, where, npos, "grad", NPI_ARENA_GRADS, true, 1e-4, tiny), 35);
    assert_int_equal(assert_updates(&s, where, npos, "after"), 53);
    close_setup(&s);
}

static void check_ten_steps(const char *where, const char *device, npi_precision precision,
                            double tolerance) {
    setup s;
    open_setup(&s, device, precision, &plain);
    const float *losses = tensor(npos, "ten.losses")->data;
    const int32_t *picks = tensor(npos, "ten.picks")->data;
    for (int i = 0; i < STEPS; i++) {
        char at[96];
        snprintf(at, sizeof at, "%s, step %d", where, i);
        give(&s, i, picks + i * CLASSES * PICK);
        CHECK_OK(npi_objective_step(&s.o, i >= OPEN_FROM, &s.given));
        assert_losses(&s, at, losses + i * NPI_LOSS_COUNT, tolerance);
    }
    assert_device(&s, where, npos, "ten.mu", s.o.mu, tolerance);
    assert_device(&s, where, npos, "ten.ring", s.o.ring.rows, tolerance);
    assert_int_equal(
        assert_params(&s, where, npos, "ten", NPI_ARENA_VALUES, false, tolerance, 1e-6), 4);
    close_setup(&s);
}

/* The gradients may be half as far again from the exact ones as PyTorch's own bf16 is, "half.name". */
static void assert_half_gradients(setup *s, const char *where) {
    const npi_params *params = &s->model.params;
    for (int i = 0; i < params->count; i++) {
        const npi_param *p = &params->list[i];
        char name[96];
        float *host;
        if (p->buffer)
            continue;
        snprintf(name, sizeof name, "half.%s", p->name);
        double theirs = (double)*(const float *)tensor(npos, name)->data;
        snprintf(name, sizeof name, "grad.%s", p->name);
        CHECK_OK(npi_alloc(&host, p->count, sizeof *host, "gradient"));
        CHECK_OK(npi_param_get(params, NPI_ARENA_GRADS, i, host));
        assert_close(where, name, host, tensor(npos, name)->data, p->count, 1.5 * theirs + 0.02,
                     0.0);
        npi_free(host);
    }
}

/* Two bytes an activation. */
static void check_half(const char *where, const char *device) {
    setup s;
    npi_device *dev;
    if (npi_device_open(device, NPI_PRECISION_BF16, 1, &dev) != NPOS_OK)
        return; /* the set computes in fp32 only */
    npi_device_close(dev);
    open_setup(&s, device, NPI_PRECISION_BF16, &plain);
    assert_int_equal(s.dev->compute, NPI_BF16);
    give(&s, 0, tensor(npos, "picks")->data);
    CHECK_OK(npi_objective_step(&s.o, true, &s.given));
    assert_losses(&s, where, tensor(npos, "losses")->data, 0.03);
    assert_device(&s, where, npos, "h", s.o.rows, 0.01);
    assert_device(&s, where, npos, "z", s.o.z, 0.01);
    assert_device(&s, where, npos, "mu", s.o.mu, 0.01);
    assert_half_gradients(&s, where);
    close_setup(&s);
}

static void check_kin(const char *where, const char *device, npi_method method, const char *name) {
    setup s;
    char losses[32], prefix[32];
    snprintf(losses, sizeof losses, "%s.losses", name);
    snprintf(prefix, sizeof prefix, "%s.grad", name);
    open_setup(&s, device, NPI_PRECISION_FP32, &(variant){.method = method});
    give(&s, 0, (int32_t[CLASSES * PICK]){0});
    CHECK_OK(npi_objective_step(&s.o, method == NPI_METHOD_VOS, NULL));
    if (method == NPI_METHOD_VOS)
        assert_device(&s, where, kin, "vos.outliers", s.o.rows + N * DIM, 1e-4);
    assert_losses(&s, where, tensor(kin, losses)->data, 1e-4);
    assert_true(assert_params(&s, where, kin, prefix, NPI_ARENA_GRADS, false, 1e-4,
                              gradient_tiny(kin, losses, 1e-4)) >= 20);
    close_setup(&s);
}

/* "NAME.what" of the variant. */
static const char *own(const variant *v, const char *what) {
    static char name[64];
    snprintf(name, sizeof name, "%s.%s", v->name, what);
    return name;
}

static void check_variant(const char *device_name, const char *device, const variant *v,
                          int gradients, int updates) {
    setup s;
    char where[64];
    int32_t boundary[CLASSES * PICK];
    snprintf(where, sizeof where, "%s, %s", v->name, device_name);
    open_setup(&s, device, NPI_PRECISION_FP32, v);
    give(&s, 0, tensor(variants, own(v, "picks"))->data);
    CHECK_OK(npi_objective_step(&s.o, true, &s.given));
    assert_losses(&s, where, tensor(variants, own(v, "losses"))->data, 1e-4);
    CHECK_OK(s.dev->memory->download(s.dev, boundary, s.o.picked, sizeof boundary));
    assert_memory_equal(boundary, tensor(variants, own(v, "boundary"))->data, sizeof boundary);
    assert_device(&s, where, variants, own(v, "z"), s.o.z, 1e-4);
    assert_device(&s, where, variants, own(v, "mu"), s.o.mu, 1e-4);
    assert_device(&s, where, variants, own(v, "outliers"), s.o.rows + N * s.model.dim, 1e-4);
    double tiny = gradient_tiny(variants, own(v, "losses"), 1e-4);
    assert_int_equal(
        assert_params(&s, where, variants, own(v, "grad"), NPI_ARENA_GRADS, false, 1e-4, tiny),
        gradients);
    assert_int_equal(assert_updates(&s, where, variants, own(v, "after")), updates);
    close_setup(&s);
}

/* The authors' mistakes; a clipped gradient; a feature layer; no projection head; both, as on ImageNet. */
static void check_variants(const char *where, const char *device) {
    static const struct {
        variant v;
        int gradients, updates;
    } cases[] = {
        {{.name = "authors", .authors = true}, 26, 0},
        {{.name = "clip", .clip = 2.0f}, 26, 26},
        {{.name = "feature", .feature = 24}, 28, 0},
        {{.name = "bare", .bare = true}, 24, 0},
        {{.name = "imagenet", .feature = 24, .bare = true}, 26, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_variant(where, device, &cases[i].v, cases[i].gradients, cases[i].updates);
}

static const char *const sets[] = {"generic", "avx2", "avx512", "avx512bf16", "amx"};

/* On the device that NPOS_TEST_DEVICE names, or on all that need no GPU. */
static void everywhere(void (*check)(const char *where, const char *device)) {
    const char *named = getenv("NPOS_TEST_DEVICE");
    if (named) {
        check(named, named);
        return;
    }
    check("reference", "reference");
    for (size_t i = 0; i < sizeof sets / sizeof *sets;
         i++) { /* a cap: higher ones than the machine's do nothing */
        char where[32];
        snprintf(where, sizeof where, "cpu, %s", sets[i]);
        setenv("NPOS_ISA", sets[i], 1);
        check(where, "cpu");
    }
    unsetenv("NPOS_ISA");
}

static void one_step_equals_pytorch(void **state) {
    (void)state;
    everywhere(check_one_step);
}

static void ten_steps_in_fp32(const char *where, const char *device) {
    check_ten_steps(where, device, NPI_PRECISION_FP32, 1e-4);
}

static void ten_steps_equal_pytorch(void **state) {
    (void)state;
    everywhere(ten_steps_in_fp32);
}

static void cider_vos_and_ce(const char *where, const char *device) {
    check_kin(where, device, NPI_METHOD_CIDER, "cider");
    check_kin(where, device, NPI_METHOD_VOS, "vos");
    check_kin(where, device, NPI_METHOD_CE, "ce");
}

static void cider_vos_and_ce_equal_pytorch(void **state) {
    (void)state;
    everywhere(cider_vos_and_ce);
}

static void other_networks_and_settings_equal_pytorch(void **state) {
    (void)state;
    everywhere(check_variants);
}

static void one_step_in_bf16_is_near(void **state) {
    (void)state;
    everywhere(check_half);
}

static void check_allocations(const char *where, const char *device) {
    setup s;
    open_setup(&s, device, NPI_PRECISION_FP32, &plain);
    uint64_t calls = 0;
    size_t now = 0, seen, peak;
    for (int i = 0; i < 4; i++) {
        give(&s, i, (int32_t[CLASSES * PICK]){0, 1, 2, 3, 4, 5});
        CHECK_OK(npi_objective_step(&s.o, true, NULL));
        s.dev->memory->usage(s.dev, &seen, &peak);
        if (i > 0 && (npi_memory_calls() != calls || seen != now))
            fail_msg("%s: step %d made %d allocations and changed the device's memory from %zu to "
                     "%zu bytes",
                     where, i, (int)(npi_memory_calls() - calls), now, seen);
        calls = npi_memory_calls();
        now = seen;
    }
    close_setup(&s);
}

static void a_later_step_allocates_nothing(void **state) {
    (void)state;
    everywhere(check_allocations);
}

static int open_files(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s/tests/golden/step", check_source());
    return npi_safetensors_open(check_path(folder, "start.safetensors"), &start) != NPOS_OK ||
           npi_safetensors_open(check_path(folder, "npos.safetensors"), &npos) != NPOS_OK ||
           npi_safetensors_open(check_path(folder, "kin.safetensors"), &kin) != NPOS_OK ||
           npi_safetensors_open(check_path(folder, "variants.safetensors"), &variants) != NPOS_OK;
}

static int close_files(void **state) {
    (void)state;
    npi_safetensors_close(start);
    npi_safetensors_close(npos);
    npi_safetensors_close(kin);
    npi_safetensors_close(variants);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_step_equals_pytorch),
        cmocka_unit_test(ten_steps_equal_pytorch),
        cmocka_unit_test(cider_vos_and_ce_equal_pytorch),
        cmocka_unit_test(other_networks_and_settings_equal_pytorch),
        cmocka_unit_test(one_step_in_bf16_is_near),
        cmocka_unit_test(a_later_step_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, open_files, close_files);
}
