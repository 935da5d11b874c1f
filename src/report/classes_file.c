#include "report/classes_file.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/json_text.h"
#include "io/safetensors.h"

static const char format[] = "npos-classes-1";

void npi_classes_list_clear(npi_classes_list *list) {
    for (int i = 0; i < list->count; i++) {
        npi_set_classes *set = &list->set[i];
        for (int c = 0; c < set->classes; c++)
            npi_free(set->class_names[c]);
        npi_free(set->class_names);
        npi_free(set->name);
        npi_free(set->taken);
        npi_free(set->own);
    }
    npi_free(list->set);
    *list = (npi_classes_list){0};
}

const npi_set_classes *npi_classes_list_find(const npi_classes_list *list, const char *name) {
    for (int i = 0; i < list->count; i++)
        if (strcmp(list->set[i].name, name) == 0)
            return &list->set[i];
    return NULL;
}

static npos_status copy_numbers(const int32_t *from, int64_t n, int32_t **out) {
    NPI_TRY(npi_alloc(out, (size_t)n, sizeof **out, "classes of images"));
    if (n > 0)
        memcpy(*out, from, (size_t)n * sizeof **out);
    return NPOS_OK;
}

npos_status npi_classes_list_add(npi_classes_list *list, const char *name, int64_t n,
                                 const int32_t *taken, const int32_t *own, char *const *class_names,
                                 int classes) {
    size_t count = (size_t)list->count;
    NPI_TRY(npi_grow(&list->set, count, count + 1, sizeof *list->set, "classes of sets"));
    npi_set_classes *set = &list->set[list->count++];
    set->n = n;
    NPI_TRY(npi_strdup(&set->name, name));
    NPI_TRY(copy_numbers(taken, n, &set->taken));
    NPI_TRY(copy_numbers(own, n, &set->own));
    NPI_TRY(npi_alloc(&set->class_names, (size_t)classes, sizeof *set->class_names, "classes"));
    for (; set->classes < classes; set->classes++)
        NPI_TRY(npi_strdup(&set->class_names[set->classes], class_names[set->classes]));
    return NPOS_OK;
}

/* ---- writing ---- */

static char *names_json(const npi_classes_list *list) {
    json_t *object = json_object();
    bool ok = object != NULL;
    for (int i = 0; i < list->count && ok; i++) {
        const npi_set_classes *set = &list->set[i];
        json_t *names = json_array();
        for (int c = 0; c < set->classes; c++)
            ok &= json_array_append_new(names, npi_json_text(set->class_names[c])) == 0;
        ok &= json_object_set_new(object, set->name, names) == 0;
    }
    char *text = ok ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

npos_status npi_classes_file_write(const npi_classes_list *list, const char *path) {
    size_t count = (size_t)list->count;
    npi_named_tensor *tensors = NULL;
    char **names = NULL, *json = names_json(list);
    npos_status status;
    if (!json)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the classes' names", path);
    NPI_TRY_GOTO(npi_alloc(&tensors, 2 * count, sizeof *tensors, "classes"), done);
    NPI_TRY_GOTO(npi_alloc(&names, 2 * count, sizeof *names, "classes"), done);
    for (size_t i = 0; i < count; i++) {
        const npi_set_classes *set = &list->set[i];
        NPI_TRY_GOTO(npi_format(&names[2 * i], "%s.taken", set->name), done);
        NPI_TRY_GOTO(npi_format(&names[2 * i + 1], "%s.own", set->name), done);
        tensors[2 * i] = (npi_named_tensor){names[2 * i], NPI_I32, 1, {set->n}, set->taken};
        tensors[2 * i + 1] = (npi_named_tensor){names[2 * i + 1], NPI_I32, 1, {set->n}, set->own};
    }
    status = npi_safetensors_write(path, tensors, 2 * list->count,
                                   (const char *[]){"format", format, "classes", json, NULL});
done:
    for (size_t i = 0; names && i < 2 * count; i++)
        npi_free(names[i]);
    npi_free(names);
    npi_free(tensors);
    free(json);
    return status;
}

/* ---- reading ---- */

static npos_status check_numbers(const char *path, const npi_named_tensor *tensor,
                                 int64_t classes) {
    const int32_t *number = tensor->data;
    for (int64_t i = 0; i < tensor->shape[0]; i++)
        if (number[i] < -1 || number[i] >= classes)
            return npi_fail(NPOS_BAD_DATA, "%s: '%s' says class %d of image %lld, there are %lld",
                            path, tensor->name, number[i], (long long)i, (long long)classes);
    return NPOS_OK;
}

static npos_status read_set(const char *path, const npi_safetensors *file, const char *name,
                            json_t *names, int classes, npi_classes_list *out) {
    const npi_named_tensor *taken, *own;
    char *label[2] = {NULL, NULL}, **texts = NULL;
    size_t count = json_array_size(names);
    npos_status status;
    NPI_TRY_GOTO(npi_format(&label[0], "%s.taken", name), done);
    NPI_TRY_GOTO(npi_format(&label[1], "%s.own", name), done);
    NPI_TRY_GOTO(npi_safetensors_get(file, label[0], NPI_I32, 1, (int64_t[]){-1}, &taken), done);
    NPI_TRY_GOTO(npi_safetensors_get(file, label[1], NPI_I32, 1, taken->shape, &own), done);
    if (strcmp(name, "id") == 0 && count != (size_t)classes) { /* whose classes are the model's */
        status = npi_fail(NPOS_BAD_DATA, "%s: ID images of %zu classes, the model has %d", path,
                          count, classes);
        goto done;
    }
    NPI_TRY_GOTO(check_numbers(path, taken, classes), done);
    NPI_TRY_GOTO(check_numbers(path, own, (int64_t)count), done);
    NPI_TRY_GOTO(npi_alloc(&texts, count, sizeof *texts, "class names"), done);
    for (size_t c = 0; c < count; c++) {
        texts[c] = (char *)(uintptr_t)json_string_value(json_array_get(names, c));
        if (!texts[c]) {
            status = npi_fail(NPOS_BAD_DATA, "%s: class %zu of '%s' has no name", path, c, name);
            goto done;
        }
    }
    status =
        npi_classes_list_add(out, name, taken->shape[0], taken->data, own->data, texts, (int)count);
done:
    npi_free(label[0]);
    npi_free(label[1]);
    npi_free(texts);
    return status;
}

npos_status npi_classes_file_read(const char *path, int classes, npi_classes_list *out) {
    npi_safetensors *file;
    const char *name;
    json_t *names;
    NPI_TRY(npi_safetensors_open(path, &file));
    const char *seen = npi_safetensors_metadata(file, "format"),
               *text = npi_safetensors_metadata(file, "classes");
    json_t *object = text ? json_loads(text, 0, NULL) : NULL;
    npos_status status = NPOS_OK;
    if (!seen || strcmp(seen, format) != 0 || !json_is_object(object))
        status = npi_fail(NPOS_BAD_DATA, "%s: not a file of an evaluation's classes", path);
    json_object_foreach(object, name, names) {
        if (status == NPOS_OK)
            status = read_set(path, file, name, names, classes, out);
    }
    json_decref(object);
    npi_safetensors_close(file);
    return status;
}
