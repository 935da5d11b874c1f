/* SPECs, the formats of image sets, splits and classes. */
#include "data/make_sets.h"

#include "data/spec.h"
#include "io/npy.h"

static npi_dataset *open_set(const char *spec) {
    npi_dataset *set;
    CHECK_OK(npi_dataset_open(spec, &set));
    return set;
}

/* "FOLDER/NAME" + suffix. */
static const char *spec_of(const char *folder, const char *name_and_suffix) {
    return check_path(folder, name_and_suffix);
}

static void a_spec_is_taken_apart(void **state) {
    (void)state;
    npi_spec spec;
    CHECK_OK(npi_spec_parse("folder:some/where#train#class=a,b c#class!=7", &spec));
    assert_string_equal(spec.format->name, "folder");
    assert_string_equal(spec.path, "some/where");
    assert_int_equal(spec.split, NPI_SPLIT_TRAIN);
    assert_int_equal(spec.filter_count, 2);
    assert_int_equal(spec.filters[0].kind, NPI_FILTER_CLASS);
    assert_int_equal(spec.filters[0].count, 2);
    assert_string_equal(spec.filters[0].items[1], "b c");
    assert_int_equal(spec.filters[1].kind, NPI_FILTER_EXCLUDE);
    assert_string_equal(spec.filters[1].items[0], "7");
    npi_spec_clear(&spec);
    CHECK_OK(npi_spec_parse("s3:bucket/x", &spec)); /* no format of ours: part of the path */
    assert_null(spec.format);
    assert_string_equal(spec.path, "s3:bucket/x");
    assert_int_equal(spec.split, NPI_SPLIT_ALL);
    npi_spec_clear(&spec);
}

static void wrong_specs_say_what_is_wrong(void **state) {
    (void)state;
    npi_spec spec;
    CHECK_FAILS(npi_spec_parse("x#tset", &spec), NPOS_INVALID_ARGUMENT, "SPEC 'x#tset': #tset");
    assert_non_null(strstr(npos_error_hint(), "#class=A,B"));
    CHECK_FAILS(npi_spec_parse("#train", &spec), NPOS_INVALID_ARGUMENT, "no path");
    CHECK_FAILS(npi_spec_parse("", &spec), NPOS_INVALID_ARGUMENT, "no path");
    CHECK_FAILS(npi_spec_parse("x#class=a#train", &spec), NPOS_INVALID_ARGUMENT, "stand first");
    CHECK_FAILS(npi_spec_parse("x#train#test", &spec), NPOS_INVALID_ARGUMENT, "only split");
    CHECK_FAILS(npi_spec_parse("x#class=", &spec), NPOS_INVALID_ARGUMENT, "names no class");
    CHECK_FAILS(npi_spec_parse("x#class=,,", &spec), NPOS_INVALID_ARGUMENT, "names no class");
    CHECK_FAILS(npi_spec_parse("x#class=@no/such/list", &spec), NPOS_NOT_FOUND, "no/such/list");
    CHECK_FAILS(npi_spec_parse("x#first=0", &spec), NPOS_INVALID_ARGUMENT, "from 1 on");
    CHECK_FAILS(npi_spec_parse("x#first=", &spec), NPOS_INVALID_ARGUMENT, "from 1 on");
    CHECK_FAILS(npi_spec_parse("x#first=3x", &spec), NPOS_INVALID_ARGUMENT, "from 1 on");
    CHECK_FAILS(npi_spec_parse("x#first=3#test", &spec), NPOS_INVALID_ARGUMENT, "stand first");
    CHECK_FAILS(
        npi_spec_parse("x#class=1#class=1#class=1#class=1#class=1#class=1#class=1#class=1#class=1",
                       &spec),
        NPOS_INVALID_ARGUMENT, "more than 8");
}

