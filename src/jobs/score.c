/* npos_score: one JSON line an image, in the order in which the names come, in blocks of constant
 * memory. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/json_text.h"
#include "jobs/calibration_file.h"
#include "jobs/compute.h"
#include "jobs/external.h"
#include "jobs/fitted.h"
#include "jobs/options.h"
#include "jobs/score_feed.h"
#include "npos/npos.h"
#include "ood/accuracy.h"

enum { ROWS = 1024 /* of embeddings from elsewhere, at a time */ };

void npos_score_options_init(npos_score_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
    options->stream = "names";
}

typedef struct job {
    const npos_score_options *options;
    npi_fitted fitted;
    bool has_threshold;
    double threshold;
    npi_id_scores id; /* of the calibration, for p-values */
    npi_feed *feed;
    npi_feed_image *rows; /* [ROWS] of embeddings from elsewhere; NULL: images come by the feed */
    int64_t done, broken;
} job;

/* What a block's images are found to be. */
typedef struct found {
    double *score, *confidence; /* [images] */
    int32_t *class_of;          /* [images] */
    bool classified;
    int64_t *neighbour; /* [images][neighbours] */
    float *distance;
} found;

static void put(json_t *object, const char *key, json_t *value, bool *ok) {
    if (!value || json_object_set_new(object, key, value) != 0)
        *ok = false;
}

static json_t *neighbours_json(const job *j, const found *f, int row, bool *ok) {
    const npi_bank *bank = &j->fitted.run->bank;
    int k = j->options->neighbours;
    json_t *list = json_array();
    for (int i = 0; i < k; i++) {
        int64_t at = f->neighbour[(int64_t)row * k + i];
        json_t *one = json_object();
        put(one, "index", json_integer(at), ok);
        if (bank->names)
            put(one, "name", npi_json_text(bank->names[at]), ok);
        put(one, "class", npi_json_text(j->fitted.run->class_names[bank->labels[at]]), ok);
        put(one, "distance", npi_json_number((double)f->distance[(int64_t)row * k + i]), ok);
        if (!list || json_array_append_new(list, one) != 0)
            *ok = false;
    }
    return list;
}

/* *out = the image's line, to be freed with free; NULL: no memory. */
static char *line_of(const job *j, const npi_feed_image *s, const found *f) {
    bool ok = true;
    json_t *line = json_object();
    put(line, "file", npi_json_text(s->file), &ok);
    if (s->row < 0) {
        put(line, "error", npi_json_text(s->error), &ok);
    } else {
        double score = f->score[s->row];
        put(line, "score", npi_json_number(score), &ok);
        put(line, "threshold", j->has_threshold ? npi_json_number(j->threshold) : json_null(), &ok);
        put(line, "verdict",
            !j->has_threshold       ? json_null()
            : score >= j->threshold ? json_string("id")
                                    : json_string("ood"),
            &ok);
        put(line, "p_value",
            j->id.n > 0 ? npi_json_number(npi_id_p_value(&j->id, score)) : json_null(), &ok);
        if (f->classified) {
            put(line, "class", npi_json_text(j->fitted.run->class_names[f->class_of[s->row]]), &ok);
            put(line, "confidence", npi_json_number(f->confidence[s->row]), &ok);
        }
        if (j->options->neighbours > 0)
            put(line, "neighbours", neighbours_json(j, f, s->row, &ok), &ok);
    }
    char *text = ok ? json_dumps(line, JSON_COMPACT) : NULL;
    json_decref(line);
    return text;
}

/* The lines are made side by side and printed in order. */
static npos_status print_lines(job *j, const npi_feed_image *image, int count, const found *f) {
    npos_status status = NPOS_OK;
    char **line;
    NPI_TRY(npi_alloc(&line, (size_t)count, sizeof *line, "lines"));
#pragma omp parallel for schedule(dynamic, 16) if (count > 64)
    for (int i = 0; i < count; i++)
        line[i] = line_of(j, &image[i], f);
    for (int i = 0; i < count; i++) {
        if (status == NPOS_OK && !line[i])
            status = npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for its line", image[i].file);
        if (status == NPOS_OK)
            fprintf(j->options->out, "%s\n", line[i]);
        j->broken += image[i].row < 0;
        free(line[i]);
    }
    npi_free(line);
    if (status == NPOS_OK && fflush(j->options->out) != 0)
        status = npi_fail_errno("writing the scores");
    return status;
}

