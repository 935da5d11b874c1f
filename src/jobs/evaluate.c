/* npos_eval: scores images with a trained run and measures how well they part. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/spec.h"
#include "jobs/compute.h"
#include "jobs/evaluation.h"
#include "jobs/fitted.h"
#include "jobs/options.h"
#include "npos/npos.h"
#include "ood/accuracy.h"
#include "report/classes_file.h"
#include "report/evaluation_json.h"
#include "report/evaluation_table.h"

enum { OE_IMAGES = 10000 }; /* most images of an OOD set under `oe` (METHOD: the authors' 9,984) */

void npos_eval_options_init(npos_eval_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->compute = npi_compute_defaults();
    options->protocol = "oe";
    options->format = "table";
    options->max_images = -1;
}

typedef struct job {
    const npos_eval_options *options;
    npi_fitted fitted;
    npi_ood_set *sets, *csid;
    int set_count, csid_count;
    char *id_spec;
    npi_evaluation evaluation;
    npi_classes_list classes;
    npi_format_kind format;
    /* of the ID images so far: what they are taken for and what they are, and how many are found */
    int32_t *taken, *own;
    int64_t id_n;
    npi_found found;
} job;

/* Where the suffixes of a SPEC begin; a '#' of its path is none. */
static const char *suffixes_of(const char *spec) {
    static const char *const known[] = {"#train", "#test", "#class", "#first=", "#draw="};
    const char *start = spec + strlen(spec);
    for (const char *at = start; at > spec; at--) {
        bool suffix = false;
        if (at[-1] != '#')
            continue;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            suffix |= strncmp(at - 1, known[i], strlen(known[i])) == 0;
        if (!suffix)
            break;
        start = at - 1;
    }
    return start;
}

/* The test images beside training data: "PATH#train#class=...#draw=..." has them in "PATH#test#class=...".  What thins out
 * the training images (#first, #draw) does not thin out these. */
static npos_status test_split_of(const char *data, char **out) {
    const char *at = suffixes_of(data);
    NPI_TRY(npi_format(out, "%.*s#test", (int)(at - data), data));
    while (*at) {
        size_t length = 1 + strcspn(at + 1, "#");
        if (strncmp(at, "#class", 6) == 0) {
            char *longer;
            npos_status status = npi_format(&longer, "%s%.*s", *out, (int)length, at);
            npi_free(*out);
            *out = longer;
            NPI_TRY(status);
        }
        at += length;
    }
    return NPOS_OK;
}

/* The ID images: what the options name, else the recipe's `test`, else #test of its `data`. */
static npos_status find_id(job *j) {
    const npi_recipe *recipe = &j->fitted.run->recipe;
    if (j->options->id)
        return npi_strdup(&j->id_spec, j->options->id);
    if (recipe->test[0])
        return npi_strdup(&j->id_spec, recipe->test);
    NPI_TRY(test_split_of(recipe->data, &j->id_spec));
    if (recipe->data[0] && npi_dataset_has_split(recipe->data, "test"))
        return NPOS_OK;
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                             "%s: the recipe names no test images and '%s' has no #test split",
                             j->options->run, recipe->data),
                    "name the ID images with --id SPEC");
}

/* ---- one set ---- */

/* Names of the images that were scored, one a line: the list that a draw leaves behind in RUN/scores/SET.txt. */
typedef struct name_text {
    FILE *stream;
    char *text;
    size_t size;
} name_text;

static npos_status names_begin(name_text *names) {
    *names = (name_text){.stream = NULL};
    names->stream = open_memstream(&names->text, &names->size);
    return names->stream ? NPOS_OK : npi_fail(NPOS_OUT_OF_MEMORY, "no memory for names of images");
}

/* Writes them where all went well so far; frees them always. */
static npos_status names_end(const job *j, const char *set, npos_status status, name_text *names) {
    char *folder = NULL, *path = NULL;
    if (fclose(names->stream) != 0 && status == NPOS_OK)
        status = npi_fail(NPOS_OUT_OF_MEMORY, "no memory for names of images");
    if (status != NPOS_OK)
        goto done;
    NPI_TRY_GOTO(npi_path_join(&folder, j->options->run, "scores"), done);
    NPI_TRY_GOTO(npi_make_folders(folder), done);
    NPI_TRY_GOTO(npi_format(&path, "%s/%s.txt", folder, set), done);
    status = npi_file_write(path, names->text, names->size);
done:
    free(names->text);
    npi_free(path);
    npi_free(folder);
    return status;
}

/* A list's numbers stand for the model's classes, where these have names. */
static bool are_numbers(const npi_images *images, const npi_run *run) {
    for (int c = 0; c < images->classes; c++) {
        const char *name = images->class_names[c];
        char *end;
        long number = strtol(name, &end, 10);
        if (name[0] < '0' || name[0] > '9' || *end || number >= run->classes)
            return false;
        for (int m = 0; m < run->classes; m++)
            if (strcmp(name, run->class_names[m]) == 0)
                return false;
    }
    return images->classes > 0;
}

