/* Token stores: what is written is read back, what is damaged is named, what was stopped goes on. */
#include "check.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/token_store.h"
#include "tensor/dtype.h"

enum { IMAGES = 11, ROWS = 5, WIDTH = 4, NUMBERS = ROWS * WIDTH, CHUNK = 4, AT_ONCE = 3 };

/* As tests/golden/make_tokens.py. */
static uint16_t number(int64_t image, int k) {
    return npi_f32_to_f16((float)((20 * image + k) % 97 - 48) / 16);
}

static void fill(int64_t image, uint16_t *out) {
    for (int k = 0; k < NUMBERS; k++)
        out[k] = number(image, k);
}

static char *class_names[2] = {"cat", "dog"};
static int32_t labels[IMAGES] = {0, 1, 0, 1, -1, 0, 0, 1, 1, 0, 1};

static npi_token_info make_info(void) {
    return (npi_token_info){.images = IMAGES,
                            .block = 10,
                            .rows = ROWS,
                            .width = WIDTH,
                            .chunk = CHUNK,
                            .model = 0x1234567890abcdefu,
                            .names = 77,
                            .classes = 2,
                            .class_names = class_names,
                            .labels = labels,
                            .spec = "cats#train",
                            .transform = "as Pillow"};
}

/* Adds up to `most` of the missing images. */
static npos_status add(npi_token_writer *writer, int64_t most) {
    for (int64_t i = npi_token_writer_missing(writer, 0); i < IMAGES && most > 0; most--) {
        uint16_t image[NUMBERS];
        fill(i, image);
        npos_status status = npi_token_writer_add(writer, 1, image);
        if (status != NPOS_OK)
            return status;
        i = npi_token_writer_missing(writer, i + 1);
    }
    return NPOS_OK;
}

static npos_status write_store(const char *folder, bool resume, int64_t most) {
    npi_token_writer *writer;
    npi_token_info info = make_info();
    npos_status status = npi_token_writer_open(folder, &info, resume, AT_ONCE, &writer);
    if (status == NPOS_OK)
        status = add(writer, most);
    if (status == NPOS_OK)
        status = npi_token_writer_finish(writer);
    npi_token_writer_close(writer);
    return status;
}

static npos_status read_image(const char *path, int64_t i, uint16_t *out) {
    npi_token_store *store;
    npos_status status = npi_token_store_open(path, &store);
    if (status == NPOS_OK)
        status = npi_token_store_read(store, i, out);
    npi_token_store_close(store);
    return status;
}

static void assert_whole(const char *folder) {
    for (int64_t i = 0; i < IMAGES; i++) {
        uint16_t image[NUMBERS];
        CHECK_OK(read_image(folder, i, image));
        for (int k = 0; k < NUMBERS; k++)
            assert_int_equal(image[k], number(i, k));
    }
}

static void what_is_written_is_read(void **state) {
    (void)state;
    char *folder = check_folder();
    size_t before = npi_memory_now();
    npi_token_store *store;
    npi_token_info wanted = make_info();
    CHECK_OK(write_store(check_path(folder, "s"), false, IMAGES));
    CHECK_OK(npi_token_store_open(check_path(folder, "s"), &store));
    const npi_token_info *info = npi_token_store_info(store);
    assert_int_equal(info->images, IMAGES);
    assert_int_equal(info->block, 10);
    assert_true(info->model == wanted.model && info->names == wanted.names);
    assert_int_equal(info->classes, 2);
    assert_string_equal(info->class_names[1], "dog");
    assert_memory_equal(info->labels, labels, sizeof labels);
    assert_string_equal(info->spec, "cats#train");
    assert_string_equal(info->transform, "as Pillow");
    uint16_t image[NUMBERS];
    CHECK_FAILS(npi_token_store_read(store, IMAGES, image), NPOS_INVALID_ARGUMENT,
                "image 11 of 11");
    npi_token_store_close(store);
    assert_whole(check_path(folder, "s"));
    CHECK_FAILS(write_store(check_path(folder, "s"), false, 1), NPOS_INVALID_ARGUMENT,
                "there is one already");
    assert_int_equal(npi_memory_now(), before);
    check_remove(folder);
}

