/* jobs/report_gather.h - what npos_report collects from a run, part by part. */
#ifndef NPI_JOBS_REPORT_GATHER_H
#define NPI_JOBS_REPORT_GATHER_H

#include "data/dataset.h"
#include "jobs/run.h"
#include "report/report.h"

/* Embeddings of some images of each set, for the map; filled by npi_report_sheets. */
typedef struct npi_report_points {
    int sets;              /* of the evaluation's main score */
    npi_features id, *set; /* [sets]; n 0 where a set's images are gone */
} npi_report_points;
void npi_report_points_clear(npi_report_points *points);

/* Reads the images of every set of the evaluation again (by the SPEC and the seed in eval.json),
 * fills report->sheets, and runs the network over some of them.  A set whose images are gone or have
 * changed gets a `why`; other failures (memory, an interruption) are returned. */
NPOS_MUST_CHECK npos_status npi_report_sheets(npi_report *report, const npos_compute *compute,
                                              npi_report_points *points);

/* Fills report->spread: the angles between the prototypes, else between the classes' mean embeddings
 * (normalised rows of the bank, summed by class). */
NPOS_MUST_CHECK npos_status npi_report_spread(npi_report *report);

/* Fills report->map from the bank, the points, and outliers synthesised from the bank with the
 * recipe's settings. */
NPOS_MUST_CHECK npos_status npi_report_map(npi_report *report, const npos_compute *compute,
                                           const npi_report_points *points);

#endif
