#include "jobs/model_file.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/json_text.h"
#include "jobs/name_list.h"

npos_status npi_tensor_list_add(npi_tensor_list *list, const char *prefix, const char *name,
                                npi_dtype dtype, int ndim, const int64_t *shape, const void *data) {
    size_t count = (size_t)list->count, bytes = npi_dtype_bytes(dtype);
    NPI_TRY(npi_grow(&list->tensors, count, count + 1, sizeof *list->tensors, "tensor list"));
    npi_named_tensor *tensor = &list->tensors[count];
    *tensor = (npi_named_tensor){.dtype = dtype, .ndim = ndim};
    list->count++;
    for (int i = 0; i < ndim; i++) {
        tensor->shape[i] = shape[i];
        bytes *= (size_t)shape[i];
    }
    char *label;
    NPI_TRY(npi_format(&label, "%s%s", prefix, name));
    tensor->name = label;
    void *copy;
    NPI_TRY(npi_alloc(&copy, bytes, 1, name));
    tensor->data = copy;
    if (data)
        memcpy(copy, data, bytes);
    return NPOS_OK;
}

npos_status npi_tensor_list_add_params(npi_tensor_list *list, const char *prefix,
                                       const npi_params *params, npi_arena arena) {
    for (int i = 0; i < params->count; i++) {
        const npi_param *p = &params->list[i];
        if (p->buffer && arena != NPI_ARENA_VALUES)
            continue;
        NPI_TRY(npi_tensor_list_add(list, prefix, p->name, NPI_F32, p->ndim, p->shape, NULL));
        float *host = (float *)(uintptr_t)list->tensors[list->count - 1].data;
        NPI_TRY(npi_param_get(params, arena, i, host));
    }
    return NPOS_OK;
}

void npi_tensor_list_clear(npi_tensor_list *list) {
    for (int i = 0; i < list->count; i++) {
        npi_free((void *)(uintptr_t)list->tensors[i].name);
        npi_free((void *)(uintptr_t)list->tensors[i].data);
    }
    npi_free(list->tensors);
    *list = (npi_tensor_list){0};
}

npos_status npi_params_read(npi_params *params, npi_arena arena, const npi_safetensors *file,
                            const char *prefix) {
    for (int i = 0; i < params->count; i++) {
        const npi_param *p = &params->list[i];
        const npi_named_tensor *tensor;
        char name[128];
        if (p->buffer && arena != NPI_ARENA_VALUES)
            continue;
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        NPI_TRY(npi_safetensors_get(file, name, NPI_F32, p->ndim, p->shape, &tensor));
        float *host; /* an aligned copy: other programs' files need not be */
        NPI_TRY(npi_alloc(&host, p->count, sizeof *host, name));
        memcpy(host, tensor->data, p->count * sizeof *host);
        npos_status status = npi_param_set(params, arena, i, host);
        npi_free(host);
        if (status != NPOS_OK)
            return status;
    }
    return NPOS_OK;
}

npos_status npi_params_match(const npi_params *params, const npi_safetensors *file,
                             const char *path, const char *prefix) {
    npi_name_list missing = {0}, extra = {0};
    size_t length = strlen(prefix);
    for (int i = 0; i < params->count; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", prefix, params->list[i].name);
        if (!npi_safetensors_find(file, name))
            npi_name_list_add(&missing, params->list[i].name);
    }
    for (int i = 0; i < npi_safetensors_count(file); i++) {
        const char *name = npi_safetensors_at(file, i)->name;
        if (strncmp(name, prefix, length) == 0 && strcmp(name, "prototypes") != 0 &&
            npi_params_find(params, name + length) < 0)
            npi_name_list_add(&extra, name + length);
    }
    return npi_name_lists_fail(path, &missing, &extra);
}

/* ---- model.safetensors --------------------------------------------------------------------------- */

