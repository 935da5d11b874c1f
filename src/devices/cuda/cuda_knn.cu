/* Exact nearest neighbours. */
#include "devices/cuda/cuda_ood.cuh"

enum { WARPS = 16, THREADS = 32 * WARPS, WORKSPACE_BYTES = 512 << 20 };

typedef struct search {
    int n, dim, k;
    int64_t m;
    const float *queries, *bank;
    float *near; /* [queries at a time][m]: minus the distance */
} search;

/* By one warp, in every lane: the squared distance in float64; what is not a number is infinitely
 * far. */
static __device__ __forceinline__ float exact(int dim, const float *a, const float *b, int lane) {
    double sum = 0.0;
#pragma unroll 4
    for (int j = lane; j < dim; j += 32) {
        double e = (double)a[j] - (double)b[j];
        sum = fma(e, e, sum);
    }
    sum = npi_warp_sum_double(sum);
    return sum == sum ? (float)sum : INFINITY;
}

/* The k-th largest of row[0..m) by the whole block, in every thread. */
static __device__ float block_kth(int m, int k, const float *row) {
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
        for (int i = thread; i < m; i += THREADS)
            counted += row[i] >= from;
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
        for (int i = thread; i < m; i += THREADS)
            least = row[i] >= from ? fminf(least, row[i]) : least;
        return together(npi_warp_min(least), false);
    };
    auto largest = [&]() {
        float most = -INFINITY;
        for (int i = thread; i < m; i += THREADS)
            most = fmaxf(most, row[i]);
        return together(npi_warp_max(most), true);
    };
    return npi_kth_search(m, k, count, smallest, largest);
}

/* A block to each query: all distances, then the answers.  `kth` or `index` and `distance` are what
 * is asked for. */
static __global__ void __launch_bounds__(THREADS)
    plain_search(search s, int first, float *kth, int64_t *index, float *distance) {
    int64_t q = first + (int64_t)blockIdx.x;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    float *near = s.near + (int64_t)blockIdx.x * s.m;
    const float *query = s.queries + q * s.dim;
    for (int64_t i = warp; i < s.m; i += WARPS) {
        float d = exact(s.dim, query, s.bank + i * s.dim, lane);
        if (lane == 0)
            near[i] = -d;
    }
    __syncthreads();
    float last = block_kth((int)s.m, s.k, near);
    if (kth && threadIdx.x == 0)
        kth[q] = -last;
    for (int i = warp; !kth && i < s.m; i += WARPS) {
        float mine = near[i];
        if (mine < last)
            continue;
        int rank = npi_warp_rank((int)s.m, -mine, i, lane, [&](int j) { return -near[j]; });
        if (rank >= s.k || lane != 0)
            continue;
        if (index)
            index[q * s.k + rank] = i;
        if (distance)
            distance[q * s.k + rank] = -mine;
    }
}

static npos_status find(npi_device *dev, int n, const float *queries, int64_t m, const float *bank,
                        int dim, int k, float *kth, int64_t *index, float *distance) {
    if (n < 0 || dim < 1 || k < 1 || k > m || m > INT32_MAX - 1024)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "neighbours: k is %d, expected 1 to the bank's %lld rows, fewer than 2^31 "
                        "(%d queries of dimension %d)",
                        k, (long long)m, n, dim);
    search s = {.n = n, .dim = dim, .k = k, .m = m, .queries = queries, .bank = bank};
    int64_t fit = WORKSPACE_BYTES / ((int64_t)sizeof(float) * m);
    int chunk = fit < 1 ? 1 : fit < n ? (int)fit : n;
    NPI_TRY(npi_cuda_scratch(dev, (size_t)chunk * (size_t)m * sizeof(float), &s.near));
    for (int first = 0; first < n; first += chunk) {
        int there = min(chunk, n - first);
        plain_search<<<(unsigned)there, THREADS, 0, npi_cuda_stream(dev)>>>(s, first, kth, index,
                                                                            distance);
    }
    return npi_cuda_launched(dev, "neighbours");
}

npos_status npi_cuda_kth_neighbour(npi_device *dev, int n, const float *queries, int64_t m,
                                   const float *bank, int dim, int k, float *distance) {
    return find(dev, n, queries, m, bank, dim, k, distance, NULL, NULL);
}

npos_status npi_cuda_neighbours(npi_device *dev, int n, const float *queries, int64_t m,
                                const float *bank, int dim, int k, int64_t *index,
                                float *distance) {
    return find(dev, n, queries, m, bank, dim, k, NULL, index, distance);
}
