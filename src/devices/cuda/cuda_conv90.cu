/* 3x3 convolutions with 64 output channels on Hopper. */
#include "devices/cuda/cuda_conv90.cuh"

#include "devices/cuda/cuda_box.cuh"
#include "devices/cuda/cuda_conv90_outlet.cuh"
#include "devices/cuda/cuda_weights.cuh"

enum {
    HALO = COLUMNS + 2,
    PRODUCER = WARPGROUPS * 4, /* the warp that feeds the others, first of a warpgroup */
    RUN_THREADS = PRODUCER * 32 + 128,
    GRADIENT_PRODUCER = 12,
    GRADIENT_THREADS = GRADIENT_PRODUCER * 32 + 128,
    ALIGN = 1024,
};

/* Sizes in bytes by the input's channels. */
template <int C> struct sizes {
    static constexpr int column = IMAGES * C * 2;
    static constexpr int row = HALO * column;
    static constexpr int steps = C == 64 ? 12 : 2; /* products of a row: 16 of (s, c) each */
    static constexpr int image = steps * 192 * 32;
    static constexpr uint32_t layout = C == 64 ? 1 : 0;

    static constexpr int dout_row = COLUMNS * IMAGES * 64 * 2;
    static constexpr int gradient_stages = 6;
    static constexpr int gradient_barriers = gradient_stages * (dout_row + row);
    /* The last row is followed by two columns of room: an operand's columns overlap, and checkers of memory count them as
     * if they lay one after the other. */
    static constexpr int gradient_bytes =
        ALIGN + gradient_barriers + 2 * gradient_stages * 8 + 2 * column;
    static constexpr int columns = 3 * C; /* of a warpgroup's sums: (s, c) */
};

/* Shared memory of conv_rows: weights, rows of the input, what the outlets use, barriers. */
template <int C, int KIND> struct run_sizes : sizes<C> {
    using outlet = outlet_sizes<KIND>;
    static constexpr int stages = C == 8 ? 8 : outlet::arriving == 0 ? 6 : 5 - outlet::arriving;
    static constexpr int staging = sizes<C>::image + stages * sizes<C>::row;
    static constexpr int barriers = staging + outlet::bytes;
    static constexpr int run_bytes = ALIGN + barriers + (2 * stages + 1) * 8;
    static_assert(run_bytes <= 227 * 1024, "a block's shared memory");
};

/* One block a multiprocessor: warpgroup i makes columns 8i .. 8i + 7 of the units, the last warp fetches rows. */
template <int C, int KIND>
static __global__ void __launch_bounds__(RUN_THREADS, 1)
    conv_rows(const __grid_constant__ CUtensorMap in_map,
              const __grid_constant__ CUtensorMap out_map,
              const __grid_constant__ CUtensorMap beside_map, const void *image,
              const __grid_constant__ outlet_inputs inputs,
              const __grid_constant__ conv_work work) {
#ifdef NPI_SM90A
    using size = run_sizes<C, KIND>;
    using out_size = outlet_sizes<KIND>;
    extern __shared__ uint8_t raw[];
    const uint32_t base = (npi_shared(raw) + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
    const uint32_t rows = base + size::image, full = base + size::barriers;
    const uint32_t empty = full + size::stages * 8, weights = empty + size::stages * 8;
    const uint32_t staging = base + size::staging;
    const int warp = npi_warp(), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < size::stages; i++) {
            npi_barrier_init(full + i * 8, 1);
            npi_barrier_init(empty + i * 8, PRODUCER);
        }
        npi_barrier_init(weights, 1);
        outlet_init<KIND>(staging);
        npi_barrier_init_done();
    }
    uint8_t *const staged = raw + (staging - npi_shared(raw));
    float *const channels = (float *)(staged + out_size::channels);
    if ((out_size::infer || out_size::back) && threadIdx.x < 64)
        channels[threadIdx.x] = inputs.channels[threadIdx.x];
    __syncthreads();
    npi_ring_place place = {0, 0};
    if (warp >= PRODUCER) {
        npi_registers_fewer<40>();
        if (warp == PRODUCER && lane == 0) {
            npi_barrier_expect(weights, size::image);
            npi_bulk_load(base, image, size::image, weights);
#pragma unroll 1
            for (int u = blockIdx.x; u < work.units; u += gridDim.x) {
                const conv_unit unit = unit_at(work, u);
#pragma unroll 1
                for (int y = unit.from; y <= unit.to; y++) {
                    npi_barrier_wait(empty + place.stage * 8, place.parity ^ 1);
                    npi_barrier_expect(full + place.stage * 8, size::row);
                    npi_box_load(rows + place.stage * size::row, &in_map, 0, unit.image,
                                 unit.column - 1, y, full + place.stage * 8);
                    place.next(size::stages);
                }
            }
        } else if (out_size::arriving > 0 && warp > PRODUCER && warp <= PRODUCER + WARPGROUPS) {
            outlet_feed<KIND>(staging, &out_map, &beside_map, work, inputs, warp - PRODUCER - 1,
                              lane);
        }
        return;
    }
    npi_registers_more<232>();
    const int warpgroup = warp / 4;
    outlet<KIND> outlet;
    outlet.map = &out_map;
    outlet.channels = channels;
    outlet.mine = outlet_at<KIND>(staging, warpgroup);
    outlet.warpgroup = warpgroup;
    outlet.thread = threadIdx.x % 128;
    outlet.begin();
    float acc[96], out[32]; /* acc: output rows y + 1, y, y - 1; out: the one completed before */
    npi_barrier_wait(weights, 0);
