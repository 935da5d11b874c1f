/* data/resize_passes.h - the two passes of a resize, and the weights they take.
 *
 *     out[i] = clip((2^21 + sum over k of weight[i][k] * in[start[i] + k]) >> 22)
 *
 * along rows (across) or columns (down), on each channel.  The sums are whole numbers modulo 2^32, so that every way
 * to take them gives the same bytes. */
#ifndef NPI_DATA_RESIZE_PASSES_H
#define NPI_DATA_RESIZE_PASSES_H

#include "data/dataset.h"

/* Bits of a weight behind the point; lower bits of one that vector code takes apart: w = high * 2^15 + low, both of
 * which are 16-bit numbers with a sign. */
enum { NPI_RESIZE_BITS = 32 - 8 - 2, NPI_RESIZE_LOW_BITS = 15 };

/* Of each output position: where its source starts, how many there are, their weights. */
typedef struct npi_axis {
    int positions, widest;
    int *start, *count;
    int32_t *weights; /* [positions][widest] */
    /* The weights again for vector code: low and high of two in a word, the first in its lower half, with zeros up to
     * a multiple of four. */
    int pairs;           /* of a position, even */
    int32_t *low, *high; /* [positions][pairs] */
} npi_axis;

/* Allocates the arrays, all zero. */
NPOS_MUST_CHECK npos_status npi_axis_alloc(int positions, int widest, npi_axis *out);
void npi_axis_clear(npi_axis *axis);
/* Fills low and high; to be called when the weights stand. */
void npi_axis_pair(npi_axis *axis);

/* Images have 1 or 3 channels, out as many as in. */
typedef struct npi_resize_passes {
    /* Rows first_row.. of `in`, whose columns are those of the source from first_column on, to out's height; its
     * width is the axis' positions. */
    void (*across)(const npi_image *in, int first_row, int first_column, const npi_axis *axis,
                   npi_image *out);
    /* Columns first_column.. of `in`, whose rows are those of the source from first_row on, to out's width; its
     * height is the axis' positions. */
    void (*down)(const npi_image *in, int first_row, int first_column, const npi_axis *axis,
                 npi_image *out);
} npi_resize_passes;

extern const npi_resize_passes npi_resize_plain; /* in loops, for any processor */
#ifdef __x86_64__
extern const npi_resize_passes npi_resize_sse2, npi_resize_avx2;
#endif

/* The fastest that this processor has. */
const npi_resize_passes *npi_resize_best(void);

#endif
