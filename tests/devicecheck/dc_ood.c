#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "dc.h"

static void unit_rows(int n, int dim, const float *from, float *to) {
    for (ptrdiff_t i = 0; i < n; i++) {
        double square = 0.0;
        for (ptrdiff_t j = i * dim; j < (i + 1) * dim; j++)
            square += (double)from[j] * (double)from[j];
        double norm = fmax(sqrt(square), 1e-12);
        for (ptrdiff_t j = i * dim; j < (i + 1) * dim; j++)
            to[j] = (float)((double)from[j] / norm);
    }
}

void dc_check_ring_push(dc *d) {
    static const int shapes[][4] = {
        {1, 1, 1, 1}, {64, 3, 5, 16}, {33, 10, 7, 129}, {7, 2, 100, 3}, {1300, 3, 300, 5}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int n = shapes[i][0], classes = shapes[i][1], size = shapes[i][2], dim = shapes[i][3];
        size_t rows = (size_t)(classes * size * dim);
        dc_case(d, "%d rows into %d rings of %d x %d", n, classes, size, dim);
        uint64_t *counts = dc_host(d, (size_t)classes * sizeof *counts);
        for (int c = 0; c < classes; c++)
            counts[c] = (uint64_t)dc_below(d, 1000);
        dc_buf *ring = dc_input(d, "ring", dc_normals(d, rows, 1.0), rows * 4);
        dc_buf *count = dc_input(d, "count", counts, (size_t)classes * sizeof *counts);
        dc_buf *h = dc_input(d, "h", dc_normals(d, (size_t)(n * dim), 1.0), (size_t)(n * dim) * 4);
        dc_buf *labels = dc_input(d, "labels", dc_labels(d, n, classes, true), (size_t)n * 4);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            npi_ring r = {classes, size, dim, dc_at(ring, s), dc_at(count, s)};
            DC_RUN(dev->ood->ring_push(dev, &r, n, dc_at(h, s), dc_at(labels, s)));
        }
        dc_floats(d, ring, DC_EXACT);
        dc_guards(d, count);
        if (memcmp(dc_read(d, count, 0), dc_read(d, count, 1), count->bytes[1]) != 0)
            dc_fail(d, "the rings' counts differ");
        dc_release(d);
    }
}

/* ---- neighbours ---- */

typedef enum bank_kind { RANDOM, DUPLICATES, EQUAL, UNIT, FAR } bank_kind;
typedef struct search {
    int n, m, dim, k;
    bank_kind kind;
} search;
static const search searches[] = {
    {1, 1, 1, 1, RANDOM},           {31, 33, 16, 33, RANDOM}, {33, 64, 3, 1, DUPLICATES},
    {64, 600, 128, 300, UNIT},      {5, 1100, 512, 50, UNIT}, {7, 100, 24, 100, EQUAL},
    {16, 2000, 32, 10, DUPLICATES}, {9, 700, 48, 5, FAR},     {3, 9000, 24, 40, UNIT},
    {2, 6001, 9, 50, DUPLICATES},
};

static float *make_bank(dc *d, const search *s, int rows) {
    ptrdiff_t dim = s->dim;
    float *bank = dc_normals(d, (size_t)(rows * dim), 1.0);
    for (ptrdiff_t i = 0; i < rows; i++) {
        if (s->kind == EQUAL)
            memcpy(bank + i * dim, bank, (size_t)dim * sizeof *bank);
        if (s->kind == DUPLICATES && i > 3)
            memcpy(bank + i * dim, bank + dc_below(d, 4) * dim, (size_t)dim * sizeof *bank);
        for (ptrdiff_t j = i * dim; s->kind == FAR && j < (i + 1) * dim; j++)
            bank[j] += 50.0f; /* distances are small beside the norms */
    }
    if (s->kind == UNIT)
        unit_rows(rows, s->dim, bank, bank);
    return bank;
}

