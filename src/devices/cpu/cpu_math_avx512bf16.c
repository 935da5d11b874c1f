#if defined(__x86_64__)
#include "devices/cpu/cpu_math_avx512.h"
#include "devices/cpu/cpu_math_bf16.h"

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
    .bf16 = {.mr = MR, .nr = NR, .depth = 2, .tile = tile_bf16, .round = round_bf16},
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
