#include <math.h>
#include <string.h>

#include "devices/reference/ref.h"

/* In the caller's workspace. */
typedef struct chains {
    double *after; /* [n][dim]: sample j's prototype after its update */
    double *norm;  /* [n]: its length before normalisation */
    double *mu;    /* [classes][dim]: the prototypes as they move */
    double *dmu;   /* [classes][dim] */
    double *share; /* [classes]: one row of a softmax */
} chains;

static size_t lay_out(const npi_contrast_desc *d, double *at, chains *out) {
    size_t n = (size_t)d->n, classes = (size_t)d->classes, dim = (size_t)d->dim;
    size_t counts[5] = {n * dim, n, classes * dim, classes * dim, classes}, used = 0;
    double *pieces[5];
    for (int i = 0; i < 5; i++) {
        pieces[i] = at ? at + used : NULL;
        used += counts[i];
    }
    *out = (chains){pieces[0], pieces[1], pieces[2], pieces[3], pieces[4]};
    return used * sizeof(double);
}

static size_t contrast_workspace(npi_device *dev, const npi_contrast_desc *desc) {
    (void)dev;
    chains unused;
    return lay_out(desc, NULL, &unused);
}

/* Sample by sample: mu_y <- normalize(m mu_y + (1 - m) z_j) */
static void update_prototypes(const npi_contrast_desc *d, const float *z, const int32_t *labels,
                              chains *c) {
    double m = (double)d->momentum;
    for (ptrdiff_t j = 0; j < d->n; j++) {
        if (labels[j] < 0)
            continue;
        double *mu = c->mu + (ptrdiff_t)labels[j] * d->dim, square = 0.0;
        for (int p = 0; p < d->dim; p++) {
            mu[p] = m * mu[p] + (1.0 - m) * (double)z[j * d->dim + p];
            square += mu[p] * mu[p];
        }
        c->norm[j] = fmax(sqrt(square), 1e-12);
        for (int p = 0; p < d->dim; p++)
            c->after[j * d->dim + p] = mu[p] /= c->norm[j];
    }
}

