/* jobs/clip_text.h - the text side of CLIP's classifier: one direction a class.
 *
 *     T_c = normalize(mean over templates t of normalize(text embedding of prompt(t, name of c)))
 *
 * as OpenAI's zero-shot classifiers are made (Radford et al., 2021, section 3.1.4). */
#ifndef NPI_JOBS_CLIP_TEXT_H
#define NPI_JOBS_CLIP_TEXT_H

#include "jobs/compute.h"
#include "nn/clip.h"
#include "text/prompts.h"
#include "text/tokenizer.h"

/* out [classes][projection] on the host.  The model has a text tower whose values are set; prompts
 * longer than its context are errors that name the prompt. */
NPOS_MUST_CHECK npos_status npi_clip_text(npi_clip *clip, const npi_tokenizer *tokenizer,
                                          const npi_class_list *classes,
                                          const npi_templates *templates,
                                          const npos_compute *compute, float *out);

#endif
