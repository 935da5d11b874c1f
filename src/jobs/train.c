#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/options.h"
#include "jobs/trainer.h"

void npos_train_options_init(npos_train_options *options) {
    *options =
        (npos_train_options){.struct_size = sizeof *options, .compute = npi_compute_defaults()};
}

/* R_open counts from start_epoch on, once every class's ring is full. */
static bool is_open(const npi_trainer *t) {
    if (!t->objective.synth || t->epoch < t->recipe.start_epoch)
        return false;
    for (int c = 0; c < t->images.classes; c++)
        if (t->pushed[c] < (uint64_t)t->recipe.ring)
            return false;
    return true;
}

/* Uploads what changes from step to step: indices, labels, number and rates. */
static npos_status prepare(npi_trainer *t) {
    npi_device *dev = t->dev;
    int batch = t->recipe.batch;
    double rate = npi_schedule_rate(&t->schedule, t->epoch, t->step);
    npi_step step = {(uint64_t)t->epoch * (uint64_t)t->schedule.steps + (uint64_t)t->step,
                     (float)rate, (float)(rate * t->recipe.head_lr_scale)};
    for (int i = 0; i < batch; i++) {
        t->batch_index[i] = t->order[(int64_t)t->step * batch + i];
        for (int v = 0; v < t->recipe.views; v++)
            t->batch_labels[v * batch + i] = t->images.labels[t->batch_index[i]];
    }
    for (int i = 0; t->objective.synth && i < t->objective.desc.samples; i++)
        t->pushed[t->batch_labels[i]]++;
    NPI_TRY(npi_trainer_feed(t));
    NPI_TRY(dev->memory->upload(dev, t->objective.labels, t->batch_labels,
                                (size_t)t->objective.desc.samples * sizeof(int32_t)));
    return dev->memory->upload(dev, t->objective.step, &step, sizeof step);
}

/* Stops at a loss that is not a number, naming the term. */
static npos_status check_losses(const npi_trainer *t, const float *losses, bool open) {
    static const char *const names[NPI_LOSS_COUNT] = {
        [NPI_LOSS_DISP] = "loss_disp",          [NPI_LOSS_COMP] = "loss_comp",
        [NPI_LOSS_OPEN] = "loss_open",          [NPI_LOSS_CE] = "loss_ce",
        [NPI_LOSS_GRAD_NORM] = "gradient norm",
    };
    for (int i = 0; i < NPI_LOSS_COUNT; i++) {
        if (isfinite(losses[i]) || (i == NPI_LOSS_OPEN && !open))
            continue;
        return npi_trainer_diverged(
            t, npi_fail(NPOS_NOT_FINITE, "training: %s became %g in epoch %d, step %d of %d",
                        names[i], (double)losses[i], t->epoch, t->step, t->schedule.steps));
    }
    return NPOS_OK;
}

static npos_status run_step(npi_trainer *t) {
    npi_device *dev = t->dev;
    float losses[NPI_LOSS_COUNT];
    double began = npi_seconds();
    NPI_TRY(prepare(t));
    bool open = is_open(t);
    NPI_TRY(dev->augment->augment(dev, &t->augment, t->pixels, t->index, t->objective.step, NULL,
                                  npi_plan_input(t->plan)));
    NPI_TRY(npi_objective_step(&t->objective, open, NULL));
    NPI_TRY(dev->memory->download(dev, losses, t->objective.losses, sizeof losses));
    NPI_TRY(check_losses(t, losses, open));
    for (int i = 0; i < NPI_LOSS_COUNT; i++)
        if (i != NPI_LOSS_OPEN || open)
            t->sums.losses[i] += (double)losses[i];
    t->sums.open_steps += open;
    t->sums.total += npi_objective_total(&t->objective.desc, losses, open);
    t->sums.seconds += npi_seconds() - began;
    return NPOS_OK;
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
    int done = t->step > 0 ? t->step : t->schedule.steps,
        epoch = t->step > 0 ? t->epoch : t->epoch - 1;
    int64_t steps = t->schedule.steps, total = steps * t->recipe.epochs;
    snprintf(text, sizeof text, "epoch %d of %d, loss %.3f, %.0f images/s", epoch + 1,
             t->recipe.epochs, t->sums.total / done,
             t->objective.desc.samples * (double)done / seconds);
    return npi_compute_progress(&t->options->compute, "train", (int64_t)epoch * steps + done, total,
                                text);
}

/* Saves and says how to go on. */
static npos_status interrupt(npi_trainer *t) {
    NPI_TRY(npi_trainer_save(t));
    return npi_hint(npi_fail(NPOS_INTERRUPTED,
                             "training stopped in epoch %d, step %d of %d; '%s' is saved", t->epoch,
                             t->step, t->schedule.steps, t->options->out),
                    "go on with: npos train --out %s --resume", t->options->out);
}

static npos_status run_epoch(npi_trainer *t) {
    npi_permutation((uint64_t)t->recipe.seed, NPI_RANDOM_PERMUTATION, (uint64_t)t->epoch, t->order,
                    (int32_t)t->images.count);
    NPI_TRY(forget_rings(t));
    double told = 0;
    while (t->step < t->schedule.steps) {
        if (npi_stop_requested())
            return interrupt(t);
        NPI_TRY(run_step(t));
        t->step++;
        if (t->step < t->schedule.steps && npi_seconds() - told > 0.1) {
            told = npi_seconds();
            if (tell(t, t->sums.seconds) != NPOS_OK)
                return interrupt(t);
        }
    }
    double rate = npi_schedule_rate(&t->schedule, t->epoch, t->schedule.steps - 1);
    NPI_TRY(npi_trainer_log_epoch(t, rate));
    t->epoch++;
    t->step = 0;
    npos_status told_last = tell(t, t->sums.seconds);
    t->sums = (npi_epoch_sums){0};
    bool last = t->epoch == t->recipe.epochs;
    if (!last && (told_last != NPOS_OK || t->epoch == t->options->stop_after_epoch))
        return interrupt(t);
    return last || t->epoch % t->recipe.checkpoint_every == 0 ? npi_trainer_save(t) : NPOS_OK;
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
        return npi_hint(
            status, "%s%sthe last checkpoint is whole: go on with: npos train --out %s --resume",
            mend, then, out);
    return npi_hint(status, "%s%snothing of '%s' was saved yet: start again", mend, then, out);
}

npos_status npos_train(const npos_train_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_train");
    npi_trainer trainer = {0};
    npos_status status = npi_trainer_open(options, &trainer);
    if (status == NPOS_OK) {
        npi_stop_watch();
        status = say_what_is_saved(&trainer, run(&trainer));
        npi_stop_unwatch();
    }
    npi_trainer_close(&trainer);
    return status;
}
