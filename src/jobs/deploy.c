#include "jobs/deploy.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/calibration_file.h"
#include "jobs/compute.h"
#include "jobs/deploy_loss.h"
#include "jobs/fitted.h"
#include "jobs/fitted_file.h"
#include "jobs/model_file.h"
#include "ood/coreset.h"

typedef struct job {
    const npos_export_options *options;
    bool coreset;
    const char *score; /* of the deployed run */
    npi_fitted fitted;
    const npi_detector *own,
        *same;       /* the run's score, and the deployed one fitted on the whole bank */
    int64_t *chosen; /* rows of the coreset */
    npi_bank bank;   /* the deployed run's; n 0: none */
    int knn_k;
    /* The deployed run's detector: *same, but for a coreset. */
    npi_detector_model model;
    npi_neighbour_bank *neighbours;
    npi_detector *detectors;
    int detector_count;
    npi_deploy_loss loss;
} job;

static const npi_detector *find(const npi_fitted *fitted, const char *name) {
    for (int i = 0; i < fitted->count; i++)
        if (strcmp(fitted->detectors[i].kind->name, name) == 0)
            return &fitted->detectors[i];
    return NULL;
}

/* Opens the run with its own score and the one to be deployed. */
static npos_status open_run(job *j) {
    const npos_export_options *o = j->options;
    npi_fitted probe = {0};
    char *list = NULL;
    npos_status status;
    j->coreset = strcmp(o->detector, "coreset") == 0;
    j->score = j->coreset ? "knn" : o->detector;
    if (strchr(j->score, ',') || strcmp(j->score, "all") == 0 || strcmp(o->detector, "knn") == 0)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "detector '%s', expected coreset or one score that needs no "
                                 "training embeddings",
                                 o->detector),
                        "'coreset' is knn over a few training embeddings");
    NPI_TRY_GOTO(npi_fitted_open(o->run, &o->compute, j->score, false, &probe), done);
    const char *own = j->coreset ? "knn" : probe.run->recipe.score;
    NPI_TRY_GOTO(strcmp(own, j->score) == 0 ? npi_strdup(&list, own)
                                            : npi_format(&list, "%s,%s", own, j->score),
                 done);
    npi_fitted_close(&probe);
    NPI_TRY_GOTO(npi_fitted_open(o->run, &o->compute, list, true, &j->fitted), done);
    j->own = find(&j->fitted, j->coreset ? "knn" : j->fitted.run->recipe.score);
    j->same = find(&j->fitted, j->score);
    if (!j->same->kind->arrays && (j->same->kind->needs & NPI_NEEDS_BANK) && !j->coreset)
        status = npi_fail(NPOS_INVALID_ARGUMENT,
                          "score '%s' cannot leave the training embeddings behind", j->score);
done:
    npi_free(list);
    npi_fitted_close(&probe);
    return status;
}

/* ---- the coreset ---- */

static npos_status copy_rows(const npi_bank *from, const int64_t *chosen, npi_bank *to) {
    size_t n = (size_t)to->n, dim = (size_t)from->dim;
    NPI_TRY(npi_alloc(&to->h, n * dim, sizeof *to->h, "coreset"));
    NPI_TRY(npi_alloc(&to->labels, n, sizeof *to->labels, "coreset"));
    if (from->names)
        NPI_TRY(npi_alloc(&to->names, n, sizeof *to->names, "coreset"));
    for (size_t i = 0; i < n; i++) {
        memcpy(to->h + i * dim, from->h + (size_t)chosen[i] * dim, dim * sizeof *to->h);
        to->labels[i] = from->labels[chosen[i]];
        if (from->names)
            NPI_TRY(npi_strdup(&to->names[i], from->names[chosen[i]]));
    }
    return NPOS_OK;
}

