/* jobs/trainer.h - the state of a training run, shared by the files that make it (train_setup.c), run it (train.c), log
 * it (train_log.c), save and resume it (train_checkpoint.c) and finish it (train_finish.c). */
#ifndef NPI_JOBS_TRAINER_H
#define NPI_JOBS_TRAINER_H

#include "data/stream.h"
#include "io/tb_events.h"
#include "jobs/recording.h"
#include "jobs/settings.h"
#include "npos/npos.h"

/* What is summed up over an epoch; lives in checkpoints, so that a run stopped within an epoch logs the same line. */
typedef struct npi_epoch_sums {
    double losses[NPI_LOSS_COUNT]; /* sums over the steps so far */
    double open_steps;             /* of them with R_open */
    double total, seconds;
} npi_epoch_sums;

/* A step that was enqueued and whose losses have not been looked at. */
typedef struct npi_pending {
    int epoch, step;
    bool open;
} npi_pending;

typedef struct npi_trainer {
    const npos_train_options *options;
    npi_recipe recipe;
    char *recipe_text; /* npi_recipe_format without help: what a resumed run must agree with */
    npi_images images;
    npi_device *dev;
    npi_model model;
    npi_plan *plan;
    npi_objective objective;
    npi_schedule schedule;
    npi_augment_desc augment;            /* what the device does */
    npi_augment_desc crop;               /* what the loader does where images are streamed */
    const uint8_t *pixels;               /* training images, or one streamed batch; device memory */
    void *pixels_owned;                  /* NULL where the host's memory serves */
    npi_stream *stream;                  /* NULL: not begun, or the images are in memory */
    int32_t *stream_order;               /* [images], host: the order of epoch stream_epoch */
    int64_t stream_epoch;                /* -1: none yet */
    int32_t *index;                      /* [batch], device memory; streamed: [batch x views] */
    int32_t *order;                      /* [images], host: this epoch's permutation */
    int32_t *batch_index, *batch_labels; /* [batch], [batch x views], host */
    uint64_t *pushed;                    /* [classes], host: embeddings that went into each ring */
    int epoch, step;                     /* the next step to run */
    int saved_epoch, saved_step;         /* where the checkpoint stands */
    double saved_at, save_seconds;       /* when it was written, and how long that took */
    npi_recording recordings[4]; /* of the step without and with R_open, prototypes free or held */
    npi_pending pending[NPI_POST_SLOTS];
    int64_t posted, collected; /* steps enqueued and steps in `sums` since this process began */
    npi_epoch_sums sums;
    npi_tb_events *events;
    size_t plan_bytes; /* device memory at the first step */
} npi_trainer;

/* train_setup.c: reads recipe and data, plans everything, starts or restores the weights.  importing: no step will be
 * taken, so the plan is of one image.  Release in any case. */
NPOS_MUST_CHECK npos_status npi_trainer_open(const npos_train_options *options, bool importing,
                                             npi_trainer *out);
void npi_trainer_close(npi_trainer *trainer);
/* Part of it: network, objective and the step's buffers for `recipe`, `images` and `dev`; frees all but the device. */
NPOS_MUST_CHECK npos_status npi_trainer_plan(npi_trainer *trainer);
void npi_trainer_unplan(npi_trainer *trainer);

/* train_input.c: prepares for images in memory or streamed (after the plan); before each step, puts what it sees where
 * augment finds it: the indices of batch_index, or the next streamed batch, which it waits for (pixels, and on other than
 * host devices also index, stay where they are from step to step); ends the loader. */
NPOS_MUST_CHECK npos_status npi_trainer_input_plan(npi_trainer *trainer);
NPOS_MUST_CHECK npos_status npi_trainer_feed(npi_trainer *trainer);
void npi_trainer_input_close(npi_trainer *trainer);
/* Host memory that the images take: all of them, or the loader's ring. */
size_t npi_trainer_input_bytes(const npi_trainer *trainer);

/* train_step.c: enqueues the next step and counts it; its losses come into `sums` when they are there, a few steps later
 * on devices that work ahead of the host.  Settling waits for all of them: before an epoch is logged or a state saved.
 * Settled: the steps of this epoch whose losses are in `sums`. */
NPOS_MUST_CHECK npos_status npi_trainer_step(npi_trainer *trainer);
NPOS_MUST_CHECK npos_status npi_trainer_settle(npi_trainer *trainer);
int npi_trainer_settled(const npi_trainer *trainer);
void npi_trainer_step_close(npi_trainer *trainer);

/* train_checkpoint.c.  Saving fails, and leaves the file as it was, where a value is not finite. */
NPOS_MUST_CHECK npos_status npi_trainer_save(npi_trainer *trainer);
/* Adds to a failure for values that are not finite how to go on from the checkpoint. */
npos_status npi_trainer_diverged(const npi_trainer *trainer, npos_status status);
NPOS_MUST_CHECK npos_status npi_trainer_restore(npi_trainer *trainer);
/* Removes what an attempt that was killed within a write left behind: RUN/NAME.safetensors.tmp-PID. */
void npi_trainer_drop_parts(const npi_trainer *trainer);

/* train_log.c: recipe.yaml and manifest.json; one line an epoch into log.jsonl and TensorBoard's events; what an earlier
 * attempt logged from epoch `first` on is dropped. */
NPOS_MUST_CHECK npos_status npi_trainer_describe(npi_trainer *trainer);
NPOS_MUST_CHECK npos_status npi_trainer_log_open(npi_trainer *trainer, int first);
NPOS_MUST_CHECK npos_status npi_trainer_log_epoch(npi_trainer *trainer, double rate);

/* train_finish.c: embeds all training images in inference mode; writes bank.safetensors and model.safetensors. */
NPOS_MUST_CHECK npos_status npi_trainer_finish(npi_trainer *trainer);
/* Prototypes from the mean of z over each class of `images`, in inference mode. */
NPOS_MUST_CHECK npos_status npi_trainer_start_prototypes(npi_trainer *trainer,
                                                         const npi_images *images);

/* *out = RUN/name, to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_trainer_path(const npi_trainer *trainer, const char *name,
                                             char **out);
/* Whether there is a file RUN/name. */
bool npi_trainer_has(const npi_trainer *trainer, const char *name);

#endif
