/* JPEG by libjpeg-turbo.  Its errors leave by longjmp, so that all state which must survive one
 * lives in `decoder`. */
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "base/memory.h"
#include "data/image_decode.h"

enum {
    MAX_SCANS = 500,         /* of a progressive file; ordinary ones have about 10 */
    MAX_PIXELS_A_BYTE = 2048 /* Huffman coding spends at least a bit on 64 pixels: 512 */
};

typedef struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    const char *name;
    char reason[JMSG_LENGTH_MAX];
    npos_status status; /* of what longjmp reports */
    npi_image image;
    uint8_t *line; /* one row of CMYK */
} decoder;

static void on_error(j_common_ptr jpeg) {
    decoder *d = jpeg->client_data;
    jpeg->err->format_message(jpeg, d->reason);
    longjmp(d->out, 1);
}

/* Warnings are passed over, as Pillow does, but for the end of the file within the image. */
static void on_message(j_common_ptr jpeg, int level) {
    decoder *d = jpeg->client_data;
    if (level == -1 && jpeg->err->msg_code == JWRN_JPEG_EOF) {
        snprintf(d->reason, sizeof d->reason, "the file is truncated");
        longjmp(d->out, 1);
    }
}

static void on_progress(j_common_ptr jpeg) {
    decoder *d = jpeg->client_data;
    if (d->jpeg.input_scan_number > MAX_SCANS) {
        snprintf(d->reason, sizeof d->reason, "more than %d scans", MAX_SCANS);
        longjmp(d->out, 1);
    }
}

static int multiply_255(int a, int b) {
    int product = a * b + 128;
    return ((product >> 8) + product) >> 8;
}

/* Adobe stores CMYK inverted: 255 is no ink.  The arithmetic is Pillow's (Convert.c, cmyk2rgb). */
static void cmyk_to_rgb(const uint8_t *in, uint8_t *out, int width) {
    for (int x = 0; x < width; x++, in += 4, out += 3) {
        int light = in[3];
        for (int c = 0; c < 3; c++)
            out[c] = (uint8_t)(light - multiply_255(255 - in[c], light));
    }
}

/* 8, 4 or 2: the most that leaves the short side at least least_side long; 1: none does. */
static int shrink_for(const struct jpeg_decompress_struct *jpeg, int least_side) {
    JDIMENSION side =
        jpeg->image_width < jpeg->image_height ? jpeg->image_width : jpeg->image_height;
    int shrink = 8;
    while (shrink > 1 && (least_side < 1 || side / (JDIMENSION)shrink < (JDIMENSION)least_side))
        shrink /= 2;
    return shrink;
}

static npos_status read_pixels(decoder *d, size_t size, int least_side) {
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    jpeg_read_header(jpeg, TRUE);
    int stored = jpeg->num_components, channels = stored == 1 ? 1 : 3;
    if (stored != 1 && stored != 3 && stored != 4)
        return npi_fail(NPOS_BAD_DATA, "%s: JPEG of %d components, expected 1, 3 or 4", d->name,
                        stored);
    jpeg->out_color_space = stored == 1 ? JCS_GRAYSCALE : stored == 3 ? JCS_RGB : JCS_CMYK;
    size_t pixels = (size_t)jpeg->image_height * jpeg->image_width;
    if (!jpeg->arith_code && pixels / MAX_PIXELS_A_BYTE > size && pixels <= NPI_IMAGE_MAX_PIXELS)
        return npi_fail(NPOS_BAD_DATA, "%s: %u x %u pixels cannot come from %zu bytes of JPEG",
                        d->name, jpeg->image_width, jpeg->image_height, size);
    NPI_TRY(npi_image_check(jpeg->image_height, jpeg->image_width, d->name));
    int shrink = shrink_for(jpeg, least_side);
    jpeg->scale_num = 1;
    jpeg->scale_denom = (unsigned)shrink;
    jpeg_calc_output_dimensions(jpeg);
    NPI_TRY(npi_image_alloc(&d->image, jpeg->output_height, jpeg->output_width, channels, d->name));
    if (shrink > 1) {
        d->image.shrink = shrink;
        d->image.stored_height = (int)jpeg->image_height;
        d->image.stored_width = (int)jpeg->image_width;
    }
    if (stored == 4)
        NPI_TRY(npi_alloc(&d->line, (size_t)d->image.width, 4, d->name));
    jpeg_start_decompress(jpeg);
    size_t row_bytes = (size_t)d->image.width * (size_t)channels;
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *row = d->image.pixels + jpeg->output_scanline * row_bytes;
        JSAMPROW target = d->line ? d->line : row;
        if (jpeg_read_scanlines(jpeg, &target, 1) == 1 && d->line)
            cmyk_to_rgb(d->line, row, d->image.width);
    }
    return NPOS_OK;
}

npos_status npi_jpeg_decode(const void *bytes, size_t size, const char *name, int least_side,
                            npi_image *out) {
    decoder *d;
    *out = (npi_image){0};
    NPI_TRY(npi_alloc(&d, 1, sizeof *d, "JPEG decoder"));
    d->name = name;
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    d->progress.progress_monitor = on_progress;
    d->jpeg.client_data = d;
    if (setjmp(d->out) == 0) {
        jpeg_create_decompress(&d->jpeg);
        d->jpeg.client_data = d;
        d->jpeg.progress = &d->progress;
        jpeg_mem_src(&d->jpeg, bytes, (unsigned long)size);
        d->status = read_pixels(d, size, least_side);
    } else {
        d->status = npi_fail(NPOS_BAD_DATA, "%s: damaged JPEG: %s", name, d->reason);
    }
    npos_status status = d->status;
    jpeg_destroy_decompress(&d->jpeg);
    npi_free(d->line);
    if (status == NPOS_OK)
        *out = d->image;
    else
        npi_image_clear(&d->image);
    npi_free(d);
    return status;
}
