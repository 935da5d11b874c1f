/* devices/cpu/cpu_augment.h - the pixel arithmetic of augmentation, by instruction set.
 *
 * A view is worked on as `channels` planes of out_h * out_w floats in [0, 1], one plane after the
 * other; everything is torchvision's formula on float tensors. */
#ifndef NPI_DEVICES_CPU_AUGMENT_H
#define NPI_DEVICES_CPU_AUGMENT_H

#include "devices/cpu/cpu.h"

/* How the output's columns (or rows) read the crop's: first * (1 - weight) + second * weight. */
typedef struct npi_taps {
    int32_t *first, *second;
    float *weight;
} npi_taps;

typedef struct npi_pixels {
    /* planes = crop of an HWC uint8 image resized by taps, in [0, 1].  `line` has room for
     * src_w * channels floats. */
    void (*resample)(const uint8_t *image, int src_w, int channels, const npi_taps *rows,
                     const npi_taps *columns, int first_column, int column_count, int out_h,
                     int out_w, float *line, float *planes);
    /* The four operations of ColorJitter in the order of params->order; grey after them. */
    void (*jitter)(int channels, int pixels, const npi_augment_params *params, float *planes);
    void (*grey)(int pixels, float *planes);
    /* Writes plane c's pixel p, less mean, times inverse_std, to to[p * pixel_stride + c]. */
    void (*store_f32)(int channels, int pixels, const float *planes, const float *mean,
                      const float *inverse_std, float *to, ptrdiff_t pixel_stride);
    void (*store_bf16)(int channels, int pixels, const float *planes, const float *mean,
                       const float *inverse_std, uint16_t *to, ptrdiff_t pixel_stride);
} npi_pixels;

extern const npi_pixels npi_pixels_generic;
#if defined(__x86_64__)
extern const npi_pixels npi_pixels_avx2, npi_pixels_avx512;
#endif

#endif
