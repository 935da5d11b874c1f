/* Raw images on a stream (data/image_frames.h): kinds, comments, streams that are cut or of another kind. */
#include "check.h"

#include "data/image_frames.h"

static FILE *stream_of(const char *bytes, size_t count) {
    FILE *stream = fmemopen((void *)(uintptr_t)bytes, count, "r");
    assert_non_null(stream);
    return stream;
}

static void frames_follow_each_other(void **state) {
    (void)state;
    static const char bytes[] = "P6\n# one\n2 1\n255\nabcdefP5 1 2 # two\n 255 xy\nP5 1 1 255\n#";
    FILE *stream = stream_of(bytes, sizeof bytes - 1);
    npi_image image;
    bool end;
    CHECK_OK(npi_image_frame_read(stream, &image, &end));
    assert_true(!end && image.width == 2 && image.height == 1 && image.channels == 3);
    assert_memory_equal(image.pixels, "abcdef", 6);
    npi_image_clear(&image);
    CHECK_OK(npi_image_frame_read(stream, &image, &end));
    assert_true(!end && image.width == 1 && image.height == 2 && image.channels == 1);
    assert_memory_equal(image.pixels, "xy", 2);
    npi_image_clear(&image);
    CHECK_OK(npi_image_frame_read(stream, &image, &end));
    assert_true(!end && image.pixels[0] == '#'); /* a pixel, no comment */
    npi_image_clear(&image);
    CHECK_OK(npi_image_frame_read(stream, &image, &end));
    assert_true(end && !image.pixels);
    fclose(stream);
}

static void other_bytes_are_errors(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *message;
    } cases[] = {{"P3 1 1 255 1 2 3", "does not begin with P5 or P6"},
                 {"\xff\xd8\xff", "does not begin with P5 or P6"},
                 {"P6 2 2 255 abc", "ends after 3 of 12 bytes"},
                 {"P6 2 2 65535 abc", "values up to 65535"},
                 {"P6 0 2 255 abc", "0 x 2"},
                 {"P5 65536 1 255 abc", "-1 x"},
                 {"P5 99999999999999999999 1 255 abc", "-1 x"},
                 {"P6 60000 60000 255 abc", "are read"},
                 {"P5 1", "-1 with values"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *stream = stream_of(cases[i].bytes, strlen(cases[i].bytes));
        npi_image image;
        bool end;
        CHECK_FAILS(npi_image_frame_read(stream, &image, &end), NPOS_BAD_DATA, cases[i].message);
        assert_null(image.pixels);
        fclose(stream);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(frames_follow_each_other),
                                       cmocka_unit_test(other_bytes_are_errors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
