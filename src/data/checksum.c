#include "data/checksum.h"

#ifdef NPI_HAVE_NETTLE
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <nettle/md5.h>
#include <nettle/sha2.h>

#include "base/memory.h"

enum { BLOCK = 1 << 18 };

typedef struct digest {
    bool sha256;
    struct md5_ctx md5;
    struct sha256_ctx sha;
} digest;

static void begin(digest *d, bool sha256) {
    d->sha256 = sha256;
    if (sha256)
        sha256_init(&d->sha);
    else
        md5_init(&d->md5);
}

static void add(digest *d, const uint8_t *bytes, size_t size) {
    if (d->sha256)
        sha256_update(&d->sha, size, bytes);
    else
        md5_update(&d->md5, size, bytes);
}

static void end(digest *d, char text[2 * SHA256_DIGEST_SIZE + 1]) {
    uint8_t bytes[SHA256_DIGEST_SIZE];
    size_t size = d->sha256 ? SHA256_DIGEST_SIZE : MD5_DIGEST_SIZE;
    if (d->sha256)
        sha256_digest(&d->sha, size, bytes);
    else
        md5_digest(&d->md5, size, bytes);
    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

static npos_status digest_file(const char *path, digest *d, npi_progress_fn *progress,
                               void *context) {
    struct stat info;
    int64_t done = 0;
    size_t got;
    uint8_t *block = NULL;
    npos_status status;
    FILE *file = fopen(path, "rbe");
    if (!file || fstat(fileno(file), &info) != 0) {
        status = npi_fail_errno("%s: cannot read", path);
        goto done;
    }
    NPI_TRY_GOTO(npi_alloc(&block, BLOCK, 1, "checksum"), done);
    while ((got = fread(block, 1, BLOCK, file)) > 0) {
        add(d, block, got);
        done += (int64_t)got;
        if (progress)
            NPI_TRY_GOTO(progress(context, done, info.st_size), done);
    }
    if (ferror(file))
        status = npi_fail_errno("%s: cannot read", path);
done:
    npi_free(block);
    if (file)
        fclose(file);
    return status;
}

bool npi_checksum_available(void) {
    return true;
}

npos_status npi_checksum_check(const char *path, const char *expected, npi_progress_fn *progress,
                               void *context) {
    bool md5 = strncmp(expected, "md5:", 4) == 0, sha256 = strncmp(expected, "sha256:", 7) == 0;
    char text[2 * SHA256_DIGEST_SIZE + 1];
    digest d;
    if (!md5 && !sha256)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: checksum '%s', expected md5:... or sha256:...",
                        path, expected);
    const char *hex = strchr(expected, ':') + 1;
    begin(&d, sha256);
    NPI_TRY(digest_file(path, &d, progress, context));
    end(&d, text);
    if (strcmp(text, hex) == 0)
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA, "%s: its %s is %s, expected %s", path, md5 ? "MD5" : "SHA-256",
                    text, hex);
}

#else

bool npi_checksum_available(void) {
    return false;
}

npos_status npi_checksum_check(const char *path, const char *expected, npi_progress_fn *progress,
                               void *context) {
    (void)progress, (void)context;
    return npi_fail(NPOS_UNSUPPORTED, "%s: this build has no nettle to compare it with %s", path,
                    expected);
}
#endif
