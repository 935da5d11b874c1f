/* Speed of linear layers, neighbours, synthesis, augmentation and SGD on the cpu device.
 *
 *     oodbench [--json] [--threads N] [--isa generic|avx2|avx512|avx512bf16] [--runs N]
 *              [--cpu-time] [NAME...]
 *
 * NAME: linear knn synth augment sgd; all without.  Each line has the least and the median time.
 * --cpu-time counts the calling thread's processor time instead: with --threads 1, what a busy
 * machine cannot disturb. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/philox.h"
#include "devices/cpu_plain.h"

typedef struct options {
    bool json;
    int runs;
    int names;
    char **name;
    npi_device *dev;
    bool first, cpu_time;
} options;

static void *get(size_t count, size_t size) {
    void *p;
    if (npi_alloc(&p, count, size, "bench") != NPOS_OK) {
        fprintf(stderr, "oodbench: out of memory\n");
        exit(1);
    }
    return p;
}

static void must(npos_status status) {
    if (status != NPOS_OK) {
        fprintf(stderr, "oodbench: %s\n", npos_error_message());
        exit(1);
    }
}

static float *normals(size_t n, uint32_t item) {
    float *x = get(n, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        npi_u32x4 r = npi_philox(1, NPI_RANDOM_TEST, i, item, 0);
        float other;
        npi_normal_pair(r.v[0], r.v[1], &x[i], &other);
    }
    return x;
}

static bool wanted(const options *o, const char *name) {
    for (int i = 0; i < o->names; i++)
        if (strcmp(o->name[i], name) == 0)
            return true;
    return o->names == 0;
}

static int rising(const void *a, const void *b) {
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

typedef void (*body)(void *state, npi_device *dev);

static double now(const options *o) {
    struct timespec t;
    if (!o->cpu_time)
        return npi_seconds();
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void measure(options *o, const char *name, const char *shape, double work, const char *unit,
                    body run, void *state) {
    double seconds[100];
    int runs = o->runs < 100 ? o->runs : 100;
    run(state, o->dev);
    for (int i = 0; i < runs; i++) {
        double start = now(o);
        run(state, o->dev);
        seconds[i] = now(o) - start;
    }
    qsort(seconds, (size_t)runs, sizeof *seconds, rising);
    double least = seconds[0], median = seconds[runs / 2];
    if (o->json)
        printf("%s\n  {\"name\": \"%s\", \"value\": %.6g, \"unit\": \"ms\", \"median\": %.6g, "
               "\"device\": \"cpu\", \"precision\": \"fp32\", \"shape\": \"%s\"}",
               o->first ? "" : ",", name, least * 1e3, median * 1e3, shape);
    else
        printf("%-22s %-38s min %9.3f ms  median %9.3f ms  %8.1f %s\n", name, shape, least * 1e3,
               median * 1e3, work / least, unit);
    fflush(stdout);
    o->first = false;
}

/* ---- linear layers ---- */

typedef struct linear {
    int n, in, out;
    float *x, *w, *b, *y, *dy, *dw, *db, *dx;
} linear;

static void linear_forward(void *state, npi_device *dev) {
    linear *l = state;
    must(dev->rows->linear_forward(dev, l->n, l->in, l->out, l->x, l->w, l->b, true, l->y));
}

static void linear_backward(void *state, npi_device *dev) {
    linear *l = state;
    must(dev->rows->linear_backward(dev, l->n, l->in, l->out, l->x, l->w, l->y, true, l->dy, l->dw,
                                    l->db, l->dx, l->n, false));
}

static void bench_linear(options *o) {
    static const int shape[][3] = {{1000, 512, 1024}, {512, 512, 512}, {512, 512, 128}};
    for (int i = 0; i < 3; i++) {
        int n = shape[i][0], in = shape[i][1], out = shape[i][2];
        size_t N = (size_t)n, I = (size_t)in, O = (size_t)out;
        linear l = {n,
                    in,
                    out,
                    normals(N * I, 1),
                    normals(O * I, 2),
                    normals(O, 3),
                    get(N * O, 4),
                    normals(N * O, 4),
                    get(O * I, 4),
                    get(O, 4),
                    get(N * I, 4)};
        char text[64];
        snprintf(text, sizeof text, "%d x %d -> %d", n, in, out);
        double work = 2e-9 * n * in * out;
        measure(o, "linear forward", text, work, "GF/s", linear_forward, &l);
        measure(o, "linear backward", text, 2 * work, "GF/s", linear_backward, &l);
        float *all[] = {l.x, l.w, l.b, l.y, l.dy, l.dw, l.db, l.dx};
        for (int k = 0; k < 8; k++)
            npi_free(all[k]);
    }
}

/* ---- neighbours ---- */

typedef struct knn {
    int n, dim, k;
    int64_t m;
    float *queries, *bank, *distance;
    int64_t *index;
} knn;

