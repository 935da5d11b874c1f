/* Measures with their intervals: of one set, and of all sets of a result with the means over them. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "ood/paired.h"
#include "ood/score_counts.h"

enum { DRAWS = NPI_BOOTSTRAP_DRAWS };

static npos_status measure_set(npi_protocol protocol, const npi_scores *id, const npi_scores *ood,
                               const double *draws, size_t stride, npi_measures *out) {
    npi_score_counts counts = {0};
    NPI_TRY(npi_score_counts_make(id, ood, &counts));
    npi_measure_counts(protocol, &counts, counts.id, counts.ood, out);
    npi_measure_intervals(protocol, &counts, draws, stride, out);
    npi_score_counts_clear(&counts);
    return NPOS_OK;
}

npos_status npi_measure(npi_protocol protocol, const npi_scores *id, const npi_scores *ood,
                        uint64_t seed, npi_measures *out) {
    npi_panel panel = {1, 1, id, ood};
    double *draws;
    NPI_TRY(npi_paired_bootstrap(protocol, &panel, seed, &draws));
    npos_status status = measure_set(protocol, id, ood, draws, NPI_MEASURES, out);
    npi_free(draws);
    return status;
}

/* The mean over the sets of a group (NULL: all), its intervals from the same draws. */
static void measure_mean(const npi_score_result *result, const char *group, const double *draws,
                         npi_measures *out) {
    double *const intervals[NPI_MEASURES] = {out->fpr95_ci, out->auroc_ci, out->aupr_in_ci,
                                             out->aupr_out_ci};
    double values[NPI_MEASURES], drawn[DRAWS];
    int sets = npi_mean_measures(result, group, out);
    npi_measure_values(out, values);
    for (int m = 0; m < NPI_MEASURES; m++) {
        for (size_t d = 0; d < DRAWS; d++) {
            drawn[d] = 0;
            for (int i = 0; i < result->sets; i++)
                if (!group || strcmp(result->set[i].group, group) == 0)
                    drawn[d] +=
                        draws[(d * (size_t)result->sets + (size_t)i) * NPI_MEASURES + (size_t)m] /
                        sets;
        }
        intervals[m][0] = intervals[m][1] = values[m];
        npi_widen(drawn, intervals[m]);
    }
    for (int i = 0; sets == 1 && i < result->sets; i++) /* as that set's, which know more */
        if (!group || strcmp(result->set[i].group, group) == 0)
            *out = result->set[i].measures;
}

static npos_status measure_means(npi_score_result *result, const double *draws) {
    npi_measures *mean;
    int groups = 0;
    while (npi_group_at(result, groups))
        groups++;
    NPI_TRY(npi_alloc(&mean, (size_t)groups + 1, sizeof *mean, "means"));
    for (int g = 0; g <= groups; g++)
        measure_mean(result, npi_group_at(result, g), draws, &mean[g]);
    npi_free(result->mean);
    result->mean = mean;
    return NPOS_OK;
}

npos_status npi_measure_result(npi_protocol protocol, const char *id_name, uint64_t seed,
                               npi_score_result *result) {
    size_t stride = (size_t)result->sets * NPI_MEASURES;
    npi_scores id = {id_name, result->id_n, result->id_scores}, *ood;
    double *draws = NULL;
    npos_status status;
    NPI_TRY(npi_alloc(&ood, (size_t)result->sets, sizeof *ood, "sets of scores"));
    for (int i = 0; i < result->sets; i++)
        ood[i] = (npi_scores){result->set[i].name, result->set[i].n, result->set[i].scores};
    npi_panel panel = {1, result->sets, &id, ood};
    NPI_TRY_GOTO(npi_paired_bootstrap(protocol, &panel, seed, &draws), done);
    for (int i = 0; i < result->sets; i++)
        NPI_TRY_GOTO(measure_set(protocol, &id, &ood[i], draws + (size_t)i * NPI_MEASURES, stride,
                                 &result->set[i].measures),
                     done);
    status = measure_means(result, draws);
done:
    npi_free(draws);
    npi_free(ood);
    return status;
}
