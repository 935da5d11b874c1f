#include "ood/spread.h"

#include <math.h>

#include "base/memory.h"
#include "base/philox.h"

enum { ROUNDS = 30 };

static double dot(int dim, const double *a, const double *b) {
    double sum = 0.0;
    for (int j = 0; j < dim; j++)
        sum += a[j] * b[j];
    return sum;
}

static void normalise(int dim, double *a) {
    double norm = sqrt(dot(dim, a, a));
    for (int j = 0; j < dim; j++)
        a[j] /= norm;
}

static void add(int dim, double *to, double factor, const double *what) {
    for (int j = 0; j < dim; j++)
        to[j] += factor * what[j];
}

static void draw(int count, int dim, uint64_t seed, double *rows) {
    for (int i = 0; i < count; i++)
        for (int j = 0; j < dim; j++) {
            npi_u32x4 bits =
                npi_philox(seed, NPI_RANDOM_PROTOTYPES, 0, (uint32_t)i, (uint32_t)j / 2);
            float pair[2];
            npi_normal_pair(bits.v[0], bits.v[1], &pair[0], &pair[1]);
            rows[(size_t)i * (size_t)dim + (size_t)j] = (double)pair[j % 2];
        }
}

/* Orthonormal rows less their mean: all pairs make the same angle.  Gram-Schmidt twice is exact enough. */
static void simplex(int count, int dim, double *rows, double *mean) {
    for (int i = 0; i < count; i++) {
        double *row = rows + (size_t)i * (size_t)dim;
        for (int pass = 0; pass < 2; pass++)
            for (int k = 0; k < i; k++) {
                const double *other = rows + (size_t)k * (size_t)dim;
                add(dim, row, -dot(dim, row, other), other);
            }
        normalise(dim, row);
        add(dim, mean, 1.0 / count, row);
    }
    for (int i = 0; count > 1 && i < count; i++) {
        add(dim, rows + (size_t)i * (size_t)dim, -1.0, mean);
        normalise(dim, rows + (size_t)i * (size_t)dim);
    }
}

/* Each row moves away from the others, the near ones most. */
static void repel(int count, int dim, double *rows, double *force) {
    const double tau = 0.1;
    for (int i = 0; i < count; i++)
        normalise(dim, rows + (size_t)i * (size_t)dim);
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < count; i++) {
            double *row = rows + (size_t)i * (size_t)dim, sum = 0.0;
            for (int j = 0; j < dim; j++)
                force[j] = 0.0;
            for (int k = 0; k < count; k++) {
                if (k == i)
                    continue;
                const double *other = rows + (size_t)k * (size_t)dim;
                double weight = exp((dot(dim, row, other) - 1.0) / tau);
                add(dim, force, weight, other);
                sum += weight;
            }
            add(dim, row, -1.0 / (2 + round) / sum, force);
            normalise(dim, row);
        }
}

npos_status npi_spread_directions(int count, int dim, uint64_t seed, float *out) {
    size_t numbers = (size_t)count * (size_t)dim;
    double *rows = NULL, *room = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&rows, numbers, sizeof *rows, "directions"), done);
    NPI_TRY_GOTO(npi_alloc(&room, (size_t)dim, sizeof *room, "directions"), done);
    draw(count, dim, seed, rows);
    if (count <= dim)
        simplex(count, dim, rows, room);
    else
        repel(count, dim, rows, room);
    for (size_t k = 0; k < numbers; k++)
        out[k] = (float)rows[k];
    status = NPOS_OK;
done:
    npi_free(rows);
    npi_free(room);
    return status;
}
