/* report/grid.h - one table in several notations: for people, Markdown, CSV and LaTeX.
 *
 *     npi_grid grid = {0};
 *     npi_grid_make(&grid, columns, COLUMNS);
 *     for each row: npi_grid_row(&grid), then one npi_grid_text or npi_grid_figure a column
 *     NPI_TRY(npi_grid_write(&grid, NPI_FORMAT_MD, out));
 *     npi_grid_clear(&grid);
 *
 * Figures are fractions and are shown as percents with two digits, with "± spread" or "[lo, hi]"
 * behind them; CSV keeps fractions with 6 digits, in columns NAME, NAME_std, NAME_lo, NAME_hi. */
#ifndef NPI_REPORT_GRID_H
#define NPI_REPORT_GRID_H

#include <stdbool.h>
#include <stdio.h>

#include "base/fail.h"

typedef enum npi_format_kind {
    NPI_FORMAT_TABLE,  /* aligned columns */
    NPI_FORMAT_MD,     /* GitHub's Markdown */
    NPI_FORMAT_CSV,    /* RFC 4180, but lines end with \n */
    NPI_FORMAT_LATEX,  /* a tabular with booktabs' rules */
    NPI_FORMAT_JSON,   /* not written by grids: the object that programs read */
    NPI_FORMAT_OPENOOD /* not written by grids: OpenOOD's own CSV of an evaluation */
} npi_format_kind;

/* "table", "md", "csv", "latex", "json", "openood"; another name is an error with the nearest as hint. */
NPOS_MUST_CHECK npos_status npi_format_parse(const char *name, npi_format_kind *out);

typedef struct npi_grid_column {
    const char *name; /* "FPR95" */
    const char *key;  /* CSV's: "fpr95" */
    bool figure;
    bool std, interval; /* what figures of this column may have: CSV's columns */
    bool detail;        /* shown in CSV only */
    bool plain;         /* a figure that is no percentage: a p-value: three digits, or "<0.001" */
    bool sign;          /* a figure with its sign: a difference */
} npi_grid_column;

/* NaN: not there. */
typedef struct npi_grid_cell {
    char *text; /* of a text column */
    double value, std, lo, hi;
} npi_grid_cell;

typedef struct npi_grid {
    const npi_grid_column *column; /* borrowed */
    int columns, rows;
    npi_grid_cell *cell; /* [rows][columns] */
    int filled;
    npos_status
        status; /* the first failure of npi_grid_row, _text, _figure; npi_grid_write gives it */
} npi_grid;

void npi_grid_make(npi_grid *grid, const npi_grid_column *columns, int count);
void npi_grid_clear(npi_grid *grid);
void npi_grid_row(npi_grid *grid); /* starts a row */
/* The row's next cell; a NULL text is an empty one. */
void npi_grid_text(npi_grid *grid, const char *text);
void npi_grid_count(npi_grid *grid, long long n); /* a text of digits */
void npi_grid_figure(npi_grid *grid, double value, double std, const double interval[2]);

/* NPOS_IO when `out` cannot be written. */
NPOS_MUST_CHECK npos_status npi_grid_write(const npi_grid *grid, npi_format_kind format, FILE *out);

#endif
