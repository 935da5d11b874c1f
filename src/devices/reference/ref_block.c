#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "devices/reference/ref.h"

/* What a forward pass leaves for its backward pass.  Rows of the whole sequence are counted n t,
 * those that go on through the block n `rows`: t of a sequence, 1 with first_only. */
struct npi_block {
    npi_device *dev;
    npi_block_desc desc;
    char *name;
    int rows, head; /* rows of a sequence that z has; width of a head */
    int ran;        /* sequences of the newest forward, 0 before it */
    float *stats1;  /* [n t][2] of ln1 */
    float *u;       /* [n t][width]; in backward its gradient */
    float *qkv;     /* [n t][3 width] */
    double *share;  /* [n][heads][rows][t]: the softmax */
    float *a;       /* [n rows][width]; in backward its gradient */
    float *y;       /* [n rows][width] */
    float *stats2;  /* [n rows][2] of ln2 */
    float *v;       /* [n rows][width]: ln2's output; in backward its gradient */
    float *fc;      /* [n rows][hidden]: before the activation; in backward its gradient */
    float *acted;   /* [n rows][hidden] */
    float *dqkv;    /* [n t][3 width], training only */
    double *sum;    /* [the longest row + 1] */
};

static void block_free(npi_device *dev, npi_block *b) {
    (void)dev;
    if (!b)
        return;
    void *memory[] = {b->name,   b->stats1, b->u,  b->qkv,   b->share, b->a,   b->y,
                      b->stats2, b->v,      b->fc, b->acted, b->dqkv,  b->sum, b};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        npi_free(memory[i]);
}