static const float *make_queries(dc *d, const search *s, const float *bank) {
    float *queries = dc_normals(d, (size_t)(s->n * s->dim), 1.0);
    for (ptrdiff_t i = 0; i < s->n * s->dim; i++)
        queries[i] += s->kind == FAR ? 50.0f : 0.0f;
    if (s->n > 1) /* one query lies in the bank */
        memcpy(queries, bank, (size_t)s->dim * sizeof *queries);
    return queries;
}

static void name_search(dc *d, const search *s) {
    static const char *const names[] = {"random", "duplicates", "all equal", "unit", "far away"};
    dc_case(d, "%d queries, bank %d x %d, k %d, %s", s->n, s->m, s->dim, s->k, names[s->kind]);
}

void dc_check_kth_neighbour(dc *d) {
    for (size_t i = 0; i < sizeof searches / sizeof *searches; i++) {
        const search *s = &searches[i];
        name_search(d, s);
        const float *rows = make_bank(d, s, s->m), *asked = make_queries(d, s, rows);
        dc_buf *bank = dc_input(d, "bank", rows, (size_t)(s->m * s->dim) * 4);
        dc_buf *queries = dc_input(d, "queries", asked, (size_t)(s->n * s->dim) * 4);
        dc_buf *distance = dc_output(d, "distance", (size_t)s->n * 4);
        for (int e = 0; e < 2; e++) {
            npi_device *dev = d->side[e];
            DC_RUN(dev->ood->kth_neighbour(dev, s->n, dc_at(queries, e), s->m, dc_at(bank, e),
                                           s->dim, s->k, dc_at(distance, e)));
        }
        dc_floats(d, distance, DC_DISTANCE);
        dc_release(d);
    }
}

/* Another row may stand at a rank only where the reference's distance of that row agrees with the
 * reference's distance at that rank; no row may stand twice.  Rows of the same bits are a tie that
 * no rounding excuses: there the lower index comes first. */
static void compare_ranks(dc *d, const search *s, const float *asked, const float *rows,
                          const int64_t *index, const float *expected, const float *seen) {
    bool *taken = dc_host(d, (size_t)s->m);
    for (ptrdiff_t q = 0; q < s->n; q++) {
        memset(taken, 0, (size_t)s->m);
        for (ptrdiff_t j = 0; j < s->k; j++) {
            int64_t at = index[q * s->k + j];
            if (at < 0 || at >= s->m || taken[at]) {
                dc_fail(d, "query %td, rank %td: row %lld is outside or stands twice", q, j,
                        (long long)at);
                return;
            }
            taken[at] = true;
            double own = 0.0, should = (double)expected[q * s->k + j];
            for (int p = 0; p < s->dim; p++) {
                double e = (double)asked[q * s->dim + p] - (double)rows[at * s->dim + p];
                own += e * e;
            }
            if (!(fabs(own - should) <= 1e-5 * fmax(should, 1e-3))) {
                dc_fail(d, "query %td, rank %td: row %lld lies at %.9g, expected %.9g", q, j,
                        (long long)at, own, should);
                return;
            }
            int64_t before = j > 0 ? index[q * s->k + j - 1] : -1;
            if (before > at && seen[q * s->k + j] == seen[q * s->k + j - 1] &&
                memcmp(rows + before * s->dim, rows + at * s->dim, (size_t)s->dim * 4) == 0) {
                dc_fail(d, "query %td: rows %lld and %lld are equal, the lower comes first", q,
                        (long long)before, (long long)at);
                return;
            }
        }
    }
}

