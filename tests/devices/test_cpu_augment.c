/* Augmentation of the cpu device against torchvision's formulas in plain float64 loops. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/cpu_plain.h"

static void *get(size_t count, size_t size) {
    void *p;
    assert_int_equal(npi_alloc(&p, count, size, "test"), NPOS_OK);
    return p;
}

static double clamp01(double x) {
    return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
}

static double grey_of(const double *p) {
    return 0.2989 * p[0] + 0.587 * p[1] + 0.114 * p[2];
}

/* torchvision's _rgb2hsv, the turn, _hsv2rgb. */
static void turn_hue(double *p, double turn) {
    double r = p[0], g = p[1], b = p[2], v = fmax(r, fmax(g, b)), least = fmin(r, fmin(g, b));
    double range = v - least, s = range > 0.0 ? range / v : 0.0, d = range > 0.0 ? range : 1.0;
    double rc = (v - r) / d, gc = (v - g) / d, bc = (v - b) / d;
    double h = v == r ? bc - gc : v == g ? 2.0 + rc - bc : 4.0 + gc - rc;
    h = fmod(h / 6.0 + 1.0, 1.0);
    h = fmod(h + turn + 1.0, 1.0);
    double i = floor(h * 6.0), f = h * 6.0 - i;
    double x = clamp01(v * (1.0 - s)), q = clamp01(v * (1.0 - s * f)),
           t = clamp01(v * (1.0 - s * (1.0 - f)));
    double out[6][3] = {{v, t, x}, {q, v, x}, {x, v, t}, {x, q, v}, {t, x, v}, {v, x, q}};
    memcpy(p, out[(int)i % 6], 3 * sizeof *p);
}

static double source(const npi_augment_desc *d, const uint8_t *image, int y, int x, int c) {
    if (y < 0 || y >= d->src_h || x < 0 || x >= d->src_w)
        return 0.0;
    return image[(y * d->src_w + x) * d->channels + c] / 255.0;
}

/* Weight of input i of `in` in output o of `out`, not normalised: a triangle of half-width
 * max(in / out, 1), torchvision's antialiased bilinear; between equal or growing sizes it is the
 * ordinary one. */
static double triangle(int i, int in, int o, int out) {
    double scale = (double)in / out, away = fabs(i + 0.5 - (o + 0.5) * scale) / fmax(scale, 1.0);
    return away < 1.0 ? 1.0 - away : 0.0;
}

static double crop_at(const npi_augment_desc *d, const npi_augment_params *p, const uint8_t *image,
                      int y, int x, int c) {
    if (d->crop == NPI_CROP_PADDED)
        return source(d, image, p->top + y, p->left + x, c);
    double sum = 0.0, whole = 0.0;
    for (int i = 0; i < p->height; i++) {
        double row = triangle(i, p->height, y, d->out_h);
        for (int j = 0; row > 0.0 && j < p->width; j++) {
            double weight = row * triangle(j, p->width, x, d->out_w);
            whole += weight;
            if (weight > 0.0)
                sum += weight * source(d, image, p->top + i, p->left + j, c);
        }
    }
    return sum / whole;
}

/* view: [out_h * out_w][channels] */
static void plain_view(const npi_augment_desc *d, const npi_augment_params *p, const uint8_t *image,
                       double *view) {
    int pixels = d->out_h * d->out_w, channels = d->channels;
    for (int y = 0; y < d->out_h; y++)
        for (int x = 0; x < d->out_w; x++)
            for (int c = 0; c < channels; c++)
                view[(y * d->out_w + x) * channels + c] =
                    crop_at(d, p, image, y, p->flip ? d->out_w - 1 - x : x, c);
    for (int k = 0; k < 4 && p->jitter; k++) {
        double factor = (double)p->factor[p->order[k]], mean = 0.0;
        for (int i = 0; i < pixels; i++)
            mean += (channels == 3 ? grey_of(view + 3 * i) : view[i]) / pixels;
        for (int i = 0; i < pixels; i++) {
            double *v = view + i * channels, grey = channels == 3 ? grey_of(v) : 0.0;
            for (int c = 0; c < channels; c++) {
                if (p->order[k] == 0)
                    v[c] = clamp01(v[c] * factor);
                if (p->order[k] == 1)
                    v[c] = clamp01(factor * v[c] + (1.0 - factor) * mean);
                if (p->order[k] == 2 && channels == 3)
                    v[c] = clamp01(factor * v[c] + (1.0 - factor) * grey);
            }
            if (p->order[k] == 3 && channels == 3)
                turn_hue(v, factor);
        }
    }
    for (int i = 0; i < pixels; i++) {
        if (p->grey && channels == 3)
            view[3 * i] = view[3 * i + 1] = view[3 * i + 2] = grey_of(view + 3 * i);
        for (int c = 0; c < channels; c++)
            view[i * channels + c] =
                (view[i * channels + c] - (double)d->mean[c]) / (double)d->std[c];
    }
}

static uint8_t *some_images(const npi_augment_desc *d, int count) {
    size_t n = (size_t)(count * d->src_h * d->src_w * d->channels);
    uint8_t *images = get(n, 1);
    for (size_t i = 0; i < n; i++) {
        uint32_t r = npi_philox(3, NPI_RANDOM_TEST, i, 1, 0).v[0];
        images[i] = (uint8_t)(i / 50 % 7 == 0 ? 128 : i / 70 % 5 == 0 ? r % 2 * 255 : r % 256);
    }
    return images;
}

static double value_at(const npi_device *dev, npi_act a, int image, int pixel, int c) {
    ptrdiff_t at = (((ptrdiff_t)(image / 32) * a.h * a.w + pixel) * 32 + image % 32) * a.c + c;
    return dev->compute == NPI_BF16 ? (double)npi_bf16_to_f32(((uint16_t *)a.data)[at])
                                    : (double)((float *)a.data)[at];
}

