#include <math.h>
#include <string.h>

#include "devices/cpu/cpu_math.h"

/* What the backward pass of the prototypes' chains needs, in the caller's workspace. */
typedef struct chains {
    float *after;    /* [n][dim]: sample i's class prototype after its update */
    float *norm;     /* [n]: length before normalisation */
    int32_t *before; /* [n]: the sample of the same class before it, or -1 */
    int32_t *newest; /* [classes]: the last sample of each class, or -1 */
    float *dmu;      /* [classes][dim] */
    float *logits;   /* [n][classes] */
    float *cosines;  /* [classes][classes] */
    double *row;     /* [n + classes]: partial losses */
} chains;

static size_t lay_out(const npi_contrast_desc *d, chains *c, char *at) {
    size_t n = (size_t)d->n, classes = (size_t)d->classes, dim = (size_t)d->dim, used = 0;
    struct {
        void *slot;
        size_t bytes;
    } piece[] = {{&c->after, n * dim * sizeof(float)},
                 {&c->norm, n * sizeof(float)},
                 {&c->before, n * sizeof(int32_t)},
                 {&c->newest, classes * sizeof(int32_t)},
                 {&c->dmu, classes * dim * sizeof(float)},
                 {&c->logits, n * classes * sizeof(float)},
                 {&c->cosines, classes * classes * sizeof(float)},
                 {&c->row, (n + classes) * sizeof(double)}};
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
        if (at) {
            void *place = at + used;
            memcpy(piece[i].slot, &place, sizeof place);
        }
        used += npi_cpu_room(piece[i].bytes, 1);
    }
    return used;
}

static size_t contrast_workspace(npi_device *dev, const npi_contrast_desc *desc) {
    (void)dev;
    chains unused;
    return lay_out(desc, &unused, NULL);
}

static npos_status check_labels(const char *what, int n, const int32_t *labels, int classes,
                                int least) {
    for (int i = 0; i < n; i++)
        if (labels[i] < least || labels[i] >= classes)
            return npi_fail(NPOS_INVALID_ARGUMENT, "%s: label %d of row %d, expected %d to %d",
                            what, labels[i], i, least, classes - 1);
    return NPOS_OK;
}

/* mu_y <- normalize(m mu_y + (1-m) z), the samples of one class in order; classes are independent.
 */
static void run_chains(const npi_math *math, int threads, const npi_contrast_desc *d,
                       const float *z, const int32_t *labels, float *mu, const chains *c) {
    for (int k = 0; k < d->classes; k++)
        c->newest[k] = -1;
    for (int i = 0; i < d->n; i++) {
        if (labels[i] < 0)
            continue;
        c->before[i] = c->newest[labels[i]];
        c->newest[labels[i]] = i;
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int k = 0; k < d->classes; k++) {
        float *m = mu + (ptrdiff_t)k * d->dim;
        for (int i = 0; i < d->n && c->newest[k] >= 0; i++) {
            if (labels[i] != k)
                continue;
            const float *zi = z + (ptrdiff_t)i * d->dim;
            float *after = c->after + (ptrdiff_t)i * d->dim;
            for (int j = 0; j < d->dim; j++)
                m[j] = d->momentum * m[j] + (1.0f - d->momentum) * zi[j];
            float norm = (float)sqrt(math->dot((size_t)d->dim, m, m));
            norm = norm < 1e-12f ? 1e-12f : norm;
            for (int j = 0; j < d->dim; j++)
                after[j] = m[j] = m[j] / norm;
            c->norm[i] = norm;
        }
    }
}

/* disp of the updated prototypes; dmu = weight times its gradient. */
static npos_status dispersion(npi_device *dev, const npi_contrast_desc *d, const float *mu,
                              const chains *c, float *loss) {
    int classes = d->classes;
    npi_gemm cosines = {.m = classes,
                        .n = classes,
                        .k = d->dim,
                        .a = mu,
                        .a_row = d->dim,
                        .a_col = 1,
                        .b = mu,
                        .b_row = 1,
                        .b_col = d->dim,
                        .c = c->cosines,
                        .ldc = classes};
    NPI_TRY(npi_cpu_gemm(dev, &cosines));
    double total = 0.0;
    for (int i = 0; i < classes; i++) {
        float *row = c->cosines + (ptrdiff_t)i * classes;
        double sum = 0.0, largest = -INFINITY;
        for (int j = 0; j < classes; j++)
            if (j != i && (double)row[j] > largest)
                largest = (double)row[j];
        for (int j = 0; j < classes; j++)
            if (j != i)
                sum += exp(((double)row[j] - largest) / (double)d->tau);
        total += largest / (double)d->tau + log(sum / (classes - 1));
        /* d disp / d (mu_i.mu_j) by row i: softmax / (C tau) */
        for (int j = 0; j < classes; j++)
            row[j] = j == i ? 0.0f
                            : (float)(exp(((double)row[j] - largest) / (double)d->tau) / sum *
                                      (double)d->disp_weight / (classes * (double)d->tau));
    }
    *loss = (float)(total / classes);
    /* the cosine of i and j is in row i and in row j */
    for (int i = 0; i < classes; i++)
        for (int j = 0; j < i; j++) {
            float *a = c->cosines + (ptrdiff_t)i * classes + j,
                  *b = c->cosines + (ptrdiff_t)j * classes + i;
            *a = *b = *a + *b;
        }
    npi_gemm gradient = {.m = classes,
                         .n = d->dim,
                         .k = classes,
                         .a = c->cosines,
                         .a_row = classes,
                         .a_col = 1,
                         .b = mu,
                         .b_row = d->dim,
                         .b_col = 1,
                         .c = c->dmu,
                         .ldc = d->dim};
    return npi_cpu_gemm(dev, &gradient);
}

