/* NPOS synthesis.  Every candidate of a boundary row h_b is v = h_b + sigma eps, so
 *
 *     v . hn_i = |h_b| (hn_b . hn_i) + sigma (eps . hn_i)         hn: a normalised row of the ring
 *
 * and the distances of all picked rows' candidates need one product, eps by the ring, beside the
 * ring's own products hn_b . hn_i, which the boundary needs anyway.  Classes are taken in chunks,
 * so that the products of a chunk only are held: the cost grows as classes x (ring + noise), the
 * memory does not.
 *
 * Precision of the products.  A device that computes in float32 multiplies in float32.  One that
 * computes in bf16 splits each factor into two halves, x = x1 + x2 with x1 = half(x) and
 * x2 = half(x - x1), and adds x2 y1 + x1 y1 + x1 y2 on its tensor cores: one product of three times
 * the depth.  |x - x1 - x2| <= 2^-22 |x| and |x2 y2| <= 2^-22 |x y|; with the truncated sums of
 * tensor cores, distances are off by some 3e-6 that all have in common, and by some 5e-7 that
 * differ: rows closer together than that may change places.  (One half alone: 1e-4.)  A row lies in
 * memory as (x2, x1, x1, x2): its first three parts are the one factor and its last three the other.
 *
 * Distances are compared as cosines: d = 2 - 2 x, x the k-th largest, so the smallest x is the
 * farthest.  A zero row of the ring has distance 1 from every unit vector and 0 from another zero
 * row, in the terms of x: 1/2 and 1; with `authors` it is infinitely far from everything.
 *
 * Where few of many candidates are kept, a sample of each picked row's candidates sets a bar: the keep-th
 * smallest x of the sample.  One count tells whether another candidate's x is below it; those alone are
 * searched for their x. */
#include <cstdlib>
#include <cstring>
#include <cuda_fp16.h>

#include "devices/cuda/cuda_ood.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, CHUNK_BYTES = 512 << 20 };

/* Unit rows are multiplied by this before they are split, so that small parts are not subnormal. */
#define UNIT_SCALE 256.0f

/* What the kernels see; sizes of a chunk, not of all classes. */
typedef struct room {
    npi_synth_desc d;
    bool split;       /* factors in halves, else in float32 */
    int depth;        /* dim, padded with zeros for products of halves */
    int columns;      /* ring, padded */
    int wide;         /* chunk * ring, padded */
    int sample;       /* candidates of a picked row that set its bar; all: there is none */
    void *rows;       /* [chunk][ring] normalised rows, as factors: 4 depth halves or dim floats */
    float *length;    /* [chunk][ring] |row|, 0 for a zero row */
    float *gram;      /* [chunk][ring][columns] */
    float *along;     /* [noise][wide]: eps . hn */
    float *cosine;    /* [chunk][ring]: k-th largest, for the boundary */
    int32_t *picked;  /* [chunk][pick] */
    float *candidate; /* [chunk][pick][noise]: k-th largest cosine, INFINITY above the bar */
    float *bar;       /* [chunk][pick] */
    float2 *
        share; /* [chunk][pick][noise]: of the ring's products with the row and with the noise in a cosine */
    float *noise;        /* [noise][dim] */
    float *noise_square; /* [noise] |eps|^2 */
    void *noise_rows;    /* [noise] as factors: 3 depth halves; float32 is multiplied as it is */
} room;

typedef struct synth {
    npi_synth head;
    room r;
    int chunk; /* classes at a time */
} synth;

/* ---- factors ---- */

/* x = first + second, in halves. */
static __device__ __forceinline__ void split(float4 x, uint2 *first, uint2 *second) {
    float value[4] = {x.x, x.y, x.z, x.w};
    __half one[4], two[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        one[i] = __float2half_rn(value[i]);
        two[i] = __float2half_rn(value[i] - __half2float(one[i]));
    }
    memcpy(first, one, sizeof one);
    memcpy(second, two, sizeof two);
}

