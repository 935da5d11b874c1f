/* tensor/augment_params.h - the random parameters of one augmented view, drawn the same way
 * everywhere.
 *
 * The draw is shared by all devices and by the streaming loader; only the pixels' arithmetic is a
 * device's own.  Semantics are torchvision's (RandomResizedCrop, RandomCrop with padding,
 * RandomHorizontalFlip, RandomApply(ColorJitter), RandomGrayscale, Normalize) on float tensors. */
#ifndef NPI_TENSOR_AUGMENT_PARAMS_H
#define NPI_TENSOR_AUGMENT_PARAMS_H

#include "base/philox.h"

typedef enum npi_crop_kind {
    NPI_CROP_NONE,    /* the image as it is (source and output sizes are equal) */
    NPI_CROP_RESIZED, /* RandomResizedCrop: area in scale, aspect in ratio, then bilinear to the
                         output size */
    NPI_CROP_PADDED   /* zero padding of `pad` pixels on each side, then a random crop of the output
                         size */
} npi_crop_kind;

typedef struct npi_augment_desc {
    int batch, views; /* `batch` indices a step; sample s of batch*views is view s / batch of index
                         s % batch */
    int src_h, src_w, channels; /* stored images, uint8, HWC; channels 1 or 3 */
    int out_h, out_w;
    npi_crop_kind crop;
    float scale_lo, scale_hi; /* fraction of the area */
    float ratio_lo, ratio_hi; /* width / height */
    int pad;
    float flip_p;
    float jitter_p, brightness, contrast, saturation,
        hue; /* factors in [1-x, 1+x]; hue turn in [-hue, hue] */
    float grey_p;
    float mean[3], std[3]; /* of pixels in [0, 1]; the first `channels` count */
    uint64_t seed;
} npi_augment_desc;

/* One view.  `order` is the order of the jitter's four operations (0 brightness, 1 contrast, 2
 * saturation, 3 hue).  A padded crop has top and left in [-pad, pad] and height and width equal to
 * the output's. */
typedef struct npi_augment_params {
    int top, left, height, width; /* crop in source pixels */
    int flip, jitter, grey;       /* 0 or 1 */
    int order[4];
    float factor[4]; /* by operation number; factor[3] is the hue turn in [-0.5, 0.5] */
} npi_augment_params;

/* Draws the parameters of sample `item` of global step `step`: a function of (desc, step, item)
 * alone. */
NPI_HD npi_augment_params npi_augment_draw(const npi_augment_desc *desc, uint64_t step,
                                           uint32_t item) {
    npi_augment_params p;
    /* words 0-1: flip, jitter, grey; 2-3: jitter factors; 4: jitter order; 8..: crop attempts */
    npi_u32x4 a = npi_philox(desc->seed, NPI_RANDOM_AUGMENT, step, item, 0);
    npi_u32x4 b = npi_philox(desc->seed, NPI_RANDOM_AUGMENT, step, item, 1);
    npi_u32x4 c = npi_philox(desc->seed, NPI_RANDOM_AUGMENT, step, item, 2);
    p.flip = npi_unit_float(a.v[0]) < desc->flip_p;
    p.jitter = npi_unit_float(a.v[1]) < desc->jitter_p;
    p.grey = npi_unit_float(a.v[2]) < desc->grey_p;
    p.factor[0] = 1.0f + desc->brightness * (2.0f * npi_unit_float(b.v[0]) - 1.0f);
    p.factor[1] = 1.0f + desc->contrast * (2.0f * npi_unit_float(b.v[1]) - 1.0f);
    p.factor[2] = 1.0f + desc->saturation * (2.0f * npi_unit_float(b.v[2]) - 1.0f);
    p.factor[3] = desc->hue * (2.0f * npi_unit_float(b.v[3]) - 1.0f);
    for (int i = 0; i < 4; i++)
        p.order[i] = i;
    for (int i = 3; i > 0; i--) {
        int j = (int)npi_below(c.v[i], (uint32_t)i + 1), held = p.order[i];
        p.order[i] = p.order[j];
        p.order[j] = held;
    }
    p.top = p.left = 0;
    p.height = desc->src_h;
    p.width = desc->src_w;
    if (desc->crop == NPI_CROP_PADDED) {
        npi_u32x4 r = npi_philox(desc->seed, NPI_RANDOM_AUGMENT, step, item, 8);
        int span_y = desc->src_h + 2 * desc->pad - desc->out_h,
            span_x = desc->src_w + 2 * desc->pad - desc->out_w;
        p.top = (int)npi_below(r.v[0], (uint32_t)span_y + 1) - desc->pad;
        p.left = (int)npi_below(r.v[1], (uint32_t)span_x + 1) - desc->pad;
        p.height = desc->out_h;
        p.width = desc->out_w;
    }
    if (desc->crop == NPI_CROP_RESIZED) {
        /* in float64: expf and fused operations differ in float32's last bit between devices, and
         * with it, twice in 10^6 views, the crop's sides */
        double area = (double)desc->src_h * desc->src_w, lo = (double)desc->scale_lo;
        double log_lo = log((double)desc->ratio_lo), log_hi = log((double)desc->ratio_hi);
        for (uint32_t attempt = 0; attempt < 10; attempt++) {
            npi_u32x4 r = npi_philox(desc->seed, NPI_RANDOM_AUGMENT, step, item, 8 + attempt);
            double target =
                area * (lo + ((double)desc->scale_hi - lo) * (double)npi_unit_float(r.v[0]));
            double ratio = exp(log_lo + (log_hi - log_lo) * (double)npi_unit_float(r.v[1]));
            int w = (int)rint(sqrt(target * ratio)), h = (int)rint(sqrt(target / ratio));
            if (w > 0 && h > 0 && w <= desc->src_w && h <= desc->src_h) {
                p.top = (int)npi_below(r.v[2], (uint32_t)(desc->src_h - h) + 1);
                p.left = (int)npi_below(r.v[3], (uint32_t)(desc->src_w - w) + 1);
                p.height = h;
                p.width = w;
                return p;
            }
        }
        /* torchvision's fallback: the largest centred crop whose aspect lies in the range */
        float aspect = (float)desc->src_w / (float)desc->src_h;
        if (aspect < desc->ratio_lo)
            p.height = (int)rintf((float)desc->src_w / desc->ratio_lo);
        else if (aspect > desc->ratio_hi)
            p.width = (int)rintf((float)desc->src_h * desc->ratio_hi);
        p.top = (desc->src_h - p.height) / 2;
        p.left = (desc->src_w - p.width) / 2;
    }
    return p;
}

#endif
