/* report/picture.h - an image inside the page. */
#ifndef NPI_REPORT_PICTURE_H
#define NPI_REPORT_PICTURE_H

#include "data/dataset.h"
#include "report/page_text.h"

/* A "data:image/png;base64,..." URL of the image; failures stick to the page. */
void npi_picture_url(npi_page *page, const npi_image *image);

#endif
