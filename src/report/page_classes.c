/* Classes: which of the model's classes take what does not belong, and which classes of an OOD set
 * pass. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "report/palette.h"
#include "report/report.h"

enum { ROWS = 30, BARS = 16 }; /* classes that are shown, the worst first */

/* Images of a class. */
typedef struct tally {
    int which;
    int64_t n, accepted;
    double weight; /* what rows are ordered by */
} tally;

static int by_weight(const void *left, const void *right) {
    const tally *a = left, *b = right;
    if (a->weight != b->weight)
        return a->weight < b->weight ? 1 : -1;
    return (a->which > b->which) - (a->which < b->which);
}

static double share(int64_t part, int64_t of) {
    return of > 0 ? (double)part / (double)of : 0;
}

/* counts[classes] of the images with a score of at least the threshold and of all, by their number. */
static void count(const int32_t *number, const double *score, int64_t n, double threshold,
                  tally *to) {
    for (int64_t i = 0; i < n; i++) {
        if (number[i] < 0)
            continue;
        to[number[i]].n++;
        to[number[i]].accepted += score[i] >= threshold;
    }
}

static const npi_set_classes *classes_of(const npi_report *report, const npi_score_result *result,
                                         int set) {
    const npi_set_classes *found =
        npi_classes_list_find(&report->classes, set < 0 ? "id" : result->set[set].name);
    int64_t n = set < 0 ? result->id_n : result->set[set].n;
    return found && found->n == n ? found : NULL;
}

/* ---- taken for ---- */

/* passing[set][class]: share of the set's images that pass and are taken for the class. */
typedef struct taken {
    int classes, sets;
    tally *own;      /* [classes] ID images of the class, and how many of them pass */
    double *passing; /* [sets][classes] */
    tally *order;    /* [classes] rows, the worst first */
} taken;

static void taken_clear(taken *t) {
    npi_free(t->own);
    npi_free(t->passing);
    npi_free(t->order);
}

static npos_status taken_fill(const npi_report *report, const npi_score_result *result, taken *t) {
    size_t classes = (size_t)report->run->classes;
    tally *seen = NULL;
    npos_status status;
    t->classes = report->run->classes;
    t->sets = result->sets;
    NPI_TRY_GOTO(npi_alloc(&t->own, classes, sizeof *t->own, "classes"), done);
    NPI_TRY_GOTO(npi_alloc(&t->order, classes, sizeof *t->order, "classes"), done);
    NPI_TRY_GOTO(npi_alloc(&t->passing, classes * (size_t)t->sets, sizeof *t->passing, "classes"),
                 done);
    const npi_set_classes *id = classes_of(report, result, -1);
    if (id)
        count(id->own, result->id_scores, id->n, result->threshold, t->own);
    for (int c = 0; c < t->classes; c++)
        t->order[c].which = c;
    for (int s = 0; s < t->sets; s++) {
        const npi_set_classes *set = classes_of(report, result, s);
        npi_free(seen);
        NPI_TRY_GOTO(npi_alloc(&seen, classes, sizeof *seen, "classes"), done);
        if (set)
            count(set->taken, result->set[s].scores, set->n, result->threshold, seen);
        for (int c = 0; c < t->classes; c++) {
            double passing = share(seen[c].accepted, result->set[s].n);
            t->passing[(int64_t)s * t->classes + c] = passing;
            t->order[c].weight += passing;
        }
    }
    qsort(t->order, classes, sizeof *t->order, by_weight);
done:
    npi_free(seen);
    return status;
}

static void taken_rows(npi_page *page, const npi_report *report, const taken *t) {
    char text[32];
    double most = 0;
    for (int64_t i = 0; i < (int64_t)t->sets * t->classes; i++)
        most = fmax(most, t->passing[i]);
    for (int r = 0; r < t->classes && r < ROWS; r++) {
        int c = t->order[r].which;
        npi_page_add(page, "<tr><td>");
        npi_page_escape(page, report->run->class_names[c]);
        npi_page_add(page, "</td>");
        if (t->own[c].n > 0)
            npi_page_add(page, "<td>%.1f</td>", 100 * share(t->own[c].accepted, t->own[c].n));
        else
            npi_page_add(page, "<td>-</td>");
        for (int s = 0; s < t->sets; s++) {
            double passing = t->passing[(int64_t)s * t->classes + c];
            snprintf(text, sizeof text, "%.1f", 100 * passing);
            npi_page_shade(page, most > 0 ? passing / most : 0, text);
        }
        npi_page_add(page, "</tr>\n");
    }
}