static void a_path_may_hold_a_hash_or_a_colon(void **state) {
    (void)state;
    char *folder = check_folder();
    put_png(folder, "a#b/cat/1.png", 4, 1, 1);
    put_png(folder, "a#b/dog/1.png", 4, 1, 2);
    put_png(folder, "idx:c/cat/1.png", 4, 1, 3);
    npi_dataset *set = open_set(spec_of(folder, "a#b"));
    assert_int_equal(npi_dataset_count(set), 2);
    npi_dataset_close(set);
    set = open_set(spec_of(folder, "a#b#class=dog"));
    assert_int_equal(npi_dataset_count(set), 1);
    npi_dataset_close(set);
    set = open_set(spec_of(folder, "idx:c"));
    assert_string_equal(npi_dataset_format(set), "folder");
    npi_dataset_close(set);
    check_remove(folder);
}

static void put_split_folder(const char *folder) {
    put_png(folder, "set/train/dog/2.png", 4, 3, 12);
    put_png(folder, "set/train/cat/1.png", 4, 3, 11);
    put_png(folder, "set/train/ant/deep/er/9.png", 4, 3, 10);
    put_png(folder, "set/val/dog/3.png", 4, 3, 13);
    put_text(folder, "set/README", "nothing to see");
    put_text(folder, "set/train/labels.csv", "1,2");
    put_text(folder, "set/train/.hidden/x.bin", "x");
}

static void check_split_set(const char *folder, const char *name) {
    char spec[1200];
    snprintf(spec, sizeof spec, "%s/%s#train", folder, name);
    npi_dataset *set = open_set(spec);
    assert_int_equal(npi_dataset_count(set), 3);
    assert_int_equal(npi_dataset_classes(set), 3);
    assert_string_equal(npi_dataset_class_name(set, 0), "ant");
    assert_non_null(strstr(name_of(set, 0), "train/ant/deep/er/9.png"));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(npi_dataset_label(set, i), i);
        assert_int_equal(first_value(set, i), 10 + i);
    }
    assert_string_equal(npi_dataset_spec(set), spec);
    npi_dataset_close(set);
    assert_true(npi_dataset_has_split(spec, "train"));
    assert_true(npi_dataset_has_split(spec, "test"));
    assert_false(npi_dataset_has_split(spec, "else"));
    snprintf(spec, sizeof spec, "%s/%s#test", folder, name);
    set = open_set(spec); /* val answers; numbered as in training */
    assert_int_equal(npi_dataset_count(set), 1);
    assert_int_equal(npi_dataset_classes(set), 3);
    assert_int_equal(npi_dataset_label(set, 0), 2);
    npi_dataset_close(set);
    snprintf(spec, sizeof spec, "%s/%s", folder, name);
    set = open_set(spec);
    assert_int_equal(npi_dataset_count(set), 4);
    npi_dataset_close(set);
}

static void a_folder_of_class_folders_with_splits(void **state) {
    (void)state;
    char *folder = check_folder();
    put_split_folder(folder);
    check_split_set(folder, "set");
    check_remove(folder);
}

static void pack_split_set(const char *path, const char *what, const char *top) {
    static const struct {
        const char *name;
        int value;
    } members[] = {{"train/dog/2.png", 12},
                   {"train/cat/1.png", 11},
                   {"val/dog/3.png", 13},
                   {"train/ant/deep/er/9.png", 10}};
    struct archive *a = pack_open(path, what);
    char name[200];
    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        snprintf(name, sizeof name, "%s%s", top, members[i].name);
        pack_png(a, name, 4, 3, members[i].value);
    }
    snprintf(name, sizeof name, "%sLICENSE", top);
    pack_bytes(a, name, "free", 4);
    pack_close(a);
}

static void archives_are_the_folder_they_were_packed_from(void **state) {
    (void)state;
    static const char *const kinds[] = {"tar", "tar.gz", "tar.xz", "zip"};
    static const char *const tops[] = {"", "./", "set-1.0/"};
    char *folder = check_folder();
    for (int kind = 0; kind < 4; kind++)
        for (int top = 0; top < 3; top++) {
            /* the name says nothing: the content does */
            pack_split_set(check_path(folder, "packed"), kinds[kind], tops[top]);
            check_split_set(folder, "packed");
            npi_dataset *set = open_set(spec_of(folder, "packed"));
            assert_string_equal(npi_dataset_format(set), "archive");
            npi_dataset_close(set);
        }
    check_remove(folder);
}

