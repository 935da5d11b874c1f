#if defined(__x86_64__)
#include "devices/cpu/cpu_augment_loops.h"

const npi_pixels npi_pixels_avx2 = NPI_PIXELS;
#else
typedef int npi_cpu_augment_avx2_empty;
#endif
