/* The learning rate, step by step, against values worked out from METHOD's formulas by hand; the warm-up of large
 * batches. */
#include "check.h"

#include <math.h>

#include "jobs/settings.h"
#include "nn/schedule.h"

#define CHECK_NEAR(value, expected)                                                                \
    do {                                                                                           \
        double near_ = (value), wanted_ = (expected);                                              \
        if (!(fabs(near_ - wanted_) <= 1e-12))                                                     \
            fail_msg("%s: %.15g, expected %.15g", #value, near_, wanted_);                         \
    } while (0)

/* lr 0.5 to 0.0005 in 100 epochs; a quarter of the way is 0.0005 + 0.4995 (1 + sqrt(1/2)) / 2. */
static void the_cosine_goes_by_epochs(void **state) {
    (void)state;
    npi_schedule s = {0.5, 0.0005, 100, 10, 0, 0.01};
    CHECK_NEAR(npi_schedule_rate(&s, 0, 0), 0.5);
    CHECK_NEAR(npi_schedule_rate(&s, 25, 0), 0.0005 + 0.4995 * (1 + sqrt(0.5)) / 2);
    CHECK_NEAR(npi_schedule_rate(&s, 50, 3), 0.25025);
    CHECK_NEAR(npi_schedule_rate(&s, 50, 9), 0.25025);
}

/* From 0.01 at the first step straight to the cosine's value at epoch 50, 0.25025, at that epoch's first step. */
static void the_warm_up_goes_by_steps(void **state) {
    (void)state;
    npi_schedule s = {0.5, 0.0005, 100, 10, 50, 0.01};
    CHECK_NEAR(npi_schedule_rate(&s, 0, 0), 0.01);
    CHECK_NEAR(npi_schedule_rate(&s, 0, 1), 0.01 + 0.24025 / 500);
    CHECK_NEAR(npi_schedule_rate(&s, 25, 0), 0.01 + 0.24025 / 2);
    CHECK_NEAR(npi_schedule_rate(&s, 50, 0), 0.25025);
}

static int warmup(const char *const *settings, int count) {
    npi_recipe recipe;
    CHECK_OK(npi_recipe_defaults(&recipe));
    for (int i = 0; i < count; i++)
        CHECK_OK(npi_recipe_set(&recipe, settings[i]));
    int epochs = npi_settings_schedule(&recipe, 7).warmup_epochs;
    npi_recipe_clear(&recipe);
    return epochs;
}

static void large_batches_warm_up_unasked(void **state) {
    (void)state;
    assert_int_equal(warmup((const char *const[]){"batch=256"}, 1), 0);
    assert_int_equal(warmup((const char *const[]){"batch=257"}, 1), 10);
    assert_int_equal(warmup((const char *const[]){"batch=257", "warmup_epochs=3"}, 2), 3);
    assert_int_equal(warmup((const char *const[]){"batch=257", "epochs=4"}, 2), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cosine_goes_by_epochs),
        cmocka_unit_test(the_warm_up_goes_by_steps),
        cmocka_unit_test(large_batches_warm_up_unasked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
