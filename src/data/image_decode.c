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

static bool is_webp(const unsigned char *bytes, size_t size) {
    return size >= 16 && memcmp(bytes, "RIFF", 4) == 0 && memcmp(bytes + 8, "WEBPVP8", 7) == 0;
}

/* "BM", and a header whose size (byte 14) is one of those in use. */
static bool is_bmp(const unsigned char *bytes, size_t size) {
    return size >= 16 && bytes[0] == 'B' && bytes[1] == 'M' && bytes[15] == 0 &&
           (bytes[14] == 12 || (bytes[14] >= 40 && bytes[14] <= 124));
}

/* "P1" to "P6", and white space. */
static bool is_pnm(const unsigned char *bytes, size_t size) {
    return size >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
           (bytes[2] == ' ' || (bytes[2] >= '\t' && bytes[2] <= '\r'));
}

bool npi_image_known(const void *bytes, size_t size) {
    return is_jpeg(bytes, size) || is_png(bytes, size) || is_webp(bytes, size) ||
           is_bmp(bytes, size) || is_pnm(bytes, size);
}

npos_status npi_image_check(int64_t height, int64_t width, const char *name) {
    if (height < 1 || width < 1 || height > NPI_IMAGE_MAX_SIDE || width > NPI_IMAGE_MAX_SIDE ||
        height * width > NPI_IMAGE_MAX_PIXELS)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: the image says it is %lld x %lld, expected at most %d pixels in all",
                        name, (long long)width, (long long)height, NPI_IMAGE_MAX_PIXELS);
    return NPOS_OK;
}

npos_status npi_image_alloc(npi_image *out, int64_t height, int64_t width, int channels,
                            const char *name) {
    *out = (npi_image){0};
    NPI_TRY(npi_image_check(height, width, name));
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

#if !defined NPI_HAVE_JPEG || !defined NPI_HAVE_PNG || !defined NPI_HAVE_WEBP
static npos_status lacking(const char *name, const char *kind, const char *library) {
    return npi_hint(
        npi_fail(NPOS_UNSUPPORTED, "%s: a %s image, and this build has no %s", name, kind, library),
        "build npos where %s's development files are, or convert the images to .npy "
        "(docs/data.md)",
        library);
}
#endif

npos_status npi_image_decode(const void *bytes, size_t size, const char *name, int least_side,
                             npi_image *out) {
    *out = (npi_image){0};
    if (size == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: the file is empty, expected an image", name);
    if (is_jpeg(bytes, size))
#ifdef NPI_HAVE_JPEG
        return npi_jpeg_decode(bytes, size, name, least_side, out);
#else
        return lacking(name, "JPEG", "libjpeg");
#endif
    (void)least_side; /* of the other kinds none can be decoded smaller */
    if (is_png(bytes, size))
#ifdef NPI_HAVE_PNG
        return npi_png_decode(bytes, size, name, out);
#else
        return lacking(name, "PNG", "libpng");
#endif
    if (is_webp(bytes, size))
#ifdef NPI_HAVE_WEBP
        return npi_webp_decode(bytes, size, name, out);
#else
        return lacking(name, "WebP", "libwebp");
#endif
    if (is_bmp(bytes, size))
        return npi_bmp_decode(bytes, size, name, out);
    if (is_pnm(bytes, size))
        return npi_pnm_decode(bytes, size, name, out);
    return npi_fail(NPOS_BAD_DATA, "%s: not an image of a kind that is read: " NPI_IMAGE_KINDS,
                    name);
}

npos_status npi_image_read(const char *path, int least_side, npi_image *out) {
    char *bytes;
    size_t size;
    *out = (npi_image){0};
    NPI_TRY(npi_file_read(path, &bytes, &size));
    npos_status status = npi_image_decode(bytes, size, path, least_side, out);
    npi_free(bytes);
    return status;
}
