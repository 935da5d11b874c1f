/* devices/cpu/cpu_math_bytes.h - rows of bytes, shared by the files of the instruction sets that
 * contain AVX512-VNNI. */
#ifndef NPI_DEVICES_CPU_MATH_BYTES_H
#define NPI_DEVICES_CPU_MATH_BYTES_H

#include "devices/cpu/cpu_math_avx512.h"

typedef struct rounding {
    __m512 times, back, low_times, low_back;
    __m512 rough, precise;
    __m512i sums, low_sums;
} rounding;

/* Sixteen numbers.  The largest one becomes 127 and what is left of any is at most half a step, so
 * no byte is beyond 127, whatever is rounded on the way. */
static inline __attribute__((always_inline)) void round_some(rounding *r, __m512 x, __m128i *high,
                                                             __m128i *low) {
    __m512i h = _mm512_cvtps_epi32(_mm512_mul_ps(x, r->times));
    __m512 d = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(h), r->back, x);
    __m512i l = _mm512_cvtps_epi32(_mm512_mul_ps(d, r->low_times));
    __m512 e = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(l), r->low_back, d);
    r->rough = _mm512_fmadd_ps(d, d, r->rough);
    r->precise = _mm512_fmadd_ps(e, e, r->precise);
    r->sums = _mm512_add_epi32(h, r->sums);
    r->low_sums = _mm512_add_epi32(l, r->low_sums);
    *high = _mm512_cvtepi32_epi8(h);
    *low = _mm512_cvtepi32_epi8(l);
}

static void round_bytes(size_t n, const float *from, int8_t *high, int8_t *low, npi_rounded *to) {
    const size_t whole = n / 16 * 16;
    const __mmask16 rest = (__mmask16)((1u << (n - whole)) - 1u);
    __m512 most = _mm512_abs_ps(_mm512_maskz_loadu_ps(rest, from + whole));
    for (size_t i = 0; i < whole; i += 16)
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(from + i)));
    float largest = _mm512_reduce_max_ps(most), inverse = 0.0f;
    to->scale = 0.0f;
    if (largest > 1e-30f) { /* else all are rounded to zero */
        to->scale = largest / 127.0f;
        inverse = 127.0f / largest;
    }
    rounding r = {.times = _mm512_set1_ps(inverse),
                  .back = _mm512_set1_ps(to->scale),
                  .low_times = _mm512_set1_ps(inverse * NPI_LOW),
                  .low_back = _mm512_set1_ps(to->scale / NPI_LOW)};
    __m128i h, l;
    for (size_t i = 0; i < whole; i += 16) {
        round_some(&r, _mm512_loadu_ps(from + i), &h, &l);
        _mm_storeu_si128((__m128i *)(void *)(high + i), h);
        _mm_storeu_si128((__m128i *)(void *)(low + i), l);
    }
    round_some(&r, _mm512_maskz_loadu_ps(rest, from + whole), &h, &l);
    _mm_mask_storeu_epi8(high + whole, rest, h);
    _mm_mask_storeu_epi8(low + whole, rest, l);
    to->sum = _mm512_reduce_add_epi32(r.sums);
    to->both = to->sum + _mm512_reduce_add_epi32(r.low_sums);
    to->rough = (double)_mm512_reduce_add_ps(r.rough);
    to->precise = (double)_mm512_reduce_add_ps(r.precise);
}

/* Exchanges rows and columns of 16 x 16 words: within fours of words, then fours of these. */
static inline __attribute__((always_inline)) void turn_words(__m512i *x) {
    __m512i y[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x44);
        __m512i b = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xee);
        __m512i c = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x44);
        __m512i d = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xee);
        x[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        x[i + 4] = _mm512_shuffle_i32x4(a, c, 0xdd);
        x[i + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
        x[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

static void pack_bytes(int there, int depth, const int8_t *from, size_t row, int8_t *to) {
    for (int p = 0; p < depth; p += 64)
        for (int first = 0; first < NR; first += 16) {
            const int fours = depth - p < 64 ? (depth - p) / 4 : 16;
            __m512i x[16];
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                x[i] = first + i < there ? _mm512_load_si512(from + (size_t)(first + i) * row + p)
                                         : _mm512_setzero_si512();
            turn_words(x);
#pragma GCC unroll 16
            for (int i = 0; i < 16; i++)
                if (i < fours)
                    _mm512_store_si512(to + (p + 4 * i) * NR + 4 * first, x[i]);
        }
}

/* Products of `rows` rows, a constant: their chains of sums overlap. */
static inline __attribute__((always_inline)) void
dots_some(int rows, size_t n, const uint8_t *a, const int8_t *b, const npi_hit *hit, int32_t *to) {
    const int8_t *from[4];
    __m512i sum[4];
#pragma GCC unroll 4
    for (int l = 0; l < rows; l++) {
        from[l] = b + (size_t)hit[l].column * n;
        sum[l] = _mm512_setzero_si512();
    }
    for (size_t p = 0; p < n; p += 64) {
        __m512i x = _mm512_load_si512(a + p);
#pragma GCC unroll 4
        for (int l = 0; l < rows; l++)
            sum[l] = _mm512_dpbusd_epi32(sum[l], x, _mm512_load_si512(from[l] + p));
    }
    if (rows < 4) {
#pragma GCC unroll 4
        for (int l = 0; l < rows; l++)
            to[l] = _mm512_reduce_add_epi32(sum[l]);
        return;
    }
    __m256i half[4];
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++)
        half[l] =
            _mm256_add_epi32(_mm512_castsi512_si256(sum[l]), _mm512_extracti64x4_epi64(sum[l], 1));
    __m256i sums =
        _mm256_hadd_epi32(_mm256_hadd_epi32(half[0], half[1]), _mm256_hadd_epi32(half[2], half[3]));
    _mm_storeu_si128((__m128i *)(void *)to, _mm_add_epi32(_mm256_castsi256_si128(sums),
                                                          _mm256_extracti128_si256(sums, 1)));
}

static void dots_bytes(size_t n, const uint8_t *a, const int8_t *b, int count, const npi_hit *hit,
                       int32_t *to) {
    int r = 0;
    for (; r + 4 <= count; r += 4)
        dots_some(4, n, a, b, hit + r, to + r);
    for (; r + 2 <= count; r += 2)
        dots_some(2, n, a, b, hit + r, to + r);
    if (r < count)
        dots_some(1, n, a, b, hit + r, to + r);
}

#endif