static char *names_as_json(const npi_model_file *model) {
    json_t *list = json_array();
    for (int i = 0; i < model->classes; i++)
        json_array_append_new(list, npi_json_text(model->class_names[i]));
    char *text = json_dumps(list, JSON_COMPACT);
    json_decref(list);
    return text;
}

npos_status npi_model_file_write(const char *path, const npi_model_file *model) {
    npi_tensor_list list = {0};
    char *classes = names_as_json(model), *calibration = NULL;
    const npi_calibration *c = model->calibration;
    npos_status status = NPOS_OK;
    if (!classes)
        status = npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the class names", path);
    if (status == NPOS_OK && model->params)
        status = npi_tensor_list_add_params(&list, "", model->params, NPI_ARENA_VALUES);
    if (status == NPOS_OK && !model->params && model->weight)
        status = npi_tensor_list_add(&list, "", "fc.weight", NPI_F32, 2,
                                     (int64_t[]){model->classes, model->dim}, model->weight);
    if (status == NPOS_OK && !model->params && model->bias)
        status = npi_tensor_list_add(&list, "", "fc.bias", NPI_F32, 1, (int64_t[]){model->classes},
                                     model->bias);
    if (status == NPOS_OK && model->prototypes)
        status = npi_tensor_list_add(&list, "", "prototypes", NPI_F32, 2,
                                     (int64_t[]){model->classes, model->proj}, model->prototypes);
    if (status == NPOS_OK && model->text)
        status = npi_tensor_list_add(&list, "", "text", NPI_F32, 2,
                                     (int64_t[]){model->classes, model->dim}, model->text);
    if (status == NPOS_OK && c && c->score)
        status = npi_format(
            &calibration,
            "{\"score\":\"%s\",\"threshold\":%.17g,\"tpr\":%.17g,\"tpr_ci\":[%.17g,%.17g],"
            "\"n\":%" PRId64 ",\"knn_k\":%d}",
            c->score, c->threshold, c->tpr, c->tpr_ci[0], c->tpr_ci[1], c->n, c->knn_k);
    const char *metadata[9] = {"format", "npos-model-1", "classes", classes};
    int used = 4;
    if (calibration) {
        metadata[used++] = "calibration";
        metadata[used++] = calibration;
    }
    if (!model->params) {
        metadata[used++] = "logits";
        metadata[used++] = model->has_logits ? "yes" : "no";
    }
    if (status == NPOS_OK)
        status = npi_safetensors_write(path, list.tensors, list.count, metadata);
    npi_tensor_list_clear(&list);
    npi_free(calibration);
    free(classes);
    return status;
}

npos_status npi_model_file_classes(const npi_safetensors *file, const char *path, char ***names,
                                   int *classes) {
    const char *text = npi_safetensors_metadata(file, "classes");
    json_t *list = text ? json_loads(text, 0, NULL) : NULL;
    npos_status status = NPOS_OK;
    *names = NULL;
    *classes = (int)json_array_size(list);
    if (*classes == 0)
        status =
            npi_fail(NPOS_BAD_DATA, "%s: the metadata name no classes: not a model of npos", path);
    if (status == NPOS_OK)
        status = npi_alloc(names, (size_t)*classes, sizeof **names, "class names");
    for (int i = 0; status == NPOS_OK && i < *classes; i++) {
        const char *name = json_string_value(json_array_get(list, (size_t)i));
        status = name ? npi_strdup(&(*names)[i], name)
                      : npi_fail(NPOS_BAD_DATA, "%s: class name %d is not a text", path, i);
    }
    json_decref(list);
    if (status != NPOS_OK) {
        npi_class_names_free(*names, *classes);
        *names = NULL;
    }
    return status;
}

void npi_class_names_free(char **names, int classes) {
    for (int i = 0; names && i < classes; i++)
        npi_free(names[i]);
    npi_free(names);
}

