#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/devices.h"

static npos_status open_cuda(const char *name) {
    return npi_hint(npi_fail(NPOS_UNSUPPORTED, "device '%s': this build has no CUDA module", name),
                    "use --device cpu");
}

npos_status npi_device_open(const char *name, npi_precision precision, int threads,
                            npi_device **out) {
    *out = NULL;
    if (threads < 0 || threads > 4096)
        return npi_fail(NPOS_INVALID_ARGUMENT, "threads: %d, expected 1 to 4096, or 0 for all",
                        threads);
    if (threads == 0)
        threads = npi_cpu_count();
    if (strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0)
        return npi_cpu_open(precision, threads, out);
    if (strcmp(name, "reference") == 0) {
        if (precision == NPI_PRECISION_BF16)
            return npi_fail(NPOS_UNSUPPORTED, "device 'reference' computes in fp32 only");
        return npi_reference_open(out);
    }
    if (strncmp(name, "cuda", 4) == 0)
        return open_cuda(name);
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "device '%s' is not known", name),
                    "devices: auto, cpu, cuda, cuda:N, reference");
}

void npi_device_close(npi_device *dev) {
    if (dev)
        dev->close(dev);
}
