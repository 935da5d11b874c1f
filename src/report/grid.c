#include "report/grid.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

npos_status npi_format_parse(const char *name, npi_format_kind *out) {
    static const char *const names[] = {"table", "md", "csv", "latex", "json", "openood"};
    for (int i = 0; i < 6; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (npi_format_kind)i;
            return NPOS_OK;
        }
    }
    npos_status status =
        npi_fail(NPOS_INVALID_ARGUMENT,
                 "format '%s' is not known, expected table, md, csv, latex, json or openood", name);
    const char *nearest = npi_nearest_name(name, names, 6);
    return nearest ? npi_hint(status, "did you mean '%s'?", nearest) : status;
}

/* ---- filling ---- */

void npi_grid_make(npi_grid *grid, const npi_grid_column *columns, int count) {
    *grid = (npi_grid){.column = columns, .columns = count};
}

void npi_grid_clear(npi_grid *grid) {
    for (int i = 0; grid->cell && i < grid->rows * grid->columns; i++)
        npi_free(grid->cell[i].text);
    npi_free(grid->cell);
    *grid = (npi_grid){0};
}

void npi_grid_row(npi_grid *grid) {
    size_t count = (size_t)(grid->rows * grid->columns), width = (size_t)grid->columns;
    if (grid->status != NPOS_OK)
        return;
    grid->status = npi_grow(&grid->cell, count, count + width, sizeof *grid->cell, "table rows");
    if (grid->status != NPOS_OK)
        return;
    grid->rows++;
    grid->filled = (int)count;
    for (size_t i = count; i < count + width; i++)
        grid->cell[i] = (npi_grid_cell){.value = NAN, .std = NAN, .lo = NAN, .hi = NAN};
}

void npi_grid_text(npi_grid *grid, const char *text) {
    if (grid->status == NPOS_OK)
        grid->status = npi_strdup(&grid->cell[grid->filled++].text, text ? text : "");
}

void npi_grid_count(npi_grid *grid, long long n) {
    char digits[32];
    snprintf(digits, sizeof digits, "%lld", n);
    npi_grid_text(grid, digits);
}

void npi_grid_figure(npi_grid *grid, double value, double std, const double interval[2]) {
    if (grid->status != NPOS_OK)
        return;
    npi_grid_cell *cell = &grid->cell[grid->filled++];
    cell->value = value;
    cell->std = std;
    cell->lo = interval ? interval[0] : NAN;
    cell->hi = interval ? interval[1] : NAN;
}

/* ---- writing ---- */

typedef struct notation {
    const char *spread, *open, *close; /* around spread and interval */
} notation;

/* A cell as people read it. */
static const char *show(const npi_grid_column *column, const npi_grid_cell *cell,
                        const notation *with, char text[160]) {
    if (!column->figure)
        return cell->text ? cell->text : "";
    if (isnan(cell->value))
        return "";
    if (column->plain) {
        if (cell->value < 0.0005)
            return "<0.001";
        snprintf(text, 160, "%.3f", cell->value);
        return text;
    }
    const char *number = column->sign ? "%+.2f" : "%.2f";
    int used = snprintf(text, 160, number, 100 * cell->value);
    if (!isnan(cell->std))
        used += snprintf(text + used, 160 - (size_t)used, "%s%.2f", with->spread, 100 * cell->std);
    if (!isnan(cell->lo)) {
        used += snprintf(text + used, 160 - (size_t)used, "%s", with->open);
        used += snprintf(text + used, 160 - (size_t)used, number, 100 * cell->lo);
        used += snprintf(text + used, 160 - (size_t)used, ", ");
        used += snprintf(text + used, 160 - (size_t)used, number, 100 * cell->hi);
        snprintf(text + used, 160 - (size_t)used, "%s", with->close);
    }
    return text;
}

static const notation plain = {" ± ", " [", "]"}, latex = {" $\\pm$ ", " {\\scriptsize [", "]}"};

