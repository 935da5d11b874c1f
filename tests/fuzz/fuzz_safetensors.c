/* safetensors: JSON headers whose offsets, shapes and types lie. */
#include "fuzz/fuzz.h"
#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npi_safetensors *file = NULL;
    if (npi_safetensors_open(fuzz_path(data, size), &file) != NPOS_OK)
        return 0;
    for (int i = 0; i < npi_safetensors_count(file); i++) {
        const npi_named_tensor *tensor = npi_safetensors_at(file, i);
        size_t bytes = npi_dtype_bytes(tensor->dtype);
        for (int d = 0; d < tensor->ndim; d++)
            bytes *= (size_t)tensor->shape[d];
        volatile uint8_t sum = 0;
        for (size_t b = 0; b < bytes; b++)
            sum = (uint8_t)(sum + ((const uint8_t *)tensor->data)[b]);
        (void)npi_safetensors_find(file, tensor->name);
    }
    (void)npi_safetensors_metadata(file, "format");
    npi_safetensors_close(file);
    return 0;
}
