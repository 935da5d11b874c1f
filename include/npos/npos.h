/* npos/npos.h - the public interface of npos: non-parametric outlier synthesis and OOD evaluation
 * in C.
 *
 * Each command of the program is one function here.  Options structs start with `struct_size` and
 * are filled with defaults by npos_X_options_init, so that later versions can add fields:
 *
 *     npos_train_options options;
 *     npos_train_options_init(&options);
 *     options.recipe = "cifar10";
 *     options.data = "datasets/CIFAR10#train";
 *     options.out = "runs/cifar10";
 *     if (npos_train(&options) != NPOS_OK)
 *         fprintf(stderr, "%s\n", npos_error_message());
 *
 * Strings in options belong to the caller and must live until the call returns.  Results written to
 * files are written whole or not at all.  Functions that print take a FILE; nothing else of the
 * library prints.  Functions may be called from several threads for different run directories. */
#ifndef NPOS_NPOS_H
#define NPOS_NPOS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "npos/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define NPOS_VERSION "0.1.0"

/* ---- progress ---------------------------------------------------------------------------------
 */

/* Told what a job is doing: `phase` ("load data", "train", "embed svhn"), `done` of `total` units
 * (total 0: unknown), `text` a short line of figures or "".  Return 0 to go on, anything else to
 * stop: the job saves what it must and returns NPOS_INTERRUPTED.  Called from the thread that runs
 * the job, at most a few times a second, and always at done == total. */
typedef int npos_progress_fn(void *context, const char *phase, int64_t done, int64_t total,
                             const char *text);

/* ---- where and how to compute -----------------------------------------------------------------
 */

typedef struct npos_compute {
    const char *device;         /* "auto", "cpu", "cuda", "cuda:1", "reference" */
    const char *precision;      /* "auto", "fp32", "bf16" */
    int threads;                /* 0: all processors that the process may use */
    npos_progress_fn *progress; /* NULL: silent */
    void *progress_context;
    int verbose;     /* 1: the variant chosen for each operation goes to the progress function */
    int skip_broken; /* 1: images that cannot be read are left out, after every image of a set was
                        decoded once to find them; each is told to the progress function as a line of
                        the phase "skipped" and listed beside the results.  0: the first is an error */
} npos_compute;

/* ---- train ------------------------------------------------------------------------------------
 */

typedef struct npos_train_options {
    size_t struct_size;
    npos_compute compute;
    const char *recipe;     /* name or path */
    const char *data;       /* SPEC, NULL: the recipe's */
    const char *out;        /* run directory, made if missing */
    const char *init;       /* weights to start from: a run, its model.safetensors or
                                checkpoint.safetensors, or a ResNet of another program (docs/import.md);
                                or NULL */
    const char *const *set; /* "key=value", set_count of them */
    int set_count;
    int resume;       /* continue the run in `out` from its checkpoint */
    const char *text; /* npos_import alone: T of npos text makes a zero-shot run of the CLIP model
                             in `init`; NULL: it is a ResNet */
    const char
        *tuned; /* npos_import alone, with `text`: a checkpoint of NPOS's authors' fine-tuning, the
                             last blocks of that model and an outlier head; NULL: none */
    int stop_after_epoch; /* > 0: save and return NPOS_INTERRUPTED after that many epochs; for tests
                             and split runs */
} npos_train_options;
void npos_train_options_init(npos_train_options *options);
/* Trains from scratch and writes a run directory: recipe.yaml, manifest.json, model.safetensors,
 * bank.safetensors, checkpoint.safetensors, log.jsonl, TensorBoard events (docs/run-directory.md).
 */
NPOS_MUST_CHECK npos_status npos_train(const npos_train_options *options);

/* Makes a finished run of the weights in `init` as they are, without training: recipe.yaml, manifest.json,
 * model.safetensors (prototypes: the normalised mean of each class's z), bank.safetensors (embeddings of the training
 * images `data`).  Eval, score, embed, calibrate and report take it like any other.  `resume` and `stop_after_epoch`
 * must be 0.  Missing, unknown and wrongly shaped tensors are errors that name them (docs/import.md).
 *
 * With `text`, `init` is a CLIP model as npos_text_options' and the run is zero-shot: images are compared with the
 * classes' text embeddings (scores mcm, msp, maxlogit, energy).  `recipe` must be NULL; `data` may be, and then there
 * are no training embeddings for knn.  T made with other weights is NPOS_INVALID_ARGUMENT.  With
 * `tuned` too, the blocks, layer norm and projection in it take the place of the model's, and its outlier head is
 * score head. */
