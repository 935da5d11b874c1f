#include "report/picture.h"

#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"

/* Bytes of a chunk around its data: length, name, checksum. */
enum { CHUNK = 12, HEADER = 13 };

static uint8_t *put_number(uint8_t *to, uint32_t x) {
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(x >> (24 - 8 * i));
    return to + 4;
}

/* A chunk whose data lies at to + 8 already; the place behind it. */
static uint8_t *close_chunk(uint8_t *to, const char *name, size_t size) {
    put_number(to, (uint32_t)size);
    memcpy(to + 4, name, 4);
    return put_number(to + 8 + size, (uint32_t)crc32(0, to + 4, (uInt)(size + 4)));
}

/* The rows, each behind a byte that names its filter: 1, the difference from the pixel to the left. */
static void filter(const npi_image *image, uint8_t *to) {
    size_t channels = (size_t)image->channels, row = (size_t)image->width * channels;
    const uint8_t *from = image->pixels;
    for (int y = 0; y < image->height; y++, from += row) {
        *to++ = 1;
        for (size_t i = 0; i < row; i++)
            *to++ = (uint8_t)(from[i] - (i < channels ? 0 : from[i - channels]));
    }
}

/* A PNG (ISO/IEC 15948) of 8 bits, grey or RGB.  *out is of npi_alloc. */
static npos_status encode(const npi_image *image, uint8_t **out, size_t *size) {
    static const uint8_t mark[8] = "\x89PNG\r\n\x1a\n";
    size_t raw = (size_t)image->height * ((size_t)image->width * (size_t)image->channels + 1);
    uLongf packed = compressBound((uLong)raw);
    uint8_t *rows = NULL, *at;
    npos_status status;
    *out = NULL;
    NPI_TRY_GOTO(npi_alloc(&rows, raw, 1, "PNG"), done);
    NPI_TRY_GOTO(npi_alloc(out, sizeof mark + 3 * CHUNK + HEADER + packed, 1, "PNG"), done);
    filter(image, rows);
    at = *out;
    memcpy(at, mark, sizeof mark);
    at += sizeof mark;
    uint8_t *header =
        put_number(put_number(at + 8, (uint32_t)image->width), (uint32_t)image->height);
    memcpy(header, (uint8_t[]){8, image->channels == 1 ? 0 : 2, 0, 0, 0}, 5);
    at = close_chunk(at, "IHDR", HEADER);
    if (compress2(at + 8, &packed, rows, (uLong)raw, Z_BEST_COMPRESSION) != Z_OK)
        NPI_TRY_GOTO(npi_fail(NPOS_OUT_OF_MEMORY, "PNG: no memory to compress"), done);
    at = close_chunk(at, "IDAT", packed);
    *size = (size_t)(close_chunk(at, "IEND", 0) - *out);
    status = NPOS_OK;
done:
    npi_free(rows);
    return status;
}

void npi_picture_url(npi_page *page, const npi_image *image) {
    uint8_t *bytes;
    size_t size;
    if (page->status != NPOS_OK)
        return;
    page->status = encode(image, &bytes, &size);
    if (page->status == NPOS_OK) {
        npi_page_add(page, "data:image/png;base64,");
        npi_page_base64(page, bytes, size);
    }
    npi_free(bytes);
}

npos_status npi_picture_write(const npi_image *image, const char *path) {
    uint8_t *bytes;
    size_t size;
    npos_status status = encode(image, &bytes, &size);
    if (status == NPOS_OK)
        status = npi_file_write(path, bytes, size);
    npi_free(bytes);
    return status;
}
