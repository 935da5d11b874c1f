#if defined(__x86_64__)
#include <immintrin.h>

#include "devices/cpu/cpu_math_loops.h"

enum { MR = 6, NR = 16 };

static void tile(int depth, const float *a, const float *b, float *c, ptrdiff_t ldc, bool add) {
    __m256 sum[MR][2];
#pragma GCC unroll 6
    for (int i = 0; i < MR; i++)
        sum[i][0] = sum[i][1] = _mm256_setzero_ps();
    for (int p = 0; p < depth; p++) {
        __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
#pragma GCC unroll 6
        for (int i = 0; i < MR; i++) {
            __m256 x = _mm256_broadcast_ss(a + i);
            sum[i][0] = _mm256_fmadd_ps(x, b0, sum[i][0]);
            sum[i][1] = _mm256_fmadd_ps(x, b1, sum[i][1]);
        }
        a += MR;
        b += NR;
    }
#pragma GCC unroll 6
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            float *at = c + i * ldc + 8 * h;
            if (add)
                sum[i][h] = _mm256_add_ps(_mm256_loadu_ps(at), sum[i][h]);
            _mm256_storeu_ps(at, sum[i][h]);
        }
}

static int count_above(int n, const float *x, float limit) {
    const __m256 t = _mm256_set1_ps(limit);
    __m256i counts = _mm256_setzero_si256(), more = counts;
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        __m256 m = _mm256_cmp_ps(_mm256_loadu_ps(x + i), t, _CMP_GT_OQ);
        __m256 m1 = _mm256_cmp_ps(_mm256_loadu_ps(x + i + 8), t, _CMP_GT_OQ);
        counts = _mm256_sub_epi32(counts, _mm256_castps_si256(m));
        more = _mm256_sub_epi32(more, _mm256_castps_si256(m1));
    }
    int32_t lane[8];
    _mm256_storeu_si256((__m256i *)(void *)lane, _mm256_add_epi32(counts, more));
    int count = 0;
    for (int l = 0; l < 8; l++)
        count += lane[l];
    for (; i < n; i++)
        count += x[i] > limit;
    return count;
}

static int gather_between(int n, const float *x, float low, float high, float *to) {
    const __m256 l = _mm256_set1_ps(low), h = _mm256_set1_ps(high);
    int count = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        unsigned mask = (unsigned)_mm256_movemask_ps(
            _mm256_and_ps(_mm256_cmp_ps(v, l, _CMP_GT_OQ), _mm256_cmp_ps(v, h, _CMP_LE_OQ)));
        for (; mask; mask &= mask - 1)
            to[count++] = x[i + __builtin_ctz(mask)];
    }
    for (; i < n; i++)
        if (x[i] > low && x[i] <= high)
            to[count++] = x[i];
    return count;
}

static void screen(int rows, int columns, const void *product, bool whole, const float *base,
                   const npi_screen_rows *r, const npi_screen_columns *c, int first,
                   npi_hits *hits) {
    const uint64_t there = ~UINT64_C(0) >> (NPI_PANEL_COLUMNS - columns);
    const float *p = product;
    (void)whole; /* no products of bytes here */
    for (int i = 0; i < rows; i++, p += NPI_PANEL_COLUMNS) {
        float limit = base[i] - r->error[i] * c->norm - c->slack;
        const __m256 l = _mm256_set1_ps(limit), f = _mm256_set1_ps(r->factor[i]),
                     e = _mm256_set1_ps(r->norm[i]);
        uint64_t passed = 0;
        for (int j = 0; j < NPI_PANEL_COLUMNS; j += 8) {
            __m256 t = _mm256_fmsub_ps(_mm256_loadu_ps(p + j), _mm256_loadu_ps(c->scale + j),
                                       _mm256_loadu_ps(c->offset + j));
            __m256 s = _mm256_fmsub_ps(f, t, _mm256_loadu_ps(c->square + j));
            s = _mm256_fmadd_ps(e, _mm256_loadu_ps(c->error + j), s);
            passed |= (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(s, l, _CMP_NLT_UQ)) << j;
        }
        npi_hits *to = &hits[i];
        for (passed &= there; passed; passed &= passed - 1)
            to->hit[to->count++].column = first + __builtin_ctzll(passed);
    }
}

const npi_math npi_math_avx2 = {
    .mr = MR,
    .nr = NR,
    .tile = tile,
    .count_above = count_above,
    .gather_between = gather_between,
    .keep = loop_keep,
    .screen = screen,
    .near = loop_near,
    .centre = loop_centre,
    .combine = loop_combine,
    .dot = loop_dot,
    .distance = loop_distance,
    .normals = loop_normals,
    .sgd = loop_sgd,
    .softmax = loop_softmax,
    .act = loop_act,
    .act_back = loop_act_back,
    .layer_norm = loop_layer_norm,
};
#else
typedef int npi_cpu_math_avx2_empty;
#endif