static npos_status make_coreset(job *j) {
    const npi_run *run = j->fitted.run;
    const npi_bank *bank = &run->bank;
    int64_t size = j->options->size > 0 ? j->options->size : (bank->n + 19) / 20;
    if (j->options->size > bank->n)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "a coreset of %lld rows was asked for, %s has %lld training embeddings",
                        (long long)size, run->path, (long long)bank->n);
    NPI_TRY(npi_compute_progress(&j->options->compute, "coreset", 0, size, NULL));
    NPI_TRY(npi_coreset(run->dev, bank->n, bank->dim, bank->h, bank->labels, run->classes, size,
                        &j->chosen, &j->bank.n));
    NPI_TRY(npi_compute_progress(&j->options->compute, "coreset", size, size, NULL));
    j->knn_k = npi_coreset_k(j->fitted.model.knn_k, j->bank.n, bank->n);
    NPI_TRY(copy_rows(bank, j->chosen, &j->bank));
    j->model = j->fitted.model;
    NPI_TRY(npi_neighbour_bank_make(run->dev, j->bank.n, bank->dim, j->bank.h, &j->neighbours));
    j->model.bank = j->neighbours;
    j->model.bank_labels = j->bank.labels;
    j->model.bank_h = j->bank.h;
    j->model.knn_k = j->knn_k;
    return npi_detectors_fit("knn", &j->model, &j->detectors, &j->detector_count);
}

/* ---- the deployed run ---- */

static npos_status copy_file(const char *from, const char *to) {
    char *bytes;
    size_t size;
    NPI_TRY(npi_file_read(from, &bytes, &size));
    npos_status status = npi_file_write(to, bytes, size);
    npi_free(bytes);
    return status;
}

/* RUN/clip, where a CLIP run keeps its model: plain files. */
static npos_status copy_clip(const char *run, const char *out) {
    char *from = NULL, *to = NULL, *a = NULL, *b = NULL;
    DIR *folder = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&from, run, "clip"), done);
    NPI_TRY_GOTO(npi_path_join(&to, out, "clip"), done);
    if (!npi_is_folder(from))
        goto done;
    NPI_TRY_GOTO(npi_make_folders(to), done);
    folder = opendir(from);
    if (!folder) {
        status = npi_fail_errno("%s", from);
        goto done;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        npi_free(a);
        npi_free(b);
        a = b = NULL;
        NPI_TRY_GOTO(npi_path_join(&a, from, entry->d_name), done);
        NPI_TRY_GOTO(npi_path_join(&b, to, entry->d_name), done);
        if (npi_is_file(a))
            NPI_TRY_GOTO(copy_file(a, b), done);
    }
done:
    if (folder)
        closedir(folder);
    npi_free(from);
    npi_free(to);
    npi_free(a);
    npi_free(b);
    return status;
}

static npos_status write_recipe(const job *j, const char *path) {
    const char *out = j->options->out;
    char *from = NULL, *to = NULL, *set = NULL, *text = NULL;
    npi_recipe recipe = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&from, path, "recipe.yaml"), done);
    NPI_TRY_GOTO(npi_path_join(&to, out, "recipe.yaml"), done);
    NPI_TRY_GOTO(npi_recipe_load(from, &recipe), done);
    NPI_TRY_GOTO(npi_format(&set, "score=%s", j->score), done);
    NPI_TRY_GOTO(npi_recipe_set(&recipe, set), done);
    if (j->coreset) {
        npi_free(set);
        NPI_TRY_GOTO(npi_format(&set, "knn_k=%d", j->knn_k), done);
        NPI_TRY_GOTO(npi_recipe_set(&recipe, set), done);
    }
    NPI_TRY_GOTO(npi_recipe_format(&recipe, true, &text), done);
    status = npi_file_write(to, text, strlen(text));
done:
    npi_recipe_clear(&recipe);
    npi_free(from);
    npi_free(to);
    npi_free(set);
    npi_free(text);
    return status;
}

/* Whether the run's threshold holds for the deployed run: it gives the same scores. */
static bool keeps_threshold(const job *j) {
    const char *calibrated = j->fitted.run->calibration.score;
    return !j->coreset && calibrated && strcmp(calibrated, j->score) == 0;
}

static npos_status write_calibration(const job *j, const npi_run *deployed) {
    npi_id_scores scores;
    NPI_TRY(npi_id_scores_read(j->fitted.run, j->score, &scores));
    npos_status status = scores.n > 0
                             ? npi_id_scores_write(deployed, &deployed->calibration, scores.score)
                             : NPOS_OK;
    npi_id_scores_clear(&scores);
    return status;
}

/* What detectors keep, fitted on the whole bank: beside a coreset that of all scores, which would else
 * be fitted on the coreset. */
