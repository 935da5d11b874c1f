#include "data/resize_passes.h"

#include "base/memory.h"

void npi_axis_clear(npi_axis *a) {
    npi_free(a->start);
    npi_free(a->count);
    npi_free(a->weights);
    npi_free(a->low);
    npi_free(a->high);
    *a = (npi_axis){0};
}

npos_status npi_axis_alloc(int positions, int widest, npi_axis *out) {
    size_t n = (size_t)positions;
    npos_status status;
    *out = (npi_axis){.positions = positions, .widest = widest, .pairs = (widest + 3) / 4 * 2};
    size_t words = n * (size_t)out->pairs;
    NPI_TRY_GOTO(npi_alloc(&out->start, n, sizeof *out->start, "resize"), done);
    NPI_TRY_GOTO(npi_alloc(&out->count, n, sizeof *out->count, "resize"), done);
    NPI_TRY_GOTO(npi_alloc(&out->weights, n * (size_t)widest, sizeof *out->weights, "resize"),
                 done);
    NPI_TRY_GOTO(npi_alloc(&out->low, words, sizeof *out->low, "resize"), done);
    status = npi_alloc(&out->high, words, sizeof *out->high, "resize");
done:
    if (status != NPOS_OK)
        npi_axis_clear(out);
    return status;
}

static int32_t two(int32_t first, int32_t second) {
    return (int32_t)(((uint32_t)second << 16) | ((uint32_t)first & 0xffff));
}

void npi_axis_pair(npi_axis *a) {
    const int32_t mask = (1 << NPI_RESIZE_LOW_BITS) - 1;
    for (int i = 0; i < a->positions; i++) {
        const int32_t *w = a->weights + (size_t)i * (size_t)a->widest;
        int32_t *low = a->low + (size_t)i * (size_t)a->pairs,
                *high = a->high + (size_t)i * (size_t)a->pairs;
        for (int k = 0; k < a->count[i]; k += 2) {
            int32_t next = k + 1 < a->count[i] ? w[k + 1] : 0;
            low[k / 2] = two(w[k] & mask, next & mask);
            high[k / 2] = two(w[k] >> NPI_RESIZE_LOW_BITS, next >> NPI_RESIZE_LOW_BITS);
        }
    }
}

static uint8_t clip(int32_t sum) {
    sum >>= NPI_RESIZE_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* The sum of n values that lie `step` apart. */
static uint8_t weigh(const uint8_t *from, size_t step, const int32_t *w, int n) {
    int32_t sum = 1 << (NPI_RESIZE_BITS - 1);
    for (int k = 0; k < n; k++)
        sum += from[(size_t)k * step] * w[k];
    return clip(sum);
}

static void across(const npi_image *in, int first_row, int first_column, const npi_axis *a,
                   npi_image *out) {
    size_t channels = (size_t)in->channels, stride = (size_t)in->width * channels;
    uint8_t *to = out->pixels;
    for (int y = 0; y < out->height; y++) {
        const uint8_t *row = in->pixels + (size_t)(first_row + y) * stride;
        for (int x = 0; x < out->width; x++) {
            const int32_t *w = a->weights + (size_t)x * (size_t)a->widest;
            const uint8_t *from = row + (size_t)(a->start[x] - first_column) * channels;
            for (size_t c = 0; c < channels; c++)
                *to++ = weigh(from + c, channels, w, a->count[x]);
        }
    }
}

static void down(const npi_image *in, int first_row, int first_column, const npi_axis *a,
                 npi_image *out) {
    size_t channels = (size_t)in->channels, stride = (size_t)in->width * channels,
           length = (size_t)out->width * channels;
    uint8_t *to = out->pixels;
    for (int y = 0; y < out->height; y++) {
        const int32_t *w = a->weights + (size_t)y * (size_t)a->widest;
        const uint8_t *from = in->pixels + (size_t)(a->start[y] - first_row) * stride +
                              (size_t)first_column * channels;
        for (size_t x = 0; x < length; x++)
            *to++ = weigh(from + x, stride, w, a->count[y]);
    }
}

const npi_resize_passes npi_resize_plain = {across, down};

const npi_resize_passes *npi_resize_best(void) {
#ifdef __x86_64__
    return __builtin_cpu_supports("avx2") ? &npi_resize_avx2 : &npi_resize_sse2;
#else
    return &npi_resize_plain;
#endif
}
