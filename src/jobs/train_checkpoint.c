/* checkpoint.safetensors: all that a resumed run needs to continue bit for bit.
 *
 *   values/NAME, velocity/NAME    parameters (and buffers) in PyTorch's layout
 *   prototypes [classes][proj]; rings [classes][ring][dim]; pushed [classes] int64
 *   sums                          float64: the epoch's sums so far
 *   metadata: format, epoch, step (the next to run), data_hash, recipe (the whole text, without help);
 *   of CLIP weights and text_hash instead of prototypes: T lies in RUN/text.safetensors */
#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "jobs/model_file.h"
#include "jobs/trainer.h"

static const char format[] = "npos-checkpoint-1";
enum { SUMS = sizeof(npi_epoch_sums) / sizeof(double) };

/* Adds a float32 array that lies in device memory. */
static npos_status add_device(npi_trainer *t, npi_tensor_list *list, const char *name, int ndim,
                              const int64_t *shape, const float *from) {
    size_t bytes = sizeof(float);
    for (int i = 0; i < ndim; i++)
        bytes *= (size_t)shape[i];
    NPI_TRY(npi_tensor_list_add(list, "", name, NPI_F32, ndim, shape, NULL));
    return t->dev->memory->download(t->dev, (void *)(uintptr_t)list->tensors[list->count - 1].data,
                                    from, bytes);
}

static npos_status collect(npi_trainer *t, npi_tensor_list *list) {
    const npi_objective *o = &t->objective;
    NPI_TRY(npi_tensor_list_add_params(list, "values/", &t->model.params, NPI_ARENA_VALUES));
    NPI_TRY(npi_tensor_list_add_params(list, "velocity/", &t->model.params, NPI_ARENA_VELOCITY));
    if (o->mu && !t->clip)
        NPI_TRY(add_device(t, list, "prototypes", 2, (int64_t[]){t->images.classes, t->model.proj},
                           o->mu));
    if (o->synth) {
        const npi_ring *r = &o->ring;
        int64_t counts[1] = {r->classes};
        NPI_TRY(add_device(t, list, "rings", 3, (int64_t[]){r->classes, r->size, r->dim}, r->rows));
        NPI_TRY(npi_tensor_list_add(list, "", "pushed", NPI_I64, 1, counts, t->pushed));
    }
    return npi_tensor_list_add(list, "", "sums", NPI_F64, 1, (int64_t[]){SUMS}, &t->sums);
}

npos_status npi_trainer_diverged(const npi_trainer *t, npos_status status) {
    const char *out = t->options->out;
    if (t->clip) /* whose weights start from the model's */
        return npi_hint(status,
                        "'%s' keeps the state of epoch %d, step %d; start anew with another --out "
                        "and a lower rate (--set lr=%g) or --set clip_norm=1",
                        out, t->saved_epoch, t->saved_step, t->recipe.lr / 2);
    return npi_hint(
        status,
        "'%s' keeps the state of epoch %d, step %d; with another --out, start from there (--init "
        "%s) or anew, with a lower rate (--set lr=%g), a longer warm-up or --set clip_norm=1",
        out, t->saved_epoch, t->saved_step, out, t->recipe.lr / 2);
}

/* A checkpoint is only ever replaced by one that a run can go on from. */
static npos_status check_finite(const npi_trainer *t, const npi_tensor_list *list) {
    for (int i = 0; i < list->count; i++) {
        const npi_named_tensor *tensor = &list->tensors[i];
        const float *values = tensor->data;
        size_t count = tensor->dtype == NPI_F32 ? 1 : 0;
        for (int d = 0; d < tensor->ndim; d++)
            count *= (size_t)tensor->shape[d];
        for (size_t k = 0; k < count; k++)
            if (!isfinite(values[k]))
                return npi_trainer_diverged(
                    t, npi_fail(NPOS_NOT_FINITE,
                                "training: a value of %s became %g before epoch %d, step %d of %d",
                                tensor->name, (double)values[k], t->epoch, t->step,
                                t->schedule.steps));
    }
    return NPOS_OK;
}

