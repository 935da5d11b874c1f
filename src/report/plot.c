#include "report/plot.h"

#include <math.h>
#include <stdio.h>

enum { MOST_TICKS = 24 };

double npi_tick_step(double lo, double hi, int wanted) {
    double rough = (hi - lo) / wanted, power = pow(10, floor(log10(rough))), step = rough / power;
    return power * (step <= 1 ? 1 : step <= 2 ? 2 : step <= 5 ? 5 : 10);
}

static double place(const npi_axis *axis, double value, double from, double to) {
    double share = axis->log ? log(value / axis->lo) / log(axis->hi / axis->lo)
                             : (value - axis->lo) / (axis->hi - axis->lo);
    return from + share * (to - from);
}

static double px(const npi_plot *plot, double x) {
    return place(&plot->x, x, plot->left, plot->right);
}

static double py(const npi_plot *plot, double y) {
    return place(&plot->y, y, plot->bottom, plot->top);
}

/* ---- axes ---- */

static int ticks(const npi_axis *axis, int wanted, double *at) {
    int count = 0;
    if (axis->bare)
        return 0;
    if (axis->log) {
        double decades = log10(axis->hi / axis->lo);
        for (double power = pow(10, floor(log10(axis->lo))); power <= axis->hi; power *= 10)
            for (int i = 1; i<10; i += decades> 2.5 ? 9 : i == 1 ? 1 : i == 2 ? 3 : 5) {
                double value = power * i;
                if (value >= axis->lo * 0.999 && value <= axis->hi * 1.001 && count < MOST_TICKS)
                    at[count++] = value;
            }
        return count;
    }
    double step = npi_tick_step(axis->lo, axis->hi, wanted);
    double slack = step * 1e-6;
    for (double i = ceil((axis->lo - slack) / step); i * step <= axis->hi + slack; i++)
        if (count < MOST_TICKS)
            at[count++] = i * step;
    return count;
}

static void tick_text(const npi_axis *axis, double value, char text[32]) {
    double step = npi_tick_step(axis->lo, axis->hi, 5), shown = axis->percent ? 100 * value : value;
    if (axis->percent)
        step *= 100;
    if (fabs(shown) < step * 1e-6)
        shown = 0;
    if (axis->log)
        snprintf(text, 32, "%.3g", shown);
    else if (fabs(shown) >= 1e5 || (step < 1e-4 && shown != 0))
        snprintf(text, 32, "%.2g", shown);
    else
        snprintf(text, 32, "%.*f", step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9), shown);
    if (axis->percent && axis->log) {
        size_t length = 0;
        while (text[length])
            length++;
        snprintf(text + length, 32 - length, "%%");
    }
}

static void title(npi_plot *plot, double x, double y, const char *style, const npi_axis *axis) {
    if (!axis->title)
        return;
    npi_page_add(plot->page, "<text class=\"t\" text-anchor=\"middle\" %s x=\"%.1f\" y=\"%.1f\">",
                 style, x, y);
    npi_page_escape(plot->page, axis->title);
    npi_page_add(plot->page, "%s</text>\n", axis->percent && !axis->log ? " (%)" : "");
}

static void draw_axes(npi_plot *plot) {
    double at[MOST_TICKS];
    char text[32];
    int wanted = (int)(plot->right - plot->left) / 70;
    int count = ticks(&plot->x, wanted < 3 ? 3 : wanted, at);
    for (int i = 0; i < count; i++) {
        tick_text(&plot->x, at[i], text);
        npi_page_add(plot->page,
                     "<path class=\"g\" d=\"M%.1f %.1fV%.1f\"/>"
                     "<text class=\"t\" text-anchor=\"middle\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                     px(plot, at[i]), plot->top, plot->bottom, px(plot, at[i]), plot->bottom + 17,
                     text);
    }
    wanted = (int)(plot->bottom - plot->top) / 45;
    count = ticks(&plot->y, wanted < 2 ? 2 : wanted, at);
    for (int i = 0; i < count; i++) {
        tick_text(&plot->y, at[i], text);
        npi_page_add(plot->page,
                     "<path class=\"g\" d=\"M%.1f %.1fH%.1f\"/>"
                     "<text class=\"t\" text-anchor=\"end\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                     plot->left, py(plot, at[i]), plot->right, plot->left - 6,
                     py(plot, at[i]) + 4.5, text);
    }
    if (plot->x.bare) {
        npi_page_add(plot->page, "<path class=\"g\" d=\"M%.1f %.1fV%.1fH%.1fV%.1fz\"/>\n",
                     plot->left, plot->top, plot->bottom, plot->right, plot->top);
        return;
    }
    npi_page_add(plot->page, "<path class=\"a\" d=\"M%.1f %.1fV%.1fH%.1f\"/>\n", plot->left,
                 plot->top, plot->bottom, plot->right);
    char turned[64];
    double middle = (plot->top + plot->bottom) / 2;
    snprintf(turned, sizeof turned, "transform=\"rotate(-90 13 %.1f)\"", middle);
    title(plot, (plot->left + plot->right) / 2, plot->height - 5.0, "", &plot->x);
    title(plot, 13, middle, turned, &plot->y);
}