typedef struct reader {
    npi_token_store *store;
    pthread_t thread;
    bool same;
} reader;

static void *read_all(void *argument) {
    reader *r = argument;
    r->same = true;
    for (int64_t i = 0; i < IMAGES; i++) {
        uint16_t image[NUMBERS], expected[NUMBERS];
        fill(i, expected);
        r->same = npi_token_store_read(r->store, i, image) == NPOS_OK &&
                  memcmp(image, expected, sizeof image) == 0 && r->same;
    }
    return NULL;
}

static void threads_read_at_once(void **state) {
    (void)state;
    char *folder = check_folder();
    reader readers[4];
    npi_token_store *store;
    CHECK_OK(write_store(folder, false, IMAGES));
    CHECK_OK(npi_token_store_open(folder, &store));
    for (int i = 0; i < 4; i++) {
        readers[i].store = store;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_true(readers[i].same);
    }
    npi_token_store_close(store);
    check_remove(folder);
}

/* Stopped after any number of images, the rest is added; only chunks that are whole count. */
static void a_stopped_store_goes_on(void **state) {
    (void)state;
    for (int64_t stop = 0; stop <= IMAGES; stop++) {
        char *folder = check_folder();
        npi_token_writer *writer;
        npi_token_info info = make_info();
        uint16_t image[NUMBERS] = {0};
        CHECK_OK(write_store(folder, false, stop));
        if (stop < IMAGES) {
            CHECK_FAILS(read_image(folder, 0, image), NPOS_NOT_FOUND, "the store is not whole");
            assert_non_null(strstr(npos_error_hint(), "--resume"));
        }
        info.spec = "elsewhere/cats#train"; /* the same images in another place */
        CHECK_OK(npi_token_writer_open(folder, &info, true, AT_ONCE, &writer));
        assert_int_equal(npi_token_writer_missing(writer, 0),
                         stop == IMAGES ? IMAGES : stop / CHUNK * CHUNK);
        CHECK_OK(add(writer, IMAGES));
        CHECK_FAILS(npi_token_writer_add(writer, 1, image), NPOS_INVALID_ARGUMENT, "1 images more");
        npi_token_writer_close(writer);
        assert_whole(folder);
        check_remove(folder);
    }
}

/* Two extractions into one store: the second is told, and may go on when the first is done. */
static void one_writer_at_a_time(void **state) {
    (void)state;
    char *folder = check_folder();
    npi_token_writer *writer, *second;
    npi_token_info info = make_info();
    CHECK_OK(npi_token_writer_open(folder, &info, true, AT_ONCE, &writer));
    CHECK_FAILS(npi_token_writer_open(folder, &info, true, AT_ONCE, &second), NPOS_IO,
                "another extraction is writing to it");
    assert_null(second);
    CHECK_OK(add(writer, IMAGES));
    npi_token_writer_close(writer);
    assert_whole(folder);
    CHECK_OK(npi_token_writer_open(folder, &info, true, AT_ONCE, &second));
    npi_token_writer_close(second);
    check_remove(folder);
}

/* 0 where no part of a chunk is left in the folder. */
static int look_for_parts(const char *folder) {
    char command[700];
    snprintf(command, sizeof command, "! ls '%s' | grep -q tmp-", folder);
    return system(command);
}

static void assert_same_store(const char *a, const char *b) {
    char command[1500];
    snprintf(command, sizeof command, "diff -r '%s' '%s'", a, b);
    assert_int_equal(system(command), 0);
}

