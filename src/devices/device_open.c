#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/devices.h"

/* "cuda" or "cuda:N". */
static npos_status open_cuda(const char *name, npi_precision precision, npi_device **out) {
    char *end = NULL;
    long ordinal = name[4] == ':' ? strtol(name + 5, &end, 10) : 0;
    if (name[4] != '\0' &&
        (name[4] != ':' || end == name + 5 || *end || ordinal < 0 || ordinal > 1023))
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "device '%s' is not known", name),
                        "GPUs are cuda, cuda:0, cuda:1, ...");
    return npi_cuda_load((int)ordinal, precision, out);
}

/* The first GPU where there is one, else the processor. */
static npos_status open_auto(npi_precision precision, int threads, npi_device **out) {
    npos_status status = npi_cuda_load(0, precision, out);
    return status == NPOS_UNSUPPORTED ? npi_cpu_open(precision, threads, out) : status;
}

npos_status npi_device_open(const char *name, npi_precision precision, int threads,
                            npi_device **out) {
    *out = NULL;
    if (threads < 0 || threads > 4096)
        return npi_fail(NPOS_INVALID_ARGUMENT, "threads: %d, expected 1 to 4096, or 0 for all",
                        threads);
    if (threads == 0)
        threads = npi_cpu_count();
    if (strcmp(name, "auto") == 0)
        return open_auto(precision, threads, out);
    if (strcmp(name, "cpu") == 0)
        return npi_cpu_open(precision, threads, out);
    if (strcmp(name, "reference") == 0) {
        if (precision == NPI_PRECISION_BF16)
            return npi_fail(NPOS_UNSUPPORTED, "device 'reference' computes in fp32 only");
        return npi_reference_open(out);
    }
    if (strncmp(name, "cuda", 4) == 0)
        return open_cuda(name, precision, out);
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "device '%s' is not known", name),
                    "devices: auto, cpu, cuda, cuda:N, reference");
}

void npi_device_close(npi_device *dev) {
    if (dev)
        dev->close(dev);
}
