#include "devices/cuda/cuda_tokens.cuh"

#include <cstdio>
#include <cstdlib>

#include "devices/cuda/cuda_gemm.cuh"

enum { THREADS = 256, WARPS = THREADS / 32 };

static int64_t count_of(npi_tokens tokens) {
    return (int64_t)tokens.n * tokens.t * tokens.width;
}

static unsigned blocks_for(int64_t count) {
    return (unsigned)npi_ceil_div(count, THREADS);
}

npos_status npi_check_tokens(const char *what, npi_tokens tokens, int most, int t, int width) {
    if (tokens.n >= 1 && tokens.n <= most && tokens.t == t && tokens.width == width && tokens.data)
        return NPOS_OK;
    return npi_fail(NPOS_SHAPE_MISMATCH,
                    "%s: %d sequences of %d rows of %d%s, expected 1 to %d of %d rows of %d", what,
                    tokens.n, tokens.t, tokens.width, tokens.data ? "" : " without data", most, t,
                    width);
}

/* ---- in and out ---- */

static size_t token_bytes(npi_device *dev, int n, int t, int width) {
    return (size_t)n * (size_t)t * (size_t)width * npi_token_element(dev);
}

template <typename From, typename To>
static __global__ void convert(int64_t count, const From *from, To *to) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < count)
        npi_store(to + i, npi_load(from + i));
}

template <typename From, typename To>
static npos_status converted(npi_device *dev, int64_t count, const void *from, void *to) {
    if (count > 0)
        convert<<<blocks_for(count), THREADS, 0, npi_cuda_stream(dev)>>>(count, (const From *)from,
                                                                         (To *)to);
    return npi_cuda_launched(dev, "conversion of tokens");
}

static npos_status import_rows(npi_device *dev, const float *rows, npi_tokens to) {
    return dev->compute == NPI_BF16 ? converted<float, __half>(dev, count_of(to), rows, to.data)
                                    : converted<float, float>(dev, count_of(to), rows, to.data);
}

static npos_status export_rows(npi_device *dev, npi_tokens from, float *rows) {
    return dev->compute == NPI_BF16 ? converted<__half, float>(dev, count_of(from), from.data, rows)
                                    : converted<float, float>(dev, count_of(from), from.data, rows);
}

/* to [n][per] = rows index[i] of from, a block for THREADS elements of one; n in x, which has no small bound. */
template <typename From, typename To>
static __global__ void gather(int per, const From *from, const int32_t *index, To *to) {
    const int i = blockIdx.y * THREADS + threadIdx.x;
    if (i < per)
        npi_store(to + (int64_t)blockIdx.x * per + i,
                  npi_load(from + (int64_t)index[blockIdx.x] * per + i));
}

/* The same as they are, 16 bytes at once. */
static __global__ void gather_vectors(int per, const uint4 *from, const int32_t *index, uint4 *to) {
    const int i = blockIdx.y * THREADS + threadIdx.x;
    if (i < per)
        to[(int64_t)blockIdx.x * per + i] = from[(int64_t)index[blockIdx.x] * per + i];
}

static npos_status gather_halves(npi_device *dev, const uint16_t *rows, const int32_t *index,
                                 npi_tokens to) {
    enum { VECTOR = sizeof(uint4) / sizeof(__half) };
    cudaStream_t stream = npi_cuda_stream(dev);
    const int per = to.t * to.width, vectors = per / VECTOR;
    const dim3 grid((unsigned)to.n, blocks_for(per)),
        vector_grid((unsigned)to.n, blocks_for(vectors));
    const __half *from = (const __half *)rows;
    if (dev->compute != NPI_BF16)
        gather<<<grid, THREADS, 0, stream>>>(per, from, index, (float *)to.data);
    else if (per % VECTOR == 0)
        gather_vectors<<<vector_grid, THREADS, 0, stream>>>(vectors, (const uint4 *)rows, index,
                                                            (uint4 *)to.data);
    else
        gather<<<grid, THREADS, 0, stream>>>(per, from, index, (__half *)to.data);
    return npi_cuda_launched(dev, "gathering of tokens");
}

static npos_status import_halves(npi_device *dev, const uint16_t *rows, const int32_t *index,
                                 npi_tokens to) {
    if (index)
        return gather_halves(dev, rows, index, to);
    return dev->compute == NPI_BF16
               ? dev->memory->copy(dev, to.data, rows, (size_t)count_of(to) * sizeof *rows)
               : converted<__half, float>(dev, count_of(to), rows, to.data);
}

static npos_status export_halves(npi_device *dev, npi_tokens from, uint16_t *rows) {
    return dev->compute == NPI_BF16
               ? dev->memory->copy(dev, rows, from.data, (size_t)count_of(from) * sizeof *rows)
               : converted<float, __half>(dev, count_of(from), from.data, rows);
}

