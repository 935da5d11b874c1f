/* io/pickle.h - the values of a pickle as torch or NumPy writes it (protocols 2 to 5), without executing
 * anything.
 *
 * Python's unpickler calls whatever a file names.  This one knows a fixed list of names and makes plain
 * values of them:
 *
 *     collections.OrderedDict                         a DICT (its attributes, as _metadata, are dropped)
 *     torch.FloatStorage, DoubleStorage, HalfStorage, BFloat16Storage, LongStorage, IntStorage,
 *     ByteStorage, BoolStorage                        element types of a persistent id, which is a STORAGE
 *     torch._utils._rebuild_tensor_v2                 a TENSOR
 *     torch._utils._rebuild_parameter, _rebuild_parameter_with_state     the TENSOR inside
 *     torch.Size, torch.device, torch.jit._pickle.restore_type_tag, build_intlist, build_boollist,
 *     build_doublelist, build_tensorlist              their first argument
 *     __torch__.* (classes of TorchScript)            an OBJECT: its attributes and nothing else
 *
 * and, for npi_pickle_read_arrays, instead of those of torch:
 *
 *     numpy.core.multiarray._reconstruct, numpy.core.numeric._frombuffer, numpy.ndarray      an ARRAY
 *     numpy.dtype                                     a DTYPE: uint8, bool, int32, int64, float32, float64
 *     _codecs.encode(text, "latin1")                  the BYTES that Python 3 hides there in protocol 2
 *
 * (numpy._core since NumPy 2).  Python 2's strings are BYTES.
 *
 * Every other name and every opcode that torch (or NumPy) does not write is NPOS_UNSUPPORTED and named in the
 * message.  What is not a pickle, or is cut short, is NPOS_BAD_DATA.  Memory is bounded by the pickle's
 * length (16 bytes a byte and 1 MiB; of arrays at most 512 MiB), and no function here recurses.
 *
 * Values are shared, as in Python: the same one may lie in several containers, and a hostile pickle can
 * put a container into itself.  Who walks down them must bound depth and number of steps.
 *
 * Source: CPython's Lib/pickletools.py (opcodes), PyTorch's torch/serialization.py and
 * torch/csrc/jit/serialization/pickler.cpp (what is written). */
#ifndef NPI_IO_PICKLE_H
#define NPI_IO_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"
#include "io/safetensors.h"
#include "tensor/dtype.h"

/* Of a pickle that is read: some 300,000 tensors; the largest batch of CIFAR takes 154 MB. */
enum { NPI_PICKLE_MOST_BYTES = 32 << 20, NPI_PICKLE_MOST_ARRAY_BYTES = 1 << 30 };

/* Kind of a value, and its name in messages. */
#define NPI_PICKLE_MAP(X)                                                                          \
    X(NONE, "None")                                                                                \
    X(BOOL, "a truth value")                                                                       \
    X(INT, "an integer")                                                                           \
    X(FLOAT, "a number")                                                                           \
    X(TEXT, "a text")                                                                              \
    X(BYTES, "bytes")                                                                              \
    X(TUPLE, "a tuple")                                                                            \
    X(LIST, "a list")                                                                              \
    X(DICT, "a dict")                                                                              \
    X(OBJECT, "an object of TorchScript")                                                          \
    X(NAME, "a class or function")                                                                 \
    X(STORAGE, "a storage")                                                                        \
    X(TENSOR, "a tensor")                                                                          \
    X(ARRAY, "an array")                                                                           \
    X(DTYPE, "an element type")

typedef enum npi_pickle_kind {
#define NPI_PICKLE_ENUM(code, name) NPI_PICKLE_##code,
    NPI_PICKLE_MAP(NPI_PICKLE_ENUM)
#undef NPI_PICKLE_ENUM
} npi_pickle_kind;

/* `elements` elements in the archive's file data/KEY. */
typedef struct npi_pickle_storage {
    npi_dtype dtype; /* of booleans: NPI_U8 */
    const char *key; /* key_bytes bytes, no zero behind them */
    size_t key_bytes;
    int64_t elements; /* >= 0 */
} npi_pickle_storage;

/* Element (i, j, ...) is the storage's element offset + i strides[0] + j strides[1] + ...; nothing here
 * is checked against the storage yet, but all numbers are >= 0. */
typedef struct npi_pickle_tensor {
    const npi_pickle_storage *storage;
    int64_t offset;
    int ndim;
    int64_t shape[NPI_TENSOR_MAX_DIMS], strides[NPI_TENSOR_MAX_DIMS];
} npi_pickle_tensor;

/* An array of NumPy, in C order (the last index runs fastest) unless `fortran`. */
typedef struct npi_pickle_array {
    npi_dtype dtype; /* of booleans: NPI_U8 */
    bool fortran;
    int ndim;
    int64_t shape[NPI_TENSOR_MAX_DIMS];
    int64_t count;        /* product of shape */
    const uint8_t *bytes; /* count elements, little endian, of any alignment */
} npi_pickle_array;

typedef struct npi_pickle_value npi_pickle_value;
struct npi_pickle_value {
    npi_pickle_kind kind;
    int row;      /* of NAME, for the reader itself */
    size_t count; /* bytes of TEXT and BYTES; items of TUPLE and LIST; pairs of DICT and OBJECT */
    union {
        int64_t integer; /* INT, BOOL; of DTYPE its npi_dtype */
        double number;
        const char *text;         /* TEXT, BYTES: no zero behind them */
        npi_pickle_value **items; /* DICT and OBJECT: key, value, key, value, ..., as written */
        npi_pickle_storage *storage;
        npi_pickle_tensor *tensor;
        npi_pickle_array *array;
    } as;
};

typedef struct npi_pickle npi_pickle; /* owns its values */

/* Reads the pickle at `bytes`, which must outlive *out; `name` stands in messages.  What lies behind the
 * pickle's end is not looked at. */
NPOS_MUST_CHECK npos_status npi_pickle_read(const char *name, const void *bytes, size_t size,
                                            npi_pickle **out);
/* The same with the names and opcodes of NumPy's arrays in place of torch's. */
NPOS_MUST_CHECK npos_status npi_pickle_read_arrays(const char *name, const void *bytes, size_t size,
                                                   npi_pickle **out);
void npi_pickle_close(npi_pickle *pickle); /* NULL is accepted */

/* What was pickled. */
const npi_pickle_value *npi_pickle_root(const npi_pickle *pickle);

/* "a tuple" and so on. */
const char *npi_pickle_kind_name(npi_pickle_kind kind);

#endif
