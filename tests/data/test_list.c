/* Lists of image files, OpenOOD's among them. */
#include "data/make_sets.h"

static npi_dataset *open_set(const char *folder, const char *spec) {
    npi_dataset *set;
    CHECK_OK(npi_dataset_open(check_path(folder, spec), &set));
    return set;
}

/* As OpenOOD lays out its data: lists in benchmark_imglist, images elsewhere below the same folder. */
static void benchmark_lists_find_their_images(void **state) {
    (void)state;
    char *folder = check_folder();
    put_png(folder, "images_classic/cifar10/test/airplane/0001.png", 4, 3, 10);
    put_png(folder, "images_classic/cifar10/test/cat/0001.png", 4, 3, 20);
    put_png(folder, "images_classic/cifar10/test/cat/0 2.png", 4, 3, 30);
    put_png(folder, "images_classic/mnist/1.png", 4, 1, 40);
    put_text(folder, "benchmark_imglist/cifar10/test_cifar10.txt",
             "cifar10/test/cat/0001.png 1\r\n\ncifar10/test/airplane/0001.png 0\n"
             "cifar10/test/cat/0 2.png 1");
    put_text(folder, "benchmark_imglist/cifar10/test_mnist.txt", "mnist/1.png -1\n");
    npi_dataset *set = open_set(folder, "benchmark_imglist/cifar10/test_cifar10.txt");
    assert_string_equal(npi_dataset_format(set), "list");
    assert_int_equal(npi_dataset_count(set), 3);
    assert_int_equal(npi_dataset_classes(set), 2);
    assert_string_equal(npi_dataset_class_name(set, 0), "airplane");
    assert_string_equal(npi_dataset_class_name(set, 1), "cat");
    static const int labels[] = {1, 0, 1}, values[] = {20, 10, 30}; /* in the list's order */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(npi_dataset_label(set, i), labels[i]);
        assert_int_equal(first_value(set, i), values[i]);
    }
    assert_string_equal(name_of(set, 2), "cifar10/test/cat/0 2.png");
    uint64_t stamp;
    CHECK_OK(npi_dataset_stamp(set, 0, &stamp));
    assert_true(stamp > 0);
    npi_dataset_close(set);
    set = open_set(folder, "benchmark_imglist/cifar10/test_cifar10.txt#class=cat");
    assert_int_equal(npi_dataset_count(set), 2);
    npi_dataset_close(set);
    set = open_set(folder, "benchmark_imglist/cifar10/test_mnist.txt");
    assert_int_equal(npi_dataset_classes(set), 0);
    assert_int_equal(npi_dataset_label(set, 0), -1);
    assert_int_equal(first_value(set, 0), 40);
    npi_dataset_close(set);
    check_remove(folder);
}

/* ImageNet's validation images as they are unpacked: 50,000 in one folder, and a list of their classes. */
static void flat_validation_folders(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s", check_folder());
    char name[64];
    for (int i = 1; i <= 4; i++) {
        snprintf(name, sizeof name, "val/ILSVRC2012_val_%08d.JPEG", i);
        put_png(folder, name, 4, 3, 10 * i);
    }
    put_text(
        folder, "val.txt",
        "val/ILSVRC2012_val_00000001.JPEG n01751748\nval/ILSVRC2012_val_00000002.JPEG n01440764 "
        "\r\nval/ILSVRC2012_val_00000004.JPEG n01751748\n");
    npi_dataset *set = open_set(folder, "val.txt");
    assert_int_equal(npi_dataset_count(set), 3);
    assert_int_equal(npi_dataset_classes(set), 2); /* in the order of their ids, as folders are */
    assert_string_equal(npi_dataset_class_name(set, 0), "n01440764");
    assert_int_equal(npi_dataset_label(set, 0), 1);
    assert_int_equal(npi_dataset_label(set, 1), 0);
    assert_int_equal(npi_dataset_label(set, 2), 1);
    assert_int_equal(first_value(set, 2), 40);
    npi_dataset_close(set);
    /* numbers, with the classes' names in a file */
    put_text(folder, "numbers/val.txt",
             "val/ILSVRC2012_val_00000001.JPEG 1\nval/ILSVRC2012_val_00000002.JPEG 0\n");
    put_text(folder, "numbers/classes.txt", "n01440764\nn01751748\nn02999410\n");
    set = open_set(folder, "numbers/val.txt#class=n01751748");
    assert_int_equal(npi_dataset_count(set), 1);
    assert_int_equal(first_value(set, 0), 10);
    npi_dataset_close(set);
    put_text(folder, "val.txt", "val/ILSVRC2012_val_00000001.JPEG n01751748\nx.JPEG 3\n");
    CHECK_FAILS(npi_dataset_open(check_path(folder, "val.txt"), &set), NPOS_BAD_DATA,
                "line 2 has a number as label, unlike the lines before");
    put_text(folder, "val.txt", "val/ILSVRC2012_val_00000001.JPEG 3\nx.JPEG n01751748\n");
    CHECK_FAILS(npi_dataset_open(check_path(folder, "val.txt"), &set), NPOS_BAD_DATA,
                "line 2 has a WordNet id as label, unlike the lines before");
    put_text(folder, "val.txt", "val/ILSVRC2012_val_00000001.JPEG n01751748\nn01751748 3\nx\n");
    CHECK_FAILS(npi_dataset_open(check_path(folder, "val.txt"), &set), NPOS_BAD_DATA, "line 2");
    check_remove(folder);
}

