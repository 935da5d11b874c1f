#include "devices/cpu/cpu_ood_knn.h"

#include <omp.h>
#include <sched.h>
#include <string.h>

#include "devices/cpu/cpu_ood.h"

enum {
    QUERIES = 72 * 14, /* queries at a time */
    HELD = 4 << 20,    /* candidates of all queries at a time, at most */
    FIRST = 64,        /* rows of the first strip, all of whose pairs pass */
    RUN = 16,     /* neighbouring rows that stay together: their reading from memory is a stream */
    GROW = 16,    /* entries by which a list grows at least before it is shortened */
    SAMPLE = 256, /* rows that choose the centre */
    NARROW = 32   /* two bytes' margin is to be less than this part of the limit */
};

typedef struct search {
    npi_knn knn;
    npi_screen screen;
    bool screened; /* few queries do without */
    int threads, panels;
    int step;              /* rows of a strip: floats of fewer rows fill the second cache */
    _Atomic int64_t taken; /* bank rows that some thread has begun with */
    int64_t stride;        /* of the order in which bank rows are taken, in runs */
    npi_strip *strips;
    float *spare; /* [threads][spare_size]: npi_kth_largest's room */
    npi_scored *scored;
    size_t spare_size, scored_size;
} search;

/* A multiplier coprime to m near m / the golden ratio: every run of consecutive i spreads evenly. */
static int64_t stride_of(int64_t m) {
    for (int64_t stride = (int64_t)(0.6180339887498949 * (double)m);; stride++) {
        int64_t a = m, b = stride;
        while (b) {
            int64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1)
            return stride;
    }
}

static int32_t row_at(const search *s, int64_t i) {
    int64_t runs = s->knn.m / RUN;
    return (int32_t)(i < runs * RUN ? i / RUN * s->stride % runs * RUN + i % RUN : i);
}

/* Of the k nearest of m rows, x = k seen / m are expected among the rows seen, with a deviation of
 * at most sqrt(x) if these are a random sample.  Four deviations more fail one query in ten
 * thousand, which costs it a plain search. */
static int rank_of(const npi_knn *s, int64_t seen) {
    double part = (double)seen / (double)s->m, x = part * s->k;
    if (part >= 1.0)
        return s->k;
    double rank = x + 4.0 * sqrt(x * (1.0 - part)) + 3.0;
    return rank < s->k ? (int)rank : s->k;
}

void npi_list_shorten(const npi_knn *s, int q, int rank, float *spare) {
    npi_list *l = &s->lists[q];
    const size_t at = (size_t)q * (size_t)(s->room + NPI_LIST_SLACK);
    float *upper = s->upper + at, *lower = s->lower + at;
    int32_t *index = s->index + at;
    const int count = npi_list_count(l);
    if (count < rank)
        return;
    float kth = -npi_kth_largest(s->math, count, upper, rank, &l->guess, spare);
    float limit = atomic_load_explicit(&l->limit, memory_order_relaxed);
    if (!(kth < limit))
        kth = limit;
    atomic_store_explicit(&l->limit, kth, memory_order_relaxed);
    const int kept = s->math->keep(count, -npi_beyond(kth), lower, upper, index);
    atomic_store_explicit(&l->count, kept, memory_order_relaxed);
    atomic_store_explicit(&l->full, kept + (kept < 4 * GROW ? GROW : kept / 4),
                          memory_order_relaxed);
}

/* How far measured distances may be from the truth. */
typedef struct slack {
    float relative, absolute;
} slack;

/* to[j] = about the distance of query q to its j-th hit in the strip. */
static slack measure(const search *a, const npi_strip *strip, int q, const npi_hits *hits,
                     float *to) {
    const npi_knn *s = &a->knn;
    float limit = atomic_load_explicit(&s->lists[q].limit, memory_order_relaxed);
    float margin = a->screened ? npi_screen_margin(&a->screen, strip, q) : INFINITY;
    if (margin < limit / NARROW) {
        npi_screen_measure(&a->screen, strip, q, hits, to);
        return (slack){0.0f, margin};
    }
    int32_t row[NPI_STRIP];
    for (int j = 0; j < hits->count; j++)
        row[j] = strip->row[hits->hit[j].column];
    s->math->near((size_t)s->dim, s->queries + (ptrdiff_t)q * s->dim, s->bank, hits->count, row,
                  to);
    for (int j = 0; j < hits->count; j++)
        to[j] = isnan(to[j]) ? INFINITY : to[j];
    return (slack){2.0f * s->error, 1e-36f};
}