/* However many chunks are written at once, and however the images come: the same files. */
static void chunks_are_written_side_by_side(void **state) {
    (void)state;
    char *folder = check_folder(), one[600], many[600];
    uint16_t images[IMAGES * NUMBERS];
    npi_token_info info = make_info();
    for (int64_t i = 0; i < IMAGES; i++)
        fill(i, images + i * NUMBERS);
    snprintf(one, sizeof one, "%s/one", folder);
    CHECK_OK(write_store(one, false, IMAGES));
    assert_whole(one);
    for (int chunks = 1; chunks <= 5; chunks++)
        for (int64_t batch = 1; batch <= IMAGES; batch++) {
            npi_token_writer *writer;
            snprintf(many, sizeof many, "%s/%d-%d", folder, chunks, (int)batch);
            CHECK_OK(npi_token_writer_open(many, &info, false, chunks, &writer));
            for (int64_t i = 0; i < IMAGES; i += batch) {
                int64_t count = IMAGES - i < batch ? IMAGES - i : batch;
                CHECK_OK(npi_token_writer_add(writer, count, images + i * NUMBERS));
            }
            CHECK_OK(npi_token_writer_finish(writer));
            assert_int_equal(npi_token_writer_missing(writer, 0), IMAGES);
            npi_token_writer_close(writer);
            assert_same_store(one, many);
        }
    check_remove(folder);
}

/* A folder where a chunk belongs: whoever comes first, add or finish, tells it, and finish tells it again. */
static void a_write_that_fails_behind_is_told(void **state) {
    (void)state;
    for (int chunks = 1; chunks <= 4; chunks++)
        for (int bad = 0; bad < 3; bad++) {
            char *folder = check_folder(), path[600], name[16];
            npi_token_writer *writer;
            npi_token_info info = make_info();
            snprintf(name, sizeof name, "%05d.tok", bad);
            snprintf(path, sizeof path, "%s/%s", folder, name);
            assert_int_equal(mkdir(path, 0777), 0);
            CHECK_OK(npi_token_writer_open(folder, &info, false, chunks, &writer));
            npos_status status = add(writer, IMAGES);
            if (bad + chunks < 3) /* its memory is needed again */
                assert_int_equal(status, NPOS_IO);
            else
                CHECK_FAILS(npi_token_writer_finish(writer), NPOS_IO, name);
            assert_non_null(strstr(npos_error_message(), "cannot write: is a folder"));
            CHECK_FAILS(npi_token_writer_finish(writer), NPOS_IO, name);
            assert_int_equal(npi_token_writer_missing(writer, 0), bad * CHUNK);
            npi_token_writer_close(writer);
            assert_non_null(strstr(npos_error_message(), name)); /* it stays the newest */
            assert_int_equal(look_for_parts(folder), 0);
            assert_int_equal(rmdir(path), 0);
            CHECK_OK(write_store(folder, true, IMAGES));
            assert_whole(folder);
            check_remove(folder);
        }
}

static void a_killed_writer_leaves_whole_chunks(void **state) {
    (void)state;
    char *folder = check_folder();
    int ends[2], how;
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        npos_status status = write_store(folder, false, CHUNK + 1);
        if (write(ends[1], &status, 1) == 1)
            pause();
        _exit(1);
    }
    assert_int_equal(read(ends[0], &byte, 1), 1);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how));
    close(ends[0]);
    close(ends[1]);
    assert_true(npi_is_file(check_path(folder, "00000.tok")));
    CHECK_OK(npi_file_write(check_path(folder, "00001.tok.tmp-1"), "half", 4)); /* of its writing */
    CHECK_OK(write_store(folder, true, IMAGES));
    assert_whole(folder);
    check_remove(folder);
}

/* Killed at any time, with several chunks in work. */
static void a_writer_that_is_killed_within_is_resumed(void **state) {
    (void)state;
    for (int kills = 0; kills < 20; kills++) {
        char *folder = check_folder();
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(write_store(folder, true, IMAGES) != NPOS_OK);
        nanosleep(&(struct timespec){.tv_nsec = kills * 100000}, NULL);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        CHECK_OK(write_store(folder, true, IMAGES));
        assert_whole(folder);
        check_remove(folder);
    }
}

