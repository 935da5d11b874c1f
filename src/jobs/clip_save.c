#include "jobs/clip_save.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/clip_names.h"
#include "jobs/model_file.h"

/* The tensor's values as they are in the model: float32, or 64-bit whole numbers. */
static npos_status add_tensor(const npi_clip_weights *file, int i, npi_tensor_list *list) {
    const npi_named_tensor *t = npi_weights_at(file->weights, i);
    bool whole = t->dtype == NPI_U8 || t->dtype == NPI_I32 || t->dtype == NPI_I64;
    size_t prefix = strlen(file->prefix);
    const char *name = strncmp(t->name, file->prefix, prefix) == 0 ? t->name + prefix : t->name;
    int64_t count = npi_weights_elements(file->weights, i);
    NPI_TRY(
        npi_tensor_list_add(list, "", name, whole ? NPI_I64 : NPI_F32, t->ndim, t->shape, NULL));
    void *to = (void *)(uintptr_t)list->tensors[list->count - 1].data;
    return whole ? npi_weights_read_i64(file->weights, i, 0, count, to)
                 : npi_weights_read(file->weights, i, 0, count, to);
}

/* One of the tensors that make up a parameter, from its share `values` of the rows. */
static npos_status replace(const npi_clip_weights *file, const char *name, bool transposed,
                           int ndim, const int64_t *shape, const float *values,
                           npi_tensor_list *list) {
    int i = npi_weights_find(file->weights, name);
    const char *path = npi_weights_path(file->weights);
    if (i < 0)
        return npi_fail(NPOS_NOT_FOUND, "%s: tensor '%s' is missing", path, name);
    npi_named_tensor *t = &list->tensors[i];
    float *to = (float *)(uintptr_t)t->data;
    size_t count = 1;
    bool fits = t->ndim == ndim && t->dtype == NPI_F32;
    for (int d = 0; fits && d < ndim; d++) {
        fits = t->shape[transposed ? ndim - 1 - d : d] == shape[d];
        count *= (size_t)shape[d];
    }
    if (!fits)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: tensor '%s' has not the fine-tuned one's shape",
                        path, name);
    for (size_t k = 0; k < count; k++) {
        size_t columns = (size_t)shape[ndim - 1], row = k / columns, column = k % columns;
        to[transposed ? column * (count / columns) + row : k] = values[k];
    }
    return NPOS_OK;
}

static npos_status replace_param(const npi_clip_weights *file, const npi_params *tuned, int p,
                                 npi_tensor_list *list) {
    const npi_param *param = &tuned->list[p];
    npi_clip_source source;
    int64_t shape[4] = {param->shape[0], param->shape[1], param->shape[2], param->shape[3]};
    float *host;
    npos_status status;
    if (strncmp(param->name, "phi.", 4) == 0)
        return NPOS_OK;
    npi_clip_source_of(file, param->name, &source);
    shape[0] /= source.count;
    size_t part = param->count / (size_t)source.count;
    NPI_TRY(npi_alloc(&host, param->count, sizeof *host, param->name));
    NPI_TRY_GOTO(npi_param_get(tuned, NPI_ARENA_VALUES, p, host), done);
    for (int k = 0; k < source.count; k++)
        NPI_TRY_GOTO(replace(file, source.names[k], source.transposed, param->ndim, shape,
                             host + (size_t)k * part, list),
                     done);
done:
    npi_free(host);
    return status;
}

/* Copies FROM/NAME (or NAME beside the file `from`) where there is one. */
static npos_status copy_beside(const char *from, const char *name, const char *folder) {
    char *source = NULL, *to = NULL, *bytes = NULL;
    size_t size;
    npos_status status;
    if (npi_is_folder(from))
        NPI_TRY_GOTO(npi_path_join(&source, from, name), done);
    else
        NPI_TRY_GOTO(npi_format(&source, "%.*s%s", (int)(npi_path_name(from) - from), from, name),
                     done);
    if (!npi_is_file(source))
        goto done;
    NPI_TRY_GOTO(npi_path_join(&to, folder, name), done);
    NPI_TRY_GOTO(npi_file_read(source, &bytes, &size), done);
    status = npi_file_write(to, bytes, size);
done:
    npi_free(bytes);
    npi_free(to);
    npi_free(source);
    return status;
}

npos_status npi_clip_save(const char *from, const npi_params *tuned, const char *folder) {
    static const char *const beside[] = {"config.json",
                                         "open_clip_config.json",
                                         "preprocessor_config.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "tokenizer.json",
                                         "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "bpe_simple_vocab_16e6.txt.gz"};
    static const char *const metadata[] = {"format", "pt", NULL}; /* transformers asks for it */
    npi_clip_weights file = {0};
    npi_tensor_list list = {0};
    char *path = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_clip_weights_open(from, &file), done);
    for (int i = 0; i < npi_weights_count(file.weights); i++)
        NPI_TRY_GOTO(add_tensor(&file, i, &list), done);
    for (int p = 0; p < tuned->count; p++)
        NPI_TRY_GOTO(replace_param(&file, tuned, p, &list), done);
    NPI_TRY_GOTO(npi_make_folders(folder), done);
    NPI_TRY_GOTO(npi_path_join(&path, folder,
                               file.naming == NPI_CLIP_HUGGING_FACE
                                   ? "model.safetensors"
                                   : "open_clip_model.safetensors"),
                 done);
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++)
        NPI_TRY_GOTO(copy_beside(from, beside[i], folder), done);
    status = npi_safetensors_write(path, list.tensors, list.count, metadata);
done:
    npi_free(path);
    npi_tensor_list_clear(&list);
    npi_weights_close(file.weights);
    return status;
}
