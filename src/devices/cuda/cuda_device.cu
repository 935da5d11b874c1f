/* Opening and closing a GPU; lanes, graphs, scratch and the libraries' handles. */
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "devices/cuda/cuda_conv.cuh"
#include "devices/cuda/cuda_fail.cuh"

/* ---- lanes ---- */

npos_status npi_cuda_launched(npi_device *dev, const char *operation) {
    CUDA_TRY(operation, cudaGetLastError());
    if (!npi_cuda_of(dev)->synchronous || npi_cuda_of(dev)->capturing)
        return NPOS_OK;
    return npi_cuda_status(cudaStreamSynchronize(npi_cuda_stream(dev)), operation);
}

npos_status npi_cuda_scratch(npi_device *dev, size_t bytes, void *out) {
    npi_cuda *cuda = npi_cuda_of(dev);
    auto *lane = &cuda->lanes[cuda->lane];
    if (bytes > lane->scratch_bytes) {
        size_t grown = bytes + bytes / 4;
        if (cuda->graphs == 0) /* else a recorded step still works there: freed with the device */
            dev->memory->free(dev, lane->scratch);
        lane->scratch = NULL;
        lane->scratch_bytes = 0;
        NPI_TRY(dev->memory->alloc(dev, grown, "scratch", &lane->scratch));
        lane->scratch_bytes = grown;
    }
    memcpy(out, &lane->scratch, sizeof lane->scratch);
    return NPOS_OK;
}

cublasHandle_t npi_cuda_blas(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    return cuda->lanes[cuda->lane].blas;
}

void *npi_cuda_blas_memory(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    return cuda->lanes[cuda->lane].blas_memory;
}

cudnnHandle_t npi_cuda_dnn(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    return cuda->lanes[cuda->lane].dnn;
}

static npos_status open_lane(npi_device *dev, int i) {
    auto *lane = &npi_cuda_of(dev)->lanes[i];
    CUDA_TRY("stream", cudaStreamCreateWithFlags(&lane->stream, cudaStreamNonBlocking));
    CUDA_TRY("event", cudaEventCreateWithFlags(&lane->forked, cudaEventDisableTiming));
    CUDA_TRY("event", cudaEventCreateWithFlags(&lane->joined, cudaEventDisableTiming));
    CUBLAS_TRY("cuBLAS", cublasCreate(&lane->blas));
    CUBLAS_TRY("cuBLAS", cublasSetStream(lane->blas, lane->stream));
    /* its own workspace, so that nothing is allocated while a step is recorded */
    NPI_TRY(dev->memory->alloc(dev, NPI_CUDA_BLAS_BYTES, "cuBLAS's workspace", &lane->blas_memory));
    CUBLAS_TRY("cuBLAS", cublasSetWorkspace(lane->blas, lane->blas_memory, NPI_CUDA_BLAS_BYTES));
    CUBLAS_TRY("cuBLAS",
               cublasSetMathMode(lane->blas, dev->compute == NPI_BF16 ? CUBLAS_TF32_TENSOR_OP_MATH
                                                                      : CUBLAS_PEDANTIC_MATH));
    CUDNN_TRY("cuDNN", cudnnCreate(&lane->dnn));
    return npi_cudnn_status(cudnnSetStream(lane->dnn, lane->stream), "cuDNN");
}

static void close_lane(npi_device *dev, int i) {
    auto *lane = &npi_cuda_of(dev)->lanes[i];
    if (lane->dnn)
        cudnnDestroy(lane->dnn);
    if (lane->blas)
        cublasDestroy(lane->blas);
    dev->memory->free(dev, lane->blas_memory);
    dev->memory->free(dev, lane->scratch);
    if (lane->forked)
        cudaEventDestroy(lane->forked);
    if (lane->joined)
        cudaEventDestroy(lane->joined);
    if (lane->stream)
        cudaStreamDestroy(lane->stream);
}

/* ---- graphs ---- */

struct npi_graph {
    cudaGraphExec_t exec;
};

