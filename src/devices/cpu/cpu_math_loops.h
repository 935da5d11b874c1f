/* devices/cpu/cpu_math_loops.h - loops of npi_math in plain C, compiled once for each instruction
 * set by the file that includes it; written so that compilers vectorise them. */
#ifndef NPI_DEVICES_CPU_MATH_LOOPS_H
#define NPI_DEVICES_CPU_MATH_LOOPS_H

#include <math.h>
#include <string.h>

#include "base/philox.h"
#include "devices/cpu/cpu_math.h"
#include "devices/cpu/cpu_math_tokens.h"

static inline int loop_keep(int n, float least, float *lower, float *upper, int32_t *index) {
    int kept = 0;
    for (int i = 0; i < n; i++) {
        upper[kept] = upper[i];
        lower[kept] = lower[i];
        index[kept] = index[i];
        kept += lower[kept] >= least;
    }
    return kept;
}

static void loop_combine(int n, const float *base, float scale, const float *x, float sigma,
                         float *to) {
    for (int i = 0; i < n; i++)
        to[i] = base[i] * scale + x[i] * sigma;
}

static double fold16(const double *lane) {
    double s[16];
    memcpy(s, lane, sizeof s);
    for (int half = 8; half >= 1; half /= 2)
        for (int i = 0; i < half; i++)
            s[i] += s[i + half];
    return s[0];
}

static double loop_dot(size_t n, const float *a, const float *b) {
    double lane[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t l = 0; l < 16; l++)
            lane[l] += (double)a[i + l] * (double)b[i + l];
    for (; i < n; i++)
        lane[i % 16] += (double)a[i] * (double)b[i];
    return fold16(lane);
}

static double loop_distance(size_t n, const float *a, const float *b) {
    double lane[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t l = 0; l < 16; l++) {
            double d = (double)a[i + l] - (double)b[i + l];
            lane[l] += d * d;
        }
    for (; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        lane[i % 16] += d * d;
    }
    return fold16(lane);
}

static float fold16f(const float *lane) {
    float s[16];
    memcpy(s, lane, sizeof s);
    for (int half = 8; half >= 1; half /= 2)
        for (int i = 0; i < half; i++)
            s[i] += s[i + half];
    return s[0];
}

static inline void loop_near(size_t n, const float *q, const float *bank, int count,
                             const int32_t *row, float *to) {
    for (int r = 0; r < count; r++) {
        const float *b = bank + (size_t)row[r] * n;
        float lane[16] = {0};
        size_t i = 0;
        for (; i + 16 <= n; i += 16)
            for (size_t l = 0; l < 16; l++) {
                float d = q[i + l] - b[i + l];
                lane[l] += d * d;
            }
        for (; i < n; i++) {
            float d = q[i] - b[i];
            lane[i % 16] += d * d;
        }
        to[r] = fold16f(lane);
    }
}

static float loop_centre(size_t n, const float *from, const float *centre, float *to) {
    float lane[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t l = 0; l < 16; l++) {
            float d = from[i + l] - centre[i + l];
            to[i + l] = d;
            lane[l] += d * d;
        }
    for (; i < n; i++) {
        float d = from[i] - centre[i];
        to[i] = d;
        lane[i % 16] += d * d;
    }
    return fold16f(lane);
}

/* ln(x) for x = (bits >> 8) + 1 in [1, 2^24], less 24 ln 2: Cephes' logf on the mantissa brought to
 * [sqrt(1/2), sqrt(2)). */
static inline float log_word(uint32_t bits) {
    float x = (float)(int32_t)((bits >> 8) + 1u);
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    int32_t e = (int32_t)(u >> 23) - 127 - 24;
    uint32_t m = (u & 0x007fffffu) | 0x3f800000u;
    int32_t upper = m > 0x3fb504f3u; /* sqrt(2) */
    m -= (uint32_t)upper << 23;
    float f, k = (float)(e + upper);
    memcpy(&f, &m, sizeof f);
    f -= 1.0f;
    float z = f * f;
    float y = 7.0376836292e-2f;
    y = y * f - 1.1514610310e-1f;
    y = y * f + 1.1676998740e-1f;
    y = y * f - 1.2420140846e-1f;
    y = y * f + 1.4249322787e-1f;
    y = y * f - 1.6668057665e-1f;
    y = y * f + 2.0000714765e-1f;
    y = y * f - 2.4999993993e-1f;
    y = y * f + 3.3333331174e-1f;
    y = y * f * z;
    y += k * -2.12194440e-4f;
    y -= 0.5f * z;
    return f + y + k * 0.693359375f;
}

/* cos and sin of 2 pi u, u = (bits >> 8) 2^-24: by quarter turns, which are exact, then Cephes'
 * polynomials on [-pi/4, pi/4]. */
static inline void turn(uint32_t bits, float *cosine, float *sine) {
    int32_t w = (int32_t)(bits >> 8);
    int32_t quarter = (w + (1 << 21)) >> 22;
    float x = (float)(w - quarter * (1 << 22)) * (0x1p-24f * 6.28318530717958647692f);
    float z = x * x;
    float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * x + x;
    float c =
        ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z -
        0.5f * z + 1.0f;
    float a = quarter & 1 ? s : c, b = quarter & 1 ? c : s;
    *cosine = (quarter + 1) & 2 ? -a : a;
    *sine = quarter & 2 ? -b : b;
}

static void loop_sgd(size_t n, float clip, float rate, float momentum, float decay, bool nesterov,
                     float *restrict weights, const float *restrict grads,
                     float *restrict velocity) {
    if (nesterov)
        for (size_t i = 0; i < n; i++) {
            float g = clip * grads[i] + decay * weights[i];
            float v = momentum * velocity[i] + g;
            velocity[i] = v;
            weights[i] -= rate * (g + momentum * v);
        }
    else
        for (size_t i = 0; i < n; i++) {
            float v = momentum * velocity[i] + (clip * grads[i] + decay * weights[i]);
            velocity[i] = v;
            weights[i] -= rate * v;
        }
}

enum { NORMAL_LANES = 64 };

static void loop_normals(uint64_t seed, uint32_t purpose, uint64_t step, uint32_t item, int n,
                         float *to) {
    float out[4 * NORMAL_LANES];
    for (int start = 0; start < n; start += 4 * NORMAL_LANES) {
        uint32_t word[4][NORMAL_LANES];
        for (int l = 0; l < NORMAL_LANES; l++) {
            npi_u32x4 r = npi_philox(seed, purpose, step, item, (uint32_t)(start / 4 + l));
            word[0][l] = r.v[0];
            word[1][l] = r.v[1];
            word[2][l] = r.v[2];
            word[3][l] = r.v[3];
        }
        for (int pair = 0; pair < 2; pair++)
            for (int l = 0; l < NORMAL_LANES; l++) {
                float radius = sqrtf(-2.0f * log_word(word[2 * pair][l])), c, s;
                turn(word[2 * pair + 1][l], &c, &s);
                out[4 * l + 2 * pair] = radius * c;
                out[4 * l + 2 * pair + 1] = radius * s;
            }
        int there = n - start < 4 * NORMAL_LANES ? n - start : 4 * NORMAL_LANES;
        memcpy(to + start, out, (size_t)there * sizeof *to);
    }
}

#endif
