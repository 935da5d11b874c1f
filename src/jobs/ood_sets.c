#include "jobs/ood_sets.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "data/catalogue.h"

enum { LONGEST = 100 }; /* of a name: it becomes a file name */

static npos_status copy(char **out, const char *text, size_t length) {
    return npi_format(out, "%.*s", (int)length, text);
}

/* Names are parts of file names and of table rows. */
static bool usable(const char *text, size_t length) {
    if (length == 0 || length > LONGEST || text[0] == '.')
        return false;
    for (size_t i = 0; i < length; i++)
        if (text[i] == '/' || (unsigned char)text[i] < ' ' || text[i] == 127)
            return false;
    return true;
}

static bool is(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static npos_status parse(const char *argument, npi_ood_set *out) {
    const char *equals = strchr(argument, '=');
    if (!equals || equals == argument || equals[1] == '\0')
        return npi_hint(
            npi_fail(NPOS_INVALID_ARGUMENT, "OOD set '%s': expected [GROUP/]NAME=SPEC", argument),
            "for example far/textures=datasets/dtd");
    const char *slash = memchr(argument, '/', (size_t)(equals - argument));
    const char *name = slash ? slash + 1 : argument;
    size_t name_length = (size_t)(equals - name),
           group_length = slash ? (size_t)(slash - argument) : 0;
    if (!usable(name, name_length) || (slash && !usable(argument, group_length)))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "OOD set '%s': group and name become file names, expected 1 to %d "
                        "characters without '/' that do not start with '.'",
                        argument, LONGEST);
    if (is(name, name_length, "id") || is(argument, group_length, "all"))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "OOD set '%s': the name 'id' and the group 'all' have a meaning already",
                        argument);
    NPI_TRY(copy(&out->group, argument, group_length));
    NPI_TRY(copy(&out->name, name, name_length));
    return npi_strdup(&out->where, equals + 1);
}

npos_status npi_ood_sets_parse(const char *const *arguments, int count, npi_ood_set **out) {
    *out = NULL;
    if (count < 1)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "no OOD set was given"),
                        "name one or more as [GROUP/]NAME=SPEC");
    NPI_TRY(npi_alloc(out, (size_t)count, sizeof **out, "OOD sets"));
    npi_ood_set *sets = *out;
    npos_status status;
    for (int i = 0; i < count; i++) {
        NPI_TRY_GOTO(parse(arguments[i], &sets[i]), fail);
        for (int j = 0; j < i; j++) {
            if (strcmp(sets[i].name, sets[j].name) == 0) {
                status = npi_fail(NPOS_INVALID_ARGUMENT, "OOD set name '%s' is used twice: %s, %s",
                                  sets[i].name, arguments[j], arguments[i]);
                goto fail;
            }
        }
    }
    return NPOS_OK;
fail:
    npi_ood_sets_free(sets, count);
    *out = NULL;
    return status;
}

/* Arguments in full, made from names of the catalogue. */
typedef struct full {
    char **text;
    int count;
} full;

static npos_status grow(full *to) {
    size_t count = (size_t)to->count;
    return npi_grow(&to->text, count, count + 1, sizeof *to->text, "OOD sets");
}

/* "GROUP/NAME=SPEC" */
static npos_status add(full *to, const char *group, const char *name, const char *spec,
                       const char *rest) {
    NPI_TRY(grow(to));
    NPI_TRY(npi_format(&to->text[to->count], "%s%s%s=%s%s", group, *group ? "/" : "", name, spec,
                       rest));
    to->count++;
    return NPOS_OK;
}

static npos_status add_as_it_is(full *to, const char *argument) {
    NPI_TRY(grow(to));
    NPI_TRY(npi_strdup(&to->text[to->count], argument));
    to->count++;
    return NPOS_OK;
}

static bool is_ood(const npi_benchmark_part *part) {
    return strcmp(part->group, "near") == 0 || strcmp(part->group, "far") == 0;
}

static bool is_csid(const npi_benchmark_part *part) {
    return strcmp(part->group, "full-spectrum") == 0;
}

