/* Attention in 16 bits on Hopper's matrix units (sm_90a), heads of 64, sequences of LEAST to MOST rows: those of a
 * ViT-B/16 at 224 x 224 have 197.
 *
 * One block a multiprocessor goes through heads of sequences.  Another warp has the copy engine bring q, k and v of a
 * head, each as MOST rows, ahead of the warpgroups, which take 64 queries at a time: all scores of a query are in
 * registers at once (64 x MOST sums), so softmax needs no running maxima, and what it leaves is, packed in pairs, the
 * first factor of the product with v.  The warpgroups take turns with the matrix units: while one takes exponentials the
 * other multiplies its weights by v and its next queries by k. */
#include "devices/cuda/cuda_attention90.cuh"
#include "devices/cuda/cuda_box.cuh"

namespace {

enum {
    HEAD = NPI_ATTENTION_FAST,
    LEAST = NPI_ROWS_LEAST,
    MOST = NPI_ROWS_MOST,
    SCORES = MOST / 2, /* of 64 queries, a thread's */
    PART = NPI_PART,
    STAGE = 3 * PART,
    STAGES = 2,
    WARPGROUPS = 2,
    TILES = 2,                 /* of 64 queries, of a head: a warpgroup's */
    PRODUCER = WARPGROUPS * 4, /* the warp that feeds the others, first of a warpgroup */
    THREADS = PRODUCER * 32 + 128,
    ALIGN = 1024,
    BYTES = ALIGN + STAGES * STAGE + 2 * STAGES * 8
};

#ifdef NPI_SM90A

/* The scores' softmax but for the division: of a thread's two rows, lse and one over the sum. */
__device__ __forceinline__ void soften(float (&s)[SCORES], int t, float (&lse)[2],
                                       float (&factor)[2]) {
    const int column = 2 * ((int)threadIdx.x % 4);
#pragma unroll
    for (int i = (LEAST - 1) / 8 * 4; i < SCORES; i++) /* keys that there are not */
        if (i / 4 * 8 + column + i % 2 >= t)
            s[i] = -INFINITY;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = -INFINITY, sum = 0.0f;
#pragma unroll
        for (int i = 2 * half; i < SCORES; i += 4)
            most = fmaxf(most, fmaxf(s[i], s[i + 1]));
        most = npi_row_max(most) * (NPI_SCALE * NPI_LOG2E);
#pragma unroll
        for (int i = 2 * half; i < SCORES; i += 4) {
            s[i] = npi_two_to(fmaf(s[i], NPI_SCALE * NPI_LOG2E, -most));
            s[i + 1] = npi_two_to(fmaf(s[i + 1], NPI_SCALE * NPI_LOG2E, -most));
            sum += s[i] + s[i + 1];
        }
        sum = npi_row_sum(sum);
        lse[half] = most / NPI_LOG2E + logf(sum);
        factor[half] = 1.0f / sum;
    }
}

#endif

