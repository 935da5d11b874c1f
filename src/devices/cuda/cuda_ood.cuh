/* devices/cuda/cuda_ood.cuh - what the files behind npi_cuda_ood share: selection without sorting,
 * normal draws, products of rows.
 *
 * Selection.  The k-th largest of n values is the largest t with |{v : v >= t}| >= k.  It is found
 * by halving and interpolating t between the smallest and the largest value and counting, on
 * integers that are ordered as the floats are; as soon as exactly k values are counted, the answer
 * is the smallest of them: about ten counts for 1,000 values in general position, at most 56 for any.
 * Ranks are counted as well: the rank of a value is the number of values before it. */
#ifndef NPI_CUDA_OOD_CUH
#define NPI_CUDA_OOD_CUH

#include "base/philox.h"
#include "devices/cuda/cuda_sums.cuh"

/* Both kinds of plan begin with this. */
struct npi_synth {
    npi_device *dev;
    void *memory; /* the plan's block of device memory */
};

/* cuda_synth.cu */
npos_status npi_cuda_synth_create(npi_device *dev, const npi_synth_desc *desc, npi_synth **out);
npos_status npi_cuda_synthesise(npi_synth *synth, const npi_ring *ring, const npi_step *step,
                                const npi_synth_given *given, float *outliers, int32_t *boundary);

/* cuda_gauss.cu */
npos_status npi_cuda_gauss_create(npi_device *dev, const npi_gauss_desc *desc, npi_synth **out);
npos_status npi_cuda_gauss_synthesise(npi_synth *synth, const npi_ring *ring, const npi_step *step,
                                      float *outliers);

/* cuda_knn.cu */
npos_status npi_cuda_kth_neighbour(npi_device *dev, int n, const float *queries, int64_t m,
                                   const float *bank, int dim, int k, float *distance);
npos_status npi_cuda_neighbours(npi_device *dev, int n, const float *queries, int64_t m,
                                const float *bank, int dim, int k, int64_t *index, float *distance);

/* ---- cuda_ood.cu ---- */

/* c[i][j] = scale * sum_p x[i][p] y[j][p] for x_rows x y_rows pairs of rows, `batch` times; all
 * arrays row-major, their rows ld* elements apart.  Elements are float or __half (type), c float;
 * sums in float32, products of floats never in TF32. */
typedef struct npi_row_product {
    cudaDataType type;
    int x_rows, y_rows, depth;
    const void *x, *y;
    float *c;
    int ldx, ldy, ldc;
    float scale;
    int batch;
    int64_t x_stride, y_stride, c_stride; /* elements between one product and the next */
} npi_row_product;
npos_status npi_cuda_row_product(npi_device *dev, const char *operation, const npi_row_product *p);

/* c[p][q] = sum_i x[i][p] x[i][q], x[rows][columns]; sums in float32. */
npos_status npi_cuda_column_product(npi_device *dev, const char *operation, int rows, int columns,
                                    const float *x, float *c);

/* Pieces of one block of memory, each on 256 bytes.  With `at` NULL nothing is set; the bytes that
 * all need. */
typedef struct npi_piece {
    void *slot; /* address of the pointer to set */
    size_t bytes;
} npi_piece;
size_t npi_cuda_lay_out(const npi_piece *pieces, int count, void *at);

/* ---- warps ---- */

static __device__ __forceinline__ int npi_warp_count(int value) {
#if __CUDA_ARCH__ >= 800
    return __reduce_add_sync(0xffffffffu, value);
#else
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
#endif
}

static __device__ __forceinline__ float npi_warp_min(float value) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1)
        value = fminf(value, __shfl_xor_sync(0xffffffffu, value, offset));
    return value;
}

/* ---- rows ---- */

/* Whether npi_load_four may read 16 bytes at once. */
static __device__ __forceinline__ bool npi_in_fours(const float *rows, int dim) {
    return dim % 4 == 0 && (uintptr_t)rows % 16 == 0;
}

/* Elements j .. j + 3 of a row, zeros behind its end. */
static __device__ __forceinline__ float4 npi_load_four(bool fours, const float *row, int j,
                                                       int dim) {
    if (fours)
        return j < dim ? *(const float4 *)(row + j) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return make_float4(j < dim ? row[j] : 0.0f, j + 1 < dim ? row[j + 1] : 0.0f,
                       j + 2 < dim ? row[j + 2] : 0.0f, j + 3 < dim ? row[j + 3] : 0.0f);
}

/* ---- selection ---- */

