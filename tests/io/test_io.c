#include "check.h"

#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/npy.h"
#include "io/safetensors.h"

static void npy_comes_back_as_it_was_written(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "a.npy");
    const float values[6] = {1, -2, 3.5f, 0, 1e30f, -0.0f};
    const int64_t shape[2] = {2, 3};
    CHECK_OK(npi_npy_write(path, NPI_F32, 2, shape, values));
    npi_npy array;
    CHECK_OK(npi_npy_read(path, &array));
    assert_int_equal(array.dtype, NPI_F32);
    assert_int_equal(array.ndim, 2);
    assert_int_equal(array.shape[1], 3);
    assert_memory_equal(array.data, values, sizeof values);
    npi_npy_clear(&array);
    double *wide;
    int64_t seen[4];
    CHECK_OK(npi_npy_read_f64(path, 2, seen, &wide));
    assert_true(wide[2] == 3.5);
    npi_free(wide);
    CHECK_FAILS(npi_npy_read_f64(path, 1, seen, &wide), NPOS_SHAPE_MISMATCH, "2 dimensions");
    CHECK_OK(npi_npy_write(path, NPI_I64, 1, (int64_t[]){0}, NULL));
    CHECK_OK(npi_npy_read(path, &array));
    assert_int_equal(array.count, 0);
    npi_npy_clear(&array);
    CHECK_FAILS(npi_npy_read_f64(path, 1, seen, &wide), NPOS_BAD_DATA, "int64");
    check_remove(folder);
}

/* Writes a version 1 header and some bytes behind it. */
/* Read into one block of memory, not through a second one. */
static void npy_is_held_once(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "large.npy");
    int64_t shape[1] = {16 << 20}, seen[4];
    size_t bytes = sizeof(float) * (size_t)shape[0], before = npi_memory_now();
    float *values;
    CHECK_OK(npi_alloc(&values, (size_t)shape[0], sizeof *values, "values"));
    values[5] = 2.5f;
    CHECK_OK(npi_npy_write(path, NPI_F32, 1, shape, values));
    npi_free(values);
    CHECK_OK(npi_npy_read_f32(path, 1, seen, &values));
    assert_true(values[5] == 2.5f && seen[0] == shape[0]);
    npi_free(values);
    assert_int_equal(npi_memory_now(), before);
    assert_true(npi_memory_peak() < before + bytes + bytes / 4);
    check_remove(folder);
}

static void write_npy(const char *path, const char *header, size_t body) {
    char bytes[512] = "\x93NUMPY\x01\x00";
    size_t length = strlen(header);
    bytes[8] = (char)length;
    memcpy(bytes + 10, header, length);
    CHECK_OK(npi_file_write(path, bytes, 10 + length + body));
}

static void npy_that_lies_is_refused(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "bad.npy");
    npi_npy array;
    const struct {
        const char *header;
        size_t body;
        npos_status status;
        const char *text;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 8, NPOS_BAD_DATA, "12 bytes"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", 8, NPOS_UNSUPPORTED,
         "Fortran"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 16, NPOS_UNSUPPORTED, "'|O'"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8, NPOS_UNSUPPORTED, "'>f4'"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 8, NPOS_BAD_DATA, "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807,9), }", 8,
         NPOS_BAD_DATA, "larger than any memory"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1), }", 4, NPOS_BAD_DATA,
         "shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': 3", 4, NPOS_BAD_DATA, "shape"},
        {"{}", 0, NPOS_BAD_DATA, "lacks"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_npy(path, cases[i].header, cases[i].body);
        CHECK_FAILS(npi_npy_read(path, &array), cases[i].status, cases[i].text);
        assert_null(array.data);
    }
    CHECK_OK(npi_file_write(path, "\x93NUMPY\x01\x00\xff\xff{'descr'", 18));
    CHECK_FAILS(npi_npy_read(path, &array), NPOS_BAD_DATA, "truncated");
    CHECK_OK(npi_file_write(path, "hello", 5));
    CHECK_FAILS(npi_npy_read(path, &array), NPOS_BAD_DATA, "bad.npy");
    check_remove(folder);
}

