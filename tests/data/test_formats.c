/* Sets in formats of others, as their own libraries wrote them (tests/golden/make_formats.py). */
#include "data/make_sets.h"

#include "io/npy.h"

/* A path below the goldens, with a SPEC's suffix; four may be in use at a time. */
static const char *golden(const char *name) {
    static char folder[700];
    snprintf(folder, sizeof folder, "%s/tests/golden/formats", check_source());
    return check_path(folder, name);
}

/* The set `spec` holds images `first` to `first + count` of NAME.npy with their labels. */
static void check_part(const char *spec, const char *name, int64_t first, int64_t count) {
    char file[128];
    npi_npy images, labels;
    npi_dataset *set;
    snprintf(file, sizeof file, "%s.npy", name);
    CHECK_OK(npi_npy_read(golden(file), &images));
    snprintf(file, sizeof file, "%s_labels.npy", name);
    CHECK_OK(npi_npy_read(golden(file), &labels));
    CHECK_OK(npi_dataset_open(spec, &set));
    assert_int_equal(npi_dataset_count(set), count);
    size_t bytes = (size_t)(images.count / images.shape[0]);
    for (int64_t i = 0; i < count; i++) {
        npi_image image;
        CHECK_OK(npi_dataset_decode(set, i, &image));
        assert_int_equal(image.height, images.shape[1]);
        assert_int_equal(image.width, images.shape[2]);
        assert_int_equal(image.channels, images.shape[3]);
        assert_memory_equal(image.pixels,
                            (const uint8_t *)images.data + (size_t)(first + i) * bytes, bytes);
        assert_int_equal(npi_dataset_label(set, i), ((const int32_t *)labels.data)[first + i]);
        npi_image_clear(&image);
    }
    npi_dataset_close(set);
    npi_npy_clear(&images);
    npi_npy_clear(&labels);
}

static npi_dataset *open_set(const char *spec) {
    npi_dataset *set;
    CHECK_OK(npi_dataset_open(spec, &set));
    return set;
}

/* FOLDER/NAME becomes a copy of a golden file. */
static void copy_golden(const char *file, const char *folder, const char *name) {
    char *bytes;
    size_t size;
    CHECK_OK(npi_file_read(golden(file), &bytes, &size));
    put_bytes(folder, name, bytes, size);
    npi_free(bytes);
}

static void svhn_as_matlab_files(void **state) {
    (void)state;
    check_part(golden("svhn_test.mat"), "svhn", 0, 12);
    check_part(golden("svhn_test.mat#test"), "svhn", 0, 12);
    check_part(golden("svhn_plain.mat"), "svhn", 0, 12);
    npi_dataset *set = open_set(golden("svhn_test.mat"));
    assert_string_equal(npi_dataset_format(set), "mat");
    assert_int_equal(npi_dataset_classes(set), 10);
    assert_string_equal(npi_dataset_class_name(set, 0), "0");
    assert_string_equal(name_of(set, 3), "svhn_test.mat[3]");
    npi_dataset_close(set);
    assert_true(npi_dataset_has_split(golden("svhn_test.mat"), "test"));
    assert_false(npi_dataset_has_split(golden("svhn_test.mat"), "train"));
}

static void svhn_as_a_folder(void **state) {
    (void)state;
    char *folder = check_folder();
    copy_golden("svhn_test.mat", folder, "svhn/train_32x32.mat");
    copy_golden("svhn_plain.mat", folder, "svhn/test_32x32.mat");
    put_text(folder, "svhn/extra_32x32.mat", "has to be named itself");
    check_part(check_path(folder, "svhn#train"), "svhn", 0, 12);
    check_part(check_path(folder, "svhn#test"), "svhn", 0, 12);
    npi_dataset *set = open_set(check_path(folder, "svhn"));
    assert_int_equal(npi_dataset_count(set), 24);
    assert_string_equal(name_of(set, 12), "train_32x32.mat[0]");
    npi_dataset_close(set);
    check_remove(folder);
}

/* The reference's select_svhn_data.py: the first of each digit, in the file's order. */
static void the_first_of_each_class(void **state) {
    (void)state;
    static const int chosen[] = {0, 1, 2, 3, 4, 5, 8, 9, 10}; /* 1 9 0 3 0 1 2 9 8: two of each */
    npi_dataset *set = open_set(golden("svhn_test.mat#test#first=2"));
    assert_int_equal(npi_dataset_count(set), 9);
    char expected[64];
    for (int i = 0; i < 9; i++) {
        snprintf(expected, sizeof expected, "svhn_test.mat[%d]", chosen[i]);
        assert_string_equal(name_of(set, i), expected);
    }
    assert_int_equal(npi_dataset_label(set, 4), 0);
    npi_dataset_close(set);
    set = open_set(golden("svhn_test.mat#class=0,9#first=2"));
    assert_int_equal(npi_dataset_count(set), 4);
    assert_string_equal(name_of(set, 3), "svhn_test.mat[9]");
    assert_int_equal(npi_dataset_label(set, 3), 1);
    npi_dataset_close(set);
    char *folder = check_folder();
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "flat/%d.png", i);
        put_png(folder, name, 4, 1, i);
    }
    set = open_set(check_path(folder, "flat#first=3")); /* without labels: of all */
    assert_int_equal(npi_dataset_count(set), 3);
    assert_string_equal(name_of(set, 2), "2.png");
    npi_dataset_close(set);
    check_remove(folder);
}

