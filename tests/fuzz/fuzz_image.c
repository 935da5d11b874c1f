/* Images of all kinds, as archives hand them over: bytes in memory. */
#include "data/image_decode.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    npi_image image = {0}, small = {0};
    npi_transform transform = {.size = 8, .channels = 1, .interpolation = NPI_BILINEAR};
    if (npi_image_decode(data, size, "fuzz", &image) == NPOS_OK &&
        npi_transform_apply(&transform, &image, &small) != NPOS_OK)
        __builtin_trap();
    npi_image_clear(&small);
    npi_image_clear(&image);
    return 0;
}
