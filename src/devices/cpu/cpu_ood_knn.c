/* Exact nearest neighbours: products in blocks, candidates by threshold, answers re-scored.
 *
 * The distance of a pair is defined as the sum of squared differences in float64, rounded to
 * float32.  With s = 2 q.b - |b|^2 (larger is nearer), a block of products gives approximate
 * values s~ with |s~ - s| <= e, where e bounds, for this query and every row seen so far, the
 * rounding of the inputs (bfloat16), of the sums and of the distance itself.  Of the true k
 * nearest each has s >= (k-th largest s~) - e, so a row with s~ < (k-th largest s~) - 2 e is
 * none of them, and a row with s~ > (k-th largest s~) + 2 e is certainly one.  Only the rows
 * between are computed as defined.  The answer is therefore the same for every instruction set,
 * precision of the products, block size and number of threads. */
#include <float.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "devices/cpu/cpu_ood.h"

enum {
    QUERIES = 72 * 14, /* queries at a time */
    STRIP = 512,       /* bank rows between two looks at the lists */
    PACKED = 8 << 20, /* bytes of packed bank rows at a time: few barriers, yet in the last cache */
    GROUP = 4,        /* panels of queries that share a panel of the bank in the second cache */
    SLACK = 16,
    BUCKET = 64,    /* bank rows that are re-scored together */
    HELD = 4 << 20, /* candidates of all queries at a time, at most */
};

typedef struct list { /* candidates of one query */
    int count;
    int rank;  /* of the answer among the rows that are scored */
    bool lost; /* more candidates than room: this query is answered by plain search */
    float kth; /* k-th largest value among the first `count` at the last shrink; -inf before */
    npi_kth_guess guess;
    double norm, error_norm; /* |q|, |q - bf16(q)| */
} list;

typedef struct pair {
    int32_t query, place; /* place in the query's list */
} pair;

typedef struct search {
    const npi_math *math;
    int threads;
    int n; /* queries in this chunk */
    const float *queries;
    int64_t m;
    const float *bank;
    int dim, depth; /* depth: dim, padded for bfloat16 */
    int mr, nr;
    int k, room; /* candidates that a list holds */
    int block;   /* bank rows packed at a time, a multiple of STRIP */
    bool bf16;
    double largest, largest_error; /* |b| and |b - bf16(b)| over the rows seen so far */
    void *a, *b;                   /* packed queries and block */
    float *square;                 /* [block] |b|^2 */
    double *norm, *error_norm;     /* [block] */
    float *product;                /* [threads][GROUP][mr][STRIP] */
    float *spare;                  /* [threads][spare_size]: npi_kth_largest's room */
    size_t spare_size;
    uint16_t *rounded;   /* [threads][nr][depth]: a panel before packing */
    size_t rounded_size; /* of one thread; the pad of an odd dim stays zero */
    pair *pair;          /* of all lists, by bank row */
    int32_t *bucket;     /* [buckets + 1]: where the pairs of BUCKET rows begin */
    int buckets;
    list *lists;
    float *value;
    int32_t *index;
} search;

/* e for a query, given the rows seen so far. */
static double error_bound(const search *s, const list *l) {
    double q = l->norm, b = s->largest, both = q + b, unit = 0x1p-24;
    double steps = (s->bf16 ? 2.0 : 1.0) * (s->depth + 4);
    double product = 1.01 * steps * unit * q * b + (s->depth + 4) * 0x1p-125 * (1.0 + both);
    if (s->bf16)
        product = product * 1.02 + 1.0001 * (q * s->largest_error + l->error_norm * b) +
                  l->error_norm * s->largest_error;
    return 2.0 * product + 8.0 * unit * both * both;
}

/* One panel of `width` rows to its packed form, rounded if the products are bfloat16; error[i]
 * (from the first row of the matrix) is then at least |row i - its rounding|, otherwise 0. */
