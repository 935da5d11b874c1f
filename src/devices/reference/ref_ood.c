#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "devices/reference/ref.h"

/* Either kind of plan; one of the descriptions counts. */
struct npi_synth {
    npi_device *dev;
    bool gauss;
    npi_synth_desc npos;
    npi_gauss_desc vos;
};

typedef struct ranked {
    float distance;
    int64_t index;
} ranked;

static int by_index(const ranked *a, const ranked *b) {
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Nearest first, ties to the lower index. */
static int nearest_first(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return by_index(x, y);
}

/* Farthest first, ties to the lower index. */
static int farthest_first(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance > y->distance ? -1 : 1;
    return by_index(x, y);
}

/* Squared L2 in float64, rounded; what is not a number is infinitely far. */
static float distance_of(int dim, const float *a, const float *b) {
    double distance = npi_ref_square_distance(dim, a, b);
    return isnan(distance) ? INFINITY : (float)distance;
}

/* ---- rings ---- */

static npos_status ring_push(npi_device *dev, const npi_ring *ring, int n, const float *h,
                             const int32_t *labels) {
    (void)dev;
    NPI_TRY(npi_ref_check_labels("ring", n, labels, -1, ring->classes));
    size_t dim = (size_t)ring->dim, size = (size_t)ring->size;
    for (int i = 0; i < n; i++) {
        if (labels[i] < 0)
            continue;
        size_t class = (size_t)labels[i], row = (size_t)(ring->count[class] % size);
        memcpy(ring->rows + (class * size + row) * dim, h + (size_t)i * dim, dim * sizeof *h);
        ring->count[class]++;
    }
    return NPOS_OK;
}

/* ---- neighbours ---- */

static npos_status check_neighbours(int n, int64_t m, int dim, int k) {
    if (n < 0 || dim < 1 || k < 1 || k > m)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "neighbours: k is %d, expected 1 to the bank's %lld rows (%d queries of "
                        "dimension %d)",
                        k, (long long)m, n, dim);
    return NPOS_OK;
}

static npos_status neighbours(npi_device *dev, int n, const float *queries, int64_t m,
                              const float *bank, int dim, int k, int64_t *index, float *distance) {
    NPI_TRY(check_neighbours(n, m, dim, k));
    ranked *all;
    NPI_TRY(npi_ref_scratch(dev, (size_t)m * sizeof *all, &all));
    for (ptrdiff_t q = 0; q < n; q++) {
        for (int64_t i = 0; i < m; i++)
            all[i] = (ranked){distance_of(dim, queries + q * dim, bank + i * dim), i};
        qsort(all, (size_t)m, sizeof *all, nearest_first);
        for (ptrdiff_t j = 0; j < k; j++) {
            if (index)
                index[q * k + j] = all[j].index;
            if (distance)
                distance[q * k + j] = all[j].distance;
        }
    }
    return NPOS_OK;
}

static npos_status kth_neighbour(npi_device *dev, int n, const float *queries, int64_t m,
                                 const float *bank, int dim, int k, float *distance) {
    NPI_TRY(check_neighbours(n, m, dim, k));
    ranked *all;
    NPI_TRY(npi_ref_scratch(dev, (size_t)m * sizeof *all, &all));
    for (ptrdiff_t q = 0; q < n; q++) {
        for (int64_t i = 0; i < m; i++)
            all[i] = (ranked){distance_of(dim, queries + q * dim, bank + i * dim), i};
        qsort(all, (size_t)m, sizeof *all, nearest_first);
        distance[q] = all[k - 1].distance;
    }
    return NPOS_OK;
}

/* ---- NPOS synthesis ---- */

static npos_status synth_create(npi_device *dev, const npi_synth_desc *desc, npi_synth **out) {
    const npi_synth_desc *d = desc;
    *out = NULL;
    if (d->classes < 1 || d->ring < 1 || d->dim < 1 || d->k < 1 || d->k > d->ring || d->pick < 1 ||
        d->pick > d->select || d->select > d->ring || d->keep < 1 || d->keep > d->noise)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: ring %d, k %d, select %d, pick %d, noise %d, keep %d; expected "
                        "1 <= k <= ring, 1 <= pick <= select <= ring, 1 <= keep <= noise",
                        d->ring, d->k, d->select, d->pick, d->noise, d->keep);
    NPI_TRY(npi_alloc(out, 1, sizeof **out, "synthesis"));
    **out = (npi_synth){.dev = dev, .npos = *d};
    return NPOS_OK;
}

static void synth_free(npi_device *dev, npi_synth *synth) {
    (void)dev;
    npi_free(synth);
}

