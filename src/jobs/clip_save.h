/* jobs/clip_save.h - a fine-tuned CLIP model, written as its makers would. */
#ifndef NPI_JOBS_CLIP_SAVE_H
#define NPI_JOBS_CLIP_SAVE_H

#include "nn/params.h"

/* Writes into `folder` (made if missing) the model that lies at `from` (as npi_clip_load's path) with the values
 * of `tuned`, parameters under nn/clip.h's names, in place of its own; "phi." is left out.  All tensors, of both
 * towers, keep the names that the model has: model.safetensors where they are Hugging Face's, else
 * open_clip_model.safetensors; numbers are float32.  Configuration and tokenizer files beside `from` are copied, so
 * that transformers or open_clip open the folder.  Errors name the tensor that the model lacks or has of another
 * shape; each file is written whole or not at all. */
NPOS_MUST_CHECK npos_status npi_clip_save(const char *from, const npi_params *tuned,
                                          const char *folder);

#endif
