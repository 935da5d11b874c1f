#include "jobs/text_file.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/memory.h"
#include "io/json_text.h"
#include "io/safetensors.h"
#include "jobs/clip_file.h"

static const char format[] = "npos-text-1";

/* ---- writing ---- */

/* *out = a JSON list of texts, to be freed with free. */
static npos_status json_list(int count, char *const *texts, char **out) {
    json_t *list = json_array();
    bool whole = list != NULL;
    for (int i = 0; i < count; i++)
        whole = json_array_append_new(list, npi_json_text(texts[i])) == 0 && whole;
    *out = whole ? json_dumps(list, JSON_COMPACT) : NULL;
    json_decref(list);
    return *out ? NPOS_OK : npi_fail(NPOS_OUT_OF_MEMORY, "no memory for a list of %d texts", count);
}

npos_status npi_text_file_write(const char *path, uint64_t weights, int dim,
                                const npi_class_list *classes, const npi_templates *templates,
                                const float *rows) {
    char *names = NULL, *folders = NULL, *prompts = NULL;
    char hash[17];
    npos_status status;
    snprintf(hash, sizeof hash, "%016" PRIx64, weights);
    NPI_TRY_GOTO(json_list(classes->count, classes->names, &names), done);
    NPI_TRY_GOTO(json_list(templates->count, templates->text, &prompts), done);
    if (classes->folders)
        NPI_TRY_GOTO(json_list(classes->count, classes->folders, &folders), done);
    npi_named_tensor tensor = {
        .name = "text", .dtype = NPI_F32, .ndim = 2, .shape = {classes->count, dim}, .data = rows};
    const char *metadata[] = {"format",  format,      "classes",
                              names,     "templates", prompts,
                              "weights", hash,        folders ? "folders" : NULL,
                              folders,   NULL};
    status = npi_safetensors_write(path, &tensor, 1, metadata);
done:
    free(names);
    free(folders);
    free(prompts);
    return status;
}

/* ---- reading ---- */

/* *out = the texts of a list in the metadata. */
static npos_status read_list(const char *path, const npi_safetensors *file, const char *key,
                             int count, char ***out) {
    const char *text = npi_safetensors_metadata(file, key);
    json_t *list = text ? json_loads(text, 0, NULL) : NULL;
    npos_status status = NPOS_OK;
    if (json_array_size(list) != (size_t)count)
        status =
            npi_fail(NPOS_BAD_DATA, "%s: the metadata '%s' are not %d texts", path, key, count);
    if (status == NPOS_OK)
        status = npi_alloc(out, (size_t)count, sizeof **out, "class names");
    for (int i = 0; status == NPOS_OK && i < count; i++) {
        const char *one = json_string_value(json_array_get(list, (size_t)i));
        status = one ? npi_strdup(&(*out)[i], one)
                     : npi_fail(NPOS_BAD_DATA, "%s: '%s' number %d is no text", path, key, i);
    }
    json_decref(list);
    return status;
}

static npos_status read_rows(const char *path, const npi_named_tensor *tensor, npi_text_file *out) {
    size_t count = (size_t)out->classes * (size_t)out->dim;
    NPI_TRY(npi_alloc(&out->rows, count, sizeof *out->rows, "text embeddings"));
    memcpy(out->rows, tensor->data, count * sizeof *out->rows);
    for (int c = 0; c < out->classes; c++) {
        double square = 0.0;
        for (int d = 0; d < out->dim; d++)
            square += pow((double)out->rows[(ptrdiff_t)c * out->dim + d], 2);
        if (!(fabs(sqrt(square) - 1.0) <= 1e-3))
            return npi_fail(NPOS_BAD_DATA,
                            "%s: the direction of class %d has length %g, expected 1", path, c,
                            sqrt(square));
    }
    return NPOS_OK;
}

npos_status npi_text_file_read(const char *path, npi_text_file *out) {
    npi_safetensors *file = NULL;
    const npi_named_tensor *tensor;
    npos_status status;
    *out = (npi_text_file){0};
    NPI_TRY_GOTO(npi_safetensors_open(path, &file), done);
    const char *kind = npi_safetensors_metadata(file, "format");
    const char *hash = npi_safetensors_metadata(file, "weights");
    if (!kind || strcmp(kind, format) != 0 || !hash || strlen(hash) != 16) {
        status = npi_hint(npi_fail(NPOS_BAD_DATA, "%s: is no file of npos text", path),
                          "npos text --clip DIR --classes LIST --out T.safetensors makes one");
        goto done;
    }
    NPI_TRY_GOTO(npi_safetensors_get(file, "text", NPI_F32, 2, (int64_t[]){-1, -1}, &tensor), done);
    if (tensor->shape[0] < 1 || tensor->shape[0] > INT32_MAX || tensor->shape[1] < 1 ||
        tensor->shape[1] > INT32_MAX) {
        status = npi_fail(NPOS_BAD_DATA, "%s: holds no classes", path);
        goto done;
    }
    out->classes = (int)tensor->shape[0];
    out->dim = (int)tensor->shape[1];
    out->weights = strtoull(hash, NULL, 16);
    NPI_TRY_GOTO(read_rows(path, tensor, out), done);
    NPI_TRY_GOTO(read_list(path, file, "classes", out->classes, &out->names), done);
    status =
        read_list(path, file, npi_safetensors_metadata(file, "folders") ? "folders" : "classes",
                  out->classes, &out->folders);
done:
    npi_safetensors_close(file);
    return status;
}

void npi_text_file_clear(npi_text_file *file) {
    for (int c = 0; c < file->classes; c++) {
        npi_free(file->names ? file->names[c] : NULL);
        npi_free(file->folders ? file->folders[c] : NULL);
    }
    npi_free(file->names);
    npi_free(file->folders);
    npi_free(file->rows);
    *file = (npi_text_file){0};
}

npos_status npi_text_file_hash(const npi_text_file *file, uint64_t *out) {
    XXH3_state_t *state = XXH3_createState();
    *out = 0;
    if (!state)
        return npi_fail(NPOS_OUT_OF_MEMORY, "no memory for a hash of texts");
    XXH3_64bits_reset(state);
    XXH3_64bits_update(state, file->rows,
                       (size_t)file->classes * (size_t)file->dim * sizeof *file->rows);
    for (int c = 0; c < file->classes; c++)
        XXH3_64bits_update(state, file->folders[c], strlen(file->folders[c]) + 1);
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    *out = hash ? hash : 1;
    return NPOS_OK;
}

npos_status npi_text_file_check(const npi_text_file *file, const char *path, const char *clip) {
    uint64_t weights;
    NPI_TRY(npi_clip_hash(clip, &weights));
    return weights == file->weights
               ? NPOS_OK
               : npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                   "%s: was made with other weights (%016" PRIx64
                                   ") than those of %s (%016" PRIx64 ")",
                                   path, file->weights, clip, weights),
                          "make it again with: npos text --clip %s", clip);
}
