/* devices/cpu/cpu_math_tokens.h - the loops of transformers in plain C, compiled once for each
 * instruction set by cpu_math_loops.h; sums go over 16 lanes, then a tree. */
#ifndef NPI_DEVICES_CPU_MATH_TOKENS_H
#define NPI_DEVICES_CPU_MATH_TOKENS_H

#include <math.h>
#include <string.h>

#include "tensor/device.h"

/* e^x within 2e-7 of itself (Cephes' expf), 0 below about -87, the largest power above 88; NaN stays
 * NaN. */
static inline float exp_of(float x) {
    const float round = 12582912.0f; /* 1.5 2^23: sums with it are whole */
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float k = x * 1.44269504088896341f + round;
    uint32_t bits;
    memcpy(&bits, &k, sizeof bits);
    k -= round;
    x -= k * 0.693359375f;
    x += k * 2.12194440e-4f;
    float y = 1.9875691500e-4f;
    y = y * x + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * x * x + x + 1.0f;
    bits = (bits + 127u) << 23; /* the low bits of k + round are k's */
    float power;
    memcpy(&power, &bits, sizeof power);
    return y * power;
}

/* x = softmax(scale x) */
static void loop_softmax(int n, float scale, float *x) {
    float lane[16], sum[16] = {0}, largest = x[0], total = 0.0f;
    for (int l = 0; l < 16; l++)
        lane[l] = x[0];
    int i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++)
            lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (; i < n; i++)
        lane[i % 16] = x[i] > lane[i % 16] ? x[i] : lane[i % 16];
    for (int l = 0; l < 16; l++)
        largest = lane[l] > largest ? lane[l] : largest;
    for (i = 0; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) {
            float e = exp_of((x[i + l] - largest) * scale);
            x[i + l] = e;
            sum[l] += e;
        }
    for (; i < n; i++) {
        x[i] = exp_of((x[i] - largest) * scale);
        sum[i % 16] += x[i];
    }
    for (int half = 8; half >= 1; half /= 2)
        for (int l = 0; l < half; l++)
            sum[l] += sum[l + half];
    total = 1.0f / sum[0];
    for (i = 0; i < n; i++)
        x[i] *= total;
}

/* (1 + erf(x / sqrt 2)) / 2 within 1e-7, and e^(-x^2/2): Abramowitz and Stegun 7.1.26. */
static inline float normal_of(float x, float *density) {
    float a = fabsf(x) * 0.70710678118654752f, t = 1.0f / (1.0f + 0.3275911f * a);
    float e = exp_of(-a * a);
    float y = 1.061405429f;
    y = y * t - 1.453152027f;
    y = y * t + 1.421413741f;
    y = y * t - 0.284496736f;
    y = y * t + 0.254829592f;
    float tail = 0.5f * y * t * e;
    *density = e;
    return x > 0.0f ? 1.0f - tail : tail;
}

static void loop_act(npi_block_act kind, size_t n, const float *x, float *to) {
    float density;
    if (kind == NPI_ACT_GELU)
        for (size_t i = 0; i < n; i++)
            to[i] = x[i] * normal_of(x[i], &density);
    else
        for (size_t i = 0; i < n; i++)
            to[i] = x[i] / (1.0f + exp_of(-1.702f * x[i]));
}

/* x = g times the activation's slope at x */
static void loop_act_back(npi_block_act kind, size_t n, const float *g, float *x) {
    if (kind == NPI_ACT_GELU)
        for (size_t i = 0; i < n; i++) {
            float density, below = normal_of(x[i], &density);
            x[i] = g[i] * (below + x[i] * density * 0.39894228040143268f);
        }
    else
        for (size_t i = 0; i < n; i++) {
            float s = 1.0f / (1.0f + exp_of(-1.702f * x[i]));
            x[i] = g[i] * (s + 1.702f * x[i] * s * (1.0f - s));
        }
}

static inline double fold_lanes(const double *lane) {
    double s[16];
    memcpy(s, lane, sizeof s);
    for (int half = 8; half >= 1; half /= 2)
        for (int l = 0; l < half; l++)
            s[l] += s[l + half];
    return s[0];
}

/* One row of layer normalisation; stats: mean and scale (may be NULL).  y may be x. */
static void loop_layer_norm(int d, const float *x, const float *gamma, const float *beta, float *y,
                            float *stats) {
    double lane[16] = {0}, square[16] = {0};
    int j = 0;
    for (; j + 16 <= d; j += 16)
        for (int l = 0; l < 16; l++)
            lane[l] += (double)x[j + l];
    for (; j < d; j++)
        lane[j % 16] += (double)x[j];
    double mean = fold_lanes(lane) / d;
    for (j = 0; j + 16 <= d; j += 16)
        for (int l = 0; l < 16; l++) {
            double e = (double)x[j + l] - mean;
            square[l] += e * e;
        }
    for (; j < d; j++) {
        double e = (double)x[j] - mean;
        square[j % 16] += e * e;
    }
    float scale = (float)(1.0 / sqrt(fold_lanes(square) / d + (double)NPI_LAYER_NORM_EPSILON)),
          middle = (float)mean;
    for (j = 0; j < d; j++)
        y[j] = (x[j] - middle) * scale * gamma[j] + beta[j];
    if (stats) {
        stats[0] = middle;
        stats[1] = scale;
    }
}

#endif
