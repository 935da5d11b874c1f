#include <string.h>

#include "base/memory.h"
#include "devices/cpu/cpu_pairs.h"
#include "devices/cpu/cpu_tokens.h"

/* Arrays of a number of sequences: rows of the whole sequence are counted n t, those that go on
 * through the block n `rows`.  Training keeps them for all sequences; inference has them in the
 * device's workspace for a few sequences at a time, so that they stay in the caches. */
typedef struct arrays {
    float *stats1; /* [n t][2] of ln1 */
    float *u;      /* [n t][width]; in backward its gradient */
    float *qkv;    /* [n t][3 width] */
    float *a;      /* [n rows][width]; in backward its gradient */
    float *y;      /* [n rows][width] */
    float *stats2; /* [n rows][2] of ln2 */
    float *v;      /* [n rows][width]; in backward its gradient */
    float *fc;     /* [n rows][hidden]: before the activation; in backward its gradient */
    float *acted;  /* [n rows][hidden]; in inference it is fc */
} arrays;

/* The weights of a block that does not train, on a device that computes in bf16.  With first_only the queries' lie apart,
 * and KV is of keys and values; else KV is of all three. */
enum { KV, Q, OUT, FC1, FC2, PACKED };

struct npi_block {
    npi_device *dev;
    npi_block_desc desc;
    char *name;
    int rows;                           /* of a sequence that z has */
    int ran;                            /* sequences of the newest training forward */
    int at_once;                        /* sequences that inference takes at a time */
    size_t room_at;                     /* where attention's room begins in the workspace */
    float *kept;                        /* training's arrays */
    const npi_pairs *pairs;             /* NULL: products are float32 */
    uint32_t *packed, *weights[PACKED]; /* in `packed` */
};

enum { ROWS_AT_ONCE = 1000 }; /* what the product packs of its left side at a time */

/* Lays out the arrays of n sequences from `memory` on (NULL: only counts); their bytes. */
static size_t lay_out(const npi_block *b, int n, char *memory, arrays *out) {
    const npi_block_desc *d = &b->desc;
    size_t all = (size_t)n * (size_t)d->t, some = (size_t)n * (size_t)b->rows,
           width = (size_t)d->width, hidden = (size_t)d->hidden, at = 0;
    const struct {
        float **to;
        size_t count;
    } parts[] = {{&out->stats1, 2 * all}, {&out->u, all * width},    {&out->qkv, 3 * all * width},
                 {&out->a, some * width}, {&out->y, some * width},   {&out->stats2, 2 * some},
                 {&out->v, some * width}, {&out->fc, some * hidden}, {&out->acted, some * hidden}};
    size_t count = sizeof parts / sizeof *parts - !d->training;
    for (size_t i = 0; i < count; i++) {
        *parts[i].to = memory ? (float *)(void *)(memory + at) : NULL;
        at += npi_cpu_room(parts[i].count, sizeof(float));
    }
    if (!d->training)
        out->acted = out->fc;
    return at;
}

static npi_attention attention_of(const npi_block *b, int n) {
    const npi_block_desc *d = &b->desc;
    return (npi_attention){.n = n,
                           .t = d->t,
                           .rows = b->rows,
                           .width = d->width,
                           .heads = d->heads,
                           .causal = d->causal};
}

static float *workspace(const npi_block *b, size_t at) {
    return (float *)(void *)(npi_cpu_of(b->dev)->workspace + at);
}

/* Places the packed weights from `memory` on (NULL: only counts); their bytes. */
static size_t place_weights(npi_block *b, char *memory) {
    const int width = b->desc.width, hidden = b->desc.hidden, first = b->desc.first_only;
    const struct {
        int in, out;
    } sizes[PACKED] = {[KV] = {width, first ? 2 * width : 3 * width},
                       [Q] = {width, first ? width : 0},
                       [OUT] = {width, width},
                       [FC1] = {width, hidden},
                       [FC2] = {hidden, width}};
    size_t at = 0;
    for (int i = 0; i < PACKED; i++) {
        b->weights[i] = memory ? (uint32_t *)(void *)(memory + at) : NULL;
        at += npi_cpu_room(npi_pairs_words(b->pairs, sizes[i].in, sizes[i].out), sizeof(uint32_t));
    }
    return at;
}

