#include "jobs/recipe.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "base/file.h"
#include "base/memory.h"

typedef enum key_type { TYPE_INT, TYPE_REAL, TYPE_BOOL, TYPE_TEXT } key_type;

typedef struct key_row {
    const char *name;
    key_type type;
    size_t offset;
    double lowest, highest;
    const char *help;
} key_row;

static const key_row rows[] = {
#define ROW(type, key, value, lowest, highest, help)                                               \
    {#key, TYPE_##type, offsetof(npi_recipe, key), lowest, highest, help},
    NPI_RECIPE_MAP(ROW)
#undef ROW
};
enum { ROWS = sizeof rows / sizeof *rows };

static const char *const names[] = {
#define NAME(type, key, value, lowest, highest, help) #key,
    NPI_RECIPE_MAP(NAME)
#undef NAME
};

static void *field(npi_recipe *recipe, const key_row *row) {
    return (char *)recipe + row->offset;
}

static const void *field_of(const npi_recipe *recipe, const key_row *row) {
    return (const char *)recipe + row->offset;
}

/* ---- values
 * --------------------------------------------------------------------------------------- */

static npos_status set_text(npi_recipe *recipe, const key_row *row, const char *value) {
    char *copy, **at = field(recipe, row);
    NPI_TRY(npi_strdup(&copy, value));
    npi_free(*at);
    *at = copy;
    return NPOS_OK;
}

npos_status npi_recipe_defaults(npi_recipe *out) {
    *out = (npi_recipe){0};
    npos_status status = NPOS_OK;
#define SET_INT(key, value) out->key = (value)
#define SET_REAL(key, value) out->key = (value)
#define SET_BOOL(key, value) out->key = (value)
#define SET_TEXT(key, value)                                                                       \
    if (status == NPOS_OK)                                                                         \
    status = npi_strdup(&out->key, value)
#define SET(type, key, value, lowest, highest, help) SET_##type(key, value);
    NPI_RECIPE_MAP(SET)
#undef SET
    if (status != NPOS_OK)
        npi_recipe_clear(out);
    return status;
}

void npi_recipe_clear(npi_recipe *recipe) {
    for (int i = 0; i < ROWS; i++)
        if (rows[i].type == TYPE_TEXT)
            npi_free(*(char **)field(recipe, &rows[i]));
    *recipe = (npi_recipe){0};
}

/* Is `value` one of the words of the list "{a, b}" that may stand at the start of a help text? */
static bool allowed(const char *help, const char *value) {
    if (help[0] != '{')
        return true;
    size_t length = strcspn(value, ",} ");
    if (length == 0 || value[length] != '\0')
        return false;
    for (const char *at = help; *at && *at != '}'; at++)
        if ((*at == '{' || *at == ' ') && strncmp(at + 1, value, length) == 0 &&
            (at[1 + length] == ',' || at[1 + length] == '}'))
            return true;
    return false;
}

static npos_status not_allowed(const key_row *row, const char *value) {
    return npi_fail(NPOS_INVALID_ARGUMENT, "%s: '%s' is not one of %.*s", row->name, value,
                    (int)(strchr(row->help, '}') + 1 - row->help), row->help);
}

static npos_status set_number(npi_recipe *recipe, const key_row *row, const char *value) {
    char *end;
    errno = 0;
    double number = strtod(value, &end);
    if (end == value || *end != '\0' || errno == ERANGE || !isfinite(number) ||
        (row->type == TYPE_INT && number != floor(number)))
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: '%s' is not a%s number", row->name, value,
                        row->type == TYPE_INT ? " whole" : "");
    if (!(number >= row->lowest && number <= row->highest))
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: %s lies outside %g to %g", row->name, value,
                        row->lowest, row->highest);
    if (!allowed(row->help, value))
        return not_allowed(row, value);
    if (row->type == TYPE_INT)
        *(int *)field(recipe, row) = (int)number;
    else
        *(double *)field(recipe, row) = number;
    return NPOS_OK;
}

