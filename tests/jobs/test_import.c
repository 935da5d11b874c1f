/* Weights of other programs: the layouts' names, what is refused, and that a run of them is a run. */
#include "jobs/tiny_run.h"

#include "io/safetensors.h"

enum { TENSORS = 128 };

/* One layout: what is in front of the encoder's names and of the heads', and how the others are called. */
typedef struct layout {
    const char *encoder, *heads, *branch, *classifier, *outlier_head;
} layout;

static void rename_part(char *name, size_t size, const char *from, const char *to) {
    char *at = strstr(name, from), rest[256];
    if (!at)
        return;
    snprintf(rest, sizeof rest, "%s", at + strlen(from));
    snprintf(at, size - (size_t)(at - name), "%s%s", to, rest);
}

/* FOLDER/OUT: the model of RUN under another layout's names, without `missing`, with a tensor named `extra`; either may
 * be NULL.  It says that it is none of npos's. */
static void write_foreign(const char *folder, const char *run, const char *out, const layout *l,
                          const char *missing, const char *extra) {
    static char name[TENSORS][256];
    npi_named_tensor tensors[TENSORS];
    npi_safetensors *file;
    float one = 1.0f;
    int count = 0;
    char path[64];
    snprintf(path, sizeof path, "%s/model.safetensors", run);
    CHECK_OK(npi_safetensors_open(check_path(folder, path), &file));
    assert_in_range(npi_safetensors_count(file), 1, TENSORS - 2);
    for (int i = 0; i < npi_safetensors_count(file); i++) {
        const npi_named_tensor *t = npi_safetensors_at(file, i);
        bool encoder = strncmp(t->name, "encoder.", 8) == 0;
        if (missing && strcmp(t->name, missing) == 0)
            continue;
        tensors[count] = *t;
        snprintf(name[count], sizeof name[count], "%s%s", encoder ? l->encoder : l->heads,
                 encoder ? t->name + 8 : t->name);
        rename_part(name[count], sizeof name[count], "downsample", l->branch);
        rename_part(name[count], sizeof name[count], "fc.", l->classifier);
        rename_part(name[count], sizeof name[count], "phi.", l->outlier_head);
        tensors[count].name = name[count];
        count++;
    }
    int64_t steps = 7;
    snprintf(name[count], sizeof name[count], "%sbn1.num_batches_tracked", l->encoder);
    tensors[count] = (npi_named_tensor){.name = name[count], .dtype = NPI_I64, .data = &steps};
    count++;
    if (extra)
        tensors[count++] = (npi_named_tensor){
            .name = extra, .dtype = NPI_F32, .ndim = 1, .shape = {1}, .data = &one};
    CHECK_OK(npi_safetensors_write(check_path(folder, out), tensors, count, NULL));
    npi_safetensors_close(file);
    char *bytes, *key;
    size_t size;
    CHECK_OK(npi_file_read(check_path(folder, out), &bytes, &size));
    key = memmem(bytes, size, "npos_xxh3", 9);
    assert_non_null(key);
    memcpy(key, "nope_xxh3", 9);
    CHECK_OK(npi_file_write(check_path(folder, out), bytes, size));
    npi_free(bytes);
}

static job *import(const char *folder, const char *weights, const char *out, const char *const *set,
                   int set_count) {
    static char init[600];
    job *j = make_job(folder, out);
    snprintf(init, sizeof init, "%s/%s", folder, weights);
    j->options.init = init;
    j->options.set = set;
    j->options.set_count = set_count;
    return j;
}

static const layout layouts[] = {{"", "", "downsample", "fc.", "phi."},
                                 {"module.", "module.", "shortcut", "linear.", "mlp."},
                                 {"net.backbone.", "net.", "downsample", "classifier.", "mlp."},
                                 {"module.encoder.", "module.", "shortcut", "fc.", "mlp."}};
enum { LAYOUTS = sizeof layouts / sizeof *layouts };

