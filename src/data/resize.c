/* Pillow's antialiased resize on 8-bit channels (src/libImaging/Resample.c), bit for bit.
 *
 * Output column x looks at the source columns within `support` of its centre, stretched by the
 * scale when the image shrinks; the weights are normalised in double, then rounded to fixed point.
 * There is a horizontal and a vertical pass, each rounded to 8 bits; one that changes nothing is
 * left out.  The horizontal one comes first, except where the height shrinks by more than twice as
 * many pixels as the width (Pillow 13; older versions always start with the horizontal one, which
 * on such tall images gives values that differ by 1 here and there). */
#include "data/resize.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "data/image_decode.h"
#include "data/resize_passes.h"

static double bilinear(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0)
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

/* Weights of output positions first..first+count-1 of `out_size`, from source span from..to. */
static npos_status axis_make(int in_size, float from, float to, int64_t out_size, int first,
                             int count, npi_interpolation interpolation, npi_axis *out) {
    double (*filter)(double) = interpolation == NPI_BICUBIC ? bicubic : bilinear;
    double scale = (double)(to - from) / (double)out_size, stretch = scale < 1.0 ? 1.0 : scale;
    double support = (interpolation == NPI_BICUBIC ? 2.0 : 1.0) * stretch, inverse = 1.0 / stretch;
    double *weights = NULL;
    npos_status status;
    int widest = (int)ceil(support) * 2 + 1;
    NPI_TRY(npi_axis_alloc(count, widest, out));
    NPI_TRY_GOTO(npi_alloc(&weights, (size_t)widest, sizeof *weights, "resize"), done);
    for (int i = 0; i < count; i++) {
        double centre = from + (first + i + 0.5) * scale, sum = 0.0;
        int low = (int)(centre - support + 0.5), high = (int)(centre + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > in_size ? in_size : high;
        int n = high - low;
        for (int k = 0; k < n; k++) {
            weights[k] = filter((k + low - centre + 0.5) * inverse);
            sum += weights[k];
        }
        int32_t *fixed = out->weights + (size_t)i * (size_t)widest;
        for (int k = 0; k < n; k++) {
            double w = (sum != 0.0 ? weights[k] / sum : weights[k]) * (1 << NPI_RESIZE_BITS);
            fixed[k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        out->start[i] = low;
        out->count[i] = n;
    }
    npi_axis_pair(out);
done:
    npi_free(weights);
    if (status != NPOS_OK)
        npi_axis_clear(out);
    return status;
}

/* The part of an image, as it is. */
static npos_status cut(const npi_image *in, npi_window window, npi_image *out) {
    NPI_TRY(npi_image_alloc(out, window.rows, window.columns, in->channels, "crop"));
    size_t stride = (size_t)in->width * (size_t)in->channels,
           length = (size_t)window.columns * (size_t)in->channels;
    for (int y = 0; y < window.rows; y++)
        memcpy(out->pixels + (size_t)y * length,
               in->pixels + (size_t)(window.top + y) * stride +
                   (size_t)window.left * (size_t)in->channels,
               length);
    return NPOS_OK;
}

static npos_status check(const npi_image *in, int64_t height, int64_t width, const float *box) {
    if (in->height < 1 || in->width < 1 || (in->channels != 1 && in->channels != 3))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "resize: the image is %d x %d with %d channels, expected 1 or 3", in->width,
                        in->height, in->channels);
    if (height < 1 || width < 1 || height > INT32_MAX || width > INT32_MAX)
        return npi_fail(NPOS_INVALID_ARGUMENT, "resize: to %lld x %lld, expected at least 1 x 1",
                        (long long)width, (long long)height);
    if (!(box[0] >= 0 && box[1] >= 0 && box[2] <= (float)in->width && box[3] <= (float)in->height &&
          box[0] < box[2] && box[1] < box[3]))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "resize: box %g %g %g %g is empty or leaves the image of %d x %d",
                        (double)box[0], (double)box[1], (double)box[2], (double)box[3], in->width,
                        in->height);
    return NPOS_OK;
}

/* The source positions that an axis reads: *first .. *last - 1. */
static void axis_span(const npi_axis *a, int *first, int *last) {
    int end = a->positions - 1;
    *first = a->start[0];
    *last = a->start[end] + a->count[end];
}

/* Both passes, the vertical one first where `tall`; only what the window needs is computed. */
static npos_status two_passes(const npi_image *in, const npi_axis *columns, const npi_axis *rows,
                              bool tall, npi_image *out) {
    const npi_resize_passes *passes = npi_resize_best();
    npi_image middle = {0};
    int first, last;
    if (tall) {
        axis_span(columns, &first, &last);
        NPI_TRY(npi_image_alloc(&middle, out->height, last - first, in->channels, "resize"));
        passes->down(in, 0, first, rows, &middle);
        passes->across(&middle, 0, first, columns, out);
    } else {
        axis_span(rows, &first, &last);
        NPI_TRY(npi_image_alloc(&middle, last - first, out->width, in->channels, "resize"));
        passes->across(in, first, 0, columns, &middle);
        passes->down(&middle, first, 0, rows, out);
    }
    npi_image_clear(&middle);
    return NPOS_OK;
}

npos_status npi_resize_window(const npi_image *in, int64_t height, int64_t width,
                              npi_interpolation interpolation, const float box[4],
                              npi_window window, npi_image *out) {
    const float whole[4] = {0, 0, (float)in->width, (float)in->height};
    const float *b = box ? box : whole;
    *out = (npi_image){0};
    NPI_TRY(check(in, height, width, b));
    bool across = width != in->width || b[0] != 0 || b[2] != (float)width;
    bool down = height != in->height || b[1] != 0 || b[3] != (float)height;
    if (!across && !down)
        return cut(in, window, out);

    const npi_resize_passes *passes = npi_resize_best();
    npi_axis columns = {0}, rows = {0};
    npos_status status;
    NPI_TRY(npi_image_alloc(out, window.rows, window.columns, in->channels, "resize"));
    if (across)
        NPI_TRY_GOTO(axis_make(in->width, b[0], b[2], width, window.left, window.columns,
                               interpolation, &columns),
                     done);
    if (down)
        NPI_TRY_GOTO(axis_make(in->height, b[1], b[3], height, window.top, window.rows,
                               interpolation, &rows),
                     done);
    if (across && down) {
        int64_t shrinks = in->height - height;
        bool tall = shrinks > 0 && shrinks > 2 * (in->width - width);
        status = two_passes(in, &columns, &rows, tall, out);
    } else if (across) {
        passes->across(in, window.top, 0, &columns, out);
    } else {
        passes->down(in, 0, window.left, &rows, out);
    }
done:
    npi_axis_clear(&columns);
    npi_axis_clear(&rows);
    if (status != NPOS_OK)
        npi_image_clear(out);
    return status;
}

npos_status npi_resize(const npi_image *in, int height, int width, npi_interpolation interpolation,
                       const float box[4], npi_image *out) {
    npi_window whole = {.rows = height, .columns = width};
    return npi_resize_window(in, height, width, interpolation, box, whole, out);
}