/* A NaN score is that image's error, not the end of the stream. */
static void mark_nan(npi_feed_image *image, int count, const found *f) {
    for (int i = 0; i < count; i++) {
        npi_feed_image *s = &image[i];
        if (s->row >= 0 && f->score[s->row] != f->score[s->row]) {
            s->row = -1;
            snprintf(s->error, sizeof s->error, "%s: its score is NaN", s->file);
        }
    }
}

static npos_status score_outputs(job *j, const npi_outputs *outputs, found *f) {
    int k = j->options->neighbours;
    NPI_TRY(npi_detector_score(j->fitted.detectors, outputs, f->score));
    NPI_TRY(npi_classify(&j->fitted.model, outputs, f->class_of, f->confidence, &f->classified));
    return k > 0 ? npi_neighbour_list(j->fitted.bank, outputs->n, outputs->h, k, f->neighbour,
                                      f->distance)
                 : NPOS_OK;
}

/* Scores images of which the network says `outputs` (NULL: all of them are broken). */
static npos_status score_block(job *j, npi_feed_image *image, int count,
                               const npi_outputs *outputs) {
    found f = {0};
    size_t n = outputs ? (size_t)outputs->n : 0, listed = n * (size_t)j->options->neighbours;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&f.score, n, sizeof *f.score, "scores"), done);
    NPI_TRY_GOTO(npi_alloc(&f.confidence, n, sizeof *f.confidence, "scores"), done);
    NPI_TRY_GOTO(npi_alloc(&f.class_of, n, sizeof *f.class_of, "classes"), done);
    NPI_TRY_GOTO(npi_alloc(&f.neighbour, listed, sizeof *f.neighbour, "neighbours"), done);
    NPI_TRY_GOTO(npi_alloc(&f.distance, listed, sizeof *f.distance, "neighbours"), done);
    if (outputs)
        NPI_TRY_GOTO(score_outputs(j, outputs, &f), done);
    mark_nan(image, count, &f);
    NPI_TRY_GOTO(print_lines(j, image, count, &f), done);
    j->done += count;
    status = npi_compute_progress(&j->options->compute, "score", j->done, 0, NULL);
done:
    npi_free(f.score);
    npi_free(f.confidence);
    npi_free(f.class_of);
    npi_free(f.neighbour);
    npi_free(f.distance);
    return status;
}

/* ---- images ---- */

static npos_status score_images(job *j, const npi_feed_block *block) {
    npi_features features = {0};
    npos_compute quiet = j->options->compute; /* progress is told in images of the whole stream */
    quiet.progress = NULL;
    if (block->images == 0)
        return score_block(j, block->image, block->count, NULL);
    npos_status status =
        npi_run_features(j->fitted.run, block->pixels, block->images, &quiet, "score", &features);
    if (status == NPOS_OK) {
        npi_outputs outputs = npi_outputs_of(&features);
        status = score_block(j, block->image, block->count, &outputs);
    }
    npi_features_clear(&features);
    return status;
}

static npos_status score_stream(job *j) {
    const npos_score_options *options = j->options;
    const npi_run *run = j->fitted.run;
    npi_feed_block block;
    npi_feed_desc desc = {.files = options->files,
                          .file_count = options->file_count,
                          .names = options->names,
                          .frames = strcmp(options->stream, "raw") == 0,
                          .transform = run->transform,
                          .pass = npi_compute_pass(run->dev, run->transform.size),
                          .ahead = !run->dev->host,
                          .threads = options->compute.threads};
    NPI_TRY(npi_feed_open(&desc, &j->feed));
    for (;;) {
        NPI_TRY(npi_feed_next(j->feed, &block));
        if (block.count == 0)
            return NPOS_OK;
        NPI_TRY(score_images(j, &block));
    }
}

/* ---- embeddings from elsewhere ---- */

/* The rows of a SPEC; they are in memory at once. */
static npos_status score_rows(job *j, const char *spec) {
    npi_images images = {0};
    npi_features features = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_external_features(j->fitted.run, spec, 0, 0, &images, &features), done);
    for (int64_t first = 0; first < features.n; first += ROWS) {
        npi_outputs rows = npi_outputs_of(&features);
        rows.n = features.n - first < ROWS ? features.n - first : ROWS;
        rows.h += first * rows.dim;
        rows.z += first * rows.proj;
        rows.logits = rows.logits ? rows.logits + first * rows.classes : NULL;
        for (int i = 0; i < (int)rows.n; i++)
            j->rows[i] = (npi_feed_image){.file = images.names[first + i], .row = i};
        NPI_TRY_GOTO(score_block(j, j->rows, (int)rows.n, &rows), done);
    }
