/* jobs/clip_names.h - what the parameters of nn/clip are called in the files of others. */
#ifndef NPI_JOBS_CLIP_NAMES_H
#define NPI_JOBS_CLIP_NAMES_H

#include "io/weights.h"
#include "jobs/clip_file.h"

typedef enum npi_clip_naming { NPI_CLIP_HUGGING_FACE, NPI_CLIP_OPENAI } npi_clip_naming;

/* The tensors that make up one parameter. */
typedef struct npi_clip_source {
    char names[3][160];
    int count;       /* 1, or 3: stacked in the order of names */
    bool transposed; /* the file has [in][out] */
} npi_clip_source;

/* Weights whose naming is known. */
typedef struct npi_clip_weights {
    npi_weights *weights;
    npi_clip_naming naming;
    const char *prefix; /* in front of all names: "module." in checkpoints of parallel training */
} npi_clip_weights;

/* Opens the weights and tells their naming; *out is to be closed with npi_weights_close in any case.
 * NPOS_UNSUPPORTED where the names are not CLIP's. */
NPOS_MUST_CHECK npos_status npi_clip_weights_open(const char *path, npi_clip_weights *out);

/* `name` is one of nn/clip.h's. */
void npi_clip_source_of(const npi_clip_weights *file, const char *name, npi_clip_source *out);

/* Shape of a parameter that is one tensor, in nn/clip's order; the error names the tensor that is
 * missing or of other dimensions. */
NPOS_MUST_CHECK npos_status npi_clip_shape_of(const npi_clip_weights *file, const char *name,
                                              int ndim, int *shape);

/* Whether a tensor is known and not needed: logit_scale, buffers, and those of towers not chosen. */
bool npi_clip_unneeded(const npi_clip_weights *file, const char *name, npi_clip_towers towers);

/* Sizes from tensors, heads and activation from the configuration beside `path`. */
NPOS_MUST_CHECK npos_status npi_clip_config_read(const char *path, const npi_clip_weights *file,
                                                 npi_clip_towers towers, npi_clip_act act,
                                                 npi_clip_config *out);

#endif
