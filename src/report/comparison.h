/* report/comparison.h - runs beside runs: what npos_compare found, and its tables and JSON. */
#ifndef NPI_REPORT_COMPARISON_H
#define NPI_REPORT_COMPARISON_H

#include "ood/paired.h"
#include "report/grid.h"

/* One figure of a row: the mean over its runs; std over them (NaN with one run); with one run the
 * bootstrap's interval (NaN else); the difference to the row that it is compared with. */
typedef struct npi_compared_figure {
    double value, std, ci[2];
    npi_difference difference; /* all NaN: compared with nothing */
} npi_compared_figure;

/* A column of figures: an OOD set, or the mean over a group ("" = all sets). */
typedef struct npi_compared_column {
    const char *name, *group; /* borrowed; name NULL: the mean over the group */
    int sets;                 /* that the mean is over */
} npi_compared_column;

enum { NPI_ACCURACIES = 4 }; /* knn, prototype, head, text */
extern const char *const npi_accuracy_names[NPI_ACCURACIES];

typedef struct npi_compared_row {
    const char *method, *score; /* borrowed */
    int runs, against;          /* against: number of the row that it is compared with, or -1 */
    const char *const *paths;   /* [runs] */
    const int64_t *seeds;       /* [runs]; -1: unknown */
    npi_compared_figure accuracy[NPI_ACCURACIES]; /* value NaN: the model has no such head */
    npi_compared_figure (*figure)[NPI_MEASURES];  /* [columns] */
} npi_compared_row;

typedef struct npi_comparison {
    npi_protocol protocol;
    uint64_t seed;  /* of the bootstrap */
    bool over_runs; /* spread and differences are over runs (seeds), not over images */
    int columns, rows;
    npi_compared_column *column;
    npi_compared_row *row;
} npi_comparison;

/* Prints the tables, of OOD figures and (not in CSV) of accuracies, below a head that says protocol and
 * kind of interval (CSV has it in columns), or the JSON. */
NPOS_MUST_CHECK npos_status npi_comparison_print(const npi_comparison *comparison,
                                                 npi_format_kind format, FILE *out);

/*     {"schema": 1, "protocol": "oe", "positive": "id", "seed": 0, "over": "runs" | "images",
 *      "rows": [{"method": "npos", "score": "knn", "runs": ["runs/a", ...], "seeds": [0, ...],
 *                "against": 0 | null, "accuracy": {"knn": FIGURE, ...},
 *                "ood": [{"name": "dtd", "group": "far", "fpr95": FIGURE, "auroc": FIGURE, ...}],
 *                "means": {"all": {"fpr95": FIGURE, ...}, "far": {...}}}, ...]}
 *     FIGURE = {"mean": 0.6, "std": 0.1 | null, "ci": [lo, hi] | null,
 *               "difference": {"mean": -0.1, "ci": [lo, hi], "p": 0.03} | null}
 *
 * Fractions; `against` is the number of a row; `difference` = this row - that row. */
NPOS_MUST_CHECK npos_status npi_comparison_write(const npi_comparison *comparison,
                                                 const char *path);

#endif
