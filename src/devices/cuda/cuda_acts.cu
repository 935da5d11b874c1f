#include "devices/cuda/cuda.cuh"

/* Between float32 N x C x H x W and the device's N x H x W x C: a thread to each pixel and group of
 * 8 channels, neighbours on neighbouring pixels, so that the planes are read and written whole. */
enum { THREADS = 256 };

static size_t act_bytes(npi_device *dev, int n, int c, int h, int w) {
    return (size_t)n * (size_t)h * (size_t)w * (size_t)npi_cuda_padded(c) *
           npi_dtype_bytes(dev->compute);
}

/* Where a thread works. */
struct place {
    bool inside;
    int channels;           /* of the 8, those that exist */
    int64_t plane, in_nhwc; /* of the first channel; planes are `pixels` apart */
};

static __device__ __forceinline__ place my_place(int64_t n, int c, int64_t pixels) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    int64_t groups = npi_cuda_padded(c) / 8, pixel = i % pixels, group = i / pixels % groups,
            image = i / pixels / groups;
    return {image < n, min(8, c - (int)group * 8), (image * c + group * 8) * pixels + pixel,
            ((image * pixels + pixel) * groups + group) * 8};
}

template <class T>
static __global__ void to_nhwc(int n, int c, int64_t pixels, const float *nchw, T *data) {
    place at = my_place(n, c, pixels);
    if (!at.inside)
        return;
    npi_float8 value;
#pragma unroll
    for (int j = 0; j < 8; j++)
        value.v[j] = j < at.channels ? nchw[at.plane + j * pixels] : 0.0f;
    npi_store8(data + at.in_nhwc, value);
}

template <class T>
static __global__ void to_nchw(int n, int c, int64_t pixels, const T *data, float *nchw) {
    place at = my_place(n, c, pixels);
    if (!at.inside)
        return;
    npi_float8 value = npi_load8(data + at.in_nhwc);
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (j < at.channels)
            nchw[at.plane + j * pixels] = value.v[j];
}

static unsigned blocks_of(npi_act act) {
    int64_t groups = npi_cuda_padded(act.c) / 8;
    return (unsigned)npi_ceil_div((int64_t)act.n * act.h * act.w * groups, THREADS);
}

template <class T> static void launch_import(npi_device *dev, const float *nchw, npi_act to) {
    to_nhwc<T><<<blocks_of(to), THREADS, 0, npi_cuda_stream(dev)>>>(
        to.n, to.c, (int64_t)to.h * to.w, nchw, (T *)to.data);
}

template <class T> static void launch_export(npi_device *dev, npi_act from, float *nchw) {
    to_nchw<T><<<blocks_of(from), THREADS, 0, npi_cuda_stream(dev)>>>(
        from.n, from.c, (int64_t)from.h * from.w, (const T *)from.data, nchw);
}

static npos_status import_nchw(npi_device *dev, const float *nchw, npi_act to) {
    if (blocks_of(to) == 0)
        return NPOS_OK;
    NPI_BY_TYPE(dev, launch_import, dev, nchw, to);
    return npi_cuda_launched(dev, "import of activations");
}

static npos_status export_nchw(npi_device *dev, npi_act from, float *nchw) {
    if (blocks_of(from) == 0)
        return NPOS_OK;
    NPI_BY_TYPE(dev, launch_export, dev, from, nchw);
    return npi_cuda_launched(dev, "export of activations");
}

const npi_act_ops npi_cuda_acts = {
    .bytes = act_bytes, .import_nchw = import_nchw, .export_nchw = export_nchw};
