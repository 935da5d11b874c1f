/* The ring's images by number, one lock around the counters:
 *
 *     released <= handed <= published <= filled <= released + size
 *
 * The thread fills image `filled`; it publishes whole passes, and the rest at the end. */
#include "jobs/score_feed.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "data/image_frames.h"
#include "data/images_open.h"

enum {
    RING_BYTES = 64 << 20, /* of the ring's pixels, where two passes take less */
    /* at most; half of them on a host, 896 images, are one search of the processor's (cpu_ood_knn.c) */
    RING_PASSES = 14,
    HELD_BYTES = 64 << 20, /* of raw images that wait for their resize */
    INPUT_BYTES = 1 << 16
};

struct npi_feed {
    npi_feed_desc desc;
    int size; /* images of the ring: whole passes */
    npi_feed_image *ring;
    uint8_t *pixels;
    size_t image_bytes;
    /* `names`, or where that has a descriptor a stream on it that npi_feed_close can end */
    FILE *input;
    int wake[2];  /* a pipe: what is written to it ends `input` */
    char *buffer; /* of `input` */
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t room,
        more; /* images were released, or the end is wanted; images were published */
    int64_t released, handed, published;
    bool closing, ended;
    npos_status status; /* of reading, once it ended */
    char message[1024], hint[512];
    /* the thread's own */
    int64_t filled, frames;
    size_t held;
    char *line;
    size_t capacity;
};

static void clear_image(npi_feed_image *image) {
    npi_free(image->file);
    npi_image_clear(&image->raw);
    *image = (npi_feed_image){0};
}

/* ---- decoding ---- */

static npos_status read_image(const npi_feed *f, npi_feed_image *image, uint8_t *to) {
    npi_image stored = image->raw, fitting = {0};
    npos_status status;
    image->raw = (npi_image){0};
    if (!stored.pixels)
        NPI_TRY_GOTO(
            npi_image_read(image->file, npi_transform_least_side(&f->desc.transform), &stored),
            done);
    NPI_TRY_GOTO(npi_transform_apply(&f->desc.transform, &stored, &fitting), done);
    memcpy(to, fitting.pixels, f->image_bytes);
done:
    npi_image_clear(&stored);
    npi_image_clear(&fitting);
    return status;
}

/* Brings images first .. end - 1 to the model's size side by side, those that are not yet. */
static void make(npi_feed *f, int64_t first, int64_t end) {
    const int threads = npi_decoder_threads(f->desc.threads);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (end - first > 1)
    for (int64_t i = first; i < end; i++) {
        npi_feed_image *image = &f->ring[i % f->size];
        if (image->made)
            continue;
        image->made = true;
        if (read_image(f, image, f->pixels + (size_t)(i % f->size) * f->image_bytes) == NPOS_OK)
            continue;
        image->row = -1;
        snprintf(image->error, sizeof image->error, "%s", npos_error_message());
    }
}

/* ---- the thread ---- */

/* Waits until there is room for image `filled`; false: nobody wants it any more. */
static bool wait_for_room(npi_feed *f) {
    pthread_mutex_lock(&f->lock);
    while (f->filled - f->released >= f->size && !f->closing)
        pthread_cond_wait(&f->room, &f->lock);
    bool wanted = !f->closing;
    pthread_mutex_unlock(&f->lock);
    return wanted;
}

static void publish(npi_feed *f) {
    if (f->desc.ahead)
        make(f, f->published, f->filled);
    f->held = 0;
    pthread_mutex_lock(&f->lock);
    f->published = f->filled;
    pthread_cond_signal(&f->more);
    pthread_mutex_unlock(&f->lock);
}

/* The image of number `filled` is there. */
static void count_image(npi_feed *f) {
    const npi_image *raw = &f->ring[f->filled++ % f->size].raw;
    f->held += (size_t)raw->width * (size_t)raw->height * (size_t)raw->channels;
    if (f->filled % f->desc.pass == 0) {
        publish(f);
    } else if (f->held >= HELD_BYTES) { /* large ones do not fill the memory */
        make(f, f->published, f->filled);
        f->held = 0;
    }
}

