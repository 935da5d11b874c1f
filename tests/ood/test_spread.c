/* Directions as far apart as can be: a simplex where there is room, else far better than chance. */
#include "ood/spread.h"

#include <math.h>
#include <string.h>

#include "check.h"

enum { MOST = 100 * 128 };

/* Largest and smallest cosine of two rows; all rows must have length 1. */
static void cosines(int count, int dim, const float *rows, double *largest, double *smallest) {
    *largest = -2.0;
    *smallest = 2.0;
    for (int i = 0; i < count; i++)
        for (int k = 0; k <= i; k++) {
            double dot = 0.0;
            for (int j = 0; j < dim; j++)
                dot += (double)rows[i * dim + j] * (double)rows[k * dim + j];
            if (i == k) {
                assert_true(fabs(dot - 1.0) < 1e-6);
                continue;
            }
            *largest = fmax(*largest, dot);
            *smallest = fmin(*smallest, dot);
        }
}

static void a_simplex_where_there_is_room(void **state) {
    (void)state;
    static const int sizes[][2] = {{2, 2}, {3, 16}, {10, 128}, {100, 128}, {128, 128}};
    static float rows[128 * 128];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int count = sizes[s][0], dim = sizes[s][1];
        double largest, smallest;
        CHECK_OK(npi_spread_directions(count, dim, 7, rows));
        cosines(count, dim, rows, &largest, &smallest);
        assert_true(fabs(largest + 1.0 / (count - 1)) < 1e-6);
        assert_true(fabs(smallest + 1.0 / (count - 1)) < 1e-6);
    }
    CHECK_OK(npi_spread_directions(1, 3, 7, rows));
    double largest, smallest;
    cosines(1, 3, rows, &largest, &smallest);
}

/* The best arrangement of 100 directions in 16 dimensions has cosines of about 0.4; drawn ones come up to 0.8. */
static void more_than_dimensions_repel(void **state) {
    (void)state;
    static float rows[MOST];
    double largest, smallest;
    CHECK_OK(npi_spread_directions(100, 16, 7, rows));
    cosines(100, 16, rows, &largest, &smallest);
    assert_true(largest < 0.55);
    CHECK_OK(npi_spread_directions(3, 2, 7, rows));
    cosines(3, 2, rows, &largest, &smallest);
    assert_true(fabs(largest + 0.5) < 1e-3);
}

static void a_function_of_the_seed(void **state) {
    (void)state;
    static float a[MOST], b[MOST];
    CHECK_OK(npi_spread_directions(100, 128, 1, a));
    CHECK_OK(npi_spread_directions(100, 128, 1, b));
    assert_memory_equal(a, b, sizeof a);
    CHECK_OK(npi_spread_directions(100, 128, 2, b));
    assert_memory_not_equal(a, b, sizeof a);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_simplex_where_there_is_room),
                                       cmocka_unit_test(more_than_dimensions_repel),
                                       cmocka_unit_test(a_function_of_the_seed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