/* The hits of a query, to its list. */
static void append(search *a, const npi_strip *strip, int q, const npi_hits *hits, float *spare) {
    const npi_knn *s = &a->knn;
    npi_list *l = &s->lists[q];
    float distance[NPI_STRIP];
    const slack off = measure(a, strip, q, hits, distance);
    const size_t at = (size_t)q * (size_t)(s->room + NPI_LIST_SLACK);
    while (atomic_flag_test_and_set_explicit(&l->busy, memory_order_acquire))
        sched_yield();
    const float least = -npi_beyond(atomic_load_explicit(&l->limit, memory_order_relaxed));
    float *upper = s->upper + at, *lower = s->lower + at;
    int32_t *index = s->index + at;
    int count = npi_list_count(l);
    for (int j = 0; j < hits->count; j++) {
        const float near = distance[j] * (1.0f - off.relative) - off.absolute;
        upper[count] = -(distance[j] * (1.0f + off.relative) + off.absolute);
        lower[count] = -near;
        index[count] = strip->row[hits->hit[j].column];
        count += -near >= least;
    }
    atomic_store_explicit(&l->count, count, memory_order_relaxed);
    if (count >= atomic_load_explicit(&l->full, memory_order_relaxed) ||
        count + NPI_STRIP > s->room)
        npi_list_shorten(s, q, rank_of(s, atomic_load_explicit(&a->taken, memory_order_relaxed)),
                         spare);
    if (npi_list_count(l) + NPI_STRIP > s->room)
        atomic_store_explicit(&l->lost, true, memory_order_relaxed);
    atomic_flag_clear_explicit(&l->busy, memory_order_release);
}

/* The ends of the panel's lists, and lists that will be shortened soon, on their way from the third
 * cache while products are computed. */
static void fetch_lists(const npi_knn *s, int begin, int there) {
    for (int q = begin; q < begin + there; q++) {
        const size_t at = (size_t)q * (size_t)(s->room + NPI_LIST_SLACK);
        const npi_list *l = &s->lists[q];
        const int count = npi_list_count(l);
        const bool soon = count + 24 >= atomic_load_explicit(&l->full, memory_order_relaxed);
        for (int j = soon ? 0 : count; j < count + 16; j += 16) {
            __builtin_prefetch(s->upper + at + j, 1, 2);
            __builtin_prefetch(s->lower + at + j, 1, 2);
            __builtin_prefetch(s->index + at + j, 1, 2);
        }
    }
}

/* The next `rows` bank rows after those `seen`, against the panels of queries `panel` to `end`. */
static void take_strip(search *s, npi_strip *strip, int64_t seen, int rows, int panel, int end,
                       float *spare) {
    const npi_knn *knn = &s->knn;
    strip->rows = rows;
    for (int j = 0; j < strip->rows; j++)
        strip->row[j] = row_at(s, seen + j);
    if (s->screened)
        npi_screen_pack(&s->screen, strip, knn->bank);
    for (; panel < end; panel++) {
        int begin = panel * s->screen.mr, there = knn->n - begin;
        there = there < s->screen.mr ? there : s->screen.mr;
        if (s->screened) {
            float base[NPI_PANEL_ROWS] = {0};
            for (int i = 0; i < there; i++) {
                float limit =
                    atomic_load_explicit(&knn->lists[begin + i].limit, memory_order_relaxed);
                base[i] = npi_screen_base(&s->screen, begin + i, npi_beyond(limit));
            }
            fetch_lists(knn, begin, there);
            npi_screen_panel(&s->screen, strip, panel, there, base);
        }
        for (int i = 0; i < there; i++) {
            npi_hits *hits = &strip->hits[i];
            if (!s->screened)
                hits->count = strip->rows;
            for (int j = 0; !s->screened && j < strip->rows; j++)
                hits->hit[j].column = j;
            if (hits->count > 0 &&
                !atomic_load_explicit(&knn->lists[begin + i].lost, memory_order_relaxed))
                append(s, strip, begin + i, hits, spare);
        }
    }
}

/* Begins with the next strip, of *rows (0: none are left); how many came before.  Strips are short
 * at first, while limits fall fast, and at last, so that threads end together. */
static int64_t next_strip(search *s, int *rows) {
    int64_t seen = atomic_load(&s->taken);
    do {
        const int64_t rest = s->knn.m - seen, part = (seen < rest ? seen : rest) / s->threads;
        int most = part < s->step ? (int)part / NPI_PANEL_COLUMNS * NPI_PANEL_COLUMNS : s->step;
        most = most < NPI_PANEL_COLUMNS ? NPI_PANEL_COLUMNS : most;
        *rows = rest < most ? (int)rest : most;
        /* before any of their pairs can be in a list: what a list has seen is never more */
    } while (!atomic_compare_exchange_weak(&s->taken, &seen, seen + *rows));
    return seen;
}

