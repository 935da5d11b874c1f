/* npos_data_list: the catalogue, and what of it lies below a root folder. */
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "data/catalogue.h"
#include "io/json_text.h"
#include "jobs/options.h"
#include "npos/npos.h"
#include "report/grid.h"

static const char *const state_names[] = {[NPI_DATA_MISSING] = "missing",
                                          [NPI_DATA_THERE] = "there",
                                          [NPI_DATA_COMPLETE] = "complete",
                                          [NPI_DATA_INCOMPLETE] = "incomplete",
                                          [NPI_DATA_UNREADABLE] = "unreadable"};
static const struct {
    unsigned role;
    const char *name;
} roles[] = {{NPI_ROLE_ID, "ID"}, {NPI_ROLE_NEAR, "near"}, {NPI_ROLE_FAR, "far"}};
enum { ROLES = sizeof roles / sizeof *roles };

void npos_data_list_options_init(npos_data_list_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}

int npos_data_known(const char *name) {
    const char *slash = strchr(name, '/');
    return npi_catalogue_names(name, strlen(name)) || npi_catalogue_find_benchmark(name) ||
           (slash && npi_catalogue_find(slash + 1));
}

static int64_t bytes_of(const npi_data_set *set) {
    int64_t sum = 0;
    for (int i = 0; i < NPI_SET_FILES && set->file[i].name; i++) {
        if (set->file[i].bytes == 0)
            return 0;
        sum += set->file[i].bytes;
    }
    return sum;
}

static void size_text(int64_t bytes, char text[16]) {
    if (bytes == 0)
        strcpy(text, "");
    else if (bytes < 1000000)
        snprintf(text, 16, "%.0f kB", (double)bytes / 1e3);
    else if (bytes < 1000000000)
        snprintf(text, 16, "%.0f MB", (double)bytes / 1e6);
    else
        snprintf(text, 16, "%.1f GB", (double)bytes / 1e9);
}

static void roles_text(const npi_data_set *set, char text[24]) {
    text[0] = '\0';
    for (int i = 0; i < ROLES; i++)
        if (set->roles & roles[i].role) {
            strcat(text, *text ? ", " : "");
            strcat(text, roles[i].name);
        }
}

static void state_text(const npi_data_set *set, const npi_data_found *found, char *text,
                       size_t size) {
    if (found->state == NPI_DATA_INCOMPLETE && found->images >= 0)
        snprintf(text, size, "%lld of %lld", (long long)found->images, (long long)set->images);
    else
        snprintf(text, size, "%s", state_names[found->state]);
}

/* The host of a set's first source. */
static void source_text(const npi_data_set *set, char *text, size_t size) {
    const char *url = set->file[0].name ? set->file[0].url[0] : NULL;
    const char *host = url ? strstr(url, "://") : NULL;
    if (host)
        snprintf(text, size, "%.*s", (int)strcspn(host + 3, "/"), host + 3);
    else
        snprintf(text, size, "by hand");
}

static void checksum_text(const npi_data_set *set, char text[8]) {
    const char *sum = set->file[0].name ? set->file[0].checksum : NULL;
    snprintf(text, 8, "%.*s", sum ? (int)strcspn(sum, ":") : 0, sum ? sum : "");
}

/* ---- the table ---- */

static npos_status print_sets(const char *root, FILE *out) {
    static const npi_grid_column columns[] = {
        {.name = "set"},  {.name = "role"},     {.name = "here"},    {.name = "images"},
        {.name = "size"}, {.name = "checksum"}, {.name = "licence"}, {.name = "source"}};
    npi_grid grid = {0};
    const npi_data_set *set;
    npos_status status = NPOS_OK;
    npi_grid_make(&grid, columns, sizeof columns / sizeof *columns);
    for (int i = 0; (set = npi_catalogue_set(i)) != NULL && status == NPOS_OK; i++) {
        char size[16], role[24], state[64], source[64], checksum[8];
        npi_data_found found;
        status = npi_catalogue_look(set, root, &found);
        if (status != NPOS_OK)
            break;
        size_text(bytes_of(set), size);
        roles_text(set, role);
        state_text(set, &found, state, sizeof state);
        source_text(set, source, sizeof source);
        checksum_text(set, checksum);
        npi_grid_row(&grid);
        npi_grid_text(&grid, set->name);
        npi_grid_text(&grid, role);
        npi_grid_text(&grid, state);
        if (set->images)
            npi_grid_count(&grid, set->images);
        else
            npi_grid_text(&grid, "");
        npi_grid_text(&grid, size);
        npi_grid_text(&grid, checksum);
        npi_grid_text(&grid, set->licence);
        npi_grid_text(&grid, source);
        npi_data_found_clear(&found);
    }
    if (status == NPOS_OK)
        status = npi_grid_write(&grid, NPI_FORMAT_TABLE, out);
    npi_grid_clear(&grid);
    return status;
}

