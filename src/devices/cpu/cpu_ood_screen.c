#include "devices/cpu/cpu_ood_screen.h"

#include <math.h>
#include <string.h>

static const double UNIT = 0x1p-24;
enum { MOST_BYTES = 1 << 15 }; /* 2 x 255 x 127 times as much fits 32 bits */

void npi_screen_start(npi_screen *s, const npi_math *math, int dim) {
    *s = (npi_screen){.math = math, .dim = dim, .depth = dim};
    s->bytes = math->bytes.tile && dim <= MOST_BYTES;
    s->mr = math->mr;
    /* Relative to |q'| |b'| <= (|q'|^2 + |b'|^2) / 2: a float32 product's sum is off by dim units.
     * The sum of bytes is exact; that 128 times the sum of a row's bytes is taken from it counts
     * with the row (bounds_of).  Squares: npi_math.near's error.  A dozen roundings more. */
    double steps = s->bytes ? 0.0 : dim;
    if (s->bytes) {
        s->mr = math->bytes.mr;
        s->depth = (dim + math->bytes.depth - 1) / math->bytes.depth * math->bytes.depth;
        s->width = ((size_t)dim + 63) / 64 * 64;
    }
    s->uncertainty = (steps + dim / 16.0 + 48.0) * UNIT;
}

size_t npi_screen_bytes(const npi_screen *s, int queries) {
    return ((size_t)queries + NPI_PANEL_ROWS) * (size_t)s->depth * (s->bytes ? 1 : sizeof(float));
}

size_t npi_strip_bytes(const npi_screen *s) {
    return (size_t)NPI_STRIP * (size_t)s->depth * (s->bytes ? 1 : sizeof(float));
}