/* A limit on the size of files stands for a disk without room. */
static void a_full_disk_loses_nothing(void **state) {
    (void)state;
    static const struct {
        int chunk; /* one chunk that is larger than the index; or several, behind one another */
        rlim_t bytes;
    } cases[] = {{2 * IMAGES, 400}, {CHUNK, 100}};
    for (int i = 0; i < 2; i++) {
        char *folder = check_folder();
        int how;
        npi_token_writer *writer;
        npi_token_info info = make_info();
        info.chunk = cases[i].chunk;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            bool right = npi_token_writer_open(folder, &info, false, AT_ONCE, &writer) == NPOS_OK;
            signal(SIGXFSZ, SIG_IGN);
            setrlimit(RLIMIT_FSIZE, &(struct rlimit){cases[i].bytes, cases[i].bytes});
            right = right && add(writer, IMAGES) == NPOS_OK &&
                    npi_token_writer_finish(writer) == NPOS_IO;
            npi_token_writer_close(writer);
            right = right && strstr(npos_error_message(), "00000.tok: cannot write") &&
                    strstr(npos_error_hint(), "size of files");
            _exit(right ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
        assert_false(npi_is_file(check_path(folder, "00000.tok")));
        assert_int_equal(look_for_parts(folder), 0);
        CHECK_OK(npi_token_writer_open(folder, &info, true, AT_ONCE, &writer));
        assert_int_equal(npi_token_writer_missing(writer, 0), 0);
        CHECK_OK(add(writer, IMAGES));
        npi_token_writer_close(writer);
        assert_whole(folder);
        check_remove(folder);
    }
}

static void change_byte(const char *path, long at) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, at, SEEK_SET);
    int old = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(old ^ 1, file);
    fclose(file);
}

/* Every byte of a chunk counts; the others stay readable, and the resume makes the one again. */
static void damage_is_named(void **state) {
    (void)state;
    char *folder = check_folder(), path[600];
    uint16_t image[NUMBERS];
    snprintf(path, sizeof path, "%s/00001.tok", folder);
    CHECK_OK(write_store(folder, false, IMAGES));
    for (long at = 0; at < 64 + CHUNK * NUMBERS * 2; at++) {
        change_byte(path, at);
        CHECK_FAILS(read_image(folder, CHUNK, image), NPOS_BAD_DATA, "00001.tok");
        assert_non_null(strstr(npos_error_hint(), "delete the file"));
        change_byte(path, at);
    }
    change_byte(path, 100);
    CHECK_OK(read_image(folder, 0, image));
    assert_int_equal(truncate(path, 150), 0);
    CHECK_FAILS(read_image(folder, 0, image), NPOS_BAD_DATA, "150 bytes, expected 224");
    assert_int_equal(truncate(path, 10), 0);
    CHECK_FAILS(read_image(folder, 0, image), NPOS_BAD_DATA, "00001.tok: 10 bytes");
    assert_int_equal(unlink(path), 0);
    CHECK_FAILS(read_image(folder, 0, image), NPOS_NOT_FOUND, "00001.tok");
    assert_non_null(strstr(npos_error_hint(), "from image 4 on"));
    npi_token_writer *writer;
    npi_token_info info = make_info();
    CHECK_OK(npi_token_writer_open(folder, &info, true, AT_ONCE, &writer));
    assert_int_equal(npi_token_writer_missing(writer, 0), CHUNK);
    assert_int_equal(npi_token_writer_missing(writer, 2 * CHUNK), IMAGES);
    CHECK_OK(add(writer, IMAGES));
    npi_token_writer_close(writer);
    assert_whole(folder);
    check_remove(folder);
}

