/* devices/cuda_module.h - the border between the program and the cuda module, libnpos_cuda.so.
 *
 * The module is loaded at run time, where a driver is; nothing else of the program links to CUDA.  It calls back for
 * nothing but the recording of failures, so that messages are found where every caller looks for them. */
#ifndef NPI_DEVICES_CUDA_MODULE_H
#define NPI_DEVICES_CUDA_MODULE_H

#include "tensor/device.h"

/* Program and module are of one build: whoever changes tensor/device.h, augment_params.h or this file counts up. */
enum { NPI_CUDA_MODULE_VERSION = 3 };

typedef struct npi_cuda_host {
    int version;                                               /* NPI_CUDA_MODULE_VERSION */
    npos_status (*fail)(npos_status status, const char *text); /* npi_fail of a finished text */
    npos_status (*hint)(npos_status status, const char *text);
} npi_cuda_host;

/* The module's one symbol.  Opens GPU number `ordinal` (of those that CUDA_VISIBLE_DEVICES leaves); *out is closed with
 * npi_device_close.  `host` must outlive the device. */
#define NPI_CUDA_MODULE_SYMBOL "npi_cuda_open"
typedef npos_status npi_cuda_open_function(const npi_cuda_host *host, int ordinal,
                                           npi_precision precision, npi_device **out);

#endif
