/* Blocks of transformers: products by cuda_gemm, attention by cuda_attention, all else by cuda_block_rows.
 *
 *   x -> xh1 -> qkv -> a -> y (= x + ..) -> yh -> f -> g = act(f) -> z (= y + ..)
 *
 * A block that does not train, or a float32 device, multiplies in the tokens' type, and products add the residual as they
 * write: y and z are one place.  In bf16 a library's products cannot write a training block's tokens; what they write is
 * added behind.  Where cuda_gemm90 serves, its products add residuals, activate and go back through the activation.
 * What backward needs is a training block's own; all else is scratch, which all blocks share. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "devices/cuda/cuda_attention.cuh"
#include "devices/cuda/cuda_block_rows.cuh"
#include "devices/cuda/cuda_columns.cuh"
#include "devices/cuda/cuda_gemm.cuh"
#include "devices/cuda/cuda_gemm90.cuh"

using namespace block_rows;

/* The products, by name: forward, to data (D_) and to weights (W_).  With first_only queries go alone, and KV stands for
 * keys and values; else KV is of all three. */
enum {
    KV,
    Q,
    OUT,
    FC1,
    FC2,
    D_KV,
    D_Q,
    D_OUT,
    D_FC1,
    D_FC2,
    W_KV,
    W_Q,
    W_OUT,
    W_FC1,
    W_FC2,
    PRODUCTS
};

/* Arrays of n sequences at the most; elements of the products' type where not float. */
typedef struct block_room {
    /* what backward needs */
    char *xh, *qkv, *a, *yh, *f, *g; /* f: with own products act'(f) */
    float *scale1, *scale2, *lse;
    /* scratch of forward */
    char *y, *added;
    /* scratch of backward */
    char *dnorm, *da, *dqkv;
    float *delta, *partial;
} block_room;

struct npi_block {
    npi_device *dev;
    npi_block_desc desc;
    char name[64], variant[96];
    int rows, head, hidden; /* hidden: padded to a multiple of 8, by zeros */
    int ran;
    bool own; /* products by cuda_gemm90, but those that a library does as well */
    cudaDataType_t type, token_type;
    npi_gemm *products[PRODUCTS];
    void *kept;
    char *packed, *qkv_weight, *out_weight, *fc1_weight, *fc2_weight; /* in `packed` */
    char *qkv_bias, *out_bias, *fc1_bias, *fc2_bias;
};

static size_t element(const npi_block *b) {
    return b->type == CUDA_R_32F ? 4 : 2;
}

/* A library's products write tokens themselves. */
static bool direct(const npi_block *b) {
    return b->type == b->token_type;
}

/* All products that end in tokens write them. */
static bool at_once(const npi_block *b) {
    return direct(b) || b->own;
}

/* ---- rooms ---- */

/* Places one after another, each at a multiple of 256 bytes; base NULL: only counted. */
struct places {
    char *base;
    size_t used;
    char *take(size_t bytes) {
        char *at = base ? base + used : NULL;
        used += (bytes + 255) & ~(size_t)255;
        return at;
    }
};

static size_t place_kept(const npi_block *b, char *base, block_room *r) {
    const npi_block_desc *d = &b->desc;
    const size_t e = element(b), n = (size_t)d->n, width = (size_t)d->width, all = n * (size_t)d->t,
                 some = n * (size_t)b->rows, hidden = some * (size_t)b->hidden * e;
    places p = {base, 0};
    r->xh = p.take(all * width * e);
    r->qkv = p.take(3 * all * width * e);
    r->a = p.take(some * width * e);
    r->yh = p.take(some * width * e);
    r->f = p.take(hidden);
    r->g = d->training ? p.take(hidden) : r->f;
    r->scale1 = d->training ? (float *)p.take(all * sizeof(float)) : NULL;
    r->scale2 = d->training ? (float *)p.take(some * sizeof(float)) : NULL;
    r->lse = d->training ? (float *)p.take(some * (size_t)d->heads * sizeof(float)) : NULL;
    return p.used;
}