/* index.json with `from` replaced by `to`. */
static void lie(const char *folder, const char *from, const char *to) {
    char *text, *whole;
    size_t size;
    const char *path = check_path(folder, "index.json");
    CHECK_OK(npi_file_read(path, &text, &size));
    char *at = strstr(text, from);
    assert_non_null(at);
    CHECK_OK(npi_format(&whole, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from)));
    CHECK_OK(npi_file_write(path, whole, strlen(whole)));
    npi_free(whole);
    npi_free(text);
}

static void an_index_that_lies_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *from, *to;
        npos_status status;
        const char *message;
    } lies[] = {
        {"npos-tokens-1", "npos-tokens-9", NPOS_UNSUPPORTED, "npos-tokens-9"},
        {"\"images\":11", "\"images\":12", NPOS_BAD_DATA, "11 labels"},
        {"\"images\":11", "\"images\":-1", NPOS_BAD_DATA, "'images'"},
        {"\"images\":11", "\"images\":1e3", NPOS_BAD_DATA, "'images'"},
        {"\"rows\":5", "\"rows\":6", NPOS_BAD_DATA, "00000.tok: 224 bytes, expected 256"},
        {"\"rows\":5,\"width\":4", "\"rows\":4,\"width\":5", NPOS_BAD_DATA, "another index.json"},
        {"\"width\":4", "\"width\":4000000", NPOS_BAD_DATA, "'width'"},
        {"\"chunk\":4", "\"chunk\":0", NPOS_BAD_DATA, "'chunk'"},
        {"\"block\":10", "\"block\":9", NPOS_BAD_DATA, "another index.json"},
        {"1234567890abcdef", "1234567890ABCDEF", NPOS_BAD_DATA, "'model'"},
        {"1234567890abcdef", "2234567890abcdef", NPOS_BAD_DATA, "another index.json"},
        {"\"cat\"", "7", NPOS_BAD_DATA, "'classes'"},
        {"[0,1,0", "[0,2,0", NPOS_BAD_DATA, "label 1 is none of the 2 classes"},
        {"[0,1,0", "[0,\"1\",0", NPOS_BAD_DATA, "label 1"},
        {"\"spec\":\"cats#train\"", "\"spec\":3", NPOS_BAD_DATA, "'spec'"},
        {"{\"format\"", "\"format\"", NPOS_BAD_DATA, "index.json:1:"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        char *folder = check_folder();
        uint16_t image[NUMBERS];
        size_t before = npi_memory_now();
        CHECK_OK(write_store(folder, false, IMAGES));
        lie(folder, lies[i].from, lies[i].to);
        CHECK_FAILS(read_image(folder, 0, image), lies[i].status, lies[i].message);
        assert_int_equal(npi_memory_now(), before);
        check_remove(folder);
    }
}

static void a_resume_with_something_else_is_refused(void **state) {
    (void)state;
    char *folder = check_folder();
    npi_token_writer *writer;
    CHECK_OK(write_store(folder, false, CHUNK));
    npi_token_info info = make_info();
    info.model++;
    CHECK_FAILS(npi_token_writer_open(folder, &info, true, AT_ONCE, &writer), NPOS_INVALID_ARGUMENT,
                "'model'");
    assert_non_null(strstr(npos_error_hint(), "other weights"));
    info = make_info();
    info.images--;
    CHECK_FAILS(npi_token_writer_open(folder, &info, true, AT_ONCE, &writer), NPOS_INVALID_ARGUMENT,
                "'images' is 11 there and would now be 10");
    check_remove(folder);
}

static void tokens_must_be_finite(void **state) {
    (void)state;
    char *folder = check_folder();
    npi_token_info info = make_info();
    npi_token_writer *writer;
    uint16_t image[NUMBERS];
    fill(0, image);
    image[7] = 0x7e00;
    info.images = 1;
    CHECK_OK(npi_token_writer_open(folder, &info, false, AT_ONCE, &writer));
    CHECK_OK(npi_token_writer_add(writer, 1, image));
    npi_token_writer_close(writer);
    CHECK_FAILS(read_image(folder, 0, image), NPOS_BAD_DATA,
                "image 0 has tokens that are not finite");
    check_remove(folder);
}

