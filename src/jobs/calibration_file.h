/* jobs/calibration_file.h - calibration.safetensors of a run directory: the ID scores that the threshold
 * in the model was taken from, for p-values. */
#ifndef NPI_JOBS_CALIBRATION_FILE_H
#define NPI_JOBS_CALIBRATION_FILE_H

#include "jobs/run.h"

typedef struct npi_id_scores {
    int64_t n;     /* 0: there are none for this score */
    double *score; /* [n] ascending */
} npi_id_scores;
void npi_id_scores_clear(npi_id_scores *scores);

/* Writes score[n] (sorted in place) of the calibration that the model gets. */
NPOS_MUST_CHECK npos_status npi_id_scores_write(const npi_run *run,
                                                const npi_calibration *calibration, double *score);

/* Those of the run's calibration, if it is one of `score` and has them. */
NPOS_MUST_CHECK npos_status npi_id_scores_read(const npi_run *run, const char *score,
                                               npi_id_scores *out);

/* The conformal p-value of a score: (#{ID scores <= score} + 1) / (n + 1), how often an ID image scores
 * as low as this one or lower (Vovk, Gammerman, Shafer, "Algorithmic learning in a random world", 2005). */
double npi_id_p_value(const npi_id_scores *scores, double score);

#endif