static npos_status id_labels(const npi_images *images, const npi_run *run, int32_t *to) {
    if (!are_numbers(images, run))
        return npi_labels_of_model(images, run->class_names, run->classes, to);
    for (int64_t i = 0; i < images->count; i++) {
        int32_t label = images->labels[i];
        to[i] = label < 0 || label >= images->classes
                    ? -1
                    : (int32_t)strtol(images->class_names[label], NULL, 10);
    }
    return NPOS_OK;
}

/* What ID images are taken for, and how often that is right. */
static npos_status take_id_classes(job *j, npi_id_part *part, const npi_images *images,
                                   const npi_outputs *outputs) {
    const npi_run *run = j->fitted.run;
    size_t there = (size_t)j->id_n, all = there + (size_t)images->count;
    npi_evaluation *evaluation = &j->evaluation;
    npi_found found;
    bool can;
    NPI_TRY(npi_grow(&j->taken, there, all, sizeof *j->taken, "classes"));
    NPI_TRY(npi_grow(&j->own, there, all, sizeof *j->own, "classes"));
    NPI_TRY(npi_classify(&j->fitted.model, outputs, j->taken + there, NULL, &can));
    NPI_TRY(id_labels(images, run, j->own + there));
    NPI_TRY(npi_count_found(&j->fitted.model, outputs, j->own + there, &found));
    npi_found_add(&j->found, &found);
    j->id_n = (int64_t)all;
    for (int r = 0; r < evaluation->results; r++)
        evaluation->result[r].accuracy = npi_accuracy_of(&j->found);
    if (part)
        part->accuracy = npi_accuracy_of(&found);
    return NPOS_OK;
}

/* What OOD images are called by their own set, and what they are taken for. */
static npos_status take_classes(job *j, const char *name, const npi_images *images,
                                const npi_outputs *outputs) {
    int32_t *taken = NULL, *labels = NULL;
    bool can;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&taken, (size_t)images->count, sizeof *taken, "classes"), done);
    NPI_TRY_GOTO(npi_classify(&j->fitted.model, outputs, taken, NULL, &can), done);
    NPI_TRY_GOTO(npi_alloc(&labels, (size_t)images->count, sizeof *labels, "labels"), done);
    for (int64_t i = 0; i < images->count; i++)
        labels[i] = images->labels[i] < images->classes ? images->labels[i] : -1;
    status = npi_classes_list_add(&j->classes, name, images->count, taken, labels,
                                  images->class_names, images->classes);
done:
    npi_free(taken);
    npi_free(labels);
    return status;
}

/* One pass over a SPEC's images for all scores; `part` is set where they are one of several that count as ID. */
static npos_status score_spec(job *j, int set, const char *name, const char *spec,
                              npi_id_part *part, FILE *names) {
    const npos_eval_options *options = j->options;
    bool id = set == NPI_ID_SET;
    int64_t limit = options->max_images;
    npi_images images = {0};
    npi_features features = {0};
    char embed[160];
    npos_status status;
    if (limit < 0)
        limit = j->evaluation.protocol == NPI_PROTOCOL_OE ? OE_IMAGES : 0;
    snprintf(embed, sizeof embed, "embed %s", name);
    NPI_TRY_GOTO(npi_fitted_features(&j->fitted, &options->compute, embed, spec, id ? 0 : limit,
                                     options->seed, &images, &features),
                 done);
    npi_outputs outputs = npi_outputs_of(&features);
    NPI_TRY_GOTO(npi_evaluation_add(&j->evaluation, j->fitted.detectors, set, &outputs,
                                    images.names, images.available),
                 done);
    NPI_TRY_GOTO(npi_evaluation_skip(&j->evaluation, set, &images), done);
    NPI_TRY_GOTO(id ? take_id_classes(j, part, &images, &outputs)
                    : take_classes(j, name, &images, &outputs),
                 done);
    if (part)
        part->n = images.count;
    for (int64_t i = 0; i < images.count; i++)
        fprintf(names, "%s\n", images.names[i]);
done:
    npi_features_clear(&features);
    npi_images_clear(&images);
    return status;
}

static npos_status score_ood(job *j, int set) {
    name_text names;
    NPI_TRY(names_begin(&names));
    npos_status status =
        score_spec(j, set, j->sets[set].name, j->sets[set].where, NULL, names.stream);
    return names_end(j, j->sets[set].name, status, &names);
}

