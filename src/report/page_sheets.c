/* Contact sheets: the most and the least typical images of each set. */
#include "report/palette.h"
#include "report/picture.h"
#include "report/report.h"

/* `classes` names what the images are taken for. */
static void strip(npi_page *page, const npi_sheet_image *images, int count, double threshold,
                  bool id, char *const *classes) {
    npi_page_add(page, "<div class=\"sheet\">\n");
    for (int i = 0; i < count; i++) {
        bool accepted = images[i].score >= threshold;
        npi_page_add(page, "<div><img %ssrc=\"", accepted == id ? "" : "class=\"bad\" ");
        npi_picture_url(page, &images[i].image);
        npi_page_add(page, "\" alt=\"");
        npi_page_escape(page, images[i].name);
        npi_page_add(page, "\" title=\"");
        npi_page_escape(page, images[i].name);
        npi_page_add(page, "\"/>%.3g", images[i].score);
        if (images[i].taken >= 0) {
            npi_page_add(page, "<span>");
            npi_page_escape(page, classes[images[i].taken]);
            npi_page_add(page, "</span>");
        }
        if (images[i].is >= 0 && images[i].is != images[i].taken) {
            npi_page_add(page, "<s>");
            npi_page_escape(page, classes[images[i].is]);
            npi_page_add(page, "</s>");
        }
        npi_page_add(page, "</div>\n");
    }
    npi_page_add(page, "</div>\n");
}

void npi_page_sheets(npi_page *page, const npi_report *report) {
    if (report->evaluation_why)
        return;
    const npi_score_result *result = &report->evaluation.result[report->main_score];
    char *const *classes = report->run->class_names;
    npi_page_section(page, "images", "The most and the least typical images");
    npi_page_add(page, "<p>As the network sees them, with their score (");
    npi_page_escape(page, result->score);
    npi_page_add(page,
                 "; threshold %.4g) and the class that they are taken for; struck out: their "
                 "own, where that is another. A frame marks a mistake: an "
                 "ID image that is turned away, or an OOD image that passes. Look at what the "
                 "mistakes have in common.</p>\n",
                 result->threshold);
    for (int s = 0; s < report->sheet_count; s++) {
        const npi_sheet *sheet = &report->sheets[s];
        bool id = s == 0;
        npi_page_add(page, "<h3><span class=\"chip c%d\"></span>",
                     id ? NPI_COLOUR_ID : npi_set_colour(s - 1));
        npi_page_escape(page, id ? "ID" : result->set[s - 1].name);
        npi_page_add(page, "</h3>\n");
        if (sheet->why) {
            npi_page_missing(page, "No images:", sheet->why);
            continue;
        }
        npi_page_add(page, "<p class=\"mute\">%s</p>\n",
                     id ? "Most typical" : "Taken most for ID (highest scores)");
        strip(page, sheet->most, sheet->count, result->threshold, id, classes);
        npi_page_add(page, "<p class=\"mute\">%s</p>\n",
                     id ? "Least typical" : "Plainest as OOD (lowest scores)");
        strip(page, sheet->least, sheet->count, result->threshold, id, classes);
        if (sheet->wrong_count == 0)
            continue;
        npi_page_add(page,
                     "<p class=\"mute\">Taken for a wrong class with the highest scores</p>\n");
        strip(page, sheet->wrong, sheet->wrong_count, result->threshold, id, classes);
    }
}