/* Whether the part's images can be opened: a set below the root, or the list of a benchmark. */
static npos_status part_spec(const npi_benchmark *benchmark, const npi_benchmark_part *part,
                             const char *root, char **spec) {
    char *name;
    NPI_TRY(npi_format(&name, "%s/%s", benchmark->name, part->name));
    npos_status status = npi_catalogue_spec(name, root, spec);
    npi_free(name);
    return status == NPOS_NOT_FOUND ? NPOS_OK : status;
}

static npos_status print_benchmarks(const char *root, FILE *out) {
    const npi_benchmark *benchmark;
    fprintf(out, "\nbenchmarks (several sets under one name):\n");
    for (int i = 0; (benchmark = npi_catalogue_benchmark(i)) != NULL; i++) {
        int there = 0, parts = 0;
        for (; parts < NPI_BENCHMARK_PARTS && benchmark->part[parts].name; parts++) {
            char *spec;
            NPI_TRY(part_spec(benchmark, &benchmark->part[parts], root, &spec));
            there += spec != NULL;
            npi_free(spec);
        }
        fprintf(out, "  %-20s %s; %d of %d parts here\n", benchmark->name, benchmark->title, there,
                parts);
    }
    fprintf(out, "\nroot: %s; 'npos data list NAME' tells all of one\n", root);
    return NPOS_OK;
}

/* ---- one in full ---- */

static npos_status print_set(const npi_data_set *set, const char *root, FILE *out) {
    char role[24], state[64];
    npi_data_found found;
    NPI_TRY(npi_catalogue_look(set, root, &found));
    roles_text(set, role);
    state_text(set, &found, state, sizeof state);
    fprintf(out, "%s: %s\n", set->name, set->title);
    fprintf(out, "  role      %s\n", role);
    if (set->images)
        fprintf(out, "  images    %lld\n", (long long)set->images);
    fprintf(out, "  licence   %s\n", set->licence);
    for (int i = 0; i < NPI_SET_FILES && set->file[i].name; i++) {
        const npi_data_file *file = &set->file[i];
        fprintf(out, "  file      %s", file->name);
        if (file->bytes)
            fprintf(out, ", %lld bytes", (long long)file->bytes);
        fprintf(out, "%s%s\n", file->checksum ? ", " : "", file->checksum ? file->checksum : "");
        for (int u = 0; u < 2 && file->url[u]; u++)
            fprintf(out, "            %s\n", file->url[u]);
    }
    if (set->by_hand)
        fprintf(out, "  get it    %s\n", set->by_hand);
    for (int i = 0; i < NPI_SET_PLACES && set->place[i]; i++)
        fprintf(out, "  %-9s %s/%s\n", i ? "" : "places", root, set->place[i]);
    fprintf(out, "  here      %s%s%s%s%s\n", state, found.spec ? ": " : "",
            found.spec ? found.spec : "", found.why ? ": " : "", found.why ? found.why : "");
    npi_data_found_clear(&found);
    return NPOS_OK;
}

static npos_status print_benchmark(const npi_benchmark *benchmark, const char *root, FILE *out) {
    fprintf(out, "%s: %s\n", benchmark->name, benchmark->title);
    for (int i = 0; i < NPI_BENCHMARK_PARTS && benchmark->part[i].name; i++) {
        const npi_benchmark_part *part = &benchmark->part[i];
        char *spec;
        NPI_TRY(part_spec(benchmark, part, root, &spec));
        fprintf(out, "  %-15s%-13s%s%s\n", part->group, part->name, spec ? spec : part->spec,
                spec ? "" : " (missing)");
        npi_free(spec);
    }
    return NPOS_OK;
}

static npos_status print(const npos_data_list_options *options, const char *root) {
    for (int i = 0; i < options->name_count; i++) {
        const npi_data_set *set = npi_catalogue_find(options->names[i]);
        const npi_benchmark *benchmark = npi_catalogue_find_benchmark(options->names[i]);
        if (i)
            fputc('\n', options->table);
        NPI_TRY(set ? print_set(set, root, options->table)
                    : print_benchmark(benchmark, root, options->table));
    }
    if (options->name_count > 0)
        return NPOS_OK;
    NPI_TRY(print_sets(root, options->table));
    return print_benchmarks(root, options->table);
}

/* ---- JSON ---- */