/* The test images, and behind them, of a full spectrum, the covariate-shifted sets. */
static npos_status score_id(job *j) {
    npi_evaluation *evaluation = &j->evaluation;
    name_text names;
    npos_status status = NPOS_OK;
    if (j->csid_count > 0)
        NPI_TRY(npi_evaluation_id_part(evaluation, "id", j->id_spec));
    for (int i = 0; i < j->csid_count; i++)
        NPI_TRY(npi_evaluation_id_part(evaluation, j->csid[i].name, j->csid[i].where));
    NPI_TRY(names_begin(&names));
    for (int i = 0; i <= j->csid_count && status == NPOS_OK; i++)
        status = score_spec(j, NPI_ID_SET, i ? j->csid[i - 1].name : "id",
                            i ? j->csid[i - 1].where : j->id_spec,
                            j->csid_count > 0 ? &evaluation->id_part[i] : NULL, names.stream);
    NPI_TRY(names_end(j, "id", status, &names));
    const npi_run *run = j->fitted.run;
    return npi_classes_list_add(&j->classes, "id", j->id_n, j->taken, j->own, run->class_names,
                                run->classes);
}

static npos_status write_results(const job *j) {
    char *scores = NULL, *json = NULL, *classes = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&scores, j->options->run, "scores"), done);
    NPI_TRY_GOTO(npi_path_join(&json, j->options->run, "eval.json"), done);
    NPI_TRY_GOTO(npi_path_join(&classes, scores, "classes.safetensors"), done);
    NPI_TRY_GOTO(npi_evaluation_scores_write(&j->evaluation, scores), done);
    NPI_TRY_GOTO(npi_classes_file_write(&j->classes, classes), done);
    NPI_TRY_GOTO(npi_evaluation_write(&j->evaluation, json), done);
    if (j->options->json)
        NPI_TRY_GOTO(npi_evaluation_write(&j->evaluation, j->options->json), done);
    if (j->options->table)
        status = npi_evaluation_table(&j->evaluation, j->format, j->options->table);
done:
    npi_free(scores);
    npi_free(json);
    npi_free(classes);
    return status;
}

/* A SPEC of the last set that says something wrong is told before the first set's images are scored. */
static npos_status check_specs(const job *j) {
    int all = 1 + j->csid_count + j->set_count;
    for (int i = 0; i < all && !j->fitted.run->external; i++) {
        npi_spec spec;
        NPI_TRY(npi_spec_parse(i == 0               ? j->id_spec
                               : i <= j->csid_count ? j->csid[i - 1].where
                                                    : j->sets[i - 1 - j->csid_count].where,
                               &spec));
        npi_spec_clear(&spec);
    }
    for (int i = 0; i < j->csid_count; i++)
        for (int set = 0; set < j->set_count; set++)
            if (strcmp(j->csid[i].where, j->sets[set].where) == 0)
                return npi_fail(NPOS_INVALID_ARGUMENT, "'%s' is to count as ID and as OOD",
                                j->csid[i].where);
    return NPOS_OK;
}

static npos_status evaluate(job *j) {
    const npos_eval_options *options = j->options;
    npi_protocol protocol;
    if (options->max_images < -1)
        return npi_fail(NPOS_INVALID_ARGUMENT, "max_images: %lld, expected 0 (all) or more",
                        (long long)options->max_images);
    NPI_TRY(npi_protocol_parse(options->protocol, &protocol));
    NPI_TRY(npi_format_parse(options->format, &j->format));
    NPI_TRY(npi_ood_specs_parse(options->ood, options->ood_count, &j->sets, &j->set_count));
    NPI_TRY(npi_csid_specs_parse(options->csid, options->csid_count, &j->csid, &j->csid_count));
    NPI_TRY(npi_fitted_open(options->run, &options->compute, options->scores, true, &j->fitted));
    NPI_TRY(find_id(j));
    NPI_TRY(check_specs(j));
    NPI_TRY(npi_evaluation_begin(&j->evaluation, protocol, options->seed, j->id_spec,
                                 j->fitted.detectors, j->fitted.count, j->sets, j->set_count));
    NPI_TRY(score_id(j));
    for (int set = 0; set < j->set_count; set++)
        NPI_TRY(score_ood(j, set));
    NPI_TRY(npi_evaluation_measure(&j->evaluation, &options->compute));
    const npi_calibration *calibration = &j->fitted.run->calibration;
    for (int r = 0; calibration->score && r < j->evaluation.results; r++) {
        npi_score_result *result = &j->evaluation.result[r];
        if (strcmp(result->score, calibration->score) == 0)
            result->threshold = calibration->threshold;
        if (strcmp(result->score, "knn") == 0)
            result->chosen_k = calibration->knn_k;
    }
    return write_results(j);
}

npos_status npos_eval(const npos_eval_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_eval");
    job j = {.options = options};
    npos_status status = evaluate(&j);
    npi_evaluation_clear(&j.evaluation);
    npi_classes_list_clear(&j.classes);
    npi_fitted_close(&j.fitted);
    npi_ood_sets_free(j.sets, j.set_count);
    npi_ood_sets_free(j.csid, j.csid_count);
    npi_free(j.taken);
    npi_free(j.own);
    npi_free(j.id_spec);
    return status;
}
