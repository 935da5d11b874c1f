/* Augmentation: crop, flip, jitter, grey and normalise of a view in one pass over its pixels.
 *
 * Only contrast looks beyond its own pixel: it needs the mean grey of all that came before it.  A view of at most
 * SMALL_PIXELS is one block, which holds its pixels in registers; of a larger one, blocks first sum up the grey of their
 * part, and then make the pixels anew. */
#include "devices/cuda/cuda_sums.cuh"

static constexpr int THREADS = 256, EACH = 4, SMALL_PIXELS = THREADS * EACH, LARGE_PIXELS = 4096;

struct pixel {
    float v[3];
};

static __device__ __forceinline__ float clamp01(float x) {
    return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
}

/* ---- crop ---- */

/* The inputs that output o of `out` sees of `in`: a triangle of half-width max(in / out, 1) around (o + 1/2) in / out, cut
 * at the borders; its weights sum to `sum`. */
struct taps {
    int first, count;
    float centre, slope, sum;

    __device__ float weight(int i) const {
        float away = fabsf(((float)(first + i) + 0.5f - centre) * slope);
        return away < 1.0f ? 1.0f - away : 0.0f;
    }
};

static __device__ taps taps_of(int o, int in, int out) {
    const float scale = (float)in / (float)out, support = scale > 1.0f ? scale : 1.0f;
    taps t;
    t.centre = ((float)o + 0.5f) * scale;
    t.slope = 1.0f / support;
    t.first = (int)fmaxf(t.centre - support + 0.5f, 0.0f);
    t.count = (int)fminf(t.centre + support + 0.5f, (float)in) - t.first;
    t.sum = 0.0f;
    for (int i = 0; i < t.count; i++)
        t.sum += t.weight(i);
    return t;
}

static __device__ pixel cropped(const npi_augment_desc &d, const npi_augment_params &p,
                                const uint8_t *image, int y, int x) {
    pixel out = {};
    if (p.flip)
        x = d.out_w - 1 - x;
    if (d.crop != NPI_CROP_RESIZED) {
        const int sy = p.top + y, sx = p.left + x;
        if (sy < 0 || sy >= d.src_h || sx < 0 || sx >= d.src_w)
            return out;
        for (int c = 0; c < d.channels; c++)
            out.v[c] =
                (float)image[((int64_t)sy * d.src_w + sx) * d.channels + c] * (1.0f / 255.0f);
        return out;
    }
    const taps ty = taps_of(y, p.height, d.out_h), tx = taps_of(x, p.width, d.out_w);
    for (int i = 0; i < ty.count; i++) {
        const float row_weight = ty.weight(i);
        const uint8_t *row =
            image + ((int64_t)(p.top + ty.first + i) * d.src_w + p.left + tx.first) * d.channels;
        for (int j = 0; j < tx.count; j++) {
            const float weight = row_weight * tx.weight(j);
            for (int c = 0; c < d.channels; c++)
                out.v[c] += weight * (float)row[j * d.channels + c];
        }
    }
    const float scale = 1.0f / (255.0f * ty.sum * tx.sum);
    for (int c = 0; c < d.channels; c++)
        out.v[c] *= scale;
    return out;
}

/* ---- colour (torchvision's _functional_tensor.py) ---- */

static __device__ __forceinline__ float grey_of(const pixel &p, int channels) {
    return channels == 1 ? p.v[0] : 0.2989f * p.v[0] + 0.587f * p.v[1] + 0.114f * p.v[2];
}

static __device__ __forceinline__ void blend(pixel *p, int channels, float with, float ratio) {
#pragma unroll
    for (int c = 0; c < 3; c++)
        if (c < channels)
            p->v[c] = clamp01(ratio * p->v[c] + (1.0f - ratio) * with);
}

static __device__ void turn_hue(pixel *pixel, float turn) {
    const float r = pixel->v[0], g = pixel->v[1], b = pixel->v[2];
    const float most = fmaxf(fmaxf(r, g), b), least = fminf(fminf(r, g), b), range = most - least;
    const bool plain = !(range > 0.0f);
    const float s = range / (plain ? 1.0f : most), divisor = plain ? 1.0f : range;
    const float rc = (most - r) / divisor, gc = (most - g) / divisor, bc = (most - b) / divisor;
    const float sector = most == r ? bc - gc : most == g ? 2.0f + rc - bc : 4.0f + gc - rc;
    float h = sector / 6.0f + 1.0f;
    h = h - floorf(h) + turn;
    h -= floorf(h);
    const float whole = floorf(h * 6.0f), f = h * 6.0f - whole;
    const float p = clamp01(most * (1.0f - s)), q = clamp01(most * (1.0f - s * f)),
                t = clamp01(most * (1.0f - s * (1.0f - f)));
    const int at = (int)whole % 6;
    pixel->v[0] = at == 0 || at == 5 ? most : at == 1 ? q : at == 4 ? t : p;
    pixel->v[1] = at == 1 || at == 2 ? most : at == 0 ? t : at == 3 ? q : p;
    pixel->v[2] = at == 3 || at == 4 ? most : at == 2 ? t : at == 5 ? q : p;
}

