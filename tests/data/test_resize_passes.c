/* The vector passes of a resize against the plain ones: the same bytes, whatever the weights and wherever an image ends. */
#include "data/make_sets.h"
#include "data/resize_passes.h"

#include "base/philox.h"

typedef struct source {
    uint32_t item, at;
} source;

static uint32_t draw(source *s, uint32_t below) {
    return npi_philox(5, NPI_RANDOM_TEST, 0, s->item, s->at++).v[0] % below;
}

/* Weights of up to 24 bits with a sign, more than a filter has, whose sums stay below 2^31. */
static npi_axis make_axis(source *s, int in_size, int positions) {
    npi_axis axis;
    int widest = 1 + (int)draw(s, (uint32_t)(in_size < 40 ? in_size : 40));
    CHECK_OK(npi_axis_alloc(positions, widest, &axis));
    for (int i = 0; i < positions; i++) {
        axis.count[i] = 1 + (int)draw(s, (uint32_t)widest);
        axis.start[i] = (int)draw(s, (uint32_t)(in_size - axis.count[i] + 1));
        for (int k = 0; k < axis.count[i]; k++)
            axis.weights[i * widest + k] = ((int32_t)draw(s, 1u << 24) - (1 << 23)) / axis.count[i];
        if (i % 2) /* a mean, so that not all is clipped */
            for (int k = 0; k < axis.count[i]; k++)
                axis.weights[i * widest + k] = (1 << NPI_RESIZE_BITS) / axis.count[i];
    }
    npi_axis_pair(&axis);
    return axis;
}

/* Of its own block, so that a sanitizer sees its end. */
static npi_image make_image(source *s, int height, int width, int channels) {
    size_t count = (size_t)(height * width * channels);
    npi_image out = {.height = height, .width = width, .channels = channels};
    out.pixels = malloc(count);
    assert_non_null(out.pixels);
    for (size_t i = 0; i < count; i++)
        out.pixels[i] = (uint8_t)draw(s, 256);
    return out;
}

static int compare_once(const npi_resize_passes *passes, uint32_t item) {
    source s = {item, 0};
    int channels = draw(&s, 4) ? 3 : 1, height = 1 + (int)draw(&s, 30),
        width = 1 + (int)draw(&s, 60);
    npi_image in = make_image(&s, height, width, channels);
    for (int pass = 0; pass < 2; pass++) {
        int positions = 1 + (int)draw(&s, 40), clipped = 0;
        npi_axis axis = make_axis(&s, pass ? height : width, positions);
        /* a part of the other axis, at its end half of the time */
        int whole = pass ? width : height, part = 1 + (int)draw(&s, (uint32_t)whole),
            first = draw(&s, 2) ? whole - part : (int)draw(&s, (uint32_t)(whole - part + 1));
        npi_image plain =
                      make_image(&s, pass ? positions : part, pass ? part : positions, channels),
                  fast = make_image(&s, plain.height, plain.width, channels);
        if (pass) {
            npi_resize_plain.down(&in, 0, first, &axis, &plain);
            passes->down(&in, 0, first, &axis, &fast);
        } else {
            npi_resize_plain.across(&in, first, 0, &axis, &plain);
            passes->across(&in, first, 0, &axis, &fast);
        }
        size_t count = (size_t)(plain.height * plain.width * channels);
        for (size_t i = 0; i < count; i++) {
            clipped += plain.pixels[i] == 0 || plain.pixels[i] == 255;
            if (plain.pixels[i] != fast.pixels[i])
                fail_msg("case %u, pass %d of %d x %d x %d: value %zu is %d, plainly %d", item,
                         pass, height, width, channels, i, fast.pixels[i], plain.pixels[i]);
        }
        free(plain.pixels);
        free(fast.pixels);
        npi_axis_clear(&axis);
        if (count > 100 && clipped == (int)count)
            fail_msg("case %u says nothing: all values are clipped", item);
    }
    free(in.pixels);
    return channels;
}

static void compare(const npi_resize_passes *passes) {
    int of[4] = {0};
    for (uint32_t item = 0; item < 3000; item++)
        of[compare_once(passes, item)]++;
    assert_true(of[1] > 100 && of[3] > 1000);
}

static void the_fastest_is_the_plain_one(void **state) {
    (void)state;
    compare(npi_resize_best());
}

static void every_instruction_set_is_the_plain_one(void **state) {
    (void)state;
#ifdef __x86_64__
    compare(&npi_resize_sse2);
    if (__builtin_cpu_supports("avx2"))
        compare(&npi_resize_avx2);
#endif
}

static void out_of_memory_is_an_error(void **state) {
    (void)state;
    size_t before = npi_memory_now();
    npos_status status = NPOS_OUT_OF_MEMORY;
    npi_axis axis;
    int n = 0;
    while (status != NPOS_OK) {
        npi_memory_fail_after(++n);
        status = npi_axis_alloc(7, 5, &axis);
        npi_memory_fail_after(0);
        assert_true(status == NPOS_OK || npi_memory_now() == before);
    }
    assert_int_equal(n, 6);
    npi_axis_clear(&axis);
    assert_true(npi_memory_now() == before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_is_the_plain_one),
        cmocka_unit_test(every_instruction_set_is_the_plain_one),
        cmocka_unit_test(out_of_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
