/* npos_eval: scores images with a trained run and measures how well they part. */
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
    npi_ood_set *sets;
    int set_count;
    char *id_spec;
    npi_evaluation evaluation;
    npi_classes_list classes;
    npi_format_kind format;
} job;

/* The ID images: what the options name, else the recipe's `test`, else #test of its `data`. */
static npos_status find_id(job *j) {
    const npi_recipe *recipe = &j->fitted.run->recipe;
    if (j->options->id)
        return npi_strdup(&j->id_spec, j->options->id);
    if (recipe->test[0])
        return npi_strdup(&j->id_spec, recipe->test);
    /* "PATH#train#class=..." has its test images in "PATH#test#class=..." */
    const char *split = strstr(recipe->data, "#train"),
               *rest = split ? split + strlen("#train") : strchr(recipe->data, '#');
    size_t length = split  ? (size_t)(split - recipe->data)
                    : rest ? (size_t)(rest - recipe->data)
                           : strlen(recipe->data);
    NPI_TRY(npi_format(&j->id_spec, "%.*s#test%s", (int)length, recipe->data, rest ? rest : ""));
    if (recipe->data[0] && npi_dataset_has_split(recipe->data, "test"))
        return NPOS_OK;
    return npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                             "%s: the recipe names no test images and '%s' has no #test split",
                             j->options->run, recipe->data),
                    "name the ID images with --id SPEC");
}

/* The names of the images that were scored, one a line: the list that a draw leaves behind. */
static npos_status write_names(const job *j, const char *set, const npi_images *images) {
    char *folder = NULL, *path = NULL;
    npi_atomic file = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&folder, j->options->run, "scores"), done);
    NPI_TRY_GOTO(npi_make_folders(folder), done);
    NPI_TRY_GOTO(npi_format(&path, "%s/%s.txt", folder, set), done);
    NPI_TRY_GOTO(npi_atomic_open(&file, path), done);
    for (int64_t i = 0; i < images->count; i++)
        fprintf(file.stream, "%s\n", images->names[i]);
    status = npi_atomic_commit(&file);
done:
    npi_atomic_abort(&file);
    npi_free(path);
    npi_free(folder);
    return status;
}

/* What the images are, and what they are taken for; of ID images how often that is right. */
static npos_status take_classes(job *j, const char *name, bool id, const npi_images *images,
                                const npi_outputs *outputs) {
    const npi_run *run = j->fitted.run;
    npi_accuracy accuracy = {-1, -1, -1, -1};
    int32_t *taken = NULL, *labels = NULL;
    bool can;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&taken, (size_t)images->count, sizeof *taken, "classes"), done);
    NPI_TRY_GOTO(npi_classify(&j->fitted.model, outputs, taken, NULL, &can), done);
    NPI_TRY_GOTO(npi_alloc(&labels, (size_t)images->count, sizeof *labels, "labels"), done);
    if (!id) {
        for (int64_t i = 0; i < images->count; i++)
            labels[i] = images->labels[i] < images->classes ? images->labels[i] : -1;
        status = npi_classes_list_add(&j->classes, name, images->count, taken, labels,
                                      images->class_names, images->classes);
        goto done;
    }
    NPI_TRY_GOTO(npi_labels_of_model(images, run->class_names, run->classes, labels), done);
    NPI_TRY_GOTO(npi_measure_accuracy(&j->fitted.model, outputs, labels, &accuracy), done);
    for (int r = 0; r < j->evaluation.results; r++)
        j->evaluation.result[r].accuracy = accuracy;
    status = npi_classes_list_add(&j->classes, name, images->count, taken, labels, run->class_names,
                                  run->classes);
done:
    npi_free(taken);
    npi_free(labels);
    return status;
}

/* One pass over a set's images for all scores. */
static npos_status score_set(job *j, int set) {
    const npos_eval_options *options = j->options;
    bool id = set == NPI_ID_SET;
    const char *spec = id ? j->id_spec : j->sets[set].where;
    const char *name = id ? "id" : j->sets[set].name;
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
    NPI_TRY_GOTO(take_classes(j, name, id, &images, &outputs), done);
    status = write_names(j, name, &images);
done:
    npi_features_clear(&features);
    npi_images_clear(&images);
    return status;
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
    for (int set = NPI_ID_SET; set < j->set_count && !j->fitted.run->external; set++) {
        npi_spec spec;
        NPI_TRY(npi_spec_parse(set == NPI_ID_SET ? j->id_spec : j->sets[set].where, &spec));
        npi_spec_clear(&spec);
    }
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
    NPI_TRY(npi_fitted_open(options->run, &options->compute, options->scores, true, &j->fitted));
    NPI_TRY(find_id(j));
    NPI_TRY(check_specs(j));
    NPI_TRY(npi_evaluation_begin(&j->evaluation, protocol, options->seed, j->id_spec,
                                 j->fitted.detectors, j->fitted.count, j->sets, j->set_count));
    for (int set = NPI_ID_SET; set < j->set_count; set++)
        NPI_TRY(score_set(j, set));
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
    npi_free(j.id_spec);
    return status;
}
