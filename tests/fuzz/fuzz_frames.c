/* Streams of raw images: each frame that is read has the bytes that its header says. */
#include <stdio.h>
#include <stdlib.h>

#include "data/image_frames.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    FILE *stream = size > 0 ? fmemopen((void *)(uintptr_t)data, size, "r") : NULL;
    if (!stream)
        return 0;
    volatile uint8_t seen = 0; /* every byte is looked at */
    for (bool end = false; !end;) {
        npi_image image;
        if (npi_image_frame_read(stream, &image, &end) != NPOS_OK)
            break;
        size_t bytes = (size_t)image.width * (size_t)image.height * (size_t)image.channels;
        if (end != (bytes == 0) || bytes > size)
            abort();
        for (size_t i = 0; i < bytes; i++)
            seen = (uint8_t)(seen ^ image.pixels[i]);
        npi_image_clear(&image);
    }
    fclose(stream);
    return 0;
}
