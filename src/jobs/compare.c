/* npos_compare: runs beside runs, from the scores that eval stored in them. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "jobs/compare_runs.h"
#include "jobs/options.h"
#include "npos/npos.h"
#include "ood/metrics.h"
#include "ood/score_counts.h"
#include "report/comparison.h"

void npos_compare_options_init(npos_compare_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->format = "table";
}

typedef struct job {
    const npos_compare_options *options;
    npi_methods methods;
    npi_comparison comparison;
    int sets; /* the first columns */
} job;

static void job_clear(job *j) {
    npi_methods_clear(&j->methods);
    for (int r = 0; r < j->comparison.rows; r++)
        npi_free(j->comparison.row[r].figure);
    npi_free(j->comparison.row);
    npi_free(j->comparison.column);
}

/* ---- rows and columns ---- */

static bool listed(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

static bool in_all_runs(const npi_method *of, const char *score) {
    for (int i = 0; i < of->runs; i++)
        if (!npi_find_score(&of->run[i], score))
            return false;
    return true;
}

/* The first method's row of the same score, else its first row. */
static int find_against(const npi_comparison *c, const job *j, const npi_compared_row *row) {
    int first = -1;
    if (row->paths == (const char *const *)j->methods.list[0].paths)
        return -1;
    for (int r = 0; r < c->rows; r++) {
        if (c->row[r].paths != (const char *const *)j->methods.list[0].paths)
            continue;
        first = first < 0 ? r : first;
        if (strcmp(c->row[r].score, row->score) == 0)
            return r;
    }
    return first;
}

static npos_status make_rows(job *j) {
    npi_comparison *c = &j->comparison;
    for (int m = 0; m < j->methods.count; m++) {
        npi_method *of = &j->methods.list[m];
        int before = c->rows;
        for (int s = 0; s < of->run[0].evaluation.results; s++) {
            const char *score = of->run[0].evaluation.result[s].score;
            if (j->options->scores && !listed(j->options->scores, score))
                continue;
            if (!in_all_runs(of, score))
                continue;
            NPI_TRY(
                npi_grow(&c->row, (size_t)c->rows, (size_t)c->rows + 1, sizeof *c->row, "rows"));
            npi_compared_row *row = &c->row[c->rows++];
            *row = (npi_compared_row){.method = of->name,
                                      .score = score,
                                      .runs = of->runs,
                                      .paths = of->paths,
                                      .seeds = of->seeds};
            row->against = find_against(c, j, row);
        }
        if (c->rows == before)
            return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                     "'%s': no score%s%s is in the evaluations of all its runs",
                                     of->name, j->options->scores ? " of " : "",
                                     j->options->scores ? j->options->scores : ""),
                            "npos eval --score chooses the scores of a run's evaluation");
    }
    return NPOS_OK;
}

static npos_status make_columns(job *j) {
    npi_comparison *c = &j->comparison;
    const npi_score_result *first = &j->methods.list[0].run[0].evaluation.result[0];
    int groups = 0;
    while (npi_group_at(first, groups))
        groups++;
    NPI_TRY(
        npi_alloc(&c->column, (size_t)(first->sets + groups + 1), sizeof *c->column, "columns"));
    for (int i = 0; i < first->sets; i++)
        c->column[c->columns++] = (npi_compared_column){first->set[i].name, first->set[i].group, 1};
    j->sets = c->columns;
    for (int g = 0; g <= groups; g++) {
        npi_compared_column *column = &c->column[c->columns++];
        column->group = g < groups ? npi_group_at(first, g) : "";
        for (int i = 0; i < j->sets; i++)
            column->sets +=
                column->group[0] == '\0' || strcmp(c->column[i].group, column->group) == 0;
    }
    for (int r = 0; r < c->rows; r++)
        NPI_TRY(
            npi_alloc(&c->row[r].figure, (size_t)c->columns, sizeof *c->row[r].figure, "figures"));
    return NPOS_OK;
}

