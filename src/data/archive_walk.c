#include "data/archive_walk.h"

#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/file.h"
#include "base/memory.h"

bool npi_walk_known(const char *path) {
    struct archive *a = npi_is_file(path) ? npi_archive_reader() : NULL;
    struct archive_entry *entry;
    bool known = a && archive_read_open_filename(a, path, NPI_ARCHIVE_BLOCK) == ARCHIVE_OK &&
                 archive_read_next_header(a, &entry) >= ARCHIVE_WARN;
    archive_read_free(a);
    return known;
}

npos_status npi_walk_open(npi_walk *w, const char *path) {
    struct stat info;
    *w = (npi_walk){.path = path};
    if (stat(path, &info) == 0)
        w->packed_bytes = info.st_size;
    w->locale = npi_archive_locale_enter();
    w->archive = npi_archive_reader();
    if (!w->archive)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory to read the archive", path);
    return archive_read_open_filename(w->archive, path, NPI_ARCHIVE_BLOCK) == ARCHIVE_OK
               ? NPOS_OK
               : npi_archive_damaged(w->path, w->archive, NULL);
}

void npi_walk_close(npi_walk *w) {
    archive_read_free(w->archive);
    npi_archive_locale_leave(w->locale);
    npi_free(w->member);
    npi_free(w->buffer);
    *w = (npi_walk){0};
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
    if (through <= NPI_ARCHIVE_FREE_BYTES || through / NPI_ARCHIVE_RATIO <= w->packed_bytes)
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA,
                    "%s: %lld bytes unpack to more than %d times as many: no set of images",
                    w->path, (long long)w->packed_bytes, NPI_ARCHIVE_RATIO);
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
            return npi_archive_damaged(w->path, w->archive, NULL);
        NPI_TRY(check_ratio(w));
        NPI_TRY(npi_archive_member_path(w->path, w->entry, &w->member));
        w->is_file =
            archive_entry_filetype(w->entry) == AE_IFREG && !archive_entry_hardlink(w->entry);
        if (*w->member && archive_entry_filetype(w->entry) != AE_IFDIR)
            return NPOS_OK;
    }
}

npos_status npi_walk_read(npi_walk *w, size_t size) {
    while (w->got < size) {
        if (w->got == w->buffer_bytes) {
            size_t larger = 2 * w->buffer_bytes + NPI_ARCHIVE_BLOCK;
            NPI_TRY(npi_grow(&w->buffer, w->buffer_bytes, larger, 1, "archive member"));
            w->buffer_bytes = larger;
        }
        size_t room = (size < w->buffer_bytes ? size : w->buffer_bytes) - w->got;
        la_ssize_t n = archive_read_data(w->archive, w->buffer + w->got, room);
        if (n < 0)
            return npi_archive_damaged(w->path, w->archive, w->member);
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
