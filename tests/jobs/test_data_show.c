/* npos_data_show: the sheet, read back by libpng, has each image where it belongs and the class's name above. */
#include "data/make_sets.h"

#include "npos/npos.h"

enum { GAP = 4, LABEL = 24 };

static char folder[512];

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "%s", check_folder());
    for (int i = 0; i < 12; i++) {
        char name[64];
        snprintf(name, sizeof name, "set/%s/%02d.png", i < 8 ? "one" : "two", i);
        put_png(folder, name, 16, 3, 10 * i);
        snprintf(name, sizeof name, "flat/%02d.png", i);
        put_png(folder, name, 16, 1, 10 * i);
    }
    return 0;
}

static int teardown(void **state) {
    (void)state;
    check_remove(folder);
    return 0;
}

static npos_status show(const char *spec, int rows, int columns, npi_image *out) {
    char sheet[600];
    npos_data_show_options options;
    npos_data_show_options_init(&options);
    snprintf(sheet, sizeof sheet, "%s/sheet.png", folder);
    options.data = check_path(folder, spec);
    options.out = sheet;
    options.rows = rows;
    options.columns = columns;
    options.size = 32;
    NPI_TRY(npos_data_show(&options));
    return npi_image_read(sheet, 0, out);
}

static int value_at(const npi_image *sheet, int row, int column, int label) {
    int top = GAP + row * (32 + GAP + label) + label + 16, left = GAP + column * (32 + GAP) + 16;
    return sheet->pixels[3 * (top * sheet->width + left)];
}

static void rows_are_classes(void **state) {
    (void)state;
    npi_image sheet;
    CHECK_OK(show("set", 20, 4, &sheet));
    assert_int_equal(sheet.width, GAP + 4 * (32 + GAP));
    assert_int_equal(sheet.height, GAP + 2 * (32 + GAP + LABEL));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(value_at(&sheet, 0, i, LABEL), 20 * i);      /* every second of eight */
        assert_int_equal(value_at(&sheet, 1, i, LABEL), 80 + 10 * i); /* all four */
    }
    int ink = 0;
    for (int y = GAP; y < LABEL; y++)
        for (int x = 0; x < sheet.width; x++)
            ink += sheet.pixels[3 * (y * sheet.width + x)] == 40;
    assert_true(ink > 40 && ink < 400);               /* "one" */
    assert_int_equal(sheet.pixels[0], 255);           /* paper */
    assert_int_equal(sheet.pixels[3 * GAP + 1], 255); /* the gap above the name */
    npi_image_clear(&sheet);
    CHECK_OK(show("set", 1, 4, &sheet)); /* fewer rows than classes */
    assert_int_equal(sheet.height, GAP + 32 + GAP + LABEL);
    npi_image_clear(&sheet);
    CHECK_OK(show("flat", 2, 3, &sheet)); /* without labels */
    assert_int_equal(sheet.height, GAP + 2 * (32 + GAP));
    assert_int_equal(value_at(&sheet, 0, 1, 0), 20);
    assert_int_equal(value_at(&sheet, 1, 2, 0), 100);
    npi_image_clear(&sheet);
    CHECK_OK(show("flat", 50, 3, &sheet)); /* more places than images */
    assert_int_equal(sheet.width, GAP + 32 + GAP);
    npi_image_clear(&sheet);
}

static void broken_images_are_passed_over(void **state) {
    (void)state;
    npi_image sheet;
    put_text(folder, "cut/a/0.png", "\x89PNG\r\n\x1a\n");
    put_png(folder, "cut/a/1.png", 16, 3, 70);
    put_png(folder, "cut/b/2.png", 16, 3, 90);
    CHECK_OK(show("cut", 2, 1, &sheet));
    assert_int_equal(value_at(&sheet, 0, 0, LABEL), 70);
    assert_int_equal(value_at(&sheet, 1, 0, LABEL), 90);
    npi_image_clear(&sheet);
    CHECK_FAILS(show("cut#class=a#first=1", 2, 1, &sheet), NPOS_BAD_DATA, "none of the images");
}

static void wrong_use(void **state) {
    (void)state;
    npi_image sheet;
    npos_data_show_options options;
    npos_data_show_options_init(&options);
    CHECK_FAILS(npos_data_show(&options), NPOS_INVALID_ARGUMENT, "'data' is missing");
    options.data = check_path(folder, "set");
    CHECK_FAILS(npos_data_show(&options), NPOS_INVALID_ARGUMENT, "'out' is missing");
    options.out = check_path(folder, "not/there.png");
    assert_int_equal(npos_data_show(&options), NPOS_IO);
    CHECK_FAILS(show("set", 0, 4, &sheet), NPOS_INVALID_ARGUMENT, "0 rows");
    CHECK_FAILS(show("set", 1000, 1000, &sheet), NPOS_INVALID_ARGUMENT, "expected 1 to");
    CHECK_FAILS(show("sets", 4, 4, &sheet), NPOS_NOT_FOUND, "sets");
    options.size = 4;
    CHECK_FAILS(npos_data_show(&options), NPOS_INVALID_ARGUMENT, "images of 4 pixels");
    options.struct_size = 1;
    CHECK_FAILS(npos_data_show(&options), NPOS_INVALID_ARGUMENT, "npos_data_show_options_init");
}

static void no_allocation_is_trusted(void **state) {
    (void)state;
    size_t before = npi_memory_now();
    npos_status status = NPOS_OUT_OF_MEMORY;
    for (int64_t n = 1; status != NPOS_OK; n++) {
        npi_image sheet = {0};
        npi_memory_fail_after(n);
        status = show("set", 2, 2, &sheet);
        npi_memory_fail_after(0);
        npi_image_clear(&sheet);
        assert_true(status == NPOS_OK || status == NPOS_OUT_OF_MEMORY);
        assert_int_equal(npi_memory_now(), before);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_classes),
        cmocka_unit_test(broken_images_are_passed_over),
        cmocka_unit_test(wrong_use),
        cmocka_unit_test(no_allocation_is_trusted),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
