/* VOS: x = mean + L eps with L L^T = S + 1e-4 I, S the covariance shared by all classes (the mean
 * over all rows of all rings of the centred rows' outer products).  The Mahalanobis distance of
 * such an x is |eps|^2, so the least likely draws are those of the longest eps, and only those are
 * drawn a second time and multiplied by L.
 *
 * The covariance is a float32 product of float32 rows, chunk by chunk of classes, summed in float64;
 * the factor is computed in float64, PANEL columns at a time.  The device cannot stop a recorded
 * step: a covariance that is not positive definite, which only rows that are not finite can cause,
 * gives outliers that are not numbers. */
#include <cstdlib>

#include "devices/cuda/cuda_ood.cuh"

enum { WARPS = 8, THREADS = 32 * WARPS, PANEL = 32, CHUNK_BYTES = 64 << 20 };

typedef struct room {
    npi_gauss_desc d;
    float *mean;     /* [classes][dim] */
    float *centred;  /* [chunk][ring][dim] */
    float *products; /* [dim][dim]: a chunk's part of the covariance */
    double *factor;  /* [dim][dim]: the covariance, then L in its lower triangle */
    double *corner;  /* [PANEL][PANEL]: L on the diagonal, until all have read what it replaces */
    float *square;   /* [classes][draws]: -|eps|^2 */
    float *limit;    /* [classes]: the largest -|eps|^2 that is kept */
    float *kept;     /* [classes][keep][dim]: eps */
} room;

typedef struct gauss {
    npi_synth head;
    room r;
    int chunk; /* classes at a time */
} gauss;

/* A block to 32 columns of a class (x: columns, y: class): their mean, and the rows without it. */
static __global__ void __launch_bounds__(THREADS)
    centre(room r, int first_class, const float *ring_rows) {
    __shared__ double shared[WARPS][32];
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, dim = r.d.dim, size = r.d.ring;
    int column = (int)blockIdx.x * 32 + lane, label = (int)blockIdx.y;
    bool there = column < dim;
    const float *rows = ring_rows + (int64_t)label * size * dim + column;
    float *to = r.centred + (int64_t)label * size * dim + column;
    double sum = 0.0;
#pragma unroll 4
    for (int i = warp; there && i < size; i += WARPS)
        sum += (double)rows[(int64_t)i * dim];
    shared[warp][lane] = sum;
    __syncthreads();
    sum = 0.0;
    for (int w = 0; w < WARPS; w++)
        sum += shared[w][lane];
    float mean = (float)(sum / size);
    if (there && warp == 0)
        r.mean[(int64_t)(first_class + label) * dim + column] = mean;
#pragma unroll 4
    for (int i = warp; there && i < size; i += WARPS)
        to[(int64_t)i * dim] = rows[(int64_t)i * dim] - mean;
}

/* factor (+)= products / rows, and with the last chunk 1e-4 on the diagonal. */
static __global__ void __launch_bounds__(THREADS) add_products(room r, bool first, bool last) {
    int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x, dim = r.d.dim;
    if (at >= dim * dim)
        return;
    double sum = (double)r.products[at] / r.d.classes / r.d.ring;
    sum += first ? 0.0 : r.factor[at];
    r.factor[at] = sum + (last && at / dim == at % dim ? 1e-4 : 0.0);
}

/* L of the PANEL columns from `first` on, their earlier columns' products being subtracted already.
 * Every block factors the square on the diagonal for itself; block 0 writes it to `corner`, the
 * others divide THREADS rows each by it, a thread to each row. */
static __global__ void __launch_bounds__(THREADS)
    factor_panel(int dim, int first, double *factor, double *corner) {
    __shared__ double square[PANEL][PANEL + 1];
    int width = min(PANEL, dim - first), thread = (int)threadIdx.x, lane = thread % 32;
    for (int at = thread; at < PANEL * PANEL; at += THREADS) {
        int i = at / PANEL, j = at % PANEL;
        bool there = i < width && j <= i;
        square[i][j] = there ? factor[(int64_t)(first + i) * dim + first + j] : i == j ? 1.0 : 0.0;
    }
    __syncthreads();
    if (thread < 32) /* lane i: row i */
        for (int j = 0; j < PANEL; j++) {
            double left = square[lane][j];
            for (int p = 0; p < j && lane >= j; p++)
                left -= square[lane][p] * square[j][p];
            double pivot = sqrt(__shfl_sync(0xffffffffu, left, j));
            __syncwarp();
            if (lane >= j)
                square[lane][j] = lane == j ? pivot : left / pivot;
            __syncwarp();
        }
    __syncthreads();
    if (blockIdx.x == 0) {
        for (int at = thread; at < PANEL * PANEL; at += THREADS)
            corner[at] = square[at / PANEL][at % PANEL];
        return;
    }
    int row = first + width + ((int)blockIdx.x - 1) * THREADS + thread;
    if (row >= dim)
        return;
    double *of_row = factor + (int64_t)row * dim + first, x[PANEL];
#pragma unroll
    for (int j = 0; j < PANEL; j++) {
        double left = j < width ? of_row[j] : 0.0;
#pragma unroll
        for (int p = 0; p < j; p++)
            left -= x[p] * square[j][p];
        x[j] = left / square[j][j];
        if (j < width)
            of_row[j] = x[j];
    }
}