static void knn_kth(void *state, npi_device *dev) {
    knn *q = state;
    must(dev->ood->kth_neighbour(dev, q->n, q->queries, q->m, q->bank, q->dim, q->k, q->distance));
}

static void knn_all(void *state, npi_device *dev) {
    knn *q = state;
    must(dev->ood->neighbours(dev, q->n, q->queries, q->m, q->bank, q->dim, q->k, q->index, NULL));
}

static void unit_rows(npi_device *dev, int n, int dim, float *x) {
    float *z = get((size_t)n * (size_t)dim, 4);
    must(dev->rows->normalize_forward(dev, n, dim, x, z, NULL));
    memcpy(x, z, (size_t)n * (size_t)dim * sizeof *x);
    npi_free(z);
}

static void bench_knn(options *o) {
    knn q = {1000,
             512,
             300,
             50000,
             normals(1000 * 512, 1),
             normals((size_t)50000 * 512, 2),
             get(1000, 4),
             get(1000 * 50, 8)};
    unit_rows(o->dev, q.n, q.dim, q.queries);
    unit_rows(o->dev, 50000, q.dim, q.bank);
    double work = 2e-9 * q.n * 50000.0 * q.dim;
    measure(o, "kth_neighbour", "1000 x 50000 x 512, k 300", work, "GF/s", knn_kth, &q);
    q.k = 50;
    measure(o, "neighbours", "1000 x 50000 x 512, k 50", work, "GF/s", knn_all, &q);
    npi_free(q.queries);
    npi_free(q.bank);
    npi_free(q.distance);
    npi_free(q.index);
}

/* ---- synthesis ---- */

typedef struct synthesis {
    npi_synth *plan;
    npi_synth_desc desc;
    npi_ring ring;
    npi_step step;
    float *outliers, *h;
    int32_t *labels;
    int pushed, pool;
} synthesis;

static void synth_steady(void *state, npi_device *dev) {
    synthesis *s = state;
    s->step.number++;
    int first = (int)(s->step.number * 512 % (uint64_t)(s->pool - 512));
    must(dev->ood->ring_push(dev, &s->ring, s->pushed, s->h + (size_t)first * 512, s->labels));
    must(dev->ood->synthesise(s->plan, &s->ring, &s->step, NULL, s->outliers, NULL));
}

static void synth_cold(void *state, npi_device *dev) {
    synthesis *s = state;
    dev->ood->synth_free(dev, s->plan);
    must(dev->ood->synth_create(dev, &s->desc, &s->plan));
    synth_steady(state, dev);
}

static void gauss_step(void *state, npi_device *dev) {
    synthesis *s = state;
    s->step.number++;
    must(dev->ood->gauss_synthesise(s->plan, &s->ring, &s->step, s->outliers));
}

static void bench_synth(options *o) {
    synthesis s = {.desc = {.classes = 10,
                            .ring = 1000,
                            .dim = 512,
                            .k = 300,
                            .select = 200,
                            .pick = 2,
                            .noise = 600,
                            .keep = 200,
                            .sigma = 0.1f,
                            .seed = 1},
                   .pushed = 512,
                   .pool = 20000};
    s.ring = (npi_ring){10, 1000, 512, normals((size_t)10 * 1000 * 512, 1), get(10, 8)};
    s.outliers = get((size_t)10 * 2 * 200 * 512, 4);
    s.h = normals((size_t)s.pool * 512, 2);
    s.labels = get(512, 4);
    for (int i = 0; i < 512; i++)
        s.labels[i] = i % 10;
    must(o->dev->ood->synth_create(o->dev, &s.desc, &s.plan));
    const char *shape = "10 x 1000 x 512, k 300, noise 600";
    measure(o, "synthesise", shape, 1.0, "steps/s", synth_steady, &s);
    measure(o, "synthesise, new plan", shape, 1.0, "steps/s", synth_cold, &s);
    o->dev->ood->synth_free(o->dev, s.plan);
    npi_gauss_desc gauss = {
        .classes = 10, .ring = 1000, .dim = 512, .draws = 10000, .keep = 1, .seed = 1};
    must(o->dev->ood->gauss_create(o->dev, &gauss, &s.plan));
    measure(o, "synthesise, vos", "10 x 1000 x 512, 10000 draws", 1.0, "steps/s", gauss_step, &s);
    o->dev->ood->synth_free(o->dev, s.plan);
    npi_free(s.ring.rows);
    npi_free(s.ring.count);
    npi_free(s.outliers);
    npi_free(s.h);
    npi_free(s.labels);
}

/* ---- augmentation ---- */

typedef struct views {
    npi_augment_desc desc;
    uint8_t *images;
    int32_t *index;
    npi_step step;
    npi_act to;
} views;

static void augment(void *state, npi_device *dev) {
    views *v = state;
    v->step.number++;
    must(dev->augment->augment(dev, &v->desc, v->images, v->index, &v->step, NULL, v->to));
}