static npos_status write_fitted(const job *j, const npi_run *deployed) {
    const npi_fitted_file none = {0};
    const npi_fitted *from = &j->fitted;
    npi_fitted all = {0};
    npos_status status = NPOS_OK;
    bool any = false;
    if (j->coreset) {
        status = npi_fitted_open(j->options->run, &j->options->compute, "all", true, &all);
        from = &all;
    }
    for (int i = 0; i < from->count; i++)
        any |= from->detectors[i].kind->arrays != NULL;
    if (status == NPOS_OK && any)
        status = npi_fitted_file_write(deployed, from->detectors, from->count, &none);
    npi_fitted_close(&all);
    return status;
}

/* The model last: a folder with it is a whole run. */
static npos_status write_run(job *j) {
    const npi_run *run = j->fitted.run;
    const char *out = j->options->out;
    char *bank = NULL, *manifest = NULL;
    npi_run deployed = *run; /* its files, seen from the other folder */
    npos_status status;
    deployed.path = (char *)(uintptr_t)out;
    deployed.bank = j->bank;
    NPI_TRY_GOTO(npi_path_join(&bank, out, "bank.safetensors"), done);
    NPI_TRY_GOTO(npi_path_join(&manifest, out, "manifest.json"), done);
    NPI_TRY_GOTO(npi_make_folders(out), done);
    NPI_TRY_GOTO(write_recipe(j, run->path), done);
    NPI_TRY_GOTO(npi_deploy_manifest(&j->loss, run->path, manifest), done);
    NPI_TRY_GOTO(copy_clip(run->path, out), done);
    NPI_TRY_GOTO(npi_bank_write(bank, &j->bank), done);
    NPI_TRY_GOTO(write_fitted(j, &deployed), done);
    if (keeps_threshold(j))
        NPI_TRY_GOTO(write_calibration(j, &deployed), done);
    status = npi_run_write_model(run, out, keeps_threshold(j) ? &run->calibration : NULL);
done:
    npi_free(bank);
    npi_free(manifest);
    return status;
}

static npos_status refuse_existing(const char *out) {
    char *model;
    NPI_TRY(npi_path_join(&model, out, "model.safetensors"));
    bool there = npi_is_file(model);
    npi_free(model);
    return there ? npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "%s: there is a run already", out),
                            "name another folder with --out")
                 : NPOS_OK;
}

static npos_status tell(const job *j) {
    FILE *out = j->options->table;
    if (!out)
        return NPOS_OK;
    NPI_TRY(npi_deploy_loss_print(&j->loss, out));
    if (keeps_threshold(j))
        fprintf(out, "threshold %.9g: the run's own, for the scores are the same\n",
                j->fitted.run->calibration.threshold);
    else
        fprintf(out, "no threshold yet: npos calibrate %s --id SPEC\n", j->options->out);
    return fflush(out) == 0 ? NPOS_OK : npi_fail_errno("writing the result");
}

static npos_status deploy(job *j) {
    const npos_export_options *o = j->options;
    NPI_TRY(refuse_existing(o->out));
    NPI_TRY(open_run(j));
    const npi_run *run = j->fitted.run;
    j->bank.dim = run->dim;
    if (j->coreset)
        NPI_TRY(make_coreset(j));
    j->loss = (npi_deploy_loss){.detector = o->detector,
                                .own = j->own->kind->name,
                                .score = j->score,
                                .rows = j->bank.n,
                                .of = run->bank.n,
                                .dim = run->dim,
                                .knn_k = j->coreset ? j->knn_k : 0,
                                .own_k = j->fitted.model.knn_k};
    if (o->id)
        NPI_TRY(npi_deploy_measure(o, &j->fitted, j->own, j->coreset ? j->detectors : j->same,
                                   &j->loss));
    NPI_TRY(write_run(j));
    return tell(j);
}

npos_status npi_deploy(const npos_export_options *options) {
    job j = {.options = options};
    if (options->ood_count > 0 && !options->id)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_export: OOD sets measure nothing without ID images");
    if (options->size < 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "size: %lld, expected 0 (a twentieth) or more",
                        (long long)options->size);
    npos_status status = deploy(&j);
    npi_deploy_loss_clear(&j.loss);
    npi_detectors_free(j.detectors, j.detector_count);
    npi_neighbour_bank_free(j.neighbours);
    npi_bank_clear(&j.bank);
    npi_free(j.chosen);
    npi_fitted_close(&j.fitted);
    return status;
}