/* Operations first .. last of the jitter; `mean` is contrast's. */
static __device__ void jitter(const npi_augment_params &p, int channels, int first, int last,
                              float mean, pixel *pixel) {
    for (int k = first; k < last; k++) {
        const int operation = p.order[k];
        const float factor = p.factor[operation];
        if (operation == 0)
            blend(pixel, channels, 0.0f, factor);
        else if (operation == 1)
            blend(pixel, channels, mean, factor);
        else if (channels == 1)
            continue;
        else if (operation == 2)
            blend(pixel, channels, grey_of(*pixel, channels), factor);
        else
            turn_hue(pixel, factor);
    }
}

/* Where contrast stands in the order: what is before it makes its mean. */
static __device__ int contrast_place(const npi_augment_params &p) {
    int k = 0;
    while (p.order[k] != 1)
        k++;
    return k;
}

template <typename T>
static __device__ void finish(const npi_augment_desc &d, const npi_augment_params &p, pixel pixel,
                              T *to) {
    if (p.grey && d.channels == 3)
        pixel.v[0] = pixel.v[1] = pixel.v[2] = grey_of(pixel, 3);
    npi_float8 out = {};
#pragma unroll
    for (int c = 0; c < 3; c++)
        if (c < d.channels)
            out.v[c] = (pixel.v[c] - d.mean[c]) / d.std[c];
    npi_store8(to, out);
}

struct sources {
    const uint8_t *images;
    const int32_t *index;
    const npi_step *step;
    const npi_augment_params *given;
};

static __device__ npi_augment_params params_of(const npi_augment_desc &d, const sources &from,
                                               int sample) {
    return from.given ? from.given[sample]
                      : npi_augment_draw(&d, from.step->number, (uint32_t)sample);
}

static __device__ const uint8_t *image_of(const npi_augment_desc &d, const sources &from,
                                          int sample) {
    return from.images + (int64_t)from.index[sample % d.batch] * d.src_h * d.src_w * d.channels;
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    small_kernel(npi_augment_desc d, sources from, T *to) {
    __shared__ npi_augment_params p;
    __shared__ float mean;
    const int sample = blockIdx.x, count = d.out_h * d.out_w;
    if (threadIdx.x == 0)
        p = params_of(d, from, sample);
    __syncthreads();
    const uint8_t *image = image_of(d, from, sample);
    const int contrast = contrast_place(p);
    pixel mine[EACH];
    float grey = 0.0f;
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int i = e * THREADS + threadIdx.x;
        if (i >= count)
            continue;
        mine[e] = cropped(d, p, image, i / d.out_w, i % d.out_w);
        if (p.jitter) {
            jitter(p, d.channels, 0, contrast, 0.0f, &mine[e]);
            grey += grey_of(mine[e], d.channels);
        }
    }
    const double sum = npi_block_sum<THREADS>((double)grey);
    if (threadIdx.x == 0)
        mean = (float)(sum / count);
    __syncthreads();
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int i = e * THREADS + threadIdx.x;
        if (i >= count)
            continue;
        if (p.jitter)
            jitter(p, d.channels, contrast, 4, mean, &mine[e]);
        finish(d, p, mine[e], to + ((int64_t)sample * count + i) * 8);
    }
}

/* sums[sample][part]: grey before contrast, of LARGE_PIXELS pixels. */
static __global__ void __launch_bounds__(THREADS)
    grey_kernel(npi_augment_desc d, sources from, double *sums) {
    __shared__ npi_augment_params p;
    const int sample = blockIdx.y, count = d.out_h * d.out_w, begin = blockIdx.x * LARGE_PIXELS;
    if (threadIdx.x == 0)
        p = params_of(d, from, sample);
    __syncthreads();
    if (!p.jitter)
        return;
    const uint8_t *image = image_of(d, from, sample);
    const int contrast = contrast_place(p);
    float grey = 0.0f;
    for (int i = begin + threadIdx.x; i < begin + LARGE_PIXELS && i < count; i += THREADS) {
        pixel mine = cropped(d, p, image, i / d.out_w, i % d.out_w);
        jitter(p, d.channels, 0, contrast, 0.0f, &mine);
        grey += grey_of(mine, d.channels);
    }
    const double sum = npi_block_sum<THREADS>((double)grey);
    if (threadIdx.x == 0)
        sums[(int64_t)sample * gridDim.x + blockIdx.x] = sum;
}

