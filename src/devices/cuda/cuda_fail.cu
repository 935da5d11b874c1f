/* The module's side of base/fail.h: messages are made here and recorded by the program. */
#include <cstdarg>
#include <cstdio>

#include "devices/cuda/cuda_fail.cuh"

static const npi_cuda_host *program;

void npi_cuda_fail_through(const npi_cuda_host *host) {
    program = host;
}

enum { TEXT_BYTES = 2048 };

npos_status npi_fail(npos_status status, const char *format, ...) {
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return program->fail(status, text);
}

npos_status npi_hint(npos_status status, const char *format, ...) {
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return program->hint(status, text);
}

npos_status npi_cuda_status(cudaError_t error, const char *operation) {
    if (error == cudaSuccess)
        return NPOS_OK;
    cudaGetLastError(); /* errors that do not break the device must not be found again later */
    if (error == cudaErrorMemoryAllocation)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: the GPU has no memory left", operation);
    npi_fail(NPOS_DEVICE, "%s: CUDA: %s (%s)", operation, cudaGetErrorString(error),
             cudaGetErrorName(error));
    return npi_hint(
        NPOS_DEVICE,
        "an error may come from an operation enqueued earlier; NPOS_CUDA_SYNC=1 waits after "
        "each one and names it");
}

npos_status npi_cublas_status(cublasStatus_t error, const char *operation) {
    return error == CUBLAS_STATUS_SUCCESS
               ? NPOS_OK
               : npi_fail(NPOS_DEVICE, "%s: cuBLAS: %s", operation, cublasGetStatusString(error));
}

npos_status npi_cudnn_status(cudnnStatus_t error, const char *operation) {
    return error == CUDNN_STATUS_SUCCESS
               ? NPOS_OK
               : npi_fail(NPOS_DEVICE, "%s: cuDNN: %s", operation, cudnnGetErrorString(error));
}