static size_t place_forward(const npi_block *b, char *base, block_room *r) {
    const size_t count = (size_t)b->desc.n * (size_t)b->rows * (size_t)b->desc.width;
    places p = {base, 0};
    r->y = at_once(b) ? NULL : p.take(count * element(b));
    r->added = at_once(b) ? NULL : p.take(count * element(b));
    return p.used;
}

static size_t place_backward(const npi_block *b, char *base, block_room *r) {
    const npi_block_desc *d = &b->desc;
    const size_t e = element(b), n = (size_t)d->n, width = (size_t)d->width, all = n * (size_t)d->t,
                 some = n * (size_t)b->rows;
    const size_t widest = 3 * width > (size_t)b->hidden ? 3 * width : (size_t)b->hidden;
    const size_t of_rows = (size_t)parts_of((int64_t)all) * widest,
                 of_parts =
                     (size_t)npi_ceil_div((int64_t)some, NPI_GEMM90_PART) * (size_t)b->hidden,
                 of_weights = (size_t)parts_of((int64_t)widest) * 2 * width;
    places p = {base, 0};
    r->dnorm = p.take(all * width * e);
    r->da = p.take(some * width * e);
    r->dqkv = p.take(3 * all * width * e);
    r->delta = (float *)p.take(some * (size_t)d->heads * sizeof(float));
    r->partial = (float *)p.take(std::max({of_rows, of_parts, of_weights}) * sizeof(float));
    return p.used;
}

/* Everything that forward (or backward) works in. */
static npos_status rooms(const npi_block *b, bool backward, block_room *r) {
    size_t (*const place)(const npi_block *, char *, block_room *) =
        backward ? place_backward : place_forward;
    char *scratch;
    *r = block_room{};
    const size_t kept = b->desc.training ? 0 : place_kept(b, NULL, r),
                 bytes = place(b, NULL, r) + kept;
    NPI_TRY(npi_cuda_scratch(b->dev, bytes + 1, &scratch));
    place_kept(b, b->desc.training ? (char *)b->kept : scratch, r);
    place(b, scratch + kept, r);
    return NPOS_OK;
}

/* ---- creation ---- */

/* form, the layer's in and out, distances between rows */
static npos_status plan_one(npi_block *b, int which, npi_gemm_form form, int rows, int in, int out,
                            int64_t ld_left, int64_t ld_right, int64_t ld_d, int64_t ld_c) {
    npi_gemm_desc d = {};
    d.form = form;
    d.type = b->type;
    d.d_type = form == NPI_GEMM_WEIGHTS ? CUDA_R_32F : b->type;
    d.rows = rows;
    d.in = in;
    d.out = out;
    d.ld_left = ld_left;
    d.ld_right = ld_right;
    d.ld_d = ld_d;
    d.ld_c = ld_c;
    d.bias = form == NPI_GEMM_FORWARD;
    return npi_gemm_create(b->dev, b->name, &d, &b->products[which]);
}

static npos_status plan_forward(npi_block *b) {
    const npi_gemm_form form = NPI_GEMM_FORWARD;
    const int w = b->desc.width, h = b->hidden, all = b->desc.n * b->desc.t,
              some = b->desc.n * b->rows;
    const bool first = b->desc.first_only;
    const int64_t skip = (int64_t)(first ? b->desc.t : 1) * w, residual = direct(b) ? skip : 0;
    NPI_TRY(plan_one(b, KV, form, all, w, first ? 2 * w : 3 * w, w, w, 3 * w, 0));
    if (first)
        NPI_TRY(plan_one(b, Q, form, some, w, w, skip, w, 3 * skip, 0));
    if (!b->own)
        NPI_TRY(plan_one(b, FC1, form, some, w, h, w, w, h, 0));
    if (b->own && !direct(b))
        return NPOS_OK;
    NPI_TRY(plan_one(b, OUT, form, some, w, w, w, w, w, residual));
    return plan_one(b, FC2, form, some, h, w, h, h, w, direct(b) ? w : 0);
}