static npos_status block_alloc(npi_block *b) {
    const npi_block_desc *d = &b->desc;
    size_t all = (size_t)d->n * (size_t)d->t, some = (size_t)d->n * (size_t)b->rows,
           width = (size_t)d->width, hidden = (size_t)d->hidden;
    const struct {
        void *out;
        size_t count, size;
    } needs[] = {{&b->stats1, 2 * all, sizeof *b->stats1},
                 {&b->u, all * width, sizeof *b->u},
                 {&b->qkv, 3 * all * width, sizeof *b->qkv},
                 {&b->share, some * (size_t)d->heads * (size_t)d->t, sizeof *b->share},
                 {&b->a, some * width, sizeof *b->a},
                 {&b->y, some * width, sizeof *b->y},
                 {&b->stats2, 2 * some, sizeof *b->stats2},
                 {&b->v, some * width, sizeof *b->v},
                 {&b->fc, some * hidden, sizeof *b->fc},
                 {&b->acted, some * hidden, sizeof *b->acted},
                 {&b->dqkv, d->training ? 3 * all * width : 0, sizeof *b->dqkv},
                 {&b->sum, (width > hidden ? width : hidden) + (size_t)d->t + 1, sizeof *b->sum}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        NPI_TRY(npi_alloc(needs[i].out, needs[i].count, needs[i].size, b->name));
    return NPOS_OK;
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
    b->head = d->width / d->heads;
    NPI_TRY_GOTO(npi_strdup(&b->name, name), fail);
    b->desc.name = b->name;
    NPI_TRY_GOTO(block_alloc(b), fail);
    *out = b;
    return NPOS_OK;
fail:
    block_free(dev, b);
    return status;
}

static npos_status block_pack(npi_block *block, const npi_block_params *params) {
    (void)block;
    (void)params;
    return NPOS_OK; /* the weights are used as they are */
}

/* ---- the activation ---- */

static double act(npi_block_act kind, double x) {
    return kind == NPI_ACT_GELU ? 0.5 * x * (1.0 + erf(x * sqrt(0.5)))
                                : x / (1.0 + exp(-1.702 * x));
}

static double act_slope(npi_block_act kind, double x) {
    if (kind == NPI_ACT_GELU) { /* Phi(x) + x phi(x) */
        double density = exp(-0.5 * x * x) / sqrt(2.0 * 3.14159265358979323846);
        return 0.5 * (1.0 + erf(x * sqrt(0.5))) + x * density;
    }
    double s = 1.0 / (1.0 + exp(-1.702 * x));
    return s + 1.702 * x * s * (1.0 - s);
}

/* ---- attention ---- */

/* Row r of sequence i; part 0, 1, 2: of q, k, v. */
static float *part_of(const npi_block *b, float *qkv, int i, int r, int part, int head) {
    return qkv + ((ptrdiff_t)i * b->desc.t + r) * 3 * b->desc.width + part * b->desc.width +
           head * b->head;
}

static double *share_of(const npi_block *b, int i, int head, int r) {
    return b->share + (((ptrdiff_t)i * b->desc.heads + head) * b->rows + r) * b->desc.t;
}

static float *attended(const npi_block *b, int i, int r, int head) {
    return b->a + ((ptrdiff_t)i * b->rows + r) * b->desc.width + head * b->head;
}

/* Rows that row r sees. */
static int seen_by(const npi_block *b, int r) {
    return b->desc.causal ? r + 1 : b->desc.t;
}

/* p_rs = softmax over s of q_r . k_s / sqrt(head);  a_r = sum_s p_rs v_s */
static void attend(npi_block *b, int i, int head, int r) {
    int seen = seen_by(b, r);
    double *p = share_of(b, i, head, r), largest = -INFINITY, sum = 0.0;
    const float *q = part_of(b, b->qkv, i, r, 0, head);
    for (int s = 0; s < seen; s++) {
        p[s] = npi_ref_dot(b->head, q, part_of(b, b->qkv, i, s, 1, head)) / sqrt((double)b->head);
        largest = fmax(largest, p[s]);
    }
    for (int s = 0; s < seen; s++)
        sum += p[s] = exp(p[s] - largest);
    for (int s = 0; s < seen; s++)
        p[s] /= sum;
    for (int j = 0; j < b->head; j++) {
        double value = 0.0;
        for (int s = 0; s < seen; s++)
            value += p[s] * (double)part_of(b, b->qkv, i, s, 2, head)[j];
        attended(b, i, r, head)[j] = (float)value;
    }
}

/* With g = da_r:  dp_s = g . v_s,  c_s = p_s (dp_s - sum_j p_j dp_j) / sqrt(head),
 *     dv_s = sum_r p_rs g_r,   dq_r = sum_s c_rs k_s,   dk_s = sum_r c_rs q_r
 * share becomes c where it was p, which dv has used by then. */
static void attend_back(npi_block *b, int i, int head) {
    const npi_block_desc *d = &b->desc;
    for (int s = 0; s < d->t; s++)
        for (int j = 0; j < b->head; j++) {
            double dv = 0.0;
            for (int r = 0; r < b->rows; r++)
                if (s < seen_by(b, r))
                    dv += share_of(b, i, head, r)[s] * (double)attended(b, i, r, head)[j];
            part_of(b, b->dqkv, i, s, 2, head)[j] = (float)dv;
        }
    for (int r = 0; r < b->rows; r++) {
        double *p = share_of(b, i, head, r), along = 0.0;
        for (int s = 0; s < seen_by(b, r); s++) {
            b->sum[s] =
                npi_ref_dot(b->head, attended(b, i, r, head), part_of(b, b->qkv, i, s, 2, head));
            along += p[s] * b->sum[s];
        }
        for (int s = 0; s < seen_by(b, r); s++)
            p[s] *= (b->sum[s] - along) / sqrt((double)b->head);
        for (int j = 0; j < b->head; j++) {
            double dq = 0.0;
            for (int s = 0; s < seen_by(b, r); s++)
                dq += p[s] * (double)part_of(b, b->qkv, i, s, 1, head)[j];
            part_of(b, b->dqkv, i, r, 0, head)[j] = (float)dq;
        }
    }
    for (int s = 0; s < d->t; s++)
        for (int j = 0; j < b->head; j++) {
            double dk = 0.0;
            for (int r = 0; r < b->rows; r++)
                if (s < seen_by(b, r))
                    dk += share_of(b, i, head, r)[s] * (double)part_of(b, b->qkv, i, r, 0, head)[j];
            part_of(b, b->dqkv, i, s, 1, head)[j] = (float)dk;
        }
}

/* ---- the entries ---- */

static npos_status check(const npi_block *b, const char *what, npi_tokens tokens, int most, int t) {
    npos_status status = npi_ref_check_tokens(what, tokens, most, t, b->desc.width);
    return status == NPOS_OK ? status : npi_fail_in(status, "block '%s'", b->name);
}

static npos_status forward(npi_block *b, npi_tokens x, const npi_block_params *p, npi_tokens z) {
    const npi_block_desc *d = &b->desc;
    int width = d->width, hidden = d->hidden;
    NPI_TRY(check(b, "x", x, d->n, d->t));
    NPI_TRY(check(b, "z", z, x.n, b->rows));
    if (z.n != x.n)
        return npi_fail(NPOS_SHAPE_MISMATCH, "block '%s': z has %d sequences, x has %d", b->name,
                        z.n, x.n);
    int all = x.n * d->t, some = x.n * b->rows;
    const float *from = x.data;
    float *to = z.data;
    for (ptrdiff_t i = 0; i < all; i++)
        npi_ref_layer_norm(width, from + i * width, p->ln1_gamma, p->ln1_beta, b->u + i * width,
                           b->stats1 + 2 * i);
    /* q of the rows that go on, k and v of all */
    ptrdiff_t skip = (ptrdiff_t)(d->first_only ? d->t : 1) * width,
              square = (ptrdiff_t)width * width;
    npi_ref_linear(some, width, width, (npi_ref_rows_in){b->u, skip}, p->qkv_weight, p->qkv_bias,
                   (npi_ref_rows_at){b->qkv, 3 * skip});
    npi_ref_linear(all, width, 2 * width, (npi_ref_rows_in){b->u, width}, p->qkv_weight + square,
                   p->qkv_bias + width, (npi_ref_rows_at){b->qkv + width, 3 * (ptrdiff_t)width});
    for (int i = 0; i < x.n; i++)
        for (int head = 0; head < d->heads; head++)
            for (int r = 0; r < b->rows; r++)
                attend(b, i, head, r);
    npi_ref_linear(some, width, width, (npi_ref_rows_in){b->a, width}, p->out_weight, p->out_bias,
                   (npi_ref_rows_at){b->y, width});
    for (ptrdiff_t i = 0; i < some; i++) {
        float *y = b->y + i * width;
        for (int j = 0; j < width; j++)
            y[j] = (float)((double)y[j] + (double)from[i * skip + j]);
        npi_ref_layer_norm(width, y, p->ln2_gamma, p->ln2_beta, b->v + i * width,
                           b->stats2 + 2 * i);
    }
    npi_ref_linear(some, width, hidden, (npi_ref_rows_in){b->v, width}, p->fc1_weight, p->fc1_bias,
                   (npi_ref_rows_at){b->fc, hidden});
    for (ptrdiff_t i = 0; i < (ptrdiff_t)some * hidden; i++)
        b->acted[i] = (float)act(d->act, (double)b->fc[i]);
    npi_ref_linear(some, hidden, width, (npi_ref_rows_in){b->acted, hidden}, p->fc2_weight,
                   p->fc2_bias, (npi_ref_rows_at){to, width});
    for (ptrdiff_t i = 0; i < (ptrdiff_t)some * width; i++)
        to[i] = (float)((double)to[i] + (double)b->y[i]);
    b->ran = d->training ? x.n : 0;
    return NPOS_OK;
}

/* From dz to dy, in place; gradients of the MLP and ln2. */
static npos_status mlp_back(npi_block *b, int some, float *dz, const npi_block_params *p,
                            const npi_block_params *grads) {
    int width = b->desc.width, hidden = b->desc.hidden;
    npi_ref_linear_to_weights(some, hidden, width, (npi_ref_rows_in){b->acted, hidden},
                              (npi_ref_rows_in){dz, width}, grads->fc2_weight, grads->fc2_bias,
                              b->sum);
    npi_ref_linear_to_data(some, hidden, width, p->fc2_weight, (npi_ref_rows_in){dz, width},
                           (npi_ref_rows_at){b->acted, hidden}, false, b->sum);
    for (ptrdiff_t i = 0; i < (ptrdiff_t)some * hidden; i++)
        b->fc[i] = (float)((double)b->acted[i] * act_slope(b->desc.act, (double)b->fc[i]));
    npi_ref_linear_to_weights(some, width, hidden, (npi_ref_rows_in){b->v, width},
                              (npi_ref_rows_in){b->fc, hidden}, grads->fc1_weight, grads->fc1_bias,
                              b->sum);
    npi_ref_linear_to_data(some, width, hidden, p->fc1_weight, (npi_ref_rows_in){b->fc, hidden},
                           (npi_ref_rows_at){b->v, width}, false, b->sum);
    return npi_ref_layer_norm_backward(b->dev, some, width, b->y, b->stats2, p->ln2_gamma, b->v,
                                       grads->ln2_gamma, grads->ln2_beta, dz, true);
}

static npos_status backward(npi_block *b, npi_tokens dz, npi_tokens x, const npi_block_params *p,
                            const npi_block_params *grads, const npi_tokens *dx) {
    const npi_block_desc *d = &b->desc;
    int n = b->ran, width = d->width, all = n * d->t, some = n * b->rows;
    if (n == 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "block '%s': backward without a training forward",
                        b->name);
    if (!dx && d->needs_dx)
        return npi_fail(NPOS_INVALID_ARGUMENT, "block '%s': dx is missing", b->name);
    if (x.n != n || dz.n != n || (dx && dx->n != n))
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "block '%s': %d sequences in x, %d in dz, %d in dx; forward had %d",
                        b->name, x.n, dz.n, dx ? dx->n : n, n);
    NPI_TRY(check(b, "x", x, n, d->t));
    NPI_TRY(check(b, "dz", dz, n, b->rows));
    if (dx)
        NPI_TRY(check(b, "dx", *dx, n, d->t));
    b->ran = 0; /* what forward kept is used up */
    float *dy = dz.data;
    NPI_TRY(mlp_back(b, some, dy, p, grads));
    npi_ref_linear_to_weights(some, width, width, (npi_ref_rows_in){b->a, width},
                              (npi_ref_rows_in){dy, width}, grads->out_weight, grads->out_bias,
                              b->sum);
    npi_ref_linear_to_data(some, width, width, p->out_weight, (npi_ref_rows_in){dy, width},
                           (npi_ref_rows_at){b->a, width}, false, b->sum);
    for (int i = 0; i < n; i++)
        for (int head = 0; head < d->heads; head++)
            attend_back(b, i, head);
    ptrdiff_t skip = (ptrdiff_t)(d->first_only ? d->t : 1) * width,
              square = (ptrdiff_t)width * width;
    npi_ref_rows_in u = {b->u, width}, dq = {b->dqkv, 3 * skip},
                    dkv = {b->dqkv + width, 3 * (ptrdiff_t)width};
    npi_ref_linear_to_weights(some, width, width, (npi_ref_rows_in){b->u, skip}, dq,
                              grads->qkv_weight, grads->qkv_bias, b->sum);
    npi_ref_linear_to_weights(all, width, 2 * width, u, dkv, grads->qkv_weight + square,
                              grads->qkv_bias + width, b->sum);
    npi_ref_linear_to_data(all, width, 2 * width, p->qkv_weight + square, dkv,
                           (npi_ref_rows_at){b->u, width}, false, b->sum);
    npi_ref_linear_to_data(some, width, width, p->qkv_weight, dq, (npi_ref_rows_at){b->u, skip},
                           true, b->sum);
    float *to = dx ? dx->data : NULL;
    NPI_TRY(npi_ref_layer_norm_backward(b->dev, all, width, x.data, b->stats1, p->ln1_gamma, b->u,
                                        grads->ln1_gamma, grads->ln1_beta, to, false));
    for (ptrdiff_t i = 0; to && i < some; i++)
        for (int j = 0; j < width; j++) {
            float *at = &to[i * skip + j];
            *at = (float)((double)*at + (double)dy[i * width + j]);
        }
    return NPOS_OK;
}

static const char *variant(npi_block *block) {
    (void)block;
    return "plain loops, sums in float64";
}

const npi_block_ops npi_ref_blocks = {.create = block_create,
                                      .free = block_free,
                                      .pack = block_pack,
                                      .forward = forward,
                                      .backward = backward,
                                      .variant = variant};
