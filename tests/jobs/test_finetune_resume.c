/* npos_finetune stopped, killed and gone on with; any number of threads; what changed since then, and what never fits,
 * is named. */
#include "jobs/tiny_clip.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void two_and_two_epochs_are_four(void **state) {
    (void)state;
    char folder[512];
    prepare_clip(folder, sizeof folder);
    for (int images = 0; images < 2; images++) {
        char whole[16], parts[16];
        snprintf(whole, sizeof whole, "whole%d", images);
        snprintf(parts, sizeof parts, "parts%d", images);
        CHECK_OK(
            npos_finetune(&(images ? on_images(folder, whole) : on_store(folder, whole))->options));
        tuning *j = images ? on_images(folder, parts) : on_store(folder, parts);
        j->options.stop_after_epoch = 2;
        CHECK_FAILS(npos_finetune(&j->options), NPOS_INTERRUPTED, "epoch 2");
        assert_non_null(strstr(npos_error_hint(), "npos finetune --out"));
        j->options.stop_after_epoch = 0;
        j->options.resume = 1; /* the run's own recipe and text serve */
        j->options.recipe = j->options.clip = j->options.features = j->options.data = NULL;
        j->options.text = NULL;
        CHECK_OK(npos_finetune(&j->options));
        assert_same_tuning(folder, whole, parts);
        assert_same_run(folder, whole, parts);
    }
    check_remove(folder);
}

static int die_at;

/* In the child: dies without warning at that step. */
static int die(void *context, const char *phase, int64_t done, int64_t total, const char *text) {
    (void)context, (void)total, (void)text;
    if (strcmp(phase, "train") == 0 && done >= die_at)
        kill(getpid(), SIGKILL);
    return 0;
}

static void a_killed_run_resumes_bit_for_bit(void **state) {
    (void)state;
    if (on_gpu())
        skip(); /* a GPU does not outlive a fork */
    char folder[512];
    prepare_clip(folder, sizeof folder);
    CHECK_OK(npos_finetune(&on_store(folder, "whole")->options));
    static const int steps[] = {2, 2 * STEPS + 3};
    for (int i = 0; i < 2; i++) {
        int how;
        char out[16];
        snprintf(out, sizeof out, "killed%d", i);
        tuning *j = on_store(folder, out);
        die_at = steps[i];
        pid_t child = fork();
        if (child == 0) {
            j->options.compute.progress = die;
            (void)!npos_finetune(&j->options);
            _exit(1);
        }
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
        j->options.resume = 1;
        CHECK_OK(npos_finetune(&j->options));
        assert_same_tuning(folder, "whole", out);
        assert_same_run(folder, "whole", out);
    }
    check_remove(folder);
}

static int stop_at;

static int stop(void *context, const char *phase, int64_t done, int64_t total, const char *text) {
    (void)context, (void)total, (void)text;
    if (strcmp(phase, "train") == 0 && stop_at >= 0 && done >= stop_at) {
        stop_at = -1;
        raise(SIGTERM);
    }
    return 0;
}

static void a_signal_saves_within_the_epoch(void **state) {
    (void)state;
    char folder[512];
    prepare_clip(folder, sizeof folder);
    CHECK_OK(npos_finetune(&on_store(folder, "whole")->options));
    tuning *j = on_store(folder, "signal");
    const char *setting = "loading=stream";
    j->options.set = &setting;
    j->options.set_count = 1;
    stop_at = STEPS + 1;
    j->options.compute.progress = stop;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INTERRUPTED, "is saved");
    j->options.compute.progress = NULL;
    j->options.resume = 1;
    CHECK_OK(npos_finetune(&j->options));
    assert_same_tuning(folder, "whole", "signal");
    check_remove(folder);
}

static void any_number_of_threads_gives_the_same_weights(void **state) {
    (void)state;
    static const char *const losses[] = {"loss=logit_norm", "loss=ce"};
    char folder[512];
    prepare_clip(folder, sizeof folder);
    for (int l = 0; l < 2; l++) {
        for (int threads = 1; threads <= 3; threads += 2) {
            char out[16];
            snprintf(out, sizeof out, "l%dt%d", l, threads);
            tuning *j = threads == 1 ? on_store(folder, out) : on_images(folder, out);
            const char *set[] = {losses[l], "loading=stream"};
            j->options.set = set;
            j->options.set_count = 2;
            j->options.compute.threads = threads;
            CHECK_OK(npos_finetune(&j->options));
        }
    }
    assert_same_tuning(folder, "l0t1", "l0t3");
    assert_same_tuning(folder, "l1t1", "l1t3");
    tuning *j = on_store(folder, "seed");
    const char *seed = "seed=1";
    j->options.set = &seed;
    j->options.set_count = 1;
    CHECK_OK(npos_finetune(&j->options));
    char a[4096], b[4096];
    read_losses(folder, "l0t1", a, sizeof a);
    read_losses(folder, "seed", b, sizeof b);
    assert_string_not_equal(a, b);
    check_remove(folder);
}

/* ---- what does not fit ---- */

