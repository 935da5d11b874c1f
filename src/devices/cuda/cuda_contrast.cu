#include "devices/cuda/cuda_losses.cuh"

/* L_disp and L_comp in three kernels.  A class' chain of updates is short steps that wait for each
 * other, so its time is latency: one warp walks it with the prototype in registers, the rows of the
 * next links already under way.
 *
 *   forward_chains    a warp a class    its samples in order of rows; mu <- normalize(m mu + (1-m) z)
 *   compare           a block a class   log sum_j exp(mu_i.mu_j / tau), j != i
 *                     and a warp a row  comp's softmax over the classes, dz = its gradient
 *   backward_chains   a block a class   disp's gradient by mu, back through the chain: dz +=; losses
 *
 * Rows whose label is no class have no part in anything. */
enum { WARPS = 4, THREADS = 32 * WARPS, GROUP = 4, SCAN = 8, WIDEST = 64 };

/* In the caller's workspace. */
typedef struct chains {
    double *terms;  /* [n]: each row's part in comp */
    float *after;   /* [n][dim]: the row's prototype after its update */
    float *inverse; /* [n]: 1 / its length before normalisation */
    float *logits;  /* [n][classes]: z mu^T / tau */
    float *
        similar; /* [classes][classes]: mu mu^T / tau; the same bits on both sides of the diagonal */
    float *others;  /* [classes]: log of the sum of exp(similar) over j != i */
    int32_t *rows;  /* [classes][n]: the rows of a class in order */
    int32_t *count; /* [classes] */
} chains;

static size_t lay_out(const npi_contrast_desc *d, char *at, chains *out) {
    size_t n = (size_t)d->n, classes = (size_t)d->classes, dim = (size_t)d->dim;
    size_t counts[8] = {2 * n,   n * dim,     n,      n * classes, classes * classes,
                        classes, classes * n, classes};
    void *pieces[8];
    size_t used = 0;
    for (int i = 0; i < 8; i++) {
        pieces[i] = at ? at + used : NULL;
        used += counts[i] * sizeof(float);
    }
    *out = (chains){(double *)pieces[0],  (float *)pieces[1],  (float *)pieces[2],
                    (float *)pieces[3],   (float *)pieces[4],  (float *)pieces[5],
                    (int32_t *)pieces[6], (int32_t *)pieces[7]};
    return used;
}

size_t npi_cuda_contrast_workspace(npi_device *dev, const npi_contrast_desc *desc) {
    (void)dev;
    chains unused;
    return lay_out(desc, NULL, &unused);
}

/* What the kernels take. */
typedef struct contrast_job {
    int n, classes, dim;
    float momentum, fresh; /* m and 1 - m */
    float inverse_tau;
    float disp_scale;      /* of a pair's gradient: weight / (C tau) */
    double comp_scale;     /* of a row's gradient, times the number of rows with a label */
    double comp_factor;    /* tau / 0.07 */
    const float *z;        /* [n][dim] */
    const int32_t *labels; /* [n] */
    float *mu, *losses, *dz;
    chains c;
} contrast_job;

/* A row of dim <= 32 V numbers over a warp: number lane + 32 i is v[i]; behind the end are zeros. */
template <int V> struct row { float v[V]; };

template <int V>
static __device__ __forceinline__ row<V> load_row(int dim, const float *from, int lane) {
    row<V> out;
#pragma unroll
    for (int i = 0; i < V; i++)
        out.v[i] = lane + 32 * i < dim ? from[lane + 32 * i] : 0.0f;
    return out;
}

template <int V>
static __device__ __forceinline__ void store_row(int dim, float *to, const row<V> &from, int lane) {
#pragma unroll
    for (int i = 0; i < V; i++)
        if (lane + 32 * i < dim)
            to[lane + 32 * i] = from.v[i];
}

/* This lane's part of a . b, in four sums that do not wait for each other. */
template <int V>
static __device__ __forceinline__ float dot_part(const row<V> &a, const row<V> &b) {
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < V; i++)
        sum[i % 4] = fmaf(a.v[i], b.v[i], sum[i % 4]);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Links whose rows are under way while one is worked on. */
template <int V> static constexpr int ahead = V <= 4 ? 4 : V <= 16 ? 2 : 1;

/* rows[] = the rows with this label in order; returns how many. */
static __device__ int find_rows(int n, const int32_t *labels, int label, int32_t *rows, int lane) {
    int found = 0;
    for (int base = 0; base < n; base += 32 * SCAN) {
        int32_t of[SCAN];
#pragma unroll
        for (int k = 0; k < SCAN; k++) {
            int i = base + 32 * k + lane;
            of[k] = i < n ? labels[i] : -1;
        }
#pragma unroll
        for (int k = 0; k < SCAN; k++) {
            unsigned mask = __ballot_sync(0xffffffffu, of[k] == label);
            if (of[k] == label)
                rows[found + __popc(mask & ((1u << lane) - 1))] = base + 32 * k + lane;
            found += __popc(mask);
        }
    }
    __syncwarp(); /* lanes read what others wrote */
    return found;
}

