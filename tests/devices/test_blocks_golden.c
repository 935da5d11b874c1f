/* Tokens, blocks, layer norm and the cosine losses beside PyTorch in float64
 * (tests/golden/make_blocks.py), on every device that has them. */
#include "base/memory.h"
#include "devices/golden.h"

enum { N = 3, T = 5, WIDTH = 16, HEADS = 2, HIDDEN = 64, MOST = 32 };

/* Arrays and device memory of one test, released together. */
typedef struct room {
    npi_device *dev;
    npi_npy arrays[MOST];
    void *memory[MOST];
    int array_count, memory_count;
} room;

static npi_npy *array(room *r, const char *name, const char *what) {
    assert_true(r->array_count < MOST);
    r->arrays[r->array_count] = golden_read("blocks", name, what);
    return &r->arrays[r->array_count++];
}

static void *memory(room *r, const void *host, size_t bytes) {
    assert_true(r->memory_count < MOST);
    return r->memory[r->memory_count++] = golden_alloc(r->dev, host, bytes);
}

/* A golden array of 4-byte elements in device memory. */
static void *input(room *r, const char *name, const char *what) {
    npi_npy *a = array(r, name, what);
    return memory(r, a->data, (size_t)a->count * 4);
}

static float *output(room *r, size_t count) {
    return memory(r, NULL, count * sizeof(float));
}

static void clear(room *r) {
    for (int i = 0; i < r->array_count; i++)
        npi_npy_clear(&r->arrays[i]);
    for (int i = 0; i < r->memory_count; i++)
        r->dev->memory->free(r->dev, r->memory[i]);
    r->array_count = r->memory_count = 0;
}

/* Within 1e-5 of the largest of `count` golden elements from `first` on. */
static void near(room *r, const char *what, const npi_npy *golden, int64_t first, int64_t count,
                 const float *seen) {
    float *host, largest = 0.0f;
    CHECK_OK(npi_alloc(&host, (size_t)count, sizeof *host, what));
    CHECK_OK(r->dev->memory->download(r->dev, host, seen, (size_t)count * sizeof *host));
    npi_npy part = *golden;
    part.data = (float *)golden->data + first;
    part.count = count;
    for (int64_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(((float *)part.data)[i]));
    assert_true(largest > 0.0f && first + count <= golden->count);
    golden_compare(what, part, host, 1e-5 * (double)largest);
    npi_free(host);
}

static void near_all(room *r, const char *name, const char *what, const float *seen) {
    npi_npy *golden = array(r, name, what);
    near(r, what, golden, 0, golden->count, seen);
}

static npi_tokens tokens(room *r, int n, int t, int width, const float *rows) {
    const npi_token_ops *ops = r->dev->tokens;
    npi_tokens to = {n, t, width, memory(r, NULL, ops->bytes(r->dev, n, t, width))};
    if (rows)
        CHECK_OK(ops->import_rows(r->dev, rows, to));
    return to;
}

static float *exported(room *r, npi_tokens from) {
    float *rows = output(r, (size_t)from.n * (size_t)from.t * (size_t)from.width);
    CHECK_OK(r->dev->tokens->export_rows(r->dev, from, rows));
    return rows;
}

static const struct {
    const char *name;
    int count;
} parts[] = {
    {"ln1_gamma", WIDTH},    {"ln1_beta", WIDTH},           {"qkv_weight", 3 * WIDTH *WIDTH},
    {"qkv_bias", 3 * WIDTH}, {"out_weight", WIDTH *WIDTH},  {"out_bias", WIDTH},
    {"ln2_gamma", WIDTH},    {"ln2_beta", WIDTH},           {"fc1_weight", HIDDEN *WIDTH},
    {"fc1_bias", HIDDEN},    {"fc2_weight", WIDTH *HIDDEN}, {"fc2_bias", WIDTH}};
enum { PARTS = sizeof parts / sizeof *parts };

