#include "check.h"

#include <math.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/pt_file.h"
#include "io/weights.h"

static const char *golden(const char *name) {
    static char path[4][1024];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/tests/golden/pt/%s", check_source(), name);
    return out;
}

static void copy(const char *from, const char *to) {
    char *bytes;
    size_t size;
    CHECK_OK(npi_file_read(from, &bytes, &size));
    CHECK_OK(npi_file_write(to, bytes, size));
    npi_free(bytes);
}

/* float16 by its definition. */
static float half_value(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double value = exponent == 31  ? (fraction ? NAN : INFINITY)
                   : exponent == 0 ? ldexp(fraction, -24)
                                   : ldexp(1024 + fraction, exponent - 25);
    return (float)(bits & 0x8000 ? -value : value);
}

/* Element k of a golden tensor as float32. */
static float value_of(const npi_named_tensor *tensor, size_t k) {
    const char *at = (const char *)tensor->data + k * npi_dtype_bytes(tensor->dtype);
    uint16_t half;
    uint32_t bits;
    double wide;
    float value;
    switch (tensor->dtype) {
    case NPI_F16:
        memcpy(&half, at, sizeof half);
        return half_value(half);
    case NPI_BF16:
        memcpy(&half, at, sizeof half);
        bits = (uint32_t)half << 16;
        memcpy(&value, &bits, sizeof value);
        return value;
    case NPI_F64:
        memcpy(&wide, at, sizeof wide);
        return (float)wide;
    default:
        assert_int_equal(tensor->dtype, NPI_F32);
        memcpy(&value, at, sizeof value);
        return value;
    }
}

/* Every tensor reads as float32, or as integers, to what the golden file holds. */
static void same_values(const char *path, const char *expected) {
    npi_weights *weights;
    npi_safetensors *file;
    CHECK_OK(npi_weights_open(path, &weights));
    CHECK_OK(npi_safetensors_open(golden(expected), &file));
    assert_string_equal(npi_weights_path(weights), path);
    assert_int_equal(npi_weights_count(weights), npi_safetensors_count(file));
    CHECK_OK(npi_weights_check(weights));
    for (int i = 0; i < npi_weights_count(weights); i++) {
        const npi_named_tensor *tensor = npi_weights_at(weights, i);
        const npi_named_tensor *wanted = npi_safetensors_find(file, tensor->name);
        assert_non_null(wanted);
        assert_int_equal(npi_weights_find(weights, tensor->name), i);
        assert_true(i == 0 || strcmp(npi_weights_at(weights, i - 1)->name, tensor->name) < 0);
        assert_int_equal(tensor->ndim, wanted->ndim);
        assert_memory_equal(tensor->shape, wanted->shape, (size_t)tensor->ndim * 8);
        int64_t count = npi_weights_elements(weights, i);
        float *values;
        int64_t *numbers;
        CHECK_OK(npi_alloc(&values, (size_t)count, sizeof *values, "values"));
        CHECK_OK(npi_alloc(&numbers, (size_t)count, sizeof *numbers, "values"));
        switch (tensor->dtype) {
        case NPI_U8:
        case NPI_I32:
        case NPI_I64:
            CHECK_FAILS(npi_weights_read(weights, i, 0, count, values), NPOS_UNSUPPORTED,
                        npi_dtype_name(tensor->dtype));
            CHECK_OK(npi_weights_read_i64(weights, i, 0, count, numbers));
            for (int64_t k = 0; k < count; k++) {
                int64_t number = 0;
                size_t width = npi_dtype_bytes(tensor->dtype);
                memcpy(&number, (const char *)wanted->data + (size_t)k * width, width);
                if (tensor->dtype == NPI_I32)
                    number = (int32_t)number;
                assert_true(numbers[k] == number);
            }
            break;
        default:
            CHECK_FAILS(npi_weights_read_i64(weights, i, 0, count, numbers), NPOS_UNSUPPORTED,
                        "int64");
            CHECK_OK(npi_weights_get(weights, tensor->name, tensor->ndim, tensor->shape, values));
            for (int64_t k = 0; k < count; k++) {
                float value = value_of(wanted, (size_t)k);
                if (memcmp(&values[k], &value, sizeof value) != 0)
                    fail_msg("%s: '%s'[%d] is %a, expected %a", path, tensor->name, (int)k,
                             (double)values[k], (double)value);
            }
        }
        npi_free(values);
        npi_free(numbers);
    }
    npi_safetensors_close(file);
    npi_weights_close(weights);
}

