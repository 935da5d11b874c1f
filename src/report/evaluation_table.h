/* report/evaluation_table.h - an evaluation as tables for people. */
#ifndef NPI_REPORT_EVALUATION_TABLE_H
#define NPI_REPORT_EVALUATION_TABLE_H

#include <stdio.h>

#include "ood/results.h"
#include "report/grid.h"

/* As openood the CSV of OpenOOD v1.5's evaluator (evaluators/ood_evaluator.py, _save_csv): percents with two digits,
 * each group's sets and then its mean ("nearood" for near, "farood" for far), ACC by the classifier, else the nearest
 * prototype, else the vote; several scores stand in one block each below a line "# SCORE".
 *
 * As a table for people: one table a score: a head that names protocol, polarity, ID images and accuracies; a row for each
 * set with its group, n and the measures in percent, 95% intervals in brackets; means of each group
 * and of all sets.  As Markdown and LaTeX one table of all scores below
 * such a head, as CSV with the head in columns; as JSON what npi_evaluation_write writes.  NPOS_IO
 * when `out` cannot be written. */
NPOS_MUST_CHECK npos_status npi_evaluation_table(const npi_evaluation *evaluation,
                                                 npi_format_kind format, FILE *out);

/* A line for each set whose AUROC lies below 0.5 with its whole interval: its scores are perhaps
 * larger for OOD.  `advice` ends the line ("use --larger ood"). */
NPOS_MUST_CHECK npos_status npi_evaluation_polarity(const npi_evaluation *evaluation,
                                                    const char *advice, FILE *out);

#endif
