#include "io/token_foreign.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/weights.h"

struct npi_token_foreign {
    npi_weights *feature; /* [images][rows][width]; NULL where each image has its file */
    char **files;         /* [images] */
    int64_t count;        /* of files */
};

enum { PART = 4096, MOST_CLASSES = 1 << 20 };

void npi_token_foreign_close(npi_token_foreign *foreign) {
    if (!foreign)
        return;
    for (int64_t i = 0; i < foreign->count; i++)
        npi_free(foreign->files[i]);
    npi_free(foreign->files);
    npi_weights_close(foreign->feature);
    npi_free(foreign);
}

/* Elements first.. of a file's only tensor as float16. */
static npos_status read_halves(const npi_weights *weights, int64_t first, int64_t count,
                               uint16_t *out) {
    float part[PART];
    for (int64_t done = 0; done < count; done += PART) {
        int64_t n = count - done < PART ? count - done : PART;
        NPI_TRY(npi_weights_read(weights, 0, first + done, n, part));
        for (int64_t k = 0; k < n; k++)
            out[done + k] = npi_f32_to_f16(part[k]);
    }
    return NPOS_OK;
}

/* *out = the file's one tensor. */
static npos_status only_tensor(const npi_weights *weights, const npi_named_tensor **out) {
    if (npi_weights_count(weights) != 1)
        return npi_fail(NPOS_BAD_DATA, "%s: holds %d tensors, expected one",
                        npi_weights_path(weights), npi_weights_count(weights));
    *out = npi_weights_at(weights, 0);
    return NPOS_OK;
}

static npos_status set_shape(const char *path, int64_t rows, int64_t width, npi_token_info *info) {
    if (rows < 1 || width < 1 || rows > INT32_MAX / 4 / width)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "%s: images of %" PRId64 " rows of %" PRId64 " numbers", path, rows, width);
    info->rows = (int)rows;
    info->width = (int)width;
    info->block = -1;
    info->reducing_gap = -1;
    info->chunk = NPI_TOKEN_CHUNK;
    return NPOS_OK;
}

/* ---- feature.pt and target.pt ---- */

static npos_status number_classes(npi_token_info *info) {
    NPI_TRY(npi_alloc(&info->class_names, (size_t)info->classes, sizeof *info->class_names,
                      "class names"));
    for (int i = 0; i < info->classes; i++)
        NPI_TRY(npi_format(&info->class_names[i], "%d", i));
    return NPOS_OK;
}

static npos_status read_targets(const char *path, npi_token_info *info) {
    npi_weights *file = NULL;
    const npi_named_tensor *tensor = NULL;
    int64_t *labels = NULL, most = 0;
    npos_status status;
    NPI_TRY_GOTO(npi_weights_open(path, &file), done);
    NPI_TRY_GOTO(npi_weights_check(file), done);
    NPI_TRY_GOTO(only_tensor(file, &tensor), done);
    if (tensor->ndim != 1 || tensor->shape[0] != info->images) {
        status = npi_fail(NPOS_SHAPE_MISMATCH,
                          "%s: %" PRId64 " labels of %d dimensions, expected "
                          "one for each of %" PRId64 " images",
                          path, npi_weights_elements(file, 0), tensor->ndim, info->images);
        goto done;
    }
    NPI_TRY_GOTO(npi_alloc(&labels, (size_t)info->images, sizeof *labels, "labels"), done);
    NPI_TRY_GOTO(npi_alloc(&info->labels, (size_t)info->images, sizeof *info->labels, "labels"),
                 done);
    NPI_TRY_GOTO(npi_weights_read_i64(file, 0, 0, info->images, labels), done);
    for (int64_t i = 0; i < info->images; i++) {
        if (labels[i] < 0 || labels[i] >= MOST_CLASSES) {
            status =
                npi_fail(NPOS_BAD_DATA, "%s: label %" PRId64 " is %" PRId64, path, i, labels[i]);
            goto done;
        }
        info->labels[i] = (int32_t)labels[i];
        most = labels[i] > most ? labels[i] : most;
    }
    info->classes = (int)most + 1;
    status = number_classes(info);
done:
    npi_free(labels);
    npi_weights_close(file);
    return status;
}

