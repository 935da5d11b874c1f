/* devices/cpu/cpu_math_amx.c - npi_math with products of bytes by AMX tiles: 2 x 2 tiles of 16 x 16
 * sums, 4 loads and 4 products for each 64 of the depth.  Rows lie as they are (row-major, a tile's
 * order); the columns' fours are a tile's order too. */
#if defined(__x86_64__) &&                                                                         \
    (defined(__AMX_INT8__) || defined(__AMXINT8__)) /* gcc; clang before 17 */
#include "devices/cpu/cpu_amx.h"
#include "devices/cpu/cpu_math_bytes.h"

enum { TILE_SIDE = 16, TILE_DEPTH = 64, AMX_SIDE = 32 };

static void tile_bytes(int rows, int depth, const uint8_t *a, const int8_t *b, int32_t *c,
                       ptrdiff_t ldc) {
    const size_t c_row = (size_t)ldc * sizeof *c, a_row = (size_t)depth, b_row = 4 * AMX_SIDE;
    int32_t *lower = c + TILE_SIDE * ldc;
    const uint8_t *a_lower = a + (ptrdiff_t)TILE_SIDE * depth;
    /* tiles read what ordinary instructions stored, and the other way round */
    __asm__ volatile("" : : : "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int p = 0; p < depth; p += TILE_DEPTH) {
        _tile_loadd(4, a + p, a_row);
        _tile_loadd(6, b + (ptrdiff_t)p * AMX_SIDE, b_row);
        _tile_loadd(7, b + (ptrdiff_t)p * AMX_SIDE + 4 * TILE_SIDE, b_row);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        if (rows <= TILE_SIDE)
            continue;
        _tile_loadd(5, a_lower + p, a_row);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_stored(0, c, c_row);
    _tile_stored(1, c + TILE_SIDE, c_row);
    _tile_stored(2, lower, c_row);
    _tile_stored(3, lower + TILE_SIDE, c_row);
    __asm__ volatile("" : : : "memory");
}

const npi_math npi_math_amx = {
    .mr = MR,
    .nr = NR,
    .tile = tile,
    .bytes = {.mr = AMX_SIDE,
              .nr = AMX_SIDE,
              .depth = TILE_DEPTH,
              .plain_rows = true,
              .tile = tile_bytes,
              .round = round_bytes,
              .pack = pack_bytes,
              .dots = dots_bytes,
              .enter = npi_amx_enter,
              .leave = npi_amx_leave},
    .count_above = count_above,
    .gather_between = gather_between,
    .keep = keep,
    .screen = screen,
    .near = near,
    .centre = loop_centre,
    .combine = loop_combine,
    .dot = loop_dot,
    .distance = loop_distance,
    .normals = loop_normals,
    .sgd = loop_sgd,
    .softmax = loop_softmax,
    .act = loop_act,
    .act_back = loop_act_back,
    .layer_norm = loop_layer_norm,
};
#else
typedef int npi_cpu_math_amx_empty;
#endif
