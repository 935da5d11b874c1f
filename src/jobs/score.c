/* npos_score: one JSON line an image, in the order in which the names come, in blocks of constant
 * memory. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/image_frames.h"
#include "io/json_text.h"
#include "jobs/calibration_file.h"
#include "jobs/compute.h"
#include "jobs/external.h"
#include "jobs/fitted.h"
#include "jobs/options.h"
#include "npos/npos.h"
#include "ood/accuracy.h"

enum { ERROR_BYTES = 512, HELD_BYTES = 64 << 20 /* of raw images that wait for their resize */ };

void npos_score_options_init(npos_score_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
    options->stream = "names";
}

/* One image of the block: its name, and why it has no pixels. */
typedef struct slot {
    char *file;
    npi_image raw; /* of a raw image, until it is resized */
    bool resized;  /* its pixels are in the block */
    int row;       /* of the block's pixels; -1: `error` says why not */
    char error[ERROR_BYTES];
} slot;

typedef struct job {
    const npos_score_options *options;
    npi_fitted fitted;
    bool has_threshold;
    double threshold;
    npi_id_scores id; /* of the calibration, for p-values */
    int block;        /* images that go through the network together: whole passes */
    slot *slots;      /* [block] */
    int filled;
    uint8_t *pixels; /* [block] images of the model's size */
    size_t image_bytes, held;
    int64_t done, broken, frames;
} job;

static void clear_slots(job *j) {
    for (int i = 0; i < j->filled; i++) {
        npi_free(j->slots[i].file);
        npi_image_clear(&j->slots[i].raw);
        j->slots[i] = (slot){0};
    }
    j->filled = 0;
}

static npos_status read_image(const job *j, slot *s, uint8_t *to) {
    npi_image stored = s->raw, fitting = {0};
    npos_status status;
    s->raw = (npi_image){0};
    if (!stored.pixels)
        NPI_TRY_GOTO(
            npi_image_read(s->file, npi_transform_least_side(&j->fitted.run->transform), &stored),
            done);
    NPI_TRY_GOTO(npi_transform_apply(&j->fitted.run->transform, &stored, &fitting), done);
    memcpy(to, fitting.pixels, j->image_bytes);
done:
    npi_image_clear(&stored);
    npi_image_clear(&fitting);
    return status;
}

/* Decodes what waits in the block side by side. */
static void read_waiting(job *j) {
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < j->filled; i++) {
        slot *s = &j->slots[i];
        if (s->resized)
            continue;
        s->row = i;
        s->resized = true;
        if (read_image(j, s, j->pixels + (size_t)i * j->image_bytes) != NPOS_OK) {
            s->row = -1;
            snprintf(s->error, sizeof s->error, "%s", npos_error_message());
        }
    }
    j->held = 0;
}

/* Decodes the block, then closes the gaps that broken files left.  Returns the number of images. */
static int read_block(job *j) {
    int images = 0;
    read_waiting(j);
    for (int i = 0; i < j->filled; i++) {
        slot *s = &j->slots[i];
        if (s->row < 0)
            continue;
        if (images != i)
            memcpy(j->pixels + (size_t)images * j->image_bytes,
                   j->pixels + (size_t)i * j->image_bytes, j->image_bytes);
        s->row = images++;
    }
    return images;
}

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

static npos_status print_line(const job *j, const slot *s, const found *f) {
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
    if (!text)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for its line", s->file);
    fprintf(j->options->out, "%s\n", text);
    free(text);
    return NPOS_OK;
}