NPOS_MUST_CHECK npos_status npos_import(const npos_train_options *options);

/* ---- evaluate ---------------------------------------------------------------------------------
 */

typedef struct npos_eval_options {
    size_t struct_size;
    npos_compute compute;
    const char *run;
    const char *id;         /* SPEC of the ID test images; NULL: the recipe's test set */
    const char *const *ood; /* "[GROUP/]NAME=SPEC", or a name of the catalogue (npos_data_list) */
    int ood_count;
    const char *const *
        csid; /* full spectrum: sets of the classes under other conditions that count as ID with the test
                                images, "NAME=SPEC", or a benchmark of the catalogue that has some */
    int csid_count;
    const char *scores;   /* "knn,head", "all"; NULL: the recipe's own */
    const char *protocol; /* "oe" (default), "openood", "knn-ood" */
    int64_t max_images; /* of each OOD set, drawn with the seed; 0: all.  Default: 10,000 under oe,
                           else all (-1) */
    uint64_t seed;      /* of subsets and bootstrap */
    const char *json;   /* file to write, or NULL */
    FILE *table;        /* where the table goes, or NULL */
    const char *format; /* of the table: "table" (default), "md", "csv", "latex", "json" */
} npos_eval_options;
void npos_eval_options_init(npos_eval_options *options);
/* Scores ID and OOD images with a trained run and measures how well they part; writes RUN/eval.json
 * and the per-image scores RUN/scores/SCORE/NAME.npy beside what the options ask for. */
NPOS_MUST_CHECK npos_status npos_eval(const npos_eval_options *options);

/* ---- metrics from any program's scores --------------------------------------------------------
 */

typedef struct npos_metrics_options {
    size_t struct_size;
    const char *id;         /* .npy, one value an image */
    const char *const *ood; /* "[GROUP/]NAME=FILE.npy" */
    int ood_count;
    int larger_is_ood; /* 1: scores are larger for OOD; they are negated first */
    const char *protocol;
    uint64_t seed;
    const char *json;
    FILE *table;
    FILE *notes;        /* where "AUROC below 0.5: wrong polarity?" goes, or NULL */
    const char *format; /* of the table, as npos_eval's */
} npos_metrics_options;
void npos_metrics_options_init(npos_metrics_options *options);
NPOS_MUST_CHECK npos_status npos_metrics(const npos_metrics_options *options);

/* ---- compare runs -----------------------------------------------------------------------------
 */

typedef struct npos_compare_options {
    size_t struct_size;
    const char *const *runs; /* "RUN" or "METHOD=RUN"; runs of one METHOD are its seeds */
    int run_count;
    int seeds; /* 1: the runs without a METHOD are the seeds of one */
    const char
        *scores; /* "knn,head"; NULL: all that the evaluations of all runs of a method have */
    const char *protocol; /* NULL: the one of the first run's evaluation */
    uint64_t seed;        /* of the bootstrap */
    const char *json;     /* file to write, or NULL */
    const char *format;   /* of what is printed: "table" (default), "md", "csv", "latex", "json" */
    FILE *table;          /* where to, or NULL */
} npos_compare_options;
void npos_compare_options_init(npos_compare_options *options);
/* Puts runs that npos_eval measured on the same images side by side, from the scores that it stored:
 * the first method is what the others are compared with.  One run a method: 95% intervals, and
 * differences with intervals and p by the paired bootstrap over images.  Several: mean and standard
 * deviation over runs, and differences paired by seed with Student's t.  Runs that scored other
 * images, or whose seeds do not pair, are NPOS_INVALID_ARGUMENT. */
NPOS_MUST_CHECK npos_status npos_compare(const npos_compare_options *options);

/* ---- score single images ----------------------------------------------------------------------
 */

typedef struct npos_score_options {
    size_t struct_size;
    npos_compute compute;
    const char *run;
    const char *score;        /* NULL: the run's own */
    const char *const *files; /* image files; "-" reads the stream `names` */
    int file_count;
    FILE *names;        /* NULL unless files holds "-"; nothing of it may have been read before */
    const char *stream; /* what `names` holds: "names" of files, one a line (default), or "raw":
                           binary PPM and PGM images, one behind the other */
    int has_threshold;
    double threshold; /* used when has_threshold; else the calibrated one */
    int neighbours;   /* adds that many nearest training samples to each line */
    FILE *out; /* one JSON object an image: file, score, threshold, verdict, p_value, class */
} npos_score_options;
void npos_score_options_init(npos_score_options *options);
/* A file that cannot be scored gives a line with "error" and the job goes on; the call then returns
 * NPOS_BAD_DATA. */
