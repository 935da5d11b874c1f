/* Decoding against Pillow (tests/golden/images.py, make_formats.py), and damaged files. */
#include "data/make_sets.h"

#include <dirent.h>
#include <zlib.h>

#include "data/image_decode.h"
#include "io/npy.h"

static const char *const golden_folder = NPOS_SOURCE_DIR "/tests/golden/images";

static bool ends_with(const char *name, const char *ending) {
    size_t a = strlen(name), b = strlen(ending);
    return a > b && strcmp(name + a - b, ending) == 0;
}

/* Every golden file: JPEG and lossy WebP within 1 of Pillow, all others equal. */
static void files_decode_as_pillow_decodes_them(void **state) {
    (void)state;
    DIR *folder = opendir(golden_folder);
    assert_non_null(folder);
    int files = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        bool lossy = ends_with(entry->d_name, ".jpg") || strncmp(entry->d_name, "lossy", 5) == 0;
        if (entry->d_name[0] == '.' || ends_with(entry->d_name, ".npy") ||
            ends_with(entry->d_name, ".csv"))
            continue;
#ifndef NPI_HAVE_WEBP
        if (ends_with(entry->d_name, ".webp"))
            continue;
#endif
        char expected_name[300];
        snprintf(expected_name, sizeof expected_name, "%s.npy", entry->d_name);
        npi_image image;
        npi_npy expected;
        CHECK_OK(npi_image_read(check_path(golden_folder, entry->d_name), 0, &image));
        CHECK_OK(npi_npy_read(check_path(golden_folder, expected_name), &expected));
        assert_int_equal(image.height, expected.shape[0]);
        assert_int_equal(image.width, expected.shape[1]);
        assert_int_equal(image.channels, expected.ndim == 3 ? expected.shape[2] : 1);
        const uint8_t *pixels = expected.data;
        for (int64_t i = 0; i < expected.count; i++)
            if (abs(image.pixels[i] - pixels[i]) > (lossy ? 1 : 0))
                fail_msg("%s: value %lld is %d, Pillow has %d", entry->d_name, (long long)i,
                         image.pixels[i], pixels[i]);
        npi_image_clear(&image);
        npi_npy_clear(&expected);
        files++;
    }
    closedir(folder);
    assert_true(files >= 80);
}

static npi_image decode(file_bytes file) {
    npi_image image;
    CHECK_OK(npi_image_decode(file.bytes, file.size, "made.png", 0, &image));
    npi_free(file.bytes);
    return image;
}

static void grey_of_few_bits_spans_the_range(void **state) {
    (void)state;
    const uint8_t two_bits[1] = {0x1b}, four_bits[2] = {0x0f, 0x71};
    npi_image image = decode(make_png(1, 4, 2, PNG_COLOR_TYPE_GRAY, 0, two_bits, 1));
    assert_memory_equal(image.pixels, ((uint8_t[]){0, 85, 170, 255}), 4);
    npi_image_clear(&image);
    image = decode(make_png(1, 4, 4, PNG_COLOR_TYPE_GRAY, 0, four_bits, 2));
    assert_memory_equal(image.pixels, ((uint8_t[]){0, 255, 119, 17}), 4);
    npi_image_clear(&image);
}

/* But of grey, which Pillow clips. */
static void of_16_bits_the_upper_8_count(void **state) {
    (void)state;
    const uint8_t rgb[12] = {1, 200, 2, 100, 255, 255, 128, 0, 127, 255, 0, 255};
    npi_image image = decode(make_png(1, 2, 16, PNG_COLOR_TYPE_RGB, 0, rgb, 12));
    assert_int_equal(image.channels, 3);
    assert_memory_equal(image.pixels, ((uint8_t[]){1, 2, 255, 128, 127, 0}), 6);
    npi_image_clear(&image);
    image = decode(make_png(1, 2, 16, PNG_COLOR_TYPE_GRAY, 0, rgb, 4));
    assert_int_equal(image.channels, 1);
    assert_memory_equal(image.pixels, ((uint8_t[]){255, 255}), 2);
    npi_image_clear(&image);
    image = decode(make_png(1, 1, 16, PNG_COLOR_TYPE_RGBA, 0, rgb, 8));
    assert_int_equal(image.channels, 3);
    assert_memory_equal(image.pixels, ((uint8_t[]){1, 2, 255}), 3);
    npi_image_clear(&image);
}

