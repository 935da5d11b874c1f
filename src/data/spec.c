#include "data/spec.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"

static npos_status copy_text(char **out, const char *text, size_t length) {
    NPI_TRY(npi_alloc(out, length + 1, 1, "SPEC"));
    memcpy(*out, text, length);
    return NPOS_OK;
}

/* Adds the items of `text`, parted by `comma` (',' or '\n'); empty ones are passed over. */
static npos_status add_items(npi_class_filter *filter, const char *text, char comma) {
    while (*text) {
        size_t length = strcspn(text, (char[]){comma, '\0'}), kept = length;
        if (kept > 0 && comma == '\n' && text[kept - 1] == '\r')
            kept--;
        if (kept > 0) {
            size_t count = (size_t)filter->count;
            NPI_TRY(npi_grow(&filter->items, count, count + 1, sizeof *filter->items, "classes"));
            NPI_TRY(copy_text(&filter->items[count], text, kept));
            filter->count++;
        }
        text += length + (text[length] != '\0');
    }
    return NPOS_OK;
}

static npos_status add_filter(npi_spec *spec, const char *list, bool exclude) {
    if (spec->filter_count == NPI_SPEC_FILTERS)
        return npi_fail(NPOS_INVALID_ARGUMENT, "more than %d #class filters", NPI_SPEC_FILTERS);
    npi_class_filter *filter = &spec->filters[spec->filter_count++];
    filter->exclude = exclude;
    if (list[0] == '@') {
        char *text;
        size_t size;
        NPI_TRY(npi_file_read(list + 1, &text, &size));
        npos_status status = add_items(filter, text, '\n');
        npi_free(text);
        NPI_TRY(status);
    } else {
        NPI_TRY(add_items(filter, list, ','));
    }
    if (filter->count == 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "#class%s=%s names no class", exclude ? "!" : "",
                        list);
    return NPOS_OK;
}

static npos_status set_first(npi_spec *spec, const char *text) {
    char *end;
    long long first = strtoll(text, &end, 10);
    if (spec->first > 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "#first stands there twice");
    if (*end || end == text || first < 1 || first > INT32_MAX)
        return npi_fail(NPOS_INVALID_ARGUMENT, "#first=%s, expected a number of images from 1 on",
                        text);
    spec->first = first;
    return NPOS_OK;
}

/* One suffix, without its '#'. */
static npos_status parse_suffix(npi_spec *spec, const char *text) {
    if (spec->first > 0 && strncmp(text, "first=", 6) != 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "#%s behind #first, which must stand last", text);
    if (strcmp(text, "train") == 0 || strcmp(text, "test") == 0) {
        if (spec->split != NPI_SPLIT_ALL || spec->filter_count > 0)
            return npi_fail(NPOS_INVALID_ARGUMENT, "#%s must be the only split and stand first",
                            text);
        spec->split = text[1] == 'r' ? NPI_SPLIT_TRAIN : NPI_SPLIT_TEST;
        return NPOS_OK;
    }
    if (strncmp(text, "class=", 6) == 0)
        return add_filter(spec, text + 6, false);
    if (strncmp(text, "class!=", 7) == 0)
        return add_filter(spec, text + 7, true);
    if (strncmp(text, "first=", 6) == 0)
        return set_first(spec, text + 6);
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "#%s is no suffix that a SPEC knows", text),
                    "a SPEC is "
                    "[FORMAT:]PATH[#train|#test][#class=A,B|#class!=A,B|#class=@FILE][#first=K]");
}

static npos_status parse_suffixes(npi_spec *spec, const char *text) {
    while (*text) {
        char *part;
        size_t length = strcspn(++text, "#");
        NPI_TRY(copy_text(&part, text, length));
        npos_status status = parse_suffix(spec, part);
        npi_free(part);
        NPI_TRY(status);
        text += length;
    }
    return NPOS_OK;
}

static bool exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

/* "FORMAT:" in front of a path, when it names a format and no such path exists. */
static npos_status parse_format(npi_spec *spec, const char **text) {
    const char *colon = strchr(*text, ':');
    if (!colon || exists(*text))
        return NPOS_OK;
    size_t length = (size_t)(colon - *text);
    for (int i = 0; i < npi_format_count; i++)
        if (strlen(npi_formats[i]->name) == length &&
            strncmp(*text, npi_formats[i]->name, length) == 0) {
            spec->format = npi_formats[i];
            *text = colon + 1;
        }
    return NPOS_OK;
}

static npos_status parse(const char *text, npi_spec *out) {
    NPI_TRY(parse_format(out, &text));
    size_t length = exists(text) ? strlen(text) : strcspn(text, "#");
    if (length == 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "no path");
    NPI_TRY(copy_text(&out->path, text, length));
    if (strchr(text + length, '#') && !exists(out->path)) {
        /* a '#' may belong to the path: the longest path that exists wins */
        for (size_t end = strlen(text) - 1; end > length; end--)
            if (text[end] == '#') {
                npi_free(out->path);
                NPI_TRY(copy_text(&out->path, text, end));
                if (exists(out->path))
                    return parse_suffixes(out, text + end);
            }
        npi_free(out->path);
        NPI_TRY(copy_text(&out->path, text, length));
    }
    return parse_suffixes(out, text + length);
}

npos_status npi_spec_parse(const char *text, npi_spec *out) {
    *out = (npi_spec){0};
    npos_status status = parse(text, out);
    if (status != NPOS_OK) {
        npi_spec_clear(out);
        return npi_fail_in(status, "SPEC '%s'", text);
    }
    return NPOS_OK;
}

void npi_spec_clear(npi_spec *spec) {
    npi_free(spec->path);
    for (int i = 0; i < spec->filter_count; i++) {
        for (int k = 0; k < spec->filters[i].count; k++)
            npi_free(spec->filters[i].items[k]);
        npi_free(spec->filters[i].items);
    }
    *spec = (npi_spec){0};
}
