#include "report/evaluation_table.h"

#include <math.h>
#include <string.h>

#include "report/evaluation_json.h"

static npos_status written(FILE *out) {
    return fflush(out) != 0 || ferror(out) ? npi_fail_errno("writing the table") : NPOS_OK;
}

/* "12,345" */
static const char *grouped(int64_t n, char text[32]) {
    char digits[32];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)n), to = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            text[to++] = ',';
        text[to++] = digits[i];
    }
    text[to] = '\0';
    return text;
}

static void print_accuracy(const npi_accuracy *accuracy, const char *indent, FILE *out) {
    const struct {
        const char *name;
        double value;
    } rows[] = {{"50-NN vote", accuracy->knn},
                {"nearest prototype", accuracy->prototype},
                {"classifier", accuracy->head},
                {"text", accuracy->text}};
    const char *before = "ID accuracy %: ";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].value < 0)
            continue;
        fprintf(out, "%s%s%s %.2f", before[0] == ',' ? "" : indent, before, rows[i].name,
                100 * rows[i].value);
        before = ", ";
    }
    if (before[0] == ',')
        fputc('\n', out);
}

/* What counts as ID. */
static void print_id(const npi_evaluation *evaluation, const npi_score_result *result,
                     const char *indent, FILE *out) {
    char count[32];
    if (evaluation->id_parts == 0) {
        fprintf(out, "%sID: %s, n %s\n", indent, evaluation->id_spec, grouped(result->id_n, count));
    } else {
        fprintf(out, "%sfull spectrum: %s images of %d sets count as ID\n", indent,
                grouped(result->id_n, count), evaluation->id_parts);
        for (int i = 0; i < evaluation->id_parts; i++) {
            const npi_id_part *part = &evaluation->id_part[i];
            char within[64];
            fprintf(out, "%s  %s: %s, n %s\n", indent, part->name, part->spec,
                    grouped(part->n, count));
            snprintf(within, sizeof within, "%.40s    ", indent);
            print_accuracy(&part->accuracy, within, out);
        }
    }
    print_accuracy(&result->accuracy, indent, out);
}

/* "[1.20, 3.40]", nothing without an interval */
static const char *bracket(const double ci[2], char text[32]) {
    text[0] = '\0';
    if (!isnan(ci[0]))
        snprintf(text, 32, "[%.2f, %.2f]", 100 * ci[0], 100 * ci[1]);
    return text;
}

static void print_mean(const npi_score_result *result, const char *group, int wide_group,
                       int wide_name, FILE *out) {
    npi_measures mean;
    int sets = npi_mean_measures(result, group, &mean);
    char label[32];
    snprintf(label, sizeof label, "mean of %d", sets);
    char fpr[32], auroc[32];
    fprintf(out, "  %-*s  %-*s  %9s  %6.2f %-17s  %6.2f %-17s  %7.2f  %8.2f\n", wide_group,
            group ? group : "all", wide_name, label, "", 100 * mean.fpr95,
            bracket(mean.fpr95_ci, fpr), 100 * mean.auroc, bracket(mean.auroc_ci, auroc),
            100 * mean.aupr_in, 100 * mean.aupr_out);
}

static void print_result(const npi_evaluation *evaluation, const npi_score_result *result,
                         FILE *out) {
    char count[32];
    int wide_group = 5, wide_name = 10;
    for (int i = 0; i < result->sets; i++) {
        int group = (int)strlen(result->set[i].group), name = (int)strlen(result->set[i].name);
        wide_group = group > wide_group ? group : wide_group;
        wide_name = name > wide_name ? name : wide_name;
    }
    fprintf(out, "%s: protocol %s (%s positive), percent, [95%% interval]\n", result->score,
            npi_protocol_name(evaluation->protocol),
            evaluation->protocol == NPI_PROTOCOL_OPENOOD ? "OOD" : "ID");
    print_id(evaluation, result, "  ", out);
    if (result->chosen_k > 0)
        fprintf(out, "  k = %d, chosen on validation sets by npos calibrate\n", result->chosen_k);
    fprintf(out, "  %-*s  %-*s  %9s  %-24s  %-24s  %7s  %8s\n", wide_group, "group", wide_name,
            "OOD set", "n", " FPR95", " AUROC", "AUPR-in", "AUPR-out");
    for (int i = 0; i < result->sets; i++) {
        const npi_set_result *set = &result->set[i];
        const npi_measures *m = &set->measures;
        char fpr[32], auroc[32];
        fprintf(out, "  %-*s  %-*s  %9s  %6.2f %-17s  %6.2f %-17s  %7.2f  %8.2f\n", wide_group,
                set->group[0] ? set->group : "-", wide_name, set->name, grouped(set->n, count),
                100 * m->fpr95, bracket(m->fpr95_ci, fpr), 100 * m->auroc,
                bracket(m->auroc_ci, auroc), 100 * m->aupr_in, 100 * m->aupr_out);
    }
    const char *group;
    for (int i = 0; (group = npi_group_at(result, i)) != NULL; i++)
        print_mean(result, group, wide_group, wide_name, out);
    print_mean(result, NULL, wide_group, wide_name, out);
    for (int i = -1; i < result->sets; i++) {
        const npi_set_result *set = i < 0 ? NULL : &result->set[i];
        const npi_skipped *skipped = npi_evaluation_skipped(evaluation, i);
        int64_t left_out = skipped ? skipped->count : 0;
        char available[32];
        if (set && set->available > set->n + left_out)
            fprintf(out, "  %s: %s of %s images, drawn with seed %llu\n", set->name,
                    grouped(set->n, count), grouped(set->available, available),
                    (unsigned long long)evaluation->seed);
        if (skipped)
            fprintf(out, "  %s: %s broken image%s left out\n", set ? set->name : "ID",
                    grouped(left_out, count), left_out == 1 ? "" : "s");
    }
}

