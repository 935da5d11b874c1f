#include "data/cifar_files.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/image_decode.h"

enum { TEN_TEST = 5, HUNDRED_TEST, TEN_NAMES = NPI_CIFAR_BATCHES, HUNDRED_NAMES };

static npi_split split_of(int file) {
    return file == TEN_TEST || file == HUNDRED_TEST ? NPI_SPLIT_TEST : NPI_SPLIT_TRAIN;
}

static bool wanted(int file, npi_split split) {
    return split == NPI_SPLIT_ALL || split_of(file) == split;
}

/* The number of a batch by its name; -1: it has another one. */
static int number_of(const npi_cifar_files *files, const char *name) {
    for (int i = 0; i < NPI_CIFAR_BATCHES; i++)
        if (strcmp(name, files->names[i]) == 0)
            return i;
    return -1;
}

static bool holds(const npi_cifar_files *files, const char *folder, int file) {
    char *path;
    if (npi_path_join(&path, folder, files->names[file]) != NPOS_OK)
        return false;
    bool found = files->is_batch(path);
    npi_free(path);
    return found;
}

bool npi_cifar_is_archive(const npi_cifar_files *files, const char *path) {
    return npi_archive_holds(path, files->names, NPI_CIFAR_BATCHES, files->first);
}

bool npi_cifar_has_split(const npi_cifar_files *files, const char *path, npi_split split) {
    if (npi_is_folder(path)) {
        for (int i = 0; i < NPI_CIFAR_BATCHES; i++)
            if (split_of(i) == split && holds(files, path, i))
                return true;
        return false;
    }
    int number = number_of(files, npi_path_name(path));
    return number >= 0 ? split_of(number) == split : npi_cifar_is_archive(files, path);
}

static npos_status read_file(const char *path, npi_picked *out) {
    char *bytes;
    NPI_TRY(npi_file_read(path, &bytes, &out->size));
    out->bytes = (uint8_t *)bytes;
    return NPOS_OK;
}

/* Takes over *path. */
static npos_status add_file(const npi_cifar_files *files, npi_source *source, int file,
                            char **path) {
    npi_picked bytes = {0};
    npos_status status = read_file(*path, &bytes);
    if (status == NPOS_OK)
        status = files->add(source, file, path, &bytes);
    npi_picked_clear(&bytes, 1);
    return status;
}

static int names_of(const npi_source *source) {
    return source->classes == 100 ? HUNDRED_NAMES : TEN_NAMES;
}

/* The file of class names in a folder, where there is one. */
static npos_status names_in(const npi_cifar_files *files, npi_source *source, const char *folder) {
    char *path;
    npi_picked bytes = {0};
    NPI_TRY(npi_path_join(&path, folder, files->names[names_of(source)]));
    npos_status status = npi_is_file(path) ? read_file(path, &bytes) : NPOS_OK;
    if (status == NPOS_OK && bytes.bytes)
        status = files->take_names(source, path, &bytes);
    npi_free(path);
    npi_picked_clear(&bytes, 1);
    return status;
}

static npos_status open_file(const npi_cifar_files *files, npi_source *source, npi_split split) {
    const char *name = npi_path_name(source->path);
    int number = number_of(files, name);
    char *path = NULL, *folder = NULL;
    npos_status status;
    if (split != NPI_SPLIT_ALL && (number < 0 || !wanted(number, split)))
        return npi_no_split(source, split, "the file's name is not one of that split");
    NPI_TRY(npi_format(&folder, "%.*s.", (int)(name - source->path), source->path));
    NPI_TRY_GOTO(npi_strdup(&path, source->path), done);
    NPI_TRY_GOTO(add_file(files, source, -1, &path), done);
    status = names_in(files, source, folder);
done:
    npi_free(folder);
    npi_free(path);
    return status;
}

static npos_status open_folder(const npi_cifar_files *files, npi_source *source, npi_split split) {
    int added = 0;
    for (int i = 0; i < NPI_CIFAR_BATCHES; i++) {
        char *path = NULL;
        if (!wanted(i, split) || !holds(files, source->path, i))
            continue;
        NPI_TRY(npi_path_join(&path, source->path, files->names[i]));
        npos_status status = add_file(files, source, i, &path);
        npi_free(path);
        NPI_TRY(status);
        added++;
    }
    return added > 0 ? names_in(files, source, source->path)
                     : npi_no_split(source, split, files->missing);
}

static npos_status open_archive(const npi_cifar_files *files, npi_source *source, npi_split split) {
    const char *picks[NPI_CIFAR_FILES];
    npi_picked picked[NPI_CIFAR_FILES];
    char *path = NULL;
    int added = 0;
    for (int i = 0; i < NPI_CIFAR_FILES; i++)
        picks[i] = i >= NPI_CIFAR_BATCHES || wanted(i, split) ? files->names[i] : NULL;
    NPI_TRY(npi_archive_pick(source->path, picks, NPI_CIFAR_FILES, picked));
    npos_status status = NPOS_OK;
    for (int i = 0; i < NPI_CIFAR_BATCHES && status == NPOS_OK; i++) {
        if (!picked[i].bytes)
            continue;
        status = npi_format(&path, "%s/%s", source->path, files->names[i]);
        if (status == NPOS_OK)
            status = files->add(source, i, &path, &picked[i]);
        npi_free(path);
        path = NULL;
        added++;
    }
    if (status == NPOS_OK && added == 0)
        status = npi_no_split(source, split, files->missing);
    const npi_picked *names = &picked[names_of(source)];
    if (status == NPOS_OK && names->bytes)
        status = npi_format(&path, "%s/%s", source->path, files->names[names_of(source)]);
    if (path)
        status = files->take_names(source, path, names);
    npi_free(path);
    npi_picked_clear(picked, NPI_CIFAR_FILES);
    return status;
}

npos_status npi_cifar_open(const npi_cifar_files *files, npi_source *source, npi_split split) {
    return npi_is_folder(source->path)                 ? open_folder(files, source, split)
           : npi_cifar_is_archive(files, source->path) ? open_archive(files, source, split)
                                                       : open_file(files, source, split);
}

npos_status npi_cifar_image(const uint8_t *planes, const char *path, npi_image *out) {
    enum { PLANE = NPI_CIFAR_SIDE * NPI_CIFAR_SIDE };
    NPI_TRY(npi_image_alloc(out, NPI_CIFAR_SIDE, NPI_CIFAR_SIDE, 3, path));
    for (int p = 0; p < PLANE; p++)
        for (int channel = 0; channel < 3; channel++)
            out->pixels[3 * p + channel] = planes[channel * PLANE + p];
    return NPOS_OK;
}
