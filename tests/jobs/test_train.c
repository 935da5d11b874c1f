/* Training as a whole, on tiny images: resume bit for bit, any number of threads, errors. */
#include "check.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/npy.h"
#include "io/safetensors.h"
#include "npos/npos.h"

enum { IMAGES = 66, SIDE = 12, CLASSES = 3 };

/* IMAGES noisy grey images of three brightnesses. */
static void write_images(const char *folder, int images, int classes, int shift) {
    uint8_t *pixels;
    int64_t labels[IMAGES];
    CHECK_OK(npi_alloc(&pixels, (size_t)images * SIDE * SIDE, 1, "test images"));
    for (int i = 0; i < images; i++) {
        labels[i] = i % classes;
        for (int j = 0; j < SIDE * SIDE; j++)
            pixels[i * SIDE * SIDE + j] =
                (uint8_t)(60 * labels[i] + (i * 31 + j * (7 + labels[i]) + shift) % 60);
    }
    CHECK_OK(npi_npy_write(check_path(folder, "set.npy"), NPI_U8, 3,
                           (int64_t[]){images, SIDE, SIDE}, pixels));
    CHECK_OK(npi_npy_write(check_path(folder, "set_labels.npy"), NPI_I64, 1, (int64_t[]){images},
                           labels));
    npi_free(pixels);
}

static const char recipe[] =
    "name: tiny\nencoder: resnet-small\nwidth: 16\nimage_size: 12\nchannels: 1\n"
    "batch: 8\nepochs: 4\nstart_epoch: 1\nlr: 0.1\nring: 12\nk: 5\nselect: 6\npick: 2\n"
    "noise: 20\nkeep: 3\nprojection_dim: 16\nhead_dim: 8\nmean: 0.3\nstd: 0.2\n"
    "warmup_epochs: 1\nknn_k: 5\n";

/* A folder with the images and the recipe. */
static char *prepare(void) {
    char *folder = check_folder();
    write_images(folder, IMAGES, CLASSES, 0);
    CHECK_OK(npi_file_write(check_path(folder, "tiny.yaml"), recipe, strlen(recipe)));
    return folder;
}

typedef struct job {
    npos_train_options options;
    char recipe[600], data[600], out[600];
} job;

static job *make_job(const char *folder, const char *out) {
    static job jobs[2];
    static int turn;
    job *j = &jobs[turn++ % 2];
    npos_train_options_init(&j->options);
    snprintf(j->recipe, sizeof j->recipe, "%s/tiny.yaml", folder);
    snprintf(j->data, sizeof j->data, "%s/set.npy", folder);
    snprintf(j->out, sizeof j->out, "%s/%s", folder, out);
    j->options.recipe = j->recipe;
    j->options.data = j->data;
    j->options.out = j->out;
    j->options.compute.device = "cpu";
    j->options.compute.precision = "fp32";
    j->options.compute.threads = 1;
    return j;
}

static void assert_same_file(const char *folder, const char *a, const char *b) {
    char *x, *y;
    size_t nx, ny;
    CHECK_OK(npi_file_read(check_path(folder, a), &x, &nx));
    CHECK_OK(npi_file_read(check_path(folder, b), &y, &ny));
    assert_int_equal(nx, ny);
    assert_memory_equal(x, y, nx);
    npi_free(x);
    npi_free(y);
}

static void assert_same_run(const char *folder, const char *a, const char *b) {
    static const char *const names[] = {"model.safetensors", "bank.safetensors"};
    for (int i = 0; i < 2; i++) {
        char x[64], y[64];
        snprintf(x, sizeof x, "%s/%s", a, names[i]);
        snprintf(y, sizeof y, "%s/%s", b, names[i]);
        assert_same_file(folder, x, y);
    }
}

/* The losses of each epoch, without times, must be the same text. */
static void read_losses(const char *folder, const char *run, char *out, size_t size) {
    char *text, name[64];
    size_t length;
    snprintf(name, sizeof name, "%s/log.jsonl", run);
    CHECK_OK(npi_file_read(check_path(folder, name), &text, &length));
    out[0] = '\0';
    for (char *line = text; *line; line += strcspn(line, "\n") + 1) {
        const char *end = strstr(line, "\"images_per_s\"");
        assert_non_null(end);
        size_t used = strlen(out);
        snprintf(out + used, size - used, "%.*s\n", (int)(end - line), line);
        if (!line[strcspn(line, "\n")])
            break;
    }
    npi_free(text);
}

