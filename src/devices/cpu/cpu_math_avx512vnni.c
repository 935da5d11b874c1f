#if defined(__x86_64__)
#include "devices/cpu/cpu_math_bytes.h"

static inline __attribute__((always_inline)) void
tile_some(int rows, int depth, const uint8_t *a, const int8_t *b, int32_t *c, ptrdiff_t ldc) {
    __m512i sum[MR][2];
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++)
        sum[i][0] = sum[i][1] = _mm512_setzero_si512();
    for (int p = 0; p < depth; p += 4) {
        __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
#pragma GCC unroll 14
        for (int i = 0; i < rows; i++) {
            int32_t four;
            memcpy(&four, a + 4 * i, sizeof four);
            __m512i x = _mm512_set1_epi32(four);
            sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], x, b0);
            sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], x, b1);
        }
        a += 4 * MR;
        b += 4 * NR;
    }
#pragma GCC unroll 14
    for (int i = 0; i < rows; i++) {
        _mm512_storeu_si512(c + i * ldc, sum[i][0]);
        _mm512_storeu_si512(c + i * ldc + 16, sum[i][1]);
    }
}

static void tile_bytes(int rows, int depth, const uint8_t *a, const int8_t *b, int32_t *c,
                       ptrdiff_t ldc) {
    if (rows > MR / 2)
        tile_some(MR, depth, a, b, c, ldc);
    else
        tile_some(MR / 2, depth, a, b, c, ldc);
}

const npi_math npi_math_avx512vnni = {
    .mr = MR,
    .nr = NR,
    .tile = tile,
    .bytes = {.mr = MR,
              .nr = NR,
              .depth = 4,
              .tile = tile_bytes,
              .round = round_bytes,
              .pack = pack_bytes,
              .dots = dots_bytes},
    .count_above = count_above,
    .gather_between = gather_between,
    .keep = keep,
    .screen = screen,
    .near = near,
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
typedef int npi_cpu_math_avx512vnni_empty;
#endif