#pragma unroll 1
    for (int u = blockIdx.x; u < work.units; u += gridDim.x) {
        const conv_unit unit = unit_at(work, u);
#pragma unroll
        for (int i = 0; i < 96; i++)
            acc[i] = 0.0f;
#pragma unroll 1
        for (int y = unit.from; y <= unit.to; y++) {
            npi_barrier_wait(full + place.stage * 8, place.parity);
            const uint32_t at =
                rows + place.stage * size::row + (uint32_t)warpgroup * 8 * size::column;
            npi_wgmma_fence();
            if constexpr (C == 64) {
                const uint64_t a = npi_operand(at, 16, 1024, 1), b = npi_operand(base, 16, 1024, 1);
#pragma unroll
                for (int i = 0; i < size::steps; i++)
                    npi_wgmma<0>(acc, a + ((i / 4 * size::column + i % 4 * 32) >> 4),
                                 b + ((i / 4 * 4 * 6144 + i % 4 * 32) >> 4));
            } else { /* taps s = 0 and 1 as 16 of K; tap 2 twice, the second time with weights 0 */
                const uint64_t b = npi_operand(base, 3072, 128, 0);
                npi_wgmma<0>(acc, npi_operand(at, 128, 128, 0), b);
                npi_wgmma<0>(acc, npi_operand(at + 256, 0, 128, 0), b + (6144 >> 4));
            }
            npi_wgmma_commit();
            if (y - 2 >= unit.first)
                outlet.emit(out, work, inputs, unit, y - 2);
            npi_wgmma_wait<0>();
            npi_settle(acc);
            if (lane == 0)
                npi_barrier_arrive(empty + place.stage * 8);
            place.next(size::stages);
#pragma unroll
            for (int i = 0; i < 32; i++) {
                out[i] = acc[64 + i];
                acc[64 + i] = acc[32 + i];
                acc[32 + i] = acc[i];
                acc[i] = 0.0f;
            }
        }
        if (unit.to - 1 >= unit.first)
            outlet.emit(out, work, inputs, unit, unit.to - 1);
        if (unit.end == work.h) { /* the row below the image adds nothing to the last one */
#pragma unroll
            for (int i = 0; i < 32; i++)
                out[i] = acc[64 + i];
            outlet.emit(out, work, inputs, unit, unit.to);
        }
    }
    outlet.end(inputs, staged);
#else
    __trap();