static void assert_foreign(const char *path, const char *const *names, int classes,
                           const int32_t *expected) {
    npi_token_store *store;
    CHECK_OK(npi_token_store_open(path, &store));
    const npi_token_info *info = npi_token_store_info(store);
    assert_int_equal(info->images, 3);
    assert_int_equal(info->rows, ROWS);
    assert_int_equal(info->width, WIDTH);
    assert_int_equal(info->block, -1);
    assert_true(info->model == 0);
    assert_int_equal(info->classes, classes);
    for (int c = 0; c < classes; c++)
        assert_string_equal(info->class_names[c], names[c]);
    assert_memory_equal(info->labels, expected, 3 * sizeof *expected);
    npi_token_store_close(store);
    for (int64_t i = 0; i < 3; i++) {
        uint16_t image[NUMBERS];
        CHECK_OK(read_image(path, i, image));
        for (int k = 0; k < NUMBERS; k++)
            assert_int_equal(image[k], number(i, k));
    }
}

static void torch_files_are_stores(void **state) {
    (void)state;
    size_t before = npi_memory_now();
    char golden[900];
    snprintf(golden, sizeof golden, "%.800s/tests/golden/tokens", check_source());
    assert_foreign(check_path(golden, "feature.pt"), (const char *[]){"0", "1", "2"}, 3,
                   (int32_t[]){2, 0, 2});
    assert_foreign(golden, (const char *[]){"0", "1", "2"}, 3, (int32_t[]){2, 0, 2});
    assert_foreign(check_path(golden, "classes"), (const char *[]){"cat", "dog"}, 2,
                   (int32_t[]){0, 0, 1});
    assert_int_equal(npi_memory_now(), before);
}

static void wrong_torch_files_are_named(void **state) {
    (void)state;
    char *folder = check_folder(), command[5000], golden[900];
    uint16_t image[NUMBERS];
    snprintf(golden, sizeof golden, "%.800s/tests/golden/tokens", check_source());
    snprintf(command, sizeof command,
             "cd '%s' && cp '%s/feature.pt' f.pt && cp '%s/feature.pt' target.pt && mkdir -p t/a "
             "empty && cp '%s/classes/cat/a.pt' t/a/0.pt && cp '%s/target.pt' t/a/1.pt",
             folder, golden, golden, golden, golden);
    assert_int_equal(system(command), 0);
    CHECK_FAILS(read_image(check_path(folder, "f.pt"), 0, image), NPOS_SHAPE_MISMATCH,
                "target.pt: 60 labels of 3 dimensions");
    CHECK_FAILS(read_image(check_path(folder, "target.pt"), 0, image), NPOS_SHAPE_MISMATCH,
                "target.pt");
    CHECK_OK(read_image(check_path(folder, "t"), 0, image));
    CHECK_FAILS(read_image(check_path(folder, "t"), 1, image), NPOS_SHAPE_MISMATCH, "a/1.pt");
    CHECK_FAILS(read_image(check_path(folder, "empty"), 0, image), NPOS_NOT_FOUND,
                "holds no tokens");
    CHECK_FAILS(read_image(check_path(folder, "nowhere"), 0, image), NPOS_NOT_FOUND, "nowhere");
    assert_int_equal(unlink(check_path(folder, "target.pt")), 0);
    CHECK_FAILS(read_image(check_path(folder, "f.pt"), 0, image), NPOS_NOT_FOUND, "target.pt");
    check_remove(folder);
}

static uint64_t identity(const char *path) {
    npi_token_store *store;
    uint64_t hash;
    CHECK_OK(npi_token_store_open(path, &store));
    CHECK_OK(npi_token_store_identity(store, &hash));
    npi_token_store_close(store);
    assert_true(hash != 0);
    return hash;
}