static void block_free(npi_device *dev, npi_block *b) {
    if (!b)
        return;
    npi_host_memory.free(dev, b->packed);
    npi_host_memory.free(dev, b->kept);
    npi_free(b->name);
    npi_free(b);
}

static npos_status allocate(npi_block *b) {
    const npi_block_desc *d = &b->desc;
    arrays unused;
    npi_attention attention = attention_of(b, d->n);
    if (d->training) { /* the workspace holds dqkv */
        size_t bytes = lay_out(b, d->n, NULL, &unused);
        NPI_TRY(npi_host_memory.alloc(b->dev, bytes, b->name, &b->kept));
        b->room_at =
            npi_cpu_room((size_t)d->n * (size_t)d->t * 3 * (size_t)d->width, sizeof(float));
    } else {
        b->room_at = lay_out(b, b->at_once, NULL, &unused);
    }
    if (b->pairs) {
        NPI_TRY(npi_host_memory.alloc(b->dev, place_weights(b, NULL), b->name, &b->packed));
        place_weights(b, (char *)b->packed);
    }
    return npi_cpu_grow_workspace(b->dev, b->room_at + npi_cpu_attention_room(b->dev, &attention));
}

static npos_status block_create(npi_device *dev, const npi_block_desc *desc, npi_block **out) {
    const npi_block_desc *d = desc;
    const char *name = d->name ? d->name : "unnamed";
    *out = NULL;
    if (d->n < 1 || d->t < 1 || d->width < 1 || d->heads < 1 || d->hidden < 1 ||
        d->width % d->heads != 0 || (d->act != NPI_ACT_QUICK_GELU && d->act != NPI_ACT_GELU))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "block '%s': %d sequences of %d rows of %d, %d heads, MLP of %d, "
                        "activation %d; expected sizes of at least 1, heads that divide the width "
                        "and a known activation",
                        name, d->n, d->t, d->width, d->heads, d->hidden, (int)d->act);
    npi_block *b;
    npos_status status;
    NPI_TRY(npi_alloc(&b, 1, sizeof *b, name));
    b->dev = dev;
    b->desc = *d;
    b->rows = d->first_only ? 1 : d->t;
    b->pairs = d->training ? NULL : npi_pairs_of(dev);
    b->at_once = d->t >= ROWS_AT_ONCE ? 1 : ROWS_AT_ONCE / d->t;
    b->at_once = b->at_once < d->n ? b->at_once : d->n;
    NPI_TRY_GOTO(npi_strdup(&b->name, name), fail);
    b->desc.name = b->name;
    NPI_TRY_GOTO(allocate(b), fail);
    *out = b;
    return NPOS_OK;
fail:
    block_free(dev, b);
    return status;
}

static npos_status block_pack(npi_block *b, const npi_block_params *p) {
    const int width = b->desc.width, hidden = b->desc.hidden, first = b->desc.first_only;
    const ptrdiff_t square = (ptrdiff_t)width * width;
    if (!b->pairs) /* float32 products pack them, which is little beside the products */
        return NPOS_OK;
    if (first)
        npi_pairs_pack(b->dev, b->pairs, width, width, p->qkv_weight, b->weights[Q]);
    npi_pairs_pack(b->dev, b->pairs, width, first ? 2 * width : 3 * width,
                   p->qkv_weight + (first ? square : 0), b->weights[KV]);
    npi_pairs_pack(b->dev, b->pairs, width, width, p->out_weight, b->weights[OUT]);
    npi_pairs_pack(b->dev, b->pairs, width, hidden, p->fc1_weight, b->weights[FC1]);
    npi_pairs_pack(b->dev, b->pairs, hidden, width, p->fc2_weight, b->weights[FC2]);
    return NPOS_OK;
}

/* ---- products ---- */

/* Rows that do not lie one behind the other: row i starts at data + i * step. */
typedef struct rows_in {
    const float *data;
    ptrdiff_t step;
} rows_in;
typedef struct rows_out {
    float *data;
    ptrdiff_t step;
} rows_out;

