#include <omp.h>
#include <string.h>

#include "devices/cpu/cpu_conv.h"
#include "devices/cpu/cpu_conv_parts.h"

enum {
    /* x and dy of a strip.  Larger strips copy fewer rows of x twice, smaller ones stay in the
     * cache; in bfloat16 the products are so fast that the copies count for more. */
    STRIP_BYTES = 1024 * 1024,
    STRIP_BYTES_BF16 = 2048 * 1024
};

/* Rows of x under `rows` rows of output. */
static int input_rows(const npi_conv *conv, int rows) {
    int needed = (rows - 1) * conv->stride + conv->kernel;
    return needed < conv->hi ? needed : conv->hi;
}

static size_t x_strip(const npi_conv_weights *plan, int rows) {
    const npi_conv *conv = &plan->conv;
    int pixels = conv->gather ? rows * conv->wo : input_rows(conv, rows) * conv->wi;
    return (size_t)pixels * (size_t)plan->ci * NPI_IMAGES * conv->element;
}

static size_t dy_strip(const npi_conv_weights *plan, int rows) {
    const npi_conv *conv = &plan->conv;
    return (size_t)(rows * conv->wo) * (size_t)plan->co * NPI_IMAGES * conv->element;
}

npi_conv_weights npi_conv_weights_plan(const npi_conv *forward) {
    npi_conv_weights plan = {.conv = *forward};
    plan.packed =
        forward->kernels->dtype == NPI_BF16 || forward->gather || forward->co % NPI_IMAGES != 0;
    plan.taps = forward->gather ? 1 : forward->kernel * forward->kernel;
    plan.ci = forward->gather ? forward->kernel * forward->kernel * forward->ci : forward->ci;
    plan.co = forward->co;
    if (plan.packed) {
        plan.ci = (int)npi_round_up((size_t)plan.ci, NPI_IMAGES);
        plan.co = (int)npi_round_up((size_t)plan.co, NPI_IMAGES);
    }
    size_t most = forward->kernels->dtype == NPI_BF16 ? STRIP_BYTES_BF16 : STRIP_BYTES;
    plan.rows = forward->ho;
    while (plan.rows > 1 && x_strip(&plan, plan.rows) + dy_strip(&plan, plan.rows) > most)
        plan.rows = (plan.rows + 1) / 2;
    if (plan.packed) {
        plan.x_bytes = npi_round_up(x_strip(&plan, plan.rows), 64);
        plan.dy_bytes = npi_round_up(dy_strip(&plan, plan.rows), 64);
    }
    size_t lists = npi_round_up((size_t)(plan.rows * forward->wo) * sizeof(char *), 64);
    plan.scratch = NPI_BLOCK_BYTES + 2 * lists;
    if (forward->gather)
        plan.scratch += npi_round_up(NPI_IMAGES * (size_t)forward->k * forward->element, 64);
    return plan;
}

typedef struct strip {
    const char *x, *dy; /* one block of images */
    int y0, y1;         /* output rows */
    int top, bottom;    /* input rows */
    char *turned, *panels;
} strip;

static strip strip_of(const npi_conv_weights *plan, const char *x, const char *dy, int number,
                      char *memory) {
    const npi_conv *conv = &plan->conv;
    int strips = (conv->ho + plan->rows - 1) / plan->rows;
    size_t block = (size_t)(number / strips), images = NPI_IMAGES * conv->element;
    strip part = {.y0 = number % strips * plan->rows};
    part.x = x + block * (size_t)(conv->hi * conv->wi) * (size_t)conv->ci * images;
    part.dy = dy + block * (size_t)(conv->ho * conv->wo) * (size_t)conv->co * images;
    part.y1 = part.y0 + plan->rows < conv->ho ? part.y0 + plan->rows : conv->ho;
    part.top = part.y0 * conv->stride - conv->pad;
    part.bottom = (part.y1 - 1) * conv->stride - conv->pad + conv->kernel;
    part.top = part.top < 0 ? 0 : part.top;
    part.bottom = part.bottom > conv->hi ? conv->hi : part.bottom;
    part.turned = memory;
    part.panels = memory + plan->x_bytes;
    return part;
}

