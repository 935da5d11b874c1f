/* ood/accuracy.h - which class an image belongs to, and how often that is right. */
#ifndef NPI_OOD_ACCURACY_H
#define NPI_OOD_ACCURACY_H

#include "ood/detector.h"
#include "ood/results.h"

enum { NPI_VOTE_K = 50 }; /* neighbours that vote; all of them where the bank holds fewer */

/* class_of[n] by the vote of the nearest NPI_VOTE_K training embeddings, one vote each; among
 * classes with equal votes the one whose first voter is nearest (equal distances: lower training
 * index first).  confidence[n] (may be NULL) = the winner's share of the votes.  Needs the bank. */
NPOS_MUST_CHECK npos_status npi_classify_knn(const npi_detector_model *model,
                                             const npi_outputs *outputs, int32_t *class_of,
                                             double *confidence);
/* class_of[n] of the nearest prototype in cosine, ties: lower class; confidence[n] (may be NULL) =
 * its share of softmax_c(cos(z, mu_c)/tau), the model that L_comp fits.  Needs prototypes. */
void npi_classify_prototype(const npi_detector_model *model, const npi_outputs *outputs,
                            int32_t *class_of, double *confidence);
/* class_of[n] of the classifier's largest logit, ties: lower class; confidence[n] (may be NULL) =
 * its softmax probability.  Needs the classifier. */
void npi_classify_head(const npi_detector_model *model, const npi_outputs *outputs,
                       int32_t *class_of, double *confidence);

/* class_of[n] (and confidence[n], which may be NULL) by what the model was trained with: the classifier,
 * else the prototypes, else the vote of the training embeddings.  *can = false where it has none of
 * them; then class_of is -1. */
NPOS_MUST_CHECK npos_status npi_classify(const npi_detector_model *model,
                                         const npi_outputs *outputs, int32_t *class_of,
                                         double *confidence, bool *can);

/* Images with a label, and those of them whose class is found by each way that the model has; -1 for
 * the others. */
typedef struct npi_found {
    int64_t labelled, knn, prototype, head, text;
} npi_found;

/* labels[n] are the model's class numbers; images with label -1 are left out. */
NPOS_MUST_CHECK npos_status npi_count_found(const npi_detector_model *model,
                                            const npi_outputs *outputs, const int32_t *labels,
                                            npi_found *out);
/* Adds what the same model found among other images; all of `sum` is 0 before the first. */
void npi_found_add(npi_found *sum, const npi_found *found);
/* The shares of the labelled images; -1 for ways that the model lacks, and for all when no image has
 * a label. */
npi_accuracy npi_accuracy_of(const npi_found *found);

#endif