static npos_status plan_backward(npi_block *b) {
    const npi_gemm_form to_data = NPI_GEMM_DATA, to_weights = NPI_GEMM_WEIGHTS;
    const int w = b->desc.width, h = b->hidden, hidden = b->desc.hidden,
              all = b->desc.n * b->desc.t, some = b->desc.n * b->rows;
    const bool first = b->desc.first_only;
    const int64_t skip = (int64_t)(first ? b->desc.t : 1) * w;
    const int wide = first ? 2 * w : 3 * w;
    NPI_TRY(plan_one(b, W_FC2, to_weights, some, hidden, w, w, h, hidden, 0));
    if (!b->own)
        NPI_TRY(plan_one(b, D_FC2, to_data, some, h, w, w, h, h, 0));
    NPI_TRY(plan_one(b, W_FC1, to_weights, some, w, hidden, h, w, w, 0));
    NPI_TRY(plan_one(b, D_FC1, to_data, some, w, h, h, w, w, 0));
    NPI_TRY(plan_one(b, W_OUT, to_weights, some, w, w, w, w, w, 0));
    NPI_TRY(plan_one(b, D_OUT, to_data, some, w, w, w, w, w, 0));
    NPI_TRY(plan_one(b, W_KV, to_weights, all, w, wide, 3 * w, w, w, 0));
    if (first)
        NPI_TRY(plan_one(b, W_Q, to_weights, some, w, w, 3 * skip, skip, w, 0));
    if (!b->desc.needs_dx)
        return NPOS_OK;
    NPI_TRY(plan_one(b, D_KV, to_data, all, w, wide, 3 * w, w, w, 0));
    return first ? plan_one(b, D_Q, to_data, some, w, w, 3 * skip, w, skip, skip) : NPOS_OK;
}

static size_t place_packed(npi_block *b, char *base) {
    const size_t e = element(b), w = (size_t)b->desc.width, h = (size_t)b->hidden;
    places p = {base, 0};
    b->qkv_weight = p.take(3 * w * w * e);
    b->out_weight = p.take(w * w * e);
    b->fc1_weight = p.take(h * w * e);
    b->fc2_weight = p.take(w * h * e);
    b->qkv_bias = p.take(3 * w * e);
    b->out_bias = p.take(w * e);
    b->fc1_bias = p.take(h * e);
    b->fc2_bias = p.take(w * e);
    return p.used;
}

static npos_status plan(npi_block *b) {
    npi_device *dev = b->dev;
    block_room room;
    NPI_TRY(dev->memory->alloc(dev, place_packed(b, NULL), b->name, &b->packed));
    place_packed(b, b->packed);
    if (b->desc.training)
        NPI_TRY(dev->memory->alloc(dev, place_kept(b, NULL, &room), b->name, &b->kept));
    NPI_TRY(plan_forward(b));
    if (b->desc.training) {
        NPI_TRY(plan_backward(b));
        NPI_TRY(rooms(b, true, &room)); /* grows the scratch now */
    }
    return rooms(b, false, &room);
}

static npos_status check_desc(const npi_block_desc *d, const char *name) {
    if (d->n < 1 || d->t < 1 || d->width < 1 || d->heads < 1 || d->hidden < 1 ||
        d->width % d->heads != 0 || (d->act != NPI_ACT_QUICK_GELU && d->act != NPI_ACT_GELU))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "block '%s': %d sequences of %d rows of %d, %d heads, MLP of %d, "
                        "activation %d; expected sizes of at least 1, heads that divide the width "
                        "and a known activation",
                        name, d->n, d->t, d->width, d->heads, d->hidden, (int)d->act);
    if (d->width % 8 != 0 || d->hidden % 4 != 0 || d->width / d->heads > NPI_ATTENTION_HEAD)
        return npi_fail(NPOS_UNSUPPORTED,
                        "block '%s': width %d, %d heads, MLP of %d; GPUs want a width that is a "
                        "multiple of 8, an MLP that is one of 4 and heads of at most %d",
                        name, d->width, d->heads, d->hidden, (int)NPI_ATTENTION_HEAD);
    return NPOS_OK;
}

