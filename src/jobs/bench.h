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
    char shape[128];             /* a row's own: what is run, for people */
    int images;          /* likewise: of one run, for images a second; 0: milliseconds of one run */
    bool records;        /* likewise: the work may be recorded (jobs/recording.h) */
    double best, median; /* seconds of one run */
    int runs;
} npi_bench;

/* Runs `work` once to warm up and then again and again (3 to 50 times, about two seconds; a run of
 * many seconds only once, without warming up), waiting for the device after each, or after each eight
 * of a recording; sets best, median and runs. */
NPOS_MUST_CHECK npos_status npi_bench_time(npi_bench *bench, npos_status (*work)(void *context),
                                           void *context);

/* to[count] = standard normals, a function of `item` alone; host memory. */
void npi_bench_normals(float *to, size_t count, uint32_t item);

/* ResNet-18 with the 3x3 stem on images of 32x32 (64 on hosts, 512 elsewhere): forward and backward of a training step,
 * without the optimiser; images of one inference batch; the whole step of the cifar10 recipe, without and with R_open. */
NPOS_MUST_CHECK npos_status npi_bench_encoder(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_inference(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_step(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_step_open(npi_bench *bench);

/* The trainer's steps with R_open of two larger recipes; on hosts with a small batch. */
NPOS_MUST_CHECK npos_status npi_bench_step_cifar100(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_step_imagenet100(npi_bench *bench);

/* CLIP ViT-B/16 with random weights: embeddings of 256 images (4 on hosts); their tokens behind block 9; blocks 10 and 11
 * forward and backward for 800 images (8 on hosts), as fine-tuning runs them: of the last, row 0 alone. */
NPOS_MUST_CHECK npos_status npi_bench_clip_encoder(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_clip_features(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_clip_blocks(npi_bench *bench);
/* The trainer's step with R_open of recipe clip-imagenet100, on tokens in the device's memory; on hosts 16 images. */
NPOS_MUST_CHECK npos_status npi_bench_clip_step(npi_bench *bench);

/* The 300th neighbour of 1,000 queries (10,000 on other than host devices) among 50,000 rows of 512 numbers. */
NPOS_MUST_CHECK npos_status npi_bench_knn(npi_bench *bench);

/* The 1000th neighbour of 100 queries (10,000 on other than host devices) among ImageNet-1k's 1,281,167 rows of 512, or
 * 2048, numbers, or as many as half of the free memory holds. */
NPOS_MUST_CHECK npos_status npi_bench_knn_imagenet(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_knn_imagenet_2048(npi_bench *bench);

/* FPR95, AUROC and AUPR with their intervals of ImageNet's 50,000 test images and four OOD sets of 35,640 in all. */
NPOS_MUST_CHECK npos_status npi_bench_measure(npi_bench *bench);

/* The outliers of one step of the cifar10 recipe, its rings full. */
NPOS_MUST_CHECK npos_status npi_bench_synthesis(npi_bench *bench);

/* 512 augmented views of 32x32 images. */
NPOS_MUST_CHECK npos_status npi_bench_augment(npi_bench *bench);

/* 64 JPEG files decoded and brought to 224 x 224 by one thread of the host, whatever the device: of 500 x 375 by a random
 * crop; the same by resize and centre crop; of 1600 x 1200 so; the same with reducing_gap 2, which decodes at half the
 * size.  NPOS_UNSUPPORTED in a build without libjpeg. */
NPOS_MUST_CHECK npos_status npi_bench_decode(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_decode_centre(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_decode_large(npi_bench *bench);
NPOS_MUST_CHECK npos_status npi_bench_decode_scaled(npi_bench *bench);

enum { NPI_BENCH_IMAGES = 64, NPI_BENCH_VIEWS = 512 };

#endif