/* Copies one row of pixels of the strip: of x (row < number of x rows), else of dy. */
static void copy_row(const npi_conv_weights *plan, const strip *part, int row, char *gathered) {
    const npi_conv *conv = &plan->conv;
    const npi_kernels *kernels = conv->kernels;
    size_t x_pixel = (size_t)plan->ci * NPI_IMAGES * conv->element;
    size_t dy_pixel = (size_t)plan->co * NPI_IMAGES * conv->element;
    size_t ci = (size_t)conv->ci, images = NPI_IMAGES * conv->element;
    int x_rows = conv->gather ? part->y1 - part->y0 : part->bottom - part->top;
    if (row >= x_rows) {
        row -= x_rows;
        size_t from = (size_t)((part->y0 + row) * conv->wo), to = (size_t)(row * conv->wo);
        for (size_t px = 0; px < (size_t)conv->wo; px++)
            kernels->panels(part->dy + (from + px) * (size_t)conv->co * images, conv->co,
                            part->panels + (to + px) * dy_pixel);
    } else if (conv->gather) {
        for (int px = 0; px < conv->wo; px++) {
            npi_gather_pixel(conv, part->x, part->y0 + row, px, gathered);
            kernels->turn(gathered, (size_t)conv->k, conv->kernel * conv->kernel * conv->ci,
                          part->turned + (size_t)(row * conv->wo + px) * x_pixel);
        }
    } else {
        size_t from = (size_t)((part->top + row) * conv->wi), to = (size_t)(row * conv->wi);
        for (size_t px = 0; px < (size_t)conv->wi; px++)
            kernels->turn(part->x + (from + px) * ci * images, ci, conv->ci,
                          part->turned + (to + px) * x_pixel);
    }
}

/* Lists the pixels of the strip that tap (ky, kx) pairs; returns how many. */
static int list_pixels(const npi_conv_weights *plan, const strip *part, int tap,
                       const npi_workplace *place) {
    const npi_conv *conv = &plan->conv;
    size_t x_pixel = (size_t)plan->ci * NPI_IMAGES * conv->element;
    size_t dy_pixel = (size_t)plan->co * NPI_IMAGES * conv->element;
    const char *x = plan->packed ? part->turned : part->x;
    const char *dy = plan->packed ? part->panels : part->dy;
    int x_first = plan->packed ? part->top * conv->wi : 0;
    int dy_first = plan->packed ? part->y0 * conv->wo : 0;
    int count = 0;
    for (int y = part->y0; y < part->y1; y++)
        for (int px = 0; px < conv->wo; px++) {
            int to = y * conv->wo + px - dy_first;
            int from =
                conv->gather
                    ? to
                    : npi_source(conv, y, px, tap / conv->kernel, tap % conv->kernel) - x_first;
            if (!conv->gather && from + x_first < 0)
                continue;
            place->a[count] = x + (size_t)from * x_pixel;
            place->b[count] = dy + (size_t)to * dy_pixel;
            count++;
        }
    return count;
}

/* Adds (or, in the first strip, sets) one block of 32 x 32 gradients; the list is that of its tap.
 */
static void add_block(const npi_conv_weights *plan, npi_multiply *product, int tap, int row,
                      int column, bool accumulate, float *dweights, float *block) {
    const npi_conv *conv = &plan->conv;
    int real_rows = conv->gather ? conv->kernel * conv->kernel * conv->ci : conv->ci;
    int rows = real_rows - row < NPI_IMAGES ? real_rows - row : NPI_IMAGES;
    int cols = conv->co - column < NPI_IMAGES ? conv->co - column : NPI_IMAGES;
    size_t co = (size_t)conv->co;
    float *out = dweights + ((size_t)tap * (size_t)real_rows + (size_t)row) * co + (size_t)column;
    product->accumulate = accumulate;
    if (cols == NPI_IMAGES && (rows == NPI_IMAGES || !plan->packed)) {
        product->rows = rows;
        product->out = out;
        product->out_row = co;
        conv->kernels->multiply(product);
        return;
    }
    product->rows = NPI_IMAGES;
    product->out = block;
    product->out_row = NPI_IMAGES;
    size_t bytes = (size_t)cols * sizeof *block;
    if (accumulate)
        for (int r = 0; r < rows; r++)
            memcpy(block + r * NPI_IMAGES, out + (size_t)r * co, bytes);
    conv->kernels->multiply(product);
    for (int r = 0; r < rows; r++)
        memcpy(out + (size_t)r * co, block + r * NPI_IMAGES, bytes);
}

