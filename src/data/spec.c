#include "data/spec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/catalogue.h"
#include "text/prompts.h"

static npos_status copy_text(char **out, const char *text, size_t length) {
    NPI_TRY(npi_alloc(out, length + 1, 1, "SPEC"));
    memcpy(*out, text, length);
    return NPOS_OK;
}

/* Adds the items of `text`, parted by `comma` (',' or '\n'); empty ones are passed over. */
static npos_status add_items(npi_filter *filter, const char *text, char comma) {
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

/* The WordNet ids of a built-in list of classes. */
static npos_status add_known(npi_filter *filter, const char *list) {
    npi_class_list classes;
    NPI_TRY(npi_class_list_open(list, &classes));
    npos_status status = NPOS_OK;
    for (int i = 0; i < classes.count && status == NPOS_OK; i++)
        status = add_items(filter, classes.folders[i], '\n');
    npi_class_list_clear(&classes);
    return status;
}

static bool is_known_list(const char *name) {
    const char *const *lists = npi_class_lists();
    while (*lists && strcmp(*lists, name) != 0)
        lists++;
    return *lists != NULL;
}

static npos_status new_filter(npi_spec *spec, npi_filter_kind kind, npi_filter **out) {
    if (spec->filter_count == NPI_SPEC_FILTERS)
        return npi_fail(NPOS_INVALID_ARGUMENT, "more than %d filters", NPI_SPEC_FILTERS);
    *out = &spec->filters[spec->filter_count++];
    (*out)->kind = kind;
    return NPOS_OK;
}

static npos_status add_classes(npi_spec *spec, const char *list, npi_filter_kind kind) {
    npi_filter *filter = NULL;
    NPI_TRY(new_filter(spec, kind, &filter));
    if (list[0] == '@' && !npi_is_file(list + 1) && is_known_list(list + 1)) {
        NPI_TRY(add_known(filter, list + 1));
    } else if (list[0] == '@') {
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
        return npi_fail(NPOS_INVALID_ARGUMENT, "#class%s=%s names no class",
                        kind == NPI_FILTER_EXCLUDE ? "!" : "", list);
    return NPOS_OK;
}

/* Digits to a number below 2^63; what stands behind them in *end. */
static bool read_number(const char *text, uint64_t *out, const char **end) {
    char *after;
    errno = 0;
    *out = strtoull(text, &after, 10);
    *end = after;
    return text[0] >= '0' && text[0] <= '9' && errno == 0 && *out <= INT64_MAX;
}

static npos_status add_number(npi_spec *spec, const char *text, npi_filter_kind kind) {
    const char *name = kind == NPI_FILTER_DRAW ? "draw" : "first", *end;
    npi_filter *filter = NULL;
    uint64_t number, seed = 0;
    bool known = read_number(text, &number, &end) && number > 0;
    if (known && *end == ':' && kind == NPI_FILTER_DRAW)
        known = read_number(end + 1, &seed, &end);
    if (!known || *end)
        return npi_fail(NPOS_INVALID_ARGUMENT, "#%s=%s: expected a number of images from 1 on%s",
                        name, text, kind == NPI_FILTER_DRAW ? ", or NUMBER:SEED" : "");
    NPI_TRY(new_filter(spec, kind, &filter));
    filter->number = (int64_t)number;
    filter->seed = seed;
    return NPOS_OK;
}

/* One suffix, without its '#'. */
static npos_status parse_suffix(npi_spec *spec, const char *text) {
    if (strcmp(text, "train") == 0 || strcmp(text, "test") == 0) {
        if (spec->split != NPI_SPLIT_ALL || spec->filter_count > 0)
            return npi_fail(NPOS_INVALID_ARGUMENT, "#%s must be the only split and stand first",
                            text);
        spec->split = text[1] == 'r' ? NPI_SPLIT_TRAIN : NPI_SPLIT_TEST;
        return NPOS_OK;
    }
    if (strncmp(text, "class=", 6) == 0)
        return add_classes(spec, text + 6, NPI_FILTER_CLASS);
    if (strncmp(text, "class!=", 7) == 0)
        return add_classes(spec, text + 7, NPI_FILTER_EXCLUDE);
    if (strncmp(text, "first=", 6) == 0)
        return add_number(spec, text + 6, NPI_FILTER_FIRST);
    if (strncmp(text, "draw=", 5) == 0)
        return add_number(spec, text + 5, NPI_FILTER_DRAW);
    return npi_hint(
        npi_fail(NPOS_INVALID_ARGUMENT, "#%s is no suffix that a SPEC knows", text),
        "a SPEC is [FORMAT:]PATH[#train|#test][#class=A,B|#class!=A,B|#class=@FILE|#first=N|"
        "#draw=N]");
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

/* A catalogue's name: *out = its SPEC below the root, with the suffixes at `text` behind it.  A split must stand first:
 * that of `text` comes before the set's own filters. */
static npos_status expand_name(const char *text, size_t length, char **out) {
    char *name = NULL, *spec = NULL;
    npos_status status;
    *out = NULL;
    NPI_TRY_GOTO(copy_text(&name, text, length), done);
    NPI_TRY_GOTO(npi_catalogue_spec(name, npi_data_root(), &spec), done);
    const char *rest = text + length, *own = strrchr(spec, '#');
    size_t path = own && !exists(spec) ? (size_t)(own - spec) : strlen(spec), split = 0;
    if (strncmp(rest, "#train", 6) == 0 || strncmp(rest, "#test", 5) == 0)
        split = 1 + strcspn(rest + 1, "#");
    status = npi_format(out, "%.*s%.*s%s%s", (int)path, spec, (int)split, rest, spec + path,
                        rest + split);
done:
    npi_free(name);
    npi_free(spec);
    return status;
}

static npos_status parse_path(const char *text, npi_spec *out) {
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

static npos_status parse(const char *text, npi_spec *out) {
    char *expanded = NULL;
    NPI_TRY(parse_format(out, &text));
    size_t length = strcspn(text, "#");
    if (!exists(text) && npi_catalogue_names(text, length)) {
        char *name;
        NPI_TRY(copy_text(&name, text, length));
        npos_status status = exists(name) ? NPOS_OK : expand_name(text, length, &expanded);
        npi_free(name);
        NPI_TRY(status);
    }
    npos_status status = parse_path(expanded ? expanded : text, out);
    npi_free(expanded);
    return status;
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
