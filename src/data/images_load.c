/* A whole set into memory: threads take images in turn, each writes to its own place, so that the
 * result does not depend on how many there are. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/philox.h"
#include "data/dataset.h"

enum { MAX_THREADS = 256, CHUNK = 16 };
static const double progress_seconds = 0.2;

typedef struct loader {
    const npi_dataset *set;
    const npi_transform *transform;
    const int64_t *chosen; /* [images->count], NULL: all */
    npi_images *images;
    size_t image_bytes;
    _Atomic int64_t next, done;
    _Atomic int64_t stop_at; /* images from this one on need not be loaded */
    /* the failure of the earliest image, under the lock */
    pthread_mutex_t lock;
    npos_status status;
    char message[1024], hint[512];
} loader;

static void record_failure(loader *l, int64_t i, npos_status status) {
    pthread_mutex_lock(&l->lock);
    if (i < atomic_load(&l->stop_at)) {
        atomic_store(&l->stop_at, i);
        l->status = status;
        snprintf(l->message, sizeof l->message, "%s", npos_error_message());
        snprintf(l->hint, sizeof l->hint, "%s", npos_error_hint());
    }
    pthread_mutex_unlock(&l->lock);
}

static npos_status load_one(loader *l, int64_t i) {
    int64_t number = l->chosen ? l->chosen[i] : i;
    npi_image decoded, sized;
    l->images->labels[i] = npi_dataset_label(l->set, number);
    NPI_TRY(npi_dataset_name(l->set, number, &l->images->names[i]));
    NPI_TRY(npi_dataset_decode(l->set, number, &decoded));
    npos_status status = npi_transform_apply(l->transform, &decoded, &sized);
    if (status == NPOS_OK)
        memcpy(l->images->pixels + (size_t)i * l->image_bytes, sized.pixels, l->image_bytes);
    else
        status = npi_fail_in(status, "%s", l->images->names[i]);
    npi_image_clear(&decoded);
    npi_image_clear(&sized);
    return status;
}

/* Loads the next few images; false when none are left. */
static bool load_some(loader *l) {
    int64_t first = atomic_fetch_add(&l->next, CHUNK), last = first + CHUNK;
    if (last > l->images->count)
        last = l->images->count;
    for (int64_t i = first; i < last && i < atomic_load(&l->stop_at); i++) {
        npos_status status = load_one(l, i);
        if (status != NPOS_OK)
            record_failure(l, i, status);
        else
            atomic_fetch_add(&l->done, 1);
    }
    return first < atomic_load(&l->stop_at) && last < l->images->count;
}

static void *work(void *argument) {
    while (load_some(argument)) {
    }
    return NULL;
}

/* What the calling thread does: the same, and tells how far all are. */
static void work_and_tell(loader *l, npi_progress_fn *progress, void *context) {
    double told = npi_seconds();
    bool more = true;
    while (more) {
        more = load_some(l);
        if (progress && npi_seconds() - told >= progress_seconds) {
            told = npi_seconds();
            npos_status status = progress(context, atomic_load(&l->done), l->images->count);
            if (status != NPOS_OK) {
                record_failure(l, 0, status);
                more = false;
            }
        }
    }
}

static int processor_count(void) {
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
}

static npos_status run(loader *l, int threads, npi_progress_fn *progress, void *context) {
    pthread_t others[MAX_THREADS];
    int started = 0;
    if (threads < 1)
        threads = processor_count();
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    if (threads > (l->images->count + CHUNK - 1) / CHUNK)
        threads = (int)((l->images->count + CHUNK - 1) / CHUNK);
    /* a thread that does not start is work for the others */
    while (started < threads - 1 && pthread_create(&others[started], NULL, work, l) == 0)
        started++;
    work_and_tell(l, progress, context);
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    if (l->status == NPOS_OK)
        return progress ? progress(context, l->images->count, l->images->count) : NPOS_OK;
    return npi_hint(npi_fail(l->status, "%s", l->message), "%s", l->hint);
}

