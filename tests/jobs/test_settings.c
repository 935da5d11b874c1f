/* What settings become that no key says by itself. */
#include "check.h"

#include "jobs/settings.h"

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

static void a_step_is_asked_for(void **state) {
    (void)state;
    const char *const settings[] = {"schedule=step", "batch=800", "lr=0.1", "drop_epoch=60"};
    npi_recipe recipe;
    CHECK_OK(npi_recipe_defaults(&recipe));
    npi_schedule cosine = npi_settings_schedule(&recipe, 7);
    assert_int_equal(cosine.drop_epoch, 0);
    for (int i = 0; i < 4; i++)
        CHECK_OK(npi_recipe_set(&recipe, settings[i]));
    npi_schedule step = npi_settings_schedule(&recipe, 7);
    assert_int_equal(step.warmup_epochs, 0);
    assert_true(npi_schedule_rate(&step, 0, 0) == 0.1);
    assert_true(npi_schedule_rate(&step, 60, 0) == 0.1 * 0.1);
    npi_recipe_clear(&recipe);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_batches_warm_up_unasked),
        cmocka_unit_test(a_step_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
