/* JPEG files decoded smaller, against Pillow's draft (tests/golden/shrunk.py); through sets of images; damaged. */
#include "data/make_sets.h"

#include "data/image_decode.h"
#include "data/resize.h"
#include "data/stream.h"
#include "io/npy.h"

static const char *const golden_folder = NPOS_SOURCE_DIR "/tests/golden/shrunk";

static file_bytes read_golden(const char *name) {
    file_bytes out = {0};
    char *bytes;
    CHECK_OK(npi_file_read(check_path(golden_folder, name), &bytes, &out.size));
    out.bytes = (uint8_t *)bytes;
    return out;
}

static void assert_near(const npi_image *image, const uint8_t *expected, const char *what) {
    int count = image->height * image->width * image->channels;
    for (int i = 0; i < count; i++)
        if (abs(image->pixels[i] - expected[i]) > 1)
            fail_msg("%s: value %d is %d, Pillow has %d", what, i, image->pixels[i], expected[i]);
}

/* One line of cases.csv; returns the shrink. */
static int check_case(char *line, const uint8_t *values) {
    char *name = strtok(line, ",");
    int size, wanted, height, width, channels, shrink, at;
    double gap;
    assert_int_equal(sscanf(strtok(NULL, ""), "%d,%d,%lf,%d,%d,%d,%d,%d", &size, &wanted, &gap,
                            &height, &width, &channels, &shrink, &at),
                     8);
    npi_transform transform = {size, wanted, NPI_BICUBIC, gap};
    npi_image image, sized;
    CHECK_OK(npi_image_read(check_path(golden_folder, name), npi_transform_least_side(&transform),
                            &image));
    assert_int_equal(image.height, height);
    assert_int_equal(image.width, width);
    assert_int_equal(image.channels, channels);
    assert_int_equal(image.shrink, shrink == 1 ? 0 : shrink);
    if (shrink > 1) {
        assert_near(&image, values + at, name);
        at += height * width * channels;
    }
    CHECK_OK(npi_transform_apply(&transform, &image, &sized));
    assert_int_equal(sized.height, size);
    assert_int_equal(sized.width, size);
    assert_int_equal(sized.channels, wanted);
    assert_int_equal(sized.shrink, 0);
    assert_near(&sized, values + at, name);
    npi_image_clear(&image);
    npi_image_clear(&sized);
    return shrink;
}