/* Element d of the row: the (d%4)-th normal of the two pairs of philox(seed, purpose, step, item,
 * d/4). */
static void draw_normals(uint64_t seed, npi_purpose purpose, uint64_t step, uint32_t item, int dim,
                         float *row) {
    for (int d = 0; d < dim; d++) {
        npi_u32x4 r = npi_philox(seed, (uint32_t)purpose, step, item, (uint32_t)d / 4);
        float four[4];
        npi_normal_pair(r.v[0], r.v[1], &four[0], &four[1]);
        npi_normal_pair(r.v[2], r.v[3], &four[2], &four[3]);
        row[d] = four[d % 4];
    }
}

/* Room of one call, in the device's scratch. */
typedef struct room {
    float *unit;      /* [ring][dim]: the class's rows, normalised */
    bool *zero;       /* [ring]: shorter than 1e-12, see kth_in_ring */
    float *noise;     /* [noise][dim] */
    ranked *order;    /* [max(ring, noise)] */
    float *distance;  /* [pick][noise] */
    float *candidate; /* [dim] */
    float *one;       /* [ring]: distances of one query */
    int32_t *picked;  /* [pick] */
} room;

static npos_status make_room(npi_synth *s, room *out) {
    const npi_synth_desc *d = &s->npos;
    size_t ring = (size_t)d->ring, dim = (size_t)d->dim, noise = (size_t)d->noise;
    size_t longer = ring > noise ? ring : noise;
    size_t bytes[8] = {longer * sizeof(ranked),
                       ring * dim * sizeof(float),
                       noise * dim * sizeof(float),
                       (size_t)d->pick * noise * sizeof(float),
                       dim * sizeof(float),
                       ring * sizeof(float),
                       (size_t)d->pick * sizeof(int32_t),
                       ring * sizeof(bool)};
    size_t total = 0;
    for (int i = 0; i < 8; i++)
        total += bytes[i];
    char *at, *piece[8];
    NPI_TRY(npi_ref_scratch(s->dev, total, &at));
    for (int i = 0; i < 8; i++) {
        piece[i] = at;
        at += bytes[i];
    }
    *out = (room){.order = (void *)piece[0],
                  .unit = (void *)piece[1],
                  .noise = (void *)piece[2],
                  .distance = (void *)piece[3],
                  .candidate = (void *)piece[4],
                  .one = (void *)piece[5],
                  .picked = (void *)piece[6],
                  .zero = (void *)piece[7]};
    return NPOS_OK;
}