/* dz += the dispersion's gradient, from each class's last sample back to its first. */
static void run_chains_back(const npi_math *math, int threads, const npi_contrast_desc *d,
                            const chains *c, float *dz) {
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int k = 0; k < d->classes; k++) {
        float *g = c->dmu + (ptrdiff_t)k * d->dim;
        for (int i = c->newest[k]; i >= 0; i = c->before[i]) {
            const float *after = c->after + (ptrdiff_t)i * d->dim;
            float *to = dz + (ptrdiff_t)i * d->dim;
            float along = (float)math->dot((size_t)d->dim, g, after);
            for (int j = 0; j < d->dim; j++) {
                float du = (g[j] - after[j] * along) / c->norm[i];
                to[j] += (1.0f - d->momentum) * du;
                g[j] = d->momentum * du;
            }
        }
    }
}

/* In place: logits to scale * (softmax - one-hot); the row's cross-entropy. */
static double softmax_row(int classes, float *row, float inverse_tau, int label, float scale) {
    float largest = row[0];
    for (int j = 1; j < classes; j++)
        largest = row[j] > largest ? row[j] : largest;
    double at_label = ((double)row[label] - (double)largest) * (double)inverse_tau, sum = 0.0;
    for (int j = 0; j < classes; j++) {
        row[j] = expf((row[j] - largest) * inverse_tau);
        sum += (double)row[j];
    }
    float factor = (float)((double)scale / sum);
    for (int j = 0; j < classes; j++)
        row[j] *= factor;
    row[label] -= scale;
    return log(sum) - at_label;
}

static npos_status contrast(npi_device *dev, const npi_contrast_desc *d, const float *z,
                            const int32_t *labels, float *mu, float *losses, float *dz,
                            void *workspace) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    const npi_math *math = npi_math_of(cpu->isa);
    NPI_TRY(check_labels("contrast", d->n, labels, d->classes, -1));
    chains c;
    lay_out(d, &c, workspace);
    run_chains(math, cpu->threads, d, z, labels, mu, &c);
    memset(c.dmu, 0, (size_t)d->classes * (size_t)d->dim * sizeof(float));
    losses[NPI_LOSS_DISP] = 0.0f;
    if (d->classes > 1)
        NPI_TRY(dispersion(dev, d, mu, &c, &losses[NPI_LOSS_DISP]));

    int valid = 0;
    for (int i = 0; i < d->n; i++)
        valid += labels[i] >= 0;
    npi_gemm product = {.m = d->n,
                        .n = d->classes,
                        .k = d->dim,
                        .a = z,
                        .a_row = d->dim,
                        .a_col = 1,
                        .b = mu,
                        .b_row = 1,
                        .b_col = d->dim,
                        .c = c.logits,
                        .ldc = d->classes};
    NPI_TRY(npi_cpu_gemm(dev, &product));
    float factor = d->tau / 0.07f;
    float scale = valid ? d->comp_weight * factor / (d->tau * (float)valid) : 0.0f;
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int i = 0; i < d->n; i++) {
        float *row = c.logits + (ptrdiff_t)i * d->classes;
        if (labels[i] < 0) {
            memset(row, 0, (size_t)d->classes * sizeof(float));
            c.row[i] = 0.0;
        } else {
            c.row[i] = softmax_row(d->classes, row, 1.0f / d->tau, labels[i], scale);
        }
    }
    double sum = 0.0;
    for (int i = 0; i < d->n; i++)
        sum += c.row[i];
    losses[NPI_LOSS_COMP] = valid ? (float)(sum / valid * (double)factor) : 0.0f;
    npi_gemm gradient = {.m = d->n,
                         .n = d->dim,
                         .k = d->classes,
                         .a = c.logits,
                         .a_row = d->classes,
                         .a_col = 1,
                         .b = mu,
                         .b_row = d->dim,
                         .b_col = 1,
                         .c = dz,
                         .ldc = d->dim};
    NPI_TRY(npi_cpu_gemm(dev, &gradient));
    run_chains_back(math, cpu->threads, d, &c, dz);
    return NPOS_OK;
}

