#include "data/image_decode.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"

static bool is_jpeg(const unsigned char *bytes, size_t size) {
    return size >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

static bool is_png(const unsigned char *bytes, size_t size) {
    return size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
}

bool npi_image_known(const void *bytes, size_t size) {
    return is_jpeg(bytes, size) || is_png(bytes, size);
}

npos_status npi_image_alloc(npi_image *out, int64_t height, int64_t width, int channels,
                            const char *name) {
    *out = (npi_image){0};
    if (height < 1 || width < 1 || height > NPI_IMAGE_MAX_SIDE || width > NPI_IMAGE_MAX_SIDE ||
        height * width > NPI_IMAGE_MAX_PIXELS)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: the image says it is %lld x %lld, expected at most %d pixels in all",
                        name, (long long)width, (long long)height, NPI_IMAGE_MAX_PIXELS);
    NPI_TRY(npi_alloc(&out->pixels, (size_t)(height * width), (size_t)channels, name));
    out->height = (int)height;
    out->width = (int)width;
    out->channels = channels;
    return NPOS_OK;
}

void npi_image_clear(npi_image *image) {
    npi_free(image->pixels);
    *image = (npi_image){0};
}

#if !defined NPI_HAVE_JPEG || !defined NPI_HAVE_PNG
static npos_status lacking(const char *name, const char *kind, const char *library) {
    return npi_hint(
        npi_fail(NPOS_UNSUPPORTED, "%s: a %s image, and this build has no %s", name, kind, library),
        "build npos where %s's development files are, or convert the images to .npy "
        "(docs/data.md)",
        library);
}
#endif

npos_status npi_image_decode(const void *bytes, size_t size, const char *name, npi_image *out) {
    *out = (npi_image){0};
    if (size == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: the file is empty, expected a JPEG or PNG image", name);
    if (is_jpeg(bytes, size))
#ifdef NPI_HAVE_JPEG
        return npi_jpeg_decode(bytes, size, name, out);
#else
        return lacking(name, "JPEG", "libjpeg");
#endif
    if (is_png(bytes, size))
#ifdef NPI_HAVE_PNG
        return npi_png_decode(bytes, size, name, out);
#else
        return lacking(name, "PNG", "libpng");
#endif
    return npi_fail(NPOS_BAD_DATA, "%s: neither JPEG nor PNG", name);
}

npos_status npi_image_read(const char *path, npi_image *out) {
    char *bytes;
    size_t size;
    *out = (npi_image){0};
    NPI_TRY(npi_file_read(path, &bytes, &size));
    npos_status status = npi_image_decode(bytes, size, path, out);
    npi_free(bytes);
    return status;
}
