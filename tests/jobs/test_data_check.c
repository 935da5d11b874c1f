/* npos_data_check on a small world with one of each fault. */
#include "data/make_sets.h"

#include <jansson.h>
#include <math.h>
#include <sys/resource.h>

#include "jobs/data_contact.h"
#include "jobs/data_statistics.h"
#include "npos/npos.h"

static char folder[512];

/* A picture of its own for each number: coarse blocks. */
static void put_picture(const char *name, int side, int number, int light) {
    uint8_t rows[64 * 64 * 3];
    uint32_t state = 12345u + (uint32_t)number * 7919u, blocks[64];
    for (int i = 0; i < 64; i++) {
        state = state * 1664525u + 1013904223u;
        blocks[i] = state >> 24;
    }
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < 3; c++) {
                uint32_t value = blocks[(y * 8 / side) * 8 + x * 8 / side] * 200 / 255 + 20 +
                                 (uint32_t)(5 * c + light);
                rows[3 * (y * side + x) + c] = (uint8_t)value;
            }
    file_bytes png =
        make_png(side, side, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, rows, (size_t)(3 * side));
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    CHECK_OK(npi_make_folders(path));
    *slash = '/';
    CHECK_OK(npi_file_write(path, png.bytes, png.size));
    npi_free(png.bytes);
}

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", check_folder());
    for (int i = 0; i < 12; i++) {
        char name[64];
        snprintf(name, sizeof name, "id/train/%s/%02d.png", i % 2 ? "frog" : "automobile", i);
        put_picture(name, 32, i, 0);
        snprintf(name, sizeof name, "id/test/%s/%02d.png", i % 2 ? "frog" : "automobile", i);
        put_picture(name, 32, 100 + i, 0);
        snprintf(name, sizeof name, "ood/%s/%02d.png",
                 i < 3   ? "Tree_Frog"
                 : i < 5 ? "frog"
                         : "teapot",
                 i);
        put_picture(name, 32, 200 + i, 0);
    }
    put_picture("id/train/frog/again.png", 32, 1, 0); /* repeats 01.png */
    put_picture("id/test/frog/leak.png", 32, 3, 0);   /* a copy of training's 03.png */
    put_picture("id/test/automobile/leak.png", 40, 4,
                6); /* larger and brighter: nearly training's 04.png */
    put_png(folder, "ood/teapot/grey.png", 32, 1, 90); /* grey, and of one brightness */
    put_picture("ood/teapot/tiny.png", 8, 300, 0);
    put_text(folder, "ood/teapot/broken.png", "\x89PNG\r\n\x1a\nand no more");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

static json_t *read_json(const char *name) {
    json_error_t error;
    json_t *root = json_load_file(check_path(folder, name), 0, &error);
    if (!root)
        fail_msg("%s: %s", name, error.text);
    return root;
}

static long long integer(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        fail_msg("JSON has no whole number '%s'", key);
    return json_integer_value(value);
}

static json_t *named(json_t *list, const char *key, const char *name, const char *key2,
                     const char *name2) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i,
                       item) if (strcmp(json_string_value(json_object_get(item, key)), name) == 0 &&
                                 (!key2 || strcmp(json_string_value(json_object_get(item, key2)),
                                                  name2) == 0)) return item;
    fail_msg("no item with %s '%s'", key, name);
    return NULL;
}

static void options_of(npos_data_check_options *options, const char *const *ood) {
    npos_data_check_options_init(options);
    options->data = check_path(folder, "id");
    options->ood = ood;
    options->ood_count = 1;
}

