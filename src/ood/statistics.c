#include "ood/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"

enum { MAX_TERMS = 100000 };

/* Lentz's method (as modified by Thompson and Barnett, 1986) for the even and odd terms of
 * DLMF 8.17.22; converges in O(sqrt(max(a, b))) terms where x < (a+1)/(a+b+2). */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double value = d;
    for (int m = 1; m <= MAX_TERMS; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double terms[2] = {even, odd}, change = 1;
        for (int i = 0; i < 2; i++) {
            d = 1 + terms[i] * d;
            c = 1 + terms[i] / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            change = c * d;
            value *= change;
        }
        if (fabs(change - 1) < 1e-15)
            break;
    }
    return value;
}

/* lgamma_r: lgamma writes a global. */
static double log_gamma(double x) {
    int sign;
    return lgamma_r(x, &sign);
}

double npi_beta_cdf(double a, double b, double x) {
    if (x <= 0)
        return 0;
    if (x >= 1)
        return 1;
    double front = exp(a * log(x) + b * log1p(-x) + log_gamma(a + b) - log_gamma(a) - log_gamma(b));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* x with I_x(a, b) = p. */
static double beta_quantile(double a, double b, double p) {
    double lo = 0, hi = 1;
    for (int i = 0; i < 200 && hi - lo > 1e-15 * hi; i++) {
        double middle = lo + (hi - lo) / 2;
        if (npi_beta_cdf(a, b, middle) < p)
            lo = middle;
        else
            hi = middle;
    }
    return lo + (hi - lo) / 2;
}

void npi_clopper_pearson(int64_t k, int64_t n, double alpha, double interval[2]) {
    double successes = (double)k, failures = (double)(n - k);
    interval[0] = k == 0 ? 0 : beta_quantile(successes, failures + 1, alpha / 2);
    interval[1] = k == n ? 1 : beta_quantile(successes + 1, failures, 1 - alpha / 2);
}

double npi_student_tails(double t, int df) {
    if (isinf(t))
        return 0;
    double x = df / (df + t * t);
    return x >= 1 ? 1 : npi_beta_cdf(0.5 * df, 0.5, x);
}

double npi_student_quantile(double tails, int df) {
    double low = 0, high = 1;
    while (npi_student_tails(high, df) > tails)
        high *= 2;
    for (int i = 0; i < 200 && high - low > 1e-13 * high; i++) {
        double middle = 0.5 * (low + high);
        if (npi_student_tails(middle, df) > tails)
            low = middle;
        else
            high = middle;
    }
    return 0.5 * (low + high);
}

/* ---- ranks ---- */

typedef struct ranked {
    double value;
    int64_t at;
} ranked;

static int rising(const void *left, const void *right) {
    double a = ((const ranked *)left)->value, b = ((const ranked *)right)->value;
    return (a > b) - (a < b);
}

/* rank[n], from 0, ties at their mean, less the mean of all. */
static void centred_ranks(int64_t n, const double *x, ranked *order, double *rank) {
    for (int64_t i = 0; i < n; i++)
        order[i] = (ranked){x[i], i};
    qsort(order, (size_t)n, sizeof *order, rising);
    for (int64_t first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && order[end].value == order[first].value;)
            end++;
        for (int64_t i = first; i < end; i++)
            rank[order[i].at] = (double)(first + end - 1) / 2 - (double)(n - 1) / 2;
    }
}

npos_status npi_rank_correlation(int64_t n, const double *a, const double *b, double *out) {
    ranked *order = NULL;
    double *x = NULL, *y = NULL, xx = 0, yy = 0, xy = 0;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&order, (size_t)n, sizeof *order, "ranks"), done);
    NPI_TRY_GOTO(npi_alloc(&x, (size_t)n, sizeof *x, "ranks"), done);
    NPI_TRY_GOTO(npi_alloc(&y, (size_t)n, sizeof *y, "ranks"), done);
    centred_ranks(n, a, order, x);
    centred_ranks(n, b, order, y);
    for (int64_t i = 0; i < n; i++) {
        xx += x[i] * x[i];
        yy += y[i] * y[i];
        xy += x[i] * y[i];
    }
    *out = xy / sqrt(xx * yy);
done:
    npi_free(order);
    npi_free(x);
    npi_free(y);
    return status;
}
