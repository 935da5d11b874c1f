#include "check.h"

#include "base/file.h"
#include "base/memory.h"
#include "io/make_zip.h"
#include "io/pt_file.h"

static const char *golden(const char *name) {
    static char path[4][1024];
    static int turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/tests/golden/pt/%s", check_source(), name);
    return out;
}

static int64_t count_of(const npi_named_tensor *tensor) {
    int64_t count = 1;
    for (int i = 0; i < tensor->ndim; i++)
        count *= tensor->shape[i];
    return count;
}

/* Every tensor of the file is that of the safetensors file, and none is missing. */
static void same_tensors(const char *pt, const char *expected) {
    npi_pt *file;
    npi_safetensors *golden_file;
    CHECK_OK(npi_pt_open(golden(pt), &file));
    CHECK_OK(npi_safetensors_open(golden(expected), &golden_file));
    assert_int_equal(npi_pt_count(file), npi_safetensors_count(golden_file));
    for (int i = 0; i < npi_pt_count(file); i++) {
        const npi_named_tensor *tensor = npi_pt_at(file, i);
        const npi_named_tensor *wanted = npi_safetensors_find(golden_file, tensor->name);
        if (!wanted)
            fail_msg("%s: '%s' is not in %s", pt, tensor->name, expected);
        assert_ptr_equal(npi_pt_find(file, tensor->name), tensor);
        assert_int_equal(tensor->dtype, wanted->dtype);
        assert_int_equal(tensor->ndim, wanted->ndim);
        for (int d = 0; d < tensor->ndim; d++)
            assert_int_equal(tensor->shape[d], wanted->shape[d]);
        CHECK_OK(npi_pt_check(file, i));
        int64_t count = count_of(tensor);
        size_t width = npi_dtype_bytes(tensor->dtype);
        char *seen;
        CHECK_OK(npi_alloc(&seen, (size_t)count + 1, width, "tensor"));
        npi_pt_read(file, i, 0, count, seen);
        if (memcmp(seen, wanted->data, (size_t)count * width) != 0)
            fail_msg("%s: '%s' has other values", pt, tensor->name);
        for (int64_t first = 0; first < count; first++) /* any part of it, too */
            for (int64_t part = 0; part <= count - first && part < 9; part++) {
                memset(seen, 0x55, (size_t)(count + 1) * width);
                npi_pt_read(file, i, first, part, seen);
                assert_memory_equal(seen, (const char *)wanted->data + (size_t)first * width,
                                    (size_t)part * width);
                assert_int_equal(seen[(size_t)part * width], 0x55);
            }
        npi_free(seen);
    }
    assert_null(npi_pt_find(file, "no such tensor"));
    npi_safetensors_close(golden_file);
    npi_pt_close(file);
}

static void tensors_are_pytorchs(void **state) {
    (void)state;
    same_tensors("state.pt", "state.safetensors");
    same_tensors("checkpoint.pt", "tiny.safetensors");
    same_tensors("script.pt", "tiny.safetensors");
    same_tensors("nested.pt", "nested.safetensors");
}

static void one_tensor_is_called_tensor(void **state) {
    (void)state;
    npi_pt *file;
    CHECK_OK(npi_pt_open(golden("one.pt"), &file));
    assert_int_equal(npi_pt_count(file), 1);
    const npi_named_tensor *tensor = npi_pt_find(file, "tensor");
    assert_non_null(tensor);
    assert_int_equal(tensor->shape[0], 4);
    assert_non_null(tensor->data);
    npi_pt_close(file);
}

static void views_have_no_data_in_place(void **state) {
    (void)state;
    npi_pt *file;
    CHECK_OK(npi_pt_open(golden("state.pt"), &file));
    assert_non_null(npi_pt_find(file, "row")->data);
    assert_null(npi_pt_find(file, "transposed")->data);
    assert_null(npi_pt_find(file, "expanded")->data);
    npi_pt_close(file);
}