static void block_free(npi_device *dev, npi_block *block) {
    if (!block)
        return;
    for (npi_gemm *product : block->products)
        npi_gemm_free(product);
    dev->memory->free(dev, block->packed);
    dev->memory->free(dev, block->kept);
    free(block);
}

static npos_status block_create(npi_device *dev, const npi_block_desc *desc, npi_block **out) {
    const char *name = desc->name ? desc->name : "unnamed";
    *out = NULL;
    NPI_TRY(check_desc(desc, name));
    npi_block *b = (npi_block *)calloc(1, sizeof *b);
    if (!b)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for %zu bytes", name, sizeof *b);
    const bool half = dev->compute == NPI_BF16;
    b->dev = dev;
    b->desc = *desc;
    snprintf(b->name, sizeof b->name, "%s", name);
    b->desc.name = b->name;
    b->rows = desc->first_only ? 1 : desc->t;
    b->head = desc->width / desc->heads;
    b->hidden = npi_cuda_padded(desc->hidden);
    b->token_type = half ? CUDA_R_16F : CUDA_R_32F;
    b->type = half && desc->training ? CUDA_R_16BF : b->token_type;
    b->own = half && desc->hidden % 8 == 0 &&
             npi_gemm90_serves(npi_cuda_of(dev)->capability, std::max(desc->hidden, desc->width));
    npos_status status = plan(b);
    if (status == NPOS_OK)
        *out = b;
    else
        block_free(dev, b);
    return status;
}

/* ---- weights ---- */

template <typename T> static npos_status pack_as(npi_block *b, const npi_block_params *p) {
    const int w = b->desc.width, hidden = b->desc.hidden, h = b->hidden;
    cudaStream_t stream = npi_cuda_stream(b->dev);
    const auto fold = [&](int out, int in, int room, int step, const float *weight,
                          const float *bias, const float *gamma, const float *beta, char *to,
                          char *to_bias) {
        fold_kernel<<<(unsigned)room, THREADS, 0, stream>>>(out, in, step, weight, bias, gamma,
                                                            beta, (T *)to, (T *)to_bias);
    };
    fold(3 * w, w, 3 * w, w, p->qkv_weight, p->qkv_bias, p->ln1_gamma, p->ln1_beta, b->qkv_weight,
         b->qkv_bias);
    fold(w, w, w, w, p->out_weight, p->out_bias, NULL, NULL, b->out_weight, b->out_bias);
    fold(hidden, w, h, w, p->fc1_weight, p->fc1_bias, p->ln2_gamma, p->ln2_beta, b->fc1_weight,
         b->fc1_bias);
    fold(w, hidden, w, h, p->fc2_weight, p->fc2_bias, NULL, NULL, b->fc2_weight, b->fc2_bias);
    return npi_cuda_launched(b->dev, "pack of a block");
}

static npos_status block_pack(npi_block *block, const npi_block_params *params) {
    return block->type == CUDA_R_32F   ? pack_as<float>(block, params)
           : block->type == CUDA_R_16F ? pack_as<__half>(block, params)
                                       : pack_as<__nv_bfloat16>(block, params);
}

/* ---- forward ---- */

static npos_status check(const npi_block *b, const char *what, npi_tokens tokens, int most, int t) {
    char text[96];
    snprintf(text, sizeof text, "block '%s': %s", b->name, what);
    return npi_check_tokens(text, tokens, most, t, b->desc.width);
}