npos_status npi_model_file_calibration(const npi_safetensors *file, npi_calibration *out) {
    const char *text = npi_safetensors_metadata(file, "calibration"), *score;
    *out = (npi_calibration){0};
    if (!text)
        return NPOS_OK;
    json_int_t n;
    json_t *object = json_loads(text, 0, NULL);
    npos_status status;
    if (!object ||
        json_unpack(object, "{s:s, s:F, s:F, s:[F, F], s:I, s?i}", "score", &score, "threshold",
                    &out->threshold, "tpr", &out->tpr, "tpr_ci", &out->tpr_ci[0], &out->tpr_ci[1],
                    "n", &n, "knn_k", &out->knn_k) != 0) {
        status = npi_fail(NPOS_BAD_DATA, "the model's calibration is damaged: %.100s", text);
    } else {
        out->n = n;
        status = npi_strdup(&out->score, score);
    }
    json_decref(object);
    return status;
}

/* ---- bank.safetensors ---------------------------------------------------------------------------- */

npos_status npi_bank_write(const char *path, const npi_bank *bank) {
    npi_named_tensor tensors[3] = {
        {"embeddings", NPI_F32, 2, {bank->n, bank->dim}, bank->h},
        {"labels", NPI_I32, 1, {bank->n}, bank->labels},
        {.name = "names", .dtype = NPI_U8, .ndim = 1},
    };
    if (!bank->names)
        return npi_safetensors_write(path, tensors, 2, NULL);
    size_t bytes = 0;
    for (int64_t i = 0; i < bank->n; i++)
        bytes += strlen(bank->names[i]) + 1;
    char *text, *at;
    NPI_TRY(npi_alloc(&text, bytes, 1, "sample names"));
    at = text;
    for (int64_t i = 0; i < bank->n; i++)
        at = stpcpy(at, bank->names[i]) + 1;
    tensors[2].shape[0] = (int64_t)bytes;
    tensors[2].data = text;
    npos_status status = npi_safetensors_write(path, tensors, 3, NULL);
    npi_free(text);
    return status;
}

static npos_status read_names(const char *path, const npi_named_tensor *blob, npi_bank *out) {
    const char *at = blob->data, *end = at + blob->shape[0];
    NPI_TRY(npi_alloc(&out->names, (size_t)out->n, sizeof *out->names, "sample names"));
    for (int64_t i = 0; i < out->n; i++) {
        const char *stop = at < end ? memchr(at, '\0', (size_t)(end - at)) : NULL;
        if (!stop)
            return npi_fail(NPOS_BAD_DATA, "%s: holds %" PRId64 " names for %" PRId64 " embeddings",
                            path, i, out->n);
        out->names[i] = (char *)(uintptr_t)at;
        at = stop + 1;
    }
    return NPOS_OK;
}

npos_status npi_bank_read(const char *path, int dim, npi_bank *out) {
    const npi_named_tensor *h, *labels, *names;
    *out = (npi_bank){.dim = dim};
    npos_status status;
    NPI_TRY(npi_safetensors_open(path, &out->file));
    NPI_TRY_GOTO(npi_safetensors_get(out->file, "embeddings", NPI_F32, 2, (int64_t[]){-1, dim}, &h),
                 done);
    out->n = h->shape[0];
    NPI_TRY_GOTO(npi_safetensors_get(out->file, "labels", NPI_I32, 1, (int64_t[]){out->n}, &labels),
                 done);
    if ((uintptr_t)h->data % sizeof(float) != 0 || (uintptr_t)labels->data % sizeof(int32_t) != 0) {
        status = npi_fail(NPOS_UNSUPPORTED,
                          "%s: its tensors do not start at multiples of 4 bytes: not as npos "
                          "writes it",
                          path);
        goto done;
    }
    out->h = (float *)(uintptr_t)h->data;
    out->labels = (int32_t *)(uintptr_t)labels->data;
    names = npi_safetensors_find(out->file, "names");
    if (names && names->dtype == NPI_U8 && names->ndim == 1)
        status = read_names(path, names, out);
done:
    if (status != NPOS_OK)
        npi_bank_clear(out);
    return status;
}
