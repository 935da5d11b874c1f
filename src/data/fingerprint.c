#include "data/fingerprint.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { SIDE = 32, LOW = 8, FLAT_RANGE = 4 };

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* low[8][8] = the lowest frequencies of the DCT-II of grey[32][32]:
 *     low[v][u] = sum_y sum_x grey[y][x] cos((2y+1) v pi/64) cos((2x+1) u pi/64) */
static void transform(const uint8_t *grey, double low[LOW * LOW]) {
    double wave[LOW][SIDE], rows[SIDE][LOW];
    for (int u = 0; u < LOW; u++)
        for (int x = 0; x < SIDE; x++)
            wave[u][x] = cos((2 * x + 1) * u * (3.14159265358979323846 / (2 * SIDE)));
    for (int y = 0; y < SIDE; y++)
        for (int u = 0; u < LOW; u++) {
            double sum = 0;
            for (int x = 0; x < SIDE; x++)
                sum += wave[u][x] * grey[y * SIDE + x];
            rows[y][u] = sum;
        }
    for (int v = 0; v < LOW; v++)
        for (int u = 0; u < LOW; u++) {
            double sum = 0;
            for (int y = 0; y < SIDE; y++)
                sum += wave[v][y] * rows[y][u];
            low[v * LOW + u] = sum;
        }
}

/* One bit a coefficient; the constant part, which is mere brightness, is not among those that the median is of. */
static uint64_t bits_of(const double low[LOW * LOW]) {
    double sorted[LOW * LOW - 1];
    uint64_t bits = 0;
    memcpy(sorted, low + 1, sizeof sorted);
    qsort(sorted, LOW * LOW - 1, sizeof *sorted, by_value);
    double median = sorted[(LOW * LOW - 1) / 2];
    for (int i = 0; i < LOW * LOW; i++)
        bits |= (uint64_t)(low[i] > median) << i;
    return bits;
}

static void make_small(const uint8_t *grey, npi_fingerprint *out) {
    uint8_t least = 255, most = 0;
    for (int y = 0; y < NPI_SMALL_SIDE; y++)
        for (int x = 0; x < NPI_SMALL_SIDE; x++) {
            const uint8_t *at = grey + 2 * y * SIDE + 2 * x;
            uint8_t value = (uint8_t)((at[0] + at[1] + at[SIDE] + at[SIDE + 1] + 2) / 4);
            out->small[y * NPI_SMALL_SIDE + x] = value;
            least = value < least ? value : least;
            most = value > most ? value : most;
        }
    out->flat = most - least < FLAT_RANGE;
}

npos_status npi_fingerprint_take(const npi_image *image, npi_fingerprint *out) {
    static const npi_transform to_grey = {SIDE, 1, NPI_BILINEAR, 0};
    npi_image sized, grey;
    double low[LOW * LOW];
    uint64_t shape =
        (uint64_t)image->height << 32 | (uint64_t)image->width << 2 | (uint64_t)image->channels;
    XXH128_hash_t exact = XXH3_128bits_withSeed(
        image->pixels, (size_t)image->height * (size_t)image->width * (size_t)image->channels,
        shape);
    NPI_TRY(npi_resize(image, SIDE, SIDE, NPI_BILINEAR, NULL, &sized));
    npos_status status = npi_transform_apply(&to_grey, &sized, &grey);
    npi_image_clear(&sized);
    NPI_TRY(status);
    *out = (npi_fingerprint){.exact = {exact.high64, exact.low64}};
    transform(grey.pixels, low);
    out->perceptual = bits_of(low);
    make_small(grey.pixels, out);
    npi_image_clear(&grey);
    return NPOS_OK;
}

int npi_fingerprint_distance(const npi_fingerprint *a, const npi_fingerprint *b) {
    return __builtin_popcountll(a->perceptual ^ b->perceptual);
}

double npi_fingerprint_likeness(const npi_fingerprint *a, const npi_fingerprint *b) {
    int64_t x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (int i = 0; i < NPI_SMALL; i++) {
        x += a->small[i];
        y += b->small[i];
        xx += a->small[i] * a->small[i];
        yy += b->small[i] * b->small[i];
        xy += a->small[i] * b->small[i];
    }
    double spread = (double)(NPI_SMALL * xx - x * x) * (double)(NPI_SMALL * yy - y * y);
    return spread > 0 ? (double)(NPI_SMALL * xy - x * y) / sqrt(spread) : 0;
}
