#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "ood/paired.h"
#include "ood/score_counts.h"
#include "ood/statistics.h"

enum { DRAWS = NPI_BOOTSTRAP_DRAWS };

static const double normal_975 = 1.959963984540054;

/* Placements: of an ID score the fraction of OOD scores below it (ties half), of an OOD score the
 * fraction of ID scores above it; their means are both the AUROC. */
static void auroc_interval(const npi_score_counts *c, npi_measures *out) {
    double n = c->id_n, m = c->ood_n, *ci = out->auroc_ci;
    double exact = pow(0.025, 1 / fmin(n, m)); /* of min(n, m) pairs, all in order */
    ci[0] = 0;
    ci[1] = 1;
    if (out->auroc >= 1 || out->auroc <= 0) {
        ci[0] = out->auroc >= 1 ? exact : 0;
        ci[1] = out->auroc >= 1 ? 1 : 1 - exact;
        return;
    }
    if (c->id_n < 2 || c->ood_n < 2)
        return;
    double s10 = 0, s01 = 0, id_below = 0, ood_below = 0;
    for (int32_t g = 0; g < c->groups; g++) {
        double of_id = (ood_below + 0.5 * c->ood[g]) / m - out->auroc;
        double of_ood = (n - id_below - 0.5 * c->id[g]) / n - out->auroc;
        s10 += c->id[g] * of_id * of_id;
        s01 += c->ood[g] * of_ood * of_ood;
        id_below += c->id[g];
        ood_below += c->ood[g];
    }
    double deviation = sqrt(s10 / (n - 1) / n + s01 / (m - 1) / m);
    ci[0] = fmax(0, out->auroc - normal_975 * deviation);
    ci[1] = fmin(1, out->auroc + normal_975 * deviation);
}

void npi_resample(uint64_t seed, int draw, uint32_t item, int32_t groups, int32_t n,
                  const int32_t *group, int32_t *to) {
    memset(to, 0, (size_t)groups * sizeof *to);
    for (int32_t i = 0; i < n; i += 4) {
        npi_u32x4 words =
            npi_philox(seed, NPI_RANDOM_BOOTSTRAP, (uint64_t)draw, item, (uint32_t)i / 4);
        for (int j = 0; j < 4 && j < n - i; j++)
            to[group[npi_below(words.v[j], (uint32_t)n)]]++;
    }
}

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

double npi_quantile(const double *ascending, int n, double p) {
    double at = p * (n - 1);
    int below = (int)at;
    double rest = at - below;
    return below + 1 < n ? ascending[below] + rest * (ascending[below + 1] - ascending[below])
                         : ascending[n - 1];
}

void npi_widen(double *draws, double interval[2]) {
    qsort(draws, DRAWS, sizeof *draws, by_value);
    interval[0] = fmin(interval[0], npi_quantile(draws, DRAWS, 0.025));
    interval[1] = fmax(interval[1], npi_quantile(draws, DRAWS, 0.975));
}

void npi_measure_intervals(npi_protocol protocol, const npi_score_counts *c, const double *draws,
                           size_t stride, npi_measures *out) {
    double drawn[DRAWS];
    double *const intervals[NPI_MEASURES] = {out->fpr95_ci, NULL, out->aupr_in_ci,
                                             out->aupr_out_ci};
    int32_t negatives = protocol == NPI_PROTOCOL_OPENOOD ? c->id_n : c->ood_n;
    auroc_interval(c, out);
    npi_clopper_pearson((int64_t)llround(out->fpr95 * negatives), negatives, 0.05, out->fpr95_ci);
    bool parted = out->auroc >= 1; /* then no resample differs: AUROC's bound serves */
    out->aupr_in_ci[0] = parted ? out->auroc_ci[0] : out->aupr_in;
    out->aupr_out_ci[0] = parted ? out->auroc_ci[0] : out->aupr_out;
    out->aupr_in_ci[1] = out->aupr_in;
    out->aupr_out_ci[1] = out->aupr_out;
    for (int m = 0; m < NPI_MEASURES; m++) {
        if (!intervals[m])
            continue;
        for (size_t d = 0; d < DRAWS; d++)
            drawn[d] = draws[d * stride + (size_t)m];
        npi_widen(drawn, intervals[m]);
    }
}