/* The hash tells a subset from the whole, whichever way the pixels are read. */
static void the_first_have_a_hash_of_their_own(void **state) {
    (void)state;
    npi_transform transform = {5, 3, NPI_BILINEAR, 0};
    static const char *const specs[] = {"svhn_test.mat", "svhn_test.mat#first=1",
                                        "svhn_test.mat#first=9"};
    uint64_t loaded[3], stamped[3];
    for (int i = 0; i < 3; i++) {
        npi_images images;
        CHECK_OK(npi_images_open(golden(specs[i]), &transform, 0, 0, &images));
        CHECK_OK(npi_images_stamp(&images));
        stamped[i] = images.hash;
        assert_int_equal(images.count, i == 1 ? 6 : 12);
        assert_int_equal(images.available, images.count);
        CHECK_OK(npi_images_fill(&images, &transform, 1, NULL, NULL));
        loaded[i] = images.hash;
        npi_images_clear(&images);
    }
    assert_true(loaded[0] != loaded[1] && stamped[0] != stamped[1]);
    assert_true(loaded[0] == loaded[2] && stamped[0] == stamped[2]);
}

static void check_ten(const char *given) {
    char path[512], spec[600];
    snprintf(path, sizeof path, "%s", given);
    check_part(path, "cifar10", 0, 4);
    snprintf(spec, sizeof spec, "%s#train", path);
    check_part(spec, "cifar10", 0, 3);
    snprintf(spec, sizeof spec, "%s#test", path);
    check_part(spec, "cifar10", 3, 1);
    npi_dataset *set = open_set(spec);
    assert_string_equal(npi_dataset_format(set), "cifar-py");
    assert_int_equal(npi_dataset_classes(set), 10);
    assert_string_equal(npi_dataset_class_name(set, 3), "cat");
    assert_string_equal(name_of(set, 0), "test_batch[0]");
    npi_dataset_close(set);
    assert_true(npi_dataset_has_split(path, "train"));
    assert_true(npi_dataset_has_split(path, "test"));
}

static void unpack(const char *archive, const char *folder) {
    char command[1700];
    snprintf(command, sizeof command, "tar -xzf '%s' -C '%s'", golden(archive), folder);
    assert_int_equal(system(command), 0);
}

static void cifar_10_python(void **state) {
    (void)state;
    char *folder = check_folder();
    check_ten(golden("cifar-10-python.tar.gz"));
    unpack("cifar-10-python.tar.gz", folder);
    check_ten(check_path(folder, "cifar-10-batches-py"));
    check_part(check_path(folder, "cifar-10-batches-py/data_batch_1"), "cifar10", 0, 2);
    check_part(check_path(folder, "cifar-10-batches-py/test_batch#test"), "cifar10", 3, 1);
    npi_dataset *set = open_set(check_path(folder, "cifar-10-batches-py/data_batch_2#class=truck"));
    assert_int_equal(npi_dataset_count(set), 1);
    npi_dataset_close(set);
    check_remove(folder);
}

static void cifar_100_python(void **state) {
    (void)state;
    char *folder = check_folder();
    unpack("cifar-100-python.tar.gz", folder);
    for (int i = 0; i < 2; i++) {
        char spec[1024];
        const char *path =
            i ? check_path(folder, "cifar-100-python") : golden("cifar-100-python.tar.gz");
        check_part(path, "cifar100", 0, 2);
        snprintf(spec, sizeof spec, "%s#train", path);
        check_part(spec, "cifar100", 1, 1);
        npi_dataset *set = open_set(spec);
        assert_int_equal(npi_dataset_classes(set), 100);
        assert_string_equal(npi_dataset_class_name(set, 99), "thing 99");
        npi_dataset_close(set);
    }
    check_remove(folder);
}

static void cifar_pickled_again_by_python_3(void **state) {
    (void)state;
    check_part(golden("again_2.pickle"), "cifar10", 0, 1);
    check_part(golden("again_4.pickle"), "cifar10", 0, 1);
    check_part(golden("again_5.pickle"), "cifar10", 0, 1);
}

