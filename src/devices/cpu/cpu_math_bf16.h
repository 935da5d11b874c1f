/* devices/cpu/cpu_math_bf16.h - rounding to bfloat16, shared by the files of the instruction sets
 * that contain AVX512-BF16. */
#ifndef NPI_DEVICES_CPU_MATH_BF16_H
#define NPI_DEVICES_CPU_MATH_BF16_H

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

#endif