static npos_status cross_entropy(npi_device *dev, int n, int classes, const float *logits,
                                 const int32_t *labels, float weight, float *losses,
                                 float *dlogits) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    NPI_TRY(check_labels("cross entropy", n, labels, classes, 0));
    double *row;
    NPI_TRY(npi_cpu_scratch(dev, (size_t)n * sizeof *row + 64, &row));
    float scale = weight / (float)n;
    memcpy(dlogits, logits, (size_t)n * (size_t)classes * sizeof *dlogits);
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int i = 0; i < n; i++)
        row[i] = softmax_row(classes, dlogits + (ptrdiff_t)i * classes, 1.0f, labels[i], scale);
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += row[i];
    losses[NPI_LOSS_CE] = (float)(sum / n);
    return NPOS_OK;
}

/* CE(x_i, y_i) with x = l / (norms ? |l| + 1e-7 : 1) / temperature.  With g = dx, r = |l| and
 * s = r + 1e-7 in the first case:
 *     dl = (g / s - l (l . g) / (r s^2)) / temperature,  the second term 0 where r = 0 */
static npos_status cosine_losses(npi_device *dev, const char *what, int n, int classes,
                                 float temperature, bool norms, const float *l,
                                 const int32_t *labels, float weight, float *losses, float *dl) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    const npi_math *math = npi_math_of(cpu->isa);
    double *row;
    NPI_TRY(check_labels(what, n, labels, classes, 0));
    if (!(temperature > 0.0f))
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: temperature %g, expected more than 0", what,
                        (double)temperature);
    NPI_TRY(npi_cpu_scratch(dev, (size_t)n * sizeof *row + 64, &row));
    float scale = weight / (float)n / temperature;
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int i = 0; i < n; i++) {
        const float *x = l + (ptrdiff_t)i * classes;
        float *g = dl + (ptrdiff_t)i * classes;
        size_t count = (size_t)classes;
        double norm = norms ? sqrt(math->dot(count, x, x)) : 0.0, along = 0.0;
        double divisor = norms ? norm + 1e-7 : 1.0;
        for (int j = 0; j < classes; j++)
            g[j] = (float)((double)x[j] / divisor / (double)temperature);
        row[i] = softmax_row(classes, g, 1.0f, labels[i], scale);
        if (norm > 0.0)
            along = math->dot(count, x, g) / (norm * divisor * divisor);
        for (int j = 0; j < classes; j++)
            g[j] = (float)((double)g[j] / divisor - (double)x[j] * along);
    }
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += row[i];
    losses[NPI_LOSS_CE] = (float)(sum / n);
    return NPOS_OK;
}

static npos_status cosine_ce(npi_device *dev, int n, int classes, float temperature,
                             const float *cosines, const int32_t *labels, float weight,
                             float *losses, float *dcosines) {
    return cosine_losses(dev, "cross entropy of cosines", n, classes, temperature, false, cosines,
                         labels, weight, losses, dcosines);
}

static npos_status logit_norm_ce(npi_device *dev, int n, int classes, float temperature,
                                 const float *cosines, const int32_t *labels, float weight,
                                 float *losses, float *dcosines) {
    return cosine_losses(dev, "LogitNorm", n, classes, temperature, true, cosines, labels, weight,
                         losses, dcosines);
}

static npos_status outlier_bce(npi_device *dev, int n_in, int n_out, const float *logits,
                               float weight, float *losses, float *dlogits) {
    (void)dev;
    double sum = 0.0, scale = (double)weight / (n_in + n_out);
    for (int i = 0; i < n_in + n_out; i++) {
        /* softplus(-x) against 1 and softplus(x) against 0 */
        double x = i < n_in ? -(double)logits[i] : (double)logits[i];
        double e = exp(-fabs(x));
        sum += (x > 0.0 ? x : 0.0) + log1p(e);
        double sigmoid = x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
        dlogits[i] = (float)(scale * (i < n_in ? -sigmoid : sigmoid));
    }
    losses[NPI_LOSS_OPEN] = (float)(sum / (n_in + n_out));
    return NPOS_OK;
}

const npi_loss_ops npi_cpu_losses = {
    .contrast_workspace = contrast_workspace,
    .contrast = contrast,
    .cross_entropy = cross_entropy,
    .outlier_bce = outlier_bce,
    .cosine_ce = cosine_ce,
    .logit_norm_ce = logit_norm_ce,
};
