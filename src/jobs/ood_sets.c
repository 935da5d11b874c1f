#include "jobs/ood_sets.h"

#include <stdbool.h>
#include <string.h>

#include "base/memory.h"

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

void npi_ood_sets_free(npi_ood_set *sets, int count) {
    for (int i = 0; sets && i < count; i++) {
        npi_free(sets[i].group);
        npi_free(sets[i].name);
        npi_free(sets[i].where);
    }
    npi_free(sets);
}