size_t npi_pairs_bytes(const npi_screen *s, int rows) {
    return s->bytes ? (size_t)rows * 2 * s->width : 0;
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

/* Bounds of the distance from a rounding with such a measured square, and of the length. */
static double error_bound(const npi_screen *s, double squares, double length) {
    return (s->bytes ? sqrt(squares) * 1.0001 + 1e-18 : 0.0) + 2.0 * UNIT * length;
}

static double length_bound(const npi_screen *s, double square) {
    return sqrt(square) * (1.0 + s->uncertainty) + 1e-18;
}

/* A column's offset is rounded thrice, and multiplied by the query's scale, which is at most its
 * length / 127. */
static npi_screen_bounds bounds_of(const npi_screen *s, double square, const npi_rounded *r) {
    double length = length_bound(s, square);
    double offset = fabs((double)r->scale * r->sum) * (128.0 / 127.0) * 4.0 * UNIT;
    return (npi_screen_bounds){(float)(1.0001 * length),
                               (float)(1.0001 * (error_bound(s, r->rough, length) + offset)),
                               (float)(1.0001 * (error_bound(s, r->precise, length) + offset))};
}

void npi_screen_queries(npi_screen *s, npi_strip *strip, int panel, int n, const float *queries) {
    const npi_math *math = s->math;
    npi_screen_rows *rows = &s->rows[panel];
    size_t dim = (size_t)s->dim, depth = (size_t)s->depth, mr = (size_t)s->mr;
    int first = panel * s->mr, there = n - first < s->mr ? n - first : s->mr;
    uint8_t *pairs = s->pairs + (s->bytes ? (size_t)first * 2 * s->width : 0);
    char *to = (char *)s->packed + (size_t)panel * mr * depth * (s->bytes ? 1 : sizeof(float));
    *rows = (npi_screen_rows){.factor = {0}};
    for (int i = 0; i < there; i++) {
        float *x = strip->centred + (s->bytes ? 0 : (size_t)i * dim);
        double square = math->centre(dim, queries + (size_t)(first + i) * dim, s->centre, x);
        npi_rounded rounded = {.scale = 1.0f};
        if (!(square < 1e30))
            memset(x, 0, dim * sizeof *x); /* nobody asks for its pairs */
        if (s->bytes) {
            uint8_t *high = pairs + (size_t)i * 2 * s->width, *low = high + s->width;
            math->bytes.round(dim, x, (int8_t *)high, (int8_t *)low, &rounded);
            for (size_t j = 0; j < dim; j++) {
                high[j] ^= 128; /* as an unsigned byte: 128 more */
                low[j] ^= 128;
            }
        }
        npi_screen_query *q = &s->query[first + i];
        *q = (npi_screen_query){(float)square, rounded.scale, bounds_of(s, square, &rounded)};
        rows->factor[i] = 2.0f * rounded.scale;
        rows->norm[i] = 2.0f * q->bounds.length;
        rows->error[i] = 2.0f * q->bounds.rough;
    }
    if (!s->bytes)
        npi_pack_panel(s->mr, 0, there, s->dim, strip->centred, s->dim, 1, (float *)(void *)to);
    else if (!math->bytes.plain_rows)
        npi_pack_panel(s->mr, 0, there, s->depth / 4, (const float *)(const void *)pairs,
                       (ptrdiff_t)(2 * s->width / 4), 1, (float *)(void *)to);
    else
        for (int i = 0; i < there; i++)
            memcpy(to + (size_t)i * depth, pairs + (size_t)i * 2 * s->width, depth);
}

/* Row j of the strip, column `at` of a panel; false for one that always passes. */
static bool take_column(const npi_screen *s, npi_strip *strip, const float *from, int j,
                        npi_screen_columns *to, int at, npi_screen_bounds *bounds) {
    const npi_math *math = s->math;
    size_t dim = (size_t)s->dim;
    float *x = strip->centred + (s->bytes ? 0 : (size_t)at * dim);
    int8_t *low = strip->pairs + (s->bytes ? (size_t)j * 2 * s->width : 0), *high = low + s->width;
    npi_rounded rounded = {.scale = 1.0f};
    double square = math->centre(dim, from, s->centre, x);
    if (!(square < 1e30)) {
        memset(x, 0, dim * sizeof *x);
        memset(low, 0, s->bytes ? 2 * s->width : 0);
        return false;
    }
    if (s->bytes)
        math->bytes.round(dim, x, high, low, &rounded);
    *bounds = bounds_of(s, square, &rounded);
    to->scale[at] = rounded.scale;
    to->offset[at] = rounded.scale * (128.0f * (float)rounded.sum);
    to->square[at] = (float)square;
    to->error[at] = bounds->rough;
    strip->offset[j] = 128 * rounded.both;
    return true;
}

static float larger(float a, float b) {
    return a > b ? a : b;
}

/* One panel of the strip's columns, from row `first`. */
static void pack_columns(const npi_screen *s, npi_strip *strip, const float *bank, int first) {
    npi_screen_columns *to = &strip->columns[first / NPI_PANEL_COLUMNS];
    int there = strip->rows - first;
    there = there < NPI_PANEL_COLUMNS ? there : NPI_PANEL_COLUMNS;
    npi_screen_bounds most = {0};
    *to = (npi_screen_columns){.scale = {0}};
    for (int j = 0; j < there; j++) {
        npi_screen_bounds b = {INFINITY, INFINITY, INFINITY};
        const float *from = bank + (ptrdiff_t)strip->row[first + j] * s->dim;
        take_column(s, strip, from, first + j, to, j, &b);
        most.length = larger(most.length, b.length);
        most.rough = larger(most.rough, b.rough);
        most.precise = larger(most.precise, b.precise);
    }
    to->norm = 1.0001f * (most.length + most.rough); /* of b~ */
    to->slack = (float)(2.001 * s->uncertainty * (double)to->norm * (double)to->norm);
    strip->bounds.length = larger(strip->bounds.length, most.length);
    strip->bounds.rough = larger(strip->bounds.rough, most.rough);
    strip->bounds.precise = larger(strip->bounds.precise, most.precise);
    size_t row = (size_t)s->depth;
    char *packed = (char *)strip->packed + (size_t)first * row * (s->bytes ? 1 : sizeof(float));
    const int8_t *high = strip->pairs;
    if (s->bytes)
        high += (size_t)first * 2 * s->width + s->width;
    int nr = s->bytes ? s->math->bytes.nr : s->math->nr;
    for (int i = 0; i < NPI_PANEL_COLUMNS / nr; i++) {
        if (s->bytes)
            s->math->bytes.pack(there - i * nr, s->depth, high + (size_t)(i * nr) * 2 * s->width,
                                2 * s->width, (int8_t *)packed + (size_t)(i * nr) * row);
        else
            npi_pack_panel(nr, i, there, s->dim, strip->centred, s->dim, 1,
                           (float *)(void *)packed + (size_t)(i * nr) * row);
    }
}

void npi_screen_pack(const npi_screen *s, npi_strip *strip, const float *bank) {
    strip->bounds = (npi_screen_bounds){0};
    for (int first = 0; first < strip->rows; first += NPI_PANEL_COLUMNS)
        pack_columns(s, strip, bank, first);
}

/* What the panel's queries need next, on its way from the third cache meanwhile: part number `part`
 * of `parts`, for only so many reads can wait. */
static void fetch_pairs(const npi_screen *s, int panel, int there, int part, int parts) {
    const size_t row = 2 * s->width, lines = (size_t)there * row / 64;
    const uint8_t *pairs = s->pairs + (size_t)(panel * s->mr) * row;
    const size_t end = lines * (size_t)(part + 1) / (size_t)parts;
    for (size_t i = lines * (size_t)part / (size_t)parts; i < end; i++)
        __builtin_prefetch(pairs + 64 * i, 0, 2);
}

/* Where hits are written next: the tiles' operands pushed it out of the first cache. */
static void fetch_hits(const npi_strip *strip, int there) {
    for (int i = 0; i < there; i++)
        __builtin_prefetch(&strip->hits[i].hit[strip->hits[i].count], 1, 3);
}

void npi_screen_panel(const npi_screen *s, npi_strip *strip, int panel, int there,
                      const float *base) {
    _Alignas(64) float product[NPI_PANEL_ROWS * NPI_PANEL_COLUMNS];
    const npi_math *math = s->math;
    const char *rows = s->packed, *columns = strip->packed;
    size_t element = s->bytes ? 1 : sizeof(float), depth = (size_t)s->depth;
    int nr = s->bytes ? math->bytes.nr : math->nr;
    rows += (size_t)panel * (size_t)s->mr * depth * element;
    for (int i = 0; i < there; i++)
        strip->hits[i].count = 0;
    for (int first = 0; first < strip->rows; first += NPI_PANEL_COLUMNS) {
        if (s->bytes)
            fetch_pairs(s, panel, there, first / NPI_PANEL_COLUMNS,
                        (strip->rows - 1) / NPI_PANEL_COLUMNS + 1);
        for (int j = 0; j < NPI_PANEL_COLUMNS; j += nr) {
            if (j + nr == NPI_PANEL_COLUMNS)
                fetch_hits(strip, there);
            if (s->bytes)
                math->bytes.tile(there, s->depth, (const uint8_t *)rows, (const int8_t *)columns,
                                 (int32_t *)(void *)product + j, NPI_PANEL_COLUMNS);
            else
                math->tile(s->depth, (const float *)(const void *)rows,
                           (const float *)(const void *)columns, product + j, NPI_PANEL_COLUMNS,
                           false);
            columns += (size_t)nr * depth * element;
        }
        int left = strip->rows - first;
        math->screen(there, left < NPI_PANEL_COLUMNS ? left : NPI_PANEL_COLUMNS, product, s->bytes,
                     base, &s->rows[panel], &strip->columns[first / NPI_PANEL_COLUMNS], first,
                     strip->hits);
    }
}

float npi_screen_margin(const npi_screen *s, const npi_strip *strip, int query) {
    if (!s->bytes)
        return INFINITY;
    const npi_screen_bounds *q = &s->query[query].bounds, *b = &strip->bounds;
    float unit = (float)s->uncertainty;
    return 2.001f * (q->length * b->precise + q->precise * (b->length + b->precise) +
                     (q->rough + q->precise) * (b->rough + b->precise)) +
           2.0f * unit * (q->length * q->length + b->length * b->length);
}

void npi_screen_measure(const npi_screen *s, const npi_strip *strip, int query,
                        const npi_hits *hits, float *to) {
    const npi_screen_query *q = &s->query[query];
    const float factor = 2.0f * q->scale, low = factor / NPI_LOW;
    int32_t dots[NPI_STRIP];
    s->math->bytes.dots(2 * s->width, s->pairs + (size_t)query * 2 * s->width, strip->pairs,
                        hits->count, hits->hit, dots);
    for (int j = 0; j < hits->count; j++) {
        int column = hits->hit[j].column, at = column % NPI_PANEL_COLUMNS;
        const npi_screen_columns *c = &strip->columns[column / NPI_PANEL_COLUMNS];
        float sum = factor * (c->scale[at] * (float)hits->hit[j].product - c->offset[at]);
        sum += low * c->scale[at] * (float)(dots[j] - strip->offset[column]);
        to[j] = q->square + c->square[at] - sum;
    }
}
