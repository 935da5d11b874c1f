/* How far apart the classes lie: the matrix of angles, and the closest pairs. */
#include <math.h>
#include <stdio.h>

#include "base/memory.h"
#include "report/picture.h"
#include "report/plot.h"
#include "report/report.h"

enum { NAMED = 24, PAIRS = 8 }; /* classes of a table with names; pairs that are told */

typedef struct pair {
    int a, b;
} pair;

static double angle(const npi_spread *s, int a, int b) {
    return s->angle[(int64_t)a * s->classes + b];
}

static void range(const npi_spread *s, double *lo, double *hi) {
    *lo = INFINITY;
    *hi = -INFINITY;
    for (int a = 0; a < s->classes; a++)
        for (int b = 0; b < a; b++) {
            *lo = fmin(*lo, angle(s, a, b));
            *hi = fmax(*hi, angle(s, a, b));
        }
}

/* 1 for the closest pair, 0 for the farthest. */
static double closeness(double value, double lo, double hi) {
    return hi > lo ? (hi - value) / (hi - lo) : 0;
}

static void named_table(npi_page *page, const npi_report *report, double lo, double hi) {
    const npi_spread *s = &report->spread;
    char text[32];
    npi_page_add(page, "<div class=\"scroll\"><table class=\"matrix\">\n<tr><th></th>");
    for (int c = 0; c < s->classes; c++) {
        npi_page_add(page, "<th>");
        npi_page_escape(page, report->run->class_names[c]);
        npi_page_add(page, "</th>");
    }
    npi_page_add(page, "</tr>\n");
    for (int a = 0; a < s->classes; a++) {
        npi_page_add(page, "<tr><td>");
        npi_page_escape(page, report->run->class_names[a]);
        npi_page_add(page, "</td>");
        for (int b = 0; b < s->classes; b++) {
            if (a == b) {
                npi_page_add(page, "<td class=\"heat\"></td>");
                continue;
            }
            snprintf(text, sizeof text, "%.0f&deg;", angle(s, a, b));
            npi_page_shade(page, closeness(angle(s, a, b), lo, hi), text);
        }
        npi_page_add(page, "</tr>\n");
    }
    npi_page_add(page, "</table></div>\n");
}

/* A pixel a pair, grey: black is the closest. */
static void picture(npi_page *page, const npi_spread *s, double lo, double hi) {
    npi_image image = {.width = s->classes, .height = s->classes, .channels = 1};
    size_t pixels = (size_t)s->classes * (size_t)s->classes;
    if (page->status == NPOS_OK)
        page->status = npi_alloc(&image.pixels, pixels, 1, "matrix");
    if (page->status != NPOS_OK)
        return;
    for (int a = 0; a < s->classes; a++)
        for (int b = 0; b < s->classes; b++)
            image.pixels[(int64_t)a * s->classes + b] =
                a == b ? 255 : (uint8_t)lround(255 * (1 - closeness(angle(s, a, b), lo, hi)));
    npi_page_add(page, "<img class=\"matrix\" src=\"");
    npi_picture_url(page, &image);
    npi_page_add(page, "\" alt=\"angles between %d classes, a pixel a pair\"/>\n", s->classes);
    npi_image_clear(&image);
}

static void closest(npi_page *page, const npi_report *report) {
    const npi_spread *s = &report->spread;
    pair found[PAIRS];
    int count = 0;
    for (int a = 0; a < s->classes; a++)
        for (int b = a + 1; b < s->classes; b++) {
            double here = angle(s, a, b);
            if (count == PAIRS && here >= angle(s, found[PAIRS - 1].a, found[PAIRS - 1].b))
                continue;
            int at = count < PAIRS ? count++ : PAIRS - 1;
            for (; at > 0 && angle(s, found[at - 1].a, found[at - 1].b) > here; at--)
                found[at] = found[at - 1];
            found[at] = (pair){a, b};
        }
    npi_page_add(page, "<p>The closest: ");
    for (int i = 0; i < count; i++) {
        npi_page_add(page, "%s", i ? ", " : "");
        npi_page_escape(page, report->run->class_names[found[i].a]);
        npi_page_add(page, " &ndash; ");
        npi_page_escape(page, report->run->class_names[found[i].b]);
        npi_page_add(page, " (%.0f&deg;)", angle(s, found[i].a, found[i].b));
    }
    npi_page_add(page, ".</p>\n");
}

void npi_page_spread(npi_page *page, const npi_report *report) {
    const npi_spread *s = &report->spread;
    double lo, hi;
    npi_page_section(page, "spread", "How far apart the classes lie");
    if (s->why) {
        npi_page_missing(page, "There are no distances:", s->why);
        return;
    }
    range(s, &lo, &hi);
    npi_page_add(page,
                 "<p>Angles between the %s, in degrees; the darker, the closer. %d directions "
                 "that lie as far apart as possible have %.1f&deg; between any two. What lies "
                 "between close classes is hard to tell from them.</p>\n",
                 s->means ? "classes' mean embeddings" : "classes' prototypes", s->classes,
                 57.29577951308232 * acos(-1.0 / (s->classes - 1)));
    if (s->classes <= NAMED)
        named_table(page, report, lo, hi);
    else
        picture(page, s, lo, hi);
    closest(page, report);
}
