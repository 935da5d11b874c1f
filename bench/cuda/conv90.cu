/* bench/cuda/conv90.cu - the convolutions of src/devices/cuda/cuda_conv90.cuh: checked, then timed beside cuDNN.
 *
 *     nvcc -std=c++20 -O3 -gencode arch=compute_90a,code=sm_90a -Iinclude -Isrc bench/cuda/conv90.cu \
 *         src/devices/cuda/cuda_conv90.cu src/devices/cuda/cuda_fail.cu -lcudnn -lcublas -o conv90
 *     ./conv90            checks and times; exit status 1 where a check failed
 *     ./conv90 check      checks only (for compute-sanitizer: small shapes only)
 *     ./conv90 time       times only
 *
 * Checks compare with naive convolutions in float32 on several shapes, none of them a multiple of the kernels' tiles
 * but the last: outputs, gradients, sums, what lies before and behind the outputs, and that a second run gives the same
 * bits.  The peer is the fastest algorithm that cudnnFind...Ex finds for NHWC bf16 with float32 sums; where we do more
 * than a convolution, it does the convolution alone. */
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "devices/cuda/cuda_conv90.cuh"
#include "devices/cuda/cuda_fail.cuh"

typedef __nv_bfloat16 bf16;

static npos_status say(npos_status status, const char *text) {
    fprintf(stderr, "%s\n", text);
    return status;
}

static void must(npos_status status) {
    if (status != NPOS_OK)
        exit(2);
}

#define CUDA(call) must(npi_cuda_status((call), #call))
#define CUDNN(call) must(npi_cudnn_status((call), #call))

constexpr int K = 64, GUARD = 4096;

/* ---- data ---- */

/* A device array between guards of 0x5a. */
struct guarded {
    uint8_t *memory = NULL;
    size_t bytes;
    explicit guarded(size_t size) : bytes(size) {
        CUDA(cudaMalloc(&memory, bytes + 2 * GUARD));
        CUDA(cudaMemset(memory, 0x5a, bytes + 2 * GUARD));
    }
    guarded(const guarded &) = delete;
    ~guarded() {
        cudaFree(memory);
    }
    template <typename T> T *as() const {
        return (T *)(memory + GUARD);
    }
    bool intact() const {
        std::vector<uint8_t> edges(2 * GUARD);
        CUDA(cudaMemcpy(edges.data(), memory, GUARD, cudaMemcpyDeviceToHost));
        CUDA(cudaMemcpy(edges.data() + GUARD, memory + GUARD + bytes, GUARD,
                        cudaMemcpyDeviceToHost));
        for (uint8_t edge : edges)
            if (edge != 0x5a)
                return false;
        return true;
    }
    std::vector<uint8_t> copy() const {
        std::vector<uint8_t> out(bytes);
        CUDA(cudaMemcpy(out.data(), as<uint8_t>(), bytes, cudaMemcpyDeviceToHost));
        return out;
    }
};

static __device__ float uniform(uint64_t index, uint64_t seed) {
    uint64_t z = (index + 1) * 0x9e3779b97f4a7c15ull + seed * 0xd1b54a32d192ed03ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (float)(int64_t)(z >> 40) * 0x1p-23f - 1.0f;
}

/* Uniform in -1 .. 1 as bf16, zero in channels used .. c - 1. */
static __global__ void fill(bf16 *x, size_t count, int c, int used, uint64_t seed) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < count;
         i += (size_t)gridDim.x * blockDim.x)
        x[i] = __float2bfloat16((int)(i % c) < used ? uniform(i, seed) : 0.0f);
}

/* Weights that bf16 holds exactly. */
static __global__ void fill_weights(float *w, int count, uint64_t seed) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        w[i] = __bfloat162float(__float2bfloat16(0.125f * uniform(i, seed)));
}

/* 64 values of a batch norm, positive where asked for. */
static __global__ void fill_channels(float *to, bool positive, uint64_t seed) {
    to[threadIdx.x] = uniform(threadIdx.x, seed) + (positive ? 1.5f : 0.0f);
}

static __global__ void fill_bytes(uint8_t *to, size_t count, uint64_t seed) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i < count)
        to[i] = (uint8_t)(int)(128.0f * (uniform(i, seed) + 1.0f));
}

/* ---- naive convolutions ---- */

struct shape {
    int n, h, w, c, used; /* c channels in memory, used of them not padding */
    size_t pixels() const {
        return (size_t)n * h * w;
    }
};

