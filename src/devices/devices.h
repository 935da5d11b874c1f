/* devices/devices.h - the devices that are built in; npi_device_open (tensor/device.h) chooses
 * among them. */
#ifndef NPI_DEVICES_DEVICES_H
#define NPI_DEVICES_DEVICES_H

#include "tensor/device.h"

/* Plain loops, float32 with sums in double; one thread. */
NPOS_MUST_CHECK npos_status npi_reference_open(npi_device **out);

/* Our kernels, by instruction set; threads >= 1. */
NPOS_MUST_CHECK npos_status npi_cpu_open(npi_precision precision, int threads, npi_device **out);

/* Loads the cuda module and opens GPU number `ordinal`.  Errors: no module, one that does not load (a library of CUDA is
 * missing), one of another build, no driver, no such GPU, a precision that the GPU lacks. */
NPOS_MUST_CHECK npos_status npi_cuda_load(int ordinal, npi_precision precision, npi_device **out);

/* Processors that the process may use. */
int npi_cpu_count(void);

#endif
