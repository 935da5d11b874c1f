/* The map of embeddings, twice: where the sets fall, and what synthesis adds. */
#include <stdio.h>

#include "report/palette.h"
#include "report/plot.h"
#include "report/report.h"

static const double *start(const npi_map *map, const npi_map_part *part) {
    return map->at + 2 * (size_t)part->first;
}

static void part_points(npi_plot *plot, const npi_map *map, const npi_map_part *part,
                        npi_mark mark) {
    const double *at = start(map, part);
    npi_plot_points(plot, part->count, at, at + 1, 2, mark);
}

static npi_plot frame(void) {
    return (npi_plot){.width = 620,
                      .height = 620,
                      .x = {-1.04, 1.04, .bare = true},
                      .y = {-1.04, 1.04, .bare = true}};
}

/* Writes each class's name in the middle of its largest crowd: at the class's point with the least
 * sum of distances to the others. */
static void names(npi_plot *plot, const npi_report *report) {
    const npi_map *map = &report->map;
    for (int p = 0; p < map->parts; p++) {
        const npi_map_part *part = &map->part[p];
        if (part->kind != NPI_MAP_ID || part->count == 0)
            continue;
        const double *at = start(map, part);
        double least = 1e300;
        int middle = 0;
        for (int i = 0; i < part->count; i++) {
            double sum = 0;
            for (int j = 0; j < part->count; j++) {
                double dx = at[2 * i] - at[2 * j], dy = at[2 * i + 1] - at[2 * j + 1];
                sum += dx * dx + dy * dy < 0.04 ? dx * dx + dy * dy : 0.04;
            }
            if (sum < least) {
                least = sum;
                middle = i;
            }
        }
        npi_plot_note(plot, at[2 * middle], at[2 * middle + 1], 0,
                      report->run->class_names[part->which]);
    }
}

static void sets_map(npi_page *page, const npi_report *report) {
    const npi_map *map = &report->map;
    npi_plot plot = frame();
    npi_page_add(page, "<figure>\n");
    npi_plot_begin(&plot, page, "map of embeddings: ID classes and OOD sets");
    for (int p = 0; p < map->parts; p++)
        if (map->part[p].kind == NPI_MAP_ID)
            part_points(&plot, map, &map->part[p],
                        (npi_mark){.colour = NPI_COLOUR_ID, .width = 1.9, .alpha = 0.45});
    for (int p = 0; p < map->parts; p++)
        if (map->part[p].kind == NPI_MAP_SET)
            part_points(&plot, map, &map->part[p],
                        (npi_mark){.colour = npi_set_colour(map->part[p].which),
                                   .width = 2.6,
                                   .shape = map->part[p].which % 2 ? 5 : 3,
                                   .alpha = 0.85});
    names(&plot, report);
    npi_plot_end(&plot);
    npi_page_add(page, "<ul class=\"key\">");
    npi_page_key(page, 'd', NPI_COLOUR_ID, 0, "ID training images");
    for (int p = 0; p < map->parts; p++)
        if (map->part[p].kind == NPI_MAP_SET)
            npi_page_key(
                page, 'D', npi_set_colour(map->part[p].which), 0,
                report->evaluation.result[report->main_score].set[map->part[p].which].name);
    npi_page_add(page, "</ul>\n");
    npi_page_caption(page,
                     "Where the sets fall. Good: OOD sets (diamonds, triangles) form islands of "
                     "their own or lie between the classes (named, blue). An OOD point inside "
                     "a class is an image that the network takes for that class.");
    npi_page_add(page, "</figure>\n");
}

static void outliers_map(npi_page *page, const npi_report *report) {
    static const struct {
        npi_map_kind kind;
        double width;
        int shape;
        bool fine;
    } layers[] = {{NPI_MAP_ID, 1.9, 0, false},
                  {NPI_MAP_OUTLIER, 2.2, 2, false},
                  {NPI_MAP_BOUNDARY, 7, 1, false},
                  {NPI_MAP_PROTOTYPE, 10, 4, true}};
    const npi_map *map = &report->map;
    npi_plot plot = frame();
    npi_page_add(page, "<figure>\n");
    npi_plot_begin(&plot, page, "map of embeddings: classes, prototypes, boundary, outliers");
    for (size_t layer = 0; layer < sizeof layers / sizeof *layers; layer++) {
        for (int p = 0; p < map->parts; p++) {
            const npi_map_part *part = &map->part[p];
            if (part->kind != layers[layer].kind)
                continue;
            bool by_class = part->kind == NPI_MAP_ID || part->kind == NPI_MAP_PROTOTYPE;
            part_points(&plot, map, part,
                        (npi_mark){.colour = by_class ? npi_class_colour(part->which)
                                             : part->kind == NPI_MAP_BOUNDARY ? 1
                                                                              : NPI_COLOUR_TEXT,
                                   .width = layers[layer].width,
                                   .shape = layers[layer].shape,
                                   .alpha = part->kind == NPI_MAP_ID ? 0.6 : 0,
                                   .fine = layers[layer].fine});
        }
    }
    names(&plot, report);
    npi_plot_end(&plot);
    npi_page_add(page, "<ul class=\"key\">");
    npi_page_key(page, 'd', npi_class_colour(0), 0, "ID training images, a colour a class");
    npi_page_key(page, '*', npi_class_colour(0), 0, "prototype");
    npi_page_key(page, 'o', 1, 0, "boundary image");
    npi_page_key(page, 'x', NPI_COLOUR_TEXT, 0, "synthesised outlier");
    npi_page_add(page, "</ul>\n");
    npi_page_caption(
        page, "What synthesis adds, on the same map. Rings: the boundary images of one step. "
              "Crosses: outliers synthesised from them, which should lie at the rims of the "
              "classes and not on top of them. Stars: prototypes, placed at the mean of the "
              "ten ID test images that are nearest to each.");
    npi_page_add(page, "</figure>\n");
}

void npi_page_map(npi_page *page, const npi_report *report) {
    npi_page_section(page, "map", "A map of what the network sees");
    if (report->map.why) {
        npi_page_missing(page, "There is no map:", report->map.why);
        return;
    }
    npi_page_add(page,
                 "<p>Embeddings (normalised h, %d numbers an image) brought to the plane by "
                 "t-SNE: near points are alike to the network; distances between far groups "
                 "mean little.</p>\n",
                 report->run->dim);
    if (report->map.note)
        npi_page_missing(page, "Left out:", report->map.note);
    npi_page_add(page, "<div class=\"grid\">\n");
    sets_map(page, report);
    outliers_map(page, report);
    npi_page_add(page, "</div>\n");
}
