/* jobs/run.h - a trained run, opened: what eval, score, embed, calibrate and report share.
 *
 * A run directory holds recipe.yaml, manifest.json, model.safetensors, bank.safetensors (and what
 * training needs). */
#ifndef NPI_JOBS_RUN_H
#define NPI_JOBS_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "data/dataset.h"
#include "jobs/recipe.h"
#include "npos/npos.h"
#include "tensor/device.h"

/* What the network says of n images, host arrays; a member is NULL where the model has no such
 * output. */
typedef struct npi_features {
    int64_t n;
    int dim, proj, classes;
    float *h;         /* [n][dim] penultimate embeddings */
    float *z;         /* [n][proj] normalised projections */
    float *phi;       /* [n] the outlier head's logit, larger = more in-distribution */
    float *logits;    /* [n][classes] of the classifier (method ce), or cosines (CLIP) */
    float *perturbed; /* [n][classes] its logits of perturbed images; after npi_run_perturb */
} npi_features;
void npi_features_clear(npi_features *features);

/* The training embeddings that fitted detectors keep (bank.safetensors). */
typedef struct npi_bank {
    int64_t n;
    int dim;
    float *h;        /* [n][dim], not normalised */
    int32_t *labels; /* [n] */
    char **names;    /* [n], or NULL when they were left out */
    struct npi_safetensors
        *file; /* where h, labels and names lie, mapped and not to be written to; NULL:
                                     they are the bank's own */
} npi_bank;
void npi_bank_clear(npi_bank *bank);

/* A stored threshold of one score. */
typedef struct npi_calibration {
    char *score; /* NULL: not calibrated */
    double threshold, tpr, tpr_ci[2];
    int64_t n;
    int knn_k; /* chosen on validation images; 0: the recipe's */
} npi_calibration;

typedef struct npi_run_clip npi_run_clip;
typedef struct npi_run npi_run;
struct npi_run {
    char *path;
    npi_recipe recipe;
    npi_transform transform;
    npi_device *dev;
    int classes, dim, proj;
    char **class_names;
    float *prototypes; /* [classes][proj], unit rows; NULL where the method has none */
    bool has_head, has_classifier;
    float *weight,
        *bias; /* [classes][dim], [classes] of the classifier; NULL where there is none */
    float *
        text; /* [classes][dim] unit rows of CLIP's text tower; NULL where the run is none of CLIP */
    npi_bank bank; /* empty (n 0) until npi_run_bank */
    npi_calibration calibration;
    bool external; /* no network: other programs' embeddings come as SPECs (jobs/external.h) */
    void *network; /* jobs/run.c's own; NULL where external or CLIP's */
    struct npi_run_clip *clip; /* jobs/run_clip.h's own; NULL where the network is no CLIP */
};

/* Opens a run on the device that `compute` names.  Missing files, unknown, missing or wrongly
 * shaped weights are errors that name them. */
NPOS_MUST_CHECK npos_status npi_run_open(const char *path, const npos_compute *compute,
                                         npi_run **out);
void npi_run_close(npi_run *run);

/* Reads the bank once; later calls return at once. */
NPOS_MUST_CHECK npos_status npi_run_bank(npi_run *run);

/* Runs the network (a run without one is NPOS_UNSUPPORTED) in inference mode over n images of the model's
 * size (host memory, uint8 HWC, as npi_images.pixels).  Results do not depend on how images fall into
 * batches.  Fills a zeroed *out.  `phase` names the work in progress. */
NPOS_MUST_CHECK npos_status npi_run_features(npi_run *run, const uint8_t *pixels, int64_t n,
                                             const npos_compute *compute, const char *phase,
                                             npi_features *out);

/* Whether the network can say what perturbed images are: a classifier, in float32.  In bfloat16 ODIN's
 * step is as small as the rounding of the images. */
bool npi_run_perturbs(const npi_run *run);

/* From here on npi_run_features gives `perturbed` too, at about four times the work.  Call only where
 * npi_run_perturbs. */
NPOS_MUST_CHECK npos_status npi_run_perturb(npi_run *run);

/* Writes FOLDER/model.safetensors: the run's own with this calibration (NULL: none). */
NPOS_MUST_CHECK npos_status npi_run_write_model(const npi_run *run, const char *folder,
                                                const npi_calibration *calibration);

/* Stores the calibration in model.safetensors (rewritten whole). */
NPOS_MUST_CHECK npos_status npi_run_set_calibration(npi_run *run,
                                                    const npi_calibration *calibration);

#endif
