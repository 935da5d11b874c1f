/* npos_report: gathers what a run left behind and writes it as one page. */
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/safetensors.h"
#include "jobs/compute.h"
#include "jobs/options.h"
#include "jobs/report_gather.h"
#include "npos/npos.h"
#include "ood/metrics.h"
#include "report/evaluation_json.h"

void npos_report_options_init(npos_report_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
}

/* *text = RUN/NAME, or NULL when it cannot be read. */
static npos_status read_optional(const char *run, const char *name, char **text) {
    char *path;
    size_t size;
    NPI_TRY(npi_path_join(&path, run, name));
    npos_status status = npi_is_file(path) ? npi_file_read(path, text, &size) : NPOS_OK;
    npi_free(path);
    return status;
}

/* The checksum of the model's file; none where the run has no such file. */
static npos_status read_model_hash(npi_report *report, const char *run) {
    npi_safetensors *file = NULL;
    char *path;
    NPI_TRY(npi_path_join(&path, run, "model.safetensors"));
    npos_status status = npi_is_file(path) ? npi_safetensors_open(path, &file) : NPOS_OK;
    const char *hash = file ? npi_safetensors_metadata(file, "npos_xxh3") : NULL;
    if (hash)
        status = npi_strdup(&report->model_hash, hash);
    npi_safetensors_close(file);
    npi_free(path);
    return status;
}

static npos_status read_log(npi_report *report, const char *run) {
    char *path;
    NPI_TRY(npi_path_join(&path, run, "log.jsonl"));
    npos_status status = npi_log_read(path, &report->log);
    npi_free(path);
    if (status == NPOS_OK || status == NPOS_OUT_OF_MEMORY)
        return status;
    return npi_strdup(&report->log_why, npos_error_message());
}

/* The evaluation with its scores; without them where scores/ is incomplete; else why there is none.
 */
static npos_status read_evaluation(npi_report *report, const char *run) {
    char *path;
    npos_status status = npi_evaluation_read_run(run, &report->evaluation);
    if (status != NPOS_OK && status != NPOS_OUT_OF_MEMORY) {
        NPI_TRY(npi_path_join(&path, run, "eval.json"));
        status = npi_evaluation_read(path, &report->evaluation);
        npi_free(path);
    }
    if (status != NPOS_OK && status != NPOS_OUT_OF_MEMORY)
        return npi_strdup(&report->evaluation_why, npos_error_message());
    NPI_TRY(status);
    for (int r = 0; r < report->evaluation.results; r++)
        if (strcmp(report->evaluation.result[r].score, report->run->recipe.score) == 0)
            report->main_score = r;
    return NPOS_OK;
}

/* The main score measured under the protocols that the evaluation was not taken under; its scores are
 * those of the evaluation. */
static npos_status measure_others(npi_report *report) {
    const npi_evaluation *own = &report->evaluation;
    const npi_score_result *main = &own->result[report->main_score];
    int next = 0;
    for (int p = NPI_PROTOCOL_OE; p <= NPI_PROTOCOL_KNN_OOD; p++) {
        if (p == (int)own->protocol)
            continue;
        npi_evaluation *other = &report->other[next++];
        other->protocol = (npi_protocol)p;
        NPI_TRY(npi_strdup(&other->id_spec, own->id_spec));
        NPI_TRY(npi_alloc(&other->result, 1, sizeof *other->result, "results"));
        other->results = 1;
        NPI_TRY(npi_result_copy(main, other->result));
        NPI_TRY(npi_measure_result(other->protocol, own->id_spec, own->seed, other->result));
    }
    return NPOS_OK;
}

/* What each image is taken for; without it a `why`. */
static npos_status read_classes(npi_report *report, const char *run) {
    char *path;
    NPI_TRY(npi_path_join(&path, run, "scores/classes.safetensors"));
    npos_status status = npi_is_file(path)
                             ? npi_classes_file_read(path, report->run->classes, &report->classes)
                             : npi_fail(NPOS_NOT_FOUND, "%s: no such file", path);
    npi_free(path);
    if (status == NPOS_OK || status == NPOS_OUT_OF_MEMORY)
        return status;
    npi_classes_list_clear(&report->classes);
    return npi_strdup(&report->classes_why, npos_error_message());
}

static npos_status read_compared(npi_report *report, const npos_report_options *options) {
    NPI_TRY(npi_alloc(&report->compared, (size_t)options->compare_count, sizeof *report->compared,
                      "runs to compare with"));
    for (int i = 0; i < options->compare_count; i++) {
        char *path;
        npi_compared *other = &report->compared[i];
        report->compared_count++;
        NPI_TRY(npi_strdup(&other->path, options->compare[i]));
        NPI_TRY(npi_path_join(&path, options->compare[i], "eval.json"));
        npos_status status = npi_evaluation_read(path, &other->evaluation);
        npi_free(path);
        if (status != NPOS_OK)
            return npi_hint(status, "a run to compare with must have been evaluated (npos eval)");
    }
    return NPOS_OK;
}

static npos_status write_page(const npi_report *report) {
    char *folder = NULL, *path = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&folder, report->run->path, "report"), done);
    NPI_TRY_GOTO(npi_make_folders(folder), done);
    NPI_TRY_GOTO(npi_path_join(&path, folder, "index.html"), done);
    status = npi_report_write(report, path);
done:
    npi_free(folder);
    npi_free(path);
    return status;
}

static npos_status gather(npi_report *report, const npos_report_options *options,
                          npi_report_points *points) {
    const char *run = options->run;
    NPI_TRY(read_optional(run, "recipe.yaml", &report->recipe_text));
    NPI_TRY(read_optional(run, "manifest.json", &report->manifest_text));
    NPI_TRY(read_model_hash(report, run));
    NPI_TRY(read_log(report, run));
    NPI_TRY(read_evaluation(report, run));
    if (!report->evaluation_why) {
        NPI_TRY(read_classes(report, run));
        if (report->evaluation.result[report->main_score].id_scores)
            NPI_TRY(measure_others(report));
    }
    NPI_TRY(read_compared(report, options));
    NPI_TRY(npi_report_spread(report));
    NPI_TRY(npi_report_sheets(report, &options->compute, points));
    return npi_report_map(report, &options->compute, points);
}

npos_status npos_report(const npos_report_options *options) {
    npi_report report = {0};
    npi_report_points points = {0};
    npi_run *run = NULL;
    npos_status status;
    NPI_CHECK_OPTIONS(options, "npos_report");
    NPI_TRY_GOTO(npi_run_open(options->run, &options->compute, &run), done);
    report.run = run;
    npi_utc_now(report.written);
    NPI_TRY_GOTO(gather(&report, options, &points), done);
    status = write_page(&report);
done:
    npi_report_points_clear(&points);
    npi_report_clear(&report);
    npi_run_close(run);
    return status;
}
