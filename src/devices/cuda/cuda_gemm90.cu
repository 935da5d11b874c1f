#include "devices/cuda/cuda_gemm90.cuh"

#include <type_traits>

#include "devices/cuda/cuda_act.cuh"
#include "devices/cuda/cuda_box.cuh"
#include "devices/cuda/cuda_sm90.cuh"
#include "devices/cuda/cuda_tokens.cuh"

namespace {

enum {
    CLUSTER = 2,
    WARPGROUPS = 2,
    ROWS = 128,    /* of a block's tile */
    COLUMNS = 256, /* of a cluster's */
    INNER = 64,    /* of a stage: 128 bytes, a period of the swizzle */
    STAGES = 3,
    LEFT = ROWS * INNER * 2,
    RIGHT = COLUMNS * INNER * 2,
    STAGE = LEFT + RIGHT,
    SIDE = 64, /* of a box of results: a warpgroup's rows, 128 bytes of columns */
    BOX = SIDE * SIDE * 2,
    BOXES = 2, /* of a slot: what a warpgroup sends at once */
    SLOT = BOXES * BOX,
    SLOTS = COLUMNS / (BOXES * SIDE), /* of a warpgroup */
    PRODUCER = WARPGROUPS * 4,        /* the warp that feeds the others; behind it those of slots */
    THREADS = PRODUCER * 32 + 128,
    ALIGN = 1024,
    /* where things begin: the stages, then */
    SLOTS_AT = STAGES * STAGE,
    ASIDE_AT = SLOTS_AT + WARPGROUPS * SLOTS * SLOT, /* the bias of all columns, or sums */
    MOST = NPI_GEMM90_COLUMNS,
    BARRIERS_AT = ASIDE_AT + MOST * 2,
    BYTES = ALIGN + BARRIERS_AT + (2 * STAGES + 2 * WARPGROUPS * SLOTS) * 8
};
static_assert(MOST % COLUMNS == 0 && MOST * 2 >= PRODUCER * COLUMNS * 4, "room for either");
static_assert(BYTES <= 227 * 1024, "a block's shared memory");

struct gemm_work {
    int rows, columns, steps; /* steps: stages of a tile */
    int across, tiles;        /* tiles of a cluster: side by side, and all */
    const void *bias;
    float *sums;
};

/* The place of a block's tile, of which tile `index` is the cluster's. */
struct tile_place {
    int row, column;
};

#ifdef NPI_SM90A

/* d (64 x COLUMNS; + d where `add`) = 16 of INNER of 64 rows times 16 of `right`; ACROSS: whose columns are innermost. */
#define MULTIPLY(TYPE)                                                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"                                     \
                 "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE " {"                 \
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, "                              \
                 "%12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "                    \
                 "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, "                    \
                 "%36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                    \
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, "                    \
                 "%60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, "                    \
                 "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, "                    \
                 "%84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "                    \
                 "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, "            \
                 "%108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, "        \
                 "%120, %121, %122, %123, %124, %125, %126, %127"                                  \
                 "}, "                                                                             \
                 "%128, %129, p, 1, 1, 0, %131;\n}\n"                                              \
                 : NPI_ACC8(d, 0), NPI_ACC8(d, 8), NPI_ACC8(d, 16), NPI_ACC8(d, 24),               \
                   NPI_ACC8(d, 32), NPI_ACC8(d, 40), NPI_ACC8(d, 48), NPI_ACC8(d, 56),             \
                   NPI_ACC8(d, 64), NPI_ACC8(d, 72), NPI_ACC8(d, 80), NPI_ACC8(d, 88),             \
                   NPI_ACC8(d, 96), NPI_ACC8(d, 104), NPI_ACC8(d, 112), NPI_ACC8(d, 120)           \
                 : "l"(a), "l"(b), "r"((int)add), "n"(ACROSS))
template <int ACROSS>
__device__ __forceinline__ void multiply(float (&d)[COLUMNS / 2], uint64_t a, uint64_t b, bool add,
                                         __half) {
    MULTIPLY("f16");
}
template <int ACROSS>
__device__ __forceinline__ void multiply(float (&d)[COLUMNS / 2], uint64_t a, uint64_t b, bool add,
                                         __nv_bfloat16) {
    MULTIPLY("bf16");
}
#undef MULTIPLY

__device__ __forceinline__ tile_place place_of(const gemm_work &work, int index, int rank) {
    return {(index / work.across * CLUSTER + rank) * ROWS, index % work.across * COLUMNS};
}

__device__ __forceinline__ int clusters(void) {
    return (int)gridDim.x / CLUSTER;
}

/* A warpgroup's slots, and for each a barrier that it may be written (with what comes into it, where something does) and
 * one that it has been. */
struct slot_memory {
    uint32_t slots, ready, done;
};
__device__ __forceinline__ slot_memory slots_of(uint32_t base, int warpgroup) {
    const uint32_t barriers = base + BARRIERS_AT + (2 * STAGES + 2 * warpgroup * SLOTS) * 8;
    return {base + SLOTS_AT + warpgroup * SLOTS * SLOT, barriers, barriers + SLOTS * 8};
}

/* One thread: brings the factors. */
template <int ACROSS>
__device__ __forceinline__ void feed(uint32_t base, const CUtensorMap *left,
                                     const CUtensorMap *right, const gemm_work &work, int rank) {
    const uint32_t full = base + BARRIERS_AT, empty = full + STAGES * 8;
    constexpr uint16_t ALL = (1 << CLUSTER) - 1;
    npi_ring_place place = {0, 0};
    for (int i = (int)blockIdx.x / CLUSTER; i < work.tiles; i += clusters()) {
        const tile_place tile = place_of(work, i, rank);
        for (int k = 0; k < work.steps; k++) {
            const uint32_t at = base + place.stage * STAGE, barrier = full + place.stage * 8;
            npi_barrier_wait(empty + place.stage * 8, place.parity ^ 1);
            npi_barrier_expect(barrier, STAGE);
            npi_box_load(at, left, k * INNER, tile.row, 0, 0, barrier);
            if constexpr (ACROSS) {
                constexpr int SHARE = INNER / CLUSTER;
                for (int j = 0; j < COLUMNS / SIDE; j++)
                    npi_box_share(at + LEFT + (j * INNER + rank * SHARE) * SIDE * 2, right,
                                  tile.column + j * SIDE, k * INNER + rank * SHARE, 0, 0, barrier,
                                  ALL);
            } else {
                constexpr int SHARE = COLUMNS / CLUSTER;
                npi_box_share(at + LEFT + rank * SHARE * INNER * 2, right, k * INNER,
                              tile.column + rank * SHARE, 0, 0, barrier, ALL);
            }
            place.next(STAGES);
        }
    }
}

/* One thread for each warpgroup: sends what is in the slots, and brings what the next tile combines with its results. */
template <int OUTLET>
__device__ __forceinline__ void serve(uint32_t base, const CUtensorMap *d,
                                      const CUtensorMap *beside, const gemm_work &work, int rank,
                                      int warpgroup) {
    constexpr bool ARRIVES = OUTLET == NPI_GEMM90_BACK || OUTLET == NPI_GEMM90_ADD;
    constexpr int SENDS = OUTLET == NPI_GEMM90_KEEP ? 2 : 1;
    const CUtensorMap *const from = OUTLET == NPI_GEMM90_BACK ? d : beside;
    const slot_memory mine = slots_of(base, warpgroup);
    const auto refill = [&](uint32_t slot, int index) {
        const uint32_t barrier = mine.ready + slot * 8;
        if constexpr (ARRIVES) {
            if (index >= work.tiles)
                return;
            const tile_place tile = place_of(work, index, rank);
            npi_barrier_expect(barrier, SLOT);
            for (int i = 0; i < BOXES; i++)
                npi_box_load(mine.slots + slot * SLOT + i * BOX, from,
                             tile.column + ((int)slot * BOXES + i) * SIDE,
                             tile.row + warpgroup * SIDE, 0, 0, barrier);
        } else {
            npi_barrier_arrive(barrier);
        }
    };
    const int first = (int)blockIdx.x / CLUSTER;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        refill(slot, first);
    npi_ring_place place = {0, 0};
    for (int i = first; i < work.tiles; i += clusters()) {
        const tile_place tile = place_of(work, i, rank);
        for (int j = 0; j < SLOTS; j++)
            for (int send = 0; send < SENDS; send++) {
                npi_barrier_wait(mine.done + place.stage * 8, place.parity);
                for (int box = 0; box < BOXES; box++)
                    npi_box_store(
                        mine.slots + place.stage * SLOT + box * BOX, send + 1 < SENDS ? beside : d,
                        tile.column + (j * BOXES + box) * SIDE, tile.row + warpgroup * SIDE, 0, 0);
                npi_bulk_commit();
                npi_bulk_wait_read<0>();
                refill(place.stage, i + clusters());
                place.next(SLOTS);
            }
    }
    npi_bulk_wait<0>();
}

/* v[0], v[1] = the sums, over the eight lanes of one lane % 4, of v[2 (lane / 4)] and the next: a lane keeps one half of
 * what it has, and gives the other to the lane that keeps that. */
template <int HALF = 8> __device__ __forceinline__ void sum_lanes(float (&v)[16], int lane) {
    const bool upper = lane & 2 * HALF;
#pragma unroll
    for (int i = 0; i < HALF; i++) {
        const float kept = upper ? v[HALF + i] : v[i], given = upper ? v[i] : v[HALF + i];
        v[i] = kept + __shfl_xor_sync(0xffffffffu, given, 2 * HALF);
    }
    if constexpr (HALF > 2)
        sum_lanes<HALF / 2>(v, lane);
}

/* Of two neighbours v in a row what is sent, and what came for them.  KEEP sends slopes first (send 0), and leaves activated
 * ones in v for the next time. */
template <typename T, typename out, int OUTLET, bool GELU>
__device__ __forceinline__ float2 combine(float *v, uint32_t came, int send) {
    const float2 x = make_float2(v[0], v[1]), other = npi_two(came, out());
    float2 slope;
    if constexpr (OUTLET == NPI_GEMM90_BACK)
        return make_float2(x.x * other.x, x.y * other.y);
    if constexpr (OUTLET == NPI_GEMM90_ADD)
        return make_float2(x.x + other.x, x.y + other.y);
    if constexpr (OUTLET == NPI_GEMM90_ACT)
        return npi_activate<T>(GELU, x, &slope);
    if (send == 1)
        return x;
    const float2 acted = npi_activate<T>(GELU, x, &slope);
    v[0] = acted.x;
    v[1] = acted.y;
    return slope;
}

/* x becomes what is sent.  Thread t of a warpgroup holds of row 16 (t / 32) + (t % 32) / 4 and of 8 rows below columns
 * 8 j + 2 (t % 4) + {0, 1}: x[4 j + {0, 1}] and x[4 j + 2 + {0, 1}].  aside: the bias of all columns, or room for sums. */
template <typename T, int OUTLET, bool GELU>
__device__ __forceinline__ void finish(float (&x)[COLUMNS / 2], uint32_t base,
                                       const gemm_work &work, const tile_place &tile, int warpgroup,
                                       uint8_t *aside, npi_ring_place &place) {
    constexpr bool KEEP = OUTLET == NPI_GEMM90_KEEP, BACK = OUTLET == NPI_GEMM90_BACK,
                   ARRIVES = BACK || OUTLET == NPI_GEMM90_ADD;
    typedef std::conditional_t<OUTLET == NPI_GEMM90_ADD, __half, T> out;
    const slot_memory mine = slots_of(base, warpgroup);
    const int lane = (int)threadIdx.x % 32, warp = npi_warp(), row = warp % 4 * 16 + lane % 16;
    /* where stmatrix has columns 16 j .. of a row */
    const auto sixteen = [&](uint32_t box, int j) {
        return box + row * SIDE * 2 + (((2 * j + lane / 16) ^ row % 8) << 4);
    };
    const uint32_t *const bias = (const uint32_t *)aside + (tile.column + lane % 4 * 2) / 2;
    float *const sums = (float *)aside;
#pragma unroll
    for (int s = 0; s < SLOTS; s++)
#pragma unroll
        for (int send = KEEP ? 0 : 1; send < 2; send++) {
            npi_barrier_wait(mine.ready + place.stage * 8, place.parity);
#pragma unroll
            for (int b = 0; b < BOXES; b++) {
                const int column = (s * BOXES + b) * SIDE;
                const uint32_t box = mine.slots + place.stage * SLOT + b * BOX;
                float *const v = x + column / 2;
                float sum[16] = {};
                uint32_t pairs[4][4] = {}; /* of columns 16 j ..: what came, then what goes */
#pragma unroll
                for (int j = 0; j < 4 && ARRIVES; j++)
                    npi_load_matrices(sixteen(box, j), pairs[j]);
#pragma unroll
                for (int j = 0; j < 8 && !BACK && (!KEEP || send == 0); j++) {
                    const float2 more = npi_two(bias[(column + j * 8) / 2], T());
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        v[4 * j + i] += i % 2 ? more.y : more.x;
                }
#pragma unroll
                for (int i = 0; i < 16; i++) {
                    uint32_t &pair = pairs[i / 4][i % 4];
                    const float2 two = combine<T, out, OUTLET, GELU>(v + 2 * i, pair, send);
                    pair = npi_pair(two.x, two.y, out());
                    sum[i / 2 * 2] += two.x;
                    sum[i / 2 * 2 + 1] += two.y;
                }
#pragma unroll
                for (int j = 0; j < 4; j++)
                    npi_store_matrices(sixteen(box, j), pairs[j][0], pairs[j][1], pairs[j][2],
                                       pairs[j][3]);
                if constexpr (BACK) {
                    sum_lanes(sum, lane);
                    *(float2 *)(sums + warp * COLUMNS + column + lane / 4 * 8 + lane % 4 * 2) =
                        make_float2(sum[0], sum[1]);
                }
            }
            npi_fence_async();
            __syncwarp();
            if (lane == 0)
                npi_barrier_arrive(mine.done + place.stage * 8);
            place.next(SLOTS);
        }
    if constexpr (BACK) {
        const int thread = (int)threadIdx.x % 128, from = tile.row + warpgroup * SIDE;
        npi_named_barrier(1 + warpgroup, 128);
        for (int i = thread; i < COLUMNS && from < work.rows; i += 128) {
            const float *const of = sums + warpgroup * 4 * COLUMNS + i;
            if (tile.column + i < work.columns)
                work.sums[(int64_t)(from / SIDE) * work.columns + tile.column + i] =
                    of[0] + of[COLUMNS] + of[2 * COLUMNS] + of[3 * COLUMNS];
        }
        npi_named_barrier(1 + warpgroup, 128);
    }
}

#endif

/* Tile after tile: blocks with their clusters' numbers take every so many. */
template <typename T, int OUTLET, int ACROSS, bool GELU>
__global__ void __launch_bounds__(THREADS, 1)
    gemm_kernel(const __grid_constant__ CUtensorMap left, const __grid_constant__ CUtensorMap right,
                const __grid_constant__ CUtensorMap d, const __grid_constant__ CUtensorMap beside,
                const __grid_constant__ gemm_work work) {
#ifdef NPI_SM90A
    extern __shared__ uint8_t raw[];
    const uint32_t skip = (0u - npi_shared(raw)) % ALIGN, base = npi_shared(raw) + skip;
    const uint32_t full = base + BARRIERS_AT, empty = full + STAGES * 8;
    const int warp = npi_warp(), lane = (int)threadIdx.x % 32, rank = (int)npi_cluster_rank();
    uint8_t *const aside = raw + skip + ASIDE_AT;
    for (int i = (int)threadIdx.x; work.bias && i < work.across * COLUMNS; i += THREADS)
        ((T *)aside)[i] = i < work.columns ? ((const T *)work.bias)[i] : T(0.0f);
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            npi_barrier_init(full + i * 8, 1);
            npi_barrier_init(empty + i * 8, WARPGROUPS * CLUSTER);
        }
        for (int i = 0; i < WARPGROUPS * SLOTS; i++) {
            const slot_memory mine = slots_of(base, i / SLOTS);
            npi_barrier_init(mine.ready + i % SLOTS * 8, 1);
            npi_barrier_init(mine.done + i % SLOTS * 8, 4);
        }
        npi_barrier_init_done();
    }
    npi_cluster_barrier();
    if (warp >= PRODUCER) {
        npi_registers_fewer<40>();
        if (lane == 0 && warp == PRODUCER)
            feed<ACROSS>(base, &left, &right, work, rank);
        else if (lane == 0 && warp <= PRODUCER + WARPGROUPS)
            serve<OUTLET>(base, &d, &beside, work, rank, warp - PRODUCER - 1);
        __syncwarp();
    } else {
        npi_registers_more<232>();
        const int warpgroup = warp / 4, thread = (int)threadIdx.x % 128;
        /* An operand of 16 of INNER: where INNER is innermost 32 bytes of each row, else 16 rows. */
        constexpr uint32_t STEP = 32 / 16, STEP_RIGHT = ACROSS ? 16 * SIDE * 2 / 16 : STEP;
        const auto release = [&](uint32_t stage) {
            if (thread < CLUSTER)
                npi_barrier_arrive_at(empty + stage * 8, (uint32_t)thread);
        };
        npi_ring_place place = {0, 0}, slot = {0, 0};
        float x[COLUMNS / 2];
#pragma unroll 1
        for (int i = (int)blockIdx.x / CLUSTER; i < work.tiles; i += clusters()) {
            uint32_t before = 0;
#pragma unroll 1
            for (int k = 0; k < work.steps; k++) {
                const uint32_t at = base + place.stage * STAGE;
                const uint64_t a = npi_operand(at + warpgroup * 64 * INNER * 2, 16, 1024, 1),
                               b = npi_operand(at + LEFT, ACROSS ? INNER * SIDE * 2 : 16, 1024, 1);
                npi_barrier_wait(full + place.stage * 8, place.parity);
                npi_settle(x);
                npi_wgmma_fence();
#pragma unroll
                for (int j = 0; j < INNER / 16; j++)
                    multiply<ACROSS>(x, a + j * STEP, b + j * STEP_RIGHT, k + j > 0, T());
                npi_wgmma_commit();
                npi_wgmma_wait<1>();
                if (k > 0)
                    release(before);
                before = place.stage;
                place.next(STAGES);
            }
            npi_wgmma_wait<0>();
            npi_settle(x);
            release(before);
            finish<T, OUTLET, GELU>(x, base, work, place_of(work, i, rank), warpgroup, aside, slot);
        }
    }
    npi_cluster_barrier(); /* the other block may still share with this one */
