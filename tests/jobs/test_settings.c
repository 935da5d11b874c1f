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

static void clips_recipes_are_the_papers(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int classes, batch, epochs, start_epoch, pick;
        double last_rate;
    } cases[] = {{"clip-imagenet100", 100, 800, 20, 10, 3, 0.1},
                 {"clip-imagenet1k", 1000, 1000, 100, 40, 1, 0.1 * 0.1}};
    for (int i = 0; i < 2; i++) {
        npi_recipe r;
        CHECK_OK(npi_recipe_load(cases[i].name, &r));
        npi_objective_desc d = npi_settings_objective(&r, cases[i].classes, 512);
        npi_schedule schedule = npi_settings_schedule(&r, 3);
        assert_int_equal(d.method, NPI_METHOD_CLIP);
        assert_int_equal(d.samples, cases[i].batch);
        assert_int_equal(r.epochs, cases[i].epochs);
        assert_int_equal(r.start_epoch, cases[i].start_epoch);
        assert_int_equal(r.first_block, 10);
        assert_int_equal(r.head_dim, 32);
        assert_true(r.lr == 0.1 && r.head_lr_scale == 0.1);
        assert_true(npi_schedule_rate(&schedule, 0, 0) == 0.1);
        assert_true(npi_schedule_rate(&schedule, r.epochs - 1, 2) == cases[i].last_rate);
        const npi_synth_desc synth = d.synth;
        assert_int_equal(synth.ring, 1000);
        assert_int_equal(synth.k, 400);
        assert_int_equal(synth.select, 300);
        assert_int_equal(synth.pick, cases[i].pick);
        assert_int_equal(synth.noise, 1500);
        assert_int_equal(synth.keep, 2);
        assert_true(synth.sigma == 0.1f && d.alpha == 0.1f);
        assert_true(d.sgd.momentum == 0.9f && d.sgd.weight_decay == 1e-4f && d.sgd.nesterov);
        assert_true(d.sgd.clip_norm == 0);
        assert_int_equal(d.cosine_loss, NPI_COSINE_LOGIT_NORM);
        assert_true(d.temperature == 8);
        CHECK_OK(npi_recipe_set(&r, "loss=ce"));
        d = npi_settings_objective(&r, cases[i].classes, 512);
        assert_int_equal(d.cosine_loss, NPI_COSINE_PLAIN);
        assert_true(d.temperature == 0.1f);
        assert_string_equal(r.score, "mcm");
        npi_recipe_clear(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_batches_warm_up_unasked),
        cmocka_unit_test(a_step_is_asked_for),
        cmocka_unit_test(clips_recipes_are_the_papers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