static npi_attention attention_of(const npi_block *b, const block_room *r, int n) {
    npi_attention p = {};
    p.n = n;
    p.t = b->desc.t;
    p.rows = b->rows;
    p.heads = b->desc.heads;
    p.head = b->head;
    p.causal = b->desc.causal;
    p.qkv = r->qkv;
    p.a = r->a;
    p.lse = r->lse;
    p.da = r->da;
    p.delta = r->delta;
    p.dqkv = r->dqkv;
    return p;
}

/* One of cuda_gemm90's products: rows of `left` by the weights of `in` inputs and `out` outputs. */
static npi_gemm90 own_product(const npi_block *b, npi_gemm90_outlet outlet, int rows, int in,
                              int out, const void *left, const void *weight, const void *bias,
                              void *d) {
    npi_gemm90 g = {};
    const bool back = outlet == NPI_GEMM90_BACK;
    g.outlet = outlet;
    g.gelu = b->desc.act == NPI_ACT_GELU;
    g.rows = rows;
    g.inner = back ? out : in;
    g.columns = back ? in : out;
    g.left = left;
    g.right = weight;
    g.bias = bias;
    g.ld_left = g.inner;
    g.ld_right = in;
    g.d = d;
    g.ld_d = g.columns;
    return g;
}

static npos_status run_own(const npi_block *b, const npi_gemm90 *product) {
    return npi_gemm90_run(product, npi_cuda_of(b->dev)->multiprocessors, npi_cuda_stream(b->dev));
}

/* OUT or FC2 where it ends in tokens: d = left weight^T + bias + c, whose rows are ld_c apart. */
static npos_status into_tokens(const npi_block *b, int which, int rows, int in, const void *left,
                               const void *weight, const void *bias, void *c, int64_t ld_c,
                               void *d) {
    if (direct(b))
        return npi_gemm_run(b->products[which], rows, left, weight, bias, c, d);
    npi_gemm90 product =
        own_product(b, NPI_GEMM90_ADD, rows, in, b->desc.width, left, weight, bias, d);
    product.beside = c;
    product.ld_beside = ld_c;
    return run_own(b, &product);
}

/* f (with own products its slope) and g of yh; a block that does not train keeps g alone. */
template <typename T> static npos_status activate(npi_block *b, const block_room *r, int rows) {
    const int w = b->desc.width, h = b->hidden;
    const int64_t wide = (int64_t)rows * h;
    if (b->own) {
        npi_gemm90 product =
            own_product(b, NPI_GEMM90_ACT, rows, w, h, r->yh, b->fc1_weight, b->fc1_bias, r->g);
        if (b->desc.training) {
            product.outlet = NPI_GEMM90_KEEP;
            product.beside = r->f;
            product.ld_beside = h;
        }
        return run_own(b, &product);
    }
    NPI_TRY(npi_gemm_run(b->products[FC1], rows, r->yh, b->fc1_weight, b->fc1_bias, NULL, r->f));
    act_kernel<<<eights(wide), THREADS, 0, npi_cuda_stream(b->dev)>>>(
        wide, b->desc.act == NPI_ACT_GELU, (const T *)r->f, (T *)r->g);
    return npi_cuda_launched(b->dev, "activation");
}

