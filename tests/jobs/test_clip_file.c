/* CLIP models in the layouts of others beside transformers (tests/golden/make_clip.py), on every
 * device that has blocks. */
#include "base/file.h"
#include "base/memory.h"
#include "devices/golden.h"
#include "jobs/clip_file.h"

enum { IMAGES = 3, TEXTS = 4, ROWS = 9, PROJECTION = 24, SIDE = 12 };

static const char *golden_path(const char *name) {
    static char path[1200];
    snprintf(path, sizeof path, "%s/tests/golden/clip/%s", check_source(), name);
    return path;
}

static npi_npy read_array(const char *name) {
    npi_npy array;
    char file[64];
    snprintf(file, sizeof file, "%s.npy", name);
    CHECK_OK(npi_npy_read(golden_path(file), &array));
    return array;
}

/* h [n][PROJECTION] on the device within 2e-5 of the largest golden number. */
static void near(npi_device *dev, const char *name, const float *h) {
    npi_npy golden = read_array(name);
    float host[TEXTS * PROJECTION];
    double largest = 0.0;
    assert_true(golden.dtype == NPI_F64 && golden.count <= TEXTS * PROJECTION);
    CHECK_OK(dev->memory->download(dev, host, h, (size_t)golden.count * sizeof *host));
    for (int64_t i = 0; i < golden.count; i++)
        largest = fmax(largest, fabs(((double *)golden.data)[i]));
    assert_true(largest > 0.1);
    golden_compare(name, golden, host, 2e-5 * largest);
    npi_npy_clear(&golden);
}

static npi_act images_on(npi_device *dev) {
    npi_npy pixels = read_array("pixels");
    npi_act act = {IMAGES, 3, SIDE, SIDE,
                   golden_alloc(dev, NULL, dev->acts->bytes(dev, IMAGES, 3, SIDE, SIDE))};
    float *plain = golden_alloc(dev, pixels.data, (size_t)pixels.count * sizeof(float));
    CHECK_OK(dev->acts->import_nchw(dev, plain, act));
    dev->memory->free(dev, plain);
    npi_npy_clear(&pixels);
    return act;
}

static void check_images(npi_clip *clip, const char *golden) {
    npi_device *dev = clip->dev;
    npi_clip_images *plan;
    npi_act act = images_on(dev);
    npi_tokens tokens;
    float *h = golden_alloc(dev, NULL, IMAGES * PROJECTION * sizeof(float));
    CHECK_OK(npi_clip_images_create(clip, IMAGES + 2, &plan));
    CHECK_OK(npi_clip_images_pack(plan));
    CHECK_OK(npi_clip_images_embed(plan, act, h));
    uint64_t calls = npi_memory_calls();
    CHECK_OK(npi_clip_images_embed(plan, act, h));
    assert_int_equal(npi_memory_calls() - calls, 0);
    near(dev, golden, h);
    CHECK_OK(npi_clip_images_tokens(plan, act, 1, &tokens));
    assert_int_equal(tokens.t, 1 + SIDE / 4 * (SIDE / 4));
    CHECK_OK(dev->memory->zero(dev, h, IMAGES * PROJECTION * sizeof(float)));
    CHECK_OK(npi_clip_images_finish(plan, tokens, 1, h));
    near(dev, golden, h);
    CHECK_FAILS(npi_clip_images_finish(plan, tokens, 2, h), NPOS_INVALID_ARGUMENT, "block 2");
    CHECK_FAILS(npi_clip_images_tokens(plan, act, -1, &tokens), NPOS_INVALID_ARGUMENT, "block -1");
    npi_clip_images_free(plan);
    dev->memory->free(dev, h);
    dev->memory->free(dev, act.data);
}