static void all_kinds_of_files_read_alike(void **state) {
    (void)state;
    same_values(golden("tiny.safetensors"), "tiny.safetensors");
    same_values(golden("script.pt"), "tiny.safetensors");
    same_values(golden("checkpoint.pt"), "tiny.safetensors");
    same_values(golden("state.pt"), "state.safetensors");
    same_values(golden("sharded/model.safetensors.index.json"), "tiny.safetensors");
    same_values(golden("sharded"), "tiny.safetensors");
}

static void folders_hold_one_of_several_names(void **state) {
    (void)state;
    char *folder = check_folder();
    npi_weights *weights;
    CHECK_FAILS(npi_weights_open(folder, &weights), NPOS_NOT_FOUND, "model.safetensors");
    assert_null(weights);
    copy(golden("checkpoint.pt"), check_path(folder, "open_clip_pytorch_model.bin"));
    same_values(folder, "tiny.safetensors");
    copy(golden("state.pt"), check_path(folder, "pytorch_model.bin")); /* comes before it */
    same_values(folder, "state.safetensors");
    copy(golden("nested.safetensors"), check_path(folder, "model.safetensors"));
    same_values(folder, "nested.safetensors");
    check_remove(folder);
    CHECK_FAILS(npi_weights_open("gone/nowhere", &weights), NPOS_NOT_FOUND, "gone/nowhere");
}

static void write_index(const char *path, const char *map) {
    char text[1024];
    int length = snprintf(text, sizeof text, "{\"weight_map\": %s}", map);
    CHECK_OK(npi_file_write(path, text, (size_t)length));
}

static void shards_that_lie_are_refused(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *index = check_path(folder, "model.safetensors.index.json");
    copy(golden("tiny.safetensors"), check_path(folder, "a.safetensors"));
    copy(golden("nested.safetensors"), check_path(folder, "b.safetensors"));
    npi_weights *weights;
    write_index(index, "{\"proj\": \"a.safetensors\", \"5\": \"b.safetensors\"}");
    CHECK_OK(npi_weights_open(folder, &weights));
    assert_int_equal(npi_weights_count(weights), 2); /* what is not listed is not taken */
    npi_weights_close(weights);
    write_index(index, "{\"proj\": \"b.safetensors\", \"5\": \"b.safetensors\"}");
    CHECK_FAILS(npi_weights_open(folder, &weights), NPOS_BAD_DATA, "'proj' is not in b.safetens");
    write_index(index, "{\"proj\": \"c.safetensors\", \"5\": \"b.safetensors\", \"x\": \"d.bin\"}");
    CHECK_FAILS(npi_weights_open(folder, &weights), NPOS_NOT_FOUND,
                "2 of 3 files are missing: c.safetensors, d.bin");
    write_index(index, "{\"proj\": \"../a.safetensors\"}");
    CHECK_FAILS(npi_weights_open(folder, &weights), NPOS_BAD_DATA, "'proj'");
    write_index(index, "{\"proj\": 3}");
    CHECK_FAILS(npi_weights_open(folder, &weights), NPOS_BAD_DATA, "'proj'");
    write_index(index, "[]");
    CHECK_FAILS(npi_weights_open(folder, &weights), NPOS_BAD_DATA, "no weight_map");
    CHECK_OK(npi_file_write(index, "{", 1));
    CHECK_FAILS(npi_weights_open(folder, &weights), NPOS_BAD_DATA, "no index of shards");
    check_remove(folder);
}

static void tensors_are_asked_for_by_shape(void **state) {
    (void)state;
    npi_weights *weights;
    float out[32];
    CHECK_OK(npi_weights_open(golden("script.pt"), &weights));
    CHECK_OK(npi_weights_get(weights, "proj", 2, (int64_t[]){4, -1}, out));
    CHECK_FAILS(npi_weights_get(weights, "proj", 2, (int64_t[]){5, -1}, out), NPOS_SHAPE_MISMATCH,
                "'proj' is [4, 5], expected [5, any]");
    CHECK_FAILS(npi_weights_get(weights, "proj", 1, (int64_t[]){20}, out), NPOS_SHAPE_MISMATCH,
                "expected [20]");
    CHECK_FAILS(npi_weights_get(weights, "prj", 1, (int64_t[]){20}, out), NPOS_NOT_FOUND,
                "no tensor 'prj'");
    int proj = npi_weights_find(weights, "proj");
    float part[3];
    CHECK_OK(npi_weights_read(weights, proj, 4, 3, part));
    assert_memory_equal(part, out + 4, sizeof part);
    CHECK_FAILS(npi_weights_read(weights, proj, 18, 3, part), NPOS_INVALID_ARGUMENT, "it has 20");
    CHECK_FAILS(npi_weights_read(weights, proj, -1, 1, part), NPOS_INVALID_ARGUMENT, "from -1");
    npi_weights_close(weights);
}

