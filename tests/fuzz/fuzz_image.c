/* Images of all kinds, as archives hand them over: bytes in memory; whole, and as small as they may come. */
#include "data/image_decode.h"
#include "fuzz/fuzz.h"

static void decode(const uint8_t *data, size_t size, double reducing_gap) {
    npi_image image = {0}, small = {0};
    npi_transform transform = {8, 1, NPI_BILINEAR, reducing_gap};
    int least = npi_transform_least_side(&transform);
    if (npi_image_decode(data, size, "fuzz", least, &image) == NPOS_OK) {
        int shortest = image.width < image.height ? image.width : image.height;
        if ((image.shrink && shortest < least) ||
            npi_transform_apply(&transform, &image, &small) != NPOS_OK)
            __builtin_trap();
    }
    npi_image_clear(&small);
    npi_image_clear(&image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    decode(data, size, 0);
    decode(data, size, 1);
    return 0;
}
