#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "ood/score_counts.h"
#include "ood/statistics.h"

enum { DRAWS = 1000 };

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

/* counts[groups] of a resample of the n samples whose groups are given. */
static void resample(uint64_t seed, int draw, uint32_t item, int32_t groups, int32_t n,
                     const int32_t *group, int32_t *counts) {
    memset(counts, 0, (size_t)groups * sizeof *counts);
    for (int32_t i = 0; i < n; i += 4) {
        npi_u32x4 words =
            npi_philox(seed, NPI_RANDOM_BOOTSTRAP, (uint64_t)draw, item, (uint32_t)i / 4);
        for (int j = 0; j < 4 && j < n - i; j++)
            counts[group[npi_below(words.v[j], (uint32_t)n)]]++;
    }
}

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Linear between order statistics, as NumPy's default. */
static double quantile(const double *sorted, int n, double p) {
    double at = p * (n - 1);
    int below = (int)at;
    double rest = at - below;
    return below + 1 < n ? sorted[below] + rest * (sorted[below + 1] - sorted[below])
                         : sorted[n - 1];
}

npos_status npi_measure_intervals(npi_protocol protocol, const npi_score_counts *c, uint64_t seed,
                                  npi_measures *out) {
    auroc_interval(c, out);
    int32_t negatives = protocol == NPI_PROTOCOL_OPENOOD ? c->id_n : c->ood_n;
    double rates[DRAWS];
    npos_status status = NPOS_OK;
#pragma omp parallel
    {
        int32_t *id = NULL, *ood = NULL;
        npos_status mine = npi_alloc(&id, (size_t)c->groups, sizeof *id, "bootstrap of the FPR95");
        if (mine == NPOS_OK)
            mine = npi_alloc(&ood, (size_t)c->groups, sizeof *ood, "bootstrap of the FPR95");
        if (mine != NPOS_OK) {
#pragma omp critical
            status = mine;
        }
#pragma omp barrier
        if (status == NPOS_OK) {
#pragma omp for schedule(static)
            for (int draw = 0; draw < DRAWS; draw++) {
                resample(seed, draw, 0, c->groups, c->id_n, c->id_group, id);
                resample(seed, draw, 1, c->groups, c->ood_n, c->ood_group, ood);
                rates[draw] = (double)npi_fpr95_count(protocol, c, id, ood) / negatives;
            }
        }
        npi_free(id);
        npi_free(ood);
    }
    if (status != NPOS_OK) /* said anew: the message may be another thread's */
        return npi_fail(status, "bootstrap of the FPR95: no memory for %d counts", c->groups);
    qsort(rates, DRAWS, sizeof *rates, by_value);
    npi_clopper_pearson((int64_t)llround(out->fpr95 * negatives), negatives, 0.05, out->fpr95_ci);
    out->fpr95_ci[0] = fmin(out->fpr95_ci[0], quantile(rates, DRAWS, 0.025));
    out->fpr95_ci[1] = fmax(out->fpr95_ci[1], quantile(rates, DRAWS, 0.975));
    return NPOS_OK;
}
