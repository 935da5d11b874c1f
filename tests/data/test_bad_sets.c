/* Bad input to src/data: every case is an error that names the file and what is wrong with it. */
#include "data/make_sets.h"

#include <unistd.h>

#include "io/npy.h"

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

/* Opening FOLDER/NAME fails with the status, and the message has the blamed file and `text`. */
#define OPEN_FAILS(name, status, text) OPEN_FAILS_IN(name, name, status, text)
#define OPEN_FAILS_IN(name, blamed, status, text)                                                  \
    do {                                                                                           \
        npi_dataset *open_fails_set;                                                               \
        size_t before_ = npi_memory_now();                                                         \
        CHECK_FAILS(npi_dataset_open(check_path(folder, name), &open_fails_set), status, text);    \
        assert_null(open_fails_set);                                                               \
        char file_[256];                                                                           \
        snprintf(file_, sizeof file_, "%s", blamed);                                               \
        file_[strcspn(file_, "#")] = '\0';                                                         \
        if (!strstr(npos_error_message(), file_))                                                  \
            fail_msg("'%s' does not name %s", npos_error_message(), file_);                        \
        assert_true(npi_memory_now() == before_);                                                  \
    } while (0)

/* The set opens, but loading its images fails. */
static void load_fails(const char *name, npos_status status, const char *text) {
    npi_transform transform = {8, 3, NPI_BILINEAR, 0};
    npi_images images;
    size_t before = npi_memory_now();
    CHECK_FAILS(npi_images_load(check_path(folder, name), &transform, 0, 0, 2, NULL, NULL, &images),
                status, text);
    assert_null(images.pixels);
    assert_true(npi_memory_now() == before);
}

static void missing_and_empty(void **state) {
    (void)state;
    OPEN_FAILS("nothing", NPOS_NOT_FOUND, "no such file or folder");
    put_text(folder, "empty/README", "no images");
    OPEN_FAILS("empty", NPOS_BAD_DATA, "no images");
    put_bytes(folder, "zero.tar", "", 0);
    OPEN_FAILS("zero.tar", NPOS_BAD_DATA, "does not know, or damaged");
    put_text(folder, "noise.tar", "this is no archive at all, but it is called one");
    OPEN_FAILS("noise.tar", NPOS_BAD_DATA, "does not know, or damaged");
    npi_dataset *set;
    char spec[700];
    snprintf(spec, sizeof spec, "archive:%s/noise.tar", folder);
    CHECK_FAILS(npi_dataset_open(spec, &set), NPOS_BAD_DATA, "noise.tar: damaged archive: ");
    snprintf(spec, sizeof spec, "folder:%s/noise.tar", folder);
    CHECK_FAILS(npi_dataset_open(spec, &set), NPOS_IO, "noise.tar: cannot open the folder");
    snprintf(spec, sizeof spec, "archive:%s/nothing", folder);
    CHECK_FAILS(npi_dataset_open(spec, &set), NPOS_NOT_FOUND, "nothing: no such file");
}

static void files_that_are_no_images(void **state) {
    (void)state;
    put_png(folder, "s/cat/1.png", 4, 1, 1);
    put_text(folder, "s/cat/movie.avi", "RIFF");
    OPEN_FAILS("s", NPOS_BAD_DATA,
               "1 file is no image (JPEG, PNG, WebP, BMP, PPM, PGM or PBM): cat/movie.avi");
    put_text(folder, "s/cat/a.bin", "x");
    put_text(folder, "s/dog/b.bin", "x");
    put_text(folder, "s/dog/c.bin", "x");
    OPEN_FAILS("s", NPOS_BAD_DATA, "4 files are no images");
    assert_non_null(strstr(npos_error_message(), ", ..."));
    struct archive *a = pack_open(check_path(folder, "s.tar"), "tar");
    pack_png(a, "cat/1.png", 4, 1, 1);
    pack_bytes(a, "cat/movie.avi", "RIFF", 4);
    pack_close(a);
    OPEN_FAILS("s.tar", NPOS_BAD_DATA,
               "1 file is no image (JPEG, PNG, WebP, BMP, PPM, PGM or PBM): cat/movie.avi");
    put_text(folder, "py/cifar-10-batches-py/data_batch_1", "\x80\x02}q");
    OPEN_FAILS("py", NPOS_BAD_DATA, "data_batch_1");
    assert_non_null(strstr(npos_error_hint(), "holds the batches itself"));
}

