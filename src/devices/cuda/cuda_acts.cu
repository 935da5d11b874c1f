/* Activations to and from float32 NCHW. */
#include "devices/cuda/cuda.cuh"

static constexpr int THREADS = 256;

static size_t acts_bytes(npi_device *dev, int n, int c, int h, int w) {
    return (size_t)n * (size_t)h * (size_t)w * (size_t)npi_cuda_padded(c) *
           (dev->compute == NPI_BF16 ? 2 : 4);
}

template <typename T>
static __global__ void import_kernel(const float *nchw, int64_t count, int c, int cp, int64_t plane,
                                     T *to) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int64_t pixel = i / cp, image = pixel / plane;
    const int channel = (int)(i % cp);
    npi_store(to + i, channel < c ? nchw[(image * c + channel) * plane + pixel % plane] : 0.0f);
}

template <typename T>
static __global__ void export_kernel(const T *from, int64_t count, int c, int cp, int64_t plane,
                                     float *nchw) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int64_t image = i / (c * plane), channel = i / plane % c, pixel = i % plane;
    nchw[i] = npi_load(from + (image * plane + pixel) * cp + channel);
}

template <typename T> static void launch_import(npi_device *dev, const float *nchw, npi_act to) {
    const int64_t plane = (int64_t)to.h * to.w, count = to.n * plane * npi_cuda_padded(to.c);
    import_kernel<<<npi_ceil_div(count, THREADS), THREADS, 0, npi_cuda_stream(dev)>>>(
        nchw, count, to.c, npi_cuda_padded(to.c), plane, (T *)to.data);
}

template <typename T> static void launch_export(npi_device *dev, npi_act from, float *nchw) {
    const int64_t plane = (int64_t)from.h * from.w, count = from.n * plane * from.c;
    export_kernel<<<npi_ceil_div(count, THREADS), THREADS, 0, npi_cuda_stream(dev)>>>(
        (const T *)from.data, count, from.c, npi_cuda_padded(from.c), plane, nchw);
}

static npos_status import_nchw(npi_device *dev, const float *nchw, npi_act to) {
    NPI_BY_TYPE(dev, launch_import, dev, nchw, to);
    return npi_cuda_launched(dev, "import");
}

static npos_status export_nchw(npi_device *dev, npi_act from, float *nchw) {
    NPI_BY_TYPE(dev, launch_export, dev, from, nchw);
    return npi_cuda_launched(dev, "export");
}

const npi_act_ops npi_cuda_acts = {
    .bytes = acts_bytes, .import_nchw = import_nchw, .export_nchw = export_nchw};
