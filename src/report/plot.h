/* report/plot.h - plots as inline SVG: axes, lines, steps, points, notes.
 *
 * Text stays text and colours are classes of the page's style sheet (report/palette.h), so that one
 * drawing serves light and dark screens and print, scales to a phone and can be searched.
 *
 *     npi_plot plot = {.x = {0, 1, .title = "epoch"}, .y = {0, 3, .title = "loss"}};
 *     npi_plot_begin(&plot, &page, "loss by epoch");
 *     npi_plot_line(&plot, n, x, y, (npi_mark){.colour = 1, .width = 1.6});
 *     npi_plot_end(&plot);
 *
 * Failures stick to the page (report/page_text.h).  Values outside the axes are clipped; values that
 * are not finite are left out and break a line. */
#ifndef NPI_REPORT_PLOT_H
#define NPI_REPORT_PLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "report/page_text.h"

typedef struct npi_axis {
    double lo, hi; /* lo < hi; both > 0 when logarithmic */
    bool log;
    bool percent; /* labels are 100 times the value, with a % sign */
    bool bare;    /* no ticks, no labels */
    const char *title;
} npi_axis;

/* How something is drawn. */
typedef struct npi_mark {
    int colour;   /* number of the palette (report/palette.h) */
    double width; /* of a line, or radius of a point, in pixels of the drawing */
    double alpha; /* 0: opaque */
    int dash;     /* 0 solid, 1.. other patterns */
    int shape;    /* of points: 0 disc, 1 ring, 2 cross, 3 diamond, 4 star, 5 triangle */
    bool fill;    /* npi_plot_steps: fills down to the axis */
    bool fine;    /* a thin outline in the background's colour sets the points off */
} npi_mark;

typedef struct npi_plot {
    int width, height; /* of the drawing; 0: 460 x 300 */
    npi_axis x, y;
    /* set by npi_plot_begin */
    npi_page *page;
    double left, top, right, bottom; /* the frame in pixels */
    int clip;
} npi_plot;

/* Starts the drawing: frame, grid, ticks, titles.  `label` says to those who cannot see it what it
 * shows. */
void npi_plot_begin(npi_plot *plot, npi_page *page, const char *label);

/* A line through n points. */
void npi_plot_line(npi_plot *plot, int64_t n, const double *x, const double *y, npi_mark mark);

/* A histogram's outline: n heights over the n equal bins of [lo, hi]. */
void npi_plot_steps(npi_plot *plot, int64_t n, double lo, double hi, const double *height,
                    npi_mark mark);

/* Markers; x and y are n pairs, `stride` doubles apart. */
void npi_plot_points(npi_plot *plot, int64_t n, const double *x, const double *y, int stride,
                     npi_mark mark);

/* A line across the frame at x, or at y. */
void npi_plot_vertical(npi_plot *plot, double x, npi_mark mark);
void npi_plot_horizontal(npi_plot *plot, double y, npi_mark mark);

/* A horizontal bar from (x0, y) to (x1, y): an interval. */
void npi_plot_span(npi_plot *plot, double x0, double x1, double y, npi_mark mark);

/* Text at a point; anchor: -1 it starts there, 0 it is centred, 1 it ends there. */
void npi_plot_note(npi_plot *plot, double x, double y, int anchor, const char *text);

void npi_plot_end(npi_plot *plot);

/* Step between ticks, 1, 2 or 5 times a power of ten, so that about `wanted` fit into [lo, hi]. */
double npi_tick_step(double lo, double hi, int wanted);

#endif
