/* devices/cpu/cpu_kernels_avx512bf16.c - bfloat16 kernels for AVX512 with vdpbf16ps. */
#include "devices/cpu/cpu_kernels.h"

#if defined(__AVX512BF16__)
#define KERNELS npi_kernels_avx512bf16
#define KERNELS_NAME "avx512bf16"
#define KERNELS_ROWS 8
#define KERNELS_VECS 2
#define KERNELS_BF16 1
#include "devices/cpu/cpu_kernels.inc"
#endif
