#include "data/split_files.h"

#include "base/file.h"
#include "base/memory.h"

bool npi_split_files_have(const npi_split_files *files, const char *path, npi_split split) {
    char *found = NULL;
    if (!npi_is_folder(path))
        return files->split_of(npi_path_name(path)) == split;
    if (files->find(path, split, &found) != NPOS_OK)
        return false;
    npi_free(found);
    return found != NULL;
}

npos_status npi_split_files_open(const npi_split_files *files, npi_source *source,
                                 npi_split split) {
    static const npi_split order[] = {NPI_SPLIT_TEST, NPI_SPLIT_TRAIN};
    char *path = NULL;
    int added = 0;
    if (!npi_is_folder(source->path)) {
        if (split != NPI_SPLIT_ALL && files->split_of(npi_path_name(source->path)) != split)
            return npi_no_split(source, split, "the file's name is not one of that split");
        NPI_TRY(npi_strdup(&path, source->path));
        npos_status status = files->add(source, &path);
        npi_free(path);
        return status;
    }
    for (int i = 0; i < 2; i++) {
        if (split != NPI_SPLIT_ALL && order[i] != split)
            continue;
        NPI_TRY(files->find(source->path, order[i], &path));
        added += path != NULL;
        npos_status status = path ? files->add(source, &path) : NPOS_OK;
        npi_free(path);
        path = NULL;
        NPI_TRY(status);
    }
    return added > 0 ? NPOS_OK : npi_no_split(source, split, files->missing);
}
