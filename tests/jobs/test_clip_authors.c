/* What NPOS's authors save of a fine-tuned CLIP: PyTorch's file against golden values
 * (tests/golden/make_authors_clip.py), the places of several blocks, and what does not fit. */
#include <math.h>

#include "base/file.h"
#include "base/memory.h"
#include "devices/devices.h"
#include "devices/golden.h"
#include "io/pt_write.h"
#include "jobs/clip_authors.h"
#include "jobs/fitted.h"
#include "npos/npos.h"

enum { IMAGES = 6, CLASSES = 3, DIM = 24, SIDE = 12 };

static char *golden(const char *name) {
    static char paths[4][900];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, 900, "%.700s/tests/golden/clip/%s", check_source(), name);
    return path;
}

static npos_status import(const char *folder, const char *tuned) {
    npos_train_options options;
    char text[600], run[600];
    snprintf(text, sizeof text, "%s/t.safetensors", folder);
    snprintf(run, sizeof run, "%s/run", folder);
    npos_train_options_init(&options);
    options.compute.device = "cpu";
    options.compute.precision = "fp32";
    options.init = golden("words");
    options.text = text;
    options.tuned = tuned;
    options.out = run;
    return npos_import(&options);
}

static void make_text(const char *folder) {
    npos_text_options options;
    char classes[600], templates[600], out[600];
    snprintf(classes, sizeof classes, "%s/classes", folder);
    snprintf(templates, sizeof templates, "%s/templates", folder);
    snprintf(out, sizeof out, "%s/t.safetensors", folder);
    const char *list = "0\tcat\n1\tdog\n2\tbird\n", *one = "a photo of a {}.\n";
    CHECK_OK(npi_file_write(classes, list, strlen(list)));
    CHECK_OK(npi_file_write(templates, one, strlen(one)));
    npos_text_options_init(&options);
    options.compute.device = "cpu";
    options.clip = golden("words");
    options.classes = classes;
    options.templates = templates;
    options.out = out;
    CHECK_OK(npos_text(&options));
}

static void agrees_with_pytorch(void **state) {
    (void)state;
    char *folder = check_folder(), run[600];
    npos_compute compute = {.device = "cpu", .precision = "fp32", .threads = 1};
    npi_fitted fitted;
    npi_features f = {0};
    npi_npy pixels, h, phi;
    snprintf(run, sizeof run, "%s/run", folder);
    make_text(folder);
    CHECK_OK(import(folder, golden("authors.pt")));
    CHECK_OK(npi_npy_read(golden("zero_shot_images.npy"), &pixels));
    CHECK_OK(npi_npy_read(golden("authors_h.npy"), &h));
    CHECK_OK(npi_npy_read(golden("authors_phi.npy"), &phi));
    CHECK_OK(npi_fitted_open(run, &compute, "head,mcm", false, &fitted));
    assert_string_equal(fitted.run->recipe.score, "mcm");
    CHECK_OK(npi_run_features(fitted.run, pixels.data, IMAGES, &compute, "embed", &f));
    golden_compare("h", h, f.h, 2e-5);
    golden_compare("phi", phi, f.phi, 2e-5);
    npi_features_clear(&f);
    npi_fitted_close(&fitted);
    npi_npy_clear(&pixels);
    npi_npy_clear(&h);
    npi_npy_clear(&phi);
    check_remove(folder);
}

/* ---- a file of two blocks for a tower of three ---- */

enum { WIDTH = 4, HIDDEN = 6, PROJECTION = 3, HEAD = 2, BLOCKS = 2, MOST = 12 * BLOCKS + 8 };

static const npi_clip_config sizes = {
    .vision = {.width = WIDTH, .layers = 3, .heads = 1, .hidden = HIDDEN},
    .projection = PROJECTION};

typedef struct made {
    npi_named_tensor tensors[MOST];
    char names[MOST][96];
    float values[MOST][3 * WIDTH * WIDTH];
    int count;
} made;

/* Element k of tensor i is 100 i + k. */
static void put(made *m, const char *name, int rows, int columns) {
    npi_named_tensor *t = &m->tensors[m->count];
    snprintf(m->names[m->count], sizeof m->names[0], "module.%s", name);
    *t = (npi_named_tensor){.name = m->names[m->count],
                            .dtype = NPI_F32,
                            .ndim = columns ? 2 : 1,
                            .shape = {rows, columns},
                            .data = m->values[m->count]};
    for (int k = 0; k < rows * (columns ? columns : 1); k++)
        m->values[m->count][k] = (float)(100 * m->count + k);
    m->count++;
}

