/* devices/cpu/cpu_vec.h - one vocabulary of vectors for the kernel files; which instructions it
 * means depends on the flags of the file that includes it.  Included by cpu_kernels_*.c only.
 *
 * VF_WIDTH float32 lanes.  An unsigned holds one bit a lane (masks). */
#ifndef NPI_DEVICES_CPU_VEC_H
#define NPI_DEVICES_CPU_VEC_H

#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

#define NPI_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include <immintrin.h>
#define VF_WIDTH 16
typedef __m512 vf;

NPI_INLINE vf vf_zero(void) {
    return _mm512_setzero_ps();
}
NPI_INLINE vf vf_all(float value) {
    return _mm512_set1_ps(value);
}
NPI_INLINE vf vf_load(const float *from) {
    return _mm512_loadu_ps(from);
}
NPI_INLINE void vf_store(float *to, vf v) {
    _mm512_storeu_ps(to, v);
}
NPI_INLINE vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
NPI_INLINE vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
NPI_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* NaN stays NaN: the comparison fails and the value is kept. */
NPI_INLINE vf vf_relu(vf v) {
    return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_LE_OQ),
                              _mm512_setzero_ps());
}
/* Lanes that ReLU lets pass. */
NPI_INLINE unsigned vf_positive(vf v) {
    return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NLE_UQ);
}
NPI_INLINE vf vf_keep(unsigned bits, vf v) {
    return _mm512_maskz_mov_ps((__mmask16)bits, v);
}
NPI_INLINE unsigned vf_bits_load(const uint8_t *from) {
    uint16_t bits;
    memcpy(&bits, from, sizeof bits);
    return bits;
}
NPI_INLINE void vf_bits_store(uint8_t *to, unsigned bits) {
    uint16_t low = (uint16_t)bits;
    memcpy(to, &low, sizeof low);
}
NPI_INLINE vf vf_load_bf16(const uint16_t *from) {
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
/* rows[i][j] becomes rows[j][i]: pairs, quads, then quarters of the register are exchanged. */
NPI_INLINE void vf_transpose(vf rows[VF_WIDTH]) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        rows[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
        rows[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
        rows[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        rows[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(rows[i], rows[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_f32x4(rows[i], rows[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_f32x4(rows[8 + i], rows[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_f32x4(rows[8 + i], rows[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        rows[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        rows[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
        rows[4 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0x88);
        rows[12 + i] = _mm512_shuffle_f32x4(t[4 + i], t[12 + i], 0xdd);
    }
}
#if defined(__AVX512BF16__)
NPI_INLINE void vf_store_bf16(uint16_t *to, vf v) {
    _mm256_storeu_si256((__m256i *)(void *)to, (__m256i)_mm512_cvtneps_pbh(v));
}
/* Lane j: the pair (low[j], high[j]) of bfloat16. */
NPI_INLINE vf vf_pairs(const uint16_t *low, const uint16_t *high) {
    __m512i a = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)low));
    __m512i b = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)high));
    return _mm512_castsi512_ps(_mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
}
/* The same of two vectors, rounded. */
NPI_INLINE vf vf_pairs_of(vf low, vf high) {
    __m512i a = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
    __m512i b = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
    return _mm512_castsi512_ps(_mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
}
/* 32 floats as 16 pairs of neighbours, rounded. */
NPI_INLINE vf vf_neighbours(const float *from) {
    return _mm512_castsi512_ps(
        (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + 16), _mm512_loadu_ps(from)));
}
#endif

#elif defined(__AVX2__)
#include <immintrin.h>
#define VF_WIDTH 8
typedef __m256 vf;

NPI_INLINE vf vf_zero(void) {
    return _mm256_setzero_ps();
}
NPI_INLINE vf vf_all(float value) {
    return _mm256_set1_ps(value);
}
NPI_INLINE vf vf_load(const float *from) {
    return _mm256_loadu_ps(from);
}
NPI_INLINE void vf_store(float *to, vf v) {
    _mm256_storeu_ps(to, v);
}
NPI_INLINE vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
NPI_INLINE vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
NPI_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
NPI_INLINE vf vf_relu(vf v) {
    return _mm256_andnot_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LE_OQ), v);
}
NPI_INLINE unsigned vf_positive(vf v) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_NLE_UQ));
}
NPI_INLINE vf vf_keep(unsigned bits, vf v) {
    const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i set = _mm256_and_si256(_mm256_set1_epi32((int)bits), lane);
    return _mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lane)), v);
}
NPI_INLINE unsigned vf_bits_load(const uint8_t *from) {
    return *from;
}
NPI_INLINE void vf_bits_store(uint8_t *to, unsigned bits) {
    *to = (uint8_t)bits;
}

