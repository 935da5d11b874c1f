/* Windows' and OS/2's bitmaps: 1, 4 and 8 bits with a palette, run lengths (RLE8, RLE4), 16, 24 and 32
 * bits, masks of the layouts that are in use.  What comes out is Pillow's result: alpha is dropped, 5 and
 * 6 bits become v * 255 / 31 and / 63, a palette that is the identity makes a grey image.
 *
 * Source: Microsoft, "Bitmap Storage" (BITMAPINFOHEADER, BITMAPV5HEADER, "Bitmap Compression"). */
#include <string.h>

#include "base/memory.h"
#include "data/image_decode.h"

/* Places in the file. */
enum { OFFSET_AT = 10, HEADER_AT = 14, MASKS_AT = 54 };
enum { RAW = 0, RLE8 = 1, RLE4 = 2, MASKS = 3 };

typedef struct bitmap {
    const char *name;
    const uint8_t *bytes;
    size_t size;
    uint32_t header_bytes, compression;
    int64_t width, height;
    int bits;
    bool top_down;
    uint32_t colors;
    size_t palette_at, palette_step, pixels_at;
    int channel_at[3]; /* of 24 and 32 bits: a pixel's bytes that are red, green and blue */
    bool is_565;       /* of 16 bits: 5, 6, 5 of them; else 5 each */
} bitmap;

static uint32_t number(const uint8_t *from, int width) {
    uint32_t value = 0;
    for (int i = width; i-- > 0;)
        value = value << 8 | from[i];
    return value;
}

static npos_status truncated(const bitmap *b) {
    return npi_fail(NPOS_BAD_DATA, "%s: the file is truncated", b->name);
}

static npos_status unsupported(const bitmap *b, const char *what, uint32_t value) {
    return npi_fail(NPOS_UNSUPPORTED, "%s: a BMP of %s %u is not read", b->name, what, value);
}

/* The layouts of masks that are in use; bytes of red, green and blue in a pixel. */
static npos_status read_masks(bitmap *b) {
    static const struct {
        int bits;
        uint32_t red, green, blue;
        int at[3];
    } layouts[] = {
        {32, 0xff0000, 0xff00, 0xff, {2, 1, 0}},
        {32, 0xff000000, 0xff0000, 0xff00, {3, 2, 1}},
        {32, 0xff000000, 0xff00, 0xff, {3, 1, 0}},
        {32, 0xff, 0xff00, 0xff0000, {0, 1, 2}},
        {32, 0, 0, 0, {2, 1, 0}},
        {24, 0xff0000, 0xff00, 0xff, {2, 1, 0}},
        {16, 0xf800, 0x7e0, 0x1f, {0}},
        {16, 0x7c00, 0x3e0, 0x1f, {0}},
    };
    if (b->size < MASKS_AT + 12)
        return truncated(b);
    uint32_t red = number(b->bytes + MASKS_AT, 4), green = number(b->bytes + MASKS_AT + 4, 4),
             blue = number(b->bytes + MASKS_AT + 8, 4);
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i].bits == b->bits && layouts[i].red == red && layouts[i].green == green &&
            layouts[i].blue == blue) {
            memcpy(b->channel_at, layouts[i].at, sizeof b->channel_at);
            b->is_565 = green == 0x7e0;
            return NPOS_OK;
        }
    return npi_fail(NPOS_UNSUPPORTED, "%s: a BMP of %d bits with masks %x, %x, %x is not read",
                    b->name, b->bits, red, green, blue);
}

