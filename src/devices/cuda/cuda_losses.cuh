/* devices/cuda/cuda_losses.cuh - what the losses share: the softmax of a row, by one warp. */
#ifndef NPI_CUDA_LOSSES_CUH
#define NPI_CUDA_LOSSES_CUH

#include "devices/cuda/cuda_sums.cuh"

/* The same in every lane.  `others` leaves out the label's own term, so that share - 1 =
 * -others / sum keeps its digits where the label's share is nearly 1. */
typedef struct npi_softmax {
    float largest, sum, others;
    float loss; /* log sum_c exp x_c - x_label */
} npi_softmax;

/* Of x[classes], of which this lane reads those that it may have written itself: every 32nd from
 * `lane` on.  0 <= label < classes, else the loss means nothing. */
static __device__ __forceinline__ npi_softmax npi_warp_softmax(int classes, const float *x,
                                                               int label, int lane) {
    npi_softmax s = {};
    float largest = -INFINITY, own = 0.0f;
    for (int c = lane; c < classes; c += 32) {
        largest = fmaxf(largest, x[c]);
        own += c == label ? x[c] : 0.0f;
    }
    s.largest = npi_warp_max(largest);
    own = npi_warp_sum(own);
    for (int c = lane; c < classes; c += 32)
        s.others += c == label ? 0.0f : expf(x[c] - s.largest);
    s.others = npi_warp_sum(s.others);
    s.sum = s.others + expf(own - s.largest);
    s.loss = own == s.largest ? log1pf(s.others) : (s.largest - own) + logf(s.sum);
    return s;
}

/* The loss' derivative by x_c. */
static __device__ __forceinline__ float npi_softmax_gradient(const npi_softmax &s, float x,
                                                             bool is_label) {
    return is_label ? -s.others / s.sum : expf(x - s.largest) / s.sum;
}

/* cuda_contrast.cu: as tensor/device.h's contrast. */
size_t npi_cuda_contrast_workspace(npi_device *dev, const npi_contrast_desc *desc);
npos_status npi_cuda_contrast(npi_device *dev, const npi_contrast_desc *desc, const float *z,
                              const int32_t *labels, float *mu, float *losses, float *dz,
                              void *workspace);

#endif
