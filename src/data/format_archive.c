/* tar, tar.gz, tar.bz2, tar.xz, tar.zst and zip of image files, by libarchive; the same set as the
 * folder that it was packed from (data/class_tree.h).
 *
 * The archive is read once, from front to end; the compressed images of the chosen split stay in
 * memory and are decoded on demand.  Nothing is unpacked to the disk. */
#include <string.h>
#include <sys/stat.h>

#include <archive.h>
#include <archive_entry.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/archive_read.h"
#include "data/class_tree.h"
#include "data/image_decode.h"

enum { MAX_MEMBER_BYTES = 256 << 20 }; /* of one image file */

typedef struct member {
    uint8_t *bytes; /* NULL when of another split */
    size_t size;
} member;

typedef struct packed {
    const char *path;
    npi_split split;
    bool names_only; /* has_split needs no more */
    int64_t packed_bytes, unpacked_bytes;
    char **paths;
    member *members;
    int64_t count, capacity;
    int64_t *order;
    uint8_t *buffer; /* of the member that is being read */
    size_t buffer_bytes;
    npi_strangers strangers;
} packed;

static void clear(packed *p) {
    for (int64_t i = 0; i < p->count; i++) {
        npi_free(p->paths[i]);
        npi_free(p->members[i].bytes);
    }
    npi_free(p->paths);
    npi_free(p->members);
    npi_free(p->order);
    npi_free(p->buffer);
}

/* Reads on until `size` bytes of the member are in the buffer; *got is less at its end. */
static npos_status read_data(packed *p, struct archive *a, const char *name, size_t size,
                             size_t *got) {
    while (*got < size) {
        if (*got == p->buffer_bytes) {
            size_t larger = 2 * p->buffer_bytes + NPI_ARCHIVE_BLOCK;
            NPI_TRY(npi_grow(&p->buffer, p->buffer_bytes, larger, 1, "archive member"));
            p->buffer_bytes = larger;
        }
        size_t room = (size < p->buffer_bytes ? size : p->buffer_bytes) - *got;
        la_ssize_t n = archive_read_data(a, p->buffer + *got, room);
        if (n < 0)
            return npi_archive_damaged(p->path, a, name);
        if (n == 0)
            return NPOS_OK;
        *got += (size_t)n;
        p->unpacked_bytes += n;
    }
    return NPOS_OK;
}

static npos_status add_member(packed *p, char **path, size_t size) {
    if (p->count == p->capacity) {
        size_t old = (size_t)p->capacity, larger = 2 * old + 1024;
        NPI_TRY(npi_grow(&p->paths, old, larger, sizeof *p->paths, "archive members"));
        NPI_TRY(npi_grow(&p->members, old, larger, sizeof *p->members, "archive members"));
        p->capacity = (int64_t)larger;
    }
    member *m = &p->members[p->count];
    *m = (member){0};
    if (size > 0) {
        NPI_TRY(npi_alloc(&m->bytes, size, 1, "archive member"));
        memcpy(m->bytes, p->buffer, size);
        m->size = size;
    }
    p->paths[p->count++] = *path;
    *path = NULL;
    return NPOS_OK;
}

static npos_status read_member(packed *p, struct archive *a, struct archive_entry *entry,
                               char **path) {
    if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry)) {
        if (npi_tree_image_name(*path))
            return npi_fail(NPOS_BAD_DATA, "%s: member %s is a link, expected a file", p->path,
                            *path);
        return NPOS_OK;
    }
    size_t got = 0;
    if (!npi_tree_image_name(*path)) {
        NPI_TRY(read_data(p, a, *path, NPI_IMAGE_MAGIC, &got));
        if (!npi_image_known(p->buffer, got)) {
            npi_strangers_add(&p->strangers, *path);
            return NPOS_OK;
        }
    }
    if (p->names_only || !npi_tree_may_be_in(*path, p->split))
        return add_member(p, path, 0);
    NPI_TRY(read_data(p, a, *path, MAX_MEMBER_BYTES, &got));
    if (got == MAX_MEMBER_BYTES)
        return npi_fail(NPOS_BAD_DATA, "%s: member %s is larger than %d MB", p->path, *path,
                        MAX_MEMBER_BYTES >> 20);
    if (got == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: member %s is empty, expected an image", p->path, *path);
    return add_member(p, path, got);
}

