/* io/tar_index.h - where the files of an uncompressed tar archive lie, so that single ones can be read.
 *
 * ustar, GNU's long names and POSIX' pax headers (path and size).  Folders, links and devices are passed
 * over.  Refused are what is no tar archive or is damaged or cut short, and names that are absolute or
 * lead out of the archive.
 *
 * Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar 1.35, appendix "Basic Tar Format". */
#ifndef NPI_IO_TAR_INDEX_H
#define NPI_IO_TAR_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fail.h"

typedef struct npi_tar_file {
    char *name;    /* without "./" in front; to be freed with npi_free, or by npi_tar_clear */
    int64_t at;    /* of its first byte in the archive */
    int64_t bytes; /* >= 0, all inside the archive */
} npi_tar_file;

typedef struct npi_tar {
    npi_tar_file *files; /* in the archive's order */
    int64_t count;
} npi_tar;

/* Whether a file begins with the header of a tar archive, its checksum included. */
bool npi_tar_known(const char *path);

/* The first `most` files of the archive (0: all). */
NPOS_MUST_CHECK npos_status npi_tar_read(const char *path, int64_t most, npi_tar *out);
void npi_tar_clear(npi_tar *tar);

/* *out = the bytes of a file with a zero byte behind them, to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_tar_bytes(const char *path, const npi_tar_file *file,
                                          uint8_t **out);

#endif
