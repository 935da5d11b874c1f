/* npos_calibrate: the threshold that accepts a wanted share of ID images, stored in the model. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/spec.h"
#include "io/json_text.h"
#include "jobs/calibration_file.h"
#include "jobs/choose_k.h"
#include "jobs/compute.h"
#include "jobs/fitted.h"
#include "jobs/options.h"
#include "npos/npos.h"
#include "ood/metrics.h"
#include "ood/statistics.h"
#include "report/evaluation_json.h"

void npos_calibrate_options_init(npos_calibrate_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
    options->tpr = 0.95;
}

/* Refuses the images that the model was trained on: on them every score is too good.  An image is
 * taken for a training image when its embedding equals one of the bank. */
static npos_status refuse_training_images(const npi_fitted *fitted, const npi_features *f,
                                          const char *spec) {
    const npi_bank *bank = &fitted->run->bank;
    int64_t *nearest, same = 0;
    if (!fitted->bank)
        return NPOS_OK;
    NPI_TRY(npi_alloc(&nearest, (size_t)f->n, sizeof *nearest, "nearest embeddings"));
    npos_status status = npi_neighbour_list(fitted->bank, f->n, f->h, 1, nearest, NULL);
    for (int64_t i = 0; status == NPOS_OK && i < f->n; i++) {
        const float *a = f->h + i * f->dim, *b = bank->h + nearest[i] * f->dim;
        double gap = 0, size = 0;
        for (int d = 0; d < f->dim; d++) {
            gap += ((double)a[d] - (double)b[d]) * ((double)a[d] - (double)b[d]);
            size += (double)a[d] * (double)a[d];
        }
        same += size > 0 && gap <= 1e-10 * size;
    }
    npi_free(nearest);
    if (status != NPOS_OK || 2 * same <= f->n)
        return status;
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                             "%s: %lld of %lld images have the embedding of a training image; a "
                             "threshold from them would be too strict on new images",
                             spec, (long long)same, (long long)f->n),
                    "calibrate on ID images that the run was not trained on");
}

/* Whether `spec` names images of the place and split of `other`, or with `test` of its test split, whatever part of
 * them.  What is no SPEC of images (embeddings) is compared as it is written. */
static bool same_place(const char *other, const char *spec, bool test) {
    npi_spec one = {0}, two = {0};
    bool same = !test && strcmp(other, spec) == 0;
    if (!same && *other && npi_spec_parse(other, &one) == NPOS_OK &&
        npi_spec_parse(spec, &two) == NPOS_OK)
        same = strcmp(one.path, two.path) == 0 && two.split == (test ? NPI_SPLIT_TEST : one.split);
    npi_spec_clear(&one);
    npi_spec_clear(&two);
    return same;
}

/* Whether the images come from where the run's figures were taken (RUN/eval.json) or will be (the
 * recipe's test images, else the test split of its data).  No evaluation, or one that cannot be read, says nothing. */
static npos_status is_test_split(const npi_run *run, const char *spec, bool *is) {
    npi_evaluation evaluation = {0};
    char *path;
    bool own = run->recipe.test[0] != '\0';
    *is = same_place(own ? run->recipe.test : run->recipe.data, spec, !own);
    NPI_TRY(npi_path_join(&path, run->path, "eval.json"));
    if (npi_is_file(path) && npi_evaluation_read(path, &evaluation) == NPOS_OK)
        for (int i = -1; i < evaluation.id_parts; i++)
            *is |= same_place(i < 0 ? evaluation.id_spec : evaluation.id_part[i].spec, spec, false);
    npi_evaluation_clear(&evaluation);
    npi_free(path);
    return NPOS_OK;
}

static npos_status write_json(const npos_calibrate_options *options, const npi_calibration *c,
                              bool test_split) {
    json_t *root = json_pack(
        "{s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:[o, o], s:I, s:o, s:b}", "schema", 1, "run",
        npi_json_text(options->run), "id", npi_json_text(options->id), "score",
        npi_json_text(c->score), "threshold", npi_json_number(c->threshold), "tpr_wanted",
        npi_json_number(options->tpr), "tpr", npi_json_number(c->tpr), "tpr_ci",
        npi_json_number(c->tpr_ci[0]), npi_json_number(c->tpr_ci[1]), "n", (json_int_t)c->n,
        "knn_k", c->knn_k > 0 ? json_integer(c->knn_k) : json_null(), "test_split", test_split);
    char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    if (!text)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the JSON text", options->json);
    npi_atomic file;
    npos_status status = npi_atomic_open(&file, options->json);
    if (status == NPOS_OK) {
        fprintf(file.stream, "%s\n", text);
        status = npi_atomic_commit(&file);
    }
    free(text);
    return status;
}