static npos_status import_gradient(npi_device *dev, const float *rows, npi_tokens to) {
    return dev->compute == NPI_BF16
               ? converted<float, __nv_bfloat16>(dev, count_of(to), rows, to.data)
               : converted<float, float>(dev, count_of(to), rows, to.data);
}

static npos_status export_gradient(npi_device *dev, npi_tokens from, float *rows) {
    return dev->compute == NPI_BF16
               ? converted<__nv_bfloat16, float>(dev, count_of(from), from.data, rows)
               : converted<float, float>(dev, count_of(from), from.data, rows);
}

/* ---- embedding of images ---- */

/* Patches are rows of numbers in the order (y, x, channel), their lengths padded with zeros to multiples of 8, as widths
 * are; all in the tokens' type. */
struct npi_patches {
    npi_device *dev;
    npi_patches_desc desc;
    char name[64];
    int t, length, padded_length, padded_width;
    npi_gemm *product;
    void *weights; /* [padded_width][padded_length] */
};

static void patches_free(npi_device *dev, npi_patches *patches) {
    if (!patches)
        return;
    npi_gemm_free(patches->product);
    dev->memory->free(dev, patches->weights);
    free(patches);
}

/* The workspace of one batch: its patches, and what becomes of them. */
static npos_status rooms(npi_patches *p, char **pixels, char **products) {
    const size_t rows = (size_t)p->desc.n * (size_t)(p->t - 1), element = npi_token_element(p->dev);
    const size_t first = (rows * (size_t)p->padded_length * element + 255) & ~(size_t)255;
    NPI_TRY(npi_cuda_scratch(p->dev, first + rows * (size_t)p->padded_width * element, pixels));
    *products = *pixels + first;
    return NPOS_OK;
}

static npos_status plan_patches(npi_patches *p) {
    npi_device *dev = p->dev;
    npi_gemm_desc product = {};
    char *pixels, *products;
    product.form = NPI_GEMM_FORWARD;
    product.type = product.d_type = dev->compute == NPI_BF16 ? CUDA_R_16F : CUDA_R_32F;
    product.rows = p->desc.n * (p->t - 1);
    product.in = p->padded_length;
    product.out = p->padded_width;
    product.ld_left = product.ld_right = p->padded_length;
    product.ld_d = p->padded_width;
    NPI_TRY(npi_gemm_create(dev, p->name, &product, &p->product));
    NPI_TRY(rooms(p, &pixels, &products));
    return dev->memory->alloc(
        dev, (size_t)p->padded_width * (size_t)p->padded_length * npi_token_element(dev), p->name,
        &p->weights);
}

static npos_status patches_create(npi_device *dev, const npi_patches_desc *desc,
                                  npi_patches **out) {
    const npi_patches_desc *d = desc;
    const char *name = d->name ? d->name : "unnamed";
    *out = NULL;
    if (d->n < 1 || d->c < 1 || d->h < 1 || d->w < 1 || d->patch < 1 || d->width < 1 ||
        d->h % d->patch != 0 || d->w % d->patch != 0)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "patches '%s': images %d x %d x %d x %d, patches of %d, width %d; expected "
                        "sizes of at least 1 and sides that are multiples of the patch",
                        name, d->n, d->c, d->h, d->w, d->patch, d->width);
    npi_patches *p = (npi_patches *)calloc(1, sizeof *p);
    if (!p)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu bytes", name, sizeof *p);
    p->dev = dev;
    p->desc = *d;
    snprintf(p->name, sizeof p->name, "%s", name);
    p->desc.name = p->name;
    p->t = 1 + d->h / d->patch * (d->w / d->patch);
    p->length = d->c * d->patch * d->patch;
    p->padded_length = npi_cuda_padded(p->length);
    p->padded_width = npi_cuda_padded(d->width);
    npos_status status = plan_patches(p);
    if (status == NPOS_OK)
        *out = p;
    else
        patches_free(dev, p);
    return status;
}

/* A thread to each of the padded weights. */
template <typename T>
static __global__ void pack_patches(int width, int c, int side, int padded_length, int64_t count,
                                    const float *weight, T *to) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int64_t o = i / padded_length;
    const int k = (int)(i % padded_length), channel = k % c, at = k / c, area = side * side;
    npi_store(to + i, o < width && at < area ? weight[(o * c + channel) * area + at] : 0.0f);
}

template <typename T> static void launch_pack(npi_patches *p, const float *weight) {
    const int64_t count = (int64_t)p->padded_width * p->padded_length;
    pack_patches<<<blocks_for(count), THREADS, 0, npi_cuda_stream(p->dev)>>>(
        p->desc.width, p->desc.c, p->desc.patch, p->padded_length, count, weight, (T *)p->weights);
}

