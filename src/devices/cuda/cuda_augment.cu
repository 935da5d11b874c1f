/* Augmentation in one pass over the pixels: a pixel is sampled, coloured and normalised in
 * registers.  Only contrast looks further, at the mean of the grey view as it is then.
 *
 * A view of up to ONE_BLOCK pixels is one block's, PIXELS to a thread, so that its mean is a sum
 * over the block.  A larger view is cut into parts of PART pixels: a first pass writes each part's
 * sum, a second samples all pixels again (from bytes that are cheaper to read than floats to keep)
 * and adds the sums up in order. */
#include "devices/cuda/cuda_sums.cuh"

enum {
    PIXELS = 4,
    ONE_BLOCK = 4096, /* pixels: 1024 threads */
    PART_THREADS = 256,
    PART = 2048,
    TABLE_BYTES = 47 << 10 /* of the 48 kB of shared memory that every block may have */
};

/* The inputs first .. first + count that an output row (or column) sees; input first + i weighs
 * (1 - |offset + i| slope) inverse_sum, slope being the view's. */
struct alignas(16) taps {
    int first, count;
    float offset, inverse_sum;
};

/* A triangle of half-width max(in/out, 1) around (o + 1/2) in/out, cut at the borders and
 * normalised: bilinear, antialiased where the crop is larger than the output. */
static __device__ __forceinline__ float slope_of(int in, int out) {
    return in > out ? (float)out / (float)in : 1.0f;
}

static __device__ __forceinline__ float tap_weight(taps t, float slope, int i) {
    return fmaxf(1.0f - fabsf(t.offset + (float)i) * slope, 0.0f) * t.inverse_sum;
}

static __device__ taps resized_taps(int o, int from, int in, int out) {
    double scale = (double)in / out, support = fmax(scale, 1.0), centre = (o + 0.5) * scale;
    int first = (int)fmax(centre - support + 0.5, 0.0);
    int end = (int)fmin(centre + support + 0.5, (double)in);
    taps t = {from + first, end - first, (float)(first + 0.5 - centre), 1.0f};
    float sum = 0.0f, slope = slope_of(in, out);
    for (int i = 0; i < t.count; i++)
        sum += tap_weight(t, slope, i);
    t.inverse_sum = 1.0f / sum;
    return t;
}

/* One input of weight 1; none outside of 0..size-1, where a padded crop is zero. */
static __device__ __forceinline__ taps plain_taps(int at, int size) {
    return {at, at >= 0 && at < size, 0.0f, 1.0f};
}

/* What an augmentation reads; index NULL: the plain images from the pointer on. */
struct source {
    const uint8_t *images;
    const int32_t *index;
    const npi_step *step;
    const npi_augment_params *given;
};

/* One view; columns[out_w] and rows of the output's rows first_row and after, in shared memory. */
struct view {
    npi_augment_params p;
    const uint8_t *image;
    taps *columns, *rows;
    int first_row;
    float slope_x, slope_y;
};

static __device__ __forceinline__ npi_augment_params params_of(const npi_augment_desc &d,
                                                               const source &from, unsigned s) {
    if (from.given)
        return from.given[s];
    if (from.index)
        return npi_augment_draw(&d, from.step->number, s);
    npi_augment_params whole = {};
    whole.height = d.src_h;
    whole.width = d.src_w;
    return whole;
}

/* Sets up view s for its pixels first .. end.  Called by all threads of a block; ends with a
 * barrier. */
static __device__ void open_view(const npi_augment_desc &d, const source &from, unsigned s,
                                 int first, int end, taps *table, view *v) {
    if (threadIdx.x == 0) {
        int64_t image = from.index ? from.index[s % (unsigned)d.batch] : (int64_t)s;
        v->p = params_of(d, from, s);
        v->image = from.images + image * d.src_h * d.src_w * d.channels;
        v->columns = table;
        v->rows = table + d.out_w;
        v->first_row = first / d.out_w;
        v->slope_x = d.crop == NPI_CROP_RESIZED ? slope_of(v->p.width, d.out_w) : 1.0f;
        v->slope_y = d.crop == NPI_CROP_RESIZED ? slope_of(v->p.height, d.out_h) : 1.0f;
    }
    __syncthreads();
    bool resized = d.crop == NPI_CROP_RESIZED;
    int first_row = first / d.out_w, rows = (end - 1) / d.out_w - first_row + 1;
    for (int i = (int)threadIdx.x; i < d.out_w + rows; i += (int)blockDim.x)
        if (i < d.out_w) {
            int to = v->p.flip ? d.out_w - 1 - i : i;
            table[to] = resized ? resized_taps(i, v->p.left, v->p.width, d.out_w)
                                : plain_taps(v->p.left + i, d.src_w);
        } else {
            int row = first_row + i - d.out_w;
            table[i] = resized ? resized_taps(row, v->p.top, v->p.height, d.out_h)
                               : plain_taps(v->p.top + row, d.src_h);
        }
    __syncthreads();
}

