/* npos_data_fetch: sets of the catalogue, downloaded, checked and unpacked below a root folder. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "data/catalogue.h"
#include "data/checksum.h"
#include "data/download.h"
#include "data/unpack.h"
#include "jobs/compute.h"
#include "jobs/options.h"
#include "npos/npos.h"

enum { KILO = 1000, MOST_SETS = 64 };

void npos_data_fetch_options_init(npos_data_fetch_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
}

/* What a step of one set's way tells as its progress. */
typedef struct step {
    const npos_compute *compute;
    const char *verb, *file;
} step;

static npos_status tell(void *context, int64_t done, int64_t total) {
    const step *s = context;
    char phase[96];
    snprintf(phase, sizeof phase, "%s %s", s->verb, s->file);
    if (npi_stop_requested())
        return npi_hint(npi_fail(NPOS_INTERRUPTED, "%s: stopped at %lld of %lld kB", phase,
                                 (long long)(done / KILO), (long long)(total / KILO)),
                        "the same command goes on from there");
    if (done == 0 && total == 0)
        return NPOS_OK;
    return npi_compute_progress(s->compute, phase, (done + KILO - 1) / KILO,
                                (total + KILO - 1) / KILO, "kB");
}

/* "MIRROR/FILE", or the catalogue's own link; NULL: there are no more. */
static npos_status url_of(const npos_data_fetch_options *options, const npi_data_file *file, int i,
                          char **out) {
    *out = NULL;
    if (options->mirror && i == 0)
        return npi_path_join(out, options->mirror, file->name);
    i -= options->mirror != NULL;
    return i < 2 && file->url[i] ? npi_strdup(out, file->url[i]) : NPOS_OK;
}

/* The newest error with another one behind it. */
static npos_status add_before(npos_status status, const char *before) {
    char message[1024], hint[256];
    snprintf(message, sizeof message, "%s", npos_error_message());
    snprintf(hint, sizeof hint, "%s", npos_error_hint());
    return npi_hint(npi_fail(status, "%s (before it: %s)", message, before), "%s", hint);
}

/* Tries one server after the other until one has the file.  A server that has another file is an error at once; else
 * the last one's error counts, with the first one's behind it. */
static npos_status download(const npos_data_fetch_options *options, const npi_data_file *file,
                            const char *path) {
    step s = {&options->compute, "fetch", file->name};
    char before[512] = "";
    npos_status status = NPOS_NOT_FOUND;
    for (int i = 0;; i++) {
        char *url;
        NPI_TRY(url_of(options, file, i, &url));
        if (!url)
            return status;
        if (i > 0)
            snprintf(before, sizeof before, "%s", npos_error_message());
        npi_download d = {.url = url,
                          .path = path,
                          .bytes = file->bytes,
                          .checksum = file->checksum,
                          .progress = tell,
                          .context = &s};
        status = npi_download_file(&d);
        npi_free(url);
        if (status != NPOS_NOT_FOUND && status != NPOS_IO)
            return status;
        if (*before)
            status = add_before(status, before);
    }
}

/* Whether a finished file lies there; one that is not what it should be is an error. */
static npos_status have_file(const npos_data_fetch_options *options, const npi_data_file *file,
                             const char *path, bool *have) {
    struct stat info;
    step s = {&options->compute, "check", file->name};
    *have = stat(path, &info) == 0;
    if (!*have)
        return NPOS_OK;
    npos_status status = NPOS_OK;
    if (file->bytes > 0 && info.st_size != file->bytes)
        status = npi_fail(NPOS_BAD_DATA, "%s: has %lld bytes, expected %lld", path,
                          (long long)info.st_size, (long long)file->bytes);
    else if (file->checksum)
        status = npi_checksum_check(path, file->checksum, tell, &s);
    return status == NPOS_BAD_DATA ? npi_hint(status, "move it away; fetch then downloads it anew")
                                   : status;
}

static npos_status fetch_file(const npos_data_fetch_options *options, const npi_data_set *set,
                              const npi_data_file *file, const char *folder) {
    char *path = NULL;
    bool have = false;
    step s = {&options->compute, "unpack", file->name};
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&path, folder, file->name), done);
    NPI_TRY_GOTO(have_file(options, file, path, &have), done);
    if (!have)
        NPI_TRY_GOTO(download(options, file, path), done);
    if (set->top) {
        struct stat info;
        if (stat(path, &info) == 0)
            NPI_TRY_GOTO(npi_check_room(folder, info.st_size, set->name), done);
        NPI_TRY_GOTO(npi_unpack(path, folder, set->top, tell, &s), done);
        if (!options->keep)
            unlink(path);
    }
done:
    npi_free(path);
    return status;
}

/* Room for all downloads of a set that are not there, and for what they unpack to (images hardly shrink when packed). */
static npos_status check_room(const npi_data_set *set, const char *folder) {
    int64_t bytes = 0;
    for (int i = 0; i < NPI_SET_FILES && set->file[i].name; i++)
        bytes += set->file[i].bytes;
    return npi_check_room(folder, set->top ? bytes / 4 * 9 : bytes, set->name);
}

