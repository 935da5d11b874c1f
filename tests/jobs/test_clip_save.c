/* A tuned CLIP model in the names of those it came from, read back by jobs/clip_file. */
#include "base/memory.h"
#include "devices/golden.h"
#include "jobs/clip_file.h"
#include "jobs/clip_save.h"

static const char *golden_path(const char *name) {
    static char path[1200];
    snprintf(path, sizeof path, "%s/tests/golden/clip/%s", check_source(), name);
    return path;
}

static float *values_of(const npi_params *params, int i) {
    float *host;
    CHECK_OK(npi_alloc(&host, params->list[i].count, sizeof *host, "parameter"));
    CHECK_OK(npi_param_get(params, NPI_ARENA_VALUES, i, host));
    return host;
}

/* Every parameter of `tuned` that changes gets its number added to each value. */
static void change(npi_params *params) {
    for (int i = 0; i < params->count; i++) {
        float *host = values_of(params, i);
        for (size_t k = 0; k < params->list[i].count; k++)
            host[k] += (float)(1 + i) + (float)k * 0x1p-10f;
        CHECK_OK(npi_param_set(params, NPI_ARENA_VALUES, i, host));
        npi_free(host);
    }
}

static void assert_same(const npi_params *a, int i, const npi_params *b, int j) {
    float *x = values_of(a, i), *y = values_of(b, j);
    assert_string_equal(a->list[i].name, b->list[j].name);
    assert_int_equal(a->list[i].count, b->list[j].count);
    assert_memory_equal(x, y, a->list[i].count * sizeof *x);
    npi_free(x);
    npi_free(y);
}

static void tuned_values_come_back(void **state) {
    (void)state;
    static const char *const models[] = {"hf", "open_clip", "openai.pt", "hf/model.safetensors"};
    npi_device *dev = golden_open(0);
    const char *keep = getenv("NPOS_KEEP_CLIP"); /* for tests/golden/load_saved_clip.py */
    for (int m = 0; m < 4; m++) {
        npi_clip clip, back;
        npi_model tuned;
        char folder[540];
        if (keep)
            snprintf(folder, sizeof folder, "%s/%d", keep, m);
        else
            snprintf(folder, sizeof folder, "%s", check_folder());
        CHECK_OK(
            npi_clip_load(dev, golden_path(models[m]), NPI_CLIP_BOTH, NPI_CLIP_ACT_AUTO, &clip));
        CHECK_OK(npi_clip_tuned_create(&clip, 1, 4, &tuned));
        change(&tuned.params);
        CHECK_OK(npi_clip_save(golden_path(models[m]), &tuned.params, folder));
        CHECK_OK(npi_clip_load(dev, folder, NPI_CLIP_BOTH, NPI_CLIP_ACT_AUTO, &back));
        assert_int_equal(back.config.vision.heads, clip.config.vision.heads);
        CHECK_OK(npi_clip_tuned_put(&tuned, 1, &clip)); /* what the folder must hold */
        for (int i = 0; i < clip.vision.params.count; i++)
            assert_same(&clip.vision.params, i, &back.vision.params, i);
        for (int i = 0; i < clip.text.params.count; i++)
            assert_same(&clip.text.params, i, &back.text.params, i);
        npi_clip_free(&back);
        npi_model_free(&tuned);
        npi_clip_free(&clip);
        if (!keep)
            check_remove(folder);
    }
    npi_device_close(dev);
}

static void another_models_values_are_refused(void **state) {
    (void)state;
    npi_device *dev = golden_open(0);
    npi_clip clip;
    npi_model tuned;
    const char *folder = check_folder();
    CHECK_OK(npi_clip_load(dev, golden_path("hf"), NPI_CLIP_VISION, NPI_CLIP_ACT_AUTO, &clip));
    CHECK_OK(npi_clip_tuned_create(&clip, 1, 0, &tuned));
    CHECK_FAILS(npi_clip_save(golden_path("openai.pt"), &tuned.params, folder), NPOS_SHAPE_MISMATCH,
                "visual.transformer.resblocks.1.ln_1.weight");
    CHECK_FAILS(npi_clip_save(golden_path("words"), &tuned.params, folder), NPOS_NOT_FOUND,
                "vision_model.encoder.layers.1.layer_norm1.weight");
    npi_model_free(&tuned);
    npi_clip_free(&clip);
    check_remove(folder);
    npi_device_close(dev);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tuned_values_come_back),
                                       cmocka_unit_test(another_models_values_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