/* T: the products' type; R: the tokens'. */
template <typename T, typename R>
static npos_status forward_as(npi_block *b, npi_tokens x, npi_tokens z) {
    npi_device *dev = b->dev;
    cudaStream_t stream = npi_cuda_stream(dev);
    const npi_block_desc *d = &b->desc;
    const int w = d->width, all = x.n * d->t, some = x.n * b->rows;
    const size_t e = sizeof(T), square = (size_t)w * (size_t)w * e;
    const int64_t skip = (int64_t)(d->first_only ? d->t : 1) * w, count = (int64_t)some * w;
    block_room r;
    NPI_TRY(rooms(b, false, &r));
    normalise(stream,
              norm_rows<R, T>{all, w, w, (const R *)x.data, NULL, NULL, (T *)r.xh, r.scale1});
    const size_t keys = d->first_only ? (size_t)w * e : 0; /* where what KV makes begins */
    NPI_TRY(npi_gemm_run(b->products[KV], all, r.xh, b->qkv_weight + (d->first_only ? square : 0),
                         b->qkv_bias + keys, NULL, r.qkv + keys));
    if (d->first_only)
        NPI_TRY(npi_gemm_run(b->products[Q], some, r.xh, b->qkv_weight, b->qkv_bias, NULL, r.qkv));
    const npi_attention attention = attention_of(b, &r, x.n);
    NPI_TRY(npi_attention_forward<T>(dev, &attention));
    if (at_once(b)) {
        NPI_TRY(
            into_tokens(b, OUT, some, w, r.a, b->out_weight, b->out_bias, x.data, skip, z.data));
        normalise(stream,
                  norm_rows<R, T>{some, w, w, (const R *)z.data, NULL, NULL, (T *)r.yh, r.scale2});
        NPI_TRY(activate<T>(b, &r, some));
        return into_tokens(b, FC2, some, b->hidden, r.g, b->fc2_weight, b->fc2_bias, z.data, w,
                           z.data);
    }
    NPI_TRY(npi_gemm_run(b->products[OUT], some, r.a, b->out_weight, b->out_bias, NULL, r.added));
    normalise(stream, norm_rows<R, T>{some, skip, w, (const R *)x.data, (const T *)r.added,
                                      (R *)r.y, (T *)r.yh, r.scale2});
    NPI_TRY(activate<T>(b, &r, some));
    NPI_TRY(npi_gemm_run(b->products[FC2], some, r.g, b->fc2_weight, b->fc2_bias, NULL, r.added));
    add_kernel<<<eights(count), THREADS, 0, stream>>>(count, (const R *)r.y, (const T *)r.added,
                                                      (R *)z.data);
    return npi_cuda_launched(dev, "block forward");
}

static npos_status forward(npi_block *b, npi_tokens x, const npi_block_params *params,
                           npi_tokens z) {
    (void)params; /* pack made copies of all of them */
    NPI_TRY(check(b, "x", x, b->desc.n, b->desc.t));
    NPI_TRY(check(b, "z", z, x.n, b->rows));
    if (z.n != x.n)
        return npi_fail(NPOS_SHAPE_MISMATCH, "block '%s': z has %d sequences, x has %d", b->name,
                        z.n, x.n);
    NPI_TRY(b->type == CUDA_R_32F   ? (forward_as<float, float>(b, x, z))
            : b->type == CUDA_R_16F ? (forward_as<__half, __half>(b, x, z))
                                    : (forward_as<__nv_bfloat16, __half>(b, x, z)));
    b->ran = b->desc.training ? x.n : 0;
    return NPOS_OK;
}

/* ---- backward ---- */

/* f, or its slope, becomes f's gradient, whose rows' sum is the bias'; g is used up. */
template <typename T>
static npos_status act_backward(npi_block *b, const block_room *r, int rows, const T *dz,
                                float *dbias) {
    const int w = b->desc.width, hidden = b->desc.hidden;
    if (b->own) {
        npi_gemm90 product =
            own_product(b, NPI_GEMM90_BACK, rows, hidden, w, dz, b->fc2_weight, NULL, r->f);
        product.sums = r->partial;
        NPI_TRY(run_own(b, &product));
        return npi_finish_columns(b->dev, npi_ceil_div(rows, NPI_GEMM90_PART), hidden, 0,
                                  r->partial, dbias, NULL);
    }
    NPI_TRY(npi_gemm_run(b->products[D_FC2], rows, dz, b->fc2_weight, NULL, NULL, r->g));
    return act_back(b->dev, rows, hidden, b->hidden, b->desc.act == NPI_ACT_GELU, (const T *)r->g,
                    (T *)r->f, r->partial, dbias);
}

