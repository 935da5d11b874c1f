/* The catalogue of sets, names as SPECs, the filters #first and #draw, benchmarks as OOD sets. */
#include "data/make_sets.h"

#include "data/catalogue.h"
#include "data/spec.h"
#include "jobs/ood_sets.h"

static bool hexadecimal(const char *text, size_t length) {
    return strlen(text) == length && strspn(text, "0123456789abcdef") == length;
}

static void check_file(const npi_data_set *set, const npi_data_file *file) {
    assert_null(strchr(file->name, '/'));
    assert_true(file->url[0] || set->by_hand);
    for (int u = 0; u < 2 && file->url[u]; u++)
        assert_true(strncmp(file->url[u], "http", 4) == 0 && strstr(file->url[u], file->name));
    if (file->checksum && strncmp(file->checksum, "md5:", 4) == 0)
        assert_true(hexadecimal(file->checksum + 4, 32));
    else if (file->checksum)
        assert_true(strncmp(file->checksum, "sha256:", 7) == 0 &&
                    hexadecimal(file->checksum + 7, 64));
}

/* Every row is whole: a set can be found, fetched into a place where it is then looked for, or told how to be had. */
static void rows_are_whole(void **state) {
    (void)state;
    const npi_data_set *set;
    for (int i = 0; (set = npi_catalogue_set(i)) != NULL; i++) {
        assert_ptr_equal(npi_catalogue_find(set->name), set);
        assert_null(npi_catalogue_find_benchmark(set->name));
        assert_true(set->title && set->licence && set->test && set->home && set->place[0]);
        assert_true(set->roles > 0 && set->roles < 8);
        assert_true(set->by_hand || set->file[0].name);
        bool found = set->by_hand != NULL;
        for (int p = 0; p < NPI_SET_PLACES && set->place[p]; p++) {
            char put[256];
            npi_spec spec;
            snprintf(put, sizeof put, "%s%s%s", set->home, *set->home && set->top ? "/" : "",
                     set->top ? set->top : "");
            found = found || strncmp(set->place[p], put, strlen(put)) == 0;
            snprintf(put, sizeof put, "root/%s", set->place[p]); /* a SPEC as it stands */
            CHECK_OK(npi_spec_parse(put, &spec));
            npi_spec_clear(&spec);
        }
        if (!found)
            fail_msg("%s: what is fetched into %s is not looked for there", set->name, set->home);
        for (int f = 0; f < NPI_SET_FILES && set->file[f].name; f++)
            check_file(set, &set->file[f]);
    }
    const npi_benchmark *benchmark;
    for (int i = 0; (benchmark = npi_catalogue_benchmark(i)) != NULL; i++) {
        assert_true(benchmark->part[0].name != NULL);
        for (int p = 0; p < NPI_BENCHMARK_PARTS && benchmark->part[p].name; p++)
            assert_true(strchr(benchmark->part[p].spec, '/') ||
                        npi_catalogue_find(benchmark->part[p].spec));
    }
}

/* A root with some of the authors' folders: class folders for CIFAR-10, textures, ImageNet's classes. */
static char *make_root(void) {
    char *folder = check_folder();
    for (int i = 0; i < 6; i++) {
        char name[128];
        snprintf(name, sizeof name, "CIFAR10/%s/%s/%d.png", i < 4 ? "train" : "test",
                 i % 2 ? "dog" : "cat", i);
        put_png(folder, name, 4, 3, 10 * i);
        snprintf(name, sizeof name, "small_OOD_dataset/dtd/images/%s/%d.png",
                 i < 4 ? "banded" : "dotted", i);
        put_png(folder, name, 4, 3, 100 + 10 * i);
    }
    return folder;
}

