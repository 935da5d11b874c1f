/* ViM (Wang, Li, Feng, Zhang, "ViM: out-of-distribution with virtual-logit matching", CVPR 2022,
 * equations 3 to 6): log sum_c exp(l_c) - alpha |R^T (h - o)|, o = -W^+ b, R the directions beside the N
 * largest eigenvectors of the second moments of the training embeddings about o, alpha the mean largest
 * logit of the training embeddings over their mean |R^T (h - o)|.  N = 1000 where D >= 2048, 512 where
 * D >= 768, else D/2, as the authors set it. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "ood/detector.h"
#include "ood/head_logits.h"
#include "ood/moments.h"
#include "ood/symmetric.h"

typedef struct vim {
    int rows;         /* D - N */
    double alpha;     /* of the norm */
    double *origin;   /* [D] */
    double *residual; /* [rows][D], unit rows */
} vim;

static void release(void *state) {
    vim *v = state;
    if (v) {
        npi_free(v->origin);
        npi_free(v->residual);
    }
    npi_free(v);
}

/* o = -W^+ b with W^+ = W^T (W W^T)^+, the pseudo-inverse by the eigenvectors of W W^T. */
static npos_status find_origin(const npi_detector_model *model, double *origin) {
    int classes = model->classes, dim = model->dim;
    size_t square = (size_t)classes * (size_t)classes;
    double *gram = NULL, *vector = NULL, *value = NULL;
    npos_status status = NPOS_OK;
    memset(origin, 0, (size_t)dim * sizeof *origin);
    if (!model->bias)
        return NPOS_OK;
    NPI_TRY_GOTO(npi_alloc(&gram, square, sizeof *gram, "weights"), done);
    NPI_TRY_GOTO(npi_alloc(&vector, square, sizeof *vector, "weights"), done);
    NPI_TRY_GOTO(npi_alloc(&value, (size_t)classes, sizeof *value, "weights"), done);
    for (int a = 0; a < classes; a++)
        for (int b = 0; b < classes; b++) {
            double sum = 0;
            for (int d = 0; d < dim; d++)
                sum += (double)model->weight[(int64_t)a * dim + d] *
                       (double)model->weight[(int64_t)b * dim + d];
            gram[(int64_t)a * classes + b] = sum;
        }
    NPI_TRY_GOTO(npi_symmetric_eigen(classes, gram, value, vector), done);
    for (int k = 0; k < classes && value[k] > classes * DBL_EPSILON * value[0]; k++) {
        const double *u = vector + (int64_t)k * classes;
        double along = 0;
        for (int c = 0; c < classes; c++)
            along += u[c] * (double)model->bias[c];
        for (int c = 0; c < classes; c++)
            for (int d = 0; d < dim; d++)
                origin[d] -= along / value[k] * u[c] * (double)model->weight[(int64_t)c * dim + d];
    }
done:
    npi_free(gram);
    npi_free(vector);
    npi_free(value);
    return status;
}

static double residual_norm(const vim *v, int dim, const float *h) {
    double squares = 0;
    for (int k = 0; k < v->rows; k++) {
        const double *row = v->residual + (int64_t)k * dim;
        double sum = 0;
        for (int d = 0; d < dim; d++)
            sum += row[d] * ((double)h[d] - v->origin[d]);
        squares += sum * sum;
    }
    return sqrt(squares);
}

/* norm[n] of the residuals */
static void residual_norms(const vim *v, int dim, int64_t n, const float *h, double *norm) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        norm[i] = residual_norm(v, dim, h + i * dim);
}

static npos_status find_alpha(const npi_detector_model *model, vim *v) {
    int64_t n = npi_neighbour_bank_count(model->bank);
    int classes = model->classes;
    double *logits = NULL, *norm = NULL, largest = 0, norms = 0;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&logits, NPI_HEAD_BLOCK * (size_t)classes, sizeof *logits, "logits"),
                 done);
    NPI_TRY_GOTO(npi_alloc(&norm, NPI_HEAD_BLOCK, sizeof *norm, "residuals"), done);
    for (int64_t first = 0; first < n; first += NPI_HEAD_BLOCK) {
        int64_t rows = n - first < NPI_HEAD_BLOCK ? n - first : NPI_HEAD_BLOCK;
        const float *h = model->bank_h + first * model->dim;
        npi_head_logits(model, rows, h, logits);
        residual_norms(v, model->dim, rows, h, norm);
        for (int64_t i = 0; i < rows; i++) {
            largest += logits[i * classes + npi_largest(logits + i * classes, classes)];
            norms += norm[i];
        }
    }
    if (!(norms > 0))
        status = npi_fail(NPOS_BAD_DATA,
                          "%s: the training embeddings have no residual: they lie in "
                          "the %d directions kept",
                          model->name, model->dim - v->rows);
    else
        v->alpha = largest / norms;
