/* jobs/clip_authors.h - the checkpoints that NPOS's authors save when they fine-tune CLIP.
 *
 * Their module holds the part of the image tower that is trained, and the outlier head; the rest, and the
 * classes' text embeddings, come from CLIP itself each time.  With L blocks in the tower, of which F..L-1
 * are in the file (F from the number of blocks that it has):
 *
 *     theirs                               nn/clip.h's
 *     transformer_resblocks.blockI.NAME    block F + I, NAME as OpenAI's
 *     ln_post.weight, ln_post.bias         vision_model.post_layernorm
 *     proj [width][projection]             visual_projection.weight, transposed
 *     outlier_MLP.0, outlier_MLP.2         phi.0, phi.2
 *
 * "module." (of DataParallel) may stand in front of all. */
#ifndef NPI_JOBS_CLIP_AUTHORS_H
#define NPI_JOBS_CLIP_AUTHORS_H

#include "nn/clip.h"
#include "nn/params.h"

typedef struct npi_clip_authors {
    int first;        /* F */
    npi_params tuned; /* of the tower, for npi_clip_save */
    npi_params phi;   /* phi.0.weight, phi.0.bias, phi.2.weight, phi.2.bias */
} npi_clip_authors;
void npi_clip_authors_clear(npi_clip_authors *authors);

/* Reads such a file for a model of these sizes into a zeroed *out (npi_clip_authors_clear, also after a
 * failure).  Every tensor must have its place and every place its tensor, of the model's sizes and
 * finite: errors name the file and the tensors. */
NPOS_MUST_CHECK npos_status npi_clip_authors_read(npi_device *dev, const char *path,
                                                  const npi_clip_config *config,
                                                  npi_clip_authors *out);

#endif