/* out[n, y, x, k], one thread each; w[k][r][s][used]. */
static __global__ void naive_run(const bf16 *in, const float *w, float *out, shape s) {
    size_t index = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (index >= (size_t)s.n * s.h * s.w * K)
        return;
    int k = index % K, x = index / K % s.w, y = index / K / s.w % s.h, n = index / K / s.w / s.h;
    float sum = 0.0f;
    for (int r = 0; r < 3; r++)
        for (int t = 0; t < 3; t++) {
            int v = y + r - 1, u = x + t - 1;
            if (v < 0 || v >= s.h || u < 0 || u >= s.w)
                continue;
            const bf16 *from = in + (((size_t)n * s.h + v) * s.w + u) * s.c;
            for (int c = 0; c < s.used; c++)
                sum += __bfloat162float(from[c]) * w[((k * 3 + r) * 3 + t) * s.used + c];
        }
    out[index] = sum;
}

/* din[n, y, x, c] = sum over k, r, s of dout[n, y + 1 - r, x + 1 - s, k] w[k, r, s, c]. */
static __global__ void naive_back(const bf16 *dout, const float *w, float *din, shape s) {
    size_t index = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (index >= (size_t)s.n * s.h * s.w * s.c)
        return;
    int c = index % s.c, x = index / s.c % s.w, y = index / s.c / s.w % s.h;
    int n = index / s.c / s.w / s.h;
    float sum = 0.0f;
    for (int r = 0; r < 3; r++)
        for (int t = 0; t < 3; t++) {
            int v = y + 1 - r, u = x + 1 - t;
            if (v < 0 || v >= s.h || u < 0 || u >= s.w)
                continue;
            const bf16 *from = dout + (((size_t)n * s.h + v) * s.w + u) * K;
            for (int k = 0; k < K; k++)
                sum += __bfloat162float(from[k]) * w[((k * 3 + r) * 3 + t) * s.used + c];
        }
    din[index] = sum;
}

/* dw[k, r, s, c]: block (k, r, s), thread (c, slice of the pixels). */
static __global__ void naive_weights(const bf16 *in, const bf16 *dout, float *dw, shape s) {
    __shared__ double slices[16][64];
    int t = blockIdx.x % 3, r = blockIdx.x / 3 % 3, k = blockIdx.x / 9, c = threadIdx.x;
    double sum = 0.0;
    for (size_t p = threadIdx.y; p < (size_t)s.n * s.h * s.w; p += blockDim.y) {
        int x = p % s.w + t - 1, y = p / s.w % s.h + r - 1;
        if (c < s.used && x >= 0 && x < s.w && y >= 0 && y < s.h)
            sum += (double)(__bfloat162float(dout[p * K + k]) *
                            __bfloat162float(in[((p / s.w / s.h * s.h + y) * s.w + x) * s.c + c]));
    }
    slices[threadIdx.y][c] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= s.used)
        return;
    for (int i = 1; i < (int)blockDim.y; i++)
        sum += slices[i][c];
    dw[((k * 3 + r) * 3 + t) * s.used + c] = (float)sum;
}

/* The weights of inference as bf16 holds them, and the bias; p.weight is [64][of_one]. */
static __global__ void naive_fold(npi_unit_params p, int of_one, float *folded, float *bias) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, k = i / of_one;
    if (k >= K)
        return;
    float scale = p.gamma[k] * (float)(1.0 / sqrt((double)p.running_var[k] + 1e-5));
    folded[i] = __bfloat162float(__float2bfloat16(p.weight[i] * scale));
    bias[k] = p.beta[k] - p.running_mean[k] * scale;
}

static __global__ void naive_finish(const float *x, const float *bias, const bf16 *residual,
                                    bool relu, float *y, size_t count) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= count)
        return;
    float sum = x[i] + bias[i % K] + (residual ? __bfloat162float(residual[i]) : 0.0f);
    y[i] = relu && sum < 0.0f ? 0.0f : sum;
}

/* ---- checks ---- */

static int failures;

static void verdict(const char *what, const shape &s, bool good, double worst) {
    printf("%-30s n %4d  %2dx%-2d  c %2d  worst error / bound %.3f  %s\n", what, s.n, s.h, s.w, s.c,
           worst, good ? "ok" : "FAILED");
    failures += !good;
}

static float value(float x) {
    return x;
}
static float value(bf16 x) {
    return __bfloat162float(x);
}

