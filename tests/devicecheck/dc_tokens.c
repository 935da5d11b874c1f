#include <math.h>
#include <string.h>

#include "dc.h"

/* Skips the operation where side 1 lacks what it checks. */
static bool lacks(dc *d, const char *what, bool has) {
    return !has && !dc_passed(d, what, NPOS_UNSUPPORTED);
}

void dc_check_layer_norm(dc *d) {
    static const struct {
        int n, width;
        double scale, mean;
        bool accumulate, dx;
    } shapes[] = {{1, 1, 1.0, 0.0, false, true},    {31, 3, 1.0, 0.5, true, true},
                  {33, 768, 1.0, 0.0, false, true}, {7, 129, 1e-2, 0.0, true, true},
                  {64, 512, 30.0, 5.0, true, true}, {200, 48, 1.0, -1.0, false, false}};
    if (lacks(d, "layer_norm", d->side[1]->rows->layer_norm_forward))
        return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t n = (size_t)shapes[i].n, width = (size_t)shapes[i].width, bytes = n * width * 4;
        dc_case(d, "%zu x %zu, scale %g, mean %g%s%s", n, width, shapes[i].scale, shapes[i].mean,
                shapes[i].accumulate ? ", accumulate" : "", shapes[i].dx ? "" : ", no dx");
        float *values = dc_normals(d, n * width, shapes[i].scale);
        for (size_t k = 0; k < n * width; k++)
            values[k] += (float)shapes[i].mean;
        if (n > 2)
            memset(values + width, 0, width * sizeof *values); /* variance 0 */
        dc_buf *x = dc_input(d, "x", values, bytes), *y = dc_output(d, "y", bytes);
        dc_buf *gamma = dc_input(d, "gamma", dc_normals(d, width, 1.0), width * 4);
        dc_buf *beta = dc_input(d, "beta", dc_normals(d, width, 1.0), width * 4);
        dc_buf *stats = dc_output(d, "stats", n * 2 * 4);
        dc_buf *dy = dc_input(d, "dy", dc_normals(d, n * width, 1.0), bytes);
        dc_buf *dgamma = dc_output(d, "dgamma", width * 4),
               *dbeta = dc_output(d, "dbeta", width * 4);
        dc_buf *dx = shapes[i].accumulate ? dc_input(d, "dx", dc_normals(d, n * width, 1.0), bytes)
                                          : dc_output(d, "dx", bytes);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            DC_RUN(dev->rows->layer_norm_forward(dev, (int)n, (int)width, dc_at(x, s),
                                                 dc_at(gamma, s), dc_at(beta, s), dc_at(y, s),
                                                 NULL));
            DC_RUN(dev->rows->layer_norm_forward(dev, (int)n, (int)width, dc_at(x, s),
                                                 dc_at(gamma, s), dc_at(beta, s), dc_at(y, s),
                                                 dc_at(stats, s)));
        }
        void *given = dc_read(d, stats, 0); /* both go on from the reference's */
        dc_floats(d, stats, DC_ROWS);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            DC_RUN(dev->memory->upload(dev, dc_at(stats, s), given, n * 2 * 4));
            DC_RUN(dev->rows->layer_norm_backward(
                dev, (int)n, (int)width, dc_at(x, s), dc_at(stats, s), dc_at(gamma, s),
                dc_at(dy, s), dc_at(dgamma, s), dc_at(dbeta, s), shapes[i].dx ? dc_at(dx, s) : NULL,
                shapes[i].accumulate));
        }
        if (width > 1) { /* of one number, x - mean is 0 but for rounding */
            dc_floats(d, y, DC_ROWS);
            dc_floats(d, dgamma, DC_ROWS_GRAD);
        }
        dc_floats(d, dbeta, DC_ROWS_GRAD);
        if (shapes[i].dx && width > 1) {
            double loosen = d->loosen;
            d->loosen = n > 2 ? 20.0 : loosen; /* s is 316 in the row of zeros */
            dc_floats(d, dx, DC_ROWS_GRAD);
            d->loosen = loosen;
        }
        dc_release(d);
    }
}

