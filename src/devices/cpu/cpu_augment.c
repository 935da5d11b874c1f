#include "devices/cpu/cpu_augment.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "devices/cpu/cpu_math.h"

enum { GROUP = 32 }; /* images of one block of the activation layout */

static const npi_pixels *pixels_of(npi_isa isa) {
#if defined(__x86_64__)
    if (isa >= NPI_ISA_AVX512)
        return &npi_pixels_avx512;
    if (isa == NPI_ISA_AVX2)
        return &npi_pixels_avx2;
#endif
    (void)isa;
    return &npi_pixels_generic;
}

/* One thread's room. */
typedef struct bench {
    npi_taps rows, columns;
    float *line, *planes;
} bench;

static size_t bench_bytes(const npi_augment_desc *d) {
    return 3 * npi_cpu_room((size_t)d->out_h, 4) + 3 * npi_cpu_room((size_t)d->out_w, 4) +
           npi_cpu_room((size_t)d->src_w * (size_t)d->channels, 4) +
           npi_cpu_room((size_t)d->channels * (size_t)d->out_h * (size_t)d->out_w, 4);
}

static void *take(char **at, size_t count) {
    void *piece = *at;
    *at += npi_cpu_room(count, 4);
    return piece;
}

static bench bench_at(const npi_augment_desc *d, char *at) {
    size_t h = (size_t)d->out_h, w = (size_t)d->out_w, channels = (size_t)d->channels;
    bench b;
    b.rows = (npi_taps){take(&at, h), take(&at, h), take(&at, h)};
    b.columns = (npi_taps){take(&at, w), take(&at, w), take(&at, w)};
    b.line = take(&at, (size_t)d->src_w * channels);
    b.planes = take(&at, channels * h * w);
    return b;
}

/* Bilinear, align_corners = False: output i reads at (i + 1/2) size / out - 1/2 of the crop, held
 * inside it.  `offset` is added to both indices. */
static void set_taps(npi_taps *taps, int size, int out, int offset, bool mirror) {
    float scale = (float)size / (float)out;
    for (int i = 0; i < out; i++) {
        float at = ((float)i + 0.5f) * scale - 0.5f;
        at = at > 0.0f ? at : 0.0f;
        int first = (int)at, to = mirror ? out - 1 - i : i;
        first = first > size - 1 ? size - 1 : first;
        taps->first[to] = first + offset;
        taps->second[to] = (first < size - 1 ? first + 1 : first) + offset;
        taps->weight[to] = at - (float)first;
    }
}

/* Antialiased bilinear for crops larger than the output, as torchvision's: input i of `in` weighs
 * in output o of `out` by a triangle of half-width max(in/out, 1) around (o + 1/2) in/out, cut at
 * the borders and normalised. */
typedef struct triangle {
    int first, end;
    float centre, slope, inverse_sum;
} triangle;

static float triangle_weight(const triangle *t, int i) {
    float away = fabsf(((float)i + 0.5f - t->centre) * t->slope);
    return away < 1.0f ? (1.0f - away) * t->inverse_sum : 0.0f;
}

static triangle triangle_of(int o, int in, int out) {
    float scale = (float)in / (float)out, support = scale > 1.0f ? scale : 1.0f, sum = 0.0f;
    triangle t = {
        .centre = ((float)o + 0.5f) * scale, .slope = 1.0f / support, .inverse_sum = 1.0f};
    float low = t.centre - support + 0.5f, high = t.centre + support + 0.5f;
    t.first = low > 0.0f ? (int)low : 0;
    t.end = high < (float)in ? (int)high : in;
    for (int i = t.first; i < t.end; i++)
        sum += triangle_weight(&t, i);
    t.inverse_sum = 1.0f / sum;
    return t;
}

static void shrink(const npi_augment_desc *d, const npi_augment_params *p, const uint8_t *image,
                   bench *b) {
    int channels = d->channels;
    for (int y = 0; y < d->out_h; y++) {
        triangle rows = triangle_of(y, p->height, d->out_h);
        memset(b->line, 0, (size_t)(p->width * channels) * sizeof *b->line);
        for (int i = rows.first; i < rows.end; i++) {
            const uint8_t *from = image + ((ptrdiff_t)(p->top + i) * d->src_w + p->left) * channels;
            float weight = triangle_weight(&rows, i) * (1.0f / 255.0f);
            for (int j = 0; j < p->width * channels; j++)
                b->line[j] += weight * (float)from[j];
        }
        for (int x = 0; x < d->out_w; x++) {
            triangle columns = triangle_of(x, p->width, d->out_w);
            float sum[3] = {0};
            for (int i = columns.first; i < columns.end; i++) {
                float weight = triangle_weight(&columns, i);
                for (int c = 0; c < channels; c++)
                    sum[c] += weight * b->line[i * channels + c];
            }
            int to = p->flip ? d->out_w - 1 - x : x;
            for (int c = 0; c < channels; c++)
                b->planes[((ptrdiff_t)c * d->out_h + y) * d->out_w + to] = sum[c];
        }
    }
}

/* A crop that may lie partly outside the image: zero there. */
static void copy_padded(const npi_augment_desc *d, const npi_augment_params *p,
                        const uint8_t *image, float *planes) {
    for (int c = 0; c < d->channels; c++)
        for (int y = 0; y < d->out_h; y++)
            for (int x = 0; x < d->out_w; x++) {
                int sy = p->top + y, sx = p->left + (p->flip ? d->out_w - 1 - x : x);
                bool inside = sy >= 0 && sy < d->src_h && sx >= 0 && sx < d->src_w;
                ptrdiff_t at = ((ptrdiff_t)sy * d->src_w + sx) * d->channels + c;
                planes[((ptrdiff_t)c * d->out_h + y) * d->out_w + x] =
                    inside ? (float)image[at] * (1.0f / 255.0f) : 0.0f;
            }
}

