#include "devices/cpu/cpu_ood_screen.h"

#include <math.h>
#include <string.h>

static const double UNIT = 0x1p-24;

void npi_screen_start(npi_screen *s, const npi_math *math, int dim) {
    *s = (npi_screen){.math = math, .bytes = math->bytes.tile != NULL, .dim = dim, .depth = dim};
    s->mr = math->mr;
    /* Relative to |q'| |b'| <= (|q'|^2 + |b'|^2) / 2: a float32 product's sum is off by dim units.
     * The sum of bytes is exact, but 128 times the sum of a row's bytes is taken from it: terms up
     * to sqrt(dim) times as large are rounded up to four times.  Squares: npi_math.near's error. */
    double steps = dim;
    if (s->bytes) {
        s->mr = math->bytes.mr;
        s->depth = (dim + math->bytes.depth - 1) / math->bytes.depth * math->bytes.depth;
        steps = 4.0 * sqrt((double)dim);
    }
    s->uncertainty = (steps + dim / 16.0 + 64.0) * UNIT;
}

size_t npi_screen_bytes(const npi_screen *s, int queries) {
    return ((size_t)queries + NPI_PANEL_ROWS) * (size_t)s->depth * (s->bytes ? 1 : sizeof(float));
}

size_t npi_strip_bytes(const npi_screen *s) {
    return (size_t)NPI_STRIP * (size_t)s->depth * (s->bytes ? 1 : sizeof(float));
}

/* The mean, if without it the rows are noticeably shorter; one huge row, which would carry it off,
 * does not make them so. */
void npi_screen_centre(npi_screen *s, const float *bank, int count, const int32_t *row) {
    float *mean = s->centre;
    double squares = 0.0, of_mean = 0.0;
    memset(mean, 0, (size_t)s->dim * sizeof *mean);
    for (int i = 0; i < count; i++) {
        const float *b = bank + (ptrdiff_t)row[i] * s->dim;
        squares += s->math->dot((size_t)s->dim, b, b);
        for (int j = 0; j < s->dim; j++)
            mean[j] += b[j];
    }
    for (int j = 0; j < s->dim; j++) {
        mean[j] /= (float)count;
        of_mean += (double)mean[j] * (double)mean[j];
    }
    if (!(squares < 1e30 && of_mean * count > 0.1 * squares))
        memset(mean, 0, (size_t)s->dim * sizeof *mean);
}

/* Bounds of |x' - x~| and |x'| from the measured squares. */
static double error_bound(const npi_screen *s, double squares, double norm) {
    return (s->bytes ? sqrt(squares) * 1.0001 + 1e-18 : 0.0) + 2.0 * UNIT * norm;
}

static double norm_bound(const npi_screen *s, double square) {
    return sqrt(square) * (1.0 + s->uncertainty) + 1e-18;
}

void npi_screen_queries(npi_screen *s, npi_strip *strip, int panel, int n, const float *queries) {
    const npi_math *math = s->math;
    npi_screen_rows *rows = &s->rows[panel];
    size_t dim = (size_t)s->dim, depth = (size_t)s->depth, mr = (size_t)s->mr;
    int first = panel * s->mr, there = n - first < s->mr ? n - first : s->mr;
    *rows = (npi_screen_rows){.factor = {0}};
    for (int i = 0; i < there; i++) {
        float *x = strip->centred + (s->bytes ? 0 : (size_t)i * dim);
        double square = math->centre(dim, queries + (size_t)(first + i) * dim, s->centre, x);
        double norm = norm_bound(s, square), squares = 0.0;
        float scale = 1.0f;
        if (s->bytes) {
            int8_t *to = strip->rounded + (size_t)i * depth;
            int32_t sum;
            squares = math->bytes.round(dim, x, to, &scale, &sum);
            for (size_t j = 0; j < dim; j++)
                to[j] = (int8_t)(to[j] ^ -128); /* as an unsigned byte: 128 more */
        }
        s->square[first + i] = (float)square;
        rows->factor[i] = 2.0f * scale;
        rows->norm[i] = (float)(2.0001 * norm);
        rows->error[i] = (float)(2.0001 * error_bound(s, squares, norm));
    }
    char *to = (char *)s->packed + (size_t)panel * mr * depth * (s->bytes ? 1 : sizeof(float));
    if (!s->bytes)
        npi_pack_panel(s->mr, 0, there, s->dim, strip->centred, s->dim, 1, (float *)(void *)to);
    else if (math->bytes.plain_rows)
        memcpy(to, strip->rounded, mr * depth);
    else
        npi_pack_panel(s->mr, 0, there, s->depth / 4, (const float *)(const void *)strip->rounded,
                       s->depth / 4, 1, (float *)(void *)to);
}