static npos_status patches_pack(npi_patches *patches, const npi_patches_params *params) {
    if (patches->dev->compute == NPI_BF16)
        launch_pack<__half>(patches, params->weight);
    else
        launch_pack<float>(patches, params->weight);
    return npi_cuda_launched(patches->dev, "pack of patches");
}

/* A thread to each pixel of n x h x w. */
template <typename From, typename To>
static __global__ void cut_patches(int64_t count, int h, int w, int c, int side, int padded_length,
                                   const From *image, To *patches) {
    const int64_t pixel = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (pixel >= count)
        return;
    const int x = (int)(pixel % w), y = (int)(pixel / w % h), across = w / side;
    const int64_t patch = (pixel / w / h * (h / side) + y / side) * across + x / side;
    const From *from = image + pixel * npi_cuda_padded(c);
    To *to = patches + patch * padded_length + (y % side * side + x % side) * c;
    for (int group = 0; group < c; group += 8) {
        const npi_float8 value = npi_load8(from + group);
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (group + i < c)
                npi_store(to + group + i, value.v[i]);
    }
}

/* A warp to each row: class token or product, plus position, normalised. */
template <int V, typename T>
static __global__ void __launch_bounds__(THREADS)
    finish_embedding(int64_t rows, int t, int width, int padded_width, const T *products,
                     npi_patches_params params, T *to) {
    const int64_t i = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    const int lane = (int)threadIdx.x % 32;
    if (i >= rows) /* whole warps */
        return;
    const int r = (int)(i % t);
    const T *product = products + (i / t * (t - 1) + r - 1) * padded_width;
    const float *position = params.positions + (int64_t)r * width;
    const auto at = [&](int j) {
        return (r > 0 ? npi_load(product + j) : params.class_token[j]) + position[j];
    };
    const auto eight = [&](int j) {
        npi_float8 sum = r > 0 ? npi_load8(product + j) : npi_load8(params.class_token + j);
        const npi_float8 more = npi_load8(position + j);
#pragma unroll
        for (int k = 0; k < 8; k++)
            sum.v[k] += more.v[k];
        return sum;
    };
    npi_float8 row[V > 0 ? V : 1];
    const npi_row_stats stats = npi_row_norm<V>(width, lane, row, at, eight);
    if constexpr (V > 0) {
#pragma unroll
        for (int k = 0; k < V; k++) {
            const int j = 256 * k + 8 * lane;
            const npi_float8 gamma = npi_load8(params.gamma + j), beta = npi_load8(params.beta + j);
#pragma unroll
            for (int e = 0; e < 8; e++)
                row[k].v[e] = fmaf((row[k].v[e] - stats.mean) * stats.scale, gamma.v[e], beta.v[e]);
            npi_store8(to + i * width + j, row[k]);
        }
    } else {
        for (int j = lane; j < width; j += 32)
            npi_store(to + i * width + j,
                      fmaf((at(j) - stats.mean) * stats.scale, params.gamma[j], params.beta[j]));
    }
}

/* T: the tokens' type; From: the image's. */
template <typename From, typename T>
static npos_status embed(npi_patches *p, npi_act image, const npi_patches_params *params,
                         npi_tokens to) {
    const npi_patches_desc *d = &p->desc;
    cudaStream_t stream = npi_cuda_stream(p->dev);
    const int64_t pixels = (int64_t)image.n * d->h * d->w, rows = (int64_t)to.n * p->t;
    char *patches, *products;
    NPI_TRY(rooms(p, &patches, &products));
    if (p->padded_length > p->length)
        CUDA_TRY(p->name, cudaMemsetAsync(patches, 0,
                                          (size_t)image.n * (size_t)(p->t - 1) *
                                              (size_t)p->padded_length * sizeof(T),
                                          stream));
    cut_patches<<<blocks_for(pixels), THREADS, 0, stream>>>(pixels, d->h, d->w, d->c, d->patch,
                                                            p->padded_length,
                                                            (const From *)image.data, (T *)patches);
    NPI_TRY(npi_gemm_run(p->product, to.n * (p->t - 1), patches, p->weights, NULL, NULL, products));
    npi_by_width(d->width, [&](auto v) {
        finish_embedding<decltype(v)::value>
            <<<(unsigned)npi_ceil_div(rows, WARPS), THREADS, 0, stream>>>(
                rows, p->t, d->width, p->padded_width, (const T *)products, *params, (T *)to.data);
    });
    return npi_cuda_launched(p->dev, "embedding of images");
}

