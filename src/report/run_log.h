/* report/run_log.h - log.jsonl of a run, read back: one object an epoch.
 *
 * Keys that a line lacks are NaN.  A last line cut short (a killed run) is left out. */
#ifndef NPI_REPORT_RUN_LOG_H
#define NPI_REPORT_RUN_LOG_H

#include "base/fail.h"

/* Columns of the log, in the order of npi_log_names. */
typedef enum npi_log_column {
    NPI_LOG_EPOCH,
    NPI_LOG_LR,
    NPI_LOG_LOSS,
    NPI_LOG_DISP,
    NPI_LOG_COMP,
    NPI_LOG_OPEN,
    NPI_LOG_CE,
    NPI_LOG_GRADIENT, /* grad_norm */
    NPI_LOG_DISTANCE, /* prototype_min_distance */
    NPI_LOG_DEAD,     /* projection_dead */
    NPI_LOG_RATE,     /* images_per_s */
    NPI_LOG_SECONDS,
    NPI_LOG_COLUMNS
} npi_log_column;
extern const char *const npi_log_names[NPI_LOG_COLUMNS];

typedef struct npi_log {
    int rows;
    double *column[NPI_LOG_COLUMNS]; /* [rows] each */
} npi_log;

/* Reads RUN/log.jsonl into a zeroed *out.  When an epoch stands in it twice (a run that was resumed)
 * the later line counts.  NPOS_NOT_FOUND or NPOS_IO without a file, NPOS_BAD_DATA with the line's
 * number when a line is no JSON object or has no epoch. */
NPOS_MUST_CHECK npos_status npi_log_read(const char *path, npi_log *out);
void npi_log_clear(npi_log *log);

/* Whether any row has a finite value in this column. */
int npi_log_has(const npi_log *log, npi_log_column column);

#endif