static npos_status open_feature(const char *path, npi_token_info *info, npi_token_foreign *out) {
    const npi_named_tensor *tensor = NULL;
    char *target;
    NPI_TRY(npi_weights_open(path, &out->feature));
    NPI_TRY(only_tensor(out->feature, &tensor));
    if (tensor->ndim != 3 || tensor->shape[0] < 1)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "%s: a tensor of %d dimensions, expected [images][rows][width]", path,
                        tensor->ndim);
    if (tensor->shape[0] > INT32_MAX) /* strides of 0 say so in few bytes */
        return npi_fail(NPOS_UNSUPPORTED, "%s: %" PRId64 " images, at most %d can be held", path,
                        tensor->shape[0], INT32_MAX);
    info->images = tensor->shape[0];
    NPI_TRY(set_shape(path, tensor->shape[1], tensor->shape[2], info));
    NPI_TRY(npi_weights_check(out->feature));
    NPI_TRY(npi_format(&target, "%.*starget.pt", (int)(npi_path_name(path) - path), path));
    npos_status status = read_targets(target, info);
    npi_free(target);
    return status;
}

/* ---- a folder for each class ---- */

static int visible(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int torch_file(const struct dirent *entry) {
    size_t length = strlen(entry->d_name);
    return visible(entry) && length > 3 && strcmp(entry->d_name + length - 3, ".pt") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Sorted names of a folder's entries; *out and each of them to be freed with free. */
static npos_status list(const char *folder, int (*wanted)(const struct dirent *),
                        struct dirent ***out, int *count) {
    *count = scandir(folder, out, wanted, by_bytes);
    if (*count >= 0)
        return NPOS_OK;
    *count = 0;
    *out = NULL;
    return errno == ENOENT ? npi_fail(NPOS_NOT_FOUND, "%s: no such file or folder", folder)
                           : npi_fail_errno("%s: cannot list", folder);
}

static void free_list(struct dirent **entries, int count) {
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
}

/* Adds a class and its files; a folder without any is none. */
static npos_status add_class(const char *folder, const char *name, npi_token_info *info,
                             npi_token_foreign *out) {
    struct dirent **files = NULL;
    int count = 0;
    int64_t old = out->count;
    npos_status status;
    NPI_TRY_GOTO(list(folder, torch_file, &files, &count), done);
    if (!count)
        goto done;
    size_t total = (size_t)(old + count), classes = (size_t)info->classes;
    NPI_TRY_GOTO(npi_grow(&out->files, (size_t)old, total, sizeof *out->files, "files"), done);
    NPI_TRY_GOTO(npi_grow(&info->labels, (size_t)old, total, sizeof *info->labels, "labels"), done);
    NPI_TRY_GOTO(npi_grow(&info->class_names, classes, classes + 1, sizeof *info->class_names,
                          "class names"),
                 done);
    NPI_TRY_GOTO(npi_strdup(&info->class_names[classes], name), done);
    info->classes++;
    for (int i = 0; i < count; i++) {
        NPI_TRY_GOTO(npi_path_join(&out->files[out->count], folder, files[i]->d_name), done);
        info->labels[out->count++] = (int32_t)classes;
    }
done:
    free_list(files, count);
    return status;
}

/* The tensor of one image; the shape is [rows][width] but for one dimension of 1. */
static npos_status open_image(const char *path, npi_weights **out, int64_t *rows, int64_t *width) {
    const npi_named_tensor *tensor = NULL;
    NPI_TRY(npi_weights_open(path, out));
    NPI_TRY(only_tensor(*out, &tensor));
    const int64_t *shape = tensor->shape;
    bool three = tensor->ndim == 3 && (shape[0] == 1 || shape[1] == 1);
    if (tensor->ndim != 2 && !three)
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "%s: a tensor of %d dimensions, expected [rows][width]", path,
                        tensor->ndim);
    *rows = tensor->ndim == 3 && shape[0] == 1 ? shape[1] : shape[0];
    *width = shape[tensor->ndim - 1];
    return NPOS_OK;
}

static npos_status open_classes(const char *path, npi_token_info *info, npi_token_foreign *out) {
    struct dirent **folders = NULL;
    int count = 0;
    npos_status status;
    NPI_TRY_GOTO(list(path, visible, &folders, &count), done);
    for (int i = 0; i < count; i++) {
        char *folder;
        NPI_TRY_GOTO(npi_path_join(&folder, path, folders[i]->d_name), done);
        status = npi_is_folder(folder) ? add_class(folder, folders[i]->d_name, info, out) : NPOS_OK;
        npi_free(folder);
        if (status != NPOS_OK)
            goto done;
    }
    info->images = out->count;
    if (!out->count) {
        status =
            npi_hint(npi_fail(NPOS_NOT_FOUND, "%s: holds no tokens", path),
                     "expected what npos extract wrote, feature.pt with target.pt, or a folder "
                     "of .pt files for each class");
        goto done;
    }
    npi_weights *first = NULL;
    int64_t rows = 0, width = 0;
    status = open_image(out->files[0], &first, &rows, &width);
    npi_weights_close(first);
    if (status == NPOS_OK)
        status = set_shape(out->files[0], rows, width, info);
done:
    free_list(folders, count);
    return status;
}

/* ---- both ---- */

npos_status npi_token_foreign_open(const char *path, npi_token_info *info,
                                   npi_token_foreign **out) {
    npi_token_foreign *foreign;
    char *feature = NULL;
    npos_status status;
    *out = NULL;
    NPI_TRY(npi_alloc(&foreign, 1, sizeof *foreign, "token store"));
    NPI_TRY_GOTO(npi_path_join(&feature, path, "feature.pt"), done);
    if (npi_is_file(path) || npi_is_file(feature))
        status = open_feature(npi_is_file(path) ? path : feature, info, foreign);
    else
        status = open_classes(path, info, foreign);
done:
    npi_free(feature);
    if (status == NPOS_OK)
        *out = foreign;
    else
        npi_token_foreign_close(foreign);
    return status;
}

npos_status npi_token_foreign_read(const npi_token_foreign *foreign, const npi_token_info *info,
                                   int64_t i, uint16_t *out) {
    int64_t numbers = (int64_t)info->rows * info->width, rows = 0, width = 0;
    npi_weights *file = NULL;
    npos_status status;
    if (foreign->feature)
        return read_halves(foreign->feature, i * numbers, numbers, out);
    NPI_TRY_GOTO(open_image(foreign->files[i], &file, &rows, &width), done);
    NPI_TRY_GOTO(npi_weights_check(file), done);
    if (rows != info->rows || width != info->width)
        status =
            npi_fail(NPOS_SHAPE_MISMATCH, "%s: [%" PRId64 "][%" PRId64 "], expected [%d][%d] as %s",
                     foreign->files[i], rows, width, info->rows, info->width, foreign->files[0]);
    else
        status = read_halves(file, 0, numbers, out);
done:
    npi_weights_close(file);
    return status;
}

npos_status npi_token_foreign_identity(const npi_token_foreign *foreign, uint64_t *out) {
    XXH3_state_t *state;
    npos_status status = NPOS_OK;
    *out = 0;
    if (foreign->feature)
        return npi_weights_hash(foreign->feature, out);
    state = XXH3_createState();
    if (!state)
        return npi_fail(NPOS_OUT_OF_MEMORY, "no memory for a hash of names");
    XXH3_64bits_reset(state);
    for (int64_t i = 0; status == NPOS_OK && i < foreign->count; i++) {
        const char *name = npi_path_name(foreign->files[i]);
        struct stat info;
        if (stat(foreign->files[i], &info) != 0)
            status = npi_fail_errno("%s: cannot stat", foreign->files[i]);
        int64_t size = status == NPOS_OK ? (int64_t)info.st_size : 0;
        XXH3_64bits_update(state, name, strlen(name) + 1);
        XXH3_64bits_update(state, &size, sizeof size);
    }
    *out = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return status;
}
