/* devices/cuda/cuda_box.cuh - how the copy engine of Hopper is told of an array in memory (a tensor map). */
#ifndef NPI_CUDA_BOX_CUH
#define NPI_CUDA_BOX_CUH

#include <cuda.h>

#include "devices/cuda/cuda.cuh"

/* *map = of the array of 16-bit numbers at `data` (16-byte aligned) with sizes dims, innermost first, whose elements of
 * dimension i > 0 lie strides[i - 1] bytes apart (multiples of 16): boxes of sizes `box`, each up to 256, innermost first
 * also in shared memory.  There, with `swizzle`, 16-byte chunk j of a row of 128 bytes lies at chunk j ^ (row % 8).  What
 * of a box lies outside of the array is zeros, or is not written.  Errors: NPOS_DEVICE where the driver has no such maps or
 * refuses this one. */
npos_status npi_cuda_box(CUtensorMap *map, CUtensorMapDataType type, const void *data,
                         const cuuint64_t dims[4], const cuuint64_t strides[3],
                         const cuuint32_t box[4], bool swizzle);

#endif