/* A classifier and NPOS's network come back as they were, under every layout's names. */
static void every_layout_is_read(void **state) {
    (void)state;
    static const char *const settings[2][2] = {{"method=ce", "views=1"}, {"epochs=2", "views=2"}};
    for (int kind = 0; kind < 2; kind++) {
        char folder[512];
        snprintf(folder, sizeof folder, "%s", prepare());
        job *j = make_job(folder, "first");
        j->options.set = settings[kind];
        j->options.set_count = 2;
        CHECK_OK(npos_train(&j->options));
        for (int i = 0; i < LAYOUTS; i++) {
            write_foreign(folder, "first", "theirs.safetensors", &layouts[i], NULL, NULL);
            char out[16], bank[40], model[40];
            snprintf(out, sizeof out, "again%d", i);
            CHECK_OK(npos_import(
                &import(folder, "theirs.safetensors", out, settings[kind], 2)->options));
            snprintf(bank, sizeof bank, "%s/bank.safetensors", out);
            assert_same_file(folder, "first/bank.safetensors", bank);
            snprintf(model, sizeof model, "%s/model.safetensors", out);
            if (kind == 0) /* no prototypes, which begin anew */
                assert_same_file(folder, "first/model.safetensors", model);
        }
        check_remove(folder);
    }
}

/* Heads that the method has no use for are passed over; training may start from such weights. */
static void other_heads_are_left(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "first");
    write_foreign(folder, "first", "theirs.safetensors", &layouts[3], NULL, "module.fc.weight");
    /* fewer images than a batch: nothing is trained */
    const char *alone[] = {"method=cider", "projection_dim=0", "batch=512"};
    CHECK_OK(npos_import(&import(folder, "theirs.safetensors", "alone", alone, 3)->options));
    assert_same_file(folder, "first/bank.safetensors", "alone/bank.safetensors");
    const char *further[] = {"epochs=1", "warmup_epochs=0"};
    CHECK_OK(npos_train(&import(folder, "theirs.safetensors", "theirs", further, 2)->options));
    CHECK_OK(npos_train(&import(folder, "first/model.safetensors", "ours", further, 2)->options));
    assert_same_run(folder, "ours", "theirs");
    check_remove(folder);
}

static void what_does_not_fit_is_named(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "first");
    static const struct {
        const char *missing, *extra, *setting, *text;
        npos_status status;
    } cases[] = {
        {"encoder.layer1.0.bn2.weight", NULL, "lr=0.1", "it lacks 'encoder.layer1.0.bn2.weight'",
         NPOS_BAD_DATA},
        {NULL, "module.layer9.weight", "lr=0.1", "this model has no 'module.layer9.weight'",
         NPOS_BAD_DATA},
        {NULL, NULL, "method=ce", "it lacks 'fc.weight', 'fc.bias'", NPOS_BAD_DATA},
        {NULL, NULL, "width=8", "'module.conv1.weight'", NPOS_SHAPE_MISMATCH},
        {"encoder.conv1.weight", NULL, "lr=0.1",
         "no ResNet: no 'conv1.weight' beside a 'layer1.0.conv1.weight'", NPOS_BAD_DATA},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_foreign(folder, "first", "theirs.safetensors", &layouts[1], cases[i].missing,
                      cases[i].extra);
        job *j = import(folder, "theirs.safetensors", "other", &cases[i].setting, 1);
        CHECK_FAILS(npos_import(&j->options), cases[i].status, cases[i].text);
    }
    CHECK_FAILS(npos_import(&import(folder, "nowhere.pth", "other", NULL, 0)->options),
                NPOS_NOT_FOUND, "nowhere.pth");
    CHECK_FAILS(npos_import(&make_job(folder, "other")->options), NPOS_INVALID_ARGUMENT,
                "no weights were given");
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_is_read),
        cmocka_unit_test(other_heads_are_left),
        cmocka_unit_test(what_does_not_fit_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
