/* devices/cuda/cuda_gemm90.cuh - products of 16-bit matrices on Hopper's matrix units (sm_90a) that finish their results
 * before these reach memory, where a library's product would write them for another kernel to read.
 *
 *     x = left [rows][inner] right^T, right [columns][inner]; for BACK x = left right, right [inner][columns]
 *
 *     NPI_GEMM90_ACT    d = act(x + bias), all float16
 *     NPI_GEMM90_KEEP   d = act(x + bias), beside = act'(x + bias), all bf16
 *     NPI_GEMM90_BACK   d = x d, whose sums over rows go to `sums`, all bf16
 *     NPI_GEMM90_ADD    d = x + bias + beside, these two float16, the factors and bias bf16
 *
 * Matrices are row-major with a distance between rows (ld, in elements, a multiple of 8), and begin at multiples of 16
 * bytes; sums are float32.  x is not rounded before it is used.
 *
 * How.  Two blocks, a cluster, make 256 rows of 256 columns at a time: each fetches its own 128 rows of `left` and half of
 * what both need of `right`, which the copy engine puts into both.  Two warpgroups of a block multiply 64 rows each, and
 * finish them.  Results leave through slots of shared memory by the copy engine, and what is combined with them comes into
 * the slots ahead, both by a warp of its own.  A row's bits depend on that row alone. */
#ifndef NPI_CUDA_GEMM90_CUH
#define NPI_CUDA_GEMM90_CUH

#include "devices/cuda/cuda.cuh"

typedef enum npi_gemm90_outlet {
    NPI_GEMM90_ACT,
    NPI_GEMM90_KEEP,
    NPI_GEMM90_BACK,
    NPI_GEMM90_ADD
} npi_gemm90_outlet;

enum {
    NPI_GEMM90_PART = 64,     /* rows that one line of `sums` adds up */
    NPI_GEMM90_COLUMNS = 8192 /* the most */
};

typedef struct npi_gemm90 {
    npi_gemm90_outlet outlet;
    bool gelu;                       /* act, for ACT and KEEP; else QuickGELU */
    int rows, inner, columns;        /* columns: a multiple of 8 */
    const void *left, *right, *bias; /* bias: [columns]; NULL with BACK */
    int64_t ld_left, ld_right, ld_d, ld_beside;
    void *d, *beside;
    float *sums; /* [ceil(rows / NPI_GEMM90_PART)][columns], for BACK */
} npi_gemm90;

/* Whether a GPU of this capability (90 for 9.0) runs a product of so many columns: on others the kernels trap. */
static inline bool npi_gemm90_serves(int capability, int columns) {
    return capability == 90 && columns <= NPI_GEMM90_COLUMNS;
}

/* May be recorded into a graph. */
npos_status npi_gemm90_run(const npi_gemm90 *gemm, int multiprocessors, cudaStream_t stream);

#endif