static npos_status set_bool(npi_recipe *recipe, const key_row *row, const char *value) {
    static const char *const no[] = {"false", "no", "off", "0"}, *const yes[] = {"true", "yes",
                                                                                 "on", "1"};
    for (int i = 0; i < 4; i++)
        if (strcmp(value, no[i]) == 0 || strcmp(value, yes[i]) == 0) {
            *(bool *)field(recipe, row) = strcmp(value, yes[i]) == 0;
            return NPOS_OK;
        }
    return npi_fail(NPOS_INVALID_ARGUMENT, "%s: '%s' is neither true nor false", row->name, value);
}

static npos_status set_value(npi_recipe *recipe, const char *key, const char *value) {
    for (int i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].name, key) != 0)
            continue;
        switch (rows[i].type) {
        case TYPE_BOOL:
            return set_bool(recipe, &rows[i], value);
        case TYPE_TEXT:
            return allowed(rows[i].help, value) ? set_text(recipe, &rows[i], value)
                                                : not_allowed(&rows[i], value);
        case TYPE_INT:
        case TYPE_REAL:
            return set_number(recipe, &rows[i], value);
        }
    }
    const char *nearest = npi_nearest_name(key, names, ROWS);
    npos_status status = npi_fail(NPOS_INVALID_ARGUMENT, "'%s' is not a key of a recipe", key);
    return nearest ? npi_hint(status, "did you mean '%s'?", nearest)
                   : npi_hint(status, "`npos recipes NAME` shows all keys");
}

npos_status npi_recipe_set(npi_recipe *recipe, const char *assignment) {
    const char *equals = strchr(assignment, '=');
    char key[64];
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof key)
        return npi_fail(NPOS_INVALID_ARGUMENT, "--set %s: expected key=value", assignment);
    memcpy(key, assignment, (size_t)(equals - assignment));
    key[equals - assignment] = '\0';
    npos_status status = set_value(recipe, key, equals + 1);
    return status == NPOS_OK ? status : npi_fail_in(status, "--set %s", assignment);
}

npos_status npi_recipe_numbers(const char *key, const char *text, int channels, float *out) {
    const char *at = text;
    int count = 0;
    for (;;) {
        char *end;
        float value = strtof(at, &end);
        if (end == at)
            break;
        if (count < channels)
            out[count] = value;
        count++;
        at = end;
    }
    while (*at == ' ')
        at++;
    if (*at != '\0' || (count != 1 && count != channels))
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s: '%s' is not 1 or %d numbers", key, text,
                        channels);
    for (int i = 1; count == 1 && i < channels; i++)
        out[i] = out[0];
    return NPOS_OK;
}

static npos_status check_images(const npi_recipe *r) {
    float mean[3], std[3];
    NPI_TRY(npi_recipe_numbers("mean", r->mean, r->channels, mean));
    NPI_TRY(npi_recipe_numbers("std", r->std, r->channels, std));
    for (int i = 0; i < r->channels; i++)
        if (!(std[i] > 0) || !(mean[i] >= 0 && mean[i] <= 1))
            return npi_fail(NPOS_INVALID_ARGUMENT,
                            "mean and std: '%s' and '%s' are not statistics of pixels in [0, 1]",
                            r->mean, r->std);
    if (r->channels == 2)
        return npi_fail(NPOS_INVALID_ARGUMENT, "channels: 2, expected 1 or 3");
    if (r->reducing_gap > 0 && r->reducing_gap < 1)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "reducing_gap: %g, expected 0 (images are decoded whole), or 1 or more",
                        r->reducing_gap);
    if (r->reducing_gap > 0 && strcmp(r->method, "clip") != 0)
        return npi_hint(
            npi_fail(NPOS_INVALID_ARGUMENT,
                     "reducing_gap: %g with method '%s', expected 0: only CLIP's images "
                     "may be decoded smaller",
                     r->reducing_gap, r->method),
            "training from scratch crops random parts of whole images");
    if (r->crop_lo > r->crop_hi)
        return npi_fail(NPOS_INVALID_ARGUMENT, "crop_lo: %g is larger than crop_hi, %g", r->crop_lo,
                        r->crop_hi);
    if (strcmp(r->stem, "7x7") == 0 && r->image_size < 32)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "image_size: %d is too small for the 7x7 stem, which needs at least 32",
                        r->image_size);
    return NPOS_OK;
}

