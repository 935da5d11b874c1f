/* How synthesis works, shown on a made-up class in the plane: the three steps of METHOD's
 * "Synthesis", with plain distances since a plane has no room for unit vectors. */
#include <math.h>
#include <string.h>

#include "base/philox.h"
#include "report/palette.h"
#include "report/plot.h"
#include "report/report.h"

enum { POINTS = 140, K = 12, SELECT = 14, PICK = 3, NOISE = 70, KEEP = 8 };

typedef struct toy {
    double at[POINTS][2], reach[POINTS]; /* reach: squared distance to the K-th neighbour */
    int order[POINTS];                   /* by falling reach */
    int picks[PICK];                     /* of the boundary candidates */
    double candidate[PICK][NOISE][2], candidate_reach[PICK][NOISE];
    int kept[PICK][KEEP];
} toy;

static double kth_distance(const toy *t, const double p[2]) {
    double near[K + 1];
    int count = 0;
    for (int i = 0; i < POINTS; i++) {
        double dx = p[0] - t->at[i][0], dy = p[1] - t->at[i][1], d = dx * dx + dy * dy;
        int slot = count < K ? count++ : K;
        if (slot == K && d >= near[K - 1])
            continue;
        if (slot == K)
            slot = K - 1;
        while (slot > 0 && near[slot - 1] > d) {
            near[slot] = near[slot - 1];
            slot--;
        }
        near[slot] = d;
    }
    return near[K - 1];
}

static void normals(uint32_t item, uint32_t index, float out[2]) {
    npi_u32x4 words = npi_philox(3, NPI_RANDOM_MAP, 7, item, index);
    npi_normal_pair(words.v[0], words.v[1], &out[0], &out[1]);
}

/* order[count] = 0..count-1 by falling value. */
static void sort_falling(const double *value, int count, int *order) {
    for (int i = 0; i < count; i++) {
        int slot = i;
        while (slot > 0 && value[order[slot - 1]] < value[i]) {
            order[slot] = order[slot - 1];
            slot--;
        }
        order[slot] = i;
    }
}

/* Picks candidates that lie apart, so that the drawing stays clear; npos draws them. */
static void pick_apart(toy *t) {
    for (int b = 1; b < PICK; b++) {
        double farthest = -1;
        for (int i = 0; i < SELECT; i++) {
            double least = INFINITY;
            for (int a = 0; a < b; a++) {
                const double *p = t->at[t->order[i]], *q = t->at[t->order[t->picks[a]]];
                least = fmin(least, hypot(p[0] - q[0], p[1] - q[1]));
            }
            if (least > farthest) {
                farthest = least;
                t->picks[b] = i;
            }
        }
    }
}

static void make(toy *t) {
    int order[NOISE];
    float e[2];
    for (uint32_t i = 0; i < POINTS; i++) {
        /* a bent cloud: normal along an arc, so that its rim is not a circle */
        normals(0, i, e);
        double turn = 0.75 * (double)e[0], far = 1 + 0.16 * (double)e[1];
        t->at[i][0] = far * sin(turn);
        t->at[i][1] = far * cos(turn) - 0.72;
    }
    for (int i = 0; i < POINTS; i++)
        t->reach[i] = kth_distance(t, t->at[i]);
    sort_falling(t->reach, POINTS, t->order);
    t->picks[0] = 0;
    pick_apart(t);
    for (int b = 0; b < PICK; b++) {
        const double *from = t->at[t->order[t->picks[b]]];
        for (uint32_t j = 0; j < NOISE; j++) {
            normals(1, j, e);
            for (int c = 0; c < 2; c++)
                t->candidate[b][j][c] = from[c] + 0.17 * (double)e[c];
            t->candidate_reach[b][j] = kth_distance(t, t->candidate[b][j]);
        }
        sort_falling(t->candidate_reach[b], NOISE, order);
        memcpy(t->kept[b], order, sizeof t->kept[b]);
    }
}

static void panel(npi_page *page, const toy *t, int step, const char *caption) {
    npi_plot plot = {.width = 360,
                     .height = 300,
                     .x = {-1.5, 1.5, .bare = true},
                     .y = {-1.45, 1.05, .bare = true}};
    npi_page_add(page, "<figure>\n");
    npi_plot_begin(&plot, page, caption);
    npi_plot_points(&plot, POINTS, &t->at[0][0], &t->at[0][1], 2,
                    (npi_mark){.colour = NPI_COLOUR_ID, .width = 2.6, .alpha = 0.6});
    for (int i = 0; step == 1 && i < SELECT; i++)
        npi_plot_points(&plot, 1, &t->at[t->order[i]][0], &t->at[t->order[i]][1], 1,
                        (npi_mark){.colour = 1, .width = 4, .fine = true});
    for (int b = 0; b < PICK; b++) {
        if (step >= 2)
            npi_plot_points(&plot, NOISE, &t->candidate[b][0][0], &t->candidate[b][0][1], 2,
                            (npi_mark){.colour = NPI_COLOUR_MUTED,
                                       .width = 2.4,
                                       .shape = 2,
                                       .alpha = step == 3 ? 0.35 : 0.9});
        for (int i = 0; step == 3 && i < KEEP; i++) {
            const double *kept = t->candidate[b][t->kept[b][i]];
            npi_plot_points(&plot, 1, kept, kept + 1, 1,
                            (npi_mark){.colour = NPI_COLOUR_TEXT, .width = 3.6, .shape = 2});
        }
        const double *from = t->at[t->order[t->picks[b]]];
        npi_plot_points(&plot, 1, from, from + 1, 1,
                        (npi_mark){.colour = 1, .width = 7, .shape = 1});
    }
    npi_plot_end(&plot);
    npi_page_caption(page, caption);
    npi_page_add(page, "</figure>\n");
}

void npi_page_synthesis(npi_page *page, const npi_report *report) {
    const npi_recipe *r = &report->run->recipe;
    toy t;
    npi_page_section(page, "synthesis", "How outliers are made");
    npi_page_add(page,
                 "<p>The network never sees an OOD image while it trains. It makes its own, in "
                 "the space of embeddings, each step anew. A drawing with made-up points in "
                 "the plane:</p>\n<div class=\"grid three\">\n");
    make(&t);
    panel(page, &t, 1,
          "1. Boundary. Of a class's newest embeddings (blue) those farthest from their k-th "
          "neighbour lie at the rim (orange). A few are picked (rings).");
    panel(page, &t, 2,
          "2. Noise. Around each picked embedding, Gaussian noise gives candidates "
          "(grey): some fall back into the class, some outside.");
    panel(page, &t, 3,
          "3. Rejection. Only the candidates farthest from the class are kept (black "
          "crosses): the outliers that the head learns to tell from real embeddings.");
    npi_page_add(page, "</div>\n");
    if (report->map.outliers > 0)
        npi_page_add(
            page,
            "<p class=\"mute\">Of this run: k = %d, %d of %d candidates picked a class, %d "
            "noise vectors of &sigma; = %g, %d kept of each: %d outliers a step from %d "
            "boundary images. The map above shows one such step.</p>\n",
            r->k, r->pick, r->select, r->noise, r->sigma, r->keep, report->map.outliers,
            report->map.boundary);
    else
        npi_page_add(page, "<p class=\"mute\">This run's method, ");
    if (report->map.outliers == 0) {
        npi_page_escape(page, r->method);
        npi_page_add(page, ", shows no outliers of its own on the map.</p>\n");
    }
}
