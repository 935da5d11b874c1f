#include "ood/results.h"

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

void npi_evaluation_clear(npi_evaluation *evaluation) {
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
        npi_free(result->score);
        npi_free(result->id_scores);
    }
    npi_free(evaluation->result);
    npi_free(evaluation->id_spec);
    memset(evaluation, 0, sizeof *evaluation);
}
