/* Convolutions of 3 x 3 with stride 1 by Winograd's F(2 x 2, 3 x 3): 16 products for 4 output
 * pixels instead of 36.
 *
 *     out = At ((G g Gt) * (Bt d B)) A
 *
 * d are 4 x 4 input pixels, g the taps, * the element by element product; here an element of d is a
 * pixel's matrix of 32 images x channels, one of g a matrix of input x output channels, so * is 16
 * products of matrices, and the transforms are additions of whole matrices (A. Lavin and S. Gray,
 * "Fast Algorithms for Convolutional Neural Networks", 2015).
 *
 * An item is a row of tiles (a tile: 2 x 2 output pixels) and some pairs of panels.  It works in
 * chunks of tiles whose transformed pixels stay in the cache; for each pair of panels the weights
 * of one of the 16 products serve all tiles of the chunk. */
#include <omp.h>
#include <string.h>

#include "devices/cpu/cpu_conv.h"
#include "devices/cpu/cpu_conv_parts.h"

/* Where it is used: from these channels on the transforms cost little beside the products, and at
 * least this many times fewer products are needed than by the taps that exist (small images have
 * many that do not, odd sizes have tiles that are half outside). */
enum { LEAST_CHANNELS = 32 };
#define LEAST_GAIN 1.3

enum {
    TILES = 2, /* of a chunk: 1 to 4 were within 2%, more slower */
    /* Floats between matrices, beyond their size: 16 matrices a multiple of 4 KB apart would fall
     * into the same set of the first-level cache. */
    APART = 16,
    BLOCK = NPI_IMAGES * NPI_IMAGES,
    PRODUCT_STEP = BLOCK + APART
};

static size_t pixel_floats(const npi_conv *conv) {
    return (size_t)NPI_IMAGES * (size_t)conv->ci;
}

static size_t pixel_step(const npi_conv *conv) {
    return pixel_floats(conv) + APART;
}

static int tiles_of(int pixels) {
    return (pixels + 1) / 2;
}

/* Pairs (output, tap) along one axis whose source exists. */
static double sources(int in, int out, int pad) {
    int count = 0;
    for (int o = 0; o < out; o++)
        for (int tap = 0; tap < 3; tap++)
            count += o + tap - pad >= 0 && o + tap - pad < in;
    return count;
}

void npi_wino_plan(npi_conv *conv) {
    const npi_kernels *kernels = conv->kernels;
    if (!kernels->wino_input || conv->gather || conv->kernel != 3 || conv->stride != 1)
        return;
    int pad = conv->transposed ? 2 - conv->pad : conv->pad;
    int tiles_x = tiles_of(conv->wo), tiles_y = tiles_of(conv->ho);
    double direct = sources(conv->hi, conv->ho, pad) * sources(conv->wi, conv->wo, pad);
    double ours = 16.0 * tiles_x * tiles_y;
    if (conv->ci < LEAST_CHANNELS || conv->co < LEAST_CHANNELS || direct < LEAST_GAIN * ours)
        return;
    conv->winograd = true;
    conv->panel_bytes = 16 * (size_t)conv->k * NPI_PANEL * sizeof(float);
    conv->packed_bytes = (size_t)conv->panels * conv->panel_bytes;
    int rows = conv->blocks * tiles_y, pairs = conv->panels / 2;
    int splits = (conv->threads + rows - 1) / rows;
    splits = splits > pairs ? pairs : splits;
    conv->group = (pairs + splits - 1) / splits;
    size_t floats =
        pixel_floats(conv) + 4 * BLOCK + (size_t)TILES * 16 * (pixel_step(conv) + PRODUCT_STEP);
    size_t pack = 9 * (size_t)conv->k * NPI_PANEL;
    conv->scratch = npi_round_up((floats > pack ? floats : pack) * sizeof(float), 64);
}

void npi_wino_pack(const npi_conv *conv, const npi_pack *job, void *packed, char *scratch) {
    size_t floats = (size_t)conv->k * NPI_PANEL;
#pragma omp parallel num_threads(conv->threads)
    {
        float *taps = (float *)(void *)(scratch + (size_t)omp_get_thread_num() * conv->scratch);
#pragma omp for schedule(static)
        for (int panel = 0; panel < conv->panels; panel++) {
            conv->kernels->pack(job, panel, taps);
            conv->kernels->wino_weights(taps, floats, conv->transposed,
                                        (float *)packed + (size_t)panel * 16 * floats);
        }
    }
}

/* A thread's memory. */
typedef struct workplace {
    float *zeros, *pixels, *products, *blocks;
} workplace;

static workplace workplace_of(const npi_conv *conv, char *scratch) {
    workplace place = {.zeros = (float *)(void *)scratch};
    place.blocks = place.zeros + pixel_floats(conv);
    place.pixels = place.blocks + 4 * BLOCK;
    place.products = place.pixels + (size_t)TILES * 16 * pixel_step(conv);
    return place;
}

/* The tile's row among those of all blocks, and where it lies. */
typedef struct tile_at {
    int row, block, y, x;
} tile_at;

static tile_at tile_number(const npi_conv *conv, int number) {
    int tiles_x = tiles_of(conv->wo), tiles_y = tiles_of(conv->ho);
    tile_at tile = {.row = number / tiles_x};
    tile.block = tile.row / tiles_y;
    tile.y = tile.row % tiles_y * 2;
    tile.x = number % tiles_x * 2;
    return tile;
}

