#include "check.h"

#include "base/file.h"
#include "base/memory.h"
#include "jobs/settings.h"

static npos_status parse(const char *text, npi_recipe *out) {
    return npi_recipe_parse(text, strlen(text), "test.yaml", out);
}

static void a_recipe_comes_back_as_it_was_written(void **state) {
    (void)state;
    npi_recipe recipe, again;
    char *text, *second;
    CHECK_OK(parse("method: vos\nlr: 0.1\nwarmup_from: 1.0e-4\nnesterov: no\n"
                   "data: 'a \"b\" c\\d#train'\nkeep: 3\n",
                   &recipe));
    for (int comments = 0; comments < 2; comments++) {
        CHECK_OK(npi_recipe_format(&recipe, comments, &text));
        CHECK_OK(parse(text, &again));
        assert_string_equal(again.method, "vos");
        assert_true(again.lr == 0.1 && again.warmup_from == 1e-4);
        assert_false(again.nesterov);
        assert_string_equal(again.data, "a \"b\" c\\d#train");
        CHECK_OK(npi_recipe_format(&again, comments, &second));
        assert_string_equal(text, second);
        npi_free(text);
        npi_free(second);
        npi_recipe_clear(&again);
    }
    npi_recipe_clear(&recipe);
}

static void loading_follows_the_recipe_and_the_set(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t images;
        bool streams;
    } cases[] = {
        {"image_size: 224\n", 53000, false}, /* 7.98 GB */
        {"image_size: 224\n", 54000, true},
        {"image_size: 224\nloading: memory\n", 54000, false},
        {"loading: stream\n", 1, true},
        {"crop_filter: bicubic\n", 1, true},
        {"channels: 1\nimage_size: 224\nmean: 0.5\nstd: 0.2\n", 54000, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        npi_recipe recipe;
        CHECK_OK(parse(cases[i].text, &recipe));
        assert_int_equal(npi_settings_streams(&recipe, cases[i].images), cases[i].streams);
        npi_recipe_clear(&recipe);
    }
}