/* |got - wanted| <= relative (|wanted| + |reference| where `twice`) + absolute, wanted = reference + added; twice: the
 * reference's counterpart was rounded before the addition. */
template <typename T>
static bool near(const guarded &got, const guarded &reference, const std::vector<bf16> &added,
                 bool twice, double relative, double absolute, double *worst) {
    std::vector<uint8_t> a = got.copy(), b = reference.copy();
    const T *x = (const T *)a.data();
    const float *y = (const float *)b.data();
    size_t count = b.size() / sizeof(float), shown = 0;
    bool good = true;
    *worst = 0.0;
    for (size_t i = 0; i < count; i++) {
        double old = added.empty() ? 0.0 : (double)value(added[i]), wanted = (double)y[i] + old;
        double error = fabs((double)value(x[i]) - wanted);
        double ratio =
            error / (relative * (fabs(wanted) + (twice ? fabs((double)y[i]) : 0.0)) + absolute);
        if (ratio > *worst)
            *worst = ratio;
        if (!(ratio <= 1.0)) {
            good = false;
            if (shown++ < 3)
                printf("    element %zu: got %g, wanted %g\n", i, (double)value(x[i]), wanted);
        }
    }
    return good && got.intact();
}

/* The sums over blocks: of 64 values each, then of 64 others; bounded by sums of magnitudes. */
struct expected_sums {
    double value[2 * K] = {}, magnitude[2 * K] = {};
    void add(int which, double x) {
        value[which] += x;
        magnitude[which] += fabs(x);
    }
    bool near(const guarded &sums, int blocks, double *worst) const {
        std::vector<uint8_t> bytes = sums.copy();
        const float *s = (const float *)bytes.data();
        *worst = 0.0;
        bool good = sums.intact();
        for (int k = 0; k < 2 * K; k++) {
            double total = 0.0;
            for (int i = 0; i < blocks; i++)
                total += (double)s[i * 2 * K + k];
            double ratio = fabs(total - value[k]) / (1e-5 * magnitude[k] + 1e-5);
            if (ratio > *worst)
                *worst = ratio;
            good = good && ratio <= 1.0;
        }
        return good;
    }
};

template <typename T> static std::vector<T> values(const guarded &from) {
    std::vector<uint8_t> bytes = from.copy();
    std::vector<T> out(bytes.size() / sizeof(T));
    memcpy(out.data(), bytes.data(), bytes.size());
    return out;
}

static expected_sums forward_sums(const guarded &reference) {
    expected_sums sums;
    std::vector<float> y = values<float>(reference);
    for (size_t i = 0; i < y.size(); i++) {
        sums.add(i % K, (double)y[i]);
        sums.add(K + i % K, (double)y[i] * (double)y[i]);
    }
    return sums;
}

/* Of dz = reference + old (where there is an old) where passed, and of dz (c - mean). */
static expected_sums backward_sums(const guarded &reference, const std::vector<bf16> &old,
                                   const guarded &c, const guarded &mean, const guarded &passed) {
    expected_sums sums;
    std::vector<float> dx = values<float>(reference), m = values<float>(mean);
    std::vector<bf16> map = values<bf16>(c);
    std::vector<uint8_t> bits = values<uint8_t>(passed);
    for (size_t i = 0; i < dx.size(); i++) {
        if (!(bits[i / 8] >> i % 8 & 1))
            continue;
        double dz = (double)dx[i] + (old.empty() ? 0.0 : (double)value(old[i]));
        sums.add(i % K, dz);
        sums.add(K + i % K, dz * ((double)value(map[i]) - (double)m[i % K]));
    }
    return sums;
}

static unsigned blocks_of(size_t threads) {
    return (unsigned)((threads + 255) / 256);
}

