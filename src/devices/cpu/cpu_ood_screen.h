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
 * with a NaN, an infinity or a norm of 1e15 and more always pass.
 *
 * Where there are bytes, the roundings have a second byte a number (q'' = q~ + dq, b'' = b~ + db),
 * which serves for pairs that passed: q~.b~ + q~.db + dq.b~ is off by
 *
 *     |q'| |b' - b''| + |q' - q''| |b''| + |dq| |db|
 *
 * at most, a hundredth of the above.  The two further products are one, of rows twice as long. */
#ifndef NPI_DEVICES_CPU_OOD_SCREEN_H
#define NPI_DEVICES_CPU_OOD_SCREEN_H

#include "devices/cpu/cpu_math.h"

enum {
    NPI_STRIP_PANELS = NPI_STRIP / NPI_PANEL_COLUMNS,
    NPI_SCREEN_MIN = 5 /* of fewer queries, packing the bank costs more than all distances */
};

/* Bounds of a row less the centre: its length, and how far its roundings are from it. */
typedef struct npi_screen_bounds {
    float length, rough, precise;
} npi_screen_bounds;

typedef struct npi_screen_query {
    float square, scale;
    npi_screen_bounds bounds;
} npi_screen_query;

typedef struct npi_screen {
    const npi_math *math;
    bool bytes;
    int dim, depth;     /* depth: dim, padded for bytes */
    size_t width;       /* dim, padded to cache lines of bytes */
    int mr;             /* queries in a panel */
    double uncertainty; /* as above */
    float *centre;      /* [dim] */
    /* queries by panels: packed, and what npi_math.screen wants */
    void *packed;
    npi_screen_rows *rows;
    npi_screen_query *query;
    uint8_t *pairs; /* bytes: [queries][2 width], high and low ones, 128 more than they are */
} npi_screen;

/* A thread's strip of the bank. */
typedef struct npi_strip {
    int rows;
    int32_t row[NPI_STRIP]; /* their numbers in the bank */
    npi_screen_columns columns[NPI_STRIP_PANELS];
    npi_screen_bounds bounds;  /* of all rows; infinite if there is a row that always passes */
    int32_t offset[NPI_STRIP]; /* 128 times the sum of a row of pairs */
    npi_hits hits[NPI_PANEL_ROWS];
    void *packed;   /* [NPI_STRIP][depth] */
    float *centred; /* [NPI_PANEL_COLUMNS][dim] */
    int8_t *pairs;  /* bytes: [NPI_STRIP][2 width], low ones and high ones; what pads is zero */
} npi_strip;

/* Fills what follows from math and dim. */
void npi_screen_start(npi_screen *s, const npi_math *math, int dim);
/* Bytes of npi_screen.packed for that many queries. */
size_t npi_screen_bytes(const npi_screen *s, int queries);
/* Bytes of npi_strip.packed. */
size_t npi_strip_bytes(const npi_screen *s);
/* Bytes of `rows` rows of pairs. */
size_t npi_pairs_bytes(const npi_screen *s, int rows);

/* Chooses the centre by `count` rows of the bank. */
void npi_screen_centre(npi_screen *s, const float *bank, int count, const int32_t *row);
/* Packs panel number `panel` of n queries; `strip` lends its buffers.  Queries that are
 * not finite and shorter than 1e15 give rows that mean nothing. */
void npi_screen_queries(npi_screen *s, npi_strip *strip, int panel, int n, const float *queries);
/* Packs the strip's rows. */
void npi_screen_pack(const npi_screen *s, npi_strip *strip, const float *bank);
/* strip->hits[i], i < there: the rows of the strip (from 0) that pass for query i of the panel;
 * base[i] (NPI_PANEL_ROWS of them) is npi_screen_base of its limit. */
void npi_screen_panel(const npi_screen *s, npi_strip *strip, int panel, int there,
                      const float *base);
/* How far npi_screen_measure's distances for this query and strip may be from the truth: infinity
 * without bytes. */
float npi_screen_margin(const npi_screen *s, const npi_strip *strip, int query);
/* to[j] = the squared distance of the query to its j-th hit by two bytes a number. */
void npi_screen_measure(const npi_screen *s, const npi_strip *strip, int query,
                        const npi_hits *hits, float *to);

/* limit: squared distance; infinity lets all pass. */
static inline float npi_screen_base(const npi_screen *s, int query, float limit) {
    float square = s->query[query].square;
    return square * (float)(1.0 - 2.0 * s->uncertainty) - limit;
}

#endif
