/* The whole page, part by part, and what a report owns. */
#include "base/file.h"
#include "base/memory.h"
#include "report/palette.h"
#include "report/report.h"

static void images_clear(npi_sheet_image *images) {
    for (int i = 0; i < NPI_SHEET_IMAGES; i++) {
        npi_image_clear(&images[i].image);
        npi_free(images[i].name);
    }
}

void npi_report_clear(npi_report *report) {
    for (int i = 0; i < report->sheet_count; i++) {
        npi_free(report->sheets[i].why);
        images_clear(report->sheets[i].most);
        images_clear(report->sheets[i].least);
        images_clear(report->sheets[i].wrong);
    }
    for (int i = 0; i < report->compared_count; i++) {
        npi_free(report->compared[i].path);
        npi_evaluation_clear(&report->compared[i].evaluation);
    }
    for (int i = 0; i < NPI_REPORT_PROTOCOLS; i++)
        npi_evaluation_clear(&report->other[i]);
    npi_classes_list_clear(&report->classes);
    npi_free(report->classes_why);
    npi_free(report->spread.why);
    npi_free(report->spread.angle);
    npi_free(report->sheets);
    npi_free(report->compared);
    npi_free(report->recipe_text);
    npi_free(report->manifest_text);
    npi_free(report->model_hash);
    npi_free(report->log_why);
    npi_free(report->evaluation_why);
    npi_free(report->map.why);
    npi_free(report->map.note);
    npi_free(report->map.part);
    npi_free(report->map.at);
    npi_log_clear(&report->log);
    npi_evaluation_clear(&report->evaluation);
    *report = (npi_report){0};
}

npos_status npi_report_write(const npi_report *report, const char *path) {
    npi_page page = {0};
    npi_page_add(&page, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                        "<meta name=\"viewport\" content=\"width=device-width, "
                        "initial-scale=1\"/>\n<title>");
    npi_page_escape(&page, npi_path_name(report->run->path));
    npi_page_add(&page,
                 " - npos report</title>\n<style>\n%s%s%s</style>\n</head>\n<body>\n<main>\n",
                 npi_page_style[0], npi_page_style[1], npi_page_style[2]);
    npi_page_head(&page, report);
    npi_page_tables(&page, report);
    npi_page_comparison(&page, report);
    npi_page_scores(&page, report);
    npi_page_classes(&page, report);
    npi_page_sheets(&page, report);
    npi_page_spread(&page, report);
    npi_page_map(&page, report);
    npi_page_synthesis(&page, report);
    npi_page_curves(&page, report);
    npi_page_settings(&page, report);
    npi_page_add(&page, "</main>\n</body>\n</html>\n");
    npos_status status = page.status;
    if (status == NPOS_OK)
        status = npi_file_write(path, page.bytes, page.length);
    npi_page_clear(&page);
    return status;
}