static npos_status read_header(bitmap *b) {
    const uint8_t *header = b->bytes + HEADER_AT;
    if (b->size < HEADER_AT + 12)
        return truncated(b);
    b->header_bytes = number(header, 4);
    if (b->size - HEADER_AT < b->header_bytes)
        return truncated(b);
    switch (b->header_bytes) {
    case 12: /* OS/2's first */
        b->width = number(header + 4, 2);
        b->height = number(header + 6, 2);
        b->bits = (int)number(header + 10, 2);
        b->palette_step = 3;
        break;
    case 40:
    case 52:
    case 56:
    case 64:
    case 108:
    case 124:
        b->width = number(header + 4, 4);
        b->height = number(header + 8, 4);
        b->top_down = header[11] == 0xff;
        if (b->top_down)
            b->height = ((int64_t)1 << 32) - b->height;
        b->bits = (int)number(header + 14, 2);
        b->compression = number(header + 16, 4);
        b->colors = number(header + 32, 4);
        b->palette_step = 4;
        break;
    default:
        return unsupported(b, "header size", b->header_bytes);
    }
    if (b->bits != 1 && b->bits != 4 && b->bits != 8 && b->bits != 16 && b->bits != 24 &&
        b->bits != 32)
        return unsupported(b, "depth", (uint32_t)b->bits);
    if (b->compression > MASKS || (b->compression == MASKS && b->bits < 16) ||
        (b->compression > RAW && b->compression < MASKS && b->bits > 8))
        return unsupported(b, "compression", b->compression);
    memcpy(b->channel_at, (int[]){2, 1, 0}, sizeof b->channel_at);
    if (b->compression == MASKS)
        NPI_TRY(read_masks(b));
    if (b->colors == 0)
        b->colors = b->bits <= 8 ? 1u << b->bits : 0;
    b->palette_at = HEADER_AT + b->header_bytes;
    b->pixels_at = number(b->bytes + OFFSET_AT, 4);
    if (b->bits > 8)
        return NPOS_OK;
    if (b->colors > 65536)
        return unsupported(b, "palette size", b->colors);
    size_t palette = b->colors * b->palette_step;
    if (palette > b->size - b->palette_at)
        return truncated(b);
    if (b->pixels_at == 0 || b->pixels_at == b->palette_at)
        b->pixels_at = b->palette_at + palette;
    return NPOS_OK;
}

/* Whether color i of the palette is grey i for all (of two: black and white). */
static bool is_identity(const bitmap *b) {
    for (uint32_t i = 0; i < b->colors; i++) {
        const uint8_t *color = b->bytes + b->palette_at + i * b->palette_step;
        uint32_t value = b->colors == 2 ? 255 * i : i;
        if (color[0] != value || color[1] != value || color[2] != value)
            return false;
    }
    return true;
}

/* Turns the indices of a row (or one value each of a grey image) into pixels; colors that the palette
 * lacks are black. */
static void put_indices(const bitmap *b, const uint8_t *indices, uint8_t *to, bool grey) {
    static const uint8_t black[3] = {0};
    for (int64_t x = 0; x < b->width; x++) {
        if (grey) {
            *to++ = b->colors == 2 ? (indices[x] ? 255 : 0) : indices[x];
            continue;
        }
        const uint8_t *color = indices[x] < b->colors
                                   ? b->bytes + b->palette_at + indices[x] * b->palette_step
                                   : black;
        for (int c = 0; c < 3; c++)
            *to++ = color[2 - c];
    }
}

/* Row `y` of those that the file stores one after the other. */
static uint8_t *row_of(const bitmap *b, const npi_image *out, int64_t y) {
    int64_t row = b->top_down ? y : b->height - 1 - y;
    return out->pixels + (size_t)(row * b->width) * (size_t)out->channels;
}

static npos_status read_rows(const bitmap *b, npi_image *out, bool grey, uint8_t *indices) {
    size_t row_bytes = ((size_t)b->width * (size_t)b->bits + 31) / 32 * 4;
    size_t last_bytes =
        ((size_t)b->width * (size_t)b->bits + 7) / 8; /* its padding may be missing */
    if (b->pixels_at > b->size ||
        b->size - b->pixels_at < row_bytes * (size_t)(b->height - 1) + last_bytes)
        return truncated(b);
    const uint8_t *from = b->bytes + b->pixels_at;
    for (int64_t y = 0; y < b->height; y++, from += row_bytes) {
        uint8_t *to = row_of(b, out, y);
        size_t step = (size_t)b->bits / 8;
        if (b->bits <= 8) {
            for (int64_t x = 0; x < b->width; x++) {
                int64_t bit = x * b->bits;
                indices[x] =
                    (uint8_t)(from[bit / 8] >> (8 - b->bits - bit % 8) & ((1 << b->bits) - 1));
            }
            put_indices(b, indices, to, grey);
            continue;
        }
        for (int64_t x = 0; x < b->width; x++, to += 3) {
            const uint8_t *pixel = from + (size_t)x * step;
            if (b->bits == 16) {
                uint32_t value = number(pixel, 2), green = b->is_565 ? 63 : 31;
                to[0] = (uint8_t)((value >> (b->is_565 ? 11 : 10) & 31) * 255 / 31);
                to[1] = (uint8_t)((value >> 5 & green) * 255 / green);
                to[2] = (uint8_t)((value & 31) * 255 / 31);
            } else {
                for (int c = 0; c < 3; c++)
                    to[c] = pixel[b->channel_at[c]];
            }
        }
    }
    return NPOS_OK;
}

