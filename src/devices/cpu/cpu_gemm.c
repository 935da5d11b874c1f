#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/memory.h"
#include "devices/cpu/cpu_math.h"

const npi_math *npi_math_of(npi_isa isa) {
#if defined(__x86_64__)
    if (isa == NPI_ISA_AMX)
        return &npi_math_amx;
    if (isa >= NPI_ISA_AVX512)
        return __builtin_cpu_supports("avx512vnni") ? &npi_math_avx512vnni : &npi_math_avx512;
    if (isa == NPI_ISA_AVX2)
        return &npi_math_avx2;
#endif
    (void)isa;
    return &npi_math_generic;
}

npos_status npi_cpu_scratch(npi_device *dev, size_t bytes, void *out) {
    npi_cpu *cpu = npi_cpu_of(dev);
    if (bytes > cpu->scratch_bytes) {
        npi_free(cpu->scratch);
        cpu->scratch = NULL;
        cpu->scratch_bytes = 0;
        NPI_TRY(npi_alloc(&cpu->scratch, bytes, 1, "cpu scratch"));
        cpu->scratch_bytes = bytes;
    }
    memcpy(out, &cpu->scratch, sizeof cpu->scratch);
    return NPOS_OK;
}

void npi_pack_panel(int width, int panel, int rows, int depth, const float *from_floats,
                    ptrdiff_t row_stride, ptrdiff_t depth_stride, float *to_floats) {
    typedef float __attribute__((may_alias)) word;
    word *to = to_floats;
    int first = panel * width, there = rows - first < width ? rows - first : width;
    const word *from = from_floats + first * row_stride;
    if (row_stride == 1 && there == width) {
        for (int p = 0; p < depth; p++)
            memcpy(to + (ptrdiff_t)p * width, from + p * depth_stride, (size_t)width * sizeof *to);
        return;
    }
    if (there < width)
        memset(to, 0, (size_t)depth * (size_t)width * sizeof *to);
    enum { STRIP = 16 }; /* one cache line of each row at a time */
    for (int start = 0; start < depth; start += STRIP) {
        int end = start + STRIP < depth ? start + STRIP : depth;
        for (int i = 0; i < there; i++)
            for (int p = start; p < end; p++)
                to[(ptrdiff_t)p * width + i] = from[i * row_stride + p * depth_stride];
    }
}

enum {
    DEPTH = 512,    /* a rows panel of this depth stays in the first cache */
    ROWS = 72 * 14, /* rows packed at a time */
    COLUMNS = 512,  /* columns packed at a time: they stay in the second cache */
    TILE = NPI_PANEL_ROWS * NPI_PANEL_COLUMNS,
};

static int panels(int count, int width) {
    return (count + width - 1) / width;
}

static void finish(const npi_gemm *g, int row, int rows, int column, int columns) {
    for (int i = 0; i < rows; i++) {
        float *c = g->c + (row + i) * g->ldc + column;
        if (g->bias)
            for (int j = 0; j < columns; j++)
                c[j] += g->bias[column + j];
        if (g->relu)
            for (int j = 0; j < columns; j++)
                c[j] = c[j] > 0.0f ? c[j] : 0.0f;
    }
}

/* One tile of c at (row, column); tiles that overhang the matrix go through a buffer. */
static void one_tile(const npi_math *math, const npi_gemm *g, int depth, bool add, bool last,
                     const float *a, const float *b, int row, int column) {
    int rows = g->m - row < math->mr ? g->m - row : math->mr;
    int columns = g->n - column < math->nr ? g->n - column : math->nr;
    float *c = g->c + row * g->ldc + column;
    if (rows == math->mr && columns == math->nr) {
        math->tile(depth, a, b, c, g->ldc, add);
    } else {
        float tile[TILE];
        math->tile(depth, a, b, tile, math->nr, false);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                c[i * g->ldc + j] = (add ? c[i * g->ldc + j] : 0.0f) + tile[i * math->nr + j];
    }
    if (last && (g->bias || g->relu))
        finish(g, row, rows, column, columns);
}

