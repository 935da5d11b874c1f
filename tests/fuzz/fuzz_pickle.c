/* io/pickle and io/pt_file behind it: a data.pkl, packed into an archive with a right CRC-32 and three
 * storages, so that changed bytes come as far as the unpickler. */
#include "fuzz/fuzz.h"
#include "io/make_zip.h"
#include "io/pickle.h"
#include "io/pt_file.h"

/* Reads the first and last elements of every tensor: all bounds were checked when it was opened. */
static void read_all(const npi_pt *file) {
    for (int i = 0; i < npi_pt_count(file); i++) {
        const npi_named_tensor *tensor = npi_pt_at(file, i);
        uint64_t room[16];
        int64_t count = 1;
        for (int d = 0; d < tensor->ndim; d++)
            if (tensor->shape[d] == 0)
                count = 0;
        for (int d = 0; count && d < tensor->ndim; d++)
            count *= tensor->shape[d];
        int64_t part = count < 16 ? count : 16;
        npi_pt_read(file, i, 0, part, room);
        npi_pt_read(file, i, count - part, part, room);
        (void)npi_pt_find(file, tensor->name);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t zeros[512];
    npi_pickle *pickle;
    if (npi_pickle_read_arrays("input", data, size, &pickle) == NPOS_OK)
        npi_pickle_close(pickle);
    if (npi_pickle_read("input", data, size, &pickle) != NPOS_OK)
        return 0;
    npi_pickle_close(pickle);
    const zip_item items[] = {{"a/data.pkl", data, size, 0},
                              {"a/data/0", zeros, sizeof zeros, 0},
                              {"a/data/1", zeros, sizeof zeros, 0},
                              {"a/data/2", zeros, 8, 0}};
    size_t bytes;
    uint8_t *archive = make_zip(items, 4, 0, &bytes);
    npi_pt *file;
    if (archive && npi_pt_open(fuzz_path(archive, bytes), &file) == NPOS_OK) {
        read_all(file);
        npi_pt_close(file);
    }
    free(archive);
    return 0;
}