static void each_fault_is_found(void **state) {
    (void)state;
    char set[600], *table = NULL;
    size_t size;
    snprintf(set, sizeof set, "far/things=%s/ood", folder);
    const char *ood[] = {set};
    npos_data_check_options options;
    options_of(&options, ood);
    char json[600], html[600];
    snprintf(json, sizeof json, "%s/check.json", folder);
    snprintf(html, sizeof html, "%s/check.html", folder);
    options.json = json;
    options.html = html;
    options.table = open_memstream(&table, &size);
    CHECK_FAILS(npos_data_check(&options), NPOS_BAD_DATA, "things: 1 image cannot be read");
    fclose(options.table);
    assert_non_null(strstr(npos_error_message(), "broken.png"));

    json_t *root = read_json("check.json"), *sets = json_object_get(root, "sets");
    assert_int_equal(json_array_size(sets), 3);
    json_t *train = named(sets, "name", "train", NULL, NULL),
           *things = named(sets, "name", "things", NULL, NULL);
    assert_string_equal(json_string_value(json_object_get(things, "part")), "ood");
    assert_string_equal(json_string_value(json_object_get(things, "group")), "far");
    assert_int_equal(integer(train, "images"), 13);
    assert_int_equal(
        integer(named(json_object_get(train, "classes"), "name", "frog", NULL, NULL), "images"), 7);
    assert_int_equal(integer(things, "images"), 15);
    assert_int_equal(integer(things, "broken"), 1);
    assert_int_equal(integer(things, "grey"), 1);
    assert_int_equal(integer(things, "flat"), 1);
    assert_int_equal(integer(things, "tiny"), 1);
    json_t *copies = json_object_get(root, "duplicates");
    assert_int_equal(json_array_size(copies), 9);
    json_t *inside = named(copies, "of", "train", "in", "train"),
           *leak = named(copies, "of", "test", "in", "train");
    assert_int_equal(integer(inside, "exact"), 1);
    assert_int_equal(integer(inside, "near"), 0);
    assert_int_equal(integer(leak, "exact"), 1);
    assert_int_equal(integer(leak, "near"), 1);
    assert_int_equal(integer(named(copies, "of", "train", "in", "test"), "exact"), 1);
    assert_int_equal(integer(named(copies, "of", "things", "in", "train"), "near"), 0);
    json_t *examples = json_object_get(leak, "examples");
    assert_int_equal(json_array_size(examples), 2);
    const char *leaked = json_string_value(
        json_object_get(json_object_get(json_array_get(examples, 0), "b"), "name"));
    assert_non_null(strstr(leaked, "leak.png"));
    json_t *overlaps = json_object_get(root, "overlaps");
    assert_int_equal(json_array_size(overlaps), 2);
    json_t *tree = named(overlaps, "class", "Tree_Frog", NULL, NULL),
           *same = named(overlaps, "class", "frog", NULL, NULL);
    assert_true(json_is_false(json_object_get(tree, "same")) &&
                json_is_true(json_object_get(same, "same")));
    assert_string_equal(json_string_value(json_object_get(tree, "id_class")), "frog");
    assert_int_equal(integer(tree, "images"), 3);
    assert_true(json_is_null(json_object_get(root, "statistics")));
    json_decref(root);

    assert_non_null(strstr(table, "train: automobile 6, frog 7"));
    assert_non_null(strstr(table, "broken: things: "));
    assert_non_null(strstr(table, "warning: test: 1 of 14 images has a copy in train"));
    assert_non_null(strstr(table, "2 classes with 5 images are called like ID classes"));
    free(table);
    char *page;
    CHECK_OK(npi_file_read(html, &page, &size));
    assert_non_null(strstr(page, "the same pixels"));
    assert_non_null(strstr(page, "leak.png"));
    assert_non_null(strstr(page, "broken.png"));
    assert_non_null(strstr(page, "data:image/png;base64,"));
    assert_non_null(
        strstr(page, ".sheet{display:grid")); /* rows of images, not one below the other */
    npi_free(page);
}

/* "cars" and the WordNet id of "tailed frog" are called like "automobile" and "frog". */
static void synonyms_are_known(void **state) {
    (void)state;
    char set[600];
    snprintf(set, sizeof set, "far/other=%s/synonyms", folder);
    put_picture("synonyms/cars/1.png", 32, 901, 0);
    put_picture("synonyms/cards/2.png", 32, 902, 0);
    put_picture("synonyms/n01644900_tailed/3.png", 32, 903, 0);
    const char *ood[] = {set};
    npos_data_check_options options;
    options_of(&options, ood);
    char json[600];
    snprintf(json, sizeof json, "%s/synonyms.json", folder);
    options.json = json;
    CHECK_OK(npos_data_check(&options));
    json_t *root = read_json("synonyms.json"), *overlaps = json_object_get(root, "overlaps");
    assert_int_equal(json_array_size(overlaps), 2);
    json_t *cars = named(overlaps, "class", "cars", NULL, NULL),
           *frog = named(overlaps, "class", "n01644900_tailed", NULL, NULL);
    assert_string_equal(json_string_value(json_object_get(cars, "id_class")), "automobile");
    assert_true(json_is_true(json_object_get(cars, "same")));
    assert_string_equal(json_string_value(json_object_get(frog, "id_class")), "frog");
    assert_true(json_is_false(json_object_get(frog, "same")));
    json_decref(root);
}

static char *check_text(npos_data_check_options *options) {
    char *json;
    size_t size;
    char path[600];
    snprintf(path, sizeof path, "%s/same.json", folder);
    options->json = path;
    assert_int_equal(npos_data_check(options), NPOS_BAD_DATA);
    options->json = NULL;
    CHECK_OK(npi_file_read(path, &json, &size));
    return json;
}

static void threads_do_not_matter(void **state) {
    (void)state;
    char set[600];
    snprintf(set, sizeof set, "things=%s/ood", folder);
    const char *ood[] = {set};
    npos_data_check_options options;
    options_of(&options, ood);
    options.compute.threads = 1;
    char *one = check_text(&options);
    options.compute.threads = 7;
    char *seven = check_text(&options);
    assert_string_equal(one, seven);
    npi_free(one);
    npi_free(seven);
}

