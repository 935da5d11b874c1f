#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/json_text.h"
#include "jobs/sift.h"
#include "jobs/trainer.h"

/* ---- recipe.yaml, manifest.json --------------------------------------------------------------------- */

static npos_status write_text(const npi_trainer *t, const char *name, const char *text) {
    char *path;
    NPI_TRY(npi_trainer_path(t, name, &path));
    npos_status status = npi_file_write(path, text, strlen(text));
    npi_free(path);
    return status;
}

/* The model that is fine-tuned and what its tokens come from. */
static json_t *clip_part(const npi_trainer *t) {
    char weights[24], text[24];
    snprintf(weights, sizeof weights, "%016" PRIx64, t->clip->weights);
    snprintf(text, sizeof text, "%016" PRIx64, t->clip->text_hash);
    const char *features = t->recipe.features;
    return json_pack("{s:o, s:s, s:s, s:o, s:i}", "path", npi_json_text(t->recipe.clip), "weights",
                     weights, "text", text, "features",
                     *features ? npi_json_text(features) : json_null(), "first_block",
                     t->recipe.first_block);
}

static json_t *manifest(const npi_trainer *t) {
    char now[32], hash[24];
    npi_utc_now(now);
    snprintf(hash, sizeof hash, "%016" PRIx64, t->images.hash);
    json_t *classes = json_array(), *settings = json_array();
    for (int c = 0; c < t->images.classes; c++)
        json_array_append_new(classes, npi_json_text(t->images.class_names[c]));
    for (int i = 0; i < t->options->set_count; i++)
        json_array_append_new(settings, npi_json_text(t->options->set[i]));
    json_t *clip = t->clip ? clip_part(t) : json_null();
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:i, s:{s:s, s:s, s:s}, s:{s:o, s:s, s:I, s:o, s:o*}, s:o, s:o, s:o}",
        "schema", 1, "version", NPOS_VERSION, "started", now, "recipe", t->recipe.name, "seed",
        t->recipe.seed, "device", "name", t->dev->name, "description", t->dev->description,
        "precision", t->dev->compute == NPI_BF16 ? "bf16" : "fp32", "data", "spec",
        npi_json_text(t->images.spec), "hash", hash, "images", (json_int_t)t->images.count,
        "classes", classes, "skipped",
        t->images.broken_count > 0 ? npi_sifted_json(&t->images) : NULL, "set", settings, "init",
        t->options->init ? npi_json_text(t->options->init) : json_null(), "clip", clip);
}

npos_status npi_trainer_describe(npi_trainer *t) {
    char *recipe;
    NPI_TRY(npi_recipe_format(&t->recipe, true, &recipe));
    npos_status written = write_text(t, "recipe.yaml", recipe);
    npi_free(recipe);
    if (written != NPOS_OK)
        return written;
    json_t *object = manifest(t);
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    npos_status status = text ? write_text(t, "manifest.json", text)
                              : npi_fail(NPOS_OUT_OF_MEMORY, "manifest.json: no memory");
    free(text);
    json_decref(object);
    return status;
}

/* ---- log.jsonl, events ------------------------------------------------------------------------------ */

/* Is this line of the log about an epoch before `first`? */
static bool is_earlier(const char *line, size_t length, int first) {
    json_t *object = json_loadb(line, length, 0, NULL), *epoch = json_object_get(object, "epoch");
    bool earlier = json_is_integer(epoch) && json_integer_value(epoch) < first;
    json_decref(object);
    return earlier;
}

npos_status npi_trainer_log_open(npi_trainer *t, int first) {
    char *path = NULL, *text = NULL;
    size_t size = 0, kept = 0;
    npos_status status = npi_trainer_path(t, "log.jsonl", &path);
    if (status == NPOS_OK && npi_is_file(path))
        status = npi_file_read(path, &text, &size);
    for (size_t at = 0; status == NPOS_OK && at < size;) {
        size_t length = strcspn(text + at, "\n");
        size_t whole = length + (text[at + length] == '\n');
        if (is_earlier(text + at, length, first)) {
            memmove(text + kept, text + at, whole);
            kept += whole;
        }
        at += whole;
    }
    if (status == NPOS_OK)
        status = npi_file_write(path, text ? text : "", kept);
    if (status == NPOS_OK)
        status = npi_tb_open(t->options->out, &t->events);
    npi_free(text);
    npi_free(path);
    return status;
}