static void an_interlaced_png_is_the_same_image(void **state) {
    (void)state;
    npi_image pattern = make_pattern(19, 23, 3, 0);
    npi_image image = decode(
        make_png(19, 23, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_ADAM7, pattern.pixels, 23 * 3));
    assert_memory_equal(image.pixels, pattern.pixels, 19 * 23 * 3);
    npi_image_clear(&image);
    npi_image_clear(&pattern);
}

/* Cut at every length: an error that names the file, never a crash, never an image. */
static void check_cuts(file_bytes file, size_t tail) {
    size_t before = npi_memory_now();
    npi_image image;
    for (size_t size = 0; size + tail < file.size; size++) {
        char *copy = malloc(size + 1); /* of its own, so that a sanitizer sees its end */
        memcpy(copy, file.bytes, size);
        CHECK_FAILS(npi_image_decode(copy, size, "cut.img", 0, &image), NPOS_BAD_DATA, "cut.img");
        assert_null(image.pixels);
        free(copy);
    }
    assert_true(npi_memory_now() == before);
}

static void truncated_files_are_errors(void **state) {
    (void)state;
    npi_image pattern = make_pattern(16, 24, 3, 0), image;
    file_bytes jpeg = make_jpeg(&pattern, 80);
    check_cuts(jpeg, 0);
    CHECK_FAILS(npi_image_decode(jpeg.bytes, jpeg.size / 2, "half.jpg", 0, &image), NPOS_BAD_DATA,
                "half.jpg: damaged JPEG");
    npi_free(jpeg.bytes);
    file_bytes png = make_png(16, 24, 8, PNG_COLOR_TYPE_RGB, 0, pattern.pixels, 24 * 3);
    check_cuts(png, 12 + 4 + 8); /* the closing chunk and the checksums before it hold no pixels */
    npi_free(png.bytes);
    npi_image_clear(&pattern);
}

/* The golden files of the smaller formats, and the bytes at their ends that hold no pixels. */
static const struct {
    const char *name;
    size_t tail;
} small_files[] = {
    {"rgb_lossless.webp", 0}, {"lossy_rgba.webp", 0}, {"lossless_animated.webp", 0},
    {"rgb.bmp", 1},           {"palette4.bmp", 1},    {"masks_rgba.bmp", 0},
    {"rle8.bmp", 2},          {"rle4.bmp", 2},        {"rgb.ppm", 0},
    {"plain_wide.pgm", 6},    {"plain.pbm", 1},       {"bits1.pbm", 0},
};
enum { SMALL_FILES = sizeof small_files / sizeof *small_files };

static file_bytes read_small(int i) {
    file_bytes out = {0};
    char *bytes;
#ifndef NPI_HAVE_WEBP
    if (ends_with(small_files[i].name, ".webp"))
        return out;
#endif
    CHECK_OK(npi_file_read(check_path(golden_folder, small_files[i].name), &bytes, &out.size));
    out.bytes = (uint8_t *)bytes;
    return out;
}

/* An animation's second frame is not looked at: only what is cut before it is missed. */
static void smaller_formats_cut_and_changed(void **state) {
    (void)state;
    size_t before = npi_memory_now();
    for (int i = 0; i < SMALL_FILES; i++) {
        file_bytes file = read_small(i);
        npi_image image;
        if (!file.bytes)
            continue;
        bool animated = strstr(small_files[i].name, "animated") != NULL;
        if (!animated)
            check_cuts(file, small_files[i].tail);
        for (size_t at = 0; at < file.size; at++) {
            for (int flip = 1; flip < 256; flip = 2 * flip + 1) {
                file.bytes[at] ^= (uint8_t)flip;
                if (npi_image_decode(file.bytes, animated ? at : file.size, "x", 0, &image) ==
                    NPOS_OK)
                    npi_image_clear(&image);
                file.bytes[at] ^= (uint8_t)flip;
            }
        }
        npi_free(file.bytes);
    }
    assert_true(npi_memory_now() == before);
}