/* All strips, by all threads: of the first one, each has a part of the queries. */
static void take_strips(search *s, npi_strip *strip, int thread, int threads, float *spare) {
    const int begin = (int)((int64_t)s->panels * thread / threads);
    const int end = (int)((int64_t)s->panels * (thread + 1) / threads);
    int rows = s->knn.m < FIRST ? (int)s->knn.m : FIRST;
    if (begin < end)
        take_strip(s, strip, 0, rows, begin, end, spare);
#pragma omp barrier
    for (;;) {
        const int64_t seen = next_strip(s, &rows);
        if (rows == 0)
            break;
        take_strip(s, strip, seen, rows, 0, s->panels, spare);
    }
}

static void start_query(search *s, int q) {
    npi_list *l = &s->knn.lists[q];
    const float *row = s->knn.queries + (ptrdiff_t)q * s->knn.dim;
    double square = s->knn.math->dot((size_t)s->knn.dim, row, row);
    atomic_init(&l->limit, INFINITY);
    atomic_init(&l->lost, !(square < 1e30));
    atomic_flag_clear(&l->busy);
    atomic_init(&l->count, 0);
    atomic_init(&l->full, GROW);
    l->guess = (npi_kth_guess){0.0f, 0.0f};
}

typedef struct answer {
    int64_t *index;
    float *distance;
    bool all;
} answer;

static void one_chunk(search *s, answer to) {
    npi_knn *knn = &s->knn;
    const npi_math_bytes *bytes = &knn->math->bytes;
    const bool tiles = s->screened && s->screen.bytes;
    atomic_store(&s->taken, knn->m < FIRST ? knn->m : FIRST);
#pragma omp parallel num_threads(s->threads)
    {
        const size_t thread = (size_t)omp_get_thread_num();
        npi_strip *strip = &s->strips[thread];
        float *spare = s->spare + thread * s->spare_size;
        npi_scored *rows = s->scored + thread * s->scored_size;
#pragma omp for schedule(static)
        for (int q = 0; q < knn->n; q++)
            start_query(s, q);
        if (s->screened) {
#pragma omp for schedule(static)
            for (int panel = 0; panel < s->panels; panel++)
                npi_screen_queries(&s->screen, strip, panel, knn->n, knn->queries);
        }
        if (tiles && bytes->enter)
            bytes->enter();
        take_strips(s, strip, (int)thread, omp_get_num_threads(), spare);
        if (tiles && bytes->leave)
            bytes->leave();
#pragma omp barrier
#pragma omp for schedule(dynamic, 4)
        for (int q = 0; q < knn->n; q++) {
            float kth = npi_nearest(knn, q, to.all, spare, rows);
            if (!to.all)
                to.distance[q] = kth;
            for (int j = 0; to.all && j < knn->k; j++) {
                size_t at = (size_t)q * (size_t)knn->k + (size_t)j;
                if (to.index)
                    to.index[at] = rows[j].index;
                if (to.distance)
                    to.distance[at] = rows[j].distance;
            }
        }
    }
}

