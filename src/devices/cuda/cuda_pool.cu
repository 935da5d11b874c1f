/* Pooling.  A thread owns 8 channels of a pixel, so that nothing is added by two. */
#include "devices/cuda/cuda.cuh"

static constexpr int THREADS = 256, LANES = 32;

static npos_status check_max(npi_act x, npi_act y) {
    if (y.n == x.n && y.c == x.c && y.h == (x.h - 1) / 2 + 1 && y.w == (x.w - 1) / 2 + 1)
        return NPOS_OK;
    return npi_fail(NPOS_SHAPE_MISMATCH,
                    "max pooling: %d x %d x %d x %d to %d x %d x %d x %d, expected half the side",
                    x.n, x.c, x.h, x.w, y.n, y.c, y.h, y.w);
}

/* The winners of padding channels have no place in `index` [n][oh][ow][c] and are not kept. */
template <typename T>
static __global__ void max_forward_kernel(npi_act x, npi_act y, int groups, int64_t count,
                                          uint8_t *index) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int group = (int)(i % groups), ox = (int)(i / groups % y.w),
              oy = (int)(i / groups / y.w % y.h);
    const int64_t n = i / groups / y.w / y.h;
    npi_float8 best = {};
    int winner[8];
#pragma unroll
    for (int j = 0; j < 8; j++)
        winner[j] = -1;
#pragma unroll
    for (int k = 0; k < 9; k++) {
        const int iy = 2 * oy - 1 + k / 3, ix = 2 * ox - 1 + k % 3;
        if (iy < 0 || iy >= x.h || ix < 0 || ix >= x.w)
            continue;
        const npi_float8 v =
            npi_load8((const T *)x.data + (((n * x.h + iy) * x.w + ix) * groups + group) * 8);
#pragma unroll
        for (int j = 0; j < 8; j++)
            if (winner[j] < 0 || v.v[j] > best.v[j]) {
                winner[j] = k;
                best.v[j] = v.v[j];
            }
    }
    npi_store8((T *)y.data + i * 8, best);
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (group * 8 + j < y.c)
            index[i / groups * y.c + group * 8 + j] = (uint8_t)winner[j];
}

/* A pixel lies in at most two windows each way. */
template <typename T>
static __global__ void max_backward_kernel(npi_act dy, npi_act dx, int groups, int64_t count,
                                           const uint8_t *index) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int group = (int)(i % groups), ix = (int)(i / groups % dx.w),
              iy = (int)(i / groups / dx.w % dx.h);
    const int64_t n = i / groups / dx.w / dx.h;
    npi_float8 sum = {};
    for (int oy = iy / 2; oy <= (iy + 1) / 2 && oy < dy.h; oy++)
        for (int ox = ix / 2; ox <= (ix + 1) / 2 && ox < dy.w; ox++) {
            const int k = (iy - 2 * oy + 1) * 3 + ix - 2 * ox + 1;
            const int64_t pixel = (n * dy.h + oy) * dy.w + ox;
            const npi_float8 d = npi_load8((const T *)dy.data + (pixel * groups + group) * 8);
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (group * 8 + j < dy.c && index[pixel * dy.c + group * 8 + j] == k)
                    sum.v[j] += d.v[j];
        }
    npi_store8((T *)dx.data + i * 8, sum);
}

static int groups_of(npi_act a) {
    return npi_cuda_padded(a.c) / 8;
}

static int64_t vectors_of(npi_act a) {
    return (int64_t)a.n * a.h * a.w * groups_of(a);
}

template <typename T>
static void launch_max_forward(npi_device *dev, npi_act x, npi_act y, uint8_t *index) {
    max_forward_kernel<T>
        <<<npi_ceil_div(vectors_of(y), THREADS), THREADS, 0, npi_cuda_stream(dev)>>>(
            x, y, groups_of(y), vectors_of(y), index);
}

