/* devices/cpu/cpu_amx.h - AMX's tiles, for the files whose kernels use them: all eight have 16 rows of 64 bytes. */
#ifndef NPI_DEVICES_CPU_AMX_H
#define NPI_DEVICES_CPU_AMX_H

#include <stdint.h>
#include <string.h>

#if defined(__AMX_TILE__) || defined(__AMXTILE__) || defined(HAVE_EMULATED_AMX)
#include <immintrin.h>

typedef struct npi_amx_layout { /* the processor's layout of a tile configuration, 64 bytes */
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes_a_row[16];
    uint8_t rows[16];
} npi_amx_layout;

/* Around a thread's use of tiles. */
static void npi_amx_enter(void) {
    _Alignas(64) npi_amx_layout layout;
    memset(&layout, 0, sizeof layout);
    layout.palette = 1;
    for (int i = 0; i < 8; i++) {
        layout.bytes_a_row[i] = 64;
        layout.rows[i] = 16;
    }
    /* gcc 12 does not know that the instruction reads `layout` and would drop the stores */
    __asm__ volatile("" : : "r"(&layout) : "memory");
    _tile_loadconfig(&layout);
}

static void npi_amx_leave(void) {
    _tile_release();
}
#endif

#endif
