/* ood/metrics.h - how well scores part in-distribution (ID) images from out-of-distribution (OOD)
 * ones.
 *
 * Scores are float64, larger = more in-distribution; n = number of ID scores, m = number of OOD
 * scores.  Only their order matters, so infinities are scores like any other (equal infinities tie,
 * -0 and 0 tie); NaN is NPOS_NOT_FINITE and the message names the set and the index.  A set without
 * scores is NPOS_INVALID_ARGUMENT.  No measure interpolates unless it says so.
 *
 * AUROC, in every protocol: (pairs with id > ood + half the pairs with id = ood) / (n m), from
 * integer counts, so exact but for the last division.
 *
 * `oe` (Outlier Exposure; Hendrycks, Mazeika, Dietterich, ICLR 2019; also of NPOS, CIDER, MCM).  ID
 * is positive.  Candidates are the distinct scores t, descending, up to the first that reaches
 * TPR(t) = #{id >= t}/n = 1; FPR95 = #{ood >= t}/m at the candidate with the least |TPR(t) - 0.95|,
 * the lowest t among equals, all in float64 as the original computes it (so with n = 10 the TPR 0.9
 * is nearer than 1, by rounding).  AUPR = average precision, sum (R_i - R_{i-1}) P_i over the
 * distinct scores; in: ID positive; out: OOD positive on negated scores.
 *
 * `knn-ood` (the script of ODIN; Liang, Li, Srikant, ICLR 2018; used by KNN-OOD).  ID is positive.
 * FPR95 = #{ood > t}/m with t the ascending ID score number rint(0.05 n), counted from 0, halves to
 * even.  AUPR: with tp_j, fp_j = ID and OOD scores still kept when the j lowest distinct scores are
 * dropped (j = 0: all, last: none), in = the trapezoid rule through (1, 1/2), (tp_j/n,
 * tp_j/(tp_j+fp_j))..., (0, 0); out = through (0, 0), (1 - fp_j/m, (m-fp_j)/(n-tp_j+m-fp_j))...,
 * (1, 1/2); points whose denominator is zero are left out.
 *
 * `openood` (OpenOOD v1.5; Zhang et al., 2023).  OOD is positive, scores are negated.  FPR95 =
 * #{id <= t}/n at the first point of scikit-learn's roc_curve with #{ood <= t}/m >= 0.95;
 * roc_curve's default leaves out points where the curve goes straight on, so with ties the point
 * taken may be a later one.  AUPR = the trapezoid rule under scikit-learn's precision_recall_curve;
 * in: ID positive; out: OOD positive on negated scores.
 *
 * Intervals, 95%:
 *   AUROC   DeLong, DeLong, Clarke-Pearson (Biometrics 1988): AUROC +- 1.96 sqrt(S10/n + S01/m),
 *           cut to [0, 1], where S10, S01 are the sample variances of the placements.  An AUROC of
 *           exactly 1 (0) has no variance; its lower (upper) end is then 0.025^(1/min(n,m)) (1
 * minus that), the Clopper-Pearson bound of min(n,m) disjoint pairs that were all in order. With n
 * or m of 1 a variance cannot be estimated: [0, 1] (or the bound above). FPR95   the union of two
 * intervals: the 2.5% and 97.5% quantiles of 1000 stratified bootstrap draws (ID and OOD resampled
 * each, threshold taken anew, so its uncertainty counts) and Clopper-Pearson of the count found,
 * which is exact for a fixed threshold and keeps the interval from shrinking to a point at FPR95 =
 * 0 or 1 where no resample differs. AUPR-in and AUPR-out: the same quantiles of the same draws,
 * widened to the figure itself; where no pair is out of order and so no resample differs, the lower
 * end is the AUROC's.  The bootstrap is a function of (scores, seed): Philox, purpose
 * NPI_RANDOM_BOOTSTRAP, step = draw, item 0 for ID and 1, 2, ... for OOD sets; the number of threads does not
 * matter. */
#ifndef NPI_OOD_METRICS_H
#define NPI_OOD_METRICS_H

#include <stdint.h>

#include "ood/results.h"

/* Scores of one set; the values belong to the caller. */
typedef struct npi_scores {
    const char *name; /* in errors */
    int64_t n;        /* 1 to INT32_MAX */
    const double *value;
} npi_scores;

/* All measures with their intervals.  About 0.1 s for 10,000 + 10,000 scores, nearly all of it the
 * bootstrap. */
NPOS_MUST_CHECK npos_status npi_measure(npi_protocol protocol, const npi_scores *id,
                                        const npi_scores *ood, uint64_t seed, npi_measures *out);

/* All sets of a result, whose scores it holds, and result->mean: the intervals of a mean are the middle
 * 95% of the means of the draws, in which all sets meet the same ID images (a mean of one set has that
 * set's).  One bootstrap serves all; set i is drawn as item i + 1.  id_name: in errors. */
NPOS_MUST_CHECK npos_status npi_measure_result(npi_protocol protocol, const char *id_name,
                                               uint64_t seed, npi_score_result *result);

/* As npi_measure without the intervals, which are set to [0, 1]. */
NPOS_MUST_CHECK npos_status npi_measure_points(npi_protocol protocol, const npi_scores *id,
                                               const npi_scores *ood, npi_measures *out);

/* *threshold = the largest score t with #{score >= t} >= tpr n, so that "score >= t" accepts at
 * least the fraction tpr of the set; *accepted (may be NULL) = #{score >= t}, larger than
 * ceil(tpr n) only when scores tie at t.  0 < tpr <= 1. */
NPOS_MUST_CHECK npos_status npi_threshold_at_tpr(const npi_scores *id, double tpr,
                                                 double *threshold, int64_t *accepted);

/* NPOS_NOT_FINITE, naming set and index, when a score is NaN. */
NPOS_MUST_CHECK npos_status npi_scores_check(const npi_scores *scores);

#endif
