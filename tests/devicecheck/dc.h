/* tests/devicecheck/dc.h - what devicecheck's files share: two devices side by side.
 *
 * Every array exists twice, for side 0 (the reference) and side 1 (the device under test), between
 * two guard bands.  Outputs are filled with NaN before the call, so an element that was not written
 * fails the comparison.  A check runs one entry on both sides and compares:
 *
 *     dc_buf *x = dc_input(dc, "x", dc_normals(dc, n * in, 1.0), n * in * 4);
 *     dc_buf *y = dc_output(dc, "y", n * out * 4);
 *     for (int s = 0; s < 2; s++)
 *         DC_RUN(dc->side[s]->rows->linear_forward(dc->side[s], ..., dc_at(x, s), dc_at(y, s)));
 *     dc_floats(dc, y, DC_ROWS);
 *
 * Arrays belong to the dc and are freed after each operation. */
#ifndef TESTS_DEVICECHECK_DC_H
#define TESTS_DEVICECHECK_DC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/device.h"

typedef struct dc_buf {
    const char *name;
    size_t bytes[2]; /* by side; they differ for activations */
    char *block[2];  /* with the guard bands */
} dc_buf;

typedef struct dc_act {
    int n, c, h, w;
    dc_buf *buf;
} dc_act;

typedef struct dc_tok { /* npi_tokens on both sides */
    int n, t, width;
    dc_buf *buf;
    bool gradient;
} dc_tok;

/* What kind of number is compared; tolerances are in one table in dc_compare.c. */
typedef enum dc_kind {
    DC_EXACT,     /* the same bits */
    DC_ROWS,      /* float32 rows and losses */
    DC_ROWS_GRAD, /* their gradients */
    DC_ACT,       /* activations */
    DC_ACT_GRAD,
    DC_PARAM_GRAD, /* gradients of convolutions and batch norms */
    DC_STATS,      /* running statistics */
    DC_PIXELS,     /* augmented, normalised pixels */
    DC_DISTANCE,   /* squared distances */
    DC_KINDS
} dc_kind;

typedef struct dc {
    npi_device *side[2];
    uint64_t seed;
    uint32_t draws;  /* numbers drawn so far in this operation */
    double loosen;   /* factor on tolerances, for shapes that amplify rounding */
    char shape[160]; /* of the case that runs now, for messages */
    const char *op;
    int compared, failed;
    bool skipped, verbose;
    bool quiet;      /* failures are counted, not printed */
    uint64_t digest; /* of the bits that side 1 computed in this operation */
    double worst;    /* largest error over tolerance so far in this operation */
    dc_buf *bufs[512];
    int buf_count;
    void *host[2048];
    int host_count;
} dc;

typedef struct dc_op {
    const char *name;
    void (*check)(dc *d);
} dc_op;

/* The operations in order, ended by a NULL name. */
extern const dc_op dc_ops[];

