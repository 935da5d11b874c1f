#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "jobs/compute.h"
#include "jobs/foreign.h"
#include "jobs/model_file.h"
#include "jobs/sift.h"
#include "jobs/trainer.h"
#include "ood/spread.h"

npos_status npi_trainer_path(const npi_trainer *t, const char *name, char **out) {
    return npi_path_join(out, t->options->out, name);
}

/* ---- recipe and run directory --------------------------------------------------------------------- */

bool npi_trainer_has(const npi_trainer *t, const char *name) {
    char *path;
    if (npi_trainer_path(t, name, &path) != NPOS_OK)
        return false;
    bool found = npi_is_file(path);
    npi_free(path);
    return found;
}

/* CLIP is fine-tuned by a command of its own. */
static npos_status check_method(npi_trainer *t) {
    bool clip = npi_settings_method(&t->recipe) == NPI_METHOD_CLIP,
         wanted = strcmp(t->command, "finetune") == 0;
    if (clip != wanted)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "%s: recipe '%s' has method '%s'",
                                 t->command, t->recipe.name, t->recipe.method),
                        clip ? "npos finetune fine-tunes CLIP"
                             : "recipes of method clip fine-tune CLIP; npos train trains others");
    return clip ? npi_alloc(&t->clip, 1, sizeof *t->clip, "fine-tuning") : NPOS_OK;
}

static npos_status load_recipe(npi_trainer *t) {
    const npos_train_options *o = t->options;
    char *stored = NULL;
    npos_status status = npi_trainer_path(t, "recipe.yaml", &stored);
    if (status == NPOS_OK && !o->recipe && !o->resume)
        status = npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "%s: no recipe is given", t->command),
                          "`npos recipes` lists them");
    if (status == NPOS_OK)
        status = npi_recipe_load(o->recipe ? o->recipe : stored, &t->recipe);
    for (int i = 0; status == NPOS_OK && i < o->set_count; i++)
        status = npi_recipe_set(&t->recipe, o->set[i]);
    if (status == NPOS_OK && o->data) {
        npi_free(t->recipe.data);
        t->recipe.data = NULL;
        status = npi_strdup(&t->recipe.data, o->data);
    }
    if (status == NPOS_OK)
        status = check_method(t);
    if (status == NPOS_OK && t->clip)
        status = npi_trainer_clip_recipe(t);
    if (status == NPOS_OK)
        status = npi_recipe_check(&t->recipe);
    if (status == NPOS_OK)
        status = npi_recipe_format(&t->recipe, false, &t->recipe_text);
    npi_free(stored);
    return status;
}

static npos_status check_folder(npi_trainer *t) {
    const npos_train_options *o = t->options;
    if (!o->out || !*o->out)
        return npi_hint(
            npi_fail(NPOS_INVALID_ARGUMENT, "%s: no run directory is given", t->command),
            "--out RUN says where to write");
    bool there =
        npi_trainer_has(t, "checkpoint.safetensors") || npi_trainer_has(t, "model.safetensors");
    if (there && !o->resume)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "'%s' already holds a run", o->out),
                        "--resume continues it; or choose another --out");
    if (o->resume && !npi_trainer_has(t, "checkpoint.safetensors"))
        return npi_hint(
            npi_fail(NPOS_NOT_FOUND, "'%s' holds no checkpoint.safetensors to resume from", o->out),
            "leave --resume out to start a run there");
    return npi_make_folders(o->out);
}

/* ---- data ------------------------------------------------------------------------------------------ */

npos_status npi_trainer_loading(void *context, int64_t done, int64_t total) {
    const npi_trainer *t = context;
    const char *phase = !t->clip              ? "load data"
                        : t->clip->items.read ? "load features"
                                              : "run the frozen blocks";
    return npi_compute_progress(&t->options->compute, phase, done, total, NULL);
}

/* What stands behind a split in a SPEC: from its first filter on. */
static const char *filters_of(const char *spec) {
    static const char *const filters[] = {"#class=", "#class!=", "#first=", "#draw="};
    const char *first = spec + strlen(spec);
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        const char *at = strstr(spec, filters[i]);
        first = at && at < first ? at : first;
    }
    return first;
}

/* Into memory, or only opened where it is to be streamed.  A SPEC without a split takes `split` where its format has
 * such. */
