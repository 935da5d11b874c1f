/* ood/score_counts.h - ID and OOD scores merged into counts at their distinct values: all that any
 * measure needs. */
#ifndef NPI_OOD_SCORE_COUNTS_H
#define NPI_OOD_SCORE_COUNTS_H

#include <stdint.h>

#include "ood/metrics.h"

typedef struct npi_score_counts {
    int32_t groups; /* distinct values, ascending */
    int32_t id_n, ood_n;
    int32_t *id, *ood;             /* [groups] how many scores have this value */
    int32_t *id_group, *ood_group; /* [id_n], [ood_n] group of each sample, ascending */
} npi_score_counts;

/* Checks and merges two sets of scores.  Fills a zeroed *out; release with npi_score_counts_clear.
 */
NPOS_MUST_CHECK npos_status npi_score_counts_make(const npi_scores *id, const npi_scores *ood,
                                                  npi_score_counts *out);
void npi_score_counts_clear(npi_score_counts *counts);

/* The count behind FPR95: OOD scores accepted (protocols with ID positive) or ID scores rejected
 * (openood), for id[groups], ood[groups] with sums counts->id_n and counts->ood_n; groups may be
 * empty, as in a resample. */
int32_t npi_fpr95_count(npi_protocol protocol, const npi_score_counts *counts, const int32_t *id,
                        const int32_t *ood);

/* Intervals as metrics.h defines them; out->fpr95 and out->auroc are set already. */
NPOS_MUST_CHECK npos_status npi_measure_intervals(npi_protocol protocol,
                                                  const npi_score_counts *counts, uint64_t seed,
                                                  npi_measures *out);

#endif