static void a_common_folder_above_the_classes_is_left_out(void **state) {
    (void)state;
    char *folder = check_folder();
    struct archive *a = pack_open(check_path(folder, "t.tar"), "tar");
    pack_png(a, "dtd/images/banded/1.png", 4, 1, 1);
    pack_png(a, "dtd/images/d\xc3\xb6tted/1.png", 4, 1, 2); /* a name beyond ASCII */
    pack_bytes(a, "dtd/labels/train1.txt", "x", 1);
    pack_close(a);
    npi_dataset *set = open_set(spec_of(folder, "t.tar"));
    assert_int_equal(npi_dataset_classes(set), 2);
    assert_string_equal(npi_dataset_class_name(set, 1), "d\xc3\xb6tted");
    npi_dataset_close(set);
    assert_false(npi_dataset_has_split(spec_of(folder, "t.tar"), "test"));
    put_png(folder, "one/only/1.png", 4, 1, 1); /* a single class stays a class */
    set = open_set(spec_of(folder, "one"));
    assert_int_equal(npi_dataset_classes(set), 1);
    assert_string_equal(npi_dataset_class_name(set, 0), "only");
    npi_dataset_close(set);
    put_png(folder, "c/apple/1.png", 4, 1, 1); /* CIFAR-100 has a class "train" */
    put_png(folder, "c/train/1.png", 4, 1, 1);
    set = open_set(spec_of(folder, "c"));
    assert_int_equal(npi_dataset_classes(set), 2);
    npi_dataset_close(set);
    check_remove(folder);
}

static void flat_folders_and_single_files_have_no_labels(void **state) {
    (void)state;
    char *folder = check_folder();
    put_png(folder, "f/b.png", 4, 1, 2);
    put_png(folder, "f/a.PNG", 4, 1, 1);
    put_png(folder, "f/without_ending", 4, 1, 3);
    npi_dataset *set = open_set(spec_of(folder, "f"));
    assert_int_equal(npi_dataset_count(set), 3);
    assert_int_equal(npi_dataset_classes(set), 0);
    assert_int_equal(npi_dataset_label(set, 0), -1);
    assert_string_equal(name_of(set, 0), "a.PNG");
    assert_int_equal(first_value(set, 2), 3);
    npi_dataset_close(set);
    npi_dataset *none;
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "f#class=1"), &none), NPOS_INVALID_ARGUMENT,
                "without labels");
    set = open_set(spec_of(folder, "f/b.png"));
    assert_string_equal(npi_dataset_format(set), "image");
    assert_int_equal(npi_dataset_count(set), 1);
    assert_int_equal(first_value(set, 0), 2);
    npi_dataset_close(set);
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "f/b.png#test"), &none), NPOS_NOT_FOUND,
                "single image");
    check_remove(folder);
}

