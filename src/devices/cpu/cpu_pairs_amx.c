/* devices/cpu/cpu_pairs_amx.c - npi_pairs by AMX tiles: 2 x 2 tiles of 16 x 16 sums, 4 loads and 4 products for each 32 of the
 * depth.  Rows lie whole, which is a tile's order; the columns' pairs are a tile's order too. */
#if defined(__x86_64__) &&                                                                         \
    (defined(__AMX_BF16__) || defined(__AMXBF16__)) /* gcc; clang before 17 */
#include "devices/cpu/cpu_amx.h"
#include "devices/cpu/cpu_pairs_loops.h"

enum { TILE_SIDE = 16, TILE_PAIRS = 16, SIDE = 2 * TILE_SIDE };

static void tile(int pairs, const uint32_t *a, const uint32_t *b, float *c, ptrdiff_t ldc,
                 bool add) {
    const size_t c_row = (size_t)ldc * sizeof *c, a_row = (size_t)pairs * sizeof *a,
                 b_row = SIDE * sizeof *b;
    const uint32_t *lower = a + (ptrdiff_t)TILE_SIDE * pairs;
    float *c_lower = c + TILE_SIDE * ldc;
    /* tiles read what ordinary instructions stored, and the other way round */
    __asm__ volatile("" : : : "memory");
    if (add) {
        _tile_loadd(0, c, c_row);
        _tile_loadd(1, c + TILE_SIDE, c_row);
        _tile_loadd(2, c_lower, c_row);
        _tile_loadd(3, c_lower + TILE_SIDE, c_row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int q = 0; q < pairs; q += TILE_PAIRS) {
        _tile_loadd(4, a + q, a_row);
        _tile_loadd(5, lower + q, a_row);
        _tile_loadd(6, b + (ptrdiff_t)q * SIDE, b_row);
        _tile_loadd(7, b + (ptrdiff_t)q * SIDE + TILE_SIDE, b_row);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, c_row);
    _tile_stored(1, c + TILE_SIDE, c_row);
    _tile_stored(2, c_lower, c_row);
    _tile_stored(3, c_lower + TILE_SIDE, c_row);
    __asm__ volatile("" : : : "memory");
}

/* The pairs of a panel of this depth. */
static inline int padded_pairs(int depth) {
    return (depth + 2 * TILE_PAIRS - 1) / (2 * TILE_PAIRS) * TILE_PAIRS;
}

static void pack_rows(int there, int depth, const float *from, ptrdiff_t step, uint32_t *to) {
    const int pairs = padded_pairs(depth);
    for (int i = 0; i < SIDE; i++)
        for (int q = 0; q < pairs; q += TILE_PAIRS)
            _mm512_storeu_si512(to + (ptrdiff_t)i * pairs + q,
                                sixteen_pairs(from + (i < there ? i * step : 0) + 2 * q,
                                              i < there ? depth - 2 * q : 0));
}

static void pack_columns(int there, int depth, const float *from, ptrdiff_t step, uint32_t *to) {
    pack_pairs(SIDE, there, depth, padded_pairs(depth), from, step, to);
}

const npi_pairs npi_pairs_amx = {.mr = SIDE,
                                 .nr = SIDE,
                                 .depth = 2 * TILE_PAIRS,
                                 .tile = tile,
                                 .pack_rows = pack_rows,
                                 .pack_columns = pack_columns,
                                 .enter = npi_amx_enter,
                                 .leave = npi_amx_leave};
#else
typedef int npi_cpu_pairs_amx_empty;
#endif
