#include "ood/results.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

static const char *const protocols[] = {
    [NPI_PROTOCOL_OE] = "oe",
    [NPI_PROTOCOL_OPENOOD] = "openood",
    [NPI_PROTOCOL_KNN_OOD] = "knn-ood",
};
enum { PROTOCOLS = sizeof protocols / sizeof *protocols };

const char *npi_protocol_name(npi_protocol protocol) {
    return (size_t)protocol < PROTOCOLS ? protocols[protocol] : "unknown";
}

npos_status npi_protocol_parse(const char *name, npi_protocol *out) {
    for (int i = 0; i < PROTOCOLS; i++) {
        if (strcmp(name, protocols[i]) == 0) {
            *out = (npi_protocol)i;
            return NPOS_OK;
        }
    }
    npos_status status = npi_fail(
        NPOS_INVALID_ARGUMENT, "protocol '%s' is not known, expected oe, openood or knn-ood", name);
    const char *nearest = npi_nearest_name(name, protocols, PROTOCOLS);
    return nearest ? npi_hint(status, "did you mean '%s'?", nearest) : status;
}

const char *npi_protocol_positive(npi_protocol protocol) {
    return protocol == NPI_PROTOCOL_OPENOOD ? "ood" : "id";
}

static void add_intervals(const npi_score_result *result, const char *group, npi_measures *out) {
    const npi_measures none = {.fpr95_ci = {NAN, NAN},
                               .auroc_ci = {NAN, NAN},
                               .aupr_in_ci = {NAN, NAN},
                               .aupr_out_ci = {NAN, NAN}};
    const npi_measures *from = &none;
    int g = 0;
    for (const char *name; (name = npi_group_at(result, g)) != NULL; g++)
        if (group && strcmp(name, group) == 0)
            break;
    if (result->mean)
        from = &result->mean[g];
    memcpy(out->fpr95_ci, from->fpr95_ci, sizeof out->fpr95_ci);
    memcpy(out->auroc_ci, from->auroc_ci, sizeof out->auroc_ci);
    memcpy(out->aupr_in_ci, from->aupr_in_ci, sizeof out->aupr_in_ci);
    memcpy(out->aupr_out_ci, from->aupr_out_ci, sizeof out->aupr_out_ci);
}

int npi_mean_measures(const npi_score_result *result, const char *group, npi_measures *out) {
    memset(out, 0, sizeof *out);
    int sets = 0;
    for (int i = 0; i < result->sets; i++) {
        if (group && strcmp(result->set[i].group, group) != 0)
            continue;
        const npi_measures *m = &result->set[i].measures;
        out->fpr95 += m->fpr95;
        out->auroc += m->auroc;
        out->aupr_in += m->aupr_in;
        out->aupr_out += m->aupr_out;
        sets++;
    }
    if (sets > 0) {
        out->fpr95 /= sets;
        out->auroc /= sets;
        out->aupr_in /= sets;
        out->aupr_out /= sets;
    }
    add_intervals(result, group, out);
    return sets;
}

const char *npi_group_at(const npi_score_result *result, int i) {
    for (int at = 0; at < result->sets; at++) {
        const char *group = result->set[at].group;
        bool seen = group[0] == '\0';
        for (int before = 0; before < at && !seen; before++)
            seen = strcmp(result->set[before].group, group) == 0;
        if (!seen && i-- == 0)
            return group;
    }
    return NULL;
}

const npi_skipped *npi_evaluation_skipped(const npi_evaluation *evaluation, int set) {
    const npi_skipped *list = set < 0                          ? &evaluation->id_skipped
                              : set < evaluation->skipped_sets ? &evaluation->skipped[set]
                                                               : NULL;
    return list && list->count > 0 ? list : NULL;
}

int64_t npi_evaluation_id_own(const npi_evaluation *evaluation, const npi_score_result *result) {
    return evaluation->id_parts > 0 ? evaluation->id_part[0].n : result->id_n;
}

static void clear_skipped(npi_skipped *list) {
    for (int64_t i = 0; i < list->count; i++)
        npi_free(list->names[i]);
    npi_free(list->names);
}

static npos_status copy_scores(const double *from, int64_t n, double **out) {
    *out = NULL;
    if (!from)
        return NPOS_OK;
    NPI_TRY(npi_alloc(out, (size_t)n, sizeof **out, "scores"));
    memcpy(*out, from, (size_t)n * sizeof **out);
    return NPOS_OK;
}

npos_status npi_result_copy(const npi_score_result *from, npi_score_result *to) {
    to->id_n = from->id_n;
    to->threshold = from->threshold;
    to->accuracy = from->accuracy;
    NPI_TRY(npi_strdup(&to->score, from->score));
    NPI_TRY(copy_scores(from->id_scores, from->id_n, &to->id_scores));
    NPI_TRY(npi_alloc(&to->set, (size_t)from->sets, sizeof *to->set, "results of sets"));
    for (int i = 0; i < from->sets; i++) {
        npi_set_result *set = &to->set[to->sets++];
        double *scores;
        set->n = from->set[i].n;
        set->available = from->set[i].available;
        NPI_TRY(npi_strdup(&set->name, from->set[i].name));
        NPI_TRY(npi_strdup(&set->group, from->set[i].group));
        NPI_TRY(npi_strdup(&set->spec, from->set[i].spec));
        NPI_TRY(copy_scores(from->set[i].scores, set->n, &scores));
        set->scores = scores;
    }
    return NPOS_OK;
}

void npi_evaluation_clear(npi_evaluation *evaluation) {
    clear_skipped(&evaluation->id_skipped);
    for (int i = 0; i < evaluation->skipped_sets; i++)
        clear_skipped(&evaluation->skipped[i]);
    npi_free(evaluation->skipped);
    for (int r = 0; r < evaluation->results; r++) {
        npi_score_result *result = &evaluation->result[r];
        for (int i = 0; i < result->sets; i++) {
            npi_set_result *set = &result->set[i];
            npi_free(set->name);
            npi_free(set->group);
            npi_free(set->spec);
            npi_free((void *)(uintptr_t)set->scores);
        }
        npi_free(result->set);
        npi_free(result->mean);
        npi_free(result->score);
        npi_free(result->id_scores);
    }
    for (int i = 0; evaluation->id_part && i < evaluation->id_parts; i++) {
        npi_free(evaluation->id_part[i].name);
        npi_free(evaluation->id_part[i].spec);
    }
    npi_free(evaluation->id_part);
    npi_free(evaluation->result);
    npi_free(evaluation->id_spec);
    memset(evaluation, 0, sizeof *evaluation);
}
