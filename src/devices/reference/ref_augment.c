/* Augmentation as torchvision's functions do it on float tensors in [0, 1]
 * (torchvision/transforms/_functional_tensor.py): crop, resize, flip, jitter, grey, normalise. */
#include <math.h>

#include "devices/reference/ref.h"

/* One view while it is made: planes[channels][out_h][out_w]. */
typedef struct view {
    int channels, count; /* count = out_h out_w */
    float *planes;
} view;

static float clamp01(float x) {
    return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
}

/* A crop whose parts outside the image are 0. */
static void crop_padded(const npi_augment_desc *d, const npi_augment_params *p,
                        const uint8_t *image, float *planes) {
    for (int c = 0; c < d->channels; c++)
        for (int y = 0; y < d->out_h; y++)
            for (int x = 0; x < d->out_w; x++) {
                int sy = p->top + y, sx = p->left + x;
                bool inside = sy >= 0 && sy < d->src_h && sx >= 0 && sx < d->src_w;
                *planes++ =
                    inside
                        ? (float)image[((ptrdiff_t)sy * d->src_w + sx) * d->channels + c] / 255.0f
                        : 0.0f;
            }
}

/* Weights of the inputs first .. first+count that output o of `out` sees of `in`: a triangle of
 * half-width max(in/out, 1) around the centre (o + 1/2) in/out, cut at the borders and normalised.
 * Where in <= out this is bilinear interpolation with its coordinates held inside; where in > out it
 * is torchvision's antialias. */
typedef struct taps {
    int first, count;
    double centre, slope, sum;
} taps;

static double tap_weight(const taps *t, int i) {
    double away = fabs((t->first + i + 0.5 - t->centre) * t->slope);
    return away < 1.0 ? 1.0 - away : 0.0;
}

static taps taps_of(int o, int in, int out) {
    double scale = (double)in / out, support = scale > 1.0 ? scale : 1.0;
    taps t = {.centre = (o + 0.5) * scale, .slope = 1.0 / support};
    t.first = (int)fmax(t.centre - support + 0.5, 0.0);
    t.count = (int)fmin(t.centre + support + 0.5, (double)in) - t.first;
    for (int i = 0; i < t.count; i++)
        t.sum += tap_weight(&t, i);
    return t;
}

static void crop_resized(const npi_augment_desc *d, const npi_augment_params *p,
                         const uint8_t *image, float *planes) {
    for (int c = 0; c < d->channels; c++)
        for (int y = 0; y < d->out_h; y++)
            for (int x = 0; x < d->out_w; x++) {
                taps ty = taps_of(y, p->height, d->out_h), tx = taps_of(x, p->width, d->out_w);
                double sum = 0.0;
                for (int i = 0; i < ty.count; i++) {
                    ptrdiff_t row = (ptrdiff_t)(p->top + ty.first + i) * d->src_w + p->left;
                    for (int j = 0; j < tx.count; j++)
                        sum += tap_weight(&ty, i) / ty.sum * tap_weight(&tx, j) / tx.sum *
                               (double)image[(row + tx.first + j) * d->channels + c];
                }
                *planes++ = (float)(sum / 255.0);
            }
}

static void flip(int rows, int width, float *planes) {
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < width / 2; x++) {
            float *a = &planes[(ptrdiff_t)y * width + x],
                  *b = &planes[(ptrdiff_t)y * width + width - 1 - x], held = *a;
            *a = *b;
            *b = held;
        }
}

/* ---- colour ---- */

/* rgb_to_grayscale; a grey image is its own. */
static float grey_of(const view *v, int i) {
    if (v->channels == 1)
        return v->planes[i];
    return 0.2989f * v->planes[i] + 0.587f * v->planes[v->count + i] +
           0.114f * v->planes[2 * v->count + i];
}

/* _blend: clamp( ratio a + (1 - ratio) b ) */
static float blend(float a, float b, float ratio) {
    return clamp01(ratio * a + (1.0f - ratio) * b);
}

static void adjust_brightness(view *v, float factor) {
    for (int i = 0; i < v->channels * v->count; i++)
        v->planes[i] = blend(v->planes[i], 0.0f, factor);
}

static void adjust_contrast(view *v, float factor) {
    double sum = 0.0;
    for (int i = 0; i < v->count; i++)
        sum += (double)grey_of(v, i);
    float mean = (float)(sum / v->count);
    for (int i = 0; i < v->channels * v->count; i++)
        v->planes[i] = blend(v->planes[i], mean, factor);
}

static void adjust_saturation(view *v, float factor) {
    if (v->channels == 1)
        return;
    for (int i = 0; i < v->count; i++) {
        float grey = grey_of(v, i);
        for (int c = 0; c < 3; c++)
            v->planes[c * v->count + i] = blend(v->planes[c * v->count + i], grey, factor);
    }
}