void dc_check_neighbours(dc *d) {
    for (size_t i = 0; i < sizeof searches / sizeof *searches; i++) {
        const search *s = &searches[i];
        name_search(d, s);
        const float *rows = make_bank(d, s, s->m), *asked = make_queries(d, s, rows);
        dc_buf *bank = dc_input(d, "bank", rows, (size_t)(s->m * s->dim) * 4);
        dc_buf *queries = dc_input(d, "queries", asked, (size_t)(s->n * s->dim) * 4);
        dc_buf *index = dc_output(d, "index", (size_t)(s->n * s->k) * 8);
        dc_buf *distance = dc_output(d, "distance", (size_t)(s->n * s->k) * 4);
        for (int e = 0; e < 2; e++) {
            npi_device *dev = d->side[e];
            DC_RUN(dev->ood->neighbours(dev, s->n, dc_at(queries, e), s->m, dc_at(bank, e), s->dim,
                                        s->k, dc_at(index, e), NULL));
            DC_RUN(dev->ood->neighbours(dev, s->n, dc_at(queries, e), s->m, dc_at(bank, e), s->dim,
                                        s->k, dc_at(index, e), dc_at(distance, e)));
        }
        dc_guards(d, index);
        dc_floats(d, distance, DC_DISTANCE);
        const int64_t *ranks = dc_read(d, index, 1);
        dc_digest(d, ranks, index->bytes[1]);
        compare_ranks(d, s, asked, rows, ranks, dc_read(d, distance, 0), dc_read(d, distance, 1));
        dc_release(d);
    }
}

/* ---- synthesis ---- */

typedef struct ranked {
    float distance;
    int index;
} ranked;

static int falling(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance > y->distance ? -1 : 1;
    return x->index - y->index;
}

static bool close_distance(float a, float b) {
    return a == b || fabs((double)a - (double)b) <= 2e-5 * fmax(fabs((double)a), 0.1);
}

typedef struct synth_case {
    npi_synth_desc desc;
    bool given, duplicates, zeros;
} synth_case;

/* Distances of unit vectors to their k-th row, by the reference; zero rows as the desc says. */
static bool distances(dc *d, const synth_case *c, int n, const float *queries, const float *ring,
                      float *out) {
    const npi_synth_desc *desc = &c->desc;
    ptrdiff_t dim = desc->dim, there = 0;
    float *unit = dc_host(d, (size_t)(desc->ring * dim) * sizeof *unit);
    float *asked = dc_host(d, (size_t)(n * dim) * sizeof *asked);
    unit_rows(n, desc->dim, queries, asked);
    for (ptrdiff_t i = 0; i < desc->ring; i++) {
        bool zero = true;
        for (ptrdiff_t j = 0; j < dim; j++)
            zero = zero && ring[i * dim + j] == 0.0f;
        if (!zero || !desc->authors)
            unit_rows(1, desc->dim, ring + i * dim, unit + there++ * dim);
    }
    npi_device *ref = d->side[0];
    if (desc->k <= there) {
        if (!dc_passed(
                d, "kth_neighbour",
                ref->ood->kth_neighbour(ref, n, asked, there, unit, desc->dim, desc->k, out)))
            return false;
    } else {
        for (int i = 0; i < n; i++)
            out[i] = INFINITY;
    }
    for (ptrdiff_t i = 0; i < n && desc->authors; i++) {
        bool zero = true;
        for (ptrdiff_t j = 0; j < dim; j++)
            zero = zero && queries[i * dim + j] == 0.0f;
        out[i] = zero ? INFINITY : out[i];
    }
    return true;
}

static const float *noise_of(dc *d, const npi_synth_desc *desc, uint64_t step) {
    float *noise = dc_host(d, (size_t)(desc->noise * desc->dim + 4) * sizeof *noise);
    for (int l = 0; l < desc->noise; l++)
        for (int p = 0; p < desc->dim; p++) {
            npi_u32x4 r =
                npi_philox(desc->seed, NPI_RANDOM_NOISE, step, (uint32_t)l, (uint32_t)p / 4);
            float four[4];
            npi_normal_pair(r.v[0], r.v[1], &four[0], &four[1]);
            npi_normal_pair(r.v[2], r.v[3], &four[2], &four[3]);
            noise[l * desc->dim + p] = four[p % 4];
        }
    return noise;
}

/* Side 1's kept candidates of boundary row number `slot` of a class: each is h + sigma eps of a
 * noise row of its own, and the distance that ranks it is that of the reference's choice. */