static __device__ __forceinline__ void store_four(float *row, int j, int dim, float4 x) {
    float value[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (j + i < dim)
            row[j + i] = value[i];
}

static __device__ __forceinline__ double square_of(float4 x) {
    return (double)x.x * (double)x.x + (double)x.y * (double)x.y + (double)x.z * (double)x.z +
           (double)x.w * (double)x.w;
}

/* A warp to each row of the chunk. */
static __global__ void __launch_bounds__(THREADS)
    take_rows(room r, int count, const float *ring_rows) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32, dim = r.d.dim;
    if (row >= count) /* whole warps */
        return;
    bool fours = npi_in_fours(ring_rows, dim);
    const float *from = ring_rows + row * dim;
    double square = 0.0;
#pragma unroll 4
    for (int j = 4 * lane; j < dim; j += 128)
        square += square_of(npi_load_four(fours, from, j, dim));
    float length = (float)sqrt(npi_warp_sum_double(square));
    if (!(length >= 1e-12f)) /* as good as a zero row: what normalisation leaves has no length */
        length = 0.0f;
    float scale = length > 0.0f ? (r.split ? UNIT_SCALE : 1.0f) / length : 0.0f;
    if (lane == 0)
        r.length[row] = length;
    __half *halves = (__half *)r.rows + row * 4 * r.depth;
#pragma unroll 2
    for (int j = 4 * lane; j < r.depth; j += 128) {
        float4 x = npi_load_four(fours, from, j, dim);
        x = make_float4(x.x * scale, x.y * scale, x.z * scale, x.w * scale);
        if (!r.split) {
            store_four((float *)r.rows + row * dim, j, dim, x);
            continue;
        }
        uint2 first, second;
        split(x, &first, &second);
        *(uint2 *)(halves + j) = *(uint2 *)(halves + 3 * r.depth + j) = second;
        *(uint2 *)(halves + r.depth + j) = *(uint2 *)(halves + 2 * r.depth + j) = first;
    }
}

/* A warp to each row of noise. */
static __global__ void __launch_bounds__(THREADS)
    take_noise(room r, const npi_step *step, const float *given) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32, dim = r.d.dim;
    if (row >= r.d.noise) /* whole warps */
        return;
    uint64_t number = step->number;
    double square = 0.0;
    __half *halves = (__half *)r.noise_rows + row * 3 * r.depth;
    for (int j = 4 * lane; j < dim; j += 128) {
        float4 x = given ? npi_load_four(false, given + row * dim, j, dim)
                         : npi_four_normals(r.d.seed, NPI_RANDOM_NOISE, number, (uint32_t)row,
                                            (uint32_t)j / 4);
        x.y = j + 1 < dim ? x.y : 0.0f;
        x.z = j + 2 < dim ? x.z : 0.0f;
        x.w = j + 3 < dim ? x.w : 0.0f;
        square += square_of(x);
        store_four(r.noise + row * dim, j, dim, x);
        if (r.split) {
            uint2 first, second;
            split(x, &first, &second);
            *(uint2 *)(halves + j) = second;
            *(uint2 *)(halves + r.depth + j) = *(uint2 *)(halves + 2 * r.depth + j) = first;
        }
    }
    square = npi_warp_sum_double(square);
    if (lane == 0)
        r.noise_square[row] = (float)square;
}

static npos_status multiply(synth *s, int classes) {
    const room *r = &s->r;
    int ring = r->d.ring, ld = r->split ? 4 * r->depth : r->d.dim;
    float scale = r->split ? 1.0f / UNIT_SCALE : 1.0f;
    npi_row_product gram = {.type = r->split ? CUDA_R_16F : CUDA_R_32F,
                            .x_rows = ring,
                            .y_rows = ring,
                            .depth = r->split ? 3 * r->depth : r->d.dim,
                            .x = r->rows,
                            .y = r->split ? (void *)((__half *)r->rows + r->depth) : r->rows,
                            .c = r->gram,
                            .ldx = ld,
                            .ldy = ld,
                            .ldc = r->columns,
                            .scale = scale * scale,
                            .batch = classes,
                            .x_stride = (int64_t)ring * ld,
                            .y_stride = (int64_t)ring * ld,
                            .c_stride = (int64_t)ring * r->columns};
    npi_row_product along = gram;
    along.x_rows = r->d.noise;
    along.y_rows = classes * ring;
    along.x = r->split ? r->noise_rows : r->noise;
    along.ldx = r->split ? 3 * r->depth : r->d.dim;
    along.c = r->along;
    along.ldc = r->wide;
    along.scale = scale;
    along.batch = 1;
    NPI_TRY(npi_cuda_row_product(s->head.dev, "synthesis", &gram));
    return npi_cuda_row_product(s->head.dev, "synthesis", &along);
}

/* ---- boundary ---- */

/* The cosine that counts between a query and a row of the ring: see the head of this file.  What is
 * not a number is infinitely far. */