/* flat:PATH takes images wherever they lie. */
static void flat_takes_all_images(void **state) {
    (void)state;
    char folder[512], spec[700], command[1200];
    snprintf(folder, sizeof folder, "%s", check_folder());
    put_png(folder, "m/z.png", 4, 1, 9);
    put_png(folder, "m/train/cat/1.png", 4, 1, 1);
    put_png(folder, "m/deep/er/and/deeper/2.png", 4, 1, 2);
    put_png(folder, "m/test/3.png", 4, 1, 3);
    put_text(folder, "m/README", "side files are passed over here, too");
    snprintf(command, sizeof command, "tar -czf '%s/m.tar.gz' -C '%s' m", folder, folder);
    assert_int_equal(system(command), 0);
    npi_dataset *set;
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "m"), &set), NPOS_BAD_DATA,
                "beside class folders");
    assert_non_null(strstr(npos_error_hint(), "flat:"));
    static const char *const names[] = {"deep/er/and/deeper/2.png", "test/3.png", "train/cat/1.png",
                                        "z.png"};
    static const int values[] = {2, 3, 1, 9};
    for (int archive = 0; archive < 2; archive++) {
        snprintf(spec, sizeof spec, "flat:%s/m%s", folder, archive ? ".tar.gz" : "");
        set = open_set(spec);
        assert_int_equal(npi_dataset_count(set), 4);
        assert_int_equal(npi_dataset_classes(set), 0);
        for (int i = 0; i < 4; i++) {
            assert_string_equal(name_of(set, i) + (archive ? 2 : 0), names[i]);
            assert_int_equal(first_value(set, i), values[i]);
        }
        npi_dataset_close(set);
        strcat(spec, "#train");
        CHECK_FAILS(npi_dataset_open(spec, &set), NPOS_NOT_FOUND, "flat: takes all images");
        assert_false(npi_dataset_has_split(spec, "train"));
    }
    check_remove(folder);
}

static void classes_are_chosen_and_renumbered(void **state) {
    (void)state;
    static const char *const names[] = {"ant", "bee", "cat", "dog", "12"};
    char *folder = check_folder(), name[64];
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "s/%s/%d.png", names[i], k);
            put_png(folder, name, 4, 1, 10 * i + k);
        }
    /* sorted: 12 ant bee cat dog */
    npi_dataset *set = open_set(spec_of(folder, "s#class=dog,ant"));
    assert_int_equal(npi_dataset_count(set), 4);
    assert_int_equal(npi_dataset_classes(set), 2);
    assert_string_equal(npi_dataset_class_name(set, 0), "ant");
    assert_int_equal(npi_dataset_label(set, 3), 1);
    assert_int_equal(first_value(set, 3), 31);
    npi_dataset_close(set);
    set = open_set(spec_of(folder, "s#class!=12,2")); /* a name, and a number: bee */
    assert_int_equal(npi_dataset_classes(set), 3);
    assert_string_equal(npi_dataset_class_name(set, 1), "cat");
    npi_dataset_close(set);
    put_text(folder, "list", "cat\r\n\nbee");
    char spec[1200];
    snprintf(spec, sizeof spec, "%s/s#class=@%s/list", folder, folder);
    set = open_set(spec);
    assert_int_equal(npi_dataset_classes(set), 2);
    assert_string_equal(npi_dataset_class_name(set, 0), "bee");
    npi_dataset_close(set);
    npi_dataset *none;
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "s#class=ca"), &none), NPOS_NOT_FOUND,
                "class 'ca' is not one of the 5 classes");
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "s#class=5"), &none), NPOS_NOT_FOUND, "class '5'");
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "s#class=dgo"), &none), NPOS_NOT_FOUND, "'dgo'");
    assert_non_null(strstr(npos_error_hint(), "'dog'"));
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "s#class=ant#class!=ant"), &none), NPOS_NOT_FOUND,
                "no image is left");
    check_remove(folder);
}

/* `count` records of CIFAR; label bytes `header`, label i % classes. */
static void put_cifar(const char *folder, const char *name, int header, int count, int classes) {
    size_t record = (size_t)header + 3072;
    uint8_t *bytes = calloc((size_t)count, record);
    for (int i = 0; i < count; i++) {
        uint8_t *at = bytes + (size_t)i * record;
        at[header - 1] = (uint8_t)(i % classes);
        for (int c = 0; c < 3; c++)
            memset(at + header + 1024 * c, 50 * c + i, 1024);
        at[header + 33] = 200; /* red of row 1, column 1 */
    }
    put_bytes(folder, name, bytes, (size_t)count * record);
    free(bytes);
}