static bool check_kept(dc *d, const synth_case *c, const float *ring, const int32_t *boundary,
                       int slot, const float *noise, const float *kept) {
    const npi_synth_desc *desc = &c->desc;
    ptrdiff_t dim = desc->dim;
    int count = desc->pick * desc->noise;
    float *candidates = dc_host(d, (size_t)(count * dim) * sizeof *candidates);
    for (ptrdiff_t b = 0; b < desc->pick; b++)
        for (ptrdiff_t l = 0; l < desc->noise; l++)
            for (ptrdiff_t p = 0; p < dim; p++)
                candidates[(b * desc->noise + l) * dim + p] =
                    ring[boundary[b] * dim + p] + desc->sigma * noise[l * dim + p];
    float *all = dc_host(d, (size_t)count * sizeof *all);
    if (!distances(d, c, count, candidates, ring, all))
        return false;
    float *mine = dc_host(d, (size_t)desc->noise * sizeof *mine);
    ranked *order = dc_host(d, (size_t)desc->noise * sizeof *order);
    bool *taken = dc_host(d, (size_t)desc->noise);
    for (int l = 0; l < desc->noise; l++) {
        mine[l] = desc->authors ? all[l * desc->pick + slot] : all[slot * desc->noise + l];
        order[l] = (ranked){mine[l], l};
    }
    qsort(order, (size_t)desc->noise, sizeof *order, falling);
    for (int i = 0; i < desc->keep; i++) {
        int best = -1;
        double nearest = INFINITY;
        for (int l = 0; l < desc->noise; l++) {
            double error = 0.0;
            for (ptrdiff_t p = 0; p < dim; p++)
                error = fmax(error, fabs((double)kept[i * dim + p] -
                                         (double)candidates[(slot * desc->noise + l) * dim + p]));
            if (!taken[l] && error < nearest) {
                nearest = error;
                best = l;
            }
        }
        if (!(nearest <= 1e-5)) {
            dc_fail(d, "outlier %d of boundary row %d is no candidate (off by %g)", i, slot,
                    nearest);
            return false;
        }
        taken[best] = true;
        if (!close_distance(mine[best], order[i].distance)) {
            dc_fail(d, "outlier %d of boundary row %d: distance %.9g, expected %.9g", i, slot,
                    (double)mine[best], (double)order[i].distance);
            return false;
        }
    }
    return true;
}

static float *make_ring(dc *d, const synth_case *c) {
    const npi_synth_desc *desc = &c->desc;
    ptrdiff_t rows = desc->classes * desc->ring, dim = desc->dim;
    float *ring = dc_normals(d, (size_t)(rows * dim), 0.6);
    for (ptrdiff_t i = 0; i < rows; i++) {
        for (ptrdiff_t j = 0; j < dim; j++)
            ring[i * dim + j] += j % desc->classes == i / desc->ring ? 1.5f : 0.0f;
        if (c->duplicates && i % desc->ring >= desc->ring / 2)
            memcpy(ring + i * dim, ring + (i - desc->ring / 2) * dim, (size_t)dim * sizeof *ring);
        if (c->zeros && i % 5 == 2)
            memset(ring + i * dim, 0, (size_t)dim * sizeof *ring);
    }
    return ring;
}

static void compare_synthesis(dc *d, const synth_case *c, const float *ring, const float *noise,
                              const dc_buf *outliers, const dc_buf *boundary) {
    const npi_synth_desc *desc = &c->desc;
    const float *kept = dc_read(d, outliers, 1);
    const int32_t *expected = dc_read(d, boundary, 0), *picked = dc_read(d, boundary, 1);
    dc_digest(d, kept, outliers->bytes[1]);
    dc_digest(d, picked, boundary->bytes[1]);
    float *of_row = dc_host(d, (size_t)desc->ring * sizeof *of_row);
    for (ptrdiff_t class = 0; class < desc->classes; class ++) {
        const float *rows = ring + class * desc->ring * desc->dim;
        if (!distances(d, c, desc->ring, rows, rows, of_row))
            return;
        for (int b = 0; b < desc->pick; b++) {
            int32_t at = picked[class * desc->pick + b], want = expected[class * desc->pick + b];
            d->compared++;
            if (at < 0 || at >= desc->ring || !close_distance(of_row[at], of_row[want])) {
                dc_fail(d, "class %td, pick %d: row %d, the reference has %d", class, b, at, want);
                return;
            }
            ptrdiff_t slot = class * desc->pick + b;
            if (!check_kept(d, c, rows, picked + class * desc->pick, b, noise,
                            kept + slot * desc->keep * desc->dim))
                return;
        }
    }
}