npos_status npi_recipe_check(const npi_recipe *r) {
    NPI_TRY(check_images(r));
    if ((strcmp(r->method, "clip") == 0) != (strcmp(r->encoder, "clip") == 0))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "method '%s' with encoder '%s': clip goes with clip alone", r->method,
                        r->encoder);
    bool npos = strcmp(r->method, "npos") == 0 || strcmp(r->method, "clip") == 0;
    if (npos && r->k > r->ring)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "k: the neighbour number %d does not exist in a ring of %d", r->k, r->ring);
    if (npos && (r->pick > r->select || r->select > r->ring))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "pick %d, select %d, ring %d: expected pick <= select <= ring", r->pick,
                        r->select, r->ring);
    if (npos && r->keep > r->noise)
        return npi_fail(NPOS_INVALID_ARGUMENT, "keep: %d of only %d noise vectors", r->keep,
                        r->noise);
    if (strcmp(r->method, "vos") == 0 && r->keep > r->draws)
        return npi_fail(NPOS_INVALID_ARGUMENT, "keep: %d of only %d draws", r->keep, r->draws);
    if (strcmp(r->crop_filter, "bicubic") == 0 && strcmp(r->loading, "memory") == 0)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "crop_filter: bicubic crops are made of streamed images, those in "
                                 "memory are cropped bilinearly"),
                        "loading=stream, or crop_filter=bilinear");
    if (r->warmup_epochs > r->epochs)
        return npi_fail(NPOS_INVALID_ARGUMENT, "warmup_epochs: %d of only %d epochs",
                        r->warmup_epochs, r->epochs);
    return NPOS_OK;
}

/* ---- YAML
 * ----------------------------------------------------------------------------------------- */

/* Reads "key: scalar" pairs; `depth` counts the recipes that stand on one another by `base`. */
static npos_status parse(const char *text, size_t length, const char *origin, int depth,
                         npi_recipe *recipe);

/* beside: the recipe whose base is looked for, whose folder may hold it too; or NULL. */
static npos_status find(const char *name, const char *beside, char **path) {
    const char *slash = beside ? strrchr(beside, '/') : NULL;
    if (strchr(name, '/') || npi_is_file(name))
        return npi_strdup(path, name);
    if (slash) {
        NPI_TRY(npi_format(path, "%.*s/%s.yaml", (int)(slash - beside), beside, name));
        if (npi_is_file(*path) && strcmp(*path, beside) != 0)
            return NPOS_OK;
        npi_free(*path);
        *path = NULL;
    }
    return npi_format(path, "%s/%s.yaml", npi_recipe_folder(), name);
}

static npos_status unknown_recipe(const char *name) {
    char **known;
    npos_status status = npi_fail(NPOS_NOT_FOUND, "recipe '%s': neither a file nor a name in %s",
                                  name, npi_recipe_folder());
    char message[256];
    snprintf(message, sizeof message, "%s", npos_error_message());
    if (npi_recipe_names(&known) != NPOS_OK)
        return npi_fail(status, "%s", message);
    size_t count = 0;
    while (known[count])
        count++;
    const char *nearest = npi_nearest_name(name, (const char *const *)known, count);
    npi_fail(status, "%s", message);
    npi_hint(status, nearest ? "did you mean '%s'?" : "`npos recipes` lists them%.0s",
             nearest ? nearest : "");
    npi_names_free(known);
    return status;
}

