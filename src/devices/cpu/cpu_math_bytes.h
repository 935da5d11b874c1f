/* devices/cpu/cpu_math_bytes.h - rounding to bytes, shared by the files of the instruction sets that
 * contain AVX512-VNNI. */
#ifndef NPI_DEVICES_CPU_MATH_BYTES_H
#define NPI_DEVICES_CPU_MATH_BYTES_H

#include "devices/cpu/cpu_math_avx512.h"

static double round_bytes(size_t n, const float *from, int8_t *to, float *scale, int32_t *sum) {
    __m512 most = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 there = first_lanes(n - i < 16 ? (int)(n - i) : 16);
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(there, from + i)));
    }
    float largest = _mm512_reduce_max_ps(most), inverse = 0.0f;
    *scale = 0.0f;
    if (largest > 1e-30f) { /* else all are rounded to zero */
        *scale = largest / 127.0f;
        inverse = 127.0f / largest;
    }
    const __m512 times = _mm512_set1_ps(inverse), back = _mm512_set1_ps(*scale);
    __m512 errors = _mm512_setzero_ps();
    __m512i sums = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 there = first_lanes(n - i < 16 ? (int)(n - i) : 16);
        __m512 x = _mm512_maskz_loadu_ps(there, from + i);
        __m512i r = _mm512_cvtps_epi32(_mm512_mul_ps(x, times));
        r = _mm512_max_epi32(_mm512_min_epi32(r, _mm512_set1_epi32(127)), _mm512_set1_epi32(-127));
        __m512 d = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(r), back, x);
        errors = _mm512_fmadd_ps(d, d, errors);
        sums = _mm512_add_epi32(sums, r);
        _mm_mask_storeu_epi8(to + i, there, _mm512_cvtepi32_epi8(r));
    }
    *sum = _mm512_reduce_add_epi32(sums);
    return (double)_mm512_reduce_add_ps(errors);
}

#endif