static void pack(const search *s, int width, int panel, int rows, const float *from, void *to,
                 uint16_t *rounded, double *error, size_t error_stride) {
    const npi_math_bf16 *bf16 = &s->math->bf16;
    size_t size = (size_t)width * (size_t)s->depth;
    int first = panel * width, there = rows - first < width ? rows - first : width;
    if (!s->bf16) {
        for (int i = 0; i < there; i++)
            error[(size_t)(first + i) * error_stride] = 0.0;
        npi_pack_panel(width, panel, rows, s->dim, from, s->dim, 1,
                       (float *)to + size * (size_t)panel);
        return;
    }
    for (int i = 0; i < there; i++) {
        double sum = bf16->round((size_t)s->dim, from + ((ptrdiff_t)first + i) * s->dim,
                                 rounded + (size_t)i * (size_t)s->depth);
        error[(size_t)(first + i) * error_stride] = sqrt(sum) * 1.0001 + 1e-18;
    }
    uint16_t *out = (uint16_t *)to + size * (size_t)panel;
    if (bf16->plain_rows && to == s->a)
        memcpy(out, rounded, size * sizeof *out);
    else
        npi_pack_panel(width, 0, there, s->depth / 2, (const float *)(const void *)rounded,
                       s->depth / 2, 1, (float *)(void *)out);
}

static void start_queries(search *s) {
    int panels = (s->n + s->mr - 1) / s->mr;
#pragma omp parallel num_threads(s->threads)
    {
        uint16_t *rounded = s->rounded + (size_t)omp_get_thread_num() * s->rounded_size;
#pragma omp for schedule(static)
        for (int i = 0; i < s->n; i++) {
            const float *q = s->queries + (ptrdiff_t)i * s->dim;
            double norm = sqrt(s->math->dot((size_t)s->dim, q, q)) * (1.0 + 1e-9);
            s->lists[i] = (list){.kth = -INFINITY, .norm = norm, .lost = !(norm < 1e15)};
        }
#pragma omp for schedule(static)
        for (int i = 0; i < panels; i++)
            pack(s, s->mr, i, s->n, s->queries, s->a, rounded, &s->lists[0].error_norm,
                 sizeof(list) / sizeof(double));
    }
}

/* Drops what cannot be among the k nearest; the number kept. */
static int shrink(const search *s, int i, float *spare) {
    list *l = &s->lists[i];
    float *value = s->value + (size_t)i * (size_t)(s->room + SLACK);
    int32_t *index = s->index + (size_t)i * (size_t)(s->room + SLACK);
    if (l->count < s->k)
        return l->count;
    l->kth = npi_kth_largest(s->math, l->count, value, s->k, &l->guess, spare);
    float limit = nextafterf((float)((double)l->kth - 2.0 * error_bound(s, l)), -INFINITY);
    int kept = 0;
    for (int j = 0; j < l->count; j++) {
        float v = value[j];
        value[kept] = v;
        index[kept] = index[j];
        kept += v >= limit;
    }
    return l->count = kept;
}

/* Products of one panel of queries with a strip of the packed block, and what follows from them. */
static void take_strip(search *s, int panel, int64_t first, int start, int rows,
                       const float *product, float *spare) {
    int mr = s->mr;
    for (int r = 0; r < mr && panel * mr + r < s->n; r++) {
        int q = panel * mr + r;
        list *l = &s->lists[q];
        if (l->lost)
            continue;
        double e = error_bound(s, l);
        if (!(e < 1e30)) {
            l->lost = true;
            continue;
        }
        float limit = nextafterf((float)((double)l->kth - 2.0 * e), -INFINITY);
        size_t at = (size_t)q * (size_t)(s->room + SLACK);
        l->count = s->math->push(rows, product + r * STRIP, s->square + start, limit,
                                 (int32_t)(first + start), s->value + at, s->index + at, l->count);
        if (l->count + STRIP > s->room)
            l->lost = shrink(s, q, spare) + STRIP > s->room;
    }
}

static void multiply(const search *s, const void *a, int a_panel, const void *b, int b_panel,
                     float *to) {
    const npi_math *math = s->math;
    size_t a_at = (size_t)a_panel * (size_t)s->mr * (size_t)s->depth,
           b_at = (size_t)b_panel * (size_t)s->nr * (size_t)s->depth;
    if (s->bf16)
        math->bf16.tile(s->depth, (const uint16_t *)a + a_at, (const uint16_t *)b + b_at, to, STRIP,
                        false);
    else
        math->tile(s->depth, (const float *)a + a_at, (const float *)b + b_at, to, STRIP, false);
}

