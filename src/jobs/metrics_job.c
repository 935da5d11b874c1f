/* npos_metrics: measures of any program's scores. */
#include <string.h>

#include "base/memory.h"
#include "io/npy.h"
#include "jobs/ood_sets.h"
#include "jobs/options.h"
#include "npos/npos.h"
#include "ood/metrics.h"
#include "report/evaluation_json.h"
#include "report/evaluation_table.h"

void npos_metrics_options_init(npos_metrics_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->protocol = "oe";
    options->format = "table";
}

/* Reads the scores of one set, larger = more in-distribution. */
static npos_status read_scores(const char *path, int negate, double **out, int64_t *n) {
    int64_t shape[4];
    NPI_TRY(npi_npy_read_f64(path, 1, shape, out));
    *n = shape[0];
    for (int64_t i = 0; negate && i < *n; i++)
        (*out)[i] = -(*out)[i];
    return NPOS_OK;
}

static npos_status measure(const npos_metrics_options *options, npi_ood_set *sets,
                           npi_evaluation *evaluation) {
    NPI_TRY(npi_strdup(&evaluation->id_spec, options->id));
    NPI_TRY(npi_alloc(&evaluation->result, 1, sizeof *evaluation->result, "results"));
    evaluation->results = 1;
    npi_score_result *result = evaluation->result;
    result->accuracy = (npi_accuracy){-1, -1, -1, -1};
    NPI_TRY(npi_strdup(&result->score, "scores"));
    NPI_TRY(read_scores(options->id, options->larger_is_ood, &result->id_scores, &result->id_n));
    npi_scores id = {options->id, result->id_n, result->id_scores};
    NPI_TRY(npi_threshold_at_tpr(&id, 0.95, &result->threshold, NULL));
    NPI_TRY(npi_alloc(&result->set, (size_t)options->ood_count, sizeof *result->set, "results"));
    result->sets = options->ood_count;
    for (int i = 0; i < options->ood_count; i++) { /* the set's texts change owners */
        npi_set_result *set = &result->set[i];
        set->group = sets[i].group;
        set->name = sets[i].name;
        set->spec = sets[i].where;
        sets[i] = (npi_ood_set){0};
    }
    for (int i = 0; i < options->ood_count; i++) {
        npi_set_result *set = &result->set[i];
        double *scores = NULL;
        NPI_TRY(read_scores(set->spec, options->larger_is_ood, &scores, &set->n));
        set->scores = scores;
        set->available = set->n;
        npi_scores ood = {set->spec, set->n, scores};
        NPI_TRY(npi_scores_check(&ood)); /* by the file's name */
    }
    return npi_measure_result(evaluation->protocol, options->id, evaluation->seed, result);
}

npos_status npos_metrics(const npos_metrics_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_metrics");
    npi_evaluation evaluation = {.seed = options->seed};
    npi_ood_set *sets = NULL;
    npi_format_kind format;
    npos_status status;
    if (!options->id)
        return npi_fail(NPOS_INVALID_ARGUMENT, "no ID scores were given, expected a .npy file");
    NPI_TRY(npi_protocol_parse(options->protocol, &evaluation.protocol));
    NPI_TRY(npi_format_parse(options->format, &format));
    NPI_TRY_GOTO(npi_ood_sets_parse(options->ood, options->ood_count, &sets), done);
    NPI_TRY_GOTO(measure(options, sets, &evaluation), done);
    if (options->json)
        NPI_TRY_GOTO(npi_evaluation_write(&evaluation, options->json), done);
    if (options->table)
        NPI_TRY_GOTO(npi_evaluation_table(&evaluation, format, options->table), done);
    if (options->notes)
        status = npi_evaluation_polarity(
            &evaluation, options->larger_is_ood ? "leave --larger ood away" : "use --larger ood",
            options->notes);
done:
    npi_ood_sets_free(sets, options->ood_count);
    npi_evaluation_clear(&evaluation);
    return status;
}