/* u = m mu + (1 - m) z;  mu' = u / max(|u|, 1e-12) */
template <int V> static __global__ void __launch_bounds__(32) forward_chains(contrast_job job) {
    constexpr int DEPTH = ahead<V>;
    int lane = (int)threadIdx.x, label = (int)blockIdx.x, dim = job.dim;
    int32_t *rows = job.c.rows + (int64_t)label * job.n;
    float *prototype = job.mu + (int64_t)label * dim;
    row<V> mu = load_row<V>(dim, prototype, lane);
    int count = find_rows(job.n, job.labels, label, rows, lane);
    for (int base = 0; base < count; base += 32) {
        int links = min(32, count - base);
        int mine = base + lane < count ? rows[base + lane] : 0;
        row<V> z[DEPTH];
#pragma unroll
        for (int s = 0; s < DEPTH; s++) {
            int64_t j = __shfl_sync(0xffffffffu, mine, min(s, links - 1));
            z[s] = load_row<V>(dim, job.z + j * dim, lane);
        }
        for (int k = 0; k < links; k += DEPTH)
#pragma unroll
            for (int s = 0; s < DEPTH; s++) {
                if (k + s >= links)
                    break;
                int64_t j = __shfl_sync(0xffffffffu, mine, k + s);
                int64_t next = __shfl_sync(0xffffffffu, mine, min(k + s + DEPTH, links - 1));
#pragma unroll
                for (int i = 0; i < V; i++)
                    mu.v[i] = fmaf(job.momentum, mu.v[i], job.fresh * z[s].v[i]);
                z[s] = load_row<V>(dim, job.z + next * dim, lane);
                float square = npi_warp_sum(dot_part(mu, mu));
                float inverse = square > 1e-24f ? rsqrtf(square) : 1e12f;
#pragma unroll
                for (int i = 0; i < V; i++)
                    mu.v[i] *= inverse;
                store_row(dim, job.c.after + j * dim, mu, lane);
                if (lane == 0)
                    job.c.inverse[j] = inverse;
            }
    }
    if (count > 0)
        store_row(dim, prototype, mu, lane);
    if (lane == 0)
        job.c.count[label] = count;
}

/* logits[c] = x . mu_c / tau, by a warp, for the classes first..first+31, first+step.. and so on;
 * logits[first + lane] is written by this lane.  GROUP sums at a time hide each other's latency. */
template <int V>
static __device__ __forceinline__ void dots(const contrast_job &job, const row<V> &x, int first,
                                            int step, float *logits, int lane) {
    for (int base = first; base < job.classes; base += step) {
        int here = min(32, job.classes - base);
        float mine = 0.0f;
        for (int k = 0; k < here; k += GROUP) {
            float sum[GROUP];
#pragma unroll
            for (int g = 0; g < GROUP; g++) {
                int64_t c = base + min(k + g, here - 1);
                sum[g] = dot_part(x, load_row<V>(job.dim, job.mu + c * job.dim, lane));
            }
#pragma unroll
            for (int offset = 16; offset > 0; offset >>= 1)
#pragma unroll
                for (int g = 0; g < GROUP; g++)
                    sum[g] += __shfl_xor_sync(0xffffffffu, sum[g], offset);
#pragma unroll
            for (int g = 0; g < GROUP; g++)
                mine = lane == k + g ? sum[g] : mine;
        }
        if (lane < here)
            logits[base + lane] = mine * job.inverse_tau;
    }
}

/* similar[i][] and others[i] */
template <int V>
static __device__ __forceinline__ void compare_prototype(const contrast_job &job, int i, int warp,
                                                         int lane) {
    float *similar = job.c.similar + (int64_t)i * job.classes;
    row<V> mu = load_row<V>(job.dim, job.mu + (int64_t)i * job.dim, lane);
    dots(job, mu, 32 * warp, THREADS, similar, lane);
    __syncthreads();
    if (warp != 0)
        return;
    float largest = -INFINITY, sum = 0.0f;
    for (int j = lane; j < job.classes; j += 32)
        largest = j == i ? largest : fmaxf(largest, similar[j]);
    largest = npi_warp_max(largest);
    for (int j = lane; j < job.classes; j += 32)
        sum += j == i ? 0.0f : expf(similar[j] - largest);
    sum = npi_warp_sum(sum);
    if (lane == 0)
        job.c.others[i] = largest + logf(sum);
}

