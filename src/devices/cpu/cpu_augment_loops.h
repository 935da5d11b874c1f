/* devices/cpu/cpu_augment_loops.h - npi_pixels in plain C, compiled once for each instruction set
 * by the file that includes it; branches are written as selections so that compilers vectorise. */
#ifndef NPI_DEVICES_CPU_AUGMENT_LOOPS_H
#define NPI_DEVICES_CPU_AUGMENT_LOOPS_H

#include <math.h>

#include "devices/cpu/cpu_augment.h"

static inline float clamp01(float x) {
    x = x < 0.0f ? 0.0f : x;
    return x > 1.0f ? 1.0f : x;
}

/* ITU 601-2, with torchvision's digits */
static inline float luma(float r, float g, float b) {
    return 0.2989f * r + 0.587f * g + 0.114f * b;
}

static void blend_rows(int n, const uint8_t *restrict a, const uint8_t *restrict b, float weight,
                       float *restrict to) {
    float upper = (1.0f - weight) * (1.0f / 255.0f), lower = weight * (1.0f / 255.0f);
    for (int i = 0; i < n; i++)
        to[i] = upper * (float)a[i] + lower * (float)b[i];
}

static void blend_columns(int n, int channels, const float *restrict line,
                          const npi_taps *restrict columns, float *restrict to) {
    for (int x = 0; x < n; x++) {
        float w = columns->weight[x];
        to[x] = (1.0f - w) * line[columns->first[x] * channels] +
                w * line[columns->second[x] * channels];
    }
}

static void pixels_resample(const uint8_t *image, int src_w, int channels, const npi_taps *rows,
                            const npi_taps *columns, int first_column, int column_count, int out_h,
                            int out_w, float *line, float *planes) {
    ptrdiff_t pitch = (ptrdiff_t)src_w * channels, offset = (ptrdiff_t)first_column * channels;
    for (int y = 0; y < out_h; y++) {
        blend_rows(column_count * channels, image + rows->first[y] * pitch + offset,
                   image + rows->second[y] * pitch + offset, rows->weight[y], line);
        for (int c = 0; c < channels; c++)
            blend_columns(out_w, channels, line + c, columns,
                          planes + ((ptrdiff_t)c * out_h + y) * out_w);
    }
}

static void brightness(int n, float factor, float *x) {
    for (int i = 0; i < n; i++)
        x[i] = clamp01(x[i] * factor);
}

static void contrast(int channels, int n, float factor, float *x) {
    float lane[16] = {0};
    const float *r = x, *g = x + (channels > 1 ? n : 0), *b = x + (channels > 1 ? 2 * n : 0);
    int i = 0;
    if (channels == 1) {
        for (; i + 16 <= n; i += 16)
            for (int l = 0; l < 16; l++)
                lane[l] += r[i + l];
        for (; i < n; i++)
            lane[i % 16] += r[i];
    } else {
        for (; i + 16 <= n; i += 16)
            for (int l = 0; l < 16; l++)
                lane[l] += luma(r[i + l], g[i + l], b[i + l]);
        for (; i < n; i++)
            lane[i % 16] += luma(r[i], g[i], b[i]);
    }
    double sum = 0.0;
    for (int l = 0; l < 16; l++)
        sum += (double)lane[l];
    float rest = (1.0f - factor) * (float)(sum / n);
    for (int j = 0; j < channels * n; j++)
        x[j] = clamp01(factor * x[j] + rest);
}

static void saturation(int n, float factor, float *restrict r, float *restrict g,
                       float *restrict b) {
    for (int i = 0; i < n; i++) {
        float rest = (1.0f - factor) * luma(r[i], g[i], b[i]);
        r[i] = clamp01(factor * r[i] + rest);
        g[i] = clamp01(factor * g[i] + rest);
        b[i] = clamp01(factor * b[i] + rest);
    }
}

