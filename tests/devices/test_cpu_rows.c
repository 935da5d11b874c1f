/* Linear layers, normalisation, losses and SGD of the cpu device against plain loops in float64;
 * gradients of losses against finite differences. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/philox.h"
#include "devices/cpu_plain.h"

static void *get(size_t count, size_t size) {
    void *p;
    assert_int_equal(npi_alloc(&p, count, size, "test"), NPOS_OK);
    return p;
}

static float *normals(size_t n, uint32_t item) {
    float *x = get(n, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        npi_u32x4 r = npi_philox(7, NPI_RANDOM_TEST, i, item, 0);
        float other;
        npi_normal_pair(r.v[0], r.v[1], &x[i], &other);
    }
    return x;
}

static void assert_close(double seen, double expected, double scale) {
    assert_true(fabs(seen - expected) <= 1e-5 * scale + 1e-5 * fabs(expected));
}

static void one_linear(npi_isa isa, int threads, int n, int in, int out, bool relu, bool bias,
                       int dx_rows, bool accumulate) {
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, isa, threads);
    size_t N = (size_t)n, I = (size_t)in, O = (size_t)out;
    float *x = normals(N * I, 1), *w = normals(O * I, 2), *b = normals(O, 3), *y = get(N * O, 4);
    float *dy = normals(N * O, 4), *dw = normals(O * I, 5), *db = normals(O, 6);
    float *dx = normals(N * I, 7), *before = normals(N * I, 7), *given = normals(N * O, 4);
    assert_int_equal(dev->rows->linear_forward(dev, n, in, out, x, w, bias ? b : NULL, relu, y),
                     NPOS_OK);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < out; j++) {
            double sum = bias ? (double)b[j] : 0.0;
            for (int k = 0; k < in; k++)
                sum += (double)x[i * in + k] * (double)w[j * in + k];
            assert_close((double)y[i * out + j], relu && sum < 0.0 ? 0.0 : sum, sqrt(in));
        }
    assert_int_equal(dev->rows->linear_backward(dev, n, in, out, x, w, y, relu, dy, dw,
                                                bias ? db : NULL, dx, dx_rows, accumulate),
                     NPOS_OK);
    for (size_t i = 0; i < N * O; i++) {
        given[i] = relu && !(y[i] > 0.0f) ? 0.0f : given[i];
        assert_true(dy[i] == given[i]);
    }
    for (int j = 0; j < out; j++) {
        double sum = 0.0;
        for (int i = 0; i < n; i++)
            sum += (double)given[i * out + j];
        if (bias)
            assert_close((double)db[j], sum, sqrt(n));
        for (int k = 0; k < in; k++) {
            sum = 0.0;
            for (int i = 0; i < n; i++)
                sum += (double)given[i * out + j] * (double)x[i * in + k];
            assert_close((double)dw[j * in + k], sum, sqrt(n));
        }
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < in; k++) {
            double sum = accumulate || i >= dx_rows ? (double)before[i * in + k] : 0.0;
            for (int j = 0; j < out && i < dx_rows; j++)
                sum += (double)given[i * out + j] * (double)w[j * in + k];
            assert_close((double)dx[i * in + k], sum, sqrt(out));
        }
    float *all[] = {x, w, b, y, dy, dw, db, dx, before, given};
    for (int i = 0; i < 10; i++)
        npi_free(all[i]);
    plain_cpu_close(&cpu);
}

static void test_linear(void **state) {
    (void)state;
    static const int shape[][3] = {{1, 1, 1},     {5, 3, 1},    {33, 17, 40}, {14, 32, 32},
                                   {31, 600, 21}, {3, 20, 530}, {1030, 5, 7}};
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++)
        for (size_t i = 0; i < sizeof shape / sizeof *shape && isa_present(isa); i++)
            for (int v = 0; v < 4; v++)
                one_linear(isa, 1 + v % 3, shape[i][0], shape[i][1], shape[i][2], v % 2 == 0,
                           v != 3, v < 2 ? shape[i][0] : shape[i][0] / 2, v == 1 || v == 2);
}

/* The same bits for 1, 2 and 3 threads, and no allocation after the first call. */
static void test_linear_bits(void **state) {
    (void)state;
    enum { N = 100, IN = 700, OUT = 130 };
    float *x = normals(N * IN, 1), *w = normals(OUT * IN, 2), *b = normals(OUT, 3);
    float *first = get(N * OUT, 4), *y = get(N * OUT, 4);
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++)
        for (int threads = 1; threads <= 3 && isa_present(isa); threads++) {
            plain_cpu cpu;
            npi_device *dev = plain_cpu_open(&cpu, isa, threads);
            float *to = threads == 1 ? first : y;
            assert_int_equal(dev->rows->linear_forward(dev, N, IN, OUT, x, w, b, true, to),
                             NPOS_OK);
            uint64_t calls = npi_memory_calls();
            assert_int_equal(dev->rows->linear_forward(dev, N, IN, OUT, x, w, b, true, to),
                             NPOS_OK);
            assert_int_equal(npi_memory_calls(), calls);
            assert_memory_equal(first, to, N * OUT * sizeof *y);
            plain_cpu_close(&cpu);
        }
    float *all[] = {x, w, b, first, y};
    for (int i = 0; i < 5; i++)
        npi_free(all[i]);
}