static void what_changed_since_is_named(void **state) {
    (void)state;
    char folder[512], command[3000], model[1100];
    prepare_clip(folder, sizeof folder);
    tuning *j = on_store(folder, "run");
    snprintf(model, sizeof model, "%s/model", folder);
    snprintf(command, sizeof command, "cp -r '%s' '%s'", j->clip, model);
    assert_int_equal(system(command), 0);
    j->options.clip = model;
    j->options.stop_after_epoch = 2;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INTERRUPTED, "is saved");
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "already holds a run");
    j->options.resume = 1;
    const char *tau = "temperature=4";
    j->options.set = &tau;
    j->options.set_count = 1;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "'temperature' differs");
    j->options.set_count = 0;
    /* other directions of the same model */
    write_directions(j->text, j->clip, CLASSES, 1);
    CHECK_FAILS(npos_finetune(&j->options), NPOS_BAD_DATA, "the classes' directions changed");
    write_directions(j->text, j->clip, CLASSES, 0);
    /* other features: a relabelled store */
    write_images(folder, IMAGES, CLASSES, 1);
    extract_tokens(folder, "other", 1);
    j->options.features = check_path(folder, "other");
    CHECK_FAILS(npos_finetune(&j->options), NPOS_BAD_DATA, "the features changed");
    /* images in place of features */
    j->options.features = NULL;
    j->options.data = j->data;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "'data' differs");
    j->options.data = NULL;
    j->options.features = j->store;
    /* other weights: those of another run */
    tuning *first = on_images(folder, "first");
    CHECK_OK(npos_finetune(&first->options));
    j->options.clip = check_path(folder, "first/clip");
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "other weights");
    /* a model, features and text that moved are the same */
    snprintf(command, sizeof command,
             "cd '%s' && mv model m2 && mv store s2 && mv t.safetensors "
             "t2.safetensors",
             folder);
    assert_int_equal(system(command), 0);
    j->options.clip = check_path(folder, "m2");
    j->options.features = check_path(folder, "s2");
    j->options.text = check_path(folder, "t2.safetensors");
    j->options.stop_after_epoch = 0;
    CHECK_OK(npos_finetune(&j->options));
    check_remove(folder);
}

static void wrong_settings_are_named(void **state) {
    (void)state;
    static const struct {
        const char *setting, *text;
    } cases[] = {
        {"k=13", "ring of 12"},
        {"ring=89", "never fill a ring of 89"},
        {"pick=7", "pick <= select"},
        {"keep=21", "of only 20 noise vectors"},
        {"views=2", "tokens are of one view"},
        {"first_block=2", "has blocks 0 to 1"},
        {"first_block=0", "tokens that enter block 1"},
        {"method=npos", "has method 'npos'"},
        {"los=ce", "'los' is not a key"},
    };
    char folder[512];
    prepare_clip(folder, sizeof folder);
    tuning *j = on_store(folder, "run");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        j->options.set = &cases[i].setting;
        j->options.set_count = 1;
        CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, cases[i].text);
    }
    j->options.set_count = 0;
    j->options.recipe = "cifar10";
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "has method 'npos'");
    npos_train_options train = make_job(folder, "run")->options;
    train.recipe = "clip-imagenet100";
    CHECK_FAILS(npos_train(&train), NPOS_INVALID_ARGUMENT, "has method 'clip'");
    assert_non_null(strstr(npos_error_hint(), "npos finetune"));
    check_remove(folder);
}

static void wrong_sources_are_named(void **state) {
    (void)state;
    char folder[512];
    prepare_clip(folder, sizeof folder);
    tuning *j = on_store(folder, "run");
    j->options.features = NULL;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "no training images");
    j->options.features = j->store;
    j->options.data = j->data;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "features '");
    j->options.data = NULL;
    j->options.clip = NULL;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "no model is given");
    j->options.clip = check_path(folder, "nowhere");
    CHECK_FAILS(npos_finetune(&j->options), NPOS_NOT_FOUND, "nowhere");
    j->options.clip = j->clip;
    j->options.features = check_path(folder, "nowhere");
    CHECK_FAILS(npos_finetune(&j->options), NPOS_NOT_FOUND, "nowhere");
    extract_tokens(folder, "low", 0);
    j->options.features = check_path(folder, "low");
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "tokens that enter block 0");
    assert_non_null(strstr(npos_error_hint(), "--block 1"));
    tuning *w = make_tuning(folder, "words", "run");
    w->options.features = w->store;
    const char *zero = "first_block=0";
    w->options.set = &zero;
    w->options.set_count = 1;
    CHECK_FAILS(npos_finetune(&w->options), NPOS_SHAPE_MISMATCH, "tokens of 10 rows of 32");
    w = make_tuning(folder, "open_clip", "run");
    w->options.features = w->store;
    CHECK_FAILS(npos_finetune(&w->options), NPOS_INVALID_ARGUMENT, "was made with other weights");
    assert_non_null(strstr(npos_error_hint(), "npos extract --clip"));
    assert_false(npi_is_file(check_path(folder, "run/checkpoint.safetensors")));
    check_remove(folder);
}

