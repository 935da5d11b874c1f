#include "data/archive_pick.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/archive_walk.h"
#include "data/format.h"

enum { FILES_LOOKED_AT = 4 };

/* The number of the name that the member has, -1: none. */
static int find_name(const char *member, const char *const *names, int count) {
    const char *own = npi_path_name(member);
    for (int i = 0; i < count; i++)
        if (names[i] && strcmp(own, names[i]) == 0)
            return i;
    return -1;
}

bool npi_archive_holds(const char *path, const char *const *names, int count, int first) {
    npi_walk w = {0};
    bool end = false, found = false;
    if (!npi_archive_marked(path))
        return false;
    npos_status status = npi_walk_open(&w, path);
    for (int i = 0; i < FILES_LOOKED_AT && status == NPOS_OK && !found; i++) {
        status = npi_walk_next(&w, &end);
        if (status != NPOS_OK || end)
            break;
        if (!w.is_file || find_name(w.member, names, count) < 0)
            continue;
        status = npi_walk_read(&w, 1);
        found = status == NPOS_OK && w.got > 0 && (first < 0 || w.buffer[0] == first);
    }
    npi_walk_close(&w);
    return found;
}

npos_status npi_archive_pick(const char *path, const char *const *names, int count,
                             npi_picked *out) {
    npi_walk w = {0};
    bool end;
    npos_status status;
    memset(out, 0, (size_t)count * sizeof *out);
    NPI_TRY_GOTO(npi_walk_open(&w, path), done);
    for (;;) {
        NPI_TRY_GOTO(npi_walk_next(&w, &end), done);
        if (end)
            break;
        int i = w.is_file ? find_name(w.member, names, count) : -1;
        if (i < 0)
            continue;
        if (out[i].bytes) {
            status = npi_fail(NPOS_BAD_DATA, "%s: two members are called %s", path, names[i]);
            goto done;
        }
        NPI_TRY_GOTO(npi_walk_read_all(&w), done);
        NPI_TRY_GOTO(npi_alloc(&out[i].bytes, w.got, 1, path), done);
        memcpy(out[i].bytes, w.buffer, w.got);
        out[i].size = w.got;
    }
done:
    npi_walk_close(&w);
    if (status != NPOS_OK)
        npi_picked_clear(out, count);
    return status;
}
