/* The parts of the page: escaping, base64, ticks, plots, log, map. */
#include <math.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/philox.h"
#include "check.h"
#include "data/image_decode.h"
#include "report/embedding_map.h"
#include "report/page_text.h"
#include "report/picture.h"
#include "report/plot.h"
#include "report/run_log.h"

static void escaping(void **state) {
    (void)state;
    npi_page page = {0};
    npi_page_escape(&page, "<a href=\"x\">'&'</a>");
    assert_string_equal(page.bytes, "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
    npi_page_clear(&page);
    /* UTF-8 stays; lone, overlong and surrogate bytes and controls become U+FFFD */
    npi_page_escape(&page, "\xc3\xa4\xe2\x82\xac|\xff|\xc0\xaf|\xed\xa0\x80|\x01|\xc3");
    assert_string_equal(page.bytes, "\xc3\xa4\xe2\x82\xac|\xef\xbf\xbd|\xef\xbf\xbd\xef\xbf\xbd|"
                                    "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd|\xef\xbf\xbd|"
                                    "\xef\xbf\xbd");
    npi_page_clear(&page);
}

#ifdef NPI_HAVE_PNG
/* The bytes behind "data:image/png;base64,"; how many. */
static size_t unpack(const char *text, uint8_t *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t size = 0;
    uint32_t bits = 0;
    int held = 0;
    for (const char *at = strchr(text, ',') + 1; *at && *at != '='; at++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, *at) - digits);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[size++] = (uint8_t)(bits >> held);
        }
    }
    return size;
}

static void pictures_keep_their_pixels(void **state) {
    (void)state;
    for (int channels = 1; channels <= 3; channels += 2) {
        static uint8_t file[4096];
        npi_image made, seen;
        npi_page page = {0};
        CHECK_OK(npi_image_alloc(&made, 9, 31, channels, "picture"));
        for (int i = 0; i < 9 * 31 * channels; i++)
            made.pixels[i] = (uint8_t)(i * i % 251);
        npi_picture_url(&page, &made);
        CHECK_OK(page.status);
        assert_in_range(strlen(page.bytes), 100, sizeof file);
        CHECK_OK(npi_image_decode(file, unpack(page.bytes, file), "picture", 0, &seen));
        assert_int_equal(seen.width, 31);
        assert_int_equal(seen.height, 9);
        assert_int_equal(seen.channels, channels);
        assert_memory_equal(seen.pixels, made.pixels, (size_t)(9 * 31 * channels));
        npi_image_clear(&made);
        npi_image_clear(&seen);
        npi_page_clear(&page);
    }
}
#endif

