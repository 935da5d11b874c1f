#include "data/duplicates.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { BITS = 64, TELL = 1 << 12 };

/* An image in the list that is sorted. */
typedef struct item {
    uint64_t key[2];
    int64_t image;
} item;

typedef struct finder {
    const npi_fingerprint *prints;
    int sets, distance;
    npi_shared *shared;
    item *items;
    int64_t count;  /* of items */
    uint32_t *near; /* [images] bit s: a near one is in set s */
    int64_t *group; /* [images] the first image of its group of copies */
} finder;

static int by_key(const void *left, const void *right) {
    const item *a = left, *b = right;
    for (int i = 0; i < 2; i++)
        if (a->key[i] != b->key[i])
            return a->key[i] < b->key[i] ? -1 : 1;
    return (a->image > b->image) - (a->image < b->image);
}

static bool same_key(const item *a, const item *b) {
    return a->key[0] == b->key[0] && a->key[1] == b->key[1];
}

static void add_example(finder *f, int64_t a, int64_t b, int distance, bool exact) {
    if (a > b) {
        int64_t held = a;
        a = b;
        b = held;
    }
    npi_shared *shared = &f->shared[f->prints[a].set * f->sets + f->prints[b].set];
    if (shared->examples < NPI_DUPLICATE_EXAMPLES)
        shared->example[shared->examples++] = (npi_duplicate){a, b, distance, exact};
}

/* One group of copies: items [first, end), in the order of the images.  What is kept in `items` afterwards are the first
 * images of each set in it. */
static void take_group(finder *f, int64_t first, int64_t end, int64_t *kept) {
    int64_t in_set[NPI_DUPLICATE_SETS] = {0}, first_of[NPI_DUPLICATE_SETS];
    for (int64_t i = first; i < end; i++) {
        int64_t image = f->items[i].image;
        int set = f->prints[image].set;
        f->group[image] = f->items[first].image;
        if (in_set[set]++ == 0)
            first_of[set] = image;
        else
            add_example(f, first_of[set], image, 0, true);
    }
    for (int a = 0; a < f->sets; a++) {
        if (in_set[a] == 0)
            continue;
        f->shared[a * f->sets + a].exact += in_set[a] - 1;
        for (int b = 0; b < f->sets; b++)
            if (b != a && in_set[b] > 0) {
                f->shared[a * f->sets + b].exact += in_set[b];
                if (a < b)
                    add_example(f, first_of[a], first_of[b], 0, true);
            }
        f->items[(*kept)++].image = first_of[a];
    }
}

static void find_copies(finder *f) {
    int64_t kept = 0;
    for (int64_t i = 0; i < f->count; i++)
        memcpy(f->items[i].key, f->prints[f->items[i].image].exact, sizeof f->items[i].key);
    qsort(f->items, (size_t)f->count, sizeof *f->items, by_key);
    for (int64_t first = 0, end; first < f->count; first = end) {
        for (end = first + 1; end < f->count && same_key(&f->items[first], &f->items[end]); end++) {
        }
        take_group(f, first, end, &kept);
    }
    f->count = kept;
}

/* The bits of block `number` of `blocks`. */
static uint64_t block_mask(int number, int blocks) {
    int from = number * BITS / blocks, to = (number + 1) * BITS / blocks;
    return (to == BITS ? ~0ull : (1ull << to) - 1) & ~((1ull << from) - 1);
}

static void compare(finder *f, int64_t i, int64_t j, int block) {
    const npi_fingerprint *a = &f->prints[i], *b = &f->prints[j];
    int distance = npi_fingerprint_distance(a, b);
    if (distance > f->distance || f->group[i] == f->group[j])
        return;
    for (int earlier = 0; earlier < block; earlier++)
        if (!((a->perceptual ^ b->perceptual) & block_mask(earlier, f->distance + 1)))
            return; /* they met there */
    if (npi_fingerprint_likeness(a, b) < NPI_NEAR_LIKENESS)
        return;
    f->near[i] |= 1u << b->set;
    f->near[j] |= 1u << a->set;
    add_example(f, i, j, distance, false);
}

static npos_status find_near(finder *f, npi_progress_fn *progress, void *context) {
    int blocks = f->distance + 1;
    int64_t flatless = 0, total;
    for (int64_t i = 0; i < f->count; i++)
        if (!f->prints[f->items[i].image].flat)
            f->items[flatless++] = f->items[i];
    f->count = flatless;
    total = f->count * blocks;
    for (int block = 0; block < blocks; block++) {
        uint64_t mask = block_mask(block, blocks);
        for (int64_t i = 0; i < f->count; i++) {
            uint64_t bits = f->prints[f->items[i].image].perceptual;
            f->items[i].key[0] = bits & mask;
            f->items[i].key[1] = 0;
        }
        qsort(f->items, (size_t)f->count, sizeof *f->items, by_key);
        for (int64_t i = 0; i < f->count; i++) {
            for (int64_t j = i + 1; j < f->count && same_key(&f->items[i], &f->items[j]); j++)
                compare(f, f->items[i].image, f->items[j].image, block);
            if (progress && i % TELL == 0)
                NPI_TRY(progress(context, block * f->count + i, total));
        }
    }
    for (int64_t i = 0; i < f->count; i++)
        for (int a = 0; a < f->sets; a++)
            if (f->near[f->items[i].image] >> a & 1)
                f->shared[a * f->sets + f->prints[f->items[i].image].set].near++;
    return progress ? progress(context, total, total) : NPOS_OK;
}

npos_status npi_duplicates_find(const npi_fingerprint *prints, int64_t count, int sets,
                                int distance, npi_progress_fn *progress, void *context,
                                npi_shared **shared) {
    finder f = {.prints = prints, .sets = sets, .distance = distance};
    npos_status status;
    *shared = NULL;
    if (sets < 1 || sets > NPI_DUPLICATE_SETS || distance > NPI_NEAR_MOST)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "duplicates: %d sets, distance %d; expected 1 to %d sets, at most %d bits",
                        sets, distance, NPI_DUPLICATE_SETS, NPI_NEAR_MOST);
    NPI_TRY_GOTO(npi_alloc(&f.shared, (size_t)(sets * sets), sizeof *f.shared, "duplicates"), done);
    NPI_TRY_GOTO(npi_alloc(&f.items, (size_t)count, sizeof *f.items, "duplicates"), done);
    NPI_TRY_GOTO(npi_alloc(&f.group, (size_t)count, sizeof *f.group, "duplicates"), done);
    NPI_TRY_GOTO(npi_alloc(&f.near, (size_t)count, sizeof *f.near, "duplicates"), done);
    for (int64_t i = 0; i < count; i++)
        if (prints[i].set >= 0)
            f.items[f.count++].image = i;
    find_copies(&f);
    if (distance >= 0)
        status = find_near(&f, progress, context);
done:
    npi_free(f.near);
    npi_free(f.group);
    npi_free(f.items);
    if (status == NPOS_OK)
        *shared = f.shared;
    else
        npi_free(f.shared);
    return status;
}