static void one_view(const npi_augment_desc *d, const npi_pixels *pixels,
                     const npi_augment_params *p, const uint8_t *image, bench *b) {
    if (d->crop == NPI_CROP_PADDED) {
        copy_padded(d, p, image, b->planes);
    } else if (p->height > d->out_h || p->width > d->out_w) {
        shrink(d, p, image, b);
    } else {
        set_taps(&b->rows, p->height, d->out_h, p->top, false);
        set_taps(&b->columns, p->width, d->out_w, 0, p->flip != 0);
        pixels->resample(image, d->src_w, d->channels, &b->rows, &b->columns, p->left, p->width,
                         d->out_h, d->out_w, b->line, b->planes);
    }
    int count = d->out_h * d->out_w;
    if (p->jitter)
        pixels->jitter(d->channels, count, p, b->planes);
    if (p->grey && d->channels == 3)
        pixels->grey(count, b->planes);
}

static void store(npi_device *dev, const npi_augment_desc *d, const npi_pixels *pixels,
                  const float *planes, npi_act to, int image) {
    float inverse_std[3] = {0};
    for (int c = 0; c < d->channels; c++)
        inverse_std[c] = 1.0f / d->std[c];
    int count = d->out_h * d->out_w;
    ptrdiff_t at = ((ptrdiff_t)(image / GROUP) * count * GROUP + image % GROUP) * d->channels;
    ptrdiff_t stride = (ptrdiff_t)GROUP * d->channels;
    if (dev->compute == NPI_BF16)
        pixels->store_bf16(d->channels, count, planes, d->mean, inverse_std,
                           (uint16_t *)to.data + at, stride);
    else
        pixels->store_f32(d->channels, count, planes, d->mean, inverse_std, (float *)to.data + at,
                          stride);
}

static void clear_padding(npi_device *dev, const npi_augment_desc *d, npi_act to) {
    size_t element = npi_dtype_bytes(dev->compute), count = (size_t)d->out_h * (size_t)d->out_w;
    size_t there = (size_t)(to.n % GROUP), image = (size_t)d->channels * element;
    if (there == 0)
        return;
    char *block = (char *)to.data + (size_t)(to.n / GROUP) * count * GROUP * image;
    for (size_t p = 0; p < count; p++)
        memset(block + (p * GROUP + there) * image, 0, (GROUP - there) * image);
}

static npos_status check(const npi_augment_desc *d, npi_act to, int n) {
    if (to.n != n || to.c != d->channels || to.h != d->out_h || to.w != d->out_w)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "augment: output is %d x %d x %d x %d, expected %d x %d x %d x %d", to.n,
                        to.c, to.h, to.w, n, d->channels, d->out_h, d->out_w);
    if (d->channels != 1 && d->channels != 3)
        return npi_fail(NPOS_INVALID_ARGUMENT, "augment: %d channels, expected 1 or 3",
                        d->channels);
    return NPOS_OK;
}

/* params NULL: plain images first .. first + n. */
static npos_status all_views(npi_device *dev, const npi_augment_desc *d, const uint8_t *images,
                             const int32_t *index, int64_t first, const npi_step *step,
                             const npi_augment_params *given, int n, npi_act to) {
    const npi_cpu *cpu = npi_cpu_of(dev);
    const npi_pixels *pixels = pixels_of(cpu->isa);
    NPI_TRY(check(d, to, n));
    size_t room = bench_bytes(d), bytes = (size_t)d->src_h * (size_t)d->src_w * (size_t)d->channels;
    char *scratch;
    NPI_TRY(npi_cpu_scratch(dev, room * (size_t)cpu->threads, &scratch));
    const npi_augment_params plain = {.height = d->src_h, .width = d->src_w};
    int groups = (n + GROUP - 1) / GROUP;
#pragma omp parallel num_threads(cpu->threads)
    {
        bench b = bench_at(d, scratch + room * (size_t)omp_get_thread_num());
#pragma omp for schedule(dynamic)
        for (int group = 0; group < groups; group++)
            for (int s = group * GROUP; s < n && s < (group + 1) * GROUP; s++) {
                const uint8_t *image =
                    images + bytes * (size_t)(index ? index[s % d->batch] : first + s);
                npi_augment_params p = plain;
                if (index)
                    p = given ? given[s] : npi_augment_draw(d, step->number, (uint32_t)s);
                one_view(d, pixels, &p, image, &b);
                store(dev, d, pixels, b.planes, to, s);
            }
    }
    clear_padding(dev, d, to);
    return NPOS_OK;
}

static npos_status augment(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                           const int32_t *index, const npi_step *step,
                           const npi_augment_params *given, npi_act to) {
    return all_views(dev, desc, images, index, 0, step, given, desc->batch * desc->views, to);
}

static npos_status normalise(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                             int64_t first, int n, npi_act to) {
    npi_augment_desc plain = *desc;
    plain.crop = NPI_CROP_NONE;
    return all_views(dev, &plain, images, NULL, first, NULL, NULL, n, to);
}

const npi_augment_ops npi_cpu_augment = {.augment = augment, .normalise = normalise};