static __device__ __forceinline__ float mended(const room &r, bool zero_query, float row_length,
                                               float cosine) {
    const bool zero_row = !(row_length > 0.0f);
    const float with_zero = r.d.authors ? -INFINITY : zero_query && zero_row ? 1.0f : 0.5f;
    return zero_query || zero_row ? with_zero : fmaxf(cosine, -INFINITY);
}

/* Of the kernels that hold values: enough warps a multiprocessor to hide what each waits for. */
static constexpr int blocks_of(int held) {
    return held > 32 ? 1 : 3;
}

/* Whether a row of the `count` lengths is a zero row; by all threads of the block. */
static __device__ bool any_zero_row(const float *length, int count) {
    bool zero = false;
    for (int i = (int)threadIdx.x; i < count; i += THREADS)
        zero |= !(length[i] > 0.0f);
    return __syncthreads_or(zero);
}

/* A block to WARPS rows of a class (y of it), a warp to each.  Zero rows are as good as never there: they get the
 * slower way. */
template <int HELD>
static __global__ void __launch_bounds__(THREADS, blocks_of(HELD)) boundary_cosines(room r) {
    int own = (int)(blockIdx.x * WARPS + threadIdx.x / 32), lane = (int)threadIdx.x % 32;
    int ring = r.d.ring;
    const float *length = r.length + (int64_t)blockIdx.y * ring;
    const bool zeros = any_zero_row(length, ring);
    if (own >= ring) /* whole warps */
        return;
    const int64_t row = (int64_t)blockIdx.y * ring + own;
    const float *gram = r.gram + row * r.columns;
    auto read = [&](int i) { return gram[i]; };
    float kth;
    if (HELD == 0 || zeros) {
        const bool zero = !(length[own] > 0.0f);
        kth = npi_warp_kth<0>(ring, r.d.k, lane, read, [&](float cosine, int i) {
            if (i == own && !(zero && r.d.authors)) /* itself, first */
                return 1.0f;
            return fminf(mended(r, zero, length[i], cosine), 1.0f);
        });
    } else {
        kth = npi_warp_kth<HELD>(ring, r.d.k, lane, read, [&](float cosine, int i) {
            return i == own ? 1.0f : fminf(fmaxf(cosine, -INFINITY), 1.0f);
        });
    }
    if (lane == 0)
        r.cosine[row] = kth;
}

/* The rank that the j-th pick of a class takes.  Each swap is undone in turn, the newest first: what
 * stands at j's partner now stood at i before swap i, if that was i's partner too. */
static __device__ int rank_of_pick(const npi_synth_desc &d, uint64_t step, int label, int j) {
    int at = 0;
    for (int i = j; i >= 0; i--) {
        npi_u32x4 random =
            npi_philox(d.seed, NPI_RANDOM_BOUNDARY, step, (uint32_t)label, (uint32_t)i);
        int with = i + (int)npi_below(random.v[0], (uint32_t)(d.select - i));
        if (i == j)
            at = with;
        else if (at == with)
            at = i;
    }
    return at;
}

/* A warp to each row of the chunk: is its rank one that was picked? */
static __global__ void __launch_bounds__(THREADS)
    pick_rows(room r, int count, int first_class, const npi_step *step, const int32_t *given,
              int32_t *boundary) {
    int64_t row = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32, ring = r.d.ring, pick = r.d.pick;
    if (row >= count) /* whole warps */
        return;
    int label = (int)(row / ring), own = (int)(row % ring);
    const float *cosine = r.cosine + (int64_t)label * ring;
    int rank = npi_warp_rank(ring, cosine[own], own, lane, [&](int i) { return cosine[i]; });
    if (rank >= r.d.select)
        return;
    uint64_t number = step->number;
    for (int j = lane; j < pick; j += 32) {
        int64_t slot = (int64_t)(first_class + label) * pick + j;
        int wanted = given ? min(max(given[slot], 0), r.d.select - 1)
                           : rank_of_pick(r.d, number, first_class + label, j);
        if (wanted != rank)
            continue;
        r.picked[label * pick + j] = own;
        if (boundary)
            boundary[slot] = own;
    }
}

/* ---- candidates ---- */

/* |h_b + sigma eps| from products that are there: |h_b|^2 + 2 sigma h_b.eps + sigma^2 |eps|^2. */
static __device__ float candidate_length(double sigma, double length, double along, double square) {
    double sum = length * length + 2.0 * sigma * length * along + sigma * sigma * square;
    return fmaxf((float)sqrt(fmax(sum, 0.0)), 1e-12f);
}

