/* ood/paired.h - how far two models' measures lie apart, and whether chance alone does that.
 *
 * Two kinds of pairs.  Of one run each, images: both scored the same ones, so a bootstrap draws the
 * same images for both (Efron, Tibshirani, "An Introduction to the Bootstrap", 1993).  Of several
 * runs each, seeds: run i of both started from the same seed, so Student's paired t test. */
#ifndef NPI_OOD_PAIRED_H
#define NPI_OOD_PAIRED_H

#include "ood/metrics.h"

enum { NPI_MEASURES = 4 };

/* "fpr95", "auroc", "aupr_in", "aupr_out": the order of all arrays of measures here. */
extern const char *const npi_measure_names[NPI_MEASURES];
void npi_measure_values(const npi_measures *measures, double values[NPI_MEASURES]);

/* What models say of the same images: id[models], ood[models][sets]; n is the same for all models,
 * and so is the order of the images. */
typedef struct npi_panel {
    int models, sets;
    const npi_scores *id, *ood;
} npi_panel;

/* The measures of NPI_BOOTSTRAP_DRAWS stratified resamples: draws[draw][models][sets][NPI_MEASURES],
 * to be freed with npi_free.  ID images and each OOD set are drawn with replacement, each to its own
 * size, the same images for every model: a function of (scores, seed), whatever the threads. */
NPOS_MUST_CHECK npos_status npi_paired_bootstrap(npi_protocol protocol, const npi_panel *panel,
                                                 uint64_t seed, double **draws);

/* A difference with its 95% interval and the two-sided p of "no difference". */
typedef struct npi_difference {
    double value, ci[2], p;
} npi_difference;

/* Of the draws' differences (sorted in place), `value` being that of all images: the middle 95%,
 * widened to `value`; p = 2 min(#{d <= 0} + 1, #{d >= 0} + 1) / (draws + 1), at most 1, so never
 * below 2/1001. */
void npi_difference_of_draws(double value, double *draws, npi_difference *out);

/* Of n >= 2 pairs: mean +- t_{n-1} s/sqrt(n), s the sample standard deviation, and its p.  All pairs
 * equal: the interval is that value; p is 1 when it is 0, else 0. */
void npi_difference_of_pairs(const double *difference, int n, npi_difference *out);

/* Mean and sample standard deviation (n - 1; NaN when n is 1). */
void npi_mean_and_std(const double *values, int n, double *mean, double *std);

#endif