/* Inference with and without residual and ReLU; the last one in place. */
static void check_infer(const shape &s, const npi_conv90 *plan, const guarded &in,
                        const guarded &w) {
    const size_t count = s.pixels() * K;
    const int w_count = K * 9 * s.used;
    guarded channels(4 * K * 4), folded(w_count * 4), bias(K * 4), wanted_bias(K * 4);
    guarded image(npi_conv90_image_bytes(s.c)), residual(count * 2), out(count * 2);
    guarded sums(count * 4), wanted(count * 4);
    float *channel = channels.as<float>();
    for (int i = 0; i < 4; i++)
        fill_channels<<<1, K>>>(channel + i * K, i == 3, 10 + i);
    const npi_unit_params params = {w.as<float>(), channel, channel + K, channel + 2 * K,
                                    channel + 3 * K};
    must(npi_conv90_fold(&params, s.used, s.c, image.as<void>(), bias.as<float>(), 0));
    naive_fold<<<blocks_of(w_count), 256>>>(params, 9 * s.used, folded.as<float>(),
                                            wanted_bias.as<float>());
    naive_run<<<blocks_of(count), 256>>>(in.as<bf16>(), folded.as<float>(), sums.as<float>(), s);
    fill<<<1024, 256>>>(residual.as<bf16>(), count, K, K, 14);
    double worst;
    bool good = near<float>(bias, wanted_bias, {}, false, 1e-6, 1e-6, &worst) && image.intact();
    verdict("bias of inference", s, good, worst);
    for (int i = 0; i < 4; i++) {
        const bool relu = i % 2 == 1, in_place = i == 3;
        const bf16 *added = i < 2 ? NULL : residual.as<bf16>();
        naive_finish<<<blocks_of(count), 256>>>(sums.as<float>(), wanted_bias.as<float>(), added,
                                                relu, wanted.as<float>(), count);
        CUDA(cudaMemset(out.as<void>(), 0xff, out.bytes));
        if (in_place)
            CUDA(cudaMemcpy(out.as<void>(), added, out.bytes, cudaMemcpyDeviceToDevice));
        must(npi_conv90_infer(plan, in.as<bf16>(), image.as<void>(), bias.as<float>(),
                              in_place ? out.as<bf16>() : added, relu, out.as<bf16>(), 0));
        good = near<bf16>(out, wanted, {}, false, 0x1p-8, 1e-4, &worst);
        verdict(i == 0   ? "inference"
                : i == 1 ? "inference, ReLU"
                : i == 2 ? "inference, residual"
                         : "inference, residual, ReLU",
                s, good, worst);
    }
}

/* The input's gradient with the sums of the batch norm before; plain: what npi_conv90_run makes of it. */
static void check_back(const shape &s, const npi_conv90 *plan, const guarded &dout,
                       const guarded &image, const guarded &reference, const guarded &plain) {
    const size_t count = s.pixels() * K;
    guarded c(count * 2), mean(K * 4), passed(count / 8), dx(count * 2);
    guarded sums((size_t)plan->blocks * 2 * K * 4);
    fill<<<1024, 256>>>(c.as<bf16>(), count, K, K, 6);
    fill_channels<<<1, K>>>(mean.as<float>(), false, 7);
    fill_bytes<<<blocks_of(passed.bytes), 256>>>(passed.as<uint8_t>(), passed.bytes, 8);
    const npi_conv90_before before = {c.as<bf16>(), mean.as<float>(), passed.as<uint8_t>()};
    for (int add = 0; add < 2; add++) {
        std::vector<bf16> old;
        std::vector<uint8_t> first[2];
        for (int i = 0; i < 2; i++) {
            fill<<<1024, 256>>>(dx.as<bf16>(), count, K, K, 9);
            if (add)
                old = values<bf16>(dx);
            CUDA(cudaMemset(sums.as<void>(), 0xff, sums.bytes));
            must(npi_conv90_back(plan, dout.as<bf16>(), image.as<void>(), &before, dx.as<bf16>(),
                                 add != 0, sums.as<float>(), 0));
            if (i == 0) {
                first[0] = dx.copy();
                first[1] = sums.copy();
            }
        }
        double worst;
        bool good = near<bf16>(dx, reference, old, false, 0x1p-8, 1e-4, &worst);
        good = good && first[0] == dx.copy() && (add || first[0] == plain.copy());
        verdict(add ? "gradient before, added" : "gradient before", s, good, worst);
        good = backward_sums(reference, old, c, mean, passed).near(sums, plan->blocks, &worst);
        good = good && first[1] == sums.copy() && passed.intact() && c.intact();
        verdict(add ? "its sums, added" : "its sums", s, good, worst);
    }
}