static void wrong_recipes_are_refused_with_place_and_reason(void **state) {
    (void)state;
    npi_recipe recipe;
    const struct {
        const char *text, *message;
        npos_status status;
    } cases[] = {
        {"lr: 0.1\nmomentun: 0.9\n", "test.yaml:2: 'momentun'", NPOS_INVALID_ARGUMENT},
        {"lr: fast\n", "'fast' is not a number", NPOS_INVALID_ARGUMENT},
        {"lr: nan\n", "'nan' is not a number", NPOS_INVALID_ARGUMENT},
        {"lr: -1\n", "outside 0 to 1000", NPOS_INVALID_ARGUMENT},
        {"batch: 2.5\n", "not a whole number", NPOS_INVALID_ARGUMENT},
        {"batch: 1e99\n", "outside", NPOS_INVALID_ARGUMENT},
        {"method: nposs\n", "not one of {npos, cider, vos, ce, clip}", NPOS_INVALID_ARGUMENT},
        {"method: npos, cider\n", "not one of", NPOS_INVALID_ARGUMENT},
        {"channels: 2\n", "not one of {1, 3}", NPOS_INVALID_ARGUMENT},
        {"nesterov: maybe\n", "neither true nor false", NPOS_INVALID_ARGUMENT},
        {"lr: 1\nlr: 2\n", "twice", NPOS_INVALID_ARGUMENT},
        {"lr: [1, 2]\n", "one plain value", NPOS_BAD_DATA},
        {"- a\n", "lines of `key: value`", NPOS_BAD_DATA},
        {"", "empty", NPOS_BAD_DATA},
        {"lr: \"1\n", "not YAML", NPOS_BAD_DATA},
        {"k: 2000\n", "does not exist in a ring of 1000", NPOS_INVALID_ARGUMENT},
        {"pick: 300\n", "pick <= select <= ring", NPOS_INVALID_ARGUMENT},
        {"crop_filter: bicubic\nloading: memory\n", "made of streamed images",
         NPOS_INVALID_ARGUMENT},
        {"loading: disk\n", "not one of {auto, memory, stream}", NPOS_INVALID_ARGUMENT},
        {"keep: 601\n", "only 600 noise vectors", NPOS_INVALID_ARGUMENT},
        {"std: '0 1 1'\n", "statistics of pixels", NPOS_INVALID_ARGUMENT},
        {"mean: '0.1 0.2'\n", "is not 1 or 3 numbers", NPOS_INVALID_ARGUMENT},
        {"warmup_epochs: 600\n", "only 500 epochs", NPOS_INVALID_ARGUMENT},
        {"lr: 1\nbase: cifar10\n", "first key", NPOS_INVALID_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_FAILS(parse(cases[i].text, &recipe), cases[i].status, cases[i].message);
    CHECK_FAILS(parse("momentun: 1", &recipe), NPOS_INVALID_ARGUMENT, "momentun");
    assert_string_equal(npos_error_hint(), "did you mean 'momentum'?");
}

static void set_names_the_nearest_key(void **state) {
    (void)state;
    npi_recipe recipe;
    CHECK_OK(npi_recipe_defaults(&recipe));
    CHECK_OK(npi_recipe_set(&recipe, "sigma=0.25"));
    assert_true(recipe.sigma == 0.25);
    CHECK_FAILS(npi_recipe_set(&recipe, "sgima=0.25"), NPOS_INVALID_ARGUMENT, "sgima");
    assert_string_equal(npos_error_hint(), "did you mean 'sigma'?");
    CHECK_FAILS(npi_recipe_set(&recipe, "sigma"), NPOS_INVALID_ARGUMENT, "expected key=value");
    CHECK_FAILS(npi_recipe_set(&recipe, "=1"), NPOS_INVALID_ARGUMENT, "expected key=value");
    npi_recipe_clear(&recipe);
}

static void every_shipped_recipe_is_sound(void **state) {
    (void)state;
    char **names;
    CHECK_OK(npi_recipe_names(&names));
    for (int i = 0; names[i]; i++) {
        npi_recipe recipe;
        CHECK_OK(npi_recipe_load(names[i], &recipe));
        assert_string_equal(recipe.name, names[i]);
        npi_recipe_clear(&recipe);
    }
    npi_names_free(names);
    npi_recipe recipe;
    CHECK_FAILS(npi_recipe_load("no-such-recipe-anywhere", &recipe), NPOS_NOT_FOUND,
                "no-such-recipe");
}

static void base_recipes_may_not_turn_in_circles(void **state) {
    (void)state;
    char *folder = check_folder();
    const char *path = check_path(folder, "loop.yaml");
    char text[1200];
    npi_recipe recipe;
    snprintf(text, sizeof text, "base: %s\n", path);
    CHECK_OK(npi_file_write(path, text, strlen(text)));
    CHECK_FAILS(npi_recipe_load(path, &recipe), NPOS_INVALID_ARGUMENT, "at most 8 deep");
    check_remove(folder);
}

static void a_base_lies_beside_its_recipe_or_in_the_installation(void **state) {
    (void)state;
    char *folder = check_folder();
    static const char *const texts[][2] = {
        {"mine.yaml", "base: ours\nlr: 0.25\n"},
        {"ours.yaml", "base: cifar10-100e\nsigma: 0.75\n"},
        {"cifar10.yaml", "base: cifar10\nlr: 0.125\n"}}; /* its own name is the installation's */
    npi_recipe recipe;
    for (int i = 0; i < 3; i++)
        CHECK_OK(npi_file_write(check_path(folder, texts[i][0]), texts[i][1], strlen(texts[i][1])));
    CHECK_OK(npi_recipe_load(check_path(folder, "mine.yaml"), &recipe));
    assert_true(recipe.lr == 0.25 && recipe.sigma == 0.75 && recipe.epochs == 100);
    npi_recipe_clear(&recipe);
    CHECK_OK(npi_recipe_load(check_path(folder, "cifar10.yaml"), &recipe));
    assert_true(recipe.lr == 0.125 && recipe.epochs == 500);
    npi_recipe_clear(&recipe);
    check_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recipe_comes_back_as_it_was_written),
        cmocka_unit_test(loading_follows_the_recipe_and_the_set),
        cmocka_unit_test(wrong_recipes_are_refused_with_place_and_reason),
        cmocka_unit_test(set_names_the_nearest_key),
        cmocka_unit_test(every_shipped_recipe_is_sound),
        cmocka_unit_test(a_base_lies_beside_its_recipe_or_in_the_installation),
        cmocka_unit_test(base_recipes_may_not_turn_in_circles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