/* ---- a pixel ---- */

template <int CHANNELS> struct pixel { float v[CHANNELS]; };

/* Pixel i of the view, in [0, 1]. */
template <int CHANNELS>
static __device__ __forceinline__ pixel<CHANNELS> sampled(const npi_augment_desc &d, const view &v,
                                                          int i) {
    int row = i / d.out_w;
    taps y = v.rows[row - v.first_row], x = v.columns[i - row * d.out_w];
    pixel<CHANNELS> out = {};
    for (int k = 0; k < y.count; k++) {
        float across = tap_weight(y, v.slope_y, k);
        const uint8_t *from = v.image + ((int64_t)(y.first + k) * d.src_w + x.first) * CHANNELS;
        for (int j = 0; j < x.count; j++) {
            float weight = across * tap_weight(x, v.slope_x, j);
#pragma unroll
            for (int c = 0; c < CHANNELS; c++)
                out.v[c] = fmaf(weight, (float)from[j * CHANNELS + c], out.v[c]);
        }
    }
#pragma unroll
    for (int c = 0; c < CHANNELS; c++)
        out.v[c] /= 255.0f;
    return out;
}

static __device__ __forceinline__ float grey_of(pixel<3> a) {
    return 0.2989f * a.v[0] + 0.587f * a.v[1] + 0.114f * a.v[2];
}

static __device__ __forceinline__ float grey_of(pixel<1> a) {
    return a.v[0];
}

/* clamp( ratio a + (1 - ratio) b ) of each channel */
template <int CHANNELS>
static __device__ __forceinline__ void blend(pixel<CHANNELS> *a, float b, float ratio) {
    float rest = (1.0f - ratio) * b;
#pragma unroll
    for (int c = 0; c < CHANNELS; c++)
        a->v[c] = __saturatef(ratio * a->v[c] + rest);
}

/* To HSV, turn, and back. */
static __device__ __forceinline__ void turn_hue(pixel<3> *a, float turn) {
    float r = a->v[0], g = a->v[1], b = a->v[2];
    float most = fmaxf(fmaxf(r, g), b), range = most - fminf(fminf(r, g), b);
    float s = range > 0.0f ? range / most : 0.0f, inverse = range > 0.0f ? 1.0f / range : 1.0f;
    float rc = (most - r) * inverse, gc = (most - g) * inverse, bc = (most - b) * inverse;
    float sector = most == r ? bc - gc : most == g ? 2.0f + rc - bc : 4.0f + gc - rc;
    float h = sector * (1.0f / 6.0f) + turn;
    float h6 = (h - floorf(h)) * 6.0f, whole = floorf(h6), f = h6 - whole;
    int part = (int)whole % 6;
    float p = __saturatef(most * (1.0f - s)), q = __saturatef(most * (1.0f - s * f)),
          t = __saturatef(most * (1.0f - s * (1.0f - f)));
    /* part   0 1 2 3 4 5
     * red    v q p p t v
     * green  t v v q p p
     * blue   p p t v v q */
    a->v[0] = part == 0 || part == 5 ? most : part == 1 ? q : part == 4 ? t : p;
    a->v[1] = part == 1 || part == 2 ? most : part == 3 ? q : part == 0 ? t : p;
    a->v[2] = part == 3 || part == 4 ? most : part == 5 ? q : part == 2 ? t : p;
}

static __device__ __forceinline__ void turn_hue(pixel<1> *, float) {
}

enum { BRIGHTNESS, CONTRAST, SATURATION, HUE };

/* One operation of the jitter; `mean` is of the grey view and for contrast alone.  Grey images have
 * neither saturation nor hue. */
template <int CHANNELS>
static __device__ __forceinline__ void jitter(pixel<CHANNELS> *a, int operation, float factor,
                                              float mean) {
    if (operation == BRIGHTNESS)
        blend(a, 0.0f, factor);
    else if (operation == CONTRAST)
        blend(a, mean, factor);
    else if (operation == SATURATION && CHANNELS == 3)
        blend(a, grey_of(*a), factor);
    else if (operation == HUE)
        turn_hue(a, factor);
}