static void safetensors_come_back_as_they_were_written(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "m.safetensors");
    const uint8_t names[3] = {'a', 'b', 'c'};
    const float weight[4] = {1, 2, 3, 4};
    const int64_t count[1] = {1LL << 40};
    const npi_named_tensor tensors[] = {
        {"names", NPI_U8, 1, {3}, names},
        {"fc.weight", NPI_F32, 2, {2, 2}, weight},
        {"count", NPI_I64, 0, {0}, count},
    };
    const char *const metadata[] = {"format", "npos", "note", "a \"quoted\" ü", NULL};
    CHECK_OK(npi_safetensors_write(path, tensors, 3, metadata));
    npi_safetensors *file;
    CHECK_OK(npi_safetensors_open(path, &file));
    assert_int_equal(npi_safetensors_count(file), 3);
    const npi_named_tensor *found;
    CHECK_OK(npi_safetensors_get(file, "fc.weight", NPI_F32, 2, (int64_t[]){2, -1}, &found));
    assert_memory_equal(found->data, weight, sizeof weight);
    assert_int_equal((uintptr_t)found->data % 4, 0);
    CHECK_OK(npi_safetensors_get(file, "count", NPI_I64, 0, NULL, &found));
    assert_memory_equal(found->data, count, sizeof count);
    CHECK_OK(npi_safetensors_get(file, "names", NPI_U8, 1, (int64_t[]){3}, &found));
    assert_memory_equal(found->data, names, sizeof names);
    assert_string_equal(npi_safetensors_metadata(file, "note"), "a \"quoted\" ü");
    assert_null(npi_safetensors_metadata(file, "none"));
    CHECK_FAILS(npi_safetensors_get(file, "fc.bias", NPI_F32, 1, (int64_t[]){2}, &found),
                NPOS_NOT_FOUND, "fc.bias");
    CHECK_FAILS(npi_safetensors_get(file, "fc.weight", NPI_F32, 2, (int64_t[]){10, 2}, &found),
                NPOS_SHAPE_MISMATCH, "expected float32 [10, 2]");
    npi_safetensors_close(file);
    check_remove(folder);
}

static void safetensors_that_lie_are_refused(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "bad.safetensors");
    npi_safetensors *file;
    const struct {
        const char *header;
        size_t body;
        const char *text;
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}", 12, "truncated"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,12]}}", 16,
         "its shape needs 16"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-4],\"data_offsets\":[0,16]}}", 16,
         "impossible shape"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[9e99],\"data_offsets\":[0,16]}}", 16, "'a'"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[16,0]}}", 16, "truncated"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4]}}", 16, "lacks"},
        {"{\"a\":3}", 16, "lacks"},
        {"[1]", 0, "not a JSON object"},
        {"{\"a\"", 0, "not a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char bytes[256] = {0};
        uint64_t length = strlen(cases[i].header);
        memcpy(bytes, &length, 8);
        memcpy(bytes + 8, cases[i].header, length);
        CHECK_OK(npi_file_write(path, bytes, 8 + length + cases[i].body));
        CHECK_FAILS(npi_safetensors_open(path, &file), NPOS_BAD_DATA, cases[i].text);
        assert_null(file);
    }
    CHECK_OK(npi_file_write(path, "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10));
    CHECK_FAILS(npi_safetensors_open(path, &file), NPOS_BAD_DATA, "truncated");
    CHECK_OK(npi_file_write(path, "", 0));
    CHECK_FAILS(npi_safetensors_open(path, &file), NPOS_BAD_DATA, "0 bytes");
    CHECK_FAILS(npi_safetensors_open(check_path(folder, "no"), &file), NPOS_NOT_FOUND, "/no");
    check_remove(folder);
}

/* A file of a few tensors and metadata; *bytes of it, to be freed with npi_free. */
static void write_small(const char *path, char **bytes, size_t *size) {
    const float weight[5] = {1, -2, 3, 4, 0};
    const int64_t count[1] = {7};
    const npi_named_tensor tensors[] = {
        {"fc.weight", NPI_F32, 2, {1, 5}, weight},
        {"count", NPI_I64, 0, {0}, count},
    };
    CHECK_OK(npi_safetensors_write(path, tensors, 2, (const char *const[]){"epoch", "3", NULL}));
    CHECK_OK(npi_file_read(path, bytes, size));
}

/* Without the wait for the disk that npi_file_write makes each time. */
static void overwrite(const char *path, const char *bytes, size_t size) {
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(bytes, 1, size, stream), size);
    assert_int_equal(fclose(stream), 0);
}