static npos_status load(const char *name, const char *beside, int depth, npi_recipe *recipe) {
    char *path = NULL, *text = NULL;
    size_t length;
    npos_status status;
    NPI_TRY_GOTO(find(name, beside, &path), done);
    if (!npi_is_file(path)) {
        status = unknown_recipe(name);
        goto done;
    }
    NPI_TRY_GOTO(npi_file_read(path, &text, &length), done);
    status = parse(text, length, path, depth, recipe);
done:
    npi_free(text);
    npi_free(path);
    return status;
}

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    const char *origin;
} reader;

static npos_status next(reader *in) {
    yaml_event_delete(&in->event);
    if (yaml_parser_parse(&in->parser, &in->event))
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA, "%s:%zu: not YAML: %s", in->origin,
                    in->parser.problem_mark.line + 1, in->parser.problem);
}

static npos_status expect(reader *in, yaml_event_type_t type, const char *what) {
    NPI_TRY(next(in));
    if (in->event.type == type)
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA, "%s:%zu: expected %s", in->origin, in->event.start_mark.line + 1,
                    what);
}

static npos_status read_pairs(reader *in, int depth, npi_recipe *recipe) {
    bool seen[ROWS] = {0}, first = true;
    for (;;) {
        NPI_TRY(next(in));
        if (in->event.type == YAML_MAPPING_END_EVENT)
            return NPOS_OK;
        size_t line = in->event.start_mark.line + 1;
        if (in->event.type != YAML_SCALAR_EVENT)
            return npi_fail(NPOS_BAD_DATA, "%s:%zu: expected a key", in->origin, line);
        char key[64];
        snprintf(key, sizeof key, "%s", (const char *)in->event.data.scalar.value);
        NPI_TRY(expect(in, YAML_SCALAR_EVENT, "one plain value behind the key"));
        const char *value = (const char *)in->event.data.scalar.value;
        npos_status status;
        if (strcmp(key, "base") == 0)
            status = first && depth < 8 ? load(value, in->origin, depth + 1, recipe)
                                        : npi_fail(NPOS_INVALID_ARGUMENT,
                                                   "base must be the first key, at most 8 deep");
        else
            status = set_value(recipe, key, value);
        for (int i = 0; status == NPOS_OK && i < ROWS; i++)
            if (strcmp(rows[i].name, key) == 0) {
                if (seen[i])
                    status = npi_fail(NPOS_INVALID_ARGUMENT, "'%s' stands there twice", key);
                seen[i] = true;
            }
        if (status != NPOS_OK) {
            char held[512];
            snprintf(held, sizeof held, "%s", npos_error_hint());
            npi_fail_in(status, "%s:%zu", in->origin, line);
            return npi_hint(status, "%s", held);
        }
        first = false;
    }
}

static npos_status parse(const char *text, size_t length, const char *origin, int depth,
                         npi_recipe *recipe) {
    reader in = {.origin = origin};
    if (!yaml_parser_initialize(&in.parser))
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the YAML parser", origin);
    yaml_parser_set_input_string(&in.parser, (const unsigned char *)text, length);
    npos_status status = expect(&in, YAML_STREAM_START_EVENT, "YAML");
    if (status == NPOS_OK)
        status = expect(&in, YAML_DOCUMENT_START_EVENT, "a recipe: the file is empty");
    if (status == NPOS_OK)
        status = expect(&in, YAML_MAPPING_START_EVENT, "lines of `key: value`");
    if (status == NPOS_OK)
        status = read_pairs(&in, depth, recipe);
    yaml_event_delete(&in.event);
    yaml_parser_delete(&in.parser);
    return status;
}

static npos_status finish(npos_status status, npi_recipe *out) {
    if (status == NPOS_OK)
        status = npi_recipe_check(out);
    if (status != NPOS_OK)
        npi_recipe_clear(out);
    return status;
}

npos_status npi_recipe_parse(const char *text, size_t length, const char *origin, npi_recipe *out) {
    NPI_TRY(npi_recipe_defaults(out));
    return finish(parse(text, length, origin, 0, out), out);
}

