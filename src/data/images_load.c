/* A whole set into memory: threads take images in turn, each writes to its own place, so that the
 * result does not depend on how many there are. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/images_open.h"

enum { CHUNK = 16 };
static const double progress_seconds = 0.2;

typedef struct loader {
    const npi_transform *transform;
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
    npi_image decoded, sized;
    NPI_TRY(npi_images_decode(l->images, i, &decoded));
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

static npos_status run(loader *l, int threads, npi_progress_fn *progress, void *context) {
    pthread_t others[NPI_MAX_DECODERS];
    int started = 0;
    threads = npi_decoder_threads(threads);
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

/* The system may promise more memory than it has and kill the process later: better to say so now. */
static npos_status check_memory(const char *spec, int64_t count, size_t image_bytes) {
    double needed = (double)count * (double)image_bytes,
           installed = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE);
    if (needed <= installed)
        return NPOS_OK;
    npi_fail(NPOS_OUT_OF_MEMORY, "%s: %lld images need %.1f GB, this machine has %.1f GB", spec,
             (long long)count, needed / 1e9, installed / 1e9);
    return npi_hint(NPOS_OUT_OF_MEMORY,
                    "training streams them with --set loading=stream; or choose classes with "
                    "#class=, fewer or smaller images");
}

/* The pixels of a set that was opened. */
static npos_status load_pixels(npi_images *images, const npi_transform *transform, int threads,
                               npi_progress_fn *progress, void *context) {
    loader l = {.transform = transform,
                .images = images,
                .image_bytes =
                    (size_t)images->size * (size_t)images->size * (size_t)images->channels,
                .lock = PTHREAD_MUTEX_INITIALIZER};
    NPI_TRY(check_memory(images->spec, images->count, l.image_bytes));
    NPI_TRY(npi_alloc(&images->pixels, (size_t)images->count, l.image_bytes, images->spec));
    atomic_init(&l.stop_at, INT64_MAX);
    NPI_TRY(run(&l, threads, progress, context));
    XXH3_state_t *hash = XXH3_createState();
    if (!hash)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for a hash", images->spec);
    XXH3_64bits_reset(hash);
    XXH3_64bits_update(hash, images->pixels, (size_t)images->count * l.image_bytes);
    XXH3_64bits_update(hash, images->labels, (size_t)images->count * sizeof *images->labels);
    images->hash = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    return NPOS_OK;
}

npos_status npi_images_fill(npi_images *images, const npi_transform *transform, int threads,
                            npi_progress_fn *progress, void *context) {
    NPI_TRY(load_pixels(images, transform, threads, progress, context));
    npi_dataset_close(images->set);
    npi_free(images->chosen);
    images->set = NULL;
    images->chosen = NULL;
    return NPOS_OK;
}

npos_status npi_images_load(const char *spec, const npi_transform *transform, int64_t limit,
                            uint64_t seed, int threads, npi_progress_fn *progress, void *context,
                            npi_images *out) {
    NPI_TRY(npi_images_open(spec, transform, limit, seed, out));
    npos_status status = npi_images_fill(out, transform, threads, progress, context);
    if (status != NPOS_OK)
        npi_images_clear(out);
    return status;
}