/* Texts of t rows, as many as the golden ones or cut after the longest of those from `first` on. */
static void check_texts(npi_clip *clip, const char *golden, int first, int t) {
    npi_device *dev = clip->dev;
    npi_clip_texts *plan;
    npi_npy ids = read_array("ids"), ends = read_array("ends");
    int32_t cut[TEXTS * ROWS];
    int count = TEXTS - first;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < t; j++)
            cut[i * t + j] = ((int32_t *)ids.data)[(first + i) * ROWS + j];
    int32_t *on = golden_alloc(dev, cut, (size_t)(count * t) * sizeof *on),
            *at = golden_alloc(dev, (int32_t *)ends.data + first, (size_t)count * sizeof *at);
    npi_npy all = read_array(golden);
    float *h = golden_alloc(dev, NULL, TEXTS * PROJECTION * sizeof(float)),
          whole[TEXTS * PROJECTION];
    for (int i = 0; i < TEXTS * PROJECTION; i++) /* those before `first` count as they are */
        whole[i] = (float)((double *)all.data)[i];
    CHECK_OK(dev->memory->upload(dev, h, whole, sizeof whole));
    CHECK_OK(npi_clip_texts_create(clip, TEXTS, t, &plan));
    CHECK_OK(npi_clip_texts_pack(plan));
    CHECK_OK(npi_clip_texts_embed(plan, count, on, at, h + first * PROJECTION));
    near(dev, golden, h);
    CHECK_FAILS(npi_clip_texts_embed(plan, TEXTS + 1, on, at, h), NPOS_INVALID_ARGUMENT, "5 texts");
    npi_clip_texts_free(plan);
    CHECK_FAILS(npi_clip_texts_create(clip, 1, ROWS + 1, &plan), NPOS_INVALID_ARGUMENT,
                "texts of 10 rows");
    npi_npy_clear(&all);
    npi_npy_clear(&ids);
    npi_npy_clear(&ends);
    dev->memory->free(dev, h);
    dev->memory->free(dev, on);
    dev->memory->free(dev, at);
}

static void test_embeddings(void **state) {
    (void)state;
    static const struct {
        const char *path, *images, *texts;
        int vision_heads, text_heads;
        npi_block_act act;
    } models[] = {
        {"openai.pt", "openai_images", "openai_texts", 1, 1, NPI_ACT_QUICK_GELU},
        {"hf", "hf_images", "hf_texts", 4, 2, NPI_ACT_GELU},
        {"hf/model.safetensors", "hf_images", "hf_texts", 4, 2, NPI_ACT_GELU},
        {"open_clip", "hf_images", "hf_texts", 4, 2, NPI_ACT_GELU},
    };
    for (int which = 0; which < 2; which++) {
        npi_device *dev = golden_open(which);
        assert_true(dev->blocks || which > 0);
        for (size_t i = 0; dev->blocks && i < sizeof models / sizeof *models; i++) {
            npi_clip clip;
            CHECK_OK(npi_clip_load(dev, golden_path(models[i].path), NPI_CLIP_BOTH,
                                   NPI_CLIP_ACT_AUTO, &clip));
            assert_int_equal(clip.config.vision.heads, models[i].vision_heads);
            assert_int_equal(clip.config.text.heads, models[i].text_heads);
            assert_int_equal(clip.config.vision.act, models[i].act);
            assert_int_equal(clip.config.side, SIDE);
            check_images(&clip, models[i].images);
            check_texts(&clip, models[i].texts, 0, ROWS);
            check_texts(&clip, models[i].texts, 1, 6);
            npi_clip_free(&clip);
        }
        npi_device_close(dev);
    }
}

static void test_one_tower(void **state) {
    (void)state;
    npi_device *dev = golden_open(0);
    static const char *const paths[] = {"openai.pt", "hf"};
    for (int i = 0; i < 2; i++) {
        npi_clip clip;
        npi_clip_images *images;
        npi_clip_texts *texts;
        CHECK_OK(
            npi_clip_load(dev, golden_path(paths[i]), NPI_CLIP_VISION, NPI_CLIP_ACT_AUTO, &clip));
        check_images(&clip, i ? "hf_images" : "openai_images");
        CHECK_FAILS(npi_clip_texts_create(&clip, 1, 4, &texts), NPOS_INVALID_ARGUMENT,
                    "no text tower");
        npi_clip_free(&clip);
        CHECK_OK(
            npi_clip_load(dev, golden_path(paths[i]), NPI_CLIP_TEXT, NPI_CLIP_ACT_AUTO, &clip));
        check_texts(&clip, i ? "hf_texts" : "openai_texts", 0, ROWS);
        CHECK_FAILS(npi_clip_images_create(&clip, 1, &images), NPOS_INVALID_ARGUMENT,
                    "no image tower");
        npi_clip_free(&clip);
    }
    npi_device_close(dev);
}

