#include "jobs/external.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/images_open.h"
#include "io/npy.h"
#include "ood/neighbours.h"

static const char *wanted(int64_t n, char text[24]) {
    snprintf(text, 24, "%lld", (long long)n);
    return n > 0 ? text : "any number";
}

npos_status npi_matrix_read(const char *path, int64_t *rows, int64_t *columns, float **out) {
    int64_t shape[4];
    char text[2][24];
    NPI_TRY(npi_npy_read_f32(path, 2, shape, out));
    npos_status status = NPOS_OK;
    if ((*rows > 0 && shape[0] != *rows) || (*columns > 0 && shape[1] != *columns))
        status = npi_fail(NPOS_SHAPE_MISMATCH, "%s: %lld rows of %lld numbers, expected %s of %s",
                          path, (long long)shape[0], (long long)shape[1], wanted(*rows, text[0]),
                          wanted(*columns, text[1]));
    else if (shape[0] < 1 || shape[1] < 1 || shape[1] > INT32_MAX)
        status = npi_fail(NPOS_BAD_DATA, "%s: %lld rows of %lld numbers, expected at least one",
                          path, (long long)shape[0], (long long)shape[1]);
    for (int64_t i = 0; status == NPOS_OK && i < shape[0] * shape[1]; i++)
        if (!isfinite((*out)[i]))
            status = npi_fail(NPOS_NOT_FINITE, "%s: row %lld holds %g", path,
                              (long long)(i / shape[1]), (double)(*out)[i]);
    *rows = shape[0];
    *columns = shape[1];
    if (status != NPOS_OK) {
        npi_free(*out);
        *out = NULL;
    }
    return status;
}

static npos_status whole_number(const char *path, const npi_npy *array, int64_t i, int64_t *to) {
    switch (array->dtype) {
    case NPI_U8:
        *to = ((const uint8_t *)array->data)[i];
        return NPOS_OK;
    case NPI_I32:
        *to = ((const int32_t *)array->data)[i];
        return NPOS_OK;
    case NPI_I64:
        *to = ((const int64_t *)array->data)[i];
        return NPOS_OK;
    default:
        return npi_fail(NPOS_BAD_DATA, "%s: labels are no whole numbers, expected u1, i4 or i8",
                        path);
    }
}

npos_status npi_label_file_read(const char *path, int64_t rows, int classes, int32_t **out) {
    npi_npy array;
    *out = NULL;
    NPI_TRY(npi_npy_read(path, &array));
    npos_status status;
    if (array.ndim != 1 || array.shape[0] != rows) {
        status = npi_fail(NPOS_SHAPE_MISMATCH, "%s: %lld labels in %d dimensions, expected %lld",
                          path, (long long)array.count, array.ndim, (long long)rows);
        goto done;
    }
    NPI_TRY_GOTO(npi_alloc(out, (size_t)rows, sizeof **out, "labels"), done);
    for (int64_t i = 0; i < rows; i++) {
        int64_t label = -1;
        NPI_TRY_GOTO(whole_number(path, &array, i, &label), done);
        if (label < 0 || label >= (classes > 0 ? classes : INT32_MAX)) {
            status =
                npi_fail(NPOS_BAD_DATA, "%s: label %lld is %lld, expected 0 to %d", path,
                         (long long)i, (long long)label, (classes > 0 ? classes : INT32_MAX) - 1);
            goto done;
        }
        (*out)[i] = (int32_t)label;
    }
done:
    npi_npy_clear(&array);
    if (status != NPOS_OK) {
        npi_free(*out);
        *out = NULL;
    }
    return status;
}

void npi_external_logits(const float *weight, const float *bias, int classes, int dim, int64_t n,
                         const float *h, float *logits) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < classes; c++) {
            double sum = bias ? (double)bias[c] : 0;
            for (int d = 0; d < dim; d++)
                sum += (double)weight[(int64_t)c * dim + d] * (double)h[i * dim + d];
            logits[i * classes + c] = (float)sum;
        }
}

/* ---- SPECs ---- */

typedef struct parts {
    char *text; /* the SPEC, cut into: */
    const char *embeddings, *logits, *labels;
} parts;