static void assert_same_log(const char *folder, const char *a, const char *b) {
    char x[4096], y[4096];
    read_losses(folder, a, x, sizeof x);
    read_losses(folder, b, y, sizeof y);
    assert_string_equal(x, y);
    assert_non_null(strstr(x, "\"epoch\":3"));
}

static void train_whole(const char *folder, const char *out) {
    CHECK_OK(npos_train(&make_job(folder, out)->options));
}

static void two_and_two_epochs_are_four(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    job *j = make_job(folder, "parts");
    j->options.stop_after_epoch = 2;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "epoch 2");
    assert_non_null(strstr(npos_error_hint(), "--resume"));
    j->options.stop_after_epoch = 0;
    j->options.resume = 1;
    j->options.recipe = NULL; /* recipe.yaml of the run serves */
    j->options.data = NULL;
    CHECK_OK(npos_train(&j->options));
    assert_same_run(folder, "whole", "parts");
    assert_same_log(folder, "whole", "parts");
    check_remove(folder);
}

static int killed_at;

/* In the child: dies without warning within the third epoch. */
static int die(void *context, const char *phase, int64_t done, int64_t total, const char *text) {
    (void)context, (void)total, (void)text;
    if (strcmp(phase, "train") == 0 && done >= killed_at)
        kill(getpid(), SIGKILL);
    return 0;
}

static void a_killed_run_resumes_bit_for_bit(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    job *j = make_job(folder, "killed");
    killed_at = 2 * (IMAGES / 8) + 3;
    pid_t child = fork();
    if (child == 0) {
        j->options.compute.progress = die;
        (void)!npos_train(&j->options);
        _exit(1);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    j->options.resume = 1;
    CHECK_OK(npos_train(&j->options));
    assert_same_run(folder, "whole", "killed");
    assert_same_log(folder, "whole", "killed");
    check_remove(folder);
}

static int stop_in_epoch(void *context, const char *phase, int64_t done, int64_t total,
                         const char *text) {
    (void)total, (void)text;
    int *at = context;
    if (strcmp(phase, "train") == 0 && *at >= 0 && done >= *at) {
        *at = -1;
        raise(SIGTERM);
    }
    return 0;
}

static void a_signal_saves_within_the_epoch(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    job *j = make_job(folder, "signal");
    int at = IMAGES / 8 + 1;
    j->options.compute.progress = stop_in_epoch;
    j->options.compute.progress_context = &at;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "is saved");
    j->options.compute.progress = NULL;
    j->options.resume = 1;
    CHECK_OK(npos_train(&j->options));
    assert_same_run(folder, "whole", "signal");
    assert_same_log(folder, "whole", "signal");
    check_remove(folder);
}

static void any_number_of_threads_gives_the_same_weights(void **state) {
    (void)state;
    static const char *const methods[] = {"method=npos", "method=vos", "method=ce", "method=cider"};
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    for (int m = 0; m < 4; m++) {
        const char *settings[] = {methods[m], "epochs=2", "draws=50"};
        char out[2][32];
        for (int threads = 1; threads <= 3; threads += 2) {
            snprintf(out[threads / 2], sizeof out[0], "m%d-%d", m, threads);
            job *j = make_job(folder, out[threads / 2]);
            j->options.set = settings;
            j->options.set_count = 3;
            j->options.compute.threads = threads;
            CHECK_OK(npos_train(&j->options));
        }
        assert_same_run(folder, out[0], out[1]);
    }
    check_remove(folder);
}

static void a_seed_changes_the_weights(void **state) {
    (void)state;
    char folder[512], *a, *b;
    size_t n;
    snprintf(folder, sizeof folder, "%s", prepare());
    const char *settings[] = {"seed=1", "epochs=1"};
    for (int seed = 0; seed < 2; seed++) {
        job *j = make_job(folder, seed ? "one" : "zero");
        j->options.set = settings + 1 - seed;
        j->options.set_count = 1 + seed;
        CHECK_OK(npos_train(&j->options));
    }
    CHECK_OK(npi_file_read(check_path(folder, "zero/model.safetensors"), &a, &n));
    CHECK_OK(npi_file_read(check_path(folder, "one/model.safetensors"), &b, &n));
    assert_memory_not_equal(a, b, n);
    npi_free(a);
    npi_free(b);
    check_remove(folder);
}

