/* Fingerprints beside Pillow's and SciPy's, and the search for copies beside comparing all with all. */
#include "data/make_sets.h"

#include <math.h>

#include "base/philox.h"
#include "data/duplicates.h"
#include "data/image_decode.h"

static void bits_are_those_of_scipy(void **state) {
    (void)state;
    char path[1024];
    int height, width, channels, kind, lines = 0;
    unsigned long long bits;
    snprintf(path, sizeof path, "%s/tests/golden/fingerprints.txt", check_source());
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    for (; fscanf(file, "%d %d %d %d %llx", &height, &width, &channels, &kind, &bits) == 5;
         lines++) {
        npi_image image = make_pattern(height, width, channels, kind);
        npi_fingerprint print;
        CHECK_OK(npi_fingerprint_take(&image, &print));
        if (print.perceptual != bits)
            fail_msg("%d x %d, %d channels, kind %d: %016llx, SciPy has %016llx", height, width,
                     channels, kind, (unsigned long long)print.perceptual, bits);
        npi_image_clear(&image);
    }
    fclose(file);
    assert_int_equal(lines, 9);
}

/* A smooth picture: JPEG, another size and more light leave it near; another picture is far. */
static npi_image make_smooth(int side, int seed, int light) {
    npi_image image = {.height = side, .width = side, .channels = 3};
    CHECK_OK(npi_alloc(&image.pixels, (size_t)(side * side * 3), 1, "picture"));
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            for (int c = 0; c < 3; c++) {
                double u = (double)x / side, v = (double)y / side, value = 128 + light;
                for (int wave = 1; wave < 6; wave++)
                    value += 60.0 / wave *
                             sin(wave * (seed % 7 + 2) * u + seed * v * wave * 1.7 + seed + c);
                image.pixels[3 * (y * side + x) + c] = (uint8_t)(value < 0     ? 0
                                                                 : value > 255 ? 255
                                                                               : value);
            }
    return image;
}

static void small_changes_are_near(void **state) {
    (void)state;
    npi_fingerprint first, other;
    npi_image image = make_smooth(64, 3, 0), changed;
    CHECK_OK(npi_fingerprint_take(&image, &first));
    file_bytes jpeg = make_jpeg(&image, 60);

    CHECK_OK(npi_image_decode(jpeg.bytes, jpeg.size, "jpeg", 0, &changed));
    CHECK_OK(npi_fingerprint_take(&changed, &other));
    assert_true(npi_fingerprint_distance(&first, &other) <= 4 &&
                npi_fingerprint_likeness(&first, &other) > 0.99);
    assert_true(first.exact[0] != other.exact[0]);
    npi_image_clear(&changed);
    npi_free(jpeg.bytes);
    CHECK_OK(npi_resize(&image, 40, 40, NPI_BICUBIC, NULL, &changed));
    CHECK_OK(npi_fingerprint_take(&changed, &other));
    assert_true(npi_fingerprint_distance(&first, &other) <= 4 &&
                npi_fingerprint_likeness(&first, &other) > 0.99);
    npi_image_clear(&changed);
    npi_image_clear(&image);
    image = make_smooth(64, 3, 12);
    CHECK_OK(npi_fingerprint_take(&image, &other));
    assert_true(npi_fingerprint_distance(&first, &other) <= 6 &&
                npi_fingerprint_likeness(&first, &other) > 0.95);
    npi_image_clear(&image);
    image = make_smooth(64, 8, 0);
    CHECK_OK(npi_fingerprint_take(&image, &other));
    assert_true(npi_fingerprint_distance(&first, &other) > 15);
    npi_image_clear(&image);
    image = make_smooth(8, 1, 0);
    memset(image.pixels, 200, 8 * 8 * 3);
    CHECK_OK(npi_fingerprint_take(&image, &other));
    assert_true(other.flat && npi_fingerprint_likeness(&first, &other) == 0);
    assert_false(first.flat);
    /* the same bytes in another shape are another image */
    npi_image tall = {.height = 16, .width = 4, .channels = 3, .pixels = image.pixels};
    CHECK_OK(npi_fingerprint_take(&tall, &first));
    assert_true(first.exact[0] != other.exact[0]);
    npi_image_clear(&image);
}

static uint32_t draw(uint32_t item, uint32_t index) {
    return npi_philox(1, NPI_RANDOM_TEST, 0, item, index).v[0];
}

enum { IMAGES = 600, SETS = 3 };