done:
    npi_free(logits);
    npi_free(norm);
    return status;
}

static npos_status fit_parts(const npi_detector_model *model, vim *v) {
    int dim = model->dim, kept = dim >= 2048 ? 1000 : dim >= 768 ? 512 : dim / 2;
    int64_t n = npi_neighbour_bank_count(model->bank);
    size_t square = (size_t)dim * (size_t)dim;
    double *moments = NULL, *vector = NULL, *value = NULL;
    npos_status status;
    v->rows = dim - kept;
    NPI_TRY_GOTO(npi_alloc(&v->origin, (size_t)dim, sizeof *v->origin, "origin"), done);
    NPI_TRY_GOTO(npi_alloc(&v->residual, (size_t)v->rows * (size_t)dim, sizeof *v->residual,
                           "residual directions"),
                 done);
    NPI_TRY_GOTO(npi_alloc(&moments, square, sizeof *moments, "second moments"), done);
    NPI_TRY_GOTO(npi_alloc(&vector, square, sizeof *vector, "directions"), done);
    NPI_TRY_GOTO(npi_alloc(&value, (size_t)dim, sizeof *value, "directions"), done);
    NPI_TRY_GOTO(find_origin(model, v->origin), done);
    NPI_TRY_GOTO(npi_scatter(n, dim, model->bank_h, NULL, v->origin, moments), done);
    NPI_TRY_GOTO(npi_symmetric_eigen(dim, moments, value, vector), done);
    memcpy(v->residual, vector + (int64_t)kept * dim,
           (size_t)v->rows * (size_t)dim * sizeof *vector);
    status = find_alpha(model, v);
done:
    npi_free(moments);
    npi_free(vector);
    npi_free(value);
    return status;
}

static npos_status fit(const npi_detector_model *model, void **state) {
    vim *v;
    NPI_TRY(npi_alloc(&v, 1, sizeof *v, "ViM"));
    npos_status status = fit_parts(model, v);
    if (status == NPOS_OK)
        *state = v;
    else
        release(v);
    return status;
}

static int arrays(const npi_detector_model *model, const void *state, npi_detector_array *array) {
    const vim *v = state;
    array[0] = (npi_detector_array){"alpha", 1, 1, &v->alpha};
    array[1] = (npi_detector_array){"origin", 1, model->dim, v->origin};
    array[2] = (npi_detector_array){"residual", v->rows, model->dim, v->residual};
    return 3;
}

static npos_status restore_parts(const npi_detector_model *model, const npi_saved_detector *saved,
                                 vim *v) {
    int64_t one = 1, rows = 0, dim = model->dim;
    double *alpha;
    NPI_TRY(npi_saved_array(saved, "alpha", &one, &one, &alpha));
    v->alpha = *alpha;
    npi_free(alpha);
    NPI_TRY(npi_saved_array(saved, "origin", &one, &dim, &v->origin));
    NPI_TRY(npi_saved_array(saved, "residual", &rows, &dim, &v->residual));
    if (rows > dim)
        return npi_fail(NPOS_SHAPE_MISMATCH, "saved 'residual' has %lld rows of %lld numbers",
                        (long long)rows, (long long)dim);
    v->rows = (int)rows;
    return NPOS_OK;
}

static npos_status restore(const npi_detector_model *model, const npi_saved_detector *saved,
                           void **state) {
    vim *v;
    NPI_TRY(npi_alloc(&v, 1, sizeof *v, "ViM"));
    npos_status status = restore_parts(model, saved, v);
    if (status == NPOS_OK)
        *state = v;
    else
        release(v);
    return status;
}

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    const vim *v = state;
    int classes = model->classes;
    double *logits;
    NPI_TRY(npi_alloc(&logits, NPI_HEAD_BLOCK * (size_t)classes, sizeof *logits, "logits"));
    residual_norms(v, model->dim, outputs->n, outputs->h, out);
    for (int64_t first = 0; first < outputs->n; first += NPI_HEAD_BLOCK) {
        int64_t rows = outputs->n - first < NPI_HEAD_BLOCK ? outputs->n - first : NPI_HEAD_BLOCK;
        npi_head_logits(model, rows, outputs->h + first * model->dim, logits);
        for (int64_t i = 0; i < rows; i++)
            out[first + i] =
                npi_log_sum_exp(logits + i * classes, classes) - v->alpha * out[first + i];
    }
    npi_free(logits);
    return NPOS_OK;
}

const npi_detector_kind npi_detector_vim = {.name = "vim",
                                            .needs = NPI_NEEDS_BANK | NPI_NEEDS_WEIGHTS,
                                            .fit = fit,
                                            .free = release,
                                            .arrays = arrays,
                                            .restore = restore,
                                            .score = score};
