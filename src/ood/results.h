/* ood/results.h - what an evaluation found: scores by set, measures by protocol.  Filled by
 * jobs/evaluate, written by report/ (tables, JSON, HTML). */
#ifndef NPI_OOD_RESULTS_H
#define NPI_OOD_RESULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"

typedef enum npi_protocol {
    NPI_PROTOCOL_OE,
    NPI_PROTOCOL_OPENOOD,
    NPI_PROTOCOL_KNN_OOD
} npi_protocol;
const char *npi_protocol_name(npi_protocol protocol); /* "oe", "openood", "knn-ood" */
NPOS_MUST_CHECK npos_status npi_protocol_parse(const char *name, npi_protocol *out);

/* Which side a protocol calls positive: "id" or "ood". */
const char *npi_protocol_positive(npi_protocol protocol);

/* Measures as fractions; ci: 95% interval. */
typedef struct npi_measures {
    double fpr95, auroc, aupr_in, aupr_out;
    double fpr95_ci[2], auroc_ci[2], aupr_in_ci[2], aupr_out_ci[2];
} npi_measures;

typedef struct npi_set_result {
    char *name, *group, *spec; /* group "" when none was given */
    int64_t n;
    int64_t available;    /* images of the SPEC; more than n when n of them were drawn (seed) */
    const double *scores; /* [n], larger = more in-distribution; owned by the result; NULL when read
                             back from JSON */
    npi_measures measures;
} npi_set_result;

/* accuracy: -1 where the model has no such head */
typedef struct npi_accuracy {
    double knn, prototype, head, text;
} npi_accuracy;

typedef struct npi_score_result {
    char *score; /* "knn" */
    int64_t id_n;
    double *id_scores; /* [id_n], or NULL as above */
    int chosen_k;     /* of knn: the k that npos calibrate chose in place of the recipe's; else 0 */
    double threshold; /* the calibrated one, else the score at 95% TPR on these ID images */
    npi_accuracy accuracy;
    int sets;
    npi_set_result *set;
    npi_measures *mean; /* of the groups, as npi_group_at numbers them, then of all sets; NULL: the
                           means have no intervals (read from an older file) */
} npi_score_result;

/* Names of a set's images that could not be read and were left out. */
typedef struct npi_skipped {
    int64_t count;
    char **names;
} npi_skipped;

/* Of a full-spectrum evaluation (Yang, Zhou, Liu, "Full-spectrum out-of-distribution detection", IJCV 2023): images that count
 * as ID, the test images or a covariate-shifted set of the same classes. */
typedef struct npi_id_part {
    char *name, *spec; /* "id": the test images */
    int64_t n;
    npi_accuracy accuracy;
} npi_id_part;

typedef struct npi_evaluation {
    npi_protocol protocol;
    uint64_t seed; /* of subsets and bootstrap draws */
    char *id_spec; /* SPEC or file of the ID images */
    /* [id_parts] in the order of id_scores, the test images first; id_n and accuracy are of all.  0: no full spectrum, the
     * test images alone */
    npi_id_part *id_part;
    int id_parts;
    int results;
    npi_score_result *result;
    npi_skipped id_skipped;
    npi_skipped *skipped; /* [sets of a result]; NULL: none of any */
    int skipped_sets;
} npi_evaluation;

void npi_evaluation_clear(npi_evaluation *evaluation);

/* How many of the ID images are those of id_spec. */
int64_t npi_evaluation_id_own(const npi_evaluation *evaluation, const npi_score_result *result);

/* The list of set number `set` (-1: the ID images), or NULL when nothing was left out there. */
const npi_skipped *npi_evaluation_skipped(const npi_evaluation *evaluation, int set);

/* *to (zeroed) = names, scores and counts of a result, with no measures and no means. */
NPOS_MUST_CHECK npos_status npi_result_copy(const npi_score_result *from, npi_score_result *to);

/* Mean of each measure over the sets of one group (NULL: over all sets), with the intervals
 * of result->mean, or NaN for them.  Returns how many sets there were. */
int npi_mean_measures(const npi_score_result *result, const char *group, npi_measures *out);

/* The i-th named group in order of first appearance, or NULL past the last. */
const char *npi_group_at(const npi_score_result *result, int i);

#endif
