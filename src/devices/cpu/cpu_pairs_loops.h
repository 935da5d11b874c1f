/* devices/cpu/cpu_pairs_loops.h - rounding to bf16 and packing, for the files of instruction sets that contain AVX512-BF16. */
#ifndef NPI_DEVICES_CPU_PAIRS_LOOPS_H
#define NPI_DEVICES_CPU_PAIRS_LOOPS_H

#include "devices/cpu/cpu_pairs.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>
#include <string.h>

static inline __mmask16 pair_lanes(int n) {
    return (__mmask16)(n >= 16 ? 0xffffu : n <= 0 ? 0u : 0xffffu >> (16 - n));
}

/* 16 words of x[0..31], of which `left` are there. */
static inline __m512i sixteen_pairs(const float *x, int left) {
    return (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(pair_lanes(left - 16), x + 16),
                                        _mm512_maskz_loadu_ps(pair_lanes(left), x));
}

/* to[q * width + i] = pair q < pairs of row i < there, zeros past `depth` and `there`. */
static inline void pack_pairs(int width, int there, int depth, int pairs, const float *from,
                              ptrdiff_t step, uint32_t *to) {
    if (there < width)
        memset(to, 0, (size_t)pairs * (size_t)width * sizeof *to);
    for (int q = 0; q < pairs; q += 16) { /* two cache lines of each row at a time */
        const int words = pairs - q < 16 ? pairs - q : 16;
        for (int i = 0; i < there; i++) {
            _Alignas(64) uint32_t both[16];
            _mm512_store_si512(both, sixteen_pairs(from + i * step + 2 * q, depth - 2 * q));
            for (int l = 0; l < words; l++)
                to[(ptrdiff_t)(q + l) * width + i] = both[l];
        }
    }
}

#endif
#endif
