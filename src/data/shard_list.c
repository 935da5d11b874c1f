#include "data/shard_list.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

bool npi_is_pattern(const char *path) {
    return strpbrk(path, "{*?[") != NULL;
}

typedef struct lister {
    const char *pattern;
    int most;
    int room;
    npi_shards *out;
} lister;

static bool is_full(const lister *l) {
    return l->most > 0 && l->out->count >= l->most;
}

static npos_status add_path(lister *l, const char *path) {
    npi_shards *out = l->out;
    if (is_full(l))
        return NPOS_OK;
    if (out->count == NPI_MOST_SHARDS)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: more than %d files", l->pattern,
                        NPI_MOST_SHARDS);
    if (out->count == l->room) {
        int larger = 2 * l->room + 64;
        NPI_TRY(npi_grow(&out->paths, (size_t)l->room, (size_t)larger, sizeof *out->paths,
                         "list of shards"));
        l->room = larger;
    }
    NPI_TRY(npi_strdup(&out->paths[out->count], path));
    out->count++;
    return NPOS_OK;
}

static npos_status add_matches(lister *l, const char *pattern) {
    glob_t found;
    int result = glob(pattern, GLOB_BRACE, NULL, &found);
    npos_status status = NPOS_OK;
    if (result == GLOB_NOMATCH)
        return npi_fail(NPOS_NOT_FOUND, "%s: no such file", pattern);
    if (result != 0)
        return npi_fail(result == GLOB_NOSPACE ? NPOS_OUT_OF_MEMORY : NPOS_IO,
                        "%s: cannot be searched", pattern);
    for (size_t i = 0; i < found.gl_pathc && status == NPOS_OK; i++)
        status = add_path(l, found.gl_pathv[i]);
    globfree(&found);
    return status;
}

/* The first "{A..B}" of digits: where it begins and ends, and its numbers. */
static bool find_range(const char *text, const char **begin, const char **end, long *from, long *to,
                       int *width) {
    for (const char *at = text; (at = strchr(at, '{')) != NULL; at++) {
        char *rest;
        size_t digits = strspn(at + 1, "0123456789");
        if (digits == 0 || digits > 9 || strncmp(at + 1 + digits, "..", 2) != 0)
            continue;
        const char *second = at + 3 + digits;
        size_t more = strspn(second, "0123456789");
        if (more == 0 || more > 9 || second[more] != '}')
            continue;
        *begin = at;
        *end = second + more + 1;
        *from = strtol(at + 1, &rest, 10);
        *to = strtol(second, &rest, 10);
        *width = (int)digits;
        return true;
    }
    return false;
}

/* Ranges from left to right, then wildcards; a pattern has a handful of ranges at most. */
static npos_status expand(lister *l, const char *pattern, int depth) {
    const char *begin, *end;
    long from, to;
    int width;
    if (depth == 8 || !find_range(pattern, &begin, &end, &from, &to, &width))
        return npi_is_pattern(pattern) || npi_is_file(pattern)
                   ? add_matches(l, pattern)
                   : npi_fail(NPOS_NOT_FOUND, "%s: no such file", pattern);
    if (from > to || to - from >= NPI_MOST_SHARDS)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: {%ld..%ld} is no range of 1 to %d files",
                        l->pattern, from, to, NPI_MOST_SHARDS);
    for (long i = from; i <= to && !is_full(l); i++) {
        char *one;
        NPI_TRY(npi_format(&one, "%.*s%0*ld%s", (int)(begin - pattern), pattern, width, i, end));
        npos_status status = expand(l, one, depth + 1);
        npi_free(one);
        NPI_TRY(status);
    }
    return NPOS_OK;
}

npos_status npi_shards_list(const char *path, int most, npi_shards *out) {
    lister l = {.pattern = path, .most = most, .out = out};
    char *pattern = NULL;
    npos_status status;
    *out = (npi_shards){0};
    if (npi_is_file(path)) {
        status = add_path(&l, path);
    } else if (npi_is_folder(path)) {
        /* its name may hold characters of a pattern */
        size_t length = 0;
        NPI_TRY(npi_alloc(&pattern, 2 * strlen(path) + 8, 1, "pattern"));
        for (const char *at = path; *at; at++) {
            if (strchr("{}*?[]\\,", *at))
                pattern[length++] = '\\';
            pattern[length++] = *at;
        }
        strcpy(pattern + length, "/*.tar");
        status = add_matches(&l, pattern);
    } else {
        status = expand(&l, path, 0);
    }
    npi_free(pattern);
    if (status != NPOS_OK)
        npi_shards_clear(out);
    return status;
}

void npi_shards_clear(npi_shards *shards) {
    for (int i = 0; i < shards->count; i++)
        npi_free(shards->paths[i]);
    npi_free(shards->paths);
    *shards = (npi_shards){0};
}
