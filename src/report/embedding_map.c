#include "report/embedding_map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"

static const float exaggeration = 12;

typedef struct map {
    int n, dim;
    const float *x;
    float *p;                           /* [n][n] squared distances, then P */
    float *at[2];                       /* [n] each: the two coordinates */
    float *step[2], *gain[2], *push[2]; /* [n]: velocity, gains, gradient */
    double *row;                        /* [n]: a sum for each row */
} map;

static void map_clear(map *m) {
    npi_free(m->p);
    npi_free(m->row);
    for (int c = 0; c < 2; c++) {
        npi_free(m->at[c]);
        npi_free(m->step[c]);
        npi_free(m->gain[c]);
        npi_free(m->push[c]);
    }
}

static npos_status map_alloc(map *m) {
    size_t n = (size_t)m->n;
    NPI_TRY(npi_alloc(&m->p, n * n, sizeof *m->p, "affinities of the map"));
    NPI_TRY(npi_alloc(&m->row, n, sizeof *m->row, "map"));
    for (int c = 0; c < 2; c++) {
        NPI_TRY(npi_alloc(&m->at[c], n, sizeof(float), "map"));
        NPI_TRY(npi_alloc(&m->step[c], n, sizeof(float), "map"));
        NPI_TRY(npi_alloc(&m->gain[c], n, sizeof(float), "map"));
        NPI_TRY(npi_alloc(&m->push[c], n, sizeof(float), "map"));
    }
    return NPOS_OK;
}

static void distances(map *m) {
    int n = m->n, dim = m->dim;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        const float *a = m->x + (size_t)i * (size_t)dim;
        for (int j = 0; j < n; j++) {
            const float *b = m->x + (size_t)j * (size_t)dim;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int d = 0; d < dim; d++)
                sum += (a[d] - b[d]) * (a[d] - b[d]);
            m->p[(size_t)i * (size_t)n + (size_t)j] = sum;
        }
    }
}

/* Turns one row of squared distances into conditional probabilities of the wanted entropy. */
static void affinities_of_row(float *row, int n, int self, double entropy) {
    double lo = 0, hi = INFINITY, beta = 1, nearest = INFINITY, mean = 0;
    for (int j = 0; j < n; j++) {
        mean += (double)row[j] / n;
        if (j != self && row[j] < nearest)
            nearest = row[j];
    }
    if (mean > 0)
        beta = 1 / mean;
    for (int attempt = 0; attempt < 60; attempt++) {
        double sum = 0, weighted = 0;
        for (int j = 0; j < n; j++) {
            double gap = row[j] - nearest, weight = j == self ? 0 : exp(-beta * gap);
            sum += weight;
            weighted += weight * gap;
        }
        double seen = log(sum) + beta * weighted / sum;
        if (fabs(seen - entropy) < 1e-4)
            break;
        if (seen > entropy) {
            lo = beta;
            beta = isinf(hi) ? 2 * beta : (beta + hi) / 2;
        } else {
            hi = beta;
            beta = (lo + beta) / 2;
        }
    }
    double sum = 0;
    for (int j = 0; j < n; j++)
        sum += j == self ? 0 : exp(-beta * (row[j] - nearest));
    for (int j = 0; j < n; j++)
        row[j] = j == self ? 0 : (float)(exp(-beta * (row[j] - nearest)) / sum);
}

static void affinities(map *m, double perplexity) {
    int n = m->n;
    double entropy = log(perplexity);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++)
        affinities_of_row(m->p + (size_t)i * (size_t)n, n, i, entropy);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) {
            float *a = &m->p[(size_t)i * (size_t)n + (size_t)j],
                  *b = &m->p[(size_t)j * (size_t)n + (size_t)i];
            *a = *b = (*a + *b) / (2.0f * (float)n);
        }
    }
}

/* at[c] = x's share along its c-th principal direction (power iteration), spread 1e-2. */
static npos_status principal(map *m, uint64_t seed) {
    size_t dim = (size_t)m->dim;
    double *work;
    NPI_TRY(npi_alloc(&work, 4 * dim, sizeof *work, "map"));
    double *mean = work, *axis[2] = {work + dim, work + 2 * dim}, *next = work + 3 * dim;
    for (int i = 0; i < m->n; i++)
        for (size_t d = 0; d < dim; d++)
            mean[d] += m->x[(size_t)i * dim + d] / (double)m->n;
    for (uint32_t c = 0; c < 2; c++) {
        for (size_t d = 0; d < dim; d++)
            axis[c][d] =
                npi_unit_float(npi_philox(seed, NPI_RANDOM_MAP, c, 0, (uint32_t)d).v[0]) - 0.5;
        for (int round = 0; round < 20; round++) {
            memset(next, 0, dim * sizeof *next);
            for (int i = 0; i < m->n; i++) {
                const float *x = m->x + (size_t)i * dim;
                double share = 0;
                for (size_t d = 0; d < dim; d++)
                    share += (x[d] - mean[d]) * axis[c][d];
                for (size_t d = 0; d < dim; d++)
                    next[d] += share * (x[d] - mean[d]);
            }
            double along = 0, norm = 0;
            for (size_t d = 0; c == 1 && d < dim; d++)
                along += next[d] * axis[0][d];
            for (size_t d = 0; d < dim; d++) {
                next[d] -= c == 1 ? along * axis[0][d] : 0;
                norm += next[d] * next[d];
            }
            for (size_t d = 0; norm > 0 && d < dim; d++)
                axis[c][d] = next[d] / sqrt(norm);
        }
        double square = 0;
        for (int i = 0; i < m->n; i++) {
            double share = 0;
            for (size_t d = 0; d < dim; d++)
                share += (m->x[(size_t)i * dim + d] - mean[d]) * axis[c][d];
            m->at[c][i] = (float)share;
            square += share * share / m->n;
        }
        for (int i = 0; i < m->n; i++) {
            /* a little noise parts points that are equal */
            float noise = npi_unit_float(npi_philox(seed, NPI_RANDOM_MAP, c, 1, (uint32_t)i).v[0]);
            m->at[c][i] = (square > 0 ? 1e-2f * m->at[c][i] / (float)sqrt(square) : 0) +
                          1e-4f * (noise - 0.5f);
        }
    }
    npi_free(work);
    return NPOS_OK;
}

