#include "devices/cuda/cuda_gemm.cuh"

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "devices/cuda/cuda_tune.cuh"

/* To cuBLASLt, which counts by columns, a row-major array is its transpose: it is given right^T as its first factor, left
 * as its second, and makes d^T. */
struct npi_gemm {
    npi_device *dev;
    const char *name;
    npi_gemm_desc desc;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t first, second, c, d;
    cublasLtMatmulAlgo_t algo, of_all; /* the one in use, and the one for desc.rows */
    int rows;                          /* that algo is for */
};

enum { ALIGNMENT = 16, MOST = 8, REPEATS = 6 };

static constexpr double LARGE = 4e9; /* multiplications: about 10 us of a large GPU */

static cublasLtHandle_t handle_of(npi_device *dev) {
    return (cublasLtHandle_t)npi_cuda_blas(dev); /* a cuBLAS handle is one of cuBLASLt too */
}

static void free_layouts(npi_gemm *g) {
    cublasLtMatrixLayout_t *const all[] = {&g->first, &g->second, &g->c, &g->d};
    for (cublasLtMatrixLayout_t *layout : all) {
        if (*layout)
            cublasLtMatrixLayoutDestroy(*layout);
        *layout = NULL;
    }
}

void npi_gemm_free(npi_gemm *g) {
    if (!g)
        return;
    free_layouts(g);
    if (g->op)
        cublasLtMatmulDescDestroy(g->op);
    free(g);
}

/* Layouts of `rows` rows: (columns, rows) of the row-major arrays. */
static npos_status make_layouts(npi_gemm *g, int rows) {
    const npi_gemm_desc *d = &g->desc;
    const bool weights = d->form == NPI_GEMM_WEIGHTS;
    const int in = d->in, out = d->out;
    const int d_columns = d->form == NPI_GEMM_FORWARD ? out : in, d_rows = weights ? out : rows;
    free_layouts(g);
    CUBLAS_TRY(g->name, cublasLtMatrixLayoutCreate(&g->first, d->type, (uint64_t)in,
                                                   (uint64_t)(weights ? rows : out), d->ld_right));
    CUBLAS_TRY(g->name, cublasLtMatrixLayoutCreate(
                            &g->second, d->type, (uint64_t)(d->form == NPI_GEMM_FORWARD ? in : out),
                            (uint64_t)rows, d->ld_left));
    CUBLAS_TRY(g->name, cublasLtMatrixLayoutCreate(&g->d, d->d_type, (uint64_t)d_columns,
                                                   (uint64_t)d_rows, d->ld_d));
    return npi_cublas_status(cublasLtMatrixLayoutCreate(&g->c, d->d_type, (uint64_t)d_columns,
                                                        (uint64_t)d_rows,
                                                        d->ld_c ? d->ld_c : d->ld_d),
                             g->name);
}

static npos_status prefer(cublasLtMatmulPreference_t preference, const char *name) {
    const size_t room = NPI_CUDA_BLAS_BYTES;
    const uint32_t alignment = ALIGNMENT;
    const cublasLtMatmulPreferenceAttributes_t all[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    CUBLAS_TRY(name, cublasLtMatmulPreferenceSetAttribute(
                         preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room));
    for (cublasLtMatmulPreferenceAttributes_t attribute : all)
        CUBLAS_TRY(name, cublasLtMatmulPreferenceSetAttribute(preference, attribute, &alignment,
                                                              sizeof alignment));
    return NPOS_OK;
}

/* The library's algorithms for `rows` rows, at most MOST, in its order, which a version and a GPU fix. */
static npos_status candidates(npi_gemm *g, int rows, int most,
                              cublasLtMatmulHeuristicResult_t *results, int *found) {
    cublasLtMatmulPreference_t preference;
    *found = 0;
    NPI_TRY(make_layouts(g, rows));
    CUBLAS_TRY(g->name, cublasLtMatmulPreferenceCreate(&preference));
    npos_status status = prefer(preference, g->name);
    if (status == NPOS_OK)
        status = npi_cublas_status(cublasLtMatmulAlgoGetHeuristic(handle_of(g->dev), g->op,
                                                                  g->first, g->second, g->c, g->d,
                                                                  preference, most, results, found),
                                   g->name);
    cublasLtMatmulPreferenceDestroy(preference);
    NPI_TRY(status);
    if (*found == 0 || results[0].state != CUBLAS_STATUS_SUCCESS)
        return npi_fail(NPOS_UNSUPPORTED,
                        "%s: cuBLAS has no product of %d rows, %d in, %d out for this GPU", g->name,
                        rows, g->desc.in, g->desc.out);
    g->rows = rows;
    return NPOS_OK;
}

static npos_status choose(npi_gemm *g, int rows) {
    cublasLtMatmulHeuristicResult_t first;
    int found;
    NPI_TRY(candidates(g, rows, 1, &first, &found));
    g->algo = first.algo;
    return NPOS_OK;
}

static npos_status multiply(npi_gemm *g, const cublasLtMatmulAlgo_t *algo, const void *left,
                            const void *right, const void *c, void *d) {
    const float one = 1.0f, zero = 0.0f;
    return npi_cublas_status(cublasLtMatmul(handle_of(g->dev), g->op, &one, right, g->first, left,
                                            g->second, c ? &one : &zero, c ? c : d, g->c, d, g->d,
                                            algo, npi_cuda_blas_memory(g->dev), NPI_CUDA_BLAS_BYTES,
                                            npi_cuda_stream(g->dev)),
                             g->name);
}

/* ---- measuring ---- */

static void key_of(const npi_gemm *g, char *key) {
    const npi_gemm_desc *d = &g->desc;
    snprintf(key, NPI_TUNE_KEY_BYTES, "gemm-%zu-%d-%d-%d-%d-%d-%d-%lld-%lld-%lld-%lld-%d",
             cublasLtGetVersion(), (int)d->form, (int)d->type, (int)d->d_type, d->rows, d->in,
             d->out, (long long)d->ld_left, (long long)d->ld_right, (long long)d->ld_d,
             (long long)d->ld_c, (int)d->bias);
}

static int number_of(const cublasLtMatmulAlgo_t *algo) {
    int number = -1;
    size_t written;
    cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_ID, &number, sizeof number,
                                         &written);
    return number;
}

