/* devices/cuda/cuda_columns.cuh - sums over rows, of which there may be many: parts of rows give one float32 sum a column
 * each, and these are added in order, in float64. */
#ifndef NPI_CUDA_COLUMNS_CUH
#define NPI_CUDA_COLUMNS_CUH

#include "devices/cuda/cuda_sums.cuh"

/* to_first[j] = sum of column j of partial[parts][first + second], j < first; to_second[j] of column first + j.  Either
 * count may be 0. */
npos_status npi_finish_columns(npi_device *dev, int parts, int64_t first, int64_t second,
                               const float *partial, float *to_first, float *to_second);

/* cuda_layer_norm.cu: as tensor/device.h's layer_norm_forward and layer_norm_backward. */
npos_status npi_cuda_layer_norm_forward(npi_device *dev, int n, int d, const float *x,
                                        const float *gamma, const float *beta, float *y,
                                        float *stats);
npos_status npi_cuda_layer_norm_backward(npi_device *dev, int n, int d, const float *x,
                                         const float *stats, const float *gamma, const float *dy,
                                         float *dgamma, float *dbeta, float *dx, bool accumulate);

#endif
