/* data/unpack.h - an archive into a folder, all of it or nothing (NPI_HAVE_ARCHIVE). */
#ifndef NPI_DATA_UNPACK_H
#define NPI_DATA_UNPACK_H

#include "data/dataset.h"

/* Unpacks what lies below `top` in the archive to FOLDER/top, by way of a hidden folder beside it that is renamed when all
 * is there; FOLDER/top must not exist.  A hidden folder that a killed process left is removed.  Only files and folders: paths that lead out, links, devices, and archives that
 * unpack to more than 100 times their size (beyond 256 MB) are NPOS_BAD_DATA.  `progress` (may be NULL) is told bytes of
 * the archive. */
NPOS_MUST_CHECK npos_status npi_unpack(const char *archive, const char *folder, const char *top,
                                       npi_progress_fn *progress, void *context);

#endif
