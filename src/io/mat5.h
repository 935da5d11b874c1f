/* io/mat5.h - numeric arrays of a MATLAB file of version 5 (up to 7.2), as SVHN is published.
 *
 * A file is a header of 128 bytes and elements of (type, bytes, data); an array is an element of type
 * miMATRIX, plain or inside one of type miCOMPRESSED (a zlib stream of its own).  Elements of MATLAB's
 * arrays run column by column: element (i, j, ...) of shape [I][J]... is number i + I (j + J (...)).
 *
 * Only the arrays asked for are kept; all others are passed over without being unpacked.  Cells,
 * structures, sparse and complex arrays, big-endian files and version 7.3 (HDF5) are NPOS_UNSUPPORTED.
 * Every size is checked against the file's (deflate makes at most 1032 bytes of one) before memory is
 * taken.
 *
 * Source: MathWorks, "MAT-File Format" (R2023b), chapter 1. */
#ifndef NPI_IO_MAT5_H
#define NPI_IO_MAT5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

enum { NPI_MAT_DIMS = 4, NPI_MAT_START = 128 };

typedef struct npi_mat {
    int ndim; /* trailing ones are dropped, as MATLAB does, down to 2 */
    int64_t shape[NPI_MAT_DIMS];
    int64_t count;
    int type;      /* of the stored elements, as the file has it: npi_mat_is_bytes, npi_mat_value */
    uint8_t *data; /* NULL: the file has no such array; to be freed with npi_free */
} npi_mat;

/* Whether a file's first NPI_MAT_START bytes are those of a MATLAB file of version 5 or 7.3. */
bool npi_mat5_known(const void *start, size_t size);

/* out[i] = the array names[i] of the file, or all zero.  On failure all of `out` is zero. */
NPOS_MUST_CHECK npos_status npi_mat5_read(const char *path, const char *const *names, int count,
                                          npi_mat *out);

bool npi_mat_is_bytes(const npi_mat *array); /* stored as uint8: data[i] is element i */
double npi_mat_value(const npi_mat *array, int64_t i);

#endif
