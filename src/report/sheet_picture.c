#include "report/sheet_picture.h"

#include <string.h>

#include "data/image_decode.h"

enum {
    WIDTH = 5,
    HEIGHT = 8,
    SCALE = 2,
    GAP = 4,
    LABEL = HEIGHT * SCALE + 2 * GAP,
    PAPER = 255,
    INK = 40
};

/* clang-format off */
static const uint8_t letters[128][HEIGHT] = {
#include "report/letters.inc"
};
/* clang-format on */

static void put_pixel(npi_image *to, int x, int y, uint8_t value) {
    if (x >= 0 && x < to->width && y >= 0 && y < to->height)
        memset(to->pixels + 3 * ((size_t)y * (size_t)to->width + (size_t)x), value, 3);
}

/* One letter; a space and what has no shape are gaps. */
static void put_letter(npi_image *to, int left, int top, unsigned char c) {
    for (int y = 0; y < HEIGHT * SCALE; y++)
        for (int x = 0; x < WIDTH * SCALE; x++)
            if (letters[c][y / SCALE] >> (WIDTH - 1 - x / SCALE) & 1)
                put_pixel(to, left + x, top + y, INK);
}

static void put_text(npi_image *to, int left, int top, const char *text) {
    for (const unsigned char *at = (const unsigned char *)text; *at; at++) {
        if ((*at & 0xc0) == 0x80) /* inside a character of UTF-8 */
            continue;
        if (left + WIDTH * SCALE > to->width)
            return;
        put_letter(to, left, top, *at < 128 ? *at : '?');
        left += (WIDTH + 1) * SCALE;
    }
}

static void put_cell(npi_image *to, int left, int top, const npi_image *cell) {
    for (int y = 0; y < cell->height; y++)
        memcpy(to->pixels + 3 * ((size_t)(top + y) * (size_t)to->width + (size_t)left),
               cell->pixels + 3 * (size_t)y * (size_t)cell->width, 3 * (size_t)cell->width);
}

npos_status npi_sheet_picture(const npi_contact *contact, const npi_dataset *set, npi_image *out) {
    int64_t columns = 1, height = GAP, label = contact->classes > 0 ? LABEL : 0;
    for (int r = 0; r < contact->rows; r++) {
        columns = contact->row[r].count > columns ? contact->row[r].count : columns;
        height += contact->side + GAP + label;
    }
    NPI_TRY(
        npi_image_alloc(out, height, GAP + columns * (contact->side + GAP), 3, "contact sheet"));
    memset(out->pixels, PAPER, (size_t)out->height * (size_t)out->width * 3);
    for (int r = 0, top = GAP; r < contact->rows; r++, top += contact->side + GAP + (int)label) {
        const npi_contact_row *row = &contact->row[r];
        if (label)
            put_text(out, GAP, top + GAP, npi_dataset_class_name(set, row->label));
        for (int i = 0; i < row->count; i++)
            put_cell(out, GAP + i * (contact->side + GAP), top + (int)label,
                     &contact->image[row->first + i].image);
    }
    return NPOS_OK;
}
