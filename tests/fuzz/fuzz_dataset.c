/* Sets of images in one file: idx, CIFAR binary, npy, archives, MATLAB files, CIFAR's
 * pickles.  The first byte chooses the format, or
 * leaves it to be recognised. */
#include <stdio.h>

#include "base/memory.h"
#include "data/dataset.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const formats[] = {
        "", "idx:", "cifar:", "npy:", "archive:", "mat:", "cifar-py:", "npz:", "webdataset:"};
    char spec[128], *name;
    npi_dataset *set = NULL;
    if (size < 1)
        return 0;
    snprintf(spec, sizeof spec, "%s%s", formats[data[0] % (sizeof formats / sizeof *formats)],
             fuzz_path(data + 1, size - 1));
    if (npi_dataset_open(spec, &set) != NPOS_OK)
        return 0;
    int64_t count = npi_dataset_count(set);
    for (int64_t i = 0; i < count && i < 4; i++) {
        npi_image image = {0};
        if (npi_dataset_label(set, i) >= npi_dataset_classes(set))
            __builtin_trap();
        if (npi_dataset_name(set, i, &name) == NPOS_OK)
            npi_free(name);
        if (npi_dataset_decode(set, i, &image) == NPOS_OK && image.pixels == NULL)
            __builtin_trap();
        npi_image_clear(&image);
    }
    npi_dataset_close(set);
    return 0;
}