NPI_INLINE void vf_transpose(vf rows[VF_WIDTH]) {
    __m256 t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        rows[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        rows[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        rows[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        rows[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(rows[i], rows[4 + i], 0x20);
        t[4 + i] = _mm256_permute2f128_ps(rows[i], rows[4 + i], 0x31);
    }
    for (int i = 0; i < 8; i++)
        rows[i] = t[i];
}

#else
#define VF_WIDTH 8
/* Two halves: GCC warns of the ABI of larger vectors where the processor has none. */
typedef float vf_half __attribute__((vector_size(16)));
typedef int32_t vf_half_bits __attribute__((vector_size(16)));
typedef struct vf {
    vf_half v[2];
} vf;

NPI_INLINE vf vf_all(float value) {
    vf_half half = {value, value, value, value};
    return (vf){{half, half}};
}
NPI_INLINE vf vf_zero(void) {
    return vf_all(0.0f);
}
NPI_INLINE vf vf_load(const float *from) {
    vf v;
    memcpy(&v, from, sizeof v);
    return v;
}
NPI_INLINE void vf_store(float *to, vf v) {
    memcpy(to, &v, sizeof v);
}
NPI_INLINE vf vf_add(vf a, vf b) {
    return (vf){{a.v[0] + b.v[0], a.v[1] + b.v[1]}};
}
NPI_INLINE vf vf_sub(vf a, vf b) {
    return (vf){{a.v[0] - b.v[0], a.v[1] - b.v[1]}};
}
NPI_INLINE vf vf_fma(vf a, vf b, vf c) {
    return (vf){{a.v[0] * b.v[0] + c.v[0], a.v[1] * b.v[1] + c.v[1]}};
}
NPI_INLINE vf_half vf_half_relu(vf_half v) {
    return (vf_half)((vf_half_bits)v & ~(v <= (vf_half){0}));
}
NPI_INLINE vf vf_relu(vf v) {
    return (vf){{vf_half_relu(v.v[0]), vf_half_relu(v.v[1])}};
}
NPI_INLINE unsigned vf_positive(vf v) {
    unsigned bits = 0;
    for (int i = 0; i < VF_WIDTH; i++)
        bits |= (unsigned)!(v.v[i / 4][i % 4] <= 0.0f) << i;
    return bits;
}
NPI_INLINE vf vf_keep(unsigned bits, vf v) {
    const vf_half_bits low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
    int32_t b = (int32_t)bits;
    vf_half_bits all = {b, b, b, b};
    return (vf){{(vf_half)((vf_half_bits)v.v[0] & ((all & low) == low)),
                 (vf_half)((vf_half_bits)v.v[1] & ((all & high) == high))}};
}
NPI_INLINE unsigned vf_bits_load(const uint8_t *from) {
    return *from;
}
NPI_INLINE void vf_bits_store(uint8_t *to, unsigned bits) {
    *to = (uint8_t)bits;
}
NPI_INLINE void vf_transpose(vf rows[VF_WIDTH]) {
    for (int i = 0; i < VF_WIDTH; i++)
        for (int j = 0; j < i; j++) {
            float value = rows[i].v[j / 4][j % 4];
            rows[i].v[j / 4][j % 4] = rows[j].v[i / 4][i % 4];
            rows[j].v[i / 4][i % 4] = value;
        }
}
#endif

#endif
