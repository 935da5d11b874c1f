/* ood/statistics.h - the few distributions that intervals need. */
#ifndef NPI_OOD_STATISTICS_H
#define NPI_OOD_STATISTICS_H

#include <stdint.h>

#include "base/fail.h"

/* I_x(a, b), the regularised incomplete beta function, a, b > 0, 0 <= x <= 1: the continued
 * fraction of DLMF 8.17.22, evaluated by Lentz's method; relative error about 1e-12. */
double npi_beta_cdf(double a, double b, double x);

/* Exact interval of a proportion (Clopper and Pearson, Biometrika 1934) of k successes in n >= 1
 * trials, at the level 1 - alpha: lo solves P(X >= k | lo) = alpha/2 (0 when k = 0), hi solves
 * P(X <= k | hi) = alpha/2 (1 when k = n).  To about 1e-12. */
void npi_clopper_pearson(int64_t k, int64_t n, double alpha, double interval[2]);

/* P(|T| >= |t|) of Student's t with df >= 1 degrees of freedom: I_x(df/2, 1/2), x = df/(df + t^2). */
double npi_student_tails(double t, int df);

/* The t > 0 with npi_student_tails(t, df) = tails, 0 < tails < 1, to about 1e-12. */
double npi_student_quantile(double tails, int df);

/* *out = Spearman's rank correlation of a[n] and b[n], ties at the mean of their ranks; NaN where one of
 * them is all equal.  No NaN among a and b. */
NPOS_MUST_CHECK npos_status npi_rank_correlation(int64_t n, const double *a, const double *b,
                                                 double *out);

#endif