static void one_block(search *s, int64_t first) {
    int rows = s->m - first < s->block ? (int)(s->m - first) : s->block;
    const npi_math *math = s->math;
    int nr = s->nr, b_panels = (rows + nr - 1) / nr, a_panels = (s->n + s->mr - 1) / s->mr;
    int group = a_panels / (2 * s->threads);
    group = group < 1 ? 1 : group > GROUP ? GROUP : group;
    const float *bank = s->bank + first * s->dim;
#pragma omp parallel num_threads(s->threads)
    {
        size_t thread = (size_t)omp_get_thread_num();
        uint16_t *rounded = s->rounded + thread * s->rounded_size;
        float *product = s->product + thread * GROUP * NPI_PANEL_ROWS * STRIP;
        float *spare = s->spare + thread * s->spare_size;
#pragma omp for schedule(dynamic)
        for (int j = 0; j < b_panels; j++) {
            for (int r = j * nr; r < rows && r < (j + 1) * nr; r++) {
                const float *b = bank + (ptrdiff_t)r * s->dim;
                double square = math->dot((size_t)s->dim, b, b);
                s->square[r] = (float)square;
                s->norm[r] = sqrt(square) * (1.0 + 1e-9);
            }
            pack(s, nr, j, rows, bank, s->b, rounded, s->error_norm, 1);
        }
#pragma omp single
        for (int r = 0; r < rows; r++) {
            /* written so that a NaN becomes infinity */
            if (!(s->norm[r] <= s->largest))
                s->largest = s->norm[r] >= 0.0 ? s->norm[r] : INFINITY;
            if (s->error_norm[r] > s->largest_error)
                s->largest_error = s->error_norm[r];
        }
        if (s->bf16 && math->bf16.enter)
            math->bf16.enter();
#pragma omp for schedule(dynamic)
        for (int task = 0; task < (a_panels + group - 1) / group; task++) {
            int begin = task * group, panels = a_panels - begin < group ? a_panels - begin : group;
            for (int start = 0; start < rows; start += STRIP) {
                int there = rows - start < STRIP ? rows - start : STRIP;
                for (int column = 0; column < there; column += nr)
                    for (int i = 0; i < panels; i++)
                        multiply(s, s->a, begin + i, s->b, (start + column) / nr,
                                 product + i * NPI_PANEL_ROWS * STRIP + column);
                for (int i = 0; i < panels; i++)
                    take_strip(s, begin + i, first, start, there,
                               product + i * NPI_PANEL_ROWS * STRIP, spare);
            }
        }
        if (s->bf16 && math->bf16.leave)
            math->bf16.leave();
    }
}

typedef struct scored {
    float distance;
    int32_t index;
} scored;