static void test_normalize(void **state) {
    (void)state;
    enum { N = 7, D = 37 };
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        plain_cpu cpu;
        npi_device *dev = plain_cpu_open(&cpu, isa, 2);
        float *x = normals(N * D, 1), *dz = normals(N * D, 2), z[N * D], norms[N], dx[N * D];
        memset(x + D, 0, D * sizeof *x);
        assert_int_equal(dev->rows->normalize_forward(dev, N, D, x, z, norms), NPOS_OK);
        for (int i = 0; i < N * D; i++)
            dx[i] = 1.0f;
        assert_int_equal(dev->rows->normalize_backward(dev, N, D, z, norms, dz, dx, true), NPOS_OK);
        for (int i = 0; i < N; i++) {
            double sum = 0.0, along = 0.0;
            for (int j = 0; j < D; j++)
                sum += (double)x[i * D + j] * (double)x[i * D + j];
            double norm = fmax(sqrt(sum), 1e-12);
            assert_close((double)norms[i], norm, i == 1 ? 0.0 : 1.0);
            for (int j = 0; j < D; j++) {
                assert_close((double)z[i * D + j], (double)x[i * D + j] / norm, 0.1);
                along += (double)z[i * D + j] * (double)dz[i * D + j];
            }
            for (int j = 0; j < D; j++) {
                double want = 1.0 + ((double)dz[i * D + j] - (double)z[i * D + j] * along) / norm;
                assert_close((double)dx[i * D + j], want, fabs(want));
            }
        }
        npi_free(x);
        npi_free(dz);
        plain_cpu_close(&cpu);
    }
}

/* disp and comp of METHOD in float64; mu is updated. */
static void plain_contrast(const npi_contrast_desc *d, const double *z, const int32_t *labels,
                           double *mu, const double *detached, double *disp, double *comp) {
    int dim = d->dim, classes = d->classes, valid = 0;
    for (int i = 0; i < d->n; i++) {
        if (labels[i] < 0)
            continue;
        double *m = mu + labels[i] * dim, norm = 0.0;
        for (int j = 0; j < dim; j++) {
            m[j] = (double)d->momentum * m[j] + (1.0 - (double)d->momentum) * z[i * dim + j];
            norm += m[j] * m[j];
        }
        for (int j = 0; j < dim; j++)
            m[j] /= sqrt(norm);
    }
    *disp = *comp = 0.0;
    for (int a = 0; a < classes && classes > 1; a++) {
        double sum = 0.0;
        for (int b = 0; b < classes; b++) {
            double dot = 0.0;
            for (int j = 0; j < dim; j++)
                dot += mu[a * dim + j] * mu[b * dim + j];
            sum += b == a ? 0.0 : exp(dot / (double)d->tau);
        }
        *disp += log(sum / (classes - 1)) / classes;
    }
    const double *proto = detached ? detached : mu;
    for (int i = 0; i < d->n; i++) {
        if (labels[i] < 0)
            continue;
        double sum = 0.0, own = 0.0;
        for (int c = 0; c < classes; c++) {
            double dot = 0.0;
            for (int j = 0; j < dim; j++)
                dot += z[i * dim + j] * proto[c * dim + j];
            sum += exp(dot / (double)d->tau);
            own = c == labels[i] ? dot / (double)d->tau : own;
        }
        *comp += log(sum) - own;
        valid++;
    }
    *comp *= valid ? (double)d->tau / 0.07 / valid : 0.0;
}

