/* Resize and transform against what Pillow and torchvision gave (tests/golden/images.py, make_formats.py). */
#include "data/make_sets.h"
#include "data/resize.h"

#include <zlib.h>

static const char *golden(const char *name) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/images/%s", NPOS_SOURCE_DIR, name);
    return path;
}

static unsigned long checksum(const npi_image *image) {
    return crc32(0, image->pixels, (unsigned)(image->height * image->width * image->channels));
}

/* Calls `check` for each case of a .csv; returns how many there were. */
static int each_case(const char *name, void (*check)(const char *line)) {
    char line[256];
    int count = 0;
    FILE *file = fopen(golden(name), "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (line[0] != '#') {
            check(line);
            count++;
        }
    fclose(file);
    return count;
}

static void check_resize(const char *line) {
    int height, width, channels, kind, out_height, out_width, filter;
    float box[4];
    unsigned long expected;
    assert_int_equal(sscanf(line, "%d,%d,%d,%d,%d,%d,%d,%f,%f,%f,%f,%lx", &height, &width,
                            &channels, &kind, &out_height, &out_width, &filter, &box[0], &box[1],
                            &box[2], &box[3], &expected),
                     12);
    npi_image in = make_pattern(height, width, channels, kind), out;
    CHECK_OK(
        npi_resize(&in, out_height, out_width, filter ? NPI_BICUBIC : NPI_BILINEAR, box, &out));
    assert_int_equal(out.height, out_height);
    assert_int_equal(out.width, out_width);
    if (checksum(&out) != expected)
        fail_msg("differs from Pillow: %s", line);
    npi_image_clear(&in);
    npi_image_clear(&out);
}

static void resize_is_pillows_bit_for_bit(void **state) {
    (void)state;
    assert_true(each_case("resize.csv", check_resize) >= 200);
}

static void check_transform(const char *line) {
    int height, width, channels, kind, size, wanted, filter;
    unsigned long expected;
    assert_int_equal(sscanf(line, "%d,%d,%d,%d,%d,%d,%d,%lx", &height, &width, &channels, &kind,
                            &size, &wanted, &filter, &expected),
                     8);
    npi_image in = make_pattern(height, width, channels, kind), out;
    npi_transform transform = {size, wanted, filter ? NPI_BICUBIC : NPI_BILINEAR, 0};
    CHECK_OK(npi_transform_apply(&transform, &in, &out));
    assert_int_equal(out.height, size);
    assert_int_equal(out.width, size);
    assert_int_equal(out.channels, wanted);
    if (checksum(&out) != expected)
        fail_msg("differs from torchvision: %s", line);
    npi_image_clear(&in);
    npi_image_clear(&out);
}

static void transform_is_torchvisions_bit_for_bit(void **state) {
    (void)state;
    assert_true(each_case("transform.csv", check_transform) >= 400);
}

/* CLIP's sizes, photographs, slivers. */
static void large_and_odd_images_are_pillows(void **state) {
    (void)state;
    assert_true(each_case("photographs.csv", check_transform) >= 60);
}

static void check_crop(const char *line) {
    int height, width, channels, kind, size, wanted, filter;
    npi_window crop;
    unsigned long expected;
    assert_int_equal(sscanf(line, "%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%d,%lx", &height, &width,
                            &channels, &kind, &crop.top, &crop.left, &crop.rows, &crop.columns,
                            &size, &wanted, &filter, &expected),
                     12);
    npi_image in = make_pattern(height, width, channels, kind), out;
    npi_transform transform = {size, wanted, filter ? NPI_BICUBIC : NPI_BILINEAR, 0};
    CHECK_OK(npi_transform_crop(&transform, &in, crop, &out));
    assert_int_equal(out.height, size);
    assert_int_equal(out.width, size);
    assert_int_equal(out.channels, wanted);
    if (checksum(&out) != expected)
        fail_msg("differs from torchvision: %s", line);
    npi_image_clear(&in);
    npi_image_clear(&out);
}

static void crop_is_torchvisions_bit_for_bit(void **state) {
    (void)state;
    assert_true(each_case("crop.csv", check_crop) >= 200);
}

