/* Netpbm's PBM, PGM and PPM, plain (P1 to P3) and binary (P4 to P6); what comes out is Pillow's result:
 * a value v of `most` becomes v / most * 255, rounded half to even; of grey with more than 8 bits
 * v / most * 65535, clipped at 255. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "data/image_decode.h"

enum { MOST_VALUE = 65535 };

typedef struct reader {
    const char *name;
    const uint8_t *at, *end;
} reader;

static bool is_white(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Passes over white space and comments; false at the end. */
static bool skip(reader *r) {
    while (r->at < r->end && (is_white(*r->at) || *r->at == '#')) {
        if (*r->at == '#')
            while (r->at < r->end && *r->at != '\n' && *r->at != '\r')
                r->at++;
        else
            r->at++;
    }
    return r->at < r->end;
}

static npos_status truncated(const reader *r) {
    return npi_fail(NPOS_BAD_DATA, "%s: the file is truncated", r->name);
}

/* A number; the header's are followed by one white byte, which is passed over. */
static npos_status number(reader *r, bool in_header, int *out) {
    *out = 0;
    if (!skip(r))
        return truncated(r);
    if (*r->at < '0' || *r->at > '9')
        return npi_fail(NPOS_BAD_DATA, "%s: byte 0x%02x where a number should stand", r->name,
                        *r->at);
    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++) {
        *out = 10 * *out + (*r->at - '0');
        if (*out > NPI_IMAGE_MAX_PIXELS)
            return npi_fail(NPOS_BAD_DATA, "%s: a number beyond %d", r->name, NPI_IMAGE_MAX_PIXELS);
    }
    if (r->at < r->end && !is_white(*r->at) && *r->at != '#')
        return npi_fail(NPOS_BAD_DATA, "%s: byte 0x%02x behind a number", r->name, *r->at);
    if (in_header && r->at < r->end && is_white(*r->at))
        r->at++;
    return NPOS_OK;
}

static uint8_t scaled(int value, int most, bool grey) {
    if (most == 255)
        return (uint8_t)value;
    bool wide = grey && most > 255;
    double result =
        wide && most == MOST_VALUE ? value : rint((double)value / most * (wide ? MOST_VALUE : 255));
    return result >= 255 ? 255 : (uint8_t)result;
}

/* P1: a digit a pixel, with or without white space between; 1 is black. */
static npos_status read_plain_bits(reader *r, npi_image *out) {
    size_t count = (size_t)out->height * (size_t)out->width;
    for (size_t i = 0; i < count; i++) {
        if (!skip(r))
            return truncated(r);
        if (*r->at != '0' && *r->at != '1')
            return npi_fail(NPOS_BAD_DATA, "%s: byte 0x%02x where 0 or 1 should stand", r->name,
                            *r->at);
        out->pixels[i] = *r->at++ == '0' ? 255 : 0;
    }
    return NPOS_OK;
}

/* P4: eight pixels a byte, rows padded to whole bytes. */
static npos_status read_bits(reader *r, npi_image *out) {
    size_t width = (size_t)out->width, row = (width + 7) / 8;
    if ((size_t)(r->end - r->at) < row * (size_t)out->height)
        return truncated(r);
    for (size_t y = 0; y < (size_t)out->height; y++)
        for (size_t x = 0; x < width; x++)
            out->pixels[y * width + x] = r->at[y * row + x / 8] >> (7 - x % 8) & 1 ? 0 : 255;
    return NPOS_OK;
}

static npos_status read_plain(reader *r, int most, npi_image *out) {
    size_t count = (size_t)out->height * (size_t)out->width * (size_t)out->channels;
    for (size_t i = 0; i < count; i++) {
        int value;
        NPI_TRY(number(r, false, &value));
        if (value > most)
            return npi_fail(NPOS_BAD_DATA, "%s: a value of %d, the header says at most %d", r->name,
                            value, most);
        out->pixels[i] = scaled(value, most, out->channels == 1);
    }
    return NPOS_OK;
}

static npos_status read_binary(reader *r, int most, npi_image *out) {
    size_t count = (size_t)out->height * (size_t)out->width * (size_t)out->channels;
    if ((size_t)(r->end - r->at) / (most > 255 ? 2 : 1) < count)
        return truncated(r);
    if (most == 255) {
        memcpy(out->pixels, r->at, count);
        return NPOS_OK;
    }
    for (size_t i = 0; i < count; i++)
        out->pixels[i] = scaled(most > 255 ? r->at[2 * i] << 8 | r->at[2 * i + 1] : r->at[i], most,
                                out->channels == 1);
    return NPOS_OK;
}

npos_status npi_pnm_decode(const void *bytes, size_t size, const char *name, npi_image *out) {
    reader r = {name, bytes, (const uint8_t *)bytes + size};
    int width, height, most = 1, kind = r.at[1] - '0';
    *out = (npi_image){0};
    r.at += 2;
    NPI_TRY(number(&r, true, &width));
    NPI_TRY(number(&r, true, &height));
    if (kind != 1 && kind != 4)
        NPI_TRY(number(&r, true, &most));
    if (most < 1 || most > MOST_VALUE)
        return npi_fail(NPOS_BAD_DATA, "%s: values up to %d, expected 1 to %d", name, most,
                        MOST_VALUE);
    if ((int64_t)width * height / 8 > (int64_t)size)
        return npi_fail(NPOS_BAD_DATA, "%s: %d x %d pixels cannot come from %zu bytes", name, width,
                        height, size);
    NPI_TRY(npi_image_alloc(out, height, width, kind == 3 || kind == 6 ? 3 : 1, name));
    npos_status status = kind == 1   ? read_plain_bits(&r, out)
                         : kind == 4 ? read_bits(&r, out)
                         : kind < 4  ? read_plain(&r, most, out)
                                     : read_binary(&r, most, out);
    if (status != NPOS_OK)
        npi_image_clear(out);
    return status;
}
