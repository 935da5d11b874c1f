/* One step: uploads what changes from step to step, then the work, recorded where the device can; losses come back without
 * waiting for the step that made them. */
#include <math.h>

#include "base/clock.h"
#include "jobs/trainer.h"

/* Steps that a device may be ahead of the losses that the host has seen. */
enum { LAG = 4 };

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
    int batch = npi_trainer_count(t, t->step), samples = batch * t->recipe.views;
    double rate = npi_schedule_rate(&t->schedule, t->epoch, t->step);
    npi_step step = {(uint64_t)t->epoch * (uint64_t)t->schedule.steps + (uint64_t)t->step,
                     (float)rate, (float)(rate * t->recipe.head_lr_scale)};
    for (int i = 0; i < batch; i++) {
        t->batch_index[i] = t->order[(int64_t)t->step * t->batch + i];
        for (int v = 0; v < t->recipe.views; v++)
            t->batch_labels[v * batch + i] = t->images.labels[t->batch_index[i]];
    }
    for (int i = 0; t->objective.synth && i < samples; i++)
        t->pushed[t->batch_labels[i]]++;
    NPI_TRY(npi_trainer_feed(t));
    NPI_TRY(dev->memory->upload(dev, t->objective.labels, t->batch_labels,
                                (size_t)samples * sizeof(int32_t)));
    t->objective.n = samples;
    return dev->memory->upload(dev, t->objective.step, &step, sizeof step);
}

/* What npi_trainer_feed brought, into the plan's input. */
static npos_status put_input(npi_trainer *t) {
    npi_device *dev = t->dev;
    if (t->clip)
        return npi_trainer_clip_put(t, t->objective.n);
    return dev->augment->augment(dev, &t->augment, t->pixels, t->index, t->objective.step, NULL,
                                 npi_plan_input(t->plan));
}

static npos_status work(void *trainer) {
    npi_trainer *t = trainer;
    NPI_TRY(put_input(t));
    return npi_objective_step(&t->objective, t->open, NULL);
}

/* Stops at a loss that is not a number, naming the term. */
static npos_status check_losses(const npi_trainer *t, const float *losses, npi_pending at) {
    static const char *const names[NPI_LOSS_COUNT] = {
        [NPI_LOSS_DISP] = "loss_disp",          [NPI_LOSS_COMP] = "loss_comp",
        [NPI_LOSS_OPEN] = "loss_open",          [NPI_LOSS_CE] = "loss_ce",
        [NPI_LOSS_GRAD_NORM] = "gradient norm",
    };
    for (int i = 0; i < NPI_LOSS_COUNT; i++) {
        if (isfinite(losses[i]) || (i == NPI_LOSS_OPEN && !at.open))
            continue;
        return npi_trainer_diverged(
            t, npi_fail(NPOS_NOT_FINITE, "training: %s became %g in epoch %d, step %d of %d",
                        names[i], (double)losses[i], at.epoch, at.step, t->schedule.steps));
    }
    return NPOS_OK;
}

/* Adds the oldest losses that were not looked at. */
static npos_status collect(npi_trainer *t) {
    int slot = (int)(t->collected % NPI_POST_SLOTS);
    npi_pending at = t->pending[slot];
    float losses[NPI_LOSS_COUNT];
    NPI_TRY(t->dev->memory->collect(t->dev, slot, losses, sizeof losses));
    t->collected++;
    NPI_TRY(check_losses(t, losses, at));
    for (int i = 0; i < NPI_LOSS_COUNT; i++)
        if (i != NPI_LOSS_OPEN || at.open)
            t->sums.losses[i] += (double)losses[i];
    t->sums.open_steps += at.open;
    t->sums.total += npi_objective_total(&t->objective.desc, losses, at.open);
    return NPOS_OK;
}

static npos_status collect_all_but(npi_trainer *t, int64_t left) {
    while (t->posted - t->collected > left)
        NPI_TRY(collect(t));
    return NPOS_OK;
}

npos_status npi_trainer_step(npi_trainer *t) {
    double began = npi_seconds();
    int slot = (int)(t->posted % NPI_POST_SLOTS);
    NPI_TRY(prepare(t));
    t->open = is_open(t);
    t->objective.held = t->epoch < t->recipe.proto_hold;
    bool fewer = npi_trainer_count(t, t->step) < t->batch;
    NPI_TRY(npi_recording_run(&t->recordings[t->open][fewer][t->objective.held], t->dev, work, t));
    NPI_TRY(t->dev->memory->post(t->dev, slot, t->objective.losses,
                                 NPI_LOSS_COUNT * sizeof *t->objective.losses));
    t->pending[slot] = (npi_pending){t->epoch, t->step, t->open};
    t->posted++;
    NPI_TRY(collect_all_but(t, t->dev->graph ? LAG : 0));
    t->step++;
    t->sums.seconds += npi_seconds() - began;
    return NPOS_OK;
}

npos_status npi_trainer_settle(npi_trainer *t) {
    if (t->posted == t->collected)
        return NPOS_OK; /* the epoch's time may have been logged */
    double began = npi_seconds();
    NPI_TRY(collect_all_but(t, 0));
    t->sums.seconds += npi_seconds() - began;
    return NPOS_OK;
}

int npi_trainer_settled(const npi_trainer *t) {
    return t->step - (int)(t->posted - t->collected);
}

void npi_trainer_step_close(npi_trainer *t) {
    for (int i = 0; i < 8; i++)
        npi_recording_free(&t->recordings[i / 4][i / 2 % 2][i % 2], t->dev);
}
