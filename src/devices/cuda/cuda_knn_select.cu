/* From products to neighbours, a block to each query; see cuda_knn.cuh.
 *
 *   1. A threshold that some more than k values reach, from a sample of the query's row of products.
 *   2. One pass over the row: the values that reach it, with their numbers, to a list.
 *   3. The k-th largest of the list, the bounds 2 e to both sides, and the rows between.
 *   4. Their distances as defined; of these the answer.
 *
 * Where the list of step 2 turns out too short or too long, the k-th value is found by counting in
 * the whole row, and the rows that reach the lower bound are listed in a second pass.  Lists are
 * filled in no particular order, on which no answer depends. */
#include "devices/cuda/cuda_knn.cuh"

enum {
    WARPS = 8,
    THREADS = 32 * WARPS,
    MAX_ROOM = 4096,
    PIECES = 64, /* of a sample, of 32 neighbouring values each */
    SAMPLE = 32 * PIECES,
    UNROLL = 4
};

int npi_cuda_select_room(int k) {
    int room = (2 * k + 1024 + 255) & ~255;
    return k > MAX_ROOM / 2 ? 0 : room < SAMPLE ? SAMPLE : room < MAX_ROOM ? room : MAX_ROOM;
}

/* By one warp, in every lane: the squared distance; what is not a number is infinitely far. */
static __device__ __forceinline__ float exact(int dim, bool quads, const float *a, const float *b,
                                              int lane) {
    double sum = 0.0;
    auto add = [&](float x, float y) {
        double e = (double)x - (double)y;
        sum = fma(e, e, sum);
    };
    if (quads) {
#pragma unroll 4
        for (int j = 4 * lane; j < dim; j += 128) {
            float4 x = *(const float4 *)(a + j), y = *(const float4 *)(b + j);
            add(x.x, y.x);
            add(x.y, y.y);
            add(x.z, y.z);
            add(x.w, y.w);
        }
    } else {
#pragma unroll 4
        for (int j = lane; j < dim; j += 32)
            add(a[j], b[j]);
    }
    sum = npi_warp_sum_double(sum);
    return sum == sum ? (float)sum : INFINITY;
}

/* The k-th largest of value(0..n-1) by the whole block, in every thread. */
template <class Value> static __device__ float block_kth(int n, int k, Value value) {
    __shared__ int counts[WARPS];
    __shared__ float extremes[WARPS];
    int thread = (int)threadIdx.x, warp = thread / 32;
    auto together = [&](float mine, bool most) {
        __syncthreads();
        if (thread % 32 == 0)
            extremes[warp] = mine;
        __syncthreads();
        float all = extremes[0];
        for (int w = 1; w < WARPS; w++)
            all = most ? fmaxf(all, extremes[w]) : fminf(all, extremes[w]);
        return all;
    };
    auto count = [&](float from) {
        int counted = 0, all = 0;
#pragma unroll 4
        for (int i = thread; i < n; i += THREADS)
            counted += value(i) >= from;
        counted = npi_warp_count(counted);
        __syncthreads();
        if (thread % 32 == 0)
            counts[warp] = counted;
        __syncthreads();
        for (int w = 0; w < WARPS; w++)
            all += counts[w];
        return all;
    };
    auto smallest = [&](float from) {
        float least = INFINITY;
        for (int i = thread; i < n; i += THREADS) {
            float v = value(i);
            least = v >= from ? fminf(least, v) : least;
        }
        return together(npi_warp_min(least), false);
    };
    auto largest = [&]() {
        float most = -INFINITY;
        for (int i = thread; i < n; i += THREADS)
            most = fmaxf(most, value(i));
        return together(npi_warp_max(most), true);
    };
    return npi_kth_search(n, k, count, smallest, largest);
}

/* What a block knows of its query; the same in all threads. */
typedef struct query {
    const float *from; /* [dim] */
    float *product;    /* [columns] */
    float factor;      /* s~ = factor * product - |b|^2 */
    bool even;         /* all |b|^2 are so alike that `square` serves for all */
    float square;
    double error; /* e */
    bool bounded, quads;
} query;

