#if defined(__x86_64__)
#include "devices/cpu/cpu_math_avx512.h"

static double round_bf16(size_t n, const float *from, uint16_t *to) {
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 there = first_lanes(n - i < 16 ? (int)(n - i) : 16);
        __m512 x = _mm512_maskz_loadu_ps(there, from + i);
        __m256i r = (__m256i)_mm512_cvtneps_pbh(x);
        _mm256_mask_storeu_epi16(to + i, there, r);
        __m512 back = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(r), 16));
        __m512 d = _mm512_sub_ps(x, back);
        sum = _mm512_fmadd_ps(d, d, sum);
    }
    return (double)_mm512_reduce_add_ps(sum);
}

static inline __m512bh pairs(const void *at) {
    return (__m512bh)_mm512_load_si512(at);
}

static void tile_bf16(int depth, const uint16_t *a, const uint16_t *b, float *c, ptrdiff_t ldc,
                      bool add) {
    __m512 sum[MR][2];
#pragma GCC unroll 14
    for (int i = 0; i < MR; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int p = 0; p < depth; p += 2) {
        __m512bh b0 = pairs(b), b1 = pairs(b + 32);
#pragma GCC unroll 14
        for (int i = 0; i < MR; i++) {
            int32_t pair;
            memcpy(&pair, a + 2 * i, sizeof pair);
            __m512bh x = (__m512bh)_mm512_set1_epi32(pair);
            sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
            sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
        }
        a += 2 * MR;
        b += 2 * NR;
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

const npi_math npi_math_avx512bf16 = {
    .mr = MR,
    .nr = NR,
    .tile = tile,
    .tile_bf16 = tile_bf16,
    .round_bf16 = round_bf16,
    .count_above = count_above,
    .gather_between = gather_between,
    .push = push,
    .combine = loop_combine,
    .dot = loop_dot,
    .distance = loop_distance,
    .normals = loop_normals,
    .sgd = loop_sgd,
};
#else
typedef int npi_cpu_math_avx512bf16_empty;
#endif
