/* devices/cpu/cpu_kernels_avx2.c - float32 kernels for AVX2 and FMA: 12 of 16 registers hold
 * sums. */
#include "devices/cpu/cpu_kernels.h"

#if defined(__AVX2__)
#define KERNELS npi_kernels_avx2
#define KERNELS_NAME "avx2"
#define KERNELS_ROWS 6
#define KERNELS_VECS 2
#define KERNELS_BF16 0
#include "devices/cpu/cpu_kernels.inc"
#endif