/* y (+)= x W^T + b, weight [out][in], of which `which` are packed */
static npos_status linear(const npi_block *b, int which, int n, int in, int out, rows_in x,
                          const float *weight, const float *bias, bool add, rows_out y) {
    if (b->pairs)
        return npi_pairs_multiply(b->dev, b->pairs, n, in, out, x.data, x.step, b->weights[which],
                                  bias, add, y.data, y.step);
    npi_gemm g = {.m = n,
                  .n = out,
                  .k = in,
                  .a = x.data,
                  .a_row = x.step,
                  .a_col = 1,
                  .b = weight,
                  .b_row = 1,
                  .b_col = in,
                  .c = y.data,
                  .ldc = y.step,
                  .add = add,
                  .bias = bias};
    return npi_cpu_gemm(b->dev, &g);
}

/* dW = dy^T x, db = sum of dy's rows */
static npos_status to_weights(npi_device *dev, int n, int in, int out, rows_in x, rows_in dy,
                              float *dweight, float *dbias) {
    npi_gemm g = {.m = out,
                  .n = in,
                  .k = n,
                  .a = dy.data,
                  .a_row = 1,
                  .a_col = dy.step,
                  .b = x.data,
                  .b_row = x.step,
                  .b_col = 1,
                  .c = dweight,
                  .ldc = in};
    npi_cpu_column_sums(npi_cpu_of(dev)->threads, n, out, dy.data, dy.step, dbias);
    return npi_cpu_gemm(dev, &g);
}

/* dx (+)= dy W */
static npos_status to_data(npi_device *dev, int n, int in, int out, const float *weight, rows_in dy,
                           bool add, rows_out dx) {
    npi_gemm g = {.m = n,
                  .n = in,
                  .k = out,
                  .a = dy.data,
                  .a_row = dy.step,
                  .a_col = 1,
                  .b = weight,
                  .b_row = in,
                  .b_col = 1,
                  .c = dx.data,
                  .ldc = dx.step,
                  .add = add};
    return npi_cpu_gemm(dev, &g);
}

/* to_i = from_i of n rows of `width` */
static void copy_rows(npi_device *dev, int n, int width, rows_in from, float *to) {
#pragma omp parallel for num_threads(npi_cpu_of(dev)->threads) schedule(static)
    for (int i = 0; i < n; i++)
        memcpy(to + (ptrdiff_t)i * width, from.data + i * from.step, (size_t)width * sizeof *to);
}

enum { ACT_STRIP = 4096 }; /* elements that a thread takes at a time */

static void act(const npi_block *b, size_t count, const float *x, float *to) {
    const npi_math *math = npi_math_of(npi_cpu_of(b->dev)->isa);
#pragma omp parallel for num_threads(npi_cpu_of(b->dev)->threads) schedule(static)
    for (size_t i = 0; i < count; i += ACT_STRIP)
        math->act(b->desc.act, count - i < ACT_STRIP ? count - i : ACT_STRIP, x + i, to + i);
}

static void act_back(const npi_block *b, size_t count, const float *g, float *x) {
    const npi_math *math = npi_math_of(npi_cpu_of(b->dev)->isa);
#pragma omp parallel for num_threads(npi_cpu_of(b->dev)->threads) schedule(static)
    for (size_t i = 0; i < count; i += ACT_STRIP)
        math->act_back(b->desc.act, count - i < ACT_STRIP ? count - i : ACT_STRIP, g + i, x + i);
}

/* ---- the entries ---- */

static npos_status check(const npi_block *b, const char *what, npi_tokens tokens, int most, int t) {
    npos_status status = npi_cpu_check_tokens(what, tokens, most, t, b->desc.width);
    return status == NPOS_OK ? status : npi_fail_in(status, "block '%s'", b->name);
}

