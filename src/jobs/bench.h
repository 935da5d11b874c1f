/* jobs/bench.h - the benchmarks behind npos_bench.
 *
 * Each prepares its data, then calls npi_bench_time with the work of one run. */
#ifndef NPI_JOBS_BENCH_H
#define NPI_JOBS_BENCH_H

#include "npos/npos.h"
#include "tensor/device.h"

typedef struct npi_bench {
    npi_device *dev;
    const npos_compute *compute; /* for messages under -v */
    int repeat;                  /* calls of `work` enqueued between two looks at the clock */
    bool recorded;               /* replay one recorded call, where the device can record */
    int images;                  /* of one call: the result is images a second; 0: milliseconds */
    double best, median;         /* seconds of one call */
    int runs;
    char shape[128]; /* what was run, for people */
} npi_bench;

/* Runs `work` to warm up and then again and again (3 to 50 times, about two seconds; a run of many
 * seconds only once, without warming up), each time `repeat` calls and waiting for the device; sets
 * best, median and runs. */
NPOS_MUST_CHECK npos_status npi_bench_time(npi_bench *bench, npos_status (*work)(void *context),
                                           void *context);

/* to[count] = standard normals, a function of `item` alone; host memory. */
void npi_bench_normals(float *to, size_t count, uint32_t item);

/* A whole training step of the cifar10 recipe, before start_epoch and after; of two larger recipes,
 * after; on hosts with a small batch. */
NPOS_MUST_CHECK npos_status npi_bench_step(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_step_open(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_step_cifar100(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_step_imagenet100(npi_bench *bench);

/* ResNet-18 with the 3x3 stem on 64 images of 32x32: forward and backward of a training step,
 * without the optimiser; images of one inference batch (1,000 on GPUs). */
NPOS_MUST_CHECK npos_status npi_bench_encoder(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_inference(npi_bench *bench);

/* The 300th neighbour of 1,000 queries (10,000 on GPUs) among 50,000 rows of 512 numbers. */
NPOS_MUST_CHECK npos_status npi_bench_knn(npi_bench *bench);

/* The outliers of one step of the cifar10 recipe, its rings full. */
NPOS_MUST_CHECK npos_status npi_bench_synthesis(npi_bench *bench);

/* 512 augmented views of 32x32 images. */
NPOS_MUST_CHECK npos_status npi_bench_augment(npi_bench *bench);

/* 64 JPEG files decoded and cropped to 224 x 224 by one thread of the host, whatever the device.
 * NPOS_UNSUPPORTED in a build without libjpeg. */
NPOS_MUST_CHECK npos_status npi_bench_decode(npi_bench *bench);

enum { NPI_BENCH_IMAGES = 64, NPI_BENCH_VIEWS = 512 };

#endif