/* Lays out the scratch from `at` (NULL: only counts); its bytes. */
static size_t plan(search *s, int queries, char *at) {
    npi_knn *knn = &s->knn;
    npi_screen *screen = &s->screen;
    size_t q = (size_t)queries, threads = (size_t)s->threads, dim = (size_t)knn->dim, used = 0;
    size_t panels = (q + (size_t)screen->mr - 1) / (size_t)screen->mr;
    size_t held = (size_t)(knn->room + NPI_LIST_SLACK) * q;
    struct {
        void *slot;
        size_t bytes;
    } piece[] = {{&screen->centre, dim * sizeof(float)},
                 {&screen->packed, npi_screen_bytes(screen, queries)},
                 {&screen->rows, panels * sizeof *screen->rows},
                 {&screen->query, q * sizeof *screen->query},
                 {&screen->pairs, npi_pairs_bytes(screen, queries)},
                 {&s->strips, threads * sizeof *s->strips},
                 {&s->spare, threads * s->spare_size * sizeof(float)},
                 {&s->scored, threads * s->scored_size * sizeof(npi_scored)},
                 {&knn->lists, q * sizeof *knn->lists},
                 {&knn->upper, held * sizeof(float)},
                 {&knn->lower, held * sizeof(float)},
                 {&knn->index, held * sizeof(int32_t)}};
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
        if (at) {
            void *place = at + used;
            memcpy(piece[i].slot, &place, sizeof place);
        }
        used += npi_cpu_room(piece[i].bytes, 1);
    }
    const size_t pairs = npi_pairs_bytes(screen, NPI_STRIP);
    for (size_t t = 0; t < threads; t++) {
        size_t bytes[] = {npi_strip_bytes(screen), NPI_PANEL_COLUMNS * dim * sizeof(float), pairs};
        if (at) {
            npi_strip *strip = &s->strips[t];
            strip->packed = at + used;
            strip->centred = (float *)(void *)(at + used + npi_cpu_room(bytes[0], 1));
            strip->pairs =
                (int8_t *)at + used + npi_cpu_room(bytes[0], 1) + npi_cpu_room(bytes[1], 1);
            memset(strip->pairs, 0, pairs);
        }
        for (int i = 0; i < 3; i++)
            used += npi_cpu_room(bytes[i], 1);
    }
    if (at)
        memset(screen->pairs, 0, npi_pairs_bytes(screen, queries)); /* what pads the rows */
    return used;
}

npos_status npi_cpu_find(npi_device *dev, const npi_math *math, int n, const float *queries,
                         int64_t m, const float *bank, int dim, int k, int64_t *index,
                         float *distance, bool all) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    if (n < 0 || dim < 1 || m < 1 || m > INT32_MAX)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "neighbours: %d queries, %lld rows of %d, expected at least one row and "
                        "fewer than 2^31",
                        n, (long long)m, dim);
    if (k < 1 || k > m)
        return npi_fail(NPOS_INVALID_ARGUMENT, "neighbours: k is %d, the bank holds %lld rows", k,
                        (long long)m);
    search s = {.threads = cpu->threads,
                .stride = stride_of(m < RUN ? 1 : m / RUN),
                .screened = n >= NPI_SCREEN_MIN};
    s.knn = (npi_knn){.math = math, .m = m, .bank = bank, .dim = dim, .k = k};
    s.knn.error = ((float)dim / 16.0f + 17.0f) * 0x1p-24f;
    s.knn.room = (k < 1024 ? 2 * k : k + k / 2) + 3 * NPI_STRIP;
    npi_screen_start(&s.screen, math, dim);
    s.step = s.screen.bytes ? NPI_STRIP : NPI_STRIP * 2 / 3;
    s.spare_size = npi_cpu_room((size_t)(s.knn.room + NPI_LIST_SLACK), 4) / 4;
    s.scored_size = (size_t)(s.knn.room + 2 * k);
    int mr = s.screen.mr, chunk = HELD / s.knn.room / mr * mr;
    chunk = chunk < mr ? mr : chunk > QUERIES ? QUERIES : chunk;
    chunk = n < chunk ? n : chunk;
    char *scratch;
    NPI_TRY(npi_cpu_scratch(dev, plan(&s, chunk, NULL), &scratch));
    plan(&s, chunk, scratch);
    if (s.screened) {
        int32_t sample[SAMPLE];
        int rows = m < SAMPLE ? (int)m : SAMPLE;
        for (int i = 0; i < rows; i++)
            sample[i] = row_at(&s, i);
        npi_screen_centre(&s.screen, bank, rows, sample);
    }
    for (int first = 0; first < n; first += chunk) {
        size_t found = (size_t)first * (all ? (size_t)k : 1);
        s.knn.n = n - first < chunk ? n - first : chunk;
        s.knn.queries = queries + (ptrdiff_t)first * dim;
        s.panels = (s.knn.n + mr - 1) / mr;
        one_chunk(&s,
                  (answer){index ? index + found : NULL, distance ? distance + found : NULL, all});
    }
    return NPOS_OK;
}

npos_status npi_cpu_kth_neighbour(npi_device *dev, int n, const float *queries, int64_t m,
                                  const float *bank, int dim, int k, float *distance) {
    return npi_cpu_find(dev, npi_math_of(npi_cpu_of(dev)->isa), n, queries, m, bank, dim, k, NULL,
                        distance, false);
}

npos_status npi_cpu_neighbours(npi_device *dev, int n, const float *queries, int64_t m,
                               const float *bank, int dim, int k, int64_t *index, float *distance) {
    return npi_cpu_find(dev, npi_math_of(npi_cpu_of(dev)->isa), n, queries, m, bank, dim, k, index,
                        distance, true);
}
