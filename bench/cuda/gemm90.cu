/* bench/cuda/gemm90.cu - the products of src/devices/cuda/cuda_gemm90.cuh: checked, then timed beside cuBLASLt.
 *
 *     nvcc -std=c++20 -O3 -gencode arch=compute_90a,code=sm_90a -Iinclude -Isrc bench/cuda/gemm90.cu \
 *         src/devices/cuda/cuda_gemm90.cu src/devices/cuda/cuda_box.cu src/devices/cuda/cuda_fail.cu -lcublasLt -lcublas \
 *         -lcudnn -o gemm90
 *     ./gemm90            checks and times; exit status 1 where a check failed
 *     ./gemm90 check      checks only (for compute-sanitizer: small shapes only)
 *     ./gemm90 time       times only
 *
 * Checks compare with naive products in float32, on shapes of which none is a multiple of the kernels' tiles: results, what
 * is kept beside them, sums, what lies behind the last row and between rows, and that a second run gives the same bits.
 * The peer is the fastest algorithm that cuBLASLt proposes for the product and its bias alone: what a library leaves to
 * other kernels (the activation, its slope, the sum in float16) is not counted there. */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <cublasLt.h>

#include "devices/cuda/cuda_act.cuh"
#include "devices/cuda/cuda_fail.cuh"
#include "devices/cuda/cuda_gemm90.cuh"
#include "devices/cuda/cuda_tokens.cuh"

static void must(npos_status status) {
    if (status != NPOS_OK)
        exit(2);
}

static npos_status say(npos_status status, const char *text) {
    fprintf(stderr, "%s\n", text);
    return status;
}

#define CUDA(call) must(npi_cuda_status((call), #call))
#define LT(call)                                                                                   \
    do {                                                                                           \
        if ((call) != CUBLAS_STATUS_SUCCESS) {                                                     \
            fprintf(stderr, "%s failed\n", #call);                                                 \
            exit(2);                                                                               \
        }                                                                                          \
    } while (0)

/* ---- data ---- */

static __device__ float uniform(uint64_t index, uint64_t seed) {
    uint64_t z = (index + 1) * 0x9e3779b97f4a7c15ull + seed * 0xd1b54a32d192ed03ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (float)(int64_t)(z >> 40) * 0x1p-23f - 1.0f;
}

template <typename T> static __global__ void fill(T *x, size_t count, float scale, uint64_t seed) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        npi_store(x + i, scale * uniform(i, seed));
}

/* A matrix whose rows are `gap` elements longer than its columns, in memory of its own. */
template <typename T> struct matrix {
    T *at = NULL;
    int rows, columns;
    int64_t ld;
    matrix(int r, int c, int gap, float scale, uint64_t seed) : rows(r), columns(c), ld(c + gap) {
        CUDA(cudaMalloc(&at, bytes()));
        fill<<<1024, 256>>>(at, (size_t)(ld * (r + 8)), scale, seed);
    }
    matrix(const matrix &) = delete;
    ~matrix() {
        cudaFree(at);
    }
    size_t bytes() const { /* eight rows more, which nothing may change */
        return (size_t)ld * (size_t)(rows + 8) * sizeof(T);
    }
    std::vector<T> copy() const {
        std::vector<T> out(bytes() / sizeof(T));
        CUDA(cudaMemcpy(out.data(), at, bytes(), cudaMemcpyDeviceToHost));
        return out;
    }
};

template <typename T>
static __global__ void naive(const T *left, const T *right, const T *bias, float *x, npi_gemm90 g) {
    const int i = (int)blockIdx.y, j = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (j >= g.columns)
        return;
    float sum = bias ? npi_load(bias + j) : 0.0f;
    for (int k = 0; k < g.inner; k++)
        sum = fmaf(npi_load(left + i * g.ld_left + k),
                   npi_load(right + (g.outlet == NPI_GEMM90_BACK ? k * g.ld_right + j
                                                                 : j * g.ld_right + k)),
                   sum);
    x[(int64_t)i * g.columns + j] = sum;
}

static __global__ void naive_act(const float *x, float *y, float *slope, int64_t count, bool gelu) {
    const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    float2 slopes;
    y[i] = npi_activate<float>(gelu, make_float2(x[i], 0.0f), &slopes).x;
    slope[i] = slopes.x;
}

/* ---- checks ---- */

static int failures;