static npi_block_params laid_out(float *at) {
    npi_block_params p;
    float **members[PARTS] = {&p.ln1_gamma,  &p.ln1_beta, &p.qkv_weight, &p.qkv_bias,
                              &p.out_weight, &p.out_bias, &p.ln2_gamma,  &p.ln2_beta,
                              &p.fc1_weight, &p.fc1_bias, &p.fc2_weight, &p.fc2_bias};
    for (int i = 0; i < PARTS; i++) {
        *members[i] = at;
        at += parts[i].count;
    }
    return p;
}

/* dz of row 0 alone, or of all rows. */
static npi_tokens gradient(room *r, bool first) {
    const float *all = array(r, "input", "dz")->data;
    float some[N * T * WIDTH];
    int rows = first ? 1 : T;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < rows * WIDTH; j++)
            some[i * rows * WIDTH + j] = all[i * T * WIDTH + j];
    return tokens(r, N, rows, WIDTH, memory(r, some, (size_t)(N * rows * WIDTH) * 4));
}

static void run_block(room *r, const char *name, npi_block_act act, bool causal, bool first) {
    npi_device *dev = r->dev;
    npi_block_desc desc = {.name = name,
                           .n = N + 1, /* one more than there are */
                           .t = T,
                           .width = WIDTH,
                           .heads = HEADS,
                           .hidden = HIDDEN,
                           .act = act,
                           .causal = causal,
                           .first_only = first,
                           .training = true,
                           .needs_dx = true};
    npi_block *block;
    CHECK_OK(dev->blocks->create(dev, &desc, &block));
    npi_block_params params = laid_out(input(r, "input", "params"));
    float *flat = output(r, (size_t)r->arrays[r->array_count - 1].count);
    npi_block_params grads = laid_out(flat);
    npi_tokens x = tokens(r, N, T, WIDTH, input(r, "input", "x")),
               z = tokens(r, N, first ? 1 : T, WIDTH, NULL), dz = gradient(r, first),
               dx = tokens(r, N, T, WIDTH, NULL);
    CHECK_OK(dev->blocks->pack(block, &params));
    CHECK_OK(dev->blocks->forward(block, x, &params, z));
    uint64_t calls = npi_memory_calls();
    CHECK_OK(dev->blocks->forward(block, x, &params, z));
    CHECK_OK(dev->blocks->backward(block, dz, x, &params, &grads, &dx));
    assert_int_equal(npi_memory_calls() - calls, 0);
    near_all(r, name, "z", exported(r, z));
    near_all(r, name, "dx", exported(r, dx));
    npi_npy *golden = array(r, name, "grads");
    for (int64_t i = 0, at = 0; i < PARTS; at += parts[i++].count)
        near(r, parts[i].name, golden, at, parts[i].count, flat + at);
    dev->blocks->free(dev, block);
    clear(r);
}

/* Inference may write z where x lies. */
static void run_in_place(room *r) {
    npi_device *dev = r->dev;
    npi_block_desc desc = {"in place",         N,     T,     WIDTH, HEADS, HIDDEN,
                           NPI_ACT_QUICK_GELU, false, false, false, false};
    npi_block *block;
    CHECK_OK(dev->blocks->create(dev, &desc, &block));
    npi_block_params params = laid_out(input(r, "input", "params"));
    npi_tokens x = tokens(r, N, T, WIDTH, input(r, "input", "x"));
    CHECK_OK(dev->blocks->pack(block, &params));
    CHECK_OK(dev->blocks->forward(block, x, &params, x));
    near_all(r, "whole", "z", exported(r, x));
    CHECK_FAILS(dev->blocks->backward(block, x, x, &params, &params, NULL), NPOS_INVALID_ARGUMENT,
                "in place");
    dev->blocks->free(dev, block);
    clear(r);
}

static void with_blocks(void (*run)(room *)) {
    for (int which = 0; which < 2; which++) {
        room r = {.dev = golden_open(which)};
        if (r.dev->blocks && r.dev->tokens)
            run(&r);
        else
            assert_true(which > 0); /* the reference has all */
        npi_device_close(r.dev);
    }
}

static void all_blocks(room *r) {
    run_block(r, "whole", NPI_ACT_QUICK_GELU, false, false);
    run_block(r, "causal", NPI_ACT_QUICK_GELU, true, false);
    run_block(r, "first", NPI_ACT_QUICK_GELU, false, true);
    run_block(r, "first_causal", NPI_ACT_QUICK_GELU, true, true);
    run_block(r, "gelu", NPI_ACT_GELU, false, false);
    run_in_place(r);
}

