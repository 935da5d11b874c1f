#include "check.h"

#include "base/file.h"
#include "base/memory.h"
#include "io/pickle.h"

/* Reads the pickle of a string literal. */
#define READ(text, out) npi_pickle_read("p", text, sizeof(text) - 1, out)

#define REFUSED(text, status, message)                                                             \
    do {                                                                                           \
        npi_pickle *refused;                                                                       \
        CHECK_FAILS(READ(text, &refused), status, message);                                        \
        assert_null(refused);                                                                      \
    } while (0)

static void values_come_out(void **state) {
    (void)state;
    npi_pickle *pickle;
    /* [None, True, 200, 60000, -2, 2**40, -1, 1.5, "ab", b"c", (), (1, 2), {"k": 3}] */
    CHECK_OK(
        READ("\x80\x02]q\x00(N\x88K\xc8M\x60\xeaJ\xfe\xff\xff\xff\x8a\x06\x00\x00\x00\x00\x00\x01"
             "\x8a\x01\xff"
             "G\x3f\xf8\x00\x00\x00\x00\x00\x00X\x02\x00\x00\x00"
             "ab"
             "C\x01"
             "c)K\x01K\x02\x86}X\x01\x00\x00\x00kK\x03se.",
             &pickle));
    const npi_pickle_value *root = npi_pickle_root(pickle);
    assert_int_equal(root->kind, NPI_PICKLE_LIST);
    assert_int_equal(root->count, 13);
    npi_pickle_value **item = root->as.items;
    assert_int_equal(item[0]->kind, NPI_PICKLE_NONE);
    assert_int_equal(item[1]->kind, NPI_PICKLE_BOOL);
    assert_int_equal(item[1]->as.integer, 1);
    assert_int_equal(item[2]->as.integer, 200);
    assert_int_equal(item[3]->as.integer, 60000);
    assert_int_equal(item[4]->as.integer, -2);
    assert_true(item[5]->as.integer == (int64_t)1 << 40);
    assert_true(item[6]->as.integer == -1);
    assert_true(item[7]->kind == NPI_PICKLE_FLOAT && item[7]->as.number == 1.5);
    assert_memory_equal(item[8]->as.text, "ab", 2);
    assert_int_equal(item[9]->kind, NPI_PICKLE_BYTES);
    assert_int_equal(item[10]->count, 0);
    assert_int_equal(item[11]->kind, NPI_PICKLE_TUPLE);
    assert_int_equal(item[11]->as.items[1]->as.integer, 2);
    assert_int_equal(item[12]->kind, NPI_PICKLE_DICT);
    assert_memory_equal(item[12]->as.items[0]->as.text, "k", 1);
    assert_int_equal(item[12]->as.items[1]->as.integer, 3);
    npi_pickle_close(pickle);
}

static void memo_shares_values(void **state) {
    (void)state;
    npi_pickle *pickle;
    /* x = []; [x, x] with each opcode of the memo; then x holds 1 in both places */
    CHECK_OK(READ("\x80\x04\x95\x14\x00\x00\x00\x00\x00\x00\x00]\x94(]\x94h\x01r\x07\x00\x00\x00"
                  "j\x07\x00\x00\x00K\x01"
                  "ae.",
                  &pickle));
    npi_pickle_value **item = npi_pickle_root(pickle)->as.items;
    assert_ptr_equal(item[0], item[1]);
    assert_ptr_equal(item[0], item[2]);
    assert_int_equal(item[0]->count, 1);
    npi_pickle_close(pickle);
}

static void lists_grow(void **state) {
    (void)state;
    static char text[8 + 3 * 1000];
    char *at = text;
    memcpy(at, "\x80\x02]", 3);
    at += 3;
    for (int i = 0; i < 1000; i++) {
        memcpy(at, i % 3 ? "K_a" : "(K_", 3);
        at[i % 3 ? 1 : 2] = (char)(i % 100);
        at += 3;
        if (i % 3 == 0)
            *at++ = 'e';
        if (at > text + sizeof text - 8)
            break;
    }
    *at++ = '.';
    npi_pickle *pickle;
    CHECK_OK(npi_pickle_read("p", text, (size_t)(at - text), &pickle));
    const npi_pickle_value *root = npi_pickle_root(pickle);
    assert_in_range(root->count, 800, 1000);
    for (size_t i = 0; i < root->count; i++)
        assert_int_equal(root->as.items[i]->as.integer, i % 100);
    npi_pickle_close(pickle);
}

