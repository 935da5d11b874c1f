/* devices/cpu/cpu_kernels.h - the inner loops of the convolution units, one table per instruction
 * set and precision.
 *
 * Everything that multiplies is one routine, `multiply`: a block of 32 x 32 float32 sums
 *
 *     out[r][j] (+)= sum over i < count, k of  A_i[r][k] * B_i[k][j]          r < rows, j < 32
 *
 * over a list of pairs of small matrices.  What the matrices are is the caller's business
 * (cpu_conv.c): forward, A_i is an input pixel (32 images x channels) and B_i the weights of one
 * tap; backward by data, A_i is a pixel of dy and B_i the transposed weights; backward by weights,
 * A_i is a transposed pixel of x and B_i one of dy.  So AVX2, AVX512, AVX512-BF16 and AMX share all
 * index arithmetic and differ in this routine alone.
 *
 * A "word" is 4 bytes of k: one float32 or a pair of bfloat16.  B's columns lie in panels of 16:
 * B[word][16] float32, or B[word][16][2] bfloat16, which is also the layout of AMX's second
 * operand. */
#ifndef NPI_DEVICES_CPU_KERNELS_H
#define NPI_DEVICES_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/cpu/cpu.h"

enum {
    NPI_IMAGES = 32, /* images of a pixel; also rows and columns of a block of sums */
    NPI_PANEL = 16   /* columns of a panel of B */
};

/* All strides and offsets in bytes, those of `out` in floats. */
typedef struct npi_multiply {
    int count;
    const char *const *a, *const *b; /* [count] */
    size_t a_offset, b_offset;       /* added to every a and b */
    int rows, words;                 /* 1 <= rows <= 32 */
    size_t a_row, a_word;            /* one of them is 4 */
    size_t b_word, b_panel;
    bool accumulate;
    float *out;
    size_t out_row;
} npi_multiply;

/* What happens to a finished block of convolution sums: block[32][32], of which `cols` columns
 * exist.
 *   scale NULL:  out = block, or out += block with `add`;
 *   otherwise:   out = relu?((block - mean) * scale + beta + residual), rows from `valid` on zero.
 * stats (NULL: none), rows stats[0], stats[stats_row], stats[2 stats_row] of a channel: the shift
 * s, set to the first row's value if `first`, and the sums of block - s and of its square over the
 * first `valid` rows (the shift keeps the variance of a channel with a large mean exact). */
typedef struct npi_store {
    const float *block;
    int cols, valid;
    void *out;            /* first row */
    const void *residual; /* as out; may be NULL */
    size_t out_row;       /* bytes */
    bool add, relu, first;
    float *stats;
    size_t stats_row;
    const float *mean, *scale, *beta;
} npi_store;

/* Batch norm over pixels of 32 rows x channels; rows from `valid` on are padding.
 * Masks: 2 bytes per 16 channels of a row, bit c % 16 set where ReLU let the value pass. */
typedef struct npi_norm {
    int channels;
    const void *conv; /* the convolution's output */
    const float *mean, *scale, *beta;
    const void *residual; /* an activation to add, or NULL */
    const void *conv2;    /* the shortcut's convolution output, or NULL, with its: */
    const float *mean2, *scale2, *beta2;
    void *y;
    uint8_t *mask; /* NULL: no ReLU */
} npi_norm;

typedef struct npi_norm_back {
    int channels;
    const void *conv;
    const float *mean;
    void *dy;
    const uint8_t *mask; /* NULL: no ReLU */
    void *dresidual;     /* dy times mask is written there, or NULL */
    /* dconv = a dy + b (conv - mean) + d, written over dy */
    const float *a, *b, *d;
} npi_norm_back;

/* Weights [taps][rows][cols] float32 to panels [cols/16][taps][k][16] of the kernel's precision,
 * one panel a call; k and the columns are filled up with zeros.  transposed: column j is row j of
 * the weights and k runs over their columns. */
typedef struct npi_pack {
    const float *weights;
    int taps, rows, cols;
    bool transposed;
    bool gathered; /* k runs over taps and rows: a single tap of taps * rows */
    int k;         /* filled-up length */
} npi_pack;

typedef struct npi_kernels {
    const char *name;
    npi_dtype dtype;
    /* Each thread brackets its calls of multiply with these; either may be NULL. */
    void (*begin)(void);
    void (*end)(void);
    void (*multiply)(const npi_multiply *job);
    void (*store)(const npi_store *job);
    /* y and mask of `pixels` pixels from number `first`. */
    void (*norm)(const npi_norm *job, size_t first, size_t pixels, int valid);
    /* sums[0][c] = sum of dy mask, sums[1][c] = sum of dy mask (conv - mean), over `pixels` pixels;
     * sums has rows of sums_row floats. */
    void (*norm_sums)(const npi_norm_back *job, size_t first, size_t pixels, int valid, float *sums,
                      size_t sums_row);
    void (*norm_back)(const npi_norm_back *job, size_t first, size_t pixels, int valid);
    void (*pack)(const npi_pack *job, int panel, void *to);
    /* One pixel [32][cols] with rows of `row` elements, to [cols filled up to 32][32 images]. */
    void (*turn)(const void *pixel, size_t row, int cols, void *to);
    /* One pixel [32][cols], to panels [cols filled up to 32, /16][words of images][16]. */
    void (*panels)(const void *pixel, int cols, void *to);
    /* Winograd's F(2 x 2, 3 x 3), see cpu_winograd.c; NULL in bfloat16.  Matrices are numbered row
     * by row (3 x 3 taps, 4 x 4 pixels, 4 x 4 products, 2 x 2 blocks of sums).
     * weights: 9 matrices of `floats` floats side by side to 16, of the taps in reverse order when
     * `flipped`; input: 4 x 4 pixels to 16 matrices that begin `step` floats apart; output: 16
     * products [32][32] that begin `step` floats apart to 4 blocks side by side. */
    void (*wino_weights)(const float *taps, size_t floats, bool flipped, float *to);
    void (*wino_input)(const float *const pixels[16], size_t floats, float *to, size_t step);
    void (*wino_output)(const float *products, size_t step, float *blocks);
} npi_kernels;

extern const npi_kernels npi_kernels_generic;
extern const npi_kernels npi_kernels_avx2;
extern const npi_kernels npi_kernels_avx512;
extern const npi_kernels npi_kernels_avx512bf16;
extern const npi_kernels npi_kernels_amx;

/* Where element (n, c = 0) of a pixel of an activation lies. */
static inline size_t npi_cpu_place(npi_act act, int n, int pixel) {
    size_t pixels = (size_t)act.h * (size_t)act.w, block = (size_t)(n / NPI_IMAGES);
    size_t row = (block * pixels + (size_t)pixel) * NPI_IMAGES + (size_t)(n % NPI_IMAGES);
    return row * (size_t)act.c;
}

static inline size_t npi_mask_row(int channels) {
    return ((size_t)channels + 15) / 16 * 2;
}

#endif
