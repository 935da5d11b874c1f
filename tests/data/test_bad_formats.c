/* Damaged and hostile files of the formats of tests/data/test_formats.c: each is an error that names the
 * file and what is wrong with it, and leaves nothing behind. */
#include "data/make_sets.h"

#include <zlib.h>

#include "io/make_zip.h"

static char *folder;

static int setup(void **state) {
    (void)state;
    folder = check_folder();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

static void open_fails(const char *name, npos_status status, const char *text) {
    npi_dataset *set;
    size_t before = npi_memory_now();
    char blamed[128];
    CHECK_FAILS(npi_dataset_open(check_path(folder, name), &set), status, text);
    assert_null(set);
    snprintf(blamed, sizeof blamed, "%s", name);
    blamed[strcspn(blamed, "#")] = '\0';
    if (!strstr(npos_error_message(), blamed))
        fail_msg("'%s' does not name %s", npos_error_message(), blamed);
    assert_true(npi_memory_now() == before);
}

static file_bytes read_golden(const char *name) {
    char path[900], *bytes;
    file_bytes out;
    snprintf(path, sizeof path, "%s/tests/golden/formats/%s", check_source(), name);
    CHECK_OK(npi_file_read(path, &bytes, &out.size));
    out.bytes = (uint8_t *)bytes;
    return out;
}

/* Opens the file cut after every `step` bytes: an error each time, never a crash. */
static void cut_everywhere(const char *golden, const char *name, size_t step) {
    file_bytes file = read_golden(golden);
    for (size_t size = 1; size < file.size; size += step) {
        npi_dataset *set;
        size_t before = npi_memory_now();
        put_bytes(folder, name, file.bytes, size);
        if (npi_dataset_open(check_path(folder, name), &set) == NPOS_OK)
            fail_msg("%s cut after %zu of %zu bytes was opened", golden, size, file.size);
        if (!strstr(npos_error_message(), name))
            fail_msg("cut after %zu bytes: '%s' does not name the file", size,
                     npos_error_message());
        assert_true(npi_memory_now() == before);
    }
    npi_free(file.bytes);
}

/* Opens the file with each byte in turn changed, and decodes what opens: nothing crashes. */
static void change_everywhere(const char *golden, const char *name, size_t step) {
    file_bytes file = read_golden(golden);
    for (size_t at = 0; at < file.size; at += step) {
        npi_dataset *set;
        size_t before = npi_memory_now();
        file.bytes[at] ^= 0xff;
        put_bytes(folder, name, file.bytes, file.size);
        if (npi_dataset_open(check_path(folder, name), &set) == NPOS_OK) {
            npi_image image;
            if (npi_dataset_decode(set, 0, &image) == NPOS_OK)
                npi_image_clear(&image);
            npi_dataset_close(set);
        }
        file.bytes[at] ^= 0xff;
        assert_true(npi_memory_now() == before);
    }
    npi_free(file.bytes);
}

/* ---- MATLAB files -------------------------------------------------------------------------------- */

typedef struct mat_file {
    uint8_t bytes[4096];
    size_t size;
} mat_file;

static void put_u32(mat_file *m, uint32_t value) {
    for (int i = 0; i < 4; i++)
        m->bytes[m->size++] = (uint8_t)(value >> 8 * i);
}

static mat_file mat_start(void) {
    mat_file m = {.size = 128};
    memcpy(m.bytes, "MATLAB 5.0 MAT-file", 19);
    memcpy(m.bytes + 124, "\0\1IM", 4);
    return m;
}

/* An array of one dimension's worth of tags: what it says of itself, and `data_bytes` zeros. */
static void put_array(mat_file *m, const char *name, uint32_t class, const int32_t shape[4],
                      uint32_t type, uint32_t told_bytes, uint32_t data_bytes) {
    put_u32(m, 14);
    put_u32(m, 16 + 24 + 16 + 8 + data_bytes);
    put_u32(m, 6), put_u32(m, 8), put_u32(m, class), put_u32(m, 0);
    put_u32(m, 5), put_u32(m, 16);
    for (int d = 0; d < 4; d++)
        put_u32(m, (uint32_t)shape[d]);
    put_u32(m, 1), put_u32(m, (uint32_t)strlen(name));
    memcpy(m->bytes + m->size, name, strlen(name));
    m->size += 8;
    put_u32(m, type), put_u32(m, told_bytes);
    m->size += data_bytes;
}

static void put_mat(const char *name, const mat_file *m) {
    put_bytes(folder, name, m->bytes, m->size);
}

static void matlab_files_with_lying_shapes(void **state) {
    (void)state;
    static const struct {
        int32_t shape[4];
        uint32_t class, type, told, data;
        npos_status status;
        const char *text;
    } cases[] = {
        {{2, 2, 3, 9}, 9, 2, 24, 24, NPOS_BAD_DATA, "shape of X needs 108 bytes, the file has 24"},
        {{2, 2, 3, 2}, 9, 2, 4000, 24, NPOS_BAD_DATA, "part of 4000 bytes in an array"},
        {{65536, 65536, 3, 2}, 9, 2, 24, 24, NPOS_BAD_DATA, "side 1 is 65536: impossible"},
        {{2, -2, 3, 2}, 9, 2, 24, 24, NPOS_BAD_DATA, "side 1 is -2: impossible"},
        {{2, 2, 3, 0}, 9, 2, 0, 0, NPOS_BAD_DATA, "no images"},
        {{2, 2, 4, 2}, 9, 2, 32, 32, NPOS_BAD_DATA, "the third not 3"},
        {{24, 1, 1, 1}, 9, 2, 24, 24, NPOS_BAD_DATA, "X is uint8 of 2 dimensions"},
        {{2, 2, 3, 2}, 6, 9, 192, 192, NPOS_BAD_DATA, "X is not uint8"},
        {{2, 2, 3, 2}, 9, 77, 24, 24, NPOS_BAD_DATA, "elements of X are of type 77"},
        {{2, 2, 3, 2}, 1, 2, 24, 24, NPOS_UNSUPPORTED, "X is a cell, structure"},
        {{2, 2, 3, 2}, 0x809, 2, 24, 24, NPOS_UNSUPPORTED, "X is complex"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        mat_file m = mat_start();
        put_array(&m, "X", cases[i].class, cases[i].shape, cases[i].type, cases[i].told,
                  cases[i].data);
        put_mat("lie.mat", &m);
        open_fails("lie.mat", cases[i].status, cases[i].text);
    }
}

static void matlab_files_with_wrong_labels(void **state) {
    (void)state;
    const int32_t images[] = {2, 2, 3, 2}, pair[] = {2, 1, 1, 1}, three[] = {3, 1, 1, 1};
    mat_file m = mat_start();
    put_array(&m, "y", 9, pair, 2, 2, 8);
    put_mat("labels.mat", &m);
    open_fails("labels.mat", NPOS_BAD_DATA, "no array X");
    put_array(&m, "X", 9, images, 2, 24, 24);
    m.bytes[128 + 8 + 16 + 24 + 16 + 8] = 11;
    put_mat("labels.mat", &m);
    open_fails("labels.mat", NPOS_BAD_DATA, "label 11 of image 0, expected whole numbers 0 to 10");
    m = mat_start();
    put_array(&m, "X", 9, images, 2, 24, 24);
    put_array(&m, "y", 9, three, 2, 3, 8);
    put_mat("labels.mat", &m);
    open_fails("labels.mat", NPOS_SHAPE_MISMATCH, "3 labels in y (2 dimensions), 2 images");
    m = mat_start();
    put_array(&m, "X", 9, images, 2, 24, 24);
    put_array(&m, "X", 9, images, 2, 24, 24);
    put_mat("labels.mat", &m);
    open_fails("labels.mat", NPOS_BAD_DATA, "two arrays are called X");
    put_mat("test_32x32.mat", &m);
    open_fails("test_32x32.mat#train", NPOS_NOT_FOUND, "no split 'train'");
}

static void matlab_files_of_other_versions(void **state) {
    (void)state;
    mat_file m = mat_start();
    memcpy(m.bytes + 7, "7.3", 3);
    put_mat("x.mat", &m);
    open_fails("x.mat", NPOS_UNSUPPORTED, "version 7.3 (HDF5)");
    assert_non_null(strstr(npos_error_hint(), "'-v7'"));
    m = mat_start();
    memcpy(m.bytes + 124, "\1\0MI", 4);
    put_mat("x.mat", &m);
    open_fails("x.mat", NPOS_UNSUPPORTED, "");
}

/* A compressed element that says it is 4 GB of images: nothing is taken before the sizes agree. */
static void a_matlab_file_that_is_a_bomb(void **state) {
    (void)state;
    const int32_t shape[] = {32, 32, 3, 1398000};
    mat_file inner = {0}, m = mat_start();
    put_array(&inner, "X", 9, shape, 2, 4294656000u, 64);
    inner.bytes[4] = inner.bytes[5] = inner.bytes[6] = inner.bytes[7] = 0xff;
    put_u32(&m, 15);
    put_u32(&m, 0);
    uLongf packed = sizeof m.bytes - m.size;
    assert_int_equal(compress(m.bytes + m.size, &packed, inner.bytes, inner.size), Z_OK);
    m.bytes[132] = (uint8_t)packed;
    m.size += packed;
    put_mat("bomb.mat", &m);
    open_fails("bomb.mat", NPOS_BAD_DATA, "truncated: X needs 4294656000 bytes");
}

static void matlab_files_cut_and_changed(void **state) {
    (void)state;
    cut_everywhere("svhn_test.mat", "cut.mat", 3);
    cut_everywhere("svhn_plain.mat", "cut.mat", 7);
    change_everywhere("svhn_test.mat", "changed.mat", 1);
    change_everywhere("svhn_plain.mat", "changed.mat", 3);
    file_bytes file = read_golden("svhn_test.mat");
    file.bytes[700] ^= 1; /* inside X */
    put_bytes(folder, "changed.mat", file.bytes, file.size);
    open_fails("changed.mat", NPOS_BAD_DATA, "damaged compressed array");
    npi_free(file.bytes);
}

/* ---- CIFAR's pickles ----------------------------------------------------------------------------- */

/* The start of a pickle of protocol 2. */
#define P2 "\x80\x02"

#define ARRAY(side, bytes)                                                                         \
    "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01"                       \
    "btR(K\x01" side "cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xff"         \
    "J\xff\xff\xff\xffK\x00tb\x89" bytes "tb"

/* FOLDER/NAME gets the pickle of a string literal; opening it fails. */
#define PICKLE_FAILS(text, status, message)                                                        \
    do {                                                                                           \
        put_bytes(folder, "data_batch_1", text, sizeof(text) - 1);                                 \
        open_fails("data_batch_1", status, message);                                               \
    } while (0)

static void pickles_with_code(void **state) {
    (void)state;
    PICKLE_FAILS(P2 "cposix\nsystem\nU\x04true\x85R.", NPOS_UNSUPPORTED,
                 "names posix.system, which is not on the list");
    assert_non_null(strstr(npos_error_hint(), "nothing in such a file is executed"));
    PICKLE_FAILS("\x80\x04\x8c\x08"
                 "builtins\x8c\x04"
                 "eval\x93\x8c\x01"
                 "1\x85R.",
                 NPOS_UNSUPPORTED, "names builtins.eval");
    PICKLE_FAILS(P2 "}U\x04"
                    "datac__builtin__\ngetattr\ns.",
                 NPOS_UNSUPPORTED, "names __builtin__.getattr");
    PICKLE_FAILS(P2 "ctorch._utils\n_rebuild_tensor_v2\n.", NPOS_UNSUPPORTED,
                 "names torch._utils._rebuild_tensor_v2");
    PICKLE_FAILS(P2 "(c__torch__\nM\no.", NPOS_UNSUPPORTED, "names __torch__.M");
    PICKLE_FAILS(P2 "(U\x02osU\x06systemi.", NPOS_UNSUPPORTED, "(INST), which NumPy");
    PICKLE_FAILS(P2 "\x82\x01.", NPOS_UNSUPPORTED, "(EXT1), which NumPy does not write");
    PICKLE_FAILS(P2 "cnumpy\nndarray\n)R.", NPOS_UNSUPPORTED, "a call of ndarray");
}

static void pickles_that_are_no_batches(void **state) {
    (void)state;
    PICKLE_FAILS(P2 "]q\x00.", NPOS_BAD_DATA, "the pickle is a list, expected a dict");
    PICKLE_FAILS(P2 "}q\x00.", NPOS_BAD_DATA, "neither \"labels\" nor \"fine_labels\"");
    PICKLE_FAILS(P2 "}U\x06labels]s.", NPOS_BAD_DATA, "\"data\" is not there");
    PICKLE_FAILS(P2 "}(U\x06labels]U\x04"
                    "dataK\x01u.",
                 NPOS_BAD_DATA, "\"data\" is an integer, expected an array");
    PICKLE_FAILS(P2 "}(U\x06labels]U\x04"
                    "data" ARRAY("K\x02K\x02\x86", "U\x04"
                                                   "abcd") "u.",
                 NPOS_BAD_DATA, "\"data\" is uint8 of 2 dimensions, expected uint8 [N][3072]");
    PICKLE_FAILS(P2 "}(U\x06labels]U\x04"
                    "data" ARRAY("K\x00M\x00\x0c\x86", "U\x00") "u.",
                 NPOS_BAD_DATA, "\"data\" is empty");
}

static void pickles_with_lying_arrays(void **state) {
    (void)state;
#define LIES(side, bytes, status, message)                                                         \
    PICKLE_FAILS(P2 "}U\x04"                                                                       \
                    "data" ARRAY(side, bytes) "s.",                                                \
                 status, message)
    LIES("K\x03K\x02\x86", "U\x04wxyz", NPOS_BAD_DATA, "shape does not fit its 4 bytes");
    LIES("K\x01K\x02\x86", "U\x04wxyz", NPOS_BAD_DATA, "shape does not fit its 4 bytes");
    LIES("J\xff\xff\xff\x7fJ\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x87", "U\x04wxyz", NPOS_BAD_DATA,
         "shape does not fit its 4 bytes");
    LIES("J\xff\xff\xff\xffK\x02\x86", "U\x04wxyz", NPOS_BAD_DATA, "shape is negative");
    LIES("K\x02NK\x02\x87", "U\x04wxyz", NPOS_BAD_DATA, "shape is None");
    LIES("(K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01K\x01t", "U\x01w", NPOS_UNSUPPORTED,
         "array of 9 dimensions");
    LIES("K\x04\x85", "]", NPOS_BAD_DATA, "made of a list, an element type and a tuple");
#undef LIES
    PICKLE_FAILS(P2 "cnumpy\ndtype\nU\x01O\x85R.", NPOS_UNSUPPORTED, "elements of type O");
    PICKLE_FAILS(P2 "cnumpy\ndtype\nU\x02i4\x85R(K\x03U\x01>tb.", NPOS_UNSUPPORTED,
                 "a big-endian array");
    PICKLE_FAILS(P2 "c_codecs\nencode\nX\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1\x86R.",
                 NPOS_BAD_DATA, "has other characters");
    PICKLE_FAILS(P2 "c_codecs\nencode\nX\x01\x00\x00\x00-X\x05\x00\x00\x00rot13\x86R.",
                 NPOS_UNSUPPORTED, "_codecs.encode called with other");
    PICKLE_FAILS(P2 "}T\xff\xff\xff\xff"
                    "data.",
                 NPOS_BAD_DATA, "truncated");
}

/* A batch with other labels than it should have: its 3,072 pixels are those of a golden. */
static void batches_with_wrong_labels(void **state) {
    (void)state;
    file_bytes file = read_golden("again_5.pickle");
    uint8_t *labels = NULL;
    for (size_t i = 0; i + 8 < file.size && !labels; i++)
        if (memcmp(file.bytes + i, "\x8c\x06labels", 8) == 0)
            labels = file.bytes + i + 8; /* MEMOIZE, EMPTY_LIST, MEMOIZE, BININT1 3, APPEND */
    assert_non_null(labels);
    assert_memory_equal(labels,
                        "\x94]\x94K\x03"
                        "a",
                        6);
    labels[4] = 10;
    put_bytes(folder, "data_batch_1", file.bytes, file.size);
    open_fails("data_batch_1", NPOS_BAD_DATA, "label 10 of image 0, expected 0..9");
    labels[3] = 'N', labels[4] = '0', labels[5] = '0';
    put_bytes(folder, "data_batch_1", file.bytes, file.size);
    open_fails("data_batch_1", NPOS_UNSUPPORTED, "(POP)");
    memcpy(labels + 2, "\x94\x94\x94\x94", 4);
    put_bytes(folder, "data_batch_1", file.bytes, file.size);
    open_fails("data_batch_1", NPOS_BAD_DATA, "the labels are a list of 0, expected a list of 1");
    npi_free(file.bytes);
}

static void folders_of_batches(void **state) {
    (void)state;
    file_bytes file = read_golden("again_4.pickle");
    put_bytes(folder, "c/data_batch_1", file.bytes, file.size);
    open_fails("c#test", NPOS_NOT_FOUND, "no split 'test'");
    put_bytes(folder, "c/batches.meta", P2 "}.", 4);
    open_fails("c", NPOS_BAD_DATA, "batches.meta: no list of 10 class names");
    put_text(folder, "c/batches.meta", "no pickle");
    open_fails("c", NPOS_BAD_DATA, "batches.meta: not a pickle");
    open_fails("c/data_batch_1#test", NPOS_NOT_FOUND, "no split 'test'");
    struct archive *a = pack_open(check_path(folder, "twice.tar"), "tar");
    pack_bytes(a, "a/data_batch_1", file.bytes, file.size);
    pack_bytes(a, "b/data_batch_1", file.bytes, file.size);
    pack_close(a);
    open_fails("twice.tar", NPOS_BAD_DATA, "two members are called data_batch_1");
    a = pack_open(check_path(folder, "out.tar"), "tar");
    pack_bytes(a, "a/data_batch_1", file.bytes, file.size);
    pack_bytes(a, "../data_batch_2", file.bytes, file.size);
    pack_close(a);
    open_fails("out.tar", NPOS_BAD_DATA, "../data_batch_2 leads out of the archive");
    a = pack_open(check_path(folder, "broken.tar"), "tar");
    pack_bytes(a, "a/data_batch_1", file.bytes, file.size / 2);
    pack_close(a);
    open_fails("broken.tar", NPOS_BAD_DATA, "broken.tar/data_batch_1: ");
    open_fails("broken.tar#test", NPOS_NOT_FOUND, "no split 'test'");
    npi_free(file.bytes);
}

static void pickles_cut_and_changed(void **state) {
    (void)state;
    static const char *const goldens[] = {"again_2.pickle", "again_4.pickle", "again_5.pickle"};
    for (int i = 0; i < 3; i++) {
        cut_everywhere(goldens[i], "data_batch_1", 61);
        change_everywhere(goldens[i], "data_batch_1", 13);
    }
    cut_everywhere("cifar-10-python.tar.gz", "cut.tar.gz", 101);
    change_everywhere("cifar-10-python.tar.gz", "changed.tar.gz", 61);
}

/* ---- .npz ---------------------------------------------------------------------------------------- */

/* FOLDER/x.npz gets one array of zeros under this name: the header's text, and how many bytes. */
static void put_npz(const char *array, const char *header, size_t bytes, int method) {
    uint8_t file[512] = "\x93NUMPY\x01\x00";
    size_t length = strlen(header), size = 0;
    file[8] = (uint8_t)length;
    memcpy(file + 10, header, length);
    zip_item item = {array, file, 10 + length + bytes, method};
    uint8_t *zip = make_zip(&item, 1, 0, &size);
    assert_non_null(zip);
    put_bytes(folder, "x.npz", zip, size);
    free(zip);
}

static void npz_with_other_arrays(void **state) {
    (void)state;
#define HEAD(type, order, shape)                                                                   \
    "{'descr': '" type "', 'fortran_order': " order ", 'shape': " shape ", }"
    put_npz("pictures.npy", HEAD("|u1", "False", "(2, 2, 2)"), 8, 0);
    open_fails("x.npz", NPOS_BAD_DATA, "none of its 1 arrays has a name that npos knows");
    open_fails("x.npz#train", NPOS_NOT_FOUND, "no split 'train'");
    put_npz("images.npy", HEAD("|u1", "False", "(2, 2, 2)"), 7, 0);
    open_fails("x.npz", NPOS_BAD_DATA, "array images: the array's shape needs 8 bytes");
    put_npz("images.npy", HEAD("|u1", "False", "(2, 2, 2, 4)"), 32, 0);
    open_fails("x.npz", NPOS_BAD_DATA, "array images: uint8 of 4 dimensions, 4 channels");
    put_npz("images.npy", HEAD("<f4", "False", "(2, 2, 2)"), 32, 0);
    open_fails("x.npz", NPOS_BAD_DATA, "array images: float32 of 3 dimensions");
    put_npz("images.npy", HEAD("|O", "False", "(2, 2, 2)"), 32, 0);
    open_fails("x.npz", NPOS_UNSUPPORTED, "array images: element type '|O'");
    put_npz("images.npy", HEAD("|u1", "True", "(2, 2, 2)"), 8, 0);
    open_fails("x.npz", NPOS_UNSUPPORTED, "Fortran order");
    put_npz("images.npy", HEAD("|u1", "False", "(2, 2, 2)"), 8, 8);
    open_fails("x.npz", NPOS_BAD_DATA, "'images.npy' is damaged: it does not unpack");
    put_npz("images.npy", HEAD("|u1", "False", "(2, 2, 2)"), 8, 12);
    open_fails("x.npz", NPOS_UNSUPPORTED, "'images.npy' is encrypted or packed in a rare way");
#undef HEAD
}

static void npz_with_wrong_labels(void **state) {
    (void)state;
    file_bytes file = read_golden("plain.npz");
    for (size_t i = 0; i + 9 < file.size; i++)
        if (memcmp(file.bytes + i, "arr_1.npy", 9) == 0)
            memcpy(file.bytes + i, "arr_2.npy", 9);
    put_bytes(folder, "x.npz", file.bytes, file.size);
    npi_dataset *set;
    CHECK_OK(npi_dataset_open(check_path(folder, "x.npz"), &set));
    assert_int_equal(npi_dataset_classes(set), 0);
    npi_dataset_close(set);
    npi_free(file.bytes);
    put_bytes(folder, "y/classes.txt", "a\nb\n", 4);
    file = read_golden("plain.npz");
    put_bytes(folder, "y/x.npz", file.bytes, file.size);
    npi_free(file.bytes);
    CHECK_FAILS(npi_dataset_open(check_path(folder, "y/x.npz"), &set), NPOS_BAD_DATA,
                "classes.txt: 2 class names, expected 5");
}

/* 40 bytes that claim to unpack to 4 GB, in the directory as in the header. */
static void an_npz_that_is_a_bomb(void **state) {
    (void)state;
    file_bytes file = read_golden("deflated.npz");
    for (size_t i = 0; i + 46 < file.size; i++)
        if (memcmp(file.bytes + i, "PK\x01\x02", 4) == 0)
            memcpy(file.bytes + i + 24, "\xfe\xff\xff\xff", 4);
    put_bytes(folder, "x.npz", file.bytes, file.size);
    open_fails("x.npz", NPOS_BAD_DATA, "bytes to 4294967294");
    npi_free(file.bytes);
}

static void npz_cut_and_changed(void **state) {
    (void)state;
    cut_everywhere("plain.npz", "cut.npz", 11);
    cut_everywhere("deflated.npz", "cut.npz", 11);
    change_everywhere("plain.npz", "changed.npz", 3);
    change_everywhere("deflated.npz", "changed.npz", 3);
    change_everywhere("named.npz", "changed.npz", 5);
}

/* ---- WebDataset ---------------------------------------------------------------------------------- */

/* FOLDER/x.tar becomes a shard of a good sample, and one of these two members. */
static void put_shard(const char *first, const char *text, const char *second, const char *more) {
    struct archive *a = pack_open(check_path(folder, "x.tar"), "tar");
    pack_bytes(a, "1.cls", "0", 1);
    pack_png(a, "1.png", 4, 3, 1);
    pack_bytes(a, first, text, strlen(text));
    if (second && more)
        pack_bytes(a, second, more, strlen(more));
    else if (second)
        pack_png(a, second, 4, 3, 1);
    pack_close(a);
}

static void shards_with_wrong_samples(void **state) {
    (void)state;
    put_shard("2.cls", "cat", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "member 2.cls is no label");
    put_shard("2.cls", "-1", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "member 2.cls is no label");
    put_shard("2.cls", "99999999999999999999", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "member 2.cls is no label");
    put_shard("2.cls", "", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "member 2.cls is no label");
    put_shard("2.json", "{\"label\": \"cat\"}", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "member 2.json is no label");
    put_shard("2.json", "{\"label\": ", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "member 2.json is no JSON");
    put_shard("2.json", "{\"caption\": 1}", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "sample 2.png has no label, unlike those before");
    put_shard("2.txt", "a cat", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "sample 2.png has no label");
    put_shard("2.cls", "1", NULL, NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "the sample of 2.cls has no image");
    put_shard("2.cls", "1", "2.png", "");
    npi_dataset *set;
    npi_image image;
    CHECK_OK(npi_dataset_open(check_path(folder, "x.tar"), &set));
    CHECK_FAILS(npi_dataset_decode(set, 1, &image), NPOS_BAD_DATA,
                "x.tar: 2.png: the file is empty");
    npi_dataset_close(set);
    put_shard("2.cls", "1", "2.png", "no image");
    CHECK_OK(npi_dataset_open(check_path(folder, "x.tar"), &set));
    CHECK_FAILS(npi_dataset_decode(set, 1, &image), NPOS_BAD_DATA, "x.tar: 2.png: ");
    npi_dataset_close(set);
    put_shard("../2.cls", "1", "../2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "../2.cls leads out of the archive");
    put_shard("/2.cls", "1", "2.png", NULL);
    open_fails("x.tar", NPOS_BAD_DATA, "/2.cls has an absolute path");
}

static void shards_that_are_not_there(void **state) {
    (void)state;
    put_shard("2.cls", "1", "2.png", NULL);
    open_fails("x.tar#train", NPOS_NOT_FOUND, "expected shards with train, test or val");
    npi_dataset *set;
    CHECK_FAILS(npi_dataset_open(check_path(folder, "y-{0..3}.tar"), &set), NPOS_NOT_FOUND,
                "no such file or folder");
    file_bytes file = read_golden("shard-train-000.tar");
    put_bytes(folder, "y-0.tar", file.bytes, file.size);
    CHECK_FAILS(npi_dataset_open(check_path(folder, "y-{0..3}.tar"), &set), NPOS_NOT_FOUND,
                "y-1.tar: no such file");
    CHECK_FAILS(npi_dataset_open(check_path(folder, "y-{3..0}.tar"), &set), NPOS_NOT_FOUND,
                "no such file or folder");
    CHECK_FAILS(npi_dataset_open(check_path(folder, "y-{0..999999999}.tar"), &set), NPOS_NOT_FOUND,
                "");
    /* cut while it is in use */
    CHECK_OK(npi_dataset_open(check_path(folder, "y-0.tar"), &set));
    put_bytes(folder, "y-0.tar", file.bytes, 1024);
    npi_image image;
    CHECK_FAILS(npi_dataset_decode(set, 1, &image), NPOS_BAD_DATA, "has become shorter");
    npi_dataset_close(set);
    npi_free(file.bytes);
}

/* A cut between two members is no damage that anyone could see. */
static void shards_cut_and_changed(void **state) {
    (void)state;
    file_bytes file = read_golden("shard-train-001.tar");
    for (size_t size = 513; size < 2 * 4096; size += 37) {
        npi_dataset *set;
        char spec[900];
        size_t before = npi_memory_now();
        put_bytes(folder, "cut.tar", file.bytes, size);
        snprintf(spec, sizeof spec, "webdataset:%s/cut.tar", folder);
        if (npi_dataset_open(spec, &set) == NPOS_OK)
            npi_dataset_close(set);
        else if (!strstr(npos_error_message(), "cut.tar"))
            fail_msg("'%s' does not name the file", npos_error_message());
        assert_true(npi_memory_now() == before);
    }
    npi_free(file.bytes);
    change_everywhere("shard-train-001.tar", "changed.tar", 19);
}

/* ---- all of them --------------------------------------------------------------------------------- */

static void out_of_memory(void **state) {
    (void)state;
    static const char *const goldens[] = {"svhn_test.mat", "again_5.pickle",
                                          "cifar-100-python.tar.gz", "deflated.npz"};
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        file_bytes file = read_golden(goldens[i]);
        put_bytes(folder, goldens[i], file.bytes, file.size);
        npi_free(file.bytes);
        npi_transform transform = {5, 3, NPI_BILINEAR, 0};
        npos_status status = NPOS_OUT_OF_MEMORY;
        for (int n = 1; status != NPOS_OK; n++) {
            npi_images loaded;
            size_t before = npi_memory_now();
            assert_true(n < 1000);
            npi_memory_fail_after(n);
            status = npi_images_load(check_path(folder, goldens[i]), &transform, 0, 0, 1, NULL,
                                     NULL, &loaded);
            npi_memory_fail_after(0);
            npi_images_clear(&loaded);
            assert_true(npi_memory_now() == before);
        }
    }
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(matlab_files_with_lying_shapes),
        CASE(matlab_files_with_wrong_labels),
        CASE(matlab_files_of_other_versions),
        CASE(a_matlab_file_that_is_a_bomb),
        CASE(matlab_files_cut_and_changed),
        CASE(pickles_with_code),
        CASE(pickles_that_are_no_batches),
        CASE(pickles_with_lying_arrays),
        CASE(batches_with_wrong_labels),
        CASE(folders_of_batches),
        CASE(pickles_cut_and_changed),
        CASE(npz_with_other_arrays),
        CASE(npz_with_wrong_labels),
        CASE(an_npz_that_is_a_bomb),
        CASE(npz_cut_and_changed),
        CASE(shards_with_wrong_samples),
        CASE(shards_that_are_not_there),
        CASE(shards_cut_and_changed),
        CASE(out_of_memory),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