/* One row of the bank to column j of a panel; *norm bounds |b'| and |b~|, if anything does. */
static void take_column(const npi_screen *s, npi_strip *strip, const float *from, int j,
                        npi_screen_columns *to, double *norm) {
    const npi_math *math = s->math;
    size_t dim = (size_t)s->dim;
    float *x = strip->centred + (s->bytes ? 0 : (size_t)j * dim), scale = 1.0f;
    int8_t *rounded = strip->rounded + (s->bytes ? (size_t)j * (size_t)s->depth : 0);
    double square = math->centre(dim, from, s->centre, x), squares = 0.0;
    int32_t sum = 0;
    if (!(square < 1e30)) {
        memset(x, 0, dim * sizeof *x);
        memset(rounded, 0, s->bytes ? dim : 0);
        return;
    }
    if (s->bytes)
        squares = math->bytes.round(dim, x, rounded, &scale, &sum);
    double length = norm_bound(s, square), error = error_bound(s, squares, length);
    to->scale[j] = scale;
    to->offset[j] = scale * (128.0f * (float)sum);
    to->square[j] = (float)square;
    to->error[j] = (float)(1.0001 * error);
    *norm = length + error;
}

void npi_screen_pack(const npi_screen *s, npi_strip *strip, const float *bank) {
    for (int first = 0; first < strip->rows; first += NPI_PANEL_COLUMNS) {
        npi_screen_columns *to = &strip->columns[first / NPI_PANEL_COLUMNS];
        int there = strip->rows - first;
        there = there < NPI_PANEL_COLUMNS ? there : NPI_PANEL_COLUMNS;
        double longest = 0.0;
        *to = (npi_screen_columns){.scale = {0}};
        for (int j = 0; j < there; j++) {
            double norm = INFINITY;
            const float *from = bank + (ptrdiff_t)strip->row[first + j] * s->dim;
            take_column(s, strip, from, j, to, &norm);
            longest = norm > longest ? norm : longest;
        }
        to->norm = (float)(1.0001 * longest);
        to->slack = (float)(2.0001 * s->uncertainty * longest * longest);
        size_t row = (size_t)s->depth;
        char *packed = (char *)strip->packed + (size_t)first * row * (s->bytes ? 1 : sizeof(float));
        int nr = s->bytes ? s->math->bytes.nr : s->math->nr;
        for (int i = 0; i < NPI_PANEL_COLUMNS / nr; i++) {
            if (s->bytes)
                npi_pack_panel(nr, i, there, s->depth / 4,
                               (const float *)(const void *)strip->rounded, s->depth / 4, 1,
                               (float *)(void *)packed + (size_t)(i * nr) * (row / 4));
            else
                npi_pack_panel(nr, i, there, s->dim, strip->centred, s->dim, 1,
                               (float *)(void *)packed + (size_t)(i * nr) * row);
        }
    }
}

void npi_screen_panel(const npi_screen *s, const npi_strip *strip, int panel, const float *base,
                      uint32_t *mask) {
    _Alignas(64) float product[NPI_PANEL_ROWS * NPI_PANEL_COLUMNS];
    uint32_t passed[NPI_PANEL_ROWS];
    const npi_math *math = s->math;
    const char *rows = s->packed, *columns = strip->packed;
    size_t element = s->bytes ? 1 : sizeof(float), depth = (size_t)s->depth;
    int nr = s->bytes ? math->bytes.nr : math->nr;
    rows += (size_t)panel * (size_t)s->mr * depth * element;
    for (int w = 0; w * NPI_PANEL_COLUMNS < strip->rows; w++) {
        for (int j = 0; j < NPI_PANEL_COLUMNS; j += nr) {
            if (s->bytes)
                math->bytes.tile(s->depth, (const uint8_t *)rows, (const int8_t *)columns,
                                 (int32_t *)(void *)product + j, NPI_PANEL_COLUMNS);
            else
                math->tile(s->depth, (const float *)(const void *)rows,
                           (const float *)(const void *)columns, product + j, NPI_PANEL_COLUMNS,
                           false);
            columns += (size_t)nr * depth * element;
        }
        math->screen(s->mr, product, s->bytes, base, &s->rows[panel], &strip->columns[w], passed);
        int there = strip->rows - w * NPI_PANEL_COLUMNS;
        uint32_t valid = there < NPI_PANEL_COLUMNS ? (1u << there) - 1u : ~0u;
        for (int i = 0; i < s->mr; i++)
            mask[i * NPI_STRIP_WORDS + w] = passed[i] & valid;
    }
}
