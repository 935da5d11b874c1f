/* base/philox.h - counter-based random numbers (Philox-4x32-10; Salmon et al., SC 2011).
 *
 * A draw depends only on (seed, purpose, step, item, index), never on who draws it or in what
 * order: the same augmentations, permutations and noise on any device, with any number of threads,
 * after a resume. Pure inline functions: host and device code (CUDA) share them. */
#ifndef NPI_BASE_PHILOX_H
#define NPI_BASE_PHILOX_H

#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define NPI_HD static inline __host__ __device__
#else
#define NPI_HD static inline
#endif

/* What a stream of numbers is for; part of the key, so that no two uses share numbers.
 * The values are part of the reproducibility promise: append, never renumber. */
typedef enum npi_purpose {
    NPI_RANDOM_INIT = 1,        /* initial weights: item = parameter number */
    NPI_RANDOM_PERMUTATION = 2, /* order of the training images: step = epoch */
    NPI_RANDOM_AUGMENT = 3,     /* step = global step, item = sample of the step (views x batch) */
    NPI_RANDOM_BOUNDARY = 4,    /* pick of boundary rows: step = global step, item = class */
    NPI_RANDOM_NOISE = 5,       /* synthesis noise: step = global step, item = noise row */
    NPI_RANDOM_GAUSS = 6,       /* vos draws: step = global step, item = class * draws + draw */
    NPI_RANDOM_SUBSET = 7,      /* seeded subsets of OOD sets */
    NPI_RANDOM_BOOTSTRAP = 8,   /* intervals */
    NPI_RANDOM_TEST = 9,
    NPI_RANDOM_MAP = 10,       /* initial positions of the report's 2-D map */
    NPI_RANDOM_PROTOTYPES = 11 /* directions that prototypes start from: item = class */
} npi_purpose;

typedef struct npi_u32x4 {
    uint32_t v[4];
} npi_u32x4;

/* The four 32-bit words number `index` of stream (seed, purpose, step, item). */
NPI_HD npi_u32x4 npi_philox(uint64_t seed, uint32_t purpose, uint64_t step, uint32_t item,
                            uint32_t index) {
    /* counter: index, item, step (64 bits); key: seed with the purpose mixed into its upper word */
    uint32_t c0 = index, c1 = item, c2 = (uint32_t)step, c3 = (uint32_t)(step >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32) ^ (purpose * 0x9E3779B1u);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c0 = n0;
        c1 = (uint32_t)p1;
        c2 = n2;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    npi_u32x4 out = {{c0, c1, c2, c3}};
    return out;
}

/* 32 random bits to a float in [0, 1): 24 bits, every value a multiple of 2^-24. */
NPI_HD float npi_unit_float(uint32_t bits) {
    return (float)(bits >> 8) * 0x1p-24f;
}

/* Two words to two independent standard normals (Box-Muller; the first word is mapped to (0, 1]).
 */
NPI_HD void npi_normal_pair(uint32_t a, uint32_t b, float *x, float *y) {
    float radius = sqrtf(-2.0f * logf(((float)(a >> 8) + 1.0f) * 0x1p-24f));
    float angle = 6.28318530717958647692f * npi_unit_float(b);
    *x = radius * cosf(angle);
    *y = radius * sinf(angle);
}

/* 32 random bits to an integer in [0, n), n >= 1; bias below n / 2^32 (multiply-shift, Lemire
 * 2019). */
NPI_HD uint32_t npi_below(uint32_t bits, uint32_t n) {
    return (uint32_t)(((uint64_t)bits * n) >> 32);
}

/* order[0..n) = a permutation of 0..n-1 (Fisher-Yates), a function of (seed, purpose, step) alone.
 */
void npi_permutation(uint64_t seed, npi_purpose purpose, uint64_t step, int32_t *order, int32_t n);

#endif
