#include "jobs/calibration_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/safetensors.h"

static const char format[] = "npos-calibration-1";

void npi_id_scores_clear(npi_id_scores *scores) {
    npi_free(scores->score);
    *scores = (npi_id_scores){0};
}

static int rising(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

npos_status npi_id_scores_write(const npi_run *run, const npi_calibration *calibration,
                                double *score) {
    char *path, threshold[32];
    qsort(score, (size_t)calibration->n, sizeof *score, rising);
    npi_named_tensor tensor = {"scores", NPI_F64, 1, {calibration->n}, score};
    snprintf(threshold, sizeof threshold, "%.17g", calibration->threshold);
    NPI_TRY(npi_path_join(&path, run->path, "calibration.safetensors"));
    npos_status status =
        npi_safetensors_write(path, &tensor, 1,
                              (const char *[]){"format", format, "score", calibration->score,
                                               "threshold", threshold, NULL});
    npi_free(path);
    return status;
}

static bool same(const npi_safetensors *file, const char *key, const char *expected) {
    const char *seen = npi_safetensors_metadata(file, key);
    return seen && strcmp(seen, expected) == 0;
}

static npos_status read_file(const char *path, const npi_calibration *c, npi_id_scores *out) {
    const npi_named_tensor *tensor;
    npi_safetensors *file;
    char threshold[32];
    if (!npi_is_file(path)) /* a run of an older npos */
        return NPOS_OK;
    NPI_TRY(npi_safetensors_open(path, &file));
    npos_status status = NPOS_OK;
    snprintf(threshold, sizeof threshold, "%.17g", c->threshold);
    if (same(file, "format", format) && same(file, "score", c->score) &&
        same(file, "threshold", threshold)) {
        status = npi_safetensors_get(file, "scores", NPI_F64, 1, &c->n, &tensor);
        if (status == NPOS_OK)
            status = npi_alloc(&out->score, (size_t)c->n, sizeof *out->score, "ID scores");
        if (status == NPOS_OK) {
            memcpy(out->score, tensor->data, (size_t)c->n * sizeof *out->score);
            out->n = c->n;
        }
    }
    npi_safetensors_close(file);
    return status;
}

npos_status npi_id_scores_read(const npi_run *run, const char *score, npi_id_scores *out) {
    const npi_calibration *c = &run->calibration;
    char *path;
    *out = (npi_id_scores){0};
    if (!c->score || strcmp(c->score, score) != 0)
        return NPOS_OK;
    NPI_TRY(npi_path_join(&path, run->path, "calibration.safetensors"));
    npos_status status = read_file(path, c, out);
    npi_free(path);
    return status;
}

double npi_id_p_value(const npi_id_scores *scores, double score) {
    int64_t lo = 0, hi = scores->n; /* how many are <= score */
    while (lo < hi) {
        int64_t middle = (lo + hi) / 2;
        if (scores->score[middle] <= score)
            lo = middle + 1;
        else
            hi = middle;
    }
    return (double)(lo + 1) / (double)(scores->n + 1);
}
