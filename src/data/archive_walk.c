#include "data/archive_walk.h"

#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/file.h"
#include "base/memory.h"

enum {
    READ_BYTES = 1 << 17,
    FREE_BYTES = 256 << 20, /* unpacked, before the ratio counts */
    MAX_RATIO = 100         /* unpacked to packed: images are compressed already */
};

static struct archive *new_reader(void) {
    struct archive *a = archive_read_new();
    if (a) {
        archive_read_support_format_tar(a);
        archive_read_support_format_zip(a);
        archive_read_support_filter_gzip(a);
        archive_read_support_filter_bzip2(a);
        archive_read_support_filter_xz(a);
        archive_read_support_filter_zstd(a);
    }
    return a;
}

bool npi_walk_known(const char *path) {
    struct archive *a = npi_is_file(path) ? new_reader() : NULL;
    struct archive_entry *entry;
    bool known = a && archive_read_open_filename(a, path, READ_BYTES) == ARCHIVE_OK &&
                 archive_read_next_header(a, &entry) >= ARCHIVE_WARN;
    archive_read_free(a);
    return known;
}

static npos_status damaged(const npi_walk *w, const char *member_name) {
    const char *reason = archive_error_string(w->archive);
    return npi_fail(NPOS_BAD_DATA, "%s: damaged archive%s%s: %s", w->path,
                    member_name ? ", in member " : "", member_name ? member_name : "",
                    reason ? reason : "unknown reason");
}

/* libarchive brings names to the thread's character set, and gives up on those that it lacks: UTF-8
 * has them all. */
npos_status npi_walk_open(npi_walk *w, const char *path) {
    struct stat info;
    *w = (npi_walk){.path = path};
    if (stat(path, &info) == 0)
        w->packed_bytes = info.st_size;
    w->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (w->utf8)
        w->before = uselocale(w->utf8);
    w->archive = new_reader();
    if (!w->archive)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory to read the archive", path);
    return archive_read_open_filename(w->archive, path, READ_BYTES) == ARCHIVE_OK
               ? NPOS_OK
               : damaged(w, NULL);
}

void npi_walk_close(npi_walk *w) {
    archive_read_free(w->archive);
    if (w->utf8) {
        uselocale(w->before);
        freelocale(w->utf8);
    }
    npi_free(w->member);
    npi_free(w->buffer);
    *w = (npi_walk){0};
}

/* The member's path without "./" and doubled '/'; "" for what is no member of a set.  Paths that lead
 * out of the archive are refused. */
static npos_status clean_path(npi_walk *w) {
    const char *raw = archive_entry_pathname_utf8(w->entry);
    if (!raw)
        raw = archive_entry_pathname(w->entry);
    if (!raw)
        return npi_fail(NPOS_BAD_DATA, "%s: a member's name cannot be read", w->path);
    if (raw[0] == '/')
        return npi_fail(NPOS_BAD_DATA, "%s: member %s has an absolute path", w->path, raw);
    NPI_TRY(npi_alloc(&w->member, strlen(raw) + 1, 1, "member name"));
    char *to = w->member;
    int depth = 0;
    for (const char *part = raw; *part;) {
        size_t length = strcspn(part, "/");
        if (length == 2 && strncmp(part, "..", 2) == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: member %s leads out of the archive", w->path, raw);
        if (length > 0 && !(length == 1 && part[0] == '.')) {
            if (to != w->member)
                *to++ = '/';
            memcpy(to, part, length);
            to += length;
            if (++depth > NPI_WALK_DEPTH + 1)
                return npi_fail(NPOS_BAD_DATA, "%s: folders nested deeper than %d", w->path,
                                NPI_WALK_DEPTH);
        }
        part += length + (part[length] == '/');
    }
    *to = '\0';
    return NPOS_OK;
}

/* What was unpacked so far and what this member says it will be; passed-over members count too. */
static npos_status check_ratio(const npi_walk *w) {
    int64_t through = archive_filter_bytes(w->archive, 0);
    int64_t member_bytes = archive_entry_size(w->entry);
    if (w->unpacked_bytes > through)
        through = w->unpacked_bytes;
    if (member_bytes > INT64_MAX / 2)
        member_bytes = INT64_MAX / 2;
    if (member_bytes > 0)
        through += member_bytes;
    if (through <= FREE_BYTES || through / MAX_RATIO <= w->packed_bytes)
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA,
                    "%s: %lld bytes unpack to more than %d times as many: no set of images",
                    w->path, (long long)w->packed_bytes, MAX_RATIO);
}

npos_status npi_walk_next(npi_walk *w, bool *end) {
    *end = false;
    for (;;) {
        npi_free(w->member);
        w->member = NULL;
        w->got = 0;
        int result = archive_read_next_header(w->archive, &w->entry);
        *end = result == ARCHIVE_EOF;
        if (*end)
            return NPOS_OK;
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
            return damaged(w, NULL);
        NPI_TRY(check_ratio(w));
        NPI_TRY(clean_path(w));
        w->is_file =
            archive_entry_filetype(w->entry) == AE_IFREG && !archive_entry_hardlink(w->entry);
        if (*w->member && archive_entry_filetype(w->entry) != AE_IFDIR)
            return NPOS_OK;
    }
}

npos_status npi_walk_read(npi_walk *w, size_t size) {
    while (w->got < size) {
        if (w->got == w->buffer_bytes) {
            size_t larger = 2 * w->buffer_bytes + READ_BYTES;
            NPI_TRY(npi_grow(&w->buffer, w->buffer_bytes, larger, 1, "archive member"));
            w->buffer_bytes = larger;
        }
        size_t room = (size < w->buffer_bytes ? size : w->buffer_bytes) - w->got;
        la_ssize_t n = archive_read_data(w->archive, w->buffer + w->got, room);
        if (n < 0)
            return damaged(w, w->member);
        if (n == 0)
            return NPOS_OK;
        w->got += (size_t)n;
        w->unpacked_bytes += n;
    }
    return NPOS_OK;
}

npos_status npi_walk_read_all(npi_walk *w) {
    NPI_TRY(npi_walk_read(w, NPI_WALK_MEMBER_BYTES));
    return w->got < NPI_WALK_MEMBER_BYTES
               ? NPOS_OK
               : npi_fail(NPOS_BAD_DATA, "%s: member %s is larger than %d MB", w->path, w->member,
                          NPI_WALK_MEMBER_BYTES >> 20);
}