/* Integers in the order of the floats. */
static __device__ __forceinline__ uint32_t npi_key(float value) {
    uint32_t bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static __device__ __forceinline__ float npi_unkey(uint32_t key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* The k-th largest of n values, 1 <= k <= n, by what a team of threads finds together; every thread
 * has the same answers:
 *   count(t)     how many values are >= t
 *   smallest(t)  the smallest of them
 *   largest()    the largest value
 * Values may be infinite, not NaN.  start: where it may lie, step: values' distance there (Newton's first
 * steps); 0: nothing is known. */
template <class Count, class Smallest, class Largest>
static __device__ float npi_kth_search(int n, int k, Count count, Smallest smallest,
                                       Largest largest, float start = 0.0f, float step = 0.0f) {
    float most = largest();
    if (k == 1)
        return most;
    /* n >= at_low >= k values are >= low; at_high < k are >= high */
    uint32_t low = npi_key(smallest(-INFINITY)), high = npi_key(most) + 1;
    int at_low = n, at_high = 0, counted = k;
    float at = start;
    for (int round = 0; high - low > 1; round++) {
        if (round >= 14 && round % 2) { /* equal values have no count of k: look for them at low */
            float value = smallest(npi_unkey(low));
            uint32_t above = npi_key(value) + 1;
            at_low = count(npi_unkey(above));
            if (at_low < k)
                return value;
            low = above;
            continue;
        }
        uint32_t middle = low + (high - low) / 2;
        if (round < 24) { /* by value, in turn where a straight line says and half way */
            float from = npi_unkey(low), to = npi_unkey(high - 1);
            float share = round % 2 ? 0.5f : (float)(at_low - k) / (float)(at_low - at_high);
            bool newton = step > 0.0f && round < 4;
            uint32_t guess =
                npi_key(newton ? at + (float)(counted - k) * step : from + share * (to - from));
            middle = guess > low && guess < high ? guess : middle;
        }
        at = npi_unkey(middle);
        counted = count(at);
        if (counted == k)
            return smallest(at);
        if (counted > k) {
            low = middle;
            at_low = counted;
        } else {
            high = middle;
            at_high = counted;
        }
    }
    return npi_unkey(low);
}

/* The k-th largest of value(read(i), i), i < n, by one warp, in every lane, or INFINITY where it is not
 * below `bar`.  HELD > 0: n <= 32 HELD, the values are computed once and stay in registers; 0: any n,
 * they are computed again for each count. */
template <int HELD, class Read, class Value>
static __device__ __forceinline__ float npi_warp_kth(int n, int k, int lane, Read read, Value value,
                                                     float bar = INFINITY) {
    float held[HELD > 0 ? HELD : 1];
    if constexpr (HELD > 0) {
#pragma unroll
        for (int j = 0; j < HELD; j++)
            held[j] = read(min(32 * j + lane, n - 1));
        __syncwarp(); /* all are on their way before the first is waited for */
#pragma unroll
        for (int j = 0; j < HELD; j++) { /* NaN is in no count and no extreme */
            const int i = 32 * j + lane;
            const float v = value(held[j], i);
            held[j] = i < n ? v : NAN;
        }
    }
    auto each = [&](auto take) {
        if constexpr (HELD > 0) {
#pragma unroll
            for (int j = 0; j < HELD; j++)
                take(held[j]);
        } else {
            for (int i = lane; i < n; i += 32)
                take(value(read(i), i));
        }
    };
    auto count = [&](float from) {
        int counted = 0;
        each([&](float v) { counted += v >= from; });
        return npi_warp_count(counted);
    };
    auto smallest = [&](float from) {
        float least = INFINITY;
        each([&](float v) { least = v >= from ? fminf(least, v) : least; });
        return npi_warp_min(least);
    };
    auto largest = [&]() {
        float most = -INFINITY;
        each([&](float v) { most = fmaxf(most, v); });
        return npi_warp_max(most);
    };
    if (bar < INFINITY && count(bar) >= k)
        return INFINITY;
    if constexpr (HELD == 0)
        return npi_kth_search(n, k, count, smallest, largest);
    /* it lies about where it would in a normal distribution of their mean and variance */
    float sum = 0.0f, square = 0.0f;
    each([&](float v) {
        sum += v == v ? v : 0.0f;
        square += v == v ? v * v : 0.0f;
    });
    const float mean = npi_warp_sum(sum) / (float)n,
                deviation = sqrtf(fmaxf(npi_warp_sum(square) / (float)n - mean * mean, 0.0f)),
                z = normcdfinvf(((float)(n - k) + 0.5f) / (float)n);
    return npi_kth_search(n, k, count, smallest, largest, mean + z * deviation,
                          2.5066283f * expf(0.5f * z * z) * deviation / (float)n);
}

/* As npi_warp_kth<0> of value(i). */
template <class Value>
static __device__ __forceinline__ float npi_warp_kth_of(int n, int k, int lane, Value value) {
    return npi_warp_kth<0>(n, k, lane, value, [](float v, int) { return v; });
}

/* How many of value(0..n-1) come before value number `index`, `mine`, in rising order (ties: lower
 * index first); by one warp, in every lane. */
template <class Value>
static __device__ __forceinline__ int npi_warp_rank(int n, float mine, int index, int lane,
                                                    Value value) {
    enum { AT_ONCE = 16 };
    int before = 0;
    for (int first = lane; first < n; first += 32 * AT_ONCE) {
        float other[AT_ONCE];
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++)
            other[j] = value(min(first + 32 * j, n - 1));
#pragma unroll
        for (int j = 0; j < AT_ONCE; j++) {
            const int i = first + 32 * j;
            before += i < n && (other[j] < mine || (other[j] == mine && i < index));
        }
    }
    return npi_warp_count(before);
}

/* ---- draws ---- */

/* Elements 4 quad .. 4 quad + 3 of row `item`: see npi_ood_ops. */
static __device__ __forceinline__ float4 npi_four_normals(uint64_t seed, npi_purpose purpose,
                                                          uint64_t step, uint32_t item,
                                                          uint32_t quad) {
    npi_u32x4 r = npi_philox(seed, (uint32_t)purpose, step, item, quad);
    float4 out;
    npi_normal_pair(r.v[0], r.v[1], &out.x, &out.y);
    npi_normal_pair(r.v[2], r.v[3], &out.z, &out.w);
    return out;
}

#endif