#endif
}

/* Warpgroup r sums over pixels the products of dout's row y and the input's row y + r - 1, for three shifts at once.
 * partial[block][r][k][(s, c)]. */
template <int C>
static __global__ void __launch_bounds__(GRADIENT_THREADS, 1)
    conv_gradient(const __grid_constant__ CUtensorMap in_map,
                  const __grid_constant__ CUtensorMap dout_map, float *partial,
                  const conv_work work) {
#ifdef NPI_SM90A
    using size = sizes<C>;
    constexpr int stages = size::gradient_stages;
    extern __shared__ uint8_t raw[];
    const uint32_t base = (npi_shared(raw) + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
    const uint32_t rows = base + stages * size::dout_row, full = base + size::gradient_barriers;
    const uint32_t empty = full + stages * 8;
    const int warp = npi_warp(), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < stages; i++) {
            npi_barrier_init(full + i * 8, 1);
            npi_barrier_init(empty + i * 8, GRADIENT_PRODUCER);
        }
        npi_barrier_init_done();
    }
    __syncthreads();
    npi_ring_place place = {0, 0};
    if (warp >= GRADIENT_PRODUCER) {
        npi_registers_fewer<40>();
        if (warp == GRADIENT_PRODUCER && lane == 0) {
#pragma unroll 1
            for (int u = blockIdx.x; u < work.units; u += gridDim.x) {
                const conv_unit unit = unit_at(work, u);
#pragma unroll 1
                for (int y = unit.from; y <= unit.to; y++) {
                    const uint32_t barrier = full + place.stage * 8;
                    const bool inside = unit.first <= y && y < unit.end;
                    npi_barrier_wait(empty + place.stage * 8, place.parity ^ 1);
                    npi_barrier_expect(barrier, size::row + (inside ? size::dout_row : 0));
                    npi_box_load(rows + place.stage * size::row, &in_map, 0, unit.image,
                                 unit.column - 1, y, barrier);
                    if (inside)
                        npi_box_load(base + place.stage * size::dout_row, &dout_map, 0, unit.image,
                                     unit.column, y, barrier);
                    place.next(stages);
                }
            }
        }
        return;
    }
    npi_registers_more<152>();
    const int r = warp / 4;
    float acc[size::columns / 2];
#pragma unroll
    for (int i = 0; i < size::columns / 2; i++)
        acc[i] = 0.0f;
#pragma unroll 1
    for (int u = blockIdx.x; u < work.units; u += gridDim.x) {
        const conv_unit unit = unit_at(work, u);
        /* With row y of both: r = 0 pairs dout's y with the input's y - 1, r = 1 y with y, r = 2 y - 1 with y. */
        npi_ring_place before = place; /* of row y - 1 */
        npi_ring_place done = place;   /* of the first row not yet given back */
        const int lag = r == 1 ? 1 : 2;
#pragma unroll 1
        for (int y = unit.from; y <= unit.to; y++) {
            npi_barrier_wait(full + place.stage * 8, place.parity);
            const int dout_y = r == 2 ? y - 1 : y;
            npi_wgmma_fence();
            if (unit.first <= dout_y && dout_y < unit.end && dout_y + r - 1 >= 0) {
                const uint32_t dout_stage = r == 2 ? before.stage : place.stage;
                const uint32_t in_stage = r == 0 ? before.stage : place.stage;
                const uint64_t a = npi_operand(base + dout_stage * size::dout_row, 1024, 1024, 1);
                const uint64_t b = npi_operand(rows + in_stage * size::row, size::column,
                                               size::column, size::layout);
#pragma unroll
                for (int i = 0; i < COLUMNS / 2; i++)
                    npi_wgmma<1>(acc, a + (i * 2048 >> 4), b + (i * 2 * size::column >> 4));
            }
            npi_wgmma_commit();
            npi_wgmma_wait<1>(); /* the products of row y - 1 are done */
            if (y - lag >= unit.from) {
                if (lane == 0)
                    npi_barrier_arrive(empty + done.stage * 8);
                done.next(stages);
            }
            before = place;
            place.next(stages);
        }
        npi_wgmma_wait<0>();
        npi_settle(acc);
        while (done.stage != place.stage || done.parity != place.parity) {
            if (lane == 0)
                npi_barrier_arrive(empty + done.stage * 8);
            done.next(stages);
        }
    }
    const int k = warp % 4 * 16 + lane / 4;
    float *to = partial + ((size_t)blockIdx.x * 3 + r) * 64 * size::columns;
