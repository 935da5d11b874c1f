#include "devices/cuda/cuda.cuh"

/* Pooling, a thread to 8 channels of a pixel.  Winners lie as the outputs do, N x H x W x C bytes
 * without padded channels. */
enum { THREADS = 256, IMAGE_THREADS = 64, TAPS = 3 };

struct sides {
    int h, w, out_h, out_w;
};

/* Pixel (n, y, x) and group of 8 channels of a thread, counted from the channels up. */
struct place {
    unsigned group, x, y, n;
};

static __device__ __forceinline__ place place_of(unsigned i, int groups, int h, int w) {
    unsigned pixel = i / (unsigned)groups, row = pixel / (unsigned)w;
    return {i % (unsigned)groups, pixel % (unsigned)w, row % (unsigned)h, row / (unsigned)h};
}

static __device__ __forceinline__ int64_t pixel_at(place at, int h, int w, int y, int x) {
    return ((int64_t)at.n * h + y) * w + x;
}

/* The 8 winners of a group from `index` on, where c - first channels exist. */
static __device__ __forceinline__ uint2 load_winners(const uint8_t *index, int c, int first) {
    if (c % 8 == 0)
        return *(const uint2 *)index;
    uint32_t word[2] = {};
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (first + j < c)
            word[j / 4] |= (uint32_t)index[j] << 8 * (j % 4);
    return make_uint2(word[0], word[1]);
}

static __device__ __forceinline__ void store_winners(uint8_t *index, int c, int first,
                                                     const uint32_t *winner) {
    if (c % 8 == 0) {
        *(uint2 *)index =
            make_uint2(winner[0] | winner[1] << 8 | winner[2] << 16 | winner[3] << 24,
                       winner[4] | winner[5] << 8 | winner[6] << 16 | winner[7] << 24);
        return;
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (first + j < c)
            index[j] = (uint8_t)winner[j];
}

/* The first of the largest in the window; a NaN wins only where it is the window's first. */
template <class T>
static __global__ void max_forward_kernel(unsigned count, int c, sides s, const T *x, T *y,
                                          uint8_t *index) {
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    int groups = npi_cuda_padded(c) / 8;
    place at = place_of(i, groups, s.out_h, s.out_w);
    int top = 2 * (int)at.y - 1, left = 2 * (int)at.x - 1;
    int first_row = top < 0, first_column = left < 0;
    const T *from = x + (int64_t)at.group * 8;
    int64_t stride = (int64_t)groups * 8;
    npi_float8 best =
        npi_load8(from + pixel_at(at, s.h, s.w, top + first_row, left + first_column) * stride);
    uint32_t winner[8];
#pragma unroll
    for (int j = 0; j < 8; j++)
        winner[j] = (uint32_t)(first_row * TAPS + first_column);
#pragma unroll
    for (int k = 0; k < TAPS * TAPS; k++) {
        int row = top + k / TAPS, column = left + k % TAPS;
        if (row < 0 || row >= s.h || column < 0 || column >= s.w)
            continue;
        npi_float8 value = npi_load8(from + pixel_at(at, s.h, s.w, row, column) * stride);
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (value.v[j] > best.v[j]) {
                best.v[j] = value.v[j];
                winner[j] = (uint32_t)k;
            }
    }
    npi_store8(y + (int64_t)i * 8, best);
    int first = (int)at.group * 8;
    store_winners(index + (int64_t)(i / (unsigned)groups) * c + first, c, first, winner);
}

/* A pixel sums the outputs that it won: of up to four windows, in their order. */
template <class T>
static __global__ void max_backward_kernel(unsigned count, int c, sides s, const T *dy,
                                           const uint8_t *index, T *dx) {
    unsigned i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    int groups = npi_cuda_padded(c) / 8;
    place at = place_of(i, groups, s.h, s.w);
    int row = (int)at.y, column = (int)at.x, first = (int)at.group * 8;
    npi_float8 sum = {};
#pragma unroll
    for (int k = 0; k < 4; k++) {
        int oy = row / 2 + k / 2, ox = column / 2 + k % 2;
        if (oy > (row + 1) / 2 || oy >= s.out_h || ox > (column + 1) / 2 || ox >= s.out_w)
            continue;
        uint32_t tap = (uint32_t)((row - 2 * oy + 1) * TAPS + column - 2 * ox + 1);
        int64_t pixel = pixel_at(at, s.out_h, s.out_w, oy, ox);
        npi_float8 value = npi_load8(dy + (pixel * groups + at.group) * 8);
        uint2 winners = load_winners(index + pixel * c + first, c, first);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            uint32_t winner = (j < 4 ? winners.x : winners.y) >> 8 * (j % 4) & 0xffu;
            sum.v[j] += first + j < c && winner == tap ? value.v[j] : 0.0f;
        }
    }
    npi_store8(dx + (int64_t)i * 8, sum);
}

static npos_status check_max(npi_act x, npi_act y) {
    if (x.n != y.n || x.c != y.c || y.h != (x.h - 1) / 2 + 1 || y.w != (x.w - 1) / 2 + 1)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "max pooling: %d x %d x %d x %d to %d x %d x %d x %d, expected half the "
                        "height and width, rounded up",
                        x.n, x.c, x.h, x.w, y.n, y.c, y.h, y.w);
    return NPOS_OK;
}