/* Seconds of one product, or infinity where the algorithm is not for it. */
static npos_status time_one(npi_gemm *g, const cublasLtMatmulHeuristicResult_t *candidate,
                            char *const room[3], cudaEvent_t began, cudaEvent_t ended,
                            float *took) {
    cudaStream_t stream = npi_cuda_stream(g->dev);
    const void *c = g->desc.ld_c == g->desc.ld_d ? room[2] : NULL;
    *took = INFINITY;
    if (candidate->state != CUBLAS_STATUS_SUCCESS)
        return NPOS_OK;
    CUDA_TRY(g->name, cudaEventRecord(began, stream));
    NPI_TRY(multiply(g, &candidate->algo, room[0], room[1], c, room[2]));
    CUDA_TRY(g->name, cudaEventRecord(ended, stream));
    CUDA_TRY(g->name, cudaEventSynchronize(ended));
    return npi_cuda_status(cudaEventElapsedTime(took, began, ended), g->name);
}

/* *fastest = the place of the fastest of `list` over the arrays of `room`: each in turn, REPEATS times, because the
 * clock moves; the first turn loads kernels and does not count. */
static npos_status race(npi_gemm *g, const cublasLtMatmulHeuristicResult_t *list, int count,
                        char *const room[3], int *fastest) {
    cudaEvent_t began, ended;
    float least[MOST];
    npos_status status = NPOS_OK;
    CUDA_TRY(g->name, cudaEventCreate(&began));
    CUDA_TRY(g->name, cudaEventCreate(&ended));
    for (int turn = 0; turn <= REPEATS; turn++)
        for (int i = 0; i < count && status == NPOS_OK; i++) {
            float took;
            status = time_one(g, &list[i], room, began, ended, &took);
            least[i] = turn <= 1 || took < least[i] ? took : least[i];
        }
    for (int i = 0; i < count && status == NPOS_OK; i++)
        *fastest = least[i] < least[*fastest] ? i : *fastest;
    cudaEventDestroy(began);
    cudaEventDestroy(ended);
    return status;
}

/* Numbers of both signs between a half and two, whatever the type: on zeros a GPU is faster. */
static __global__ void fill_kernel(uint32_t *to, size_t words) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < words)
        to[i] = ((uint32_t)i * 2654435761u & 0x807f807fu) | 0x3f003f00u;
}

/* As race, over arrays made for it; where there is no room for them, the first is the fastest. */
static npos_status measure(npi_gemm *g, const cublasLtMatmulHeuristicResult_t *list, int count,
                           int *fastest) {
    const npi_gemm_desc *d = &g->desc;
    const size_t rows = (size_t)d->rows, out = (size_t)d->out, e = d->type == CUDA_R_32F ? 4 : 2,
                 d_e = d->d_type == CUDA_R_32F ? 4 : 2;
    const bool weights = d->form == NPI_GEMM_WEIGHTS;
    const size_t bytes[] = {rows * (size_t)d->ld_left * e,
                            (weights ? rows : out) * (size_t)d->ld_right * e,
                            (weights ? out : rows) * (size_t)d->ld_d * d_e};
    const npi_memory_ops *memory = g->dev->memory;
    char *room[3] = {};
    size_t left = 0, whole = 0;
    npos_status status = NPOS_OK;
    *fastest = 0;
    if (cudaMemGetInfo(&left, &whole) != cudaSuccess || bytes[0] + bytes[1] + bytes[2] > left / 2)
        return NPOS_OK;
    for (int i = 0; i < 3 && status == NPOS_OK; i++) {
        status = memory->alloc(g->dev, bytes[i], g->name, &room[i]);
        if (status == NPOS_OK)
            fill_kernel<<<(unsigned)npi_ceil_div((int64_t)(bytes[i] / 4), 256), 256, 0,
                          npi_cuda_stream(g->dev)>>>((uint32_t *)room[i], bytes[i] / 4);
    }
    if (status == NPOS_OK)
        status = race(g, list, count, room, fastest);
    for (char *memory_of : room)
        memory->free(g->dev, memory_of);
    return status;
}

