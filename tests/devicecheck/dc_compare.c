#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "dc.h"

enum { BAND = 256, GUARD = 0xA5, POISON = 0xFF }; /* four bytes of 0xFF are a NaN */

/* The one table of tolerances: |out - ref| / |ref| over the array, and the largest difference over
 * the largest |ref|.  float32: sums of up to 10^4 terms in another order.  bfloat16: inputs are
 * representable, so what is seen are the roundings of what a device stores between. */
static const struct {
    double norm, largest;
} tolerances[2][DC_KINDS] = {{[DC_EXACT] = {0.0, 0.0},
                              [DC_ROWS] = {3e-6, 1e-5},
                              [DC_ROWS_GRAD] = {5e-6, 2e-5},
                              [DC_ACT] = {1e-5, 5e-5},
                              [DC_ACT_GRAD] = {2e-5, 1e-4},
                              [DC_PARAM_GRAD] = {3e-5, 1e-4},
                              [DC_STATS] = {1e-5, 1e-5},
                              [DC_PIXELS] = {1e-5, 1e-4},
                              [DC_DISTANCE] = {3e-6, 1e-5}},
                             {[DC_EXACT] = {0.0, 0.0},
                              [DC_ROWS] = {3e-6, 1e-5},
                              [DC_ROWS_GRAD] = {5e-6, 2e-5},
                              [DC_ACT] = {1e-2, 3e-2},
                              [DC_ACT_GRAD] = {3e-2, 8e-2},
                              [DC_PARAM_GRAD] = {3e-2, 6e-2},
                              [DC_STATS] = {5e-3, 5e-3},
                              [DC_PIXELS] = {4e-3, 8e-3},
                              [DC_DISTANCE] = {3e-6, 1e-5}}};

void dc_case(dc *d, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(d->shape, sizeof d->shape, format, arguments);
    va_end(arguments);
}