static void check(const shape &s, int multiprocessors) {
    const size_t in_count = s.pixels() * s.c, out_count = s.pixels() * K;
    const int w_count = K * 9 * s.used;
    npi_conv90 plan = npi_conv90_plan(s.n, s.h, s.w, s.c, multiprocessors);
    guarded in(in_count * 2), w(w_count * 4), reference(out_count * 4), out(out_count * 2);
    guarded forward(npi_conv90_image_bytes(s.c)), backward(npi_conv90_image_bytes(s.c));
    guarded sums((size_t)plan.blocks * 2 * K * 4), scratch(npi_conv90_scratch_bytes(&plan));
    double worst;
    fill<<<1024, 256>>>(in.as<bf16>(), in_count, s.c, s.used, 1);
    fill_weights<<<blocks_of(w_count), 256>>>(w.as<float>(), w_count, 2);
    must(npi_conv90_pack(w.as<float>(), s.used, s.c, forward.as<void>(),
                         s.c == K ? backward.as<void>() : NULL, 0));
    naive_run<<<blocks_of(out_count), 256>>>(in.as<bf16>(), w.as<float>(), reference.as<float>(),
                                             s);
    CUDA(cudaMemset(out.as<void>(), 0xff, out.bytes));
    must(npi_conv90_run(&plan, in.as<bf16>(), forward.as<void>(), out.as<bf16>(), false, NULL, 0));
    bool good = near<bf16>(out, reference, {}, false, 0x1p-8, 1e-4, &worst) && forward.intact();
    verdict("forward", s, good, worst);

    std::vector<uint8_t> before = out.copy();
    CUDA(cudaMemset(out.as<void>(), 0xff, out.bytes));
    CUDA(cudaMemset(sums.as<void>(), 0xff, sums.bytes));
    must(npi_conv90_run(&plan, in.as<bf16>(), forward.as<void>(), out.as<bf16>(), false,
                        sums.as<float>(), 0));
    good = forward_sums(reference).near(sums, plan.blocks, &worst);
    verdict("forward with sums", s, good && out.intact() && before == out.copy(), worst);

    check_infer(s, &plan, in, w);
    if (s.c == K) { /* out serves as dout, as it does in the network */
        guarded din(in_count * 2), din_reference(in_count * 4);
        naive_back<<<blocks_of(in_count), 256>>>(out.as<bf16>(), w.as<float>(),
                                                 din_reference.as<float>(), s);
        CUDA(cudaMemset(din.as<void>(), 0xff, din.bytes));
        must(npi_conv90_run(&plan, out.as<bf16>(), backward.as<void>(), din.as<bf16>(), false, NULL,
                            0));
        good = near<bf16>(din, din_reference, {}, false, 0x1p-8, 1e-4, &worst) && backward.intact();
        verdict("gradient of the input", s, good, worst);
        check_back(s, &plan, out, backward, din_reference, din);
        fill<<<1024, 256>>>(din.as<bf16>(), in_count, K, K, 3);
        std::vector<bf16> old = values<bf16>(din);
        must(npi_conv90_run(&plan, out.as<bf16>(), backward.as<void>(), din.as<bf16>(), true, NULL,
                            0));
        good = near<bf16>(din, din_reference, old, true, 0x1p-8, 1e-4, &worst);
        verdict("gradient of the input, added", s, good, worst);
    }

    guarded dout(out_count * 2), dw(w_count * 4), dw_reference(w_count * 4);
    fill<<<1024, 256>>>(dout.as<bf16>(), out_count, K, K, 4);
    naive_weights<<<K * 9, dim3(64, 16)>>>(in.as<bf16>(), dout.as<bf16>(), dw_reference.as<float>(),
                                           s);
    std::vector<uint8_t> first;
    for (int i = 0; i < 2; i++) {
        CUDA(cudaMemset(dw.as<void>(), 0xff, dw.bytes));
        CUDA(cudaMemset(scratch.as<void>(), 0xff, scratch.bytes));
        must(npi_conv90_weights(&plan, in.as<bf16>(), dout.as<bf16>(), s.used, dw.as<float>(),
                                scratch.as<float>(), 0));
        if (i == 0)
            first = dw.copy();
    }
    good = near<float>(dw, dw_reference, {}, false, 2e-5, 1e-4 * sqrt((double)s.pixels()), &worst);
    verdict("gradient of the weights", s, good && scratch.intact() && first == dw.copy(), worst);
    CUDA(cudaDeviceSynchronize());
}

/* ---- times ---- */