static void a_started_run_reads_given_weights(void **state) {
    (void)state;
    char folder[512], init[600];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "first");
    snprintf(init, sizeof init, "%s/first/model.safetensors", folder);
    const char *settings[] = {"lr=0", "lr=0", "head_dim=9", "epochs=1", "warmup_epochs=0"};
    job *j = make_job(folder, "second");
    j->options.init = init;
    j->options.set = settings + 3;
    j->options.set_count = 2;
    CHECK_OK(npos_train(&j->options));
    j = make_job(folder, "third");
    j->options.init = init;
    j->options.set = settings + 2;
    j->options.set_count = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_SHAPE_MISMATCH, "phi.0.weight");
    settings[2] = "method=cider";
    CHECK_FAILS(npos_train(&j->options), NPOS_BAD_DATA, "phi.");
    check_remove(folder);
}

static void wrong_resumes_are_refused(void **state) {
    (void)state;
    char folder[512], *text;
    size_t size;
    snprintf(folder, sizeof folder, "%s", prepare());
    job *j = make_job(folder, "run");
    CHECK_FAILS((j->options.resume = 1, npos_train(&j->options)), NPOS_NOT_FOUND, "run");
    j->options.resume = 0;
    j->options.stop_after_epoch = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "is saved");
    CHECK_FAILS(npos_train(&j->options), NPOS_INVALID_ARGUMENT, "already holds a run");
    j->options.resume = 1;
    const char *settings[] = {"tau=0.2"};
    j->options.set = settings;
    j->options.set_count = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_INVALID_ARGUMENT, "'tau' differs");
    settings[0] = "test=other#class=1";
    CHECK_FAILS(npos_train(&j->options), NPOS_INVALID_ARGUMENT, "other#class=1");
    j->options.set_count = 0;
    write_images(folder, IMAGES, CLASSES, 1);
    CHECK_FAILS(npos_train(&j->options), NPOS_BAD_DATA, "training images changed");
    write_images(folder, IMAGES, CLASSES, 0);
    const char *path = check_path(folder, "run/checkpoint.safetensors");
    CHECK_OK(npi_file_read(path, &text, &size));
    CHECK_OK(npi_file_write(path, text, size / 2));
    CHECK_FAILS(npos_train(&j->options), NPOS_BAD_DATA, "checkpoint.safetensors");
    CHECK_OK(npi_file_write(path, text, size));
    npi_free(text);
    j->options.stop_after_epoch = 0;
    CHECK_OK(npos_train(&j->options));
    check_remove(folder);
}

static void bad_data_and_settings_are_named(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    job *j = make_job(folder, "run");
    const struct {
        const char *setting, *text;
        npos_status status;
    } cases[] = {
        {"batch=100", "fewer than a batch of 100", NPOS_INVALID_ARGUMENT},
        {"k=13", "ring of 12", NPOS_INVALID_ARGUMENT},
        {"lr=1000", "became", NPOS_NOT_FINITE},
        {"ring=177", "never fill a ring of 177", NPOS_INVALID_ARGUMENT},
        {"momentun=0.5", "momentun", NPOS_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *settings[] = {cases[i].setting, "weight_decay=10", "warmup_epochs=0"};
        j->options.set = settings;
        j->options.set_count = cases[i].status == NPOS_NOT_FINITE ? 3 : 1;
        CHECK_FAILS(npos_train(&j->options), cases[i].status, cases[i].text);
        assert_true(*npos_error_hint() || cases[i].status != NPOS_NOT_FINITE);
    }
    j->options.set_count = 0;
    write_images(folder, IMAGES, 1, 0);
    CHECK_FAILS(npos_train(&j->options), NPOS_INVALID_ARGUMENT, "at least 2 classes");
    j->options.data = "no-such-set";
    CHECK_FAILS(npos_train(&j->options), NPOS_NOT_FOUND, "no-such-set");
    write_images(folder, IMAGES, CLASSES, 0);
    j = make_job(folder, "run");
    j->options.out = "/proc/nothing/run";
    CHECK_FAILS(npos_train(&j->options), NPOS_IO, "/proc/nothing");
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_and_two_epochs_are_four),
        cmocka_unit_test(a_killed_run_resumes_bit_for_bit),
        cmocka_unit_test(a_signal_saves_within_the_epoch),
        cmocka_unit_test(any_number_of_threads_gives_the_same_weights),
        cmocka_unit_test(a_seed_changes_the_weights),
        cmocka_unit_test(a_started_run_reads_given_weights),
        cmocka_unit_test(wrong_resumes_are_refused),
        cmocka_unit_test(bad_data_and_settings_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
