/* jobs/clip_images.h - CLIP's image tower with what brings images to it.
 *
 *     NPI_TRY_GOTO(npi_clip_encoder_open(dev, "clip-vit-base-patch16", 64, &encoder), done);
 *     stream images with encoder.transform
 *     NPI_TRY_GOTO(npi_clip_encoder_put(&encoder, pixels, count, &images), done);
 *     NPI_TRY_GOTO(npi_clip_images_tokens(encoder.plan, images, 10, &tokens), done);
 *
 * Images are resized on the short side to the tower's, bicubic as Pillow does it, cropped in the
 * centre and normalised with the statistics of preprocessor_config.json (Hugging Face) or of
 * preprocess_cfg in open_clip_config.json, else OpenAI's. */
#ifndef NPI_JOBS_CLIP_IMAGES_H
#define NPI_JOBS_CLIP_IMAGES_H

#include "data/dataset.h"
#include "jobs/clip_file.h"

typedef struct npi_clip_encoder {
    npi_clip clip; /* the image tower alone */
    npi_clip_images *plan;
    npi_transform transform;
    npi_augment_desc normalise;
    int most;        /* images at once */
    uint8_t *pixels; /* [most] images, device memory */
    npi_act act;     /* the same normalised */
} npi_clip_encoder;

/* Fills *out, to be released with npi_clip_encoder_close in any case.  Errors as npi_clip_load; and
 * NPOS_UNSUPPORTED for a preprocessing that is not the one above. */
NPOS_MUST_CHECK npos_status npi_clip_encoder_open(npi_device *dev, const char *path, int most,
                                                  npi_clip_encoder *out);
void npi_clip_encoder_close(npi_clip_encoder *encoder);

/* *out = 1..most images of the transform's size (host memory, uint8 HWC), normalised; valid until the
 * next call. */
NPOS_MUST_CHECK npos_status npi_clip_encoder_put(npi_clip_encoder *encoder, const uint8_t *pixels,
                                                 int count, npi_act *out);

/* Images of side x side that keep a device busy. */
int npi_clip_pass(const npi_device *dev);

#endif