static int nearer(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* As defined; NaN counts as infinitely far. */
static float exact(const search *s, int q, int32_t row) {
    double d = s->math->distance((size_t)s->dim, s->queries + (ptrdiff_t)q * s->dim,
                                 s->bank + (ptrdiff_t)row * s->dim);
    return isnan(d) ? INFINITY : (float)d;
}

/* Keeps the `k` nearest of `count` scored rows in front (unordered). */
static void keep_nearest(scored *rows, int count, int k) {
    int low = 0, high = count - 1;
    while (low < high) {
        scored pivot = rows[low + (high - low) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (nearer(&rows[i], &pivot) < 0)
                i++;
            while (nearer(&rows[j], &pivot) > 0)
                j--;
            if (i <= j) {
                scored held = rows[i];
                rows[i++] = rows[j];
                rows[j--] = held;
            }
        }
        if (k - 1 <= j)
            high = j;
        else if (k - 1 >= i)
            low = i;
        else
            break;
    }
}

/* Every row of the bank; `rows` has room for 2 k. */
static int plain_search(const search *s, int q, scored *rows) {
    int count = 0;
    float limit = INFINITY;
    for (int64_t r = 0; r < s->m; r++) {
        float d = exact(s, q, (int32_t)r);
        if (count >= s->k && !(d < limit))
            continue; /* an equal distance loses to the lower index */
        rows[count++] = (scored){d, (int32_t)r};
        if (count == 2 * s->k) {
            keep_nearest(rows, count, s->k);
            count = s->k;
            limit = rows[s->k - 1].distance;
        }
    }
    keep_nearest(rows, count, s->k);
    return s->k;
}

/* What remains to be scored of a query's list is moved to its front: all of it, or, for the k-th
 * distance alone, the rows that are not certainly among the k nearest; those are only counted. */
static void prepare_scores(const search *s, int q, bool all, float *spare) {
    list *l = &s->lists[q];
    l->rank = s->k;
    if (!l->lost)
        l->lost = shrink(s, q, spare) < s->k;
    if (l->lost)
        l->count = 0;
    if (all)
        return;
    const float *value = s->value + (size_t)q * (size_t)(s->room + SLACK);
    int32_t *index = s->index + (size_t)q * (size_t)(s->room + SLACK);
    float certain = nextafterf((float)((double)l->kth + 2.0 * error_bound(s, l)), INFINITY);
    int count = 0;
    for (int j = 0; j < l->count; j++) {
        index[count] = index[j];
        count += !(value[j] > certain);
    }
    l->rank -= l->count - count;
    l->count = count;
}

/* Pairs to score, by bank row: a row is read from memory once for all queries that ask for it. */
static void sort_pairs(search *s) {
    memset(s->bucket, 0, (size_t)(s->buckets + 1) * sizeof *s->bucket);
    size_t held = (size_t)(s->room + SLACK);
    for (int q = 0; q < s->n; q++)
        for (int j = 0; j < s->lists[q].count; j++)
            s->bucket[s->index[(size_t)q * held + (size_t)j] / BUCKET + 1]++;
    for (int b = 0; b < s->buckets; b++)
        s->bucket[b + 1] += s->bucket[b];
    for (int q = 0; q < s->n; q++)
        for (int j = 0; j < s->lists[q].count; j++) {
            size_t at = (size_t)q * held + (size_t)j;
            s->pair[s->bucket[s->index[at] / BUCKET]++] = (pair){q, (int32_t)j};
        }
    /* each entry has moved to its bucket's end, the next one's begin */
    memmove(s->bucket + 1, s->bucket, (size_t)s->buckets * sizeof *s->bucket);
    s->bucket[0] = 0;
}

static void score_bucket(const search *s, int bucket) {
    size_t held = (size_t)(s->room + SLACK);
    for (int32_t i = s->bucket[bucket]; i < s->bucket[bucket + 1]; i++) {
        size_t at = (size_t)s->pair[i].query * held + (size_t)s->pair[i].place;
        s->value[at] = exact(s, s->pair[i].query, s->index[at]);
    }
}

/* The scored rows of a query in `rows`: the k nearest sorted, or with the l->rank-th (the k-th of
 * all) in its place. */
static void conclude(const search *s, int q, bool all, scored *rows) {
    const list *l = &s->lists[q];
    int count = l->count;
    size_t at = (size_t)q * (size_t)(s->room + SLACK);
    for (int j = 0; j < count; j++)
        rows[j] = (scored){s->value[at + (size_t)j], s->index[at + (size_t)j]};
    if (l->lost)
        count = plain_search(s, q, rows);
    keep_nearest(rows, count, l->rank);
    if (all)
        qsort(rows, (size_t)s->k, sizeof *rows, nearer);
}

static size_t plan(search *s, int queries, char *at) {
    size_t q = (size_t)queries, threads = (size_t)s->threads, depth = (size_t)s->depth;
    size_t element = s->bf16 ? 2 : 4, padded = (q + NPI_PANEL_ROWS) * depth;
    size_t held = (size_t)(s->room + SLACK), used = 0;
    struct {
        void *slot;
        size_t bytes;
    } piece[] = {{&s->a, padded * element},
                 {&s->b, ((size_t)s->block + NPI_PANEL_COLUMNS) * depth * element},
                 {&s->square, ((size_t)s->block + SLACK) * sizeof(float)},
                 {&s->norm, (size_t)s->block * sizeof(double)},
                 {&s->error_norm, (size_t)s->block * sizeof(double)},
                 {&s->product, threads * GROUP * NPI_PANEL_ROWS * STRIP * sizeof(float)},
                 {&s->rounded, threads * s->rounded_size * sizeof(uint16_t)},
                 {&s->spare, threads * s->spare_size * sizeof(float)},
                 {&s->pair, q * (size_t)s->room * sizeof(pair)},
                 {&s->bucket, ((size_t)s->buckets + 1) * sizeof(int32_t)},
                 {&s->lists, q * sizeof(list)},
                 {&s->value, q * held * sizeof(float)},
                 {&s->index, q * held * sizeof(int32_t)}};
    for (size_t i = 0; i < sizeof piece / sizeof *piece; i++) {
        if (at) {
            void *place = at + used;
            memcpy(piece[i].slot, &place, sizeof place);
        }
        used += npi_cpu_room(piece[i].bytes, 1);
    }
    return used;
}

npos_status npi_cpu_find(npi_device *dev, const npi_math *math, int n, const float *queries,
                         int64_t m, const float *bank, int dim, int k, int64_t *index,
                         float *distance, bool all) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    if (n < 0 || dim < 1 || m < 1 || m > INT32_MAX - PACKED)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "neighbours: %d queries, %lld rows of %d, expected at least one row and "
                        "fewer than 2^31",
                        n, (long long)m, dim);
    if (k < 1 || k > m)
        return npi_fail(NPOS_INVALID_ARGUMENT, "neighbours: k is %d, the bank holds %lld rows", k,
                        (long long)m);
    search s = {.math = math, .threads = cpu->threads, .m = m, .bank = bank, .dim = dim, .k = k};
    s.bf16 = math->bf16.tile != NULL;
    s.depth = s.bf16 ? (dim + math->bf16.depth - 1) / math->bf16.depth * math->bf16.depth : dim;
    s.mr = s.bf16 ? math->bf16.mr : math->mr;
    s.nr = s.bf16 ? math->bf16.nr : math->nr;
    s.rounded_size = s.bf16 ? (size_t)NPI_PANEL_COLUMNS * (size_t)s.depth : 0;
    s.room = (k < 1024 ? 2 * k : k + k / 2) + 2 * STRIP;
    s.block = PACKED / (4 * s.depth) / STRIP * STRIP;
    s.block = s.block < STRIP ? STRIP : s.block;
    while (s.block > STRIP && s.block - STRIP >= m)
        s.block -= STRIP;
    s.spare_size = npi_cpu_room((size_t)(s.room + SLACK), 4) / 4;
    s.buckets = (int)(m / BUCKET) + 1;
    int chunk = HELD / s.room / s.mr * s.mr;
    chunk = chunk < s.mr ? s.mr : chunk > QUERIES ? QUERIES : chunk;
    chunk = n < chunk ? n : chunk;
    size_t planned = plan(&s, chunk, NULL),
           scored_room = npi_cpu_room((size_t)(s.room + 2 * k), sizeof(scored));
    char *scratch;
    NPI_TRY(npi_cpu_scratch(dev, planned + scored_room * (size_t)s.threads, &scratch));
    plan(&s, chunk, scratch);
    memset(s.rounded, 0, (size_t)s.threads * s.rounded_size * sizeof *s.rounded);
    for (int first = 0; first < n; first += chunk) {
        s.n = n - first < chunk ? n - first : chunk;
        s.queries = queries + (ptrdiff_t)first * dim;
        s.largest = s.largest_error = 0.0;
        start_queries(&s);
        for (int64_t row = 0; row < m; row += s.block)
            one_block(&s, row);
#pragma omp parallel num_threads(s.threads)
        {
            scored *rows =
                (scored *)(void *)(scratch + planned + scored_room * (size_t)omp_get_thread_num());
            float *spare = s.spare + (size_t)omp_get_thread_num() * s.spare_size;
#pragma omp for schedule(dynamic, 4)
            for (int q = 0; q < s.n; q++)
                prepare_scores(&s, q, all, spare);
#pragma omp single
            sort_pairs(&s);
#pragma omp for schedule(dynamic, 4)
            for (int b = 0; b < s.buckets; b++)
                score_bucket(&s, b);
#pragma omp for schedule(dynamic, 4)
            for (int q = 0; q < s.n; q++) {
                conclude(&s, q, all, rows);
                if (!all)
                    distance[first + q] = rows[s.lists[q].rank - 1].distance;
                for (int j = 0; all && j < k; j++) {
                    size_t at = (size_t)(first + q) * (size_t)k + (size_t)j;
                    if (index)
                        index[at] = rows[j].index;
                    if (distance)
                        distance[at] = rows[j].distance;
                }
            }
        }
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