NPOS_MUST_CHECK npos_status npos_score(const npos_score_options *options);

/* ---- CLIP's towers
 * ----------------------------------------------------------------------
 */

typedef struct npos_text_options {
    size_t struct_size;
    npos_compute compute;
    const char *clip;      /* folder of Hugging Face or open_clip, or OpenAI's .pt file */
    const char *classes;   /* "imagenet-1k", "imagenet-100", or a file with one class a line */
    const char *templates; /* file with one prompt a line, "{}" for the class; NULL: 18 of photos */
    const char *out;       /* .safetensors: "text" float32 [classes][D], of length 1 */
} npos_text_options;
void npos_text_options_init(npos_text_options *options);
/* Each class's direction: the normalised mean over templates of its prompts' normalised embeddings.
 * The file's metadata keep the names ("classes") and the prompts ("templates"), as JSON lists, and the
 * hash of the weights ("weights").  The precision "auto" is float32 here. */
NPOS_MUST_CHECK npos_status npos_text(const npos_text_options *options);

typedef struct npos_extract_options {
    size_t struct_size;
    npos_compute compute;
    const char *clip; /* as npos_text_options' */
    const char *data; /* SPEC */
    const char *out;  /* folder, made if missing */
    int block;        /* default 10: tokens that leave blocks 0..9 and enter block 10 */
    int batch;  /* images at once; 0: what suits the device.  The tokens do not depend on it */
    int resume; /* go on in an `out` that an extraction left unfinished */
    /* 1 or more: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where its short side is then still so
     * many times the model's; faster, other pixels, and kept with the tokens.  0: whole, the default */
    double reducing_gap;
} npos_extract_options;
void npos_extract_options_init(npos_extract_options *options);
/* Writes all tokens of each image as float16 into chunks with checksums (docs/clip.md): what
 * fine-tuning reads.  When it is stopped, by a signal, a full disk or an image that cannot be read, the
 * chunks so far stay, and `resume` makes those that are missing.  A token that float16 cannot hold is
 * NPOS_NOT_FINITE and names its image. */
NPOS_MUST_CHECK npos_status npos_extract(const npos_extract_options *options);

typedef struct npos_finetune_options {
    size_t struct_size;
    npos_compute compute;
    const char *recipe; /* name or path, of method clip */
    const char *clip;   /* as npos_text_options'; it is left as it is */
    const char
        *features; /* what npos_extract wrote of the training images; or feature.pt with target.pt
                                beside it, or a folder of class folders of .pt files (docs/clip.md) */
    const char *data;       /* SPEC of the training images, in place of features */
    const char *text;       /* of npos_text; NULL: made of the classes' names, in 18 templates */
    const char *out;        /* run directory, made if missing */
    const char *const *set; /* "key=value", set_count of them */
    int set_count;
    int resume;           /* continue the run in `out` from its checkpoint */
    int stop_after_epoch; /* as npos_train_options' */
} npos_finetune_options;
void npos_finetune_options_init(npos_finetune_options *options);
/* Trains the last blocks of CLIP's image tower, its last layer norm and projection, and an outlier head, against the
 * classes' text embeddings, which stay; writes a run directory as npos_train, with the tuned model in RUN/clip as its
 * makers would (docs/clip.md).  Eval, score, embed, calibrate and report take it.  To resume, `recipe`, `clip`,
 * `features`, `data` and `text` may be NULL.  Features of another block or of other weights, T made with other weights
 * and classes that T lacks are NPOS_INVALID_ARGUMENT; what changed since a run began is NPOS_BAD_DATA. */
NPOS_MUST_CHECK npos_status npos_finetune(const npos_finetune_options *options);

/* ---- embeddings -------------------------------------------------------------------------------
 */

typedef struct npos_embed_options {
    size_t struct_size;
    npos_compute compute;
    const char *run;
    const char *data;   /* SPEC */
    const char *out;    /* .npy [n][D] float32: penultimate embeddings h */
    const char *logits; /* .npy [n][C], or NULL; an error when the model has no classifier */
    const char *labels; /* .npy [n] int64, or NULL */
} npos_embed_options;
void npos_embed_options_init(npos_embed_options *options);
NPOS_MUST_CHECK npos_status npos_embed(const npos_embed_options *options);

