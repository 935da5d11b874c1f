/* Training as a whole, on tiny images: resume bit for bit, any number of threads, errors. */
#include "jobs/tiny_run.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/safetensors.h"
#include "jobs/trainer.h"
#include "ood/spread.h"

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

/* In the child: dies without warning at that step. */
static int die(void *context, const char *phase, int64_t done, int64_t total, const char *text) {
    (void)context, (void)total, (void)text;
    if (strcmp(phase, "train") == 0 && done >= killed_at)
        kill(getpid(), SIGKILL);
    return 0;
}

/* A GPU does not outlive a fork: there tests/gpu.sh kills the program. */
static void skip_on_a_gpu(void) {
    if (strncmp(check_device(), "cuda", 4) == 0)
        skip();
}

/* Trains in a child that dies at that step. */
static void assert_killed_at(job *j, int step) {
    killed_at = step;
    pid_t child = fork();
    if (child == 0) {
        j->options.compute.progress = die;
        (void)!npos_train(&j->options);
        _exit(1);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

static void a_killed_run_resumes_bit_for_bit(void **state) {
    (void)state;
    skip_on_a_gpu();
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    job *j = make_job(folder, "killed");
    assert_killed_at(j, 2 * (IMAGES / 8) + 3);
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

/* A job that starts from FOLDER/FROM. */
static job *from(const char *folder, const char *out, const char *weights) {
    static char init[600];
    job *j = make_job(folder, out);
    snprintf(init, sizeof init, "%s/%s", folder, weights);
    j->options.init = init;
    return j;
}

static void a_started_run_reads_given_weights(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "first");
    static const char *const weights[] = {"first/model.safetensors", "first/checkpoint.safetensors",
                                          "first"};
    char out[3][16];
    for (int i = 0; i < 3; i++) {
        snprintf(out[i], sizeof out[i], "second%d", i);
        job *j = from(folder, out[i], weights[i]);
        const char *settings[] = {"epochs=1", "warmup_epochs=0"};
        j->options.set = settings;
        j->options.set_count = 2;
        CHECK_OK(npos_train(&j->options));
        assert_same_run(folder, out[0], out[i]);
    }
    /* a run that never ended has a checkpoint alone */
    assert_int_equal(unlink(check_path(folder, "first/model.safetensors")), 0);
    job *j = from(folder, "third", "first");
    j->options.stop_after_epoch = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "epoch 1");
    check_remove(folder);
}

/* `projection_dead` of a run's only epoch. */
static double dead_share(const char *folder, const char *run) {
    char *text, name[64];
    size_t size;
    snprintf(name, sizeof name, "%s/log.jsonl", run);
    CHECK_OK(npi_file_read(check_path(folder, name), &text, &size));
    const char *at = strstr(text, "\"projection_dead\":");
    assert_non_null(at);
    double share = strtod(at + strlen("\"projection_dead\":"), NULL);
    npi_free(text);
    return share;
}

static void the_log_counts_dead_units(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "first");
    /* the same weights, but half of the hidden layer is out of reach */
    npi_safetensors *file;
    CHECK_OK(npi_safetensors_open(check_path(folder, "first/model.safetensors"), &file));
    npi_named_tensor tensors[128];
    float bias[64];
    int count = npi_safetensors_count(file);
    assert_in_range(count, 1, 128);
    for (int i = 0; i < count; i++) {
        tensors[i] = *npi_safetensors_at(file, i);
        if (strcmp(tensors[i].name, "head.0.bias") != 0)
            continue;
        assert_int_equal(tensors[i].shape[0], 64);
        memcpy(bias, tensors[i].data, sizeof bias);
        for (int j = 0; j < 32; j++)
            bias[j] = -1e6f;
        tensors[i].data = bias;
    }
    CHECK_OK(npi_safetensors_write(check_path(folder, "lame.safetensors"), tensors, count, NULL));
    npi_safetensors_close(file);
    const char *settings[] = {"epochs=1", "warmup_epochs=0", "lr=0.0001"};
    const char *const weights[] = {"first/model.safetensors", "lame.safetensors"};
    double share[2];
    for (int i = 0; i < 2; i++) {
        job *j = from(folder, i ? "lame" : "sound", weights[i]);
        j->options.set = settings;
        j->options.set_count = 3;
        CHECK_OK(npos_train(&j->options));
        share[i] = dead_share(folder, i ? "lame" : "sound");
    }
    assert_true(share[0] >= 0 && share[0] < 0.5);
    assert_true(share[1] >= 0.5 && share[1] <= 0.5 + share[0]);
    check_remove(folder);
}