static __device__ query query_of(const npi_search &s, int q) {
    const npi_row_bounds *bank = s.bank.bounds;
    query out = {.from = s.queries.from + (int64_t)q * s.dim,
                 .product = s.product + (int64_t)q * s.columns};
    out.quads = s.dim % 4 == 0 && ((uintptr_t)s.queries.from | (uintptr_t)s.bank.from) % 16 == 0;
    if (s.plain)
        return out;
    double own = s.queries.norm[q], own_error = s.queries.error[q];
    double norm = __uint_as_float(bank->norm), error = __uint_as_float(bank->error);
    double product = own * error + own_error * (norm + error) +
                     (s.depth + 16) * 0x1p-23 * (own + own_error) * (norm + error);
    out.error = 2.001 * product + 8.0 * 0x1p-24 * (own + norm) * (own + norm);
    double most = __uint_as_float(bank->square), least = __uint_as_float(~bank->least_square);
    out.even = bank->unbounded == 0 && most - least <= 0.02 * out.error;
    out.square = (float)(0.5 * (most + least));
    out.error += out.even ? 0.5 * (most - least) * 1.001 : 0.0;
    out.factor = 2.0f / (*s.queries.scale * *s.bank.scale);
    /* own is infinite where the query is not bounded; powers of two stay exact within these */
    out.bounded = own < 1e15 && bank->unbounded < 2 && out.factor > 1e-30f && out.factor < 1e30f;
    return out;
}

static __device__ __forceinline__ float value_of(const npi_search &s, const query &q, int i) {
    return fmaf(q.factor, q.product[i], -(q.even ? q.square : s.bank.square[i]));
}

/* The list in shared memory: `value` first, then `index`, `room` of each. */
typedef struct list {
    float *value;
    int32_t *index;
    int *count;
} list;

/* All rows with s~ >= limit; how many there are, of which the first `room` are listed. */
static __device__ int collect(const npi_search &s, const query &q, const list &l, float limit) {
    int thread = (int)threadIdx.x, m = s.m;
    __syncthreads();
    if (thread == 0)
        *l.count = 0;
    __syncthreads();
    for (int base = 4 * thread; base < m; base += 4 * THREADS * UNROLL) {
        float4 product[UNROLL], square[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            int i = base + 4 * THREADS * u; /* columns are padded to whole fours */
            product[u] = i < m ? __ldcs((const float4 *)(q.product + i)) : make_float4(0, 0, 0, 0);
            square[u] = i < m && !q.even ? *(const float4 *)(s.bank.square + i)
                                         : make_float4(q.square, q.square, q.square, q.square);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            float v[4] = {fmaf(q.factor, product[u].x, -square[u].x),
                          fmaf(q.factor, product[u].y, -square[u].y),
                          fmaf(q.factor, product[u].z, -square[u].z),
                          fmaf(q.factor, product[u].w, -square[u].w)};
#pragma unroll
            for (int c = 0; c < 4; c++) {
                int i = base + 4 * THREADS * u + c;
                if (!(v[c] >= limit) || i >= m)
                    continue;
                int at = atomicAdd(l.count, 1);
                if (at < s.room) {
                    l.value[at] = v[c];
                    l.index[at] = i;
                }
            }
        }
    }
    __syncthreads();
    return *l.count;
}

/* A value that some more than k of the row reach, most likely: 5 standard deviations of what a
 * random sample would show above the mean. */
static __device__ float guess_threshold(const npi_search &s, const query &q, const list &l) {
    __shared__ float threshold;
    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32;
    if (s.m <= s.room)
        return -INFINITY;
    for (int piece = warp; piece < PIECES; piece += WARPS) {
        int64_t first = (int64_t)(s.m - 32) * piece / (PIECES - 1);
        l.value[32 * piece + lane] = value_of(s, q, (int)first + lane);
    }
    __syncthreads();
    if (warp == 0) {
        float mean = (float)SAMPLE * (float)s.k / (float)s.m;
        int rank = min((int)(mean + 5.0f * sqrtf(mean)) + 2, (int)SAMPLE);
        float found = npi_warp_kth_of(SAMPLE, rank, lane, [&](int i) { return l.value[i]; });
        if (lane == 0)
            threshold = found;
    }
    __syncthreads();
    return threshold;
}

/* By warp 0: leaves in the list what has to be scored, values from `low` to `high`; in `certain` the
 * number of those above.  The number left. */
static __device__ int shorten(const list &l, int count, float low, float high, int *certain) {
    int lane = (int)threadIdx.x % 32, kept = 0, above = 0;
    for (int first = 0; first < count; first += 32) {
        bool there = first + lane < count;
        float value = there ? l.value[first + lane] : -INFINITY;
        int32_t index = there ? l.index[first + lane] : 0;
        unsigned keep = __ballot_sync(0xffffffffu, there && value >= low && !(value > high));
        above += __popc(__ballot_sync(0xffffffffu, there && value > high));
        __syncwarp(); /* all have read before one writes */
        if (keep >> lane & 1) {
            int at = kept + __popc(keep & ((1u << lane) - 1));
            l.value[at] = value;
            l.index[at] = index;
        }
        kept += __popc(keep);
        __syncwarp();
    }
    *certain = above;
    return kept;
}