static void images_beside_class_folders(void **state) {
    (void)state;
    put_png(folder, "s/cat/1.png", 4, 1, 1);
    put_png(folder, "s/stray.png", 4, 1, 1);
    OPEN_FAILS("s", NPOS_BAD_DATA, "stray.png lies beside class folders (cat");
}

static void splits_that_are_not_there(void **state) {
    (void)state;
    put_png(folder, "s/train/cat/1.png", 4, 1, 1);
    OPEN_FAILS("s#test", NPOS_NOT_FOUND, "no split 'test'");
    put_png(folder, "t/cat/1.png", 4, 1, 1);
    put_png(folder, "t/dog/1.png", 4, 1, 1);
    OPEN_FAILS("t#train", NPOS_NOT_FOUND, "expected folders train and test");
}

static void one_broken_image_is_named(void **state) {
    (void)state;
    char name[64];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "s/cat/%03d.png", i);
        put_png(folder, name, 8, 3, i);
    }
    file_bytes png = make_plain_png(8, 3, 1);
    put_bytes(folder, "s/cat/077.png", png.bytes, png.size / 2);
    npi_free(png.bytes);
    put_text(folder, "s/cat/083.png", "also broken, but later");
    load_fails("s", NPOS_BAD_DATA, "s/cat/077.png: damaged PNG: the file is truncated");
    put_text(folder, "s/cat/012.png", "<html>404</html>");
    load_fails("s", NPOS_BAD_DATA, "s/cat/012.png: not an image of a kind");
    put_bytes(folder, "s/cat/003.png", "", 0);
    load_fails("s", NPOS_BAD_DATA, "s/cat/003.png: the file is empty");
    struct archive *a = pack_open(check_path(folder, "s.zip"), "zip");
    pack_png(a, "cat/1.png", 4, 1, 1);
    pack_bytes(a, "cat/2.jpg", "\xff\xd8\xff\xe0 broken", 11);
    pack_close(a);
    load_fails("s.zip", NPOS_BAD_DATA, "s.zip: cat/2.jpg: damaged JPEG");
}

static void folders_that_hold_themselves(void **state) {
    (void)state;
    put_png(folder, "s/cat/1.png", 4, 1, 1);
    assert_int_equal(symlink("..", check_path(folder, "s/cat/loop")), 0);
    OPEN_FAILS("s", NPOS_BAD_DATA, "nested deeper than 16");
    put_png(folder, "t/cat/1.png", 4, 1, 1);
    assert_int_equal(symlink("gone.png", check_path(folder, "t/cat/2.png")), 0);
    OPEN_FAILS("t", NPOS_IO, "2.png: cannot stat");
}

static void archives_that_lead_out_of_themselves(void **state) {
    (void)state;
    static const char *const names[] = {"../evil.png", "cat/../../evil.png", "/etc/evil.png"};
    for (int i = 0; i < 3; i++) {
        struct archive *a = pack_open(check_path(folder, "evil.tar"), "tar");
        pack_png(a, "cat/1.png", 4, 1, 1);
        pack_png(a, names[i], 4, 1, 1);
        pack_close(a);
        OPEN_FAILS("evil.tar", NPOS_BAD_DATA, names[i]);
    }
    struct archive *a = pack_open(check_path(folder, "link.tar"), "tar");
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, "cat/2.png");
    archive_entry_set_filetype(entry, AE_IFLNK);
    archive_entry_set_symlink(entry, "/etc/passwd");
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    archive_entry_free(entry);
    pack_close(a);
    OPEN_FAILS("link.tar", NPOS_BAD_DATA, "cat/2.png is a link");
}

