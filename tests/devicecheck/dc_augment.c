#include <math.h>

#include "dc.h"

typedef struct plan {
    int batch, views, src, channels, out;
    npi_crop_kind crop;
    bool antialias; /* crops may be larger than the output */
} plan;

static npi_augment_desc desc_of(const plan *p) {
    npi_augment_desc desc = {.batch = p->batch,
                             .views = p->views,
                             .src_h = p->src,
                             .src_w = p->src,
                             .channels = p->channels,
                             .out_h = p->out,
                             .out_w = p->out,
                             .crop = p->crop,
                             .scale_lo = 0.2f,
                             .scale_hi = 1.0f,
                             .ratio_lo = 0.75f,
                             .ratio_hi = 4.0f / 3.0f,
                             .pad = p->crop == NPI_CROP_PADDED ? 4 : 0,
                             .flip_p = 0.5f,
                             .jitter_p = 0.8f,
                             .brightness = 0.4f,
                             .contrast = 0.4f,
                             .saturation = 0.4f,
                             .hue = 0.1f,
                             .grey_p = 0.2f,
                             .mean = {0.4914f, 0.4822f, 0.4465f},
                             .std = {0.2471f, 0.2435f, 0.2616f},
                             .seed = 11};
    return desc;
}

/* Noise, flat images (contrast and hue of grey) and the two ends of the range. */
static uint8_t *random_images(dc *d, int count, int bytes) {
    uint8_t *images = dc_host(d, (size_t)count * (size_t)bytes);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < bytes; j++)
            images[i * bytes + j] = i % 4 == 1   ? (uint8_t)128
                                    : i % 4 == 2 ? (uint8_t)(dc_below(d, 2) * 255)
                                                 : (uint8_t)dc_below(d, 256);
    return images;
}

void dc_check_augment(dc *d) {
    static const plan plans[] = {
        {1, 1, 32, 3, 32, NPI_CROP_RESIZED, false},  {33, 2, 32, 3, 32, NPI_CROP_RESIZED, false},
        {16, 2, 28, 1, 28, NPI_CROP_RESIZED, false}, {31, 1, 32, 3, 32, NPI_CROP_PADDED, false},
        {8, 1, 16, 3, 16, NPI_CROP_NONE, false},     {5, 2, 12, 3, 20, NPI_CROP_RESIZED, false},
        {8, 1, 48, 3, 16, NPI_CROP_RESIZED, true},   {3, 2, 80, 3, 72, NPI_CROP_RESIZED, true},
        {2, 2, 50, 1, 96, NPI_CROP_RESIZED, false},  {3, 1, 70, 3, 70, NPI_CROP_PADDED, false}};
    enum { IMAGES = 9 };
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        const plan *p = &plans[i];
        npi_augment_desc desc = desc_of(p);
        int samples = p->batch * p->views, bytes = p->src * p->src * p->channels;
        dc_case(d, "%d x %d views, %d x %d x %d to %d%s", p->batch, p->views, p->src, p->src,
                p->channels, p->out, p->antialias ? ", shrinking" : "");
        dc_buf *images =
            dc_input(d, "images", random_images(d, IMAGES, bytes), (size_t)(IMAGES * bytes));
        int32_t *which = dc_host(d, (size_t)p->batch * sizeof *which);
        for (int j = 0; j < p->batch; j++)
            which[j] = dc_below(d, IMAGES);
        npi_step now = {.number = 17 + i};
        dc_buf *index = dc_input(d, "index", which, (size_t)p->batch * 4);
        dc_buf *step = dc_input(d, "step", &now, sizeof now);
        npi_augment_params *params = dc_host(d, (size_t)samples * sizeof *params);
        for (int j = 0; j < samples; j++) {
            params[j] = npi_augment_draw(&desc, 1000 + i, (uint32_t)j);
            params[j].jitter = 1; /* every order and the largest factors */
            params[j].factor[3] = 0.5f - (float)j / (float)samples;
        }
        dc_buf *given = dc_input(d, "given", params, (size_t)samples * sizeof *params);
        for (int with_given = 0; with_given < 2; with_given++) {
            dc_act to = dc_act_output(d, with_given ? "given" : "drawn", samples, p->channels,
                                      p->out, p->out);
            for (int s = 0; s < 2; s++) {
                npi_device *dev = d->side[s];
                DC_RUN(dev->augment->augment(dev, &desc, dc_at(images, s), dc_at(index, s),
                                             dc_at(step, s), with_given ? dc_at(given, s) : NULL,
                                             dc_act_at(to, s)));
            }
            dc_act_check(d, to, DC_PIXELS);
        }
        dc_release(d);
    }
}

void dc_check_normalise(dc *d) {
    static const plan plans[] = {{1, 1, 32, 3, 32, NPI_CROP_NONE, false},
                                 {33, 1, 28, 1, 28, NPI_CROP_NONE, false},
                                 {64, 1, 8, 3, 8, NPI_CROP_NONE, false},
                                 {3, 1, 67, 3, 67, NPI_CROP_NONE, false}};
    enum { FIRST = 3 };
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        const plan *p = &plans[i];
        npi_augment_desc desc = desc_of(p);
        int bytes = p->src * p->src * p->channels, count = p->batch + FIRST;
        dc_case(d, "%d images of %d x %d x %d", p->batch, p->src, p->src, p->channels);
        dc_buf *images =
            dc_input(d, "images", random_images(d, count, bytes), (size_t)(count * bytes));
        dc_act to = dc_act_output(d, "to", p->batch, p->channels, p->out, p->out);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            DC_RUN(dev->augment->normalise(dev, &desc, dc_at(images, s), FIRST, p->batch,
                                           dc_act_at(to, s)));
        }
        dc_act_check(d, to, DC_PIXELS);
        dc_release(d);
    }
}
