/* ood/head_logits.h - the classifier's logits of changed embeddings, for detectors that change them. */
#ifndef NPI_OOD_HEAD_LOGITS_H
#define NPI_OOD_HEAD_LOGITS_H

#include "ood/detector.h"

enum { NPI_HEAD_BLOCK = 256 }; /* images of a block: what bounds the memory of such detectors */

/* logits[n][classes] = W h + b in float64, of h [n][dim], with the model's weights. */
void npi_head_logits(const npi_detector_model *model, int64_t n, const float *h, double *logits);

/* score[n] = log sum_c exp(l_c) of the logits of change(h): `change` turns the dim numbers of one
 * embedding into others, with `state`. */
NPOS_MUST_CHECK npos_status npi_head_energy(const npi_detector_model *model,
                                            const npi_outputs *outputs,
                                            void (*change)(const void *state, int dim,
                                                           const float *h, float *to),
                                            const void *state, double *score);

/* log sum_c exp(l_c) of n logits; NaN when one is NaN. */
double npi_log_sum_exp(const double *logit, int n);

/* The class of the largest of n logits, the lower among equals. */
int npi_largest(const double *logit, int n);

#endif