static npos_status parse(const char *spec, parts *out) {
    static const char word[] = "embeddings:";
    *out = (parts){0};
    NPI_TRY(npi_strdup(&out->text, spec));
    out->embeddings = out->text;
    if (strncmp(out->text, word, sizeof word - 1) == 0)
        out->embeddings += sizeof word - 1;
    for (char *at = strchr(out->text, '#'), *next; at; at = next) {
        *at++ = '\0';
        next = strchr(at, '#');
        if (strncmp(at, "logits=", 7) == 0)
            out->logits = at + 7;
        else if (strncmp(at, "labels=", 7) == 0)
            out->labels = at + 7;
        else
            return npi_fail(NPOS_INVALID_ARGUMENT,
                            "%s: '#%.60s' is not known, expected #logits=FILE or #labels=FILE",
                            spec, at);
    }
    size_t length = strlen(out->embeddings);
    if (length < 5 || strcmp(out->embeddings + length - 4, ".npy") != 0)
        return npi_hint(
            npi_fail(NPOS_INVALID_ARGUMENT, "%s: the run has no network and takes no images", spec),
            "name embeddings as embeddings:H.npy[#logits=L.npy][#labels=Y.npy]");
    return NPOS_OK;
}

/* Keeps the chosen rows of an array of rows of `size` bytes. */
static void choose(const int64_t *chosen, int64_t count, void *rows, size_t size) {
    char *bytes = rows;
    for (int64_t i = 0; bytes && i < count; i++)
        memmove(bytes + (size_t)i * size, bytes + (size_t)chosen[i] * size, size);
}

static npos_status list_rows(const npi_run *run, const char *spec, const parts *p,
                             npi_images *images) {
    size_t classes = (size_t)run->classes, count = (size_t)images->count;
    const char *name = npi_path_name(p->embeddings);
    NPI_TRY(npi_strdup(&images->spec, spec));
    NPI_TRY(npi_alloc(&images->class_names, classes, sizeof *images->class_names, "classes"));
    for (; images->classes < run->classes; images->classes++)
        NPI_TRY(
            npi_strdup(&images->class_names[images->classes], run->class_names[images->classes]));
    NPI_TRY(npi_alloc(&images->names, count, sizeof *images->names, "names"));
    for (int64_t i = 0; i < images->count; i++)
        NPI_TRY(npi_format(&images->names[i], "%s[%lld]", name,
                           (long long)(images->chosen ? images->chosen[i] : i)));
    return NPOS_OK;
}

static npos_status read_rows(const npi_run *run, const char *spec, const parts *p,
                             npi_images *images, npi_features *out) {
    int64_t columns = run->dim, classes = run->classes;
    out->n = 0;
    NPI_TRY(npi_matrix_read(p->embeddings, &out->n, &columns, &out->h));
    out->dim = out->proj = run->dim;
    if (run->has_classifier && p->logits)
        NPI_TRY(npi_matrix_read(p->logits, &out->n, &classes, &out->logits));
    else if (run->has_classifier && !run->weight)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "%s: has no logits, and %s has no weights to compute them with",
                                 spec, run->path),
                        "add #logits=L.npy");
    if (p->labels)
        return npi_label_file_read(p->labels, out->n, run->classes, &images->labels);
    NPI_TRY(npi_alloc(&images->labels, (size_t)out->n, sizeof *images->labels, "labels"));
    for (int64_t i = 0; i < out->n; i++)
        images->labels[i] = -1;
    return NPOS_OK;
}

static npos_status fill(const npi_run *run, const char *spec, const parts *p, int64_t limit,
                        uint64_t seed, npi_images *images, npi_features *out) {
    NPI_TRY(read_rows(run, spec, p, images, out));
    images->available = images->count = out->n;
    if (limit > 0 && limit < out->n) {
        NPI_TRY(npi_draw_subset(out->n, limit, seed, &images->chosen));
        images->count = out->n = limit;
        choose(images->chosen, limit, out->h, (size_t)run->dim * sizeof *out->h);
        choose(images->chosen, limit, out->logits, (size_t)run->classes * sizeof *out->logits);
        choose(images->chosen, limit, images->labels, sizeof *images->labels);
    }
    size_t rows = (size_t)out->n;
    NPI_TRY(npi_alloc(&out->z, rows * (size_t)out->proj, sizeof *out->z, "projections"));
    npi_normalise_rows(out->n, out->dim, out->h, out->z);
    out->classes = run->has_classifier ? run->classes : 0;
    if (run->has_classifier && !out->logits) {
        NPI_TRY(
            npi_alloc(&out->logits, rows * (size_t)run->classes, sizeof *out->logits, "logits"));
        npi_external_logits(run->weight, run->bias, run->classes, run->dim, out->n, out->h,
                            out->logits);
    }
    return list_rows(run, spec, p, images);
}

npos_status npi_external_features(const npi_run *run, const char *spec, int64_t limit,
                                  uint64_t seed, npi_images *images, npi_features *out) {
    parts p;
    *images = (npi_images){0};
    *out = (npi_features){0};
    npos_status status = parse(spec, &p);
    if (status == NPOS_OK)
        status = fill(run, spec, &p, limit, seed, images, out);
    npi_free(p.text);
    return status;
}