/* Rows that have a label; the same in every lane. */
static __device__ __forceinline__ double labelled(const contrast_job &job, int lane) {
    double count = 0.0;
    for (int c = lane; c < job.classes; c += 32)
        count += (double)job.c.count[c];
    return npi_warp_sum_double(count);
}

/* terms[j] and comp's part of dz_j = weight/(0.07 n) sum_c (s_jc - [c = y_j]) mu_c, which is 0 for
 * rows without a label */
template <int V>
static __device__ __forceinline__ void compare_row(const contrast_job &job, int64_t j, int lane) {
    int label = job.labels[j];
    bool valid = label >= 0 && label < job.classes; /* the same for the whole warp */
    row<V> gradient = {};
    if (valid) {
        float *logits = job.c.logits + j * job.classes;
        row<V> z = load_row<V>(job.dim, job.z + j * job.dim, lane);
        dots(job, z, 0, 32, logits, lane);
        npi_softmax s = npi_warp_softmax(job.classes, logits, label, lane);
        float scale = (float)(job.comp_scale / labelled(job, lane));
        for (int base = 0; base < job.classes; base += 32) {
            int here = min(32, job.classes - base), c = base + lane;
            float mine = lane < here ? npi_softmax_gradient(s, logits[c], c == label) : 0.0f;
#pragma unroll 4
            for (int k = 0; k < here; k++) {
                float g = scale * __shfl_sync(0xffffffffu, mine, k);
                row<V> mu = load_row<V>(job.dim, job.mu + (int64_t)(base + k) * job.dim, lane);
#pragma unroll
                for (int i = 0; i < V; i++)
                    gradient.v[i] = fmaf(g, mu.v[i], gradient.v[i]);
            }
        }
        if (lane == 0)
            job.c.terms[j] = (double)s.loss;
    } else if (lane == 0) {
        job.c.terms[j] = 0.0;
    }
    store_row(job.dim, job.dz + j * job.dim, gradient, lane);
}

template <int V> static __global__ void __launch_bounds__(THREADS) compare(contrast_job job) {
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, block = (int)blockIdx.x;
    int64_t j = (int64_t)(block - job.classes) * WARPS + warp;
    if (block < job.classes)
        compare_prototype<V>(job, block, warp, lane);
    else if (j < job.n)
        compare_row<V>(job, j, lane);
}

/* With s_ij the softmax over j != i of the similarities,
 *     dmu_i = weight/(C tau) sum_j (s_ij + s_ji) mu_j
 * by the block, into shared memory. */
static __device__ void disperse(const contrast_job &job, int i, float *share, float *dmu) {
    const float *similar = job.c.similar + (int64_t)i * job.classes;
    int t = (int)threadIdx.x;
    for (int base = 0; base < job.classes; base += THREADS) {
        int here = min(THREADS, job.classes - base), j = base + t;
        __syncthreads(); /* share is free */
        if (t < here)
            share[t] = j == i ? 0.0f
                              : job.disp_scale * (expf(similar[j] - job.c.others[i]) +
                                                  expf(similar[j] - job.c.others[j]));
        __syncthreads();
        for (int p = t; p < job.dim; p += THREADS) {
            float sum = base == 0 ? 0.0f : dmu[p];
            const float *mu = job.mu + (int64_t)base * job.dim + p;
#pragma unroll 4
            for (int k = 0; k < here; k++)
                sum = fmaf(share[k], mu[(int64_t)k * job.dim], sum);
            dmu[p] = sum;
        }
    }
    __syncthreads();
}

/* From the class' newest sample back: with u = m mu + (1 - m) z and mu' = u / |u|,
 *     du = (dmu' - mu' (mu' . dmu')) / |u|,   dz += (1 - m) du,   dmu = m du */
