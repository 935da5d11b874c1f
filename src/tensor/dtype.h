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

#endif
