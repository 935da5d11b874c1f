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

enum { PRECISION_BITS = 32 - 8 - 2, HALF = 1 << (PRECISION_BITS - 1) };

/* Of each output position: where its source starts, how many there are, their weights. */
typedef struct axis {
    int *start, *count;
    int32_t *weights; /* [positions][widest] */
    int widest;
} axis;

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

static void axis_clear(axis *a) {
    npi_free(a->start);
    npi_free(a->count);
    npi_free(a->weights);
    *a = (axis){0};
}

/* Weights of output positions first..first+count-1 of `out_size`, from source span from..to. */
static npos_status axis_make(int in_size, float from, float to, int64_t out_size, int first,
                             int count, npi_interpolation interpolation, axis *out) {
    double (*filter)(double) = interpolation == NPI_BICUBIC ? bicubic : bilinear;
    double scale = (double)(to - from) / (double)out_size, stretch = scale < 1.0 ? 1.0 : scale;
    double support = (interpolation == NPI_BICUBIC ? 2.0 : 1.0) * stretch, inverse = 1.0 / stretch;
    double *weights = NULL;
    npos_status status;
    *out = (axis){.widest = (int)ceil(support) * 2 + 1};
    NPI_TRY_GOTO(npi_alloc(&out->start, (size_t)count, sizeof *out->start, "resize"), done);
    NPI_TRY_GOTO(npi_alloc(&out->count, (size_t)count, sizeof *out->count, "resize"), done);
    NPI_TRY_GOTO(npi_alloc(&out->weights, (size_t)count * (size_t)out->widest, sizeof *out->weights,
                           "resize"),
                 done);
    NPI_TRY_GOTO(npi_alloc(&weights, (size_t)out->widest, sizeof *weights, "resize"), done);
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
        int32_t *fixed = out->weights + (size_t)i * (size_t)out->widest;
        for (int k = 0; k < n; k++) {
            double w = (sum != 0.0 ? weights[k] / sum : weights[k]) * (1 << PRECISION_BITS);
            fixed[k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
        }
        out->start[i] = low;
        out->count[i] = n;
    }
done:
    npi_free(weights);
    if (status != NPOS_OK)
        axis_clear(out);
    return status;
}

static uint8_t clip(int32_t sum) {
    sum >>= PRECISION_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* Rows first_row.. of `in`, whose columns are those of the source from first_column on. */
static void horizontal(const npi_image *in, int first_row, int first_column, const axis *a,
                       npi_image *out) {
    int channels = in->channels;
    size_t stride = (size_t)in->width * (size_t)channels;
    uint8_t *to = out->pixels;
    for (int y = 0; y < out->height; y++) {
        const uint8_t *row = in->pixels + (size_t)(first_row + y) * stride;
        for (int x = 0; x < out->width; x++) {
            const int32_t *w = a->weights + (size_t)x * (size_t)a->widest;
            const uint8_t *from = row + (size_t)(a->start[x] - first_column) * (size_t)channels;
            int n = a->count[x];
            if (channels == 3) {
                int32_t red = HALF, green = HALF, blue = HALF;
                for (int k = 0; k < n; k++) {
                    red += from[3 * k] * w[k];
                    green += from[3 * k + 1] * w[k];
                    blue += from[3 * k + 2] * w[k];
                }
                *to++ = clip(red);
                *to++ = clip(green);
                *to++ = clip(blue);
            } else {
                int32_t sum = HALF;
                for (int k = 0; k < n; k++)
                    sum += from[k] * w[k];
                *to++ = clip(sum);
            }
        }
    }
}

/* Columns first_column.. of `in`, whose rows are those of the source from first_row on. */
static npos_status vertical(const npi_image *in, int first_row, int first_column, const axis *a,
                            npi_image *out) {
    size_t stride = (size_t)in->width * (size_t)in->channels,
           length = (size_t)out->width * (size_t)out->channels;
    int32_t *sums;
    NPI_TRY(npi_alloc(&sums, length, sizeof *sums, "resize"));
    for (int y = 0; y < out->height; y++) {
        const int32_t *w = a->weights + (size_t)y * (size_t)a->widest;
        const uint8_t *from = in->pixels + (size_t)(a->start[y] - first_row) * stride +
                              (size_t)first_column * (size_t)in->channels;
        for (size_t x = 0; x < length; x++)
            sums[x] = HALF;
        for (int k = 0; k < a->count[y]; k++, from += stride)
            for (size_t x = 0; x < length; x++)
                sums[x] += from[x] * w[k];
        uint8_t *to = out->pixels + (size_t)y * length;
        for (size_t x = 0; x < length; x++)
            to[x] = clip(sums[x]);
    }
    npi_free(sums);
    return NPOS_OK;
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
static void axis_span(const axis *a, int count, int *first, int *last) {
    *first = a->start[0];
    *last = a->start[count - 1] + a->count[count - 1];
}

/* Both passes, the vertical one first where `tall`; only what the window needs is computed. */
static npos_status two_passes(const npi_image *in, const axis *columns, const axis *rows, bool tall,
                              npi_image *out) {
    npi_image middle = {0};
    npos_status status;
    int first, last;
    if (tall) {
        axis_span(columns, out->width, &first, &last);
        NPI_TRY(npi_image_alloc(&middle, out->height, last - first, in->channels, "resize"));
        status = vertical(in, 0, first, rows, &middle);
        if (status == NPOS_OK)
            horizontal(&middle, 0, first, columns, out);
    } else {
        axis_span(rows, out->height, &first, &last);
        NPI_TRY(npi_image_alloc(&middle, last - first, out->width, in->channels, "resize"));
        horizontal(in, first, 0, columns, &middle);
        status = vertical(&middle, first, 0, rows, out);
    }
    npi_image_clear(&middle);
    return status;
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

    axis columns = {0}, rows = {0};
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
        horizontal(in, window.top, 0, &columns, out);
        status = NPOS_OK;
    } else {
        status = vertical(in, 0, window.left, &rows, out);
    }
done:
    axis_clear(&columns);
    axis_clear(&rows);
    if (status != NPOS_OK)
        npi_image_clear(out);
    return status;
}

npos_status npi_resize(const npi_image *in, int height, int width, npi_interpolation interpolation,
                       const float box[4], npi_image *out) {
    npi_window whole = {.rows = height, .columns = width};
    return npi_resize_window(in, height, width, interpolation, box, whole, out);
}