/* Describes the case that follows. */
void dc_case(dc *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Counts and prints a failure. */
void dc_fail(dc *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Frees all arrays. */
void dc_release(dc *d);

/* Records a status that is not OK: NPOS_UNSUPPORTED of side 1 is a skip, all else a failure. */
bool dc_passed(dc *d, const char *call, npos_status status);
#define DC_RUN(call)                                                                               \
    do {                                                                                           \
        if (!dc_passed(d, #call, (call)))                                                          \
            return;                                                                                \
    } while (0)

/* ---- arrays ---- */
void *dc_host(dc *d, size_t bytes); /* host memory that lives as long as the arrays */
dc_buf *dc_input(dc *d, const char *name, const void *host, size_t bytes);
dc_buf *dc_output(dc *d, const char *name, size_t bytes);
void *dc_at(const dc_buf *buf, int side);
/* The array's bytes on the host; NULL after a failure. */
void *dc_read(dc *d, const dc_buf *buf, int side);

dc_act dc_act_input(dc *d, const char *name, int n, int c, int h, int w, const float *nchw);
dc_act dc_act_output(dc *d, const char *name, int n, int c, int h, int w);
npi_act dc_act_at(dc_act act, int side);
float *dc_act_read(dc *d, dc_act act, int side);

dc_tok dc_tok_input(dc *d, const char *name, int n, int t, int width, const float *rows);
dc_tok dc_tok_output(dc *d, const char *name, int n, int t, int width);
/* The same for gradients of tokens. */
dc_tok dc_dtok_input(dc *d, const char *name, int n, int t, int width, const float *rows);
dc_tok dc_dtok_output(dc *d, const char *name, int n, int t, int width);
npi_tokens dc_tok_at(dc_tok tok, int side);
float *dc_tok_read(dc *d, dc_tok tok, int side);

/* ---- random numbers, a function of (seed, operation, how many were drawn) ---- */
uint32_t dc_bits(dc *d);
int dc_below(dc *d, int n);
float *dc_normals(dc *d, size_t count, double scale);
/* As dc_normals, representable in the device's precision, so that both sides see the same. */
float *dc_act_normals(dc *d, size_t count, double scale);
int32_t *dc_labels(dc *d, int n, int classes, bool with_none);

/* ---- comparisons ---- */
void dc_compare(dc *d, const char *name, size_t count, const float *expected, const float *seen,
                dc_kind kind);
void dc_guards(dc *d, const dc_buf *buf);
/* Guards and values of a whole array of floats. */
void dc_floats(dc *d, const dc_buf *buf, dc_kind kind);
void dc_act_check(dc *d, dc_act act, dc_kind kind);
void dc_tok_check(dc *d, dc_tok tok, dc_kind kind);
/* Bits of side 1 into the digest. */
void dc_digest(dc *d, const void *bytes, size_t size);

/* ---- units ---- */
typedef struct dc_unit {
    npi_unit_desc desc;
    int oh, ow;
    npi_unit *unit[2];
    dc_buf *weight, *gamma, *beta, *mean, *var, *dweight, *dgamma, *dbeta;
} dc_unit;
/* Plans a unit on both sides with random parameters; false after a failure.  dc_unit_free must
 * follow in any case. */
bool dc_unit_make(dc *d, dc_unit *u, npi_unit_desc desc);
void dc_unit_free(dc *d, dc_unit *u);
npi_unit_params dc_unit_params(const dc_unit *u, int side);
npi_unit_params dc_unit_grads(const dc_unit *u, int side);
void dc_unit_check_grads(dc *d, const dc_unit *u);
void dc_unit_check_stats(dc *d, const dc_unit *u);

/* ---- families ---- */
void dc_check_acts(dc *d);
void dc_check_unit(dc *d);
void dc_check_unit_frozen(dc *d);
void dc_check_unit_infer(dc *d);
void dc_check_unit_shortcut(dc *d);
void dc_check_unit_errors(dc *d);
void dc_check_pool_max(dc *d);
void dc_check_pool_mean(dc *d);
void dc_check_linear(dc *d);
void dc_check_normalize(dc *d);
void dc_check_contrast(dc *d);
void dc_check_cross_entropy(dc *d);
void dc_check_outlier_bce(dc *d);
void dc_check_ring_push(dc *d);
void dc_check_kth_neighbour(dc *d);
void dc_check_neighbours(dc *d);
void dc_check_synthesise(dc *d);
void dc_check_gauss(dc *d);
void dc_check_augment(dc *d);
void dc_check_normalise(dc *d);
void dc_check_norm(dc *d);
void dc_check_sgd(dc *d);
void dc_check_net(dc *d);
void dc_check_layer_norm(dc *d);
void dc_check_cosine_losses(dc *d);
void dc_check_tokens(dc *d);
void dc_check_patches(dc *d);
void dc_check_blocks(dc *d);
void dc_check_block_errors(dc *d);

/* Finite differences of the reference's gradients. */
void dc_grad(dc *d);
void dc_grad_blocks(dc *d); /* those of transformers, a part of dc_grad */

typedef struct dc_probe {
    dc *d;
    const char *name;
    double (*value)(void *state); /* L(x) */
    void *state;
} dc_probe;
/* The slope of L at x along a random direction, from a step of t both ways, beside the gradient's;
 * tolerance is relative to the gradient's norm.  x is put back. */
void dc_check_direction(const dc_probe *probe, float *x, size_t count, const float *gradient,
                        double t, double tolerance);
/* sum_i r_i y_i */
double dc_weighted(const float *r, const float *y, size_t count);
/* Plants faults and checks that they are found. */
bool dc_self_check(dc *d);
/* Times side 1's entries and prints them. */
void dc_bench(dc *d, const char *only, bool json);

#endif