static int by_number(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* *out = `limit` of 0..count-1, drawn with the seed, ascending. */
static npos_status draw_subset(int64_t count, int64_t limit, uint64_t seed, int64_t **out) {
    int32_t *order;
    *out = NULL;
    if (count > INT32_MAX)
        return npi_fail(NPOS_UNSUPPORTED, "a subset of %lld images, at most %d can be drawn from",
                        (long long)count, INT32_MAX);
    NPI_TRY(npi_alloc(&order, (size_t)count, sizeof *order, "subset"));
    npos_status status = npi_alloc(out, (size_t)limit, sizeof **out, "subset");
    if (status == NPOS_OK) {
        npi_permutation(seed, NPI_RANDOM_SUBSET, 0, order, (int32_t)count);
        for (int64_t i = 0; i < limit; i++)
            (*out)[i] = order[i];
        qsort(*out, (size_t)limit, sizeof **out, by_number);
    }
    npi_free(order);
    return status;
}

/* The system may promise more memory than it has and kill the process later: better to say so now. */
static npos_status check_memory(const char *spec, int64_t count, size_t image_bytes) {
    double needed = (double)count * (double)image_bytes,
           installed = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (needed <= installed)
        return NPOS_OK;
    npi_fail(NPOS_OUT_OF_MEMORY, "%s: %lld images need %.1f GB, this machine has %.1f GB", spec,
             (long long)count, needed / 1e9, installed / 1e9);
    return npi_hint(NPOS_OUT_OF_MEMORY, "choose classes with #class=, fewer or smaller images");
}

static npos_status prepare(const npi_dataset *set, const npi_transform *transform, int64_t count,
                           npi_images *out) {
    *out = (npi_images){.size = transform->size,
                        .channels = transform->channels,
                        .available = npi_dataset_count(set)};
    NPI_TRY(npi_alloc(&out->class_names, (size_t)npi_dataset_classes(set), sizeof *out->class_names,
                      "class names"));
    out->classes = npi_dataset_classes(set);
    for (int i = 0; i < out->classes; i++)
        NPI_TRY(npi_strdup(&out->class_names[i], npi_dataset_class_name(set, i)));
    NPI_TRY(npi_strdup(&out->spec, npi_dataset_spec(set)));
    NPI_TRY(npi_alloc(&out->labels, (size_t)count, sizeof *out->labels, "labels"));
    NPI_TRY(npi_alloc(&out->names, (size_t)count, sizeof *out->names, "names"));
    out->count = count;
    size_t bytes = (size_t)out->size * (size_t)out->size * (size_t)out->channels;
    NPI_TRY(check_memory(out->spec, count, bytes));
    return npi_alloc(&out->pixels, (size_t)count, bytes, out->spec);
}

npos_status npi_images_load(const char *spec, const npi_transform *transform, int64_t limit,
                            uint64_t seed, int threads, npi_progress_fn *progress, void *context,
                            npi_images *out) {
    npi_dataset *set;
    int64_t *chosen = NULL;
    npos_status status;
    *out = (npi_images){0};
    if (transform->size < 1 || (transform->channels != 1 && transform->channels != 3))
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: transform of size %d with %d channels", spec,
                        transform->size, transform->channels);
    NPI_TRY(npi_dataset_open(spec, &set));
    int64_t count = npi_dataset_count(set);
    if (limit > 0 && limit < count) {
        NPI_TRY_GOTO(draw_subset(count, limit, seed, &chosen), done);
        count = limit;
    }
    NPI_TRY_GOTO(prepare(set, transform, count, out), done);
    loader l = {.set = set,
                .transform = transform,
                .chosen = chosen,
                .images = out,
                .image_bytes = (size_t)out->size * (size_t)out->size * (size_t)out->channels,
                .lock = PTHREAD_MUTEX_INITIALIZER};
    atomic_init(&l.stop_at, INT64_MAX);
    NPI_TRY_GOTO(run(&l, threads, progress, context), done);
    XXH3_state_t *hash = XXH3_createState();
    if (!hash) {
        status = npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for a hash", spec);
        goto done;
    }
    XXH3_64bits_reset(hash);
    XXH3_64bits_update(hash, out->pixels, (size_t)count * l.image_bytes);
    XXH3_64bits_update(hash, out->labels, (size_t)count * sizeof *out->labels);
    out->hash = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
done:
    npi_free(chosen);
    npi_dataset_close(set);
    if (status != NPOS_OK)
        npi_images_clear(out);
    return status;
}

void npi_images_clear(npi_images *images) {
    for (int64_t i = 0; images->names && i < images->count; i++)
        npi_free(images->names[i]);
    for (int i = 0; images->class_names && i < images->classes; i++)
        npi_free(images->class_names[i]);
    npi_free(images->names);
    npi_free(images->class_names);
    npi_free(images->pixels);
    npi_free(images->labels);
    npi_free(images->spec);
    *images = (npi_images){0};
}
