#include "jobs/import_clip.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/json_text.h"
#include "jobs/clip_authors.h"
#include "jobs/clip_recipe.h"
#include "jobs/clip_save.h"
#include "jobs/compute.h"
#include "jobs/evaluation.h"
#include "jobs/fitted.h"
#include "jobs/model_file.h"
#include "jobs/text_file.h"

typedef struct job {
    const npos_train_options *options;
    npi_text_file text;
    npi_clip_config config;
    npi_recipe recipe;
    char *model; /* RUN/model.safetensors */
    npi_bank bank;
    npi_device *dev; /* of `tuned`; NULL without it */
    npi_clip_authors tuned;
} job;

static npos_status read_tuned(job *j) {
    if (!j->options->tuned)
        return NPOS_OK;
    NPI_TRY(npi_compute_open(&j->options->compute, &j->dev));
    return npi_clip_authors_read(j->dev, j->options->tuned, &j->config, &j->tuned);
}

static npos_status make_recipe(job *j) {
    const npos_train_options *o = j->options;
    npi_recipe *r = &j->recipe;
    NPI_TRY(npi_recipe_defaults(r));
    NPI_TRY(npi_recipe_set(r, o->tuned ? "name=authors-clip" : "name=zero-shot"));
    NPI_TRY(npi_recipe_set(r, "score=mcm"));
    NPI_TRY(npi_clip_recipe(o->init, &j->config, r));
    if (j->config.projection != j->text.dim)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: directions of %d numbers, the model's have %d",
                        o->text, j->text.dim, j->config.projection);
    if (o->data) {
        npi_free(r->data);
        r->data = NULL;
        NPI_TRY(npi_strdup(&r->data, o->data));
    }
    for (int i = 0; i < o->set_count; i++)
        NPI_TRY(npi_recipe_set(r, o->set[i]));
    return npi_recipe_check(r);
}

static npos_status write_in(const job *j, const char *name, const char *text) {
    char *path;
    NPI_TRY(npi_path_join(&path, j->options->out, name));
    npos_status status = npi_file_write(path, text, strlen(text));
    npi_free(path);
    return status;
}

static npos_status write_recipe(const job *j) {
    char *text;
    NPI_TRY(npi_recipe_format(&j->recipe, true, &text));
    npos_status status = write_in(j, "recipe.yaml", text);
    npi_free(text);
    return status;
}

static npos_status write_manifest(const job *j) {
    const npos_train_options *o = j->options;
    char now[32], weights[17];
    npi_utc_now(now);
    snprintf(weights, sizeof weights, "%016" PRIx64, j->text.weights);
    json_t *object = json_pack(
        "{s:i, s:s, s:s, s:s, s:n, s:{s:o, s:o, s:o, s:s, s:o, s:I}}", "schema", 1, "version",
        NPOS_VERSION, "started", now, "recipe", j->recipe.name, "seed", "import", "clip",
        npi_json_text(o->init), "tuned", o->tuned ? npi_json_text(o->tuned) : json_null(), "text",
        npi_json_text(o->text), "weights", weights, "data",
        o->data ? npi_json_text(o->data) : json_null(), "n", (json_int_t)j->bank.n);
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    npos_status status = text ? write_in(j, "manifest.json", text)
                              : npi_fail(NPOS_OUT_OF_MEMORY, "manifest.json: no memory");
    free(text);
    json_decref(object);
    return status;
}

static npos_status write_bank(const job *j) {
    char *path;
    NPI_TRY(npi_path_join(&path, j->options->out, "bank.safetensors"));
    npos_status status = npi_bank_write(path, &j->bank);
    npi_free(path);
    return status;
}

static npos_status write_model(const job *j) {
    npi_model_file file = {.params = j->options->tuned ? &j->tuned.phi : NULL,
                           .classes = j->text.classes,
                           .proj = j->text.dim,
                           .dim = j->text.dim,
                           .class_names = j->text.folders,
                           .text = j->text.rows,
                           .has_logits = true};
    return npi_model_file_write(j->model, &file);
}