#pragma unroll
    for (int i = 0; i < size::columns / 8; i++) {
        const int column = i * 8 + lane % 4 * 2;
        *(float2 *)(to + k * size::columns + column) = make_float2(acc[4 * i], acc[4 * i + 1]);
        *(float2 *)(to + (k + 8) * size::columns + column) =
            make_float2(acc[4 * i + 2], acc[4 * i + 3]);
    }
#else
    __trap();
#endif
}

enum { SUM_LANES = 32, SUM_SLICES = 8 };

/* dw[k][r][s][c < w_c] = the sum over blocks of partial[block][r][k][s][c]: slices of every eighth block first, then
 * the slices in order.  Four neighbouring sums a thread. */
template <int C>
static __global__ void __launch_bounds__(SUM_LANES *SUM_SLICES)
    sum_partials(const float4 *partial, int blocks, int w_c, float *dw) {
    constexpr int count = 3 * 64 * sizes<C>::columns / 4;
    __shared__ float4 slices[SUM_SLICES][SUM_LANES];
    const int lane = threadIdx.x % SUM_LANES, slice = threadIdx.x / SUM_LANES;
    const int at = blockIdx.x * SUM_LANES + lane; /* count is a multiple of SUM_LANES */
    float4 total = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 8
    for (int i = slice; i < blocks; i += SUM_SLICES) {
        const float4 part = partial[(size_t)i * count + at];
        total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
    }
    slices[slice][lane] = total;
    __syncthreads();
    if (slice > 0)
        return;
    for (int i = 1; i < SUM_SLICES; i++) {
        const float4 part = slices[i][lane];
        total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
    }
    const float values[4] = {total.x, total.y, total.z, total.w};
    for (int i = 0; i < 4; i++) {
        const int c = (at * 4 + i) % C, rest = (at * 4 + i) / C;
        const int s = rest % 3, k = rest / 3 % 64, r = rest / 192;
        if (c < w_c)
            dw[((k * 3 + r) * 3 + s) * w_c + c] = values[i];
    }
}

/* One thread an element of the image: 64 x 3 x 3 x C.  With a bias, the batch norm is folded in. */
template <int C>
static __global__ void pack_weights(const npi_unit_params params, int w_c, __nv_bfloat16 *forward,
                                    __nv_bfloat16 *backward, float *bias) {
    const int index = blockIdx.x * blockDim.x + threadIdx.x;
    const float *w = params.weight;
    if (bias && index < 64)
        bias[index] = npi_folded_bias(params, index);
    if constexpr (C == 64) {
        const int c = index % 64, k = index / 64 % 64, r = index / 4096 % 3, s = index / 12288;
        if (s > 2)
            return;
        const int row = r * 64 + k;
        const int to = s * 12288 + row * 64 + ((c / 8 ^ row % 8) * 8 + c % 8);
        const float value = w[((k * 3 + r) * 3 + s) * 64 + c];
        forward[to] = __float2bfloat16(bias ? value * npi_folded_scale(params, k) : value);
        if (backward) /* k numbers inputs, c outputs */
            backward[to] = __float2bfloat16(w[((c * 3 + 2 - r) * 3 + 2 - s) * 64 + k]);
    } else { /* [step][half: s = 2 step + half][row = (r, k)][c]; there is no tap 3 */
        const int c = index % 8, row = index / 8 % 192, s = index / 1536;
        const int k = row % 64, r = row / 64;
        if (s > 3)
            return;
        const float value = s < 3 && c < w_c ? w[((k * 3 + r) * 3 + s) * w_c + c] : 0.0f;
        forward[index] = __float2bfloat16(bias ? value * npi_folded_scale(params, k) : value);
    }
}

