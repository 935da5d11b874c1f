#include "jobs/deploy_loss.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json_text.h"
#include "jobs/evaluation.h"
#include "ood/statistics.h"
#include "report/grid.h"

enum { IMAGES = 10000 }; /* of an OOD set, at the most */

void npi_deploy_loss_clear(npi_deploy_loss *loss) {
    npi_evaluation_clear(&loss->evaluation);
}

/* ---- measuring ---- */

/* All scores of a result, ID first; *n of them. */
static npos_status all_scores(const npi_score_result *result, int64_t *n, double **out) {
    int64_t at = 0;
    *n = result->id_n;
    for (int i = 0; i < result->sets; i++)
        *n += result->set[i].n;
    NPI_TRY(npi_alloc(out, (size_t)*n, sizeof **out, "scores"));
    memcpy(*out, result->id_scores, (size_t)result->id_n * sizeof **out);
    at = result->id_n;
    for (int i = 0; i < result->sets; at += result->set[i++].n)
        memcpy(*out + at, result->set[i].scores, (size_t)result->set[i].n * sizeof **out);
    return NPOS_OK;
}

static npos_status correlate(npi_deploy_loss *loss) {
    double *a = NULL, *b = NULL;
    npos_status status;
    NPI_TRY_GOTO(all_scores(&loss->evaluation.result[0], &loss->images, &a), done);
    NPI_TRY_GOTO(all_scores(&loss->evaluation.result[1], &loss->images, &b), done);
    status = npi_rank_correlation(loss->images, a, b, &loss->correlation);
done:
    npi_free(a);
    npi_free(b);
    return status;
}

static npos_status add_set(const npos_export_options *options, const npi_fitted *fitted,
                           const npi_detector *pair, int set, const char *spec,
                           npi_evaluation *evaluation) {
    npi_images images = {0};
    npi_features features = {0};
    npos_status status;
    char phase[160];
    snprintf(phase, sizeof phase, "embed %.120s",
             set == NPI_ID_SET ? "id" : evaluation->result->set[set].name);
    NPI_TRY_GOTO(npi_fitted_features(fitted, &options->compute, phase, spec,
                                     set == NPI_ID_SET ? 0 : IMAGES, 0, &images, &features),
                 done);
    npi_outputs outputs = npi_outputs_of(&features);
    status = npi_evaluation_add(evaluation, pair, set, &outputs, images.names, images.available);
done:
    npi_features_clear(&features);
    npi_images_clear(&images);
    return status;
}

npos_status npi_deploy_measure(const npos_export_options *options, const npi_fitted *fitted,
                               const npi_detector *own, const npi_detector *deployed,
                               npi_deploy_loss *loss) {
    const npi_detector pair[2] = {*own, *deployed};
    npi_evaluation *evaluation = &loss->evaluation;
    npi_ood_set *sets = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_ood_sets_parse(options->ood, options->ood_count, &sets), done);
    NPI_TRY_GOTO(npi_evaluation_begin(evaluation, NPI_PROTOCOL_OE, 0, options->id, pair, 2, sets,
                                      options->ood_count),
                 done);
    for (int set = NPI_ID_SET; set < options->ood_count; set++)
        NPI_TRY_GOTO(add_set(options, fitted, pair, set,
                             set == NPI_ID_SET ? options->id : sets[set].where, evaluation),
                     done);
    NPI_TRY_GOTO(npi_evaluation_measure(evaluation, &options->compute), done);
    status = correlate(loss);
done:
    npi_ood_sets_free(sets, options->ood_count);
    return status;
}

/* ---- telling ---- */

static void grid_row(npi_grid *grid, const char *name, const char *group, int64_t n,
                     const npi_measures *own, const npi_measures *deployed) {
    npi_grid_row(grid);
    npi_grid_text(grid, group);
    npi_grid_text(grid, name);
    npi_grid_count(grid, n);
    npi_grid_figure(grid, own->fpr95, NAN, NULL);
    npi_grid_figure(grid, deployed->fpr95, NAN, NULL);
    npi_grid_figure(grid, deployed->fpr95 - own->fpr95, NAN, NULL);
    npi_grid_figure(grid, own->auroc, NAN, NULL);
    npi_grid_figure(grid, deployed->auroc, NAN, NULL);
    npi_grid_figure(grid, deployed->auroc - own->auroc, NAN, NULL);
}

