#include "report/comparison.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "base/file.h"
#include "io/json_text.h"

const char *const npi_accuracy_names[NPI_ACCURACIES] = {"knn", "prototype", "head", "text"};

/* ---- tables ---- */

#define DIFFERENCE "\xce\x94"

static const npi_grid_column columns[] = {
    {.name = "OOD set", .key = "set"},
    {.name = "group", .key = "group"},
    {.name = "method", .key = "method"},
    {.name = "score", .key = "score"},
    {.name = "runs", .key = "runs"},
    {.name = "FPR95", .key = "fpr95", .figure = true, .std = true, .interval = true},
    {.name = DIFFERENCE "FPR95",
     .key = "fpr95_difference",
     .figure = true,
     .interval = true,
     .sign = true},
    {.name = "p", .key = "fpr95_p", .figure = true, .plain = true},
    {.name = "AUROC", .key = "auroc", .figure = true, .std = true, .interval = true},
    {.name = DIFFERENCE "AUROC",
     .key = "auroc_difference",
     .figure = true,
     .interval = true,
     .sign = true},
    {.name = "p", .key = "auroc_p", .figure = true, .plain = true},
    {.name = "AUPR-in",
     .key = "aupr_in",
     .figure = true,
     .std = true,
     .interval = true,
     .detail = true},
    {.name = "", .key = "aupr_in_difference", .figure = true, .interval = true, .detail = true},
    {.name = "", .key = "aupr_in_p", .figure = true, .detail = true},
    {.name = "AUPR-out",
     .key = "aupr_out",
     .figure = true,
     .std = true,
     .interval = true,
     .detail = true},
    {.name = "", .key = "aupr_out_difference", .figure = true, .interval = true, .detail = true},
    {.name = "", .key = "aupr_out_p", .figure = true, .detail = true},
    {.name = "against", .key = "against", .detail = true},
    {.name = "protocol", .key = "protocol", .detail = true},
    {.name = "over", .key = "over", .detail = true}};
enum { COLUMNS = sizeof columns / sizeof *columns };

static const npi_grid_column accuracy_columns[] = {
    {.name = "ID accuracy", .key = "accuracy"},
    {.name = "method", .key = "method"},
    {.name = "runs", .key = "runs"},
    {.name = "accuracy", .key = "value", .figure = true, .std = true},
    {.name = DIFFERENCE "accuracy",
     .key = "difference",
     .figure = true,
     .interval = true,
     .sign = true},
    {.name = "p", .key = "p", .figure = true, .plain = true}};
enum { ACCURACY_COLUMNS = sizeof accuracy_columns / sizeof *accuracy_columns };

static void put_figure(npi_grid *grid, const npi_compared_figure *f) {
    npi_grid_figure(grid, f->value, f->std, f->ci);
    npi_grid_figure(grid, f->difference.value, NAN, f->difference.ci);
    npi_grid_figure(grid, f->difference.p, NAN, NULL);
}

static void put_row(npi_grid *grid, const npi_comparison *c, const npi_compared_row *row, int at) {
    const npi_compared_column *column = &c->column[at];
    char mean[40];
    snprintf(mean, sizeof mean, "mean of %d", column->sets);
    npi_grid_row(grid);
    npi_grid_text(grid, column->name ? column->name : mean);
    npi_grid_text(grid, column->name || column->group[0] ? column->group : "all");
    npi_grid_text(grid, row->method);
    npi_grid_text(grid, row->score);
    npi_grid_count(grid, row->runs);
    for (int m = 0; m < NPI_MEASURES; m++)
        put_figure(grid, &row->figure[at][m]);
    char against[256] = "";
    if (row->against >= 0)
        snprintf(against, sizeof against, "%s %s", c->row[row->against].method,
                 c->row[row->against].score);
    npi_grid_text(grid, against);
    npi_grid_text(grid, npi_protocol_name(c->protocol));
    npi_grid_text(grid, c->over_runs ? "runs" : "images");
}