static void they_are_what_pillow_makes(void **state) {
    (void)state;
    char line[256];
    int seen[9] = {0};
    npi_npy values;
    CHECK_OK(npi_npy_read(check_path(golden_folder, "values.npy"), &values));
    FILE *file = fopen(check_path(golden_folder, "cases.csv"), "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file))
        if (line[0] != '#')
            seen[check_case(line, values.data)]++;
    fclose(file);
    npi_npy_clear(&values);
    assert_true(seen[1] >= 8 && seen[2] >= 8 && seen[4] >= 7 && seen[8] >= 14);
}

/* The shrink of a JPEG of 93 x 61 for a least side. */
static int shrink_at(file_bytes file, int least) {
    npi_image image;
    CHECK_OK(npi_image_decode(file.bytes, file.size, "a.jpg", least, &image));
    int shrink = image.shrink;
    assert_int_equal(image.stored_width, shrink ? 93 : 0);
    assert_int_equal(image.stored_height, shrink ? 61 : 0);
    npi_image_clear(&image);
    return shrink;
}

static void no_side_falls_below_the_least(void **state) {
    (void)state;
    static const struct {
        int least, shrink;
    } cases[] = {{1, 8}, {7, 8}, {8, 4}, {15, 4}, {16, 2}, {30, 2}, {31, 0}, {60000, 0}, {0, 0}};
    file_bytes file = read_golden("rgb420.jpg");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(shrink_at(file, cases[i].least), cases[i].shrink);
    npi_free(file.bytes);
    npi_transform none = {224, 3, NPI_BICUBIC, 0}, two = {224, 3, NPI_BICUBIC, 2},
                  part = {7, 3, NPI_BICUBIC, 1.5}, most = {65535, 3, NPI_BICUBIC, 2};
    assert_int_equal(npi_transform_least_side(&none), 0);
    assert_int_equal(npi_transform_least_side(&two), 448);
    assert_int_equal(npi_transform_least_side(&part), 11);
    assert_int_equal(npi_transform_least_side(&most), 0); /* no image has such a side */
    file_bytes png = make_plain_png(64, 3, 7);
    npi_image image;
    CHECK_OK(npi_image_decode(png.bytes, png.size, "a.png", 1, &image));
    assert_int_equal(image.width, 64);
    assert_int_equal(image.shrink, 0);
    npi_image_clear(&image);
    npi_free(png.bytes);
}

/* A set of the goldens' bytes in each format that holds files. */
static void put_set(char *folder, file_bytes file) {
    char list[1200];
    put_bytes(folder, "set/a.jpg", file.bytes, file.size);
    put_bytes(folder, "set/b.jpg", file.bytes, file.size);
    snprintf(list, sizeof list, "%s/set/a.jpg\n%s/set/b.jpg\n", folder, folder);
    put_text(folder, "list.txt", list);
    struct archive *a = pack_open(check_path(folder, "set.zip"), "zip");
    pack_bytes(a, "a.jpg", file.bytes, file.size);
    pack_bytes(a, "b.jpg", file.bytes, file.size);
    pack_close(a);
    a = pack_open(check_path(folder, "shard-0.tar"), "tar");
    pack_bytes(a, "a.jpg", file.bytes, file.size);
    pack_bytes(a, "a.cls", "0", 1);
    pack_bytes(a, "b.jpg", file.bytes, file.size);
    pack_bytes(a, "b.cls", "1", 1);
    pack_close(a);
}

static void check_stream(const npi_images *images, const npi_transform *transform,
                         const uint8_t *expected) {
    npi_stream_desc desc = {.images = images,
                            .transform = *transform,
                            .batch = 2,
                            .views = 1,
                            .end = images->count / 2,
                            .threads = 2,
                            .slots = 1};
    npi_stream *stream;
    npi_stream_batch batch;
    if (images->count < 2)
        return;
    CHECK_OK(npi_stream_open(&desc, &stream));
    CHECK_OK(npi_stream_next(stream, &batch));
    assert_memory_equal(batch.pixels, expected, 10 * 10 * 3);
    assert_memory_equal(batch.pixels + 10 * 10 * 3, expected, 10 * 10 * 3);
    npi_stream_close(stream);
}

/* Every format that holds files opens its set as the transform says, and gives the pixels of a file alone. */
static void sets_of_files_come_smaller(void **state) {
    (void)state;
    static const char *const specs[] = {"%s/set", "list:%s/list.txt", "archive:%s/set.zip",
                                        "webdataset:%s/shard-0.tar", "image:%s/set/a.jpg"};
    char *folder = check_folder(), spec[600];
    file_bytes file = read_golden("rgb420.jpg");
    put_set(folder, file);
    for (int gap = 0; gap < 2; gap++) {
        npi_transform transform = {10, 3, NPI_BICUBIC, gap};
        npi_image alone, sized;
        CHECK_OK(npi_image_decode(file.bytes, file.size, "a.jpg",
                                  npi_transform_least_side(&transform), &alone));
        assert_int_equal(alone.shrink, gap ? 4 : 0);
        CHECK_OK(npi_transform_apply(&transform, &alone, &sized));
        for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
            npi_images images;
            npi_image one;
            snprintf(spec, sizeof spec, specs[i], folder);
            CHECK_OK(npi_images_open(spec, &transform, 0, 0, &images));
            CHECK_OK(npi_images_decode(&images, 0, &one));
            assert_int_equal(one.width, alone.width);
            assert_memory_equal(one.pixels, alone.pixels, (size_t)(one.width * one.height * 3));
            npi_image_clear(&one);
            check_stream(&images, &transform, sized.pixels);
            CHECK_OK(npi_images_fill(&images, &transform, 2, NULL, NULL));
            assert_memory_equal(images.pixels, sized.pixels, 10 * 10 * 3);
            npi_images_clear(&images);
        }
        npi_image_clear(&alone);
        npi_image_clear(&sized);
    }
    npi_free(file.bytes);
    check_remove(folder);
}

static void crops_want_whole_images(void **state) {
    (void)state;
    file_bytes file = read_golden("rgb444.jpg");
    npi_image image, out;
    npi_transform transform = {4, 3, NPI_BILINEAR, 1};
    CHECK_OK(npi_image_decode(file.bytes, file.size, "a.jpg", 4, &image));
    CHECK_FAILS(npi_transform_crop(&transform, &image, (npi_window){0, 0, 4, 4}, &out),
                NPOS_INVALID_ARGUMENT, "decoded at 1/8 of its size");
    npi_image_clear(&image);
    npi_free(file.bytes);
}

/* Cut at every length, and every byte changed: an error or an image, never a crash, and what is an error of the
 * whole image for its header is one here. */
static void damaged_files_are_errors(void **state) {
    (void)state;
    static const char *const names[] = {"rgb420.jpg", "progressive.jpg", "cmyk.jpg"};
    size_t before = npi_memory_now();
    for (int n = 0; n < 3; n++) {
        file_bytes file = read_golden(names[n]);
        npi_image image;
        for (size_t size = 0; size < file.size; size += n == 2 ? 7 : 1) {
            char *copy = malloc(size + 1); /* of its own, so that a sanitizer sees its end */
            memcpy(copy, file.bytes, size);
            CHECK_FAILS(npi_image_decode(copy, size, "cut.jpg", 7, &image), NPOS_BAD_DATA,
                        "cut.jpg");
            assert_null(image.pixels);
            free(copy);
        }
        for (size_t at = 0; at < file.size; at += 3) {
            file.bytes[at] ^= 0xff;
            if (npi_image_decode(file.bytes, file.size, "x", 7, &image) == NPOS_OK)
                npi_image_clear(&image);
            file.bytes[at] ^= 0xff;
        }
        npi_free(file.bytes);
    }
    assert_true(npi_memory_now() == before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_are_what_pillow_makes),
        cmocka_unit_test(no_side_falls_below_the_least),
        cmocka_unit_test(sets_of_files_come_smaller),
        cmocka_unit_test(crops_want_whole_images),
        cmocka_unit_test(damaged_files_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