static void cifar_10_binary(void **state) {
    (void)state;
    char *folder = check_folder();
    put_cifar(folder, "c/data_batch_1.bin", 1, 3, 10);
    put_cifar(folder, "c/data_batch_2.bin", 1, 2, 10);
    put_cifar(folder, "c/test_batch.bin", 1, 4, 10);
    put_text(folder, "c/batches.meta.txt",
             "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
    npi_dataset *set = open_set(spec_of(folder, "c#train"));
    assert_string_equal(npi_dataset_format(set), "cifar");
    assert_int_equal(npi_dataset_count(set), 5);
    assert_int_equal(npi_dataset_classes(set), 10);
    assert_string_equal(npi_dataset_class_name(set, 9), "truck");
    assert_string_equal(name_of(set, 4), "data_batch_2.bin[1]");
    npi_image image;
    CHECK_OK(npi_dataset_decode(set, 4, &image));
    assert_int_equal(image.channels, 3);
    assert_memory_equal(image.pixels, ((uint8_t[]){1, 51, 101}), 3);
    assert_memory_equal(image.pixels + 33 * 3, ((uint8_t[]){200, 51, 101}), 3);
    npi_image_clear(&image);
    npi_dataset_close(set);
    set = open_set(spec_of(folder, "c"));
    assert_int_equal(npi_dataset_count(set), 9);
    npi_dataset_close(set);
    char command[1200];
    snprintf(command, sizeof command, "tar -czf '%s/c.tgz' -C '%s' c", folder, folder);
    assert_int_equal(system(command), 0);
    set = open_set(spec_of(folder, "c.tgz#train#class=bird,dog"));
    assert_string_equal(npi_dataset_format(set), "cifar");
    assert_int_equal(npi_dataset_count(set), 1);
    assert_string_equal(npi_dataset_class_name(set, 1), "dog");
    assert_string_equal(name_of(set, 0), "data_batch_1.bin[2]");
    assert_int_equal(first_value(set, 0), 2);
    npi_dataset_close(set);
    set = open_set(spec_of(folder, "c/test_batch.bin#test#class=bird"));
    assert_int_equal(npi_dataset_count(set), 1);
    npi_dataset_close(set);
    assert_true(npi_dataset_has_split(spec_of(folder, "c"), "test"));
    npi_dataset *none;
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "c/test_batch.bin#train"), &none), NPOS_NOT_FOUND,
                "no split 'train'");
    check_remove(folder);
}

static void cifar_100_binary(void **state) {
    (void)state;
    char *folder = check_folder();
    put_cifar(folder, "c/train.bin", 2, 101, 100);
    npi_dataset *set = open_set(spec_of(folder, "c#train"));
    assert_int_equal(npi_dataset_classes(set), 100);
    assert_int_equal(npi_dataset_label(set, 99), 99);
    assert_string_equal(npi_dataset_class_name(set, 99), "99");
    npi_dataset_close(set);
    npi_dataset *none;
    CHECK_FAILS(npi_dataset_open(spec_of(folder, "c#test"), &none), NPOS_NOT_FOUND, "'test'");
    set = open_set(spec_of(folder, "c/train.bin")); /* the size tells that there are two labels */
    assert_int_equal(npi_dataset_classes(set), 100);
    npi_dataset_close(set);
    check_remove(folder);
}

/* An idx file of values i % modulus. */
static void put_idx(const char *folder, const char *name, int ndim, const int *shape, int modulus) {
    uint8_t bytes[4096] = {0, 0, 8, (uint8_t)ndim};
    size_t at = 4, count = 1;
    for (int d = 0; d < ndim; d++) {
        bytes[at + 3] = (uint8_t)shape[d];
        at += 4;
        count *= (size_t)shape[d];
    }
    for (size_t i = 0; i < count; i++)
        bytes[at++] = (uint8_t)(i % (size_t)modulus);
    char command[1200];
    size_t length = strlen(name);
    if (length > 3 && strcmp(name + length - 3, ".gz") == 0) {
        char plain[300];
        snprintf(plain, sizeof plain, "%.*s", (int)length - 3, name);
        put_bytes(folder, plain, bytes, at);
        snprintf(command, sizeof command, "gzip -n '%s/%s'", folder, plain);
        assert_int_equal(system(command), 0);
    } else {
        put_bytes(folder, name, bytes, at);
    }
}