static npos_status check_recipe(const char *mean, const char *std, int any) {
    char recipe[600], text[300];
    snprintf(recipe, sizeof recipe, "%s/r.yaml", folder);
    snprintf(text, sizeof text, "name: r\nmean: \"%s\"\nstd: \"%s\"\n", mean, std);
    CHECK_OK(npi_file_write(recipe, text, strlen(text)));
    npos_data_check_options options;
    npos_data_check_options_init(&options);
    options.data = check_path(folder, "id#train");
    options.recipe = recipe;
    options.any_statistics = any;
    return npos_data_check(&options);
}

static void the_recipes_statistics(void **state) {
    (void)state;
    json_t *root;
    npos_data_check_options options;
    npos_data_check_options_init(&options);
    options.data = check_path(folder, "id#train");
    options.json = check_path(folder, "plain.json");
    CHECK_OK(npos_data_check(&options));
    root = read_json("plain.json");
    json_t *set = json_array_get(json_object_get(root, "sets"), 0);
    char mean[64], std[64];
    double m[3], s[3];
    for (size_t c = 0; c < 3; c++) {
        m[c] = json_number_value(json_array_get(json_object_get(set, "mean"), c));
        s[c] = json_number_value(json_array_get(json_object_get(set, "std"), c));
    }
    assert_true(m[0] > 0.3 && m[0] < 0.7 && fabs(m[2] - m[0] - 10.0 / 255) < 1e-9 &&
                fabs(s[2] - s[0]) < 1e-9);
    json_decref(root);
    snprintf(mean, sizeof mean, "%.4f %.4f %.4f", m[0], m[1], m[2]);
    snprintf(std, sizeof std, "%.4f %.4f %.4f", s[0], s[1], s[2]);
    CHECK_OK(check_recipe(mean, std, 0));
    CHECK_FAILS(check_recipe("0.1 0.1 0.1", std, 0), NPOS_BAD_DATA,
                "normalises with statistics that differ");
    assert_non_null(strstr(npos_error_hint(), "--any-statistics"));
    CHECK_OK(check_recipe("0.1 0.1 0.1", std, 1));
    snprintf(mean, sizeof mean, "%.4f %.4f %.4f", m[0] + 0.02, m[1], m[2]);
    CHECK_OK(check_recipe(mean, std, 0)); /* doubtful, and of no other set */
}

static npi_statistics stats(double a, double b, double c, double x, double y, double z) {
    return (npi_statistics){3, {a, b, c}, {x, y, z}};
}

