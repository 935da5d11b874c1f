/* jobs/compare_runs.h - the evaluated runs that a comparison is of, and whether they can be compared. */
#ifndef NPI_JOBS_COMPARE_RUNS_H
#define NPI_JOBS_COMPARE_RUNS_H

#include <stdbool.h>

#include "ood/results.h"

typedef struct npi_evaluated {
    char *path;
    int64_t seed; /* of the training; -1: the run does not say */
    npi_evaluation evaluation;
} npi_evaluated;

typedef struct npi_method {
    char *name;
    int runs;
    npi_evaluated *run; /* by seed, ascending */
    const char **paths; /* [runs] of `run` */
    int64_t *seeds;
} npi_method;

typedef struct npi_methods {
    int count;
    npi_method *list;
} npi_methods;

/* Whether the run has kept the scores of its images, not its measures alone. */
bool npi_has_scores(const npi_evaluated *run);

/* Reads "METHOD=RUN" or "RUN", count of them, into a zeroed *out; without a METHOD the path is its
 * name, or with `seeds` all are of one method.  A run that was not evaluated, a run given twice and
 * two runs of one seed in a method are errors.  Release with npi_methods_clear, also after a failure. */
NPOS_MUST_CHECK npos_status npi_methods_read(const char *const *runs, int count, bool seeds,
                                             npi_methods *out);
void npi_methods_clear(npi_methods *methods);

/* Fails unless all runs scored the same images (names of sets, numbers, and the lists of images where
 * eval left them) and, when a method has several runs (*several), every method has one of each seed. */
NPOS_MUST_CHECK npos_status npi_methods_check(const npi_methods *methods, bool *several);

/* The run's result of a score, and a score's of a set; NULL: none. */
const npi_score_result *npi_find_score(const npi_evaluated *run, const char *score);
const npi_set_result *npi_find_set(const npi_score_result *result, const char *name);

#endif
