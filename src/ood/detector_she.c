/* SHE (Zhang et al., "Out-of-distribution detection based on in-distribution data patterns memorization
 * with modern Hopfield energy", ICLR 2023, equation 8): h . s_c, c the predicted class and s_c the mean
 * of the training embeddings of class c that the classifier gets right (of all of the class where it
 * gets none). */
#include <math.h>

#include "base/memory.h"
#include "ood/detector.h"
#include "ood/head_logits.h"
#include "ood/moments.h"

/* Labels of the rows that are right, `classes` for the others: a class of their own. */
static void mark_right(const npi_detector_model *model, int64_t n, double *logits,
                       int32_t *labels) {
    for (int64_t first = 0; first < n; first += NPI_HEAD_BLOCK) {
        int64_t rows = n - first < NPI_HEAD_BLOCK ? n - first : NPI_HEAD_BLOCK;
        npi_head_logits(model, rows, model->bank_h + first * model->dim, logits);
        for (int64_t i = 0; i < rows; i++) {
            int32_t truth = model->bank_labels[first + i];
            int found = npi_largest(logits + i * model->classes, model->classes);
            labels[first + i] = found == truth ? truth : model->classes;
        }
    }
}

static npos_status fit(const npi_detector_model *model, void **state) {
    int classes = model->classes, dim = model->dim;
    int64_t n = npi_neighbour_bank_count(model->bank), *count = NULL;
    double *logits = NULL, *mean = NULL, *right = NULL;
    int32_t *labels = NULL;
    npos_status status;
    size_t means = (size_t)(classes + 1) * (size_t)dim;
    NPI_TRY_GOTO(npi_alloc(&logits, NPI_HEAD_BLOCK * (size_t)classes, sizeof *logits, "logits"),
                 done);
    NPI_TRY_GOTO(npi_alloc(&labels, (size_t)n, sizeof *labels, "labels"), done);
    NPI_TRY_GOTO(npi_alloc(&count, (size_t)classes + 1, sizeof *count, "class counts"), done);
    NPI_TRY_GOTO(npi_alloc(&mean, means, sizeof *mean, "class means"), done);
    NPI_TRY_GOTO(npi_alloc(&right, means, sizeof *right, "patterns"), done);
    NPI_TRY_GOTO(npi_class_means(n, dim, model->bank_h, model->bank_labels, classes, mean, count),
                 done);
    mark_right(model, n, logits, labels);
    NPI_TRY_GOTO(npi_class_means(n, dim, model->bank_h, labels, classes + 1, right, count), done);
    for (int c = 0; c < classes; c++)
        for (int d = 0; d < dim && count[c] == 0; d++)
            right[(int64_t)c * dim + d] = mean[(int64_t)c * dim + d];
    *state = right;
    right = NULL;
done:
    npi_free(logits);
    npi_free(labels);
    npi_free(count);
    npi_free(mean);
    npi_free(right);
    return status;
}

static int arrays(const npi_detector_model *model, const void *state, npi_detector_array *array) {
    array[0] = (npi_detector_array){"patterns", model->classes, model->dim, state};
    return 1;
}

static npos_status restore(const npi_detector_model *model, const npi_saved_detector *saved,
                           void **state) {
    int64_t classes = model->classes, dim = model->dim;
    double *patterns;
    NPI_TRY(npi_saved_array(saved, "patterns", &classes, &dim, &patterns));
    *state = patterns;
    return NPOS_OK;
}

static npos_status score(const npi_detector_model *model, const void *state,
                         const npi_outputs *outputs, double *out) {
    const double *pattern = state;
    for (int64_t i = 0; i < outputs->n; i++) {
        const float *logit = outputs->logits + i * model->classes, *h = outputs->h + i * model->dim;
        int found = 0;
        double sum = 0;
        for (int c = 0; c < model->classes; c++) {
            sum += (double)logit[c] * 0; /* NaN is kept */
            found = logit[c] > logit[found] ? c : found;
        }
        for (int d = 0; d < model->dim; d++)
            sum += pattern[(int64_t)found * model->dim + d] * (double)h[d];
        out[i] = sum;
    }
    return NPOS_OK;
}

const npi_detector_kind npi_detector_she = {.name = "she",
                                            .needs = NPI_NEEDS_BANK | NPI_NEEDS_CLASSIFIER |
                                                     NPI_NEEDS_WEIGHTS,
                                            .fit = fit,
                                            .free = npi_free,
                                            .arrays = arrays,
                                            .restore = restore,
                                            .score = score};
