/* jobs/data_contact.h - some images of a set, class by class, each in a square cell: what a contact sheet shows. */
#ifndef NPI_JOBS_DATA_CONTACT_H
#define NPI_JOBS_DATA_CONTACT_H

#include "data/dataset.h"

typedef struct npi_contact_image {
    npi_image image; /* side x side, 3 channels */
    char *name;
} npi_contact_image;

typedef struct npi_contact_row {
    int label; /* -1: of a set without labels */
    int first, count;
} npi_contact_row;

typedef struct npi_contact {
    int side, images, rows;
    npi_contact_image *image; /* [images] */
    npi_contact_row *row;     /* [rows] */
    int classes;              /* of the set: rows show some of them where there are more */
} npi_contact;

/* Up to `columns` images of each of up to `rows` classes, evenly spread over the classes and over each class's images; of
 * a set without labels rows * columns images evenly spread.  Images that cannot be read are passed over.  Larger images are
 * made smaller, smaller ones larger by a whole factor, without a filter; what is left of a cell is `background`.  Release
 * with npi_contact_clear. */
NPOS_MUST_CHECK npos_status npi_contact_make(const npi_dataset *set, int rows, int columns,
                                             int side, uint8_t background, npi_contact *out);
void npi_contact_clear(npi_contact *contact);

/* *cell = image in a cell, as npi_contact_make does it. */
NPOS_MUST_CHECK npos_status npi_contact_cell(const npi_image *image, int side, uint8_t background,
                                             npi_image *cell);

#endif