template <typename T>
static __global__ void __launch_bounds__(THREADS)
    large_kernel(npi_augment_desc d, sources from, const double *sums, T *to) {
    __shared__ npi_augment_params p;
    __shared__ float mean;
    const int sample = blockIdx.y, count = d.out_h * d.out_w, begin = blockIdx.x * LARGE_PIXELS;
    if (threadIdx.x == 0) {
        double sum = 0.0;
        p = params_of(d, from, sample);
        for (unsigned i = 0; p.jitter && i < gridDim.x; i++)
            sum += sums[(int64_t)sample * gridDim.x + i];
        mean = (float)(sum / count);
    }
    __syncthreads();
    const uint8_t *image = image_of(d, from, sample);
    for (int i = begin + threadIdx.x; i < begin + LARGE_PIXELS && i < count; i += THREADS) {
        pixel mine = cropped(d, p, image, i / d.out_w, i % d.out_w);
        if (p.jitter)
            jitter(p, d.channels, 0, 4, mean, &mine);
        finish(d, p, mine, to + ((int64_t)sample * count + i) * 8);
    }
}

template <typename T>
static __global__ void normalise_kernel(npi_augment_desc d, const uint8_t *images, int64_t count,
                                        T *to) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    npi_float8 out = {};
#pragma unroll
    for (int c = 0; c < 3; c++)
        if (c < d.channels)
            out.v[c] = ((float)images[i * d.channels + c] * (1.0f / 255.0f) - d.mean[c]) / d.std[c];
    npi_store8(to + i * 8, out);
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
    if (to.n == n && to.c == d->channels && to.h == d->out_h && to.w == d->out_w)
        return NPOS_OK;
    return npi_fail(NPOS_SHAPE_MISMATCH,
                    "augment: output %d x %d x %d x %d, expected %d x %d x %d x %d", to.n, to.c,
                    to.h, to.w, n, d->channels, d->out_h, d->out_w);
}

template <typename T>
static void launch_small(npi_device *dev, const npi_augment_desc *d, sources from, npi_act to) {
    small_kernel<<<(unsigned)to.n, THREADS, 0, npi_cuda_stream(dev)>>>(*d, from, (T *)to.data);
}

template <typename T>
static void launch_large(npi_device *dev, const npi_augment_desc *d, sources from, double *sums,
                         npi_act to) {
    const dim3 grid((unsigned)npi_ceil_div((int64_t)d->out_h * d->out_w, LARGE_PIXELS),
                    (unsigned)to.n);
    grey_kernel<<<grid, THREADS, 0, npi_cuda_stream(dev)>>>(*d, from, sums);
    large_kernel<<<grid, THREADS, 0, npi_cuda_stream(dev)>>>(*d, from, sums, (T *)to.data);
}

static npos_status augment(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                           const int32_t *index, const npi_step *step,
                           const npi_augment_params *given, npi_act to) {
    const sources from = {images, index, step, given};
    NPI_TRY(check(desc, desc->batch * desc->views, to));
    const int64_t pixels = (int64_t)desc->out_h * desc->out_w;
    if (pixels <= SMALL_PIXELS) {
        NPI_BY_TYPE(dev, launch_small, dev, desc, from, to);
    } else {
        double *sums;
        NPI_TRY(npi_cuda_scratch(
            dev, (size_t)to.n * (size_t)npi_ceil_div(pixels, LARGE_PIXELS) * sizeof *sums, &sums));
        NPI_BY_TYPE(dev, launch_large, dev, desc, from, sums, to);
    }
    return npi_cuda_launched(dev, "augment");
}

template <typename T>
static void launch_normalise(npi_device *dev, const npi_augment_desc *d, const uint8_t *images,
                             npi_act to) {
    const int64_t count = (int64_t)to.n * to.h * to.w;
    normalise_kernel<<<npi_ceil_div(count, THREADS), THREADS, 0, npi_cuda_stream(dev)>>>(
        *d, images, count, (T *)to.data);
}

static npos_status normalise(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                             int64_t first, int n, npi_act to) {
    npi_augment_desc plain = *desc;
    plain.crop = NPI_CROP_NONE;
    NPI_TRY(check(&plain, n, to));
    NPI_BY_TYPE(dev, launch_normalise, dev, &plain,
                images + first * desc->src_h * desc->src_w * desc->channels, to);
    return npi_cuda_launched(dev, "normalise");
}

const npi_augment_ops npi_cuda_augment = {.augment = augment, .normalise = normalise};