/* The corner to its place.  Of the columns behind a panel, the panel's products are subtracted: a
 * block to PANEL x PANEL elements of the lower triangle. */
static __global__ void __launch_bounds__(THREADS)
    finish_panel(int dim, int first, double *factor, const double *corner) {
    __shared__ double rows[PANEL][PANEL + 1], columns[PANEL][PANEL + 1];
    if (blockIdx.x > blockIdx.y)
        return;
    int behind = first + PANEL, thread = (int)threadIdx.x;
    int row = behind + (int)blockIdx.y * PANEL, column = behind + (int)blockIdx.x * PANEL;
    for (int at = thread; at < PANEL * PANEL; at += THREADS) {
        int i = at / PANEL, p = at % PANEL;
        if (blockIdx.y == 0 && p <= i && first + i < dim)
            factor[(int64_t)(first + i) * dim + first + p] = corner[at];
        rows[i][p] = row + i < dim ? factor[(int64_t)(row + i) * dim + first + p] : 0.0;
        columns[i][p] = column + i < dim ? factor[(int64_t)(column + i) * dim + first + p] : 0.0;
    }
    __syncthreads();
    for (int at = thread; at < PANEL * PANEL; at += THREADS) {
        int i = at / PANEL, j = at % PANEL;
        if (row + i >= dim || column + j >= dim)
            continue;
        double sum = 0.0;
#pragma unroll
        for (int p = 0; p < PANEL; p++)
            sum += rows[i][p] * columns[j][p];
        factor[(int64_t)(row + i) * dim + column + j] -= sum;
    }
}

/* A warp to each draw: how unlikely it is. */
static __global__ void __launch_bounds__(THREADS)
    draw_squares(room r, int64_t count, const npi_step *step) {
    int64_t draw = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32, dim = r.d.dim;
    if (draw >= count) /* whole warps */
        return;
    uint64_t number = step->number;
    double square = 0.0;
    for (int quad = lane; 4 * quad < dim; quad += 32) {
        float4 x =
            npi_four_normals(r.d.seed, NPI_RANDOM_GAUSS, number, (uint32_t)draw, (uint32_t)quad);
        float value[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int i = 0; i < 4; i++)
            square += 4 * quad + i < dim ? (double)value[i] * (double)value[i] : 0.0;
    }
    square = npi_warp_sum_double(square);
    if (lane == 0)
        r.square[draw] = (float)-square;
}

/* A warp to each class: the keep-th smallest -|eps|^2. */
static __global__ void find_limits(room r) {
    const float *square = r.square + (int64_t)blockIdx.x * r.d.draws;
    float kth =
        npi_warp_kth_of(r.d.draws, r.d.keep, (int)threadIdx.x, [&](int i) { return -square[i]; });
    if (threadIdx.x == 0)
        r.limit[blockIdx.x] = -kth;
}

/* A warp to each draw: those that are kept are drawn again, to their rank. */
static __global__ void __launch_bounds__(THREADS)
    keep_draws(room r, int64_t count, const npi_step *step) {
    int64_t draw = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = (int)threadIdx.x % 32, dim = r.d.dim, draws = r.d.draws;
    if (draw >= count) /* whole warps */
        return;
    int64_t label = draw / draws;
    int own = (int)(draw % draws);
    const float *square = r.square + label * draws;
    if (square[own] > r.limit[label])
        return;
    int rank = npi_warp_rank(draws, square[own], own, lane, [&](int i) { return square[i]; });
    if (rank >= r.d.keep)
        return;
    float *to = r.kept + (label * r.d.keep + rank) * dim;
    for (int quad = lane; 4 * quad < dim; quad += 32) {
        float4 x = npi_four_normals(r.d.seed, NPI_RANDOM_GAUSS, step->number, (uint32_t)draw,
                                    (uint32_t)quad);
        float value[4] = {x.x, x.y, x.z, x.w};
        for (int i = 0; i < 4 && 4 * quad + i < dim; i++)
            to[4 * quad + i] = value[i];
    }
}

/* A warp to each element (x: outlier, y: element). */
static __global__ void __launch_bounds__(THREADS) transform(room r, float *outliers) {
    int p = (int)(blockIdx.y * WARPS + threadIdx.x / 32), lane = (int)threadIdx.x % 32;
    int64_t row = blockIdx.x, dim = r.d.dim;
    if (p >= dim) /* whole warps */
        return;
    const double *factor = r.factor + p * dim;
    const float *eps = r.kept + row * dim;
    double sum = 0.0;
    for (int q = lane; q <= p; q += 32)
        sum += factor[q] * (double)eps[q];
    sum = npi_warp_sum_double(sum);
    if (lane == 0)
        outliers[row * dim + p] = (float)((double)r.mean[row / r.d.keep * dim + p] + sum);
}

