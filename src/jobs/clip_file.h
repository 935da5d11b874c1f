/* jobs/clip_file.h - CLIP models of others, read into nn/clip.
 *
 *   Hugging Face    folder with config.json and weights, or the weights beside it
 *   OpenAI          ViT-B-16.pt and its kin: TorchScript; heads = width / 64, QuickGELU
 *   open_clip       folder with open_clip_config.json and weights; or a checkpoint alone, whose
 *                   activation must be told (`act`) and whose heads are width / 64
 *
 * Which of them it is shows in the tensors' names; sizes are the tensors' own, and a configuration
 * that says otherwise is an error.  What a model has and nn/clip does not know is an error too, never
 * passed over: tensors, keys of open_clip's configuration, activations.  logit_scale and the buffers
 * of positions are known and not read. */
#ifndef NPI_JOBS_CLIP_FILE_H
#define NPI_JOBS_CLIP_FILE_H

#include "io/weights.h"
#include "nn/clip.h"

typedef enum npi_clip_towers {
    NPI_CLIP_VISION = 1,
    NPI_CLIP_TEXT = 2,
    NPI_CLIP_BOTH = 3
} npi_clip_towers;

typedef enum npi_clip_act {
    NPI_CLIP_ACT_AUTO, /* what the file or its configuration tells */
    NPI_CLIP_ACT_QUICK_GELU,
    NPI_CLIP_ACT_GELU
} npi_clip_act;

/* Makes a model and reads its values, of the chosen towers alone; *out is to be freed with
 * npi_clip_free, also after a failure.  Errors name the file and the tensor: missing, of another
 * shape, unknown, not finite; NPOS_UNSUPPORTED for what nn/clip cannot compute. */
NPOS_MUST_CHECK npos_status npi_clip_load(npi_device *dev, const char *path, npi_clip_towers towers,
                                          npi_clip_act act, npi_clip *out);

/* *out = npi_weights_hash of the model's files, both towers: what its tokens and texts carry. */
NPOS_MUST_CHECK npos_status npi_clip_hash(const char *path, uint64_t *out);

#endif
