/* devices/cuda/cuda_conv90_outlet.cuh - what cuda_conv90.cu does with finished rows of outputs.
 *
 * A warpgroup has the sums x of one row of 8 columns, 8 images and 64 channels in registers and sends them on through a
 * slot of shared memory, from which the copy engine takes them.  What has to be combined with them (a residual, a
 * batch norm's map, the old outputs) comes the same way: another warp, the warpgroup's feeder, has it brought to the
 * slot some rows ahead; each thread reads what belongs to its outputs and overwrites it in place.
 *
 * For cuda_conv90.cu alone. */
#ifndef NPI_CUDA_CONV90_OUTLET_CUH
#define NPI_CUDA_CONV90_OUTLET_CUH

#include "devices/cuda/cuda_conv90.cuh"
#include "devices/cuda/cuda_sm90.cuh"

enum {
    IMAGES = 8,         /* of a unit: one period of the swizzle a column */
    COLUMNS = 16,       /* of a unit's outputs */
    TILE = 64 * 64 * 2, /* outputs of a warpgroup: 8 columns of 8 images, 64 channels */
    WARPGROUPS = COLUMNS / 8,
};

struct conv_work {
    int n, h, w, tiles, bands, band_rows, units;
};

/* Output rows first .. end - 1 of a unit need the input rows from .. to. */
struct conv_unit {
    int image, column, first, end, from, to;
};

enum outlet_kind {
    STORE,          /* out = x, or out += x by the copy engine */
    STORE_SUMS,     /* the same, and sums of x and x x */
    INFER,          /* out = relu?(x + bias) */
    INFER_RESIDUAL, /* out = relu?(x + bias + residual) */
    BACK,           /* out = x, and sums of dz = x where passed and dz (c - mean) */
    BACK_ADD,       /* the same with out += x, dz = out where passed */
};

/* Shared memory of the outlets, in bytes. */
template <int KIND> struct outlet_sizes {
    static constexpr bool infer = KIND == INFER || KIND == INFER_RESIDUAL;
    static constexpr bool back = KIND == BACK || KIND == BACK_ADD;
    static constexpr bool sums = KIND == STORE_SUMS || back;
    /* tiles that come for each row: INFER_RESIDUAL the residual, BACK c, BACK_ADD c and the old outputs */
    static constexpr int arriving = KIND == BACK_ADD ? 2 : KIND == BACK || KIND == INFER_RESIDUAL;
    static constexpr int slots = arriving == 2 ? 3 : arriving == 1 ? 4 : 2;
    static constexpr int slot = arriving == 2 ? 2 * TILE : TILE;
    static constexpr int slot_bits = back ? 64 * 8 : 0; /* 8 bytes a pixel */
    /* where things begin: the slots of all warpgroups, then */
    static constexpr int channels = WARPGROUPS * slots * slot;
    static constexpr int bits = channels + (infer || back ? 64 * 4 : 0);
    static constexpr int barriers = bits + WARPGROUPS * slots * slot_bits;
    static constexpr int bytes = barriers + (arriving > 0 ? WARPGROUPS * slots * 16 : 0);
};

/* What the kinds need beyond the maps; the rest is unset. */
struct outlet_inputs {
    const float *channels; /* [64]: the bias, or the mean of c */
    const uint8_t *passed; /* [pixels][8] */
    float *sums;           /* [blocks][2][64] */
    uint32_t least;        /* of INFER's outputs: two bf16, 0 or minus infinity */
    bool add;              /* of STORE and STORE_SUMS */
};

#ifdef NPI_SM90A

static __device__ __forceinline__ conv_unit unit_at(const conv_work &work, int index) {
    int tile = index % work.tiles, rest = index / work.tiles;
    int first = rest % work.bands * work.band_rows;
    int end = min(first + work.band_rows, work.h);
    return {rest / work.bands * IMAGES, tile * COLUMNS,      first, end,
            max(first - 1, 0),          min(end, work.h - 1)};
}

/* A warpgroup's part of the shared memory: its slots, and for each of them what passed, a barrier that its contents
 * have arrived and one that it is free. */
struct outlet_memory {
    uint32_t slots, bits, arrived, freed;
};

template <int KIND>
static __device__ __forceinline__ outlet_memory outlet_at(uint32_t memory, int warpgroup) {
    using size = outlet_sizes<KIND>;
    const uint32_t first = (uint32_t)(warpgroup * size::slots);
    const uint32_t arrived = memory + size::barriers + first * 16;
    return {memory + first * size::slot, memory + size::bits + first * size::slot_bits, arrived,
            arrived + size::slots * 8};
}

/* One thread of the block, before it synchronises. */
template <int KIND> static __device__ __forceinline__ void outlet_init(uint32_t memory) {
    using size = outlet_sizes<KIND>;
    if constexpr (size::arriving > 0)
        for (int i = 0; i < WARPGROUPS; i++) {
            const outlet_memory mine = outlet_at<KIND>(memory, i);
            for (int j = 0; j < size::slots; j++) {
                npi_barrier_init(mine.arrived + j * 8, size::back ? 33 : 1);
                npi_barrier_init(mine.freed + j * 8, 1);
            }
        }
}