static const char *const NAMES[] = {"act", "act, kept", "act backward", "added"};

static float number(__half x) {
    return __half2float(x);
}
static float number(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

/* The worst error of got [rows][ld], over relative |wanted| + absolute; infinite where bits outside of it changed. */
template <typename T>
static double worst_of(const std::vector<T> &before, const std::vector<T> &got,
                       const std::vector<float> &wanted, int rows, int columns, int64_t ld) {
    const double relative = sizeof(T) == 4 ? 1e-3 : std::is_same_v<T, __half> ? 0x1p-10 : 0x1p-7;
    double worst = 0.0;
    for (size_t at = 0; at < got.size(); at++) {
        const int64_t i = (int64_t)at / ld, j = (int64_t)at % ld;
        if (i >= rows || j >= columns) {
            if (memcmp(&before[at], &got[at], sizeof(T)) != 0)
                return INFINITY;
            continue;
        }
        const double want = wanted[(size_t)(i * columns + j)],
                     error = fabs((double)number(got[at]) - want);
        worst = fmax(worst, error / (relative * fabs(want) + relative));
        if (!(error >= 0.0))
            return INFINITY;
    }
    return worst;
}

template <typename T>
static void check(npi_gemm90_outlet outlet, bool gelu, int rows, int inner, int columns, int gap) {
    typedef std::conditional_t<std::is_same_v<T, __half>, __half, __nv_bfloat16> own;
    const bool data = outlet == NPI_GEMM90_BACK, add = outlet == NPI_GEMM90_ADD;
    const float scale = 1.5f / sqrtf((float)inner);
    matrix<own> left(rows, inner, gap, 1.0f, 1),
        right(data ? inner : columns, data ? columns : inner, gap, scale, 2),
        bias(1, columns, 0, 1.0f, 3);
    matrix<own> d(rows, columns, gap, 2.0f, 4), beside(rows, columns, gap, 2.0f, 5);
    matrix<__half> d_half(rows, columns, gap, 2.0f, 4),
        beside_half(rows, columns, 2 * gap, 2.0f, 5);
    const int parts = npi_ceil_div(rows, NPI_GEMM90_PART);
    float *x, *y, *slope, *sums;
    const int64_t count = (int64_t)rows * columns;
    CUDA(cudaMalloc(&x, (size_t)count * 4));
    CUDA(cudaMalloc(&y, (size_t)count * 4));
    CUDA(cudaMalloc(&slope, (size_t)count * 4));
    CUDA(cudaMalloc(&sums, (size_t)(parts + 1) * columns * 4));
    CUDA(cudaMemset(sums, 0x5a, (size_t)(parts + 1) * columns * 4));
    npi_gemm90 g = {};
    g.outlet = outlet;
    g.gelu = gelu;
    g.rows = rows, g.inner = inner, g.columns = columns;
    g.left = left.at, g.right = right.at, g.bias = data ? NULL : bias.at;
    g.ld_left = left.ld, g.ld_right = right.ld;
    g.d = add ? (void *)d_half.at : (void *)d.at;
    g.ld_d = add ? d_half.ld : d.ld;
    g.beside = add ? (void *)beside_half.at : outlet == NPI_GEMM90_KEEP ? (void *)beside.at : NULL;
    g.ld_beside = add ? beside_half.ld : beside.ld;
    g.sums = sums;
    const auto d_before = d.copy(), beside_before = beside.copy();
    const auto d_half_before = d_half.copy(), beside_half_before = beside_half.copy();
    naive<<<dim3((unsigned)npi_ceil_div(columns, 128), (unsigned)rows), 128>>>(
        left.at, right.at, data ? (own *)NULL : bias.at, x, g);
    naive_act<<<(unsigned)npi_ceil_div(count, 256), 256>>>(x, y, slope, count, gelu);
    std::vector<float> wanted((size_t)count), acted((size_t)count), slopes((size_t)count);
    CUDA(cudaMemcpy(wanted.data(), x, (size_t)count * 4, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(acted.data(), y, (size_t)count * 4, cudaMemcpyDeviceToHost));
    CUDA(cudaMemcpy(slopes.data(), slope, (size_t)count * 4, cudaMemcpyDeviceToHost));
    must(npi_gemm90_run(&g, 132, 0));
    CUDA(cudaDeviceSynchronize());
    double worst = 0.0;
    std::vector<double> totals((size_t)columns, 0.0);
    if (add) {
        for (size_t i = 0; i < (size_t)count; i++)
            wanted[i] += number(beside_half_before[i / columns * beside_half.ld + i % columns]);
        worst = worst_of(d_half_before, d_half.copy(), wanted, rows, columns, d_half.ld);
    } else if (data) {
        for (size_t i = 0; i < (size_t)count; i++) {
            wanted[i] *= number(d_before[i / columns * d.ld + i % columns]);
            totals[i % columns] += wanted[i];
        }
        worst = worst_of(d_before, d.copy(), wanted, rows, columns, d.ld);
        std::vector<float> got((size_t)(parts + 1) * columns);
        CUDA(cudaMemcpy(got.data(), sums, got.size() * 4, cudaMemcpyDeviceToHost));
        uint32_t behind = 0;
        for (int j = 0; j < columns; j++) {
            double total = 0.0;
            for (int p = 0; p < parts; p++)
                total += got[(size_t)p * columns + j];
            worst = fmax(worst, fabs(total - totals[j]) / (8e-3 * sqrt((double)rows)));
            memcpy(&behind, &got[(size_t)parts * columns + j], 4);
            worst = behind == 0x5a5a5a5a ? worst : INFINITY;
        }
    } else {
        worst = worst_of(d_before, d.copy(), acted, rows, columns, d.ld);
        if (outlet == NPI_GEMM90_KEEP)
            worst = fmax(worst,
                         worst_of(beside_before, beside.copy(), slopes, rows, columns, beside.ld));
    }
    bool same = true;
    if (!data) { /* BACK works in place */
        const auto first = d.copy();
        const auto first_half = d_half.copy();
        must(npi_gemm90_run(&g, 132, 0));
        CUDA(cudaDeviceSynchronize());
        const auto second = d.copy();
        const auto second_half = d_half.copy();
        same = memcmp(first.data(), second.data(), d.bytes()) == 0 &&
               memcmp(first_half.data(), second_half.data(), d_half.bytes()) == 0;
    }
    const bool good = worst <= 1.0 && same;
    printf("%-13s %s %-9s %5d x %4d x %4d  worst error / bound %.3f%s  %s\n", NAMES[outlet],
           std::is_same_v<T, __half> ? "fp16" : "bf16",
           add    ? ""
           : gelu ? "GELU"
                  : "QuickGELU",
           rows, inner, columns, worst, same ? "" : ", other bits the second time",
           good ? "ok" : "FAILED");
    failures += !good;
    for (float *memory : {x, y, slope, sums})
        cudaFree(memory);
}

static void check_all(void) {
    const int shapes[][4] = {{5, 64, 64, 0},      {300, 40, 104, 8},   {257, 136, 200, 16},
                             {1000, 768, 768, 0}, {197, 768, 3072, 0}, {800, 3072, 768, 8}};
    for (const auto &s : shapes)
        for (const bool gelu : {false, true}) {
            check<__half>(NPI_GEMM90_ACT, gelu, s[0], s[1], s[2], s[3]);
            check<__nv_bfloat16>(NPI_GEMM90_KEEP, gelu, s[0], s[1], s[2], s[3]);
            check<__nv_bfloat16>(NPI_GEMM90_BACK, gelu, s[0], s[1], s[2], s[3]);
            check<__nv_bfloat16>(NPI_GEMM90_ADD, gelu, s[0], s[1], s[2], s[3]);
        }
}

/* ---- times ---- */

template <typename F> static float milliseconds(F run) {
    constexpr int REPEATS = 20;
    cudaEvent_t began, ended;
    float least = INFINITY;
    CUDA(cudaEventCreate(&began));
    CUDA(cudaEventCreate(&ended));
    run();
    for (int turn = 0; turn < 3; turn++) {
        float took;
        CUDA(cudaEventRecord(began));
        for (int i = 0; i < REPEATS; i++)
            run();
        CUDA(cudaEventRecord(ended));
        CUDA(cudaEventSynchronize(ended));
        CUDA(cudaEventElapsedTime(&took, began, ended));
        least = fminf(least, took / REPEATS);
    }
    return least;
}

/* The fastest of cuBLASLt's proposals. */
template <typename T> static float library(const npi_gemm90 &g) {
    const cudaDataType_t type = npi_cuda_type<T>::value;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t first, second, d;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t list[8];
    const bool data = g.outlet == NPI_GEMM90_BACK;
    const cublasOperation_t turn = data ? CUBLAS_OP_N : CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const size_t room = (size_t)32 << 20;
    int found = 0;
    void *memory;
    CUDA(cudaMalloc(&memory, room));
    LT(cublasLtCreate(&handle));
    LT(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &turn, sizeof turn));
    if (g.bias) {
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
                                          sizeof epilogue));
        LT(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &g.bias,
                                          sizeof g.bias));
    }
    LT(cublasLtMatrixLayoutCreate(&first, type, (uint64_t)(data ? g.columns : g.inner),
                                  (uint64_t)(data ? g.inner : g.columns), g.ld_right));
    LT(cublasLtMatrixLayoutCreate(&second, type, (uint64_t)g.inner, (uint64_t)g.rows, g.ld_left));
    LT(cublasLtMatrixLayoutCreate(&d, type, (uint64_t)g.columns, (uint64_t)g.rows, g.ld_d));
    LT(cublasLtMatmulPreferenceCreate(&preference));
    LT(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                            &room, sizeof room));
    LT(cublasLtMatmulAlgoGetHeuristic(handle, op, first, second, d, d, preference, 8, list,
                                      &found));
    float least = INFINITY;
    for (int i = 0; i < found; i++)
        least = fminf(least, milliseconds([&] {
                          const float one = 1.0f, zero = 0.0f;
                          LT(cublasLtMatmul(handle, op, &one, g.right, first, g.left, second, &zero,
                                            g.d, d, g.d, d, &list[i].algo, memory, room, 0));
                      }));
    cudaFree(memory);
    cublasLtDestroy(handle);
    return least;
}

