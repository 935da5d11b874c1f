/* io/npy.h - NumPy's .npy arrays (format versions 1 and 2, C order, little endian). */
#ifndef NPI_IO_NPY_H
#define NPI_IO_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"
#include "tensor/dtype.h"

typedef struct npi_npy {
    npi_dtype dtype;
    int ndim; /* at most 4; a scalar has 0 */
    int64_t shape[4];
    int64_t count; /* product of shape */
    void *data;    /* belongs to the npi_npy, but for npi_npy_view */
} npi_npy;

/* Reads a whole array.  Fortran order, big endian, object and structured arrays and files whose
 * length does not fit their shape are errors.  Types: u1 f2 f4 f8 i4 i8. */
NPOS_MUST_CHECK npos_status npi_npy_read(const char *path, npi_npy *out);

/* The same of a .npy file that lies in memory and stays there: out->data points into `bytes`, of any
 * alignment, and is not to be cleared. */
NPOS_MUST_CHECK npos_status npi_npy_view(const char *name, const void *bytes, size_t size,
                                         npi_npy *out);
void npi_npy_clear(npi_npy *array);

/* Reads float32 or float64 of the given number of dimensions as float64 or float32; NaN is allowed
 * here. */
NPOS_MUST_CHECK npos_status npi_npy_read_f64(const char *path, int ndim, int64_t shape[4],
                                             double **out);
NPOS_MUST_CHECK npos_status npi_npy_read_f32(const char *path, int ndim, int64_t shape[4],
                                             float **out);

/* Writes an array, whole or not at all. */
NPOS_MUST_CHECK npos_status npi_npy_write(const char *path, npi_dtype dtype, int ndim,
                                          const int64_t *shape, const void *data);

#endif
