/* Damaged files of a run: no command takes them for whole. */
#include "jobs/tiny_run.h"

/* One flip in each of these parts of a file, then the file cut in two. */
static void assert_noticed(const char *path, npos_status (*use)(const char *run), const char *run) {
    char *bytes;
    size_t size;
    uint64_t header;
    CHECK_OK(npi_file_read(path, &bytes, &size));
    memcpy(&header, bytes, sizeof header);
    const size_t places[] = {header / 2, 8 + header, 8 + header + (size - header) / 2, size - 1};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        bytes[places[i]] ^= 4;
        CHECK_OK(npi_file_write(path, bytes, size));
        CHECK_FAILS(use(run), NPOS_BAD_DATA, npi_path_name(path));
        bytes[places[i]] ^= 4;
    }
    CHECK_OK(npi_file_write(path, bytes, size / 2));
    CHECK_FAILS(use(run), NPOS_BAD_DATA, npi_path_name(path));
    CHECK_OK(npi_file_write(path, bytes, size));
    npi_free(bytes);
    CHECK_OK(use(run));
}

static npos_status resume(const char *run) {
    npos_train_options options;
    npos_train_options_init(&options);
    options.out = run;
    options.resume = 1;
    options.compute.threads = 1;
    return npos_train(&options);
}

/* Reads the model and the training embeddings. */
static npos_status evaluate(const char *run) {
    char data[600], far[640];
    npos_eval_options options;
    npos_eval_options_init(&options);
    snprintf(data, sizeof data, "%.500s/../set.npy", run);
    options.run = run;
    options.id = data;
    options.scores = "knn";
    options.compute.threads = 1;
    snprintf(far, sizeof far, "far/same=%s", data);
    const char *ood[] = {far};
    options.ood = ood;
    options.ood_count = 1;
    return npos_eval(&options);
}

static void flipped_bits_and_halved_files_are_refused(void **state) {
    (void)state;
    char folder[512], run[600];
    snprintf(folder, sizeof folder, "%s", prepare());
    snprintf(run, sizeof run, "%s/run", folder);
    job *j = make_job(folder, "run");
    const char *settings[] = {"epochs=2"};
    j->options.set = settings;
    j->options.set_count = 1;
    CHECK_OK(npos_train(&j->options));
    assert_noticed(check_path(run, "checkpoint.safetensors"), resume, run);
    assert_noticed(check_path(run, "model.safetensors"), evaluate, run);
    assert_noticed(check_path(run, "bank.safetensors"), evaluate, run);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bits_and_halved_files_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