template <int V>
static __device__ __forceinline__ void backward_chain(const contrast_job &job, int label,
                                                      row<V> dmu, int lane) {
    constexpr int DEPTH = ahead<V>;
    int count = job.c.count[label], dim = job.dim;
    const int32_t *rows = job.c.rows + (int64_t)label * job.n;
    for (int base = 0; base < count; base += 32) {
        int links = min(32, count - base);
        int mine = base + lane < count ? rows[count - 1 - base - lane] : 0;
        float inverses = base + lane < count ? job.c.inverse[mine] : 0.0f;
        row<V> after[DEPTH], dz[DEPTH];
#pragma unroll
        for (int s = 0; s < DEPTH; s++) {
            int64_t j = __shfl_sync(0xffffffffu, mine, min(s, links - 1));
            after[s] = load_row<V>(dim, job.c.after + j * dim, lane);
            dz[s] = load_row<V>(dim, job.dz + j * dim, lane);
        }
        for (int k = 0; k < links; k += DEPTH)
#pragma unroll
            for (int s = 0; s < DEPTH; s++) {
                if (k + s >= links)
                    break;
                int64_t j = __shfl_sync(0xffffffffu, mine, k + s);
                int64_t next = __shfl_sync(0xffffffffu, mine, min(k + s + DEPTH, links - 1));
                float inverse = __shfl_sync(0xffffffffu, inverses, k + s);
                float along = npi_warp_sum(dot_part(after[s], dmu));
                float to_mu = job.momentum * inverse, to_z = job.fresh * inverse;
#pragma unroll
                for (int i = 0; i < V; i++) {
                    float across = fmaf(-along, after[s].v[i], dmu.v[i]);
                    dz[s].v[i] = fmaf(to_z, across, dz[s].v[i]);
                    dmu.v[i] = to_mu * across;
                }
                store_row(dim, job.dz + j * dim, dz[s], lane);
                after[s] = load_row<V>(dim, job.c.after + next * dim, lane);
                dz[s] = load_row<V>(dim, job.dz + next * dim, lane);
            }
    }
}

/* By one warp. */
static __device__ void write_losses(const contrast_job &job, int lane) {
    double disp = 0.0, comp = 0.0, count = labelled(job, lane);
    for (int i = lane; i < job.classes; i += 32)
        disp += (double)job.c.others[i];
    for (int64_t j = lane; j < job.n; j += 32)
        comp += job.c.terms[j];
    disp = npi_warp_sum_double(disp);
    comp = npi_warp_sum_double(comp);
    if (lane != 0)
        return;
    /* one class has nobody to keep away from */
    bool alone = job.classes < 2;
    job.losses[NPI_LOSS_DISP] =
        alone ? 0.0f : (float)(disp / job.classes - log((double)job.classes - 1.0));
    job.losses[NPI_LOSS_COMP] = count > 0.0 ? (float)(comp / count * job.comp_factor) : 0.0f;
}

/* Without `chain` the losses alone, by one block. */
template <int V>
static __global__ void __launch_bounds__(THREADS) backward_chains(contrast_job job, bool chain) {
    __shared__ float share[THREADS], dmu[32 * V];
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, label = (int)blockIdx.x;
    if (chain)
        disperse(job, label, share, dmu);
    if (chain && warp == 0)
        backward_chain(job, label, load_row<V>(job.dim, dmu, lane), lane);
    if (label == 0 && warp == 1) /* beside the chain */
        write_losses(job, lane);
}

template <int V> static void launch(const contrast_job &job, bool chain, cudaStream_t stream) {
    int blocks = job.classes + npi_ceil_div(job.n, WARPS);
    if (job.classes > 0)
        forward_chains<V><<<(unsigned)job.classes, 32, 0, stream>>>(job);
    if (blocks > 0)
        compare<V><<<(unsigned)blocks, THREADS, 0, stream>>>(job);
    backward_chains<V><<<chain ? (unsigned)job.classes : 1u, THREADS, 0, stream>>>(job, chain);
}

npos_status npi_cuda_contrast(npi_device *dev, const npi_contrast_desc *desc, const float *z,
                              const int32_t *labels, float *mu, float *losses, float *dz,
                              void *workspace) {
    static void (*const by_width[])(const contrast_job &, bool, cudaStream_t) = {
        launch<1>, launch<2>, launch<4>, launch<8>, launch<16>, launch<32>, launch<WIDEST>};
    if (desc->dim > 32 * WIDEST)
        return npi_fail(NPOS_UNSUPPORTED, "contrast: dim is %d, cuda devices take up to %d",
                        desc->dim, 32 * WIDEST);
    double tau = (double)desc->tau, momentum = (double)desc->momentum;
    contrast_job job = {
        .n = desc->n,
        .classes = desc->classes,
        .dim = desc->dim,
        .momentum = desc->momentum,
        .fresh = (float)(1.0 - momentum),
        .inverse_tau = (float)(1.0 / tau),
        .disp_scale = (float)((double)desc->disp_weight / (desc->classes * tau)),
        .comp_scale = (double)desc->comp_weight / 0.07,
        .comp_factor = tau / 0.07,
        .z = z,
        .labels = labels,
        .mu = mu,
        .losses = losses,
        .dz = dz,
    };
    lay_out(desc, (char *)workspace, &job.c);
    int width = 0;
    while ((32 << width) < desc->dim)
        width++;
    /* a chain without weight, as in the authors' ImageNet-100, has no gradient to carry */
    bool chain = desc->disp_weight != 0.0f && desc->classes > 1;
    by_width[width](job, chain, npi_cuda_stream(dev));
    return npi_cuda_launched(dev, "contrast");
}