static npos_status load_split(npi_trainer *t, const char *spec, const char *split,
                              npi_images *out) {
    npi_transform transform = npi_settings_transform(&t->recipe);
    char *whole = NULL;
    bool add =
        !strstr(spec, "#train") && !strstr(spec, "#test") && npi_dataset_has_split(spec, split);
    const char *behind = filters_of(spec);
    NPI_TRY(npi_format(&whole, "%.*s%s%s%s", (int)(behind - spec), spec, add ? "#" : "",
                       add ? split : "", behind));
    npos_status status = npi_images_open(whole, &transform, 0, 0, out);
    npi_free(whole);
    NPI_TRY(status);
    NPI_TRY(npi_sift(&t->options->compute, out));
    return t->clip || npi_settings_streams(&t->recipe, out->count)
               ? npi_images_stamp(out)
               : npi_images_fill(out, &transform, t->options->compute.threads, npi_trainer_loading,
                                 t);
}

/* A ring that cannot be full before the run ends would leave R_open out without a word. */
static npos_status check_ring(const npi_trainer *t, int c, int64_t images) {
    const npi_recipe *r = &t->recipe;
    npi_method method = npi_settings_method(r);
    int64_t pushes = images * r->views * r->epochs;
    bool outliers =
        method == NPI_METHOD_NPOS || method == NPI_METHOD_VOS || method == NPI_METHOD_CLIP;
    bool wanted = outliers && r->start_epoch < r->epochs;
    if (!wanted || pushes >= r->ring)
        return NPOS_OK;
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                             "%s: class '%s' has %" PRId64 " images: %d epochs push %" PRId64
                             " embeddings, which never fill a ring of %d, so that no outliers "
                             "would be made",
                             t->images.spec, t->images.class_names[c], images, r->epochs, pushes,
                             r->ring),
                    "a smaller ring (with k and select at most as large)%s",
                    t->clip ? "" : ", or method=cider");
}

static npos_status check_images(const npi_trainer *t) {
    const npi_images *images = &t->images;
    if (images->classes < 2)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "%s: training needs at least 2 classes, the images have %d", images->spec,
                        images->classes);
    if (images->count > INT32_MAX)
        return npi_fail(NPOS_UNSUPPORTED, "%s: %" PRId64 " images, at most %d can be held",
                        images->spec, images->count, INT32_MAX);
    if (images->count < t->recipe.batch && !t->clip)
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "%s: %" PRId64 " images are fewer than a batch of %d",
                                 images->spec, images->count, t->recipe.batch),
                        "--set batch=%" PRId64 " would do", images->count);
    for (int c = 0; c < images->classes; c++) {
        int64_t seen = 0;
        for (int64_t i = 0; i < images->count; i++)
            seen += images->labels[i] == c;
        if (seen == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: class '%s' has no images", images->spec,
                            images->class_names[c]);
        NPI_TRY(check_ring(t, c, seen));
    }
    for (int64_t i = 0; i < images->count; i++)
        if (images->labels[i] < 0)
            return images->names ? npi_fail(NPOS_BAD_DATA, "%s: image '%s' has no label",
                                            images->spec, images->names[i])
                                 : npi_fail(NPOS_BAD_DATA, "%s: image %" PRId64 " has no label",
                                            images->spec, i); /* tokens have no names */
    return NPOS_OK;
}

static npos_status load_data(npi_trainer *t) {
    bool features = t->clip && *t->recipe.features;
    if (!*t->recipe.data && !features)
        return npi_hint(
            npi_fail(NPOS_INVALID_ARGUMENT, "%s: no training images are given", t->command),
            t->clip ? "--features STORE names what npos extract wrote, --data SPEC the images "
                      "themselves"
                    : "--data SPEC names a folder, an archive or a file of images");
    if (!features)
        NPI_TRY(load_split(t, t->recipe.data, "train", &t->images));
    if (t->clip)
        NPI_TRY(npi_trainer_clip_load(t));
    return check_images(t);
}

/* ---- network and objective -------------------------------------------------------------------------- */

int npi_trainer_count(const npi_trainer *t, int64_t step) {
    int64_t left = t->images.count - step * t->batch;
    return left < t->batch ? (int)left : t->batch;
}

static npos_status plan_network(npi_trainer *t) {
    if (t->clip)
        return npi_trainer_clip_plan(t);
    npi_model_desc model = npi_settings_model(&t->recipe, t->images.classes);
    NPI_TRY(npi_model_create(t->dev, &model, true, &t->model));
    return npi_plan_create(&t->model, t->batch * t->recipe.views, true, &t->plan);
}