/* ---- plan and call ---- */

static size_t lay_out(room *r, int chunk, void *at) {
    size_t classes = (size_t)r->d.classes, dim = (size_t)r->d.dim, draws = (size_t)r->d.draws;
    npi_piece pieces[] = {{&r->mean, classes * dim * sizeof(float)},
                          {&r->centred, (size_t)chunk * (size_t)r->d.ring * dim * sizeof(float)},
                          {&r->products, dim * dim * sizeof(float)},
                          {&r->factor, dim * dim * sizeof(double)},
                          {&r->corner, PANEL * PANEL * sizeof(double)},
                          {&r->square, classes * draws * sizeof(float)},
                          {&r->limit, classes * sizeof(float)},
                          {&r->kept, classes * (size_t)r->d.keep * dim * sizeof(float)}};
    return npi_cuda_lay_out(pieces, sizeof pieces / sizeof *pieces, at);
}

npos_status npi_cuda_gauss_create(npi_device *dev, const npi_gauss_desc *desc, npi_synth **out) {
    *out = NULL;
    const npi_gauss_desc *d = desc;
    if (d->classes < 1 || d->ring < 1 || d->dim < 1 || d->keep < 1 || d->keep > d->draws)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: %d classes, ring %d, draws %d, keep %d; expected 1 <= keep <= "
                        "draws",
                        d->classes, d->ring, d->draws, d->keep);
    gauss *s = (gauss *)calloc(1, sizeof *s);
    if (!s)
        return npi_fail(NPOS_OUT_OF_MEMORY, "synthesis: no memory for %zu bytes", sizeof *s);
    size_t one = (size_t)d->ring * (size_t)d->dim * sizeof(float), fit = CHUNK_BYTES / one;
    s->head.dev = dev;
    s->r.d = *desc;
    s->chunk = fit < 1 ? 1 : fit < (size_t)d->classes ? (int)fit : d->classes;
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

static npos_status fit(gauss *s, const npi_ring *ring) {
    const room *r = &s->r;
    int dim = r->d.dim, size = r->d.ring;
    cudaStream_t stream = npi_cuda_stream(s->head.dev);
    unsigned elements = (unsigned)npi_ceil_div((int64_t)dim * dim, THREADS);
    for (int first = 0; first < r->d.classes; first += s->chunk) {
        int classes = min(s->chunk, r->d.classes - first);
        centre<<<dim3((unsigned)npi_ceil_div(dim, 32), (unsigned)classes), THREADS, 0, stream>>>(
            *r, first, ring->rows + (int64_t)first * size * dim);
        NPI_TRY(npi_cuda_launched(s->head.dev, "vos: means"));
        NPI_TRY(npi_cuda_column_product(s->head.dev, "vos: covariance", classes * size, dim,
                                        r->centred, r->products));
        add_products<<<elements, THREADS, 0, stream>>>(*r, first == 0,
                                                       first + classes == r->d.classes);
    }
    for (int first = 0; first < dim; first += PANEL) {
        int behind = dim - first - PANEL > 0 ? dim - first - PANEL : 0;
        unsigned tiles = behind > 0 ? (unsigned)npi_ceil_div(behind, PANEL) : 1;
        factor_panel<<<1 + (unsigned)npi_ceil_div(behind, THREADS), THREADS, 0, stream>>>(
            dim, first, r->factor, r->corner);
        finish_panel<<<dim3(tiles, tiles), THREADS, 0, stream>>>(dim, first, r->factor, r->corner);
    }
    return npi_cuda_launched(s->head.dev, "vos: factor");
}

npos_status npi_cuda_gauss_synthesise(npi_synth *plan, const npi_ring *ring, const npi_step *step,
                                      float *outliers) {
    gauss *s = (gauss *)plan;
    const room *r = &s->r;
    npi_device *dev = plan->dev;
    if (ring->classes != r->d.classes || ring->size != r->d.ring || ring->dim != r->d.dim)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "synthesis: ring of %d x %d x %d, planned for %d x %d x %d", ring->classes,
                        ring->size, ring->dim, r->d.classes, r->d.ring, r->d.dim);
    NPI_TRY(fit(s, ring));
    cudaStream_t stream = npi_cuda_stream(dev);
    int64_t draws = (int64_t)r->d.classes * r->d.draws;
    unsigned blocks = (unsigned)npi_ceil_div(draws, WARPS), rows = (unsigned)r->d.classes;
    draw_squares<<<blocks, THREADS, 0, stream>>>(*r, draws, step);
    find_limits<<<rows, 32, 0, stream>>>(*r);
    keep_draws<<<blocks, THREADS, 0, stream>>>(*r, draws, step);
    dim3 elements(rows * (unsigned)r->d.keep, (unsigned)npi_ceil_div(r->d.dim, WARPS));
    transform<<<elements, THREADS, 0, stream>>>(*r, outliers);
    return npi_cuda_launched(dev, "vos: draws");
}
