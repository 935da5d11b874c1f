#include "jobs/data_survey.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/images_open.h"

enum { CHUNK = 16, FLAT_RANGE = 4 };

/* Whole numbers, so that sums do not depend on their order. */
typedef struct sums {
    uint64_t pixels, value[3], square[3];
    int64_t grey, tiny, flat;
    bool colour;
} sums;

typedef struct walk {
    const npi_survey_desc *desc;
    npi_survey *survey;
    npi_fingerprint *prints;
    int *side; /* [count], 0 for what cannot be read */
    _Atomic int64_t next, done;
    _Atomic bool stop;
    pthread_mutex_t lock; /* of all below */
    sums all;
    npos_status status;
    char message[1024];
} walk;

npos_status npi_survey_open(const npi_survey_desc *desc, npi_survey *out) {
    *out = (npi_survey){.tiny_side = desc->tiny_side};
    NPI_TRY(npi_dataset_open(desc->spec, &out->set));
    out->count = npi_dataset_count(out->set);
    out->classes = npi_dataset_classes(out->set);
    NPI_TRY(
        npi_alloc(&out->class_count, (size_t)out->classes, sizeof *out->class_count, "classes"));
    for (int64_t i = 0; i < out->count; i++) {
        int label = npi_dataset_label(out->set, i);
        if (label >= 0)
            out->class_count[label]++;
    }
    return NPOS_OK;
}

void npi_survey_clear(npi_survey *survey) {
    for (int i = 0; i < survey->broken_kept; i++) {
        npi_free(survey->first_broken[i].name);
        npi_free(survey->first_broken[i].error);
    }
    npi_free(survey->class_count);
    npi_dataset_close(survey->set);
    *survey = (npi_survey){0};
}

static bool is_grey(const npi_image *image) {
    size_t pixels = (size_t)image->height * (size_t)image->width;
    const uint8_t *at = image->pixels;
    if (image->channels == 1)
        return true;
    for (size_t i = 0; i < pixels; i++, at += 3)
        if (at[0] != at[1] || at[0] != at[2])
            return false;
    return true;
}

/* Of one brightness: no value is far from another. */
static bool is_flat(const npi_image *image) {
    size_t values = (size_t)image->height * (size_t)image->width * (size_t)image->channels;
    size_t step = (size_t)image->channels;
    for (size_t c = 0; c < step; c++) {
        uint8_t least = 255, most = 0;
        for (size_t i = c; i < values; i += step) {
            least = image->pixels[i] < least ? image->pixels[i] : least;
            most = image->pixels[i] > most ? image->pixels[i] : most;
        }
        if (most - least >= FLAT_RANGE)
            return false;
    }
    return true;
}

static void add_pixels(const npi_image *image, sums *to) {
    size_t pixels = (size_t)image->height * (size_t)image->width, step = (size_t)image->channels;
    for (size_t c = 0; c < 3; c++) { /* a grey image counts as three equal channels */
        uint64_t value = 0, square = 0;
        const uint8_t *at = image->pixels + (step == 3 ? c : 0);
        for (size_t i = 0; i < pixels; i++, at += step) {
            value += *at;
            square += (uint64_t)*at * *at;
        }
        to->value[c] += value;
        to->square[c] += square;
    }
    to->pixels += pixels;
    to->colour |= step == 3;
}

/* All that one image gives. */
static npos_status take_image(const walk *w, int64_t i, sums *to) {
    npi_image image, sized;
    NPI_TRY(npi_dataset_decode(w->survey->set, i, &image));
    npos_status status = npi_fingerprint_take(&image, &w->prints[i]);
    if (status == NPOS_OK && w->desc->transform) {
        status = npi_transform_apply(w->desc->transform, &image, &sized);
        if (status == NPOS_OK)
            add_pixels(&sized, to);
        npi_image_clear(&sized);
    } else if (status == NPOS_OK) {
        add_pixels(&image, to);
    }
    if (status == NPOS_OK) {
        int side = image.height < image.width ? image.height : image.width;
        w->prints[i].set = w->desc->number;
        w->side[i] = side;
        to->grey += is_grey(&image);
        to->tiny += side < w->desc->tiny_side;
        to->flat += is_flat(&image);
    }
    npi_image_clear(&image);
    return status;
}

/* Keeps the first ones by number, whichever thread finds them when. */
static npos_status keep_broken(npi_survey *survey, int64_t i, const char *error) {
    npi_unreadable *kept = survey->first_broken;
    int at = survey->broken_kept;
    while (at > 0 && kept[at - 1].image > i)
        at--;
    if (at == NPI_BROKEN_KEPT)
        return NPOS_OK;
    npi_unreadable broken = {.image = i};
    NPI_TRY(npi_dataset_name(survey->set, i, &broken.name));
    npos_status status = npi_strdup(&broken.error, error);
    if (status != NPOS_OK) {
        npi_free(broken.name);
        return status;
    }
    if (survey->broken_kept == NPI_BROKEN_KEPT) {
        survey->broken_kept--;
        npi_free(kept[survey->broken_kept].name);
        npi_free(kept[survey->broken_kept].error);
    }
    memmove(kept + at + 1, kept + at, (size_t)(survey->broken_kept - at) * sizeof *kept);
    kept[at] = broken;
    survey->broken_kept++;
    return NPOS_OK;
}