/* _rgb2hsv, h = (h + turn) mod 1, _hsv2rgb, of one pixel */
static void turn_hue(float turn, float *red, float *green, float *blue) {
    float r = *red, g = *green, b = *blue;
    float most = fmaxf(fmaxf(r, g), b), least = fminf(fminf(r, g), b), range = most - least;
    bool plain = !(range > 0.0f);
    float s = range / (plain ? 1.0f : most), divisor = plain ? 1.0f : range;
    float rc = (most - r) / divisor, gc = (most - g) / divisor, bc = (most - b) / divisor;
    float sector = most == r ? bc - gc : most == g ? 2.0f + rc - bc : 4.0f + gc - rc;
    float h = fmodf(sector / 6.0f + 1.0f, 1.0f) + turn;
    h -= floorf(h);
    float whole = floorf(h * 6.0f), f = h * 6.0f - whole;
    float p = clamp01(most * (1.0f - s)), q = clamp01(most * (1.0f - s * f)),
          t = clamp01(most * (1.0f - s * (1.0f - f)));
    float out[6][3] = {{most, t, p}, {q, most, p}, {p, most, t},
                       {p, q, most}, {t, p, most}, {most, p, q}};
    const float *rgb = out[(int)whole % 6];
    *red = rgb[0];
    *green = rgb[1];
    *blue = rgb[2];
}

static void adjust_hue(view *v, float turn) {
    if (v->channels == 1)
        return;
    for (int i = 0; i < v->count; i++)
        turn_hue(turn, &v->planes[i], &v->planes[v->count + i], &v->planes[2 * v->count + i]);
}

static void to_grey(view *v) {
    if (v->channels == 1)
        return;
    for (int i = 0; i < v->count; i++) {
        float grey = grey_of(v, i);
        for (int c = 0; c < 3; c++)
            v->planes[c * v->count + i] = grey;
    }
}

static void one_view(const npi_augment_desc *d, const npi_augment_params *p, const uint8_t *image,
                     float *planes) {
    view v = {d->channels, d->out_h * d->out_w, planes};
    if (d->crop == NPI_CROP_RESIZED)
        crop_resized(d, p, image, planes);
    else
        crop_padded(d, p, image, planes);
    if (p->flip)
        flip(d->channels * d->out_h, d->out_w, planes);
    for (int k = 0; p->jitter && k < 4; k++) {
        int operation = p->order[k];
        float factor = p->factor[operation];
        if (operation == 0)
            adjust_brightness(&v, factor);
        else if (operation == 1)
            adjust_contrast(&v, factor);
        else if (operation == 2)
            adjust_saturation(&v, factor);
        else
            adjust_hue(&v, factor);
    }
    if (p->grey)
        to_grey(&v);
    for (int c = 0; c < d->channels; c++)
        for (int i = c * v.count; i < (c + 1) * v.count; i++)
            planes[i] = (planes[i] - d->mean[c]) / d->std[c];
}

/* ---- the entries ---- */

static npos_status check(const npi_augment_desc *d, int n, npi_act to) {
    if (d->channels != 1 && d->channels != 3)
        return npi_fail(NPOS_INVALID_ARGUMENT, "augment: %d channels, expected 1 or 3",
                        d->channels);
    if (d->crop == NPI_CROP_NONE && (d->src_h != d->out_h || d->src_w != d->out_w))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "augment: without a crop %d x %d cannot become %d x %d", d->src_h, d->src_w,
                        d->out_h, d->out_w);
    return npi_ref_check_act("augment", to, n, d->channels, d->out_h, d->out_w);
}

static const uint8_t *image_at(const npi_augment_desc *d, const uint8_t *images, int64_t i) {
    return images + i * d->src_h * d->src_w * d->channels;
}

static npos_status augment(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                           const int32_t *index, const npi_step *step,
                           const npi_augment_params *given, npi_act to) {
    (void)dev;
    int samples = desc->batch * desc->views;
    NPI_TRY(check(desc, samples, to));
    for (int s = 0; s < samples; s++) {
        npi_augment_params p = given ? given[s] : npi_augment_draw(desc, step->number, (uint32_t)s);
        one_view(desc, &p, image_at(desc, images, index[s % desc->batch]), npi_ref_plane(to, s, 0));
    }
    return NPOS_OK;
}

static npos_status normalise(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                             int64_t first, int n, npi_act to) {
    (void)dev;
    npi_augment_desc plain = *desc;
    plain.crop = NPI_CROP_NONE;
    const npi_augment_params whole = {.height = desc->src_h, .width = desc->src_w};
    NPI_TRY(check(&plain, n, to));
    for (int i = 0; i < n; i++)
        one_view(&plain, &whole, image_at(desc, images, first + i), npi_ref_plane(to, i, 0));
    return NPOS_OK;
}

const npi_augment_ops npi_ref_augment = {.augment = augment, .normalise = normalise};