/* A device that lacks blocks is told as such. */
static void test_device_without_blocks(void **state) {
    (void)state;
    npi_device *dev = golden_open(0), without = *dev;
    npi_clip clip;
    without.blocks = NULL;
    CHECK_FAILS(npi_clip_load(&without, golden_path("hf"), NPI_CLIP_BOTH, NPI_CLIP_ACT_AUTO, &clip),
                NPOS_UNSUPPORTED, "cannot run transformers");
    npi_clip_free(&clip);
    npi_device_close(dev);
}

/* ---- what cannot be read ---- */

/* Copies hf/ or open_clip/'s weights to `folder`/`file`, with one tensor left out, renamed, made
 * of another shape or not finite. */
typedef struct change {
    const char *tensor;
    enum { KEEP, LEAVE_OUT, RENAME, RESHAPE, NAN_IN_IT } what;
} change;

static void write_changed(const char *folder, const char *from, const char *file, change c) {
    npi_weights *weights;
    npi_named_tensor list[128];
    float *values[128], *bad = NULL;
    int count = 0;
    char path[1024];
    CHECK_OK(npi_weights_open(golden_path(from), &weights));
    assert_true(npi_weights_count(weights) <= 128);
    for (int i = 0; i < npi_weights_count(weights); i++) {
        npi_named_tensor tensor = *npi_weights_at(weights, i);
        bool chosen = c.tensor && strcmp(tensor.name, c.tensor) == 0;
        size_t elements = (size_t)npi_weights_elements(weights, i);
        if (chosen && c.what == LEAVE_OUT)
            continue;
        CHECK_OK(npi_alloc(&values[count], elements, sizeof(float), "tensor"));
        CHECK_OK(npi_weights_read(weights, i, 0, (int64_t)elements, values[count]));
        if (chosen && c.what == NAN_IN_IT)
            bad = &values[count][elements - 1];
        if (chosen && c.what == RENAME)
            tensor.name = "text_model.more.weight";
        if (chosen && c.what == RESHAPE) {
            tensor.shape[0] /= 2;
            tensor.shape[1] *= 2;
        }
        tensor.dtype = NPI_F32;
        tensor.data = values[count];
        list[count++] = tensor;
    }
    if (bad)
        *bad = NAN;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    CHECK_OK(npi_safetensors_write(path, list, count, NULL));
    for (int i = 0; i < count; i++)
        npi_free(values[i]);
    npi_weights_close(weights);
}

static void copy_config(const char *folder, const char *from, const char *name, const char *replace,
                        const char *by) {
    char *text, *at, path[1024], changed[4096];
    size_t size;
    snprintf(path, sizeof path, "%s/%s", from, name);
    CHECK_OK(npi_file_read(golden_path(path), &text, &size));
    assert_true(size < sizeof changed / 2);
    at = replace ? strstr(text, replace) : text;
    assert_non_null(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, replace ? by : "",
             at + (replace ? strlen(replace) : 0));
    snprintf(path, sizeof path, "%s/%s", folder, name);
    CHECK_OK(npi_file_write(path, changed, strlen(changed)));
    npi_free(text);
}

static void refuse(const char *folder, npos_status status, const char *message) {
    npi_device *dev = golden_open(0);
    npi_clip clip;
    CHECK_FAILS(npi_clip_load(dev, folder, NPI_CLIP_BOTH, NPI_CLIP_ACT_AUTO, &clip), status,
                message);
    npi_clip_free(&clip);
    npi_device_close(dev);
}