static void damaged_archives(void **state) {
    (void)state;
    static const char *const kinds[] = {"tar.gz", "tar.xz", "zip", "tar"};
    npi_image noise = make_pattern(64, 64, 3, 0);
    file_bytes jpeg = make_jpeg(&noise, 90);
    for (int kind = 0; kind < 4; kind++) {
        struct archive *a = pack_open(check_path(folder, "cut"), kinds[kind]);
        for (int i = 0; i < 9; i++) {
            char name[32];
            snprintf(name, sizeof name, "cat/%d.jpg", i);
            jpeg.bytes[jpeg.size - 100] = (uint8_t)i; /* 9 files that differ */
            pack_bytes(a, name, jpeg.bytes, jpeg.size);
        }
        pack_close(a);
        char *bytes;
        size_t size;
        CHECK_OK(npi_file_read(check_path(folder, "cut"), &bytes, &size));
        put_bytes(folder, "cut", bytes, size / 2);
        npi_free(bytes);
        OPEN_FAILS("cut", NPOS_BAD_DATA, "damaged archive");
    }
    npi_free(jpeg.bytes);
    npi_image_clear(&noise);
    struct archive *a = pack_open(check_path(folder, "twice.tar"), "tar");
    pack_png(a, "cat/1.png", 4, 1, 1);
    pack_png(a, "cat/1.png", 4, 1, 2);
    pack_close(a);
    OPEN_FAILS("twice.tar", NPOS_BAD_DATA, "cat/1.png is there twice");
    a = pack_open(check_path(folder, "hollow.tar"), "tar");
    pack_bytes(a, "cat/1.png", "", 0);
    pack_close(a);
    load_fails("hollow.tar", NPOS_BAD_DATA, "hollow.tar: cat/1.png: the file is empty");
}

/* 300 MB of zeros behind a PNG's first bytes pack to some 300 kB. */
static void an_archive_that_is_a_bomb(void **state) {
    (void)state;
    enum { MEMBER = 60 << 20 };
    uint8_t *zeros = calloc(1, MEMBER);
    memcpy(zeros, "\x89PNG\r\n\x1a\n", 8);
    struct archive *a = pack_open(check_path(folder, "bomb.tar.gz"), "tar.gz");
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "cat/%d.png", i);
        pack_bytes(a, name, zeros, MEMBER);
    }
    pack_png(a, "cat/last.png", 4, 1, 1);
    pack_close(a);
    free(zeros);
    OPEN_FAILS("bomb.tar.gz", NPOS_BAD_DATA, "bytes unpack to more than");
    /* a member of text that says it has 4 TB, never to be unpacked: size and checksum of its header
     * are written by hand */
    a = pack_open(check_path(folder, "text.tar"), "tar");
    pack_bytes(a, "cat/notes.txt", "x", 1);
    pack_close(a);
    char *tar;
    size_t size;
    CHECK_OK(npi_file_read(check_path(folder, "text.tar"), &tar, &size));
    memcpy(tar + 124, "\x80\0\0\0\0\0\4\0\0\0\0\0", 12);
    memset(tar + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)tar[i];
    snprintf(tar + 148, 8, "%06o", sum);
    put_bytes(folder, "text.tar", tar, size);
    npi_free(tar);
    OPEN_FAILS("text.tar", NPOS_BAD_DATA, "bytes unpack to more than");
}

static void damaged_cifar(void **state) {
    (void)state;
    uint8_t record[3073] = {10};
    put_bytes(folder, "c/data_batch_1.bin", record, sizeof record);
    OPEN_FAILS("c#train", NPOS_BAD_DATA, "data_batch_1.bin: label 10 of image 0, expected 0..9");
    put_bytes(folder, "c/data_batch_1.bin", record, 3000);
    OPEN_FAILS("c#train", NPOS_BAD_DATA, "data_batch_1.bin: 3000 bytes, expected a multiple of");
    OPEN_FAILS("c#test", NPOS_NOT_FOUND, "no split 'test'");
    record[0] = 1;
    put_bytes(folder, "c/data_batch_1.bin", record, sizeof record);
    put_text(folder, "c/batches.meta.txt", "cat\ndog\n");
    OPEN_FAILS("c", NPOS_BAD_DATA, "batches.meta.txt: 2 class names, expected 10");
    put_bytes(folder, "c/train.bin", record, sizeof record);
    OPEN_FAILS("c", NPOS_BAD_DATA, "both CIFAR-10 and CIFAR-100");
}