/* The feeder of a warpgroup, a warp: brings what its rows need to the slots.  beside: of the residual or of c. */
template <int KIND>
static __device__ __forceinline__ void
outlet_feed(uint32_t memory, const CUtensorMap *out, const CUtensorMap *beside,
            const conv_work &work, const outlet_inputs &inputs, int warpgroup, int lane) {
    using size = outlet_sizes<KIND>;
    const outlet_memory mine = outlet_at<KIND>(memory, warpgroup);
    npi_ring_place place = {0, 0};
#pragma unroll 1
    for (int u = blockIdx.x; u < work.units; u += gridDim.x) {
        const conv_unit unit = unit_at(work, u);
        const int column = unit.column + 8 * warpgroup;
#pragma unroll 1
        for (int row = unit.first; row < unit.end; row++) {
            const uint32_t slot = mine.slots + place.stage * size::slot;
            const uint32_t barrier = mine.arrived + place.stage * 8;
            npi_barrier_wait(mine.freed + place.stage * 8, place.parity);
            if (lane == 0) {
                npi_barrier_expect(barrier, size::arriving * TILE);
                npi_box_load(slot, beside, 0, unit.image, column, row, barrier);
                if constexpr (KIND == BACK_ADD)
                    npi_box_load(slot + TILE, out, 0, unit.image, column, row, barrier);
            }
            if constexpr (size::back) { /* nothing passes outside of the map */
                const int image = unit.image + lane % 8;
                const uint32_t to = mine.bits + place.stage * size::slot_bits;
#pragma unroll
                for (int i = lane / 8; i < 8; i += 4) {
                    const bool inside = image < work.n && column + i < work.w;
                    const int64_t pixel = ((int64_t)image * work.h + row) * work.w + column + i;
                    npi_copy8(to + (i * 8 + lane % 8) * 8, inputs.passed + (inside ? pixel * 8 : 0),
                              inside);
                }
                npi_copy_arrive(barrier);
            }
            place.next(size::slots);
        }
    }
}

/* Of 64 x 64 outputs, thread t holds those of pixels p = 16 (t / 32) + (t % 32) / 4 and p + 8 (image p % 8 of columns
 * p / 8 and p / 8 + 1) in channels 8 j + 2 (t % 4) + {0, 1}, j < 8: x[4 j + {0, 1}] and x[4 j + 2 + {0, 1}]. */
