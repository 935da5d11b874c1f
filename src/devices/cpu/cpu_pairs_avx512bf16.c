/* devices/cpu/cpu_pairs_avx512bf16.c - npi_pairs by vdpbf16ps. */
#if defined(__AVX512BF16__)
#include "devices/cpu/cpu_pairs_loops.h"

enum { MR = 14, NR = 32 };

static void tile(int pairs, const uint32_t *a, const uint32_t *b, float *c, ptrdiff_t ldc,
                 bool add) {
    __m512 sum[MR][2];
#pragma GCC unroll 14
    for (int i = 0; i < MR; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int q = 0; q < pairs; q++) {
        const __m512bh b0 = (__m512bh)_mm512_load_si512(b),
                       b1 = (__m512bh)_mm512_load_si512(b + 16);
#pragma GCC unroll 14
        for (int i = 0; i < MR; i++) {
            const __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[i]);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
        }
        a += MR;
        b += NR;
    }
#pragma GCC unroll 14
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            float *at = c + i * ldc + 16 * h;
            if (add)
                sum[i][h] = _mm512_add_ps(_mm512_loadu_ps(at), sum[i][h]);
            _mm512_storeu_ps(at, sum[i][h]);
        }
}

static void pack_rows(int there, int depth, const float *from, ptrdiff_t step, uint32_t *to) {
    pack_pairs(MR, there, depth, (depth + 1) / 2, from, step, to);
}

static void pack_columns(int there, int depth, const float *from, ptrdiff_t step, uint32_t *to) {
    pack_pairs(NR, there, depth, (depth + 1) / 2, from, step, to);
}

const npi_pairs npi_pairs_avx512bf16 = {.mr = MR,
                                        .nr = NR,
                                        .depth = 2,
                                        .tile = tile,
                                        .pack_rows = pack_rows,
                                        .pack_columns = pack_columns};
#else
typedef int npi_cpu_pairs_avx512bf16_empty;
#endif
