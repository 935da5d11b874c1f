/* PNG by libpng.  Its errors leave by longjmp, so that all state which must survive one lives in
 * `decoder`. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <png.h>

#include "base/memory.h"
#include "data/image_decode.h"

enum {
    MAX_RATIO = 1032,         /* of deflate */
    MAX_CHUNK_BYTES = 8 << 20 /* of a text or profile, uncompressed */
};

typedef struct decoder {
    png_structp png;
    png_infop info;
    jmp_buf out;
    const char *name;
    const uint8_t *bytes;
    size_t size, at;
    char reason[160];
    npos_status status;
    npi_image image;
    png_bytep *rows;
    uint8_t *wide; /* grey of 16 bits, big endian, before it is cut to 8 */
} decoder;

static void on_error(png_structp png, png_const_charp reason) {
    decoder *d = png_get_error_ptr(png);
    snprintf(d->reason, sizeof d->reason, "%s", reason);
    longjmp(d->out, 1);
}

static void on_warning(png_structp png, png_const_charp reason) {
    (void)png;
    (void)reason;
}

static void read_bytes(png_structp png, png_bytep to, size_t count) {
    decoder *d = png_get_io_ptr(png);
    if (count > d->size - d->at)
        png_error(png, "the file is truncated");
    memcpy(to, d->bytes + d->at, count);
    d->at += count;
}

static npos_status read_pixels(decoder *d) {
    png_set_read_fn(d->png, d, read_bytes);
    png_set_user_limits(d->png, NPI_IMAGE_MAX_SIDE, NPI_IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(d->png, MAX_CHUNK_BYTES);
    png_read_info(d->png, d->info);
    uint32_t width = png_get_image_width(d->png, d->info),
             height = png_get_image_height(d->png, d->info);
    int color = png_get_color_type(d->png, d->info), depth = png_get_bit_depth(d->png, d->info);
    size_t stored = png_get_rowbytes(d->png, d->info) * height;
    if (stored / MAX_RATIO > d->size && (size_t)width * height <= NPI_IMAGE_MAX_PIXELS)
        return npi_fail(NPOS_BAD_DATA, "%s: %u x %u pixels cannot come from %zu bytes of PNG",
                        d->name, width, height, d->size);
    if (color == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(d->png);
    else if (!(color & PNG_COLOR_MASK_COLOR) && depth < 8)
        png_set_expand_gray_1_2_4_to_8(d->png);
    bool wide_grey = color == PNG_COLOR_TYPE_GRAY && depth == 16;
    if (depth == 16 && !wide_grey)
        png_set_strip_16(d->png);
    if (color & PNG_COLOR_MASK_ALPHA || png_get_valid(d->png, d->info, PNG_INFO_tRNS))
        png_set_strip_alpha(d->png);
    png_set_interlace_handling(d->png);
    png_read_update_info(d->png, d->info);
    int channels = png_get_channels(d->png, d->info);
    if (channels != 1 && channels != 3)
        return npi_fail(NPOS_BAD_DATA, "%s: PNG of %d channels, expected 1 or 3", d->name,
                        channels);
    NPI_TRY(npi_image_alloc(&d->image, height, width, channels, d->name));
    NPI_TRY(npi_alloc(&d->rows, height, sizeof *d->rows, d->name));
    if (wide_grey)
        NPI_TRY(npi_alloc(&d->wide, (size_t)height * width, 2, d->name));
    for (uint32_t y = 0; y < height; y++)
        d->rows[y] = wide_grey ? d->wide + 2 * (size_t)y * width
                               : d->image.pixels + (size_t)y * width * (size_t)channels;
    png_read_image(d->png, d->rows);
    for (size_t i = 0; wide_grey && i < (size_t)height * width; i++)
        d->image.pixels[i] = d->wide[2 * i] ? 255 : d->wide[2 * i + 1];
    return NPOS_OK;
}

npos_status npi_png_decode(const void *bytes, size_t size, const char *name, npi_image *out) {
    decoder *d;
    *out = (npi_image){0};
    NPI_TRY(npi_alloc(&d, 1, sizeof *d, "PNG decoder"));
    d->name = name;
    d->bytes = bytes;
    d->size = size;
    if (setjmp(d->out) == 0) {
        d->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, d, on_error, on_warning);
        d->info = d->png ? png_create_info_struct(d->png) : NULL;
        d->status = d->info ? read_pixels(d)
                            : npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for a PNG decoder", name);
    } else {
        d->status = npi_fail(NPOS_BAD_DATA, "%s: damaged PNG: %s", name, d->reason);
    }
    npos_status status = d->status;
    png_destroy_read_struct(&d->png, &d->info, NULL);
    npi_free(d->rows);
    npi_free(d->wide);
    if (status == NPOS_OK)
        *out = d->image;
    else
        npi_image_clear(&d->image);
    npi_free(d);
    return status;
}