static int rising(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* Squared L2 distance from a unit row (or a zero row) to its k-th nearest row of the ring.  A zero
 * row lies at 1 from every unit row and at 0 from another zero row, exactly, so that these ties
 * are ties; for the authors' code it is infinitely far from everything. */
static float kth_in_ring(const npi_synth_desc *d, room *r, const float *query, bool zero) {
    for (ptrdiff_t i = 0; i < d->ring; i++) {
        if (d->authors && (zero || r->zero[i]))
            r->one[i] = INFINITY;
        else if (zero || r->zero[i])
            r->one[i] = zero && r->zero[i] ? 0.0f : 1.0f;
        else
            r->one[i] = distance_of(d->dim, query, r->unit + i * d->dim);
    }
    qsort(r->one, (size_t)d->ring, sizeof *r->one, rising);
    return r->one[d->k - 1];
}

/* Step 1: the rows of one class by falling distance to their k-th neighbour, themselves counted. */
static void rank_rows(const npi_synth_desc *d, const float *rows, room *r) {
    for (ptrdiff_t i = 0; i < d->ring; i++) {
        const float *row = rows + i * d->dim;
        r->zero[i] = npi_ref_dot(d->dim, row, row) < 1e-24;
        npi_ref_normalize(d->dim, row, r->unit + i * d->dim);
    }
    for (ptrdiff_t i = 0; i < d->ring; i++)
        r->order[i] = (ranked){kth_in_ring(d, r, r->unit + i * d->dim, r->zero[i]), i};
    qsort(r->order, (size_t)d->ring, sizeof *r->order, farthest_first);
}

/* Step 2: `pick` of the first `select`. */
static void pick_rows(const npi_synth_desc *d, int class, uint64_t step, const int32_t *given,
                      ranked *order, int32_t *picked) {
    for (int j = 0; j < d->pick; j++) {
        if (given) {
            picked[j] = (int32_t)order[given[class * d->pick + j]].index;
            continue;
        }
        npi_u32x4 r = npi_philox(d->seed, NPI_RANDOM_BOUNDARY, step, (uint32_t) class, (uint32_t)j);
        int with = j + (int)npi_below(r.v[0], (uint32_t)(d->select - j));
        ranked held = order[j];
        order[j] = order[with];
        order[with] = held;
        picked[j] = (int32_t)order[j].index;
    }
}

static void candidate_of(const npi_synth_desc *d, const float *row, const float *noise, float *to) {
    for (int p = 0; p < d->dim; p++)
        to[p] = row[p] + d->sigma * noise[p];
}

/* Steps 3 and 4 for one class: of the candidates v = h_b + sigma eps of each picked row the `keep`
 * farthest from the ring.  The authors' code reads the distances, laid out (pick, noise), as if
 * they were (noise, pick). */
static void keep_candidates(const npi_synth_desc *d, const float *rows, room *r, float *outliers) {
    for (ptrdiff_t b = 0; b < d->pick; b++)
        for (ptrdiff_t l = 0; l < d->noise; l++) {
            candidate_of(d, rows + (ptrdiff_t)r->picked[b] * d->dim, r->noise + l * d->dim,
                         r->candidate);
            npi_ref_normalize(d->dim, r->candidate, r->candidate);
            r->distance[b * d->noise + l] = kth_in_ring(d, r, r->candidate, false);
        }
    for (ptrdiff_t b = 0; b < d->pick; b++) {
        for (ptrdiff_t l = 0; l < d->noise; l++)
            r->order[l] = (ranked){
                d->authors ? r->distance[l * d->pick + b] : r->distance[b * d->noise + l], l};
        qsort(r->order, (size_t)d->noise, sizeof *r->order, farthest_first);
        for (ptrdiff_t i = 0; i < d->keep; i++)
            candidate_of(d, rows + (ptrdiff_t)r->picked[b] * d->dim,
                         r->noise + r->order[i].index * d->dim,
                         outliers + (b * d->keep + i) * d->dim);
    }
}

static npos_status check_ring(const npi_ring *ring, int classes, int size, int dim) {
    if (ring->classes == classes && ring->size == size && ring->dim == dim)
        return NPOS_OK;
    return npi_fail(NPOS_INVALID_ARGUMENT,
                    "synthesis: ring of %d x %d x %d, planned for %d x %d x %d", ring->classes,
                    ring->size, ring->dim, classes, size, dim);
}

static npos_status synthesise(npi_synth *synth, const npi_ring *ring, const npi_step *step,
                              const npi_synth_given *given, float *outliers, int32_t *boundary) {
    const npi_synth_desc *d = &synth->npos;
    const int32_t *picks = given ? given->picks : NULL;
    NPI_TRY(check_ring(ring, d->classes, d->ring, d->dim));
    for (int i = 0; picks && i < d->classes * d->pick; i++)
        if (picks[i] < 0 || picks[i] >= d->select)
            return npi_fail(NPOS_INVALID_ARGUMENT, "synthesis: pick %d, expected 0 to %d", picks[i],
                            d->select - 1);
    room r;
    NPI_TRY(make_room(synth, &r));
    for (int l = 0; l < d->noise; l++) {
        float *row = r.noise + (ptrdiff_t)l * d->dim;
        if (given && given->noise)
            memcpy(row, given->noise + (ptrdiff_t)l * d->dim, (size_t)d->dim * sizeof *row);
        else
            draw_normals(d->seed, NPI_RANDOM_NOISE, step->number, (uint32_t)l, d->dim, row);
    }
    for (int c = 0; c < d->classes; c++) {
        const float *rows = ring->rows + (ptrdiff_t)c * d->ring * d->dim;
        rank_rows(d, rows, &r);
        pick_rows(d, c, step->number, picks, r.order, r.picked);
        keep_candidates(d, rows, &r, outliers + (ptrdiff_t)c * d->pick * d->keep * d->dim);
        if (boundary)
            memcpy(boundary + (ptrdiff_t)c * d->pick, r.picked, (size_t)d->pick * sizeof *r.picked);
    }
    return NPOS_OK;
}

/* ---- VOS synthesis ---- */

static npos_status gauss_create(npi_device *dev, const npi_gauss_desc *desc, npi_synth **out) {
    const npi_gauss_desc *d = desc;
    *out = NULL;
    if (d->classes < 1 || d->ring < 1 || d->dim < 1 || d->keep < 1 || d->keep > d->draws)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: %d classes, ring %d, draws %d, keep %d; expected 1 <= keep <= "
                        "draws",
                        d->classes, d->ring, d->draws, d->keep);
    NPI_TRY(npi_alloc(out, 1, sizeof **out, "synthesis"));
    **out = (npi_synth){.dev = dev, .gauss = true, .vos = *d};
    return NPOS_OK;
}