static void damaged_idx(void **state) {
    (void)state;
    uint8_t images[16 + 8] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2};
    uint8_t labels[8 + 3] = {0, 0, 8, 1, 0, 0, 0, 3};
    put_bytes(folder, "t10k-images-idx3-ubyte", images, sizeof images);
    put_bytes(folder, "t10k-labels-idx1-ubyte", labels, sizeof labels);
    OPEN_FAILS("t10k-images-idx3-ubyte", NPOS_SHAPE_MISMATCH, "t10k-labels-idx1-ubyte: 3 labels, ");
    labels[7] = 2;
    put_bytes(folder, "t10k-labels-idx1-ubyte", labels, sizeof labels);
    OPEN_FAILS_IN("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", NPOS_BAD_DATA,
                  "longer than the 2 values");
    labels[9] = 1;
    put_bytes(folder, "named/t10k-images-idx3-ubyte", images, sizeof images);
    put_bytes(folder, "named/t10k-labels-idx1-ubyte", labels, 10);
    put_text(folder, "named/classes.txt", "cat\n");
    OPEN_FAILS_IN("named", "classes.txt", NPOS_BAD_DATA, "1 class names, expected 2");
    put_text(folder, "named/classes.txt", "cat\ncat\n");
    OPEN_FAILS_IN("named", "classes.txt", NPOS_BAD_DATA, "classes 0 and 1 are both called 'cat'");
    put_bytes(folder, "cut-idx", images, sizeof images - 1);
    OPEN_FAILS("cut-idx", NPOS_BAD_DATA, "truncated");
    images[4] = 0x7f; /* 2 thousand million images */
    put_bytes(folder, "huge-idx", images, sizeof images);
    OPEN_FAILS("huge-idx", NPOS_BAD_DATA, "truncated: the header promises 8522825736 values");
    memset(images + 4, 0xff, 12);
    put_bytes(folder, "huge-idx", images, sizeof images);
    OPEN_FAILS("huge-idx", NPOS_BAD_DATA, "truncated: the header promises");
    npi_dataset *set;
    char spec[700];
    images[2] = 0x0d; /* float */
    put_bytes(folder, "float-idx", images, sizeof images);
    snprintf(spec, sizeof spec, "idx:%s/float-idx", folder);
    CHECK_FAILS(npi_dataset_open(spec, &set), NPOS_UNSUPPORTED, "float-idx: idx values of type");
    snprintf(spec, sizeof spec, "idx:%s/t10k-labels-idx1-ubyte", folder);
    CHECK_FAILS(npi_dataset_open(spec, &set), NPOS_BAD_DATA, "idx of 1 dimensions, expected 3");
}

static void a_truncated_gz(void **state) {
    (void)state;
    uint8_t images[16 + 4000] = {0, 0, 8, 3, 0, 0, 0, 40, 0, 0, 0, 10, 0, 0, 0, 10};
    uint32_t noise = 1;
    for (int i = 16; i < 4016; i++) {
        noise = noise * 1664525u + 1013904223u;
        images[i] = (uint8_t)(noise >> 24);
    }
    put_bytes(folder, "x-idx3", images, sizeof images);
    char command[700];
    snprintf(command, sizeof command, "gzip -n '%s/x-idx3'", folder);
    assert_int_equal(system(command), 0);
    char *bytes;
    size_t size;
    CHECK_OK(npi_file_read(check_path(folder, "x-idx3.gz"), &bytes, &size));
    put_bytes(folder, "cut.gz", bytes, size / 2);
    OPEN_FAILS("cut.gz", NPOS_BAD_DATA, "cut.gz: ");
    bytes[size - 5] ^= 1; /* the length and checksum behind the data */
    bytes[size - 8] ^= 1;
    put_bytes(folder, "sum-images-idx3-ubyte.gz", bytes, size);
    OPEN_FAILS("sum-images-idx3-ubyte.gz", NPOS_BAD_DATA, "damaged gzip");
    npi_free(bytes);
}

