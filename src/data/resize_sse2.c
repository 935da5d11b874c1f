/* The passes with SSE2, which every x86-64 has: products of 16-bit numbers, two of which are added in one go. */
#ifdef __x86_64__
#include <emmintrin.h>
#include <string.h>

#include "data/resize_passes.h"

enum { ROWS = 4, TAPS = 2, REACH = 1, COLUMNS = 16, HALF = 1 << (NPI_RESIZE_BITS - 1) };

/* Four whole sums, clipped as 16-bit numbers are; packus brings them to 0..255. */
static __m128i meet(__m128i low, __m128i high) {
    __m128i sum = _mm_add_epi32(low, _mm_slli_epi32(high, NPI_RESIZE_LOW_BITS));
    return _mm_srai_epi32(sum, NPI_RESIZE_BITS);
}

/* Two neighbouring pixels as 16-bit r0 r1 g0 g1 b0 b1, and two numbers of no use.  Reads seven bytes. */
static __m128i load_two(const uint8_t *from) {
    int32_t a, b;
    memcpy(&a, from, sizeof a);
    memcpy(&b, from + 3, sizeof b);
    __m128i bytes = _mm_unpacklo_epi8(_mm_cvtsi32_si128(a), _mm_cvtsi32_si128(b));
    return _mm_unpacklo_epi8(bytes, _mm_setzero_si128());
}

static inline void pixels_across(const uint8_t *const from[ROWS], size_t at, const int32_t *low,
                                 const int32_t *high, int steps, uint8_t *const to[ROWS]) {
    __m128i sum[ROWS], rest[ROWS];
    for (int r = 0; r < ROWS; r++) {
        sum[r] = _mm_set1_epi32(HALF);
        rest[r] = _mm_setzero_si128();
    }
    for (int k = 0; k < steps; k++) {
        __m128i l = _mm_set1_epi32(low[k]), h = _mm_set1_epi32(high[k]);
        for (int r = 0; r < ROWS; r++) {
            __m128i x = load_two(from[r] + at + 6 * (size_t)k);
            sum[r] = _mm_add_epi32(sum[r], _mm_madd_epi16(x, l));
            rest[r] = _mm_add_epi32(rest[r], _mm_madd_epi16(x, h));
        }
    }
    for (int r = 0; r < ROWS; r++) {
        __m128i words = _mm_packs_epi32(meet(sum[r], rest[r]), _mm_setzero_si128());
        int32_t pixel = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
        memcpy(to[r], &pixel, 3);
    }
}

static inline void columns_down(const uint8_t *from, size_t stride, const int32_t *low,
                                const int32_t *high, int n, uint8_t *to) {
    const __m128i zero = _mm_setzero_si128();
    __m128i sum[4], rest[4];
    for (int i = 0; i < 4; i++) {
        sum[i] = _mm_set1_epi32(HALF);
        rest[i] = zero;
    }
    for (int k = 0; k < n; k += 2, from += 2 * stride) {
        /* a last odd row stands beside zeros, not beside what lies behind the image */
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)from);
        __m128i b =
            k + 1 < n ? _mm_loadu_si128((const __m128i *)(const void *)(from + stride)) : zero;
        __m128i first = _mm_unpacklo_epi8(a, b), second = _mm_unpackhi_epi8(a, b);
        __m128i x[4] = {_mm_unpacklo_epi8(first, zero), _mm_unpackhi_epi8(first, zero),
                        _mm_unpacklo_epi8(second, zero), _mm_unpackhi_epi8(second, zero)};
        __m128i l = _mm_set1_epi32(low[k / 2]), h = _mm_set1_epi32(high[k / 2]);
        for (int i = 0; i < 4; i++) {
            sum[i] = _mm_add_epi32(sum[i], _mm_madd_epi16(x[i], l));
            rest[i] = _mm_add_epi32(rest[i], _mm_madd_epi16(x[i], h));
        }
    }
    __m128i left = _mm_packs_epi32(meet(sum[0], rest[0]), meet(sum[1], rest[1])),
            right = _mm_packs_epi32(meet(sum[2], rest[2]), meet(sum[3], rest[3]));
    _mm_storeu_si128((__m128i *)(void *)to, _mm_packus_epi16(left, right));
}

#include "data/resize_loops.inc"

const npi_resize_passes npi_resize_sse2 = NPI_RESIZE_PASSES;
#else
typedef int npi_resize_sse2_empty;
#endif
