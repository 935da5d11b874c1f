/* A disk that is full: a limit on the size of files (RLIMIT_FSIZE) in a child process makes every longer write fail.
 * Whatever the job, what was there before stays as it was, the error names the file and says how to go on, and going
 * on gives what an undisturbed run gives. */
#include "jobs/tiny_run.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct outcome {
    npos_status status;
    char message[1024], hint[1024];
} outcome;

typedef npos_status job_fn(const void *options);

static npos_status train(const void *options) {
    return npos_train(options);
}
static npos_status evaluate(const void *options) {
    return npos_eval(options);
}
static npos_status calibrate(const void *options) {
    return npos_calibrate(options);
}
static npos_status report(const void *options) {
    return npos_report(options);
}

/* What the call gives where no file can grow beyond `bytes`, in a process of its own: threads that OpenMP keeps do not
 * survive a fork, so that the parent must not have any. */
static outcome limited(job_fn *call, const void *options, size_t bytes) {
    int ends[2], how;
    outcome seen = {0};
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){bytes, bytes});
        seen.status = call(options);
        snprintf(seen.message, sizeof seen.message, "%.1000s", npos_error_message());
        snprintf(seen.hint, sizeof seen.hint, "%.1000s", npos_error_hint());
        _exit(write(ends[1], &seen, sizeof seen) != sizeof seen);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &seen, sizeof seen), sizeof seen);
    close(ends[0]);
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    return seen;
}

static void assert_says(outcome seen, const char *file, const char *hint) {
    if (seen.status != NPOS_IO || !strstr(seen.message, file) || !strstr(seen.hint, hint))
        fail_msg("gave %s (%s; %s), expected the file '%s' and the hint '%s'",
                 npos_status_name(seen.status), seen.message, seen.hint, file, hint);
}

static size_t size_of(const char *folder, const char *name) {
    struct stat info;
    assert_int_equal(stat(check_path(folder, name), &info), 0);
    return (size_t)info.st_size;
}

static void assert_no_parts(const char *folder, const char *run) {
    DIR *directory = opendir(check_path(folder, run));
    for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;)
        if (strstr(entry->d_name, ".tmp-"))
            fail_msg("%s is left behind", entry->d_name);
    if (directory)
        closedir(directory);
}

/* The run resumes, or starts anew where nothing was saved, and ends as the undisturbed one. */
static void assert_goes_on(const char *folder, const char *run) {
    char name[64];
    job *j = make_job(folder, run);
    snprintf(name, sizeof name, "%s/checkpoint.safetensors", run);
    j->options.resume = npi_is_file(check_path(folder, name));
    CHECK_OK(npos_train(&j->options));
    assert_same_run(folder, "whole", run);
    assert_same_log(folder, "whole", run);
    assert_no_parts(folder, run);
}

static void remove_events(const char *folder, const char *run) {
    char command[700];
    snprintf(command, sizeof command, "rm -f '%s/%s'/events.*", folder, run);
    assert_int_equal(system(command), 0);
}

static void a_checkpoint_that_finds_no_room_leaves_the_old_one(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    job *j = make_job(folder, "run");
    j->options.stop_after_epoch = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "epoch 1");
    size_t bytes = size_of(folder, "run/checkpoint.safetensors");
    char *before;
    size_t size;
    CHECK_OK(npi_file_read(check_path(folder, "run/checkpoint.safetensors"), &before, &size));
    CHECK_OK(npi_file_write(check_path(folder, "old"), before, size));
    npi_free(before);
    j->options.stop_after_epoch = 0;
    j->options.resume = 1;
    outcome seen = limited(train, &j->options, bytes - 1);
    assert_says(seen, "run/checkpoint.safetensors: cannot write", "run --resume");
    assert_non_null(strstr(seen.hint, "size of files"));
    assert_same_file(folder, "old", "run/checkpoint.safetensors");
    assert_no_parts(folder, "run");
    /* an attempt that was killed within the write */
    CHECK_OK(npi_file_write(check_path(folder, "run/checkpoint.safetensors.tmp-1"), "half", 4));
    assert_goes_on(folder, "run");
    check_remove(folder);
}

static void a_log_that_finds_no_room_keeps_its_lines(void **state) {
    (void)state;
    char folder[512];
    char *before, *after;
    size_t n_before, n_after;
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    job *j = make_job(folder, "run");
    j->options.stop_after_epoch = 3;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "epoch 3");
    CHECK_OK(npi_file_read(check_path(folder, "run/log.jsonl"), &before, &n_before));
    remove_events(folder, "run"); /* within the same second their file would be continued */
    j->options.stop_after_epoch = 0;
    j->options.resume = 1;
    assert_says(limited(train, &j->options, n_before + 100), "run/log.jsonl", "run --resume");
    CHECK_OK(npi_file_read(check_path(folder, "run/log.jsonl"), &after, &n_after));
    assert_int_equal(n_before, n_after);
    assert_memory_equal(before, after, n_before);
    npi_free(before);
    npi_free(after);
    /* less than the log that is there: it cannot be opened either, and stays */
    assert_says(limited(train, &j->options, 100), "run/log.jsonl", "run --resume");
    assert_int_equal(size_of(folder, "run/log.jsonl"), n_after);
    assert_goes_on(folder, "run");
    check_remove(folder);
}