/* ---- weights for other programs ---------------------------------------------------------------
 */

typedef struct npos_export_options {
    size_t struct_size;
    const char *run;
    const char
        *out; /* file, or with a detector run directory; NULL: RUN/weights.pt, .safetensors */
    const char
        *to; /* "pt": a state dict for PyTorch; "safetensors"; NULL: as `out` ends (.pt, .pth,
                        .safetensors) */
    npos_compute compute;
    /* NULL: weights.  Else `out` becomes a run without the training embeddings that scores with it:
     * "coreset" (knn over a few of them), or a score that needs none, as "head" or "prototype". */
    const char *detector;
    int64_t size;           /* rows of a coreset; 0: a twentieth of them */
    const char *id;         /* SPEC of ID images, with `ood` to measure what is lost; or NULL */
    const char *const *ood; /* "[GROUP/]NAME=SPEC" */
    int ood_count;
    FILE *table; /* for what was kept and lost; or NULL */
} npos_export_options;
void npos_export_options_init(npos_export_options *options);
/* Writes the weights under torchvision's names; what it has none for keeps ours.  (A run of CLIP has its model in its
 * makers' layout, RUN/clip: NPOS_UNSUPPORTED.)  Or, with a detector, a
 * run for eval, score and calibrate; a threshold goes along only where the scores stay the same. */
NPOS_MUST_CHECK npos_status npos_export(const npos_export_options *options);

/* ---- embeddings of other programs -------------------------------------------------------------
 */

typedef struct npos_fit_options {
    size_t struct_size;
    const char *embeddings; /* .npy [n][D]: of training images, float32 or float64 */
    const char *labels;     /* .npy [n], whole numbers: their classes */
    const char *logits;     /* .npy [n][C], or NULL: says that evaluated SPECs bring logits too */
    const char *head;       /* .npy [C][D]: weights of the classifier on embeddings, or NULL */
    const char *bias;       /* .npy [C], or NULL: 0 */
    const char *out;        /* run directory, made if missing; one that holds a run is refused */
    const char *score;      /* the run's own; NULL: knn */
    int knn_k;              /* 0: 300, or n where that is less */
} npos_fit_options;
void npos_fit_options_init(npos_fit_options *options);
/* Makes a run without a network: npos_eval, npos_score and npos_calibrate then take
 * "embeddings:H.npy[#logits=L.npy][#labels=Y.npy]" where other runs take images.  With a head, logits
 * are computed from embeddings where a SPEC names none; given logits must be the head's. */
NPOS_MUST_CHECK npos_status npos_fit(const npos_fit_options *options);

/* ---- a threshold ------------------------------------------------------------------------------
 */

typedef struct npos_calibrate_options {
    size_t struct_size;
    npos_compute compute;
    const char *run;
    const char *id;    /* SPEC of ID images that the model was not trained on */
    const char *score; /* NULL: the run's own */
    double tpr;        /* fraction of ID images to accept, default 0.95 */
    const char *json;
    FILE *out;
    const char *const *ood; /* "NAME=SPEC" of validation OOD images: they choose the k of knn */
    int ood_count;
} npos_calibrate_options;
void npos_calibrate_options_init(npos_calibrate_options *options);
/* Stores in the model the threshold at which `tpr` of the ID images are accepted, with its
 * Clopper-Pearson interval.  With OOD sets (never those of the evaluation) it first chooses k for the
 * score knn, by the largest AUROC against them, and stores it too. */
NPOS_MUST_CHECK npos_status npos_calibrate(const npos_calibrate_options *options);

/* ---- report -----------------------------------------------------------------------------------
 */

typedef struct npos_report_options {
    size_t struct_size;
    npos_compute compute;
    const char *run;
    const char *const *compare; /* other runs whose eval.json stands beside, or NULL */
    int compare_count;
} npos_report_options;
void npos_report_options_init(npos_report_options *options);
/* Writes RUN/report/index.html, one file that opens offline. */
NPOS_MUST_CHECK npos_status npos_report(const npos_report_options *options);

/* ---- sets of images ---------------------------------------------------------------------------
 */

/* Names of sets that papers use stand for what lies below a root folder: the environment's NPOS_DATA, else
 * "datasets" (docs/data.md).  They serve as SPECs everywhere. */

