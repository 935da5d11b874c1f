/* io/pt_file.h - the tensors of a file by torch.save or torch.jit.save, without executing anything.
 *
 * Since PyTorch 1.6 such a file is a zip archive: NAME/data.pkl, a pickle (io/pickle.h), and storages
 * NAME/data/KEY, stored as they lie in memory.  Read are
 *
 *     a dict of tensors              by its keys: "visual.proj"
 *     dicts, lists and tuples in it  joined by dots, places counted from 0: "optimizer.state.0"
 *     {"state_dict": {...}, ...}     what is below state_dict alone, by its own names (open_clip's and
 *                                    Lightning's checkpoints hold much besides)
 *     a module of TorchScript        parameters and buffers by their paths, as OpenAI's CLIP
 *     one tensor                     as "tensor"
 *
 * What is not a tensor is passed over.  Booleans are NPI_U8.  Refused, each with a message that names
 * the cause: files of before PyTorch 1.6, compressed storages, big endian, two tensors of one name,
 * tensors that reach outside their storage, keys that are neither text nor integers, names longer than
 * 511 bytes or with control characters, more than 64 levels. */
#ifndef NPI_IO_PT_FILE_H
#define NPI_IO_PT_FILE_H

#include <stdint.h>

#include "base/fail.h"
#include "io/safetensors.h"

typedef struct npi_pt npi_pt; /* an opened, memory-mapped file */

/* Opens, reads the pickle, checks its CRC-32 and every tensor's bounds.  The storages' bytes are not
 * looked at. */
NPOS_MUST_CHECK npos_status npi_pt_open(const char *path, npi_pt **out);
void npi_pt_close(npi_pt *file); /* NULL is accepted */

/* Tensors in the order of the file.  `data` is that of a tensor whose elements lie in order, of any
 * alignment; NULL for the others (transposed, cut out, expanded): npi_pt_read puts them in order. */
int npi_pt_count(const npi_pt *file);
const npi_named_tensor *npi_pt_at(const npi_pt *file, int i);
/* NULL when there is no such tensor. */
const npi_named_tensor *npi_pt_find(const npi_pt *file, const char *name);

/* Copies `count` elements of tensor `i` from element `first` on (in C order) to `out`, which has room
 * for them; first + count is at most the tensor's number of elements. */
void npi_pt_read(const npi_pt *file, int i, int64_t first, int64_t count, void *out);

/* Compares the CRC-32 of tensor i's storage with the archive's; of a storage once, later calls are
 * free.  Calls for one file must not overlap. */
NPOS_MUST_CHECK npos_status npi_pt_check(npi_pt *file, int i);

#endif
