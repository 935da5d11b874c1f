/* devices/cpu/cpu_kernels_avx512.c - float32 kernels for AVX512: 16 registers hold sums. */
#include "devices/cpu/cpu_kernels.h"

#if defined(__AVX512F__)
#define KERNELS npi_kernels_avx512
#define KERNELS_NAME "avx512"
#define KERNELS_ROWS 8
#define KERNELS_VECS 2
#define KERNELS_BF16 0
#include "devices/cpu/cpu_kernels.inc"
#endif