static void run_synthesis(dc *d, const synth_case *c, npi_synth *plan[2]) {
    const npi_synth_desc *desc = &c->desc;
    size_t rows = (size_t)(desc->classes * desc->ring * desc->dim);
    const float *values = make_ring(d, c);
    dc_buf *ring = dc_input(d, "ring", values, rows * 4);
    uint64_t *counts = dc_host(d, (size_t)desc->classes * sizeof *counts);
    for (int i = 0; i < desc->classes; i++)
        counts[i] = (uint64_t)desc->ring;
    dc_buf *count = dc_input(d, "count", counts, (size_t)desc->classes * sizeof *counts);
    size_t slots = (size_t)(desc->classes * desc->pick);
    size_t noise_bytes = (size_t)(desc->noise * desc->dim) * 4;
    const float *noise = c->given ? dc_normals(d, noise_bytes / 4, 1.0) : noise_of(d, desc, 5);
    int32_t *ranks = dc_host(d, slots * sizeof *ranks);
    for (size_t i = 0; i < slots; i++) /* distinct within a class */
        ranks[i] = (int32_t)(desc->select - 1 - (int)(i % (size_t)desc->pick));
    dc_buf *eps = dc_input(d, "noise", noise, noise_bytes);
    dc_buf *picks = dc_input(d, "picks", ranks, slots * 4);
    npi_step now = {.number = 5};
    dc_buf *step = dc_input(d, "step", &now, sizeof now);
    for (int turn = 0; turn < 2; turn++) { /* again: a plan keeps nothing that changes the answer */
        dc_buf *outliers = dc_output(d, "outliers", slots * (size_t)(desc->keep * desc->dim) * 4);
        dc_buf *boundary = dc_output(d, "boundary", slots * 4);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            npi_ring r = {desc->classes, desc->ring, desc->dim, dc_at(ring, s), dc_at(count, s)};
            npi_synth_given given = {dc_at(eps, s), dc_at(picks, s)};
            DC_RUN(dev->ood->synthesise(plan[s], &r, dc_at(step, s), c->given ? &given : NULL,
                                        dc_at(outliers, s), dc_at(boundary, s)));
            DC_RUN(dev->memory->sync(dev));
        }
        dc_guards(d, outliers);
        dc_guards(d, boundary);
        compare_synthesis(d, c, values, noise, outliers, boundary);
    }
}

