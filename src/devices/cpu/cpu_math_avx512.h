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
    return (__mmask16)(n >= 16 ? 0xffffu : 0xffffu >> (16 - n));
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

static int keep(int n, float least, float *lower, float *upper, int32_t *index) {
    const __m512 t = _mm512_set1_ps(least);
    int kept = 0;
    for (int i = 0; i < n; i += 16) {
        const __mmask16 there = first_lanes(n - i);
        __m512 l = _mm512_maskz_loadu_ps(there, lower + i),
               u = _mm512_maskz_loadu_ps(there, upper + i);
        __m512i x = _mm512_maskz_loadu_epi32(there, index + i);
        __mmask16 m = _mm512_mask_cmp_ps_mask(there, l, t, _CMP_GE_OQ);
        _mm512_storeu_ps(lower + kept, _mm512_maskz_compress_ps(m, l));
        _mm512_storeu_ps(upper + kept, _mm512_maskz_compress_ps(m, u));
        _mm512_storeu_si512(index + kept, _mm512_maskz_compress_epi32(m, x));
        kept += __builtin_popcount(m);
    }
    return kept;
}

/* The columns whose bits are set, with their products; four and more are seldom set. */
static inline void take_hits(npi_hits *to, uint64_t passed, int first, const int32_t *product) {
    const uint64_t last = UINT64_C(1) << (NPI_PANEL_COLUMNS - 1);
    int count = to->count;
#pragma GCC unroll 3
    for (int i = 0; i < 3; i++) { /* without branches: they would be guessed wrongly */
        int at = __builtin_ctzll(passed | last);
        to->hit[count] = (npi_hit){first + at, product[at]};
        count += passed != 0;
        passed &= passed - 1;
    }
    for (; passed; passed &= passed - 1) {
        int at = __builtin_ctzll(passed);
        to->hit[count++] = (npi_hit){first + at, product[at]};
    }
    to->count = count;
}

static void screen(int rows, int columns, const void *product, bool whole, const float *base,
                   const npi_screen_rows *r, const npi_screen_columns *c, int first,
                   npi_hits *hits) {
    enum { PARTS = NPI_PANEL_COLUMNS / 16 };
    const uint64_t there = ~UINT64_C(0) >> (NPI_PANEL_COLUMNS - columns);
    float limit[NPI_PANEL_ROWS];
    for (int i = 0; i < rows; i += 16) {
        __m512 l = _mm512_sub_ps(_mm512_loadu_ps(base + i), _mm512_set1_ps(c->slack));
        l = _mm512_fnmadd_ps(_mm512_loadu_ps(r->error + i), _mm512_set1_ps(c->norm), l);
        _mm512_storeu_ps(limit + i, l);
    }
    __m512 scale[PARTS], offset[PARTS], square[PARTS], error[PARTS];
#pragma GCC unroll 4
    for (int j = 0; j < PARTS; j++) {
        scale[j] = _mm512_loadu_ps(c->scale + 16 * j);
        offset[j] = _mm512_loadu_ps(c->offset + 16 * j);
        square[j] = _mm512_loadu_ps(c->square + 16 * j);
        error[j] = _mm512_loadu_ps(c->error + 16 * j);
    }
    const int32_t *p = product;
    uint64_t passed[NPI_PANEL_ROWS]; /* a wrong guess among the hits shall not cost these */
    for (int i = 0; i < rows; i++, p += NPI_PANEL_COLUMNS) {
        const __m512 f = _mm512_set1_ps(r->factor[i]), e = _mm512_set1_ps(r->norm[i]),
                     l = _mm512_set1_ps(limit[i]);
        uint64_t bits = 0;
#pragma GCC unroll 4
        for (int j = 0; j < PARTS; j++) {
            __m512i x = _mm512_loadu_si512(p + 16 * j);
            __m512 s = whole ? _mm512_cvtepi32_ps(x) : _mm512_castsi512_ps(x);
            s = _mm512_fmsub_ps(f, _mm512_fmsub_ps(s, scale[j], offset[j]), square[j]);
            s = _mm512_fmadd_ps(e, error[j], s);
            bits |= (uint64_t)_mm512_cmp_ps_mask(s, l, _CMP_NLT_UQ) << 16 * j;
        }
        passed[i] = bits & there;
    }
    p = product;
    for (int i = 0; i < rows; i++, p += NPI_PANEL_COLUMNS)
        take_hits(&hits[i], passed[i], first, p);
}

/* Four rows at a time share the loads of q, and their misses overlap. */
/* Squared distances of q and `rows` rows, a constant; the sums' order is that of `near` for any number. */
static inline __attribute__((always_inline)) void
near_some(int rows, size_t n, const float *q, const float *bank, const int32_t *row, float *to) {
    const float *b[4];
    __m512 sum[4];
#pragma GCC unroll 4
    for (int l = 0; l < rows; l++) {
        b[l] = bank + (size_t)row[l] * n;
        sum[l] = _mm512_setzero_ps();
    }
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        __m512 x = _mm512_loadu_ps(q + i);
#pragma GCC unroll 4
        for (int l = 0; l < rows; l++) {
            __m512 d = _mm512_sub_ps(x, _mm512_loadu_ps(b[l] + i));
            sum[l] = _mm512_fmadd_ps(d, d, sum[l]);
        }
    }
    const __mmask16 rest = (__mmask16)((1u << (n - i)) - 1u);
    __m512 x = _mm512_maskz_loadu_ps(rest, q + i);
#pragma GCC unroll 4
    for (int l = 0; l < rows; l++) {
        __m512 d = _mm512_sub_ps(x, _mm512_maskz_loadu_ps(rest, b[l] + i));
        to[l] = _mm512_reduce_add_ps(_mm512_fmadd_ps(d, d, sum[l]));
    }
}

static void near(size_t n, const float *q, const float *bank, int count, const int32_t *row,
                 float *to) {
    int r = 0;
    for (; r + 4 <= count; r += 4)
        near_some(4, n, q, bank, row + r, to + r);
    for (; r + 2 <= count; r += 2)
        near_some(2, n, q, bank, row + r, to + r);
    if (r < count)
        near_some(1, n, q, bank, row + r, to + r);
}

#endif
