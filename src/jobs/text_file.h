/* jobs/text_file.h - T.safetensors: one direction a class from CLIP's text tower, of npos text. */
#ifndef NPI_JOBS_TEXT_FILE_H
#define NPI_JOBS_TEXT_FILE_H

#include <stdint.h>

#include "npos/npos.h"
#include "tensor/device.h"
#include "text/prompts.h"

typedef struct npi_text_file {
    int classes, dim;
    float *rows;  /* [classes][dim], unit rows */
    char **names; /* [classes] what prompts say */
    char *
        *folders; /* [classes] how data sets call them: the names where the list told no folders */
    uint64_t weights; /* npi_clip_hash of the model */
} npi_text_file;

/* Writes rows [classes][dim], whole or not at all. */
NPOS_MUST_CHECK npos_status npi_text_file_write(const char *path, uint64_t weights, int dim,
                                                const npi_class_list *classes,
                                                const npi_templates *templates, const float *rows);

/* text.c: runs the text tower of the model at `clip` over the classes in all templates (a file, NULL: the 18
 * built in) and writes T to `path`.  On a device of its own, whose precision is float32 where `compute` says "auto". */
NPOS_MUST_CHECK npos_status npi_text_make(const npos_compute *compute, const char *clip,
                                          const npi_class_list *classes, const char *templates,
                                          const char *path);

/* Fills *out, to be released with npi_text_file_clear in any case.  Errors: files of another kind,
 * rows that are not of length 1 (within 1e-3), classes that are not as many as rows. */
NPOS_MUST_CHECK npos_status npi_text_file_read(const char *path, npi_text_file *out);
void npi_text_file_clear(npi_text_file *file);
/* XXH3 of the directions and of the classes' folders: what tells one T from another; never 0. */
NPOS_MUST_CHECK npos_status npi_text_file_hash(const npi_text_file *file, uint64_t *out);

/* Fails with NPOS_INVALID_ARGUMENT unless T was made with the weights of `clip` (npi_clip_load's path). */
NPOS_MUST_CHECK npos_status npi_text_file_check(const npi_text_file *file, const char *path,
                                                const char *clip);

#endif