static void names_are_specs(void **state) {
    (void)state;
    char *folder = make_root();
    npi_dataset *set;
    setenv("NPOS_DATA", folder, 1);
    assert_string_equal(npi_data_root(), folder);
    CHECK_OK(npi_dataset_open("cifar10#train", &set));
    assert_int_equal(npi_dataset_count(set), 4);
    assert_string_equal(npi_dataset_spec(set), "cifar10#train");
    npi_dataset_close(set);
    CHECK_OK(npi_dataset_open("cifar10#test#class=dog", &set));
    assert_int_equal(npi_dataset_count(set), 1);
    assert_int_equal(first_value(set, 0), 50);
    npi_dataset_close(set);
    assert_true(npi_dataset_has_split("cifar10", "test"));
    CHECK_FAILS(npi_dataset_open("svhn", &set), NPOS_NOT_FOUND,
                "small_OOD_dataset/svhn/test_32x32.mat");
    assert_non_null(strstr(npos_error_hint(), "npos data fetch svhn"));
    CHECK_FAILS(npi_dataset_open("imagenet", &set), NPOS_NOT_FOUND, "imagenet: not below");
    assert_non_null(strstr(npos_error_hint(), "image-net.org"));
    CHECK_FAILS(npi_dataset_open("openood-cifar10/tin", &set), NPOS_NOT_FOUND,
                "benchmark_imglist/cifar10/test_tin.txt");
    CHECK_FAILS(npi_dataset_open("openood-cifar10/xyz", &set), NPOS_NOT_FOUND, "no such file");
    unsetenv("NPOS_DATA");
    assert_string_equal(npi_data_root(), "datasets");
    check_remove(folder);
}

/* A folder of ImageNet-1k serves ImageNet-100; the split stands before the set's own filter. */
static void imagenet_100_is_a_part_of_imagenet(void **state) {
    (void)state;
    char *folder = check_folder();
    static const char *const some[] = {"n01440764",
                                       "n01530575"}; /* numbers 0 and 10: one of the 100 */
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "imagenet/train/%s/1.png", some[i]);
        put_png(folder, name, 4, 3, 10);
    }
    char *spec, *expected;
    CHECK_OK(npi_catalogue_spec("imagenet-100", folder, &spec));
    CHECK_OK(npi_format(&expected, "%s/imagenet#class=@imagenet-100", folder));
    assert_string_equal(spec, expected);
    npi_spec parsed;
    setenv("NPOS_DATA", folder, 1);
    CHECK_OK(npi_spec_parse("imagenet-100#train#class=n01530575", &parsed));
    assert_int_equal(parsed.split, NPI_SPLIT_TRAIN);
    assert_int_equal(parsed.filters[0].count, 100);
    assert_string_equal(parsed.filters[0].items[0], "n01530575");
    assert_int_equal(parsed.filter_count, 2);
    npi_spec_clear(&parsed);
    npi_dataset *set; /* 99 of the 100 are not there */
    CHECK_FAILS(npi_dataset_open("imagenet-100#train", &set), NPOS_NOT_FOUND,
                "is not one of the 2");
    unsetenv("NPOS_DATA");
    npi_free(spec);
    npi_free(expected);
    check_remove(folder);
}

