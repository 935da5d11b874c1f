/* WebP by libwebp, lossy and lossless; of an animation the first frame on a transparent canvas; alpha is
 * dropped. */
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

#include "base/memory.h"
#include "data/image_decode.h"

static npos_status damaged(const char *name, const char *what) {
    return npi_fail(NPOS_BAD_DATA, "%s: damaged WebP: %s", name, what);
}

/* The first frame's canvas without alpha. */
static npos_status decode_animation(const WebPData *data, const char *name, npi_image *out) {
    WebPAnimDecoderOptions options;
    uint8_t *canvas = NULL;
    int milliseconds;
    if (!WebPAnimDecoderOptionsInit(&options))
        return npi_fail(NPOS_UNSUPPORTED, "%s: libwebpdemux is of another version", name);
    options.color_mode = MODE_RGBA;
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(data, &options);
    if (!decoder)
        return damaged(name, "no animation, or no memory for it");
    WebPAnimInfo info;
    npos_status status = !WebPAnimDecoderGetInfo(decoder, &info) ||
                                 (int)info.canvas_width != out->width ||
                                 (int)info.canvas_height != out->height ||
                                 !WebPAnimDecoderGetNext(decoder, &canvas, &milliseconds)
                             ? damaged(name, "its first frame cannot be decoded")
                             : NPOS_OK;
    size_t pixels = (size_t)out->height * (size_t)out->width;
    for (size_t i = 0; status == NPOS_OK && i < pixels; i++)
        memcpy(out->pixels + 3 * i, canvas + 4 * i, 3);
    WebPAnimDecoderDelete(decoder);
    return status;
}

npos_status npi_webp_decode(const void *bytes, size_t size, const char *name, npi_image *out) {
    WebPBitstreamFeatures features;
    *out = (npi_image){0};
    VP8StatusCode code = WebPGetFeatures(bytes, size, &features);
    if (code != VP8_STATUS_OK)
        return damaged(name,
                       code == VP8_STATUS_NOT_ENOUGH_DATA ? "the file is truncated" : "its header");
    NPI_TRY(npi_image_alloc(out, features.height, features.width, 3, name));
    size_t row = 3 * (size_t)features.width;
    npos_status status =
        features.has_animation ? decode_animation(&(WebPData){bytes, size}, name, out)
        : WebPDecodeRGBInto(bytes, size, out->pixels, row * (size_t)features.height, (int)row)
            ? NPOS_OK
            : damaged(name, "it cannot be decoded, or is truncated");
    if (status != NPOS_OK)
        npi_image_clear(out);
    return status;
}
