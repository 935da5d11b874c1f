/* Images that cannot be read are left out of an opened set: every one is decoded once, by threads that
 * take them in turn; what is left does not depend on how many there are. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/images_open.h"

enum { CHUNK = 16 };
static const double progress_seconds = 0.2;

typedef struct sieve {
    npi_images *images;
    char **why; /* [count] of those that cannot be read, the reason */
    _Atomic int64_t next, done;
    _Atomic int stop; /* an npos_status that stops all: memory ran out, the caller's word */
} sieve;

/* What makes one image unusable, as opposed to what stops the work. */
static bool is_about_image(npos_status status) {
    return status == NPOS_BAD_DATA || status == NPOS_UNSUPPORTED || status == NPOS_NOT_FOUND ||
           status == NPOS_IO;
}

static bool sift_some(sieve *s) {
    int64_t count = s->images->count, first = atomic_fetch_add(&s->next, CHUNK),
            last = first + CHUNK < count ? first + CHUNK : count;
    for (int64_t i = first; i < last && !atomic_load(&s->stop); i++) {
        npi_image image;
        npos_status status = npi_images_decode(s->images, i, &image);
        npi_image_clear(&image);
        if (is_about_image(status))
            status = npi_strdup(&s->why[i], npos_error_message());
        if (status != NPOS_OK)
            atomic_store(&s->stop, (int)status);
        atomic_fetch_add(&s->done, 1);
    }
    return last < count && !atomic_load(&s->stop);
}

static void *work(void *argument) {
    while (sift_some(argument)) {
    }
    return NULL;
}

static void work_and_tell(sieve *s, npi_progress_fn *progress, void *context) {
    double told = npi_seconds();
    while (sift_some(s)) {
        if (!progress || npi_seconds() - told < progress_seconds)
            continue;
        told = npi_seconds();
        npos_status status = progress(context, atomic_load(&s->done), s->images->count);
        if (status != NPOS_OK)
            atomic_store(&s->stop, (int)status);
    }
}

static npos_status decode_all(sieve *s, int threads, npi_progress_fn *progress, void *context) {
    pthread_t others[NPI_MAX_DECODERS];
    int started = 0;
    int64_t chunks = (s->images->count + CHUNK - 1) / CHUNK;
    threads = npi_decoder_threads(threads);
    if (threads > chunks)
        threads = (int)chunks;
    /* a thread that does not start is work for the others */
    while (started < threads - 1 && pthread_create(&others[started], NULL, work, s) == 0)
        started++;
    work_and_tell(s, progress, context);
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    npos_status stop = (npos_status)atomic_load(&s->stop);
    if (stop != NPOS_OK) /* the message may be another thread's */
        return npi_fail(stop, "%s: looking for broken images was stopped: %s", s->images->spec,
                        npos_status_text(stop));
    return progress ? progress(context, s->images->count, s->images->count) : NPOS_OK;
}

npos_status npi_images_drop(npi_images *images, const bool *out) {
    int64_t kept = 0;
    if (!images->chosen) {
        NPI_TRY(npi_alloc(&images->chosen, (size_t)images->count, sizeof *images->chosen,
                          "images that are left"));
        for (int64_t i = 0; i < images->count; i++)
            images->chosen[i] = i;
    }
    for (int64_t i = 0; i < images->count; i++) {
        if (out[i]) {
            npi_free(images->names[i]);
            continue;
        }
        images->names[kept] = images->names[i];
        images->labels[kept] = images->labels[i];
        images->chosen[kept++] = images->chosen[i];
    }
    images->count = kept;
    return NPOS_OK;
}

/* Moves names and reasons into the list of what is broken, then drops the images. */
static npos_status leave_out(sieve *s) {
    npi_images *images = s->images;
    int64_t broken = 0;
    bool *out;
    for (int64_t i = 0; i < images->count; i++)
        broken += s->why[i] != NULL;
    if (broken == 0)
        return NPOS_OK;
    NPI_TRY(npi_alloc(&images->broken, (size_t)broken, sizeof *images->broken, "broken images"));
    NPI_TRY(npi_alloc(&out, (size_t)images->count, sizeof *out, "broken images"));
    npos_status status = NPOS_OK;
    for (int64_t i = 0; i < images->count && status == NPOS_OK; i++) {
        out[i] = s->why[i] != NULL;
        if (!out[i])
            continue;
        npi_broken *to = &images->broken[images->broken_count++];
        to->why = s->why[i];
        s->why[i] = NULL;
        status = npi_strdup(&to->name, images->names[i]);
    }
    if (status == NPOS_OK && broken == images->count)
        status = npi_fail(NPOS_BAD_DATA, "%s: none of its %lld images can be read; the first: %s",
                          images->spec, (long long)broken, images->broken[0].why);
    if (status == NPOS_OK)
        status = npi_images_drop(images, out);
    npi_free(out);
    return status;
}

npos_status npi_images_sift(npi_images *images, int threads, npi_progress_fn *progress,
                            void *context) {
    sieve s = {.images = images};
    NPI_TRY(npi_alloc(&s.why, (size_t)images->count, sizeof *s.why, "broken images"));
    npos_status status = decode_all(&s, threads, progress, context);
    if (status == NPOS_OK)
        status = leave_out(&s);
    for (int64_t i = 0; i < images->count && status != NPOS_OK; i++)
        npi_free(s.why[i]);
    npi_free(s.why);
    return status;
}