/* From dz to dy, in place; gradients of the MLP and ln2. */
template <typename T>
static npos_status mlp_back(npi_block *b, const block_room *r, int some, T *dz,
                            const npi_block_params *p, const npi_block_params *grads) {
    npi_device *dev = b->dev;
    const int w = b->desc.width, hidden = b->desc.hidden;
    NPI_TRY(sum_rows(dev, some, w, w, dz, r->partial, grads->fc2_bias));
    NPI_TRY(npi_gemm_run(b->products[W_FC2], some, dz, r->g, NULL, NULL, grads->fc2_weight));
    NPI_TRY(act_backward<T>(b, r, some, dz, grads->fc1_bias));
    NPI_TRY(npi_gemm_run(b->products[W_FC1], some, r->f, r->yh, NULL, NULL, grads->fc1_weight));
    NPI_TRY(unfold(dev, hidden, w, p->fc1_weight, p->ln2_gamma, p->ln2_beta, grads->fc1_bias,
                   grads->fc1_weight, r->partial, grads->ln2_gamma, grads->ln2_beta));
    NPI_TRY(npi_gemm_run(b->products[D_FC1], some, r->f, b->fc1_weight, NULL, NULL, r->dnorm));
    norm_back(npi_cuda_stream(dev), norm_gradient<T>{some, w, 1, (const T *)r->dnorm,
                                                     (const T *)r->yh, dz, r->scale2, dz});
    return npi_cuda_launched(dev, "block backward");
}

/* The bias of q, k and v, which come after out_bias.  A bias of the keys moves all scores of a row alike, and weights of a
 * row add up to 1: with these in the sums over all rows, no gradient is left for keys, and for values da's, dy W_out. */
template <typename T>
static npos_status qkv_bias_back(npi_block *b, const block_room *r, int n,
                                 const npi_block_params *p, const npi_block_params *grads) {
    npi_device *dev = b->dev;
    const npi_block_desc *d = &b->desc;
    const int w = d->width, asking = n * b->rows;
    const int64_t step = (int64_t)3 * w * (d->first_only ? d->t : 1);
    NPI_TRY(sum_rows(dev, asking, w, step, (const T *)r->dqkv, r->partial, grads->qkv_bias));
    CUDA_TRY("bias of keys", cudaMemsetAsync(grads->qkv_bias + w, 0, (size_t)w * sizeof(float),
                                             npi_cuda_stream(dev)));
    return row_product(dev, w, w, grads->out_bias, p->out_weight, grads->qkv_bias + 2 * w);
}

/* From dqkv to the gradients of the first layer and norm. */
template <typename T>
static npos_status qkv_back(npi_block *b, const block_room *r, int n, const npi_block_params *p,
                            const npi_block_params *grads) {
    const npi_block_desc *d = &b->desc;
    const int w = d->width, all = n * d->t;
    const T *dqkv = (const T *)r->dqkv;
    NPI_TRY(qkv_bias_back<T>(b, r, n, p, grads));
    if (d->first_only)
        NPI_TRY(npi_gemm_run(b->products[W_Q], n, dqkv, r->xh, NULL, NULL, grads->qkv_weight));
    NPI_TRY(npi_gemm_run(b->products[W_KV], all, dqkv + (d->first_only ? w : 0), r->xh, NULL, NULL,
                         grads->qkv_weight + (d->first_only ? (int64_t)w * w : 0)));
    return unfold(b->dev, 3 * w, w, p->qkv_weight, p->ln1_gamma, p->ln1_beta, grads->qkv_bias,
                  grads->qkv_weight, r->partial, grads->ln1_gamma, grads->ln1_beta);
}

