/* How much of a network's throughput is left when it scores a stream:
 *
 *     scorestream RUN [IMAGES [ROUNDS]]
 *
 * Raw: npi_run_features over IMAGES random images of the run's size that are in memory, in whole passes.
 * Stream: npos_score over the same images as raw frames (PPM, PGM) on a pipe that a thread fills, k-NN or
 * whatever the run's score is, classes and JSON lines included; opening the run is not counted (a
 * stream of one image is subtracted).  Rounds alternate, so that both meet the same neighbours on a busy
 * machine; medians are printed, and the processor seconds of either for an image. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/run.h"

enum { MOST_ROUNDS = 50 };

typedef struct bench {
    const char *path;
    npos_compute compute;
    npi_run *run;
    int64_t images;
    size_t image_bytes;
    uint8_t *pixels;
} bench;

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static npos_status raw(const bench *b) {
    npi_features features = {0};
    npos_status status =
        npi_run_features(b->run, b->pixels, b->images, &b->compute, "raw", &features);
    npi_features_clear(&features);
    return status;
}

typedef struct feed {
    const bench *b;
    int64_t images;
    FILE *to;
} feed;

static void *write_frames(void *context) {
    const feed *f = context;
    const npi_transform *t = &f->b->run->transform;
    for (int64_t i = 0; i < f->images; i++) {
        fprintf(f->to, "P%d %d %d 255\n", t->channels == 3 ? 6 : 5, t->size, t->size);
        fwrite(f->b->pixels + (size_t)i * f->b->image_bytes, 1, f->b->image_bytes, f->to);
    }
    fclose(f->to);
    return NULL;
}

static npos_status stream(const bench *b, int64_t images) {
    npos_score_options options;
    pthread_t writer;
    int ends[2];
    if (pipe(ends) != 0)
        return npi_fail_errno("pipe");
    feed f = {b, images, fdopen(ends[1], "wb")};
    npos_score_options_init(&options);
    options.compute = b->compute;
    options.run = b->path;
    options.files = (const char *const[]){"-"};
    options.file_count = 1;
    options.stream = "raw";
    options.names = fdopen(ends[0], "rb");
    options.out = fopen("/dev/null", "w");
    if (!f.to || !options.names || !options.out)
        return npi_fail_errno("streams");
    if (pthread_create(&writer, NULL, write_frames, &f) != 0)
        return npi_fail(NPOS_IO, "no thread to feed the stream");
    npos_status status = npos_score(&options);
    fclose(options.names); /* the writer stops where scoring did */
    pthread_join(writer, NULL);
    fclose(options.out);
    return status;
}

static int rising(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n) {
    qsort(x, (size_t)n, sizeof *x, rising);
    return x[n / 2];
}

typedef struct timing {
    double wall[MOST_ROUNDS], processor[MOST_ROUNDS];
} timing;

#define TIMED(work, to, round)                                                                     \
    do {                                                                                           \
        double wall = npi_seconds(), processor = processor_seconds();                              \
        NPI_TRY(work);                                                                             \
        (to)->wall[round] = npi_seconds() - wall;                                                  \
        (to)->processor[round] = processor_seconds() - processor;                                  \
    } while (0)

static npos_status measure(bench *b, int rounds) {
    timing of_raw, of_stream, of_one;
    NPI_TRY(npi_run_open(b->path, &b->compute, &b->run));
    const npi_transform *t = &b->run->transform;
    b->image_bytes = (size_t)t->size * (size_t)t->size * (size_t)t->channels;
    NPI_TRY(npi_alloc(&b->pixels, (size_t)b->images, b->image_bytes, "images"));
    for (size_t i = 0; i < (size_t)b->images * b->image_bytes; i++)
        b->pixels[i] = (uint8_t)(i * 2654435761u >> 24);
    NPI_TRY(raw(b)); /* plans what is planned when first used */
    for (int r = 0; r < rounds; r++) {
        TIMED(raw(b), &of_raw, r);
        TIMED(stream(b, 1), &of_one, r);
        TIMED(stream(b, b->images), &of_stream, r);
    }
    double n = (double)b->images;
    double raw_rate = n / median(of_raw.wall, rounds);
    double stream_rate = (n - 1) / (median(of_stream.wall, rounds) - median(of_one.wall, rounds));
    double raw_work = median(of_raw.processor, rounds) / n;
    double stream_work =
        (median(of_stream.processor, rounds) - median(of_one.processor, rounds)) / (n - 1);
    printf("%s: %lld images of %dx%d, %d rounds\n", b->path, (long long)b->images, t->size, t->size,
           rounds);
    printf("raw     %9.1f images/s  %8.3f ms of processor an image\n", raw_rate, 1e3 * raw_work);
    printf("stream  %9.1f images/s  %8.3f ms of processor an image, scores, classes and lines "
           "included\n",
           stream_rate, 1e3 * stream_work);
    printf("ratio   %9.1f %%         %8.1f %%\n", 100 * stream_rate / raw_rate,
           100 * raw_work / stream_work);
    return NPOS_OK;
}

int main(int argc, char **argv) {
    bench b = {.compute = npi_compute_defaults(), .images = argc > 2 ? atoll(argv[2]) : 2048};
    int rounds = argc > 3 ? atoi(argv[3]) : 5;
    if (argc < 2 || b.images < 2 || rounds < 1 || rounds > MOST_ROUNDS) {
        fprintf(stderr,
                "usage: scorestream RUN [IMAGES [ROUNDS]], at least 2 images, 1 to %d "
                "rounds\n",
                MOST_ROUNDS);
        return 2;
    }
    b.path = argv[1];
    npos_status status = measure(&b, rounds);
    if (status != NPOS_OK)
        fprintf(stderr, "scorestream: %s\n", npos_error_message());
    npi_run_close(b.run);
    npi_free(b.pixels);
    return status != NPOS_OK;
}