static void other_lists(void **state) {
    (void)state;
    char folder[512], text[1200];
    snprintf(folder, sizeof folder, "%s", check_folder());
    put_png(folder, "a/1.png", 4, 1, 1);
    put_png(folder, "b/1.png", 4, 1, 2);
    /* beside its images, without labels; a name is no ending */
    put_text(folder, "plain", "a/1.png\nb/1.png\n");
    npi_dataset *set = open_set(folder, "plain");
    assert_int_equal(npi_dataset_count(set), 2);
    assert_int_equal(npi_dataset_classes(set), 0);
    npi_dataset_close(set);
    /* absolute paths; a class whose images lie in two folders has a number for a name */
    snprintf(text, sizeof text, "%s/a/1.png\t3\n%s/b/1.png\t3\n", folder, folder);
    put_text(folder, "whole.txt", text);
    set = open_set(folder, "whole.txt");
    assert_int_equal(npi_dataset_classes(set), 4);
    assert_string_equal(npi_dataset_class_name(set, 3), "3");
    assert_int_equal(first_value(set, 1), 2);
    npi_dataset_close(set);
    check_remove(folder);
}

static void wrong_lists_are_named(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
        npos_status status;
    } cases[] = {
        {"a/1.png 0\nb/1.png\n", "line 2 has not a label, unlike", NPOS_BAD_DATA},
        {"a/1.png\n\nb/1.png 1\n", "line 3 has a label, unlike", NPOS_BAD_DATA},
        {"a/1.png 0\nb/1.png -1\n", "line 2 has label -1, unlike", NPOS_BAD_DATA},
        {"a/1.png -2\n", "line 1: a label of -2, expected -1", NPOS_BAD_DATA},
        {"a/1.png 99999999999999999999\n", "line 1: a label of 1048576", NPOS_BAD_DATA},
        {"c/1.png 0\n", "'c/1.png', lies below no folder above the list", NPOS_NOT_FOUND},
        {"\n \n", "lists no image", NPOS_BAD_DATA},
    };
    char *folder = check_folder();
    npi_dataset *set;
    put_png(folder, "a/1.png", 4, 1, 1);
    put_png(folder, "b/1.png", 4, 1, 2);
    char spec[600];
    snprintf(spec, sizeof spec, "list:%s/list.txt", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_text(folder, "list.txt", cases[i].text);
        CHECK_FAILS(npi_dataset_open(spec, &set), cases[i].status, cases[i].message);
    }
    put_bytes(folder, "list.txt", "a/1.png\0 0\n", 11);
    CHECK_FAILS(npi_dataset_open(spec, &set), NPOS_BAD_DATA, "zero byte");
    put_text(folder, "list.txt", "a/1.png 0\nb/2.png 1\n");
    CHECK_FAILS(npi_dataset_open(check_path(folder, "list.txt#train"), &set), NPOS_NOT_FOUND,
                "no split 'train'");
    CHECK_OK(npi_dataset_open(spec, &set));
    npi_image image;
    CHECK_FAILS(npi_dataset_decode(set, 1, &image), NPOS_NOT_FOUND, "b/2.png");
    npi_dataset_close(set);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(benchmark_lists_find_their_images),
        cmocka_unit_test(flat_validation_folders),
        cmocka_unit_test(other_lists),
        cmocka_unit_test(wrong_lists_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
