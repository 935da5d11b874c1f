/* NPOS synthesis.  Every candidate of a boundary row h_b is v = h_b + sigma eps, so
 *
 *     v . hn_i = |h_b| (hn_b . hn_i) + sigma (eps . hn_i)         hn: a normalised row of the ring
 *
 * and the distances of all picked rows' candidates need one product, eps by the ring, beside the
 * ring's own products hn_b . hn_i, which the boundary needs anyway.  Those are kept from step to
 * step: a row that was not replaced is recognised by its bits, and only products with replaced
 * rows are computed again.  An element of a product has the same bits however it was computed
 * (cpu_math.h), so a plan that was just created, or resumed, gives what an old one gives.
 *
 * Distances are compared as cosines: d = 2 - 2 x, x the k-th largest.  A zero row of the ring has
 * distance 1 from every unit vector and 0 from another zero row, in the terms of x: 1/2 and 1; with
 * `authors` it is infinitely far from everything. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"
#include "devices/cpu/cpu_ood.h"

enum { MAX_ROWS = NPI_PANEL_ROWS, SLACK = 16 };

typedef struct synth {
    npi_synth head;
    npi_synth_desc d;
    const npi_math *math;
    int columns, noise_panels; /* ring and noise in whole panels */
    float *seen;               /* [classes][ring][dim] rows as they were at the last step */
    float *panels;             /* [classes][columns / nr][dim][nr] normalised, packed */
    float *gram;               /* [classes][ring][columns] */
    float *length;             /* [classes][ring] |row|, 0 for a zero row */
    bool *changed;             /* [classes][ring] */
    int32_t *changes;          /* [classes][ring]: numbers of the changed rows */
    int32_t *change_count;     /* [classes] */
    int32_t *zero_count;       /* [classes] */
    float *cosine;             /* [classes][ring]: k-th largest, for the boundary */
    npi_ranked *ranked;        /* [classes][ring] */
    int32_t *picked;           /* [classes][pick] */
    float *noise;              /* [noise][dim] */
    float *noise_panel;        /* [noise_panels][dim][mr] */
    float *noise_square;       /* [noise] |eps|^2 */
    float *distance;           /* [classes][pick][noise] */
    npi_ranked *order;         /* [classes][pick][noise] */
    float *room;               /* [threads][room_size] */
    size_t room_size;
    bool fresh; /* nothing was seen yet */
} synth;

static size_t lay_out(synth *s, int threads, char *at) {
    size_t classes = (size_t)s->d.classes, ring = (size_t)s->d.ring, dim = (size_t)s->d.dim;
    size_t columns = (size_t)s->columns, noise = (size_t)s->d.noise, pick = (size_t)s->d.pick;
    s->room_size = npi_cpu_room(MAX_ROWS * columns + 2 * (columns + SLACK) + MAX_ROWS * dim, 4) / 4;
    struct {
        void *slot;
        size_t bytes;
    } piece[] = {{&s->seen, classes * ring * dim * 4},
                 {&s->panels, classes * columns * dim * 4},
                 {&s->gram, classes * ring * columns * 4},
                 {&s->length, classes * ring * 4},
                 {&s->changed, classes * ring},
                 {&s->changes, classes * ring * 4},
                 {&s->change_count, classes * 4},
                 {&s->zero_count, classes * 4},
                 {&s->cosine, classes * ring * 4},
                 {&s->ranked, classes * ring * sizeof(npi_ranked)},
                 {&s->picked, classes * pick * 4},
                 {&s->noise, noise * dim * 4},
                 {&s->noise_panel, (noise + MAX_ROWS) * dim * 4},
                 {&s->noise_square, noise * 4},
                 {&s->distance, classes * pick * noise * 4},
                 {&s->order, classes * pick * noise * sizeof(npi_ranked)},
                 {&s->room, (size_t)threads * s->room_size * 4}};
    size_t used = npi_cpu_room(sizeof *s, 1);
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
        if (at) {
            void *place = at + used;
            memcpy(piece[i].slot, &place, sizeof place);
        }
        used += npi_cpu_room(piece[i].bytes, 1);
    }
    return used;
}