npi_conv90 npi_conv90_plan(int n, int h, int w, int c, int multiprocessors) {
    npi_conv90 plan = {n, h, w, c, npi_ceil_div(w, COLUMNS), 1, h, 0, 0};
    const int columns = npi_ceil_div(n, IMAGES) * plan.tiles;
    int best = 0;
    for (int bands = 1; bands <= npi_ceil_div(h, 4); bands++) {
        const int rows = npi_ceil_div(h, bands), used = npi_ceil_div(h, rows);
        /* What the busiest block does, in rows: two of halo, one of beginning and end. */
        const int cost = npi_ceil_div((int64_t)columns * used, multiprocessors) *
                         (rows + (used > 1 ? 2 : 0) + 1);
        if (best == 0 || cost < best) {
            best = cost;
            plan.bands = used;
            plan.band_rows = rows;
        }
    }
    plan.units = columns * plan.bands;
    plan.blocks = plan.units < multiprocessors ? plan.units : multiprocessors;
    return plan;
}

static conv_work work_of(const npi_conv90 *plan) {
    return {plan->n, plan->h, plan->w, plan->tiles, plan->bands, plan->band_rows, plan->units};
}

/* Boxes of c channels, IMAGES images, `columns` columns and one row of n x h x w x c, in this order inside the box. */
static npos_status encode(CUtensorMap *map, const npi_conv90 *plan, const void *data, int c,
                          int columns) {
    const cuuint64_t pixel = (cuuint64_t)c * 2, row = pixel * (cuuint64_t)plan->w;
    const cuuint64_t dims[4] = {(cuuint64_t)c, (cuuint64_t)plan->n, (cuuint64_t)plan->w,
                                (cuuint64_t)plan->h};
    const cuuint64_t strides[3] = {row * (cuuint64_t)plan->h, pixel, row};
    const cuuint32_t box[4] = {(cuuint32_t)c, IMAGES, (cuuint32_t)columns, 1};
    return npi_cuda_box(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, data, dims, strides, box, c == 64);
}

static npos_status pack(const npi_unit_params *params, int w_c, int c, void *forward,
                        void *backward, float *bias, cudaStream_t stream) {
    if (c == 8)
        pack_weights<8>
            <<<6144 / 256, 256, 0, stream>>>(*params, w_c, (__nv_bfloat16 *)forward, NULL, bias);
    else
        pack_weights<64><<<36864 / 256, 256, 0, stream>>>(*params, w_c, (__nv_bfloat16 *)forward,
                                                          (__nv_bfloat16 *)backward, bias);
    return npi_cuda_status(cudaGetLastError(), "packing weights");
}

npos_status npi_conv90_pack(const float *w, int w_c, int c, void *forward, void *backward,
                            cudaStream_t stream) {
    const npi_unit_params params = {.weight = (float *)w};
    return pack(&params, w_c, c, forward, backward, NULL, stream);
}

npos_status npi_conv90_fold(const npi_unit_params *params, int w_c, int c, void *image, float *bias,
                            cudaStream_t stream) {
    return pack(params, w_c, c, image, NULL, bias, stream);
}

/* beside: the map that the kind combines with its outputs, or NULL. */
template <int C, int KIND>
static npos_status run(const npi_conv90 *plan, const __nv_bfloat16 *in, const void *image,
                       const __nv_bfloat16 *beside, __nv_bfloat16 *out, const outlet_inputs *inputs,
                       cudaStream_t stream) {
    constexpr int bytes = run_sizes<C, KIND>::run_bytes, columns = COLUMNS / WARPGROUPS;
    CUtensorMap in_map, out_map, beside_map = {};
    NPI_TRY(encode(&in_map, plan, in, plan->c, HALO));
    NPI_TRY(encode(&out_map, plan, out, NPI_CONV90_K, columns));
    if (beside)
        NPI_TRY(encode(&beside_map, plan, beside, NPI_CONV90_K, columns));
    CUDA_TRY("convolution",
             cudaFuncSetAttribute(conv_rows<C, KIND>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  bytes));
    conv_rows<C, KIND><<<plan->blocks, RUN_THREADS, bytes, stream>>>(in_map, out_map, beside_map,
                                                                     image, *inputs, work_of(plan));
    return npi_cuda_status(cudaGetLastError(), "convolution");
}

