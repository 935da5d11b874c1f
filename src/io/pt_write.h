/* io/pt_write.h - tensors as a file that torch.load(..., weights_only=True) takes: an OrderedDict of
 * names and tensors.
 *
 * A zip archive, nothing compressed: state/data.pkl (pickle, protocol 2), state/byteorder,
 * state/data/0.. (one storage a tensor), state/version, as torch.save writes it since PyTorch 1.6
 * (torch/serialization.py, caffe2/serialize/inline_container.cc). */
#ifndef NPI_IO_PT_WRITE_H
#define NPI_IO_PT_WRITE_H

#include "io/safetensors.h"

/* Writes float32 tensors, whole or not at all.  Other types and files of 4 GB or more are
 * NPOS_UNSUPPORTED. */
NPOS_MUST_CHECK npos_status npi_pt_write(const char *path, const npi_named_tensor *tensors,
                                         int count);

#endif
