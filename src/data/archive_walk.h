/* data/archive_walk.h - the members of a tar or zip archive one after the other, by libarchive.
 *
 *     npi_walk w = {0};
 *     NPI_TRY_GOTO(npi_walk_open(&w, path), done);
 *     for (;;) {
 *         NPI_TRY_GOTO(npi_walk_next(&w, &end), done);
 *         if (end)
 *             break;
 *         ... w.member, npi_walk_read ...
 *     }
 *     done: npi_walk_close(&w);
 *
 * Nothing is unpacked to the disk.  Refused, with the archive's and the member's name, are damage, paths
 * that are absolute or lead out of the archive, folders nested deeper than NPI_ARCHIVE_DEPTH, and archives
 * that unpack to more than 100 times their size (beyond 256 MB).
 *
 * Opening sets the thread's character set to UTF-8 until closing: open and close on one thread. */
#ifndef NPI_DATA_ARCHIVE_WALK_H
#define NPI_DATA_ARCHIVE_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/archive_read.h"

enum { NPI_WALK_MEMBER_BYTES = 256 << 20 };

typedef struct npi_walk {
    const char *path; /* of the archive; the caller's */
    char *member;     /* without "./" and doubled '/'; what takes it over sets it to NULL */
    bool is_file;     /* false: a link, hard or soft, or a device */
    uint8_t *buffer;  /* the member's first `got` bytes */
    size_t got;
    /* the walk's own */
    size_t buffer_bytes;
    int64_t packed_bytes, unpacked_bytes;
    struct archive *archive;
    struct archive_entry *entry;
    npi_archive_locale locale;
} npi_walk;

/* Whether libarchive finds a first member: also in tar files of before 1988, which lack a mark. */
bool npi_walk_known(const char *path);

NPOS_MUST_CHECK npos_status npi_walk_open(npi_walk *walk, const char *path);

/* The next member that is no folder. */
NPOS_MUST_CHECK npos_status npi_walk_next(npi_walk *walk, bool *end);

/* Reads on until `size` bytes of the member are in the buffer, or all. */
NPOS_MUST_CHECK npos_status npi_walk_read(npi_walk *walk, size_t size);

/* Reads the whole member, which must be of fewer than NPI_WALK_MEMBER_BYTES bytes. */
NPOS_MUST_CHECK npos_status npi_walk_read_all(npi_walk *walk);

void npi_walk_close(npi_walk *walk); /* a zeroed one is accepted */

#endif
