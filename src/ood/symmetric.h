/* ood/symmetric.h - eigenvectors of a symmetric matrix, in float64. */
#ifndef NPI_OOD_SYMMETRIC_H
#define NPI_OOD_SYMMETRIC_H

#include "base/fail.h"

/* A = sum_k value[k] v_k v_k^T for symmetric a [n][n], n >= 1 (destroyed): value[n] descending,
 * vector[n][n] with the unit vector v_k as row k.  Householder's reduction to three diagonals, then QL
 * with implicit shifts (Martin, Wilkinson, Numerische Mathematik 1968); values to about n 2^-52 of
 * the largest.  The result does not depend on the number of threads.  About 0.1 s for n = 512.  A NaN
 * or an infinity in A is NPOS_NOT_FINITE. */
NPOS_MUST_CHECK npos_status npi_symmetric_eigen(int n, double *a, double *value, double *vector);

#endif
