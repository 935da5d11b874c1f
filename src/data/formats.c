/* The formats of image sets, in the order in which they are asked to recognise a content. */
#include "data/format.h"

#include <stdio.h>
#include <sys/stat.h>

extern const npi_data_format npi_format_npy, npi_format_npz, npi_format_idx, npi_format_cifar,
    npi_format_cifar_py, npi_format_mat, npi_format_image, npi_format_list, npi_format_archive,
    npi_format_folder, npi_format_flat, npi_format_webdataset;

const npi_data_format *const npi_formats[] = {
    &npi_format_npy,        &npi_format_npz,     &npi_format_idx,    &npi_format_cifar,
    &npi_format_cifar_py,   &npi_format_mat,     &npi_format_image,  &npi_format_list,
    &npi_format_webdataset, &npi_format_archive, &npi_format_folder, &npi_format_flat,
};
const int npi_format_count = sizeof npi_formats / sizeof *npi_formats;

const char *npi_split_name(npi_split split) {
    return split == NPI_SPLIT_TRAIN ? "train" : split == NPI_SPLIT_TEST ? "test" : "all";
}

size_t npi_file_start(const char *path, void *bytes, size_t size) {
    FILE *file = fopen(path, "rbe");
    if (!file)
        return 0;
    size_t got = fread(bytes, 1, size, file);
    fclose(file);
    return got;
}

npos_status npi_file_stamp(const char *path, uint64_t *out) {
    struct stat info;
    if (stat(path, &info) != 0)
        return npi_fail_errno("%s", path);
    *out = (uint64_t)info.st_size;
    return NPOS_OK;
}

npos_status npi_no_split(const npi_source *source, npi_split split, const char *expected) {
    return npi_fail(NPOS_NOT_FOUND, "%s (%s): no split '%s': %s", source->path,
                    source->format->name, npi_split_name(split), expected);
}