static void classes_of_torchscript_are_inert(void **state) {
    (void)state;
    npi_pickle *pickle;
    CHECK_OK(READ("\x80\x02"
                  "c__torch__.a.b\nNet\n)\x81}(X\x01\x00\x00\x00nK\x05X\x01\x00\x00\x00"
                  "lctorch.jit._pickle\nrestore_type_tag\n](K\x07"
                  "eX\x09\x00\x00\x00List[int]\x86Rub.",
                  &pickle));
    const npi_pickle_value *root = npi_pickle_root(pickle);
    assert_int_equal(root->kind, NPI_PICKLE_OBJECT);
    assert_int_equal(root->count, 2);
    assert_int_equal(root->as.items[1]->as.integer, 5);
    assert_int_equal(root->as.items[3]->kind, NPI_PICKLE_LIST);
    npi_pickle_close(pickle);
}

static void other_names_and_opcodes_are_named(void **state) {
    (void)state;
    REFUSED("\x80\x02"
            "cos\nsystem\nX\x02\x00\x00\x00"
            "ls\x85R.",
            NPOS_UNSUPPORTED, "os.system");
    assert_non_null(strstr(npos_error_hint(), "state_dict"));
    REFUSED("\x80\x04\x8c\x08"
            "builtins\x8c\x04"
            "eval\x93.",
            NPOS_UNSUPPORTED, "builtins.eval");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_qtensor\n.",
            NPOS_UNSUPPORTED, "torch._utils._rebuild_qtensor");
    REFUSED("\x80\x02"
            "ctorch\nCharStorage\n.",
            NPOS_UNSUPPORTED, "torch.CharStorage");
    REFUSED("\x80\x02"
            "c__torch__evil\nX\n.",
            NPOS_UNSUPPORTED, "__torch__evil.X");
    REFUSED("\x80\x02(ios\nsystem\n.", NPOS_UNSUPPORTED, "INST");
    REFUSED("\x80\x04\x8f.", NPOS_UNSUPPORTED, "EMPTY_SET");
    REFUSED("\x80\x02\x82\x01.", NPOS_UNSUPPORTED, "EXT1");
    REFUSED("\x80\x02\xff.", NPOS_BAD_DATA, "0xff");
    REFUSED("\x80\x02"
            "c__torch__\nNet\n)R.",
            NPOS_UNSUPPORTED, "call of a class of TorchScript");
    REFUSED("\x80\x02"
            "ctorch\nFloatStorage\n)R.",
            NPOS_UNSUPPORTED, "call of FloatStorage");
    REFUSED("\x80\x02"
            "ccollections\nOrderedDict\n)\x81.",
            NPOS_UNSUPPORTED, "object of OrderedDict");
    REFUSED("\x80\x02"
            "ccollections\nOrderedDict\n]\x85R.",
            NPOS_UNSUPPORTED, "1 arguments");
}

static void what_lies_is_refused(void **state) {
    (void)state;
    REFUSED("", NPOS_BAD_DATA, "not a pickle");
    REFUSED("hello", NPOS_BAD_DATA, "not a pickle");
    REFUSED("\x80\x01N.", NPOS_UNSUPPORTED, "protocol 1");
    REFUSED("\x80\x02N", NPOS_BAD_DATA, "no end");
    REFUSED("\x80\x02.", NPOS_BAD_DATA, "no value");
    REFUSED("\x80\x02NN.", NPOS_BAD_DATA, "left over");
    REFUSED("\x80\x02(.", NPOS_BAD_DATA, "no value");
    REFUSED("\x80\x02"
            "e.",
            NPOS_BAD_DATA, "no mark");
    REFUSED("\x80\x02)(Ne.", NPOS_BAD_DATA, "expected a list");
    REFUSED("\x80\x02}(Nu.", NPOS_BAD_DATA, "odd number");
    REFUSED("\x80\x02(N\x86.", NPOS_BAD_DATA, "no value");
    REFUSED("\x80\x02h\x00.", NPOS_BAD_DATA, "never written");
    REFUSED("\x80\x02Nr\xff\xff\xff\xff.", NPOS_BAD_DATA, "memo index 4294967295");
    REFUSED("\x80\x02X\xff\xff\xff\x7f"
            "ab.",
            NPOS_BAD_DATA, "truncated");
    REFUSED("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", NPOS_BAD_DATA, "truncated");
    REFUSED("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", NPOS_BAD_DATA, "frame");
    REFUSED("\x80\x02\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01.", NPOS_UNSUPPORTED, "9 bytes");
    REFUSED("\x80\x02"
            "ctorch\nFloat",
            NPOS_BAD_DATA, "truncated");
    REFUSED("\x80\x02)Q.", NPOS_BAD_DATA, "persistent id");
    REFUSED("\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00"
            "0X\x03\x00\x00\x00"
            "cpuJ\xff\xff\xff\xfftQ.",
            NPOS_BAD_DATA, "persistent id");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v2\n)R.",
            NPOS_BAD_DATA, "a tensor is not");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_parameter\nN\x85R.",
            NPOS_BAD_DATA, "without a tensor");
    REFUSED("\x80\x02]}b.", NPOS_UNSUPPORTED, "attributes are given to a list");
}