static npos_status put_name(npi_feed *f, const char *file) {
    NPI_TRY(npi_strdup(&f->ring[f->filled % f->size].file, file));
    count_image(f);
    return NPOS_OK;
}

static npos_status take_frames(npi_feed *f) {
    while (wait_for_room(f)) {
        npi_feed_image *image = &f->ring[f->filled % f->size];
        bool end;
        npos_status status = npi_image_frame_read(f->input, &image->raw, &end);
        if (status != NPOS_OK)
            return npi_fail_in(status, "image %lld", (long long)f->frames);
        if (end)
            return NPOS_OK;
        NPI_TRY(npi_format(&image->file, "image %lld", (long long)f->frames++));
        count_image(f);
    }
    return NPOS_OK;
}

static npos_status take_names(npi_feed *f) {
    while (wait_for_room(f)) {
        ssize_t length = getline(&f->line, &f->capacity, f->input);
        if (length == -1)
            return ferror(f->input) ? npi_fail_errno("reading the names of images") : NPOS_OK;
        if (length > 0 && f->line[length - 1] == '\n')
            f->line[--length] = '\0';
        if (length > 0)
            NPI_TRY(put_name(f, f->line));
    }
    return NPOS_OK;
}

static npos_status take(npi_feed *f, const char *file) {
    if (strcmp(file, "-") == 0)
        return f->desc.frames ? take_frames(f) : take_names(f);
    return wait_for_room(f) ? put_name(f, file) : NPOS_OK;
}