template <typename T>
static npos_status backward_as(npi_block *b, npi_tokens dz, const npi_block_params *p,
                               const npi_block_params *grads, const npi_tokens *dx) {
    npi_device *dev = b->dev;
    const npi_block_desc *d = &b->desc;
    const int n = dz.n, w = d->width, all = n * d->t, some = n * b->rows;
    const size_t square = (size_t)w * (size_t)w * sizeof(T);
    T *dy = (T *)dz.data;
    block_room r;
    NPI_TRY(rooms(b, true, &r));
    NPI_TRY(mlp_back(b, &r, some, dy, p, grads));
    NPI_TRY(sum_rows(dev, some, w, w, dy, r.partial, grads->out_bias));
    NPI_TRY(npi_gemm_run(b->products[W_OUT], some, dy, r.a, NULL, NULL, grads->out_weight));
    NPI_TRY(npi_gemm_run(b->products[D_OUT], some, dy, b->out_weight, NULL, NULL, r.da));
    const npi_attention attention = attention_of(b, &r, n);
    NPI_TRY(npi_attention_backward<T>(dev, &attention));
    NPI_TRY(qkv_back<T>(b, &r, n, p, grads));
    if (!dx)
        return NPOS_OK;
    if (d->first_only) {
        NPI_TRY(npi_gemm_run(b->products[D_KV], all, (T *)r.dqkv + w, b->qkv_weight + square, NULL,
                             NULL, r.dnorm));
        NPI_TRY(npi_gemm_run(b->products[D_Q], n, r.dqkv, b->qkv_weight, NULL, r.dnorm, r.dnorm));
    } else {
        NPI_TRY(npi_gemm_run(b->products[D_KV], all, r.dqkv, b->qkv_weight, NULL, NULL, r.dnorm));
    }
    norm_back(npi_cuda_stream(dev),
              norm_gradient<T>{all, w, d->first_only ? d->t : 1, (const T *)r.dnorm,
                               (const T *)r.xh, dy, r.scale1, (T *)dx->data});
    return npi_cuda_launched(dev, "block backward");
}

static npos_status backward(npi_block *b, npi_tokens dz, npi_tokens x,
                            const npi_block_params *params, const npi_block_params *grads,
                            const npi_tokens *dx) {
    const int n = b->ran;
    if (n == 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "block '%s': backward without a training forward",
                        b->name);
    if (!dx != !b->desc.needs_dx)
        return npi_fail(NPOS_INVALID_ARGUMENT, "block '%s': dx is %s", b->name,
                        dx ? "not planned for" : "missing");
    if (x.n != n || dz.n != n || (dx && dx->n != n))
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "block '%s': %d sequences in x, %d in dz, %d in dx; forward had %d",
                        b->name, x.n, dz.n, dx ? dx->n : n, n);
    NPI_TRY(check(b, "x", x, n, b->desc.t));
    NPI_TRY(check(b, "dz", dz, n, b->rows));
    if (dx)
        NPI_TRY(check(b, "dx", *dx, n, b->desc.t));
    b->ran = 0; /* what forward kept is used up */
    return b->type == CUDA_R_32F ? backward_as<float>(b, dz, params, grads, dx)
                                 : backward_as<__nv_bfloat16>(b, dz, params, grads, dx);
}

static const char *variant(npi_block *b) {
    snprintf(b->variant, sizeof b->variant, "cuBLASLt%s in %s, attention %s",
             b->own ? " and own products" : "",
             b->type == CUDA_R_32F   ? "float32"
             : b->type == CUDA_R_16F ? "float16"
                                     : "bf16",
             b->head != NPI_ATTENTION_FAST ? "plain"
             : b->rows == 1                ? "of row 0"
             : b->type == CUDA_R_32F       ? "plain"
                                           : "by mma");
    return b->variant;
}

const npi_block_ops npi_cuda_blocks = {.create = block_create,
                                       .free = block_free,
                                       .pack = block_pack,
                                       .forward = forward,
                                       .backward = backward,
                                       .variant = variant};