static npos_status say(const npos_data_fetch_options *options, const npi_data_set *set,
                       const npi_data_found *found, bool before) {
    if (!options->out)
        return NPOS_OK;
    fprintf(options->out, "%s: %s%s", set->name, before ? "is there already: " : "", found->spec);
    if (found->images >= 0)
        fprintf(options->out, ", %lld images", (long long)found->images);
    if (found->why)
        fprintf(options->out, " (%s)", found->why);
    fputc('\n', options->out);
    fflush(options->out);
    return NPOS_OK;
}

/* A set that lies somewhere, but not whole: fetch does not touch it. */
static npos_status half_there(const npi_data_set *set, const npi_data_found *found) {
    if (found->images >= 0)
        npi_fail(NPOS_BAD_DATA, "%s: %s has %lld images, expected %lld", set->name, found->spec,
                 (long long)found->images, (long long)set->images);
    else
        npi_fail(NPOS_BAD_DATA, "%s: %s is not whole%s%s", set->name, found->spec,
                 found->why ? ": " : "", found->why ? found->why : "");
    return npi_hint(NPOS_BAD_DATA, "move it away; fetch then downloads it anew");
}

static npos_status check_build(void) {
    if (!npi_download_available() || !npi_checksum_available())
        return npi_hint(npi_fail(NPOS_UNSUPPORTED, "this build has no %s to fetch sets with",
                                 npi_download_available() ? "nettle" : "libcurl"),
                        "build npos where libcurl's and nettle's development files are");
    return NPOS_OK;
}

static npos_status fetch_set(const npos_data_fetch_options *options, const npi_data_set *set,
                             const char *root) {
    npi_data_found found = {0};
    char *folder = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_catalogue_look(set, root, &found), done);
    if (found.state == NPI_DATA_COMPLETE || found.state == NPI_DATA_THERE) {
        status = say(options, set, &found, true);
        goto done;
    }
    bool one_file = set->file[0].name && !set->file[1].name;
    if (found.state != NPI_DATA_MISSING && (set->top || one_file)) {
        status = half_there(set, &found);
        goto done;
    }
    if (set->by_hand) {
        status = npi_hint(npi_fail(NPOS_UNSUPPORTED, "%s cannot be fetched", set->name), "%s",
                          set->by_hand);
        goto done;
    }
    npi_data_found_clear(&found);
    NPI_TRY_GOTO(check_build(), done);
    NPI_TRY_GOTO(*set->home ? npi_path_join(&folder, root, set->home) : npi_strdup(&folder, root),
                 done);
    NPI_TRY_GOTO(check_room(set, folder), done);
    NPI_TRY_GOTO(npi_make_folders(folder), done);
    for (int i = 0; i < NPI_SET_FILES && set->file[i].name; i++)
        NPI_TRY_GOTO(fetch_file(options, set, &set->file[i], folder), done);
    NPI_TRY_GOTO(npi_catalogue_look(set, root, &found), done);
    status = found.spec
                 ? say(options, set, &found, false)
                 : npi_fail(NPOS_INTERNAL, "%s: fetched, but not found below %s", set->name, root);
done:
    npi_data_found_clear(&found);
    npi_free(folder);
    return status;
}

typedef struct set_list {
    const npi_data_set *set[MOST_SETS];
    int count;
} set_list;

static void add_set(set_list *list, const npi_data_set *set) {
    for (int i = 0; i < list->count; i++)
        if (list->set[i] == set)
            return;
    if (list->count < MOST_SETS)
        list->set[list->count++] = set;
}

static npos_status add_name(set_list *list, const char *name) {
    const npi_data_set *set = npi_catalogue_find(name);
    const npi_benchmark *benchmark = npi_catalogue_find_benchmark(name);
    if (set) {
        add_set(list, set);
        return NPOS_OK;
    }
    if (!benchmark)
        return npi_catalogue_unknown(name);
    for (int i = 0; i < NPI_BENCHMARK_PARTS && benchmark->part[i].name; i++) {
        set = npi_catalogue_find(benchmark->part[i].spec);
        if (!set)
            return npi_hint(
                npi_fail(NPOS_UNSUPPORTED,
                         "%s cannot be fetched: its lists and images "
                         "are OpenOOD's to hand out",
                         name),
                "run OpenOOD's scripts/download/download.sh and name its folder 'data' with "
                "--root");
        add_set(list, set);
    }
    return NPOS_OK;
}

npos_status npos_data_fetch(const npos_data_fetch_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_data_fetch");
    const char *root = options->root ? options->root : npi_data_root();
    set_list list = {.count = 0};
    if (options->name_count < 1)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "no set to fetch was named"),
                        "'npos data list' names them");
    for (int i = 0; i < options->name_count; i++)
        NPI_TRY(add_name(&list, options->names[i]));
    npi_stop_watch();
    npos_status status = NPOS_OK;
    for (int i = 0; i < list.count && status == NPOS_OK; i++)
        status = fetch_set(options, list.set[i], root);
    npi_stop_unwatch();
    return status;
}