static void other_files_are_refused(void **state) {
    (void)state;
    npi_pt *file;
    CHECK_FAILS(npi_pt_open(golden("legacy.pt"), &file), NPOS_UNSUPPORTED, "before PyTorch 1.6");
    assert_null(file);
    assert_non_null(strstr(npos_error_hint(), "torch.save(torch.load('legacy.pt'"));
    CHECK_FAILS(npi_pt_open(golden("module.pt"), &file), NPOS_UNSUPPORTED,
                "torch.nn.modules.linear.Linear");
    CHECK_FAILS(npi_pt_open(golden("tiny.safetensors"), &file), NPOS_BAD_DATA, "no zip archive");
    CHECK_FAILS(npi_pt_open(golden("gone.pt"), &file), NPOS_NOT_FOUND, "gone.pt");
    char *folder = check_folder();
    const char *path = check_path(folder, "empty.pt");
    CHECK_OK(npi_file_write(path, "", 0));
    CHECK_FAILS(npi_pt_open(path, &file), NPOS_BAD_DATA, "no zip archive");
    check_remove(folder);
}

/* ---- archives made here --------------------------------------------------------------------------- */

static const float storage[6] = {0, 1, 2, 3, 4, 5};

/* The key "w" and a tensor of float32 in data/0, of 6 elements: offset, shape and strides are `rest`. */
#define TENSOR(rest)                                                                               \
    "X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage"              \
    "ctorch\nFloatStorage\nX\x01\x00\x00\x00"                                                      \
    "0X\x03\x00\x00\x00"                                                                           \
    "cpuK\x06tQ" rest "\x89}tR"
#define PICKLE(rest) "\x80\x02}" TENSOR(rest) "s."

static npos_status open_items(const zip_item *items, int count, int zip64, npi_pt **file) {
    char *folder = check_folder();
    const char *path = check_path(folder, "made.pt");
    size_t size = 0;
    uint8_t *bytes = make_zip(items, count, zip64, &size);
    assert_non_null(bytes);
    CHECK_OK(npi_file_write(path, bytes, size));
    free(bytes);
    npos_status status = npi_pt_open(path, file);
    check_remove(folder);
    return status;
}

static npos_status open_pickle(const char *text, size_t bytes, npi_pt **file) {
    const zip_item items[] = {{"a/data.pkl", text, bytes, 0}, {"a/data/0", storage, 24, 0}};
    return open_items(items, 2, 0, file);
}

#define OPEN(text, file) open_pickle(text, sizeof(text) - 1, file)

static void archives_of_both_kinds_open(void **state) {
    (void)state;
    const char text[] = PICKLE("K\x01K\x02K\x02\x86K\x01K\x03\x86");
    const zip_item items[] = {{"a/byteorder", "little", 6, 0},
                              {"a/code/x.py", "?", 1, 8},
                              {"a/data.pkl", text, sizeof text - 1, 0},
                              {"a/data/0", storage, 24, 0}};
    for (int zip64 = 0; zip64 < 2; zip64++) {
        npi_pt *file;
        CHECK_OK(open_items(items, 4, zip64, &file));
        float out[4];
        assert_int_equal(npi_pt_count(file), 1);
        npi_pt_read(file, 0, 0, 4, out);
        assert_true(out[0] == 1 && out[1] == 4 && out[2] == 2 && out[3] == 5);
        npi_pt_close(file);
    }
}

static void tensors_stay_inside_their_storage(void **state) {
    (void)state;
    npi_pt *file;
    CHECK_OK(OPEN(PICKLE("K\x05K\x01\x85K\x01\x85"), &file));
    npi_pt_close(file);
    CHECK_FAILS(OPEN(PICKLE("K\x06K\x01\x85K\x01\x85"), &file), NPOS_BAD_DATA, "element 6");
    CHECK_FAILS(OPEN(PICKLE("K\x00K\x02K\x03\x86K\x04K\x01\x86"), &file), NPOS_BAD_DATA,
                "element 6");
    CHECK_FAILS(OPEN(PICKLE("K\x00K\x03\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85"), &file),
                NPOS_BAD_DATA, "impossible shape");
    CHECK_FAILS(
        OPEN(PICKLE("K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7fK\x03\x86K\x00K\x00\x86"), &file),
        NPOS_BAD_DATA, "impossible shape");
    /* A stride that is never walked may be anything. */
    CHECK_OK(OPEN(PICKLE("K\x00K\x02K\x01\x86K\x01\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x86"),
                  &file));
    float out[2];
    npi_pt_read(file, 0, 0, 2, out);
    assert_true(out[0] == 0 && out[1] == 1);
    npi_pt_close(file);
}