static void npz_archives(void **state) {
    (void)state;
    check_part(golden("named.npz#train"), "npz", 0, 5);
    check_part(golden("named.npz#test"), "npz", 7, 3);
    check_part(golden("deflated.npz"), "npz", 0, 10);
    check_part(golden("deflated.npz#test"), "npz", 8, 2); /* validation stands in for test */
    check_part(golden("plain.npz"), "npz", 0, 10);
    npi_dataset *set = open_set(golden("named.npz#test"));
    assert_string_equal(npi_dataset_format(set), "npz");
    assert_int_equal(npi_dataset_classes(set), 5); /* as in training */
    assert_string_equal(name_of(set, 2), "named.npz/test_images[2]");
    npi_dataset_close(set);
    set = open_set(golden("named.npz")); /* train, test, val */
    assert_int_equal(npi_dataset_count(set), 10);
    assert_string_equal(name_of(set, 8), "named.npz/val_images[0]");
    npi_dataset_close(set);
    assert_true(npi_dataset_has_split(golden("deflated.npz"), "test"));
    assert_false(npi_dataset_has_split(golden("plain.npz"), "test"));
    char *folder = check_folder();
    copy_golden("plain.npz", folder, "n/x.npz");
    put_text(folder, "n/classes.txt", "red\ngreen\nblue\nblack\nwhite\n");
    set = open_set(check_path(folder, "n/x.npz#class=black,white"));
    assert_int_equal(npi_dataset_count(set), 2);
    npi_dataset_close(set);
    check_remove(folder);
}

static void webdataset_shards(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", check_folder());
    check_part(golden("shard-train-000.tar"), "shards", 0, 2);
    check_part(golden("shard-train-{000..001}.tar"), "shards", 0, 4);
    check_part(golden("shard-{train,val}-*.tar"), "shards", 0, 5);
    check_part(golden("shard-*-000.tar#test"), "shards", 4, 1);
    copy_golden("shard-train-000.tar", folder, "w [1]/train-0.tar");
    copy_golden("shard-train-001.tar", folder, "w [1]/train-1.tar");
    copy_golden("shard-val-000.tar", folder, "w [1]/val-0.tar");
    put_text(folder, "w [1]/classes.txt", "red\ngreen\nblue\nwhite\n");
    check_part(check_path(folder, "w [1]"), "shards", 0, 5);
    check_part(check_path(folder, "w [1]#train"), "shards", 0, 4);
    npi_dataset *set = open_set(check_path(folder, "w [1]#test"));
    assert_string_equal(npi_dataset_format(set), "webdataset");
    assert_string_equal(npi_dataset_class_name(set, npi_dataset_label(set, 0)), "white");
    assert_string_equal(name_of(set, 0), "val-0.tar/0005.png");
    uint64_t stamp;
    CHECK_OK(npi_dataset_stamp(set, 0, &stamp));
    assert_true(stamp > 0);
    npi_dataset_close(set);
    assert_true(npi_dataset_has_split(check_path(folder, "w [1]"), "test"));
    assert_false(npi_dataset_has_split(check_path(folder, "w [1]/val-0.tar"), "train"));
    check_remove(folder);
}

/* GNU tar's long names, hidden members, samples without labels, an image beside others. */
static void webdataset_of_other_makers(void **state) {
    (void)state;
    char *folder = check_folder(), name[256];
    file_bytes png = make_plain_png(4, 3, 7);
    struct archive *a = pack_open(check_path(folder, "x.tar"), "tar");
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "./%0200d.json", i);
        pack_bytes(a, name, "{\"caption\": \"a dog\"}", 20);
        snprintf(name, sizeof name, "./%0200d.PNG", i);
        pack_bytes(a, name, png.bytes, png.size);
        snprintf(name, sizeof name, "./%0200d.txt", i);
        pack_bytes(a, name, "a dog", 5);
    }
    pack_bytes(a, "._hidden.png", "no image", 8);
    pack_close(a);
    npi_free(png.bytes);
    npi_dataset *set = open_set(check_path(folder, "x.tar"));
    assert_string_equal(npi_dataset_format(set), "webdataset");
    assert_int_equal(npi_dataset_count(set), 3);
    assert_int_equal(npi_dataset_classes(set), 0);
    snprintf(name, sizeof name, "x.tar/%0200d.PNG", 2);
    assert_string_equal(name_of(set, 2), name);
    assert_int_equal(first_value(set, 2), 7);
    npi_dataset_close(set);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(svhn_as_matlab_files),
        cmocka_unit_test(svhn_as_a_folder),
        cmocka_unit_test(the_first_of_each_class),
        cmocka_unit_test(the_first_have_a_hash_of_their_own),
        cmocka_unit_test(cifar_10_python),
        cmocka_unit_test(cifar_100_python),
        cmocka_unit_test(cifar_pickled_again_by_python_3),
        cmocka_unit_test(npz_archives),
        cmocka_unit_test(webdataset_shards),
        cmocka_unit_test(webdataset_of_other_makers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