template <typename T>
static void launch_max_backward(npi_device *dev, npi_act dy, const uint8_t *index, npi_act dx) {
    max_backward_kernel<T>
        <<<npi_ceil_div(vectors_of(dx), THREADS), THREADS, 0, npi_cuda_stream(dev)>>>(
            dy, dx, groups_of(dx), vectors_of(dx), index);
}

static npos_status max_forward(npi_device *dev, npi_act x, npi_act y, uint8_t *index) {
    NPI_TRY(check_max(x, y));
    NPI_BY_TYPE(dev, launch_max_forward, dev, x, y, index);
    return npi_cuda_launched(dev, "max pooling");
}

static npos_status max_backward(npi_device *dev, npi_act dy, const uint8_t *index, npi_act dx) {
    NPI_TRY(check_max(dx, dy));
    NPI_BY_TYPE(dev, launch_max_backward, dev, dy, index, dx);
    return npi_cuda_launched(dev, "max pooling");
}

/* ---- global average ---- */

/* A block: 8 groups of channels of one image, LANES pixels at a time. */
template <typename T>
static __global__ void mean_forward_kernel(const T *x, int count, int c, int groups, float *rows) {
    __shared__ float sums[LANES][8][9]; /* 9: banks */
    const int near = threadIdx.x % 8, group = blockIdx.y * 8 + near, lane = threadIdx.x / 8;
    const int64_t n = blockIdx.x;
    npi_float8 sum = {};
    for (int i = lane; group < groups && i < count; i += LANES) {
        const npi_float8 v = npi_load8(x + ((n * count + i) * groups + group) * 8);
#pragma unroll
        for (int j = 0; j < 8; j++)
            sum.v[j] += v.v[j];
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
        sums[lane][near][j] = sum.v[j];
    __syncthreads();
    const int channel = blockIdx.y * 64 + threadIdx.x;
    if (threadIdx.x >= 64 || channel >= c)
        return;
    float all = 0.0f;
    for (int i = 0; i < LANES && i < count; i++)
        all += sums[i][threadIdx.x / 8][threadIdx.x % 8];
    rows[n * c + channel] = all / (float)count;
}

template <typename T>
static __global__ void mean_backward_kernel(const float *drows, int64_t vectors, int count, int c,
                                            int groups, T *dx) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= vectors)
        return;
    const int group = (int)(i % groups);
    const int64_t n = i / groups / count;
    npi_float8 share;
#pragma unroll
    for (int j = 0; j < 8; j++)
        share.v[j] = group * 8 + j < c ? drows[n * c + group * 8 + j] / (float)count : 0.0f;
    npi_store8(dx + i * 8, share);
}

template <typename T> static void launch_mean_forward(npi_device *dev, npi_act x, float *rows) {
    mean_forward_kernel<<<dim3((unsigned)x.n, (unsigned)npi_ceil_div(groups_of(x), 8)), 8 * LANES,
                          0, npi_cuda_stream(dev)>>>((const T *)x.data, x.h * x.w, x.c,
                                                     groups_of(x), rows);
}

template <typename T>
static void launch_mean_backward(npi_device *dev, const float *drows, npi_act dx) {
    mean_backward_kernel<<<npi_ceil_div(vectors_of(dx), THREADS), THREADS, 0,
                           npi_cuda_stream(dev)>>>(drows, vectors_of(dx), dx.h * dx.w, dx.c,
                                                   groups_of(dx), (T *)dx.data);
}

static npos_status mean_forward(npi_device *dev, npi_act x, float *rows) {
    NPI_BY_TYPE(dev, launch_mean_forward, dev, x, rows);
    return npi_cuda_launched(dev, "average pooling");
}

static npos_status mean_backward(npi_device *dev, const float *drows, npi_act dx) {
    NPI_BY_TYPE(dev, launch_mean_backward, dev, drows, dx);
    return npi_cuda_launched(dev, "average pooling");
}

const npi_pool_ops npi_cuda_pools = {.max_forward = max_forward,
                                     .max_backward = max_backward,
                                     .mean_forward = mean_forward,
                                     .mean_backward = mean_backward};
