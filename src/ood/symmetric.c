#include "ood/symmetric.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { MOST_TURNS = 60 }; /* of QL, for one value; about 2 are needed */

/* v = the unit vector whose reflection I - 2vv^T takes x[n] to (alpha, 0, ...); v is 0 where x lies so
 * already. */
static double reflection(int n, const double *x, double *v) {
    double scale = 0, rest = 0;
    for (int i = 1; i < n; i++)
        scale = fmax(scale, fabs(x[i]));
    memset(v, 0, (size_t)n * sizeof *v);
    if (scale == 0)
        return x[0];
    scale = fmax(scale, fabs(x[0]));
    for (int i = 1; i < n; i++)
        rest += (x[i] / scale) * (x[i] / scale);
    double first = x[0] / scale, alpha = -copysign(sqrt(first * first + rest), first);
    double norm = sqrt((first - alpha) * (first - alpha) + rest);
    v[0] = (first - alpha) / norm;
    for (int i = 1; i < n; i++)
        v[i] = x[i] / scale / norm;
    return alpha * scale;
}

/* A (n x n) -> three diagonals d[n], e[n-1]; row k of a keeps the k-th reflection from column k + 1
 * on.  w[n] is scratch. */
static void three_diagonals(int n, double *a, double *d, double *e, double *w) {
    for (int k = 0; k + 2 < n; k++) {
        int m = n - k - 1;
        double *row = a + (size_t)k * (size_t)n + k, *v = row + 1;
        d[k] = row[0];
        memcpy(w, v, (size_t)m * sizeof *w); /* the row is the column too */
        e[k] = reflection(m, w, v);
        double *rest = a + (size_t)(k + 1) * (size_t)n + k + 1, vp = 0;
#pragma omp parallel for schedule(static) if (m > 128)
        for (int i = 0; i < m; i++) {
            const double *of = rest + (size_t)i * (size_t)n;
            double sum = 0;
            for (int j = 0; j < m; j++)
                sum += of[j] * v[j];
            w[i] = sum;
        }
        for (int i = 0; i < m; i++)
            vp += v[i] * w[i];
        for (int i = 0; i < m; i++)
            w[i] = 2 * (w[i] - vp * v[i]);
#pragma omp parallel for schedule(static) if (m > 128)
        for (int i = 0; i < m; i++) {
            double *to = rest + (size_t)i * (size_t)n;
            for (int j = 0; j < m; j++)
                to[j] -= v[i] * w[j] + w[i] * v[j];
        }
    }
    for (int k = n > 2 ? n - 2 : 0; k < n; k++) {
        d[k] = a[(size_t)k * (size_t)(n + 1)];
        if (k + 1 < n)
            e[k] = a[(size_t)k * (size_t)(n + 1) + 1];
    }
}

/* vector = Q^T of A = Q T Q^T, Q the product of the reflections in a's rows. */
static void reflections_product(int n, const double *a, double *vector) {
    memset(vector, 0, (size_t)n * (size_t)n * sizeof *vector);
    for (int i = 0; i < n; i++)
        vector[(size_t)i * (size_t)(n + 1)] = 1;
    for (int k = n - 3; k >= 0; k--) {
        const double *v = a + (size_t)k * (size_t)n + k + 1;
        int m = n - k - 1;
        /* Q <- H Q is Q^T <- Q^T H: row by row */
#pragma omp parallel for schedule(static) if (m > 128)
        for (int i = k + 1; i < n; i++) {
            double *row = vector + (size_t)i * (size_t)n + k + 1, sum = 0;
            for (int j = 0; j < m; j++)
                sum += row[j] * v[j];
            for (int j = 0; j < m; j++)
                row[j] -= 2 * sum * v[j];
        }
    }
}

static void rotate(int n, double c, double s, double *restrict x, double *restrict y) {
    for (int k = 0; k < n; k++) {
        double f = y[k];
        y[k] = s * x[k] + c * f;
        x[k] = c * x[k] - s * f;
    }
}

/* One turn of QL with an implicit shift on d[l..m], e[l..m-1]; the rows of `vector` turn along. */
static void turn(int n, int l, int m, double *d, double *e, double *vector) {
    double g = (d[l + 1] - d[l]) / (2 * e[l]), s = 1, c = 1, p = 0;
    g = d[m] - d[l] + e[l] / (g + copysign(hypot(g, 1), g));
    for (int i = m - 1; i >= l; i--) {
        double f = s * e[i], b = c * e[i], r = hypot(f, g);
        e[i + 1] = r;
        if (r == 0) { /* it fell apart: the next search finds the smaller block */
            d[i + 1] -= p;
            e[m] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        rotate(n, c, s, vector + (size_t)i * (size_t)n, vector + (size_t)(i + 1) * (size_t)n);
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0;
}

static npos_status diagonal(int n, double *d, double *e, double *vector) {
    double scale = 0;
    e[n - 1] = 0;
    for (int i = 0; i < n; i++)
        scale = fmax(scale, fabs(d[i]) + fabs(e[i]));
    for (int l = 0; l < n; l++) {
        for (int turns = 0;; turns++) {
            int m = l;
            while (m + 1 < n && fabs(e[m]) > DBL_EPSILON * scale)
                m++;
            if (m == l)
                break;
            if (turns == MOST_TURNS)
                return npi_fail(NPOS_NOT_FINITE, "eigenvalue %d of %d does not settle", l, n);
            turn(n, l, m, d, e, vector);
        }
    }
    return NPOS_OK;
}

static void sort_descending(int n, const double *d, double *value, const double *from, double *to,
                            int *order) {
    for (int i = 0; i < n; i++) {
        int at = i;
        for (; at > 0 && d[order[at - 1]] < d[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    for (int k = 0; k < n; k++) {
        value[k] = d[order[k]];
        memcpy(to + (size_t)k * (size_t)n, from + (size_t)order[k] * (size_t)n,
               (size_t)n * sizeof *to);
    }
}

npos_status npi_symmetric_eigen(int n, double *a, double *value, double *vector) {
    size_t count = (size_t)n;
    double *d = NULL;
    int *order = NULL;
    npos_status status;
    for (size_t i = 0; i < count * count; i++)
        if (!isfinite(a[i]))
            return npi_fail(NPOS_NOT_FINITE, "a matrix of %d x %d holds %g", n, n, a[i]);
    NPI_TRY_GOTO(npi_alloc(&d, 3 * count, sizeof *d, "eigenvalues"), done);
    NPI_TRY_GOTO(npi_alloc(&order, count, sizeof *order, "eigenvalues"), done);
    double *e = d + count, *w = e + count;
    three_diagonals(n, a, d, e, w);
    reflections_product(n, a, vector);
    status = diagonal(n, d, e, vector);
    if (status == NPOS_OK) {
        memcpy(a, vector, count * count * sizeof *a);
        sort_descending(n, d, value, a, vector, order);
    }
done:
    npi_free(d);
    npi_free(order);
    return status;
}