static npos_status embed_image(npi_patches *patches, npi_act image,
                               const npi_patches_params *params, npi_tokens to) {
    const npi_patches_desc *d = &patches->desc;
    NPI_TRY(npi_check_tokens(patches->name, to, d->n, patches->t, d->width));
    if (image.n != to.n || image.c != d->c || image.h != d->h || image.w != d->w)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "patches '%s': images %d x %d x %d x %d, expected %d x %d x %d x %d",
                        patches->name, image.n, image.c, image.h, image.w, to.n, d->c, d->h, d->w);
    return patches->dev->compute == NPI_BF16
               ? embed<__nv_bfloat16, __half>(patches, image, params, to)
               : embed<float, float>(patches, image, params, to);
}

/* ---- embedding of texts ---- */

/* A thread to each number; an id that is none gives NaN. */
template <typename T>
static __global__ void look_up(int64_t count, int t, int width, const int32_t *ids, int vocabulary,
                               const float *table, const float *positions, T *to) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int64_t row = i / width, j = i % width;
    const int id = ids[row];
    npi_store(to + i, id >= 0 && id < vocabulary
                          ? table[(int64_t)id * width + j] + positions[row % t * width + j]
                          : NAN);
}

static npos_status embed_text(npi_device *dev, const int32_t *ids, int vocabulary,
                              const float *table, const float *positions, npi_tokens to) {
    const int64_t count = count_of(to);
    cudaStream_t stream = npi_cuda_stream(dev);
    NPI_TRY(npi_check_tokens("text", to, to.n, to.t, to.width));
    if (dev->compute == NPI_BF16)
        look_up<<<blocks_for(count), THREADS, 0, stream>>>(count, to.t, to.width, ids, vocabulary,
                                                           table, positions, (__half *)to.data);
    else
        look_up<<<blocks_for(count), THREADS, 0, stream>>>(count, to.t, to.width, ids, vocabulary,
                                                           table, positions, (float *)to.data);
    return npi_cuda_launched(dev, "embedding of texts");
}

/* ---- rows in and out ---- */

template <typename T>
static __global__ void pick_rows(int64_t count, int t, int width, const T *from, const int32_t *at,
                                 float *rows) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int64_t sequence = i / width;
    const int row = at ? at[sequence] : 0;
    rows[i] = row >= 0 && row < t ? npi_load(from + (sequence * t + row) * width + i % width) : NAN;
}

static npos_status pick(npi_device *dev, npi_tokens from, const int32_t *at, float *rows) {
    const int64_t count = (int64_t)from.n * from.width;
    cudaStream_t stream = npi_cuda_stream(dev);
    NPI_TRY(npi_check_tokens("pick", from, from.n, from.t, from.width));
    if (dev->compute == NPI_BF16)
        pick_rows<<<blocks_for(count), THREADS, 0, stream>>>(count, from.t, from.width,
                                                             (const __half *)from.data, at, rows);
    else
        pick_rows<<<blocks_for(count), THREADS, 0, stream>>>(count, from.t, from.width,
                                                             (const float *)from.data, at, rows);
    return npi_cuda_launched(dev, "pick");
}

template <typename T>
static __global__ void put_rows(int64_t count, int t, int width, const float *drows,
                                const int32_t *at, T *to) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count)
        return;
    const int64_t row = i / width, sequence = row / t;
    const bool picked = row % t == (at ? at[sequence] : 0);
    npi_store(to + i, picked ? drows[sequence * width + i % width] : 0.0f);
}

static npos_status pick_backward(npi_device *dev, const float *drows, const int32_t *at,
                                 npi_tokens to) {
    const int64_t count = count_of(to);
    cudaStream_t stream = npi_cuda_stream(dev);
    NPI_TRY(npi_check_tokens("pick", to, to.n, to.t, to.width));
    if (dev->compute == NPI_BF16)
        put_rows<<<blocks_for(count), THREADS, 0, stream>>>(count, to.t, to.width, drows, at,
                                                            (__nv_bfloat16 *)to.data);
    else
        put_rows<<<blocks_for(count), THREADS, 0, stream>>>(count, to.t, to.width, drows, at,
                                                            (float *)to.data);
    return npi_cuda_launched(dev, "pick backward");
}

const npi_token_ops npi_cuda_tokens = {.bytes = token_bytes,
                                       .import_rows = import_rows,
                                       .export_rows = export_rows,
                                       .import_halves = import_halves,
                                       .export_halves = export_halves,
                                       .import_gradient = import_gradient,
                                       .export_gradient = export_gradient,
                                       .patches_create = patches_create,
                                       .patches_free = patches_free,
                                       .patches_pack = patches_pack,
                                       .embed_image = embed_image,
                                       .embed_text = embed_text,
                                       .pick = pick,
                                       .pick_backward = pick_backward};