void dc_check_cosine_losses(dc *d) {
    static const struct {
        int n, classes;
        float temperature;
        bool norm;
    } shapes[] = {{1, 2, 0.1f, false},   {31, 10, 0.01f, false}, {33, 100, 1.0f, false},
                  {1, 2, 8.0f, true},    {31, 10, 0.04f, true},  {64, 1000, 8.0f, true},
                  {33, 100, 1.0f, true}, {5, 1, 1.0f, true}};
    const npi_loss_ops *has = d->side[1]->losses;
    if (lacks(d, "cosine losses", has->cosine_ce && has->logit_norm_ce))
        return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        size_t n = (size_t)shapes[i].n, classes = (size_t)shapes[i].classes, bytes;
        bytes = n * classes * 4;
        dc_case(d, "%s, %zu x %zu, temperature %g", shapes[i].norm ? "LogitNorm" : "plain", n,
                classes, (double)shapes[i].temperature);
        float *values = dc_normals(d, n * classes, 0.2);
        if (n > 2)
            memset(values + classes, 0, classes * sizeof *values); /* a row without direction */
        dc_buf *x = dc_input(d, "cosines", values, bytes), *dx = dc_output(d, "dcosines", bytes);
        dc_buf *labels = dc_input(d, "labels", dc_labels(d, (int)n, (int)classes, false), n * 4);
        float zero[NPI_LOSS_COUNT] = {0};
        dc_buf *losses = dc_input(d, "losses", zero, sizeof zero);
        for (int s = 0; s < 2; s++) {
            npi_device *dev = d->side[s];
            DC_RUN((shapes[i].norm ? dev->losses->logit_norm_ce : dev->losses->cosine_ce)(
                dev, (int)n, (int)classes, shapes[i].temperature, dc_at(x, s), dc_at(labels, s),
                0.7f, dc_at(losses, s), dc_at(dx, s)));
        }
        d->loosen = 5.0; /* exp(x / temperature) of float32 cosines */
        dc_floats(d, losses, DC_ROWS);
        dc_floats(d, dx, DC_ROWS_GRAD);
        dc_release(d);
    }
}

/* Rows as float16 there and back, each side by itself; given: n of n + 3 sequences, in an order of their own. */
static void run_halves(dc *d, int n, int t, int width, bool given) {
    const int all = given ? n + 3 : n;
    size_t count = (size_t)n * (size_t)t * (size_t)width,
           total = (size_t)all * (size_t)t * (size_t)width;
    float *values = dc_act_normals(d, total, 3.0), *seen[2];
    uint16_t *halves = dc_host(d, total * 2);
    int32_t *order = dc_labels(d, n, all, false);
    values[0] = 0x1p-24f; /* the smallest */
    values[total - 1] = -65504.0f;
    order[n - 1] = all - 1;
    for (size_t i = 0; i < total; i++)
        halves[i] = npi_f32_to_f16(values[i]);
    dc_buf *in = dc_input(d, "halves", halves, total * 2),
           *index = dc_input(d, "index", order, (size_t)n * 4),
           *out = dc_output(d, "halves again", count * 2);
    dc_tok tok = dc_tok_output(d, "tokens of halves", n, t, width);
    for (int s = 0; s < 2; s++) {
        npi_device *dev = d->side[s];
        const int32_t *where = given ? dc_at(index, s) : NULL;
        DC_RUN(dev->tokens->import_halves(dev, dc_at(in, s), where, dc_tok_at(tok, s)));
        DC_RUN(dev->tokens->export_halves(dev, dc_tok_at(tok, s), dc_at(out, s)));
        uint16_t *back = dc_read(d, out, s);
        seen[s] = dc_host(d, count * 4);
        for (size_t i = 0; i < count; i++)
            seen[s][i] = npi_f16_to_f32(back[i]);
    }
    dc_tok_check(d, tok, DC_ACT);
    dc_guards(d, out);
    dc_compare(d, "halves again", count, seen[0], seen[1], DC_ACT);
}

static void run_picks(dc *d, int n, int t, int width, bool given) {
    size_t count = (size_t)n * (size_t)t * (size_t)width, rows = (size_t)n * (size_t)width;
    int32_t *at = dc_labels(d, n, t, false);
    dc_tok x = dc_tok_input(d, "x", n, t, width, dc_act_normals(d, count, 1.0));
    dc_tok dx = dc_dtok_output(d, "dx", n, t, width);
    dc_buf *place = dc_input(d, "at", at, (size_t)n * 4);
    dc_buf *picked = dc_output(d, "picked", rows * 4);
    dc_buf *drows = dc_input(d, "drows", dc_act_normals(d, rows, 1.0), rows * 4);
    for (int s = 0; s < 2; s++) {
        npi_device *dev = d->side[s];
        const int32_t *where = given ? dc_at(place, s) : NULL;
        DC_RUN(dev->tokens->pick(dev, dc_tok_at(x, s), where, dc_at(picked, s)));
        DC_RUN(dev->tokens->pick_backward(dev, dc_at(drows, s), where, dc_tok_at(dx, s)));
    }
    dc_floats(d, picked, DC_ACT);
    dc_tok_check(d, dx, DC_ACT_GRAD);
}

