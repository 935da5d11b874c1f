#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/format.h"

static npos_status take_name(npi_source *source, const char *path, int label, const char *line,
                             size_t length) {
    char **name = &source->class_names[label];
    NPI_TRY(npi_format(name, "%.*s", (int)length, line));
    for (int c = 0; c < label; c++)
        if (strcmp(source->class_names[c], *name) == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: classes %d and %d are both called '%s'", path, c,
                            label, *name);
    return NPOS_OK;
}

npos_status npi_class_names_parse(npi_source *source, const char *path, const char *text) {
    int found = 0;
    NPI_TRY(npi_alloc(&source->class_names, (size_t)source->classes, sizeof *source->class_names,
                      "class names"));
    for (const char *line = text; *line;) {
        size_t length = strcspn(line, "\r\n");
        if (length > 0 && found < source->classes)
            NPI_TRY(take_name(source, path, found, line, length));
        found += length > 0;
        line += length + (line[length] != '\0');
    }
    return found >= source->classes ? NPOS_OK
                                    : npi_fail(NPOS_BAD_DATA, "%s: %d class names, expected %d",
                                               path, found, source->classes);
}

npos_status npi_class_names_read(npi_source *source, const char *path) {
    char *text;
    size_t size;
    NPI_TRY(npi_file_read(path, &text, &size));
    npos_status status = npi_class_names_parse(source, path, text);
    npi_free(text);
    return status;
}

npos_status npi_class_names_beside(npi_source *source) {
    char *path;
    if (source->classes == 0)
        return NPOS_OK;
    if (npi_is_folder(source->path))
        NPI_TRY(npi_path_join(&path, source->path, "classes.txt"));
    else
        NPI_TRY(npi_format(&path, "%.*sclasses.txt",
                           (int)(npi_path_name(source->path) - source->path), source->path));
    npos_status status = npi_is_file(path) ? npi_class_names_read(source, path) : NPOS_OK;
    npi_free(path);
    return status;
}