/* Microseconds a call: the least mean of five rounds of twenty, recorded into a graph where `graph`. */
template <typename F> static double microseconds(bool graph, F call) {
    constexpr int ROUNDS = 5, CALLS = 20;
    cudaStream_t stream;
    cudaEvent_t began, ended;
    cudaGraphExec_t exec = NULL;
    CUDA(cudaDeviceSynchronize()); /* data are made on another stream */
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA(cudaEventCreate(&began));
    CUDA(cudaEventCreate(&ended));
    for (int i = 0; i < 3; i++)
        call(stream);
    if (graph) {
        cudaGraph_t recorded;
        CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        for (int i = 0; i < CALLS; i++)
            call(stream);
        CUDA(cudaStreamEndCapture(stream, &recorded));
        CUDA(cudaGraphInstantiate(&exec, recorded, 0));
        CUDA(cudaGraphDestroy(recorded));
        CUDA(cudaGraphLaunch(exec, stream));
    }
    float best = INFINITY;
    for (int i = 0; i < ROUNDS; i++) {
        CUDA(cudaEventRecord(began, stream));
        if (graph)
            CUDA(cudaGraphLaunch(exec, stream));
        for (int j = 0; !graph && j < CALLS; j++)
            call(stream);
        CUDA(cudaEventRecord(ended, stream));
        CUDA(cudaEventSynchronize(ended));
        float ms;
        CUDA(cudaEventElapsedTime(&ms, began, ended));
        best = fminf(best, ms);
    }
    if (exec)
        CUDA(cudaGraphExecDestroy(exec));
    CUDA(cudaEventDestroy(began));
    CUDA(cudaEventDestroy(ended));
    CUDA(cudaStreamDestroy(stream));
    return 1e3 * (double)best / CALLS;
}

static void report(const char *what, const shape &s, double ours, double peer) {
    const double flops = 2.0 * (double)s.pixels() * (double)(K * 9 * s.used);
    printf("%-30s n %4d  %2dx%-2d  c %2d  npos %7.1f us %6.1f TF/s  cuDNN %7.1f us %6.1f TF/s"
           "  ratio %.2f\n",
           what, s.n, s.h, s.w, s.c, ours, flops / ours * 1e-6, peer, flops / peer * 1e-6,
           peer / ours);
}

/* A shape's data and cuDNN's words for it. */
struct timing {
    enum { FOUND = 8 };
    const shape s;
    const npi_conv90 plan;
    const size_t in_count, out_count, w_count, workspace_bytes = (size_t)1 << 30;
    guarded in, w, w_half, out, other, image, dw, sums, scratch, workspace, bias, residual;
    cudnnHandle_t dnn;
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t filter;
    cudnnConvolutionDescriptor_t conv;
    const float one = 1.0f, zero = 0.0f;
    int count;
    double forward_peer;

    timing(const shape &of, int multiprocessors)
        : s(of), plan(npi_conv90_plan(s.n, s.h, s.w, s.c, multiprocessors)),
          in_count(s.pixels() * s.c), out_count(s.pixels() * K), w_count(K * 9 * s.c),
          in(in_count * 2), w(w_count * 4), w_half(w_count * 2), out(out_count * 2),
          other(in_count * 2), image(npi_conv90_image_bytes(s.c)), dw(w_count * 4),
          sums((size_t)plan.blocks * 2 * K * 4), scratch(npi_conv90_scratch_bytes(&plan)),
          workspace(workspace_bytes), bias(K * 4), residual(out_count * 2) {
        fill<<<1024, 256>>>(in.as<bf16>(), in_count, s.c, s.used, 1);
        fill_outputs();
        fill<<<1024, 256>>>(w_half.as<bf16>(), w_count, s.c, s.used, 3);
        fill_weights<<<blocks_of(w_count), 256>>>(w.as<float>(), (int)w_count, 4);
        fill_channels<<<1, K>>>(bias.as<float>(), false, 6);
        fill<<<1024, 256>>>(residual.as<bf16>(), out_count, K, K, 7);
        must(npi_conv90_pack(w.as<float>(), s.c, s.c, image.as<void>(), NULL, 0));
        CUDNN(cudnnCreate(&dnn));
        CUDNN(cudnnCreateTensorDescriptor(&x));
        CUDNN(cudnnCreateTensorDescriptor(&y));
        CUDNN(cudnnCreateFilterDescriptor(&filter));
        CUDNN(cudnnCreateConvolutionDescriptor(&conv));
        CUDNN(cudnnSetTensor4dDescriptor(x, CUDNN_TENSOR_NHWC, CUDNN_DATA_BFLOAT16, s.n, s.c, s.h,
                                         s.w));
        CUDNN(cudnnSetTensor4dDescriptor(y, CUDNN_TENSOR_NHWC, CUDNN_DATA_BFLOAT16, s.n, K, s.h,
                                         s.w));
        CUDNN(cudnnSetFilter4dDescriptor(filter, CUDNN_DATA_BFLOAT16, CUDNN_TENSOR_NHWC, K, s.c, 3,
                                         3));
        CUDNN(cudnnSetConvolution2dDescriptor(conv, 1, 1, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION,
                                              CUDNN_DATA_FLOAT));
        CUDNN(cudnnSetConvolutionMathType(conv, CUDNN_TENSOR_OP_MATH));
    }

