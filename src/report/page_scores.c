/* Histograms of scores, ROC curves, precision by recall. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "report/palette.h"
#include "report/plot.h"
#include "report/report.h"

enum { BINS = 48, ROC_POINTS = 400 };

static int rising(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* *out = the finite of n values, sorted; *left = how many. */
static npos_status sorted(const double *values, int64_t n, double **out, int64_t *left) {
    NPI_TRY(npi_alloc(out, (size_t)n, sizeof **out, "scores"));
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(values[i]))
            (*out)[kept++] = values[i];
    qsort(*out, (size_t)kept, sizeof **out, rising);
    *left = kept;
    return NPOS_OK;
}

/* Widens [lo, hi] to the middle 99% of the values. */
static npos_status widen(const double *values, int64_t n, double *lo, double *hi) {
    double *order = NULL;
    int64_t left = 0;
    npos_status status = sorted(values, n, &order, &left);
    if (status == NPOS_OK && left > 0) {
        *lo = fmin(*lo, order[(int64_t)(0.005 * (double)(left - 1))]);
        *hi = fmax(*hi, order[(int64_t)(0.995 * (double)(left - 1))]);
    }
    npi_free(order);
    return status;
}

static void count_bins(const double *values, int64_t n, double lo, double hi, double *bins) {
    int64_t inside = 0;
    memset(bins, 0, BINS * sizeof *bins);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            continue;
        double at = floor((values[i] - lo) / (hi - lo) * BINS);
        bins[(int)fmin(fmax(at, 0), BINS - 1)]++;
        inside++;
    }
    for (int b = 0; b < BINS; b++)
        bins[b] /= inside > 0 ? (double)inside : 1;
}

static void histogram(npi_page *page, const npi_score_result *result, int set, double lo,
                      double hi) {
    double id[BINS], ood[BINS], top = 0;
    char label[200], note[64];
    const npi_set_result *s = &result->set[set];
    count_bins(result->id_scores, result->id_n, lo, hi, id);
    count_bins(s->scores, s->n, lo, hi, ood);
    for (int b = 0; b < BINS; b++)
        top = fmax(top, fmax(id[b], ood[b]));
    snprintf(label, sizeof label, "histogram of scores, ID against %.100s", s->name);
    npi_plot plot = {.width = 340,
                     .height = 220,
                     .x = {lo, hi, .title = "score (larger = more ID)"},
                     .y = {0, top > 0 ? top * 1.16 : 1, .percent = true, .title = "images"}};
    npi_page_add(page, "<figure>\n<ul class=\"key\">");
    npi_page_key(page, 'd', NPI_COLOUR_ID, 0, "ID");
    npi_page_key(page, 'd', npi_set_colour(set), 0, s->name);
    npi_page_add(page, "</ul>\n");
    npi_plot_begin(&plot, page, label);
    npi_plot_steps(&plot, BINS, lo, hi, id,
                   (npi_mark){.colour = NPI_COLOUR_ID, .width = 1.4, .fill = true});
    npi_plot_steps(&plot, BINS, lo, hi, ood,
                   (npi_mark){.colour = npi_set_colour(set), .width = 1.4, .fill = true});
    npi_plot_vertical(&plot, result->threshold,
                      (npi_mark){.colour = NPI_COLOUR_TEXT, .width = 1.4, .dash = 1});
    int64_t passing = 0;
    for (int64_t i = 0; i < s->n; i++)
        passing += s->scores[i] >= result->threshold;
    snprintf(note, sizeof note, " %.1f %% pass ", 100 * (double)passing / (double)s->n);
    npi_plot_note(&plot, result->threshold, top * 1.05,
                  result->threshold > lo + 0.72 * (hi - lo) ? 1 : -1, note);
    npi_plot_end(&plot);
    npi_page_add(page, "</figure>\n");
}

/* ---- ROC ---- */

/* Accepted shares at ROC_POINTS thresholds that step through the set's own scores: x = share of OOD
 * accepted, y = share of ID accepted. */