static void bench_augment(options *o) {
    for (int colour = 1; colour >= 0; colour--) {
        int side = colour ? 32 : 28, channels = colour ? 3 : 1, batch = 256;
        views v = {.desc = {.batch = batch,
                            .views = 2,
                            .src_h = side,
                            .src_w = side,
                            .channels = channels,
                            .out_h = side,
                            .out_w = side,
                            .crop = NPI_CROP_RESIZED,
                            .scale_lo = 0.2f,
                            .scale_hi = 1.0f,
                            .ratio_lo = 0.75f,
                            .ratio_hi = 4.0f / 3.0f,
                            .flip_p = 0.5f,
                            .jitter_p = 0.8f,
                            .brightness = 0.4f,
                            .contrast = 0.4f,
                            .saturation = 0.4f,
                            .hue = 0.1f,
                            .grey_p = 0.2f,
                            .mean = {0.5f, 0.5f, 0.5f},
                            .std = {0.25f, 0.25f, 0.25f}}};
        size_t pixels = (size_t)(side * side * channels);
        v.images = get((size_t)batch * pixels, 1);
        for (size_t i = 0; i < (size_t)batch * pixels; i++)
            v.images[i] = (uint8_t)npi_philox(1, NPI_RANDOM_TEST, i, 9, 0).v[0];
        v.index = get((size_t)batch, 4);
        for (int i = 0; i < batch; i++)
            v.index[i] = i;
        v.to = (npi_act){2 * batch, channels, side, side, get((size_t)(2 * batch) * pixels, 4)};
        char shape[64];
        snprintf(shape, sizeof shape, "%d views of %d x %d x %d", 2 * batch, side, side, channels);
        measure(o, "augment", shape, 2.0 * batch, "views/s", augment, &v);
        npi_free(v.images);
        npi_free(v.index);
        npi_free(v.to.data);
    }
}

/* ---- optimiser ---- */

typedef struct optimiser {
    size_t count;
    float *w, *g, *v, losses[NPI_LOSS_COUNT];
} optimiser;

static void sgd(void *state, npi_device *dev) {
    optimiser *s = state;
    npi_sgd_desc desc = {0.9f, 1e-4f, true, 1.0f};
    npi_step step = {0, 0.1f, 0.1f};
    must(dev->optim->norm(dev, s->count, s->g, s->losses));
    must(dev->optim->sgd(dev, &desc, s->count, s->w, s->g, s->v, &step, false, s->losses));
}

static void bench_sgd(options *o) {
    optimiser s = {.count = 11173962};
    s.w = get(s.count, 4);
    s.g = get(s.count, 4);
    s.v = get(s.count, 4);
    measure(o, "norm and sgd", "11,173,962 (ResNet-18)", 24e-9 * (double)s.count, "GB/s", sgd, &s);
    npi_free(s.w);
    npi_free(s.g);
    npi_free(s.v);
}

int main(int argc, char **argv) {
    static const char *isas[] = {"generic", "avx2", "avx512", "avx512bf16"};
    options o = {.runs = 7, .first = true};
    int threads = 2;
    npi_isa isa = NPI_ISA_AMX;
    while (!isa_present(isa))
        isa--;
    char *names[16];
    o.name = names;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            o.json = true;
        else if (strcmp(argv[i], "--cpu-time") == 0)
            o.cpu_time = true;
        else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc)
            threads = atoi(argv[++i]);
        else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            o.runs = atoi(argv[++i]);
        else if (strcmp(argv[i], "--isa") == 0 && i + 1 < argc) {
            i++;
            for (int k = 0; k < 4; k++)
                if (strcmp(argv[i], isas[k]) == 0)
                    isa = (npi_isa)k;
        } else if (o.names < 16)
            o.name[o.names++] = argv[i];
    }
    if (!isa_present(isa)) {
        fprintf(stderr, "oodbench: this processor lacks %s\n", isas[isa]);
        return 1;
    }
    if (threads < 1 || o.runs < 1) {
        fprintf(stderr, "oodbench: --threads and --runs take a number from 1\n");
        return 2;
    }
    plain_cpu cpu;
    o.dev = plain_cpu_open(&cpu, isa, threads);
    printf(o.json ? "{\"schema\": 1, \"isa\": \"%s\", \"threads\": %d, \"results\": ["
                  : "instruction set %s, %d threads\n",
           isas[isa], threads);
    if (wanted(&o, "linear"))
        bench_linear(&o);
    if (wanted(&o, "knn"))
        bench_knn(&o);
    if (wanted(&o, "synth"))
        bench_synth(&o);
    if (wanted(&o, "augment"))
        bench_augment(&o);
    if (wanted(&o, "sgd"))
        bench_sgd(&o);
    if (o.json)
        printf("]}\n");
    plain_cpu_close(&cpu);
    return 0;
}
