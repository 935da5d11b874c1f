/* jobs/trainer.h - the state of a training run, shared by the files that make it (train_setup.c), run it (train.c), log
 * it (train_log.c), save and resume it (train_checkpoint.c) and finish it (train_finish.c); what fine-tuning CLIP does
 * otherwise is in train_clip.c and train_classes.c. */
#ifndef NPI_JOBS_TRAINER_H
#define NPI_JOBS_TRAINER_H

#include "data/stream.h"
#include "io/tb_events.h"
#include "io/token_store.h"
#include "jobs/recording.h"
#include "jobs/settings.h"
#include "jobs/text_file.h"
#include "jobs/token_feed.h"
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

/* What a run of CLIP has beside the rest. */
typedef struct npi_train_clip {
    npi_clip_config config;
    uint64_t weights;         /* npi_clip_hash of recipe.clip */
    npi_text_file text;       /* T and its classes, which are the images' from then on */
    uint64_t text_hash;       /* npi_text_file_hash */
    npi_token_store *store;   /* NULL: images go through the frozen blocks */
    npi_stream_items items;   /* of the store; `read` NULL without */
    npi_clip *made_up;        /* npos_bench's, in place of recipe.clip; NULL elsewhere */
    npi_clip_encoder encoder; /* those; empty where there is a store */
    npi_clip_tuning *plan;
    npi_token_feed *feed;
    bool begun;             /* the feed, at the step that the trainer stood at */
    const uint16_t *halves; /* tokens of the next step, as npi_token_feed_next gives them */
    const int32_t *at;
} npi_train_clip;

/* Who opens a trainer. */
typedef enum npi_trainer_job {
    NPI_TRAINER_TRAIN,
    NPI_TRAINER_IMPORT, /* no step will be taken */
    NPI_TRAINER_FINETUNE
} npi_trainer_job;

typedef struct npi_trainer {
    const npos_train_options *options;
    const char *command;  /* "train", "finetune": for hints */
    npi_train_clip *clip; /* NULL: training from scratch */
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
    int batch;                           /* images of a step; of the last of an epoch maybe fewer */
    int epoch, step;                     /* the next step to run */
    int saved_epoch, saved_step;         /* where the checkpoint stands */
    double saved_at, save_seconds;       /* when it was written, and how long that took */
    bool open;                           /* the step to run has R_open */
    npi_recording recordings[2][2][2];   /* of a step [open][fewer images][prototypes held] */
    npi_pending pending[NPI_POST_SLOTS];
    int64_t posted, collected; /* steps enqueued and steps in `sums` since this process began */
    npi_epoch_sums sums;
    npi_tb_events *events;
    size_t plan_bytes; /* device memory at the first step */
} npi_trainer;

/* train_setup.c: reads recipe and data, plans everything, starts or restores the weights.  An import's plan is of one
 * image.  Release in any case. */
NPOS_MUST_CHECK npos_status npi_trainer_open(const npos_train_options *options, npi_trainer_job job,
                                             npi_trainer *out);
void npi_trainer_close(npi_trainer *trainer);
/* train.c: opens, runs all epochs, finishes, closes. */
NPOS_MUST_CHECK npos_status npi_train(const npos_train_options *options, npi_trainer_job job);
/* Part of it: network, objective and the step's buffers for `recipe`, `images` and `dev`; frees all but the device. */
NPOS_MUST_CHECK npos_status npi_trainer_plan(npi_trainer *trainer);
void npi_trainer_unplan(npi_trainer *trainer);
/* Images of a step of this number in an epoch. */
int npi_trainer_count(const npi_trainer *trainer, int64_t step);
/* The progress function's, for work before the first step. */
npos_status npi_trainer_loading(void *trainer, int64_t done, int64_t total);

/* train_clip.c: the recipe's keys that the model tells; the images, of a store where it names one; the tuned blocks and
 * what feeds them; phi's start. */
NPOS_MUST_CHECK npos_status npi_trainer_clip_recipe(npi_trainer *trainer);
NPOS_MUST_CHECK npos_status npi_trainer_clip_load(npi_trainer *trainer);
NPOS_MUST_CHECK npos_status npi_trainer_clip_plan(npi_trainer *trainer);
NPOS_MUST_CHECK npos_status npi_trainer_clip_feed(npi_trainer *trainer);
/* Before a step, its tokens to where, in the step, they are put into the plan: of the first n images. */
NPOS_MUST_CHECK npos_status npi_trainer_clip_next(npi_trainer *trainer);
NPOS_MUST_CHECK npos_status npi_trainer_clip_put(const npi_trainer *trainer, int n);
NPOS_MUST_CHECK npos_status npi_trainer_clip_start(npi_trainer *trainer);
void npi_trainer_clip_close(npi_trainer *trainer);
/* h [images][dim] of all training images, on the host. */
NPOS_MUST_CHECK npos_status npi_trainer_clip_embed(npi_trainer *trainer, float *h);
/* RUN/clip and RUN/model.safetensors. */
NPOS_MUST_CHECK npos_status npi_trainer_clip_write(npi_trainer *trainer);

/* train_classes.c: T of the recipe's file, or made of the images' class names; it is kept as RUN/text.safetensors, and
 * the images take its classes. */
NPOS_MUST_CHECK npos_status npi_trainer_classes(npi_trainer *trainer);

/* train_input.c: prepares for images in memory or streamed (after the plan); before each step, puts what it sees where
 * augment finds it: the indices of batch_index, or the next streamed batch, which it waits for (pixels, and on other than
 * host devices also index, stay where they are from step to step); ends the loader. */
NPOS_MUST_CHECK npos_status npi_trainer_input_plan(npi_trainer *trainer);
NPOS_MUST_CHECK npos_status npi_trainer_feed(npi_trainer *trainer);
/* The order of images as data/stream.h asks for it; context: the trainer. */
npos_status npi_trainer_order(void *context, int64_t number, int32_t *index, int *count);
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
