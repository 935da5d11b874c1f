/* ood/detector.h - from what a network says of an image to one number, larger = more
 * in-distribution.
 *
 * A detector is one file, ood/detector_NAME.c, which defines an npi_detector_kind, and one line in
 * ood/detectors.c.  It says what it needs of the model, is fitted on training data only, and scores
 * each image by itself: the score of an image never depends on the other images of the call.  See
 * docs/detectors.md for the equations and for how to add one. */
#ifndef NPI_OOD_DETECTOR_H
#define NPI_OOD_DETECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "ood/neighbours.h"
#include "tensor/device.h"

/* What the network says of n images; host memory of the caller.  NULL where the model has no such
 * output. */
typedef struct npi_outputs {
    int64_t n;
    int dim, proj, classes;
    const float *h;      /* [n][dim] penultimate embeddings */
    const float *z;      /* [n][proj] normalised projections */
    const float *phi;    /* [n] logit of the outlier head */
    const float *logits; /* [n][classes] of the classifier */
    const float
        *perturbed; /* [n][classes] its logits of images moved by ODIN's step (nn/perturb.h) */
} npi_outputs;

/* The numbers of a fitted detector, as they are saved with the model: rows x columns of float64. */
typedef struct npi_detector_array {
    char name[24];
    int64_t rows, columns;
    const double *values;
} npi_detector_array;

enum { NPI_DETECTOR_ARRAYS = 4 }; /* of a detector, at the most */

typedef struct npi_saved_detector {
    char name[32]; /* of the detector */
    int count;
    npi_detector_array array[NPI_DETECTOR_ARRAYS];
} npi_saved_detector;

/* *out = a copy of the saved array `name`.  *rows and *columns: 0 takes what there is and tells it, else
 * another shape is NPOS_SHAPE_MISMATCH. */
NPOS_MUST_CHECK npos_status npi_saved_array(const npi_saved_detector *saved, const char *name,
                                            int64_t *rows, int64_t *columns, double **out);

/* What detectors may be fitted on: the model and its training embeddings.  Borrowed; it must outlive
 * the detectors. */
typedef struct npi_detector_model {
    const char *name; /* the run, in errors */
    npi_device *dev;
    int dim, proj, classes;
    bool has_head, has_classifier;
    const float *prototypes;        /* [classes][proj] unit rows, or NULL */
    double tau;                     /* temperature of the prototypes */
    const npi_neighbour_bank *bank; /* training embeddings, or NULL */
    const int32_t *bank_labels;     /* [count of the bank] */
    int knn_k;
    const float *bank_h; /* [count of the bank][dim] not normalised; NULL without a bank */
    const float *weight; /* [classes][dim] of the classifier, logits = weight h + bias; or NULL */
    const float *bias;   /* [classes], or NULL: 0 */
    bool has_perturbed;  /* outputs->perturbed can be had */
    bool has_text;       /* the logits are cosines of h with the classes' text embeddings (CLIP) */
    /* Fitted on this model before: taken instead of fitting.  NULL: none. */
    const npi_saved_detector *saved;
    int saved_count;
} npi_detector_model;

/* What a detector asks of the model, a sum of: */
typedef enum npi_detector_need {
    NPI_NEEDS_BANK = 1,
    NPI_NEEDS_PROTOTYPES = 2,
    NPI_NEEDS_HEAD = 4,
    NPI_NEEDS_CLASSIFIER = 8, /* its logits */
    NPI_NEEDS_WEIGHTS = 16,   /* and its weights */
    NPI_NEEDS_PERTURBED = 32, /* its logits of perturbed images */
    NPI_NEEDS_TEXT = 64       /* logits that are cosines with classes' text embeddings */
} npi_detector_need;

typedef struct npi_detector_kind {
    const char *name;
    unsigned needs;
    /* Fits on the model: *state is the detector's own, NULL when it keeps nothing.  NULL: nothing to
     * fit or check. */
    npos_status (*fit)(const npi_detector_model *model, void **state);
    void (*free)(void *state); /* NULL when there is no state */
    /* What a fitted state consists of, borrowed from it; returns how many.  And a state from what was
     * saved, which needs no training embeddings.  Both NULL: fitted anew whenever a run is opened. */
    int (*arrays)(const npi_detector_model *model, const void *state,
                  npi_detector_array array[NPI_DETECTOR_ARRAYS]);
    npos_status (*restore)(const npi_detector_model *model, const npi_saved_detector *saved,
                           void **state);
    /* score[outputs->n]; the needs are fulfilled. */
    npos_status (*score)(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *score);
} npi_detector_kind;

/* The registry, NULL-terminated, in the order in which tables show them. */
extern const npi_detector_kind *const npi_detector_kinds[];

/* A fitted detector. */
typedef struct npi_detector {
    const npi_detector_kind *kind;
    const npi_detector_model *model;
    void *state;
    bool restored; /* from what was saved */
} npi_detector;

/* Fits the detectors of a comma list ("knn,head"), or of "all" that the model can serve.  Unknown
 * names (the nearest is hinted at), names given twice and needs that the model does not fulfil are
 * errors.  *out holds *count detectors; free with npi_detectors_free. */
NPOS_MUST_CHECK npos_status npi_detectors_fit(const char *list, const npi_detector_model *model,
                                              npi_detector **out, int *count);
void npi_detectors_free(npi_detector *detectors, int count);

/* score[outputs->n] of one detector. */
NPOS_MUST_CHECK npos_status npi_detector_score(const npi_detector *detector,
                                               const npi_outputs *outputs, double *score);

/* Whether any detector of such a list needs `need`; unknown names do not count. */
bool npi_detectors_need(const char *list, npi_detector_need need);

#endif
