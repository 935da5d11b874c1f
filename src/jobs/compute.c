#include "jobs/compute.h"

#include <string.h>

npos_compute npi_compute_defaults(void) {
    return (npos_compute){.device = "auto", .precision = "auto"};
}

npos_status npi_compute_open(const npos_compute *compute, npi_device **out) {
    static const char *const names[] = {[NPI_PRECISION_AUTO] = "auto",
                                        [NPI_PRECISION_FP32] = "fp32",
                                        [NPI_PRECISION_BF16] = "bf16"};
    const char *wanted = compute->precision ? compute->precision : "auto";
    *out = NULL;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(wanted, names[i]) == 0)
            return npi_device_open(compute->device ? compute->device : "auto", (npi_precision)i,
                                   compute->threads, out);
    }
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "precision '%s' is not known", wanted),
                    "precisions: auto, fp32, bf16");
}

int npi_compute_pass(const npi_device *dev, int side) {
    enum { HOST = 128, PIXELS = 1024 * 32 * 32 };
    int pass = PIXELS / (side * side);
    return dev->host || pass < HOST ? HOST : pass < 1024 ? pass : 1024;
}

npos_status npi_compute_progress(const npos_compute *compute, const char *phase, int64_t done,
                                 int64_t total, const char *text) {
    if (!compute->progress ||
        compute->progress(compute->progress_context, phase, done, total, text ? text : "") == 0)
        return NPOS_OK;
    return npi_fail(NPOS_INTERRUPTED, "%s: stopped at %lld of %lld", phase, (long long)done,
                    (long long)total);
}