/* A method's accuracies are the same in all its rows: those of its first stand for it. */
static bool first_of_method(const npi_comparison *c, int r) {
    return r == 0 || c->row[r].paths != c->row[r - 1].paths;
}

static npos_status write_accuracy(const npi_comparison *c, npi_format_kind format, FILE *out) {
    npi_grid grid;
    npi_grid_make(&grid, accuracy_columns, ACCURACY_COLUMNS);
    for (int a = 0; a < NPI_ACCURACIES; a++)
        for (int r = 0; r < c->rows; r++) {
            const npi_compared_row *row = &c->row[r];
            if (isnan(row->accuracy[a].value) || !first_of_method(c, r))
                continue;
            npi_grid_row(&grid);
            npi_grid_text(&grid, npi_accuracy_names[a]);
            npi_grid_text(&grid, row->method);
            npi_grid_count(&grid, row->runs);
            put_figure(&grid, &row->accuracy[a]);
        }
    npos_status status = grid.status;
    if (status == NPOS_OK && grid.rows > 0) {
        fputc('\n', out);
        status = npi_grid_write(&grid, format, out);
    }
    npi_grid_clear(&grid);
    return status;
}

static void write_head(const npi_comparison *c, npi_format_kind format, FILE *out) {
    const char *comment = format == NPI_FORMAT_LATEX ? "% " : "";
    fprintf(out, "%sprotocol %s (%s positive), percent; %s\n", comment,
            npi_protocol_name(c->protocol), c->protocol == NPI_PROTOCOL_OPENOOD ? "OOD" : "ID",
            c->over_runs ? "mean ± standard deviation over runs" : "[95% interval over images]");
    const char *before = "differences: ";
    for (int r = 0; r < c->rows; r++) {
        const npi_compared_row *row = &c->row[r];
        if (row->against < 0)
            continue;
        fprintf(out, "%s%s%s %s - %s %s", before[0] == 'd' ? comment : "", before, row->method,
                row->score, c->row[row->against].method, c->row[row->against].score);
        before = "; ";
    }
    if (before[0] == ';')
        fprintf(out, ": [95%% interval] and p by %s\n",
                c->over_runs ? "the paired t test over seeds" : "the paired bootstrap over images");
    fputc('\n', out);
}

static npos_status write_tables(const npi_comparison *c, npi_format_kind format, FILE *out) {
    npi_grid grid;
    npi_grid_make(&grid, columns, COLUMNS);
    for (int at = 0; at < c->columns; at++)
        for (int r = 0; r < c->rows; r++)
            put_row(&grid, c, &c->row[r], at);
    if (format != NPI_FORMAT_CSV)
        write_head(c, format, out);
    npos_status status = npi_grid_write(&grid, format, out);
    npi_grid_clear(&grid);
    return status == NPOS_OK && format != NPI_FORMAT_CSV ? write_accuracy(c, format, out) : status;
}

/* ---- JSON ---- */

static void put(json_t *object, const char *key, json_t *value, bool *ok) {
    if (!value || json_object_set_new(object, key, value) != 0)
        *ok = false;
}

static void append(json_t *array, json_t *value, bool *ok) {
    if (!value || json_array_append_new(array, value) != 0)
        *ok = false;
}

static json_t *interval(const double ci[2], bool *ok) {
    if (isnan(ci[0]))
        return json_null();
    json_t *pair = json_array();
    append(pair, npi_json_number(ci[0]), ok);
    append(pair, npi_json_number(ci[1]), ok);
    return pair;
}