/* The kept choice, or the one that is now measured and kept; for a small product, or where nothing can be kept, the
 * library's first. */
static npos_status tune(npi_gemm *g) {
    const npi_gemm_desc *d = &g->desc;
    cublasLtMatmulHeuristicResult_t list[MOST];
    char key[NPI_TUNE_KEY_BYTES];
    npi_choice choice;
    int count = 0, fastest = 0;
    if ((double)d->rows * d->in * d->out < LARGE || !npi_tune_possible(g->dev))
        return choose(g, d->rows);
    NPI_TRY(candidates(g, d->rows, MOST, list, &count));
    key_of(g, key);
    const bool kept = npi_tune_find(g->dev, key, &choice) && choice.place >= 0 &&
                      choice.place < count && number_of(&list[choice.place].algo) == choice.engine;
    if (!kept) {
        NPI_TRY(measure(g, list, count, &fastest));
        choice = {fastest, number_of(&list[fastest].algo)};
        npi_tune_keep(g->dev, key, &choice);
    }
    if (choice.place >= count || choice.place < 0)
        choice.place = fastest;
    g->algo = list[choice.place].algo;
    return NPOS_OK;
}

static npos_status plan(npi_gemm *g) {
    const npi_gemm_desc *d = &g->desc;
    const cublasOperation_t first = d->form == NPI_GEMM_FORWARD ? CUBLAS_OP_T : CUBLAS_OP_N,
                            second = d->form == NPI_GEMM_WEIGHTS ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    CUBLAS_TRY(g->name, cublasLtMatmulDescCreate(&g->op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CUBLAS_TRY(g->name, cublasLtMatmulDescSetAttribute(g->op, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                                       sizeof first));
    CUBLAS_TRY(g->name, cublasLtMatmulDescSetAttribute(g->op, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                                       sizeof second));
    if (d->bias) {
        /* the choice looks at the bias' place too: any that is no better aligned than it may be */
        const char *place = (const char *)npi_cuda_blas_memory(g->dev) + ALIGNMENT;
        CUBLAS_TRY(g->name, cublasLtMatmulDescSetAttribute(g->op, CUBLASLT_MATMUL_DESC_EPILOGUE,
                                                           &epilogue, sizeof epilogue));
        CUBLAS_TRY(g->name, cublasLtMatmulDescSetAttribute(g->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                           &place, sizeof place));
    }
    NPI_TRY(tune(g));
    g->of_all = g->algo;
    return NPOS_OK;
}

npos_status npi_gemm_create(npi_device *dev, const char *name, const npi_gemm_desc *desc,
                            npi_gemm **out) {
    *out = NULL;
    npi_gemm *g = (npi_gemm *)calloc(1, sizeof *g);
    if (!g)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu bytes", name, sizeof *g);
    g->dev = dev;
    g->name = name;
    g->desc = *desc;
    npos_status status = plan(g);
    if (status == NPOS_OK)
        *out = g;
    else
        npi_gemm_free(g);
    return status;
}

/* To a partial batch and back.  A row's sums run over `in` or `out` alone, so the algorithm for all rows gives a row of
 * fewer the same bits; sums over the rows get an algorithm of their own. */
static npos_status change_rows(npi_gemm *g, int rows) {
    cublasLtMatmulHeuristicResult_t result;
    NPI_TRY(make_layouts(g, rows));
    g->algo = g->of_all;
    g->rows = rows;
    if (rows == g->desc.rows ||
        (g->desc.form != NPI_GEMM_WEIGHTS &&
         cublasLtMatmulAlgoCheck(handle_of(g->dev), g->op, g->first, g->second, g->c, g->d,
                                 &g->algo, &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= NPI_CUDA_BLAS_BYTES))
        return NPOS_OK;
    return choose(g, rows);
}

npos_status npi_gemm_run(npi_gemm *g, int rows, const void *left, const void *right,
                         const void *bias, const void *c, void *d) {
    if (((uintptr_t)left | (uintptr_t)right | (uintptr_t)c | (uintptr_t)d) % ALIGNMENT != 0)
        return npi_fail(NPOS_INTERNAL, "%s: a matrix does not begin at a multiple of %d bytes",
                        g->name, (int)ALIGNMENT);
    if (rows != g->rows)
        NPI_TRY(change_rows(g, rows));
    if (g->desc.bias)
        CUBLAS_TRY(g->name, cublasLtMatmulDescSetAttribute(g->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                           &bias, sizeof bias));
    return multiply(g, &g->algo, left, right, c, d);
}
