/* The passes with AVX2: resize_sse2.c's products in registers of twice the width. */
#ifdef __x86_64__
#include <immintrin.h>
#include <string.h>

#include "data/resize_passes.h"

enum { ROWS = 4, TAPS = 4, REACH = 4, COLUMNS = 32, HALF = 1 << (NPI_RESIZE_BITS - 1) };

static __m256i meet(__m256i low, __m256i high) {
    __m256i sum = _mm256_add_epi32(low, _mm256_slli_epi32(high, NPI_RESIZE_LOW_BITS));
    return _mm256_srai_epi32(sum, NPI_RESIZE_BITS);
}

/* Whole sums of two rows, of which each half of a register has a part: a's below, b's above. */
static __m256i two_rows(__m256i a, __m256i a_rest, __m256i b, __m256i b_rest) {
    a = _mm256_add_epi32(a, _mm256_slli_epi32(a_rest, NPI_RESIZE_LOW_BITS));
    b = _mm256_add_epi32(b, _mm256_slli_epi32(b_rest, NPI_RESIZE_LOW_BITS));
    __m256i sum = _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20),
                                   _mm256_permute2x128_si256(a, b, 0x31));
    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(HALF)), NPI_RESIZE_BITS);
}

/* A step is four pixels: two in each half of a register, as 16-bit r0 r1 g0 g1 b0 b1 0 0.  Reads 16 bytes for them. */
static inline void pixels_across(const uint8_t *const from[ROWS], size_t at, const int32_t *low,
                                 const int32_t *high, int steps, uint8_t *const to[ROWS]) {
    const __m256i halves = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1),
                  order =
                      _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6,
                                       -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
    __m256i sum[ROWS], rest[ROWS];
    for (int r = 0; r < ROWS; r++)
        sum[r] = rest[r] = _mm256_setzero_si256();
    for (int k = 0; k < steps; k++) {
        __m128i two = _mm_loadl_epi64((const __m128i *)(const void *)(low + 2 * k)),
                more = _mm_loadl_epi64((const __m128i *)(const void *)(high + 2 * k));
        __m256i l = _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(two), halves),
                h = _mm256_permutevar8x32_epi32(_mm256_castsi128_si256(more), halves);
        for (int r = 0; r < ROWS; r++) {
            const uint8_t *bytes = from[r] + at + 12 * (size_t)k;
            __m256i x =
                _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)bytes));
            x = _mm256_shuffle_epi8(x, order);
            sum[r] = _mm256_add_epi32(sum[r], _mm256_madd_epi16(x, l));
            rest[r] = _mm256_add_epi32(rest[r], _mm256_madd_epi16(x, h));
        }
    }
    __m256i words = _mm256_packs_epi32(two_rows(sum[0], rest[0], sum[1], rest[1]),
                                       two_rows(sum[2], rest[2], sum[3], rest[3]));
    __m256i bytes = _mm256_packus_epi16(words, words); /* rows 0 and 2 below, 1 and 3 above */
    __m128i even = _mm256_castsi256_si128(bytes), odd = _mm256_extracti128_si256(bytes, 1);
    const int32_t pixel[ROWS] = {_mm_cvtsi128_si32(even), _mm_cvtsi128_si32(odd),
                                 _mm_extract_epi32(even, 1), _mm_extract_epi32(odd, 1)};
    for (int r = 0; r < ROWS; r++)
        memcpy(to[r], &pixel[r], 3);
}

static inline void columns_down(const uint8_t *from, size_t stride, const int32_t *low,
                                const int32_t *high, int n, uint8_t *to) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum[4], rest[4];
    for (int i = 0; i < 4; i++) {
        sum[i] = _mm256_set1_epi32(HALF);
        rest[i] = zero;
    }
    for (int k = 0; k < n; k += 2, from += 2 * stride) {
        /* a last odd row stands beside zeros, not beside what lies behind the image */
        __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)from);
        __m256i b =
            k + 1 < n ? _mm256_loadu_si256((const __m256i *)(const void *)(from + stride)) : zero;
        __m256i first = _mm256_unpacklo_epi8(a, b), second = _mm256_unpackhi_epi8(a, b);
        __m256i x[4] = {_mm256_unpacklo_epi8(first, zero), _mm256_unpackhi_epi8(first, zero),
                        _mm256_unpacklo_epi8(second, zero), _mm256_unpackhi_epi8(second, zero)};
        __m256i l = _mm256_set1_epi32(low[k / 2]), h = _mm256_set1_epi32(high[k / 2]);
        for (int i = 0; i < 4; i++) {
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(x[i], l));
            rest[i] = _mm256_add_epi32(rest[i], _mm256_madd_epi16(x[i], h));
        }
    }
    /* unpacking and packing keep to each half, so that the order comes out as it went in */
    __m256i left = _mm256_packs_epi32(meet(sum[0], rest[0]), meet(sum[1], rest[1])),
            right = _mm256_packs_epi32(meet(sum[2], rest[2]), meet(sum[3], rest[3]));
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_packus_epi16(left, right));
}

#include "data/resize_loops.inc"

const npi_resize_passes npi_resize_avx2 = NPI_RESIZE_PASSES;
#else
typedef int npi_resize_avx2_empty;
#endif