npos_status npi_cpu_gemm(npi_device *dev, const npi_gemm *g) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    const npi_math *math = npi_math_of(cpu->isa);
    if (g->m <= 0 || g->n <= 0)
        return NPOS_OK;
    int depth_max = g->k < DEPTH ? g->k : DEPTH, rows_max = g->m < ROWS ? g->m : ROWS,
        columns_max = g->n < COLUMNS ? g->n : COLUMNS;
    size_t a_room = npi_cpu_room(
        (size_t)panels(rows_max, math->mr) * (size_t)math->mr * (size_t)depth_max, sizeof(float));
    size_t b_room =
        npi_cpu_room((size_t)panels(columns_max, math->nr) * (size_t)math->nr * (size_t)depth_max,
                     sizeof(float));
    char *scratch;
    NPI_TRY(npi_cpu_scratch(dev, a_room + b_room, &scratch));
    float *packed_a = (float *)(void *)scratch, *packed_b = (float *)(void *)(scratch + a_room);
    double work = (double)g->m * g->n * g->k;
    int threads = work < 2e5 ? 1 : cpu->threads;
#pragma omp parallel num_threads(threads)
    for (int start = 0; start == 0 || start < g->k; start += DEPTH) {
        int depth = g->k - start < DEPTH ? g->k - start : DEPTH;
        bool add = g->add || start > 0, last = start + DEPTH >= g->k;
        for (int row0 = 0; row0 < g->m; row0 += ROWS) {
            int rows = g->m - row0 < ROWS ? g->m - row0 : ROWS, a_panels = panels(rows, math->mr);
#pragma omp for schedule(static) nowait
            for (int i = 0; i < a_panels; i++)
                npi_pack_panel(math->mr, i, rows, depth, g->a + row0 * g->a_row + start * g->a_col,
                               g->a_row, g->a_col,
                               packed_a + (size_t)i * (size_t)math->mr * (size_t)depth);
            for (int column0 = 0; column0 < g->n; column0 += COLUMNS) {
                int columns = g->n - column0 < COLUMNS ? g->n - column0 : COLUMNS,
                    b_panels = panels(columns, math->nr);
#pragma omp for schedule(static)
                for (int j = 0; j < b_panels; j++)
                    npi_pack_panel(math->nr, j, columns, depth,
                                   g->b + column0 * g->b_col + start * g->b_row, g->b_col, g->b_row,
                                   packed_b + (size_t)j * (size_t)math->nr * (size_t)depth);
                /* few rows: threads share the columns; the bits are the same */
                int strips = a_panels >= 2 * threads ? 1 : b_panels < threads ? b_panels : threads;
#pragma omp for schedule(dynamic)
                for (int task = 0; task < a_panels * strips; task++) {
                    int i = task / strips, strip = task % strips;
                    for (int j = b_panels * strip / strips; j < b_panels * (strip + 1) / strips;
                         j++)
                        one_tile(math, g, depth, add, last,
                                 packed_a + (size_t)i * (size_t)math->mr * (size_t)depth,
                                 packed_b + (size_t)j * (size_t)math->nr * (size_t)depth,
                                 row0 + i * math->mr, column0 + j * math->nr);
                }
            }
        }
    }
    return NPOS_OK;
}

static size_t left_floats(const npi_math *math, int m, int k) {
    return npi_cpu_room((size_t)panels(m, math->mr) * (size_t)math->mr * (size_t)k, sizeof(float)) /
           sizeof(float);
}

size_t npi_cpu_product_floats(const npi_math *math, int m, int n, int k) {
    return left_floats(math, m, k) + (size_t)panels(n, math->nr) * (size_t)math->nr * (size_t)k;
}

void npi_cpu_product(const npi_math *math, const npi_gemm *g, float *room) {
    float *a = room, *b = room + left_floats(math, g->m, g->k);
    size_t a_panel = (size_t)math->mr * (size_t)g->k, b_panel = (size_t)math->nr * (size_t)g->k;
    int a_panels = panels(g->m, math->mr), b_panels = panels(g->n, math->nr);
    for (int i = 0; i < a_panels; i++)
        npi_pack_panel(math->mr, i, g->m, g->k, g->a, g->a_row, g->a_col, a + (size_t)i * a_panel);
    for (int j = 0; j < b_panels; j++)
        npi_pack_panel(math->nr, j, g->n, g->k, g->b, g->b_col, g->b_row, b + (size_t)j * b_panel);
    for (int j = 0; j < b_panels; j++)
        for (int i = 0; i < a_panels; i++)
            one_tile(math, g, g->k, g->add, true, a + (size_t)i * a_panel, b + (size_t)j * b_panel,
                     i * math->mr, j * math->nr);
}
