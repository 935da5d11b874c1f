/* ood/score_counts.h - ID and OOD scores merged into counts at their distinct values: all that any
 * measure needs. */
#ifndef NPI_OOD_SCORE_COUNTS_H
#define NPI_OOD_SCORE_COUNTS_H

#include <stddef.h>
#include <stdint.h>

#include "ood/metrics.h"

typedef struct npi_score_counts {
    int32_t groups; /* distinct values, ascending */
    int32_t id_n, ood_n;
    int32_t *id, *ood;             /* [groups] how many scores have this value */
    int32_t *id_group, *ood_group; /* [id_n], [ood_n] group of each image, in the images' order */
} npi_score_counts;

/* Checks and merges two sets of scores.  Fills a zeroed *out; release with npi_score_counts_clear.
 */
NPOS_MUST_CHECK npos_status npi_score_counts_make(const npi_scores *id, const npi_scores *ood,
                                                  npi_score_counts *out);
void npi_score_counts_clear(npi_score_counts *counts);

/* The measures of id[groups], ood[groups] with sums counts->id_n and counts->ood_n, the counts' own
 * or a resample's, in which groups may be empty; the intervals are set to [0, 1]. */
void npi_measure_counts(npi_protocol protocol, const npi_score_counts *counts, const int32_t *id,
                        const int32_t *ood, npi_measures *out);

enum { NPI_BOOTSTRAP_DRAWS = 1000 };

/* to[groups] = how often each group comes when the n images whose groups are given are drawn n times
 * with replacement: a function of seed, draw (from 0) and item alone, so that the same images come
 * for every model that scored them.  item 0: ID; 1, 2, ...: OOD sets. */
void npi_resample(uint64_t seed, int draw, uint32_t item, int32_t groups, int32_t n,
                  const int32_t *group, int32_t *to);

/* The p-quantile of an ascending list, linear between its members as NumPy's default. */
double npi_quantile(const double *ascending, int n, double p);

/* Widens an interval to the middle 95% of NPI_BOOTSTRAP_DRAWS draws, which are sorted. */
void npi_widen(double *draws, double interval[2]);

/* Intervals as metrics.h defines them; the measures themselves are set already.  draws: a set's four
 * measures of draw d at draws + d stride, as npi_paired_bootstrap gives them. */
void npi_measure_intervals(npi_protocol protocol, const npi_score_counts *counts,
                           const double *draws, size_t stride, npi_measures *out);

#endif
