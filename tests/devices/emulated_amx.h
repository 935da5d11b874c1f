/* The AMX kernels compiled with the tile instructions played by loops, so that their arithmetic of
 * addresses is tested on processors without AMX (with AVX512-BF16, which the rest of the file
 * needs).  What it does not show: that the real instructions are used rightly by the compiler. */
#ifndef NPI_TESTS_EMULATED_AMX_H
#define NPI_TESTS_EMULATED_AMX_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HAVE_EMULATED_AMX 1
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,"                  \
                   "avx512vnni")
#include <immintrin.h>
#include <string.h>

#include "tensor/dtype.h"

enum { TILE_BYTES = 64, TILE_ROWS = 16, TILES = 8 };

static _Thread_local unsigned char emulated_tiles[TILES][TILE_ROWS][TILE_BYTES];
static _Thread_local int emulated_configured;

static void emulate_config(const void *config) {
    const unsigned char *bytes = (const unsigned char *)config;
    emulated_configured = bytes[0] == 1;
    for (int i = 0; i < TILES; i++)
        emulated_configured &= bytes[16 + 2 * i] == TILE_BYTES && bytes[48 + i] == TILE_ROWS;
}

static void emulate_load(int tile, const void *from, size_t stride) {
    for (int r = 0; r < TILE_ROWS; r++)
        memcpy(emulated_tiles[tile][r], (const char *)from + (size_t)r * stride, TILE_BYTES);
}

static void emulate_store(int tile, void *to, size_t stride) {
    for (int r = 0; r < TILE_ROWS; r++)
        memcpy((char *)to + (size_t)r * stride, emulated_tiles[tile][r], TILE_BYTES);
}

/* c[m][n] += sum over pairs k of a[m][2k] b[k][2n] + a[m][2k+1] b[k][2n+1]; without a configuration
 * the result is spoilt, as the real instruction would fault. */
static inline void emulate_product(int c, int a, int b) {
    float sums[16][16];
    uint16_t left[16][32], right[16][32];
    memcpy(sums, emulated_tiles[c], sizeof sums);
    memcpy(left, emulated_tiles[a], sizeof left);
    memcpy(right, emulated_tiles[b], sizeof right);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++)
            for (int k = 0; k < 32; k++)
                sums[m][n] += emulated_configured ? npi_bf16_to_f32(left[m][k]) *
                                                        npi_bf16_to_f32(right[k / 2][2 * n + k % 2])
                                                  : 1e30f;
    memcpy(emulated_tiles[c], sums, sizeof sums);
}

/* Likewise of unsigned by signed bytes, c[m][n] += sum over fours k of a[m][4k + i] b[k][4n + i],
 * i < 4. */
static inline void emulate_bytes(int c, int a, int b) {
    int32_t sums[16][16];
    unsigned char left[16][64];
    signed char right[16][64];
    memcpy(sums, emulated_tiles[c], sizeof sums);
    memcpy(left, emulated_tiles[a], sizeof left);
    memcpy(right, emulated_tiles[b], sizeof right);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++)
            for (int k = 0; k < 64; k++)
                sums[m][n] +=
                    emulated_configured ? left[m][k] * right[k / 4][4 * n + k % 4] : 1 << 16;
    memcpy(emulated_tiles[c], sums, sizeof sums);
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#undef _tile_dpbusd
#define _tile_loadconfig emulate_config
#define _tile_release() (emulated_configured = 0)
#define _tile_loadd emulate_load
#define _tile_stored emulate_store
#define _tile_zero(tile) memset(emulated_tiles[tile], 0, sizeof emulated_tiles[tile])
#define _tile_dpbf16ps emulate_product
#define _tile_dpbusd emulate_bytes
#define __AMX_BF16__ 1
#define __AMX_INT8__ 1
#ifndef EMULATED_AMX_SOURCE
#define EMULATED_AMX_SOURCE "devices/cpu/cpu_kernels_amx.c"
#endif
#define npi_kernels_amx npi_kernels_amx_emulated
#define npi_math_amx npi_math_amx_emulated
#define npi_pairs_amx npi_pairs_amx_emulated
#include EMULATED_AMX_SOURCE
#undef npi_kernels_amx
#undef npi_math_amx
#undef npi_pairs_amx
#undef __AMX_BF16__
#undef __AMX_INT8__
#pragma GCC pop_options
#endif

#endif