/* n sequences from x to z through the arrays. */
static npos_status run(const npi_block *b, int n, const arrays *w, const float *x,
                       const npi_block_params *p, float *z) {
    const npi_block_desc *d = &b->desc;
    npi_device *dev = b->dev;
    int width = d->width, hidden = d->hidden, all = n * d->t, some = n * b->rows;
    ptrdiff_t skip = (ptrdiff_t)(d->first_only ? d->t : 1) * width, three = 3 * (ptrdiff_t)width;
    npi_attention attention = attention_of(b, n);
    NPI_TRY(
        npi_cpu_layer_norm_forward(dev, all, width, x, p->ln1_gamma, p->ln1_beta, w->u, w->stats1));
    if (d->first_only) { /* q of row 0, k and v of all */
        NPI_TRY(linear(b, Q, some, width, width, (rows_in){w->u, skip}, p->qkv_weight, p->qkv_bias,
                       false, (rows_out){w->qkv, 3 * skip}));
        NPI_TRY(linear(b, KV, all, width, 2 * width, (rows_in){w->u, width},
                       p->qkv_weight + (ptrdiff_t)width * width, p->qkv_bias + width, false,
                       (rows_out){w->qkv + width, three}));
    } else {
        NPI_TRY(linear(b, KV, all, width, 3 * width, (rows_in){w->u, width}, p->qkv_weight,
                       p->qkv_bias, false, (rows_out){w->qkv, three}));
    }
    npi_cpu_attend(dev, &attention, w->qkv, w->a, workspace(b, b->room_at));
    copy_rows(dev, some, width, (rows_in){x, skip}, w->y);
    NPI_TRY(linear(b, OUT, some, width, width, (rows_in){w->a, width}, p->out_weight, p->out_bias,
                   true, (rows_out){w->y, width}));
    NPI_TRY(npi_cpu_layer_norm_forward(dev, some, width, w->y, p->ln2_gamma, p->ln2_beta, w->v,
                                       w->stats2));
    NPI_TRY(linear(b, FC1, some, width, hidden, (rows_in){w->v, width}, p->fc1_weight, p->fc1_bias,
                   false, (rows_out){w->fc, hidden}));
    act(b, (size_t)some * (size_t)hidden, w->fc, w->acted);
    copy_rows(dev, some, width, (rows_in){w->y, width}, z);
    return linear(b, FC2, some, hidden, width, (rows_in){w->acted, hidden}, p->fc2_weight,
                  p->fc2_bias, true, (rows_out){z, width});
}

static npos_status forward(npi_block *b, npi_tokens x, const npi_block_params *p, npi_tokens z) {
    const npi_block_desc *d = &b->desc;
    arrays w;
    NPI_TRY(check(b, "x", x, d->n, d->t));
    NPI_TRY(check(b, "z", z, x.n, b->rows));
    if (z.n != x.n)
        return npi_fail(NPOS_SHAPE_MISMATCH, "block '%s': z has %d sequences, x has %d", b->name,
                        z.n, x.n);
    b->ran = 0;
    if (d->training) {
        lay_out(b, d->n, (char *)b->kept, &w);
        NPI_TRY(run(b, x.n, &w, x.data, p, z.data));
        b->ran = x.n;
        return NPOS_OK;
    }
    lay_out(b, b->at_once, npi_cpu_of(b->dev)->workspace, &w);
    for (int i = 0; i < x.n; i += b->at_once) {
        int n = x.n - i < b->at_once ? x.n - i : b->at_once;
        NPI_TRY(run(b, n, &w, (const float *)x.data + (ptrdiff_t)i * d->t * d->width, p,
                    (float *)z.data + (ptrdiff_t)i * b->rows * d->width));
    }
    return NPOS_OK;
}

/* From dz to dy, in place; gradients of the MLP and ln2. */
static npos_status mlp_back(const npi_block *b, int some, const arrays *w, float *dz,
                            const npi_block_params *p, const npi_block_params *grads) {
    int width = b->desc.width, hidden = b->desc.hidden;
    npi_device *dev = b->dev;
    rows_in dout = {dz, width}, dfc = {w->fc, hidden};
    NPI_TRY(to_weights(dev, some, hidden, width, (rows_in){w->acted, hidden}, dout,
                       grads->fc2_weight, grads->fc2_bias));
    NPI_TRY(to_data(dev, some, hidden, width, p->fc2_weight, dout, false,
                    (rows_out){w->acted, hidden}));
    act_back(b, (size_t)some * (size_t)hidden, w->acted, w->fc);
    NPI_TRY(to_weights(dev, some, width, hidden, (rows_in){w->v, width}, dfc, grads->fc1_weight,
                       grads->fc1_bias));
    NPI_TRY(to_data(dev, some, width, hidden, p->fc1_weight, dfc, false, (rows_out){w->v, width}));
    return npi_cpu_layer_norm_backward(dev, some, width, w->y, w->stats2, p->ln2_gamma, w->v,
                                       grads->ln2_gamma, grads->ln2_beta, dz, true);
}