/* ---- figures ---- */

/* values[columns][NPI_MEASURES], whose sets are filled: fills the means. */
static void fill_means(const job *j, double (*values)[NPI_MEASURES]) {
    const npi_comparison *c = &j->comparison;
    for (int at = j->sets; at < c->columns; at++) {
        const char *group = c->column[at].group;
        for (int m = 0; m < NPI_MEASURES; m++) {
            double sum = 0;
            for (int i = 0; i < j->sets; i++)
                if (group[0] == '\0' || strcmp(c->column[i].group, group) == 0)
                    sum += values[i][m];
            values[at][m] = sum / c->column[at].sets;
        }
    }
}

static const npi_method *method_of(const job *j, const npi_compared_row *row) {
    int m = 0;
    while ((const char *const *)j->methods.list[m].paths != row->paths)
        m++;
    return &j->methods.list[m];
}

static npi_scores scores_of(const char *name, int64_t n, const double *value) {
    return (npi_scores){name, n, value};
}

/* One set's measures: of its scores, or those that the evaluation noted. */
static npos_status measure_set(const npi_comparison *c, const npi_evaluated *run,
                               const npi_score_result *result, const npi_set_result *set,
                               double values[NPI_MEASURES]) {
    npi_measures m = set->measures;
    npi_scores id = scores_of(run->path, result->id_n, result->id_scores);
    npi_scores ood = scores_of(set->name, set->n, set->scores);
    if (npi_has_scores(run))
        NPI_TRY(npi_measure_points(c->protocol, &id, &ood, &m));
    else if (run->evaluation.protocol != c->protocol)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "%s: has no scores, and its measures are those of protocol %s, not %s",
                        run->path, npi_protocol_name(run->evaluation.protocol),
                        npi_protocol_name(c->protocol));
    npi_measure_values(&m, values);
    return NPOS_OK;
}

/* values[run][columns][NPI_MEASURES] of a row. */
static npos_status measure_row(const job *j, const npi_compared_row *row,
                               double (*values)[NPI_MEASURES]) {
    const npi_comparison *c = &j->comparison;
    const npi_method *of = method_of(j, row);
    for (int i = 0; i < row->runs; i++) {
        double(*to)[NPI_MEASURES] = values + (size_t)i * (size_t)c->columns;
        const npi_score_result *result = npi_find_score(&of->run[i], row->score);
        for (int s = 0; s < j->sets; s++)
            NPI_TRY(measure_set(c, &of->run[i], result, npi_find_set(result, c->column[s].name),
                                to[s]));
        fill_means(j, to);
    }
    return NPOS_OK;
}

static const npi_difference no_difference = {NAN, {NAN, NAN}, NAN};

/* A figure over runs: of[i] and (NULL: compared with nothing) than[i], `step` numbers apart. */
static void figure_over_runs(const double *of, const double *than, int runs, size_t step,
                             double *room, npi_compared_figure *out) {
    for (int i = 0; i < runs; i++)
        room[i] = of[(size_t)i * step];
    npi_mean_and_std(room, runs, &out->value, &out->std);
    out->ci[0] = out->ci[1] = NAN;
    out->difference = no_difference;
    if (!than || isnan(out->value) || isnan(than[0]))
        return;
    for (int i = 0; i < runs; i++)
        room[i] -= than[(size_t)i * step];
    if (runs > 1)
        npi_difference_of_pairs(room, runs, &out->difference);
    else
        out->difference.value = room[0];
}

/* Figures of all rows over runs; values[rows] as measure_row gives them. */
static void over_runs(job *j, double (**values)[NPI_MEASURES], double *room) {
    npi_comparison *c = &j->comparison;
    size_t step = (size_t)c->columns * NPI_MEASURES;
    for (int r = 0; r < c->rows; r++) {
        npi_compared_row *row = &c->row[r];
        for (int i = 0; i < c->columns; i++)
            for (int m = 0; m < NPI_MEASURES; m++)
                figure_over_runs(&values[r][i][m],
                                 row->against < 0 ? NULL : &values[row->against][i][m], row->runs,
                                 step, room, &row->figure[i][m]);
    }
}