done:
    npi_features_clear(&features);
    npi_images_clear(&images);
    return status;
}

static npos_status score_specs_of_stream(job *j) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    npos_status status = NPOS_OK;
    while (status == NPOS_OK && (length = getline(&line, &capacity, j->options->names)) != -1) {
        if (length > 0 && line[length - 1] == '\n')
            line[--length] = '\0';
        if (length > 0)
            status = score_rows(j, line);
    }
    if (status == NPOS_OK && ferror(j->options->names))
        status = npi_fail_errno("reading the SPECs of embeddings");
    free(line);
    return status;
}

static npos_status score_specs(job *j) {
    const npos_score_options *options = j->options;
    NPI_TRY(npi_alloc(&j->rows, ROWS, sizeof *j->rows, "names"));
    for (int i = 0; i < options->file_count; i++)
        NPI_TRY(strcmp(options->files[i], "-") == 0 ? score_specs_of_stream(j)
                                                    : score_rows(j, options->files[i]));
    return NPOS_OK;
}

static npos_status open_job(job *j) {
    const npos_score_options *options = j->options;
    npi_fitted *fitted = &j->fitted;
    NPI_TRY(npi_fitted_open(options->run, &options->compute, options->score,
                            options->neighbours > 0, fitted));
    const npi_run *run = fitted->run;
    if (fitted->count != 1)
        return npi_fail(NPOS_INVALID_ARGUMENT, "score '%s': expected one score",
                        options->score ? options->score : run->recipe.score);
    if (options->neighbours > 0 &&
        (!fitted->bank || options->neighbours > npi_neighbour_bank_count(fitted->bank)))
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "%d neighbours were asked for, but %s has %lld training embeddings",
                        options->neighbours, run->path, (long long)run->bank.n);
    const npi_calibration *calibration = &run->calibration;
    if (options->has_threshold) {
        j->has_threshold = true;
        j->threshold = options->threshold;
    } else if (calibration->score &&
               strcmp(calibration->score, fitted->detectors->kind->name) == 0) {
        j->has_threshold = true;
        j->threshold = calibration->threshold;
    }
    return npi_id_scores_read(run, fitted->detectors->kind->name, &j->id);
}

static npos_status score_all(job *j) {
    NPI_TRY(open_job(j));
    const npi_run *run = j->fitted.run;
    if (run->external && strcmp(j->options->stream, "raw") == 0)
        return npi_hint(
            npi_fail(NPOS_UNSUPPORTED, "%s has no network to see images with", run->path),
            "a run of npos fit takes embeddings: embeddings:H.npy");
    NPI_TRY(run->external ? score_specs(j) : score_stream(j));
    if (j->broken > 0)
        return npi_fail(NPOS_BAD_DATA, "%lld of %lld files could not be scored",
                        (long long)j->broken, (long long)j->done);
    return NPOS_OK;
}

/* Whether `names` is to be read. */
static bool has_stream(const npos_score_options *options) {
    for (int i = 0; i < options->file_count; i++)
        if (strcmp(options->files[i], "-") == 0)
            return true;
    return false;
}

npos_status npos_score(const npos_score_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_score");
    if (!options->out)
        return npi_fail(NPOS_INVALID_ARGUMENT, "npos_score: no stream for the lines was given");
    if (strcmp(options->stream, "names") != 0 && strcmp(options->stream, "raw") != 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "stream '%s', expected names or raw",
                        options->stream);
    if (options->neighbours < 0)
        return npi_fail(NPOS_INVALID_ARGUMENT, "neighbours: %d, expected 0 or more",
                        options->neighbours);
    if (has_stream(options) && !options->names)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_score: '-' stands among the files, but there is no stream of names");
    if (strcmp(options->stream, "raw") == 0 && !has_stream(options))
        return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                 "raw images are to be read, but '-' is not among the files"),
                        "name - where they are to be read, or leave --stdin raw out");
    job *j;
    NPI_TRY(npi_alloc(&j, 1, sizeof *j, "scoring"));
    j->options = options;
    npos_status status = score_all(j);
    npi_feed_close(j->feed);
    npi_free(j->rows);
    npi_id_scores_clear(&j->id);
    npi_fitted_close(&j->fitted);
    npi_free(j);
    return status;
}