#define STORAGE                                                                                    \
    "(X\x07\x00\x00\x00storagectorch\nHalfStorage\nX\x01\x00\x00\x00"                              \
    "3X\x03\x00\x00\x00"                                                                           \
    "cpuK\x0ctQ"

static void tensors_are_described(void **state) {
    (void)state;
    npi_pickle *pickle;
    CHECK_OK(READ("\x80\x02"
                  "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE
                  "K\x02K\x03K\x04\x86K\x01K\x03\x86\x89}tR.",
                  &pickle));
    const npi_pickle_value *root = npi_pickle_root(pickle);
    assert_int_equal(root->kind, NPI_PICKLE_TENSOR);
    const npi_pickle_tensor *tensor = root->as.tensor;
    assert_int_equal(tensor->ndim, 2);
    assert_int_equal(tensor->offset, 2);
    assert_int_equal(tensor->shape[1], 4);
    assert_int_equal(tensor->strides[1], 3);
    assert_int_equal(tensor->storage->dtype, NPI_F16);
    assert_int_equal(tensor->storage->elements, 12);
    assert_int_equal(tensor->storage->key_bytes, 1);
    npi_pickle_close(pickle);
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE
            "K\x02J\xff\xff\xff\xff\x85K\x01\x85\x89}tR.",
            NPOS_BAD_DATA, "negative");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "K\x02N\x85K\x01\x85\x89}tR.",
            NPOS_BAD_DATA, "None");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "K\x02K\x01\x85)\x89}tR.",
            NPOS_BAD_DATA, "a tensor is not");
    REFUSED("\x80\x02"
            "ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE
            "K\x00(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01tq\x00h\x00\x89}tR.",
            NPOS_UNSUPPORTED, "9 dimensions");
}

static void memory_is_bounded(void **state) {
    (void)state;
    size_t size = 1 << 20, before = npi_memory_now();
    char *text;
    CHECK_OK(npi_alloc(&text, size, 1, "pickle"));
    memset(text, '}', size);
    memcpy(text, "\x80\x02", 2);
    npi_pickle *pickle;
    CHECK_FAILS(npi_pickle_read("p", text, size, &pickle), NPOS_BAD_DATA, "more than");
    memset(text + 2, '(', size - 2);
    CHECK_FAILS(npi_pickle_read("p", text, size, &pickle), NPOS_BAD_DATA, "no end");
    CHECK_FAILS(npi_pickle_read("p", text, (size_t)NPI_PICKLE_MOST_BYTES + 1, &pickle),
                NPOS_UNSUPPORTED, "at most");
    npi_free(text);
    assert_int_equal(npi_memory_now(), before);
}

static void cut_short_is_an_error(void **state) {
    (void)state;
    static const char *const files[] = {"state", "script", "checkpoint", "nested"};
    size_t before = npi_memory_now();
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[1024], *bytes;
        size_t size;
        npi_pickle *pickle;
        snprintf(path, sizeof path, "%s/tests/fuzz/corpus/pickle/%s.pkl", check_source(), files[i]);
        CHECK_OK(npi_file_read(path, &bytes, &size));
        CHECK_OK(npi_pickle_read(path, bytes, size, &pickle));
        npi_pickle_close(pickle);
        for (size_t part = 0; part < size; part++)
            assert_int_not_equal(npi_pickle_read(path, bytes, part, &pickle), NPOS_OK);
        for (int64_t n = 1;; n++) { /* each allocation fails once */
            npi_memory_fail_after(n);
            npos_status status = npi_pickle_read(path, bytes, size, &pickle);
            npi_memory_fail_after(0);
            npi_pickle_close(pickle);
            if (status == NPOS_OK)
                break;
            assert_int_equal(status, NPOS_OUT_OF_MEMORY);
        }
        npi_free(bytes);
    }
    assert_int_equal(npi_memory_now(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_come_out),
        cmocka_unit_test(memo_shares_values),
        cmocka_unit_test(lists_grow),
        cmocka_unit_test(classes_of_torchscript_are_inert),
        cmocka_unit_test(other_names_and_opcodes_are_named),
        cmocka_unit_test(what_lies_is_refused),
        cmocka_unit_test(tensors_are_described),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(cut_short_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
