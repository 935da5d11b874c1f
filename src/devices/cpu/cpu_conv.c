#include "devices/cpu/cpu_conv.h"
#include "devices/cpu/cpu_conv_parts.h"

#include <omp.h>
#include <string.h>

enum {
    GATHER_BELOW = 16,       /* input channels */
    GROUP_BYTES = 384 * 1024 /* weights used together; fits the L2 of every processor we know */
};

npi_conv npi_conv_plan(const npi_cpu *cpu, const npi_kernels *kernels, int n, int c, int h, int w,
                       int out_c, int kernel, int stride, int pad, bool transposed) {
    int ho = (h + 2 * pad - kernel) / stride + 1, wo = (w + 2 * pad - kernel) / stride + 1;
    npi_conv conv = {.kernels = kernels,
                     .threads = cpu->threads,
                     .n = n,
                     .blocks = (n + NPI_IMAGES - 1) / NPI_IMAGES,
                     .ci = transposed ? out_c : c,
                     .co = transposed ? c : out_c,
                     .hi = transposed ? ho : h,
                     .wi = transposed ? wo : w,
                     .ho = transposed ? h : ho,
                     .wo = transposed ? w : wo,
                     .kernel = kernel,
                     .stride = stride,
                     .pad = pad,
                     .transposed = transposed,
                     .element = npi_dtype_bytes(kernels->dtype)};
    bool pairs = kernels->dtype == NPI_BF16;
    size_t taps = (size_t)kernel * (size_t)kernel, ci = (size_t)conv.ci;
    conv.gather = conv.ci < GATHER_BELOW || (pairs && conv.ci % 2 != 0);
    size_t k = conv.gather ? npi_round_up(taps * ci, pairs ? 32 : 1) : ci;
    conv.k = (int)k;
    conv.panels = (int)npi_round_up((size_t)conv.co, NPI_IMAGES) / NPI_PANEL;
    conv.panel_bytes = (conv.gather ? 1 : taps) * k * NPI_PANEL * conv.element;
    conv.packed_bytes = (size_t)conv.panels * conv.panel_bytes;
    int fitting = (int)(GROUP_BYTES / (2 * conv.panel_bytes));
    conv.group = fitting < 1 ? 1 : fitting;
    conv.scratch = NPI_BLOCK_BYTES + 2 * npi_round_up(taps * sizeof(char *), 64);
    if (conv.gather)
        conv.scratch += npi_round_up(NPI_IMAGES * k * conv.element, 64);
    npi_wino_plan(&conv);
    return conv;
}

void npi_conv_pack(const npi_conv *conv, const float *weights, void *packed, char *scratch) {
    int taps = conv->kernel * conv->kernel;
    npi_pack job = {.weights = weights,
                    .taps = taps,
                    .rows = conv->transposed ? conv->co : conv->ci,
                    .cols = conv->transposed ? conv->ci : conv->co,
                    .transposed = conv->transposed,
                    .k = conv->k};
    job.gathered = conv->gather;
    if (conv->winograd) {
        npi_wino_pack(conv, &job, packed, scratch);
        return;
    }
#pragma omp parallel for num_threads(conv->threads) schedule(static)
    for (int panel = 0; panel < conv->panels; panel++)
        conv->kernels->pack(&job, panel, (char *)packed + (size_t)panel * conv->panel_bytes);
}

int npi_source(const npi_conv *conv, int y, int x, int ky, int kx) {
    int iy = y * conv->stride + ky - conv->pad, ix = x * conv->stride + kx - conv->pad;
    if (conv->transposed) {
        iy = y + conv->pad - ky;
        ix = x + conv->pad - kx;
        if (iy < 0 || ix < 0 || iy % conv->stride != 0 || ix % conv->stride != 0)
            return -1;
        iy /= conv->stride;
        ix /= conv->stride;
    }
    if (iy < 0 || ix < 0 || iy >= conv->hi || ix >= conv->wi)
        return -1;
    return iy * conv->wi + ix;
}

void npi_gather_pixel(const npi_conv *conv, const char *image, int y, int x, char *gathered) {
    size_t tap_bytes = (size_t)conv->ci * conv->element, row = (size_t)conv->k * conv->element;
    for (int ky = 0; ky < conv->kernel; ky++)
        for (int kx = 0; kx < conv->kernel; kx++) {
            char *to = gathered + (size_t)(ky * conv->kernel + kx) * tap_bytes;
            int pixel = npi_source(conv, y, x, ky, kx);
            if (pixel < 0) {
                for (int n = 0; n < NPI_IMAGES; n++)
                    memset(to + (size_t)n * row, 0, tap_bytes);
                continue;
            }
            const char *from = image + (size_t)pixel * NPI_IMAGES * tap_bytes;
            if (tap_bytes == sizeof(float))
                for (int n = 0; n < NPI_IMAGES; n++)
                    memcpy(to + (size_t)n * row, from + (size_t)n * sizeof(float), sizeof(float));
            else
                for (int n = 0; n < NPI_IMAGES; n++)
                    memcpy(to + (size_t)n * row, from + (size_t)n * tap_bytes, tap_bytes);
        }
}