/* Steps 1 to 3; the number of listed rows to score, or -1 where there is no list.  With `all` no
 * row is certain. */
static __device__ int candidates(const npi_search &s, const query &q, const list &l, bool all,
                                 int *certain) {
    __shared__ float nearest;
    __shared__ int left, above;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    if (s.plain || !q.bounded)
        return -1;
    float limit = guess_threshold(s, q, l), kth;
    int count = collect(s, q, l, limit);
    bool whole = count >= s.k && count <= s.room;
    if (whole) {
        if (warp == 0) {
            float found = npi_warp_kth_of(count, s.k, lane, [&](int i) { return l.value[i]; });
            if (lane == 0)
                nearest = found;
        }
        __syncthreads();
        kth = nearest;
    } else {
        kth = block_kth(s.m, s.k, [&](int i) { return value_of(s, q, i); });
    }
    float low = __double2float_rd((double)kth - 2.0 * q.error),
          high = all ? INFINITY : __double2float_ru((double)kth + 2.0 * q.error);
    if (!whole || !(limit <= low))
        count = collect(s, q, l, low);
    if (count > s.room)
        return -1;
    if (warp == 0) {
        int sure, kept = shorten(l, count, low, high, &sure);
        if (lane == 0) {
            left = kept;
            above = sure;
        }
    }
    __syncthreads();
    *certain = above;
    return left;
}

/* The distances of all rows, then the answers. */
static __device__ void plain_search(const npi_search &s, const query &q, float *kth, int64_t *index,
                                    float *distance) {
    int thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32;
    float *nearness = q.product; /* minus the distance */
    for (int64_t i = warp; i < s.m; i += WARPS) {
        float d = exact(s.dim, q.quads, q.from, s.bank.from + i * s.dim, lane);
        if (lane == 0)
            nearness[i] = -d;
    }
    __syncthreads();
    float last = block_kth(s.m, s.k, [&](int i) { return nearness[i]; });
    if (kth && thread == 0)
        *kth = -last;
    for (int i = warp; !kth && i < s.m; i += WARPS) {
        float mine = nearness[i];
        if (mine < last)
            continue;
        int rank = npi_warp_rank(s.m, -mine, i, lane, [&](int j) { return -nearness[j]; });
        if (rank >= s.k || lane != 0)
            continue;
        if (index)
            index[rank] = i;
        if (distance)
            distance[rank] = -mine;
    }
}

static __global__ void __launch_bounds__(THREADS)
    select_neighbours(npi_search s, float *kth, int64_t *index, float *distance) {
    extern __shared__ float shared[];
    __shared__ int listed;
    int block = (int)blockIdx.x, thread = (int)threadIdx.x, warp = thread / 32, lane = thread % 32;
    int64_t first = (int64_t)block * s.k;
    query q = query_of(s, block);
    list l = {shared, (int32_t *)(shared + s.room), &listed};
    int certain = 0, count = candidates(s, q, l, !kth, &certain);
    kth = kth ? kth + block : NULL;
    index = index ? index + first : NULL;
    distance = distance ? distance + first : NULL;
    if (count < 0) {
        plain_search(s, q, kth, index, distance);
        return;
    }
    for (int e = warp; e < count; e += WARPS) {
        float d = exact(s.dim, q.quads, q.from, s.bank.from + (int64_t)l.index[e] * s.dim, lane);
        if (lane == 0)
            l.value[e] = d;
    }
    __syncthreads();
    if (kth && warp == 0) { /* the (k - certain)-th smallest */
        float found = npi_warp_kth_of(count, count - (s.k - certain) + 1, lane,
                                      [&](int i) { return l.value[i]; });
        if (lane == 0)
            *kth = found;
    }
    for (int e = thread; !kth && e < count; e += THREADS) {
        float mine = l.value[e];
        int own = l.index[e], rank = 0;
        for (int j = 0; j < count; j++)
            rank += l.value[j] < mine || (l.value[j] == mine && l.index[j] < own);
        if (rank >= s.k)
            continue;
        if (index)
            index[rank] = own;
        if (distance)
            distance[rank] = mine;
    }
}

npos_status npi_cuda_select(npi_device *dev, const npi_search *s, int count, float *kth,
                            int64_t *index, float *distance) {
    size_t shared = (size_t)s->room * (sizeof(float) + sizeof(int32_t));
    select_neighbours<<<(unsigned)count, THREADS, shared, npi_cuda_stream(dev)>>>(*s, kth, index,
                                                                                  distance);
    return npi_cuda_launched(dev, "neighbours");
}
