#include "devices/cpu/cpu_pairs.h"

#include "devices/cpu/cpu_math.h"

enum {
    DEPTH = 1024,  /* of a rows panel that stays in the first cache; npi_pairs.depth divides it */
    ROWS = 1008,   /* packed at a time */
    COLUMNS = 256, /* gone through at a time: their panels stay in the second cache */
    TILE = NPI_PANEL_ROWS * NPI_PANEL_COLUMNS,
};

const npi_pairs *npi_pairs_of(const npi_device *dev) {
#if defined(__x86_64__)
    const npi_cpu *cpu = dev->own;
    if (dev->compute == NPI_BF16)
        return cpu->isa == NPI_ISA_AMX ? &npi_pairs_amx : &npi_pairs_avx512bf16;
#endif
    (void)dev;
    return NULL;
}

static int panels_of(int count, int width) {
    return (count + width - 1) / width;
}

static int pairs_of(const npi_pairs *pairs, int depth) {
    return panels_of(depth, pairs->depth) * pairs->depth / 2;
}

size_t npi_pairs_words(const npi_pairs *pairs, int in, int out) {
    return (size_t)panels_of(out, pairs->nr) * (size_t)pairs->nr * (size_t)pairs_of(pairs, in);
}

void npi_pairs_pack(const npi_device *dev, const npi_pairs *pairs, int in, int out,
                    const float *weight, uint32_t *panels) {
    const npi_cpu *cpu = dev->own;
    const int nr = pairs->nr;
    const size_t panel = (size_t)nr * (size_t)pairs_of(pairs, in);
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int j = 0; j < panels_of(out, nr); j++)
        pairs->pack_columns(out - j * nr < nr ? out - j * nr : nr, in,
                            weight + (ptrdiff_t)j * nr * in, in, panels + (size_t)j * panel);
}

/* What the tiles of a product share. */
typedef struct job {
    const npi_pairs *pairs;
    int n, out;
    const float *bias;
    float *y;
    ptrdiff_t step;
} job;

/* The tile of y at (row, column) of `depth` pairs; `last`: bias too. */
static void one_tile(const job *g, int depth, bool add, bool last, const uint32_t *a,
                     const uint32_t *b, int row, int column) {
    const int mr = g->pairs->mr, nr = g->pairs->nr, rows = g->n - row < mr ? g->n - row : mr,
              columns = g->out - column < nr ? g->out - column : nr;
    float *y = g->y + row * g->step + column, tile[TILE];
    if (rows == mr && columns == nr) {
        g->pairs->tile(depth, a, b, y, g->step, add);
    } else {
        g->pairs->tile(depth, a, b, tile, nr, false);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                y[i * g->step + j] = (add ? y[i * g->step + j] : 0.0f) + tile[i * nr + j];
    }
    for (int i = 0; i < rows && last && g->bias; i++)
        for (int j = 0; j < columns; j++)
            y[i * g->step + j] += g->bias[column + j];
}

npos_status npi_pairs_multiply(npi_device *dev, const npi_pairs *pairs, int n, int in, int out,
                               const float *x, ptrdiff_t x_step, const uint32_t *panels,
                               const float *bias, bool add, float *y, ptrdiff_t y_step) {
    const job g = {pairs, n, out, bias, y, y_step};
    const int mr = pairs->mr, nr = pairs->nr, b_panels = panels_of(out, nr), most = ROWS / mr * mr;
    const size_t b_panel = (size_t)nr * (size_t)pairs_of(pairs, in),
                 a_most = (size_t)mr * (size_t)pairs_of(pairs, in < DEPTH ? in : DEPTH);
    const int at_once = COLUMNS / nr, strips = panels_of(b_panels, at_once);
    uint32_t *packed;
    NPI_TRY(npi_cpu_scratch(
        dev, (size_t)panels_of(n < most ? n : most, mr) * a_most * sizeof *packed, &packed));
#pragma omp parallel num_threads(npi_cpu_of(dev)->threads)
    {
        if (pairs->enter)
            pairs->enter();
        for (int start = 0; start < in; start += DEPTH) {
            const int depth = in - start < DEPTH ? in - start : DEPTH,
                      words = pairs_of(pairs, depth);
            const size_t a_panel = (size_t)mr * (size_t)words;
            for (int row0 = 0; row0 < n; row0 += most) {
                const int rows = n - row0 < most ? n - row0 : most, a_panels = panels_of(rows, mr);
#pragma omp for schedule(static)
                for (int i = 0; i < a_panels; i++)
                    pairs->pack_rows(rows - i * mr < mr ? rows - i * mr : mr, depth,
                                     x + (row0 + i * mr) * x_step + start, x_step,
                                     packed + (size_t)i * a_panel);
                    /* a task: one rows panel by the columns that stay in a cache */
#pragma omp for schedule(dynamic)
                for (int task = 0; task < strips * a_panels; task++) {
                    const int i = task % a_panels, first = task / a_panels * at_once,
                              end = first + at_once < b_panels ? first + at_once : b_panels;
                    for (int j = first; j < end; j++)
                        one_tile(&g, words, add || start > 0, start + DEPTH >= in,
                                 packed + (size_t)i * a_panel,
                                 panels + (size_t)j * b_panel + (size_t)nr * (size_t)(start / 2),
                                 row0 + i * mr, j * nr);
                }
            }
        }
        if (pairs->leave)
            pairs->leave();
    }
    return NPOS_OK;
}
