#include "data/image_frames.h"

#include <ctype.h>

#include "base/memory.h"

/* The first byte that is neither white nor part of a comment. */
static int skip(FILE *stream) {
    int c = getc(stream);
    while (c == '#' || isspace(c)) {
        if (c == '#')
            while (c != '\n' && c != EOF)
                c = getc(stream);
        if (c != EOF)
            c = getc(stream);
    }
    return c;
}

/* A number and the one byte behind it; -1: there is none, or it is too large. */
static int number(FILE *stream) {
    int c = skip(stream), value = 0;
    if (!isdigit(c))
        return -1;
    for (; isdigit(c); c = getc(stream)) {
        value = 10 * value + (c - '0');
        if (value > NPI_FRAME_MOST_SIDE)
            return -1;
    }
    return isspace(c) ? value : -1;
}

npos_status npi_image_frame_read(FILE *stream, npi_image *out, bool *end) {
    *out = (npi_image){0};
    int c = skip(stream);
    *end = c == EOF;
    if (ferror(stream))
        return npi_fail_errno("reading a frame");
    if (*end)
        return NPOS_OK;
    int kind = c == 'P' ? getc(stream) : 0;
    if (kind != '5' && kind != '6')
        return npi_hint(npi_fail(NPOS_BAD_DATA, "a frame does not begin with P5 or P6"),
                        "frames are binary PGM or PPM images, one behind the other");
    int width = number(stream), height = number(stream), most = number(stream);
    int channels = kind == '6' ? 3 : 1;
    if (width < 1 || height < 1 || most != 255)
        return npi_fail(
            NPOS_BAD_DATA,
            "a frame of %d x %d with values up to %d, expected sides of 1 to %d and 255", width,
            height, most, NPI_FRAME_MOST_SIDE);
    size_t bytes = (size_t)width * (size_t)height * (size_t)channels;
    if (bytes > NPI_FRAME_MOST_BYTES)
        return npi_fail(NPOS_BAD_DATA, "a frame of %d x %d takes %zu bytes, at most %d are read",
                        width, height, bytes, NPI_FRAME_MOST_BYTES);
    NPI_TRY(npi_alloc(&out->pixels, bytes, 1, "frame"));
    size_t seen = fread(out->pixels, 1, bytes, stream);
    out->height = height;
    out->width = width;
    out->channels = channels;
    if (seen == bytes)
        return NPOS_OK;
    npi_image_clear(out);
    return ferror(stream)
               ? npi_fail_errno("reading a frame")
               : npi_fail(NPOS_BAD_DATA, "a frame of %d x %d ends after %zu of %zu bytes", width,
                          height, seen, bytes);
}