static void base64(void **state) {
    (void)state;
    /* RFC 4648, section 10 */
    static const char *const pairs[][2] = {{"", ""},
                                           {"f", "Zg=="},
                                           {"fo", "Zm8="},
                                           {"foo", "Zm9v"},
                                           {"foob", "Zm9vYg=="},
                                           {"fooba", "Zm9vYmE="},
                                           {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        npi_page page = {0};
        npi_page_base64(&page, pairs[i][0], strlen(pairs[i][0]));
        CHECK_OK(page.status);
        assert_string_equal(page.bytes, pairs[i][1]);
        npi_page_clear(&page);
    }
}

static void ticks(void **state) {
    (void)state;
    static const struct {
        double lo, hi, step;
        int wanted;
    } rows[] = {{0, 1, 0.2, 5}, {0, 100, 20, 5}, {-3, 4, 2, 4}, {0.001, 0.0013, 1e-4, 3}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        double step = npi_tick_step(rows[i].lo, rows[i].hi, rows[i].wanted);
        assert_true(fabs(step / rows[i].step - 1) < 1e-9);
    }
}

static void lines_break_where_values_are_missing(void **state) {
    (void)state;
    npi_page page = {0};
    const double x[] = {0, 1, 2, 3, 4}, y[] = {0, 1, NAN, 1, 0};
    npi_plot plot = {.x = {0, 4, .title = "a <b>"}, .y = {0, 1, .title = "y"}};
    npi_plot_begin(&plot, &page, "line & \"label\"");
    size_t axes = page.length;
    npi_plot_line(&plot, 5, x, y, (npi_mark){.colour = 3});
    npi_plot_end(&plot);
    CHECK_OK(page.status);
    int moves = 0;
    for (const char *c = page.bytes + axes; *c; c++)
        moves += *c == 'M';
    assert_int_equal(moves, 2);
    assert_null(strstr(page.bytes, "nan"));
    assert_non_null(strstr(page.bytes, "a &lt;b&gt;"));
    assert_non_null(strstr(page.bytes, "aria-label=\"line &amp; &quot;label&quot;\""));
    npi_page_clear(&page);
}

static void failures_stick(void **state) {
    (void)state;
    npi_page page = {0};
    npi_memory_fail_after(1);
    npi_page_add(&page, "x");
    npi_memory_fail_after(0);
    npi_page_escape(&page, "more");
    assert_int_equal(page.status, NPOS_OUT_OF_MEMORY);
    assert_int_equal(page.length, 0);
    npi_page_clear(&page);
}

static void log_of_a_resumed_run(void **state) {
    (void)state;
    static const char text[] = "{\"epoch\": 0, \"loss\": 3}\n{\"epoch\": 1, \"loss\": 2}\n"
                               "{\"epoch\": 1, \"loss\": 1.5, \"lr\": null}\n\n{\"epoch\": 2, \"lo";
    char *folder = check_folder();
    npi_log log = {0};
    const char *path = check_path(folder, "log.jsonl");
    CHECK_OK(npi_file_write(path, text, sizeof text - 1));
    CHECK_OK(npi_log_read(path, &log));
    assert_int_equal(log.rows, 2);
    assert_true(log.column[NPI_LOG_LOSS][1] == 1.5);
    assert_true(isnan(log.column[NPI_LOG_LR][1]));
    assert_true(npi_log_has(&log, NPI_LOG_LOSS));
    assert_false(npi_log_has(&log, NPI_LOG_OPEN));
    npi_log_clear(&log);
    CHECK_OK(npi_file_write(path, "[1]\n", 4));
    CHECK_FAILS(npi_log_read(path, &log), NPOS_BAD_DATA, "line 1");
    check_remove(folder);
}

/* Three clouds far apart in 20 dimensions: on the map each point's nearest neighbour is of its own
 * cloud; the same numbers come again. */
static void map_keeps_clouds(void **state) {
    (void)state;
    enum { N = 150, DIM = 20 };
    static float x[N * DIM];
    static double y[2 * N], again[2 * N];
    for (uint32_t i = 0; i < N * DIM; i += 2) {
        npi_u32x4 words = npi_philox(1, NPI_RANDOM_TEST, 0, 0, i);
        npi_normal_pair(words.v[0], words.v[1], &x[i], &x[i + 1]);
    }
    for (int i = 0; i < N; i++)
        x[i * DIM + i % 3] += 20;
    /* points that are equal are no trouble */
    memcpy(x + 3 * DIM, x, DIM * sizeof *x);
    CHECK_OK(npi_embedding_map(N, DIM, x, 20, 200, 5, NULL, NULL, y));
    CHECK_OK(npi_embedding_map(N, DIM, x, 20, 200, 5, NULL, NULL, again));
    assert_memory_equal(y, again, sizeof y);
    double extent = 0;
    for (int i = 0; i < N; i++) {
        int nearest = -1;
        double least = INFINITY;
        for (int j = 0; j < N; j++) {
            double d = hypot(y[2 * i] - y[2 * j], y[2 * i + 1] - y[2 * j + 1]);
            if (j != i && d < least) {
                least = d;
                nearest = j;
            }
        }
        assert_int_equal(nearest % 3, i % 3);
        extent = fmax(extent, fmax(fabs(y[2 * i]), fabs(y[2 * i + 1])));
    }
    assert_true(fabs(extent - 1) < 1e-9);
    CHECK_FAILS(npi_embedding_map(1, DIM, x, 20, 10, 0, NULL, NULL, y), NPOS_INVALID_ARGUMENT,
                "2 to");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(escaping),
        cmocka_unit_test(base64),
#ifdef NPI_HAVE_PNG
        cmocka_unit_test(pictures_keep_their_pixels),
#endif
        cmocka_unit_test(ticks),
        cmocka_unit_test(lines_break_where_values_are_missing),
        cmocka_unit_test(failures_stick),
        cmocka_unit_test(log_of_a_resumed_run),
        cmocka_unit_test(map_keeps_clouds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