static double accuracy_at(const npi_accuracy *a, int which) {
    const double all[NPI_ACCURACIES] = {a->knn, a->prototype, a->head, a->text};
    return all[which] < 0 ? NAN : all[which];
}

static npos_status accuracies(job *j, double *room) {
    npi_comparison *c = &j->comparison;
    size_t most = (size_t)j->methods.list[0].runs;
    double *of;
    for (int m = 1; m < j->methods.count; m++)
        most = (size_t)j->methods.list[m].runs > most ? (size_t)j->methods.list[m].runs : most;
    NPI_TRY(npi_alloc(&of, 2 * most, sizeof *of, "accuracies"));
    for (int r = 0; r < c->rows; r++) {
        npi_compared_row *row = &c->row[r];
        const npi_compared_row *than = row->against < 0 ? NULL : &c->row[row->against];
        for (int a = 0; a < NPI_ACCURACIES; a++) {
            for (int i = 0; i < row->runs; i++) {
                of[i] = accuracy_at(
                    &npi_find_score(&method_of(j, row)->run[i], row->score)->accuracy, a);
                of[most + (size_t)i] =
                    than ? accuracy_at(
                               &npi_find_score(&method_of(j, than)->run[i], than->score)->accuracy,
                               a)
                         : NAN;
            }
            figure_over_runs(of, than ? of + most : NULL, row->runs, 1, room, &row->accuracy[a]);
        }
    }
    npi_free(of);
    return NPOS_OK;
}

/* Intervals of single runs from the draws of all rows; value and difference.value are set. */
static void intervals_over_images(job *j, const double *draws, double (*means)[NPI_MEASURES]) {
    npi_comparison *c = &j->comparison;
    /* draws[draw][rows][sets] become columns in `means` [draw][rows][columns] */
    size_t columns = (size_t)c->columns, rows = (size_t)c->rows, sets = (size_t)j->sets;
    double drawn[NPI_BOOTSTRAP_DRAWS];
    for (size_t i = 0; i < NPI_BOOTSTRAP_DRAWS * rows; i++) {
        memcpy(means + i * columns, draws + i * sets * NPI_MEASURES,
               sets * NPI_MEASURES * sizeof *draws);
        fill_means(j, means + i * columns);
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < columns; i++)
            for (int m = 0; m < NPI_MEASURES; m++) {
                npi_compared_row *row = &c->row[r];
                npi_compared_figure *figure = &row->figure[i][m];
                npi_difference own;
                for (size_t d = 0; d < NPI_BOOTSTRAP_DRAWS; d++)
                    drawn[d] = means[(d * rows + r) * columns + i][m];
                npi_difference_of_draws(figure->value, drawn, &own);
                figure->ci[0] = own.ci[0];
                figure->ci[1] = own.ci[1];
                if (row->against < 0)
                    continue;
                for (size_t d = 0; d < NPI_BOOTSTRAP_DRAWS; d++)
                    drawn[d] = means[(d * rows + r) * columns + i][m] -
                               means[(d * rows + (size_t)row->against) * columns + i][m];
                npi_difference_of_draws(figure->difference.value, drawn, &figure->difference);
            }
}