/* ---- for papers and programs ---- */

static const npi_grid_column columns[] = {
    {.name = "score", .key = "score"},
    {.name = "OOD set", .key = "set"},
    {.name = "group", .key = "group"},
    {.name = "n", .key = "n"},
    {.name = "FPR95", .key = "fpr95", .figure = true, .interval = true},
    {.name = "AUROC", .key = "auroc", .figure = true, .interval = true},
    {.name = "AUPR-in", .key = "aupr_in", .figure = true, .interval = true},
    {.name = "AUPR-out", .key = "aupr_out", .figure = true, .interval = true},
    {.name = "protocol", .key = "protocol", .detail = true},
    {.name = "ID n", .key = "id_n", .detail = true},
    {.name = "accuracy", .key = "accuracy_knn", .figure = true, .detail = true},
    {.name = "accuracy", .key = "accuracy_prototype", .figure = true, .detail = true},
    {.name = "accuracy", .key = "accuracy_head", .figure = true, .detail = true},
    {.name = "accuracy", .key = "accuracy_text", .figure = true, .detail = true}};
enum { COLUMNS = sizeof columns / sizeof *columns };

static void put_accuracy(npi_grid *grid, double accuracy) {
    npi_grid_figure(grid, accuracy < 0 ? NAN : accuracy, NAN, NULL);
}

/* One row: a set's, or with `mean` that of a mean over sets, without a number of images. */
static void put_row(npi_grid *grid, const npi_evaluation *evaluation,
                    const npi_score_result *result, const char *name, const char *group, int64_t n,
                    const npi_measures *m, bool mean) {
    npi_grid_row(grid);
    npi_grid_text(grid, result->score);
    npi_grid_text(grid, name);
    npi_grid_text(grid, group);
    if (mean)
        npi_grid_text(grid, "");
    else
        npi_grid_count(grid, n);
    npi_grid_figure(grid, m->fpr95, NAN, m->fpr95_ci);
    npi_grid_figure(grid, m->auroc, NAN, m->auroc_ci);
    npi_grid_figure(grid, m->aupr_in, NAN, m->aupr_in_ci);
    npi_grid_figure(grid, m->aupr_out, NAN, m->aupr_out_ci);
    npi_grid_text(grid, npi_protocol_name(evaluation->protocol));
    npi_grid_count(grid, result->id_n);
    put_accuracy(grid, result->accuracy.knn);
    put_accuracy(grid, result->accuracy.prototype);
    put_accuracy(grid, result->accuracy.head);
    put_accuracy(grid, result->accuracy.text);
}

static void put_mean(npi_grid *grid, const npi_evaluation *evaluation,
                     const npi_score_result *result, const char *group) {
    npi_measures mean;
    char label[32];
    snprintf(label, sizeof label, "mean of %d", npi_mean_measures(result, group, &mean));
    put_row(grid, evaluation, result, label, group ? group : "all", 0, &mean, true);
}

