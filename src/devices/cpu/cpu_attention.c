#include <math.h>
#include <omp.h>
#include <string.h>

#include "devices/cpu/cpu_tokens.h"

/* One head of one sequence, in a thread's room. */
typedef struct head {
    const npi_math *math;
    int t, rows, width; /* width of the head */
    bool causal;
    ptrdiff_t step, out_step; /* from row to row of qkv, of a */
    float scale;
    float *share, *dshare; /* [rows][t] */
    float *packed;
} head;

static size_t share_room(const npi_attention *a) {
    return npi_cpu_room((size_t)a->rows * (size_t)a->t, sizeof(float));
}

/* Of the largest product of a head. */
static size_t packed_room(const npi_math *math, const npi_attention *a) {
    int width = a->width / a->heads, longest = a->t > width ? a->t : width;
    return npi_cpu_room(npi_cpu_product_floats(math, longest, longest, longest), sizeof(float));
}

static size_t thread_room(const npi_math *math, const npi_attention *a) {
    return 2 * share_room(a) + packed_room(math, a);
}

size_t npi_cpu_attention_room(const npi_device *dev, const npi_attention *a) {
    const npi_cpu *cpu = dev->own;
    return thread_room(npi_math_of(cpu->isa), a) * (size_t)cpu->threads;
}

static head head_of(npi_device *dev, const npi_attention *a, float *room) {
    const npi_math *math = npi_math_of(npi_cpu_of(dev)->isa);
    char *at = (char *)room + thread_room(math, a) * (size_t)omp_get_thread_num();
    int width = a->width / a->heads;
    return (head){.math = math,
                  .t = a->t,
                  .rows = a->rows,
                  .width = width,
                  .causal = a->causal,
                  .step = 3 * (ptrdiff_t)a->width,
                  .out_step = a->width,
                  .scale = 1.0f / sqrtf((float)width),
                  .share = (float *)(void *)at,
                  .dshare = (float *)(void *)(at + share_room(a)),
                  .packed = (float *)(void *)(at + 2 * share_room(a))};
}

/* c [m][n] = a b, of any strides. */
static void product(const head *h, int m, int n, int k, const float *a, ptrdiff_t a_row,
                    ptrdiff_t a_col, const float *b, ptrdiff_t b_row, ptrdiff_t b_col, float *c,
                    ptrdiff_t ldc) {
    npi_gemm g = {.m = m,
                  .n = n,
                  .k = k,
                  .a = a,
                  .a_row = a_row,
                  .a_col = a_col,
                  .b = b,
                  .b_row = b_row,
                  .b_col = b_col,
                  .c = c,
                  .ldc = ldc};
    npi_cpu_product(h->math, &g, h->packed);
}

/* share = softmax(q k^T scale), 0 where a row does not see */
static void weigh(const head *h, const float *q, const float *k) {
    product(h, h->rows, h->t, h->width, q, h->step, 1, k, 1, h->step, h->share, h->t);
    for (int r = 0; r < h->rows; r++) {
        float *row = h->share + (ptrdiff_t)r * h->t;
        int seen = h->causal ? r + 1 : h->t;
        h->math->softmax(seen, h->scale, row);
        memset(row + seen, 0, (size_t)(h->t - seen) * sizeof *row);
    }
}

void npi_cpu_attend(npi_device *dev, const npi_attention *a, const float *qkv, float *to,
                    float *room) {
    int width = a->width / a->heads;
#pragma omp parallel num_threads(npi_cpu_of(dev)->threads)
    {
        head h = head_of(dev, a, room);
#pragma omp for schedule(dynamic)
        for (int task = 0; task < a->n * a->heads; task++) {
            ptrdiff_t i = task / a->heads, at = (ptrdiff_t)(task % a->heads) * width;
            const float *q = qkv + i * a->t * h.step + at;
            weigh(&h, q, q + a->width);
            product(&h, a->rows, width, a->t, h.share, a->t, 1, q + 2 * (ptrdiff_t)a->width, h.step,
                    1, to + i * a->rows * h.out_step + at, h.out_step);
        }
    }
}

/* With g = da:  dshare = g v^T,  c = share (dshare - sum of share dshare by row) scale,
 *     dv = share^T g,  dq = c k,  dk = c^T q */
static void back(const head *h, ptrdiff_t width, const float *q, const float *g, float *dq) {
    const float *k = q + width, *v = k + width;
    weigh(h, q, k);
    product(h, h->rows, h->t, h->width, g, h->out_step, 1, v, 1, h->step, h->dshare, h->t);
    product(h, h->t, h->width, h->rows, h->share, 1, h->t, g, h->out_step, 1, dq + 2 * width,
            h->step);
    for (int r = 0; r < h->rows; r++) {
        float *p = h->share + (ptrdiff_t)r * h->t, *dp = h->dshare + (ptrdiff_t)r * h->t;
        float along = (float)h->math->dot((size_t)h->t, p, dp);
        for (int s = 0; s < h->t; s++)
            p[s] *= (dp[s] - along) * h->scale;
    }
    product(h, h->rows, h->width, h->t, h->share, h->t, 1, k, h->step, 1, dq, h->step);
    product(h, h->t, h->width, h->rows, h->share, 1, h->t, q, h->step, 1, dq + width, h->step);
}

void npi_cpu_attend_back(npi_device *dev, const npi_attention *a, const float *qkv, const float *da,
                         float *dqkv, float *room) {
    int width = a->width / a->heads;
#pragma omp parallel num_threads(npi_cpu_of(dev)->threads)
    {
        head h = head_of(dev, a, room);
#pragma omp for schedule(dynamic)
        for (int task = 0; task < a->n * a->heads; task++) {
            ptrdiff_t i = task / a->heads, at = (ptrdiff_t)(task % a->heads) * width,
                      rows = i * a->t * h.step + at;
            back(&h, a->width, qkv + rows, da + i * a->rows * h.out_step + at, dqkv + rows);
        }
    }
}