typedef struct npos_data_list_options {
    size_t struct_size;
    const char *root;         /* NULL: NPOS_DATA, else "datasets" */
    const char *const *names; /* sets or benchmarks to describe in full; none: a line each of all */
    int name_count;
    int only_names;   /* 1: the names of all sets and benchmarks, a line each */
    const char *json; /* file to write, or NULL */
    FILE *table;      /* where the table goes, or NULL */
} npos_data_list_options;
void npos_data_list_options_init(npos_data_list_options *options);
/* Each set's role, size, source, licence, checksum, and whether it lies below the root. */
NPOS_MUST_CHECK npos_status npos_data_list(const npos_data_list_options *options);

typedef struct npos_data_fetch_options {
    size_t struct_size;
    npos_compute compute;     /* its progress alone */
    const char *root;         /* as npos_data_list_options' */
    const char *const *names; /* sets, or benchmarks for all of their sets */
    int name_count;
    const char *mirror; /* a server that has the files under MIRROR/FILE, asked first; or NULL */
    int keep;           /* 1: archives stay beside what they unpacked to */
    FILE *out;          /* a line for each set, or NULL */
} npos_data_fetch_options;
void npos_data_fetch_options_init(npos_data_fetch_options *options);
/* Downloads sets into the authors' folder layout below the root: what is there stays, a download that was cut goes on,
 * sizes and published checksums are compared, the free space is checked first, archives are unpacked whole or not at
 * all.  NPOS_UNSUPPORTED: a set that must be had by hand (its hint says where), or a build without libcurl. */
NPOS_MUST_CHECK npos_status npos_data_fetch(const npos_data_fetch_options *options);

typedef struct npos_data_check_options {
    size_t struct_size;
    npos_compute compute;   /* its threads and progress */
    const char *data;       /* SPEC, or NULL; one with both splits is checked as train and test */
    const char *train;      /* SPEC, or NULL */
    const char *test;       /* SPEC, or NULL */
    const char *const *ood; /* as npos_eval_options' */
    int ood_count;
    const char *recipe; /* whose normalisation the images should have, or NULL */
    int any_statistics; /* 1: a recipe with other statistics is no error */
    int near; /* bits of 64 in which near copies may differ, default 6; -1: exact copies alone */
    const char *json; /* file to write, or NULL */
    const char *html; /* page to write, or NULL */
    FILE *table;      /* where the table goes, or NULL */
} npos_data_check_options;
void npos_data_check_options_init(npos_data_check_options *options);
/* Reads all images of up to 32 sets: how many of each class; what cannot be read, is grey, tiny or of one brightness;
 * exact and near copies inside and across sets; OOD classes that are called like ID classes; each channel's mean and
 * deviation beside the recipe's.  Images that cannot be read, and CIFAR-10's images with another set's statistics, are
 * NPOS_BAD_DATA, after all was written. */
NPOS_MUST_CHECK npos_status npos_data_check(const npos_data_check_options *options);

typedef struct npos_data_show_options {
    size_t struct_size;
    const char *data; /* SPEC */
    const char *out;  /* .png */
    int rows;         /* classes, or rows of images without labels; default 20 */
    int columns;      /* images of each; default 12 */
    int size;         /* pixels of an image's cell; default 64 */
    FILE *table;      /* where a line about the sheet goes, or NULL */
} npos_data_show_options;
void npos_data_show_options_init(npos_data_show_options *options);
/* Writes a contact sheet: for each of up to `rows` classes, evenly spread, its name and a row of its images. */
NPOS_MUST_CHECK npos_status npos_data_show(const npos_data_show_options *options);

/* 1 when the catalogue has a set, a benchmark or a BENCHMARK/PART of this name, also behind "GROUP/". */
int npos_data_known(const char *name);

/* ---- about this machine -----------------------------------------------------------------------
 */

typedef struct npos_bench_options {
    size_t struct_size;
    npos_compute compute;
    const char *only; /* comma list of benchmark names, or NULL: all */
    const char *json;
    FILE *table;
} npos_bench_options;
void npos_bench_options_init(npos_bench_options *options);
NPOS_MUST_CHECK npos_status npos_bench(const npos_bench_options *options);

typedef struct npos_info_options {
    size_t struct_size;
    const char *json;
    FILE *table;
} npos_info_options;
void npos_info_options_init(npos_info_options *options);
NPOS_MUST_CHECK npos_status npos_info(const npos_info_options *options);

/* Recipes that this installation knows: prints name and one line each; with `name`, all settings of
 * one. */
NPOS_MUST_CHECK npos_status npos_recipes(const char *name, FILE *out);

#ifdef __cplusplus
}
#endif
#endif