void npi_plot_begin(npi_plot *plot, npi_page *page, const char *label) {
    plot->page = page;
    if (plot->width == 0)
        plot->width = 460;
    if (plot->height == 0)
        plot->height = 300;
    plot->left = plot->y.bare ? 8 : 58;
    plot->top = 10;
    plot->right = plot->width - (plot->x.log ? 26 : 14);
    plot->bottom = plot->height - (plot->x.bare ? 8 : plot->x.title ? 44 : 26);
    /* unique on the page: the place where it stands */
    plot->clip = (int)(page->length & 0x7fffffff);
    npi_page_add(page, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", plot->width,
                 plot->height);
    npi_page_escape(page, label);
    npi_page_add(page,
                 "\">\n<clipPath id=\"k%d\"><path d=\"M%.1f %.1fV%.1fH%.1fV%.1fz\"/></clipPath>\n",
                 plot->clip, plot->left - 1, plot->top - 4, plot->bottom + 1, plot->right + 4,
                 plot->top - 4);
    draw_axes(plot);
    npi_page_add(page, "<g clip-path=\"url(#k%d)\">\n", plot->clip);
}

void npi_plot_end(npi_plot *plot) {
    npi_page_add(plot->page, "</g>\n</svg>\n");
}

/* ---- marks ---- */

static const char *const dashes[] = {"", " stroke-dasharray=\"7 3\"", " stroke-dasharray=\"2 3\"",
                                     " stroke-dasharray=\"9 3 2 3\""};

static void line_style(npi_plot *plot, npi_mark mark, bool filled) {
    npi_page_add(plot->page, " class=\"s%s c%d\" stroke-width=\"%.2g\"%s", filled ? " f" : "",
                 mark.colour, mark.width > 0 ? mark.width : 1.6,
                 dashes[(unsigned)mark.dash % (sizeof dashes / sizeof *dashes)]);
    if (mark.alpha > 0)
        npi_page_add(plot->page, " opacity=\"%.2g\"", mark.alpha);
}

void npi_plot_line(npi_plot *plot, int64_t n, const double *x, const double *y, npi_mark mark) {
    bool pen = false;
    npi_page_add(plot->page, "<path");
    line_style(plot, mark, false);
    npi_page_add(plot->page, " d=\"");
    for (int64_t i = 0; i < n; i++) {
        double to_x = px(plot, x[i]), to_y = py(plot, y[i]);
        bool drawn = isfinite(to_x) && isfinite(to_y);
        if (drawn)
            npi_page_add(plot->page, "%c%.1f %.1f", pen ? 'L' : 'M', to_x, to_y);
        pen = drawn;
    }
    npi_page_add(plot->page, "\"/>\n");
}

void npi_plot_steps(npi_plot *plot, int64_t n, double lo, double hi, const double *height,
                    npi_mark mark) {
    npi_page_add(plot->page, "<path");
    line_style(plot, mark, mark.fill);
    npi_page_add(plot->page, " d=\"M%.1f %.1f", px(plot, lo), plot->bottom);
    for (int64_t i = 0; i < n; i++)
        npi_page_add(plot->page, "V%.1fH%.1f", py(plot, height[i]),
                     px(plot, lo + (hi - lo) * (double)(i + 1) / (double)n));
    npi_page_add(plot->page, "V%.1f\"/>\n", plot->bottom);
}