void dc_check_synthesise(dc *d) {
    static const synth_case cases[] = {
        /* classes, ring, dim, k, select, pick, noise, keep, sigma, authors, seed */
        {{1, 1, 3, 1, 1, 1, 1, 1, 0.1f, false, 1}, false, false, false},
        {{3, 33, 16, 5, 8, 1, 31, 1, 0.1f, false, 2}, false, false, false},
        {{4, 64, 24, 64, 64, 3, 33, 33, 0.1f, false, 3}, true, false, false},
        {{10, 100, 128, 30, 20, 2, 60, 20, 0.1f, false, 4}, false, false, false},
        {{2, 50, 48, 5, 10, 2, 64, 7, 0.5f, false, 5}, true, true, false},
        {{2, 40, 32, 4, 12, 3, 30, 5, 0.1f, false, 6}, true, false, true},
        {{3, 60, 32, 10, 20, 2, 40, 8, 0.1f, true, 7}, true, false, false},
        {{2, 40, 16, 4, 12, 2, 30, 5, 0.1f, true, 8}, false, false, true},
        {{2, 50, 24, 10, 20, 2, 300, 2, 0.1f, false, 11}, false, false, false}, /* few are kept */
        {{2, 60, 16, 20, 20, 3, 200, 1, 0.3f, false, 12}, true, true, true},
        {{1, 1000, 32, 400, 300, 2, 700, 2, 0.1f, false, 13}, true, true, false},
        {{2, 1100, 8, 30, 20, 2, 20, 5, 0.1f, false, 9}, false, false, false},
        {{1, 2100, 5, 300, 20, 1, 9, 5, 0.1f, false, 10}, false, false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const npi_synth_desc *s = &cases[i].desc;
        npi_synth *plan[2] = {NULL, NULL};
        dc_case(d, "%d rings of %d x %d, k %d, select %d, pick %d, noise %d, keep %d%s%s%s",
                s->classes, s->ring, s->dim, s->k, s->select, s->pick, s->noise, s->keep,
                s->authors ? ", authors" : "", cases[i].duplicates ? ", duplicates" : "",
                cases[i].zeros ? ", zero rows" : "");
        bool made = true;
        for (int e = 0; e < 2; e++)
            made = made && dc_passed(d, "synth_create",
                                     d->side[e]->ood->synth_create(d->side[e], s, &plan[e]));
        if (made)
            run_synthesis(d, &cases[i], plan);
        for (int e = 0; e < 2; e++)
            d->side[e]->ood->synth_free(d->side[e], plan[e]);
        dc_release(d);
    }
}

/* Draws are the same function of the seed everywhere, so the vectors are compared one by one. */
static void run_gauss(dc *d, const npi_gauss_desc *g, npi_synth *plan[2]) {
    size_t rows = (size_t)(g->classes * g->ring * g->dim);
    uint64_t *counts = dc_host(d, (size_t)g->classes * sizeof *counts);
    dc_buf *ring = dc_input(d, "ring", dc_normals(d, rows, 1.0), rows * 4);
    dc_buf *count = dc_input(d, "count", counts, (size_t)g->classes * sizeof *counts);
    npi_step now = {.number = 9};
    dc_buf *step = dc_input(d, "step", &now, sizeof now);
    dc_buf *outliers =
        dc_output(d, "outliers", (size_t)(g->classes * g->keep * g->dim) * sizeof(float));
    for (int s = 0; s < 2; s++) {
        npi_device *dev = d->side[s];
        npi_ring r = {g->classes, g->ring, g->dim, dc_at(ring, s), dc_at(count, s)};
        DC_RUN(dev->ood->gauss_synthesise(plan[s], &r, dc_at(step, s), dc_at(outliers, s)));
    }
    dc_floats(d, outliers, DC_ROWS);
}

void dc_check_gauss(dc *d) {
    static const npi_gauss_desc cases[] = {{1, 5, 1, 7, 1, 1},
                                           {3, 40, 16, 100, 4, 2},
                                           {2, 20, 33, 50, 50, 3}, /* fewer rows than needed */
                                           {4, 100, 64, 300, 1, 4}};
    d->loosen = 30.0; /* a covariance of low rank is factored beside 1e-4 */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        npi_synth *plan[2] = {NULL, NULL};
        dc_case(d, "%d rings of %d x %d, %d draws, keep %d", cases[i].classes, cases[i].ring,
                cases[i].dim, cases[i].draws, cases[i].keep);
        bool made = true;
        for (int e = 0; e < 2; e++)
            made =
                made && dc_passed(d, "gauss_create",
                                  d->side[e]->ood->gauss_create(d->side[e], &cases[i], &plan[e]));
        if (made)
            run_gauss(d, &cases[i], plan);
        for (int e = 0; e < 2; e++)
            d->side[e]->ood->synth_free(d->side[e], plan[e]);
        dc_release(d);
    }
}