npos_status npi_conv90_run(const npi_conv90 *plan, const __nv_bfloat16 *in, const void *image,
                           __nv_bfloat16 *out, bool add, float *sums, cudaStream_t stream) {
    const outlet_inputs inputs = {.sums = sums, .add = add};
    auto call = plan->c == 8 ? (sums ? run<8, STORE_SUMS> : run<8, STORE>)
                             : (sums ? run<64, STORE_SUMS> : run<64, STORE>);
    return call(plan, in, image, NULL, out, &inputs, stream);
}

npos_status npi_conv90_infer(const npi_conv90 *plan, const __nv_bfloat16 *in, const void *image,
                             const float *bias, const __nv_bfloat16 *residual, bool relu,
                             __nv_bfloat16 *out, cudaStream_t stream) {
    const outlet_inputs inputs = {.channels = bias, .least = relu ? 0 : 0xff80ff80u};
    auto call = plan->c == 8 ? (residual ? run<8, INFER_RESIDUAL> : run<8, INFER>)
                             : (residual ? run<64, INFER_RESIDUAL> : run<64, INFER>);
    return call(plan, in, image, residual, out, &inputs, stream);
}

npos_status npi_conv90_back(const npi_conv90 *plan, const __nv_bfloat16 *dout, const void *image,
                            const npi_conv90_before *before, __nv_bfloat16 *dx, bool add,
                            float *sums, cudaStream_t stream) {
    const outlet_inputs inputs = {.channels = before->mean, .passed = before->passed, .sums = sums};
    auto call = add ? run<64, BACK_ADD> : run<64, BACK>;
    return call(plan, dout, image, before->c, dx, &inputs, stream);
}

size_t npi_conv90_scratch_bytes(const npi_conv90 *plan) {
    return (size_t)plan->blocks * 3 * 64 * 3 * (size_t)plan->c * sizeof(float);
}

template <int C>
static npos_status weights(const npi_conv90 *plan, const CUtensorMap &in_map,
                           const CUtensorMap &dout_map, int w_c, float *dw, float *scratch,
                           cudaStream_t stream) {
    CUDA_TRY("weight gradient",
             cudaFuncSetAttribute(conv_gradient<C>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  sizes<C>::gradient_bytes));
    conv_gradient<C><<<plan->blocks, GRADIENT_THREADS, sizes<C>::gradient_bytes, stream>>>(
        in_map, dout_map, scratch, work_of(plan));
    CUDA_TRY("weight gradient", cudaGetLastError());
    const int sums = 3 * 64 * sizes<C>::columns / 4;
    sum_partials<C><<<sums / SUM_LANES, SUM_LANES * SUM_SLICES, 0, stream>>>(
        (const float4 *)scratch, plan->blocks, w_c, dw);
    return npi_cuda_status(cudaGetLastError(), "sum of weight gradients");
}

npos_status npi_conv90_weights(const npi_conv90 *plan, const __nv_bfloat16 *in,
                               const __nv_bfloat16 *dout, int w_c, float *dw, float *scratch,
                               cudaStream_t stream) {
    CUtensorMap in_map, dout_map;
    NPI_TRY(encode(&in_map, plan, in, plan->c, HALO));
    NPI_TRY(encode(&dout_map, plan, dout, NPI_CONV90_K, COLUMNS));
    auto call = plan->c == 8 ? weights<8> : weights<64>;
    return call(plan, in_map, dout_map, w_c, dw, scratch, stream);
}
