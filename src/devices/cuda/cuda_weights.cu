#include "devices/cuda/cuda_weights.cuh"

#include <cstdlib>

static constexpr int THREADS = 256, JOBS = 32; /* of a launch: its parameters are at most 4 KB */

/* What is noted on a device. */
struct npi_pack_list {
    npi_pack_job job[JOBS];
    int64_t first_block[JOBS + 1]; /* of the launch, by job */
    int count;
};

/* A thread makes 8 neighbouring channels of one tap. */
template <typename T>
static __global__ void __launch_bounds__(THREADS) pack_kernel(const npi_pack_list list) {
    int at = 0;
    while (blockIdx.x >= list.first_block[at + 1])
        at++;
    const npi_pack_job &job = list.job[at];
    const npi_weights s = job.shape;
    const int64_t i = (blockIdx.x - list.first_block[at]) * THREADS + threadIdx.x;
    const int groups = npi_cuda_padded(s.c) / 8;
    if (job.bias && i < npi_cuda_padded(s.out_c)) {
        const int o = (int)i;
        job.bias[o] = o < s.out_c ? npi_folded_bias(job.params, o) : 0.0f;
    }
    if (i * 8 >= npi_weights_padded(s))
        return;
    const int channel = (int)(i % groups) * 8, o = (int)(i / groups / s.area);
    const float *from = job.params.weight + i / groups * s.c + channel;
    npi_float8 out = {};
    if (o < s.out_c) {
        if (s.c % 8 == 0) {
            out = npi_load8(from);
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++)
                if (channel + j < s.c)
                    out.v[j] = from[j];
        }
        const float scale = job.bias ? npi_folded_scale(job.params, o) : 1.0f;
#pragma unroll
        for (int j = 0; j < 8; j++)
            out.v[j] *= scale;
    }
    npi_store8((T *)job.packed + i * 8, out);
}

static npi_pack_list *list_of(npi_device *dev) {
    return (npi_pack_list *)npi_cuda_of(dev)->packs;
}

npos_status npi_pack_later(npi_device *dev, const npi_pack_job *job) {
    npi_cuda *cuda = npi_cuda_of(dev);
    if (!cuda->packs)
        cuda->packs = calloc(1, sizeof(npi_pack_list));
    npi_pack_list *list = list_of(dev);
    if (!list)
        return npi_fail(NPOS_OUT_OF_MEMORY, "pack: no memory for %zu bytes", sizeof *list);
    npi_pack_forget(dev, job->packed);
    if (list->count == JOBS)
        NPI_TRY(npi_pack_flush(dev));
    list->job[list->count++] = *job;
    return NPOS_OK;
}

void npi_pack_forget(npi_device *dev, const void *packed) {
    npi_pack_list *list = list_of(dev);
    for (int i = 0; list && i < list->count; i++)
        if (list->job[i].packed == packed)
            list->job[i--] = list->job[--list->count];
}

template <typename T> static void launch_pack(npi_device *dev, const npi_pack_list *list) {
    pack_kernel<T>
        <<<(unsigned)list->first_block[list->count], THREADS, 0, npi_cuda_stream(dev)>>>(*list);
}

npos_status npi_pack_flush(npi_device *dev) {
    npi_pack_list *list = list_of(dev);
    if (!list || list->count == 0)
        return NPOS_OK;
    for (int i = 0; i < list->count; i++)
        list->first_block[i + 1] =
            list->first_block[i] +
            npi_ceil_div(npi_weights_padded(list->job[i].shape), 8 * THREADS);
    NPI_BY_TYPE(dev, launch_pack, dev, list);
    list->count = 0;
    return npi_cuda_launched(dev, "pack");
}

/* ---- gradients ---- */

/* A thread takes 8 neighbouring channels of one tap. */
template <typename T>
static __global__ void __launch_bounds__(THREADS)
    unpack_kernel(npi_weights s, const T *padded, float *weight) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int groups = npi_cuda_padded(s.c) / 8, channel = (int)(i % groups) * 8;
    if (i / groups >= (int64_t)s.out_c * s.area)
        return;
    const npi_float8 value = npi_load8(padded + i * 8);
    float *to = weight + i / groups * s.c + channel;
    if (s.c % 8 == 0) {
        npi_store8(to, value);
        return;
    }
#pragma unroll
    for (int j = 0; j < 8; j++)
        if (channel + j < s.c)
            to[j] = value.v[j];
}

template <typename T>
static void launch_unpack(npi_device *dev, npi_weights s, const void *padded, float *weight) {
    unpack_kernel<<<npi_ceil_div(npi_weights_padded(s), 8 * THREADS), THREADS, 0,
                    npi_cuda_stream(dev)>>>(s, (const T *)padded, weight);
}

npos_status npi_weights_unpack(npi_device *dev, npi_weights shape, const void *padded,
                               float *weight) {
    NPI_BY_TYPE(dev, launch_unpack, dev, shape, padded, weight);
    return npi_cuda_launched(dev, "unpack");
}