/* mean [classes][dim] of each ring; s [dim][dim] = mean over all rows of all rings of
 * (h - mean)(h - mean)^T, + 1e-4 I */
static void fit(const npi_gauss_desc *d, const float *rows, double *mean, double *s) {
    int dim = d->dim;
    memset(mean, 0, (size_t)d->classes * (size_t)dim * sizeof *mean);
    memset(s, 0, (size_t)dim * (size_t)dim * sizeof *s);
    for (ptrdiff_t c = 0; c < d->classes; c++) {
        const float *ring = rows + c * d->ring * dim;
        double *m = mean + c * dim;
        for (ptrdiff_t i = 0; i < d->ring; i++)
            for (int p = 0; p < dim; p++)
                m[p] += (double)ring[i * dim + p] / d->ring;
        for (ptrdiff_t i = 0; i < d->ring; i++)
            for (ptrdiff_t p = 0; p < dim; p++)
                for (ptrdiff_t q = 0; q < dim; q++)
                    s[p * dim + q] +=
                        ((double)ring[i * dim + p] - m[p]) * ((double)ring[i * dim + q] - m[q]);
    }
    for (ptrdiff_t p = 0; p < dim; p++)
        for (ptrdiff_t q = 0; q < dim; q++)
            s[p * dim + q] = s[p * dim + q] / d->classes / d->ring + (p == q ? 1e-4 : 0.0);
}

/* s = L L^T, L into s's lower triangle */
static npos_status cholesky(int dim, double *s) {
    for (ptrdiff_t j = 0; j < dim; j++)
        for (ptrdiff_t i = j; i < dim; i++) {
            double left = s[i * dim + j];
            for (ptrdiff_t p = 0; p < j; p++)
                left -= s[i * dim + p] * s[j * dim + p];
            if (i == j && !(left > 0.0))
                return npi_fail(NPOS_INVALID_ARGUMENT,
                                "synthesis: the shared covariance is not positive definite (pivot "
                                "%d is %g)",
                                (int)j, left);
            s[i * dim + j] = i == j ? sqrt(left) : left / s[j * dim + j];
        }
    return NPOS_OK;
}

/* x = mean + L eps.  Its log-likelihood is const - |L^-1 (x - mean)|^2 / 2 = const - |eps|^2 / 2,
 * so the least likely draws are those of the longest eps. */
static npos_status gauss_synthesise(npi_synth *synth, const npi_ring *ring, const npi_step *step,
                                    float *outliers) {
    const npi_gauss_desc *d = &synth->vos;
    NPI_TRY(check_ring(ring, d->classes, d->ring, d->dim));
    size_t dim = (size_t)d->dim, classes = (size_t)d->classes, draws = (size_t)d->draws;
    size_t means = classes * dim, square = dim * dim;
    char *at;
    NPI_TRY(npi_ref_scratch(
        synth->dev,
        (means + square) * sizeof(double) + draws * sizeof(ranked) + dim * sizeof(float), &at));
    double *mean = (void *)at, *s = mean + means;
    ranked *order = (void *)(s + square);
    float *eps = (void *)(order + draws);
    fit(d, ring->rows, mean, s);
    NPI_TRY(cholesky(d->dim, s));
    for (int c = 0; c < d->classes; c++) {
        for (int i = 0; i < d->draws; i++) {
            draw_normals(d->seed, NPI_RANDOM_GAUSS, step->number, (uint32_t)(c * d->draws + i),
                         d->dim, eps);
            order[i] = (ranked){(float)npi_ref_dot(d->dim, eps, eps), i};
        }
        qsort(order, draws, sizeof *order, farthest_first);
        for (int i = 0; i < d->keep; i++) {
            draw_normals(d->seed, NPI_RANDOM_GAUSS, step->number,
                         (uint32_t)(c * d->draws + (int)order[i].index), d->dim, eps);
            float *to = outliers + ((ptrdiff_t)c * d->keep + i) * d->dim;
            for (ptrdiff_t p = 0; p < d->dim; p++) {
                double x = mean[(ptrdiff_t)c * d->dim + p];
                for (ptrdiff_t q = 0; q <= p; q++)
                    x += s[p * d->dim + q] * (double)eps[q];
                to[p] = (float)x;
            }
        }
    }
    return NPOS_OK;
}

const npi_ood_ops npi_ref_ood = {.ring_push = ring_push,
                                 .synth_create = synth_create,
                                 .synth_free = synth_free,
                                 .synthesise = synthesise,
                                 .gauss_create = gauss_create,
                                 .gauss_synthesise = gauss_synthesise,
                                 .kth_neighbour = kth_neighbour,
                                 .neighbours = neighbours};