/* Cut short anywhere, a file does not open; with any bit changed it is refused, or its CRC-32 tells, or
 * the change lies in what is not read. */
static void damage_is_found(void **state) {
    (void)state;
    static const char *const files[] = {"nested.pt", "one.pt"};
    size_t before = npi_memory_now();
    char *folder = check_folder();
    const char *path = check_path(folder, "damaged.pt");
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char *bytes;
        size_t size, unseen = 0;
        npi_weights *weights;
        float sound[64], seen[64];
        CHECK_OK(npi_file_read(golden(files[f]), &bytes, &size));
        CHECK_OK(npi_weights_open(golden(files[f]), &weights));
        CHECK_OK(npi_weights_read(weights, 0, 0, npi_weights_elements(weights, 0), sound));
        npi_weights_close(weights);
        for (size_t part = 0; part < size; part += 7) {
            FILE *stream = fopen(path, "wb");
            assert_non_null(stream);
            fwrite(bytes, 1, part, stream);
            fclose(stream);
            assert_int_not_equal(npi_weights_open(path, &weights), NPOS_OK);
        }
        for (size_t at = 0; at < size; at++) {
            bytes[at] = (char)(bytes[at] ^ 1 << at % 8);
            FILE *stream = fopen(path, "wb");
            assert_non_null(stream);
            fwrite(bytes, 1, size, stream);
            fclose(stream);
            bytes[at] = (char)(bytes[at] ^ 1 << at % 8);
            npos_status status = npi_weights_open(path, &weights);
            if (status == NPOS_OK)
                status = npi_weights_check(weights);
            if (status == NPOS_OK) {
                int64_t count = npi_weights_elements(weights, 0);
                CHECK_OK(npi_weights_read(weights, 0, 0, count, seen));
                assert_memory_equal(seen, sound, (size_t)count * sizeof *seen);
                unseen++;
            }
            npi_weights_close(weights);
        }
        assert_true(unseen < size);
        npi_free(bytes);
    }
    check_remove(folder);
    assert_int_equal(npi_memory_now(), before);
}

/* Bytes, shapes and names of all tensors count. */
static void hash_tells_models_apart(void **state) {
    (void)state;
    char *folder = check_folder(), path[600];
    float values[6] = {1, 2, 3, 4, 5, 6};
    npi_named_tensor tensors[2] = {
        {.name = "a", .dtype = NPI_F32, .ndim = 1, .shape = {4}, .data = values},
        {.name = "b", .dtype = NPI_F32, .ndim = 1, .shape = {2}, .data = values + 4}};
    uint64_t seen[5];
    for (int i = 0; i < 5; i++) {
        npi_weights *weights;
        tensors[0].ndim = i == 1 ? 2 : 1; /* another shape, a value, a name, and as it was */
        tensors[0].shape[0] = i == 1 ? 2 : 4;
        tensors[0].shape[1] = 2;
        values[5] = i == 2 ? 7 : 6;
        tensors[1].name = i == 3 ? "c" : "b";
        snprintf(path, sizeof path, "%s/%d.safetensors", folder, i);
        CHECK_OK(npi_safetensors_write(path, tensors, 2, NULL));
        CHECK_OK(npi_weights_open(path, &weights));
        CHECK_OK(npi_weights_hash(weights, &seen[i]));
        npi_weights_close(weights);
    }
    assert_true(seen[0] == seen[4] && seen[0] != 0);
    for (int i = 1; i < 4; i++)
        assert_true(seen[i] != seen[0]);
    check_remove(folder);
}

static void failing_allocations_leak_nothing(void **state) {
    (void)state;
    static const char *const files[] = {"script.pt", "sharded"};
    size_t before = npi_memory_now();
    for (size_t f = 0; f < sizeof files / sizeof *files; f++)
        for (int64_t n = 1;; n++) {
            npi_weights *weights;
            npi_memory_fail_after(n);
            npos_status status = npi_weights_open(golden(files[f]), &weights);
            npi_memory_fail_after(0);
            npi_weights_close(weights);
            assert_int_equal(npi_memory_now(), before);
            if (status == NPOS_OK)
                break;
            assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_of_files_read_alike),
        cmocka_unit_test(folders_hold_one_of_several_names),
        cmocka_unit_test(shards_that_lie_are_refused),
        cmocka_unit_test(tensors_are_asked_for_by_shape),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(hash_tells_models_apart),
        cmocka_unit_test(failing_allocations_leak_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