static void weights_of_another_network_are_named(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "first");
    static const struct {
        const char *weights, *setting, *text;
        npos_status status;
    } cases[] = {
        {"first/model.safetensors", "head_dim=9",
         "'phi.0.weight' is float32 [8, 64], expected float32 [9, 64]", NPOS_SHAPE_MISMATCH},
        {"first/checkpoint.safetensors", "head_dim=9", "'values/phi.0.weight' is float32",
         NPOS_SHAPE_MISMATCH},
        {"first/checkpoint.safetensors", "width=8", "expected float32 [8, 1, 3, 3]",
         NPOS_SHAPE_MISMATCH},
        {"first/model.safetensors", "method=cider",
         "model.safetensors: weights of another network: this model has no 'phi.0.weight', ",
         NPOS_BAD_DATA},
        {"first", "method=ce",
         "it lacks 'fc.weight', 'fc.bias'; this model has no 'head.0.weight', ", NPOS_BAD_DATA},
        {"first/checkpoint.safetensors", "feature_dim=24", "it lacks 'encoder.feature.weight', ",
         NPOS_BAD_DATA},
        {"first/bank.safetensors", "lr=0.1", "and 50 more; this model has no 'embeddings', ",
         NPOS_BAD_DATA},
        {"", "lr=0.1", "holds neither model.safetensors nor checkpoint.safetensors",
         NPOS_NOT_FOUND},
        {"none", "lr=0.1", "none: no such file", NPOS_NOT_FOUND},
        {"tiny.yaml", "lr=0.1", "tiny.yaml: ", NPOS_BAD_DATA},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        job *j = from(folder, "other", cases[i].weights);
        j->options.set = &cases[i].setting;
        j->options.set_count = 1;
        CHECK_FAILS(npos_train(&j->options), cases[i].status, cases[i].text);
    }
    check_remove(folder);
}

/* Of a set with splits the training images are taken, whatever else its SPEC chooses. */
static void filters_stand_behind_the_split(void **state) {
    (void)state;
    static const char *const filters[] = {"#class=a,b,c", "#first=10#class=a,b,c", "#draw=30:1",
                                          "#draw=30#class!=d"};
    static const int left[] = {36, 30, 30, 30};
    char folder[512], name[64], out[16];
    snprintf(folder, sizeof folder, "%s", prepare());
    for (int i = 0; i < 48; i++) {
        uint8_t bytes[16 + SIDE * SIDE];
        size_t head = (size_t)snprintf((char *)bytes, 16, "P5 %d %d 255\n", SIDE, SIDE);
        for (int p = 0; p < SIDE * SIDE; p++)
            bytes[head + (size_t)p] = (uint8_t)(60 * (i % 3) + (i * 31 + p * 7) % 60);
        snprintf(name, sizeof name, "s/%s/%c", i < 36 ? "train" : "test", 'a' + i % 3);
        CHECK_OK(npi_make_folders(check_path(folder, name)));
        snprintf(name, sizeof name, "s/%s/%c/%02d.pgm", i < 36 ? "train" : "test", 'a' + i % 3, i);
        CHECK_OK(npi_file_write(check_path(folder, name), bytes, head + SIDE * SIDE));
    }
    for (int f = 0; f < 4; f++) {
        int64_t shape[] = {-1, -1};
        npi_safetensors *bank;
        const npi_named_tensor *rows;
        snprintf(out, sizeof out, "run%d", f);
        job *j = make_job(folder, out);
        snprintf(j->data, sizeof j->data, "%s/s%s", folder, filters[f]);
        if (f == 3) {
            CHECK_FAILS(npos_train(&j->options), NPOS_NOT_FOUND, "'d'");
            continue;
        }
        CHECK_OK(npos_train(&j->options));
        snprintf(name, sizeof name, "%s/bank.safetensors", out);
        CHECK_OK(npi_safetensors_open(check_path(folder, name), &bank));
        CHECK_OK(npi_safetensors_get(bank, "embeddings", NPI_F32, 2, shape, &rows));
        assert_int_equal(rows->shape[0], left[f]);
        npi_safetensors_close(bank);
    }
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

/* lr: the first epoch, before any other checkpoint; the head's rate: the epoch in which R_open begins to count. */
static void values_that_are_not_finite_stop_and_leave_the_last_state(void **state) {
    (void)state;
    static const struct {
        const char *setting, *message, *hint;
        int epochs; /* before it */
    } cases[] = {
        {"lr=1000", " in epoch 0, step ", "keeps the state of epoch 0, step 0; ", 0},
        {"head_lr_scale=1000", "loss_open became ", "of epoch 1, step 0; ", 1},
    };
    char folder[512], out[32], names[2][64];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    for (int i = 0; i < 2; i++) {
        snprintf(out, sizeof out, "nan%d", i);
        job *j = make_job(folder, out);
        const char *settings[] = {cases[i].setting, "weight_decay=10", "warmup_epochs=0",
                                  "start_epoch=1", "checkpoint_every=1"};
        j->options.set = settings;
        j->options.set_count = 5;
        CHECK_FAILS(npos_train(&j->options), NPOS_NOT_FINITE, cases[i].message);
        assert_non_null(strstr(npos_error_hint(), cases[i].hint));
        assert_non_null(strstr(npos_error_hint(), "--init"));
        j->options.resume = 1; /* again the same, and still nothing is lost */
        CHECK_FAILS(npos_train(&j->options), NPOS_NOT_FINITE, cases[i].message);
        if (i == 0)
            continue;
        job *other = make_job(folder, "stopped");
        other->options.set = settings;
        other->options.set_count = 5;
        other->options.stop_after_epoch = cases[i].epochs;
        CHECK_FAILS(npos_train(&other->options), NPOS_INTERRUPTED, "is saved");
        snprintf(names[0], sizeof names[0], "%s/checkpoint.safetensors", out);
        assert_same_file(folder, names[0], "stopped/checkpoint.safetensors");
    }
    /* as the hint says: from the saved weights, here those of the run's start */
    CHECK_OK(npos_train(&from(folder, "again", "nan0")->options));
    assert_same_run(folder, "whole", "again");
    check_remove(folder);
}

static void a_checkpoint_takes_no_nan(void **state) {
    (void)state;
    char folder[512];
    npi_trainer t;
    snprintf(folder, sizeof folder, "%s", prepare());
    job *j = make_job(folder, "run");
    j->options.stop_after_epoch = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "is saved");
    char *before;
    size_t size;
    CHECK_OK(npi_file_read(check_path(folder, "run/checkpoint.safetensors"), &before, &size));
    CHECK_OK(npi_file_write(check_path(folder, "before"), before, size));
    npi_free(before);
    j->options.resume = 1;
    CHECK_OK(npi_trainer_open(&j->options, NPI_TRAINER_TRAIN, &t));
    float weights[8] = {0};
    int phi = npi_params_find(&t.model.params, "phi.2.weight");
    assert_int_equal(t.model.params.list[phi].count, 8);
    weights[7] = NAN;
    CHECK_OK(npi_param_set(&t.model.params, NPI_ARENA_VALUES, phi, weights));
    CHECK_FAILS(npi_trainer_save(&t), NPOS_NOT_FINITE, "values/phi.2.weight became nan");
    assert_non_null(strstr(npos_error_hint(), "keeps the state of epoch 1, step 0"));
    assert_same_file(folder, "before", "run/checkpoint.safetensors");
    npi_trainer_close(&t);
    check_remove(folder);
}

