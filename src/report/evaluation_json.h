/* report/evaluation_json.h - an evaluation as the JSON object that programs read, and back.
 *
 *     {"schema": 1, "protocol": "oe", "positive": "id", "seed": 0, "results": [
 *       {"score": "knn", "threshold": -0.41,
 *        "id": {"spec": "...", "n": 10000, "accuracy": {"knn": 0.91, "prototype": 0.91}},
 *        "ood": [{"name": "mnist", "group": "far", "spec": "...", "n": 10000, "available": 70000,
 *                 "fpr95": ..., "auroc": ..., "aupr_in": ..., "aupr_out": ...,
 *                 "fpr95_ci": [lo, hi], "auroc_ci": [lo, hi], "aupr_in_ci": [lo, hi],
 *                 "aupr_out_ci": [lo, hi]}, ...],
 *        "means": {"all": {"fpr95": ..., ..., "fpr95_ci": [lo, hi], ...},
 *                  "far": {...}}}, ...]}
 *
 * Where npos calibrate chose knn's k by validation sets, that result has "chosen_k": K behind "threshold".
 * Of a full spectrum "id" has "parts": [{"name": "id", "spec": "...", "n": 10000, "accuracy": {...}}, {"name":
 * "imagenet-r", ...}], all of which count as ID: "n" and "accuracy" are those of all of them.
 * Where images could not be read and were left out, "id" and the sets have "skipped": [NAME, ...].
 *
 * Fractions in [0, 1].  `group` is "" for a set without one.  `accuracy` has the keys that the model
 * has.  `available` > `n` + skipped says that n images were drawn, with `seed`.  A threshold that is infinite is
 * null.  AUPR's intervals may be missing when a file is read: [0, 1] then;
 * and so may those of the means.  `means` has "all" and one entry a named group. */
#ifndef NPI_REPORT_EVALUATION_JSON_H
#define NPI_REPORT_EVALUATION_JSON_H

#include <stdio.h>

#include "ood/results.h"

/* Writes the object, whole or not at all. */
NPOS_MUST_CHECK npos_status npi_evaluation_write(const npi_evaluation *evaluation,
                                                 const char *path);

/* Prints it. */
NPOS_MUST_CHECK npos_status npi_evaluation_print(const npi_evaluation *evaluation, FILE *out);

/* Reads such a file into *out (release with npi_evaluation_clear); scores are NULL, and a
 * null threshold is read as 0.  Wrong types, missing keys, values outside [0, 1], another schema are
 * errors that name the file and the key. */
NPOS_MUST_CHECK npos_status npi_evaluation_read(const char *path, npi_evaluation *out);

/* npi_evaluation_read of RUN/eval.json, with the scores of RUN/scores/SCORE/NAME.npy ("id.npy" for the
 * ID images). */
NPOS_MUST_CHECK npos_status npi_evaluation_read_run(const char *run, npi_evaluation *out);

#endif