static void taken_table(npi_page *page, const npi_report *report, const npi_score_result *result,
                        const taken *t) {
    npi_page_add(page,
                 "<p>Which class takes what does not belong: the share of each set's images "
                 "that pass the threshold (%.5g) as the class, in percent. A column adds up "
                 "to the set's false positive rate; beside it how many of the class's own "
                 "images pass.</p>\n<div class=\"scroll\"><table>\n<tr><th>class</th>"
                 "<th>own images</th>",
                 result->threshold);
    for (int s = 0; s < result->sets; s++) {
        npi_page_add(page, "<th><span class=\"chip c%d\"></span>", npi_set_colour(s));
        npi_page_escape(page, result->set[s].name);
        npi_page_add(page, "</th>");
    }
    npi_page_add(page, "</tr>\n");
    taken_rows(page, report, t);
    npi_page_add(page, "<tr class=\"mean\"><td>all</td>");
    int64_t n = 0, accepted = 0;
    for (int c = 0; c < t->classes; c++) {
        n += t->own[c].n;
        accepted += t->own[c].accepted;
    }
    npi_page_add(page, n > 0 ? "<td>%.1f</td>" : "<td>-</td>", 100 * share(accepted, n));
    for (int s = 0; s < t->sets; s++) {
        double sum = 0;
        for (int c = 0; c < t->classes; c++)
            sum += t->passing[(int64_t)s * t->classes + c];
        npi_page_add(page, "<td style=\"text-align:center\">%.1f</td>", 100 * sum);
    }
    npi_page_add(page, "</tr>\n</table></div>\n");
    if (t->classes > ROWS)
        npi_page_add(page, "<p class=\"mute\">The %d of %d classes that let most pass.</p>\n", ROWS,
                     t->classes);
}

/* ---- what passes ---- */

static void bars(npi_page *page, const npi_set_classes *set, const npi_set_result *result,
                 double threshold, int colour) {
    tally *own;
    if (page->status == NPOS_OK)
        page->status = npi_alloc(&own, (size_t)set->classes, sizeof *own, "classes");
    if (page->status != NPOS_OK)
        return;
    count(set->own, result->scores, set->n, threshold, own);
    int there = 0;
    for (int c = 0; c < set->classes; c++) {
        own[c].which = c;
        own[c].weight = own[c].n > 0 ? share(own[c].accepted, own[c].n) : -1;
        there += own[c].n > 0;
    }
    qsort(own, (size_t)set->classes, sizeof *own, by_weight);
    if (there > 1) {
        npi_page_add(page, "<figure>\n<h3><span class=\"chip c%d\"></span>", colour);
        npi_page_escape(page, set->name);
        npi_page_add(page, "</h3>\n<div class=\"bars\">\n");
        for (int i = 0; i < there && i < BARS; i++) {
            npi_page_add(page, "<span title=\"");
            npi_page_escape(page, set->class_names[own[i].which]);
            npi_page_add(page, "\">");
            npi_page_escape(page, set->class_names[own[i].which]);
            npi_page_add(page,
                         "</span><i><b class=\"c%d\" style=\"width:%.1f%%\"></b></i>"
                         "<span>%.0f %% of %lld</span>\n",
                         colour, 100 * own[i].weight, 100 * own[i].weight, (long long)own[i].n);
        }
        npi_page_add(page, "</div>\n");
        if (there > BARS)
            npi_page_add(page, "<figcaption>The %d of %d classes that pass most.</figcaption>\n",
                         BARS, there);
        npi_page_add(page, "</figure>\n");
    }
    npi_free(own);
}

static bool has_classes(const npi_set_classes *set) {
    bool more = false;
    for (int64_t i = 1; set && i < set->n && !more; i++)
        more = set->own[i] >= 0 && set->own[0] >= 0 && set->own[i] != set->own[0];
    return more;
}

void npi_page_classes(npi_page *page, const npi_report *report) {
    taken t = {0};
    if (report->evaluation_why)
        return;
    const npi_score_result *result = &report->evaluation.result[report->main_score];
    npi_page_section(page, "classes", "Which classes err");
    if (report->classes_why || !result->id_scores) {
        npi_page_missing(page,
                         "It is not known what each image was taken for; evaluate the run "
                         "once more:",
                         report->classes_why ? report->classes_why : "RUN/scores is incomplete.");
        return;
    }
    if (page->status == NPOS_OK)
        page->status = taken_fill(report, result, &t);
    if (page->status == NPOS_OK)
        taken_table(page, report, result, &t);
    taken_clear(&t);
    bool any = false;
    for (int s = 0; s < result->sets; s++)
        any |= has_classes(classes_of(report, result, s));
    if (!any)
        return;
    npi_page_add(page, "<p>Which classes of each set pass: the share of a class's images that "
                       "count as known.</p>\n<div class=\"grid three\">\n");
    for (int s = 0; s < result->sets; s++) {
        const npi_set_classes *set = classes_of(report, result, s);
        if (has_classes(set))
            bars(page, set, &result->set[s], result->threshold, npi_set_colour(s));
    }
    npi_page_add(page, "</div>\n");
}