static void *read_all(void *argument) {
    npi_feed *f = argument;
    const npi_feed_desc *d = &f->desc;
    npos_status status = NPOS_OK;
    for (int i = 0; i < d->file_count && status == NPOS_OK; i++)
        status = take(f, d->files[i]);
    if (status != NPOS_OK) { /* messages belong to a thread, and decoding makes new ones */
        snprintf(f->message, sizeof f->message, "%s", npos_error_message());
        snprintf(f->hint, sizeof f->hint, "%s", npos_error_hint());
    }
    publish(f);
    pthread_mutex_lock(&f->lock);
    f->status = status;
    f->ended = true;
    pthread_cond_signal(&f->more);
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* ---- input that can be ended ---- */

/* Waits for input or for the end of the feed, which looks like the end of the input. */
static ssize_t read_or_stop(void *cookie, char *to, size_t size) {
    npi_feed *f = cookie;
    struct pollfd on[2] = {{.fd = fileno(f->desc.names), .events = POLLIN},
                           {.fd = f->wake[0], .events = POLLIN}};
    for (;;) {
        if (poll(on, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        if (on[1].revents)
            return 0;
        ssize_t n = read(on[0].fd, to, size);
        if (n >= 0 || (errno != EINTR && errno != EAGAIN))
            return n;
    }
}

/* A stream in memory never waits: it is read as it is. */
static npos_status open_input(npi_feed *f) {
    const cookie_io_functions_t functions = {.read = read_or_stop};
    if (!f->desc.names || fileno(f->desc.names) < 0) {
        f->input = f->desc.names;
        return NPOS_OK;
    }
    if (pipe(f->wake) != 0)
        return npi_fail_errno("reading images");
    NPI_TRY(npi_alloc(&f->buffer, INPUT_BYTES, 1, "input"));
    f->input = fopencookie(f, "r", functions);
    if (!f->input)
        return npi_fail(NPOS_OUT_OF_MEMORY, "no memory to read images");
    setvbuf(f->input, f->buffer, _IOFBF, INPUT_BYTES);
    return NPOS_OK;
}

static void close_input(npi_feed *f) {
    if (f->input && f->input != f->desc.names)
        fclose(f->input);
    for (int i = 0; i < 2; i++)
        if (f->wake[i] >= 0)
            close(f->wake[i]);
    npi_free(f->buffer);
}

/* ---- the caller's side ---- */

npos_status npi_feed_open(const npi_feed_desc *desc, npi_feed **out) {
    npi_feed *f;
    *out = NULL;
    NPI_TRY(npi_alloc(&f, 1, sizeof *f, "images to score"));
    const npi_transform *t = &desc->transform;
    f->desc = *desc;
    f->wake[0] = f->wake[1] = -1;
    f->image_bytes = (size_t)t->size * (size_t)t->size * (size_t)t->channels;
    size_t passes = RING_BYTES / ((size_t)desc->pass * f->image_bytes);
    passes = passes < 2 ? 2 : passes > RING_PASSES ? RING_PASSES : passes;
    f->size = (int)passes * desc->pass;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->room, NULL);
    pthread_cond_init(&f->more, NULL);
    npos_status status = npi_alloc(&f->ring, (size_t)f->size, sizeof *f->ring, "images to score");
    if (status == NPOS_OK)
        status = npi_alloc(&f->pixels, (size_t)f->size, f->image_bytes, "images to score");
    if (status == NPOS_OK)
        status = open_input(f);
    if (status == NPOS_OK) {
        f->started = pthread_create(&f->thread, NULL, read_all, f) == 0;
        if (!f->started)
            status = npi_fail(NPOS_OUT_OF_MEMORY, "reading images: the system starts no thread");
    }
    if (status == NPOS_OK)
        *out = f;
    else
        npi_feed_close(f);
    return status;
}

void npi_feed_close(npi_feed *f) {
    if (!f)
        return;
    pthread_mutex_lock(&f->lock);
    f->closing = true;
    pthread_cond_signal(&f->room);
    pthread_mutex_unlock(&f->lock);
    if (f->started) { /* it may wait for input that never comes */
        while (f->wake[1] >= 0 && write(f->wake[1], "", 1) < 0 && errno == EINTR)
            ;
        pthread_join(f->thread, NULL);
    }
    close_input(f);
    pthread_cond_destroy(&f->more);
    pthread_cond_destroy(&f->room);
    pthread_mutex_destroy(&f->lock);
    for (int i = 0; f->ring && i < f->size; i++)
        clear_image(&f->ring[i]);
    npi_free(f->ring);
    npi_free(f->pixels);
    free(f->line);
    npi_free(f);
}

int npi_feed_most(const npi_feed *f) {
    return f->size / f->desc.pass / 2 * f->desc.pass;
}

/* Closes the gaps that images without pixels left; how many have some. */
static int gather(npi_feed_image *image, int count, uint8_t *pixels, size_t bytes) {
    int rows = 0;
    for (int i = 0; i < count; i++) {
        if (image[i].row < 0)
            continue;
        if (rows != i)
            memcpy(pixels + (size_t)rows * bytes, pixels + (size_t)i * bytes, bytes);
        image[i].row = rows++;
    }
    return rows;
}

/* Under the lock: the images that are handed out next; none at the end. */
static int wait_for_images(npi_feed *f) {
    while (f->published == f->handed && !f->ended)
        pthread_cond_wait(&f->more, &f->lock);
    int64_t count = f->published - f->handed, straight = f->size - f->handed % f->size;
    count = count < straight ? count : straight;
    return (int)(count < npi_feed_most(f) ? count : npi_feed_most(f));
}

npos_status npi_feed_next(npi_feed *f, npi_feed_block *out) {
    int64_t first = f->handed; /* changed by this thread alone, as `released` */
    *out = (npi_feed_block){0};
    for (int64_t i = f->released; i < first; i++)
        clear_image(&f->ring[i % f->size]);
    pthread_mutex_lock(&f->lock);
    f->released = first;
    pthread_cond_signal(&f->room);
    int count = wait_for_images(f);
    f->handed += count;
    npos_status status = count > 0 ? NPOS_OK : f->status;
    pthread_mutex_unlock(&f->lock);
    if (status != NPOS_OK)
        return npi_hint(npi_fail(status, "%s", f->message), "%s", f->hint);
    if (count == 0)
        return NPOS_OK;
    make(f, first, first + count);
    uint8_t *pixels = f->pixels + (size_t)(first % f->size) * f->image_bytes;
    *out = (npi_feed_block){.image = &f->ring[first % f->size], .count = count, .pixels = pixels};
    out->images = gather(out->image, count, pixels, f->image_bytes);
    return NPOS_OK;
}
