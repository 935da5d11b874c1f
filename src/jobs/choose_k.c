#include "jobs/choose_k.h"

#include <stdio.h>

#include "base/memory.h"
#include "ood/metrics.h"

static const int candidates[] = {1, 5, 10, 20, 50, 100, 200, 300, 500, 1000};
enum { CANDIDATES = sizeof candidates / sizeof *candidates };

/* score[n] of the k-NN score with this k */
static npos_status score(const npi_fitted *fitted, const npi_features *f, int k, double *to) {
    NPI_TRY(npi_neighbour_kth(fitted->bank, f->n, f->h, k, to));
    for (int64_t i = 0; i < f->n; i++)
        to[i] = -to[i];
    return NPOS_OK;
}

/* Adds each candidate's AUROC on one set; id_score[tried][n]. */
static npos_status add_set(const npi_fitted *fitted, const npi_features *id, int tried,
                           const double *id_score, const char *name, const npi_features *ood,
                           double *sum) {
    double *scores;
    NPI_TRY(npi_alloc(&scores, (size_t)ood->n, sizeof *scores, "scores"));
    npos_status status = NPOS_OK;
    for (int i = 0; i < tried && status == NPOS_OK; i++) {
        npi_scores in = {"the ID images", id->n, id_score + (int64_t)i * id->n};
        npi_scores out = {name, ood->n, scores};
        npi_measures m;
        status = score(fitted, ood, candidates[i], scores);
        if (status == NPOS_OK)
            status = npi_measure_points(NPI_PROTOCOL_OE, &in, &out, &m);
        if (status == NPOS_OK)
            sum[i] += m.auroc;
    }
    npi_free(scores);
    return status;
}

npos_status npi_choose_k(const npi_fitted *fitted, const npos_compute *compute,
                         const npi_features *id, const npi_ood_set *sets, int count, int *k,
                         double *auroc) {
    double *id_score, sum[CANDIDATES] = {0};
    int tried = 0, best = 0;
    while (tried < CANDIDATES && candidates[tried] <= npi_neighbour_bank_count(fitted->bank))
        tried++;
    NPI_TRY(npi_alloc(&id_score, (size_t)tried * (size_t)id->n, sizeof *id_score, "scores"));
    npos_status status = NPOS_OK;
    for (int i = 0; i < tried && status == NPOS_OK; i++)
        status = score(fitted, id, candidates[i], id_score + (int64_t)i * id->n);
    for (int s = 0; s < count && status == NPOS_OK; s++) {
        npi_images images = {0};
        npi_features ood = {0};
        char phase[160];
        snprintf(phase, sizeof phase, "embed %s", sets[s].name);
        status = npi_fitted_features(fitted, compute, phase, sets[s].where, 0, 0, &images, &ood);
        if (status == NPOS_OK)
            status = add_set(fitted, id, tried, id_score, sets[s].where, &ood, sum);
        npi_features_clear(&ood);
        npi_images_clear(&images);
    }
    npi_free(id_score);
    if (status != NPOS_OK)
        return status;
    for (int i = 1; i < tried; i++)
        best = sum[i] > sum[best] ? i : best;
    *k = candidates[best];
    *auroc = sum[best] / count;
    return NPOS_OK;
}
