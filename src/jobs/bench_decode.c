/* What one decoder thread of the streaming loader does: a photograph's size and bytes (ImageNet's mean is about 500 x 375
 * and 110 kB) decoded, a random part of it cropped to 224 x 224. */
#include "jobs/bench.h"

#ifdef NPI_HAVE_JPEG
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "base/memory.h"
#include "data/image_decode.h"
#include "data/resize.h"

enum { HEIGHT = 375, WIDTH = 500, SIZE = 224, QUALITY = 90 };

typedef struct encoder {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf out;
    unsigned char *bytes; /* of malloc */
    unsigned long size;
} encoder;

static void on_error(j_common_ptr jpeg) {
    encoder *e = jpeg->client_data;
    longjmp(e->out, 1);
}

/* Waves, squares and noise: about as many bytes as a photograph has. */
static void draw(npi_image *image) {
    uint8_t *to = image->pixels;
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            npi_u32x4 r = npi_philox(0, NPI_RANDOM_TEST, 0, (uint32_t)y, (uint32_t)x);
            int square = (x / 20 + y / 20) % 2 * 60;
            for (int c = 0; c < 3; c++)
                *to++ = (uint8_t)((x * x + 3 * y * (c + 1)) / 64 + square + (int)(r.v[c] >> 27));
        }
}

static npos_status encode(encoder *e, const npi_image *image) {
    struct jpeg_compress_struct *jpeg = &e->jpeg;
    jpeg->err = jpeg_std_error(&e->errors);
    e->errors.error_exit = on_error;
    jpeg->client_data = e;
    if (setjmp(e->out) != 0) {
        jpeg_destroy_compress(jpeg);
        return npi_fail(NPOS_OUT_OF_MEMORY, "bench: the JPEG encoder failed");
    }
    jpeg_create_compress(jpeg);
    jpeg->client_data = e;
    jpeg_mem_dest(jpeg, &e->bytes, &e->size);
    jpeg->image_width = WIDTH;
    jpeg->image_height = HEIGHT;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, QUALITY, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = image->pixels + (size_t)jpeg->next_scanline * WIDTH * 3;
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    jpeg_destroy_compress(jpeg);
    return NPOS_OK;
}

static npos_status decode_some(void *context) {
    const encoder *e = context;
    const npi_transform transform = {SIZE, 3, NPI_BICUBIC};
    npi_augment_desc desc = {.src_h = HEIGHT,
                             .src_w = WIDTH,
                             .crop = NPI_CROP_RESIZED,
                             .scale_lo = 0.5f,
                             .scale_hi = 1,
                             .ratio_lo = 3.0f / 4,
                             .ratio_hi = 4.0f / 3};
    for (uint32_t i = 0; i < NPI_BENCH_IMAGES; i++) {
        npi_image stored, view;
        npi_augment_params p = npi_augment_draw(&desc, 0, i);
        NPI_TRY(npi_jpeg_decode(e->bytes, e->size, "bench", &stored));
        npi_window window = {p.top, p.left, p.height, p.width};
        npos_status status = npi_transform_crop(&transform, &stored, window, &view);
        npi_image_clear(&stored);
        NPI_TRY(status);
        npi_image_clear(&view);
    }
    return NPOS_OK;
}

npos_status npi_bench_decode(npi_bench *bench) {
    encoder *e = NULL;
    npi_image image = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&e, 1, sizeof *e, "JPEG encoder"), done);
    NPI_TRY_GOTO(npi_image_alloc(&image, HEIGHT, WIDTH, 3, "bench"), done);
    draw(&image);
    NPI_TRY_GOTO(encode(e, &image), done);
    bench->images = NPI_BENCH_IMAGES;
    snprintf(bench->shape, sizeof bench->shape,
             "JPEG of %dx%d, %lu kB: decode, random crop to %d bicubic, one thread", WIDTH, HEIGHT,
             e->size / 1000, SIZE);
    status = npi_bench_time(bench, decode_some, e);
done:
    npi_image_clear(&image);
    if (e)
        free(e->bytes);
    npi_free(e);
    return status;
}

#else

npos_status npi_bench_decode(npi_bench *bench) {
    (void)bench;
    return npi_fail(NPOS_UNSUPPORTED, "JPEG images, and this build has no libjpeg");
}

#endif