/* Threads that write `act`, 8 channels each. */
static npos_status count_threads(npi_act act, unsigned *count) {
    int64_t threads = (int64_t)act.n * act.h * act.w * (npi_cuda_padded(act.c) / 8);
    if (threads > INT32_MAX)
        return npi_fail(NPOS_UNSUPPORTED,
                        "max pooling: %d x %d x %d x %d is %lld groups of 8 channels, at most "
                        "2147483647 are possible",
                        act.n, act.c, act.h, act.w, (long long)threads);
    *count = (unsigned)threads;
    return NPOS_OK;
}

template <class T>
static void launch_max_forward(npi_device *dev, unsigned count, npi_act x, npi_act y,
                               uint8_t *index) {
    max_forward_kernel<T>
        <<<(unsigned)npi_ceil_div(count, THREADS), THREADS, 0, npi_cuda_stream(dev)>>>(
            count, x.c, {x.h, x.w, y.h, y.w}, (const T *)x.data, (T *)y.data, index);
}

static npos_status max_forward(npi_device *dev, npi_act x, npi_act y, uint8_t *index) {
    unsigned count = 0;
    NPI_TRY(check_max(x, y));
    NPI_TRY(count_threads(y, &count));
    if (count == 0)
        return NPOS_OK;
    NPI_BY_TYPE(dev, launch_max_forward, dev, count, x, y, index);
    return npi_cuda_launched(dev, "max pooling forward");
}

template <class T>
static void launch_max_backward(npi_device *dev, unsigned count, npi_act dy, const uint8_t *index,
                                npi_act dx) {
    max_backward_kernel<T>
        <<<(unsigned)npi_ceil_div(count, THREADS), THREADS, 0, npi_cuda_stream(dev)>>>(
            count, dx.c, {dx.h, dx.w, dy.h, dy.w}, (const T *)dy.data, index, (T *)dx.data);
}

static npos_status max_backward(npi_device *dev, npi_act dy, const uint8_t *index, npi_act dx) {
    unsigned count = 0;
    NPI_TRY(check_max(dx, dy));
    NPI_TRY(count_threads(dx, &count));
    if (count == 0)
        return NPOS_OK;
    NPI_BY_TYPE(dev, launch_max_backward, dev, count, dy, index, dx);
    return npi_cuda_launched(dev, "max pooling backward");
}

/* ---- global mean: a thread to 8 channels of an image ---- */

template <class T>
static __global__ void mean_forward_kernel(int n, int c, int pixels, const T *x, float *rows) {
    int64_t i = (int64_t)blockIdx.x * IMAGE_THREADS + threadIdx.x;
    int64_t groups = npi_cuda_padded(c) / 8, image = i / groups, first = i % groups * 8;
    if (image >= n)
        return;
    const T *from = x + image * pixels * groups * 8 + first;
    npi_float8 sum = {};
#pragma unroll 8
    for (int p = 0; p < pixels; p++) {
        npi_float8 value = npi_load8(from + p * groups * 8);
#pragma unroll
        for (int j = 0; j < 8; j++)
            sum.v[j] += value.v[j];
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (first + j < c)
            rows[image * c + first + j] = sum.v[j] / (float)pixels;
}

template <class T>
static __global__ void mean_backward_kernel(int n, int c, int pixels, const float *drows, T *dx) {
    int64_t i = (int64_t)blockIdx.x * IMAGE_THREADS + threadIdx.x;
    int64_t groups = npi_cuda_padded(c) / 8, image = i / groups, first = i % groups * 8;
    if (image >= n)
        return;
    npi_float8 share;
#pragma unroll
    for (int j = 0; j < 8; j++)
        share.v[j] = first + j < c ? drows[image * c + first + j] / (float)pixels : 0.0f;
    T *to = dx + image * pixels * groups * 8 + first;
    for (int p = 0; p < pixels; p++)
        npi_store8(to + p * groups * 8, share);
}

static unsigned mean_blocks(npi_act act) {
    return (unsigned)npi_ceil_div((int64_t)act.n * (npi_cuda_padded(act.c) / 8), IMAGE_THREADS);
}

template <class T> static void launch_mean_forward(npi_device *dev, npi_act x, float *rows) {
    mean_forward_kernel<T><<<mean_blocks(x), IMAGE_THREADS, 0, npi_cuda_stream(dev)>>>(
        x.n, x.c, x.h * x.w, (const T *)x.data, rows);
}

template <class T>
static void launch_mean_backward(npi_device *dev, const float *drows, npi_act dx) {
    mean_backward_kernel<T><<<mean_blocks(dx), IMAGE_THREADS, 0, npi_cuda_stream(dev)>>>(
        dx.n, dx.c, dx.h * dx.w, drows, (T *)dx.data);
}

static npos_status mean_forward(npi_device *dev, npi_act x, float *rows) {
    if (mean_blocks(x) == 0)
        return NPOS_OK;
    NPI_BY_TYPE(dev, launch_mean_forward, dev, x, rows);
    return npi_cuda_launched(dev, "mean pooling forward");
}

static npos_status mean_backward(npi_device *dev, const float *drows, npi_act dx) {
    if (mean_blocks(dx) == 0)
        return NPOS_OK;
    NPI_BY_TYPE(dev, launch_mean_backward, dev, drows, dx);
    return npi_cuda_launched(dev, "mean pooling backward");
}

const npi_pool_ops npi_cuda_pools = {.max_forward = max_forward,
                                     .max_backward = max_backward,
                                     .mean_forward = mean_forward,
                                     .mean_backward = mean_backward};