static void test_blocks(void **state) {
    (void)state;
    with_blocks(all_blocks);
}

static void both_embeddings(room *r) {
    npi_device *dev = r->dev;
    npi_act image = {2, 3, 4, 6, memory(r, NULL, dev->acts->bytes(dev, 2, 3, 4, 6))};
    CHECK_OK(dev->acts->import_nchw(dev, input(r, "image", "pixels"), image));
    npi_patches_params params = {input(r, "image", "weight"), input(r, "image", "class"),
                                 input(r, "image", "positions"), input(r, "image", "gamma"),
                                 input(r, "image", "beta")};
    npi_patches_desc desc = {"vision", 2, 3, 4, 6, 2, 8};
    npi_patches *patches;
    CHECK_OK(dev->tokens->patches_create(dev, &desc, &patches));
    npi_tokens to = tokens(r, 2, 7, 8, NULL), text = tokens(r, 2, 4, 8, NULL);
    CHECK_OK(dev->tokens->patches_pack(patches, &params));
    CHECK_OK(dev->tokens->embed_image(patches, image, &params, to));
    near_all(r, "image", "tokens", exported(r, to));
    dev->tokens->patches_free(dev, patches);
    CHECK_OK(dev->tokens->embed_text(dev, input(r, "text", "ids"), 7, input(r, "text", "table"),
                                     input(r, "text", "positions"), text));
    near_all(r, "text", "tokens", exported(r, text));
    clear(r);
}

static void test_embeddings(void **state) {
    (void)state;
    with_blocks(both_embeddings);
}

static void test_layer_norm(void **state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        room r = {.dev = golden_open(which)};
        const npi_rows_ops *rows = r.dev->rows;
        assert_true(rows->layer_norm_forward || which > 0);
        if (rows->layer_norm_forward) {
            float *x = input(&r, "norm", "x"), *gamma = input(&r, "norm", "gamma");
            float *y = output(&r, 144), *stats = output(&r, 12), *dx = output(&r, 144),
                  *dgamma = output(&r, 24), *dbeta = output(&r, 24);
            CHECK_OK(rows->layer_norm_forward(r.dev, 6, 24, x, gamma, input(&r, "norm", "beta"), y,
                                              stats));
            CHECK_OK(rows->layer_norm_backward(r.dev, 6, 24, x, stats, gamma,
                                               input(&r, "norm", "dy"), dgamma, dbeta, dx, false));
            near_all(&r, "norm", "y", y);
            near_all(&r, "norm", "dx", dx);
            near_all(&r, "norm", "dgamma", dgamma);
            near_all(&r, "norm", "dbeta", dbeta);
        }
        clear(&r);
        npi_device_close(r.dev);
    }
}

static void test_cosine_losses(void **state) {
    (void)state;
    for (int which = 0; which < 2; which++) {
        room r = {.dev = golden_open(which)};
        const npi_loss_ops *ops = r.dev->losses;
        assert_true((ops->cosine_ce && ops->logit_norm_ce) || which > 0);
        for (int i = 0; ops->cosine_ce && i < 3; i++) {
            static const char *const names[] = {"scaled", "logitnorm", "sharp"};
            float *l = input(&r, "cosines", "l"), *dl = output(&r, 108),
                  *losses = output(&r, NPI_LOSS_COUNT);
            int32_t *labels = input(&r, "cosines", "labels");
            CHECK_OK((i ? ops->logit_norm_ce : ops->cosine_ce)(r.dev, 9, 12,
                                                               i == 0   ? 0.1f
                                                               : i == 1 ? 8.0f
                                                                        : 0.04f,
                                                               l, labels, 1.0f, losses, dl));
            near_all(&r, names[i], "loss", &losses[NPI_LOSS_CE]);
            near_all(&r, names[i], "dl", dl);
            clear(&r);
        }
        npi_device_close(r.dev);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks), cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_layer_norm), cmocka_unit_test(test_cosine_losses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
