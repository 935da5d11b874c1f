/* The evaluation as tables, and other runs beside. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "report/palette.h"
#include "report/plot.h"
#include "report/report.h"

static void percent(npi_page *page, double value, const double *ci) {
    npi_page_add(page, "<td>%.2f", 100 * value);
    if (ci)
        npi_page_add(page, "<span class=\"ci\">%.2f&ndash;%.2f</span>", 100 * ci[0], 100 * ci[1]);
    npi_page_add(page, "</td>");
}

static void set_row(npi_page *page, const npi_set_result *set, int colour) {
    npi_page_add(page, "<tr><td><span class=\"chip c%d\"></span>", colour);
    npi_page_escape(page, set->name);
    npi_page_add(page, "</td><td class=\"l\">");
    npi_page_escape(page, set->group);
    npi_page_add(page, "</td><td>%lld", (long long)set->n);
    if (set->available > set->n)
        npi_page_add(page, " of %lld", (long long)set->available);
    npi_page_add(page, "</td>");
    percent(page, set->measures.fpr95, set->measures.fpr95_ci);
    percent(page, set->measures.auroc, set->measures.auroc_ci);
    percent(page, set->measures.aupr_in, NULL);
    percent(page, set->measures.aupr_out, NULL);
    npi_page_add(page, "</tr>\n");
}

static void mean_row(npi_page *page, const npi_score_result *result, const char *group) {
    npi_measures mean;
    int sets = npi_mean_measures(result, group, &mean);
    if (sets == 0)
        return;
    npi_page_add(page, "<tr class=\"mean\"><td>mean");
    if (group) {
        npi_page_add(page, " ");
        npi_page_escape(page, group);
    }
    npi_page_add(page, "</td><td class=\"l\">%d set%s</td><td></td>", sets, sets > 1 ? "s" : "");
    percent(page, mean.fpr95, isnan(mean.fpr95_ci[0]) ? NULL : mean.fpr95_ci);
    percent(page, mean.auroc, isnan(mean.auroc_ci[0]) ? NULL : mean.auroc_ci);
    percent(page, mean.aupr_in, NULL);
    percent(page, mean.aupr_out, NULL);
    npi_page_add(page, "</tr>\n");
}

/* The rows of sets, groups and all. */
static void measures_table(npi_page *page, const npi_score_result *result) {
    npi_page_add(page, "<div class=\"scroll\"><table>\n<tr><th>OOD set</th><th class=\"l\">"
                       "group</th><th>images</th><th>FPR95 &darr;</th><th>AUROC &uarr;</th>"
                       "<th>AUPR-in &uarr;</th><th>AUPR-out &uarr;</th></tr>\n");
    for (int i = 0; i < result->sets; i++)
        set_row(page, &result->set[i], npi_set_colour(i));
    const char *group;
    for (int i = 0; (group = npi_group_at(result, i)) != NULL; i++)
        mean_row(page, result, group);
    mean_row(page, result, NULL);
    npi_page_add(page, "</table></div>\n");
}

static void table(npi_page *page, const npi_evaluation *evaluation,
                  const npi_score_result *result) {
    const struct {
        const char *name;
        double value;
    } accuracies[] = {{"50-NN vote", result->accuracy.knn},
                      {"nearest prototype", result->accuracy.prototype},
                      {"classifier", result->accuracy.head},
                      {"text", result->accuracy.text}};
    npi_page_add(page, "<h3>Score: ");
    npi_page_escape(page, result->score);
    npi_page_add(page, "</h3>\n<p class=\"mute\">%lld ID images", (long long)result->id_n);
    for (int i = 0; i < evaluation->id_parts; i++) { /* what they are */
        npi_page_add(page, "%s", i == 0 ? " of a full spectrum (test images" : ", ");
        if (i > 0)
            npi_page_escape(page, evaluation->id_part[i].name);
        npi_page_add(page, i + 1 == evaluation->id_parts ? " %lld)" : " %lld",
                     (long long)evaluation->id_part[i].n);
    }
    npi_page_add(page, ", threshold %.5g", result->threshold);
    if (result->chosen_k > 0)
        npi_page_add(page, ", k = %d chosen on validation sets", result->chosen_k);
    const char *joint = "; ID accuracy ";
    for (size_t i = 0; i < sizeof accuracies / sizeof *accuracies; i++) {
        if (accuracies[i].value >= 0) {
            npi_page_add(page, "%s%.2f %% (%s)", joint, 100 * accuracies[i].value,
                         accuracies[i].name);
            joint = ", ";
        }
    }
    npi_page_add(page, "</p>\n");
    measures_table(page, result);
}

/* The main score as other protocols measure it. */
static void other_protocols(npi_page *page, const npi_report *report) {
    static const char *const says[] = {
        [NPI_PROTOCOL_OE] = "the threshold lies where the ID share accepted is nearest to 95%, and "
                            "AUPR is average precision.",
        [NPI_PROTOCOL_OPENOOD] = "OOD counts as positive, so that FPR95 is the share of ID images "
                                 "turned away when 95% of the OOD images are caught: another "
                                 "question than that of the other two.",
        [NPI_PROTOCOL_KNN_OOD] = "the threshold is the ID score of rank 5% from below, and AUPR is "
                                 "a trapezoid rule."};
    if (report->other[0].results == 0)
        return;
    npi_page_add(page, "<details class=\"print\"><summary>The score ");
    npi_page_escape(page, report->other[0].result->score);
    npi_page_add(page, " under the other protocols</summary>\n");
    for (int i = 0; i < NPI_REPORT_PROTOCOLS; i++) {
        const npi_evaluation *other = &report->other[i];
        npi_page_add(page,
                     "<h3>Protocol: %s</h3>\n<p class=\"mute\">The same scores of the same "
                     "images; ",
                     npi_protocol_name(other->protocol));
        npi_page_escape(page, says[other->protocol]);
        npi_page_add(page, "</p>\n");
        measures_table(page, other->result);
    }
    npi_page_add(page, "</details>\n");
}