static void one_contrast(npi_isa isa, int threads, npi_contrast_desc d) {
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, isa, threads);
    int count = d.n * d.dim, protos = d.classes * d.dim;
    float *z = normals((size_t)count, 1), *mu = normals((size_t)protos, 2),
          *dz = get((size_t)count, 4);
    assert_int_equal(dev->rows->normalize_forward(dev, d.n, d.dim, z, dz, NULL), NPOS_OK);
    memcpy(z, dz, (size_t)count * sizeof *z);
    float *unit = get((size_t)protos, 4);
    assert_int_equal(dev->rows->normalize_forward(dev, d.classes, d.dim, mu, unit, NULL), NPOS_OK);
    memcpy(mu, unit, (size_t)protos * sizeof *mu);
    int32_t *labels = get((size_t)d.n, 4);
    for (int i = 0; i < d.n; i++)
        labels[i] = i % 5 == 3 ? -1 : i * i % d.classes;
    double *z64 = get((size_t)count, 8), *mu64 = get((size_t)protos, 8),
           *held = get((size_t)protos, 8), disp, comp;
    for (int i = 0; i < count; i++)
        z64[i] = (double)z[i];
    for (int i = 0; i < protos; i++)
        mu64[i] = (double)unit[i];
    float losses[NPI_LOSS_COUNT];
    void *workspace = get(dev->losses->contrast_workspace(dev, &d), 1);
    assert_int_equal(dev->losses->contrast(dev, &d, z, labels, mu, losses, dz, workspace), NPOS_OK);
    plain_contrast(&d, z64, labels, mu64, NULL, &disp, &comp);
    assert_close((double)losses[NPI_LOSS_DISP], disp, 1.0);
    assert_close((double)losses[NPI_LOSS_COMP], comp, 1.0);
    memcpy(held, mu64, (size_t)protos * sizeof *held); /* comp's prototypes are constants */
    for (int i = 0; i < protos; i++)
        assert_close((double)mu[i], mu64[i], 0.1);
    for (int i = 0; i < count; i += 1 + count / 200) {
        double loss[2], step = 1e-5, kept = z64[i];
        for (int side = 0; side < 2; side++) {
            z64[i] = kept + (side ? -step : step);
            for (int j = 0; j < protos; j++)
                mu64[j] = (double)unit[j];
            plain_contrast(&d, z64, labels, mu64, held, &disp, &comp);
            loss[side] = (double)d.disp_weight * disp + (double)d.comp_weight * comp;
        }
        z64[i] = kept;
        double gradient = (loss[0] - loss[1]) / (2.0 * step);
        assert_true(fabs((double)dz[i] - gradient) <= 1e-6 + 1e-4 * fabs(gradient));
    }
    void *all[] = {z, mu, dz, unit, labels, z64, mu64, held, workspace};
    for (int i = 0; i < 9; i++)
        npi_free(all[i]);
    plain_cpu_close(&cpu);
}

static void test_contrast(void **state) {
    (void)state;
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++) {
        if (!isa_present(isa))
            continue;
        one_contrast(isa, 2, (npi_contrast_desc){40, 4, 16, 0.5f, 0.1f, 0.5f, 1.0f});
        one_contrast(isa, 1, (npi_contrast_desc){61, 10, 33, 0.95f, 0.1f, 1.0f, 0.0f});
        one_contrast(isa, 3, (npi_contrast_desc){9, 1, 5, 0.9f, 0.2f, 1.0f, 2.0f});
        one_contrast(isa, 2, (npi_contrast_desc){3, 7, 8, 0.9f, 0.1f, 0.0f, 1.0f});
    }
}

