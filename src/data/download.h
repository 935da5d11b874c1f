/* data/download.h - one file from a web server, whole or not at all, by libcurl (NPI_HAVE_CURL).
 *
 * What came so far is PATH.part, and goes on from there (HTTP ranges) after a cut, a try later or in another process;
 * PATH.part.tag keeps the server's mark (ETag or date) so that two versions of a file are never joined (If-Range).  The
 * finished file is compared in size and checksum, then renamed to PATH.
 *
 * A try that ends early is repeated after a pause that doubles; tries count from the farthest point that was reached, so
 * that a slow line never exhausts them while it moves.  Redirects are followed, to http and https only. */
#ifndef NPI_DATA_DOWNLOAD_H
#define NPI_DATA_DOWNLOAD_H

#include "data/dataset.h"

typedef struct npi_download {
    const char *url, *path;
    int64_t bytes;             /* of the whole file; 0: not known */
    const char *checksum;      /* "md5:...", "sha256:..."; NULL: none */
    int tries;                 /* without getting farther; 0: 6 */
    double pause;              /* seconds before the second try; 0: 1 */
    int stall;                 /* seconds without a byte that end a try; 0: 60 */
    npi_progress_fn *progress; /* told bytes; may be NULL */
    void *context;
} npi_download;

/* NPOS_NOT_FOUND: the server has no such file; NPOS_BAD_DATA: another size or checksum than expected, twice;
 * NPOS_IO: the network or the disk; what `progress` returned.  PATH.part stays unless it was wrong. */
NPOS_MUST_CHECK npos_status npi_download_file(const npi_download *download);

/* Whether this build can download. */
bool npi_download_available(void);

/* NPOS_IO when the disk of `folder` (or of the nearest one above that exists) has less than `bytes` free. */
NPOS_MUST_CHECK npos_status npi_check_room(const char *folder, int64_t bytes, const char *what);

#endif
