#include "jobs/fitted_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/model_file.h"

static const char format[] = "npos-detectors-1";

enum { HASH = 17 }; /* 16 digits and a zero byte */

/* *hash = xxh3 of an array, and of what went into *hash before; NULL changes nothing. */
static void mix(uint64_t *hash, const void *bytes, size_t count, size_t size) {
    if (bytes)
        *hash = XXH3_64bits_withSeed(bytes, count * size, *hash);
}

/* Of what detectors are fitted on. */
static void hash_of(const npi_run *run, char bank[HASH], char weights[HASH]) {
    size_t dim = (size_t)run->dim, classes = (size_t)run->classes, n = (size_t)run->bank.n;
    uint64_t of_bank = 0, of_weights = 0;
    mix(&of_bank, run->bank.h, n * dim, sizeof *run->bank.h);
    mix(&of_bank, run->bank.labels, n, sizeof *run->bank.labels);
    mix(&of_weights, run->weight, classes * dim, sizeof *run->weight);
    mix(&of_weights, run->bias, classes, sizeof *run->bias);
    snprintf(bank, HASH, "%016" PRIx64, of_bank);
    snprintf(weights, HASH, "%016" PRIx64, of_weights);
}

static bool same(const npi_safetensors *file, const char *key, const char *expected) {
    const char *seen = npi_safetensors_metadata(file, key);
    return seen && strcmp(seen, expected) == 0;
}

/* The detector of a tensor "SCORE.ARRAY", which is added when it is a new one. */
static npos_status place(npi_fitted_file *f, const npi_named_tensor *tensor, const char *path) {
    const char *dot = strchr(tensor->name, '.');
    size_t length = dot ? (size_t)(dot - tensor->name) : 0;
    npi_saved_detector *saved = NULL;
    if (length == 0 || length >= sizeof saved->name ||
        strlen(dot + 1) >= sizeof saved->array->name || tensor->dtype != NPI_F64 ||
        tensor->ndim != 2)
        return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s' is none of a fitted detector", path,
                        tensor->name);
    for (int i = 0; i < f->count; i++)
        if (strncmp(f->saved[i].name, tensor->name, length) == 0 && !f->saved[i].name[length])
            saved = &f->saved[i];
    if (!saved) {
        size_t count = (size_t)f->count;
        NPI_TRY(npi_grow(&f->saved, count, count + 1, sizeof *f->saved, "fitted detectors"));
        saved = &f->saved[f->count++];
        memcpy(saved->name, tensor->name, length);
    }
    if (saved->count == NPI_DETECTOR_ARRAYS)
        return npi_fail(NPOS_BAD_DATA, "%s: detector '%s' has more than %d arrays", path,
                        saved->name, NPI_DETECTOR_ARRAYS);
    npi_detector_array *array = &saved->array[saved->count++];
    *array = (npi_detector_array){
        .rows = tensor->shape[0], .columns = tensor->shape[1], .values = tensor->data};
    snprintf(array->name, sizeof array->name, "%s", dot + 1);
    return NPOS_OK;
}

static npos_status read_file(const npi_run *run, const char *path, npi_fitted_file *out) {
    char bank[HASH], weights[HASH];
    if (!npi_is_file(path))
        return NPOS_OK;
    NPI_TRY(npi_safetensors_open(path, &out->file));
    hash_of(run, bank, weights);
    if (!same(out->file, "format", format) || !same(out->file, "weights", weights) ||
        (run->bank.n > 0 && !same(out->file, "bank", bank))) {
        npi_fitted_file_close(out);
        return NPOS_OK;
    }
    for (int i = 0; i < npi_safetensors_count(out->file); i++)
        NPI_TRY(place(out, npi_safetensors_at(out->file, i), path));
    return NPOS_OK;
}

npos_status npi_fitted_file_open(const npi_run *run, npi_fitted_file *out) {
    char *path;
    *out = (npi_fitted_file){0};
    NPI_TRY(npi_path_join(&path, run->path, "detectors.safetensors"));
    npos_status status = read_file(run, path, out);
    npi_free(path);
    return status;
}

void npi_fitted_file_close(npi_fitted_file *file) {
    npi_safetensors_close(file->file);
    npi_free(file->saved);
    *file = (npi_fitted_file){0};
}

static npos_status add(npi_tensor_list *list, const char *detector, const npi_detector_array *array,
                       int count) {
    for (int i = 0; i < count; i++)
        if (array[i].rows < 1 || array[i].columns < 1)
            return NPOS_OK; /* of rank 0: soon fitted */
    for (int i = 0; i < count; i++) {
        char prefix[40];
        snprintf(prefix, sizeof prefix, "%s.", detector);
        NPI_TRY(npi_tensor_list_add(list, prefix, array[i].name, NPI_F64, 2,
                                    (int64_t[]){array[i].rows, array[i].columns}, array[i].values));
    }
    return NPOS_OK;
}

static npos_status list_all(const npi_detector *detectors, int count, const npi_fitted_file *before,
                            npi_tensor_list *list) {
    npi_detector_array array[NPI_DETECTOR_ARRAYS];
    for (int i = 0; i < count; i++) {
        const npi_detector *d = &detectors[i];
        memset(array, 0, sizeof array);
        if (d->kind->arrays)
            NPI_TRY(add(list, d->kind->name, array, d->kind->arrays(d->model, d->state, array)));
    }
    for (int i = 0; i < before->count; i++) {
        bool again = false;
        for (int j = 0; j < count; j++)
            again |= strcmp(before->saved[i].name, detectors[j].kind->name) == 0;
        if (!again)
            NPI_TRY(
                add(list, before->saved[i].name, before->saved[i].array, before->saved[i].count));
    }
    return NPOS_OK;
}

npos_status npi_fitted_file_write(const npi_run *run, const npi_detector *detectors, int count,
                                  const npi_fitted_file *before) {
    npi_tensor_list list = {0};
    char bank[HASH], weights[HASH], *path;
    NPI_TRY(npi_path_join(&path, run->path, "detectors.safetensors"));
    npos_status status = list_all(detectors, count, before, &list);
    if (status == NPOS_OK) {
        hash_of(run, bank, weights);
        status = npi_safetensors_write(
            path, list.tensors, list.count,
            (const char *[]){"format", format, "bank", bank, "weights", weights, NULL});
    }
    npi_tensor_list_clear(&list);
    npi_free(path);
    return status;
}