static npos_status write_grid(const npi_evaluation *evaluation, npi_format_kind format, FILE *out) {
    npi_grid grid;
    const char *group;
    npi_grid_make(&grid, columns, COLUMNS);
    for (int r = 0; r < evaluation->results; r++) {
        const npi_score_result *result = &evaluation->result[r];
        for (int i = 0; i < result->sets; i++) {
            const npi_set_result *set = &result->set[i];
            put_row(&grid, evaluation, result, set->name, set->group, set->n, &set->measures,
                    false);
        }
        for (int i = 0; (group = npi_group_at(result, i)) != NULL; i++)
            put_mean(&grid, evaluation, result, group);
        put_mean(&grid, evaluation, result, NULL);
    }
    if (format != NPI_FORMAT_CSV && evaluation->results > 0) {
        char count[32];
        fprintf(out, "%sprotocol %s (%s positive), percent, [95%% interval]; ID n %s\n",
                format == NPI_FORMAT_LATEX ? "% " : "", npi_protocol_name(evaluation->protocol),
                evaluation->protocol == NPI_PROTOCOL_OPENOOD ? "OOD" : "ID",
                grouped(evaluation->result[0].id_n, count));
        if (evaluation->id_parts > 0)
            print_id(evaluation, &evaluation->result[0], format == NPI_FORMAT_LATEX ? "% " : "",
                     out);
        else
            print_accuracy(&evaluation->result[0].accuracy, format == NPI_FORMAT_LATEX ? "% " : "",
                           out);
        fputc('\n', out);
    }
    npos_status status = npi_grid_write(&grid, format, out);
    npi_grid_clear(&grid);
    return status;
}

/* ---- OpenOOD's CSV ---- */

static void openood_row(const char *name, const char *ending, const npi_measures *m,
                        double accuracy, FILE *out) {
    /* its reader takes names as they are, and there is no comma in a usual one */
    fprintf(out, "%s%s,%.2f,%.2f,%.2f,%.2f,%.2f\n", name, ending, 100 * m->fpr95, 100 * m->auroc,
            100 * m->aupr_in, 100 * m->aupr_out, 100 * accuracy);
}

static void openood_group(const npi_score_result *result, const char *group, double accuracy,
                          FILE *out) {
    npi_measures mean;
    bool known = strcmp(group, "near") == 0 || strcmp(group, "far") == 0;
    for (int i = 0; i < result->sets; i++)
        if (strcmp(result->set[i].group, group) == 0)
            openood_row(result->set[i].name, "", &result->set[i].measures, accuracy, out);
    if (npi_mean_measures(result, group, &mean) > 0)
        openood_row(group, known ? "ood" : "", &mean, accuracy, out);
}

static void write_openood(const npi_evaluation *evaluation, FILE *out) {
    for (int r = 0; r < evaluation->results; r++) {
        const npi_score_result *result = &evaluation->result[r];
        const npi_accuracy *a = &result->accuracy;
        double accuracy = a->head >= 0        ? a->head
                          : a->prototype >= 0 ? a->prototype
                          : a->knn >= 0       ? a->knn
                                              : NAN;
        const char *group;
        if (evaluation->results > 1)
            fprintf(out, "# %s\n", result->score);
        fprintf(out, "dataset,FPR@95,AUROC,AUPR_IN,AUPR_OUT,ACC\n");
        for (int i = 0; (group = npi_group_at(result, i)) != NULL; i++)
            openood_group(result, group, accuracy, out);
        for (int i = 0; i < result->sets; i++)
            if (!result->set[i].group[0])
                openood_row(result->set[i].name, "", &result->set[i].measures, accuracy, out);
    }
}

npos_status npi_evaluation_table(const npi_evaluation *evaluation, npi_format_kind format,
                                 FILE *out) {
    if (format == NPI_FORMAT_JSON)
        return npi_evaluation_print(evaluation, out);
    if (format == NPI_FORMAT_OPENOOD) {
        write_openood(evaluation, out);
        return written(out);
    }
    if (format != NPI_FORMAT_TABLE)
        return write_grid(evaluation, format, out);
    for (int i = 0; i < evaluation->results; i++) {
        if (i > 0)
            fputc('\n', out);
        print_result(evaluation, &evaluation->result[i], out);
    }
    return written(out);
}

npos_status npi_evaluation_polarity(const npi_evaluation *evaluation, const char *advice,
                                    FILE *out) {
    for (int r = 0; r < evaluation->results; r++) {
        const npi_score_result *result = &evaluation->result[r];
        for (int i = 0; i < result->sets; i++) {
            const npi_measures *m = &result->set[i].measures;
            if (m->auroc_ci[1] < 0.5)
                fprintf(out,
                        "note: AUROC of %s is %.2f%%, below 50%% with its whole interval: if these "
                        "scores are larger for OOD images, %s\n",
                        result->set[i].name, 100 * m->auroc, advice);
        }
    }
    return written(out);
}
