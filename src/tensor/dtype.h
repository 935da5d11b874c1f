/* tensor/dtype.h - element types of arrays in memory and in files. */
#ifndef NPI_TENSOR_DTYPE_H
#define NPI_TENSOR_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* code, name in messages, bytes of an element */
#define NPI_DTYPE_MAP(X)                                                                           \
    X(U8, "uint8", 1)                                                                              \
    X(F16, "float16", 2)                                                                           \
    X(BF16, "bfloat16", 2)                                                                         \
    X(F32, "float32", 4)                                                                           \
    X(F64, "float64", 8)                                                                           \
    X(I32, "int32", 4)                                                                             \
    X(I64, "int64", 8)

typedef enum npi_dtype {
#define NPI_DTYPE_ENUM(code, name, bytes) NPI_##code,
    NPI_DTYPE_MAP(NPI_DTYPE_ENUM)
#undef NPI_DTYPE_ENUM
} npi_dtype;

static inline size_t npi_dtype_bytes(npi_dtype type) {
    switch (type) {
#define NPI_DTYPE_CASE(code, name, bytes)                                                          \
    case NPI_##code:                                                                               \
        return bytes;
        NPI_DTYPE_MAP(NPI_DTYPE_CASE)
#undef NPI_DTYPE_CASE
    }
    return 0;
}

static inline const char *npi_dtype_name(npi_dtype type) {
    switch (type) {
#define NPI_DTYPE_CASE(code, name, bytes)                                                          \
    case NPI_##code:                                                                               \
        return name;
        NPI_DTYPE_MAP(NPI_DTYPE_CASE)
#undef NPI_DTYPE_CASE
    }
    return "unknown";
}

/* bfloat16 is the upper half of a float32; rounding is to nearest, ties to even; NaN stays NaN. */
static inline float npi_bf16_to_f32(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static inline uint16_t npi_f32_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* IEEE float16: 5 bits of exponent, 10 of fraction.  Every one is a float32.  The other way rounds
 * to nearest, ties to even, subnormals included; from 65520 on it is infinite; NaN stays NaN. */
static inline float npi_f16_to_f32(uint16_t value) {
    uint32_t sign = (uint32_t)(value & 0x8000u) << 16, rest = value & 0x7fffu, bits;
    float out;
    if (rest >= 0x7c00u) {
        bits = 0x7f800000u | (rest & 0x3ffu) << 13;
    } else if (rest >= 0x400u) {
        bits = (rest << 13) + ((127u - 15u) << 23);
    } else { /* a multiple of 2^-24 */
        out = (float)rest * 0x1p-24f;
        memcpy(&bits, &out, sizeof bits);
    }
    bits |= sign;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static inline uint16_t npi_f32_to_f16(float value) {
    uint32_t bits, sign;
    memcpy(&bits, &value, sizeof bits);
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | (bits >> 13 & 0x3ffu));
    if (bits >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00u);
    if (bits < 0x38800000u) { /* below 2^-14: adding 0.5 rounds to multiples of 2^-24 */
        float small;
        memcpy(&small, &bits, sizeof small);
        small += 0.5f;
        memcpy(&bits, &small, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t)(sign | (bits - ((127u - 15u) << 23)) >> 13);
}

#endif