static void one_augment(npi_isa isa, npi_dtype compute, npi_augment_desc d, bool given) {
    enum { IMAGES = 5 };
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, isa, 2);
    dev->compute = compute;
    int n = d.batch * d.views, pixels = d.out_h * d.out_w;
    uint8_t *images = some_images(&d, IMAGES);
    int32_t *index = get((size_t)d.batch, 4);
    npi_augment_params *params = get((size_t)n, sizeof *params);
    for (int i = 0; i < d.batch; i++)
        index[i] = i * 3 % IMAGES;
    for (int s = 0; s < n; s++)
        params[s] = npi_augment_draw(&d, 17, (uint32_t)s);
    size_t element = npi_dtype_bytes(compute);
    size_t count = (size_t)((n + 31) / 32 * 32 * pixels * d.channels);
    npi_act to = {n, d.channels, d.out_h, d.out_w, get(count, element)};
    memset(to.data, 0x3c, count * element);
    npi_step step = {.number = 17};
    assert_int_equal(
        dev->augment->augment(dev, &d, images, index, &step, given ? params : NULL, to), NPOS_OK);
    double *view = get((size_t)(pixels * d.channels), 8);
    double worst = 0.0;
    for (int s = 0; s < n; s++) {
        plain_view(&d, &params[s],
                   images + (size_t)index[s % d.batch] * (size_t)(d.src_h * d.src_w * d.channels),
                   view);
        for (int i = 0; i < pixels * d.channels; i++) {
            double seen = value_at(dev, to, s, i / d.channels, i % d.channels);
            double error = fabs(seen - view[i]);
            double allowed = compute == NPI_BF16 ? 0.004 * fabs(view[i]) + 1e-4 : 1e-4;
            assert_true(error <= allowed);
            worst = fmax(worst, error);
        }
    }
    for (int s = n; s < (n + 31) / 32 * 32; s++)
        for (int i = 0; i < pixels * d.channels; i++)
            assert_true(value_at(dev, to, s, i / d.channels, i % d.channels) == 0.0);
    uint64_t calls = npi_memory_calls();
    assert_int_equal(dev->augment->augment(dev, &d, images, index, &step, NULL, to), NPOS_OK);
    assert_int_equal(npi_memory_calls(), calls);
    void *all[] = {images, index, params, to.data, view};
    for (int i = 0; i < 5; i++)
        npi_free(all[i]);
    plain_cpu_close(&cpu);
}

static npi_augment_desc full(int channels, int src, int out, npi_crop_kind crop) {
    return (npi_augment_desc){.batch = 19,
                              .views = 2,
                              .src_h = src,
                              .src_w = src + 3,
                              .channels = channels,
                              .out_h = out,
                              .out_w = out + 1,
                              .crop = crop,
                              .scale_lo = 0.2f,
                              .scale_hi = 1.0f,
                              .ratio_lo = 0.75f,
                              .ratio_hi = 4.0f / 3.0f,
                              .pad = 4,
                              .flip_p = 0.5f,
                              .jitter_p = 0.8f,
                              .brightness = 0.4f,
                              .contrast = 0.4f,
                              .saturation = 0.4f,
                              .hue = 0.1f,
                              .grey_p = 0.2f,
                              .mean = {0.49f, 0.48f, 0.45f},
                              .std = {0.25f, 0.24f, 0.26f},
                              .seed = 5};
}

static void test_augment(void **state) {
    (void)state;
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        for (int channels = 1; channels <= 3; channels += 2) {
            one_augment(isa, NPI_F32, full(channels, 29, 29, NPI_CROP_RESIZED), false);
            one_augment(isa, NPI_F32, full(channels, 40, 13, NPI_CROP_RESIZED), true);
            one_augment(isa, NPI_F32, full(channels, 9, 21, NPI_CROP_RESIZED), true);
            npi_augment_desc d = full(channels, 24, 24, NPI_CROP_PADDED);
            one_augment(isa, NPI_F32, d, false);
            d.crop = NPI_CROP_NONE;
            d.out_w = d.src_w;
            one_augment(isa, NPI_F32, d, false);
            d = full(channels, 16, 16, NPI_CROP_RESIZED);
            d.hue = 0.5f;
            d.jitter_p = 1.0f;
            one_augment(isa, NPI_BF16, d, true);
        }
    }
}

static void test_normalise(void **state) {
    (void)state;
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, NPI_ISA_GENERIC, 2);
    npi_augment_desc d = full(3, 12, 12, NPI_CROP_RESIZED);
    d.out_w = d.src_w;
    uint8_t *images = some_images(&d, 50);
    int pixels = 12 * 15;
    npi_act to = {37, 3, 12, 15, get((size_t)(64 * pixels * 3), 4)};
    assert_int_equal(dev->augment->normalise(dev, &d, images, 6, 37, to), NPOS_OK);
    for (int s = 0; s < 64; s++)
        for (int i = 0; i < pixels * 3; i++) {
            double want = s < 37
                              ? (images[(s + 6) * pixels * 3 + i] / 255.0 - (double)d.mean[i % 3]) /
                                    (double)d.std[i % 3]
                              : 0.0;
            assert_true(fabs(value_at(dev, to, s, i / 3, i % 3) - want) <= 1e-5);
        }
    to.c = 1;
    assert_int_equal(dev->augment->normalise(dev, &d, images, 6, 37, to), NPOS_INVALID_ARGUMENT);
    npi_free(images);
    npi_free(to.data);
    plain_cpu_close(&cpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_augment),
                                       cmocka_unit_test(test_normalise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
