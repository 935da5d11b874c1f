/* jobs/evaluation.h - an evaluation put together set by set: what the network says of one set's
 * images goes through all detectors at once, and only the scores are kept.
 *
 *     npi_evaluation_begin(&evaluation, protocol, seed, spec, detectors, count, sets, set_count);
 *     npi_evaluation_add(&evaluation, detectors, NPI_ID_SET, &outputs, names, available);
 *     for each OOD set i: npi_evaluation_add(&evaluation, detectors, i, ...);
 *     npi_evaluation_measure(&evaluation, compute);
 *     npi_evaluation_scores_write(&evaluation, "RUN/scores"); */
#ifndef NPI_JOBS_EVALUATION_H
#define NPI_JOBS_EVALUATION_H

#include "data/dataset.h"
#include "jobs/ood_sets.h"
#include "npos/npos.h"
#include "ood/detector.h"
#include "ood/results.h"

enum { NPI_ID_SET = -1 };

/* Makes one result a detector with the OOD sets' names and no scores yet, in a zeroed *out; release
 * with npi_evaluation_clear, also after a failure. */
NPOS_MUST_CHECK npos_status npi_evaluation_begin(npi_evaluation *out, npi_protocol protocol,
                                                 uint64_t seed, const char *id_spec,
                                                 const npi_detector *detectors, int count,
                                                 const npi_ood_set *sets, int set_count);

/* Adds a part of a full spectrum's ID images, whose `n` and `accuracy` are still to be told; in the order in which their
 * scores are added. */
NPOS_MUST_CHECK npos_status npi_evaluation_id_part(npi_evaluation *evaluation, const char *name,
                                                   const char *spec);

/* Scores one set with every detector; of NPI_ID_SET several calls add up.  names[n] (may be NULL) are the images', for the error on a
 * score that is NaN; `available` is how many images the set's SPEC holds. */
NPOS_MUST_CHECK npos_status npi_evaluation_add(npi_evaluation *evaluation,
                                               const npi_detector *detectors, int set,
                                               const npi_outputs *outputs, char *const *names,
                                               int64_t available);

/* Lists the images that were left out of a set as broken. */
NPOS_MUST_CHECK npos_status npi_evaluation_skip(npi_evaluation *evaluation, int set,
                                                const npi_images *images);

/* Measures every set under the evaluation's protocol and sets each threshold to the score that
 * accepts 95% of the ID images.  `compute` is told the progress (phase "measure"). */
NPOS_MUST_CHECK npos_status npi_evaluation_measure(npi_evaluation *evaluation,
                                                   const npos_compute *compute);

/* Writes FOLDER/SCORE/NAME.npy (float64) of each OOD set and FOLDER/SCORE/id.npy. */
NPOS_MUST_CHECK npos_status npi_evaluation_scores_write(const npi_evaluation *evaluation,
                                                        const char *folder);

/* to[n] = labels of a set, renumbered to the model's classes by name; -1 stays -1.  A class of the
 * set that the model does not have is an error that names it. */
NPOS_MUST_CHECK npos_status npi_labels_of_model(const npi_images *images, char *const *class_names,
                                                int classes, int32_t *to);

#endif