static void run_text(dc *d, int n, int t, int width) {
    enum { VOCABULARY = 40 };
    size_t table_count = (size_t)VOCABULARY * (size_t)width, rows = (size_t)(t + 2) * (size_t)width,
           count = (size_t)n * (size_t)t;
    int32_t *words = dc_labels(d, n * t, VOCABULARY, false);
    words[0] = VOCABULARY - 1;
    dc_buf *ids = dc_input(d, "ids", words, count * 4);
    dc_buf *table = dc_input(d, "table", dc_act_normals(d, table_count, 1.0), table_count * 4);
    dc_buf *positions = dc_input(d, "positions", dc_act_normals(d, rows, 1.0), rows * 4);
    dc_tok to = dc_tok_output(d, "text", n, t, width);
    for (int s = 0; s < 2; s++) {
        npi_device *dev = d->side[s];
        DC_RUN(dev->tokens->embed_text(dev, dc_at(ids, s), VOCABULARY, dc_at(table, s),
                                       dc_at(positions, s), dc_tok_at(to, s)));
    }
    dc_tok_check(d, to, DC_ACT);
}

void dc_check_tokens(dc *d) {
    static const int shapes[][3] = {{1, 1, 1}, {3, 5, 16}, {31, 7, 33}, {2, 197, 64}, {65, 3, 48}};
    if (lacks(d, "tokens", d->side[1]->tokens))
        return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int n = shapes[i][0], t = shapes[i][1], width = shapes[i][2];
        dc_case(d, "%d x %d x %d", n, t, width);
        run_halves(d, n, t, width, false);
        run_halves(d, n, t, width, true);
        run_picks(d, n, t, width, false);
        run_picks(d, n, t, width, true);
        run_text(d, n, t, width);
        dc_release(d);
    }
}

/* ---- embedding of images ---- */

static void run_patches(dc *d, const npi_patches_desc *desc, int n) {
    int t = 1 + desc->h / desc->patch * (desc->w / desc->patch);
    size_t width = (size_t)desc->width,
           length = (size_t)desc->c * (size_t)desc->patch * (size_t)desc->patch,
           pixels = (size_t)n * (size_t)desc->c * (size_t)desc->h * (size_t)desc->w;
    const struct {
        const char *name;
        size_t count;
        double scale;
    } parts[] = {{"weight", width * length, 1.0 / sqrt((double)length)},
                 {"class_token", width, 1.0},
                 {"positions", (size_t)t * width, 1.0},
                 {"gamma", width, 1.0},
                 {"beta", width, 1.0}};
    dc_buf *bufs[5];
    for (int i = 0; i < 5; i++)
        bufs[i] = dc_input(d, parts[i].name, dc_act_normals(d, parts[i].count, parts[i].scale),
                           parts[i].count * 4);
    dc_act image =
        dc_act_input(d, "image", n, desc->c, desc->h, desc->w, dc_act_normals(d, pixels, 1.0));
    dc_tok to = dc_tok_output(d, "tokens", n, t, desc->width);
    for (int s = 0; s < 2; s++) {
        npi_device *dev = d->side[s];
        npi_patches *patches = NULL;
        npi_patches_params params = {dc_at(bufs[0], s), dc_at(bufs[1], s), dc_at(bufs[2], s),
                                     dc_at(bufs[3], s), dc_at(bufs[4], s)};
        bool done =
            dc_passed(d, "patches_create", dev->tokens->patches_create(dev, desc, &patches)) &&
            dc_passed(d, "patches_pack", dev->tokens->patches_pack(patches, &params)) &&
            dc_passed(
                d, "embed_image",
                dev->tokens->embed_image(patches, dc_act_at(image, s), &params, dc_tok_at(to, s)));
        dev->tokens->patches_free(dev, patches);
        if (!done)
            return;
    }
    dc_tok_check(d, to, DC_ACT);
}

void dc_check_patches(dc *d) {
    static const npi_patches_desc shapes[] = {{"one pixel", 1, 1, 1, 1, 1, 2},
                                              {"oblong", 3, 3, 4, 6, 2, 24},
                                              {"more than there are", 40, 3, 8, 8, 4, 33},
                                              {"large", 2, 3, 64, 64, 16, 96},
                                              {"five", 3, 2, 15, 10, 5, 48},
                                              {"wide", 2, 3, 16, 32, 16, 768}};
    if (lacks(d, "patches", d->side[1]->tokens))
        return;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !d->skipped; i++) {
        const npi_patches_desc *p = &shapes[i];
        int n = p->n > 3 ? p->n - 3 : p->n;
        dc_case(d, "%s: %d of %d x %d x %d x %d, patches of %d, width %d", p->name, n, p->n, p->c,
                p->h, p->w, p->patch, p->width);
        run_patches(d, p, n);
        dc_release(d);
    }
}
