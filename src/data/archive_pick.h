/* data/archive_pick.h - single files by name out of an archive, for sets that are a few large files.
 *
 * In a build without libarchive no archive holds anything, and picking is NPOS_UNSUPPORTED. */
#ifndef NPI_DATA_ARCHIVE_PICK_H
#define NPI_DATA_ARCHIVE_PICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

typedef struct npi_picked {
    uint8_t *bytes; /* NULL: the archive has no such file; to be freed with npi_free */
    size_t size;
} npi_picked;

/* Whether one of an archive's first few files has one of these names, whatever folder it lies in, and
 * begins with the byte `first` (-1: any). */
bool npi_archive_holds(const char *path, const char *const *names, int count, int first);

/* out[i] = the file names[i], whatever folder it lies in; two of one name are an error.  Names that are
 * NULL are passed over. */
NPOS_MUST_CHECK npos_status npi_archive_pick(const char *path, const char *const *names, int count,
                                             npi_picked *out);
void npi_picked_clear(npi_picked *picked, int count);

#endif
