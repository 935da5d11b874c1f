/* data/archive_read.h - what reading an archive as a set and unpacking it share, on top of libarchive: formats, names,
 * limits against bombs.  Only in builds with libarchive (NPI_HAVE_ARCHIVE). */
#ifndef NPI_DATA_ARCHIVE_READ_H
#define NPI_DATA_ARCHIVE_READ_H

#include <locale.h>

#include "base/fail.h"

struct archive;
struct archive_entry;

enum {
    NPI_ARCHIVE_BLOCK = 1 << 17,        /* bytes read at once */
    NPI_ARCHIVE_FREE_BYTES = 256 << 20, /* unpacked, before the ratio counts */
    NPI_ARCHIVE_RATIO = 100,            /* unpacked to packed: images are compressed already */
    NPI_ARCHIVE_DEPTH = 16              /* of folders */
};

/* A reader of tar (plain, gzip, bzip2, xz, zstd) and zip; NULL when memory ran out. */
struct archive *npi_archive_reader(void);

/* The error that libarchive tells, in the archive at `path`; `member` may be NULL. */
NPOS_MUST_CHECK npos_status npi_archive_damaged(const char *path, struct archive *a,
                                                const char *member);

/* *out = the member's path without "./" and doubled '/', to be freed with npi_free; "" for what is no member.  Absolute
 * paths, ".." and folders nested deeper than NPI_ARCHIVE_DEPTH are NPOS_BAD_DATA. */
NPOS_MUST_CHECK npos_status npi_archive_member_path(const char *path, struct archive_entry *entry,
                                                    char **out);

/* libarchive brings names to the thread's character set, and gives up on those that it lacks: UTF-8 has them all. */
typedef struct npi_archive_locale {
    locale_t utf8, before;
} npi_archive_locale;
npi_archive_locale npi_archive_locale_enter(void);
void npi_archive_locale_leave(npi_archive_locale locale);

#endif
