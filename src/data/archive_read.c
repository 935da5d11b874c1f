#include "data/archive_read.h"

#include <string.h>

#include <archive.h>
#include <archive_entry.h>

#include "base/memory.h"

struct archive *npi_archive_reader(void) {
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

npos_status npi_archive_damaged(const char *path, struct archive *a, const char *member) {
    const char *reason = archive_error_string(a);
    return npi_fail(NPOS_BAD_DATA, "%s: damaged archive%s%s: %s", path,
                    member ? ", in member " : "", member ? member : "",
                    reason ? reason : "unknown reason");
}

npos_status npi_archive_member_path(const char *path, struct archive_entry *entry, char **out) {
    const char *raw = archive_entry_pathname_utf8(entry);
    if (!raw)
        raw = archive_entry_pathname(entry);
    if (!raw)
        return npi_fail(NPOS_BAD_DATA, "%s: a member's name cannot be read", path);
    if (raw[0] == '/')
        return npi_fail(NPOS_BAD_DATA, "%s: member %s has an absolute path", path, raw);
    NPI_TRY(npi_alloc(out, strlen(raw) + 1, 1, "member name"));
    char *to = *out;
    int depth = 0;
    while (*raw) {
        size_t length = strcspn(raw, "/");
        if (length == 2 && strncmp(raw, "..", 2) == 0) {
            npi_fail(NPOS_BAD_DATA, "%s: member %s leads out of the archive", path,
                     archive_entry_pathname(entry));
            goto refused;
        }
        if (length > 0 && !(length == 1 && raw[0] == '.')) {
            if (to != *out)
                *to++ = '/';
            memcpy(to, raw, length);
            to += length;
            if (++depth > NPI_ARCHIVE_DEPTH + 1) {
                npi_fail(NPOS_BAD_DATA, "%s: folders nested deeper than %d", path,
                         NPI_ARCHIVE_DEPTH);
                goto refused;
            }
        }
        raw += length + (raw[length] == '/');
    }
    *to = '\0';
    return NPOS_OK;
refused:
    npi_free(*out);
    *out = NULL;
    return NPOS_BAD_DATA;
}

npi_archive_locale npi_archive_locale_enter(void) {
    npi_archive_locale locale = {newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0), (locale_t)0};
    if (locale.utf8)
        locale.before = uselocale(locale.utf8);
    return locale;
}

void npi_archive_locale_leave(npi_archive_locale locale) {
    if (!locale.utf8)
        return;
    uselocale(locale.before);
    freelocale(locale.utf8);
}