static void run_item(const npi_conv_weights *plan, const strip *part, int item, int *listed,
                     bool accumulate, float *dweights, npi_multiply *product,
                     const npi_workplace *place) {
    int row_blocks = (plan->ci + NPI_IMAGES - 1) / NPI_IMAGES, col_blocks = plan->co / NPI_IMAGES;
    int tap = item / (row_blocks * col_blocks);
    int row = item / col_blocks % row_blocks * NPI_IMAGES, column = item % col_blocks * NPI_IMAGES;
    size_t element = plan->conv.element;
    if (tap != *listed) {
        product->count = list_pixels(plan, part, tap, place);
        *listed = tap;
    }
    size_t a_unit = plan->packed ? NPI_IMAGES * element : element;
    size_t b_unit = plan->packed ? NPI_IMAGES * element : element;
    product->a_offset = (size_t)row * a_unit;
    product->b_offset = (size_t)column * b_unit;
    add_block(plan, product, tap, row, column, accumulate, dweights, place->block);
}

void npi_conv_weights_run(const npi_conv_weights *plan, const void *x, const void *dy,
                          float *dweights, char *memory, char *scratch) {
    const npi_conv *conv = &plan->conv;
    int strips = conv->blocks * ((conv->ho + plan->rows - 1) / plan->rows);
    int items = plan->taps * ((plan->ci + NPI_IMAGES - 1) / NPI_IMAGES) * (plan->co / NPI_IMAGES);
    size_t element = conv->element, images = NPI_IMAGES * element;
#pragma omp parallel num_threads(conv->threads)
    {
        npi_workplace place =
            npi_workplace_of(scratch + (size_t)omp_get_thread_num() * plan->scratch,
                             (size_t)(plan->rows * conv->wo));
        npi_multiply product = {.a = place.a, .b = place.b, .a_word = 4, .b_word = 64};
        product.words = (int)(images / 4);
        product.a_row = images;
        product.b_panel = images * NPI_PANEL;
        if (!plan->packed) {
            product.a_row = 4;
            product.a_word = (size_t)conv->ci * 4;
            product.b_word = (size_t)conv->co * 4;
            product.b_panel = NPI_PANEL * 4;
        }
        if (conv->gather)
            memset(place.gathered, 0, NPI_IMAGES * (size_t)conv->k * element);
        if (conv->kernels->begin)
            conv->kernels->begin();
        for (int s = 0; s < strips; s++) {
            strip part = strip_of(plan, (const char *)x, (const char *)dy, s, memory);
            int listed = -1;
            if (plan->packed) {
                int x_rows = conv->gather ? part.y1 - part.y0 : part.bottom - part.top;
                int rows = x_rows + part.y1 - part.y0;
#pragma omp for schedule(static)
                for (int row = 0; row < rows; row++)
                    copy_row(plan, &part, row, place.gathered);
#pragma omp for schedule(static)
                for (int item = 0; item < items; item++)
                    run_item(plan, &part, item, &listed, s > 0, dweights, &product, &place);
            } else {
                /* Without copies every thread keeps to its own blocks: no need to wait. */
#pragma omp for schedule(static) nowait
                for (int item = 0; item < items; item++)
                    run_item(plan, &part, item, &listed, s > 0, dweights, &product, &place);
            }
        }
        if (conv->kernels->end)
            conv->kernels->end();
    }
}
