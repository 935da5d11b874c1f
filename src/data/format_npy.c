/* NumPy arrays: X.npy uint8 [N][H][W] or [N][H][W][C], C = 1 or 3; labels, if any, integers in
 * X_labels.npy or labels.npy beside it. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/array_images.h"
#include "data/format.h"
#include "io/npy.h"

static bool recognise(const char *path) {
    char magic[6];
    return npi_file_start(path, magic, sizeof magic) == sizeof magic &&
           memcmp(magic, "\x93NUMPY", 6) == 0;
}

/* *out = the labels' file beside `path`, NULL when there is none. */
static npos_status find_labels(const char *path, char **out) {
    size_t folder = (size_t)(npi_path_name(path) - path), stem = strlen(path);
    if (stem > 4 && strcmp(path + stem - 4, ".npy") == 0)
        stem -= 4;
    NPI_TRY(npi_format(out, "%.*s_labels.npy", (int)stem, path));
    if (npi_is_file(*out))
        return NPOS_OK;
    npi_free(*out);
    NPI_TRY(npi_format(out, "%.*slabels.npy", (int)folder, path));
    if (npi_is_file(*out))
        return NPOS_OK;
    npi_free(*out);
    *out = NULL;
    return NPOS_OK;
}

static npos_status open_npy(npi_source *source, npi_split split) {
    npi_npy *images;
    if (split != NPI_SPLIT_ALL)
        return npi_no_split(source, split, "an array has none");
    NPI_TRY(npi_alloc(&images, 1, sizeof *images, "array"));
    source->state = images;
    NPI_TRY(npi_npy_read(source->path, images));
    NPI_TRY(npi_array_images_check(images, source->path));
    char *path;
    NPI_TRY(find_labels(source->path, &path));
    if (!path) {
        source->count = images->shape[0];
        return NPOS_OK;
    }
    npi_npy labels = {0};
    npos_status status = npi_npy_read(path, &labels);
    if (status == NPOS_OK)
        status = npi_array_labels_add(source, &labels, path, images->shape[0]);
    source->count = images->shape[0];
    if (status == NPOS_OK)
        status = npi_class_names_beside(source);
    npi_npy_clear(&labels);
    npi_free(path);
    return status;
}

static void close_npy(npi_source *source) {
    if (source->state)
        npi_npy_clear(source->state);
    npi_free(source->state);
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    return npi_format(out, "%s[%lld]", npi_path_name(source->path), (long long)i);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    return npi_array_image(source->state, i, source->path, out);
}

static bool has_split(const char *path, npi_split split) {
    (void)path;
    (void)split;
    return false;
}

extern const npi_data_format npi_format_npy;
const npi_data_format npi_format_npy = {.name = "npy",
                                        .recognise = recognise,
                                        .open = open_npy,
                                        .name_of = name_of,
                                        .decode = decode,
                                        .has_split = has_split,
                                        .close = close_npy};
