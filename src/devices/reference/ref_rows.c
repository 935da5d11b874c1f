#include <math.h>

#include "devices/reference/ref.h"

void npi_ref_linear(int n, int in, int out, npi_ref_rows_in x, const float *weight,
                    const float *bias, npi_ref_rows_at y) {
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t o = 0; o < out; o++) {
            double sum = npi_ref_dot(in, x.data + i * x.step, weight + o * in);
            if (bias)
                sum += (double)bias[o];
            y.data[i * y.step + o] = (float)sum;
        }
}

void npi_ref_linear_to_weights(int n, int in, int out, npi_ref_rows_in x, npi_ref_rows_in dy,
                               float *dweight, float *dbias, double *sum) {
    for (ptrdiff_t o = 0; o < out; o++) {
        for (int j = 0; j <= in; j++)
            sum[j] = 0.0;
        for (ptrdiff_t i = 0; i < n; i++) {
            double g = (double)dy.data[i * dy.step + o];
            for (int j = 0; j < in; j++)
                sum[j] += g * (double)x.data[i * x.step + j];
            sum[in] += g;
        }
        for (int j = 0; j < in; j++)
            dweight[o * in + j] = (float)sum[j];
        if (dbias)
            dbias[o] = (float)sum[in];
    }
}

void npi_ref_linear_to_data(int n, int in, int out, const float *weight, npi_ref_rows_in dy,
                            npi_ref_rows_at dx, bool add, double *sum) {
    for (ptrdiff_t i = 0; i < n; i++) {
        float *to = dx.data + i * dx.step;
        for (int j = 0; j < in; j++)
            sum[j] = 0.0;
        for (ptrdiff_t o = 0; o < out; o++)
            for (int j = 0; j < in; j++)
                sum[j] += (double)dy.data[i * dy.step + o] * (double)weight[o * in + j];
        for (int j = 0; j < in; j++)
            to[j] = add ? (float)((double)to[j] + sum[j]) : (float)sum[j];
    }
}

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
    npi_ref_rows_in gradient = {dy, out};
    npi_ref_linear_to_weights(n, in, out, (npi_ref_rows_in){x, in}, gradient, dweight, dbias, sum);
    if (dx)
        npi_ref_linear_to_data(dx_rows, in, out, weight, gradient, (npi_ref_rows_at){dx, in},
                               accumulate, sum);
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

void npi_ref_layer_norm(int d, const float *x, const float *gamma, const float *beta, float *y,
                        float *stats) {
    double mean = 0.0, variance = 0.0;
    for (int j = 0; j < d; j++)
        mean += (double)x[j];
    mean /= d;
    for (int j = 0; j < d; j++)
        variance += ((double)x[j] - mean) * ((double)x[j] - mean);
    double scale = 1.0 / sqrt(variance / d + (double)NPI_LAYER_NORM_EPSILON);
    for (int j = 0; j < d; j++)
        y[j] = (float)(((double)x[j] - mean) * scale * (double)gamma[j] + (double)beta[j]);
    if (stats) {
        stats[0] = (float)mean;
        stats[1] = (float)scale;
    }
}

static npos_status layer_norm_forward(npi_device *dev, int n, int d, const float *x,
                                      const float *gamma, const float *beta, float *y,
                                      float *stats) {
    (void)dev;
    for (ptrdiff_t i = 0; i < n; i++)
        npi_ref_layer_norm(d, x + i * d, gamma, beta, y + i * d, stats ? stats + 2 * i : NULL);
    return NPOS_OK;
}

npos_status npi_ref_layer_norm_backward(npi_device *dev, int n, int d, const float *x,
                                        const float *stats, const float *gamma, const float *dy,
                                        float *dgamma, float *dbeta, float *dx, bool accumulate) {
    (void)dev;
    for (int j = 0; j < d; j++) {
        double sum = 0.0, along = 0.0;
        for (ptrdiff_t i = 0; i < n; i++) {
            double g = (double)dy[i * d + j];
            sum += g;
            along += g * ((double)x[i * d + j] - (double)stats[2 * i]) * (double)stats[2 * i + 1];
        }
        dbeta[j] = (float)sum;
        dgamma[j] = (float)along;
    }
    for (ptrdiff_t i = 0; dx && i < n; i++) {
        double mean = (double)stats[2 * i], scale = (double)stats[2 * i + 1], sum = 0.0,
               along = 0.0;
        for (ptrdiff_t j = 0; j < d; j++) {
            double g = (double)dy[i * d + j] * (double)gamma[j];
            sum += g;
            along += g * ((double)x[i * d + j] - mean) * scale;
        }
        for (ptrdiff_t j = 0; j < d; j++) {
            double g = (double)dy[i * d + j] * (double)gamma[j];
            double xh = ((double)x[i * d + j] - mean) * scale;
            double to = scale * (g - sum / d - xh * along / d);
            dx[i * d + j] = accumulate ? (float)((double)dx[i * d + j] + to) : (float)to;
        }
    }
    return NPOS_OK;
}

const npi_rows_ops npi_ref_rows = {.linear_forward = linear_forward,
                                   .linear_backward = linear_backward,
                                   .normalize_forward = normalize_forward,
                                   .normalize_backward = normalize_backward,
                                   .layer_norm_forward = layer_norm_forward,
                                   .layer_norm_backward = npi_ref_layer_norm_backward};