/* From scratch the last images of an epoch that fill no batch are left out; CLIP takes them as a smaller one. */
npos_status npi_trainer_plan(npi_trainer *t) {
    const npi_recipe *r = &t->recipe;
    int64_t count = t->images.count;
    int classes = t->images.classes;
    t->batch = t->clip && count < r->batch ? (int)count : r->batch;
    int samples = t->batch * r->views;
    NPI_TRY(plan_network(t));
    npi_objective_desc objective = npi_settings_objective(r, classes, t->model.dim);
    objective.samples = samples;
    npi_encoder encoder =
        t->clip ? npi_clip_tuning_encoder(t->clip->plan) : npi_plan_encoder(t->plan);
    NPI_TRY(npi_objective_create(npi_comm_self(), &t->model, encoder, &objective, &t->objective));
    t->augment = npi_settings_augment(r);
    t->schedule =
        npi_settings_schedule(r, (int)((count + (t->clip ? t->batch - 1 : 0)) / t->batch));
    NPI_TRY(npi_trainer_input_plan(t));
    NPI_TRY(npi_alloc(&t->order, (size_t)t->images.count, sizeof *t->order, "order of the images"));
    NPI_TRY(npi_alloc(&t->batch_index, (size_t)r->batch, sizeof *t->batch_index, "batch"));
    NPI_TRY(npi_alloc(&t->batch_labels, (size_t)samples, sizeof *t->batch_labels, "batch labels"));
    return npi_alloc(&t->pushed, (size_t)classes, sizeof *t->pushed, "ring counters");
}

/* *out = the file that --init means: itself, or the model or else the checkpoint of a run. */
static npos_status find_init(const char *init, char **out) {
    static const char *const names[] = {"model.safetensors", "checkpoint.safetensors"};
    if (!npi_is_folder(init))
        return npi_strdup(out, init);
    for (int i = 0; i < 2; i++) {
        NPI_TRY(npi_path_join(out, init, names[i]));
        if (npi_is_file(*out))
            return NPOS_OK;
        npi_free(*out);
        *out = NULL;
    }
    return npi_fail(NPOS_NOT_FOUND, "%s: holds neither %s nor %s to start from", init, names[0],
                    names[1]);
}

/* A checkpoint has its parameters below "values/". */
static const char *values_prefix(const npi_safetensors *file) {
    for (int i = 0; i < npi_safetensors_count(file); i++)
        if (strncmp(npi_safetensors_at(file, i)->name, "values/", 7) == 0)
            return "values/";
    return "";
}

static npos_status read_own(npi_params *params, const char *path) {
    npi_safetensors *file;
    NPI_TRY(npi_safetensors_open(path, &file));
    npos_status status = npi_params_match(params, file, path, values_prefix(file));
    if (status == NPOS_OK)
        status = npi_params_read(params, NPI_ARENA_VALUES, file, values_prefix(file));
    npi_safetensors_close(file);
    return status;
}

static npos_status read_foreign(npi_trainer *t, const char *path) {
    npi_name_list left = {0};
    char text[500];
    NPI_TRY(npi_foreign_read(&t->model.params, path, &left));
    if (left.count == 0)
        return NPOS_OK;
    snprintf(text, sizeof text, "without %s, which this model has no use for",
             npi_name_list_text(&left));
    return npi_compute_progress(&t->options->compute, "weights", 1, 1, text);
}

static npos_status read_init(npi_trainer *t) {
    char *path;
    NPI_TRY(find_init(t->options->init, &path));
    npos_status status =
        npi_foreign_is(path) ? read_foreign(t, path) : read_own(&t->model.params, path);
    npi_free(path);
    return status;
}

static npos_status spread_prototypes(npi_trainer *t) {
    int classes = t->images.classes, dim = t->model.proj;
    size_t count = (size_t)classes * (size_t)dim;
    float *mu;
    NPI_TRY(npi_alloc(&mu, count, sizeof *mu, "prototypes"));
    npos_status status = npi_spread_directions(classes, dim, (uint64_t)t->recipe.seed, mu);
    if (status == NPOS_OK)
        status = t->dev->memory->upload(t->dev, t->objective.mu, mu, count * sizeof *mu);
    npi_free(mu);
    return status;
}