/* A thread to each candidate. */
static __global__ void __launch_bounds__(THREADS) share_out(room r, int64_t candidates) {
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= candidates)
        return;
    int slot = (int)(at / r.d.noise), l = (int)(at % r.d.noise);
    int64_t row = (int64_t)(slot / r.d.pick) * r.d.ring + r.picked[slot];
    float length = r.length[row];
    float norm =
        candidate_length(r.d.sigma, length, r.along[l * (int64_t)r.wide + row], r.noise_square[l]);
    r.share[at] = make_float2(length / norm, r.d.sigma / norm);
}

/* A block to WARPS candidates of one picked row (x), a warp to each, of numbers first..end-1. */
template <int HELD, bool BARRED>
static __global__ void __launch_bounds__(THREADS, blocks_of(HELD))
    candidate_cosines(room r, int first, int end) {
    __shared__ float
        near[HELD > 0 ? 32 * HELD : 1]; /* the class's rows' cosines to the picked row */
    int slot = (int)blockIdx.x, l = first + (int)(blockIdx.y * WARPS + threadIdx.x / 32);
    int lane = (int)threadIdx.x % 32, ring = r.d.ring;
    int64_t start = (int64_t)(slot / r.d.pick) * ring;
    int own = r.picked[slot];
    const float *gram = r.gram + (start + own) * r.columns, *length = r.length + start;
    for (int i = (int)threadIdx.x; HELD > 0 && i < ring; i += THREADS)
        near[i] = gram[i];
    const bool zeros = any_zero_row(length, ring); /* and near is there */
    if (l >= end)                                  /* whole warps */
        return;
    const float *along = r.along + (int64_t)l * r.wide + start;
    const float2 share = r.share[(int64_t)slot * r.d.noise + l];
    float bar = BARRED ? r.bar[slot] : INFINITY, kth;
    auto read = [&](int i) { return along[i]; };
    if (HELD == 0 || zeros)
        kth = npi_warp_kth<0>(
            ring, r.d.k, lane, read,
            [&](float noise, int i) {
                return mended(r, false, length[i], fmaf(gram[i], share.x, noise * share.y));
            },
            bar);
    else
        kth = npi_warp_kth<HELD>(
            ring, r.d.k, lane, read,
            [&](float noise, int i) {
                return fmaxf(fmaf(near[i], share.x, noise * share.y), -INFINITY);
            },
            bar);
    if (lane == 0)
        r.candidate[(int64_t)slot * r.d.noise + l] = kth;
}

/* A warp to each picked row.  Equal to the bar is not below it: the sample's numbers are lower, and of equally
 * far candidates those are kept first. */
static __global__ void __launch_bounds__(THREADS) set_bars(room r, int slots) {
    int slot = (int)(blockIdx.x * WARPS + threadIdx.x / 32), lane = (int)threadIdx.x % 32;
    if (slot >= slots) /* whole warps */
        return;
    const float *cosine = r.candidate + (int64_t)slot * r.d.noise;
    float bar =
        npi_warp_kth_of(r.sample, r.sample - r.d.keep + 1, lane, [&](int i) { return cosine[i]; });
    if (lane == 0)
        r.bar[slot] = bar;
}

/* A warp to each candidate, as candidate_cosines: the `keep` farthest of a picked row are written at
 * their rank.  The authors' code reads the distances, laid out (pick, noise), as if they were
 * (noise, pick). */
static __global__ void __launch_bounds__(THREADS)
    keep_farthest(room r, const float *ring_rows, float *outliers) {
    int slot = (int)blockIdx.x, l = (int)(blockIdx.y * WARPS + threadIdx.x / 32);
    int lane = (int)threadIdx.x % 32, dim = r.d.dim, noise = r.d.noise, pick = r.d.pick;
    if (l >= noise) /* whole warps */
        return;
    int label = slot / pick, b = slot % pick;
    const float *cosine = r.candidate + (int64_t)label * pick * noise;
    int64_t start = r.d.authors ? b : (int64_t)b * noise, stride = r.d.authors ? pick : 1;
    float mine = cosine[start + l * stride];
    if (mine == INFINITY) /* above the bar */
        return;
    int rank =
        npi_warp_rank(noise, mine, l, lane, [&](int i) { return cosine[start + i * stride]; });
    if (rank >= r.d.keep)
        return;
    const float *row = ring_rows + ((int64_t)label * r.d.ring + r.picked[slot]) * dim,
                *eps = r.noise + (int64_t)l * dim;
    float *to = outliers + ((int64_t)slot * r.d.keep + rank) * dim, sigma = r.d.sigma;
#pragma unroll 4
    for (int j = lane; j < dim; j += 32)
        to[j] = fmaf(sigma, eps[j], row[j]);
}

