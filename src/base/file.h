/* base/file.h - files: read whole, written whole or not at all, folders. */
#ifndef NPI_BASE_FILE_H
#define NPI_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/fail.h"

/* *out = the file's bytes with a zero byte behind them (not counted), to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_file_read(const char *path, char **out, size_t *size);

/* Writes `path` whole or not at all: a temporary file beside it, flushed to the disk, then renamed.  A
 * device or pipe (/dev/stdout, a shell's >(command)) is written to as it is, of a symbolic link the file that
 * it points to is replaced; a folder is an error.
 *     npi_atomic file;
 *     NPI_TRY(npi_atomic_open(&file, path));
 *     fwrite(..., file.stream);                       errors of the stream are found by commit
 *     NPI_TRY(npi_atomic_commit(&file));
 * npi_atomic_abort drops the temporary file; after commit it does nothing, so it can stand at a
 * `done:` label of a zeroed npi_atomic. */
typedef struct npi_atomic {
    FILE *stream;
    char *path, *temporary;
} npi_atomic;
NPOS_MUST_CHECK npos_status npi_atomic_open(npi_atomic *file, const char *path);
NPOS_MUST_CHECK npos_status npi_atomic_commit(npi_atomic *file);
void npi_atomic_abort(npi_atomic *file);

/* npi_atomic_open, write, commit. */
NPOS_MUST_CHECK npos_status npi_file_write(const char *path, const void *bytes, size_t size);

/* Adds to the end of `path` (made where it is not there).  On failure, as on a full disk, the file is
 * as it was. */
NPOS_MUST_CHECK npos_status npi_file_append(const char *path, const void *bytes, size_t size);

/* Makes a folder and the ones above it; existing ones are fine. */
NPOS_MUST_CHECK npos_status npi_make_folders(const char *path);

bool npi_is_file(const char *path);
bool npi_is_folder(const char *path);

/* *out = "a/b", to be freed with npi_free. */
NPOS_MUST_CHECK npos_status npi_path_join(char **out, const char *a, const char *b);

/* Part of the path behind the last '/'. */
const char *npi_path_name(const char *path);

/* Of `count` names the one nearest to `word` (edit distance, at most a third of its letters), or
 * NULL. */
const char *npi_nearest_name(const char *word, const char *const *names, size_t count);

#endif
