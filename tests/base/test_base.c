#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"

/* Known answers of Philox-4x32-10 (Random123's kat_vectors). */
static void philox_gives_the_published_numbers(void **state) {
    (void)state;
    npi_u32x4 zero = npi_philox(0, 0, 0, 0, 0);
    const uint32_t expected[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    assert_memory_equal(zero.v, expected, sizeof expected);
    npi_u32x4 ones = npi_philox(UINT64_MAX, 0, UINT64_MAX, UINT32_MAX, UINT32_MAX);
    const uint32_t all_ones[4] = {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd};
    assert_memory_equal(ones.v, all_ones, sizeof all_ones);
}

static void purposes_steps_and_items_have_streams_of_their_own(void **state) {
    (void)state;
    npi_u32x4 a = npi_philox(7, NPI_RANDOM_NOISE, 3, 5, 0);
    assert_memory_not_equal(a.v, npi_philox(7, NPI_RANDOM_AUGMENT, 3, 5, 0).v, sizeof a.v);
    assert_memory_not_equal(a.v, npi_philox(7, NPI_RANDOM_NOISE, 4, 5, 0).v, sizeof a.v);
    assert_memory_not_equal(a.v, npi_philox(7, NPI_RANDOM_NOISE, 3, 6, 0).v, sizeof a.v);
    assert_memory_not_equal(a.v, npi_philox(8, NPI_RANDOM_NOISE, 3, 5, 0).v, sizeof a.v);
}

static void normals_have_mean_0_and_variance_1(void **state) {
    (void)state;
    enum { N = 200000 };
    double sum = 0, squares = 0, fourth = 0;
    for (uint32_t i = 0; i < N / 2; i++) {
        npi_u32x4 r = npi_philox(1, NPI_RANDOM_TEST, 0, i, 0);
        float x, y;
        npi_normal_pair(r.v[0], r.v[1], &x, &y);
        sum += x + y;
        squares += x * x + y * y;
        fourth += pow(x, 4) + pow(y, 4);
    }
    assert_true(fabs(sum / N) < 4 / sqrt(N));
    assert_true(fabs(squares / N - 1) < 4 * sqrt(2.0 / N));
    assert_true(fabs(fourth / N - 3) < 4 * sqrt(96.0 / N));
}

static void a_permutation_holds_every_number_once(void **state) {
    (void)state;
    enum { N = 1000 };
    int32_t order[N], again[N], other[N];
    int seen[N] = {0}, fixed = 0;
    npi_permutation(3, NPI_RANDOM_PERMUTATION, 5, order, N);
    npi_permutation(3, NPI_RANDOM_PERMUTATION, 5, again, N);
    npi_permutation(3, NPI_RANDOM_PERMUTATION, 6, other, N);
    for (int i = 0; i < N; i++) {
        seen[order[i]]++;
        fixed += order[i] == i;
    }
    for (int i = 0; i < N; i++)
        assert_int_equal(seen[i], 1);
    assert_true(fixed < 10);
    assert_memory_equal(order, again, sizeof order);
    assert_memory_not_equal(order, other, sizeof order);
}

static void memory_is_zeroed_aligned_counted(void **state) {
    (void)state;
    size_t before = npi_memory_now();
    char *a, *b = NULL;
    CHECK_OK(npi_alloc(&a, 1000, 3, "test"));
    assert_int_equal((uintptr_t)a % 64, 0);
    for (int i = 0; i < 3000; i++)
        assert_int_equal(a[i], 0);
    assert_int_equal(npi_memory_now() - before, 3000);
    assert_true(npi_memory_peak() >= npi_memory_now());
    a[0] = 7;
    CHECK_OK(npi_grow(&a, 3000, 6000, 1, "test"));
    assert_int_equal(a[0], 7);
    assert_int_equal(a[5999], 0);
    npi_free(a);
    npi_free(b);
    assert_int_equal(npi_memory_now(), before);
}

static void too_much_memory_is_an_error_that_names_the_purpose(void **state) {
    (void)state;
    char *a = (char *)1;
    CHECK_FAILS(npi_alloc(&a, SIZE_MAX / 4, 8, "a bank"), NPOS_OUT_OF_MEMORY, "a bank");
    assert_null(a);
    npi_memory_fail_after(1);
    CHECK_FAILS(npi_alloc(&a, 1, 1, "one byte"), NPOS_OUT_OF_MEMORY, "one byte");
    CHECK_OK(npi_alloc(&a, 1, 1, "one byte"));
    npi_free(a);
}

static void a_file_is_replaced_whole_or_not_at_all(void **state) {
    (void)state;
    char *folder = check_folder(), *text;
    size_t size;
    const char *path = check_path(folder, "a.txt");
    CHECK_OK(npi_file_write(path, "old", 3));
    npi_atomic file;
    CHECK_OK(npi_atomic_open(&file, path));
    fputs("new and longer", file.stream);
    npi_atomic_abort(&file);
    CHECK_OK(npi_file_read(path, &text, &size));
    assert_int_equal(size, 3);
    assert_string_equal(text, "old");
    npi_free(text);
    CHECK_OK(npi_atomic_open(&file, path));
    fputs("new", file.stream);
    CHECK_OK(npi_atomic_commit(&file));
    npi_atomic_abort(&file);
    CHECK_OK(npi_file_read(path, &text, &size));
    assert_string_equal(text, "new");
    npi_free(text);
    CHECK_FAILS(npi_file_read(check_path(folder, "none"), &text, &size), NPOS_NOT_FOUND, "none");
    CHECK_FAILS(npi_file_read(folder, &text, &size), NPOS_IO, "is a folder");
    check_remove(folder);
}

static void a_full_disk_keeps_the_old_file(void **state) {
    (void)state;
    npi_atomic file = {0}; /* /dev/full takes every write and then fails to flush */
    CHECK_OK(npi_strdup(&file.path, "/dev/full-test"));
    file.stream = fopen("/dev/full", "w");
    assert_non_null(file.stream);
    fputs("bytes", file.stream);
    CHECK_FAILS(npi_atomic_commit(&file), NPOS_IO, "No space left");
}

static void what_is_no_plain_file_stays(void **state) {
    (void)state;
    char *folder = check_folder(), *text;
    size_t size;
    struct stat info;
    const char *pipe = check_path(folder, "pipe"), *file = check_path(folder, "file");
    const char *link = check_path(folder, "link");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    int reader = open(pipe, O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    CHECK_OK(npi_file_write(pipe, "through", 7));
    char got[8] = "";
    assert_int_equal(read(reader, got, sizeof got), 7);
    assert_string_equal(got, "through");
    close(reader);
    assert_true(stat(pipe, &info) == 0 && S_ISFIFO(info.st_mode));

    CHECK_OK(npi_file_write(file, "old", 3));
    assert_int_equal(symlink("file", link), 0);
    CHECK_OK(npi_file_write(link, "new", 3));
    assert_true(lstat(link, &info) == 0 && S_ISLNK(info.st_mode));
    CHECK_OK(npi_file_read(file, &text, &size));
    assert_string_equal(text, "new");
    npi_free(text);
    CHECK_FAILS(npi_file_write(folder, "x", 1), NPOS_IO, "is a folder, expected a file");
    check_remove(folder);
}

static void an_unwritable_folder_is_named(void **state) {
    (void)state;
    CHECK_FAILS(npi_file_write("/proc/nothing/here", "x", 1), NPOS_IO, "/proc/nothing/here");
    CHECK_FAILS(npi_make_folders("/proc/nothing/here"), NPOS_IO, "/proc/nothing");
}

static void folders_are_made_with_their_parents(void **state) {
    (void)state;
    char *folder = check_folder();
    CHECK_OK(npi_make_folders(check_path(folder, "a/b/c")));
    CHECK_OK(npi_make_folders(check_path(folder, "a/b/c/")));
    assert_true(npi_is_folder(check_path(folder, "a/b/c")));
    CHECK_OK(npi_file_write(check_path(folder, "f"), "x", 1));
    CHECK_FAILS(npi_make_folders(check_path(folder, "f/g")), NPOS_IO, "/f");
    check_remove(folder);
}

static void the_nearest_name_is_found(void **state) {
    (void)state;
    const char *const names[] = {"momentum", "proto_m", "lr", "keep"};
    assert_string_equal(npi_nearest_name("momentun", names, 4), "momentum");
    assert_string_equal(npi_nearest_name("kep", names, 4), "keep");
    assert_null(npi_nearest_name("elephant", names, 4));
}

static void messages_keep_their_context_and_hint(void **state) {
    (void)state;
    npi_hint(npi_fail(NPOS_BAD_DATA, "value %d", 3), "use %d", 4);
    assert_string_equal(npos_error_message(), "value 3");
    assert_string_equal(npos_error_hint(), "use 4");
    npi_fail_in(NPOS_BAD_DATA, "file %s", "a.npy");
    assert_string_equal(npos_error_message(), "file a.npy: value 3");
    npi_fail(NPOS_IO, "again: %s", npos_error_message());
    assert_string_equal(npos_error_message(), "again: file a.npy: value 3");
    assert_string_equal(npos_error_hint(), "");
    assert_string_equal(npos_status_name((npos_status)99), "unknown");
    assert_int_equal(npos_status_exit(NPOS_INVALID_ARGUMENT), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_numbers),
        cmocka_unit_test(purposes_steps_and_items_have_streams_of_their_own),
        cmocka_unit_test(normals_have_mean_0_and_variance_1),
        cmocka_unit_test(a_permutation_holds_every_number_once),
        cmocka_unit_test(memory_is_zeroed_aligned_counted),
        cmocka_unit_test(too_much_memory_is_an_error_that_names_the_purpose),
        cmocka_unit_test(a_file_is_replaced_whole_or_not_at_all),
        cmocka_unit_test(a_full_disk_keeps_the_old_file),
        cmocka_unit_test(what_is_no_plain_file_stays),
        cmocka_unit_test(an_unwritable_folder_is_named),
        cmocka_unit_test(folders_are_made_with_their_parents),
        cmocka_unit_test(the_nearest_name_is_found),
        cmocka_unit_test(messages_keep_their_context_and_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