static double dot(int n, const double *a, const double *b) {
    double sum = 0.0;
    for (int i = 0; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* disp = 1/C sum_i log( 1/(C-1) sum_{j!=i} exp(mu_i.mu_j / tau) ); dmu = weight times its gradient:
 * with s_ij the softmax over j != i, dmu_i += weight/(C tau) sum_j s_ij mu_j and
 * dmu_j += weight/(C tau) s_ij mu_i.  One class has nobody to keep away from: 0. */
static double dispersion(const npi_contrast_desc *d, chains *c) {
    int classes = d->classes, dim = d->dim;
    double tau = (double)d->tau, total = 0.0;
    memset(c->dmu, 0, (size_t)classes * (size_t)dim * sizeof *c->dmu);
    if (classes < 2)
        return 0.0;
    for (ptrdiff_t i = 0; i < classes; i++) {
        double largest = -INFINITY, sum = 0.0;
        for (ptrdiff_t j = 0; j < classes; j++) {
            c->share[j] = dot(dim, c->mu + i * dim, c->mu + j * dim) / tau;
            if (j != i)
                largest = fmax(largest, c->share[j]);
        }
        for (ptrdiff_t j = 0; j < classes; j++) {
            c->share[j] = j == i ? 0.0 : exp(c->share[j] - largest);
            sum += c->share[j];
        }
        total += largest + log(sum / (classes - 1));
        for (ptrdiff_t j = 0; j < classes; j++) {
            double g = (double)d->disp_weight / (classes * tau) * c->share[j] / sum;
            for (int p = 0; p < dim; p++) {
                c->dmu[i * dim + p] += g * c->mu[j * dim + p];
                c->dmu[j * dim + p] += g * c->mu[i * dim + p];
            }
        }
    }
    return total / classes;
}

/* From each class's newest sample back: with u = m mu + (1 - m) z and mu' = u / |u|,
 *     du = (dmu' - mu' (mu' . dmu')) / |u|,   dz += (1 - m) du,   dmu = m du */
static void backward_through_prototypes(const npi_contrast_desc *d, const int32_t *labels,
                                        chains *c, float *dz) {
    double m = (double)d->momentum;
    for (ptrdiff_t j = (ptrdiff_t)d->n - 1; j >= 0; j--) {
        if (labels[j] < 0)
            continue;
        double *dmu = c->dmu + (ptrdiff_t)labels[j] * d->dim;
        const double *after = c->after + j * d->dim;
        double along = dot(d->dim, after, dmu);
        for (int p = 0; p < d->dim; p++) {
            double du = (dmu[p] - after[p] * along) / c->norm[j];
            dz[j * d->dim + p] = (float)((double)dz[j * d->dim + p] + (1.0 - m) * du);
            dmu[p] = m * du;
        }
    }
}

/* comp = (tau/0.07) mean_j CE(z_j mu^T / tau, y_j);  dz_j = weight/(0.07 n) sum_c (s_jc - [c = y_j])
 * mu_c, which also sets the rows of samples without a label to 0. */
static double compactness(const npi_contrast_desc *d, const float *z, const int32_t *labels,
                          chains *c, float *dz) {
    double total = 0.0;
    int valid = 0;
    for (int j = 0; j < d->n; j++)
        valid += labels[j] >= 0;
    memset(dz, 0, (size_t)d->n * (size_t)d->dim * sizeof *dz);
    for (ptrdiff_t j = 0; j < d->n; j++) {
        if (labels[j] < 0)
            continue;
        double largest = -INFINITY, sum = 0.0;
        for (ptrdiff_t k = 0; k < d->classes; k++) {
            double cosine = 0.0;
            for (int p = 0; p < d->dim; p++)
                cosine += (double)z[j * d->dim + p] * c->mu[k * d->dim + p];
            c->share[k] = cosine / (double)d->tau;
            largest = fmax(largest, c->share[k]);
        }
        double of_label = c->share[labels[j]] - largest;
        for (int k = 0; k < d->classes; k++)
            sum += c->share[k] = exp(c->share[k] - largest);
        total += log(sum) - of_label;
        for (int p = 0; p < d->dim; p++) {
            double g = -c->mu[(ptrdiff_t)labels[j] * d->dim + p];
            for (ptrdiff_t k = 0; k < d->classes; k++)
                g += c->share[k] / sum * c->mu[k * d->dim + p];
            dz[j * d->dim + p] = (float)(g * (double)d->comp_weight / 0.07 / valid);
        }
    }
    return valid ? total / valid * (double)d->tau / 0.07 : 0.0;
}

static npos_status contrast(npi_device *dev, const npi_contrast_desc *desc, const float *z,
                            const int32_t *labels, float *mu, float *losses, float *dz,
                            void *workspace) {
    (void)dev;
    NPI_TRY(npi_ref_check_labels("contrast", desc->n, labels, -1, desc->classes));
    chains c;
    lay_out(desc, workspace, &c);
    ptrdiff_t count = (ptrdiff_t)desc->classes * desc->dim;
    for (ptrdiff_t i = 0; i < count; i++)
        c.mu[i] = (double)mu[i];
    update_prototypes(desc, z, labels, &c);
    losses[NPI_LOSS_DISP] = (float)dispersion(desc, &c);
    losses[NPI_LOSS_COMP] = (float)compactness(desc, z, labels, &c, dz);
    backward_through_prototypes(desc, labels, &c, dz);
    for (ptrdiff_t i = 0; i < count; i++)
        mu[i] = (float)c.mu[i];
    return NPOS_OK;
}

/* Of one row of logits x: log sum_j exp x_j - x_y; g_j = factor (softmax_j - [j = y]).  g may be
 * x. */
static double softmax_loss(int classes, const double *x, int32_t label, double factor, double *g) {
    double largest = -INFINITY, sum = 0.0;
    for (int j = 0; j < classes; j++)
        largest = fmax(largest, x[j]);
    for (int j = 0; j < classes; j++)
        sum += exp(x[j] - largest);
    double loss = log(sum) + largest - x[label];
    for (int j = 0; j < classes; j++)
        g[j] = factor * (exp(x[j] - largest) / sum - (j == label ? 1.0 : 0.0));
    return loss;
}

/* CE = mean_i CE(x_i, y_i) with x = l / (norms ? |l| + 1e-7 : 1) / temperature.  With g = dx, r =
 * |l| and s = r + 1e-7 in the first case:
 *     dl = (g / s - l (l . g) / (r s^2)) / temperature,  the second term 0 where r = 0 */
static npos_status softmax_losses(npi_device *dev, const char *what, int n, int classes,
                                  double temperature, bool norms, const float *l,
                                  const int32_t *labels, float weight, float *losses, float *dl) {
    NPI_TRY(npi_ref_check_labels(what, n, labels, 0, classes));
    if (!(temperature > 0.0))
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: temperature %g, expected more than 0", what,
                        temperature);
    double *x, total = 0.0;
    NPI_TRY(npi_ref_scratch(dev, (size_t)classes * sizeof *x, &x));
    for (ptrdiff_t i = 0; i < n; i++, l += classes, dl += classes) {
        double norm = norms ? sqrt(npi_ref_dot(classes, l, l)) : 0.0, along = 0.0;
        double divisor = norms ? norm + 1e-7 : 1.0;
        for (int j = 0; j < classes; j++)
            x[j] = (double)l[j] / divisor / temperature;
        total += softmax_loss(classes, x, labels[i], (double)weight / n / temperature, x);
        if (norm > 0.0) {
            for (int j = 0; j < classes; j++)
                along += (double)l[j] * x[j];
            along /= norm * divisor * divisor;
        }
        for (int j = 0; j < classes; j++)
            dl[j] = (float)(x[j] / divisor - (double)l[j] * along);
    }
    losses[NPI_LOSS_CE] = (float)(total / n);
    return NPOS_OK;
}

static npos_status cross_entropy(npi_device *dev, int n, int classes, const float *logits,
                                 const int32_t *labels, float weight, float *losses,
                                 float *dlogits) {
    return softmax_losses(dev, "cross entropy", n, classes, 1.0, false, logits, labels, weight,
                          losses, dlogits);
}

static npos_status cosine_ce(npi_device *dev, int n, int classes, float temperature,
                             const float *cosines, const int32_t *labels, float weight,
                             float *losses, float *dcosines) {
    return softmax_losses(dev, "cross entropy of cosines", n, classes, (double)temperature, false,
                          cosines, labels, weight, losses, dcosines);
}

static npos_status logit_norm_ce(npi_device *dev, int n, int classes, float temperature,
                                 const float *cosines, const int32_t *labels, float weight,
                                 float *losses, float *dcosines) {
    return softmax_losses(dev, "LogitNorm", n, classes, (double)temperature, true, cosines, labels,
                          weight, losses, dcosines);
}

/* log(1 + exp x) without overflow */
static double softplus(double x) {
    return fmax(x, 0.0) + log1p(exp(-fabs(x)));
}

/* Against 1: softplus(-x), gradient sigmoid(x) - 1; against 0: softplus(x), gradient sigmoid(x). */
static npos_status outlier_bce(npi_device *dev, int n_in, int n_out, const float *logits,
                               float weight, float *losses, float *dlogits) {
    (void)dev;
    double total = 0.0, count = (double)n_in + (double)n_out;
    for (int i = 0; i < n_in + n_out; i++) {
        double x = (double)logits[i];
        total += i < n_in ? softplus(-x) : softplus(x);
        /* sigmoid(x) - 1 = -sigmoid(-x), which keeps its digits where x is large */
        double g = i < n_in ? -1.0 / (1.0 + exp(x)) : 1.0 / (1.0 + exp(-x));
        dlogits[i] = (float)((double)weight / count * g);
    }
    losses[NPI_LOSS_OPEN] = (float)(total / count);
    return NPOS_OK;
}

const npi_loss_ops npi_ref_losses = {.contrast_workspace = contrast_workspace,
                                     .contrast = contrast,
                                     .cross_entropy = cross_entropy,
                                     .outlier_bce = outlier_bce,
                                     .cosine_ce = cosine_ce,
                                     .logit_norm_ce = logit_norm_ce};