void dc_fail(dc *d, const char *format, ...) {
    va_list arguments;
    d->failed++;
    if (d->quiet)
        return;
    fprintf(stderr, "FAIL %s [%s] ", d->op, d->shape);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

bool dc_passed(dc *d, const char *call, npos_status status) {
    if (status == NPOS_OK)
        return true;
    if (status == NPOS_UNSUPPORTED)
        d->skipped = true;
    else
        dc_fail(d, "%s: %s: %s", call, npos_status_name(status), npos_error_message());
    return false;
}

/* ---- arrays ---- */

void *dc_host(dc *d, size_t bytes) {
    void *memory = NULL;
    if (d->host_count == (int)(sizeof d->host / sizeof *d->host) ||
        npi_alloc(&memory, bytes, 1, "devicecheck") != NPOS_OK) {
        dc_fail(d, "devicecheck has no room for %zu bytes", bytes);
        return NULL;
    }
    return d->host[d->host_count++] = memory;
}

static dc_buf *make(dc *d, const char *name, size_t reference_bytes, size_t device_bytes) {
    dc_buf *buf = dc_host(d, sizeof *buf);
    *buf = (dc_buf){.name = name, .bytes = {reference_bytes, device_bytes}};
    for (int s = 0; s < 2; s++) {
        size_t whole = buf->bytes[s] + 2 * (size_t)BAND;
        npi_device *dev = d->side[s];
        char *fill = dc_host(d, whole);
        memset(fill, GUARD, whole);
        memset(fill + BAND, POISON, buf->bytes[s]);
        if (dev->memory->alloc(dev, whole, name, &buf->block[s]) != NPOS_OK ||
            dev->memory->upload(dev, buf->block[s], fill, whole) != NPOS_OK)
            dc_fail(d, "%s: %s", name, npos_error_message());
    }
    return d->bufs[d->buf_count++] = buf;
}

void dc_release(dc *d) {
    for (int i = 0; i < d->buf_count; i++)
        for (int s = 0; s < 2; s++)
            d->side[s]->memory->free(d->side[s], d->bufs[i]->block[s]);
    for (int i = 0; i < d->host_count; i++)
        npi_free(d->host[i]);
    d->buf_count = d->host_count = 0;
}

void *dc_at(const dc_buf *buf, int side) {
    return buf->block[side] + BAND;
}

dc_buf *dc_output(dc *d, const char *name, size_t bytes) {
    return make(d, name, bytes, bytes);
}

dc_buf *dc_input(dc *d, const char *name, const void *host, size_t bytes) {
    dc_buf *buf = make(d, name, bytes, bytes);
    for (int s = 0; s < 2; s++)
        dc_passed(d, name, d->side[s]->memory->upload(d->side[s], dc_at(buf, s), host, bytes));
    return buf;
}

void *dc_read(dc *d, const dc_buf *buf, int side) {
    void *host = dc_host(d, buf->bytes[side]);
    npi_device *dev = d->side[side];
    if (dev->memory->download(dev, host, dc_at(buf, side), buf->bytes[side]) != NPOS_OK)
        dc_fail(d, "%s: %s", buf->name, npos_error_message());
    return host;
}

npi_act dc_act_at(dc_act act, int side) {
    return (npi_act){act.n, act.c, act.h, act.w, dc_at(act.buf, side)};
}

dc_act dc_act_output(dc *d, const char *name, int n, int c, int h, int w) {
    size_t bytes[2];
    for (int s = 0; s < 2; s++)
        bytes[s] = d->side[s]->acts->bytes(d->side[s], n, c, h, w);
    return (dc_act){n, c, h, w, make(d, name, bytes[0], bytes[1])};
}

dc_act dc_act_input(dc *d, const char *name, int n, int c, int h, int w, const float *nchw) {
    dc_act act = dc_act_output(d, name, n, c, h, w);
    size_t bytes = (size_t)n * (size_t)c * (size_t)h * (size_t)w * sizeof(float);
    dc_buf *plain = dc_input(d, name, nchw, bytes);
    for (int s = 0; s < 2; s++)
        dc_passed(d, name,
                  d->side[s]->acts->import_nchw(d->side[s], dc_at(plain, s), dc_act_at(act, s)));
    return act;
}

float *dc_act_read(dc *d, dc_act act, int side) {
    size_t bytes = (size_t)act.n * (size_t)act.c * (size_t)act.h * (size_t)act.w * sizeof(float);
    dc_buf *plain = dc_output(d, act.buf->name, bytes);
    npi_device *dev = d->side[side];
    dc_passed(d, "export_nchw",
              dev->acts->export_nchw(dev, dc_act_at(act, side), dc_at(plain, side)));
    dc_guards(d, plain);
    return dc_read(d, plain, side);
}

npi_tokens dc_tok_at(dc_tok tok, int side) {
    return (npi_tokens){tok.n, tok.t, tok.width, dc_at(tok.buf, side)};
}

static dc_tok tokens_of(dc *d, const char *name, int n, int t, int width, bool gradient) {
    size_t bytes[2];
    for (int s = 0; s < 2; s++)
        bytes[s] = d->side[s]->tokens->bytes(d->side[s], n, t, width);
    return (dc_tok){n, t, width, make(d, name, bytes[0], bytes[1]), gradient};
}

static dc_tok import_tokens(dc *d, dc_tok tok, const float *rows) {
    dc_buf *plain =
        dc_input(d, tok.buf->name, rows, (size_t)tok.n * (size_t)tok.t * (size_t)tok.width * 4);
    for (int s = 0; s < 2; s++) {
        npi_device *dev = d->side[s];
        dc_passed(d, tok.buf->name,
                  (tok.gradient ? dev->tokens->import_gradient : dev->tokens->import_rows)(
                      dev, dc_at(plain, s), dc_tok_at(tok, s)));
    }
    return tok;
}

dc_tok dc_tok_output(dc *d, const char *name, int n, int t, int width) {
    return tokens_of(d, name, n, t, width, false);
}

dc_tok dc_dtok_output(dc *d, const char *name, int n, int t, int width) {
    return tokens_of(d, name, n, t, width, true);
}

dc_tok dc_tok_input(dc *d, const char *name, int n, int t, int width, const float *rows) {
    return import_tokens(d, tokens_of(d, name, n, t, width, false), rows);
}

dc_tok dc_dtok_input(dc *d, const char *name, int n, int t, int width, const float *rows) {
    return import_tokens(d, tokens_of(d, name, n, t, width, true), rows);
}

float *dc_tok_read(dc *d, dc_tok tok, int side) {
    dc_buf *plain =
        dc_output(d, tok.buf->name, (size_t)tok.n * (size_t)tok.t * (size_t)tok.width * 4);
    npi_device *dev = d->side[side];
    dc_passed(d, "export of tokens",
              (tok.gradient ? dev->tokens->export_gradient : dev->tokens->export_rows)(
                  dev, dc_tok_at(tok, side), dc_at(plain, side)));
    dc_guards(d, plain);
    return dc_read(d, plain, side);
}

/* ---- random numbers ---- */

uint32_t dc_bits(dc *d) {
    uint32_t item = 0;
    for (const char *c = d->op; *c; c++)
        item = item * 31 + (uint8_t)*c;
    return npi_philox(d->seed, NPI_RANDOM_TEST, 0, item, d->draws++).v[0];
}

int dc_below(dc *d, int n) {
    return (int)npi_below(dc_bits(d), (uint32_t)n);
}

float *dc_normals(dc *d, size_t count, double scale) {
    float *out = dc_host(d, (count + 1) * sizeof *out);
    for (size_t i = 0; i < count; i += 2) {
        uint32_t a = dc_bits(d), b = dc_bits(d);
        npi_normal_pair(a, b, &out[i], &out[i + 1]);
    }
    for (size_t i = 0; i < count; i++)
        out[i] = (float)((double)out[i] * scale);
    return out;
}

float *dc_act_normals(dc *d, size_t count, double scale) {
    float *out = dc_normals(d, count, scale);
    for (size_t i = 0; i < count && d->side[1]->compute == NPI_BF16; i++)
        out[i] = npi_bf16_to_f32(npi_f32_to_bf16(out[i]));
    return out;
}

int32_t *dc_labels(dc *d, int n, int classes, bool with_none) {
    int32_t *labels = dc_host(d, (size_t)n * sizeof *labels);
    for (int i = 0; i < n; i++)
        labels[i] = with_none && dc_below(d, 5) == 0 ? -1 : dc_below(d, classes);
    return labels;
}

/* ---- comparisons ---- */

void dc_digest(dc *d, const void *bytes, size_t size) {
    const uint8_t *b = bytes; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        d->digest = (d->digest ^ b[i]) * 0x100000001b3u;
}

/* Where the reference is not finite the device must be the same, NaN for NaN. */
static bool same_special(float expected, float seen) {
    return isnan(expected) ? isnan(seen) : expected == seen;
}

void dc_compare(dc *d, const char *name, size_t count, const float *expected, const float *seen,
                dc_kind kind) {
    double square = 0.0, error = 0.0, largest = 0.0, worst = 0.0;
    size_t at = 0;
    d->compared++;
    dc_digest(d, seen, count * sizeof *seen);
    for (size_t i = 0; i < count; i++) {
        if (kind == DC_EXACT || !isfinite(expected[i])) {
            if (!same_special(expected[i], seen[i])) {
                dc_fail(d, "%s[%zu]: %.9g, the reference has %.9g", name, i, (double)seen[i],
                        (double)expected[i]);
                return;
            }
            continue;
        }
        double e = fabs((double)seen[i] - (double)expected[i]);
        square += (double)expected[i] * (double)expected[i];
        error += e * e;
        largest = fmax(largest, fabs((double)expected[i]));
        if (!(e <= worst)) { /* a NaN stays the worst */
            worst = isnan(worst) ? worst : e;
            at = i;
        }
    }
    if (kind == DC_EXACT)
        return;
    /* an array of zeros is held to the absolute tolerance at scale 1e-3 */
    double norm = sqrt(error) / fmax(sqrt(square), 1e-3), scaled = worst / fmax(largest, 1e-3);
    bool half = d->side[1]->compute == NPI_BF16;
    double norm_limit = tolerances[half][kind].norm * d->loosen,
           largest_limit = tolerances[half][kind].largest * d->loosen;
    d->worst = fmax(d->worst, fmax(norm / norm_limit, scaled / largest_limit));
    if (!(norm <= norm_limit) || !(scaled <= largest_limit))
        dc_fail(d,
                "%s: relative error %.3g (limit %.3g), largest %.3g (limit %.3g) at %zu: %.9g, the "
                "reference has %.9g",
                name, norm, norm_limit, scaled, largest_limit, at, (double)seen[at],
                (double)expected[at]);
}

void dc_guards(dc *d, const dc_buf *buf) {
    for (int s = 0; s < 2; s++) {
        size_t whole = buf->bytes[s] + 2 * (size_t)BAND;
        uint8_t *host = dc_host(d, whole);
        if (!dc_passed(d, buf->name,
                       d->side[s]->memory->download(d->side[s], host, buf->block[s], whole)))
            return;
        for (size_t i = 0; i < BAND; i++)
            if (host[i] != GUARD || host[whole - 1 - i] != GUARD) {
                dc_fail(d, "%s: %s wrote outside its bounds", buf->name, d->side[s]->name);
                return;
            }
    }
}

void dc_floats(dc *d, const dc_buf *buf, dc_kind kind) {
    dc_guards(d, buf);
    dc_compare(d, buf->name, buf->bytes[1] / sizeof(float), dc_read(d, buf, 0), dc_read(d, buf, 1),
               kind);
}

void dc_act_check(dc *d, dc_act act, dc_kind kind) {
    dc_guards(d, act.buf);
    dc_compare(d, act.buf->name, (size_t)act.n * (size_t)act.c * (size_t)act.h * (size_t)act.w,
               dc_act_read(d, act, 0), dc_act_read(d, act, 1), kind);
}

void dc_tok_check(dc *d, dc_tok tok, dc_kind kind) {
    dc_guards(d, tok.buf);
    dc_compare(d, tok.buf->name, (size_t)tok.n * (size_t)tok.t * (size_t)tok.width,
               dc_tok_read(d, tok, 0), dc_tok_read(d, tok, 1), kind);
}
