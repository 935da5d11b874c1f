/* devices/devices.h - the devices that are built in; npi_device_open (tensor/device.h) chooses
 * among them. */
#ifndef NPI_DEVICES_DEVICES_H
#define NPI_DEVICES_DEVICES_H

#include "tensor/device.h"

/* Plain loops, float32 with sums in double; one thread. */
NPOS_MUST_CHECK npos_status npi_reference_open(npi_device **out);

/* Our kernels, by instruction set; threads >= 1. */
NPOS_MUST_CHECK npos_status npi_cpu_open(npi_precision precision, int threads, npi_device **out);

/* Processors that the process may use. */
int npi_cpu_count(void);

#endif
