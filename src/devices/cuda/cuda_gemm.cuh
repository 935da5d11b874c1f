/* devices/cuda/cuda_gemm.cuh - planned matrix products by cuBLASLt, with float32 sums.
 *
 * Matrices are row-major, with a distance between rows (ld, in elements).  With rows r, w a layer's weights:
 *
 *     NPI_GEMM_FORWARD   d [r][out] = x [r][in] w [out][in]^T (+ bias [out]) (+ c [r][out])
 *     NPI_GEMM_DATA      d [r][in]  = y [r][out] w [out][in]                 (+ c [r][in])
 *     NPI_GEMM_WEIGHTS   d [out][in] = y [r][out]^T x [r][in]
 *
 * Rows vary up to what was planned for.  Pointers and distances between rows are multiples of 16 bytes. */
#ifndef NPI_CUDA_GEMM_CUH
#define NPI_CUDA_GEMM_CUH

#include <cublasLt.h>

#include "devices/cuda/cuda.cuh"

typedef enum npi_gemm_form { NPI_GEMM_FORWARD, NPI_GEMM_DATA, NPI_GEMM_WEIGHTS } npi_gemm_form;

typedef struct npi_gemm_desc {
    npi_gemm_form form;
    cudaDataType_t type, d_type;     /* of both factors; of d, c and bias */
    int rows, in, out;               /* rows: the most */
    int64_t ld_left, ld_right, ld_d; /* left: x or y; right: w or, for WEIGHTS, x */
    int64_t ld_c;                    /* 0: there is no c */
    bool bias;
} npi_gemm_desc;

typedef struct npi_gemm npi_gemm;

/* name: for errors; must outlive the product. */
npos_status npi_gemm_create(npi_device *dev, const char *name, const npi_gemm_desc *desc,
                            npi_gemm **out);
void npi_gemm_free(npi_gemm *gemm); /* NULL is accepted */

/* c may be d where both have one ld; NULL without c, as bias without bias. */
npos_status npi_gemm_run(npi_gemm *gemm, int rows, const void *left, const void *right,
                         const void *bias, const void *c, void *d);

#endif