/* ---- plan and call ---- */

static size_t lay_out(room *r, int chunk, void *at) {
    size_t ring = (size_t)r->d.ring, rows = (size_t)chunk * ring, noise = (size_t)r->d.noise;
    size_t slots = (size_t)chunk * (size_t)r->d.pick, dim = (size_t)r->d.dim;
    size_t factor = r->split ? 2 * (size_t)r->depth : 0; /* bytes of a part */
    r->wide = ((int)rows + 7) & ~7;
    npi_piece pieces[] = {{&r->rows, rows * (r->split ? 4 * factor : dim * sizeof(float))},
                          {&r->length, rows * sizeof(float)},
                          {&r->gram, rows * (size_t)r->columns * sizeof(float)},
                          {&r->along, noise * (size_t)r->wide * sizeof(float)},
                          {&r->cosine, rows * sizeof(float)},
                          {&r->picked, slots * sizeof(int32_t)},
                          {&r->candidate, slots * noise * sizeof(float)},
                          {&r->bar, slots * sizeof(float)},
                          {&r->share, slots * noise * sizeof(float2)},
                          {&r->noise, noise * dim * sizeof(float)},
                          {&r->noise_square, noise * sizeof(float)},
                          {&r->noise_rows, noise * 3 * factor}};
    return npi_cuda_lay_out(pieces, sizeof pieces / sizeof *pieces, at);
}

/* Classes at a time: as many as CHUNK_BYTES hold, and chunks of about one size. */
static int chunk_of(room *r) {
    size_t each = (lay_out(r, 17, NULL) - lay_out(r, 1, NULL)) / 16 + 1;
    size_t fit = CHUNK_BYTES / each;
    int most = fit < 1 ? 1 : fit < (size_t)r->d.classes ? (int)fit : r->d.classes;
    int chunks = npi_ceil_div(r->d.classes, most);
    return npi_ceil_div(r->d.classes, chunks);
}

/* Searches are for the sample and for its share of the others that `keep` of the sample leave: keep / sample.
 * Their number is least for sqrt(keep noise); it has to save half of them. */
static int sample_of(const npi_synth_desc *d) {
    int sample = npi_ceil_div((int)sqrt((double)d->keep * d->noise), WARPS) * WARPS;
    return d->authors || sample < d->keep || 4 * sample > d->noise ? d->noise : sample;
}

npos_status npi_cuda_synth_create(npi_device *dev, const npi_synth_desc *desc, npi_synth **out) {
    *out = NULL;
    const npi_synth_desc *d = desc;
    if (d->classes < 1 || d->ring < 1 || d->dim < 1 || d->k < 1 || d->k > d->ring || d->pick < 1 ||
        d->pick > d->select || d->select > d->ring || d->keep < 1 || d->keep > d->noise)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: ring %d, k %d, select %d, pick %d, noise %d, keep %d; expected "
                        "1 <= k <= ring, 1 <= pick <= select <= ring, 1 <= keep <= noise",
                        d->ring, d->k, d->select, d->pick, d->noise, d->keep);
    synth *s = (synth *)calloc(1, sizeof *s);
    if (!s)
        return npi_fail(NPOS_OUT_OF_MEMORY, "synthesis: no memory for %zu bytes", sizeof *s);
    s->head.dev = dev;
    s->r = (room){.d = *desc,
                  .split = dev->compute == NPI_BF16,
                  .depth = npi_cuda_padded(d->dim),
                  .columns = npi_cuda_padded(d->ring),
                  .sample = sample_of(d)};
    s->chunk = chunk_of(&s->r);
    npos_status status =
        dev->memory->alloc(dev, lay_out(&s->r, s->chunk, NULL), "synthesis", &s->head.memory);
    if (status != NPOS_OK) {
        free(s);
        return status;
    }
    lay_out(&s->r, s->chunk, s->head.memory);
    *out = &s->head;
    return NPOS_OK;
}

