#include <string.h>

#include "devices/cpu/cpu.h"
#include "devices/cpu/cpu_kernels.h"

static size_t elements(int n, int c, int h, int w) {
    size_t blocks = ((size_t)n + NPI_IMAGES - 1) / NPI_IMAGES;
    return blocks * NPI_IMAGES * (size_t)c * (size_t)h * (size_t)w;
}

static size_t act_bytes(npi_device *dev, int n, int c, int h, int w) {
    return elements(n, c, h, w) * npi_dtype_bytes(dev->compute);
}

static npos_status import_nchw(npi_device *dev, const float *nchw, npi_act to) {
    memset(to.data, 0, act_bytes(dev, to.n, to.c, to.h, to.w));
    int pixels = to.h * to.w;
    bool half = dev->compute == NPI_BF16;
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (int n = 0; n < to.n; n++)
        for (int c = 0; c < to.c; c++) {
            const float *from = nchw + ((size_t)n * (size_t)to.c + (size_t)c) * (size_t)pixels;
            for (int p = 0; p < pixels; p++) {
                size_t at = npi_cpu_place(to, n, p) + (size_t)c;
                if (half)
                    ((uint16_t *)to.data)[at] = npi_f32_to_bf16(from[p]);
                else
                    ((float *)to.data)[at] = from[p];
            }
        }
    return NPOS_OK;
}

static npos_status export_nchw(npi_device *dev, npi_act from, float *nchw) {
    int pixels = from.h * from.w;
    bool half = dev->compute == NPI_BF16;
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (int n = 0; n < from.n; n++)
        for (int c = 0; c < from.c; c++) {
            float *to = nchw + ((size_t)n * (size_t)from.c + (size_t)c) * (size_t)pixels;
            for (int p = 0; p < pixels; p++) {
                size_t at = npi_cpu_place(from, n, p) + (size_t)c;
                to[p] = half ? npi_bf16_to_f32(((const uint16_t *)from.data)[at])
                             : ((const float *)from.data)[at];
            }
        }
    return NPOS_OK;
}

const npi_act_ops npi_cpu_acts = {
    .bytes = act_bytes, .import_nchw = import_nchw, .export_nchw = export_nchw};
