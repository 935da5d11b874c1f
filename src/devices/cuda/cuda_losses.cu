#include "devices/cuda/cuda_losses.cuh"

/* Each loss is a sum over rows: float64 terms in memory, added by one block in a fixed order. */
enum { THREADS = 256, PER_THREAD = 8 };

/* *loss = scale * the sum of terms[count] */
static __global__ void __launch_bounds__(THREADS)
    finish_loss(int count, const double *terms, double scale, float *loss) {
    double sum = 0.0;
    for (int i = (int)threadIdx.x; i < count; i += THREADS)
        sum += terms[i];
    sum = npi_block_sum<THREADS>(sum);
    if (threadIdx.x == 0)
        *loss = (float)(sum * scale);
}

/* ---- cross-entropy ---- */

/* A warp to each row.  A row whose label is no class has no loss and no gradient. */
static __global__ void __launch_bounds__(THREADS)
    cross_entropy_rows(int n, int classes, const float *logits, const int32_t *labels, float scale,
                       double *terms, float *dlogits) {
    int64_t i = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (i >= n) /* whole warps */
        return;
    int label = labels[i];
    bool valid = label >= 0 && label < classes;
    const float *row = logits + i * classes;
    npi_softmax s = npi_warp_softmax(classes, row, label, lane);
    for (int c = lane; c < classes; c += 32)
        dlogits[i * classes + c] =
            valid ? scale * npi_softmax_gradient(s, row[c], c == label) : 0.0f;
    if (lane == 0)
        terms[i] = valid ? (double)s.loss : 0.0;
}

static npos_status cross_entropy(npi_device *dev, int n, int classes, const float *logits,
                                 const int32_t *labels, float weight, float *losses,
                                 float *dlogits) {
    cudaStream_t stream = npi_cuda_stream(dev);
    double *terms;
    NPI_TRY(npi_cuda_scratch(dev, ((size_t)n + 1) * sizeof *terms, &terms));
    if (n > 0)
        cross_entropy_rows<<<(unsigned)npi_ceil_div(n, THREADS / 32), THREADS, 0, stream>>>(
            n, classes, logits, labels, (float)((double)weight / n), terms, dlogits);
    finish_loss<<<1, THREADS, 0, stream>>>(n, terms, 1.0 / n, losses + NPI_LOSS_CE);
    return npi_cuda_launched(dev, "cross entropy");
}

/* ---- over cosines ---- */

/* A warp to each row: x = l / divisor / temperature stands in dl until its gradient g does; then, with r = |l|,
 * dl = g / divisor - l (l . g) / (r divisor^2), where divisor = r + 1e-7 with norms, else 1 and the second term is 0. */
static __global__ void __launch_bounds__(THREADS)
    cosine_rows(int n, int classes, double temperature, bool norms, const float *l,
                const int32_t *labels, float scale, double *terms, float *dl) {
    int64_t i = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32;
    if (i >= n) /* whole warps */
        return;
    const int label = labels[i];
    const bool valid = label >= 0 && label < classes;
    const float *row = l + i * classes;
    float *g = dl + i * classes;
    double square = 0.0, along = 0.0;
    for (int c = lane; norms && c < classes; c += 32)
        square += (double)row[c] * (double)row[c];
    const double norm = sqrt(npi_warp_sum_double(square)), divisor = norms ? norm + 1e-7 : 1.0;
    for (int c = lane; c < classes; c += 32)
        g[c] = (float)((double)row[c] / divisor / temperature);
    const npi_softmax s = npi_warp_softmax(classes, g, label, lane);
    for (int c = lane; c < classes; c += 32) {
        g[c] = valid ? scale * npi_softmax_gradient(s, g[c], c == label) : 0.0f;
        along += (double)row[c] * (double)g[c];
    }
    along = npi_warp_sum_double(along);
    along = norm > 0.0 ? along / (norm * divisor * divisor) : 0.0;
    for (int c = lane; c < classes; c += 32)
        g[c] = (float)((double)g[c] / divisor - (double)row[c] * along);
    if (lane == 0)
        terms[i] = valid ? (double)s.loss : 0.0;
}