/* The embeddings of `data` into the bank, by the run that was just written. */
static npos_status fill_bank(job *j) {
    const npos_train_options *o = j->options;
    npi_fitted fitted = {0};
    npi_images images = {0};
    npi_features features = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_run_open(o->out, &o->compute, &fitted.run), done);
    NPI_TRY_GOTO(npi_fitted_features(&fitted, &o->compute, "embed training images", o->data, 0, 0,
                                     &images, &features),
                 done);
    j->bank = (npi_bank){.n = features.n, .dim = features.dim, .h = features.h};
    features.h = NULL;
    j->bank.names = images.names;
    images.names = NULL;
    NPI_TRY_GOTO(npi_alloc(&j->bank.labels, (size_t)j->bank.n, sizeof *j->bank.labels, "labels"),
                 done);
    status = npi_labels_of_model(&images, j->text.folders, j->text.classes, j->bank.labels);
    for (int64_t i = 0; status == NPOS_OK && i < j->bank.n; i++)
        if (j->bank.labels[i] < 0)
            status = npi_fail(NPOS_BAD_DATA, "%s: %s has no label", o->data, j->bank.names[i]);
done:
    npi_features_clear(&features);
    npi_images_clear(&images);
    npi_fitted_close(&fitted);
    return status;
}

/* The classes of `data` are looked at before anything is written. */
static npos_status check_data(const job *j) {
    npi_images images;
    npi_transform transform = {j->config.side, j->config.channels, NPI_BICUBIC, 0};
    int32_t *labels = NULL;
    npos_status status;
    NPI_TRY(npi_images_open(j->options->data, &transform, 0, 0, &images));
    NPI_TRY_GOTO(npi_alloc(&labels, (size_t)images.count, sizeof *labels, "labels"), done);
    status = npi_labels_of_model(&images, j->text.folders, j->text.classes, labels);
done:
    npi_free(labels);
    npi_images_clear(&images);
    return status;
}

static npos_status write_run(job *j) {
    const npos_train_options *o = j->options;
    char *clip;
    NPI_TRY(npi_path_join(&clip, o->out, "clip"));
    npos_status status = npi_clip_save(o->init, &j->tuned.tuned, clip);
    npi_free(clip);
    NPI_TRY(status);
    j->bank.dim = j->text.dim;
    NPI_TRY(write_recipe(j));
    NPI_TRY(write_bank(j));
    NPI_TRY(write_model(j));
    if (o->data) {
        status = fill_bank(j);
        if (status == NPOS_OK && j->recipe.knn_k > j->bank.n) {
            j->recipe.knn_k = (int)j->bank.n;
            status = write_recipe(j);
        }
        if (status == NPOS_OK)
            status = write_bank(j);
        if (status != NPOS_OK) {
            remove(j->model); /* no whole run */
            return status;
        }
    }
    return write_manifest(j);
}

npos_status npi_import_clip(const npos_train_options *o) {
    job j = {.options = o};
    npos_status status;
    if (!o->out || o->recipe)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        o->recipe ? "npos_import: a CLIP model with text takes no recipe"
                                  : "npos_import: no run directory was given");
    NPI_TRY_GOTO(npi_path_join(&j.model, o->out, "model.safetensors"), done);
    if (npi_is_file(j.model)) {
        status = npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "%s: there is a run already", o->out),
                          "name another folder with --out");
        goto done;
    }
    NPI_TRY_GOTO(npi_text_file_read(o->text, &j.text), done);
    NPI_TRY_GOTO(npi_text_file_check(&j.text, o->text, o->init), done);
    NPI_TRY_GOTO(make_recipe(&j), done);
    NPI_TRY_GOTO(read_tuned(&j), done);
    if (o->data)
        NPI_TRY_GOTO(check_data(&j), done);
    status = write_run(&j);
done:
    npi_free(j.model);
    npi_clip_authors_clear(&j.tuned);
    npi_device_close(j.dev);
    npi_bank_clear(&j.bank);
    npi_recipe_clear(&j.recipe);
    npi_text_file_clear(&j.text);
    return status;
}