static npos_status roc(const npi_score_result *result, int set, double *x, double *y) {
    double *id = NULL, *ood = NULL;
    int64_t ids = 0, oods = 0;
    npos_status status;
    NPI_TRY_GOTO(sorted(result->id_scores, result->id_n, &id, &ids), done);
    NPI_TRY_GOTO(sorted(result->set[set].scores, result->set[set].n, &ood, &oods), done);
    for (int i = 0; i < ROC_POINTS; i++) {
        /* shares from 10^-4 to 1, dense where the logarithmic axis is */
        double share = pow(10, -4.0 * (ROC_POINTS - 1 - i) / (ROC_POINTS - 1));
        int64_t accept = (int64_t)ceil(share * (double)oods - 1e-9);
        x[i] = y[i] = NAN;
        if (oods == 0 || ids == 0)
            continue;
        double threshold = ood[oods - accept];
        int64_t lo = 0, hi = ids; /* first ID score at or above the threshold */
        while (lo < hi) {
            int64_t middle = (lo + hi) / 2;
            if (id[middle] >= threshold)
                hi = middle;
            else
                lo = middle + 1;
        }
        x[i] = (double)accept / (double)oods;
        y[i] = (double)(ids - lo) / (double)ids;
    }
done:
    npi_free(id);
    npi_free(ood);
    return status;
}

static void roc_plot(npi_page *page, const npi_score_result *result, bool zoom) {
    double x[ROC_POINTS], y[ROC_POINTS];
    npi_plot plot = {
        .height = 340,
        .x = {zoom ? 0.001 : 0, 1, .log = zoom, .percent = true, .title = "OOD images accepted"},
        .y = {zoom ? 0.5 : 0, 1, .percent = true, .title = "ID images accepted"}};
    npi_page_add(page, "<figure>\n");
    npi_plot_begin(&plot, page, zoom ? "ROC curves, logarithmic" : "ROC curves");
    npi_plot_horizontal(&plot, 0.95, (npi_mark){.colour = NPI_COLOUR_TEXT, .width = 1, .dash = 1});
    if (!zoom) {
        const double ends[] = {0, 1};
        npi_plot_line(&plot, 2, ends, ends, (npi_mark){.colour = NPI_COLOUR_MUTED, .width = 1});
    }
    for (int i = 0; i < result->sets && page->status == NPOS_OK; i++) {
        page->status = roc(result, i, x, y);
        if (page->status == NPOS_OK)
            npi_plot_line(
                &plot, ROC_POINTS, x, y,
                (npi_mark){.colour = npi_set_colour(i), .width = 2, .dash = i / NPI_COLOUR_SETS});
        const double level = 0.95;
        npi_plot_points(&plot, 1, &result->set[i].measures.fpr95, &level, 1,
                        (npi_mark){.colour = npi_set_colour(i), .width = 4, .fine = true});
    }
    npi_plot_end(&plot);
    npi_page_caption(page, zoom
                               ? "The same with a logarithmic axis: what happens where few OOD "
                                 "images are let through."
                               : "ROC curves: the more a curve keeps to the upper left, the better "
                                 "the set is told apart; the diagonal is chance. Dots mark FPR95 "
                                 "on the dashed line of 95 % ID images accepted.");
    npi_page_add(page, "</figure>\n");
}

/* Precision by recall with ID as what is looked for, at the thresholds of the ROC curves; and the other
 * way round, with OOD as what is looked for. */