#endif
}

template <typename T> constexpr CUtensorMapDataType map_type(void) {
    return std::is_same_v<T, __half> ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                     : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

/* *map = of data [rows][columns], rows ld apart, in boxes of box_rows x box_columns. */
npos_status encode(CUtensorMap *map, CUtensorMapDataType type, const void *data, int rows,
                   int columns, int64_t ld, int box_rows, int box_columns) {
    const cuuint64_t step = (cuuint64_t)ld * 2, all = step * (cuuint64_t)rows;
    const cuuint64_t dims[4] = {(cuuint64_t)columns, (cuuint64_t)rows, 1, 1},
                     strides[3] = {step, all, all};
    const cuuint32_t box[4] = {(cuuint32_t)box_columns, (cuuint32_t)box_rows, 1, 1};
    return npi_cuda_box(map, type, data, dims, strides, box, true);
}

template <typename T, int OUTLET, bool GELU>
npos_status run(const npi_gemm90 *g, int multiprocessors, cudaStream_t stream) {
    constexpr bool ADD = OUTLET == NPI_GEMM90_ADD;
    constexpr int ACROSS = OUTLET == NPI_GEMM90_BACK;
    const CUtensorMapDataType type = map_type<T>(), out = ADD ? map_type<__half>() : type;
    CUtensorMap left, right, d, beside = {};
    NPI_TRY(encode(&left, type, g->left, g->rows, g->inner, g->ld_left, ROWS, INNER));
    NPI_TRY(ACROSS ? encode(&right, type, g->right, g->inner, g->columns, g->ld_right,
                            INNER / CLUSTER, SIDE)
                   : encode(&right, type, g->right, g->columns, g->inner, g->ld_right,
                            COLUMNS / CLUSTER, INNER));
    NPI_TRY(encode(&d, out, g->d, g->rows, g->columns, g->ld_d, SIDE, SIDE));
    if (g->beside)
        NPI_TRY(encode(&beside, out, g->beside, g->rows, g->columns, g->ld_beside, SIDE, SIDE));
    gemm_work work = {};
    work.rows = g->rows;
    work.columns = g->columns;
    work.steps = npi_ceil_div(g->inner, INNER);
    work.across = npi_ceil_div(g->columns, COLUMNS);
    work.tiles = npi_ceil_div(g->rows, CLUSTER * ROWS) * work.across;
    work.bias = g->bias;
    work.sums = g->sums;
    const auto kernel = gemm_kernel<T, OUTLET, ACROSS, GELU>;
    CUDA_TRY("product",
             cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES));
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {CLUSTER, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(CLUSTER * min(work.tiles, multiprocessors / CLUSTER)));
    config.blockDim = dim3(THREADS);
    config.dynamicSmemBytes = BYTES;
    config.stream = stream;
    config.attrs = &cluster;
    config.numAttrs = 1;
    return npi_cuda_status(cudaLaunchKernelEx(&config, kernel, left, right, d, beside, work),
                           "product");
}

} // namespace

npos_status npi_gemm90_run(const npi_gemm90 *gemm, int multiprocessors, cudaStream_t stream) {
    const bool gelu = gemm->gelu;
    switch (gemm->outlet) {
    case NPI_GEMM90_ACT:
        return (gelu ? run<__half, NPI_GEMM90_ACT, true>
                     : run<__half, NPI_GEMM90_ACT, false>)(gemm, multiprocessors, stream);
    case NPI_GEMM90_KEEP:
        return (gelu ? run<__nv_bfloat16, NPI_GEMM90_KEEP, true>
                     : run<__nv_bfloat16, NPI_GEMM90_KEEP, false>)(gemm, multiprocessors, stream);
    case NPI_GEMM90_BACK:
        return run<__nv_bfloat16, NPI_GEMM90_BACK, false>(gemm, multiprocessors, stream);
    default:
        return run<__nv_bfloat16, NPI_GEMM90_ADD, false>(gemm, multiprocessors, stream);
    }
}
