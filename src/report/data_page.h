/* report/data_page.h - the page that shows what a check of data sets found: one HTML file that opens offline. */
#ifndef NPI_REPORT_DATA_PAGE_H
#define NPI_REPORT_DATA_PAGE_H

#include "jobs/data_check.h"

NPOS_MUST_CHECK npos_status npi_data_page_write(const npi_check *check, const char *path);

#endif
