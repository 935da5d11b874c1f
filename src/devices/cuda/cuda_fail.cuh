/* devices/cuda/cuda_fail.cuh - where the module's failures are recorded. */
#ifndef NPI_CUDA_FAIL_CUH
#define NPI_CUDA_FAIL_CUH

#include "devices/cuda/cuda.cuh"
#include "devices/cuda_module.h"

/* From now on npi_fail and npi_hint go to `host`, which must outlive all use. */
void npi_cuda_fail_through(const npi_cuda_host *host);

#endif
