/* A folder of image files, with or without class folders and split folders (data/class_tree.h). */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/class_tree.h"
#include "data/image_decode.h"

enum { MAX_DEPTH = 16 }; /* of folders; a link to a folder above itself ends here */

typedef struct folder {
    char **paths; /* of all image files, below the folder */
    int64_t count, capacity;
    int64_t *order; /* image i is paths[order[i]] */
    npi_strangers strangers;
} folder;

static npos_status scan(const char *root, const char *below, int depth, folder *out);

/* One entry: `whole` is root/path. */
static npos_status look_at(const char *root, const char *whole, char **path, int depth,
                           folder *out) {
    struct stat info;
    unsigned char magic[NPI_IMAGE_MAGIC];
    if (stat(whole, &info) != 0)
        return npi_fail_errno("%s: cannot stat", whole);
    if (S_ISDIR(info.st_mode))
        return scan(root, *path, depth + 1, out);
    if (!S_ISREG(info.st_mode) ||
        (!npi_tree_image_name(*path) &&
         !npi_image_known(magic, npi_file_start(whole, magic, sizeof magic)))) {
        npi_strangers_add(&out->strangers, *path);
        return NPOS_OK;
    }
    if (out->count == out->capacity) {
        int64_t larger = 2 * out->capacity + 1024;
        NPI_TRY(npi_grow(&out->paths, (size_t)out->capacity, (size_t)larger, sizeof *out->paths,
                         "file names"));
        out->capacity = larger;
    }
    out->paths[out->count++] = *path;
    *path = NULL;
    return NPOS_OK;
}

static npos_status scan(const char *root, const char *below, int depth, folder *out) {
    char *here = NULL, *path = NULL, *whole = NULL;
    npos_status status;
    DIR *stream = NULL;
    NPI_TRY(*below ? npi_path_join(&here, root, below) : npi_strdup(&here, root));
    if (depth > MAX_DEPTH) {
        status = npi_fail(NPOS_BAD_DATA, "%s: folders nested deeper than %d", here, MAX_DEPTH);
        goto done;
    }
    stream = opendir(here);
    if (!stream) {
        status = npi_fail_errno("%s: cannot open the folder", here);
        goto done;
    }
    for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        NPI_TRY_GOTO(*below ? npi_path_join(&path, below, entry->d_name)
                            : npi_strdup(&path, entry->d_name),
                     done);
        if (!npi_tree_side_file(path)) {
            NPI_TRY_GOTO(npi_path_join(&whole, root, path), done);
            NPI_TRY_GOTO(look_at(root, whole, &path, depth, out), done);
        }
        npi_free(whole);
        npi_free(path);
        whole = path = NULL;
    }
    status = NPOS_OK;
done:
    if (stream)
        closedir(stream);
    npi_free(whole);
    npi_free(path);
    npi_free(here);
    return status;
}

static void clear(folder *f) {
    for (int64_t i = 0; i < f->count; i++)
        npi_free(f->paths[i]);
    npi_free(f->paths);
    npi_free(f->order);
}

static bool recognise(const char *path) {
    return npi_is_folder(path);
}

static npos_status open_folder(npi_source *source, npi_split split) {
    folder *f;
    NPI_TRY(npi_alloc(&f, 1, sizeof *f, "folder"));
    source->state = f;
    NPI_TRY(scan(source->path, "", 0, f));
    NPI_TRY(npi_strangers_check(&f->strangers, source->path));
    return npi_tree_build(f->paths, f->count, split, source, &f->order);
}

static void close_folder(npi_source *source) {
    if (source->state)
        clear(source->state);
    npi_free(source->state);
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const folder *f = source->state;
    return npi_strdup(out, f->paths[f->order[i]]);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const folder *f = source->state;
    char *path;
    NPI_TRY(npi_path_join(&path, source->path, f->paths[f->order[i]]));
    npos_status status = npi_image_read(path, source->least_side, out);
    npi_free(path);
    return status;
}

static npos_status stamp(const npi_source *source, int64_t i, uint64_t *out) {
    const folder *f = source->state;
    char *path;
    NPI_TRY(npi_path_join(&path, source->path, f->paths[f->order[i]]));
    npos_status status = npi_file_stamp(path, out);
    npi_free(path);
    return status;
}

static bool has_split(const char *path, npi_split split) {
    folder f = {0};
    bool found = scan(path, "", 0, &f) == NPOS_OK && npi_tree_has_split(f.paths, f.count, split);
    clear(&f);
    return found;
}

extern const npi_data_format npi_format_folder;
const npi_data_format npi_format_folder = {.name = "folder",
                                           .recognise = recognise,
                                           .open = open_folder,
                                           .name_of = name_of,
                                           .decode = decode,
                                           .stamp = stamp,
                                           .has_split = has_split,
                                           .close = close_folder};
