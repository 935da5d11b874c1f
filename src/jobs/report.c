/* npos_report: gathers what a run left behind and writes it as one page. */
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/options.h"
#include "jobs/report_gather.h"
#include "npos/npos.h"
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
    NPI_TRY(read_log(report, run));
    NPI_TRY(read_evaluation(report, run));
    NPI_TRY(read_compared(report, options));
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