static void test_other_losses(void **state) {
    (void)state;
    enum { N = 13, C = 7 };
    plain_cpu cpu;
    npi_device *dev = plain_cpu_open(&cpu, NPI_ISA_GENERIC, 2);
    float *logits = normals(N * C, 1), d[N * C], losses[NPI_LOSS_COUNT];
    int32_t labels[N];
    logits[0] = 90.0f; /* exp overflows float32 without the shift */
    for (int i = 0; i < N; i++)
        labels[i] = i % C;
    assert_int_equal(dev->losses->cross_entropy(dev, N, C, logits, labels, 0.7f, losses, d),
                     NPOS_OK);
    double total = 0.0;
    for (int i = 0; i < N; i++) {
        double sum = 0.0;
        for (int j = 0; j < C; j++)
            sum += exp((double)logits[i * C + j]);
        total += log(sum) - (double)logits[i * C + labels[i]];
        for (int j = 0; j < C; j++)
            assert_close((double)d[i * C + j],
                         0.7 / N * (exp((double)logits[i * C + j]) / sum - (j == labels[i])), 0.01);
    }
    assert_close((double)losses[NPI_LOSS_CE], total / N, 1.0);
    labels[5] = C;
    assert_int_equal(dev->losses->cross_entropy(dev, N, C, logits, labels, 0.7f, losses, d),
                     NPOS_INVALID_ARGUMENT);

    enum { IN = 20 };
    logits[3] = 300.0f;
    logits[IN + 2] = -300.0f;
    assert_int_equal(dev->losses->outlier_bce(dev, IN, N * C - IN, logits, 0.1f, losses, d),
                     NPOS_OK);
    total = 0.0;
    for (int i = 0; i < N * C; i++) {
        double x = (double)logits[i];
        total += i < IN ? log1p(exp(-x)) : x > 100.0 ? x : log1p(exp(x));
        assert_close((double)d[i], 0.1 / (N * C) * (1.0 / (1.0 + exp(-x)) - (i < IN)), 1e-4);
    }
    assert_close((double)losses[NPI_LOSS_OPEN], total / (N * C), 1.0);
    npi_free(logits);
    plain_cpu_close(&cpu);
}

static void test_sgd(void **state) {
    (void)state;
    enum { COUNT = 40001 };
    float *w0 = normals(COUNT, 1), *g = normals(COUNT, 2), *v0 = normals(COUNT, 3);
    float *w = get(COUNT, 4), *v = get(COUNT, 4), norm = 0.0f;
    npi_step step = {.lr = 0.3f, .head_lr = 0.03f};
    for (npi_isa isa = NPI_ISA_GENERIC; isa <= NPI_ISA_AVX512BF16; isa++)
        for (int variant = 0; variant < 6 && isa_present(isa); variant++) {
            plain_cpu cpu;
            npi_device *dev = plain_cpu_open(&cpu, isa, 1 + variant % 3);
            npi_sgd_desc d = {0.9f, 1e-2f, variant < 3, variant % 2 ? 10.0f : 0.0f};
            bool head = variant == 4;
            float losses[NPI_LOSS_COUNT];
            memcpy(w, w0, COUNT * sizeof *w);
            memcpy(v, v0, COUNT * sizeof *v);
            assert_int_equal(dev->optim->norm(dev, COUNT, g, losses), NPOS_OK);
            double sum = 0.0;
            for (int i = 0; i < COUNT; i++)
                sum += (double)g[i] * (double)g[i];
            assert_close((double)losses[NPI_LOSS_GRAD_NORM], sqrt(sum), 0.0);
            if (norm == 0.0f)
                norm = losses[NPI_LOSS_GRAD_NORM];
            assert_true(norm == losses[NPI_LOSS_GRAD_NORM]); /* for any number of threads */
            assert_int_equal(dev->optim->sgd(dev, &d, COUNT, w, g, v, &step, head,
                                             d.clip_norm > 0.0f ? losses : NULL),
                             NPOS_OK);
            double clip = d.clip_norm > 0.0f ? 10.0 / sqrt(sum) : 1.0, rate = head ? 0.03 : 0.3;
            for (int i = 0; i < COUNT; i++) {
                double grad = clip * (double)g[i] + 0.01 * (double)w0[i];
                double vel = 0.9 * (double)v0[i] + grad;
                assert_close((double)v[i], vel, 1.0);
                assert_close((double)w[i],
                             (double)w0[i] - rate * (d.nesterov ? grad + 0.9 * vel : vel), 1.0);
            }
            plain_cpu_close(&cpu);
        }
    float *all[] = {w0, g, v0, w, v};
    for (int i = 0; i < 5; i++)
        npi_free(all[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),       cmocka_unit_test(test_linear_bits),
        cmocka_unit_test(test_normalize),    cmocka_unit_test(test_contrast),
        cmocka_unit_test(test_other_losses), cmocka_unit_test(test_sgd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
