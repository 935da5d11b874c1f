#include "devices/cpu/cpu_augment_loops.h"

const npi_pixels npi_pixels_generic = NPI_PIXELS;