/* Path of a marker of radius r around 0 0, relative, after "Mx y". */
static void shape_path(npi_page *page, int shape, double r) {
    switch (shape) {
    case 2:
        npi_page_add(page, "m%.1f %.1fl%.1f %.1fm0 %.1fl%.1f %.1f", -r, -r, 2 * r, 2 * r, -2 * r,
                     -2 * r, 2 * r);
        break;
    case 3:
        npi_page_add(page, "m0 %.1fl%.1f %.1fl%.1f %.1fl%.1f %.1fz", -r, r, r, -r, r, -r, -r);
        break;
    case 4:
        for (int i = 0; i < 10; i++) {
            double angle = 0.62831853071795865 * i, far = i % 2 ? 0.42 * r : r;
            double before = angle - 0.62831853071795865, back = i % 2 ? r : 0.42 * r;
            double x = far * sin(angle), y = -far * cos(angle);
            if (i == 0)
                npi_page_add(page, "m%.2f %.2f", x, y);
            else
                npi_page_add(page, "l%.2f %.2f", x - back * sin(before), y + back * cos(before));
        }
        npi_page_add(page, "z");
        break;
    case 5:
        npi_page_add(page, "m0 %.1fl%.2f %.2fh%.2fz", -r, 0.87 * r, 1.5 * r, -1.74 * r);
        break;
    default:
        npi_page_add(page, "m%.1f 0a%.1f %.1f 0 1 0 %.1f 0a%.1f %.1f 0 1 0 %.1f 0", -r, r, r, 2 * r,
                     r, r, -2 * r);
    }
}

void npi_plot_points(npi_plot *plot, int64_t n, const double *x, const double *y, int stride,
                     npi_mark mark) {
    bool stroked = mark.shape == 1 || mark.shape == 2;
    double r = mark.width > 0 ? mark.width : 2;
    npi_page_add(plot->page, "<path class=\"%s%s c%d\"", stroked ? "s" : "d", mark.fine ? " e" : "",
                 mark.colour);
    if (stroked)
        npi_page_add(plot->page, " stroke-width=\"%.2g\"", r > 3 ? 1.6 : 1.1);
    if (mark.alpha > 0)
        npi_page_add(plot->page, " opacity=\"%.2g\"", mark.alpha);
    npi_page_add(plot->page, " d=\"");
    for (int64_t i = 0; i < n; i++) {
        double to_x = px(plot, x[i * stride]), to_y = py(plot, y[i * stride]);
        if (!isfinite(to_x) || !isfinite(to_y))
            continue;
        npi_page_add(plot->page, "M%.1f %.1f", to_x, to_y);
        shape_path(plot->page, mark.shape, r);
    }
    npi_page_add(plot->page, "\"/>\n");
}

static void straight(npi_plot *plot, double x0, double y0, double x1, double y1, npi_mark mark) {
    npi_page_add(plot->page, "<path");
    line_style(plot, mark, false);
    npi_page_add(plot->page, " d=\"M%.1f %.1fL%.1f %.1f\"/>\n", x0, y0, x1, y1);
}

void npi_plot_vertical(npi_plot *plot, double x, npi_mark mark) {
    straight(plot, px(plot, x), plot->top, px(plot, x), plot->bottom, mark);
}

void npi_plot_horizontal(npi_plot *plot, double y, npi_mark mark) {
    straight(plot, plot->left, py(plot, y), plot->right, py(plot, y), mark);
}

void npi_plot_span(npi_plot *plot, double x0, double x1, double y, npi_mark mark) {
    straight(plot, px(plot, x0), py(plot, y), px(plot, x1), py(plot, y), mark);
}

void npi_plot_note(npi_plot *plot, double x, double y, int anchor, const char *text) {
    npi_page_add(plot->page, "<text class=\"n\" text-anchor=\"%s\" x=\"%.1f\" y=\"%.1f\">",
                 anchor < 0    ? "start"
                 : anchor == 0 ? "middle"
                               : "end",
                 px(plot, x), py(plot, y));
    npi_page_escape(plot->page, text);
    npi_page_add(plot->page, "</text>\n");
}
