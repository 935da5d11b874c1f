#include <math.h>

#include "devices/reference/ref.h"

/* y = relu?( x W^T + b ) */
static npos_status linear_forward(npi_device *dev, int n, int in, int out, const float *x,
                                  const float *weight, const float *bias, bool relu, float *y) {
    (void)dev;
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t o = 0; o < out; o++) {
            double sum = npi_ref_dot(in, x + i * in, weight + o * in);
            if (bias)
                sum += (double)bias[o];
            y[i * out + o] = relu && sum <= 0.0 ? 0.0f : (float)sum;
        }
    return NPOS_OK;
}

/* dW = dy^T x,  db = sum of dy's rows,  dx (+)= dy W of the first dx_rows rows */
static npos_status linear_backward(npi_device *dev, int n, int in, int out, const float *x,
                                   const float *weight, const float *y, bool relu, float *dy,
                                   float *dweight, float *dbias, float *dx, int dx_rows,
                                   bool accumulate) {
    if (dx && (dx_rows < 0 || dx_rows > n))
        return npi_fail(NPOS_INVALID_ARGUMENT, "linear: dx has %d rows, expected 0 to %d", dx_rows,
                        n);
    double *sum;
    NPI_TRY(npi_ref_scratch(dev, ((size_t)in + 1) * sizeof *sum, &sum));
    for (ptrdiff_t i = 0; relu && i < (ptrdiff_t)n * out; i++)
        dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
    for (ptrdiff_t o = 0; o < out; o++) {
        for (int j = 0; j <= in; j++)
            sum[j] = 0.0;
        for (ptrdiff_t i = 0; i < n; i++) {
            double g = (double)dy[i * out + o];
            for (int j = 0; j < in; j++)
                sum[j] += g * (double)x[i * in + j];
            sum[in] += g;
        }
        for (int j = 0; j < in; j++)
            dweight[o * in + j] = (float)sum[j];
        if (dbias)
            dbias[o] = (float)sum[in];
    }
    for (ptrdiff_t i = 0; dx && i < dx_rows; i++) {
        for (int j = 0; j < in; j++)
            sum[j] = 0.0;
        for (ptrdiff_t o = 0; o < out; o++)
            for (int j = 0; j < in; j++)
                sum[j] += (double)dy[i * out + o] * (double)weight[o * in + j];
        for (int j = 0; j < in; j++)
            dx[i * in + j] = accumulate ? (float)((double)dx[i * in + j] + sum[j]) : (float)sum[j];
    }
    return NPOS_OK;
}

float npi_ref_normalize(int d, const float *x, float *z) {
    double norm = sqrt(npi_ref_dot(d, x, x));
    norm = norm < 1e-12 ? 1e-12 : norm;
    for (int j = 0; j < d; j++)
        z[j] = (float)((double)x[j] / norm);
    return (float)norm;
}

static npos_status normalize_forward(npi_device *dev, int n, int d, const float *x, float *z,
                                     float *norms) {
    (void)dev;
    for (ptrdiff_t i = 0; i < n; i++) {
        float norm = npi_ref_normalize(d, x + i * d, z + i * d);
        if (norms)
            norms[i] = norm;
    }
    return NPOS_OK;
}

/* dx (+)= (dz - z (z . dz)) / |x| */
static npos_status normalize_backward(npi_device *dev, int n, int d, const float *z,
                                      const float *norms, const float *dz, float *dx,
                                      bool accumulate) {
    (void)dev;
    for (ptrdiff_t i = 0; i < n; i++) {
        double along = npi_ref_dot(d, z + i * d, dz + i * d);
        for (ptrdiff_t j = i * d; j < (i + 1) * d; j++) {
            double g = ((double)dz[j] - (double)z[j] * along) / (double)norms[i];
            dx[j] = accumulate ? (float)((double)dx[j] + g) : (float)g;
        }
    }
    return NPOS_OK;
}

const npi_rows_ops npi_ref_rows = {.linear_forward = linear_forward,
                                   .linear_backward = linear_backward,
                                   .normalize_forward = normalize_forward,
                                   .normalize_backward = normalize_backward};
