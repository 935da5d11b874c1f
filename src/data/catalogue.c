#include "data/catalogue.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/dataset.h"

enum { COUNTED = 100000, PLACES_BYTES = 1024 };

/* clang-format off */
static const npi_data_set sets[] = {
#include "data/catalogue_sets.inc"
};
static const npi_benchmark benchmarks[] = {
#include "data/catalogue_benchmarks.inc"
};
/* clang-format on */
enum { SETS = sizeof sets / sizeof *sets, BENCHMARKS = sizeof benchmarks / sizeof *benchmarks };

const npi_data_set *npi_catalogue_set(int i) {
    return i >= 0 && i < SETS ? &sets[i] : NULL;
}

const npi_benchmark *npi_catalogue_benchmark(int i) {
    return i >= 0 && i < BENCHMARKS ? &benchmarks[i] : NULL;
}

static bool is(const char *text, size_t length, const char *word) {
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static const npi_data_set *find_set(const char *text, size_t length) {
    for (int i = 0; i < SETS; i++)
        if (is(text, length, sets[i].name))
            return &sets[i];
    return NULL;
}

static const npi_benchmark *find_benchmark(const char *text, size_t length) {
    for (int i = 0; i < BENCHMARKS; i++)
        if (is(text, length, benchmarks[i].name))
            return &benchmarks[i];
    return NULL;
}

/* The part that "BENCHMARK/PART" names. */
static const npi_benchmark_part *find_part(const char *text, size_t length) {
    const char *slash = memchr(text, '/', length);
    const npi_benchmark *benchmark = slash ? find_benchmark(text, (size_t)(slash - text)) : NULL;
    for (int i = 0; benchmark && i < NPI_BENCHMARK_PARTS && benchmark->part[i].name; i++)
        if (is(slash + 1, length - (size_t)(slash + 1 - text), benchmark->part[i].name))
            return &benchmark->part[i];
    return NULL;
}

const npi_data_set *npi_catalogue_find(const char *name) {
    return find_set(name, strlen(name));
}

const npi_benchmark *npi_catalogue_find_benchmark(const char *name) {
    return find_benchmark(name, strlen(name));
}

bool npi_catalogue_names(const char *text, size_t length) {
    return find_set(text, length) || find_part(text, length);
}

npos_status npi_catalogue_unknown(const char *name) {
    const char *names[SETS];
    for (int i = 0; i < SETS; i++)
        names[i] = sets[i].name;
    const char *nearest = npi_nearest_name(name, names, SETS);
    npi_fail(NPOS_INVALID_ARGUMENT, "the catalogue has no set '%s'", name);
    return nearest ? npi_hint(NPOS_INVALID_ARGUMENT, "did you mean '%s'?", nearest)
                   : npi_hint(NPOS_INVALID_ARGUMENT, "'npos data list' names them");
}

const char *npi_data_root(void) {
    const char *named = getenv("NPOS_DATA");
    return named && *named ? named : "datasets";
}

/* Whether there is a file, or a folder with more in it than downloads that are not finished. */
static bool exists(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return stat(path, &info) == 0;
    DIR *folder = opendir(path);
    bool found = !folder; /* one that may not be read is there: opening it says why it fails */
    for (struct dirent *entry; folder && !found && (entry = readdir(folder)) != NULL;)
        found = entry->d_name[0] != '.' && !strstr(entry->d_name, ".part");
    if (folder)
        closedir(folder);
    return found;
}

/* *out = "ROOT/PLACE" when the path in it exists, else NULL. */
static npos_status try_place(const char *root, const char *place, char **out) {
    char *path = NULL;
    *out = NULL;
    NPI_TRY(npi_path_join(out, root, place));
    npos_status status =
        npi_format(&path, "%.*s", (int)(strlen(*out) - strlen(place) + strcspn(place, "#")), *out);
    if (status != NPOS_OK || !exists(path)) {
        npi_free(*out);
        *out = NULL;
    }
    npi_free(path);
    return status;
}

static npos_status not_there(const npi_data_set *set, const char *root) {
    char places[PLACES_BYTES];
    size_t used = 0;
    places[0] = '\0';
    for (int i = 0; i < NPI_SET_PLACES && set->place[i] && used < sizeof places; i++)
        used += (size_t)snprintf(places + used, sizeof places - used, "%s%.*s", i ? ", " : "",
                                 (int)strcspn(set->place[i], "#"), set->place[i]);
    npi_fail(NPOS_NOT_FOUND, "%s: not below %s (looked for %s)", set->name, root, places);
    if (set->by_hand)
        return npi_hint(NPOS_NOT_FOUND, "%s", set->by_hand);
    return npi_hint(NPOS_NOT_FOUND,
                    "'npos data fetch %s' downloads it; --root or NPOS_DATA names another folder",
                    set->name);
}

/* *out = the set's SPEC, or NULL. */
static npos_status find_place(const npi_data_set *set, const char *root, char **out) {
    *out = NULL;
    for (int i = 0; i < NPI_SET_PLACES && set->place[i] && !*out; i++)
        NPI_TRY(try_place(root, set->place[i], out));
    return NPOS_OK;
}

npos_status npi_catalogue_spec(const char *name, const char *root, char **out) {
    const npi_data_set *set = npi_catalogue_find(name);
    const npi_benchmark_part *part = find_part(name, strlen(name));
    *out = NULL;
    if (part && !set)
        set = npi_catalogue_find(part->spec);
    if (set) {
        NPI_TRY(find_place(set, root, out));
        return *out ? NPOS_OK : not_there(set, root);
    }
    if (!part)
        return npi_catalogue_unknown(name);
    NPI_TRY(try_place(root, part->spec, out));
    if (*out)
        return NPOS_OK;
    npi_fail(NPOS_NOT_FOUND, "%s: no list %s below %s", name, part->spec, root);
    return npi_hint(NPOS_NOT_FOUND,
                    "OpenOOD's scripts/download/download.sh gets lists and images; --root or "
                    "NPOS_DATA names its folder 'data'");
}

/* Whether a set that is one file has the size of its source, so that it need not be opened. */
static bool has_its_size(const npi_data_set *set, const char *spec) {
    struct stat info;
    return !strchr(spec, '#') && !set->top && set->file[0].bytes && stat(spec, &info) == 0 &&
           S_ISREG(info.st_mode) && info.st_size == set->file[0].bytes;
}

npos_status npi_catalogue_look(const npi_data_set *set, const char *root, npi_data_found *out) {
    npi_dataset *opened;
    *out = (npi_data_found){.images = -1};
    NPI_TRY(find_place(set, root, &out->spec));
    if (!out->spec)
        return NPOS_OK;
    out->state = has_its_size(set, out->spec) ? NPI_DATA_COMPLETE : NPI_DATA_THERE;
    if (out->state == NPI_DATA_COMPLETE)
        return NPOS_OK;
    if (set->images == 0 || set->images > COUNTED)
        return NPOS_OK;
    npos_status status = npi_dataset_open(out->spec, &opened);
    if (status == NPOS_OK) {
        out->images = npi_dataset_count(opened);
        out->state = out->images == set->images ? NPI_DATA_COMPLETE : NPI_DATA_INCOMPLETE;
        npi_dataset_close(opened);
        return NPOS_OK;
    }
    out->state = NPI_DATA_UNREADABLE;
    if (status != NPOS_OUT_OF_MEMORY)
        status = npi_strdup(&out->why, npos_error_message());
    if (status != NPOS_OK)
        npi_data_found_clear(out);
    return status;
}

void npi_data_found_clear(npi_data_found *found) {
    npi_free(found->spec);
    npi_free(found->why);
    *found = (npi_data_found){0};
}
