/* tar, tar.gz, tar.bz2, tar.xz, tar.zst and zip of image files, by libarchive; the same set as the
 * folder that it was packed from (data/class_tree.h).
 *
 * The archive is read once, from front to end; the compressed images of the chosen split stay in
 * memory and are decoded on demand.  Nothing is unpacked to the disk. */
#include <string.h>

#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/archive_walk.h"
#include "data/class_tree.h"
#include "data/image_decode.h"

typedef struct member {
    uint8_t *bytes; /* NULL when of another split */
    size_t size;
} member;

typedef struct packed {
    const char *path;
    npi_split split;
    bool names_only; /* has_split needs no more */
    char **paths;
    member *members;
    int64_t count, capacity;
    int64_t *order;
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
}

/* The walk's member, of which the first `size` bytes are kept. */
static npos_status add_member(packed *p, npi_walk *w, size_t size) {
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
        memcpy(m->bytes, w->buffer, size);
        m->size = size;
    }
    p->paths[p->count++] = w->member;
    w->member = NULL;
    return NPOS_OK;
}

static npos_status read_member(packed *p, npi_walk *w) {
    if (!w->is_file) {
        if (npi_tree_image_name(w->member))
            return npi_fail(NPOS_BAD_DATA, "%s: member %s is a link, expected a file", p->path,
                            w->member);
        return NPOS_OK;
    }
    if (!npi_tree_image_name(w->member)) {
        NPI_TRY(npi_walk_read(w, NPI_IMAGE_MAGIC));
        if (!npi_image_known(w->buffer, w->got)) {
            npi_strangers_add(&p->strangers, w->member);
            return NPOS_OK;
        }
    }
    if (p->names_only || !npi_tree_may_be_in(w->member, p->split))
        return add_member(p, w, 0);
    NPI_TRY(npi_walk_read_all(w));
    return add_member(p, w, w->got);
}

/* Reads all members, or all names. */
static npos_status read_all(packed *p) {
    npi_walk w = {0};
    bool end;
    npos_status status;
    NPI_TRY_GOTO(npi_walk_open(&w, p->path), done);
    for (;;) {
        NPI_TRY_GOTO(npi_walk_next(&w, &end), done);
        if (end)
            break;
        if (!npi_tree_side_file(w.member))
            NPI_TRY_GOTO(read_member(p, &w), done);
    }
done:
    npi_walk_close(&w);
    return status;
}

/* By their marks, so that damage further in is reported as that. */
static bool recognise(const char *path) {
    return npi_archive_marked(path) || npi_walk_known(path);
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
    npos_status status =
        npi_image_decode(m->bytes, m->size, p->paths[p->order[i]], source->least_side, out);
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
