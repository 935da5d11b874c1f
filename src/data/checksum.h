/* data/checksum.h - published checksums of files, by nettle (NPI_HAVE_NETTLE). */
#ifndef NPI_DATA_CHECKSUM_H
#define NPI_DATA_CHECKSUM_H

#include "data/dataset.h"

/* Whether this build can compute them. */
bool npi_checksum_available(void);

/* NPOS_OK when the file's checksum is `expected` ("md5:HEX" or "sha256:HEX"), else NPOS_BAD_DATA with both.  `progress`
 * (may be NULL) is told bytes. */
NPOS_MUST_CHECK npos_status npi_checksum_check(const char *path, const char *expected,
                                               npi_progress_fn *progress, void *context);

#endif