    ~timing() {
        CUDNN(cudnnDestroyConvolutionDescriptor(conv));
        CUDNN(cudnnDestroyFilterDescriptor(filter));
        CUDNN(cudnnDestroyTensorDescriptor(y));
        CUDNN(cudnnDestroyTensorDescriptor(x));
        CUDNN(cudnnDestroy(dnn));
    }

    void fill_outputs() {
        fill<<<1024, 256>>>(out.as<bf16>(), out_count, K, K, 2);
    }

    void time_forward();
    void time_inference();
    void time_input_gradient();
    void time_weights();
};

void timing::time_forward() {
    cudnnConvolutionFwdAlgoPerf_t forward[FOUND];
    CUDNN(cudnnFindConvolutionForwardAlgorithmEx(dnn, x, in.as<void>(), filter, w_half.as<void>(),
                                                 conv, y, out.as<void>(), FOUND, &count, forward,
                                                 workspace.as<void>(), workspace_bytes));
    CUDNN(cudnnSetConvolutionMathType(conv, forward[0].mathType));
    const double peer = microseconds(false, [&](cudaStream_t stream) {
        CUDNN(cudnnSetStream(dnn, stream));
        CUDNN(cudnnConvolutionForward(dnn, &one, x, in.as<void>(), filter, w_half.as<void>(), conv,
                                      forward[0].algo, workspace.as<void>(), workspace_bytes, &zero,
                                      y, out.as<void>()));
    });
    double ours = microseconds(true, [&](cudaStream_t stream) {
        must(npi_conv90_run(&plan, in.as<bf16>(), image.as<void>(), out.as<bf16>(), false, NULL,
                            stream));
    });
    report("forward", s, ours, peer);
    forward_peer = peer;
    ours = microseconds(true, [&](cudaStream_t stream) {
        must(npi_conv90_run(&plan, in.as<bf16>(), image.as<void>(), out.as<bf16>(), false,
                            sums.as<float>(), stream));
    });
    report("forward with sums", s, ours, peer);
}

void timing::time_inference() {
    for (int i = 0; i < 2; i++) {
        const double ours = microseconds(true, [&](cudaStream_t stream) {
            must(npi_conv90_infer(&plan, in.as<bf16>(), image.as<void>(), bias.as<float>(),
                                  i == 0 ? NULL : residual.as<bf16>(), true, out.as<bf16>(),
                                  stream));
        });
        report(i == 0 ? "inference, ReLU" : "inference, residual, ReLU", s, ours, forward_peer);
    }
}

void timing::time_input_gradient() {
    cudnnConvolutionBwdDataAlgoPerf_t back[FOUND];
    CUDNN(cudnnSetConvolutionMathType(conv, CUDNN_TENSOR_OP_MATH));
    CUDNN(cudnnFindConvolutionBackwardDataAlgorithmEx(
        dnn, filter, w_half.as<void>(), y, out.as<void>(), conv, x, other.as<void>(), FOUND, &count,
        back, workspace.as<void>(), workspace_bytes));
    CUDNN(cudnnSetConvolutionMathType(conv, back[0].mathType));
    guarded passed(in_count / 8);
    fill_bytes<<<blocks_of(passed.bytes), 256>>>(passed.as<uint8_t>(), passed.bytes, 8);
    const npi_conv90_before before = {residual.as<bf16>(), bias.as<float>(), passed.as<uint8_t>()};
    for (int add = 0; add < 2; add++) {
        const double peer = microseconds(false, [&](cudaStream_t stream) {
            CUDNN(cudnnSetStream(dnn, stream));
            CUDNN(cudnnConvolutionBackwardData(
                dnn, &one, filter, w_half.as<void>(), y, out.as<void>(), conv, back[0].algo,
                workspace.as<void>(), workspace_bytes, add ? &one : &zero, x, other.as<void>()));
        });
        fill<<<1024, 256>>>(other.as<bf16>(), in_count, s.c, s.used, 5);
        const double ours = microseconds(true, [&](cudaStream_t stream) {
            must(npi_conv90_run(&plan, out.as<bf16>(), image.as<void>(), other.as<bf16>(), add != 0,
                                NULL, stream));
        });
        report(add ? "gradient of the input, added" : "gradient of the input", s, ours, peer);
        fill<<<1024, 256>>>(other.as<bf16>(), in_count, s.c, s.used, 5);
        const double more = microseconds(true, [&](cudaStream_t stream) {
            must(npi_conv90_back(&plan, out.as<bf16>(), image.as<void>(), &before, other.as<bf16>(),
                                 add != 0, sums.as<float>(), stream));
        });
        report(add ? "gradient before, added" : "gradient before", s, more, peer);
        printf("%-30s %.1f us\n", "    its sums cost", more - ours);
    }
}