static void headers_that_lie(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
        npos_status status;
    } cases[] = {
        {"P6 99999 1 255\n", "99999 x 1 pixels cannot come", NPOS_BAD_DATA},
        {"P5 65535 65535 255\n", "65535 x 65535 pixels cannot come", NPOS_BAD_DATA},
        {"P5 99999999999 1 255\n", "a number beyond", NPOS_BAD_DATA},
        {"P5 0 4 255\n", "says it is 0 x 4", NPOS_BAD_DATA},
        {"P5 2 2 0\n1234", "values up to 0", NPOS_BAD_DATA},
        {"P5 2 2 65536\n12345678", "values up to 65536", NPOS_BAD_DATA},
        {"P5 2 -2 255\n1234", "byte 0x2d where a number", NPOS_BAD_DATA},
        {"P5 2x2 255\n1234", "byte 0x78 behind a number", NPOS_BAD_DATA},
        {"P2 2 2 255\n1 2 3 256", "a value of 256, the header says at most 255", NPOS_BAD_DATA},
        {"P1 2 2\n1021", "byte 0x32 where 0 or 1", NPOS_BAD_DATA},
        {"P5 # no end of this", "truncated", NPOS_BAD_DATA},
    };
    npi_image image;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_FAILS(npi_image_decode(cases[i].text, strlen(cases[i].text), "x.pnm", 0, &image),
                    cases[i].status, cases[i].message);
    static const struct {
        size_t at;
        const char *bytes;
        size_t count;
        const char *message;
        npos_status status;
    } bitmaps[] = {
        {14, "\x29", 1, "header size 41", NPOS_UNSUPPORTED},
        {18, "\xff\xff\xff\x7f", 4, "says it is 2147483647", NPOS_BAD_DATA},
        {18, "\xff\xff\xff\xff\xff\xff\xff\x7f", 8, "says it is 4294967295", NPOS_BAD_DATA},
        {18, "\x00\x20\x00\x00\x00\x20\x00\x00", 8, "8192 x 8192 pixels cannot", NPOS_BAD_DATA},
        {10, "\xff\xff\xff\xff", 4, "truncated", NPOS_BAD_DATA},
        {28, "\x05", 1, "depth 5", NPOS_UNSUPPORTED},
        {30, "\x04", 1, "compression 4", NPOS_UNSUPPORTED},
        {30, "\x03", 1, "with masks", NPOS_UNSUPPORTED},
        {30, "\x01", 1, "compression 1", NPOS_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof bitmaps / sizeof *bitmaps; i++) {
        file_bytes file = read_small(3);
        memcpy(file.bytes + bitmaps[i].at, bitmaps[i].bytes, bitmaps[i].count);
        CHECK_FAILS(npi_image_decode(file.bytes, file.size, "x.bmp", 0, &image), bitmaps[i].status,
                    bitmaps[i].message);
        npi_free(file.bytes);
    }
    file_bytes file = read_small(4);
    memcpy(file.bytes + 46, "\xff\xff\xff", 3); /* colors of the palette */
    CHECK_FAILS(npi_image_decode(file.bytes, file.size, "x.bmp", 0, &image), NPOS_UNSUPPORTED,
                "palette size");
    memcpy(file.bytes + 46, "\xff\xff\0", 3);
    CHECK_FAILS(npi_image_decode(file.bytes, file.size, "x.bmp", 0, &image), NPOS_BAD_DATA,
                "truncated");
    npi_free(file.bytes);
}

static void files_that_are_no_images_are_named(void **state) {
    (void)state;
    npi_image image;
    CHECK_FAILS(npi_image_decode("", 0, "empty.png", 0, &image), NPOS_BAD_DATA,
                "empty.png: the file is empty");
    CHECK_FAILS(npi_image_decode("GIF89a", 6, "a.gif", 0, &image), NPOS_BAD_DATA,
                "a.gif: not an image of a kind");
    CHECK_FAILS(npi_image_read("no/such.jpg", 0, &image), NPOS_NOT_FOUND, "no/such.jpg");
}