template <class T, int CHANNELS>
static __device__ __forceinline__ void store_pixel(const npi_augment_desc &d, const view &v,
                                                   pixel<CHANNELS> a, T *to) {
    float grey = grey_of(a);
    npi_float8 out = {};
#pragma unroll
    for (int c = 0; c < CHANNELS; c++)
        out.v[c] = ((v.p.grey ? grey : a.v[c]) - d.mean[c]) / d.std[c];
    npi_store8(to, out);
}

/* ---- a view in one block ---- */

/* The sum over a block of up to 1024 threads (whole warps), in all of them; once in a kernel. */
static __device__ __forceinline__ double sum_for_all(double value) {
    __shared__ double of_warp[32];
    value = npi_warp_sum_double(value);
    if (threadIdx.x % 32 == 0)
        of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = 0.0;
    for (unsigned i = 0; i < blockDim.x / 32; i++)
        sum += of_warp[i];
    return sum;
}

template <class T, int CHANNELS>
static __global__ void __launch_bounds__(ONE_BLOCK / PIXELS)
    whole_views(npi_augment_desc d, source from, T *to) {
    extern __shared__ taps table[];
    __shared__ view v;
    int count = d.out_h * d.out_w;
    open_view(d, from, blockIdx.x, 0, count, table, &v);
    pixel<CHANNELS> pixels[PIXELS] = {};
#pragma unroll
    for (int k = 0; k < PIXELS; k++) {
        int i = k * (int)blockDim.x + (int)threadIdx.x;
        if (i < count)
            pixels[k] = sampled<CHANNELS>(d, v, i);
    }
    for (int step = 0; v.p.jitter && step < 4; step++) {
        int operation = v.p.order[step];
        float factor = v.p.factor[operation], mean = 0.0f;
        if (operation == CONTRAST) { /* for the whole block */
            float grey = 0.0f;
#pragma unroll
            for (int k = 0; k < PIXELS; k++)
                if (k * (int)blockDim.x + (int)threadIdx.x < count)
                    grey += grey_of(pixels[k]);
            mean = (float)(sum_for_all((double)grey) / count);
        }
#pragma unroll
        for (int k = 0; k < PIXELS; k++)
            jitter(&pixels[k], operation, factor, mean);
    }
    T *view_to = to + (int64_t)blockIdx.x * count * 8;
#pragma unroll
    for (int k = 0; k < PIXELS; k++) {
        int i = k * (int)blockDim.x + (int)threadIdx.x;
        if (i < count)
            store_pixel(d, v, pixels[k], view_to + (int64_t)i * 8);
    }
}

/* ---- a view in parts ---- */

static __global__ void draw_all(npi_augment_desc d, source from, int n,
                                npi_augment_params *params) {
    int s = (int)(blockIdx.x * 32 + threadIdx.x);
    if (s < n)
        params[s] = params_of(d, from, (unsigned)s);
}

/* sums[s * parts + part] = the part's sum of grey values before contrast */
template <int CHANNELS>
static __global__ void __launch_bounds__(PART_THREADS)
    grey_sums(npi_augment_desc d, source from, int parts, double *sums) {
    extern __shared__ taps table[];
    __shared__ view v;
    unsigned s = blockIdx.x / (unsigned)parts;
    if (!from.given[s].jitter)
        return;
    int first = (int)(blockIdx.x % (unsigned)parts) * PART;
    int end = min(first + PART, d.out_h * d.out_w);
    open_view(d, from, s, first, end, table, &v);
    double sum = 0.0;
    for (int i = first + (int)threadIdx.x; i < end; i += PART_THREADS) {
        pixel<CHANNELS> a = sampled<CHANNELS>(d, v, i);
        for (int step = 0; v.p.order[step] != CONTRAST; step++)
            jitter(&a, v.p.order[step], v.p.factor[v.p.order[step]], 0.0f);
        sum += (double)grey_of(a);
    }
    sum = npi_block_sum<PART_THREADS>(sum);
    if (threadIdx.x == 0)
        sums[blockIdx.x] = sum;
}

template <class T, int CHANNELS>
static __global__ void __launch_bounds__(PART_THREADS)
    view_parts(npi_augment_desc d, source from, int parts, const double *sums, T *to) {
    extern __shared__ taps table[];
    __shared__ view v;
    unsigned s = blockIdx.x / (unsigned)parts;
    int count = d.out_h * d.out_w, first = (int)(blockIdx.x % (unsigned)parts) * PART;
    int end = min(first + PART, count);
    open_view(d, from, s, first, end, table, &v);
    double sum = 0.0;
    for (int i = 0; v.p.jitter && i < parts; i++)
        sum += sums[(int64_t)s * parts + i];
    float mean = (float)(sum / count);
    for (int i = first + (int)threadIdx.x; i < end; i += PART_THREADS) {
        pixel<CHANNELS> a = sampled<CHANNELS>(d, v, i);
        for (int step = 0; v.p.jitter && step < 4; step++)
            jitter(&a, v.p.order[step], v.p.factor[v.p.order[step]], mean);
        store_pixel(d, v, a, to + ((int64_t)s * count + i) * 8);
    }
}