static json_t *text_or_null(const char *text) {
    return text ? npi_json_text(text) : json_null();
}

static json_t *files_json(const npi_data_set *set) {
    json_t *files = json_array();
    for (int i = 0; i < NPI_SET_FILES && set->file[i].name; i++) {
        json_t *urls = json_array();
        for (int u = 0; u < 2 && set->file[i].url[u]; u++)
            json_array_append_new(urls, json_string(set->file[i].url[u]));
        json_array_append_new(
            files,
            json_pack("{s:s, s:o, s:o, s:o}", "name", set->file[i].name, "urls", urls, "bytes",
                      set->file[i].bytes ? json_integer(set->file[i].bytes) : json_null(),
                      "checksum", text_or_null(set->file[i].checksum)));
    }
    return files;
}

static npos_status set_json(const npi_data_set *set, const char *root, json_t *to) {
    json_t *role = json_array();
    npi_data_found found;
    NPI_TRY(npi_catalogue_look(set, root, &found));
    for (int i = 0; i < ROLES; i++)
        if (set->roles & roles[i].role)
            json_array_append_new(role, json_string(roles[i].name));
    json_array_append_new(
        to, json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:s, s:o, s:o, s:o}", "name", set->name,
                      "title", set->title, "roles", role, "images",
                      set->images ? json_integer(set->images) : json_null(), "licence",
                      set->licence, "files", files_json(set), "by_hand", text_or_null(set->by_hand),
                      "state", state_names[found.state], "spec", text_or_null(found.spec),
                      "counted", found.images >= 0 ? json_integer(found.images) : json_null(),
                      "why", text_or_null(found.why)));
    npi_data_found_clear(&found);
    return NPOS_OK;
}

static npos_status benchmark_json(const npi_benchmark *benchmark, const char *root, json_t *to) {
    json_t *parts = json_array();
    json_array_append_new(to, json_pack("{s:s, s:s, s:o}", "name", benchmark->name, "title",
                                        benchmark->title, "parts", parts));
    for (int i = 0; i < NPI_BENCHMARK_PARTS && benchmark->part[i].name; i++) {
        const npi_benchmark_part *part = &benchmark->part[i];
        char *spec;
        NPI_TRY(part_spec(benchmark, part, root, &spec));
        json_array_append_new(parts, json_pack("{s:s, s:s, s:s, s:o}", "group", part->group, "name",
                                               part->name, "source", part->spec, "spec",
                                               text_or_null(spec)));
        npi_free(spec);
    }
    return NPOS_OK;
}

static npos_status write_json(const npos_data_list_options *options, const char *root) {
    json_t *sets = json_array(), *benchmarks = json_array(),
           *whole = json_pack("{s:i, s:o, s:o, s:o}", "schema", 1, "root", npi_json_text(root),
                              "sets", sets, "benchmarks", benchmarks);
    const npi_data_set *set;
    const npi_benchmark *benchmark;
    npos_status status = NPOS_OK;
    bool all = options->name_count == 0;
    for (int i = 0; all && (set = npi_catalogue_set(i)) && status == NPOS_OK; i++)
        status = set_json(set, root, sets);
    for (int i = 0; all && (benchmark = npi_catalogue_benchmark(i)) && status == NPOS_OK; i++)
        status = benchmark_json(benchmark, root, benchmarks);
    for (int i = 0; i < options->name_count && status == NPOS_OK; i++) {
        set = npi_catalogue_find(options->names[i]);
        status =
            set ? set_json(set, root, sets)
                : benchmark_json(npi_catalogue_find_benchmark(options->names[i]), root, benchmarks);
    }
    if (status == NPOS_OK)
        return npi_json_write(whole, options->json);
    json_decref(whole);
    return status;
}

static void print_names(FILE *out) {
    for (int i = 0; npi_catalogue_set(i); i++)
        fprintf(out, "%s\n", npi_catalogue_set(i)->name);
    for (int i = 0; npi_catalogue_benchmark(i); i++)
        fprintf(out, "%s\n", npi_catalogue_benchmark(i)->name);
}

npos_status npos_data_list(const npos_data_list_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_data_list");
    if (options->only_names) {
        if (options->table)
            print_names(options->table);
        return NPOS_OK;
    }
    const char *root = options->root ? options->root : npi_data_root();
    for (int i = 0; i < options->name_count; i++)
        if (!npi_catalogue_find(options->names[i]) &&
            !npi_catalogue_find_benchmark(options->names[i]))
            return npi_catalogue_unknown(options->names[i]);
    if (options->table)
        NPI_TRY(print(options, root));
    return options->json ? write_json(options, root) : NPOS_OK;
}
