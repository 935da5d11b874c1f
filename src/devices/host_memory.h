/* devices/host_memory.h - device memory that is host memory: the table of every device that computes on the host.
 *
 * A device that uses it starts its own struct (npi_device.own) with an npi_host_bytes, which counts what it handed
 * out. Blocks are zeroed and 64-byte aligned (base/memory.h); copies are done when the call returns. */
#ifndef NPI_DEVICES_HOST_MEMORY_H
#define NPI_DEVICES_HOST_MEMORY_H

#include "tensor/device.h"

typedef struct npi_host_bytes {
    size_t now, peak;
    unsigned char posted[NPI_POST_SLOTS][NPI_POST_BYTES];
} npi_host_bytes;

extern const npi_memory_ops npi_host_memory;

#endif