/* ---- run lengths --------------------------------------------------------------------------------- */

typedef struct runs {
    const uint8_t *bytes;
    size_t at, size;
    uint8_t *indices; /* the whole image, in the file's order of rows */
    size_t done, count, width;
    size_t x;
} runs;

static void put_zeros(runs *r, size_t count) {
    r->done += count < r->count - r->done ? count : r->count - r->done; /* memory starts zeroed */
}

/* `count` pixels as they stand, padded to a multiple of 2 of the file's bytes; false: the end. */
static bool take_plain(runs *r, size_t told, bool four_bits) {
    size_t count = told < r->count - r->done ? told : r->count - r->done;
    size_t bytes = four_bits ? (count + 1) / 2 : count;
    if (bytes > r->size - r->at)
        return false;
    for (size_t i = 0; i < count; i++) {
        int value =
            four_bits ? r->bytes[r->at + i / 2] >> (i % 2 ? 0 : 4) & 15 : r->bytes[r->at + i];
        r->indices[r->done++] = (uint8_t)value;
    }
    r->at += bytes;
    r->x += told;
    r->at += r->at % 2;
    return r->at <= r->size;
}

/* One code; false: the end of the image or of the file. */
static bool take_code(runs *r, bool four_bits) {
    if (r->size - r->at < 2)
        return false;
    size_t first = r->bytes[r->at], second = r->bytes[r->at + 1];
    r->at += 2;
    if (first > 0) { /* a run, which ends with its row */
        size_t room = r->x < r->width ? r->width - r->x : 0;
        size_t count = first < room ? first : room;
        if (count > r->count - r->done)
            count = r->count - r->done;
        for (size_t i = 0; i < count; i++)
            r->indices[r->done++] = (uint8_t)(four_bits ? second >> (i % 2 ? 0 : 4) & 15 : second);
        r->x += count;
    } else if (second == 0) { /* the end of a row */
        put_zeros(r, (r->width - r->done % r->width) % r->width);
        r->x = 0;
    } else if (second == 1) {
        return false;
    } else if (second == 2) { /* onwards: right, up */
        if (r->size - r->at < 2)
            return false;
        put_zeros(r, r->bytes[r->at] + r->bytes[r->at + 1] * r->width);
        r->at += 2;
        r->x = r->done % r->width;
    } else {
        return take_plain(r, second, four_bits);
    }
    return true;
}

static npos_status read_runs(const bitmap *b, npi_image *out, bool grey) {
    runs r = {.bytes = b->bytes,
              .at = b->pixels_at,
              .size = b->size,
              .count = (size_t)b->width * (size_t)b->height,
              .width = (size_t)b->width};
    if (r.at > r.size)
        return truncated(b);
    NPI_TRY(npi_alloc(&r.indices, r.count, 1, b->name));
    while (r.done < r.count && take_code(&r, b->compression == RLE4)) {
    }
    npos_status status = r.done == r.count ? NPOS_OK : truncated(b);
    for (int64_t y = 0; y < b->height && status == NPOS_OK; y++)
        put_indices(b, r.indices + (size_t)y * r.width, row_of(b, out, y), grey);
    npi_free(r.indices);
    return status;
}

npos_status npi_bmp_decode(const void *bytes, size_t size, const char *name, npi_image *out) {
    bitmap b = {.name = name, .bytes = bytes, .size = size};
    uint8_t *indices = NULL;
    *out = (npi_image){0};
    NPI_TRY(read_header(&b));
    bool grey = b.bits <= 8 && is_identity(&b),
         packed = b.compression == RLE8 || b.compression == RLE4;
    /* a few codes of run lengths leap over many rows: of these only the pixels' limit is checked */
    if (!packed && b.width <= NPI_IMAGE_MAX_SIDE && b.height <= NPI_IMAGE_MAX_SIDE &&
        b.width * b.height / 8 > (int64_t)size)
        return npi_fail(NPOS_BAD_DATA, "%s: %lld x %lld pixels cannot come from %zu bytes", name,
                        (long long)b.width, (long long)b.height, size);
    NPI_TRY(npi_image_alloc(out, b.height, b.width, grey ? 1 : 3, name));
    npos_status status = npi_alloc(&indices, (size_t)b.width, 1, name);
    if (status == NPOS_OK)
        status = packed ? read_runs(&b, out, grey) : read_rows(&b, out, grey, indices);
    npi_free(indices);
    if (status != NPOS_OK)
        npi_image_clear(out);
    return status;
}
