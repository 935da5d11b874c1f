/* npos_text beside transformers (tests/golden/make_clip.py). */
#include "base/file.h"
#include "base/memory.h"
#include "devices/golden.h"
#include "io/safetensors.h"
#include "jobs/clip_file.h"
#include "npos/npos.h"

enum { CLASSES = 3, PROJECTION = 24 };

static void golden_path(const char *name, char *path, size_t room) {
    snprintf(path, room, "%s/tests/golden/clip/%s", check_source(), name);
}

static void write_lines(char *path, size_t room, const char *folder, const char *name,
                        const char *lines) {
    snprintf(path, room, "%s/%s", folder, name);
    CHECK_OK(npi_file_write(path, lines, strlen(lines)));
}

typedef struct files {
    char *folder, clip[1100], classes[600], templates[600], out[600];
    npos_text_options options;
} files;

static files make_files(const char *device) {
    files f = {.folder = check_folder()};
    golden_path("words", f.clip, sizeof f.clip);
    write_lines(f.classes, sizeof f.classes, f.folder, "classes", "cat\nSnow leopard\ncafé\n");
    write_lines(f.templates, sizeof f.templates, f.folder, "templates",
                "a photo of a {}.\nthe {}\n");
    snprintf(f.out, sizeof f.out, "%s/t.safetensors", f.folder);
    npos_text_options_init(&f.options);
    f.options.compute.device = device;
    f.options.compute.threads = 2;
    f.options.clip = f.clip;
    return f;
}

/* The paths of a copy are its own. */
static const npos_text_options *options_of(files *f) {
    f->options.clip = f->clip;
    f->options.classes = f->classes;
    f->options.templates = f->templates;
    f->options.out = f->out;
    return &f->options;
}

static void test_agrees_with_transformers(void **state) {
    (void)state;
    static const char *const devices[] = {"reference", "cpu"};
    char path[1100];
    npi_npy golden;
    golden_path("words_text.npy", path, sizeof path);
    CHECK_OK(npi_npy_read(path, &golden));
    assert_int_equal(golden.count, CLASSES * PROJECTION);
    for (int i = 0; i < 2; i++) {
        files f = make_files(devices[i]);
        npi_safetensors *file;
        const npi_named_tensor *tensor;
        CHECK_OK(npos_text(options_of(&f)));
        CHECK_OK(npi_safetensors_open(f.out, &file));
        CHECK_OK(npi_safetensors_get(file, "text", NPI_F32, 2, (int64_t[]){CLASSES, PROJECTION},
                                     &tensor));
        golden_compare("text", golden, tensor->data, 1e-5);
        assert_string_equal(npi_safetensors_metadata(file, "classes"),
                            "[\"cat\",\"Snow leopard\",\"café\"]");
        assert_string_equal(npi_safetensors_metadata(file, "templates"),
                            "[\"a photo of a {}.\",\"the {}\"]");
        char hash[17];
        uint64_t weights;
        CHECK_OK(npi_clip_hash(f.clip, &weights));
        snprintf(hash, sizeof hash, "%016llx", (unsigned long long)weights);
        assert_string_equal(npi_safetensors_metadata(file, "weights"), hash);
        npi_safetensors_close(file);
        check_remove(f.folder);
    }
    npi_npy_clear(&golden);
}

static void test_wrong_input(void **state) {
    (void)state;
    files f = make_files("reference");
    char *name = f.folder;
    write_lines(f.classes, sizeof f.classes, name, "classes",
                "a very long name of a class that the context of forty rows cannot hold\n");
    CHECK_FAILS(npos_text(options_of(&f)), NPOS_INVALID_ARGUMENT, "prompt 'a photo of a a very");
    assert_false(npi_is_file(f.out));
    golden_path("openai.pt", f.clip, sizeof f.clip); /* no tokenizer beside it */
    CHECK_FAILS(npos_text(options_of(&f)), NPOS_NOT_FOUND, "clip");
    npos_text_options missing = *options_of(&f);
    missing.out = NULL;
    CHECK_FAILS(npos_text(&missing), NPOS_INVALID_ARGUMENT, "'out' is missing");
    check_remove(f.folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_agrees_with_transformers),
                                       cmocka_unit_test(test_wrong_input)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
