/* jobs/import_clip.h - npos_import of a CLIP model with its classes' text embeddings: a zero-shot run
 * (jobs/run_clip.h), or, with what NPOS's authors fine-tuned of it (jobs/clip_authors.h), theirs. */
#ifndef NPI_JOBS_IMPORT_CLIP_H
#define NPI_JOBS_IMPORT_CLIP_H

#include "npos/npos.h"

/* options->text is given. */
NPOS_MUST_CHECK npos_status npi_import_clip(const npos_train_options *options);

#endif