/* Fingerprints in families: some the same, some near. */
static void make_prints(npi_fingerprint *prints) {
    for (uint32_t i = 0; i < IMAGES; i++) {
        npi_fingerprint *p = &prints[i];
        uint32_t family = draw(i, 0) % 90;
        *p = (npi_fingerprint){.set = (int32_t)(draw(i, 1) % (SETS + 1)) - 1};
        p->perceptual = (uint64_t)draw(1000 + family, 0) << 32 | draw(1000 + family, 1);
        for (uint32_t k = 0; k < NPI_SMALL; k++)
            p->small[k] = (uint8_t)draw(2000 + family, k);
        uint32_t flips = draw(i, 2) % 5, kind = draw(i, 4) % 4;
        for (uint32_t k = 0; k < flips; k++)
            p->perceptual ^= 1ull << (draw(i, 5 + k) % 64);
        p->exact[0] = kind ? family : 5000 + i; /* three of four are copies of their family */
        p->flat = draw(i, 3) % 20 == 0;
        if (kind) {
            p->perceptual = (uint64_t)draw(1000 + family, 0) << 32 | draw(1000 + family, 1);
            p->flat = family % 20 == 0;
        } else if (draw(i, 20) % 3 == 0) {
            p->small[0] = 0;
            for (uint32_t k = 0; k < NPI_SMALL; k++) /* near by its bits alone */
                p->small[k] = (uint8_t)draw(9000 + i, k);
        }
    }
}

/* All with all. */
static void by_force(const npi_fingerprint *prints, int distance, int64_t exact[SETS][SETS],
                     int64_t near[SETS][SETS]) {
    for (int i = 0; i < IMAGES; i++) {
        const npi_fingerprint *p = &prints[i];
        bool copy[SETS] = {false}, close[SETS] = {false}, earlier = false;
        if (p->set < 0)
            continue;
        for (int j = 0; j < IMAGES; j++) {
            const npi_fingerprint *q = &prints[j];
            if (j == i || q->set < 0)
                continue;
            if (p->exact[0] == q->exact[0] && p->exact[1] == q->exact[1]) {
                copy[q->set] = true;
                earlier = earlier || (j < i && q->set == p->set);
            } else if (!p->flat && !q->flat && npi_fingerprint_distance(p, q) <= distance &&
                       npi_fingerprint_likeness(p, q) >= NPI_NEAR_LIKENESS) {
                close[q->set] = true;
            }
        }
        for (int a = 0; a < SETS; a++) {
            exact[a][p->set] += a == p->set ? earlier : copy[a];
            near[a][p->set] +=
                close[a] && !earlier; /* the first of each set's copies stands for all */
        }
    }
}

static void the_search_finds_all(void **state) {
    (void)state;
    npi_fingerprint *prints;
    CHECK_OK(npi_alloc(&prints, IMAGES, sizeof *prints, "fingerprints"));
    make_prints(prints);
    int64_t all = 0;
    for (int distance = -1; distance <= NPI_NEAR_MOST; distance += 2) {
        int64_t exact[SETS][SETS] = {{0}}, near[SETS][SETS] = {{0}};
        npi_shared *shared;
        CHECK_OK(npi_duplicates_find(prints, IMAGES, SETS, distance, NULL, NULL, &shared));
        by_force(prints, distance, exact, near);
        for (int a = 0; a < SETS; a++)
            for (int b = 0; b < SETS; b++) {
                const npi_shared *s = &shared[a * SETS + b];
                assert_int_equal(s->exact, exact[a][b]);
                assert_int_equal(s->near, distance < 0 ? 0 : near[a][b]);
                all += s->near;
                for (int e = 0; e < s->examples; e++) {
                    const npi_duplicate *d = &s->example[e];
                    assert_true(d->a < d->b || prints[d->a].set != prints[d->b].set);
                    assert_true(d->exact == (prints[d->a].exact[0] == prints[d->b].exact[0]));
                    assert_true(d->exact || d->distance == npi_fingerprint_distance(&prints[d->a],
                                                                                    &prints[d->b]));
                }
            }
        npi_free(shared);
    }
    assert_true(all > 100);
    npi_shared *shared;
    CHECK_FAILS(npi_duplicates_find(prints, IMAGES, 33, 4, NULL, NULL, &shared),
                NPOS_INVALID_ARGUMENT, "33 sets");
    CHECK_FAILS(npi_duplicates_find(prints, IMAGES, 3, 16, NULL, NULL, &shared),
                NPOS_INVALID_ARGUMENT, "at most 15 bits");
    CHECK_OK(npi_duplicates_find(prints, 0, 1, 4, NULL, NULL, &shared));
    assert_int_equal(shared[0].exact, 0);
    npi_free(shared);
    npi_free(prints);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_are_those_of_scipy),
        cmocka_unit_test(small_changes_are_near),
        cmocka_unit_test(the_search_finds_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
