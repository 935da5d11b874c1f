/* torchvision's Resize(size) and CenterCrop(size) on an image of Pillow's, after convert("L") or
 * convert("RGB"). */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "data/image_decode.h"
#include "data/resize.h"

static uint8_t luma(const uint8_t *rgb) {
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

static npos_status convert(const npi_image *in, int channels, npi_image *out) {
    NPI_TRY(npi_image_alloc(out, in->height, in->width, channels, "convert"));
    out->shrink = in->shrink;
    out->stored_height = in->stored_height;
    out->stored_width = in->stored_width;
    size_t pixels = (size_t)in->height * (size_t)in->width;
    for (size_t i = 0; i < pixels; i++)
        if (channels == 1)
            out->pixels[i] = luma(in->pixels + 3 * i);
        else
            memset(out->pixels + 3 * i, in->pixels[i], 3);
    return NPOS_OK;
}

/* Python's int(round((whole - part) / 2.0)): halves go to the even number. */
static int centre(int64_t whole, int part) {
    int64_t rest = whole - part, half = rest / 2;
    return (int)(rest % 2 != 0 ? half + half % 2 : half);
}

int npi_transform_least_side(const npi_transform *transform) {
    double side = ceil(transform->reducing_gap * transform->size);
    return side > 0 && side <= NPI_IMAGE_MAX_SIDE ? (int)side : 0;
}

npos_status npi_transform_apply(const npi_transform *transform, const npi_image *in,
                                npi_image *out) {
    int size = transform->size, channels = transform->channels;
    *out = (npi_image){0};
    if (size < 1 || size > NPI_IMAGE_MAX_SIDE || (channels != 1 && channels != 3))
        return npi_fail(NPOS_INVALID_ARGUMENT, "transform: size %d with %d channels", size,
                        channels);
    if (in->height < 1 || in->width < 1 || (in->channels != 1 && in->channels != 3))
        return npi_fail(NPOS_INVALID_ARGUMENT, "transform: image of %d x %d with %d channels",
                        in->width, in->height, in->channels);
    npi_image grey = {0}, sized = {0};
    npos_status status = NPOS_OK;
    /* to grey first, as convert("L") would; from grey last, where it is less work for the same
     * result */
    if (channels == 1 && in->channels == 3) {
        NPI_TRY(convert(in, 1, &grey));
        in = &grey;
    }
    int64_t height = in->shrink ? in->stored_height : in->height,
            width = in->shrink ? in->stored_width : in->width;
    /* what the stored image covers of one that was decoded smaller: its sides were rounded up */
    const float box[4] = {0, 0, (float)((double)width / (in->shrink ? in->shrink : 1)),
                          (float)((double)height / (in->shrink ? in->shrink : 1))};
    if (width <= height) {
        height = (int64_t)((double)(size * height) / (double)width);
        width = size;
    } else {
        width = (int64_t)((double)(size * width) / (double)height);
        height = size;
    }
    npi_window window = {centre(height, size), centre(width, size), size, size};
    NPI_TRY_GOTO(
        npi_resize_window(in, height, width, transform->interpolation, box, window, &sized), done);
    if (sized.channels != channels) {
        status = convert(&sized, channels, out);
    } else {
        *out = sized;
        sized = (npi_image){0};
    }
done:
    npi_image_clear(&grey);
    npi_image_clear(&sized);
    return status;
}

npos_status npi_transform_crop(const npi_transform *transform, const npi_image *in, npi_window crop,
                               npi_image *out) {
    int size = transform->size, channels = transform->channels;
    *out = (npi_image){0};
    if (in->shrink)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "crop: an image decoded at 1/%d of its size, expected a whole one",
                        in->shrink);
    if (crop.top < 0 || crop.left < 0 || crop.rows < 1 || crop.columns < 1 ||
        crop.rows > in->height - crop.top || crop.columns > in->width - crop.left)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "crop: %d x %d at %d, %d leaves the image of %d x %d", crop.columns,
                        crop.rows, crop.left, crop.top, in->width, in->height);
    npi_image part = {0}, grey = {0}, sized = {0};
    const npi_image *from = &part;
    npos_status status;
    NPI_TRY(npi_resize_window(in, in->height, in->width, NPI_BILINEAR, NULL, crop, &part));
    if (channels == 1 && in->channels == 3) {
        NPI_TRY_GOTO(convert(&part, 1, &grey), done);
        from = &grey;
    }
    NPI_TRY_GOTO(npi_resize(from, size, size, transform->interpolation, NULL, &sized), done);
    if (sized.channels != channels) {
        status = convert(&sized, channels, out);
    } else {
        *out = sized;
        sized = (npi_image){0};
    }
done:
    npi_image_clear(&part);
    npi_image_clear(&grey);
    npi_image_clear(&sized);
    return status;
}