/* From dy to u's gradient, in u; gradients of out and qkv. */
static npos_status attention_back(const npi_block *b, int n, const arrays *w, const float *dy,
                                  const npi_block_params *p, const npi_block_params *grads) {
    const npi_block_desc *d = &b->desc;
    npi_device *dev = b->dev;
    int width = d->width, all = n * d->t, some = n * b->rows;
    ptrdiff_t skip = (ptrdiff_t)(d->first_only ? d->t : 1) * width, three = 3 * (ptrdiff_t)width,
              square = (ptrdiff_t)width * width;
    float *dqkv = workspace(b, 0);
    npi_attention attention = attention_of(b, n);
    NPI_TRY(to_weights(dev, some, width, width, (rows_in){w->a, width}, (rows_in){dy, width},
                       grads->out_weight, grads->out_bias));
    NPI_TRY(to_data(dev, some, width, width, p->out_weight, (rows_in){dy, width}, false,
                    (rows_out){w->a, width}));
    npi_cpu_attend_back(dev, &attention, w->qkv, w->a, dqkv, workspace(b, b->room_at));
    rows_in dq = {dqkv, 3 * skip}, dkv = {dqkv + width, three};
    NPI_TRY(to_weights(dev, some, width, width, (rows_in){w->u, skip}, dq, grads->qkv_weight,
                       grads->qkv_bias));
    NPI_TRY(to_weights(dev, all, width, 2 * width, (rows_in){w->u, width}, dkv,
                       grads->qkv_weight + square, grads->qkv_bias + width));
    NPI_TRY(to_data(dev, all, width, 2 * width, p->qkv_weight + square, dkv, false,
                    (rows_out){w->u, width}));
    return to_data(dev, some, width, width, p->qkv_weight, dq, true, (rows_out){w->u, skip});
}

static npos_status check_backward(const npi_block *b, npi_tokens dz, npi_tokens x,
                                  const npi_tokens *dx) {
    int n = b->ran;
    if (n == 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "block '%s': backward without a training forward",
                        b->name);
    if (!dx && b->desc.needs_dx)
        return npi_fail(NPOS_INVALID_ARGUMENT, "block '%s': dx is missing", b->name);
    if (x.n != n || dz.n != n || (dx && dx->n != n))
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "block '%s': %d sequences in x, %d in dz, %d in dx; forward had %d",
                        b->name, x.n, dz.n, dx ? dx->n : n, n);
    NPI_TRY(check(b, "x", x, n, b->desc.t));
    NPI_TRY(check(b, "dz", dz, n, b->rows));
    return dx ? check(b, "dx", *dx, n, b->desc.t) : NPOS_OK;
}

static npos_status backward(npi_block *b, npi_tokens dz, npi_tokens x, const npi_block_params *p,
                            const npi_block_params *grads, const npi_tokens *dx) {
    const npi_block_desc *d = &b->desc;
    arrays w;
    NPI_TRY(check_backward(b, dz, x, dx));
    int n = b->ran, width = d->width, some = n * b->rows;
    b->ran = 0; /* what forward kept is used up */
    lay_out(b, d->n, (char *)b->kept, &w);
    float *dy = dz.data, *to = dx ? dx->data : NULL;
    NPI_TRY(mlp_back(b, some, &w, dy, p, grads));
    NPI_TRY(attention_back(b, n, &w, dy, p, grads));
    NPI_TRY(npi_cpu_layer_norm_backward(b->dev, n * d->t, width, x.data, w.stats1, p->ln1_gamma,
                                        w.u, grads->ln1_gamma, grads->ln1_beta, to, false));
    ptrdiff_t skip = (ptrdiff_t)(d->first_only ? d->t : 1) * width;
#pragma omp parallel for num_threads(npi_cpu_of(b->dev)->threads) schedule(static)
    for (int i = 0; i < (to ? some : 0); i++)
        for (int j = 0; j < width; j++)
            to[i * skip + j] += dy[(ptrdiff_t)i * width + j];
    return NPOS_OK;
}

static const char *variant(npi_block *block) {
    return block->pairs ? "bf16 products, attention by head in float32"
                        : "float32 products, attention by head";
}

const npi_block_ops npi_cpu_blocks = {.create = block_create,
                                      .free = block_free,
                                      .pack = block_pack,
                                      .forward = forward,
                                      .backward = backward,
                                      .variant = variant};
