/* report/sheet_picture.h - a contact sheet as one image: a line with the class's name above each row of cells. */
#ifndef NPI_REPORT_SHEET_PICTURE_H
#define NPI_REPORT_SHEET_PICTURE_H

#include "jobs/data_contact.h"

/* *out = the sheet, 3 channels, to be released with npi_image_clear.  Names are of `set`; letters beyond ASCII show as a
 * question mark, and what does not fit is left out. */
NPOS_MUST_CHECK npos_status npi_sheet_picture(const npi_contact *contact, const npi_dataset *set,
                                              npi_image *out);

#endif
