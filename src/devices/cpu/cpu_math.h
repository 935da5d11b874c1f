/* devices/cpu/cpu_math.h - the inner loops that linear layers, neighbours and synthesis share.
 *
 * One matrix product serves all three: operands are packed into panels, and a micro-kernel sums
 * over the whole depth in order of the depth, so an element of a product has the same bits wherever
 * it stands in the matrix, however the work is shared among threads, and with its two operands
 * exchanged.
 *
 *   rows panel    a[p * mr + i]   i < mr rows of the left operand, p < depth
 *   columns panel b[p * nr + j]   j < nr columns of the right operand
 *
 * Rows and columns that pad a panel are zero.  The panels of bytes hold four of the depth side by
 * side: a[((p / 4) * mr + i) * 4 + p % 4], but where npi_math_bytes says otherwise. */
#ifndef NPI_DEVICES_CPU_MATH_H
#define NPI_DEVICES_CPU_MATH_H

#include <stddef.h>

#include "devices/cpu/cpu.h"

enum {
    NPI_PANEL_ROWS = 32,    /* no kernel has more rows in a panel */
    NPI_PANEL_COLUMNS = 64, /* every kernel has a divisor of this many columns in a panel */
    NPI_STRIP = 384         /* no more columns are screened before their pairs are measured */
};

/* The columns of a strip that passed for one row, and their products where these are whole.  What is
 * written at a time lies in one cache line mostly. */
typedef struct npi_hit {
    int32_t column, product;
} npi_hit;
typedef struct npi_hits {
    _Alignas(64) int count;
    npi_hit hit[NPI_STRIP + 3];
} npi_hits;

/* A row in two bytes a number: from[i] is about scale (high[i] + low[i] / NPI_LOW). */
enum { NPI_LOW = 254 };
typedef struct npi_rounded {
    float scale;
    int32_t sum, both;     /* of high, and of high and low */
    double rough, precise; /* sums of squares of from[i] less scale high[i], and less all of it */
} npi_rounded;

/* Products of byte panels, where the processor has them (tile not NULL). */
typedef struct npi_math_bytes {
    int mr, nr;      /* rows and columns of a tile */
    int depth;       /* the depth is padded by zeros to a multiple of this */
    bool plain_rows; /* a rows panel is a[i * depth + p], not fours */
    /* c[i * ldc + j] = sum over p < depth of a[p][i] b[p][j], i < rows at least; all of c's tile may
     * be written. */
    void (*tile)(int rows, int depth, const uint8_t *a, const int8_t *b, int32_t *c, ptrdiff_t ldc);
    /* Rounds a row of finite numbers; no byte is -128.  The sums of squares are those of the bytes
     * within 1e-4 of themselves, but for what rounding in float32 adds to the numbers. */
    void (*round)(size_t n, const float *from, int8_t *high, int8_t *low, npi_rounded *to);
    /* to = a columns panel, of rows that lie `row` bytes apart, on cache lines, and go on with zeros
     * to the next one: column j is from[j * row + p], or zero for j >= there. */
    void (*pack)(int there, int depth, const int8_t *from, size_t row, int8_t *to);
    /* to[i] = sum over p < n of a[p] b[hit[i].column n + p], i < count; n is a multiple of 64, rows
     * begin on cache lines. */
    void (*dots)(size_t n, const uint8_t *a, const int8_t *b, int count, const npi_hit *hit,
                 int32_t *to);
    void (*enter)(void), (*leave)(void); /* around a thread's tiles; may be NULL */
} npi_math_bytes;

/* What npi_math.screen needs to know of a panel of rows and of a panel of NPI_PANEL_COLUMNS columns
 * (cpu_ood_screen.h has the meaning). */
typedef struct npi_screen_rows {
    float factor[NPI_PANEL_ROWS], norm[NPI_PANEL_ROWS], error[NPI_PANEL_ROWS];
} npi_screen_rows;
typedef struct npi_screen_columns {
    float scale[NPI_PANEL_COLUMNS], offset[NPI_PANEL_COLUMNS], square[NPI_PANEL_COLUMNS],
        error[NPI_PANEL_COLUMNS];
    float norm, slack; /* of all columns */
} npi_screen_columns;

