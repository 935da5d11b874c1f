/* devices/cpu/cpu_ood_screen.h - which pairs of a query and a bank row can be nearer than a limit.
 *
 * With a centre c (any point; near the bank's mean if that shortens the rows), q' = q - c and
 * b' = b - c, the squared distance is |q'|^2 - s, s = 2 q'.b' - |b'|^2.  A block of products gives
 * s~ from roundings q~ and b~ of q' and b': bytes times a scale of the row where the processor
 * multiplies bytes, float32 elsewhere.  Then, by Cauchy-Schwarz,
 *
 *     |s~ - s| <= 2 |q'| |b' - b~| + 2 |q' - q~| |b~| + uncertainty (|q'|^2 + |b'|^2)
 *
 * where the errors of rounding are measured and the last term bounds all that float32 does.  A pair
 * with s~ below |q'|^2 - limit by more than that is farther than the limit; all others pass.  Rows
 * with a NaN, an infinity or a norm of 1e15 and more always pass. */
#ifndef NPI_DEVICES_CPU_OOD_SCREEN_H
#define NPI_DEVICES_CPU_OOD_SCREEN_H

#include "devices/cpu/cpu_math.h"

enum {
    NPI_STRIP = 256, /* bank rows at a time */
    NPI_STRIP_WORDS = NPI_STRIP / 32,
    NPI_SCREEN_MIN = 5 /* of fewer queries, packing the bank costs more than all distances */
};

typedef struct npi_screen {
    const npi_math *math;
    bool bytes;
    int dim, depth;     /* depth: dim, padded for bytes */
    int mr;             /* queries in a panel */
    double uncertainty; /* as above */
    float *centre;      /* [dim] */
    /* queries by panels: packed, what npi_math.screen wants, and |q'|^2 */
    void *packed;
    npi_screen_rows *rows;
    float *square;
} npi_screen;

/* A thread's strip of the bank. */
typedef struct npi_strip {
    int rows;
    int32_t row[NPI_STRIP]; /* their numbers in the bank */
    npi_screen_columns columns[NPI_STRIP_WORDS];
    void *packed;    /* [NPI_STRIP][depth] */
    float *centred;  /* [NPI_PANEL_COLUMNS][dim] */
    int8_t *rounded; /* [NPI_PANEL_COLUMNS][depth]; what pads the depth is zero */
} npi_strip;

/* Fills what follows from math and dim. */
void npi_screen_start(npi_screen *s, const npi_math *math, int dim);
/* Bytes of npi_screen.packed for that many queries. */
size_t npi_screen_bytes(const npi_screen *s, int queries);
/* Bytes of npi_strip.packed; rounded has a quarter of 1 / NPI_STRIP_WORDS of that with bytes. */
size_t npi_strip_bytes(const npi_screen *s);

/* Chooses the centre by `count` rows of the bank. */
void npi_screen_centre(npi_screen *s, const float *bank, int count, const int32_t *row);
/* Packs panel number `panel` of n queries; `strip` lends its buffers.  Its queries must be finite
 * and shorter than 1e15, others give rows that mean nothing. */
void npi_screen_queries(npi_screen *s, npi_strip *strip, int panel, int n, const float *queries);
/* Packs the strip's rows. */
void npi_screen_pack(const npi_screen *s, npi_strip *strip, const float *bank);
/* mask[i * NPI_STRIP_WORDS + w] bit j: whether query i of the panel and row 32 w + j of the strip
 * pass; base[i] (NPI_PANEL_ROWS of them) is npi_screen_base of its limit.  Bits beyond the strip's
 * rows are clear. */
void npi_screen_panel(const npi_screen *s, const npi_strip *strip, int panel, const float *base,
                      uint32_t *mask);

/* limit: squared distance; infinity lets all pass. */
static inline float npi_screen_base(const npi_screen *s, int query, float limit) {
    float square = s->square[query];
    return square * (float)(1.0 - 2.0 * s->uncertainty) - limit;
}

#endif