void timing::time_weights() {
    cudnnConvolutionBwdFilterAlgoPerf_t gradient[FOUND];
    CUDNN(cudnnSetConvolutionMathType(conv, CUDNN_TENSOR_OP_MATH));
    CUDNN(cudnnFindConvolutionBackwardFilterAlgorithmEx(
        dnn, x, in.as<void>(), y, out.as<void>(), conv, filter, w_half.as<void>(), FOUND, &count,
        gradient, workspace.as<void>(), workspace_bytes));
    CUDNN(cudnnSetConvolutionMathType(conv, gradient[0].mathType));
    const double peer = microseconds(false, [&](cudaStream_t stream) {
        CUDNN(cudnnSetStream(dnn, stream));
        CUDNN(cudnnConvolutionBackwardFilter(dnn, &one, x, in.as<void>(), y, out.as<void>(), conv,
                                             gradient[0].algo, workspace.as<void>(),
                                             workspace_bytes, &zero, filter, w_half.as<void>()));
    });
    const double ours = microseconds(true, [&](cudaStream_t stream) {
        must(npi_conv90_weights(&plan, in.as<bf16>(), out.as<bf16>(), s.used, dw.as<float>(),
                                scratch.as<float>(), stream));
    });
    report("gradient of the weights", s, ours, peer);
}

static void time_all(const shape &s, int multiprocessors) {
    timing t(s, multiprocessors);
    t.time_forward();
    t.time_inference();
    CUDNN(cudnnSetStream(t.dnn, NULL));
    t.fill_outputs();
    if (s.c == K)
        t.time_input_gradient();
    CUDNN(cudnnSetStream(t.dnn, NULL));
    t.time_weights();
}

int main(int argc, char **argv) {
    static const npi_cuda_host host = {NPI_CUDA_MODULE_VERSION, say, say};
    npi_cuda_fail_through(&host);
    const char *part = argc > 1 ? argv[1] : "";
    cudaDeviceProp device;
    CUDA(cudaGetDeviceProperties(&device, 0));
    if (device.major != 9 || device.minor != 0) {
        fprintf(stderr, "conv90 needs a GPU of capability 9.0; %s has %d.%d\n", device.name,
                device.major, device.minor);
        return 77;
    }
    printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
    if (strcmp(part, "time") != 0) {
        static const shape small[] = {
            {1, 32, 32, 64, 64}, {3, 32, 32, 64, 64}, {37, 32, 32, 64, 64}, {5, 7, 20, 64, 64},
            {9, 1, 1, 64, 64},   {1, 32, 32, 8, 3},   {37, 32, 32, 8, 3},   {5, 7, 20, 8, 8},
            {3, 5, 33, 64, 64},  {2, 9, 15, 64, 64},  {3, 5, 33, 8, 3},
        };
        static const shape large[] = {
            {300, 32, 32, 64, 64}, {512, 32, 32, 64, 64}, {512, 32, 32, 8, 3}};
        for (const shape &s : small)
            check(s, device.multiProcessorCount);
        check(small[2], 3); /* blocks with several units */
        check(small[6], 3);
        for (const shape &s : large)
            if (strcmp(part, "check") != 0)
                check(s, device.multiProcessorCount);
    }
    if (strcmp(part, "check") != 0)
        for (int n : {512, 256, 128}) {
            time_all({n, 32, 32, 64, 64}, device.multiProcessorCount);
            time_all({n, 32, 32, 8, 3}, device.multiProcessorCount);
        }
    printf(failures ? "%d checks FAILED\n" : "all checks passed\n", failures);
    return failures > 0;
}
