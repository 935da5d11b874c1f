/* report/page_text.h - a growing text for HTML and SVG.
 *
 * Failures stick: after the first one every call does nothing, so that a page is written without a
 * check behind each line and asked for its status once.
 *
 *     npi_page page = {0};
 *     npi_page_add(&page, "<td>%d</td>", n);
 *     npi_page_escape(&page, name);
 *     NPI_TRY(page.status);                   and npi_page_clear in any case */
#ifndef NPI_REPORT_PAGE_TEXT_H
#define NPI_REPORT_PAGE_TEXT_H

#include <stddef.h>

#include "base/fail.h"

typedef struct npi_page {
    char *bytes; /* ends with a zero byte once something was added */
    size_t length, room;
    npos_status status;
} npi_page;
void npi_page_clear(npi_page *page);

/* printf; nothing is escaped. */
void npi_page_add(npi_page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `length` bytes as they are. */
void npi_page_bytes(npi_page *page, const char *bytes, size_t length);

/* Text as the content of an element or of a quoted attribute: & < > " ' become entities; bytes that
 * are not UTF-8 and control characters that HTML forbids become U+FFFD. */
void npi_page_escape(npi_page *page, const char *text);

/* RFC 4648 base64 without line breaks. */
void npi_page_base64(npi_page *page, const void *bytes, size_t length);

#endif