/* push = gradient / 4: sum_j (p_ij - q_ij) w_ij (y_i - y_j), q_ij = w_ij / sum w. */
static void gradient(map *m, float scale) {
    int n = m->n;
    const float *x = m->at[0], *y = m->at[1];
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int j = 0; j < n; j++) {
            float dx = x[i] - x[j], dy = y[i] - y[j];
            sum += 1.0f / (1.0f + dx * dx + dy * dy);
        }
        m->row[i] = (double)sum - 1; /* without itself */
    }
    double total = 0;
    for (int i = 0; i < n; i++)
        total += m->row[i];
    float share = (float)(1 / (total > 0 ? total : 1));
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        const float *p = m->p + (size_t)i * (size_t)n;
        float gx = 0, gy = 0;
#pragma omp simd reduction(+ : gx, gy)
        for (int j = 0; j < n; j++) {
            float dx = x[i] - x[j], dy = y[i] - y[j];
            float w = 1.0f / (1.0f + dx * dx + dy * dy);
            float force = (scale * p[j] - w * share) * w;
            gx += force * dx;
            gy += force * dy;
        }
        m->push[0][i] = gx;
        m->push[1][i] = gy;
    }
}

static void descend(map *m, float rate, float momentum) {
    for (int c = 0; c < 2; c++) {
        double mean = 0;
        for (int i = 0; i < m->n; i++) {
            float *gain = &m->gain[c][i];
            int same = (m->push[c][i] > 0) == (m->step[c][i] > 0);
            *gain = same ? *gain * 0.8f : *gain + 0.2f;
            if (*gain < 0.01f)
                *gain = 0.01f;
            m->step[c][i] = momentum * m->step[c][i] - rate * *gain * 4 * m->push[c][i];
            m->at[c][i] += m->step[c][i];
            mean += m->at[c][i];
        }
        for (int i = 0; i < m->n; i++)
            m->at[c][i] -= (float)(mean / m->n);
    }
}

static void place(const map *m, double *y) {
    double extent = 0, lo[2], hi[2];
    for (int c = 0; c < 2; c++) {
        lo[c] = INFINITY;
        hi[c] = -INFINITY;
        for (int i = 0; i < m->n; i++) {
            lo[c] = fmin(lo[c], m->at[c][i]);
            hi[c] = fmax(hi[c], m->at[c][i]);
        }
        extent = fmax(extent, (hi[c] - lo[c]) / 2);
    }
    for (int i = 0; i < m->n; i++)
        for (int c = 0; c < 2; c++)
            y[2 * i + c] = (m->at[c][i] - (lo[c] + hi[c]) / 2) / (extent > 0 ? extent : 1);
}

npos_status npi_embedding_map(int n, int dim, const float *x, double perplexity, int steps,
                              uint64_t seed, npi_map_progress_fn *progress, void *context,
                              double *y) {
    map m = {.n = n, .dim = dim, .x = x};
    npos_status status;
    if (n < 2 || n > NPI_MAP_MOST)
        return npi_fail(NPOS_INVALID_ARGUMENT, "map of %d points, expected 2 to %d", n,
                        NPI_MAP_MOST);
    NPI_TRY_GOTO(map_alloc(&m), done);
    distances(&m);
    affinities(&m, fmax(1.5, fmin(perplexity, n / 4.0)));
    NPI_TRY_GOTO(principal(&m, seed), done);
    for (int c = 0; c < 2; c++)
        for (int i = 0; i < n; i++)
            m.gain[c][i] = 1;
    float rate = fmaxf(50, (float)n / exaggeration / 4);
    for (int s = 0; s < steps; s++) {
        int early = s < steps / 4;
        if (progress)
            NPI_TRY_GOTO(progress(context, s, steps), done);
        gradient(&m, early ? exaggeration : 1);
        descend(&m, rate, early ? 0.5f : 0.8f);
    }
    place(&m, y);
    if (progress)
        status = progress(context, steps, steps);
done:
    map_clear(&m);
    return status;
}