/* The parts that are wanted, or the one called `only`. */
static npos_status add_benchmark(full *to, const npi_benchmark *benchmark, const char *only,
                                 bool (*wanted)(const npi_benchmark_part *part)) {
    for (int i = 0; i < NPI_BENCHMARK_PARTS && benchmark->part[i].name; i++) {
        const npi_benchmark_part *part = &benchmark->part[i];
        if (only ? strcmp(part->name, only) == 0 : wanted(part)) {
            char *spec;
            NPI_TRY(npi_format(&spec, "%s/%s", benchmark->name, part->name));
            npos_status status = add(to, is_ood(part) ? part->group : "", part->name, spec, "");
            npi_free(spec);
            NPI_TRY(status);
        }
    }
    return NPOS_OK;
}

static npos_status add_full(full *to, const char *argument) {
    const char *slash = strchr(argument, '/'), *name = slash ? slash + 1 : argument;
    const npi_data_set *set = npi_catalogue_find(name);
    const npi_benchmark *benchmark = npi_catalogue_find_benchmark(argument);
    char group[LONGEST + 1];
    if (strchr(argument, '='))
        return add_as_it_is(to, argument);
    if (benchmark)
        return add_benchmark(to, benchmark, NULL, is_ood);
    snprintf(group, sizeof group, "%.*s", slash ? (int)(slash - argument) : 0, argument);
    if (slash && npi_catalogue_names(argument, strlen(argument)))
        return add_benchmark(to, npi_catalogue_find_benchmark(group), name, is_ood);
    if (!set)
        return add_as_it_is(to, argument); /* its error says what was expected */
    if (!slash)
        strcpy(group, set->roles & NPI_ROLE_FAR ? "far" : set->roles & NPI_ROLE_NEAR ? "near" : "");
    return add(to, group, name, name, set->test);
}

static npos_status add_full_csid(full *to, const char *argument) {
    const char *slash = strchr(argument, '/');
    const npi_benchmark *benchmark = npi_catalogue_find_benchmark(argument);
    char name[LONGEST + 1];
    int before = to->count;
    if (strchr(argument, '='))
        return add_as_it_is(to, argument);
    if (benchmark) {
        NPI_TRY(add_benchmark(to, benchmark, NULL, is_csid));
        if (to->count > before)
            return NPOS_OK;
        return npi_hint(
            npi_fail(NPOS_INVALID_ARGUMENT, "benchmark '%s' has no full-spectrum sets", argument),
            "openood-cifar10, openood-imagenet200 and openood-imagenet have some");
    }
    snprintf(name, sizeof name, "%.*s", slash ? (int)(slash - argument) : 0, argument);
    if (slash && npi_catalogue_names(argument, strlen(argument)))
        return add_benchmark(to, npi_catalogue_find_benchmark(name), slash + 1, is_csid);
    return npi_hint(
        npi_fail(NPOS_INVALID_ARGUMENT, "set '%s': expected NAME=SPEC", argument),
        "for example imagenet-r=datasets/imagenet-r, or a benchmark of 'npos data list'");
}

static npos_status parse_all(const char *const *arguments, int count,
                             npos_status (*add_one)(full *to, const char *argument),
                             npi_ood_set **out, int *out_count) {
    full all = {0};
    npos_status status = NPOS_OK;
    *out = NULL;
    *out_count = 0;
    for (int i = 0; i < count && status == NPOS_OK; i++)
        status = add_one(&all, arguments[i]);
    if (status == NPOS_OK)
        status = npi_ood_sets_parse((const char *const *)all.text, all.count, out);
    if (status == NPOS_OK)
        *out_count = all.count;
    for (int i = 0; i < all.count; i++)
        npi_free(all.text[i]);
    npi_free(all.text);
    return status;
}

npos_status npi_ood_specs_parse(const char *const *arguments, int count, npi_ood_set **out,
                                int *out_count) {
    return parse_all(arguments, count, add_full, out, out_count);
}

npos_status npi_csid_specs_parse(const char *const *arguments, int count, npi_ood_set **out,
                                 int *out_count) {
    *out = NULL;
    *out_count = 0;
    return count > 0 ? parse_all(arguments, count, add_full_csid, out, out_count) : NPOS_OK;
}

void npi_ood_sets_free(npi_ood_set *sets, int count) {
    for (int i = 0; sets && i < count; i++) {
        npi_free(sets[i].group);
        npi_free(sets[i].name);
        npi_free(sets[i].where);
    }
    npi_free(sets);
}
