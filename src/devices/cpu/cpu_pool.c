#include <string.h>

#include "devices/cpu/cpu.h"
#include "devices/cpu/cpu_kernels.h"

enum { TAPS = 3 }; /* 3 x 3, stride 2, padding 1 */

static int valid_images(int n, int block) {
    int left = n - block * NPI_IMAGES;
    return left < NPI_IMAGES ? left : NPI_IMAGES;
}

static float element(const void *data, size_t at, bool half) {
    return half ? npi_bf16_to_f32(((const uint16_t *)data)[at]) : ((const float *)data)[at];
}

static void set_element(void *data, size_t at, bool half, float value) {
    if (half)
        ((uint16_t *)data)[at] = npi_f32_to_bf16(value);
    else
        ((float *)data)[at] = value;
}

static npos_status check_max(npi_act x, npi_act y) {
    if (x.n != y.n || x.c != y.c || y.h != (x.h - 1) / 2 + 1 || y.w != (x.w - 1) / 2 + 1)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "max pooling: %d x %d x %d x %d to %d x %d x %d x %d, expected half the "
                        "height and width, rounded up",
                        x.n, x.c, x.h, x.w, y.n, y.c, y.h, y.w);
    return NPOS_OK;
}

/* Winners of pixel (block, oy, ox): rows of the images that exist, c bytes each. */
static uint8_t *winners(uint8_t *index, npi_act y, int block, int oy, int ox) {
    size_t c = (size_t)y.c, pixel = (size_t)(oy * y.w + ox);
    size_t before = (size_t)block * NPI_IMAGES * (size_t)(y.h * y.w);
    return index + (before + pixel * (size_t)valid_images(y.n, block)) * c;
}

static size_t pixel_at(npi_act act, int block, int y, int x) {
    size_t pixel = (size_t)block * (size_t)(act.h * act.w) + (size_t)(y * act.w + x);
    return pixel * NPI_IMAGES * (size_t)act.c;
}

/* Taps [first, last) of output coordinate o that lie inside 0..size-1. */
static void taps_inside(int o, int size, int *first, int *last) {
    *first = o == 0 ? 1 : 0;
    int room = size - (2 * o - 1);
    *last = room < TAPS ? room : TAPS;
}

static void max_pixel(npi_act x, npi_act y, uint8_t *index, bool half, int block, int oy, int ox) {
    size_t count = (size_t)valid_images(y.n, block) * (size_t)y.c;
    size_t to = pixel_at(y, block, oy, ox);
    uint8_t *winner = winners(index, y, block, oy, ox);
    int y0, y1, x0, x1;
    taps_inside(oy, x.h, &y0, &y1);
    taps_inside(ox, x.w, &x0, &x1);
    bool first = true;
    for (int ky = y0; ky < y1; ky++)
        for (int kx = x0; kx < x1; kx++) {
            size_t from = pixel_at(x, block, 2 * oy - 1 + ky, 2 * ox - 1 + kx);
            uint8_t tap = (uint8_t)(ky * TAPS + kx);
            for (size_t i = 0; i < count; i++) {
                float value = element(x.data, from + i, half);
                if (first || value > element(y.data, to + i, half) || value != value) {
                    set_element(y.data, to + i, half, value);
                    winner[i] = tap;
                }
            }
            first = false;
        }
    size_t rest = (size_t)NPI_IMAGES * (size_t)y.c - count, bytes = half ? 2 : 4;
    memset((char *)y.data + (to + count) * bytes, 0, rest * bytes);
}

static npos_status max_forward(npi_device *dev, npi_act x, npi_act y, uint8_t *index) {
    NPI_TRY(check_max(x, y));
    bool half = dev->compute == NPI_BF16;
    int rows = (x.n + NPI_IMAGES - 1) / NPI_IMAGES * y.h;
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (int row = 0; row < rows; row++)
        for (int ox = 0; ox < y.w; ox++)
            max_pixel(x, y, index, half, row / y.h, row % y.h, ox);
    return NPOS_OK;
}

/* Each pixel of dx sums the outputs that it won: no two threads write to one pixel. */
static void max_back_pixel(npi_act dy, const uint8_t *index, npi_act dx, bool half, int block,
                           int iy, int ix) {
    size_t count = (size_t)valid_images(dy.n, block) * (size_t)dy.c;
    size_t to = pixel_at(dx, block, iy, ix), bytes = half ? 2 : 4;
    memset((char *)dx.data + to * bytes, 0, (size_t)NPI_IMAGES * (size_t)dx.c * bytes);
    for (int oy = iy / 2; oy <= (iy + 1) / 2 && oy < dy.h; oy++)
        for (int ox = ix / 2; ox <= (ix + 1) / 2 && ox < dy.w; ox++) {
            int tap = (iy - 2 * oy + 1) * TAPS + ix - 2 * ox + 1;
            size_t from = pixel_at(dy, block, oy, ox);
            const uint8_t *winner = winners((uint8_t *)index, dy, block, oy, ox);
            for (size_t i = 0; i < count; i++)
                if (winner[i] == tap)
                    set_element(dx.data, to + i, half,
                                element(dx.data, to + i, half) + element(dy.data, from + i, half));
        }
}

static npos_status max_backward(npi_device *dev, npi_act dy, const uint8_t *index, npi_act dx) {
    NPI_TRY(check_max(dx, dy));
    bool half = dev->compute == NPI_BF16;
    int rows = (dx.n + NPI_IMAGES - 1) / NPI_IMAGES * dx.h;
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (int row = 0; row < rows; row++)
        for (int ix = 0; ix < dx.w; ix++)
            max_back_pixel(dy, index, dx, half, row / dx.h, row % dx.h, ix);
    return NPOS_OK;
}

static npos_status mean_forward(npi_device *dev, npi_act x, float *rows) {
    bool half = dev->compute == NPI_BF16;
    int pixels = x.h * x.w;
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (int n = 0; n < x.n; n++) {
        float *row = rows + (size_t)n * (size_t)x.c;
        memset(row, 0, (size_t)x.c * sizeof *row);
        for (int p = 0; p < pixels; p++) {
            size_t at = pixel_at(x, n / NPI_IMAGES, 0, p) + (size_t)(n % NPI_IMAGES * x.c);
            for (int c = 0; c < x.c; c++)
                row[c] += element(x.data, at + (size_t)c, half);
        }
        for (int c = 0; c < x.c; c++)
            row[c] /= (float)pixels;
    }
    return NPOS_OK;
}

static npos_status mean_backward(npi_device *dev, const float *drows, npi_act dx) {
    bool half = dev->compute == NPI_BF16;
    int pixels = dx.h * dx.w, blocks = (dx.n + NPI_IMAGES - 1) / NPI_IMAGES;
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (int n = 0; n < blocks * NPI_IMAGES; n++) {
        const float *row = drows + (size_t)n * (size_t)dx.c;
        for (int p = 0; p < pixels; p++) {
            size_t at = pixel_at(dx, n / NPI_IMAGES, 0, p) + (size_t)(n % NPI_IMAGES * dx.c);
            for (int c = 0; c < dx.c; c++)
                set_element(dx.data, at + (size_t)c, half,
                            n < dx.n ? row[c] / (float)pixels : 0.0f);
        }
    }
    return NPOS_OK;
}

const npi_pool_ops npi_cpu_pools = {.max_forward = max_forward,
                                    .max_backward = max_backward,
                                    .mean_forward = mean_forward,
                                    .mean_backward = mean_backward};
