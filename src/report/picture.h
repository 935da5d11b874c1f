/* report/picture.h - an image as PNG: inside the page, or as a file. */
#ifndef NPI_REPORT_PICTURE_H
#define NPI_REPORT_PICTURE_H

#include "data/dataset.h"
#include "report/page_text.h"

/* A "data:image/png;base64,..." URL of the image; failures stick to the page. */
void npi_picture_url(npi_page *page, const npi_image *image);

/* Writes the image as a PNG of 8 bits, whole or not at all. */
NPOS_MUST_CHECK npos_status npi_picture_write(const npi_image *image, const char *path);

#endif