/* CIFAR-10's images, as they come from JPEG, with each recipe that is about. */
static void statistics_are_told_apart(void **state) {
    (void)state;
    npi_statistics images = stats(0.4913, 0.4821, 0.4465, 0.2452, 0.2428, 0.2606),
                   cifar10 = stats(0.4914, 0.4822, 0.4465, 0.2471, 0.2435, 0.2616),
                   authors = stats(0.4914, 0.4822, 0.4465, 0.2023, 0.1994, 0.2010),
                   cifar100 = stats(0.5071, 0.4867, 0.4408, 0.2675, 0.2565, 0.2761),
                   imagenet = stats(0.485, 0.456, 0.406, 0.229, 0.224, 0.225),
                   half = stats(0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
                   near = stats(0.49, 0.48, 0.46, 0.25, 0.24, 0.26), grey = {1, {0.2860}, {0.3530}},
                   nan = stats(NAN, 0.48, 0.44, 0.24, 0.24, 0.26);
    assert_int_equal(npi_statistics_judge(&cifar10, &images), NPI_FIT_GOOD);
    assert_int_equal(npi_statistics_judge(&authors, &images), NPI_FIT_WRONG);
    assert_int_equal(npi_statistics_judge(&cifar100, &images), NPI_FIT_WRONG);
    assert_int_equal(npi_statistics_judge(&imagenet, &images), NPI_FIT_WRONG);
    assert_int_equal(npi_statistics_judge(&half, &images), NPI_FIT_WRONG);
    assert_int_equal(npi_statistics_judge(&near, &images), NPI_FIT_DOUBTFUL);
    assert_int_equal(npi_statistics_judge(&grey, &images), NPI_FIT_WRONG);
    assert_int_equal(npi_statistics_judge(&nan, &images), NPI_FIT_WRONG);
    assert_string_equal(npi_statistics_known(&images, 0.01), "CIFAR-10");
    assert_string_equal(npi_statistics_known(&cifar100, 0.0011), "CIFAR-100");
    assert_null(npi_statistics_known(&near, 0.0011));
}

/* Where a good part of a set looks alike, near ones are no leak. */
static void alike_pictures_are_a_note(void **state) {
    (void)state;
    char train[600], test[600], *table;
    size_t size;
    for (int i = 0; i < 6; i++) {
        char name[64];
        snprintf(name, sizeof name, "alike/%s/%d.png", i < 4 ? "a" : "b", i);
        put_picture(name, 32, 500, 2 * i);
    }
    snprintf(train, sizeof train, "%s/alike/a", folder);
    snprintf(test, sizeof test, "%s/alike/b", folder);
    npos_data_check_options options;
    npos_data_check_options_init(&options);
    options.train = train;
    options.test = test;
    options.table = open_memstream(&table, &size);
    CHECK_OK(npos_data_check(&options));
    fclose(options.table);
    assert_non_null(
        strstr(table, "note: test: 2 of 2 images are nearly equal to one of train; so many"));
    assert_null(strstr(table, "warning"));
    free(table);
}

static void contact_cells(void **state) {
    (void)state;
    npi_image wide = make_pattern(10, 20, 1, 0), cell;
    CHECK_OK(npi_contact_cell(&wide, 64, 7, &cell)); /* three times as large, in the middle */
    assert_int_equal(cell.channels, 3);
    assert_int_equal(cell.pixels[0], 7);
    int top = (64 - 30) / 2, left = (64 - 60) / 2;
    for (int y = 0; y < 30; y++)
        for (int x = 0; x < 60; x++)
            assert_int_equal(cell.pixels[3 * ((top + y) * 64 + left + x) + 1],
                             wide.pixels[y / 3 * 20 + x / 3]);
    npi_image_clear(&cell);
    npi_image_clear(&wide);
    wide = make_pattern(2, 400, 3, 2);
    CHECK_OK(npi_contact_cell(&wide, 64, 0, &cell)); /* a line of one pixel remains */
    assert_true(cell.pixels[3 * (31 * 64 + 10)] + cell.pixels[3 * (32 * 64 + 10)] > 0);
    npi_image_clear(&cell);
    npi_image_clear(&wide);
}

static void wrong_use(void **state) {
    (void)state;
    npos_data_check_options options;
    npos_data_check_options_init(&options);
    CHECK_FAILS(npos_data_check(&options), NPOS_INVALID_ARGUMENT, "no set to check");
    options.data = check_path(folder, "nothing");
    CHECK_FAILS(npos_data_check(&options), NPOS_NOT_FOUND, "nothing");
    options.data = check_path(folder, "id");
    options.train = check_path(folder, "id#train");
    CHECK_FAILS(npos_data_check(&options), NPOS_INVALID_ARGUMENT, "two sets are called 'train'");
    options.train = NULL;
    options.near = 16;
    CHECK_FAILS(npos_data_check(&options), NPOS_INVALID_ARGUMENT, "at most 15");
    options.near = -1;
    CHECK_OK(npos_data_check(&options));
    options.recipe = "no-such-recipe";
    assert_int_equal(npos_data_check(&options), NPOS_NOT_FOUND);
    options.recipe = NULL;
    options.html = check_path(folder, "not/there.html");
    assert_int_equal(npos_data_check(&options), NPOS_IO);
    options.html = NULL;
    options.json = check_path(folder, "not/there.json");
    assert_int_equal(npos_data_check(&options), NPOS_IO);
    options.struct_size = 8;
    CHECK_FAILS(npos_data_check(&options), NPOS_INVALID_ARGUMENT, "npos_data_check_options_init");
}

/* Fails each allocation in turn, on one thread. */
static void no_allocation_is_trusted(void **state) {
    (void)state;
    char set[600];
    snprintf(set, sizeof set, "things=%s/ood#class=frog,Tree_Frog", folder);
    const char *ood[] = {set};
    npos_data_check_options options;
    options_of(&options, ood);
    options.compute.threads = 1;
    char html[600];
    snprintf(html, sizeof html, "%s/oom.html", folder);
    options.html = html;
    npos_status status = NPOS_OUT_OF_MEMORY;
    size_t before = npi_memory_now();
    for (int64_t n = 1; status != NPOS_OK; n += n < 150 ? 1 : 23) {
        npi_memory_fail_after(n);
        status = npos_data_check(&options);
        npi_memory_fail_after(0);
        if (status != NPOS_OK && status != NPOS_OUT_OF_MEMORY)
            fail_msg("allocation %lld: %s: %s", (long long)n, npos_status_name(status),
                     npos_error_message());
        assert_int_equal(npi_memory_now(), before);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synonyms_are_known),
        cmocka_unit_test(each_fault_is_found),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(the_recipes_statistics),
        cmocka_unit_test(statistics_are_told_apart),
        cmocka_unit_test(alike_pictures_are_a_note),
        cmocka_unit_test(contact_cells),
        cmocka_unit_test(wrong_use),
        cmocka_unit_test(no_allocation_is_trusted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