/* To HSV, turn, and back. */
static void hue(int n, float turn, float *restrict red, float *restrict green,
                float *restrict blue) {
    for (int i = 0; i < n; i++) {
        float r = red[i], g = green[i], b = blue[i];
        float most = r > g ? r : g, least = r < g ? r : g;
        most = most > b ? most : b;
        least = least < b ? least : b;
        float range = most - least;
        float s = range / (range > 0.0f ? most : 1.0f);
        float inverse = 1.0f / (range > 0.0f ? range : 1.0f);
        float rc = (most - r) * inverse, gc = (most - g) * inverse, bc = (most - b) * inverse;
        float sector = 4.0f + gc - rc;
        sector = most == g ? 2.0f + rc - bc : sector;
        sector = most == r ? bc - gc : sector;
        /* (sector / 6 + 1) mod 1, then + turn mod 1; the arguments of (int) are positive */
        float h = sector * (1.0f / 6.0f) + 2.0f + turn;
        h -= (float)(int32_t)h;
        float h6 = h * 6.0f;
        int32_t part = (int32_t)h6;
        float f = h6 - (float)part;
        part = part > 5 ? 0 : part;
        float v = most;
        float p = clamp01(v * (1.0f - s)), q = clamp01(v * (1.0f - s * f)),
              t = clamp01(v * (1.0f - s * (1.0f - f)));
        /*         0 1 2 3 4 5
         *  red    v q p p t v
         *  green  t v v q p p
         *  blue   p p t v v q */
        float out_r = part == 1 ? q : part == 4 ? t : p;
        float out_g = part == 0 ? t : part == 3 ? q : p;
        float out_b = part == 2 ? t : part == 5 ? q : p;
        red[i] = ((part == 0) | (part == 5)) ? v : out_r;
        green[i] = ((part == 1) | (part == 2)) ? v : out_g;
        blue[i] = ((part == 3) | (part == 4)) ? v : out_b;
    }
}

static void pixels_jitter(int channels, int pixels, const npi_augment_params *params,
                          float *planes) {
    for (int k = 0; k < 4; k++) {
        int operation = params->order[k];
        float factor = params->factor[operation];
        if (operation == 0)
            brightness(channels * pixels, factor, planes);
        else if (operation == 1)
            contrast(channels, pixels, factor, planes);
        else if (operation == 2 && channels == 3)
            saturation(pixels, factor, planes, planes + pixels, planes + 2 * (ptrdiff_t)pixels);
        else if (operation == 3 && channels == 3)
            hue(pixels, factor, planes, planes + pixels, planes + 2 * (ptrdiff_t)pixels);
    }
}

static void pixels_grey(int pixels, float *planes) {
    float *restrict r = planes, *restrict g = planes + pixels,
                    *restrict b = planes + 2 * (ptrdiff_t)pixels;
    for (int i = 0; i < pixels; i++)
        r[i] = g[i] = b[i] = luma(r[i], g[i], b[i]);
}

static void pixels_store_f32(int channels, int pixels, const float *planes, const float *mean,
                             const float *inverse_std, float *to, ptrdiff_t pixel_stride) {
    for (int c = 0; c < channels; c++)
        for (int p = 0; p < pixels; p++)
            to[p * pixel_stride + c] =
                (planes[(ptrdiff_t)c * pixels + p] - mean[c]) * inverse_std[c];
}

static void pixels_store_bf16(int channels, int pixels, const float *planes, const float *mean,
                              const float *inverse_std, uint16_t *to, ptrdiff_t pixel_stride) {
    for (int c = 0; c < channels; c++)
        for (int p = 0; p < pixels; p++)
            to[p * pixel_stride + c] =
                npi_f32_to_bf16((planes[(ptrdiff_t)c * pixels + p] - mean[c]) * inverse_std[c]);
}

#define NPI_PIXELS                                                                                 \
    {                                                                                              \
        .resample = pixels_resample, .jitter = pixels_jitter, .grey = pixels_grey,                 \
        .store_f32 = pixels_store_f32, .store_bf16 = pixels_store_bf16                             \
    }

#endif