static void an_image_of_the_size_is_untouched(void **state) {
    (void)state;
    npi_image in = make_pattern(32, 32, 3, 0), out;
    npi_transform transform = {32, 3, NPI_BICUBIC, 0};
    CHECK_OK(npi_transform_apply(&transform, &in, &out));
    assert_memory_equal(in.pixels, out.pixels, 32 * 32 * 3);
    npi_image_clear(&in);
    npi_image_clear(&out);
}

/* 1 x 60000 to 224: the whole resized image would have 3 thousand million pixels. */
static void a_very_long_image_costs_no_more_than_its_middle(void **state) {
    (void)state;
    npi_image in = make_pattern(60000, 1, 1, 0), out;
    npi_transform transform = {224, 3, NPI_BILINEAR, 0};
    size_t before = npi_memory_peak();
    CHECK_OK(npi_transform_apply(&transform, &in, &out));
    assert_true(npi_memory_peak() - before < 4 << 20);
    assert_int_equal(out.height, 224);
    npi_image_clear(&in);
    npi_image_clear(&out);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    npi_image in = make_pattern(8, 8, 1, 0), out;
    CHECK_FAILS(npi_resize(&in, 0, 8, NPI_BILINEAR, NULL, &out), NPOS_INVALID_ARGUMENT, "8 x 0");
    const float outside[4] = {0, 0, 9, 8}, empty[4] = {4, 4, 4, 8};
    CHECK_FAILS(npi_resize(&in, 8, 8, NPI_BILINEAR, outside, &out), NPOS_INVALID_ARGUMENT, "box");
    CHECK_FAILS(npi_resize(&in, 8, 8, NPI_BILINEAR, empty, &out), NPOS_INVALID_ARGUMENT, "box");
    npi_transform nothing = {0, 3, NPI_BILINEAR, 0}, alpha = {8, 4, NPI_BILINEAR, 0};
    CHECK_FAILS(npi_transform_apply(&nothing, &in, &out), NPOS_INVALID_ARGUMENT, "size 0");
    CHECK_FAILS(npi_transform_apply(&alpha, &in, &out), NPOS_INVALID_ARGUMENT, "4 channels");
    const npi_window beside[] = {{0, 1, 8, 8}, {-1, 0, 4, 4}, {0, 0, 0, 4}, {4, 4, 5, 4}};
    npi_transform plain = {8, 1, NPI_BILINEAR, 0};
    for (int i = 0; i < 4; i++)
        CHECK_FAILS(npi_transform_crop(&plain, &in, beside[i], &out), NPOS_INVALID_ARGUMENT,
                    "leaves the image of 8 x 8");
    npi_image_clear(&in);
}

/* Every allocation of a transform or a crop fails once: an error each time, and nothing is left
 * over. */
static void out_of_memory_is_an_error(void **state) {
    (void)state;
    npi_image in = make_pattern(20, 30, 3, 0), out;
    npi_transform transform = {9, 1, NPI_BICUBIC, 0};
    const npi_window part = {3, 4, 12, 20};
    size_t before = npi_memory_now();
    for (int crop = 0; crop < 2; crop++) {
        npos_status status = NPOS_OUT_OF_MEMORY;
        for (int n = 1; status != NPOS_OK; n++) {
            assert_true(n < 100);
            npi_memory_fail_after(n);
            status = crop ? npi_transform_crop(&transform, &in, part, &out)
                          : npi_transform_apply(&transform, &in, &out);
            npi_memory_fail_after(0);
            if (status != NPOS_OK) {
                assert_int_equal(status, NPOS_OUT_OF_MEMORY);
                assert_true(npi_memory_now() == before);
            }
        }
        npi_image_clear(&out);
    }
    npi_image_clear(&in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resize_is_pillows_bit_for_bit),
        cmocka_unit_test(transform_is_torchvisions_bit_for_bit),
        cmocka_unit_test(large_and_odd_images_are_pillows),
        cmocka_unit_test(crop_is_torchvisions_bit_for_bit),
        cmocka_unit_test(an_image_of_the_size_is_untouched),
        cmocka_unit_test(a_very_long_image_costs_no_more_than_its_middle),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