static void idx_plain_and_gzipped(void **state) {
    (void)state;
    char *folder = check_folder();
    put_idx(folder, "m/train-images-idx3-ubyte.gz", 3, (int[]){7, 5, 4}, 20);
    put_idx(folder, "m/train-labels-idx1-ubyte", 1, (int[]){7}, 4);
    put_idx(folder, "m/t10k-images-idx3-ubyte", 3, (int[]){2, 5, 4}, 21);
    put_idx(folder, "m/t10k-labels-idx1-ubyte.gz", 1, (int[]){2}, 4);
    npi_dataset *set = open_set(spec_of(folder, "m#test"));
    assert_string_equal(npi_dataset_format(set), "idx");
    assert_int_equal(npi_dataset_count(set), 2);
    assert_int_equal(npi_dataset_classes(set), 4); /* as in training */
    assert_string_equal(name_of(set, 1), "t10k-images-idx3-ubyte[1]");
    npi_image image;
    CHECK_OK(npi_dataset_decode(set, 1, &image));
    assert_int_equal(image.height, 5);
    assert_int_equal(image.width, 4);
    assert_int_equal(image.channels, 1);
    assert_int_equal(image.pixels[0], 20);
    npi_image_clear(&image);
    npi_dataset_close(set);
    set = open_set(spec_of(folder, "m"));
    assert_int_equal(npi_dataset_count(set), 9);
    assert_int_equal(npi_dataset_label(set, 2 + 6), 2);
    npi_dataset_close(set);
    set = open_set(spec_of(folder, "m/train-images-idx3-ubyte.gz#train#class=3"));
    assert_int_equal(npi_dataset_count(set), 1);
    assert_string_equal(npi_dataset_class_name(set, 0), "3");
    npi_dataset_close(set);
    put_idx(folder, "alone", 3, (int[]){2, 3, 3}, 9);
    set = open_set(spec_of(folder, "alone"));
    assert_int_equal(npi_dataset_classes(set), 0);
    npi_dataset_close(set);
    check_remove(folder);
}

static void npy_arrays(void **state) {
    (void)state;
    char *folder = check_folder();
    uint8_t values[2 * 3 * 4 * 3];
    for (size_t i = 0; i < sizeof values; i++)
        values[i] = (uint8_t)i;
    CHECK_OK(
        npi_npy_write(check_path(folder, "x.npy"), NPI_U8, 4, (int64_t[]){2, 3, 4, 3}, values));
    npi_dataset *set = open_set(spec_of(folder, "x.npy"));
    assert_string_equal(npi_dataset_format(set), "npy");
    assert_int_equal(npi_dataset_classes(set), 0);
    npi_image image;
    CHECK_OK(npi_dataset_decode(set, 1, &image));
    assert_int_equal(image.width, 4);
    assert_memory_equal(image.pixels, values + 36, 36);
    npi_image_clear(&image);
    npi_dataset_close(set);
    const int64_t labels[2] = {2, 0};
    CHECK_OK(npi_npy_write(check_path(folder, "labels.npy"), NPI_I64, 1, (int64_t[]){2}, labels));
    set = open_set(spec_of(folder, "x.npy"));
    assert_int_equal(npi_dataset_classes(set), 3);
    assert_int_equal(npi_dataset_label(set, 0), 2);
    npi_dataset_close(set);
    const uint8_t own[2] = {1, 1}; /* X_labels.npy comes before labels.npy */
    CHECK_OK(npi_npy_write(check_path(folder, "x_labels.npy"), NPI_U8, 1, (int64_t[]){2}, own));
    set = open_set(spec_of(folder, "x.npy"));
    assert_int_equal(npi_dataset_classes(set), 2);
    npi_dataset_close(set);
    CHECK_OK(npi_npy_write(check_path(folder, "g.npy"), NPI_U8, 3, (int64_t[]){2, 6, 6}, values));
    set = open_set(spec_of(folder, "g.npy"));
    CHECK_OK(npi_dataset_decode(set, 0, &image));
    assert_int_equal(image.channels, 1);
    npi_image_clear(&image);
    npi_dataset_close(set);
    check_remove(folder);
}

