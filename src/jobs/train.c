#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/import_clip.h"
#include "jobs/options.h"
#include "jobs/trainer.h"

void npos_train_options_init(npos_train_options *options) {
    *options =
        (npos_train_options){.struct_size = sizeof *options, .compute = npi_compute_defaults()};
}

/* The authors' bug: their queue is emptied at each epoch's start while its counters go on saying full. */
static npos_status forget_rings(npi_trainer *t) {
    const npi_ring *ring = &t->objective.ring;
    if (!npi_settings_authors(&t->recipe) || !t->objective.synth || t->step != 0)
        return NPOS_OK;
    return t->dev->memory->zero(t->dev, ring->rows,
                                (size_t)ring->classes * (size_t)ring->size * (size_t)ring->dim *
                                    sizeof(float));
}

static npos_status tell(const npi_trainer *t, double seconds) {
    char text[160];
    int done = t->step > 0 ? npi_trainer_settled(t) : t->schedule.steps,
        epoch = t->step > 0 ? t->epoch : t->epoch - 1;
    int64_t steps = t->schedule.steps, total = steps * t->recipe.epochs;
    if (done == 0)
        return NPOS_OK;
    int64_t images = (int64_t)done * t->batch;
    images = images < t->images.count ? images : t->images.count;
    double speed = (double)(images * t->recipe.views) / seconds;
    snprintf(text, sizeof text, "epoch %d of %d, loss %.3f, %.*f images/s", epoch + 1,
             t->recipe.epochs, t->sums.total / done, speed < 10 ? 1 : 0, speed);
    return npi_compute_progress(&t->options->compute, "train", (int64_t)epoch * steps + done, total,
                                text);
}

/* Saves and says how to go on. */
static npos_status interrupt(npi_trainer *t) {
    NPI_TRY(npi_trainer_settle(t));
    NPI_TRY(npi_trainer_save(t));
    return npi_hint(npi_fail(NPOS_INTERRUPTED,
                             "training stopped in epoch %d, step %d of %d; '%s' is saved", t->epoch,
                             t->step, t->schedule.steps, t->options->out),
                    "go on with: npos %s --out %s --resume", t->command, t->options->out);
}

/* Behind an epoch.  Left to itself, saving may take a twentieth of the time since the last, so that a kill loses little and
 * epochs of a second are not held up. */
static bool save_is_due(const npi_trainer *t) {
    int every = t->recipe.checkpoint_every;
    if (t->epoch == t->recipe.epochs)
        return true;
    return every > 0 ? t->epoch % every == 0 : npi_seconds() - t->saved_at > 20 * t->save_seconds;
}

static npos_status run_epoch(npi_trainer *t) {
    npi_permutation((uint64_t)t->recipe.seed, NPI_RANDOM_PERMUTATION, (uint64_t)t->epoch, t->order,
                    (int32_t)t->images.count);
    NPI_TRY(forget_rings(t));
    double told = 0;
    while (t->step < t->schedule.steps) {
        if (npi_stop_requested())
            return interrupt(t);
        NPI_TRY(npi_trainer_step(t));
        if (t->step < t->schedule.steps && npi_seconds() - told > 0.1) {
            told = npi_seconds();
            if (tell(t, t->sums.seconds) != NPOS_OK)
                return interrupt(t);
        }
    }
    double rate = npi_schedule_rate(&t->schedule, t->epoch, t->schedule.steps - 1);
    NPI_TRY(npi_trainer_settle(t));
    NPI_TRY(npi_trainer_log_epoch(t, rate));
    t->epoch++;
    t->step = 0;
    npos_status told_last = tell(t, t->sums.seconds);
    t->sums = (npi_epoch_sums){0};
    bool last = t->epoch == t->recipe.epochs;
    if (!last && (told_last != NPOS_OK || t->epoch == t->options->stop_after_epoch))
        return interrupt(t);
    return save_is_due(t) ? npi_trainer_save(t) : NPOS_OK;
}

static npos_status run(npi_trainer *t) {
    npi_trainer_drop_parts(t);
    if (!t->options->resume)
        NPI_TRY(npi_trainer_describe(t));
    NPI_TRY(npi_trainer_log_open(t, t->epoch));
    if (!t->options->resume) /* so that there always is a state to go on from, and room for one */
        NPI_TRY(npi_trainer_save(t));
    while (t->epoch < t->recipe.epochs)
        NPI_TRY(run_epoch(t));
    return npi_trainer_finish(t);
}

/* A file of the run that cannot be written, as on a full disk, leaves all others as they were: says how to go on. */
static npos_status say_what_is_saved(const npi_trainer *t, npos_status status) {
    const char *mend = npos_error_hint(), *out = t->options->out;
    const char *then = *mend ? "; " : "";
    if (status != NPOS_IO)
        return status;
    if (npi_trainer_has(t, "checkpoint.safetensors"))
        return npi_hint(status,
                        "%s%sthe last checkpoint is whole: go on with: npos %s --out %s --resume",
                        mend, then, t->command, out);
    return npi_hint(status, "%s%snothing of '%s' was saved yet: start again", mend, then, out);
}

npos_status npi_train(const npos_train_options *options, npi_trainer_job job) {
    npi_trainer trainer = {0};
    npos_status status = npi_trainer_open(options, job, &trainer);
    if (status == NPOS_OK) {
        npi_stop_watch();
        status = say_what_is_saved(&trainer, run(&trainer));
        npi_stop_unwatch();
    }
    npi_trainer_close(&trainer);
    return status;
}

npos_status npos_train(const npos_train_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_train");
    return npi_train(options, NPI_TRAINER_TRAIN);
}

npos_status npos_import(const npos_train_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_import");
    if (!options->init)
        return npi_fail(NPOS_INVALID_ARGUMENT, "npos_import: no weights were given");
    if (options->text)
        return npi_import_clip(options);
    if (options->resume)
        return npi_fail(NPOS_INVALID_ARGUMENT, "npos_import: an import cannot be resumed");
    npi_trainer trainer = {0};
    npos_status status = npi_trainer_open(options, NPI_TRAINER_IMPORT, &trainer);
    if (status == NPOS_OK)
        status = npi_trainer_describe(&trainer);
    if (status == NPOS_OK)
        status = npi_trainer_finish(&trainer);
    npi_trainer_close(&trainer);
    return status;
}
