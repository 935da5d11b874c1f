/* devices/cpu/cpu_conv_parts.h - what both files of the convolutions use. */
#ifndef NPI_DEVICES_CPU_CONV_PARTS_H
#define NPI_DEVICES_CPU_CONV_PARTS_H

#include "devices/cpu/cpu_conv.h"

enum { NPI_BLOCK_BYTES = NPI_IMAGES * NPI_IMAGES * 4 };

static inline size_t npi_round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/* Number of the pixel that tap (ky, kx) of output pixel (y, x) reads, or -1. */
int npi_source(const npi_conv *conv, int y, int x, int ky, int kx);

/* gathered[32][k]: the taps of output pixel (y, x) side by side, zero where a source is missing;
 * what fills k up was zeroed before and stays. */
void npi_gather_pixel(const npi_conv *conv, const char *image, int y, int x, char *gathered);

/* Winograd's way, cpu_winograd.c.  The plan is changed where that way is faster. */
void npi_wino_plan(npi_conv *conv);
void npi_wino_pack(const npi_conv *conv, const npi_pack *job, void *packed, char *scratch);
void npi_wino_run(const npi_conv *conv, const void *x, const void *packed, const npi_conv_out *out,
                  char *scratch);

/* A thread's part of the scratch: a block of sums, lists of operands, a gathered pixel. */
typedef struct npi_workplace {
    float *block;
    const char **a, **b;
    char *gathered;
} npi_workplace;

static inline npi_workplace npi_workplace_of(char *scratch, size_t lists) {
    size_t list_bytes = npi_round_up(lists * sizeof(char *), 64);
    npi_workplace place = {.block = (float *)(void *)scratch};
    place.a = (const char **)(void *)(scratch + NPI_BLOCK_BYTES);
    place.b = (const char **)(void *)(scratch + NPI_BLOCK_BYTES + list_bytes);
    place.gathered = scratch + NPI_BLOCK_BYTES + 2 * list_bytes;
    return place;
}

#endif
