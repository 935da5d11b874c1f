/* jobs/model_file.h - model.safetensors and bank.safetensors of a run directory.
 *
 * model.safetensors: every parameter and buffer under its PyTorch name, `prototypes` [classes][proj]; metadata: format,
 * classes (JSON list of names), and the calibration (score, threshold, tpr, its interval, n) once there is one.
 * bank.safetensors: `embeddings` [n][dim] float32, `labels` [n] int32, `names` (zero-terminated, one behind the other). */
#ifndef NPI_JOBS_MODEL_FILE_H
#define NPI_JOBS_MODEL_FILE_H

#include "io/safetensors.h"
#include "jobs/run.h"
#include "nn/model.h"

/* Appends copies of all parameters (host, PyTorch's layout) to a list of tensors. */
typedef struct npi_tensor_list {
    npi_named_tensor *tensors;
    int count;
} npi_tensor_list;
/* Adds a tensor whose bytes are copied; `prefix` may be "". */
NPOS_MUST_CHECK npos_status npi_tensor_list_add(npi_tensor_list *list, const char *prefix,
                                                const char *name, npi_dtype dtype, int ndim,
                                                const int64_t *shape, const void *data);
/* Adds an arena of parameters; buffers come with the values alone. */
NPOS_MUST_CHECK npos_status npi_tensor_list_add_params(npi_tensor_list *list, const char *prefix,
                                                       const npi_params *params, npi_arena arena);
void npi_tensor_list_clear(npi_tensor_list *list);

/* Reads an arena of parameters from a file.  Missing keys and wrong shapes are errors that name them. */
NPOS_MUST_CHECK npos_status npi_params_read(npi_params *params, npi_arena arena,
                                            const npi_safetensors *file, const char *prefix);

/* Fails unless the names in the file that start with `prefix` are those of the parameters (`prototypes` may be there
 * too), naming what is missing and what is too many. */
NPOS_MUST_CHECK npos_status npi_params_match(const npi_params *params, const npi_safetensors *file,
                                             const char *path, const char *prefix);

typedef struct npi_model_file {
    const npi_params *params;
    int classes, proj;
    char *const *class_names;
    const float *prototypes; /* NULL: none */
    const float *
        text; /* [classes][dim] of a CLIP run (jobs/run_clip.h), whose params are its head's; NULL: none */
    const npi_calibration *calibration; /* NULL: none */
    /* A run without a network (params NULL): the classifier's weights, or NULL, and whether there are
     * logits at all. */
    int dim;
    const float *weight, *bias; /* [classes][dim], [classes] */
    bool has_logits;
} npi_model_file;
NPOS_MUST_CHECK npos_status npi_model_file_write(const char *path, const npi_model_file *model);

/* Class names from the metadata; to be freed with npi_class_names_free. */
NPOS_MUST_CHECK npos_status npi_model_file_classes(const npi_safetensors *file, const char *path,
                                                   char ***names, int *classes);
void npi_class_names_free(char **names, int classes);
/* Calibration from the metadata; score NULL when there is none. */
NPOS_MUST_CHECK npos_status npi_model_file_calibration(const npi_safetensors *file,
                                                       npi_calibration *out);
NPOS_MUST_CHECK npos_status npi_bank_write(const char *path, const npi_bank *bank);
/* Maps the file: nothing of it but the names' places is copied, so that a bank may be larger than the
 * memory. */
NPOS_MUST_CHECK npos_status npi_bank_read(const char *path, int dim, npi_bank *out);

#endif
