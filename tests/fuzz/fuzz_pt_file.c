/* io/zip_map and io/pt_file: archives whose directories, zip64 fields and storages lie. */
#include "fuzz/fuzz.h"
#include "io/pt_file.h"
#include "io/weights.h"
#include "io/zip_map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = fuzz_path(data, size);
    npi_zip *zip;
    if (npi_zip_open(path, &zip) != NPOS_OK)
        return 0;
    for (size_t i = 0; i < npi_zip_count(zip); i++) {
        const npi_zip_entry *entry = npi_zip_at(zip, i);
        if (entry->data)
            (void)!npi_zip_check(zip, entry);
        (void)npi_zip_find(zip, entry->name, entry->name_bytes);
    }
    npi_zip_close(zip);
    npi_weights *weights;
    if (npi_weights_open(path, &weights) != NPOS_OK)
        return 0;
    for (int i = 0; i < npi_weights_count(weights); i++) {
        float values[8];
        int64_t count = npi_weights_elements(weights, i);
        (void)!npi_weights_read(weights, i, 0, count < 8 ? count : 8, values);
    }
    npi_weights_close(weights);
    return 0;
}
