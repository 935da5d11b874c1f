/* bench/decoding - what decoding JPEG files smaller gains, and how far its pixels are from those of whole images.
 *
 *     decoding SPEC [--size N] [--gap G]... [--rounds N] [--limit N]
 *
 * Brings each image of SPEC to N x N (default 224, bicubic, centre crop) whole and with each reducing gap (default
 * 1, 1.5, 2 and 3), one thread, in turn: round after round, the least processor time of each counts.  A line says
 * for how many images a gap made a difference at all and, over those alone, the mean and the largest difference of
 * the final pixels and the PSNR of the mean square; reading the files, which the system caches, is part of the
 * time. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __GLIBC__ /* which the headers above define */
#include <malloc.h>
#endif

#include "data/dataset.h"

enum { MOST_WAYS = 8 };

typedef struct way {
    npi_transform transform;
    npi_images images;
    double best;                            /* seconds of a round */
    double sum, squares, worst, worst_mean; /* of differences; of one image's mean */
    int64_t smaller;                        /* images that were decoded smaller */
} way;

static way ways[MOST_WAYS];
static int way_count;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void check(npos_status status) {
    if (status != NPOS_OK) {
        fprintf(stderr, "decoding: %s\n", npos_error_message());
        exit(1);
    }
}

static void add_way(int size, double gap) {
    if (way_count == MOST_WAYS) {
        fprintf(stderr, "decoding: at most %d gaps\n", MOST_WAYS - 1);
        exit(2);
    }
    ways[way_count++].transform = (npi_transform){size, 3, NPI_BICUBIC, gap};
}

static bool make(const way *w, int64_t i, npi_image *out) {
    npi_image stored;
    check(npi_images_decode(&w->images, i, &stored));
    check(npi_transform_apply(&w->transform, &stored, out));
    bool smaller = stored.shrink > 0;
    npi_image_clear(&stored);
    return smaller;
}

static void time_round(way *w) {
    double began = seconds();
    for (int64_t i = 0; i < w->images.count; i++) {
        npi_image out;
        make(w, i, &out);
        npi_image_clear(&out);
    }
    double took = seconds() - began;
    if (w->best == 0 || took < w->best)
        w->best = took;
}

static void compare(way *w, int64_t i) {
    npi_image whole, small;
    make(&ways[0], i, &whole);
    if (make(w, i, &small)) {
        int count = whole.height * whole.width * whole.channels;
        double sum = 0;
        for (int k = 0; k < count; k++) {
            double d = abs(whole.pixels[k] - small.pixels[k]);
            sum += d;
            w->squares += d * d / count;
            w->worst = fmax(w->worst, d);
        }
        w->sum += sum / count;
        w->worst_mean = fmax(w->worst_mean, sum / count);
        w->smaller++;
    }
    npi_image_clear(&whole);
    npi_image_clear(&small);
}

static void print(const way *w) {
    double n = (double)w->smaller;
    printf("gap %-4g %7.0f images/s", w->transform.reducing_gap, (double)w->images.count / w->best);
    if (w->transform.reducing_gap > 0)
        printf("  %lld of %lld smaller", (long long)w->smaller, (long long)w->images.count);
    if (w->smaller > 0)
        printf("  mean %.3f (worst image %.3f)  largest %.0f  PSNR %.2f dB", w->sum / n,
               w->worst_mean, w->worst, 10 * log10(255.0 * 255.0 * n / w->squares));
    printf("\n");
}

int main(int argc, char **argv) {
#ifdef __GLIBC__
    (void)mallopt(M_MMAP_THRESHOLD, 16 << 20); /* as npos does */
    (void)mallopt(M_TRIM_THRESHOLD, 16 << 20);
#endif
    int size = 224, rounds = 3, limit = 0, gaps = 0;
    double gap[MOST_WAYS] = {1, 1.5, 2, 3};
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--size") == 0)
            size = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--limit") == 0)
            limit = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--gap") == 0 && gaps < MOST_WAYS - 1)
            gap[gaps++] = atof(argv[i + 1]);
    }
    if (argc < 2 || argc % 2 || size < 1 || rounds < 1) {
        fprintf(stderr, "usage: decoding SPEC [--size N] [--gap G]... [--rounds N] [--limit N]\n");
        return 2;
    }
    add_way(size, 0);
    for (int i = 0; i < (gaps ? gaps : 4); i++)
        add_way(size, gap[i]);
    for (int i = 0; i < way_count; i++)
        check(npi_images_open(argv[1], &ways[i].transform, limit, 0, &ways[i].images));
    for (int r = 0; r < rounds; r++)
        for (int i = 0; i < way_count; i++)
            time_round(&ways[i]);
    for (int i = 0; i < way_count; i++) {
        for (int64_t k = 0; i > 0 && k < ways[i].images.count; k++)
            compare(&ways[i], k);
        print(&ways[i]);
    }
    for (int i = 0; i < way_count; i++)
        npi_images_clear(&ways[i].images);
    return 0;
}
