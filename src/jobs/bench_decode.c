/* What one decoder thread of the streaming loader does: a photograph decoded and brought to 224 x 224, by a random crop as
 * training does, or by the resize and centre crop of everything else, the image decoded whole or smaller.  ImageNet's mean is
 * about 500 x 375 and 110 kB; a camera's or web page's photograph is larger. */
#include "jobs/bench.h"

typedef struct photograph {
    int height, width;
    bool crops;          /* a random part; else the transform */
    double reducing_gap; /* of the transform */
} photograph;

#ifdef NPI_HAVE_JPEG
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <jpeglib.h>

#include "base/memory.h"
#include "data/image_decode.h"
#include "data/resize.h"

enum { SIZE = 224, QUALITY = 90 };

typedef struct encoder {
    photograph of;
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
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++) {
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
    jpeg->image_width = (JDIMENSION)image->width;
    jpeg->image_height = (JDIMENSION)image->height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, QUALITY, TRUE);
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = image->pixels + (size_t)jpeg->next_scanline * (size_t)image->width * 3;
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    jpeg_destroy_compress(jpeg);
    return NPOS_OK;
}

static npos_status crop_part(const npi_transform *transform, const npi_image *stored, uint32_t i,
                             npi_image *out) {
    npi_augment_desc desc = {.src_h = stored->height,
                             .src_w = stored->width,
                             .crop = NPI_CROP_RESIZED,
                             .scale_lo = 0.5f,
                             .scale_hi = 1,
                             .ratio_lo = 3.0f / 4,
                             .ratio_hi = 4.0f / 3};
    npi_augment_params p = npi_augment_draw(&desc, 0, i);
    npi_window window = {p.top, p.left, p.height, p.width};
    return npi_transform_crop(transform, stored, window, out);
}

static npos_status decode_some(void *context) {
    const encoder *e = context;
    const npi_transform transform = {SIZE, 3, NPI_BICUBIC, e->of.reducing_gap};
    int least = npi_transform_least_side(&transform);
    for (uint32_t i = 0; i < NPI_BENCH_IMAGES; i++) {
        npi_image stored, view;
        NPI_TRY(npi_jpeg_decode(e->bytes, e->size, "bench", least, &stored));
        npos_status status = e->of.crops ? crop_part(&transform, &stored, i, &view)
                                         : npi_transform_apply(&transform, &stored, &view);
        npi_image_clear(&stored);
        NPI_TRY(status);
        npi_image_clear(&view);
    }
    return NPOS_OK;
}

static npos_status time_photograph(npi_bench *bench, photograph of) {
    encoder *e = NULL;
    npi_image image = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&e, 1, sizeof *e, "JPEG encoder"), done);
    e->of = of;
    NPI_TRY_GOTO(npi_image_alloc(&image, of.height, of.width, 3, "bench"), done);
    draw(&image);
    NPI_TRY_GOTO(encode(e, &image), done);
    bench->images = NPI_BENCH_IMAGES;
    snprintf(bench->shape, sizeof bench->shape,
             "JPEG of %dx%d, %lu kB: %s to %d bicubic, one thread", of.width, of.height,
             e->size / 1000,
             of.crops              ? "decode, random crop"
             : of.reducing_gap > 0 ? "decode at half size, centre crop"
                                   : "decode whole, centre crop",
             SIZE);
    status = npi_bench_time(bench, decode_some, e);
done:
    npi_image_clear(&image);
    if (e)
        free(e->bytes);
    npi_free(e);
    return status;
}

#else

static npos_status time_photograph(npi_bench *bench, photograph of) {
    (void)bench;
    (void)of;
    return npi_fail(NPOS_UNSUPPORTED, "JPEG images, and this build has no libjpeg");
}

#endif

npos_status npi_bench_decode(npi_bench *bench) {
    return time_photograph(bench, (photograph){375, 500, true, 0});
}

npos_status npi_bench_decode_centre(npi_bench *bench) {
    return time_photograph(bench, (photograph){375, 500, false, 0});
}

npos_status npi_bench_decode_large(npi_bench *bench) {
    return time_photograph(bench, (photograph){1200, 1600, false, 0});
}

npos_status npi_bench_decode_scaled(npi_bench *bench) {
    return time_photograph(bench, (photograph){1200, 1600, false, 2});
}