npos_status npi_trainer_save(npi_trainer *t) {
    double start = npi_seconds();
    npi_tensor_list list = {0};
    char *path = NULL, epoch[24], step[24], hash[24], weights[24], text[24];
    snprintf(epoch, sizeof epoch, "%d", t->epoch);
    snprintf(step, sizeof step, "%d", t->step);
    snprintf(hash, sizeof hash, "%016" PRIx64, t->images.hash);
    if (t->clip)
        snprintf(weights, sizeof weights, "%016" PRIx64, t->clip->weights);
    if (t->clip)
        snprintf(text, sizeof text, "%016" PRIx64, t->clip->text_hash);
    const char *const metadata[] = {"format",    format,
                                    "epoch",     epoch,
                                    "step",      step,
                                    "data_hash", hash,
                                    "recipe",    t->recipe_text,
                                    "text_hash", t->clip ? text : NULL,
                                    "weights",   t->clip ? weights : NULL,
                                    NULL};
    npos_status status = npi_trainer_path(t, "checkpoint.safetensors", &path);
    if (status == NPOS_OK)
        status = collect(t, &list);
    if (status == NPOS_OK)
        status = check_finite(t, &list);
    if (status == NPOS_OK)
        status = npi_safetensors_write(path, list.tensors, list.count, metadata);
    if (status == NPOS_OK) {
        t->saved_epoch = t->epoch;
        t->saved_step = t->step;
        t->saved_at = npi_seconds();
        t->save_seconds = t->saved_at - start;
    }
    npi_tensor_list_clear(&list);
    npi_free(path);
    return status;
}

void npi_trainer_drop_parts(const npi_trainer *t) {
    DIR *folder = opendir(t->options->out);
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        char *path;
        if (!strstr(entry->d_name, ".safetensors.tmp-") ||
            npi_trainer_path(t, entry->d_name, &path) != NPOS_OK)
            continue;
        unlink(path);
        npi_free(path);
    }
    if (folder)
        closedir(folder);
}

/* ---- restoring ------------------------------------------------------------------------------------- */

/* Length of the line that starts at `at`, and the same for its key. */
static size_t line_length(const char *at) {
    return strcspn(at, "\n");
}

/* Is this line of a recipe about a file of CLIP's, whose content is compared in its place? */
static bool names_a_file(const char *line) {
    static const char *const keys[] = {"clip: ", "features: ", "text: "};
    for (int i = 0; i < 3; i++)
        if (strncmp(line, keys[i], strlen(keys[i])) == 0)
            return true;
    return false;
}

/* The recipes must be the same text; the first line that differs is named.  The text has no help, which another
 * version may word otherwise. */
static npos_status compare_recipes(const char *path, const char *stored, const char *now) {
    while (*stored && *now) {
        size_t a = line_length(stored), b = line_length(now);
        bool same = a == b && memcmp(stored, now, a) == 0;
        if (!same && !names_a_file(now))
            return npi_hint(
                npi_fail(NPOS_INVALID_ARGUMENT,
                         "%s belongs to another recipe: its '%.*s' differs: %.*s there, %.*s now",
                         path, (int)strcspn(now, ":"), now, (int)a, stored, (int)b, now),
                "resume with the recipe and settings that the run was started with, or leave "
                "--recipe and --set out");
        stored += a + (stored[a] == '\n');
        now += b + (now[b] == '\n');
    }
    return NPOS_OK;
}

/* What a run was started with must be what it goes on with. */
static npos_status check_hash(const npi_safetensors *file, const char *path, const char *key,
                              uint64_t hash, const char *what, const char *where) {
    const char *then = npi_safetensors_metadata(file, key);
    char now[24];
    snprintf(now, sizeof now, "%016" PRIx64, hash);
    if (then && strcmp(then, now) == 0)
        return NPOS_OK;
    return npi_hint(npi_fail(NPOS_BAD_DATA, "%s: %s changed: hash %s then, %s now", path, what,
                             then ? then : "unknown", now),
                    "'%s' must hold what the run was started with", where);
}

