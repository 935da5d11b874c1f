/* What archives begin with; and, in a build without libarchive, the format that says so. */
#include <string.h>

#include "base/memory.h"
#include "data/archive_pick.h"
#include "data/format.h"

bool npi_archive_marked(const char *path) {
    static const struct {
        const char *magic;
        size_t size, at;
    } marks[] = {{"\x1f\x8b", 2, 0},
                 {"\xfd"
                  "7zXZ\0",
                  6, 0},
                 {"BZh", 3, 0},
                 {"\x28\xb5\x2f\xfd", 4, 0},
                 {"PK\x03\x04", 4, 0},
                 {"PK\x05\x06", 4, 0},
                 {"ustar", 5, 257}};
    char start[262] = "";
    size_t size = npi_file_start(path, start, sizeof start);
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (size >= marks[i].at + marks[i].size &&
            memcmp(start + marks[i].at, marks[i].magic, marks[i].size) == 0)
            return true;
    return false;
}

void npi_picked_clear(npi_picked *picked, int count) {
    for (int i = 0; i < count; i++) {
        npi_free(picked[i].bytes);
        picked[i] = (npi_picked){0};
    }
}

#ifndef NPI_HAVE_ARCHIVE
static npos_status lacking(const char *path) {
    return npi_hint(
        npi_fail(NPOS_UNSUPPORTED, "%s: an archive, and this build has no libarchive", path),
        "unpack it, or build npos where libarchive's development files are");
}

static npos_status open_none(npi_source *source, npi_split split) {
    (void)split;
    return lacking(source->path);
}

bool npi_archive_holds(const char *path, const char *const *names, int count, int first) {
    (void)path, (void)names, (void)count, (void)first;
    return false;
}

npos_status npi_archive_pick(const char *path, const char *const *names, int count,
                             npi_picked *out) {
    (void)names;
    memset(out, 0, (size_t)count * sizeof *out);
    return lacking(path);
}

static bool has_no_split(const char *path, npi_split split) {
    (void)path, (void)split;
    return false;
}

extern const npi_data_format npi_format_archive;
const npi_data_format npi_format_archive = {.name = "archive",
                                            .recognise = npi_archive_marked,
                                            .open = open_none,
                                            .has_split = has_no_split};
#endif
