/* tests/devices/golden.h - what the golden tests share: files, both devices, comparison. */
#ifndef TESTS_DEVICES_GOLDEN_H
#define TESTS_DEVICES_GOLDEN_H

#include <math.h>

#include "check.h"
#include "devices/devices.h"
#include "io/npy.h"

/* tests/golden/FAMILY_CASE_WHAT.npy */
static inline npi_npy golden_read(const char *family, const char *name, const char *what) {
    char path[1024];
    npi_npy array;
    snprintf(path, sizeof path, "%s/tests/golden/%s_%s%s%s.npy", NPOS_SOURCE_DIR, family, name,
             *what ? "_" : "", what);
    CHECK_OK(npi_npy_read(path, &array));
    return array;
}

/* The devices under test: the reference and the cpu in float32. */
static inline npi_device *golden_open(int which) {
    npi_device *dev;
    if (which == 0)
        CHECK_OK(npi_device_open("reference", NPI_PRECISION_FP32, 1, &dev));
    else
        CHECK_OK(npi_device_open("cpu", NPI_PRECISION_FP32, 2, &dev));
    return dev;
}

static inline void *golden_alloc(npi_device *dev, const void *host, size_t bytes) {
    void *memory;
    CHECK_OK(dev->memory->alloc(dev, bytes, "golden", &memory));
    if (host)
        CHECK_OK(dev->memory->upload(dev, memory, host, bytes));
    return memory;
}

/* Every element within `limit` of the golden one. */
static inline void golden_compare(const char *what, npi_npy golden, const float *seen,
                                  double limit) {
    for (int64_t i = 0; i < golden.count; i++) {
        double expected = golden.dtype == NPI_F64 ? ((double *)golden.data)[i]
                                                  : (double)((float *)golden.data)[i];
        if (!(fabs((double)seen[i] - expected) <= limit))
            fail_msg("%s[%lld]: %.9g, the golden file has %.9g", what, (long long)i,
                     (double)seen[i], expected);
    }
}

#endif