static void first_and_draw(void **state) {
    (void)state;
    char *folder = check_folder();
    for (int i = 0; i < 12; i++) {
        char name[64];
        snprintf(name, sizeof name, "set/%c/%02d.png", 'a' + i % 3, i);
        put_png(folder, name, 4, 3, 10 * i);
        snprintf(name, sizeof name, "flat/%02d.png", i);
        put_png(folder, name, 4, 3, 10 * i);
    }
    npi_dataset *set, *again;
    CHECK_OK(npi_dataset_open(check_path(folder, "set#first=2"), &set));
    static const int values[] = {0, 30, 10, 40, 20, 50}; /* in the set's order: by name */
    assert_int_equal(npi_dataset_count(set), 6);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(first_value(set, i), values[i]);
        assert_int_equal(npi_dataset_label(set, i), i / 2);
    }
    npi_dataset_close(set);
    CHECK_OK(npi_dataset_open(check_path(folder, "set#class=c,a#first=1"), &set));
    assert_int_equal(npi_dataset_count(set), 2);
    assert_int_equal(first_value(set, 1), 20);
    npi_dataset_close(set);
    CHECK_OK(npi_dataset_open(check_path(folder, "flat#first=5"), &set));
    assert_int_equal(npi_dataset_count(set), 5);
    npi_dataset_close(set);

    CHECK_OK(npi_dataset_open(check_path(folder, "set#draw=5"), &set));
    CHECK_OK(npi_dataset_open(check_path(folder, "flat#draw=5:0"), &again));
    assert_int_equal(npi_dataset_count(set), 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(npi_dataset_label(again, i), -1);
        if (i > 0) /* in the set's order */
            assert_true(first_value(again, i) > first_value(again, i - 1));
        assert_int_equal(first_value(set, i) / 10 % 3, npi_dataset_label(set, i));
    }
    npi_dataset_close(set);
    CHECK_OK(npi_dataset_open(check_path(folder, "flat#draw=5:1"), &set));
    int equal = 0;
    for (int i = 0; i < 5; i++)
        equal += first_value(set, i) == first_value(again, i);
    assert_true(equal < 5); /* another seed, other images */
    npi_dataset_close(set);
    npi_dataset_close(again);
    CHECK_OK(npi_dataset_open(check_path(folder, "flat#draw=50"), &set));
    assert_int_equal(npi_dataset_count(set), 12);
    npi_dataset_close(set);
    static const char *const wrong[] = {"#first=0", "#first=",   "#first=2x", "#draw=-1",
                                        "#draw=5:", "#draw=5:x", "#first=1:2"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char spec[1100];
        snprintf(spec, sizeof spec, "%s%s", check_path(folder, "flat"), wrong[i]);
        CHECK_FAILS(npi_dataset_open(spec, &set), NPOS_INVALID_ARGUMENT, "expected a number");
    }
    check_remove(folder);
}

static void look_counts(void **state) {
    (void)state;
    char *folder = make_root();
    npi_data_found found;
    CHECK_OK(npi_catalogue_look(npi_catalogue_find("dtd"), folder, &found));
    assert_int_equal(found.state, NPI_DATA_INCOMPLETE);
    assert_int_equal(found.images, 6);
    npi_data_found_clear(&found);
    CHECK_OK(npi_catalogue_look(npi_catalogue_find("svhn"), folder, &found));
    assert_int_equal(found.state, NPI_DATA_MISSING);
    assert_null(found.spec);
    put_text(folder, "SVHN/test_32x32.mat", "cut short");
    CHECK_OK(npi_catalogue_look(npi_catalogue_find("svhn"), folder, &found));
    assert_int_equal(found.state, NPI_DATA_UNREADABLE);
    assert_non_null(strstr(found.why, "test_32x32.mat"));
    npi_data_found_clear(&found);
    put_text(folder, "iSUN/notes.bin", "no image");
    CHECK_OK(npi_catalogue_look(npi_catalogue_find("isun"), folder, &found));
    assert_int_equal(found.state, NPI_DATA_UNREADABLE);
    assert_non_null(strstr(found.why, "notes.bin"));
    npi_data_found_clear(&found);
    check_remove(folder);
}