static void transform_tile(const npi_conv *conv, const float *x, int number, const float *zeros,
                           float *to) {
    tile_at tile = tile_number(conv, number);
    size_t floats = pixel_floats(conv);
    const float *image = x + (size_t)tile.block * (size_t)(conv->hi * conv->wi) * floats;
    int pad = conv->transposed ? 2 - conv->pad : conv->pad;
    const float *pixels[16];
    for (int i = 0; i < 16; i++) {
        int iy = tile.y + i / 4 - pad, ix = tile.x + i % 4 - pad;
        bool exists = iy >= 0 && ix >= 0 && iy < conv->hi && ix < conv->wi;
        pixels[i] = exists ? image + (size_t)(iy * conv->wi + ix) * floats : zeros;
    }
    conv->kernels->wino_input(pixels, floats, to, pixel_step(conv));
}

/* What is done with the 4 blocks of sums of a tile, pair p of panels. */
static void store_tile(const npi_conv *conv, const npi_conv_out *out, int number, int p,
                       const float *blocks) {
    tile_at tile = tile_number(conv, number);
    size_t channel = (size_t)p * NPI_IMAGES, co = (size_t)conv->co;
    int left = conv->n - tile.block * NPI_IMAGES, cols = conv->co - p * NPI_IMAGES;
    npi_store store = {.cols = cols < NPI_IMAGES ? cols : NPI_IMAGES,
                       .valid = left < NPI_IMAGES ? left : NPI_IMAGES,
                       .out_row = co * sizeof(float),
                       .add = out->add,
                       .relu = out->relu,
                       .stats_row = out->stats_row};
    if (out->scale) {
        store.mean = out->mean + channel;
        store.scale = out->scale + channel;
        store.beta = out->beta + channel;
    }
    for (int i = 0; i < 4; i++) {
        int y = tile.y + i / 2, px = tile.x + i % 2;
        if (y >= conv->ho || px >= conv->wo)
            continue;
        size_t shard = (size_t)(tile.block * conv->ho + y);
        size_t at = (shard * (size_t)conv->wo + (size_t)px) * NPI_IMAGES * co + channel;
        store.block = blocks + i * BLOCK;
        store.out = (float *)out->y + at;
        store.residual = out->residual ? (const float *)out->residual + at : NULL;
        store.first = px == 0;
        if (out->stats)
            store.stats = out->stats + shard * 3 * out->stats_row + channel;
        conv->kernels->store(&store);
    }
}

static void run_chunk(const npi_conv *conv, const float *x, const char *packed,
                      const npi_conv_out *out, int first, int count, int pair, int last,
                      const workplace *place) {
    size_t step = pixel_step(conv);
    for (int t = 0; t < count; t++)
        transform_tile(conv, x, first + t, place->zeros, place->pixels + (size_t)t * 16 * step);
    const char *a, *b;
    npi_multiply product = {.count = 1,
                            .a = &a,
                            .b = &b,
                            .rows = NPI_IMAGES,
                            .words = conv->ci,
                            .a_row = (size_t)conv->ci * sizeof(float),
                            .a_word = 4,
                            .b_word = 64,
                            .b_panel = conv->panel_bytes,
                            .out_row = NPI_IMAGES};
    for (int p = pair; p < last; p++) {
        product.b_offset = (size_t)(2 * p) * conv->panel_bytes;
        for (size_t i = 0; i < 16; i++) {
            b = packed + i * (size_t)conv->k * NPI_PANEL * sizeof(float);
            for (size_t t = 0; t < (size_t)count; t++) {
                a = (const char *)(place->pixels + (t * 16 + i) * step);
                product.out = place->products + (t * 16 + i) * PRODUCT_STEP;
                conv->kernels->multiply(&product);
            }
        }
        for (int t = 0; t < count; t++) {
            conv->kernels->wino_output(place->products + (size_t)t * 16 * PRODUCT_STEP,
                                       PRODUCT_STEP, place->blocks);
            store_tile(conv, out, first + t, p, place->blocks);
        }
    }
}

static int smaller(int a, int b) {
    return a < b ? a : b;
}

void npi_wino_run(const npi_conv *conv, const void *x, const void *packed, const npi_conv_out *out,
                  char *scratch) {
    int tiles_x = tiles_of(conv->wo), rows = conv->blocks * tiles_of(conv->ho);
    int pairs = conv->panels / 2, items = rows * ((pairs + conv->group - 1) / conv->group);
#pragma omp parallel num_threads(conv->threads)
    {
        workplace place =
            workplace_of(conv, scratch + (size_t)omp_get_thread_num() * conv->scratch);
        memset(place.zeros, 0, pixel_floats(conv) * sizeof *place.zeros);
#pragma omp for schedule(static)
        for (int item = 0; item < items; item++) {
            int first = item % rows * tiles_x, last = first + tiles_x;
            int pair = item / rows * conv->group;
            for (int t = first; t < last; t += TILES)
                run_chunk(conv, (const float *)x, (const char *)packed, out, t,
                          smaller(TILES, last - t), pair, smaller(pair + conv->group, pairs),
                          &place);
        }
    }
}