static void numbered_classes_get_names(void **state) {
    (void)state;
    char *folder = check_folder();
    put_idx(folder, "m/train-images-idx3-ubyte", 3, (int[]){4, 5, 4}, 20);
    put_idx(folder, "m/train-labels-idx1-ubyte", 1, (int[]){4}, 3);
    npi_dataset *set = open_set(spec_of(folder, "m#train"));
    assert_string_equal(npi_dataset_class_name(set, 2), "2");
    npi_dataset_close(set);
    put_text(folder, "m/classes.txt", "red hat\r\nshoe\n\nsock\nnever seen\n");
    set = open_set(spec_of(folder, "m#train#class=sock,0"));
    assert_int_equal(npi_dataset_classes(set), 2);
    assert_string_equal(npi_dataset_class_name(set, 0), "red hat");
    assert_string_equal(npi_dataset_class_name(set, 1), "sock");
    npi_dataset_close(set);
    set = open_set(spec_of(folder, "m/train-images-idx3-ubyte")); /* the same file serves */
    assert_string_equal(npi_dataset_class_name(set, 1), "shoe");
    npi_dataset_close(set);
    /* a set of that name is Fashion-MNIST, unless classes.txt says otherwise */
    put_idx(folder, "Fashion-MNIST/t10k-images-idx3-ubyte", 3, (int[]){10, 2, 2}, 20);
    put_idx(folder, "Fashion-MNIST/t10k-labels-idx1-ubyte", 1, (int[]){10}, 10);
    set = open_set(spec_of(folder, "Fashion-MNIST#test#class!=5,Shirt"));
    assert_int_equal(npi_dataset_classes(set), 8);
    assert_string_equal(npi_dataset_class_name(set, 0), "T-shirt/top");
    assert_string_equal(npi_dataset_class_name(set, 7), "Ankle boot");
    npi_dataset_close(set);
    put_text(folder, "Fashion-MNIST/classes.txt", "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
    set = open_set(spec_of(folder, "Fashion-MNIST"));
    assert_string_equal(npi_dataset_class_name(set, 9), "j");
    npi_dataset_close(set);
    const uint8_t pixels[2 * 4] = {0}, labels[2] = {1, 0};
    CHECK_OK(
        npi_npy_write(check_path(folder, "m/set.npy"), NPI_U8, 3, (int64_t[]){2, 2, 2}, pixels));
    CHECK_OK(npi_npy_write(check_path(folder, "m/labels.npy"), NPI_U8, 1, (int64_t[]){2}, labels));
    set = open_set(spec_of(folder, "m/set.npy"));
    assert_string_equal(npi_dataset_class_name(set, 1), "shoe");
    npi_dataset_close(set);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_spec_is_taken_apart),
        cmocka_unit_test(wrong_specs_say_what_is_wrong),
        cmocka_unit_test(a_path_may_hold_a_hash_or_a_colon),
        cmocka_unit_test(a_folder_of_class_folders_with_splits),
        cmocka_unit_test(archives_are_the_folder_they_were_packed_from),
        cmocka_unit_test(a_common_folder_above_the_classes_is_left_out),
        cmocka_unit_test(flat_folders_and_single_files_have_no_labels),
        cmocka_unit_test(flat_takes_all_images),
        cmocka_unit_test(classes_are_chosen_and_renumbered),
        cmocka_unit_test(cifar_10_binary),
        cmocka_unit_test(cifar_100_binary),
        cmocka_unit_test(idx_plain_and_gzipped),
        cmocka_unit_test(numbered_classes_get_names),
        cmocka_unit_test(npy_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
