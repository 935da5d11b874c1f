#include "report/picture.h"

#include <png.h>

#include "base/memory.h"

void npi_picture_url(npi_page *page, const npi_image *image) {
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)image->width,
                     .height = (png_uint_32)image->height,
                     .format = image->channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB};
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
    void *bytes = NULL;
    if (page->status != NPOS_OK)
        return;
    page->status = npi_alloc(&bytes, size, 1, "PNG");
    if (page->status != NPOS_OK)
        return;
    if (png_image_write_to_memory(&png, bytes, &size, 0, image->pixels, 0, NULL)) {
        npi_page_add(page, "data:image/png;base64,");
        npi_page_base64(page, bytes, size);
    } else {
        page->status = npi_fail(NPOS_INTERNAL, "PNG of %d x %d x %d: %s", image->height,
                                image->width, image->channels, png.message);
    }
    npi_free(bytes);
}