static void put_u32(uint8_t *to, uint32_t value) {
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (24 - 8 * i));
}

static void absurd_sizes_are_refused(void **state) {
    (void)state;
    npi_image image, pattern = make_pattern(8, 8, 3, 0);
    file_bytes png = make_plain_png(8, 3, 0);
    for (int side = 20000; side <= 60000; side += 20000) {
        put_u32(png.bytes + 16, (uint32_t)side);
        put_u32(png.bytes + 20, (uint32_t)side);
        put_u32(png.bytes + 29, (uint32_t)crc32(0, png.bytes + 12, 17));
        CHECK_FAILS(npi_image_decode(png.bytes, png.size, "huge.png", 0, &image), NPOS_BAD_DATA,
                    "huge.png: the image says it is");
    }
    put_u32(png.bytes + 16, 10000); /* a legal size, but not in so few bytes */
    put_u32(png.bytes + 20, 10000);
    put_u32(png.bytes + 29, (uint32_t)crc32(0, png.bytes + 12, 17));
    CHECK_FAILS(npi_image_decode(png.bytes, png.size, "bomb.png", 0, &image), NPOS_BAD_DATA,
                "bomb.png: 10000 x 10000 pixels cannot come from");
    npi_free(png.bytes);
    file_bytes jpeg = make_jpeg(&pattern, 80);
    uint8_t *frame = memmem(jpeg.bytes, jpeg.size, "\xff\xc0", 2);
    assert_non_null(frame);
    memcpy(frame + 5, "\xea\x60\xea\x60", 4); /* 60000 x 60000 */
    CHECK_FAILS(npi_image_decode(jpeg.bytes, jpeg.size, "huge.jpg", 0, &image), NPOS_BAD_DATA,
                "huge.jpg: the image says it is 60000 x 60000");
    memcpy(frame + 5, "\x27\x10\x27\x10", 4);
    CHECK_FAILS(npi_image_decode(jpeg.bytes, jpeg.size, "bomb.jpg", 0, &image), NPOS_BAD_DATA,
                "bomb.jpg: 10000 x 10000 pixels cannot come from");
    npi_free(jpeg.bytes);
    npi_image_clear(&pattern);
}

static void check_memory(file_bytes file) {
    size_t before = npi_memory_now();
    npos_status status = NPOS_OUT_OF_MEMORY;
    npi_image image;
    for (int n = 1; status != NPOS_OK; n++) {
        npi_memory_fail_after(n);
        status = npi_image_decode(file.bytes, file.size, "a.img", 0, &image);
        npi_memory_fail_after(0);
        if (status != NPOS_OK) {
            assert_int_equal(status, NPOS_OUT_OF_MEMORY);
            assert_true(npi_memory_now() == before);
        }
    }
    npi_image_clear(&image);
    npi_free(file.bytes);
}

static void out_of_memory_is_an_error(void **state) {
    (void)state;
    const uint8_t wide[8] = {0};
    check_memory(make_plain_png(8, 3, 0));
    check_memory(make_png(2, 2, 16, PNG_COLOR_TYPE_GRAY, 0, wide, 4));
    for (int i = 0; i < SMALL_FILES; i++) {
        file_bytes file = read_small(i);
        if (file.bytes)
            check_memory(file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_decode_as_pillow_decodes_them),
        cmocka_unit_test(grey_of_few_bits_spans_the_range),
        cmocka_unit_test(of_16_bits_the_upper_8_count),
        cmocka_unit_test(an_interlaced_png_is_the_same_image),
        cmocka_unit_test(truncated_files_are_errors),
        cmocka_unit_test(smaller_formats_cut_and_changed),
        cmocka_unit_test(headers_that_lie),
        cmocka_unit_test(files_that_are_no_images_are_named),
        cmocka_unit_test(absurd_sizes_are_refused),
        cmocka_unit_test(out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