static void make(made *m) {
    static const struct {
        const char *name;
        int rows, columns;
    } block[] = {{"attn.in_proj_weight", 3 * WIDTH, WIDTH},
                 {"attn.in_proj_bias", 3 * WIDTH, 0},
                 {"attn.out_proj.weight", WIDTH, WIDTH},
                 {"attn.out_proj.bias", WIDTH, 0},
                 {"ln_1.weight", WIDTH, 0},
                 {"ln_1.bias", WIDTH, 0},
                 {"mlp.c_fc.weight", HIDDEN, WIDTH},
                 {"mlp.c_fc.bias", HIDDEN, 0},
                 {"mlp.c_proj.weight", WIDTH, HIDDEN},
                 {"mlp.c_proj.bias", WIDTH, 0},
                 {"ln_2.weight", WIDTH, 0},
                 {"ln_2.bias", WIDTH, 0}};
    m->count = 0;
    put(m, "proj", WIDTH, PROJECTION);
    put(m, "ln_post.weight", WIDTH, 0);
    put(m, "ln_post.bias", WIDTH, 0);
    for (int b = 0; b < BLOCKS; b++)
        for (size_t i = 0; i < sizeof block / sizeof *block; i++) {
            char name[80];
            snprintf(name, sizeof name, "transformer_resblocks.block%d.%s", b, block[i].name);
            put(m, name, block[i].rows, block[i].columns);
        }
    put(m, "outlier_MLP.0.weight", HEAD, PROJECTION);
    put(m, "outlier_MLP.0.bias", HEAD, 0);
    put(m, "outlier_MLP.2.weight", 1, HEAD);
    put(m, "outlier_MLP.2.bias", 1, 0);
}

static npos_status read_made(const made *m, npi_clip_authors *out) {
    char *folder = check_folder();
    static npi_device *dev;
    *out = (npi_clip_authors){0};
    if (!dev)
        CHECK_OK(npi_cpu_open(NPI_PRECISION_FP32, 1, &dev));
    CHECK_OK(npi_pt_write(check_path(folder, "a.pt"), m->tensors, m->count));
    npos_status status = npi_clip_authors_read(dev, check_path(folder, "a.pt"), &sizes, out);
    check_remove(folder);
    return status;
}

static void assert_value(const npi_params *params, const char *name, int k, double expected) {
    float values[3 * WIDTH * WIDTH];
    int i = npi_params_find(params, name);
    assert_true(i >= 0);
    CHECK_OK(npi_param_get(params, NPI_ARENA_VALUES, i, values));
    assert_true((double)values[k] == expected);
}

static void blocks_have_their_places(void **state) {
    (void)state;
    made m;
    npi_clip_authors a;
    make(&m);
    CHECK_OK(read_made(&m, &a));
    assert_int_equal(a.first, 1);
    assert_int_equal(a.tuned.count, 12 * BLOCKS + 3);
    assert_int_equal(a.phi.count, 4);
    assert_value(&a.tuned, "vision_model.encoder.layers.1.self_attn.qkv_proj.weight", 5, 305);
    assert_value(&a.tuned, "vision_model.encoder.layers.2.self_attn.qkv_proj.weight", 5, 1505);
    assert_value(&a.tuned, "vision_model.encoder.layers.2.layer_norm1.bias", 1, 2001);
    assert_value(&a.tuned, "vision_model.encoder.layers.2.mlp.fc2.weight", 7, 2307);
    assert_value(&a.tuned, "vision_model.post_layernorm.bias", 2, 202);
    assert_value(&a.tuned, "visual_projection.weight", 1,
                 0 + PROJECTION); /* [0][1] is theirs [1][0] */
    assert_value(&a.phi, "phi.2.weight", 1, 2901);
    npi_clip_authors_clear(&a);
}

static void refuse(const made *m, npos_status status, const char *text) {
    npi_clip_authors a;
    CHECK_FAILS(read_made(m, &a), status, text);
    npi_clip_authors_clear(&a);
}

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    made m;
    make(&m);
    m.count--;
    refuse(&m, NPOS_BAD_DATA, "outlier_MLP.2.bias");
    make(&m);
    snprintf(m.names[4], sizeof m.names[4], "module.transformer_resblocks.block0.attn.bias");
    refuse(&m, NPOS_BAD_DATA, "block0.attn.bias");
    refuse(&m, NPOS_BAD_DATA, "block0.attn.in_proj_bias");
    make(&m);
    m.tensors[0].shape[1] = PROJECTION - 1;
    refuse(&m, NPOS_SHAPE_MISMATCH, "'module.proj'");
    make(&m);
    m.values[2][1] = NAN;
    refuse(&m, NPOS_BAD_DATA, "'module.ln_post.bias' holds nan at place 1");
    make(&m);
    snprintf(m.names[3], sizeof m.names[3],
             "module.transformer_resblocks.block7.attn.in_proj_weight");
    refuse(&m, NPOS_SHAPE_MISMATCH, "8 blocks, the model's image tower has 3");
    make(&m);
    for (int i = 0; i < m.count; i++)
        m.names[i][7] = 'X';
    refuse(&m, NPOS_UNSUPPORTED, "no 'outlier_MLP.0.weight'");
}

/* Nothing is written of a file that does not fit the model, or is none. */
static void import_refuses(void **state) {
    (void)state;
    char *folder = check_folder();
    make_text(folder);
    CHECK_FAILS(import(folder, golden("openai.pt")), NPOS_UNSUPPORTED,
                "no fine-tuned CLIP of NPOS's authors");
    CHECK_FAILS(import(folder, golden("nothing.pt")), NPOS_NOT_FOUND, "nothing.pt");
    assert_false(npi_is_folder(check_path(folder, "run")));
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_pytorch), cmocka_unit_test(blocks_have_their_places),
        cmocka_unit_test(what_does_not_fit_is_named), cmocka_unit_test(import_refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
