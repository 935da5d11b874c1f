#include "ood/paired.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "ood/score_counts.h"
#include "ood/statistics.h"

enum { DRAWS = NPI_BOOTSTRAP_DRAWS };

const char *const npi_measure_names[NPI_MEASURES] = {"fpr95", "auroc", "aupr_in", "aupr_out"};

void npi_measure_values(const npi_measures *measures, double values[NPI_MEASURES]) {
    values[0] = measures->fpr95;
    values[1] = measures->auroc;
    values[2] = measures->aupr_in;
    values[3] = measures->aupr_out;
}

/* One draw of every model and set; id and ood have room for the most groups. */
static void measure_draw(npi_protocol protocol, const npi_panel *panel,
                         const npi_score_counts *counts, uint64_t seed, int draw, int32_t *id,
                         int32_t *ood, double *to) {
    for (int i = 0; i < panel->models * panel->sets; i++) {
        const npi_score_counts *c = &counts[i];
        npi_measures m;
        npi_resample(seed, draw, 0, c->groups, c->id_n, c->id_group, id);
        npi_resample(seed, draw, 1 + (uint32_t)(i % panel->sets), c->groups, c->ood_n, c->ood_group,
                     ood);
        npi_measure_counts(protocol, c, id, ood, &m);
        npi_measure_values(&m, to + (size_t)i * NPI_MEASURES);
    }
}

static npos_status draw_all(npi_protocol protocol, const npi_panel *panel,
                            const npi_score_counts *counts, uint64_t seed, double *draws) {
    size_t most = 1, width = (size_t)panel->models * (size_t)panel->sets * NPI_MEASURES;
    npos_status status = NPOS_OK;
    for (int i = 0; i < panel->models * panel->sets; i++)
        most = (size_t)counts[i].groups > most ? (size_t)counts[i].groups : most;
#pragma omp parallel
    {
        int32_t *id = NULL, *ood = NULL;
        npos_status mine = npi_alloc(&id, most, sizeof *id, "bootstrap");
        if (mine == NPOS_OK)
            mine = npi_alloc(&ood, most, sizeof *ood, "bootstrap");
        if (mine != NPOS_OK) {
#pragma omp critical
            status = mine;
        }
#pragma omp barrier
        if (status == NPOS_OK) {
#pragma omp for schedule(static)
            for (int draw = 0; draw < DRAWS; draw++)
                measure_draw(protocol, panel, counts, seed, draw, id, ood,
                             draws + (size_t)draw * width);
        }
        npi_free(id);
        npi_free(ood);
    }
    if (status != NPOS_OK) /* said anew: the message may be another thread's */
        return npi_fail(status, "paired bootstrap: no memory for %zu counts", most);
    return NPOS_OK;
}

npos_status npi_paired_bootstrap(npi_protocol protocol, const npi_panel *panel, uint64_t seed,
                                 double **draws) {
    int pairs = panel->models * panel->sets;
    npi_score_counts *counts = NULL;
    npos_status status;
    *draws = NULL;
    NPI_TRY_GOTO(npi_alloc(&counts, (size_t)pairs, sizeof *counts, "score counts"), done);
    for (int i = 0; i < pairs; i++)
        NPI_TRY_GOTO(npi_score_counts_make(&panel->id[i / panel->sets], &panel->ood[i], &counts[i]),
                     done);
    NPI_TRY_GOTO(npi_alloc(draws, (size_t)DRAWS * (size_t)pairs * NPI_MEASURES, sizeof **draws,
                           "bootstrap draws"),
                 done);
    status = draw_all(protocol, panel, counts, seed, *draws);
done:
    for (int i = 0; counts && i < pairs; i++)
        npi_score_counts_clear(&counts[i]);
    npi_free(counts);
    if (status != NPOS_OK) {
        npi_free(*draws);
        *draws = NULL;
    }
    return status;
}

static int by_value(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

void npi_difference_of_draws(double value, double *draws, npi_difference *out) {
    int most_zero = 1, least_zero = 1; /* draws <= 0 and >= 0, and one more */
    qsort(draws, DRAWS, sizeof *draws, by_value);
    for (int i = 0; i < DRAWS; i++) {
        most_zero += draws[i] <= 0;
        least_zero += draws[i] >= 0;
    }
    int less = most_zero < least_zero ? most_zero : least_zero;
    out->value = value;
    out->ci[0] = fmin(value, npi_quantile(draws, DRAWS, 0.025));
    out->ci[1] = fmax(value, npi_quantile(draws, DRAWS, 0.975));
    out->p = fmin(1, 2.0 * less / (DRAWS + 1));
}

void npi_mean_and_std(const double *values, int n, double *mean, double *std) {
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++)
        sum += values[i];
    *mean = sum / n;
    for (int i = 0; i < n; i++)
        squares += (values[i] - *mean) * (values[i] - *mean);
    *std = n > 1 ? sqrt(squares / (n - 1)) : NAN;
}

void npi_difference_of_pairs(const double *difference, int n, npi_difference *out) {
    double std;
    npi_mean_and_std(difference, n, &out->value, &std);
    double error = std / sqrt(n), half = error * npi_student_quantile(0.05, n - 1);
    out->ci[0] = out->value - half;
    out->ci[1] = out->value + half;
    if (error > 0)
        out->p = npi_student_tails(out->value / error, n - 1);
    else
        out->p = out->value == 0 ? 1 : 0;
}