/* Limits from nothing up to what the largest file takes: wherever a run stops, it goes on. */
static void a_run_goes_on_from_wherever_it_stopped(void **state) {
    (void)state;
    char folder[512], run[32];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    const size_t recipe_bytes = size_of(folder, "whole/recipe.yaml"),
                 model = size_of(folder, "whole/model.safetensors"),
                 bank = size_of(folder, "whole/bank.safetensors"),
                 checkpoint = size_of(folder, "whole/checkpoint.safetensors");
    assert_true(bank < model && model < checkpoint);
    const struct {
        size_t bytes;
        const char *file, *hint;
    } cases[] = {
        {0, "recipe.yaml", "start again"},
        {recipe_bytes - 1, "recipe.yaml", "start again"},
        {recipe_bytes, "checkpoint.safetensors", "start again"},
        {checkpoint - 1, "checkpoint.safetensors", "start again"},
        {checkpoint, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(run, sizeof run, "run%zu", i);
        outcome seen = limited(train, &make_job(folder, run)->options, cases[i].bytes);
        if (!cases[i].file) {
            assert_int_equal(seen.status, NPOS_OK);
            continue;
        }
        assert_says(seen, cases[i].file, cases[i].hint);
        assert_non_null(strstr(seen.message, run));
        assert_no_parts(folder, run);
        assert_goes_on(folder, run);
    }
    check_remove(folder);
}

static void events_and_final_files_find_no_room(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "whole");
    const char *names[] = {"whole/bank.safetensors", "whole/model.safetensors"};
    for (int i = 0; i < 2; i++) { /* all epochs are done: only the end is missing */
        char *bytes;
        size_t size;
        CHECK_OK(npi_file_read(check_path(folder, names[i]), &bytes, &size));
        job *j = make_job(folder, "whole");
        j->options.resume = 1;
        assert_int_equal(unlink(check_path(folder, names[i])), 0);
        assert_says(limited(train, &j->options, size - 1), names[i], "whole --resume");
        assert_false(npi_is_file(check_path(folder, names[i])));
        CHECK_OK(npos_train(&j->options));
        CHECK_OK(npi_file_write(check_path(folder, "expected"), bytes, size));
        assert_same_file(folder, "expected", names[i]);
        npi_free(bytes);
    }
    job *j = make_job(folder, "short");
    j->options.stop_after_epoch = 1;
    CHECK_FAILS(npos_train(&j->options), NPOS_INTERRUPTED, "epoch 1");
    size_t log = size_of(folder, "short/log.jsonl");
    j->options.stop_after_epoch = 0;
    j->options.resume = 1;
    assert_true(log < 450); /* ten values of an epoch take more in the events */
    assert_says(limited(train, &j->options, log), "short/events.out.tfevents.", "short --resume");
    assert_goes_on(folder, "short");
    check_remove(folder);
}

/* The same bytes as before, whatever was tried. */
static void assert_unchanged(const char *folder, const char *copy, const char *now) {
    char command[1200];
    snprintf(command, sizeof command, "diff -r '%s/%s' '%s/%s'", folder, copy, folder, now);
    assert_int_equal(system(command), 0);
}

static void what_reads_a_run_leaves_it_whole(void **state) {
    (void)state;
    char folder[512], run[600], data[600], set[640], command[1200];
    snprintf(folder, sizeof folder, "%s", prepare());
    train_whole(folder, "run");
    write_images(folder, IMAGES, CLASSES, 7); /* not those that were trained on */
    snprintf(run, sizeof run, "%s/run", folder);
    snprintf(data, sizeof data, "%s/set.npy", folder);
    snprintf(set, sizeof set, "far/same=%s#class=1", data);
    const char *sets[] = {set};
    npos_eval_options e;
    npos_eval_options_init(&e);
    e.run = run;
    e.id = data;
    e.ood = sets;
    e.ood_count = 1;
    npos_calibrate_options c;
    npos_calibrate_options_init(&c);
    c.run = run;
    c.id = data;
    npos_report_options r;
    npos_report_options_init(&r);
    r.run = run;
    e.compute.threads = c.compute.threads = r.compute.threads = 1;
    assert_int_equal(limited(calibrate, &c, RLIM_INFINITY).status, NPOS_OK);
    assert_int_equal(limited(evaluate, &e, RLIM_INFINITY).status, NPOS_OK);
    assert_int_equal(limited(report, &r, RLIM_INFINITY).status, NPOS_OK);
    snprintf(command, sizeof command, "cp -r '%s' '%s/copy'", run, folder);
    assert_int_equal(system(command), 0);
    const struct {
        job_fn *call;
        const void *options;
        const char *file;
    } cases[] = {
        {evaluate, &e, "run/eval.json"},
        {calibrate, &c, "run/model.safetensors"},
        {report, &r, "run/report/index.html"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int whole = 0; whole < 2; whole++) {
            size_t room = whole ? size_of(folder, cases[i].file) / 2 : 0;
            assert_says(limited(cases[i].call, cases[i].options, room), "/run/", "size of files");
            assert_no_parts(folder, "run");
            assert_no_parts(folder, "run/scores");
            assert_no_parts(folder, "run/report");
            assert_unchanged(folder, "copy", "run");
        }
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_checkpoint_that_finds_no_room_leaves_the_old_one),
        cmocka_unit_test(a_log_that_finds_no_room_keeps_its_lines),
        cmocka_unit_test(a_run_goes_on_from_wherever_it_stopped),
        cmocka_unit_test(events_and_final_files_find_no_room),
        cmocka_unit_test(what_reads_a_run_leaves_it_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