static void npy_of_other_kinds(void **state) {
    (void)state;
    const uint8_t values[32] = {0};
    const float floats[8] = {0};
    CHECK_OK(npi_npy_write(check_path(folder, "f.npy"), NPI_F32, 3, (int64_t[]){2, 2, 2}, floats));
    OPEN_FAILS("f.npy", NPOS_BAD_DATA, "float32 of 3 dimensions");
    CHECK_OK(
        npi_npy_write(check_path(folder, "four.npy"), NPI_U8, 4, (int64_t[]){2, 2, 2, 4}, values));
    OPEN_FAILS("four.npy", NPOS_BAD_DATA, "4 channels");
    CHECK_OK(
        npi_npy_write(check_path(folder, "none.npy"), NPI_U8, 3, (int64_t[]){0, 2, 2}, values));
    OPEN_FAILS("none.npy", NPOS_BAD_DATA, "no images");
    CHECK_OK(npi_npy_write(check_path(folder, "x.npy"), NPI_U8, 3, (int64_t[]){2, 4, 4}, values));
    OPEN_FAILS("x.npy#test", NPOS_NOT_FOUND, "no split");
    const int32_t labels[3] = {0, 1, -1};
    CHECK_OK(npi_npy_write(check_path(folder, "x_labels.npy"), NPI_I32, 1, (int64_t[]){3}, labels));
    OPEN_FAILS("x.npy", NPOS_SHAPE_MISMATCH, "x_labels.npy: 3 labels");
    CHECK_OK(
        npi_npy_write(check_path(folder, "x_labels.npy"), NPI_I32, 1, (int64_t[]){2}, labels + 1));
    OPEN_FAILS_IN("x.npy", "x_labels.npy", NPOS_BAD_DATA, "x_labels.npy: label -1 of image 1");
    CHECK_OK(npi_npy_write(check_path(folder, "x_labels.npy"), NPI_F32, 1, (int64_t[]){2}, floats));
    OPEN_FAILS_IN("x.npy", "x_labels.npy", NPOS_BAD_DATA, "x_labels.npy: labels are float32");
    put_bytes(folder, "cut.npy", "\x93NUMPY\x01\x00\x76\x00{'descr'", 18);
    OPEN_FAILS("cut.npy", NPOS_BAD_DATA, "truncated");
}

/* Every allocation of opening and loading fails once. */
static void out_of_memory(void **state) {
    (void)state;
    put_png(folder, "s/train/cat/1.png", 8, 3, 1);
    put_png(folder, "s/train/dog/2.png", 8, 3, 2);
    put_png(folder, "s/test/dog/2.png", 8, 3, 2);
    struct archive *a = pack_open(check_path(folder, "s.tar"), "tar");
    pack_png(a, "train/cat/1.png", 8, 1, 1);
    pack_png(a, "train/dog/1.png", 8, 1, 1);
    pack_close(a);
    uint8_t images[16 + 8] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2};
    uint8_t labels[8 + 2] = {0, 0, 8, 1, 0, 0, 0, 2, 0, 1};
    put_bytes(folder, "i/train-images-idx3-ubyte", images, sizeof images);
    put_bytes(folder, "i/train-labels-idx1-ubyte", labels, sizeof labels);
    put_bytes(folder, "fashion/train-images-idx3-ubyte", images, sizeof images);
    put_bytes(folder, "fashion/train-labels-idx1-ubyte", labels, sizeof labels);
    uint8_t record[3073] = {1};
    put_bytes(folder, "c/data_batch_1.bin", record, sizeof record);
    put_text(folder, "c/batches.meta.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
    const uint8_t values[32] = {0};
    CHECK_OK(npi_npy_write(check_path(folder, "x.npy"), NPI_U8, 3, (int64_t[]){2, 4, 4}, values));
    CHECK_OK(npi_npy_write(check_path(folder, "labels.npy"), NPI_U8, 1, (int64_t[]){2}, values));
    put_text(folder, "l.txt", "s/train/cat/1.png n01440764\ns/test/dog/2.png n01751748\n");
    static const char *const specs[] = {"s#train#class=cat", "s.tar#train#class!=cat",
                                        "i#train#class=1",   "c#train",
                                        "x.npy#class=0",     "fashion",
                                        "l.txt#first=1"};
    npi_transform transform = {5, 3, NPI_BILINEAR, 0};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        npos_status status = NPOS_OUT_OF_MEMORY;
        const char *spec = check_path(folder, specs[i]);
        for (int n = 1; status != NPOS_OK; n++) {
            npi_images loaded;
            size_t before = npi_memory_now();
            assert_true(n < 1000);
            npi_memory_fail_after(n);
            status = npi_images_load(spec, &transform, 0, 0, 1, NULL, NULL, &loaded);
            npi_memory_fail_after(0);
            npi_images_clear(&loaded);
            assert_true(npi_memory_now() == before);
        }
    }
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(missing_and_empty),
        CASE(files_that_are_no_images),
        CASE(images_beside_class_folders),
        CASE(splits_that_are_not_there),
        CASE(one_broken_image_is_named),
        CASE(folders_that_hold_themselves),
        CASE(archives_that_lead_out_of_themselves),
        CASE(damaged_archives),
        CASE(an_archive_that_is_a_bomb),
        CASE(damaged_cifar),
        CASE(damaged_idx),
        CASE(a_truncated_gz),
        CASE(npy_of_other_kinds),
        CASE(out_of_memory),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
