/* One image file: a set of one image without labels. */
#include "base/memory.h"
#include "data/format.h"
#include "data/image_decode.h"

static bool recognise(const char *path) {
    unsigned char magic[NPI_IMAGE_MAGIC];
    return npi_image_known(magic, npi_file_start(path, magic, sizeof magic));
}

static npos_status open_image(npi_source *source, npi_split split) {
    if (split != NPI_SPLIT_ALL)
        return npi_no_split(source, split, "it is a single image");
    source->count = 1;
    return NPOS_OK;
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    (void)i;
    return npi_strdup(out, source->path);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    (void)i;
    return npi_image_read(source->path, source->least_side, out);
}

static npos_status stamp(const npi_source *source, int64_t i, uint64_t *out) {
    (void)i;
    return npi_file_stamp(source->path, out);
}

static bool has_split(const char *path, npi_split split) {
    (void)path;
    (void)split;
    return false;
}

extern const npi_data_format npi_format_image;
const npi_data_format npi_format_image = {.name = "image",
                                          .recognise = recognise,
                                          .open = open_image,
                                          .name_of = name_of,
                                          .decode = decode,
                                          .stamp = stamp,
                                          .has_split = has_split};
