/* devices/cpu/cpu_kernels_generic.c - float32 kernels in vector extensions, for any processor. */
#include "devices/cpu/cpu_kernels.h"

#define KERNELS npi_kernels_generic
#define KERNELS_NAME "generic"
#define KERNELS_ROWS 4
#define KERNELS_VECS 2
#define KERNELS_BF16 0
#include "devices/cpu/cpu_kernels.inc"