static npos_status graph_begin(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    CUDA_TRY("recording",
             cudaStreamBeginCapture(cuda->lanes[0].stream, cudaStreamCaptureModeThreadLocal));
    cuda->capturing = true;
    return NPOS_OK;
}

static npos_status graph_end(npi_device *dev, npi_graph **out) {
    npi_cuda *cuda = npi_cuda_of(dev);
    cudaGraph_t graph = NULL;
    *out = NULL;
    cuda->capturing = false;
    CUDA_TRY("recording", cudaStreamEndCapture(cuda->lanes[0].stream, &graph));
    npi_graph *made = (npi_graph *)calloc(1, sizeof *made);
    if (!made) {
        cudaGraphDestroy(graph);
        return npi_fail(NPOS_OUT_OF_MEMORY, "recording: no memory for %zu bytes", sizeof *made);
    }
    npos_status status = npi_cuda_status(cudaGraphInstantiate(&made->exec, graph, 0), "recording");
    cudaGraphDestroy(graph);
    if (status != NPOS_OK) {
        free(made);
        return status;
    }
    cuda->graphs++;
    *out = made;
    return NPOS_OK;
}

static npos_status graph_launch(npi_device *dev, npi_graph *graph) {
    return npi_cuda_status(cudaGraphLaunch(graph->exec, npi_cuda_of(dev)->lanes[0].stream),
                           "recorded step");
}

static void graph_free(npi_device *dev, npi_graph *graph) {
    if (!graph)
        return;
    npi_cuda_of(dev)->graphs--;
    cudaGraphExecDestroy(graph->exec);
    free(graph);
}

static npos_status graph_fork(npi_device *dev, int lane) {
    npi_cuda *cuda = npi_cuda_of(dev);
    if (lane < 1 || lane >= NPI_CUDA_LANES)
        return npi_fail(NPOS_INTERNAL, "fork: lane %d, expected 1 to %d", lane, NPI_CUDA_LANES - 1);
    CUDA_TRY("fork", cudaEventRecord(cuda->lanes[lane].forked, npi_cuda_stream(dev)));
    CUDA_TRY("fork", cudaStreamWaitEvent(cuda->lanes[lane].stream, cuda->lanes[lane].forked, 0));
    cuda->lane = lane;
    return NPOS_OK;
}

static npos_status graph_leave(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    if (cuda->lane != 0)
        CUDA_TRY("leave", cudaEventRecord(cuda->lanes[cuda->lane].joined, npi_cuda_stream(dev)));
    cuda->lane = 0;
    return NPOS_OK;
}

static npos_status graph_join(npi_device *dev, int lane) {
    npi_cuda *cuda = npi_cuda_of(dev);
    return npi_cuda_status(cudaStreamWaitEvent(cuda->lanes[0].stream, cuda->lanes[lane].joined, 0),
                           "join");
}

const npi_graph_ops npi_cuda_graph = {.begin = graph_begin,
                                      .end = graph_end,
                                      .launch = graph_launch,
                                      .free = graph_free,
                                      .fork = graph_fork,
                                      .leave = graph_leave,
                                      .join = graph_join};

/* ---- open and close ---- */

static void cuda_close(npi_device *dev) {
    npi_cuda *cuda = npi_cuda_of(dev);
    cudaDeviceSynchronize();
    npi_conv_free_all(dev);
    for (int i = 0; i < NPI_CUDA_LANES; i++)
        close_lane(dev, i);
    for (int i = 0; i < NPI_POST_SLOTS; i++)
        if (cuda->posts[i])
            cudaEventDestroy(cuda->posts[i]);
    if (cuda->posted)
        cudaFreeHost(cuda->posted);
    npi_cuda_free_all(dev);
    free(cuda->packs);
    free(cuda);
}

static npos_status prepare(npi_cuda *cuda) {
    CUDA_TRY(cuda->name, cudaMallocHost(&cuda->posted, (size_t)NPI_POST_SLOTS * NPI_POST_BYTES));
    for (int i = 0; i < NPI_POST_SLOTS; i++)
        CUDA_TRY(cuda->name, cudaEventCreateWithFlags(&cuda->posts[i], cudaEventDisableTiming));
    for (int i = 0; i < NPI_CUDA_LANES; i++)
        NPI_TRY(open_lane(&cuda->base, i));
    return NPOS_OK;
}

