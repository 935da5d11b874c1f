/* io/safetensors.h - named tensors in one file (the safetensors format of Hugging Face): 8 bytes
 * header length, a JSON header, then the tensors' bytes, little endian.  Files of npos carry a
 * checksum of all their bytes in the metadata, `npos_xxh3` (docs/run-directory.md). */
#ifndef NPI_IO_SAFETENSORS_H
#define NPI_IO_SAFETENSORS_H

#include <stdint.h>

#include "base/fail.h"
#include "tensor/dtype.h"

enum { NPI_TENSOR_MAX_DIMS = 8 };

/* A tensor to be written, or one of an opened file (then `data` points into the file's mapping, and
 * in files of other programs it may be unaligned: copy it). */
typedef struct npi_named_tensor {
    const char *name;
    npi_dtype dtype;
    int ndim;
    int64_t shape[NPI_TENSOR_MAX_DIMS];
    const void *data;
} npi_named_tensor;

/* Writes tensors, wider elements first (so that every tensor of our files is aligned), and the
 * metadata (pairs key, value, key, value, ..., NULL; may be NULL), whole or not at all. */
NPOS_MUST_CHECK npos_status npi_safetensors_write(const char *path, const npi_named_tensor *tensors,
                                                  int count, const char *const *metadata);

typedef struct npi_safetensors npi_safetensors; /* an opened, memory-mapped file */

/* Opens and checks the whole header (lengths, types, shapes against bytes; the error names the
 * tensor) and, where there is one, the checksum: a file that opens is as it was written. */
NPOS_MUST_CHECK npos_status npi_safetensors_open(const char *path, npi_safetensors **out);
void npi_safetensors_close(npi_safetensors *file); /* NULL is accepted */

int npi_safetensors_count(const npi_safetensors *file);
const npi_named_tensor *npi_safetensors_at(const npi_safetensors *file, int i);
/* NULL when there is no such tensor. */
const npi_named_tensor *npi_safetensors_find(const npi_safetensors *file, const char *name);
/* Finds `name` and checks type and shape (a -1 in shape matches any size); the error names file,
 * tensor, seen, expected. */
NPOS_MUST_CHECK npos_status npi_safetensors_get(const npi_safetensors *file, const char *name,
                                                npi_dtype dtype, int ndim, const int64_t *shape,
                                                const npi_named_tensor **out);
/* Value of a metadata key, or NULL. */
const char *npi_safetensors_metadata(const npi_safetensors *file, const char *key);

#endif