static void named_ood_sets(void **state) {
    (void)state;
    const char *arguments[] = {"svhn", "near/mnist", "cifar100", "openood-cifar10/tin",
                               "far/x=some/path"};
    static const char *const expected[][3] = {{"far", "svhn", "svhn"},
                                              {"near", "mnist", "mnist#test"},
                                              {"near", "cifar100", "cifar100#test"},
                                              {"near", "tin", "openood-cifar10/tin"},
                                              {"far", "x", "some/path"}};
    npi_ood_set *sets;
    int count;
    CHECK_OK(npi_ood_specs_parse(arguments, 5, &sets, &count));
    assert_int_equal(count, 5);
    for (int i = 0; i < 5; i++) {
        assert_string_equal(sets[i].group, expected[i][0]);
        assert_string_equal(sets[i].name, expected[i][1]);
        assert_string_equal(sets[i].where, expected[i][2]);
    }
    npi_ood_sets_free(sets, count);
    const char *benchmark[] = {"openood-imagenet"};
    CHECK_OK(npi_ood_specs_parse(benchmark, 1, &sets, &count));
    assert_int_equal(count, 5); /* neither ID nor full-spectrum parts are OOD */
    assert_string_equal(sets[0].group, "near");
    assert_string_equal(sets[0].where, "openood-imagenet/ssb-hard");
    assert_string_equal(sets[4].name, "openimage-o");
    npi_ood_sets_free(sets, count);
    CHECK_OK(npi_csid_specs_parse(benchmark, 1, &sets, &count));
    assert_int_equal(count, 3);
    assert_string_equal(sets[2].name, "imagenet-r");
    assert_string_equal(sets[2].where, "openood-imagenet/imagenet-r");
    npi_ood_sets_free(sets, count);
    const char *two[] = {"openood-cifar10/cifar10c", "sketch=some/path"};
    CHECK_OK(npi_csid_specs_parse(two, 2, &sets, &count));
    assert_int_equal(count, 2);
    assert_string_equal(sets[0].where, "openood-cifar10/cifar10c");
    assert_string_equal(sets[1].name, "sketch");
    npi_ood_sets_free(sets, count);
    const char *none[] = {"openood-cifar100"}, *plain[] = {"svhn"};
    CHECK_FAILS(npi_csid_specs_parse(none, 1, &sets, &count), NPOS_INVALID_ARGUMENT,
                "no full-spectrum sets");
    CHECK_FAILS(npi_csid_specs_parse(plain, 1, &sets, &count), NPOS_INVALID_ARGUMENT,
                "expected NAME=SPEC");
    const char *twice[] = {"npos-cifar", "svhn"}, *unknown[] = {"svnh"};
    CHECK_FAILS(npi_ood_specs_parse(twice, 2, &sets, &count), NPOS_INVALID_ARGUMENT, "used twice");
    CHECK_FAILS(npi_ood_specs_parse(unknown, 1, &sets, &count), NPOS_INVALID_ARGUMENT,
                "[GROUP/]NAME=SPEC");
}

/* Every allocation on the way may fail; nothing leaks. */
static void no_allocation_is_trusted(void **state) {
    (void)state;
    char *folder = make_root();
    setenv("NPOS_DATA", folder, 1);
    size_t before = npi_memory_now();
    npos_status status = NPOS_OUT_OF_MEMORY;
    for (int64_t n = 1; status != NPOS_OK; n++) {
        npi_dataset *set = NULL;
        npi_memory_fail_after(n);
        status = npi_dataset_open("cifar10#train#draw=3:1#first=1", &set);
        npi_memory_fail_after(0);
        npi_dataset_close(set);
        assert_true(status == NPOS_OK || status == NPOS_OUT_OF_MEMORY);
        assert_int_equal(npi_memory_now(), before);
    }
    const char *arguments[] = {"npos-imagenet", "far/y=z"};
    for (int64_t n = 1; n < 200; n++) {
        npi_ood_set *sets = NULL;
        int count = 0;
        npi_memory_fail_after(n);
        status = npi_ood_specs_parse(arguments, 2, &sets, &count);
        npi_memory_fail_after(0);
        npi_ood_sets_free(sets, count);
        assert_int_equal(npi_memory_now(), before);
        if (status == NPOS_OK)
            break;
        assert_int_equal(status, NPOS_OUT_OF_MEMORY);
    }
    assert_int_equal(status, NPOS_OK);
    unsetenv("NPOS_DATA");
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_whole),
        cmocka_unit_test(names_are_specs),
        cmocka_unit_test(imagenet_100_is_a_part_of_imagenet),
        cmocka_unit_test(first_and_draw),
        cmocka_unit_test(look_counts),
        cmocka_unit_test(named_ood_sets),
        cmocka_unit_test(no_allocation_is_trusted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