static void wrong_directions_are_named(void **state) {
    (void)state;
    char folder[512], path[1100];
    prepare_clip(folder, sizeof folder);
    tuning *j = on_store(folder, "run");
    write_directions(j->text, j->clip, 2, 0);
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT,
                "class '2' is not one of the model's 2 classes");
    write_directions(j->text, j->clip, 4, 0);
    CHECK_FAILS(npos_finetune(&j->options), NPOS_BAD_DATA, "class '3' has no images");
    snprintf(path, sizeof path, "%s/tests/golden/clip/open_clip", check_source());
    write_directions(j->text, path, CLASSES, 0);
    CHECK_FAILS(npos_finetune(&j->options), NPOS_INVALID_ARGUMENT, "made with other weights");
    CHECK_OK(npi_file_write(j->text, "nothing", 7));
    CHECK_FAILS(npos_finetune(&j->options), NPOS_BAD_DATA, "t.safetensors");
    j->options.text = NULL; /* numbers make none */
    CHECK_FAILS(npos_finetune(&j->options), NPOS_UNSUPPORTED, "class '0' is a number");
    assert_false(npi_is_file(check_path(folder, "run/checkpoint.safetensors")));
    check_remove(folder);
}

static void damaged_chunks_are_named(void **state) {
    (void)state;
    char folder[512], command[3000], path[1100];
    prepare_clip(folder, sizeof folder);
    tuning *j = on_store(folder, "run");
    snprintf(path, sizeof path, "%s/00000.tok", j->store);
    snprintf(command, sizeof command,
             "cp '%s' '%s/kept' && printf x | dd of='%s' bs=1 seek=5000 conv=notrunc status=none",
             path, folder, path);
    assert_int_equal(system(command), 0);
    CHECK_FAILS(npos_finetune(&j->options), NPOS_BAD_DATA, "checksum is wrong");
    assert_int_equal(truncate(path, 5000), 0);
    CHECK_FAILS(npos_finetune(&j->options), NPOS_BAD_DATA, "00000.tok");
    assert_int_equal(unlink(path), 0);
    CHECK_FAILS(npos_finetune(&j->options), NPOS_NOT_FOUND, "00000.tok");
    assert_non_null(strstr(npos_error_hint(), "extract --resume"));
    snprintf(command, sizeof command, "mv '%s/kept' '%s'", folder, path);
    assert_int_equal(system(command), 0);
    CHECK_OK(npos_finetune(&j->options)); /* what was tried before is in nobody's way */
    check_remove(folder);
}

/* Memory that runs out anywhere is an error (or, where tokens would be kept, they are streamed), and nothing leaks. */
static void failing_allocations_leak_nothing(void **state) {
    (void)state;
    char folder[512], command[700];
    prepare_clip(folder, sizeof folder);
    for (int images = 0; images < 2; images++) {
        size_t before = npi_memory_now();
        npos_status status = NPOS_OUT_OF_MEMORY;
        int failed = 0;
        for (int n = 1; status != NPOS_OK || n < 200; n += 1 + n / 16) {
            tuning *j = images ? on_images(folder, "run") : on_store(folder, "run");
            const char *set[] = {"epochs=2", "start_epoch=0", "ring=6", "k=5"};
            j->options.set = set;
            j->options.set_count = 4;
            npi_memory_fail_after(n);
            status = npos_finetune(&j->options);
            npi_memory_fail_after(0);
            if (status != NPOS_OK && status != NPOS_OUT_OF_MEMORY)
                fail_msg("allocation %d: %s", n, npos_error_message());
            failed += status == NPOS_OUT_OF_MEMORY;
            assert_int_equal(npi_memory_now(), before);
            snprintf(command, sizeof command, "rm -rf '%s/run'", folder);
            assert_int_equal(system(command), 0);
        }
        assert_true(failed > 30);
    }
    check_remove(folder);
}

/* A step that diverges stops and leaves the last state. */
static void values_that_are_not_finite_stop(void **state) {
    (void)state;
    char folder[512];
    prepare_clip(folder, sizeof folder);
    tuning *j = on_store(folder, "run");
    const char *set[] = {"lr=1e3", "weight_decay=10"};
    j->options.set = set;
    j->options.set_count = 2;
    CHECK_FAILS(npos_finetune(&j->options), NPOS_NOT_FINITE, "became ");
    assert_non_null(strstr(npos_error_hint(), "--set lr=500"));
    assert_null(strstr(npos_error_hint(), "--init"));
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_and_two_epochs_are_four),
        cmocka_unit_test(a_killed_run_resumes_bit_for_bit),
        cmocka_unit_test(a_signal_saves_within_the_epoch),
        cmocka_unit_test(any_number_of_threads_gives_the_same_weights),
        cmocka_unit_test(what_changed_since_is_named),
        cmocka_unit_test(wrong_settings_are_named),
        cmocka_unit_test(wrong_sources_are_named),
        cmocka_unit_test(wrong_directions_are_named),
        cmocka_unit_test(damaged_chunks_are_named),
        cmocka_unit_test(failing_allocations_leak_nothing),
        cmocka_unit_test(values_that_are_not_finite_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