template <int KIND> struct outlet {
    using size = outlet_sizes<KIND>;
    const CUtensorMap *map;
    const float *channels; /* inputs.channels in shared memory */
    outlet_memory mine;
    int warpgroup, thread;
    npi_ring_place place;
    float first[16], second[16]; /* sums, of channels 8 (i / 2) + 2 (thread % 4) + i % 2 */
    uint2 passed[2];             /* of the pixels, this thread's channels at 8 j + {0, 1} */

    __device__ __forceinline__ void begin() {
        place = {0, 0};
        if constexpr (size::sums) {
#pragma unroll
            for (int i = 0; i < 16; i++)
                first[i] = second[i] = 0.0f;
        }
        if (size::arriving > 0 && thread == 0) /* each row frees the slot of the row before */
            for (int i = 0; i + 1 < size::slots; i++)
                npi_barrier_arrive(mine.freed + i * 8);
    }

    __device__ __forceinline__ void emit(const float (&x)[32], const conv_work &work,
                                         const outlet_inputs &inputs, const conv_unit &unit,
                                         int row) {
        const int column = unit.column + 8 * warpgroup, lane = thread % 32;
        if constexpr (KIND == STORE_SUMS) {
            if (column + 8 <= work.w)
                add_squares(x, true, true);
            else
                add_squares(x, column + thread / 32 * 2 < work.w,
                            column + thread / 32 * 2 + 1 < work.w);
        }
        const uint32_t slot = mine.slots + place.stage * size::slot;
        if constexpr (size::arriving > 0) {
            npi_barrier_wait(mine.arrived + place.stage * 8, place.parity);
        } else {
            if (thread == 0)
                npi_bulk_wait_read<1>(); /* the copy that left this slot the time before last */
            npi_named_barrier(1 + warpgroup, 128);
        }
        if constexpr (size::back) {
            const uint32_t bits = mine.bits + place.stage * size::slot_bits +
                                  (uint32_t)(thread / 32 * 16 + lane / 4) * 8;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                passed[i] = npi_load_shared8(bits + i * 64);
                passed[i].x >>= thread % 4 * 2;
                passed[i].y >>= thread % 4 * 2;
            }
        }
        const uint32_t pixel = (uint32_t)(thread / 32 * 16 + lane % 16);
        const uint32_t chunk = (uint32_t)lane / 16, swizzle = pixel % 8;
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t at = slot + pixel * 128 + (((2 * j + chunk) ^ swizzle) << 4);
            float v[8]; /* channels 8 (2 j) + .. of both pixels, then 8 (2 j + 1) + .. */
            uint32_t packed[4];
#pragma unroll
            for (int i = 0; i < 8; i++)
                v[i] = x[8 * j + i];
            combine(v, at, j);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                packed[i] = npi_pack_bf16(v[2 * i], v[2 * i + 1]);
                if (size::infer)
                    packed[i] = npi_max_bf16(packed[i], inputs.least);
            }
            npi_store_matrices(at, packed[0], packed[1], packed[2], packed[3]);
        }
        npi_fence_async();
        npi_named_barrier(1 + warpgroup, 128);
        if (thread == 0) {
            if ((KIND == STORE || KIND == STORE_SUMS) && inputs.add)
                npi_box_add(slot, map, 0, unit.image, column, row);
            else
                npi_box_store(slot, map, 0, unit.image, column, row);
            npi_bulk_commit();
            if (size::arriving > 0) {
                npi_bulk_wait_read<1>();
                npi_barrier_arrive(mine.freed +
                                   (place.stage == 0 ? size::slots - 1 : place.stage - 1) * 8);
            }
        }
        place.next(size::slots);
    }

    /* After all rows: waits until shared memory is read.  `memory` begins with the slots of all warpgroups. */
    __device__ __forceinline__ void end(const outlet_inputs &inputs, uint8_t *memory) {
        constexpr int stride = size::slots * size::slot;
        if (thread == 0)
            npi_bulk_wait_read<0>();
        if constexpr (size::sums) {
            npi_named_barrier(1 + warpgroup, 128);
            const int warp = thread / 32, lane = thread % 32;
            float *own = (float *)(memory + warpgroup * stride) + warp * 128;
#pragma unroll
            for (int i = 0; i < 16; i++) {
                for (int offset = 4; offset < 32; offset *= 2) {
                    first[i] += __shfl_xor_sync(0xffffffffu, first[i], offset);
                    second[i] += __shfl_xor_sync(0xffffffffu, second[i], offset);
                }
                if (lane < 4) {
                    const int at = i / 2 * 8 + lane * 2 + i % 2;
                    own[at] = first[i];
                    own[64 + at] = second[i];
                }
            }
            npi_named_barrier(1 + WARPGROUPS, WARPGROUPS * 128);
            if (warpgroup == 0) {
                float total = 0.0f;
                for (int i = 0; i < WARPGROUPS * 4; i++)
                    total += ((float *)(memory + i / 4 * stride))[i % 4 * 128 + thread];
                inputs.sums[blockIdx.x * 128 + thread] = total;
            }
        }
    }

  private:
    /* Columns beyond the image have sums too: of their neighbours inside. */
    __device__ __forceinline__ void add_squares(const float (&x)[32], bool first_inside,
                                                bool second_inside) {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const float a = first_inside ? x[i / 2 * 4 + i % 2] : 0.0f;
            const float b = second_inside ? x[i / 2 * 4 + i % 2 + 2] : 0.0f;
            first[i] += a + b;
            second[i] = fmaf(a, a, fmaf(b, b, second[i]));
        }
    }

    /* v = the outputs, with what lies at `at` in the slot. */
    __device__ __forceinline__ void combine(float (&v)[8], uint32_t at, uint32_t j) {
        uint32_t came[4], old[4];
        float2 channel[2];
        if constexpr (size::arriving > 0)
            npi_load_matrices(at, came);
        if constexpr (KIND == BACK_ADD)
            npi_load_matrices(at + TILE, old);
        if constexpr (size::infer || size::back) {
            channel[0] = *(const float2 *)(channels + 16 * j + thread % 4 * 2);
            channel[1] = *(const float2 *)(channels + 16 * j + 8 + thread % 4 * 2);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) { /* pixel i / 2 % 2 */
            const float own = i % 2 ? channel[i / 4].y : channel[i / 4].x;
            if constexpr (size::infer)
                v[i] += own;
            if constexpr (KIND == INFER_RESIDUAL)
                v[i] += npi_unpack_bf16(came[i / 2], i % 2);
            if constexpr (KIND == BACK_ADD)
                v[i] += npi_unpack_bf16(old[i / 2], i % 2);
            if constexpr (size::back) {
                const uint32_t group = 2 * j + i / 4, sum = 2 * group + i % 2;
                const uint32_t bits = group < 4 ? passed[i / 2 % 2].x : passed[i / 2 % 2].y;
                const float dz = bits & 1u << (group % 4 * 8 + i % 2) ? v[i] : 0.0f;
                first[sum] += dz;
                second[sum] = fmaf(dz, npi_unpack_bf16(came[i / 2], i % 2) - own, second[sum]);
            }
        }
    }
};

#endif
#endif