static void precision_plot(npi_page *page, const npi_score_result *result, bool ood) {
    double x[ROC_POINTS], y[ROC_POINTS], recall[ROC_POINTS], precision[ROC_POINTS];
    npi_plot plot = {
        .height = 340,
        .x = {0, 1, .percent = true, .title = ood ? "OOD images found" : "ID images accepted"},
        .y = {0, 1, .percent = true,
              .title = ood ? "OOD among the rejected" : "ID among the accepted"}};
    npi_page_add(page, "<figure>\n");
    npi_plot_begin(&plot, page, ood ? "precision by recall, OOD" : "precision by recall, ID");
    for (int i = 0; i < result->sets && page->status == NPOS_OK; i++) {
        double ids = (double)result->id_n, oods = (double)result->set[i].n;
        page->status = roc(result, i, x, y);
        for (int p = 0; p < ROC_POINTS && page->status == NPOS_OK; p++) {
            double found = ood ? (1 - x[p]) * oods : y[p] * ids;
            double taken = ood ? found + (1 - y[p]) * ids : found + x[p] * oods;
            recall[p] = ood ? 1 - x[p] : y[p];
            precision[p] = taken > 0 ? found / taken : NAN;
        }
        if (page->status == NPOS_OK)
            npi_plot_line(
                &plot, ROC_POINTS, recall, precision,
                (npi_mark){.colour = npi_set_colour(i), .width = 2, .dash = i / NPI_COLOUR_SETS});
    }
    npi_plot_end(&plot);
    npi_page_caption(page, ood ? "The same with OOD images as what is looked for (AUPR-out)."
                               : "Precision by recall with ID images as what is looked for "
                                 "(AUPR-in). Where a curve starts depends on the sets' sizes.");
    npi_page_add(page, "</figure>\n");
}

static void plots_of(npi_page *page, const npi_score_result *result) {
    double lo = INFINITY, hi = -INFINITY;
    page->status =
        page->status == NPOS_OK ? widen(result->id_scores, result->id_n, &lo, &hi) : page->status;
    for (int i = 0; i < result->sets && page->status == NPOS_OK; i++)
        page->status = widen(result->set[i].scores, result->set[i].n, &lo, &hi);
    if (page->status != NPOS_OK)
        return;
    if (!(hi > lo)) {
        npi_page_missing(page, "No histogram:", "all scores are equal or none is finite.");
        return;
    }
    lo = fmin(lo, result->threshold);
    hi = fmax(hi, result->threshold);
    double slack = 0.02 * (hi - lo);
    npi_page_add(page, "<div class=\"grid three\">\n");
    for (int i = 0; i < result->sets; i++)
        histogram(page, result, i, lo - slack, hi + slack);
    npi_page_add(page, "</div>\n<ul class=\"key\">");
    for (int i = 0; i < result->sets; i++)
        npi_page_key(page, 'l', npi_set_colour(i), i / NPI_COLOUR_SETS, result->set[i].name);
    npi_page_add(page, "</ul>\n<div class=\"grid\">\n");
    roc_plot(page, result, false);
    roc_plot(page, result, true);
    precision_plot(page, result, false);
    precision_plot(page, result, true);
    npi_page_add(page, "</div>\n");
}

void npi_page_scores(npi_page *page, const npi_report *report) {
    if (report->evaluation_why)
        return;
    npi_page_section(page, "scores", "Scores");
    const npi_score_result *main = &report->evaluation.result[report->main_score];
    if (!main->id_scores) {
        npi_page_missing(
            page, "No plots of scores:", "RUN/scores is incomplete; evaluate the run once more.");
        return;
    }
    npi_page_add(page, "<p>Score <b>");
    npi_page_escape(page, main->score);
    npi_page_add(page, "</b>: how its values spread over ID images (blue) and over each OOD set. "
                       "Right of the dashed threshold an image counts as known. Well-parted hills "
                       "mean that the network notices; where they overlap it takes one for the "
                       "other. The outermost bins hold all values beyond.</p>\n");
    plots_of(page, main);
    for (int r = 0; r < report->evaluation.results; r++) {
        const npi_score_result *result = &report->evaluation.result[r];
        if (r == report->main_score || !result->id_scores)
            continue;
        npi_page_add(page, "<details><summary>Score ");
        npi_page_escape(page, result->score);
        npi_page_add(page, "</summary>\n");
        plots_of(page, result);
        npi_page_add(page, "</details>\n");
    }
}