static npos_status over_images(job *j) {
    npi_comparison *c = &j->comparison;
    size_t rows = (size_t)c->rows, sets = (size_t)j->sets;
    npi_scores *id = NULL, *ood = NULL;
    double *draws = NULL, (*means)[NPI_MEASURES] = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&id, rows, sizeof *id, "scores"), done);
    NPI_TRY_GOTO(npi_alloc(&ood, rows * sets, sizeof *ood, "scores"), done);
    for (int m = 0; m < j->methods.count; m++)
        if (!npi_has_scores(&j->methods.list[m].run[0])) {
            status = npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                       "%s: has no scores, which a comparison of single runs draws "
                                       "from",
                                       j->methods.list[m].paths[0]),
                              "npos eval writes them to RUN/scores; several runs of a method, or "
                              "--seeds, do without");
            goto done;
        }
    for (size_t r = 0; r < rows; r++) {
        const npi_score_result *result =
            npi_find_score(&method_of(j, &c->row[r])->run[0], c->row[r].score);
        id[r] = scores_of("ID", result->id_n, result->id_scores);
        for (size_t s = 0; s < sets; s++) {
            const npi_set_result *set = npi_find_set(result, c->column[s].name);
            ood[r * sets + s] = scores_of(set->name, set->n, set->scores);
        }
    }
    npi_panel panel = {c->rows, j->sets, id, ood};
    NPI_TRY_GOTO(npi_paired_bootstrap(c->protocol, &panel, c->seed, &draws), done);
    NPI_TRY_GOTO(npi_alloc(&means, NPI_BOOTSTRAP_DRAWS * rows * (size_t)c->columns, sizeof *means,
                           "bootstrap draws"),
                 done);
    intervals_over_images(j, draws, means);
done:
    npi_free(id);
    npi_free(ood);
    npi_free(draws);
    npi_free(means);
    return status;
}

static npos_status measure_rows(job *j) {
    npi_comparison *c = &j->comparison;
    double(**values)[NPI_MEASURES], *room = NULL;
    npos_status status;
    NPI_TRY(npi_alloc(&values, (size_t)c->rows, sizeof *values, "measures of runs"));
    NPI_TRY_GOTO(npi_alloc(&room, (size_t)j->options->run_count, sizeof *room, "runs"), done);
    for (int r = 0; r < c->rows; r++) {
        NPI_TRY_GOTO(npi_alloc(&values[r], (size_t)(c->row[r].runs * c->columns), sizeof **values,
                               "measures of runs"),
                     done);
        NPI_TRY_GOTO(measure_row(j, &c->row[r], values[r]), done);
    }
    over_runs(j, values, room);
    NPI_TRY_GOTO(accuracies(j, room), done);
    if (!c->over_runs)
        status = over_images(j);
done:
    for (int r = 0; r < c->rows; r++)
        npi_free(values[r]);
    npi_free(values);
    npi_free(room);
    return status;
}

static npos_status compare(job *j) {
    const npos_compare_options *o = j->options;
    npi_comparison *c = &j->comparison;
    npi_format_kind format;
    NPI_TRY(npi_format_parse(o->format, &format));
    if (format == NPI_FORMAT_OPENOOD)
        return npi_fail(NPOS_INVALID_ARGUMENT, "format 'openood' has no place for comparisons");
    NPI_TRY(npi_methods_read(o->runs, o->run_count, o->seeds, &j->methods));
    c->seed = o->seed;
    c->protocol = j->methods.list[0].run[0].evaluation.protocol;
    if (o->protocol)
        NPI_TRY(npi_protocol_parse(o->protocol, &c->protocol));
    NPI_TRY(npi_methods_check(&j->methods, &c->over_runs));
    NPI_TRY(make_rows(j));
    NPI_TRY(make_columns(j));
    NPI_TRY(measure_rows(j));
    if (o->json)
        NPI_TRY(npi_comparison_write(c, o->json));
    return o->table ? npi_comparison_print(c, format, o->table) : NPOS_OK;
}

npos_status npos_compare(const npos_compare_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_compare");
    if (options->run_count < 1)
        return npi_fail(NPOS_INVALID_ARGUMENT, "npos_compare: no run was given");
    job j = {.options = options};
    npos_status status = compare(&j);
    job_clear(&j);
    return status;
}