/* What was unpacked so far and what this member says it will be; passed-over members count too. */
static npos_status check_ratio(const packed *p, struct archive *a, struct archive_entry *entry) {
    int64_t through = archive_filter_bytes(a, 0), member_bytes = archive_entry_size(entry);
    if (p->unpacked_bytes > through)
        through = p->unpacked_bytes;
    if (member_bytes > INT64_MAX / 2)
        member_bytes = INT64_MAX / 2;
    if (member_bytes > 0)
        through += member_bytes;
    if (through <= NPI_ARCHIVE_FREE_BYTES || through / NPI_ARCHIVE_RATIO <= p->packed_bytes)
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA,
                    "%s: %lld bytes unpack to more than %d times as many: no set of images",
                    p->path, (long long)p->packed_bytes, NPI_ARCHIVE_RATIO);
}

/* Reads all members, or all names. */
static npos_status read_members(packed *p) {
    struct stat info;
    if (stat(p->path, &info) == 0)
        p->packed_bytes = info.st_size;
    struct archive *a = npi_archive_reader();
    if (!a)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory to read the archive", p->path);
    struct archive_entry *entry;
    npos_status status = NPOS_OK;
    char *path = NULL;
    if (archive_read_open_filename(a, p->path, NPI_ARCHIVE_BLOCK) != ARCHIVE_OK) {
        status = npi_archive_damaged(p->path, a, NULL);
        goto done;
    }
    for (;;) {
        int result = archive_read_next_header(a, &entry);
        if (result == ARCHIVE_EOF)
            break;
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
            status = npi_archive_damaged(p->path, a, NULL);
            goto done;
        }
        NPI_TRY_GOTO(check_ratio(p, a, entry), done);
        NPI_TRY_GOTO(npi_archive_member_path(p->path, entry, &path), done);
        if (*path && archive_entry_filetype(entry) != AE_IFDIR && !npi_tree_side_file(path))
            NPI_TRY_GOTO(read_member(p, a, entry, &path), done);
        npi_free(path);
        path = NULL;
    }
done:
    npi_free(path);
    archive_read_free(a);
    npi_free(p->buffer);
    p->buffer = NULL;
    return status;
}

static npos_status read_all(packed *p) {
    npi_archive_locale locale = npi_archive_locale_enter();
    npos_status status = read_members(p);
    npi_archive_locale_leave(locale);
    return status;
}

/* By their marks, so that damage further in is reported as that; libarchive knows the tar files of
 * before 1988, which lack a mark. */
static bool recognise(const char *path) {
    char start;
    if (npi_archive_marked(path))
        return true;
    struct archive *a = npi_file_start(path, &start, 1) > 0 ? npi_archive_reader() : NULL;
    struct archive_entry *entry;
    bool known = a && archive_read_open_filename(a, path, NPI_ARCHIVE_BLOCK) == ARCHIVE_OK &&
                 archive_read_next_header(a, &entry) >= ARCHIVE_WARN;
    archive_read_free(a);
    return known;
}

static npos_status open_archive(npi_source *source, npi_split split) {
    packed *p;
    if (!npi_is_file(source->path))
        return npi_fail(NPOS_NOT_FOUND, "%s: no such file", source->path);
    NPI_TRY(npi_alloc(&p, 1, sizeof *p, "archive"));
    source->state = p;
    p->path = source->path;
    p->split = split;
    NPI_TRY(read_all(p));
    NPI_TRY(npi_strangers_check(&p->strangers, source->path));
    return npi_tree_build(p->paths, p->count, split, source, &p->order);
}

static void close_archive(npi_source *source) {
    if (source->state)
        clear(source->state);
    npi_free(source->state);
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const packed *p = source->state;
    return npi_strdup(out, p->paths[p->order[i]]);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const packed *p = source->state;
    const member *m = &p->members[p->order[i]];
    npos_status status = npi_image_decode(m->bytes, m->size, p->paths[p->order[i]], out);
    return status == NPOS_OK ? status : npi_fail_in(status, "%s", source->path);
}

static npos_status stamp(const npi_source *source, int64_t i, uint64_t *out) {
    const packed *p = source->state;
    const member *m = &p->members[p->order[i]];
    *out = XXH3_64bits(m->bytes, m->size);
    return NPOS_OK;
}

static bool has_split(const char *path, npi_split split) {
    packed p = {.path = path, .names_only = true};
    bool found = read_all(&p) == NPOS_OK && npi_tree_has_split(p.paths, p.count, split);
    clear(&p);
    return found;
}

extern const npi_data_format npi_format_archive;
const npi_data_format npi_format_archive = {.name = "archive",
                                            .recognise = recognise,
                                            .open = open_archive,
                                            .name_of = name_of,
                                            .decode = decode,
                                            .stamp = stamp,
                                            .has_split = has_split,
                                            .close = close_archive};