static void test_wrong_tensors(void **state) {
    (void)state;
    static const struct {
        change c;
        npos_status status;
        const char *message;
    } cases[] = {
        {{"vision_model.encoder.layers.1.self_attn.k_proj.bias", LEAVE_OUT},
         NPOS_NOT_FOUND,
         "'vision_model.encoder.layers.1.self_attn.k_proj.bias'"},
        {{"text_model.encoder.layers.0.layer_norm1.weight", LEAVE_OUT},
         NPOS_NOT_FOUND,
         "'text_model.encoder.layers.0.layer_norm1.weight' is missing"},
        {{"text_projection.weight", LEAVE_OUT}, NPOS_NOT_FOUND, "'text_projection.weight'"},
        {{"vision_model.post_layernorm.bias", RENAME}, NPOS_NOT_FOUND, "post_layernorm.bias"},
        {{"logit_scale", RENAME}, NPOS_UNSUPPORTED, "'text_model.more.weight' and 0 more"},
        {{"vision_model.encoder.layers.0.mlp.fc2.weight", RESHAPE},
         NPOS_SHAPE_MISMATCH,
         "mlp.fc2.weight"},
        {{"vision_model.encoder.layers.1.mlp.fc2.bias", NAN_IN_IT}, NPOS_BAD_DATA, "not finite"},
        {{"vision_model.embeddings.position_embedding.weight", RESHAPE},
         NPOS_SHAPE_MISMATCH,
         "image_size is 12, but the tensors say 8"},
        {{"vision_model.embeddings.patch_embedding.weight", LEAVE_OUT},
         NPOS_NOT_FOUND,
         "patch_emb"},
    };
    char *folder = check_folder();
    copy_config(folder, "hf", "config.json", NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_changed(folder, "hf", "model.safetensors", cases[i].c);
        refuse(folder, cases[i].status, cases[i].message);
    }
    check_remove(folder);
}

static void test_wrong_configurations(void **state) {
    (void)state;
    static const struct {
        const char *replace, *by;
        npos_status status;
        const char *message;
    } cases[] = {
        {"\"num_attention_heads\": 4", "\"num_attention_heads\": 3", NPOS_INVALID_ARGUMENT,
         "3 heads"},
        {"\"num_attention_heads\": 4", "\"num_attention_heads\": 0", NPOS_BAD_DATA,
         "num_attention_heads, expected"},
        {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", NPOS_SHAPE_MISMATCH,
         "num_hidden_layers is 3, but the tensors say 2"},
        {"\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", NPOS_UNSUPPORTED, "'relu'"},
        {"\"layer_norm_eps\": 1e-05", "\"layer_norm_eps\": 1e-06", NPOS_UNSUPPORTED, "1e-06"},
        {"\"patch_size\": 4", "\"patch_size\": \"4\"", NPOS_UNSUPPORTED,
         "patch_size is no integer"},
        {"{", "[", NPOS_BAD_DATA, "no JSON object"},
    };
    char *folder = check_folder();
    write_changed(folder, "hf", "model.safetensors", (change){NULL, KEEP});
    refuse(folder, NPOS_NOT_FOUND, "config.json");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        copy_config(folder, "hf", "config.json", cases[i].replace, cases[i].by);
        refuse(folder, cases[i].status, cases[i].message);
    }
    check_remove(folder);
    folder = check_folder();
    write_changed(folder, "open_clip", "open_clip_model.safetensors", (change){NULL, KEEP});
    refuse(folder, NPOS_UNSUPPORTED, "QuickGELU or GELU");
    copy_config(folder, "open_clip", "open_clip_config.json", "\"mlp_ratio\"", "\"pool_type\"");
    refuse(folder, NPOS_UNSUPPORTED, "'pool_type' is not one of CLIP's");
    check_remove(folder);
    refuse(golden_path("../pt/tiny.safetensors"), NPOS_UNSUPPORTED, "holds neither");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embeddings), cmocka_unit_test(test_one_tower),
        cmocka_unit_test(test_device_without_blocks), cmocka_unit_test(test_wrong_tensors),
        cmocka_unit_test(test_wrong_configurations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
