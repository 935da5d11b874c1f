/* io/weights.h - other people's weights: one face for the kinds of files that models come in.
 *
 *     FOLDER            of Hugging Face or open_clip; the first of these that is there:
 *                       model.safetensors, model.safetensors.index.json (shards), pytorch_model.bin,
 *                       pytorch_model.bin.index.json, open_clip_model.safetensors,
 *                       open_clip_pytorch_model.bin
 *     *.safetensors     io/safetensors.h
 *     *.index.json      shards: the names that its weight_map lists, each from the file it tells,
 *                       beside the index
 *     any other file    io/pt_file.h (.pt, .bin, .pth, .ckpt): what torch.save and torch.jit.save write
 *
 *     npi_weights *weights;
 *     NPI_TRY(npi_weights_open(path, &weights));
 *     NPI_TRY_GOTO(npi_weights_get(weights, "visual.proj", 2, (int64_t[]){768, 512}, proj), done);
 *
 * Values are taken as they are: NaN, infinities and what float64 holds beyond float32 (which becomes
 * infinite) are not errors here. */
#ifndef NPI_IO_WEIGHTS_H
#define NPI_IO_WEIGHTS_H

#include <stdint.h>

#include "base/fail.h"
#include "io/safetensors.h"

typedef struct npi_weights npi_weights;

/* Opens and checks all headers, directories and pickles, not the values.  Missing files are named. */
NPOS_MUST_CHECK npos_status npi_weights_open(const char *path, npi_weights **out);
void npi_weights_close(npi_weights *weights); /* NULL is accepted */

/* What was opened, for messages. */
const char *npi_weights_path(const npi_weights *weights);

/* Tensors in the order of their names' bytes; `data` may be NULL and unaligned: use npi_weights_read. */
int npi_weights_count(const npi_weights *weights);
const npi_named_tensor *npi_weights_at(const npi_weights *weights, int i);
/* Its number, or -1 when there is no such tensor. */
int npi_weights_find(const npi_weights *weights, const char *name);

/* Number of elements. */
int64_t npi_weights_elements(const npi_weights *weights, int i);

/* out[k] = element first + k (C order) of tensor i as float32, k < count, from float16, bfloat16,
 * float32 or float64; integers are NPOS_UNSUPPORTED, a range outside the tensor is
 * NPOS_INVALID_ARGUMENT.  Different threads may read at the same time. */
NPOS_MUST_CHECK npos_status npi_weights_read(const npi_weights *weights, int i, int64_t first,
                                             int64_t count, float *out);

/* The same as 64-bit integers, from uint8, int32 or int64. */
NPOS_MUST_CHECK npos_status npi_weights_read_i64(const npi_weights *weights, int i, int64_t first,
                                                 int64_t count, int64_t *out);

/* Reads the whole tensor `name`, which must have this shape (-1 matches any size); the error names file,
 * tensor, seen, expected. */
NPOS_MUST_CHECK npos_status npi_weights_get(const npi_weights *weights, const char *name, int ndim,
                                            const int64_t *shape, float *out);

/* Compares the bytes of all torch files with their CRC-32, as npi_pt_check; it reads all of them once.
 * (Safetensors of npos are checked when they are opened; those of others carry no checksum.) */
NPOS_MUST_CHECK npos_status npi_weights_check(npi_weights *weights);

/* *out = XXH3 over all tensors' names, types, shapes and bytes, in the order of their names: what
 * tells one model's files from another's, however they are cut into shards; never 0.  The same numbers in
 * another precision or under other names give another hash. */
NPOS_MUST_CHECK npos_status npi_weights_hash(const npi_weights *weights, uint64_t *out);

#endif
