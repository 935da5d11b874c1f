/* devices/cuda/cuda_weights.cuh - convolution weights between their arena and the copies that convolutions work with.
 *
 * Arena: out_c x area x c float32 (area = kernel x kernel).  Copy: channels padded with zeros to multiples of 8, in the
 * compute type. */
#ifndef NPI_CUDA_WEIGHTS_CUH
#define NPI_CUDA_WEIGHTS_CUH

#include "devices/cuda/cuda.cuh"

typedef struct npi_weights {
    int out_c, c, area;
} npi_weights;

static inline __host__ __device__ int64_t npi_weights_padded(npi_weights w) {
    return (int64_t)npi_cuda_padded(w.out_c) * w.area * npi_cuda_padded(w.c);
}

/* packed = the weights; with a bias, the batch norm of inference is folded in:
 *   packed = scale weight,  bias = beta - running_mean scale,  scale = gamma / sqrt(running_var + 1e-5) */
typedef struct npi_pack_job {
    npi_weights shape;
    npi_unit_params params;
    void *packed;
    float *bias; /* [out_c padded], or NULL */
} npi_pack_job;

/* Of output channel o: what a batch norm with running statistics makes of a convolution's weights and adds. */
static __device__ __forceinline__ float npi_folded_scale(const npi_unit_params &p, int o) {
    return p.gamma[o] * (float)(1.0 / sqrt((double)p.running_var[o] + 1e-5));
}
static __device__ __forceinline__ float npi_folded_bias(const npi_unit_params &p, int o) {
    return p.beta[o] - p.running_mean[o] * npi_folded_scale(p, o);
}

/* Notes a job: a step packs the weights of all its units one after another, and all are done in one launch when the first
 * of them is used, which calls flush. */
npos_status npi_pack_later(npi_device *dev, const npi_pack_job *job);
npos_status npi_pack_flush(npi_device *dev);
/* Forgets jobs that write to `packed`, which is about to be freed. */
void npi_pack_forget(npi_device *dev, const void *packed);

/* weight = the gradient that lies padded in the compute type. */
npos_status npi_weights_unpack(npi_device *dev, npi_weights shape, const void *padded,
                               float *weight);

#endif