static void archives_that_lie_are_refused(void **state) {
    (void)state;
    npi_pt *file;
    const char text[] = PICKLE("K\x00K\x06\x85K\x01\x85");
    const size_t size = sizeof text - 1;
    const zip_item pickle = {"a/data.pkl", text, sizeof text - 1, 0};
    CHECK_FAILS(open_items(&pickle, 1, 0, &file), NPOS_BAD_DATA, "no entry 'a/data/0'");
    CHECK_FAILS(open_items((zip_item[]){pickle, {"a/data/0", storage, 20, 0}}, 2, 0, &file),
                NPOS_BAD_DATA, "has 20 bytes");
    CHECK_FAILS(open_items((zip_item[]){pickle, {"a/data/0", storage, 24, 8}}, 2, 0, &file),
                NPOS_UNSUPPORTED, "'a/data/0' is compressed");
    CHECK_FAILS(open_items((zip_item[]){{"a/data.pkl", text, size, 8}}, 1, 0, &file),
                NPOS_UNSUPPORTED, "compressed");
    CHECK_FAILS(open_items((zip_item[]){pickle, {"b/data.pkl", text, size, 0}}, 2, 0, &file),
                NPOS_BAD_DATA, "'a/data.pkl' and 'b/data.pkl'");
    CHECK_FAILS(open_items((zip_item[]){pickle, pickle}, 2, 0, &file), NPOS_BAD_DATA,
                "two entries");
    CHECK_FAILS(open_items((zip_item[]){{"a/b/data.pkl", text, size, 0}}, 1, 0, &file),
                NPOS_BAD_DATA, "without data.pkl");
    CHECK_FAILS(open_items((zip_item[]){pickle, {"a/byteorder", "big", 3, 0}}, 2, 0, &file),
                NPOS_UNSUPPORTED, "big endian");
}

static void pickles_that_blow_up_are_refused(void **state) {
    (void)state;
    npi_pt *file;
    /* A list in itself; a list of two lists of two lists ... */
    CHECK_FAILS(OPEN("\x80\x02]q\x00h\x00"
                     "a.",
                     &file),
                NPOS_BAD_DATA, "64 levels");
    char text[400] = "\x80\x02(]q", *at = text + 6; /* all of them in one tuple */
    for (int i = 1; i < 40; i++) {
        const char step[] = {']', 'q', (char)i, 'h', (char)(i - 1), 'a', 'h', (char)(i - 1), 'a'};
        memcpy(at, step, sizeof step);
        at += sizeof step;
    }
    *at++ = 't';
    *at++ = '.';
    CHECK_FAILS(open_pickle(text, (size_t)(at - text), &file), NPOS_BAD_DATA, "values");
    CHECK_FAILS(OPEN("\x80\x02}N]s.", &file), NPOS_UNSUPPORTED, "a key below '' is None");
    CHECK_FAILS(OPEN("\x80\x02}X\x01\x00\x00\x00\n]s.", &file), NPOS_BAD_DATA, "control character");
    CHECK_FAILS(OPEN("\x80\x02}" TENSOR("K\x00))") "q\x09sX\x01\x00\x00\x00wh\x09s.", &file),
                NPOS_BAD_DATA, "two tensors are called 'w'");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_pytorchs),
        cmocka_unit_test(one_tensor_is_called_tensor),
        cmocka_unit_test(views_have_no_data_in_place),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(archives_of_both_kinds_open),
        cmocka_unit_test(tensors_stay_inside_their_storage),
        cmocka_unit_test(archives_that_lie_are_refused),
        cmocka_unit_test(pickles_that_blow_up_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
