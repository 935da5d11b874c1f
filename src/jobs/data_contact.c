#include "jobs/data_contact.h"

#include <string.h>

#include "base/memory.h"
#include "data/image_decode.h"

enum { TRIED = 8 }; /* images that are tried in the place of one that cannot be read */

npos_status npi_contact_cell(const npi_image *image, int side, uint8_t background,
                             npi_image *cell) {
    int larger = image->height > image->width ? image->height : image->width,
        factor = side / larger;
    npi_image sized = {0};
    const npi_image *from = image;
    npos_status status;
    *cell = (npi_image){0};
    if (factor < 1) { /* at least 1 pixel of the other side */
        int height = (int)((int64_t)image->height * side / larger),
            width = (int)((int64_t)image->width * side / larger);
        factor = 1;
        NPI_TRY(npi_resize(image, height > 0 ? height : 1, width > 0 ? width : 1, NPI_BILINEAR,
                           NULL, &sized));
        from = &sized;
    }
    NPI_TRY_GOTO(npi_image_alloc(cell, side, side, 3, "contact sheet"), done);
    memset(cell->pixels, background, (size_t)side * (size_t)side * 3);
    int top = (side - from->height * factor) / 2, left = (side - from->width * factor) / 2;
    for (int y = 0; y < from->height * factor; y++)
        for (int x = 0; x < from->width * factor; x++) {
            const uint8_t *in =
                from->pixels + ((size_t)(y / factor) * (size_t)from->width + (size_t)(x / factor)) *
                                   (size_t)from->channels;
            uint8_t *out =
                cell->pixels + 3 * ((size_t)(top + y) * (size_t)side + (size_t)(left + x));
            for (int c = 0; c < 3; c++)
                out[c] = in[from->channels == 3 ? c : 0];
        }
done:
    npi_image_clear(&sized);
    return status;
}

/* Adds image number `at` of `members`, or the next one that can be read; false in *added: none could. */
static npos_status add_image(const npi_dataset *set, const int64_t *members, int64_t count,
                             int64_t at, uint8_t background, npi_contact *to, bool *added) {
    *added = false;
    for (int64_t i = at; i < count && i < at + TRIED && !*added; i++) {
        npi_image image;
        npi_contact_image *out = &to->image[to->images];
        npos_status status = npi_dataset_decode(set, members[i], &image);
        if (status == NPOS_OUT_OF_MEMORY)
            return status;
        if (status != NPOS_OK)
            continue;
        status = npi_contact_cell(&image, to->side, background, &out->image);
        npi_image_clear(&image);
        NPI_TRY(status);
        to->images++; /* from here on clear frees it */
        *added = true;
        NPI_TRY(npi_dataset_name(set, members[i], &out->name));
    }
    return NPOS_OK;
}

/* A row of `columns` of the members [count], evenly spread. */
static npos_status add_row(const npi_dataset *set, int label, const int64_t *members, int64_t count,
                           int columns, uint8_t background, npi_contact *to) {
    npi_contact_row *row = &to->row[to->rows++];
    *row = (npi_contact_row){label, to->images, 0};
    if (columns > count)
        columns = (int)count;
    for (int i = 0; i < columns; i++) {
        bool added;
        NPI_TRY(add_image(set, members, (i + 1) * count / columns, i * count / columns, background,
                          to, &added));
        row->count += added;
    }
    return NPOS_OK;
}

static npos_status fill(const npi_dataset *set, int rows, int columns, uint8_t background,
                        int64_t *members, npi_contact *to) {
    int64_t count = npi_dataset_count(set);
    for (int r = 0; r < rows; r++) {
        int64_t n = 0;
        int label = to->classes > 0 ? (int)((int64_t)r * to->classes / rows) : -1;
        int64_t from = label < 0 ? r * count / rows : 0,
                end = label < 0 ? (r + 1) * count / rows : count;
        for (int64_t i = from; i < end; i++)
            if (npi_dataset_label(set, i) == label)
                members[n++] = i;
        if (n > 0)
            NPI_TRY(add_row(set, label, members, n, columns, background, to));
    }
    return NPOS_OK;
}

npos_status npi_contact_make(const npi_dataset *set, int rows, int columns, int side,
                             uint8_t background, npi_contact *out) {
    int64_t count = npi_dataset_count(set), *members = NULL;
    npos_status status;
    *out = (npi_contact){.side = side, .classes = npi_dataset_classes(set)};
    if (rows < 1 || columns < 1 || side < 1)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "contact sheet of %d rows, %d columns, cells of %d pixels", rows, columns,
                        side);
    if (out->classes > 0 && rows > out->classes)
        rows = out->classes;
    NPI_TRY_GOTO(npi_alloc(&members, (size_t)count, sizeof *members, "contact sheet"), done);
    NPI_TRY_GOTO(npi_alloc(&out->row, (size_t)rows, sizeof *out->row, "contact sheet"), done);
    NPI_TRY_GOTO(
        npi_alloc(&out->image, (size_t)rows * (size_t)columns, sizeof *out->image, "contact sheet"),
        done);
    status = fill(set, rows, columns, background, members, out);
done:
    npi_free(members);
    if (status != NPOS_OK)
        npi_contact_clear(out);
    return status;
}

void npi_contact_clear(npi_contact *contact) {
    for (int i = 0; i < contact->images; i++) {
        npi_image_clear(&contact->image[i].image);
        npi_free(contact->image[i].name);
    }
    npi_free(contact->image);
    npi_free(contact->row);
    *contact = (npi_contact){0};
}