static npos_status check_hashes(const npi_trainer *t, const npi_safetensors *file,
                                const char *path) {
    const npi_train_clip *clip = t->clip;
    if (clip) {
        NPI_TRY(check_hash(file, path, "weights", clip->weights, "the weights of the CLIP model",
                           t->recipe.clip));
        NPI_TRY(check_hash(file, path, "text_hash", clip->text_hash, "the classes' directions",
                           *t->recipe.text ? t->recipe.text : t->options->out));
    }
    return check_hash(file, path, "data_hash", t->images.hash,
                      clip && clip->store ? "the features" : "the training images", t->images.spec);
}

static npos_status check_metadata(npi_trainer *t, const npi_safetensors *file, const char *path) {
    static const char *const keys[] = {"format", "epoch", "step", "data_hash", "recipe"};
    const char *value[5];
    for (int i = 0; i < 5; i++) {
        value[i] = npi_safetensors_metadata(file, keys[i]);
        if (!value[i])
            return npi_fail(NPOS_BAD_DATA, "%s: lacks '%s': not a checkpoint of npos", path,
                            keys[i]);
    }
    if (strcmp(value[0], format) != 0)
        return npi_fail(NPOS_UNSUPPORTED, "%s: format '%s', expected '%s'", path, value[0], format);
    NPI_TRY(compare_recipes(path, value[4], t->recipe_text));
    NPI_TRY(check_hashes(t, file, path));
    t->epoch = t->saved_epoch = atoi(value[1]);
    t->step = t->saved_step = atoi(value[2]);
    if (t->epoch < 0 || t->epoch > t->recipe.epochs || t->step < 0 || t->step >= t->schedule.steps)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: stands at epoch %s, step %s, which this run does not have", path,
                        value[1], value[2]);
    return NPOS_OK;
}

static npos_status read_device(npi_trainer *t, const npi_safetensors *file, const char *name,
                               int ndim, const int64_t *shape, float *to) {
    const npi_named_tensor *tensor;
    size_t bytes = sizeof(float);
    for (int i = 0; i < ndim; i++)
        bytes *= (size_t)shape[i];
    NPI_TRY(npi_safetensors_get(file, name, NPI_F32, ndim, shape, &tensor));
    return t->dev->memory->upload(t->dev, to, tensor->data, bytes);
}

static npos_status restore(npi_trainer *t, const npi_safetensors *file, const char *path) {
    const npi_objective *o = &t->objective;
    const npi_named_tensor *tensor;
    NPI_TRY(check_metadata(t, file, path));
    NPI_TRY(npi_params_read(&t->model.params, NPI_ARENA_VALUES, file, "values/"));
    NPI_TRY(npi_params_read(&t->model.params, NPI_ARENA_VELOCITY, file, "velocity/"));
    NPI_TRY(npi_safetensors_get(file, "sums", NPI_F64, 1, (int64_t[]){SUMS}, &tensor));
    memcpy(&t->sums, tensor->data, sizeof t->sums);
    if (o->mu && !t->clip)
        NPI_TRY(read_device(t, file, "prototypes", 2, (int64_t[]){t->images.classes, t->model.proj},
                            o->mu));
    if (!o->synth)
        return NPOS_OK;
    const npi_ring *r = &o->ring;
    size_t counts = (size_t)r->classes * sizeof *t->pushed;
    NPI_TRY(read_device(t, file, "rings", 3, (int64_t[]){r->classes, r->size, r->dim}, r->rows));
    NPI_TRY(npi_safetensors_get(file, "pushed", NPI_I64, 1, (int64_t[]){r->classes}, &tensor));
    memcpy(t->pushed, tensor->data, counts);
    return t->dev->memory->upload(t->dev, r->count, t->pushed, counts);
}

npos_status npi_trainer_restore(npi_trainer *t) {
    npi_safetensors *file = NULL;
    char *path;
    NPI_TRY(npi_trainer_path(t, "checkpoint.safetensors", &path));
    npos_status status = npi_safetensors_open(path, &file);
    if (status == NPOS_OK)
        status = restore(t, file, path);
    npi_safetensors_close(file);
    npi_free(path);
    return status;
}
