/* NumPy arrays: headers that lie about type, shape and length. */
#include "base/memory.h"
#include "fuzz/fuzz.h"
#include "io/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_path(data, size);
    npi_npy array = {0};
    if (npi_npy_read(path, &array) == NPOS_OK) {
        volatile uint8_t last = 0;
        size_t bytes = (size_t)array.count * npi_dtype_bytes(array.dtype);
        if (bytes > 0)
            last = ((const uint8_t *)array.data)[bytes - 1];
        (void)last;
    }
    npi_npy_clear(&array);
    int64_t shape[4];
    double *values = NULL;
    if (npi_npy_read_f64(path, 1, shape, &values) == NPOS_OK)
        npi_free(values);
    return 0;
}