/* Smallest Euclidean distance between two prototypes. */
static npos_status closest_prototypes(npi_trainer *t, double *out) {
    size_t classes = (size_t)t->images.classes, dim = (size_t)t->model.proj;
    float *mu;
    NPI_TRY(npi_alloc(&mu, classes * dim, sizeof *mu, "prototypes"));
    npos_status status =
        t->dev->memory->download(t->dev, mu, t->objective.mu, classes * dim * sizeof *mu);
    *out = INFINITY;
    for (size_t a = 0; a < classes; a++)
        for (size_t b = 0; b < a; b++) {
            double sum = 0;
            for (size_t j = 0; j < dim; j++) {
                double d = (double)mu[a * dim + j] - (double)mu[b * dim + j];
                sum += d * d;
            }
            *out = fmin(*out, sqrt(sum));
        }
    npi_free(mu);
    return status;
}

/* The share of the projection's hidden units that no view of the last step reaches: behind a ReLU they have no gradient,
 * and seldom come back. */
static npos_status dead_units(npi_trainer *t, double *out) {
    size_t samples = (size_t)t->objective.desc.samples, dim = (size_t)t->model.dim, dead = 0;
    float *hidden;
    NPI_TRY(npi_alloc(&hidden, samples * dim, sizeof *hidden, "projection's hidden layer"));
    npos_status status = t->dev->memory->download(t->dev, hidden, t->objective.hidden,
                                                  samples * dim * sizeof *hidden);
    for (size_t j = 0; j < dim; j++) {
        size_t i = 0;
        while (i < samples && !(hidden[i * dim + j] > 0.0f))
            i++;
        dead += i == samples;
    }
    *out = (double)dead / (double)dim;
    npi_free(hidden);
    return status;
}

static npos_status append(const npi_trainer *t, json_t *object) {
    char *path = NULL, *line = NULL;
    char *text = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
    npos_status status =
        text ? npi_format(&line, "%s\n", text) : npi_fail(NPOS_OUT_OF_MEMORY, "log: no memory");
    if (status == NPOS_OK)
        status = npi_trainer_path(t, "log.jsonl", &path);
    if (status == NPOS_OK)
        status = npi_file_append(path, line, strlen(line));
    npi_free(path);
    npi_free(line);
    free(text);
    return status;
}

npos_status npi_trainer_log_epoch(npi_trainer *t, double rate) {
    int steps = t->schedule.steps;
    const double *sum = t->sums.losses;
    int64_t step = (int64_t)(t->epoch + 1) * steps;
    bool ce = t->objective.desc.method == NPI_METHOD_CE || t->clip;
    int64_t images = t->clip ? t->images.count : (int64_t)steps * t->batch;
    double closest = 0, dead = 0;
    if (!ce)
        NPI_TRY(closest_prototypes(t, &closest));
    if (t->objective.hidden)
        NPI_TRY(dead_units(t, &dead));
    const struct {
        const char *name;
        double value;
        bool there;
    } values[] = {
        {"lr", rate, true},
        {"loss", t->sums.total / steps, true},
        {"loss_disp", sum[NPI_LOSS_DISP] / steps, !ce},
        {"loss_comp", sum[NPI_LOSS_COMP] / steps, !ce},
        {"loss_open", sum[NPI_LOSS_OPEN] / fmax(1, t->sums.open_steps), t->sums.open_steps > 0},
        {"loss_ce", sum[NPI_LOSS_CE] / steps, ce},
        {"grad_norm", sum[NPI_LOSS_GRAD_NORM] / steps, true},
        {"prototype_min_distance", closest, !ce},
        {"projection_dead", dead, t->objective.hidden != NULL},
        {"images_per_s", (double)(images * t->recipe.views) / t->sums.seconds, true},
        {"seconds", t->sums.seconds, true},
    };
    npos_status status = NPOS_OK;
    json_t *object = json_pack("{s:i, s:I}", "epoch", t->epoch, "step", (json_int_t)step);
    for (size_t i = 0; status == NPOS_OK && i < sizeof values / sizeof *values; i++) {
        json_object_set_new(object, values[i].name,
                            values[i].there ? npi_json_number(values[i].value) : json_null());
        if (values[i].there)
            status = npi_tb_scalar(t->events, values[i].name, step, values[i].value);
    }
    if (status == NPOS_OK)
        status = append(t, object);
    json_decref(object);
    return status;
}
