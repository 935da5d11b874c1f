/* All images of a folder or archive, however deep they lie, without classes: asked for as "flat:PATH",
 * never recognised.  Once open the set is one of the folder's or archive's own format. */
#include "base/file.h"
#include "data/format.h"

extern const npi_data_format npi_format_folder, npi_format_archive;

static bool recognise(const char *path) {
    (void)path;
    return false;
}

static npos_status open_flat(npi_source *source, npi_split split) {
    source->flat = true;
    source->format = npi_is_folder(source->path) ? &npi_format_folder : &npi_format_archive;
    return source->format->open(source, split);
}

static bool has_split(const char *path, npi_split split) {
    (void)path;
    (void)split;
    return false;
}

extern const npi_data_format npi_format_flat;
const npi_data_format npi_format_flat = {
    .name = "flat", .recognise = recognise, .open = open_flat, .has_split = has_split};