static json_t *figure_json(const npi_compared_figure *f, bool *ok) {
    json_t *object = json_object(), *difference = json_null();
    put(object, "mean", npi_json_number(f->value), ok);
    put(object, "std", npi_json_number(f->std), ok);
    put(object, "ci", interval(f->ci, ok), ok);
    if (!isnan(f->difference.value)) {
        difference = json_object();
        put(difference, "mean", npi_json_number(f->difference.value), ok);
        put(difference, "ci", interval(f->difference.ci, ok), ok);
        put(difference, "p", npi_json_number(f->difference.p), ok);
    }
    put(object, "difference", difference, ok);
    return object;
}

static json_t *row_json(const npi_comparison *c, const npi_compared_row *row, bool *ok) {
    json_t *object = json_object(), *runs = json_array(), *seeds = json_array(),
           *accuracy = json_object(), *ood = json_array(), *means = json_object();
    for (int i = 0; i < row->runs; i++) {
        append(runs, npi_json_text(row->paths[i]), ok);
        append(seeds, row->seeds[i] < 0 ? json_null() : json_integer(row->seeds[i]), ok);
    }
    for (int a = 0; a < NPI_ACCURACIES; a++)
        if (!isnan(row->accuracy[a].value))
            put(accuracy, npi_accuracy_names[a], figure_json(&row->accuracy[a], ok), ok);
    for (int i = 0; i < c->columns; i++) {
        const npi_compared_column *column = &c->column[i];
        json_t *set = json_object();
        if (column->name) {
            put(set, "name", npi_json_text(column->name), ok);
            put(set, "group", npi_json_text(column->group), ok);
        }
        for (int m = 0; m < NPI_MEASURES; m++)
            put(set, npi_measure_names[m], figure_json(&row->figure[i][m], ok), ok);
        if (column->name)
            append(ood, set, ok);
        else
            put(means, column->group[0] ? column->group : "all", set, ok);
    }
    put(object, "method", npi_json_text(row->method), ok);
    put(object, "score", npi_json_text(row->score), ok);
    put(object, "runs", runs, ok);
    put(object, "seeds", seeds, ok);
    put(object, "against", row->against < 0 ? json_null() : json_integer(row->against), ok);
    put(object, "accuracy", accuracy, ok);
    put(object, "ood", ood, ok);
    put(object, "means", means, ok);
    return object;
}

/* *out is to be freed with free. */
static npos_status comparison_text(const npi_comparison *c, char **out) {
    bool ok = true;
    json_t *root = json_object(), *rows = json_array();
    put(root, "schema", json_integer(1), &ok);
    put(root, "protocol", json_string(npi_protocol_name(c->protocol)), &ok);
    put(root, "positive", json_string(npi_protocol_positive(c->protocol)), &ok);
    put(root, "seed", json_integer((json_int_t)c->seed), &ok);
    put(root, "over", json_string(c->over_runs ? "runs" : "images"), &ok);
    for (int r = 0; r < c->rows; r++)
        append(rows, row_json(c, &c->row[r], &ok), &ok);
    put(root, "rows", rows, &ok);
    *out = ok ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    return *out ? NPOS_OK : npi_fail(NPOS_OUT_OF_MEMORY, "no memory for the comparison's JSON");
}

npos_status npi_comparison_write(const npi_comparison *c, const char *path) {
    char *text;
    npi_atomic file;
    npos_status status = comparison_text(c, &text);
    if (status != NPOS_OK)
        return npi_fail_in(status, "%s", path);
    status = npi_atomic_open(&file, path);
    if (status == NPOS_OK) {
        fprintf(file.stream, "%s\n", text);
        status = npi_atomic_commit(&file);
    }
    free(text);
    return status;
}

npos_status npi_comparison_print(const npi_comparison *c, npi_format_kind format, FILE *out) {
    char *text;
    if (format != NPI_FORMAT_JSON)
        return write_tables(c, format, out);
    NPI_TRY(comparison_text(c, &text));
    fprintf(out, "%s\n", text);
    free(text);
    return fflush(out) != 0 || ferror(out) ? npi_fail_errno("writing the JSON") : NPOS_OK;
}