npos_status npi_cpu_synth_create(npi_device *dev, const npi_synth_desc *desc, npi_synth **out) {
    *out = NULL;
    const npi_synth_desc *d = desc;
    if (d->classes < 1 || d->ring < 1 || d->dim < 1 || d->k < 1 || d->k > d->ring || d->pick < 1 ||
        d->pick > d->select || d->select > d->ring || d->keep < 1 || d->keep > d->noise)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: ring %d, k %d, select %d, pick %d, noise %d, keep %d; expected "
                        "1 <= k <= ring, 1 <= pick <= select <= ring, 1 <= keep <= noise",
                        d->ring, d->k, d->select, d->pick, d->noise, d->keep);
    const npi_cpu *cpu = npi_cpu_of(dev);
    synth plan = {.head = {dev, false}, .d = *desc, .math = npi_math_of(cpu->isa), .fresh = true};
    plan.columns = (d->ring + plan.math->nr - 1) / plan.math->nr * plan.math->nr;
    plan.noise_panels = (d->noise + plan.math->mr - 1) / plan.math->mr;
    size_t bytes = lay_out(&plan, cpu->threads, NULL);
    char *block;
    NPI_TRY(npi_alloc(&block, bytes, 1, "synthesis"));
    lay_out(&plan, cpu->threads, block);
    memcpy(block, &plan, sizeof plan);
    *out = (npi_synth *)(void *)block;
    return NPOS_OK;
}

/* A row of the ring into the packed panels; its length. */
static float take_row(synth *s, int class, int i, const float *row) {
    size_t dim = (size_t)s->d.dim, nr = (size_t)s->math->nr;
    float length = (float)sqrt(s->math->dot(dim, row, row));
    if (length < 1e-12f) /* as good as a zero row: what normalisation leaves has no length */
        length = 0.0f;
    float inverse = length > 0.0f ? 1.0f / length : 0.0f;
    float *to = s->panels + ((size_t) class * (size_t)s->columns + (size_t)i / nr * nr) * dim +
                (size_t)i % nr;
    for (size_t j = 0; j < dim; j++)
        to[j * nr] = row[j] * inverse;
    return length;
}

static void find_changes(synth *s, const npi_ring *ring) {
    int rows = s->d.classes * s->d.ring;
    size_t dim = (size_t)s->d.dim;
#pragma omp for schedule(static)
    for (int r = 0; r < rows; r++) {
        const float *row = ring->rows + (size_t)r * dim;
        float *seen = s->seen + (size_t)r * dim;
        s->changed[r] = s->fresh || memcmp(row, seen, dim * sizeof *row) != 0;
        if (!s->changed[r])
            continue;
        memcpy(seen, row, dim * sizeof *row);
        s->length[r] = take_row(s, r / s->d.ring, r % s->d.ring, row);
    }
#pragma omp for schedule(static)
    for (int c = 0; c < s->d.classes; c++) {
        int changes = 0, zeros = 0;
        for (int i = 0; i < s->d.ring; i++) {
            if (s->changed[c * s->d.ring + i])
                s->changes[c * s->d.ring + changes++] = i;
            zeros += !(s->length[c * s->d.ring + i] > 0.0f);
        }
        s->change_count[c] = changes;
        s->zero_count[c] = zeros;
    }
}

/* Products of the changed rows with all rows of their class, then the same numbers by column. */
static void update_gram(synth *s, float *room) {
    int mr = s->math->mr, nr = s->math->nr, ring = s->d.ring;
    size_t dim = (size_t)s->d.dim, columns = (size_t)s->columns;
    int tasks = (ring + mr - 1) / mr;
    float *rows = room + MAX_ROWS * columns, *tile = room;
#pragma omp for schedule(dynamic) collapse(2)
    for (int c = 0; c < s->d.classes; c++)
        for (int t = 0; t < tasks; t++) {
            int first = t * mr, there = s->change_count[c] - first;
            if (there <= 0)
                continue;
            there = there < mr ? there : mr;
            const int32_t *which = s->changes + c * ring + first;
            const float *panels = s->panels + (size_t)c * columns * dim;
            memset(rows, 0, (size_t)mr * dim * sizeof *rows);
            for (int i = 0; i < there; i++) {
                const float *from = panels + (size_t)(which[i] / nr * nr) * dim + which[i] % nr;
                for (size_t p = 0; p < dim; p++)
                    rows[p * (size_t)mr + (size_t)i] = from[p * (size_t)nr];
            }
            for (size_t j = 0; j < columns; j += (size_t)nr)
                s->math->tile(s->d.dim, rows, panels + j * dim, tile + j, (ptrdiff_t)columns,
                              false);
            for (int i = 0; i < there; i++)
                memcpy(s->gram + ((size_t)c * (size_t)ring + (size_t)which[i]) * columns,
                       tile + (size_t)i * columns, columns * sizeof *tile);
        }
#pragma omp for schedule(static) collapse(2)
    for (int c = 0; c < s->d.classes; c++)
        for (int i = 0; i < ring; i++) {
            if (s->changed[c * ring + i])
                continue;
            float *row = s->gram + ((size_t)c * (size_t)ring + (size_t)i) * columns;
            const float *column = s->gram + (size_t)c * (size_t)ring * columns + (size_t)i;
            for (int n = 0; n < s->change_count[c]; n++) {
                int j = s->changes[c * ring + n];
                row[j] = column[(size_t)j * columns];
            }
        }
}

