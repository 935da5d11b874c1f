/* io/token_foreign.h - tokens in torch's files, as the method's authors publish them and their scripts
 * write them: feature.pt with target.pt, or a folder of .pt files for each class.  For
 * io/token_store.c, whose header says what is read. */
#ifndef NPI_IO_TOKEN_FOREIGN_H
#define NPI_IO_TOKEN_FOREIGN_H

#include "io/token_store.h"

typedef struct npi_token_foreign npi_token_foreign;

/* Fills a zeroed *info, which stays its caller's to clear, also after a failure. */
NPOS_MUST_CHECK npos_status npi_token_foreign_open(const char *path, npi_token_info *info,
                                                   npi_token_foreign **out);
void npi_token_foreign_close(npi_token_foreign *foreign); /* NULL is accepted */

/* out [rows][width] of image i as float16, infinite where it is beyond. */
NPOS_MUST_CHECK npos_status npi_token_foreign_read(const npi_token_foreign *foreign,
                                                   const npi_token_info *info, int64_t i,
                                                   uint16_t *out);

/* *out = what tells these tokens from others: the hash of feature.pt, or of the files' names and sizes. */
NPOS_MUST_CHECK npos_status npi_token_foreign_identity(const npi_token_foreign *foreign,
                                                       uint64_t *out);

#endif
