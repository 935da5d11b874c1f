/* npos_data_show: some images of each class on one sheet. */
#include <string.h>

#include "base/memory.h"
#include "jobs/data_contact.h"
#include "jobs/options.h"
#include "npos/npos.h"
#include "report/picture.h"
#include "report/sheet_picture.h"

enum { ROWS = 20, COLUMNS = 12, CELL = 64, PAPER = 255, MOST_CELL = 1024, MOST_IMAGES = 100000 };

void npos_data_show_options_init(npos_data_show_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->rows = ROWS;
    options->columns = COLUMNS;
    options->size = CELL;
}

static npos_status check(const npos_data_show_options *options) {
    if (!options->data || !options->out)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_data_show: data and out must be given, '%s' is missing",
                        options->data ? "out" : "data");
    if (options->rows < 1 || options->columns < 1 || options->rows > MOST_IMAGES / options->columns)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "a sheet of %d rows and %d columns, expected 1 to %d images", options->rows,
                        options->columns, MOST_IMAGES);
    if (options->size < 8 || options->size > MOST_CELL)
        return npi_fail(NPOS_INVALID_ARGUMENT, "images of %d pixels on the sheet, expected 8 to %d",
                        options->size, MOST_CELL);
    return NPOS_OK;
}

static npos_status show(const npos_data_show_options *options, const npi_dataset *set) {
    npi_contact contact = {0};
    npi_image picture = {0};
    npos_status status;
    NPI_TRY_GOTO(
        npi_contact_make(set, options->rows, options->columns, options->size, PAPER, &contact),
        done);
    if (contact.images == 0)
        NPI_TRY_GOTO(
            npi_fail(NPOS_BAD_DATA,
                     "%s: none of the images tried can be read; npos data check names them",
                     options->data),
            done);
    NPI_TRY_GOTO(npi_sheet_picture(&contact, set, &picture), done);
    NPI_TRY_GOTO(npi_picture_write(&picture, options->out), done);
    if (!options->table)
        goto done;
    fprintf(options->table, "%s: %d of %lld images", options->out, contact.images,
            (long long)npi_dataset_count(set));
    if (contact.classes > 0)
        fprintf(options->table, ", %d of %d classes", contact.rows, contact.classes);
    fprintf(options->table, ", %d x %d pixels\n", picture.width, picture.height);
done:
    npi_image_clear(&picture);
    npi_contact_clear(&contact);
    return status;
}

npos_status npos_data_show(const npos_data_show_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_data_show");
    npi_dataset *set;
    NPI_TRY(check(options));
    NPI_TRY(npi_dataset_open(options->data, &set));
    npos_status status = show(options, set);
    npi_dataset_close(set);
    return status;
}