static npos_status print_table(const npi_deploy_loss *loss, FILE *out) {
    const npi_score_result *own = &loss->evaluation.result[0],
                           *deployed = &loss->evaluation.result[1];
    char *names[4] = {NULL};
    npi_grid grid = {0};
    npos_status status;
    const char *measure[2] = {"FPR95", "AUROC"};
    for (int i = 0; i < 4; i++)
        NPI_TRY_GOTO(
            npi_format(&names[i], "%s %s", measure[i / 2], i % 2 ? loss->detector : loss->own),
            done);
    const npi_grid_column columns[] = {{.name = "group", .key = "group"},
                                       {.name = "OOD set", .key = "set"},
                                       {.name = "n", .key = "n"},
                                       {names[0], "fpr95_own", .figure = true},
                                       {names[1], "fpr95", .figure = true},
                                       {"change", "fpr95_change", .figure = true, .sign = true},
                                       {names[2], "auroc_own", .figure = true},
                                       {names[3], "auroc", .figure = true},
                                       {"change", "auroc_change", .figure = true, .sign = true}};
    npi_grid_make(&grid, columns, sizeof columns / sizeof *columns);
    for (int i = 0; i < own->sets; i++)
        grid_row(&grid, own->set[i].name, own->set[i].group, own->set[i].n, &own->set[i].measures,
                 &deployed->set[i].measures);
    npi_measures before, after;
    if (npi_mean_measures(own, NULL, &before) > 1) {
        npi_mean_measures(deployed, NULL, &after);
        grid_row(&grid, "mean", "all", own->sets, &before, &after);
    }
    if (own->sets > 0)
        status = npi_grid_write(&grid, NPI_FORMAT_TABLE, out);
done:
    npi_grid_clear(&grid);
    for (int i = 0; i < 4; i++)
        npi_free(names[i]);
    return status;
}

npos_status npi_deploy_loss_print(const npi_deploy_loss *loss, FILE *out) {
    const double row = 4.0 * loss->dim / 1e6;
    fprintf(out, "%s: %lld of %lld training embeddings kept, %.1f of %.1f MB", loss->detector,
            (long long)loss->rows, (long long)loss->of, row * (double)loss->rows,
            row * (double)loss->of);
    if (loss->knn_k > 0)
        fprintf(out, "; k = %d in place of %d", loss->knn_k, loss->own_k);
    fprintf(out, "\n");
    if (loss->evaluation.results == 0) {
        fprintf(out, "what is lost was not measured: that takes --id SPEC --ood NAME=SPEC\n");
        return NPOS_OK;
    }
    fprintf(out, "what is lost, protocol oe, percent:\n");
    NPI_TRY(print_table(loss, out));
    fprintf(out, "rank correlation (Spearman) of %s and %s: %.4f over %lld images\n", loss->own,
            loss->detector, loss->correlation, (long long)loss->images);
    return NPOS_OK;
}

/* ---- manifest ---- */

static json_t *loss_json(const npi_deploy_loss *loss) {
    const npi_evaluation *e = &loss->evaluation;
    if (e->results == 0)
        return json_null();
    json_t *sets = json_array();
    for (int i = 0; i < e->result->sets; i++) {
        const npi_set_result *a = &e->result[0].set[i], *b = &e->result[1].set[i];
        json_array_append_new(sets,
                              json_pack("{s:o, s:o, s:o, s:I, s:[f, f], s:[f, f]}", "name",
                                        npi_json_text(a->name), "group", npi_json_text(a->group),
                                        "spec", npi_json_text(a->spec), "n", (json_int_t)a->n,
                                        "fpr95", a->measures.fpr95, b->measures.fpr95, "auroc",
                                        a->measures.auroc, b->measures.auroc));
    }
    return json_pack("{s:s, s:s, s:o, s:I, s:o, s:o}", "own_score", loss->own, "protocol",
                     npi_protocol_name(e->protocol), "id", npi_json_text(e->id_spec), "images",
                     (json_int_t)loss->images, "rank_correlation",
                     npi_json_number(loss->correlation), "ood", sets);
}

npos_status npi_deploy_manifest(const npi_deploy_loss *loss, const char *run, const char *path) {
    char *from = NULL, *text = NULL, *written = NULL;
    size_t size;
    json_t *root = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&from, run, "manifest.json"), done);
    if (npi_is_file(from))
        NPI_TRY_GOTO(npi_file_read(from, &text, &size), done);
    root = text ? json_loads(text, 0, NULL) : NULL;
    if (!json_is_object(root)) { /* a run whose manifest is lost is still a run */
        json_decref(root);
        root = json_object();
    }
    json_t *export = json_pack("{s:s, s:o, s:s, s:s, s:I, s:I, s:i, s:o}", "version", NPOS_VERSION,
                               "from", npi_json_text(run), "detector", loss->detector, "score",
                               loss->score, "rows", (json_int_t)loss->rows, "of",
                               (json_int_t)loss->of, "knn_k", loss->knn_k, "loss", loss_json(loss));
    if (json_object_set_new(root, "export", export) == 0)
        written = json_dumps(root, JSON_INDENT(2));
    status = written ? npi_file_write(path, written, strlen(written))
                     : npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the JSON text", path);
done:
    json_decref(root);
    free(written);
    npi_free(text);
    npi_free(from);
    return status;
}