/* A NaN score is that image's error, not the end of the stream. */
static void mark_nan(job *j, const found *f) {
    for (int i = 0; i < j->filled; i++) {
        slot *s = &j->slots[i];
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

static npos_status score_images(job *j, int images, found *f) {
    npi_features features = {0};
    npos_compute quiet = j->options->compute; /* progress is told in images of the whole stream */
    quiet.progress = NULL;
    npos_status status =
        npi_run_features(j->fitted.run, j->pixels, images, &quiet, "score", &features);
    if (status == NPOS_OK) {
        npi_outputs outputs = npi_outputs_of(&features);
        status = score_outputs(j, &outputs, f);
    }
    npi_features_clear(&features);
    return status;
}

/* Scores what is in the slots and empties them: `ready` is what the network says of it, NULL: they
 * are images to be read. */
static npos_status flush_block(job *j, const npi_outputs *ready) {
    found f = {0};
    size_t block = (size_t)j->block, listed = block * (size_t)j->options->neighbours;
    const npos_compute *compute = &j->options->compute;
    npos_status status = NPOS_OK;
    if (j->filled == 0)
        return NPOS_OK;
    NPI_TRY_GOTO(npi_alloc(&f.score, block, sizeof *f.score, "scores"), done);
    NPI_TRY_GOTO(npi_alloc(&f.confidence, block, sizeof *f.confidence, "scores"), done);
    NPI_TRY_GOTO(npi_alloc(&f.class_of, block, sizeof *f.class_of, "classes"), done);
    NPI_TRY_GOTO(npi_alloc(&f.neighbour, listed, sizeof *f.neighbour, "neighbours"), done);
    NPI_TRY_GOTO(npi_alloc(&f.distance, listed, sizeof *f.distance, "neighbours"), done);
    int images = ready ? 0 : read_block(j);
    if (ready)
        NPI_TRY_GOTO(score_outputs(j, ready, &f), done);
    if (images > 0)
        NPI_TRY_GOTO(score_images(j, images, &f), done);
    mark_nan(j, &f);
    for (int i = 0; i < j->filled; i++) {
        NPI_TRY_GOTO(print_line(j, &j->slots[i], &f), done);
        j->broken += j->slots[i].row < 0;
    }
    if (fflush(j->options->out) != 0) {
        status = npi_fail_errno("writing the scores");
        goto done;
    }
    j->done += j->filled;
    status = npi_compute_progress(compute, "score", j->done, 0, NULL);
done:
    clear_slots(j);
    npi_free(f.score);
    npi_free(f.confidence);
    npi_free(f.class_of);
    npi_free(f.neighbour);
    npi_free(f.distance);
    return status;
}

/* The rows of a SPEC of embeddings, for a run without a network; they are in memory at once. */
static npos_status score_rows(job *j, const char *spec) {
    npi_images images = {0};
    npi_features features = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_external_features(j->fitted.run, spec, 0, 0, &images, &features), done);
    for (int64_t first = 0; first < features.n; first += j->block) {
        npi_outputs rows = npi_outputs_of(&features);
        rows.n = features.n - first < j->block ? features.n - first : j->block;
        rows.h += first * rows.dim;
        rows.z += first * rows.proj;
        rows.logits = rows.logits ? rows.logits + first * rows.classes : NULL;
        for (; j->filled < rows.n; j->filled++) {
            slot *s = &j->slots[j->filled];
            s->row = j->filled;
            NPI_TRY_GOTO(npi_strdup(&s->file, images.names[first + j->filled]), done);
        }
        NPI_TRY_GOTO(flush_block(j, &rows), done);
    }
done:
    npi_features_clear(&features);
    npi_images_clear(&images);
    return status;
}

static npos_status take(job *j, const char *file) {
    if (j->fitted.run->external)
        return score_rows(j, file);
    NPI_TRY(npi_strdup(&j->slots[j->filled].file, file));
    j->filled++;
    return j->filled == j->block ? flush_block(j, NULL) : NPOS_OK;
}

/* A frame that cannot be read ends the stream: what came whole before it is scored first. */
static npos_status end_at_bad_frame(job *j, npos_status status) {
    char *message = NULL, *hint = NULL;
    npos_status kept = npi_strdup(&message, npos_error_message());
    if (kept == NPOS_OK)
        kept = npi_strdup(&hint, npos_error_hint());
    if (kept == NPOS_OK)
        kept = flush_block(j, NULL);
    if (kept == NPOS_OK) {
        npi_fail(status, "image %lld: %s", (long long)j->frames, message);
        npi_hint(status, "%s", hint);
    }
    npi_free(message);
    npi_free(hint);
    return kept == NPOS_OK ? status : kept;
}

/* Raw images are resized as they come, so that large ones do not fill the memory. */
static npos_status take_frames(job *j) {
    for (;;) {
        slot *s = &j->slots[j->filled];
        bool end;
        npos_status status = npi_image_frame_read(j->options->names, &s->raw, &end);
        if (status != NPOS_OK)
            return end_at_bad_frame(j, status);
        if (end)
            return NPOS_OK;
        j->filled++; /* from here on the slot is cleared */
        NPI_TRY(npi_format(&s->file, "image %lld", (long long)j->frames++));
        j->held += (size_t)s->raw.width * (size_t)s->raw.height * (size_t)s->raw.channels;
        if (j->held >= HELD_BYTES)
            read_waiting(j);
        if (j->filled == j->block)
            NPI_TRY(flush_block(j, NULL));
    }
}

static npos_status take_names(job *j) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    npos_status status = NPOS_OK;
    while (status == NPOS_OK && (length = getline(&line, &capacity, j->options->names)) != -1) {
        if (length > 0 && line[length - 1] == '\n')
            line[--length] = '\0';
        if (length > 0)
            status = take(j, line);
    }
    if (status == NPOS_OK && ferror(j->options->names))
        status = npi_fail_errno("reading the names of images");
    free(line);
    return status;
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
    j->image_bytes =
        (size_t)run->transform.size * (size_t)run->transform.size * (size_t)run->transform.channels;
    j->block = npi_compute_pass(run->dev, run->transform.size);
    NPI_TRY(npi_id_scores_read(run, fitted->detectors->kind->name, &j->id));
    NPI_TRY(npi_alloc(&j->slots, (size_t)j->block, sizeof *j->slots, "names"));
    return npi_alloc(&j->pixels, (size_t)j->block, j->image_bytes, "images");
}

static npos_status score_all(job *j) {
    NPI_TRY(open_job(j));
    for (int i = 0; i < j->options->file_count; i++)
        NPI_TRY(strcmp(j->options->files[i], "-") != 0   ? take(j, j->options->files[i])
                : strcmp(j->options->stream, "raw") == 0 ? take_frames(j)
                                                         : take_names(j));
    NPI_TRY(flush_block(j, NULL));
    if (j->broken > 0)
        return npi_fail(NPOS_BAD_DATA, "%lld of %lld files could not be scored",
                        (long long)j->broken, (long long)j->done);
    return NPOS_OK;
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
    for (int i = 0; i < options->file_count; i++)
        if (strcmp(options->files[i], "-") == 0 && !options->names)
            return npi_fail(NPOS_INVALID_ARGUMENT,
                            "npos_score: '-' stands among the files, but there is no stream of "
                            "names");
    job *j;
    NPI_TRY(npi_alloc(&j, 1, sizeof *j, "scoring"));
    j->options = options;
    npos_status status = score_all(j);
    clear_slots(j);
    npi_free(j->slots);
    npi_id_scores_clear(&j->id);
    npi_free(j->pixels);
    npi_fitted_close(&j->fitted);
    npi_free(j);
    return status;
}