/* The terms that stand for zero rows (see the head of this file). */
static void mend_zero_rows(const synth *s, int class, bool zero_query, float *cosine) {
    if (s->zero_count[class] == 0)
        return;
    const float *length = s->length + class * s->d.ring;
    for (int i = 0; i < s->d.ring; i++)
        if (!(length[i] > 0.0f))
            cosine[i] = s->d.authors ? -INFINITY : zero_query ? 1.0f : 0.5f;
        else if (zero_query)
            cosine[i] = 0.5f;
}

static void boundary_cosines(synth *s, float *room) {
    int ring = s->d.ring;
    float *row = room + MAX_ROWS * (size_t)s->columns, *spare = row + s->columns + SLACK;
    npi_kth_guess guess = {0};
#pragma omp for schedule(static)
    for (int r = 0; r < s->d.classes * ring; r++) {
        int c = r / ring, i = r % ring;
        bool zero = !(s->length[r] > 0.0f);
        if (zero && s->d.authors) {
            s->cosine[r] = -INFINITY;
            continue;
        }
        memcpy(row, s->gram + (size_t)r * (size_t)s->columns, (size_t)ring * sizeof *row);
        mend_zero_rows(s, c, zero, row);
        row[i] = 1.0f; /* itself, first */
        float x = npi_kth_largest(s->math, ring, row, s->d.k, &guess, spare);
        s->cosine[r] = x < 1.0f ? x : 1.0f;
    }
}

/* The rows of largest distance, then `pick` of the first `select` of them. */
static void pick_rows(synth *s, int class, const npi_step *step, const int32_t *given) {
    int ring = s->d.ring;
    npi_ranked *ranked = s->ranked + class * ring;
    for (int i = 0; i < ring; i++)
        ranked[i] = (npi_ranked){-s->cosine[class * ring + i], i};
    npi_rank_falling(ranked, ring);
    for (int j = 0; j < s->d.pick; j++) {
        int at = j;
        if (given) {
            at = given[class * s->d.pick + j];
        } else {
            npi_u32x4 r = npi_philox(s->d.seed, NPI_RANDOM_BOUNDARY, step->number, (uint32_t) class,
                                     (uint32_t)j);
            at = j + (int)npi_below(r.v[0], (uint32_t)(s->d.select - j));
        }
        s->picked[class * s->d.pick + j] = ranked[at].index;
        if (!given) {
            npi_ranked held = ranked[j];
            ranked[j] = ranked[at];
            ranked[at] = held;
        }
    }
}

static void take_noise(synth *s, const npi_step *step, const float *given) {
    int dim = s->d.dim, mr = s->math->mr;
#pragma omp for schedule(static)
    for (int l = 0; l < s->d.noise; l++) {
        float *to = s->noise + (size_t)l * (size_t)dim;
        if (given)
            memcpy(to, given + (size_t)l * (size_t)dim, (size_t)dim * sizeof *to);
        else
            s->math->normals(s->d.seed, NPI_RANDOM_NOISE, step->number, (uint32_t)l, dim, to);
        s->noise_square[l] = (float)s->math->dot((size_t)dim, to, to);
    }
#pragma omp for schedule(static)
    for (int p = 0; p < s->noise_panels; p++)
        npi_pack_panel(mr, p, s->d.noise, dim, s->noise, dim, 1,
                       s->noise_panel + (size_t)p * (size_t)mr * (size_t)dim);
}

/* |h_b + sigma eps| from products that are there: |h_b|^2 + 2 sigma h_b.eps + sigma^2 |eps|^2. */
static float candidate_length(const synth *s, float length, float along, int l) {
    double sigma = (double)s->d.sigma, h = (double)length;
    double square =
        h * h + 2.0 * sigma * h * (double)along + sigma * sigma * (double)s->noise_square[l];
    float norm = (float)sqrt(square > 0.0 ? square : 0.0);
    return norm < 1e-12f ? 1e-12f : norm;
}