/* Which GPU, and whether it can do what was asked for. */
static npos_status choose(int ordinal, npi_precision precision, cudaDeviceProp *gpu,
                          npi_dtype *compute) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return npi_fail(NPOS_UNSUPPORTED, "device 'cuda': no driver that this module can use: %s",
                        cudaGetErrorString(error));
    }
    if (ordinal >= count)
        return npi_fail(NPOS_UNSUPPORTED, "device 'cuda:%d': this machine shows %d GPU%s", ordinal,
                        count, count == 1 ? "" : "s");
    CUDA_TRY("device 'cuda'", cudaSetDevice(ordinal));
    CUDA_TRY("device 'cuda'", cudaGetDeviceProperties(gpu, ordinal));
    if (precision == NPI_PRECISION_BF16 && gpu->major < 8)
        return npi_hint(
            npi_fail(NPOS_UNSUPPORTED,
                     "device 'cuda:%d': bf16 needs compute capability 8.0, %s has %d.%d", ordinal,
                     gpu->name, gpu->major, gpu->minor),
            "use --precision fp32");
    *compute = precision == NPI_PRECISION_FP32 || gpu->major < 8 ? NPI_F32 : NPI_BF16;
    return NPOS_OK;
}

extern "C" __attribute__((visibility("default"))) npos_status
npi_cuda_open(const npi_cuda_host *host, int ordinal, npi_precision precision, npi_device **out) {
    cudaDeviceProp gpu;
    npi_dtype compute;
    *out = NULL;
    npi_cuda_fail_through(host);
    if (host->version != NPI_CUDA_MODULE_VERSION)
        return npi_fail(NPOS_UNSUPPORTED,
                        "device 'cuda': the module is of version %d, the program of version %d",
                        NPI_CUDA_MODULE_VERSION, host->version);
    NPI_TRY(choose(ordinal, precision, &gpu, &compute));
    npi_cuda *cuda = (npi_cuda *)calloc(1, sizeof *cuda);
    if (!cuda)
        return npi_fail(NPOS_OUT_OF_MEMORY, "device 'cuda': no memory for %zu bytes", sizeof *cuda);
    const char *synchronous = getenv("NPOS_CUDA_SYNC");
    cuda->ordinal = ordinal;
    cuda->multiprocessors = gpu.multiProcessorCount;
    cuda->capability = gpu.major * 10 + gpu.minor;
    cuda->synchronous = synchronous && strcmp(synchronous, "1") == 0;
    snprintf(cuda->name, sizeof cuda->name, "cuda:%d", ordinal);
    npi_device *dev = &cuda->base;
    dev->name = cuda->name;
    dev->compute = compute;
    dev->memory = &npi_cuda_memory;
    dev->graph = &npi_cuda_graph;
    dev->acts = &npi_cuda_acts;
    dev->units = &npi_cuda_units;
    dev->pools = &npi_cuda_pools;
    dev->rows = &npi_cuda_rows;
    dev->losses = &npi_cuda_losses;
    dev->ood = &npi_cuda_ood;
    dev->augment = &npi_cuda_augment;
    dev->optim = &npi_cuda_optim;
    dev->tokens = &npi_cuda_tokens;
    dev->blocks = &npi_cuda_blocks;
    dev->close = cuda_close;
    dev->own = cuda;
    snprintf(dev->description, sizeof dev->description,
             "%.100s, %d.%d, %d multiprocessors, %zu MB, %s, cuDNN %zu.%zu", gpu.name, gpu.major,
             gpu.minor, gpu.multiProcessorCount, gpu.totalGlobalMem >> 20,
             compute == NPI_BF16 ? "bf16" : "fp32", cudnnGetVersion() / 10000,
             cudnnGetVersion() / 100 % 100);
    npos_status status = prepare(cuda);
    if (status != NPOS_OK)
        cuda_close(dev);
    else
        *out = dev;
    return status;
}