static void write_changed(const char *folder, const char *spec, int32_t label, int64_t first) {
    npi_token_writer *writer;
    npi_token_info info = make_info();
    int32_t changed[IMAGES];
    memcpy(changed, labels, sizeof changed);
    changed[2] = label;
    info.labels = changed;
    info.spec = (char *)(uintptr_t)spec;
    CHECK_OK(npi_token_writer_open(folder, &info, false, AT_ONCE, &writer));
    for (int64_t i = 0; i < IMAGES; i++) {
        uint16_t image[NUMBERS];
        fill(i == 7 ? first : i, image);
        CHECK_OK(npi_token_writer_add(writer, 1, image));
    }
    CHECK_OK(npi_token_writer_finish(writer));
    npi_token_writer_close(writer);
}

/* Tokens, labels and classes make a store what it is; where its images lay does not. */
static void the_identity_is_of_the_tokens(void **state) {
    (void)state;
    char *folder = check_folder(), golden[900], command[2000];
    const char *const names[] = {"a", "moved", "labelled", "other"};
    write_changed(check_path(folder, names[0]), "cats", 0, 7);
    write_changed(check_path(folder, names[1]), "elsewhere/cats", 0, 7);
    write_changed(check_path(folder, names[2]), "cats", 1, 7);
    write_changed(check_path(folder, names[3]), "cats", 0, 8);
    uint64_t a = identity(check_path(folder, names[0]));
    assert_true(identity(check_path(folder, names[1])) == a);
    assert_true(identity(check_path(folder, names[2])) != a);
    assert_true(identity(check_path(folder, names[3])) != a);
    snprintf(golden, sizeof golden, "%.800s/tests/golden/tokens", check_source());
    assert_true(identity(golden) == identity(check_path(golden, "feature.pt")));
    uint64_t classes = identity(check_path(golden, "classes"));
    assert_true(identity(golden) != classes);
    snprintf(command, sizeof command, "cp -r '%s/classes' '%s/copy'", golden, folder);
    assert_int_equal(system(command), 0);
    assert_true(identity(check_path(folder, "copy")) == classes);
    assert_int_equal(
        rename(check_path(folder, "copy/cat/a.pt"), check_path(folder, "copy/cat/0.pt")), 0);
    assert_true(identity(check_path(folder, "copy")) != classes);
    check_remove(folder);
}

static void failing_allocations_leak_nothing(void **state) {
    (void)state;
    char *folder = check_folder(), golden[900];
    uint16_t image[NUMBERS];
    size_t before = npi_memory_now();
    npos_status status;
    snprintf(golden, sizeof golden, "%.800s/tests/golden/tokens/classes", check_source());
    CHECK_OK(write_store(folder, false, CHUNK));
    for (int job = 0; job < 3; job++) {
        int64_t n = 0;
        do {
            npi_memory_fail_after(++n);
            status = job == 0   ? write_store(folder, true, IMAGES)
                     : job == 1 ? read_image(folder, 1, image)
                                : read_image(golden, 2, image);
            assert_int_equal(npi_memory_now(), before);
        } while (status == NPOS_OUT_OF_MEMORY && n < 1000);
        npi_memory_fail_after(0);
        assert_int_equal(status, NPOS_OK);
    }
    assert_whole(folder);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(threads_read_at_once),
        cmocka_unit_test(a_stopped_store_goes_on),
        cmocka_unit_test(one_writer_at_a_time),
        cmocka_unit_test(chunks_are_written_side_by_side),
        cmocka_unit_test(a_write_that_fails_behind_is_told),
        cmocka_unit_test(a_killed_writer_leaves_whole_chunks),
        cmocka_unit_test(a_writer_that_is_killed_within_is_resumed),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(an_index_that_lies_is_refused),
        cmocka_unit_test(a_resume_with_something_else_is_refused),
        cmocka_unit_test(tokens_must_be_finite),
        cmocka_unit_test(torch_files_are_stores),
        cmocka_unit_test(wrong_torch_files_are_named),
        cmocka_unit_test(the_identity_is_of_the_tokens),
        cmocka_unit_test(failing_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
