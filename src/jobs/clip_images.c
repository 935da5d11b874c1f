#include "jobs/clip_images.h"

#include <string.h>

#include "jobs/clip_pixels.h"

int npi_clip_pass(const npi_device *dev) {
    enum { HOST = 32, GPU = 256 };
    return dev->host ? HOST : GPU;
}

npos_status npi_clip_encoder_open(npi_device *dev, const char *path, int most,
                                  npi_clip_encoder *out) {
    *out = (npi_clip_encoder){.most = most};
    if (most < 1)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%d images at once, expected 1 or more", most);
    NPI_TRY(npi_clip_load(dev, path, NPI_CLIP_VISION, NPI_CLIP_ACT_AUTO, &out->clip));
    const npi_clip_config *c = &out->clip.config;
    int side = c->side, channels = c->channels;
    if (channels != 1 && channels != 3)
        return npi_fail(NPOS_UNSUPPORTED, "%s: images of %d channels, expected 1 or 3", path,
                        channels);
    out->transform = (npi_transform){side, channels, NPI_BICUBIC, 0};
    out->normalise = (npi_augment_desc){.batch = most,
                                        .views = 1,
                                        .src_h = side,
                                        .src_w = side,
                                        .channels = channels,
                                        .out_h = side,
                                        .out_w = side};
    NPI_TRY(npi_clip_pixels_read(path, out->normalise.mean, out->normalise.std));
    NPI_TRY(npi_clip_images_create(&out->clip, most, &out->plan));
    NPI_TRY(npi_clip_images_pack(out->plan));
    out->act = (npi_act){most, channels, side, side, NULL};
    NPI_TRY(dev->memory->alloc(dev, dev->acts->bytes(dev, most, channels, side, side), "images",
                               &out->act.data));
    return dev->memory->alloc(dev, (size_t)most * (size_t)(channels * side * side), "images",
                              &out->pixels);
}

void npi_clip_encoder_close(npi_clip_encoder *encoder) {
    npi_device *dev = encoder->clip.dev;
    if (dev) {
        dev->memory->free(dev, encoder->pixels);
        dev->memory->free(dev, encoder->act.data);
        npi_clip_images_free(encoder->plan);
        npi_clip_free(&encoder->clip);
    }
    *encoder = (npi_clip_encoder){0};
}

npos_status npi_clip_encoder_put(npi_clip_encoder *encoder, const uint8_t *pixels, int count,
                                 npi_act *out) {
    npi_device *dev = encoder->clip.dev;
    const npi_transform *t = &encoder->transform;
    size_t image = (size_t)t->size * (size_t)t->size * (size_t)t->channels;
    if (count < 1 || count > encoder->most)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%d images, expected 1 to %d", count, encoder->most);
    *out = encoder->act;
    out->n = count;
    NPI_TRY(dev->memory->upload(dev, encoder->pixels, pixels, (size_t)count * image));
    return dev->augment->normalise(dev, &encoder->normalise, encoder->pixels, 0, count, *out);
}