/* What a file that opens says must be what was written. */
static void assert_small(npi_safetensors *file) {
    const npi_named_tensor *found;
    CHECK_OK(npi_safetensors_get(file, "fc.weight", NPI_F32, 2, (int64_t[]){1, 5}, &found));
    assert_memory_equal(found->data, ((const float[]){1, -2, 3, 4, 0}), 20);
    CHECK_OK(npi_safetensors_get(file, "count", NPI_I64, 0, NULL, &found));
    assert_memory_equal(found->data, (const int64_t[]){7}, 8);
    assert_string_equal(npi_safetensors_metadata(file, "epoch"), "3");
    npi_safetensors_close(file);
}

static void every_flipped_bit_is_noticed(void **state) {
    (void)state;
    char *folder = check_folder(), *bytes;
    const char *path = check_path(folder, "flip.safetensors");
    size_t size, harmless = 0;
    write_small(path, &bytes, &size);
    const char *key = memmem(bytes, size, "npos_xxh3", 9);
    assert_non_null(key);
    for (size_t bit = 0; bit < 8 * size; bit++) {
        npi_safetensors *file;
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
        overwrite(path, bytes, size);
        npos_status status = npi_safetensors_open(path, &file);
        if (status == NPOS_OK) { /* the key itself is hit: a file without checksum, and whole */
            assert_in_range(bit / 8, key - bytes, key - bytes + 8);
            assert_small(file);
            harmless++;
        } else if (!strstr(npos_error_message(), "flip.safetensors")) {
            fail_msg("bit %zu: '%s' does not name the file", bit, npos_error_message());
        }
        bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
    }
    assert_in_range(harmless, 1, 72);
    bytes[size - 1] ^= 1;
    npi_safetensors *file;
    overwrite(path, bytes, size);
    CHECK_FAILS(npi_safetensors_open(path, &file), NPOS_BAD_DATA, "damaged: the checksum");
    assert_non_null(strstr(npos_error_hint(), "copy of the file"));
    npi_free(bytes);
    check_remove(folder);
}

static void every_shorter_or_longer_file_is_refused(void **state) {
    (void)state;
    char *folder = check_folder(), *bytes;
    const char *path = check_path(folder, "cut.safetensors");
    npi_safetensors *file;
    size_t size;
    write_small(path, &bytes, &size);
    for (size_t kept = 0; kept < size; kept++) {
        overwrite(path, bytes, kept);
        CHECK_FAILS(npi_safetensors_open(path, &file), NPOS_BAD_DATA, "cut.safetensors");
    }
    overwrite(path, bytes, size + 1); /* npi_file_read left a zero byte behind */
    CHECK_FAILS(npi_safetensors_open(path, &file), NPOS_BAD_DATA, "checksum");
    npi_free(bytes);
    check_remove(folder);
}

static void files_of_others_need_no_checksum(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "other.safetensors");
    static const char header[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                                 "\"__metadata__\":{\"format\":\"pt\"}}   ";
    char bytes[128] = {0};
    uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    CHECK_OK(npi_file_write(path, bytes, 8 + length + 4));
    npi_safetensors *file;
    CHECK_OK(npi_safetensors_open(path, &file));
    assert_string_equal(npi_safetensors_metadata(file, "format"), "pt");
    npi_safetensors_close(file);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(npy_comes_back_as_it_was_written),
        cmocka_unit_test(npy_is_held_once),
        cmocka_unit_test(npy_that_lies_is_refused),
        cmocka_unit_test(safetensors_come_back_as_they_were_written),
        cmocka_unit_test(safetensors_that_lie_are_refused),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(every_shorter_or_longer_file_is_refused),
        cmocka_unit_test(files_of_others_need_no_checksum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