typedef struct npi_math {
    int mr, nr;
    /* c[i * ldc + j] = (add ? c : 0) + sum over p < depth of a[p][i] b[p][j]; a whole mr x nr tile
     * is written. */
    void (*tile)(int depth, const float *a, const float *b, float *c, ptrdiff_t ldc, bool add);
    npi_math_bytes bytes;

    /* Number of x[i] > limit. */
    int (*count_above)(int n, const float *x, float limit);
    /* Copies the x[i] with low < x[i] <= high to `to` (room for n + 16) in order; their number. */
    int (*gather_between)(int n, const float *x, float low, float high, float *to);
    /* Keeps the entries i with lower[i] >= least, in order (up to 16 more may be written); their
     * number. */
    int (*keep)(int n, float least, float *lower, float *upper, int32_t *index);
    /* Appends column first + j to hits[i], i < rows, for each j < columns
     * (<= NPI_PANEL_COLUMNS) but those where
     *     factor[i] (scale[j] c - offset[j]) - square[j] + norm[i] error[j]
     *         < base[i] - error[i] norm - slack
     * (norm[i] and error[i] of the row, the others of the columns) for c = product[i *
     * NPI_PANEL_COLUMNS + j], which is int32_t where `whole` (and then appended too), else float;
     * where a side is NaN it passes. */
    void (*screen)(int rows, int columns, const void *product, bool whole, const float *base,
                   const npi_screen_rows *of_rows, const npi_screen_columns *of_columns, int first,
                   npi_hits *hits);
    /* to[i] = the squared distance of the n numbers at q to those at bank + row[i] * n, i < count,
     * in float32: off by less than (n / 16 + 16) 2^-24 of itself (npi_near_error). */
    void (*near)(size_t n, const float *q, const float *bank, int count, const int32_t *row,
                 float *to);
    /* to = from - centre; returns the sum of squares of `to` (as near's error). */
    float (*centre)(size_t n, const float *from, const float *centre, float *to);
    /* to[i] = base[i] * scale + x[i] * sigma */
    void (*combine)(int n, const float *base, float scale, const float *x, float sigma, float *to);
    /* Sum of a[i] b[i] and of (a[i] - b[i])^2 in float64: 16 lanes by i % 16, then a tree. */
    double (*dot)(size_t n, const float *a, const float *b);
    double (*distance)(size_t n, const float *a, const float *b);
    /* Two standard normals for each 64 bits of Philox: to[d], d < n, of draw `item`
     * (npi_normal_pair's formula, its logarithm, sine and cosine within 2e-7). */
    void (*normals)(uint64_t seed, uint32_t purpose, uint64_t step, uint32_t item, int n,
                    float *to);
    /* One shard of PyTorch's SGD (npi_optim_ops.sgd), gradients scaled by clip. */
    void (*sgd)(size_t n, float clip, float rate, float momentum, float decay, bool nesterov,
                float *weights, const float *grads, float *velocity);

    /* x = softmax(scale x), n >= 1 */
    void (*softmax)(int n, float scale, float *x);
    /* to = act(x); to may be x */
    void (*act)(npi_block_act kind, size_t n, const float *x, float *to);
    /* x = g act'(x) */
    void (*act_back)(npi_block_act kind, size_t n, const float *g, float *x);
    /* One row of npi_rows_ops.layer_norm_forward. */
    void (*layer_norm)(int d, const float *x, const float *gamma, const float *beta, float *y,
                       float *stats);
} npi_math;

/* The kernels of an instruction set. */
const npi_math *npi_math_of(npi_isa isa);

extern const npi_math npi_math_generic;
#if defined(__x86_64__)
extern const npi_math npi_math_avx2, npi_math_avx512, npi_math_avx512vnni, npi_math_amx;
#endif

/* to = panel number `panel` (`width` rows) of a matrix of `rows` rows: element (i, p) is
 * from[i * row_stride + p * depth_stride].  Serves for columns too, and moves any 4-byte words. */
void npi_pack_panel(int width, int panel, int rows, int depth, const float *from,
                    ptrdiff_t row_stride, ptrdiff_t depth_stride, float *to);

/* The k-th largest (k = 1: the largest) of x[n]; room: n + 16 floats.  `guess` is where the last
 * call of a similar row ended and speeds up the search, never the result; start it at zeros.
 * x without NaN; NaN where fewer than k values are comparable. */
typedef struct npi_kth_guess {
    float value, density; /* values per unit around it */
} npi_kth_guess;
float npi_kth_largest(const npi_math *math, int n, const float *x, int k, npi_kth_guess *guess,
                      float *room);

/* Moves the k largest of value[n], with their indices, to the front (index may be NULL); returns
 * the k-th largest. 1 <= k <= n. */
float npi_quickselect(float *value, int32_t *index, int n, int k);

/* c[m][n] (ldc) = (add ? c : 0) + a b, then + bias by column (may be NULL), then max(0, .) with
 * relu. Element (i, p) of a: a[i * a_row + p * a_col]; (p, j) of b: b[p * b_row + j * b_col]. */
typedef struct npi_gemm {
    int m, n, k;
    const float *a;
    ptrdiff_t a_row, a_col;
    const float *b;
    ptrdiff_t b_row, b_col;
    float *c;
    ptrdiff_t ldc;
    bool add, relu;
    const float *bias;
} npi_gemm;
npos_status npi_cpu_gemm(npi_device *dev, const npi_gemm *gemm);

/* The same by the calling thread alone, in `room`: npi_cpu_product_floats of sizes that are not
 * smaller, 64-byte aligned.  For operands that fit the caches. */
void npi_cpu_product(const npi_math *math, const npi_gemm *gemm, float *room);
size_t npi_cpu_product_floats(const npi_math *math, int m, int n, int k);

/* to[j] = sum over i < n of rows[i * step + j] in float64, rows in order, j < width. */
void npi_cpu_column_sums(int threads, int n, int width, const float *rows, ptrdiff_t step,
                         float *to);

/* *out = at least `bytes` of the device's own scratch, 64-byte aligned, contents undefined; valid
 * until the next call.  It grows when asked for more than ever before, so a repeated step allocates
 * nothing. */
NPOS_MUST_CHECK npos_status npi_cpu_scratch(npi_device *dev, size_t bytes, void *out);

/* Bytes rounded up so that the next piece of scratch starts on a cache line. */
static inline size_t npi_cpu_room(size_t count, size_t size) {
    return (count * size + 63) / 64 * 64 + 64;
}

#endif
