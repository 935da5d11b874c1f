#include "devices/cpu/cpu_math_loops.h"

enum { MR = 4, NR = 8 };

static void tile(int depth, const float *a, const float *b, float *c, ptrdiff_t ldc, bool add) {
    float sum[MR][NR] = {{0}};
    for (int p = 0; p < depth; p++)
        for (int i = 0; i < MR; i++)
            for (int j = 0; j < NR; j++)
                sum[i][j] += a[p * MR + i] * b[p * NR + j];
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NR; j++)
            c[i * ldc + j] = (add ? c[i * ldc + j] : 0.0f) + sum[i][j];
}

static int count_above(int n, const float *x, float limit) {
    int count = 0;
    for (int i = 0; i < n; i++)
        count += x[i] > limit;
    return count;
}

static int gather_between(int n, const float *x, float low, float high, float *to) {
    int count = 0;
    for (int i = 0; i < n; i++)
        if (x[i] > low && x[i] <= high)
            to[count++] = x[i];
    return count;
}

static void screen(int rows, int columns, const void *product, bool whole, const float *base,
                   const npi_screen_rows *r, const npi_screen_columns *c, int first,
                   npi_hits *hits) {
    const float *p = product;
    (void)whole; /* no products of bytes here */
    for (int i = 0; i < rows; i++, p += NPI_PANEL_COLUMNS) {
        float limit = base[i] - r->error[i] * c->norm - c->slack;
        npi_hits *to = &hits[i];
        for (int j = 0; j < columns; j++) {
            float s = r->factor[i] * (c->scale[j] * p[j] - c->offset[j]) - c->square[j];
            s += r->norm[i] * c->error[j];
            to->hit[to->count].column = first + j;
            to->count += !(s < limit);
        }
    }
}

const npi_math npi_math_generic = {
    .mr = MR,
    .nr = NR,
    .tile = tile,
    .count_above = count_above,
    .gather_between = gather_between,
    .keep = loop_keep,
    .screen = screen,
    .near = loop_near,
    .centre = loop_centre,
    .combine = loop_combine,
    .dot = loop_dot,
    .distance = loop_distance,
    .normals = loop_normals,
    .sgd = loop_sgd,
    .softmax = loop_softmax,
    .act = loop_act,
    .act_back = loop_act_back,
    .layer_norm = loop_layer_norm,
};
