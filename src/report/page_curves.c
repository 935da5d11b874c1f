/* How training went: curves of log.jsonl. */
#include <math.h>

#include "report/palette.h"
#include "report/plot.h"
#include "report/report.h"

typedef struct curve {
    npi_log_column column;
    int colour, dash;
    const char *text;
} curve;

static const curve losses[] = {{NPI_LOG_LOSS, NPI_COLOUR_TEXT, 0, "whole loss"},
                               {NPI_LOG_COMP, 1, 0, "compactness (L_comp)"},
                               {NPI_LOG_DISP, 2, 1, "dispersion (L_disp)"},
                               {NPI_LOG_OPEN, 3, 2, "open-set risk (R_open)"},
                               {NPI_LOG_CE, 4, 3, "cross-entropy"}};
static const curve rate[] = {{NPI_LOG_LR, 5, 0, "learning rate"}};
static const curve distance[] = {{NPI_LOG_DISTANCE, 2, 0, "distance of the closest prototypes"}};
static const curve gradient[] = {{NPI_LOG_GRADIENT, 4, 0, "gradient norm"}};
static const curve dead[] = {{NPI_LOG_DEAD, 3, 0, "units of the projection that no view reaches"}};
static const curve speed[] = {{NPI_LOG_RATE, 6, 0, "images a second"}};

/* Draws the curves that the log has; nothing when it has none. */
static void draw(npi_page *page, const npi_report *report, const curve *curves, int count,
                 const char *title, const char *caption) {
    const npi_log *log = &report->log;
    double lo = INFINITY, hi = -INFINITY;
    for (int c = 0; c < count; c++) {
        for (int i = 0; i < log->rows; i++) {
            double value = log->column[curves[c].column][i];
            if (isfinite(value)) {
                lo = fmin(lo, value);
                hi = fmax(hi, value);
            }
        }
    }
    if (!(lo <= hi))
        return;
    if (lo > 0 && lo < 0.6 * hi)
        lo = 0;
    double slack = hi > lo ? 0.05 * (hi - lo) : fmax(fabs(hi) * 0.1, 1e-6);
    const double *epoch = log->column[NPI_LOG_EPOCH];
    double first = epoch[0], last = epoch[log->rows - 1];
    npi_plot plot = {.x = {first, last > first ? last : first + 1, .title = "epoch"},
                     .y = {lo == 0 ? 0 : lo - slack, hi + slack, .title = title}};
    npi_page_add(page, "<figure>\n");
    npi_plot_begin(&plot, page, title);
    if (count > 1 && lo < 0)
        npi_plot_horizontal(&plot, 0, (npi_mark){.colour = NPI_COLOUR_MUTED, .width = 1});
    int start = report->run->recipe.start_epoch;
    if (count > 1 && npi_log_has(log, NPI_LOG_OPEN) && start > first && start < last) {
        npi_plot_vertical(&plot, start,
                          (npi_mark){.colour = NPI_COLOUR_MUTED, .width = 1, .dash = 1});
        npi_plot_note(&plot, start, hi, start < (first + last) / 2 ? -1 : 1,
                      " outliers from here ");
    }
    for (int c = 0; c < count; c++)
        npi_plot_line(&plot, log->rows, epoch, log->column[curves[c].column],
                      (npi_mark){.colour = curves[c].colour, .width = 2, .dash = curves[c].dash});
    npi_plot_end(&plot);
    if (count > 1) {
        npi_page_add(page, "<ul class=\"key\">");
        for (int c = 0; c < count; c++)
            if (npi_log_has(log, curves[c].column))
                npi_page_key(page, 'l', curves[c].colour, curves[c].dash, curves[c].text);
        npi_page_add(page, "</ul>\n");
    }
    npi_page_caption(page, caption);
    npi_page_add(page, "</figure>\n");
}

void npi_page_curves(npi_page *page, const npi_report *report) {
    npi_page_section(page, "training", "How training went");
    if (report->log_why) {
        npi_page_missing(page, "The log of the training is missing:", report->log_why);
        return;
    }
    if (report->log.rows == 0) {
        npi_page_missing(page, "The log of the training is empty:", "no epoch was finished yet.");
        return;
    }
    npi_page_add(page, "<div class=\"grid\">\n");
    draw(page, report, losses, sizeof losses / sizeof *losses, "loss",
         "Terms of the loss, unweighted, in the mean of each epoch. Look for a steady fall; "
         "R_open starts where outliers are first synthesised.");
    draw(page, report, distance, 1, "distance",
         "Distance between the two closest class prototypes on the unit sphere. It should rise and "
         "stay: classes that lie apart leave room for what belongs to none.");
    draw(page, report, gradient, 1, "gradient norm",
         "Mean norm of the gradient of a step, before clipping. A high start that falls as the "
         "loss rises is a "
         "collapse: all embeddings in one place.");
    draw(page, report, dead, 1, "dead units",
         "Share of the projection's hidden units that are zero for all views of a step: they have "
         "no gradient. "
         "It rises where the embeddings collapse in the first epochs.");
    draw(page, report, rate, 1, "learning rate", "The schedule as it was run.");
    draw(page, report, speed, 1, "images / s",
         "Speed of each epoch. It falls where synthesis starts; other dips are a busy machine.");
    npi_page_add(page, "</div>\n");
}