npos_status npi_recipe_load(const char *name_or_path, npi_recipe *out) {
    NPI_TRY(npi_recipe_defaults(out));
    return finish(load(name_or_path, NULL, 0, out), out);
}

/* A text as a double-quoted YAML scalar. */
static void quote(FILE *stream, const char *text) {
    fputc('"', stream);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', stream);
        if (*text == '\n')
            fputs("\\n", stream);
        else
            fputc(*text, stream);
    }
    fputc('"', stream);
}

/* The fewest digits that read back to the same number. */
static void write_real(FILE *stream, double value) {
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    fputs(text, stream);
}

npos_status npi_recipe_format(const npi_recipe *recipe, bool comments, char **out) {
    char *text = NULL;
    size_t size;
    *out = NULL;
    FILE *stream = open_memstream(&text, &size);
    if (!stream)
        return npi_fail_errno("recipe");
    for (int i = 0; i < ROWS; i++) {
        const void *value = field_of(recipe, &rows[i]);
        fprintf(stream, "%s: ", rows[i].name);
        switch (rows[i].type) {
        case TYPE_INT:
            fprintf(stream, "%d", *(const int *)value);
            break;
        case TYPE_REAL:
            write_real(stream, *(const double *)value);
            break;
        case TYPE_BOOL:
            fputs(*(const bool *)value ? "true" : "false", stream);
            break;
        case TYPE_TEXT:
            quote(stream, *(char *const *)value);
            break;
        }
        fprintf(stream, comments ? "  # %s\n" : "\n%.0s", rows[i].help);
    }
    npos_status status = fclose(stream) == 0 ? npi_strdup(out, text) : npi_fail_errno("recipe");
    free(text);
    return status;
}

/* ---- where recipes are
 * ---------------------------------------------------------------------------- */

/* ../share/npos/recipes seen from the running program, so that an installed tree can be moved; NULL
 * where there is none. */
static const char *beside_program(void) {
    static _Thread_local char path[1100];
    char program[1024];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return NULL;
    program[length] = '\0';
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(program, '/');
        if (!slash)
            return NULL;
        *slash = '\0';
    }
    snprintf(path, sizeof path, "%s/share/npos/recipes", program);
    return npi_is_folder(path) ? path : NULL;
}

const char *npi_recipe_folder(void) {
    const char *chosen = getenv("NPOS_RECIPES");
    if (chosen && *chosen)
        return chosen;
    const char *beside = beside_program();
    if (beside)
        return beside;
    if (npi_is_folder(NPOS_SOURCE_DIR "/recipes"))
        return NPOS_SOURCE_DIR "/recipes";
    return NPOS_INSTALL_PREFIX "/share/npos/recipes";
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

npos_status npi_recipe_names(char ***out) {
    npos_status status = NPOS_OK;
    size_t count = 0;
    char **list = NULL;
    *out = NULL;
    DIR *folder = opendir(npi_recipe_folder());
    if (!folder)
        return npi_fail_errno("%s: cannot list the recipes", npi_recipe_folder());
    NPI_TRY_GOTO(npi_alloc(&list, 1, sizeof *list, "recipe names"), done);
    for (struct dirent *entry; (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        if (length < 6 || entry->d_name[0] == '.' ||
            strcmp(entry->d_name + length - 5, ".yaml") != 0)
            continue;
        NPI_TRY_GOTO(npi_grow(&list, count + 1, count + 2, sizeof *list, "recipe names"), done);
        NPI_TRY_GOTO(npi_strdup(&list[count], entry->d_name), done);
        list[count][length - 5] = '\0';
        count++;
    }
    qsort(list, count, sizeof *list, by_name);
    *out = list;
    list = NULL;
done:
    npi_names_free(list);
    closedir(folder);
    return status;
}

void npi_names_free(char **list) {
    for (char **at = list; at && *at; at++)
        npi_free(*at);
    npi_free(list);
}