/* map: qkv as [n][t][3 x width]. */
template <typename T>
__global__ void __launch_bounds__(THREADS, 1)
    forward_kernel(const __grid_constant__ CUtensorMap map, npi_attention p) {
#ifdef NPI_SM90A
    extern __shared__ uint8_t raw[];
    const uint32_t base = (npi_shared(raw) + ALIGN - 1) & ~(uint32_t)(ALIGN - 1);
    const uint32_t full = base + STAGES * STAGE, empty = full + STAGES * 8;
    const int warp = npi_warp(), lane = (int)threadIdx.x % 32;
    const int units = p.n * p.heads;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            npi_barrier_init(full + i * 8, 1);
            npi_barrier_init(empty + i * 8, PRODUCER);
        }
        npi_barrier_init_done();
    }
    __syncthreads();
    uint32_t stage = 0, parity = 0;
    if (warp >= PRODUCER) {
        npi_registers_fewer<40>();
        const bool feeds = warp == PRODUCER && lane == 0;
        for (int u = (int)blockIdx.x; feeds && u < units; u += (int)gridDim.x) {
            npi_barrier_wait(empty + stage * 8, parity ^ 1);
            npi_barrier_expect(full + stage * 8, STAGE);
            for (int part = 0; part < 3; part++)
                npi_box_load(base + stage * STAGE + part * PART, &map,
                             (part * p.heads + u % p.heads) * HEAD, 0, u / p.heads, 0,
                             full + stage * 8);
            stage = (stage + 1) % STAGES;
            parity ^= stage == 0;
        }
        return;
    }
    npi_registers_more<232>();
    const int warpgroup = warp / 4, heads = (units - (int)blockIdx.x - 1) / (int)gridDim.x + 1;
    float s[SCORES], o[HEAD / 2], lse[2], factor[2];
    uint32_t w[MOST / 16][4];
    /* Rows of q past MOST are k: nothing is made of them. */
    const auto multiply_keys = [&](uint32_t at, int tile) {
        const uint64_t q = npi_part_at(at, (warpgroup + tile * WARPGROUPS) * NPI_TILE),
                       k = npi_part_at(at + PART, 0);
#pragma unroll
        for (int i = 0; i < 4; i++)
            npi_score(s, q + i * 2, k + i * 2, i > 0, T());
        npi_wgmma_commit();
    };
    if (warpgroup == 1)
        npi_give_turn(warpgroup); /* the first one is the other's */
    npi_barrier_wait(full, 0);
    npi_take_turn(warpgroup);
    npi_wgmma_fence();
    multiply_keys(base, 0);
    npi_give_turn(warpgroup);
    npi_wgmma_wait<0>();
    const int tiles = TILES * heads;
    /* Tile i, whose scores are in s; and, but for the last one, the scores of the next. */
    const auto finish = [&]<bool last>(int i) {
        const int tile = i % TILES, unit = (int)blockIdx.x + i / TILES * (int)gridDim.x;
        const uint32_t at = base + stage * STAGE;
        npi_settle(s);
        soften(s, p.t, lse, factor);
        npi_pack<T, MOST>(s, w);
        uint32_t next = stage, next_parity = parity;
        if (!last && tile == TILES - 1) {
            next = (stage + 1) % STAGES;
            next_parity ^= next == 0;
            npi_barrier_wait(full + next * 8, next_parity);
        }
        const uint64_t v = npi_part_at(at + 2 * PART, 0);
        npi_take_turn(warpgroup);
        npi_wgmma_fence();
#pragma unroll
        for (int k = 0; k < MOST / 16; k++)
            npi_add_rows(o, w[k], v + k * NPI_SIXTEEN, k > 0, T());
        npi_wgmma_commit();
        if constexpr (!last)
            multiply_keys(base + next * STAGE, (tile + 1) % TILES);
        if (!last || warpgroup == 0) /* nobody waits for the very last turn */
            npi_give_turn(warpgroup);
        npi_wgmma_wait<last ? 0 : 1>();
        npi_settle(o);
        if (tile == TILES - 1) {
            __syncwarp();
            if (lane == 0)
                npi_barrier_arrive(empty + stage * 8);
        }
        const int first = (warpgroup + tile * WARPGROUPS) * NPI_TILE, row = first + npi_tile_row();
        for (int half = 0; half < 2 && p.lse && lane % 4 == 0; half++)
            if (row + 8 * half < p.t)
                p.lse[(int64_t)unit * p.t + row + 8 * half] = lse[half];
        npi_store_tile(o, factor, npi_asked_at<T>(p, p.a, unit), p.heads * HEAD, first, p.t);
        if constexpr (!last)
            npi_wgmma_wait<0>();
        stage = next;
        parity = next_parity;
    };
#pragma unroll 1
    for (int i = 0; i + 1 < tiles; i++)
        finish.template operator()<false>(i);
    finish.template operator()<true>(tiles - 1);
#endif
}

} // namespace

bool npi_attention90_serves(npi_device *dev, const npi_attention *p) {
    return npi_cuda_of(dev)->capability == 90 && p->head == HEAD && p->rows == p->t && !p->causal &&
           p->t >= LEAST && p->t <= MOST;
}

template <typename T> npos_status npi_attention90_forward(npi_device *dev, const npi_attention *p) {
    const int blocks = min(p->n * p->heads, npi_cuda_of(dev)->multiprocessors);
    CUtensorMap map;
    NPI_TRY(npi_attention90_map<T>(&map, p, p->qkv, 3));
    const auto kernel = forward_kernel<T>;
    CUDA_TRY("attention",
             cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, BYTES));
    kernel<<<blocks, THREADS, BYTES, npi_cuda_stream(dev)>>>(map, *p);
    return npi_cuda_launched(dev, "attention");
}

template npos_status npi_attention90_forward<__half>(npi_device *, const npi_attention *);
template npos_status npi_attention90_forward<__nv_bfloat16>(npi_device *, const npi_attention *);