static npos_status cosines(npi_device *dev, const char *what, int n, int classes, float temperature,
                           bool norms, const float *l, const int32_t *labels, float weight,
                           float *losses, float *dl) {
    cudaStream_t stream = npi_cuda_stream(dev);
    double *terms;
    if (!(temperature > 0.0f))
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: temperature %g, expected more than 0", what,
                        (double)temperature);
    NPI_TRY(npi_cuda_scratch(dev, ((size_t)n + 1) * sizeof *terms, &terms));
    if (n > 0)
        cosine_rows<<<(unsigned)npi_ceil_div(n, THREADS / 32), THREADS, 0, stream>>>(
            n, classes, (double)temperature, norms, l, labels,
            (float)((double)weight / n / (double)temperature), terms, dl);
    finish_loss<<<1, THREADS, 0, stream>>>(n, terms, 1.0 / n, losses + NPI_LOSS_CE);
    return npi_cuda_launched(dev, what);
}

static npos_status cosine_ce(npi_device *dev, int n, int classes, float temperature,
                             const float *cosine, const int32_t *labels, float weight,
                             float *losses, float *dcosines) {
    return cosines(dev, "cross entropy of cosines", n, classes, temperature, false, cosine, labels,
                   weight, losses, dcosines);
}

static npos_status logit_norm_ce(npi_device *dev, int n, int classes, float temperature,
                                 const float *cosine, const int32_t *labels, float weight,
                                 float *losses, float *dcosines) {
    return cosines(dev, "LogitNorm", n, classes, temperature, true, cosine, labels, weight, losses,
                   dcosines);
}

/* ---- R_open ---- */

/* Against 1: softplus(-x), gradient sigmoid(x) - 1 = -sigmoid(-x); against 0: softplus(x),
 * gradient sigmoid(x). */
static __global__ void __launch_bounds__(THREADS)
    outlier_bce_rows(int64_t n_in, int64_t count, const float *logits, float scale, double *terms,
                     float *dlogits) {
    int64_t i = (int64_t)blockIdx.x * (THREADS * PER_THREAD) + threadIdx.x;
    double sum = 0.0;
#pragma unroll
    for (int k = 0; k < PER_THREAD; k++, i += THREADS)
        if (i < count) {
            float sign = i < n_in ? -1.0f : 1.0f, x = sign * logits[i];
            sum += (double)(fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))));
            dlogits[i] = sign * scale / (1.0f + expf(-x));
        }
    sum = npi_block_sum<THREADS>(sum);
    if (threadIdx.x == 0)
        terms[blockIdx.x] = sum;
}

static npos_status outlier_bce(npi_device *dev, int n_in, int n_out, const float *logits,
                               float weight, float *losses, float *dlogits) {
    cudaStream_t stream = npi_cuda_stream(dev);
    int64_t count = (int64_t)n_in + n_out;
    int blocks = npi_ceil_div(count, THREADS * PER_THREAD);
    double *terms;
    NPI_TRY(npi_cuda_scratch(dev, ((size_t)blocks + 1) * sizeof *terms, &terms));
    if (blocks > 0)
        outlier_bce_rows<<<(unsigned)blocks, THREADS, 0, stream>>>(
            n_in, count, logits, (float)((double)weight / (double)count), terms, dlogits);
    finish_loss<<<1, THREADS, 0, stream>>>(blocks, terms, 1.0 / (double)count,
                                           losses + NPI_LOSS_OPEN);
    return npi_cuda_launched(dev, "outlier loss");
}

const npi_loss_ops npi_cuda_losses = {.contrast_workspace = npi_cuda_contrast_workspace,
                                      .contrast = npi_cuda_contrast,
                                      .cross_entropy = cross_entropy,
                                      .outlier_bce = outlier_bce,
                                      .cosine_ce = cosine_ce,
                                      .logit_norm_ce = logit_norm_ce};
