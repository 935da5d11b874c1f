/* Device memory: counted blocks, copies on the current lane, read-backs that do not wait. */
#include <cstdlib>
#include <cstring>

#include "devices/cuda/cuda.cuh"

/* What alloc handed out. */
struct npi_cuda_block {
    npi_cuda_block *next;
    void *memory;
    size_t bytes;
};

static npos_status cuda_alloc(npi_device *dev, size_t bytes, const char *what, void *out) {
    npi_cuda *cuda = npi_cuda_of(dev);
    void *memory = NULL;
    memcpy(out, &memory, sizeof memory);
    if (cuda->capturing)
        return npi_fail(NPOS_INTERNAL, "%s: device memory asked for while a step is recorded",
                        what);
    npi_cuda_block *block = (npi_cuda_block *)malloc(sizeof *block);
    if (!block)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu bytes", what, sizeof *block);
    size_t padded = bytes ? (bytes + 255) & ~(size_t)255 : 256;
    cudaError_t error = cudaMalloc(&memory, padded);
    if (error != cudaSuccess) {
        free(block);
        cudaGetLastError();
        if (error != cudaErrorMemoryAllocation)
            return npi_cuda_status(error, what);
        size_t left = 0, whole = 0;
        cudaMemGetInfo(&left, &whole);
        npi_fail(NPOS_OUT_OF_MEMORY,
                 "%s: %zu MB do not fit: %s has %zu of %zu MB left, %zu MB are npos's", what,
                 bytes >> 20, dev->name, left >> 20, whole >> 20, cuda->bytes >> 20);
        return npi_hint(NPOS_OUT_OF_MEMORY, "a smaller batch (--set batch=...) or ring needs less; "
                                            "--device cuda:N picks another GPU");
    }
    error = cudaMemsetAsync(memory, 0, padded, npi_cuda_stream(dev));
    if (error != cudaSuccess) {
        cudaFree(memory);
        free(block);
        return npi_cuda_status(error, what);
    }
    *block = (npi_cuda_block){(npi_cuda_block *)cuda->blocks, memory, bytes};
    cuda->blocks = block;
    cuda->bytes += bytes;
    if (cuda->bytes > cuda->peak)
        cuda->peak = cuda->bytes;
    memcpy(out, &memory, sizeof memory);
    return NPOS_OK;
}

static void cuda_free(npi_device *dev, void *memory) {
    npi_cuda *cuda = npi_cuda_of(dev);
    npi_cuda_block **at = (npi_cuda_block **)&cuda->blocks;
    while (memory && *at && (*at)->memory != memory)
        at = &(*at)->next;
    if (!memory || !*at)
        return;
    npi_cuda_block *block = *at;
    *at = block->next;
    cuda->bytes -= block->bytes;
    cudaFree(memory); /* waits for the work that may still use it */
    free(block);
}

void npi_cuda_free_all(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    while (cuda->blocks)
        cuda_free(dev, ((npi_cuda_block *)cuda->blocks)->memory);
}

/* Pageable memory is staged before the call returns, so the caller may change it at once. */
static npos_status cuda_upload(npi_device *dev, void *to, const void *host, size_t bytes) {
    if (bytes == 0)
        return NPOS_OK;
    return npi_cuda_status(
        cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, npi_cuda_stream(dev)), "upload");
}

static npos_status cuda_download(npi_device *dev, void *host, const void *from, size_t bytes) {
    if (bytes == 0)
        return NPOS_OK;
    CUDA_TRY("download",
             cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, npi_cuda_stream(dev)));
    return npi_cuda_status(cudaStreamSynchronize(npi_cuda_stream(dev)), "download");
}

static npos_status cuda_copy(npi_device *dev, void *to, const void *from, size_t bytes) {
    if (bytes == 0)
        return NPOS_OK;
    return npi_cuda_status(
        cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, npi_cuda_stream(dev)), "copy");
}

static npos_status cuda_zero(npi_device *dev, void *to, size_t bytes) {
    if (bytes == 0)
        return NPOS_OK;
    return npi_cuda_status(cudaMemsetAsync(to, 0, bytes, npi_cuda_stream(dev)), "zero");
}

static npos_status cuda_post(npi_device *dev, int slot, const void *from, size_t bytes) {
    npi_cuda *cuda = npi_cuda_of(dev);
    char *to = (char *)cuda->posted + (size_t)slot * NPI_POST_BYTES;
    CUDA_TRY("post",
             cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, npi_cuda_stream(dev)));
    return npi_cuda_status(cudaEventRecord(cuda->posts[slot], npi_cuda_stream(dev)), "post");
}

static npos_status cuda_collect(npi_device *dev, int slot, void *host, size_t bytes) {
    npi_cuda *cuda = npi_cuda_of(dev);
    CUDA_TRY("collect", cudaEventSynchronize(cuda->posts[slot]));
    memcpy(host, (char *)cuda->posted + (size_t)slot * NPI_POST_BYTES, bytes);
    return NPOS_OK;
}

static npos_status cuda_sync(npi_device *dev) {
    (void)dev;
    return npi_cuda_status(cudaDeviceSynchronize(), "sync");
}

static void cuda_usage(npi_device *dev, size_t *now, size_t *peak) {
    *now = npi_cuda_of(dev)->bytes;
    *peak = npi_cuda_of(dev)->peak;
}

const npi_memory_ops npi_cuda_memory = {.alloc = cuda_alloc,
                                        .free = cuda_free,
                                        .upload = cuda_upload,
                                        .download = cuda_download,
                                        .copy = cuda_copy,
                                        .zero = cuda_zero,
                                        .post = cuda_post,
                                        .collect = cuda_collect,
                                        .sync = cuda_sync,
                                        .usage = cuda_usage};