/* Columns on a terminal: bytes of UTF-8 that start a character. */
static int width_of(const char *text) {
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static int column_width(const npi_grid *grid, int c) {
    char text[160];
    int width = width_of(grid->column[c].name);
    for (int r = 0; r < grid->rows; r++) {
        int w = width_of(show(&grid->column[c], &grid->cell[r * grid->columns + c], &plain, text));
        width = w > width ? w : width;
    }
    return width;
}

static void write_table(const npi_grid *grid, FILE *out) {
    char text[160];
    for (int r = -1; r < grid->rows; r++) {
        int pad = 0; /* owed before the next text, so that no line ends in spaces */
        for (int c = 0; c < grid->columns; c++) {
            const npi_grid_column *column = &grid->column[c];
            if (column->detail)
                continue;
            const char *shown =
                r < 0 ? column->name
                      : show(column, &grid->cell[r * grid->columns + c], &plain, text);
            int width = column_width(grid, c);
            if (shown[0]) {
                fprintf(out, "%*s%s", pad, "", shown);
                pad = width - width_of(shown) + 2;
            } else {
                pad += width + 2;
            }
        }
        fputc('\n', out);
    }
}

static void write_md_text(const char *text, FILE *out) {
    for (; *text; text++) {
        if (*text == '|' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void write_md(const npi_grid *grid, FILE *out) {
    char text[160];
    for (int r = -2; r < grid->rows; r++) {
        fputc('|', out);
        for (int c = 0; c < grid->columns; c++) {
            const npi_grid_column *column = &grid->column[c];
            if (column->detail)
                continue;
            if (r == -1) {
                fputs(column->figure ? "---:|" : "---|", out);
                continue;
            }
            fputc(' ', out);
            write_md_text(r == -2 ? column->name
                                  : show(column, &grid->cell[r * grid->columns + c], &plain, text),
                          out);
            fputs(" |", out);
        }
        fputc('\n', out);
    }
}

static void write_csv_text(const char *text, FILE *out) {
    if (!strpbrk(text, ",\"\n\r")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void write_csv_number(double value, FILE *out) {
    if (!isnan(value))
        fprintf(out, "%.6f", value);
}

static void write_csv(const npi_grid *grid, FILE *out) {
    for (int r = -1; r < grid->rows; r++) {
        for (int c = 0; c < grid->columns; c++) {
            const npi_grid_column *column = &grid->column[c];
            if (c > 0)
                fputc(',', out);
            if (r < 0) {
                fputs(column->key, out);
                if (column->std)
                    fprintf(out, ",%s_std", column->key);
                if (column->interval)
                    fprintf(out, ",%s_lo,%s_hi", column->key, column->key);
                continue;
            }
            const npi_grid_cell *cell = &grid->cell[r * grid->columns + c];
            if (!column->figure) {
                write_csv_text(cell->text ? cell->text : "", out);
                continue;
            }
            write_csv_number(cell->value, out);
            if (column->std) {
                fputc(',', out);
                write_csv_number(cell->std, out);
            }
            if (column->interval) {
                fputc(',', out);
                write_csv_number(cell->lo, out);
                fputc(',', out);
                write_csv_number(cell->hi, out);
            }
        }
        fputc('\n', out);
    }
}

static void write_latex_text(const char *text, FILE *out) {
    for (; *text; text++) {
        if (strchr("&%$#_{}", *text))
            fputc('\\', out);
        if (*text == '\\' || *text == '~' || *text == '^')
            fputs(*text == '\\'  ? "\\textbackslash{}"
                  : *text == '~' ? "\\textasciitilde{}"
                                 : "\\textasciicircum{}",
                  out);
        else
            fputc(*text, out);
    }
}

/* "Δ" is the one letter outside ASCII in columns' names. */
static void write_latex_name(const char *name, FILE *out) {
    static const char delta[] = "\xce\x94";
    bool difference = strncmp(name, delta, 2) == 0;
    if (difference)
        fputs("$\\Delta$", out);
    write_latex_text(difference ? name + 2 : name, out);
}

/* "<" is another letter in LaTeX's old text fonts. */
static void write_latex_figure(const char *shown, FILE *out) {
    bool less = shown[0] == '<';
    fprintf(out, "%s%s", less ? "$<$" : "", shown + less);
}

static void write_latex(const npi_grid *grid, FILE *out) {
    char text[160];
    fputs("\\begin{tabular}{", out);
    for (int c = 0; c < grid->columns; c++)
        if (!grid->column[c].detail)
            fputc(grid->column[c].figure ? 'r' : 'l', out);
    fputs("}\n\\toprule\n", out);
    for (int r = -1; r < grid->rows; r++) {
        const char *gap = "";
        for (int c = 0; c < grid->columns; c++) {
            const npi_grid_column *column = &grid->column[c];
            if (column->detail)
                continue;
            fputs(gap, out);
            gap = " & ";
            const npi_grid_cell *cell = r < 0 ? NULL : &grid->cell[r * grid->columns + c];
            if (!cell)
                write_latex_name(column->name, out);
            else if (column->figure)
                write_latex_figure(show(column, cell, &latex, text), out);
            else
                write_latex_text(cell->text ? cell->text : "", out);
        }
        fputs(r < 0 ? " \\\\\n\\midrule\n" : " \\\\\n", out);
    }
    fputs("\\bottomrule\n\\end{tabular}\n", out);
}

npos_status npi_grid_write(const npi_grid *grid, npi_format_kind format, FILE *out) {
    if (grid->status != NPOS_OK)
        return grid->status;
    switch (format) {
    case NPI_FORMAT_TABLE:
        write_table(grid, out);
        break;
    case NPI_FORMAT_MD:
        write_md(grid, out);
        break;
    case NPI_FORMAT_CSV:
        write_csv(grid, out);
        break;
    case NPI_FORMAT_LATEX:
        write_latex(grid, out);
        break;
    case NPI_FORMAT_OPENOOD:
    case NPI_FORMAT_JSON:
        break;
    }
    return fflush(out) != 0 || ferror(out) ? npi_fail_errno("writing the table") : NPOS_OK;
}
