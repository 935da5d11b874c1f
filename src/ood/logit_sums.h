/* ood/logit_sums.h - what the detectors on logits share. */
#ifndef NPI_OOD_LOGIT_SUMS_H
#define NPI_OOD_LOGIT_SUMS_H

#include <math.h>

/* The largest of n numbers; NaN when one is NaN. */
static inline double npi_logit_max(const float *logit, int n) {
    double most = (double)logit[0];
    for (int i = 1; i < n; i++)
        most = (double)logit[i] <= most || isnan(most) ? most : (double)logit[i];
    return most;
}

/* sum_i exp(logit_i - most), at least 1 where `most` is their largest. */
static inline double npi_logit_sum(const float *logit, int n, double most) {
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp((double)logit[i] - most);
    return sum;
}

#endif