/* The k-NN score's k by the options' OOD sets; the detectors use it from here on. */
static npos_status choose_k(const npos_calibrate_options *options, npi_fitted *fitted,
                            const npi_features *f, int *k) {
    npi_ood_set *sets = NULL;
    int count = 0;
    double auroc;
    npos_status status;
    if (strcmp(fitted->detectors->kind->name, "knn") != 0)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "OOD sets were given, which choose the k of 'knn', but the score is '%s'",
                        fitted->detectors->kind->name);
    NPI_TRY_GOTO(npi_ood_specs_parse(options->ood, options->ood_count, &sets, &count), done);
    NPI_TRY_GOTO(npi_choose_k(fitted, &options->compute, f, sets, count, k, &auroc), done);
    fitted->model.knn_k = *k;
    if (options->out)
        fprintf(options->out, "knn: k = %d has the largest AUROC, %.2f%%, on %d validation set%s\n",
                *k, 100 * auroc, count, count > 1 ? "s" : "");
done:
    npi_ood_sets_free(sets, count);
    return status;
}

static npos_status calibrate(const npos_calibrate_options *options, npi_fitted *fitted,
                             const npi_features *f) {
    npi_calibration found = {.n = f->n, .knn_k = fitted->run->calibration.knn_k};
    int64_t accepted = 0;
    npi_outputs outputs = npi_outputs_of(f);
    double *scores = NULL;
    bool test_split;
    npos_status status;
    NPI_TRY_GOTO(is_test_split(fitted->run, options->id, &test_split), done);
    NPI_TRY_GOTO(refuse_training_images(fitted, f, options->id), done);
    if (options->ood_count > 0)
        NPI_TRY_GOTO(choose_k(options, fitted, f, &found.knn_k), done);
    NPI_TRY_GOTO(npi_alloc(&scores, (size_t)f->n, sizeof *scores, "scores"), done);
    NPI_TRY_GOTO(npi_detector_score(fitted->detectors, &outputs, scores), done);
    npi_scores id = {options->id, f->n, scores};
    NPI_TRY_GOTO(npi_threshold_at_tpr(&id, options->tpr, &found.threshold, &accepted), done);
    if (!isfinite(found.threshold)) {
        status = npi_fail(NPOS_NOT_FINITE, "%s: the threshold would be %g", options->id,
                          found.threshold);
        goto done;
    }
    found.tpr = (double)accepted / (double)f->n;
    npi_clopper_pearson(accepted, f->n, 0.05, found.tpr_ci);
    NPI_TRY_GOTO(npi_strdup(&found.score, fitted->detectors->kind->name), done);
    NPI_TRY_GOTO(npi_id_scores_write(fitted->run, &found, scores), done);
    NPI_TRY_GOTO(npi_run_set_calibration(fitted->run, &found), done);
    if (options->json)
        NPI_TRY_GOTO(write_json(options, &found, test_split), done);
    if (options->out) {
        fprintf(options->out,
                "score %s: threshold %.9g accepts %lld of %lld ID images, %.2f%%\n"
                "95%% interval of that share (Clopper-Pearson): %.2f%% to %.2f%%\n",
                found.score, found.threshold, (long long)accepted, (long long)f->n, 100 * found.tpr,
                100 * found.tpr_ci[0], 100 * found.tpr_ci[1]);
        if (test_split)
            fprintf(options->out,
                    "note: these are of the run's test images; figures that are taken on them at "
                    "this threshold are too good\n");
        if (fflush(options->out) != 0)
            status = npi_fail_errno("writing the calibration");
    }
done:
    npi_free(found.score);
    npi_free(scores);
    return status;
}

npos_status npos_calibrate(const npos_calibrate_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_calibrate");
    npi_fitted fitted = {0};
    npi_images images = {0};
    npi_features features = {0};
    npos_status status;
    if (!options->id)
        return npi_fail(NPOS_INVALID_ARGUMENT, "npos_calibrate: no ID images were given");
    if (!(options->tpr > 0 && options->tpr <= 1))
        return npi_fail(NPOS_INVALID_ARGUMENT, "tpr: %g, expected more than 0 and at most 1",
                        options->tpr);
    NPI_TRY_GOTO(npi_fitted_open(options->run, &options->compute, options->score, true, &fitted),
                 done);
    if (fitted.count != 1) {
        status = npi_fail(NPOS_INVALID_ARGUMENT, "score '%s': a threshold belongs to one score",
                          options->score ? options->score : fitted.run->recipe.score);
        goto done;
    }
    NPI_TRY_GOTO(npi_fitted_features(&fitted, &options->compute, "embed id", options->id, 0, 0,
                                     &images, &features),
                 done);
    status = calibrate(options, &fitted, &features);
done:
    npi_features_clear(&features);
    npi_images_clear(&images);
    npi_fitted_close(&fitted);
    return status;
}
