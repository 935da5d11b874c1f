/* devices/cpu/cpu_math_avx512.h - npi_math's AVX-512 loops, shared by the files of the instruction
 * sets that contain AVX-512. */
#ifndef NPI_DEVICES_CPU_MATH_AVX512_H
#define NPI_DEVICES_CPU_MATH_AVX512_H

#include <immintrin.h>

#include "devices/cpu/cpu_math_loops.h"

enum { MR = 14, NR = 32 };

static void tile(int depth, const float *a, const float *b, float *c, ptrdiff_t ldc, bool add) {
    __m512 sum[MR][2];
#pragma GCC unroll 14
    for (int i = 0; i < MR; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_ps();
    for (int p = 0; p < depth; p++) {
        __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
#pragma GCC unroll 14
        for (int i = 0; i < MR; i++) {
            __m512 x = _mm512_set1_ps(a[i]);
            sum[i][0] = _mm512_fmadd_ps(x, b0, sum[i][0]);
            sum[i][1] = _mm512_fmadd_ps(x, b1, sum[i][1]);
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

static inline __mmask16 first_lanes(int n) {
    return n >= 16 ? (__mmask16)0xffff : (__mmask16)(0xffffu >> (16 - n));
}

static int count_above(int n, const float *x, float limit) {
    const __m512 t = _mm512_set1_ps(limit);
    const __m512i one = _mm512_set1_epi32(1);
    __m512i counts = _mm512_setzero_si512(), more = counts;
    int i = 0;
    for (; i + 32 <= n; i += 32) {
        __mmask16 m = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), t, _CMP_GT_OQ);
        __mmask16 m1 = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i + 16), t, _CMP_GT_OQ);
        counts = _mm512_mask_add_epi32(counts, m, counts, one);
        more = _mm512_mask_add_epi32(more, m1, more, one);
    }
    for (; i < n; i += 16) {
        __mmask16 there = first_lanes(n - i);
        __mmask16 m =
            _mm512_mask_cmp_ps_mask(there, _mm512_maskz_loadu_ps(there, x + i), t, _CMP_GT_OQ);
        counts = _mm512_mask_add_epi32(counts, m, counts, one);
    }
    return _mm512_reduce_add_epi32(_mm512_add_epi32(counts, more));
}

static int gather_between(int n, const float *x, float low, float high, float *to) {
    const __m512 l = _mm512_set1_ps(low), h = _mm512_set1_ps(high);
    int count = 0;
    for (int i = 0; i < n; i += 16) {
        __mmask16 there = first_lanes(n - i);
        __m512 v = _mm512_maskz_loadu_ps(there, x + i);
        __mmask16 m = _mm512_mask_cmp_ps_mask(_mm512_mask_cmp_ps_mask(there, v, l, _CMP_GT_OQ), v,
                                              h, _CMP_LE_OQ);
        _mm512_storeu_ps(to + count, _mm512_maskz_compress_ps(m, v));
        count += __builtin_popcount(m);
    }
    return count;
}

static int push(int n, const float *product, const float *square, float limit, int32_t first,
                float *value, int32_t *index, int count) {
    const __m512 t = _mm512_set1_ps(limit);
    const __m512i steps = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (int i = 0; i < n; i += 16) {
        __mmask16 there = first_lanes(n - i);
        __m512 p = _mm512_maskz_loadu_ps(there, product + i);
        __m512 s = _mm512_sub_ps(_mm512_add_ps(p, p), _mm512_maskz_loadu_ps(there, square + i));
        __mmask16 m = _mm512_mask_cmp_ps_mask(there, s, t, _CMP_GE_OQ);
        if (!m)
            continue;
        __m512i ids = _mm512_add_epi32(_mm512_set1_epi32(first + i), steps);
        _mm512_storeu_ps(value + count, _mm512_maskz_compress_ps(m, s));
        _mm512_storeu_si512(index + count, _mm512_maskz_compress_epi32(m, ids));
        count += __builtin_popcount(m);
    }
    return count;
}

#endif