void npi_page_tables(npi_page *page, const npi_report *report) {
    npi_page_section(page, "table", "How well known and unknown part");
    if (report->evaluation_why) {
        npi_page_missing(page,
                         "This run has no evaluation to show (npos eval RUN --ood NAME=SPEC):",
                         report->evaluation_why);
        return;
    }
    npi_page_add(
        page,
        "<p>In percent, protocol <b>%s</b> (%s images count as positive), with 95%% "
        "intervals in grey. <b>FPR95</b>: share of OOD images that pass as ID when 95%% of "
        "the ID images pass. <b>AUROC</b>: how often an ID image scores above an OOD "
        "image; 50 is chance. <b>AUPR</b>: area under precision and recall, with ID or "
        "OOD as what is looked for; it depends on the sets' sizes.</p>\n",
        npi_protocol_name(report->evaluation.protocol),
        strcmp(npi_protocol_positive(report->evaluation.protocol), "id") == 0 ? "ID" : "OOD");
    table(page, &report->evaluation, &report->evaluation.result[report->main_score]);
    other_protocols(page, report);
    if (report->evaluation.results > 1) {
        npi_page_add(page, "<details open><summary>More scores of this run</summary>\n");
        for (int r = 0; r < report->evaluation.results; r++)
            if (r != report->main_score)
                table(page, &report->evaluation, &report->evaluation.result[r]);
        npi_page_add(page, "</details>\n");
    }
}

/* ---- other runs ---- */

typedef struct best {
    double auroc, fpr95;
} best;

static void look(const npi_evaluation *evaluation, const char *group, best *b) {
    npi_measures mean;
    for (int r = 0; r < evaluation->results; r++) {
        if (npi_mean_measures(&evaluation->result[r], group, &mean) > 0) {
            b->auroc = fmax(b->auroc, mean.auroc);
            b->fpr95 = fmin(b->fpr95, mean.fpr95);
        }
    }
}

static void cell(npi_page *page, double value, double best_value) {
    npi_page_add(page, "<td%s>%.2f</td>", fabs(value - best_value) < 5e-7 ? " class=\"best\"" : "",
                 100 * value);
}

static void run_rows(npi_page *page, const char *path, const npi_evaluation *evaluation,
                     const char *const *groups, int count, const best *bests) {
    for (int r = 0; r < evaluation->results; r++) {
        const npi_score_result *result = &evaluation->result[r];
        npi_page_add(page, "<tr><td>");
        npi_page_escape(page, npi_path_name(path));
        npi_page_add(page, "</td><td class=\"l\">");
        npi_page_escape(page, result->score);
        npi_page_add(page, "</td>");
        double accuracy = result->accuracy.knn >= 0 ? result->accuracy.knn : result->accuracy.head;
        if (accuracy >= 0)
            npi_page_add(page, "<td>%.2f</td>", 100 * accuracy);
        else
            npi_page_add(page, "<td>-</td>");
        for (int g = 0; g < count; g++) {
            npi_measures mean;
            if (npi_mean_measures(result, groups[g], &mean) > 0) {
                cell(page, mean.fpr95, bests[g].fpr95);
                cell(page, mean.auroc, bests[g].auroc);
            } else {
                npi_page_add(page, "<td>-</td><td>-</td>");
            }
        }
        npi_page_add(page, "</tr>\n");
    }
}

void npi_page_comparison(npi_page *page, const npi_report *report) {
    enum { MOST_GROUPS = 6 };
    const char *groups[MOST_GROUPS + 1];
    best bests[MOST_GROUPS + 1];
    int count = 0;
    if (report->compared_count == 0 || report->evaluation_why)
        return;
    const npi_score_result *main = &report->evaluation.result[report->main_score];
    for (int i = 0; i < MOST_GROUPS && npi_group_at(main, i); i++)
        groups[count++] = npi_group_at(main, i);
    groups[count++] = NULL;
    for (int g = 0; g < count; g++) {
        bests[g] = (best){0, 1};
        look(&report->evaluation, groups[g], &bests[g]);
        for (int i = 0; i < report->compared_count; i++)
            look(&report->compared[i].evaluation, groups[g], &bests[g]);
    }
    npi_page_section(page, "comparison", "Beside other runs");
    npi_page_add(page, "<div class=\"scroll\"><table>\n<tr><th>run</th><th class=\"l\">score</th>"
                       "<th>accuracy</th>");
    for (int g = 0; g < count; g++) {
        for (int i = 0; i < 2; i++) {
            npi_page_add(page, "<th>");
            npi_page_escape(page, groups[g] ? groups[g] : "all");
            npi_page_add(page, i == 0 ? " FPR95 &darr;</th>" : " AUROC &uarr;</th>");
        }
    }
    npi_page_add(page, "</tr>\n");
    run_rows(page, report->run->path, &report->evaluation, groups, count, bests);
    bool differs = false;
    for (int i = 0; i < report->compared_count; i++) {
        run_rows(page, report->compared[i].path, &report->compared[i].evaluation, groups, count,
                 bests);
        differs |= report->compared[i].evaluation.protocol != report->evaluation.protocol;
    }
    npi_page_add(page,
                 "</table></div>\n<p class=\"mute\">Means over sets in percent; the best of each "
                 "column is bold. One seed each: differences of a point or two are within what "
                 "another seed does.%s</p>\n",
                 differs ? " <b>The runs were measured under different protocols, so their figures "
                           "do not compare.</b>"
                         : "");
}