/* A failure about the image is counted, another one ends the walk. */
static void take_failure(walk *w, int64_t i, npos_status status) {
    char error[1024];
    snprintf(error, sizeof error, "%s", npos_error_message());
    w->prints[i].set = -1;
    pthread_mutex_lock(&w->lock);
    if (status != NPOS_OUT_OF_MEMORY && status != NPOS_INTERRUPTED) {
        w->survey->broken++;
        status = keep_broken(w->survey, i, error);
    }
    if (status != NPOS_OK && w->status == NPOS_OK) {
        w->status = status;
        snprintf(w->message, sizeof w->message, "%s", npos_error_message());
        atomic_store(&w->stop, true);
    }
    pthread_mutex_unlock(&w->lock);
}

static bool take_some(walk *w, sums *to) {
    int64_t first = atomic_fetch_add(&w->next, CHUNK), last = first + CHUNK;
    if (last > w->survey->count)
        last = w->survey->count;
    for (int64_t i = first; i < last && !atomic_load(&w->stop); i++) {
        npos_status status = take_image(w, i, to);
        if (status != NPOS_OK)
            take_failure(w, i, status);
        atomic_fetch_add(&w->done, 1);
    }
    return last < w->survey->count && !atomic_load(&w->stop);
}

static void add_sums(walk *w, const sums *own) {
    pthread_mutex_lock(&w->lock);
    w->all.pixels += own->pixels;
    w->all.grey += own->grey;
    w->all.tiny += own->tiny;
    w->all.flat += own->flat;
    w->all.colour |= own->colour;
    for (int c = 0; c < 3; c++) {
        w->all.value[c] += own->value[c];
        w->all.square[c] += own->square[c];
    }
    pthread_mutex_unlock(&w->lock);
}

static void *work(void *argument) {
    sums own = {0};
    while (take_some(argument, &own)) {
    }
    add_sums(argument, &own);
    return NULL;
}

static void work_and_tell(walk *w) {
    const npi_survey_desc *d = w->desc;
    sums own = {0};
    double told = npi_seconds();
    bool more = w->survey->count > 0;
    while (more) {
        more = take_some(w, &own);
        if (d->progress && npi_seconds() - told >= 0.2) {
            told = npi_seconds();
            npos_status status = d->progress(d->context, atomic_load(&w->done), w->survey->count);
            if (status != NPOS_OK) {
                pthread_mutex_lock(&w->lock);
                w->status = status;
                snprintf(w->message, sizeof w->message, "%s", npos_error_message());
                pthread_mutex_unlock(&w->lock);
                atomic_store(&w->stop, true);
                more = false;
            }
        }
    }
    add_sums(w, &own);
}

static int by_side(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

static void finish(walk *w) {
    npi_survey *s = w->survey;
    int64_t unread = 0;
    qsort(w->side, (size_t)s->count, sizeof *w->side, by_side);
    while (unread < s->count && w->side[unread] == 0)
        unread++;
    if (unread < s->count) {
        s->side[0] = w->side[unread];
        s->side[1] = w->side[unread + (s->count - unread) / 2];
        s->side[2] = w->side[s->count - 1];
    }
    s->grey = w->all.grey;
    s->tiny = w->all.tiny;
    s->flat = w->all.flat;
    s->channels = w->all.colour ? 3 : 1;
    for (int c = 0; c < s->channels && w->all.pixels > 0; c++) {
        double n = (double)w->all.pixels, mean = (double)w->all.value[c] / n;
        double variance = (double)w->all.square[c] / n - mean * mean;
        s->mean[c] = mean / 255;
        s->std[c] = sqrt(variance > 0 ? variance : 0) / 255;
    }
}

npos_status npi_survey_run(const npi_survey_desc *desc, npi_survey *survey,
                           npi_fingerprint *prints) {
    walk w = {.desc = desc, .survey = survey, .prints = prints, .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t others[NPI_MAX_DECODERS];
    int started = 0, threads = npi_decoder_threads(desc->threads);
    NPI_TRY(npi_alloc(&w.side, (size_t)survey->count, sizeof *w.side, "sizes of images"));
    /* a thread that does not start is work for the others */
    while (started < threads - 1 && pthread_create(&others[started], NULL, work, &w) == 0)
        started++;
    work_and_tell(&w);
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
    if (w.status == NPOS_OK)
        finish(&w);
    npi_free(w.side);
    if (w.status != NPOS_OK)
        return npi_fail(w.status, "%s", w.message);
    return desc->progress ? desc->progress(desc->context, survey->count, survey->count) : NPOS_OK;
}