/* The prototypes that a checkpoint has. */
static void read_prototypes(const char *folder, const char *run, float *out) {
    char name[64];
    npi_safetensors *file;
    const npi_named_tensor *mu;
    snprintf(name, sizeof name, "%s/checkpoint.safetensors", run);
    CHECK_OK(npi_safetensors_open(check_path(folder, name), &file));
    CHECK_OK(npi_safetensors_get(file, "prototypes", NPI_F32, 2, (int64_t[]){CLASSES, 16}, &mu));
    memcpy(out, mu->data, CLASSES * 16 * sizeof *out);
    npi_safetensors_close(file);
}

/* Through epochs without and with outliers; then they follow their classes. */
static void held_prototypes_stay_where_they_start(void **state) {
    (void)state;
    char folder[512];
    float start[CLASSES * 16], seen[CLASSES * 16];
    snprintf(folder, sizeof folder, "%s", prepare());
    job *j = make_job(folder, "run");
    const char *settings[] = {"proto_start=spread", "proto_hold=2"};
    j->options.set = settings;
    j->options.set_count = 2;
    CHECK_OK(npi_spread_directions(CLASSES, 16, 0, start));
    for (int epoch = 1; epoch <= 3; epoch++) {
        double moved = 0.0;
        j->options.stop_after_epoch = epoch;
        CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "is saved");
        j->options.resume = 1;
        read_prototypes(folder, "run", seen);
        for (int i = 0; i < CLASSES * 16; i++)
            moved = fmax(moved, fabs((double)seen[i] - (double)start[i]));
        assert_true(epoch <= 2 ? moved < 1e-5 : moved > 1e-2);
    }
    check_remove(folder);
}

/* Killed before the first epoch's end. */
static void a_run_killed_in_its_first_epoch_resumes(void **state) {
    (void)state;
    skip_on_a_gpu();
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    job *j = make_job(folder, "killed");
    assert_killed_at(j, 2);
    j->options.resume = 1;
    CHECK_OK(npos_train(&j->options));
    assert_same_run(folder, "whole", "killed");
    assert_same_log(folder, "whole", "killed");
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
        {"ring=177", "never fill a ring of 177", NPOS_INVALID_ARGUMENT},
        {"momentun=0.5", "momentun", NPOS_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        j->options.set = &cases[i].setting;
        j->options.set_count = 1;
        CHECK_FAILS(npos_train(&j->options), cases[i].status, cases[i].text);
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
        cmocka_unit_test(the_log_counts_dead_units),
        cmocka_unit_test(weights_of_another_network_are_named),
        cmocka_unit_test(filters_stand_behind_the_split),
        cmocka_unit_test(wrong_resumes_are_refused),
        cmocka_unit_test(bad_data_and_settings_are_named),
        cmocka_unit_test(values_that_are_not_finite_stop_and_leave_the_last_state),
        cmocka_unit_test(a_checkpoint_takes_no_nan),
        cmocka_unit_test(held_prototypes_stay_where_they_start),
        cmocka_unit_test(a_run_killed_in_its_first_epoch_resumes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
