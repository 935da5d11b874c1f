#include "devices/cuda/cuda_box.cuh"

/* The driver's encoder, found at run time: the module does not link libcuda. */
static npos_status encoder(decltype(&cuTensorMapEncodeTiled) *out) {
    static void *found;
    if (!found) {
        cudaDriverEntryPointQueryResult result;
        void *entry = NULL;
        CUDA_TRY("finding cuTensorMapEncodeTiled",
                 cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000,
                                                  cudaEnableDefault, &result));
        if (result != cudaDriverEntryPointSuccess || !entry)
            return npi_fail(NPOS_DEVICE, "the CUDA driver has no cuTensorMapEncodeTiled");
        found = entry;
    }
    *out = (decltype(&cuTensorMapEncodeTiled))found;
    return NPOS_OK;
}

npos_status npi_cuda_box(CUtensorMap *map, CUtensorMapDataType type, const void *data,
                         const cuuint64_t dims[4], const cuuint64_t strides[3],
                         const cuuint32_t box[4], bool swizzle) {
    decltype(&cuTensorMapEncodeTiled) call = NULL;
    const cuuint32_t steps[4] = {1, 1, 1, 1};
    NPI_TRY(encoder(&call));
    CUresult result =
        call(map, type, 4, (void *)data, dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             swizzle ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS
               ? NPOS_OK
               : npi_fail(
                     NPOS_DEVICE,
                     "tensor map of %llu x %llu x %llu x %llu at %p: the driver refuses it (%d)",
                     (unsigned long long)dims[3], (unsigned long long)dims[2],
                     (unsigned long long)dims[1], (unsigned long long)dims[0], data, (int)result);
}