/* compat authors: their prototypes start from the test set. */
static npos_status start_prototypes(npi_trainer *t) {
    if (t->objective.desc.method == NPI_METHOD_CE)
        return NPOS_OK;
    if (strcmp(t->recipe.proto_start, "spread") == 0)
        return spread_prototypes(t);
    if (!npi_settings_authors(&t->recipe))
        return npi_trainer_start_prototypes(t, &t->images);
    npi_images test = {0};
    const char *spec = *t->recipe.test ? t->recipe.test : t->recipe.data;
    NPI_TRY(load_split(t, spec, "test", &test));
    npos_status status =
        test.classes == t->images.classes
            ? npi_trainer_start_prototypes(t, &test)
            : npi_fail(NPOS_SHAPE_MISMATCH, "%s: %d classes, the training images have %d",
                       test.spec, test.classes, t->images.classes);
    npi_images_clear(&test);
    return status;
}

static npos_status start(npi_trainer *t) {
    if (t->clip)
        NPI_TRY(npi_objective_set_text(&t->objective, t->clip->text.rows));
    if (t->options->resume)
        return npi_trainer_restore(t);
    if (t->clip)
        return npi_trainer_clip_start(t);
    NPI_TRY(npi_params_init(&t->model.params, (uint64_t)t->recipe.seed));
    if (t->options->init)
        NPI_TRY(read_init(t));
    return start_prototypes(t);
}

static npos_status tell_plan(npi_trainer *t) {
    char text[160];
    size_t peak;
    bool streamed = t->clip ? !npi_token_feed_kept(t->clip->feed) : t->images.set != NULL;
    t->dev->memory->usage(t->dev, &t->plan_bytes, &peak);
    snprintf(text, sizeof text,
             "%s: %.0f MiB for the plan, %.0f MiB of %s%s, %" PRId64 " images, %d classes",
             t->dev->name, (double)t->plan_bytes / 0x1p20,
             (double)npi_trainer_input_bytes(t) / 0x1p20, t->clip ? "tokens" : "images",
             streamed ? " (streamed)" : "", t->images.count, t->images.classes);
    NPI_TRY(npi_compute_progress(&t->options->compute, "plan", 1, 1, text));
    for (int i = 0; t->options->compute.verbose && i < t->model.arch.layer_count; i++) {
        snprintf(text, sizeof text, "%s: %s", t->model.arch.layers[i].conv,
                 npi_plan_variant(t->plan, i));
        NPI_TRY(npi_compute_progress(&t->options->compute, "plan", 1, 1, text));
    }
    return NPOS_OK;
}

npos_status npi_trainer_open(const npos_train_options *options, npi_trainer_job job,
                             npi_trainer *out) {
    *out = (npi_trainer){.options = options,
                         .command = job == NPI_TRAINER_FINETUNE ? "finetune" : "train"};
    if (options->out && options->resume && !npi_is_folder(options->out))
        return npi_fail(NPOS_NOT_FOUND, "'%s': no such run directory to resume", options->out);
    NPI_TRY(load_recipe(out));
    NPI_TRY(check_folder(out));
    const int batch = out->recipe.batch;
    if (job == NPI_TRAINER_IMPORT) /* no step is taken: a plan of training would only take memory */
        out->recipe.batch = 1;
    NPI_TRY(npi_compute_open(&options->compute, &out->dev));
    NPI_TRY(load_data(out));
    if (!out->dev->host)
        NPI_TRY(npi_compute_progress(&options->compute, "plan", 0, 1,
                                     "the first time on a GPU, convolutions are measured"));
    NPI_TRY(npi_trainer_plan(out));
    NPI_TRY(start(out));
    out->recipe.batch = batch;
    return tell_plan(out);
}

void npi_trainer_close(npi_trainer *t) {
    npi_trainer_unplan(t);
    npi_device_close(t->dev);
}

void npi_trainer_unplan(npi_trainer *t) {
    npi_trainer_step_close(t);
    npi_trainer_input_close(t);
    npi_tb_close(t->events);
    npi_objective_free(&t->objective);
    npi_trainer_clip_close(t);
    npi_plan_free(t->plan);
    npi_model_free(&t->model);
    if (t->dev) {
        t->dev->memory->free(t->dev, t->index);
        t->dev->memory->free(t->dev, t->pixels_owned);
    }
    npi_images_clear(&t->images);
    npi_free(t->order);
    npi_free(t->batch_index);
    npi_free(t->batch_labels);
    npi_free(t->pushed);
    npi_free(t->recipe_text);
    npi_recipe_clear(&t->recipe);
}
