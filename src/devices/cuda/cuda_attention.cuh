/* devices/cuda/cuda_attention.cuh - attention, without its scores in memory.
 *
 *     a_r = sum_s p_rs v_s,   p_rs = exp(q_r . k_s / sqrt(head) - lse_r),   lse_r = log sum_s exp(q_r . k_s / sqrt(head))
 *
 * over the rows s of the same sequence, s <= r where causal.  Backward makes p again: with g = da and delta_r = g_r . a_r
 *
 *     c_rs = p_rs (g_r . v_s - delta_r) / sqrt(head);   dq_r = sum_s c_rs k_s,  dk_s = sum_r c_rs q_r,
 *     dv_s = sum_r p_rs g_r
 *
 * Each sum is one warp's, in order. */
#ifndef NPI_CUDA_ATTENTION_CUH
#define NPI_CUDA_ATTENTION_CUH

#include "devices/cuda/cuda_tokens.cuh"

enum {
    NPI_ATTENTION_HEAD = 128, /* the widest head */
    NPI_ATTENTION_FAST = 64   /* the one that faster kernels are for */
};

typedef struct npi_attention {
    int n, t, rows; /* sequences, their rows, those of them that ask: the first 1 or all t */
    int heads, head;
    bool causal;
    const void *qkv; /* [n][t][3][heads][head] */
    void *a;         /* [n][rows][heads][head] */
    float *lse;      /* [n][heads][rows]; forward alone: may be NULL */
    const void *da;  /* as a */
    float *delta;    /* as lse: room of backward */
    void *dqkv;      /* as qkv; of rows that do not ask dq is not written */
} npi_attention;

/* T: float, __half or __nv_bfloat16, the type of all void pointers above. */
template <typename T> npos_status npi_attention_forward(npi_device *dev, const npi_attention *p);
template <typename T> npos_status npi_attention_backward(npi_device *dev, const npi_attention *p);

/* The kernels behind them: cuda_attention_first.cu, for rows = 1; cuda_attention_mma.cu, for rows = t, 16-bit types and
 * GPUs from 8.0 on; both for heads of NPI_ATTENTION_FAST; cuda_attention90.cu, forward alone, for what it serves. */
template <typename T>
npos_status npi_attention_first_forward(npi_device *dev, const npi_attention *p);
template <typename T>
npos_status npi_attention_first_backward(npi_device *dev, const npi_attention *p);
template <typename T>
npos_status npi_attention_mma_forward(npi_device *dev, const npi_attention *p);
template <typename T>
npos_status npi_attention_mma_backward(npi_device *dev, const npi_attention *p);

bool npi_attention90_serves(npi_device *dev, const npi_attention *p);
template <typename T> npos_status npi_attention90_forward(npi_device *dev, const npi_attention *p);

#endif
