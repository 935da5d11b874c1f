#include "report/report.h"

void npi_page_section(npi_page *page, const char *id, const char *title) {
    npi_page_add(page, "<h2 id=\"%s\">%s</h2>\n", id, title);
}

void npi_page_missing(npi_page *page, const char *what, const char *why) {
    npi_page_add(page, "<p class=\"missing\">%s ", what);
    npi_page_escape(page, why);
    npi_page_add(page, "</p>\n");
}

void npi_page_caption(npi_page *page, const char *text) {
    npi_page_add(page, "<figcaption>%s</figcaption>\n", text);
}

void npi_page_shade(npi_page *page, double share, const char *text) {
    npi_page_add(page, "<td class=\"heat%s\" style=\"--h:%.0f%%\">%s</td>",
                 share > 0.55 ? " strong" : "", 100 * share, text);
}

void npi_page_key(npi_page *page, char mark, int colour, int dash, const char *text) {
    static const char *const dashes[] = {"", "7 3", "2 3", "9 3 2 3"};
    npi_page_add(page, "<li><svg viewBox=\"0 0 22 14\" aria-hidden=\"true\">");
    switch (mark) {
    case 'l':
        npi_page_add(page,
                     "<path class=\"s c%d\" stroke-width=\"2.4\" stroke-dasharray=\"%s\" "
                     "d=\"M0 7H22\"/>",
                     colour, dashes[(unsigned)dash % 4]);
        break;
    case 'o':
        npi_page_add(page,
                     "<circle class=\"s c%d\" stroke-width=\"1.8\" cx=\"11\" cy=\"7\" r=\"5\"/>",
                     colour);
        break;
    case 'x':
        npi_page_add(page, "<path class=\"s c%d\" stroke-width=\"1.6\" d=\"M7 3l8 8m0-8l-8 8\"/>",
                     colour);
        break;
    case '*':
        npi_page_add(page,
                     "<path class=\"d c%d\" d=\"M11 0l1.9 4.4 4.8.5-3.6 3.2 1 4.7L11 10.4l-4.1 "
                     "2.4 1-4.7L4.3 4.9l4.8-.5z\"/>",
                     colour);
        break;
    case 'D':
        npi_page_add(page, "<path class=\"d c%d\" d=\"M11 1l6 6-6 6-6-6z\"/>", colour);
        break;
    default:
        npi_page_add(page, "<circle class=\"d c%d\" cx=\"11\" cy=\"7\" r=\"5\"/>", colour);
    }
    npi_page_add(page, "</svg>");
    npi_page_escape(page, text);
    npi_page_add(page, "</li>\n");
}