template <int HELD> static void find_boundary(const room *r, int classes, cudaStream_t stream) {
    const dim3 blocks((unsigned)npi_ceil_div(r->d.ring, WARPS), (unsigned)classes);
    boundary_cosines<HELD><<<blocks, THREADS, 0, stream>>>(*r);
}

/* A block to WARPS of `count` candidates of each picked row. */
static dim3 blocks_for(int slots, int count) {
    return dim3((unsigned)slots, (unsigned)npi_ceil_div(count, WARPS));
}

template <int HELD> static void find_candidates(const room *r, int slots, cudaStream_t stream) {
    const int noise = r->d.noise, sample = r->sample;
    candidate_cosines<HELD, false>
        <<<blocks_for(slots, sample), THREADS, 0, stream>>>(*r, 0, sample);
    if (sample == noise)
        return;
    set_bars<<<(unsigned)npi_ceil_div(slots, WARPS), THREADS, 0, stream>>>(*r, slots);
    candidate_cosines<HELD, true>
        <<<blocks_for(slots, noise - sample), THREADS, 0, stream>>>(*r, sample, noise);
}

/* What serves rings of up to `most` rows; the last serves all. */
static const struct {
    int most;
    void (*find_boundary)(const room *r, int classes, cudaStream_t stream);
    void (*find_candidates)(const room *r, int slots, cudaStream_t stream);
} sizes[] = {{256, find_boundary<8>, find_candidates<8>},
             {1024, find_boundary<32>, find_candidates<32>},
             {2048, find_boundary<64>, find_candidates<64>},
             {INT32_MAX, find_boundary<0>, find_candidates<0>}};

static npos_status one_chunk(synth *s, const npi_ring *ring, const npi_step *step,
                             const int32_t *given, int first, int classes, float *outliers,
                             int32_t *boundary) {
    const room *r = &s->r;
    npi_device *dev = s->head.dev;
    cudaStream_t stream = npi_cuda_stream(dev);
    int rows = classes * r->d.ring, slots = classes * r->d.pick, size = 0;
    while (r->d.ring > sizes[size].most)
        size++;
    unsigned blocks = (unsigned)npi_ceil_div(rows, WARPS);
    const float *ring_rows = ring->rows + (size_t)first * (size_t)r->d.ring * (size_t)r->d.dim;
    float *to = outliers + (size_t)first * (size_t)r->d.pick * (size_t)r->d.keep * (size_t)r->d.dim;
    take_rows<<<blocks, THREADS, 0, stream>>>(*r, rows, ring_rows);
    NPI_TRY(npi_cuda_launched(dev, "synthesis: rows"));
    NPI_TRY(multiply(s, classes));
    sizes[size].find_boundary(r, classes, stream);
    pick_rows<<<blocks, THREADS, 0, stream>>>(*r, rows, first, step, given, boundary);
    NPI_TRY(npi_cuda_launched(dev, "synthesis: boundary"));
    const int64_t all = (int64_t)slots * r->d.noise;
    share_out<<<(unsigned)npi_ceil_div(all, THREADS), THREADS, 0, stream>>>(*r, all);
    sizes[size].find_candidates(r, slots, stream);
    keep_farthest<<<blocks_for(slots, r->d.noise), THREADS, 0, stream>>>(*r, ring_rows, to);
    return npi_cuda_launched(dev, "synthesis: candidates");
}

npos_status npi_cuda_synthesise(npi_synth *plan, const npi_ring *ring, const npi_step *step,
                                const npi_synth_given *given, float *outliers, int32_t *boundary) {
    synth *s = (synth *)plan;
    const npi_synth_desc *d = &s->r.d;
    npi_device *dev = plan->dev;
    if (ring->classes != d->classes || ring->size != d->ring || ring->dim != d->dim)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: ring of %d x %d x %d, planned for %d x %d x %d", ring->classes,
                        ring->size, ring->dim, d->classes, d->ring, d->dim);
    take_noise<<<(unsigned)npi_ceil_div(d->noise, WARPS), THREADS, 0, npi_cuda_stream(dev)>>>(
        s->r, step, given ? given->noise : NULL);
    NPI_TRY(npi_cuda_launched(dev, "synthesis: noise"));
    for (int first = 0; first < d->classes; first += s->chunk) {
        int classes = min(s->chunk, d->classes - first);
        NPI_TRY(one_chunk(s, ring, step, given ? given->picks : NULL, first, classes, outliers,
                          boundary));
    }
    return NPOS_OK;
}