/* ---- the entries ---- */

static bool in_one_block(const npi_augment_desc &d) {
    return (int64_t)d.out_h * d.out_w <= ONE_BLOCK;
}

/* Taps of all columns and of the rows that a block's pixels may touch. */
static size_t table_bytes(const npi_augment_desc &d) {
    int rows = in_one_block(d) ? d.out_h : PART / d.out_w + 2;
    return ((size_t)d.out_w + (size_t)rows) * sizeof(taps);
}

template <class T, int CHANNELS>
static npos_status launch(npi_device *dev, const npi_augment_desc &d, source from, npi_act to) {
    cudaStream_t stream = npi_cuda_stream(dev);
    int count = d.out_h * d.out_w;
    size_t table = table_bytes(d);
    if (in_one_block(d)) {
        int threads = npi_ceil_div(npi_ceil_div(count, PIXELS), 32) * 32;
        whole_views<T, CHANNELS>
            <<<(unsigned)to.n, (unsigned)threads, table, stream>>>(d, from, (T *)to.data);
        return npi_cuda_launched(dev, "augment");
    }
    int parts = npi_ceil_div(count, PART);
    size_t n = (size_t)to.n, blocks = n * (size_t)parts;
    double *sums;
    NPI_TRY(npi_cuda_scratch(dev, blocks * sizeof *sums + n * sizeof(npi_augment_params), &sums));
    if (!from.given) {
        npi_augment_params *params = (npi_augment_params *)(sums + blocks);
        draw_all<<<(unsigned)npi_ceil_div(to.n, 32), 32, 0, stream>>>(d, from, to.n, params);
        from.given = params;
    }
    if (from.index)
        grey_sums<CHANNELS>
            <<<(unsigned)blocks, PART_THREADS, table, stream>>>(d, from, parts, sums);
    view_parts<T, CHANNELS>
        <<<(unsigned)blocks, PART_THREADS, table, stream>>>(d, from, parts, sums, (T *)to.data);
    return npi_cuda_launched(dev, "augment");
}

template <class T>
static npos_status launch_by_channels(npi_device *dev, const npi_augment_desc &d, source from,
                                      npi_act to) {
    return d.channels == 3 ? launch<T, 3>(dev, d, from, to) : launch<T, 1>(dev, d, from, to);
}

static npos_status check(const npi_augment_desc &d, int n, npi_act to) {
    if (d.channels != 1 && d.channels != 3)
        return npi_fail(NPOS_INVALID_ARGUMENT, "augment: %d channels, expected 1 or 3", d.channels);
    if (d.crop == NPI_CROP_NONE && (d.src_h != d.out_h || d.src_w != d.out_w))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "augment: without a crop %d x %d cannot become %d x %d", d.src_h, d.src_w,
                        d.out_h, d.out_w);
    if (to.n != n || to.c != d.channels || to.h != d.out_h || to.w != d.out_w)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "augment: output is %d x %d x %d x %d, expected %d x %d x %d x %d", to.n,
                        to.c, to.h, to.w, n, d.channels, d.out_h, d.out_w);
    if (table_bytes(d) > TABLE_BYTES)
        return npi_fail(NPOS_UNSUPPORTED,
                        "augment: views of %d x %d need tables of %zu bytes, at most %d fit",
                        d.out_h, d.out_w, table_bytes(d), (int)TABLE_BYTES);
    return NPOS_OK;
}

static npos_status run(npi_device *dev, const npi_augment_desc &d, source from, int n, npi_act to) {
    NPI_TRY(check(d, n, to));
    if (n == 0)
        return NPOS_OK;
    return NPI_BY_TYPE(dev, launch_by_channels, dev, d, from, to);
}

static npos_status augment(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                           const int32_t *index, const npi_step *step,
                           const npi_augment_params *given, npi_act to) {
    return run(dev, *desc, {images, index, step, given}, desc->batch * desc->views, to);
}

static npos_status normalise(npi_device *dev, const npi_augment_desc *desc, const uint8_t *images,
                             int64_t first, int n, npi_act to) {
    npi_augment_desc plain = *desc;
    plain.crop = NPI_CROP_NONE;
    images += first * desc->src_h * desc->src_w * desc->channels;
    return run(dev, plain, {images, NULL, NULL, NULL}, n, to);
}

const npi_augment_ops npi_cuda_augment = {.augment = augment, .normalise = normalise};