template <typename T>
static void time_one(const char *what, npi_gemm90_outlet outlet, int rows, int inner, int columns) {
    const bool data = outlet == NPI_GEMM90_BACK;
    matrix<T> left(rows, inner, 0, 1.0f, 1),
        right(data ? inner : columns, data ? columns : inner, 0, 0.05f, 2),
        bias(1, columns, 0, 1.0f, 3), d(rows, columns, 0, 1.0f, 4),
        beside(rows, columns, 0, 1.0f, 5);
    float *sums;
    CUDA(cudaMalloc(&sums, (size_t)npi_ceil_div(rows, NPI_GEMM90_PART) * columns * 4));
    npi_gemm90 g = {};
    g.outlet = outlet;
    g.rows = rows, g.inner = inner, g.columns = columns;
    g.left = left.at, g.right = right.at, g.bias = data ? NULL : bias.at;
    g.ld_left = left.ld, g.ld_right = right.ld, g.ld_d = d.ld, g.ld_beside = beside.ld;
    g.d = d.at;
    g.beside = outlet == NPI_GEMM90_KEEP || outlet == NPI_GEMM90_ADD ? beside.at : NULL;
    g.sums = sums;
    const float ours = milliseconds([&] { must(npi_gemm90_run(&g, 132, 0)); }),
                theirs = library<T>(g), flops = 2e-9f * (float)rows * (float)inner * (float)columns;
    printf("%-28s %s %6d x %4d x %4d  %-12s %7.3f ms %4.0f TFLOP/s   cuBLASLt, product alone %7.3f "
           "ms %4.0f\n",
           what, std::is_same_v<T, __half> ? "fp16" : "bf16", rows, inner, columns, NAMES[outlet],
           ours, flops / ours, theirs, flops / theirs);
    cudaFree(sums);
}

int main(int argc, char **argv) {
    const npi_cuda_host host = {.fail = say};
    npi_cuda_fail_through(&host);
    if (argc < 2 || strcmp(argv[1], "check") == 0)
        check_all();
    if (argc < 2 || strcmp(argv[1], "time") == 0) {
        const int few = 256 * 197, many = 800 * 197;
        time_one<__half>("inference, MLP's first", NPI_GEMM90_ACT, few, 768, 3072);
        time_one<__nv_bfloat16>("training, MLP's first", NPI_GEMM90_KEEP, many, 768, 3072);
        time_one<__nv_bfloat16>("training, MLP's second", NPI_GEMM90_ADD, many, 3072, 768);
        time_one<__nv_bfloat16>("training, attention's last", NPI_GEMM90_ADD, many, 768, 768);
        time_one<__nv_bfloat16>("backward through the MLP", NPI_GEMM90_BACK, many, 768, 3072);
    }
    return failures > 0;
}