static int valid_images(const npi_conv *conv, int block) {
    int left = conv->n - block * NPI_IMAGES;
    return left < NPI_IMAGES ? left : NPI_IMAGES;
}

/* Lists the operands of output pixel (y, x); returns how many. */
static int list_taps(const npi_conv *conv, const char *image, const char *packed, int y, int x,
                     const npi_workplace *place) {
    if (conv->gather) {
        npi_gather_pixel(conv, image, y, x, place->gathered);
        place->a[0] = place->gathered;
        place->b[0] = packed;
        return 1;
    }
    int count = 0;
    size_t pixel_bytes = (size_t)NPI_IMAGES * (size_t)conv->ci * conv->element;
    size_t tap_bytes = (size_t)conv->k * NPI_PANEL * conv->element;
    for (int ky = 0; ky < conv->kernel; ky++)
        for (int kx = 0; kx < conv->kernel; kx++) {
            int pixel = npi_source(conv, y, x, ky, kx);
            if (pixel < 0)
                continue;
            place->a[count] = image + (size_t)pixel * pixel_bytes;
            place->b[count] = packed + (size_t)(ky * conv->kernel + kx) * tap_bytes;
            count++;
        }
    return count;
}

/* One row of output pixels of one block of images, the panels of one group. */
static void run_row(const npi_conv *conv, const char *x, const char *packed,
                    const npi_conv_out *out, int item, const npi_workplace *place) {
    int rows = conv->blocks * conv->ho, shard = item % rows;
    int pair = item / rows * conv->group, pairs = conv->panels / 2;
    int last = pair + conv->group < pairs ? pair + conv->group : pairs;
    int block = shard / conv->ho, y = shard % conv->ho;
    const char *image = x + (size_t)block * (size_t)(conv->hi * conv->wi) * NPI_IMAGES *
                                (size_t)conv->ci * conv->element;
    npi_multiply product = {.a = place->a,
                            .b = place->b,
                            .rows = NPI_IMAGES,
                            .words = (int)((size_t)conv->k * conv->element / 4),
                            .a_row = (size_t)(conv->gather ? conv->k : conv->ci) * conv->element,
                            .a_word = 4,
                            .b_word = 64,
                            .b_panel = conv->panel_bytes,
                            .out = place->block,
                            .out_row = NPI_IMAGES};
    npi_store store = {.block = place->block,
                       .valid = valid_images(conv, block),
                       .out_row = (size_t)conv->co * conv->element,
                       .add = out->add,
                       .relu = out->relu,
                       .stats_row = out->stats_row};
    for (int px = 0; px < conv->wo; px++) {
        product.count = list_taps(conv, image, packed, y, px, place);
        size_t pixel = (size_t)shard * (size_t)conv->wo + (size_t)px;
        for (int p = pair; p < last; p++) {
            size_t channel = (size_t)p * NPI_IMAGES;
            size_t at = (pixel * NPI_IMAGES * (size_t)conv->co + channel) * conv->element;
            product.b_offset = (size_t)(2 * p) * conv->panel_bytes;
            conv->kernels->multiply(&product);
            int cols = conv->co - p * NPI_IMAGES;
            store.cols = cols < NPI_IMAGES ? cols : NPI_IMAGES;
            store.out = (char *)out->y + at;
            store.residual = out->residual ? (const char *)out->residual + at : NULL;
            store.first = px == 0;
            if (out->stats)
                store.stats = out->stats + (size_t)shard * 3 * out->stats_row + channel;
            if (out->scale) {
                store.mean = out->mean + channel;
                store.scale = out->scale + channel;
                store.beta = out->beta + channel;
            }
            conv->kernels->store(&store);
        }
    }
}

void npi_conv_run(const npi_conv *conv, const void *x, const void *packed, const npi_conv_out *out,
                  char *scratch) {
    if (conv->winograd) {
        npi_wino_run(conv, x, packed, out, scratch);
        return;
    }
    int pairs = conv->panels / 2, groups = (pairs + conv->group - 1) / conv->group;
    int items = groups * conv->blocks * conv->ho;
    int taps = conv->kernel * conv->kernel;
#pragma omp parallel num_threads(conv->threads)
    {
        npi_workplace place =
            npi_workplace_of(scratch + (size_t)omp_get_thread_num() * conv->scratch, (size_t)taps);
        if (conv->gather)
            memset(place.gathered, 0, NPI_IMAGES * (size_t)conv->k * conv->element);
        if (conv->kernels->begin)
            conv->kernels->begin();
#pragma omp for schedule(static)
        for (int item = 0; item < items; item++)
            run_row(conv, (const char *)x, (const char *)packed, out, item, &place);
        if (conv->kernels->end)
            conv->kernels->end();
    }
}