static void candidate_distances(synth *s, float *room) {
    int mr = s->math->mr, nr = s->math->nr, ring = s->d.ring, noise = s->d.noise;
    size_t dim = (size_t)s->d.dim, columns = (size_t)s->columns;
    float *tile = room, *row = room + MAX_ROWS * columns, *spare = row + columns + SLACK;
    npi_kth_guess guess = {0};
#pragma omp for schedule(dynamic) collapse(2)
    for (int c = 0; c < s->d.classes; c++)
        for (int p = 0; p < s->noise_panels; p++) {
            const float *panels = s->panels + (size_t)c * columns * dim;
            for (size_t j = 0; j < columns; j += (size_t)nr)
                s->math->tile(s->d.dim, s->noise_panel + (size_t)p * (size_t)mr * dim,
                              panels + j * dim, tile + j, (ptrdiff_t)columns, false);
            for (int b = 0; b < s->d.pick; b++) {
                int which = s->picked[c * s->d.pick + b];
                float length = s->length[c * ring + which];
                const float *gram = s->gram + ((size_t)c * (size_t)ring + (size_t)which) * columns;
                float *to = s->distance + (size_t)(c * s->d.pick + b) * (size_t)noise;
                for (int i = 0; i < mr && p * mr + i < noise; i++) {
                    int l = p * mr + i;
                    const float *eps = tile + (size_t)i * columns;
                    float norm = candidate_length(s, length, eps[which], l);
                    s->math->combine(ring, gram, length / norm, eps, s->d.sigma / norm, row);
                    mend_zero_rows(s, c, false, row);
                    to[l] =
                        2.0f - 2.0f * npi_kth_largest(s->math, ring, row, s->d.k, &guess, spare);
                }
            }
        }
}

/* Candidates of one boundary row, the farthest first. */
static void keep_farthest(synth *s, const npi_ring *ring, int class, int b, float *outliers) {
    int noise = s->d.noise, pick = s->d.pick;
    size_t dim = (size_t)s->d.dim, slot = (size_t)(class * pick + b);
    const float *distance = s->distance + (size_t) class * (size_t)pick * (size_t)noise;
    npi_ranked *order = s->order + slot * (size_t)noise;
    for (int l = 0; l < noise; l++) /* authors: (pick, noise) read as (noise, pick) */
        order[l] = (npi_ranked){s->d.authors ? distance[l * pick + b] : distance[b * noise + l], l};
    npi_rank_falling(order, noise);
    const float *h =
        ring->rows + ((size_t) class * (size_t)s->d.ring + (size_t)s->picked[slot]) * dim;
    float sigma = s->d.sigma;
    for (int i = 0; i < s->d.keep; i++) {
        const float *eps = s->noise + (size_t)order[i].index * dim;
        float *to = outliers + (slot * (size_t)s->d.keep + (size_t)i) * dim;
        for (size_t j = 0; j < dim; j++)
            to[j] = h[j] + sigma * eps[j];
    }
}

static npos_status check(const synth *s, const npi_ring *ring, const int32_t *picks) {
    if (ring->classes != s->d.classes || ring->size != s->d.ring || ring->dim != s->d.dim)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: ring of %d x %d x %d, planned for %d x %d x %d", ring->classes,
                        ring->size, ring->dim, s->d.classes, s->d.ring, s->d.dim);
    for (int i = 0; picks && i < s->d.classes * s->d.pick; i++)
        if (picks[i] < 0 || picks[i] >= s->d.select)
            return npi_fail(NPOS_INVALID_ARGUMENT, "synthesis: pick %d, expected 0 to %d", picks[i],
                            s->d.select - 1);
    return NPOS_OK;
}

npos_status npi_cpu_synthesise(npi_synth *plan, const npi_ring *ring, const npi_step *step,
                               const npi_synth_given *given, float *outliers, int32_t *boundary) {
    synth *s = (synth *)(void *)plan;
    const float *noise = given ? given->noise : NULL;
    const int32_t *picks = given ? given->picks : NULL;
    NPI_TRY(check(s, ring, picks));
    int threads = npi_cpu_of(plan->dev)->threads, slots = s->d.classes * s->d.pick;
#pragma omp parallel num_threads(threads)
    {
        float *room = s->room + (size_t)omp_get_thread_num() * s->room_size;
        find_changes(s, ring);
        update_gram(s, room);
        boundary_cosines(s, room);
#pragma omp for schedule(static)
        for (int c = 0; c < s->d.classes; c++)
            pick_rows(s, c, step, picks);
        take_noise(s, step, noise);
        candidate_distances(s, room);
#pragma omp for schedule(static)
        for (int slot = 0; slot < slots; slot++)
            keep_farthest(s, ring, slot / s->d.pick, slot % s->d.pick, outliers);
    }
    s->fresh = false;
    if (boundary)
        memcpy(boundary, s->picked, (size_t)slots * sizeof *boundary);
    return NPOS_OK;
}
