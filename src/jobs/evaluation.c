#include "jobs/evaluation.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/npy.h"
#include "jobs/compute.h"
#include "ood/metrics.h"

static npos_status begin_result(npi_score_result *result, const char *score,
                                const npi_ood_set *sets, int set_count) {
    result->accuracy = (npi_accuracy){-1, -1, -1, -1};
    NPI_TRY(npi_strdup(&result->score, score));
    NPI_TRY(npi_alloc(&result->set, (size_t)set_count, sizeof *result->set, "results of sets"));
    for (int i = 0; i < set_count; i++) {
        npi_set_result *set = &result->set[i];
        result->sets++;
        NPI_TRY(npi_strdup(&set->name, sets[i].name));
        NPI_TRY(npi_strdup(&set->group, sets[i].group));
        NPI_TRY(npi_strdup(&set->spec, sets[i].where));
    }
    return NPOS_OK;
}

npos_status npi_evaluation_begin(npi_evaluation *out, npi_protocol protocol, uint64_t seed,
                                 const char *id_spec, const npi_detector *detectors, int count,
                                 const npi_ood_set *sets, int set_count) {
    out->protocol = protocol;
    out->seed = seed;
    NPI_TRY(npi_strdup(&out->id_spec, id_spec));
    NPI_TRY(npi_alloc(&out->result, (size_t)count, sizeof *out->result, "results of scores"));
    for (int i = 0; i < count; i++) {
        out->results++;
        NPI_TRY(begin_result(&out->result[i], detectors[i].kind->name, sets, set_count));
    }
    return NPOS_OK;
}

npos_status npi_evaluation_id_part(npi_evaluation *evaluation, const char *name, const char *spec) {
    size_t count = (size_t)evaluation->id_parts;
    NPI_TRY(npi_grow(&evaluation->id_part, count, count + 1, sizeof *evaluation->id_part,
                     "sets that count as ID"));
    npi_id_part *part = &evaluation->id_part[evaluation->id_parts++];
    *part = (npi_id_part){.accuracy = {-1, -1, -1, -1}};
    NPI_TRY(npi_strdup(&part->name, name));
    return npi_strdup(&part->spec, spec);
}

static npos_status check_finite(const npi_score_result *result, const char *set,
                                const double *scores, int64_t n, char *const *names) {
    for (int64_t i = 0; i < n; i++)
        if (isnan(scores[i]))
            return npi_fail(NPOS_NOT_FINITE, "score '%s' of %s is NaN at image %lld (%s)",
                            result->score, set, (long long)i, names ? names[i] : "no name");
    return NPOS_OK;
}

npos_status npi_evaluation_add(npi_evaluation *evaluation, const npi_detector *detectors, int set,
                               const npi_outputs *outputs, char *const *names, int64_t available) {
    for (int r = 0; r < evaluation->results; r++) {
        npi_score_result *result = &evaluation->result[r];
        const char *name = set == NPI_ID_SET ? "the ID images" : result->set[set].name;
        double *scores;
        if (set == NPI_ID_SET) {
            size_t there = (size_t)result->id_n, all = there + (size_t)outputs->n;
            NPI_TRY(npi_grow(&result->id_scores, there, all, sizeof *scores, "scores"));
            scores = result->id_scores + there;
            result->id_n = (int64_t)all;
        } else {
            NPI_TRY(npi_alloc(&scores, (size_t)outputs->n, sizeof *scores, "scores"));
            result->set[set].scores = scores;
            result->set[set].n = outputs->n;
            result->set[set].available = available;
        }
        NPI_TRY(npi_detector_score(&detectors[r], outputs, scores));
        NPI_TRY(check_finite(result, name, scores, outputs->n, names));
    }
    return NPOS_OK;
}

npos_status npi_evaluation_skip(npi_evaluation *evaluation, int set, const npi_images *images) {
    npi_skipped *list = &evaluation->id_skipped;
    if (images->broken_count == 0)
        return NPOS_OK;
    if (set != NPI_ID_SET && !evaluation->skipped) {
        int sets = evaluation->result[0].sets;
        NPI_TRY(npi_alloc(&evaluation->skipped, (size_t)sets, sizeof *list, "skipped images"));
        evaluation->skipped_sets = sets;
    }
    if (set != NPI_ID_SET)
        list = &evaluation->skipped[set];
    NPI_TRY(npi_grow(&list->names, (size_t)list->count,
                     (size_t)(list->count + images->broken_count), sizeof *list->names,
                     "skipped images"));
    for (int64_t i = 0; i < images->broken_count; i++, list->count++)
        NPI_TRY(npi_strdup(&list->names[list->count], images->broken[i].name));
    return NPOS_OK;
}

npos_status npi_evaluation_measure(npi_evaluation *evaluation, const npos_compute *compute) {
    int64_t done = 0, total = 0;
    for (int r = 0; r < evaluation->results; r++)
        total += evaluation->result[r].sets;
    for (int r = 0; r < evaluation->results; r++) {
        npi_score_result *result = &evaluation->result[r];
        npi_scores id = {evaluation->id_spec, result->id_n, result->id_scores};
        NPI_TRY(npi_threshold_at_tpr(&id, 0.95, &result->threshold, NULL));
        NPI_TRY(npi_measure_result(evaluation->protocol, evaluation->id_spec, evaluation->seed,
                                   result));
        done += result->sets;
        NPI_TRY(npi_compute_progress(compute, "measure", done, total, NULL));
    }
    return NPOS_OK;
}

static npos_status write_scores(const char *folder, const char *name, const double *scores,
                                int64_t n) {
    char *path;
    NPI_TRY(npi_format(&path, "%s/%s.npy", folder, name));
    npos_status status = npi_npy_write(path, NPI_F64, 1, &n, scores);
    npi_free(path);
    return status;
}

npos_status npi_evaluation_scores_write(const npi_evaluation *evaluation, const char *folder) {
    npos_status status = NPOS_OK;
    for (int r = 0; r < evaluation->results && status == NPOS_OK; r++) {
        const npi_score_result *result = &evaluation->result[r];
        char *path;
        NPI_TRY(npi_path_join(&path, folder, result->score));
        status = npi_make_folders(path);
        if (status == NPOS_OK)
            status = write_scores(path, "id", result->id_scores, result->id_n);
        for (int i = 0; i < result->sets && status == NPOS_OK; i++)
            status =
                write_scores(path, result->set[i].name, result->set[i].scores, result->set[i].n);
        npi_free(path);
    }
    return status;
}

npos_status npi_labels_of_model(const npi_images *images, char *const *class_names, int classes,
                                int32_t *to) {
    int32_t *number;
    npos_status status = NPOS_OK;
    NPI_TRY(npi_alloc(&number, (size_t)images->classes, sizeof *number, "class numbers"));
    for (int c = 0; c < images->classes; c++) {
        number[c] = -1;
        for (int m = 0; m < classes && number[c] < 0; m++)
            if (strcmp(images->class_names[c], class_names[m]) == 0)
                number[c] = m;
        if (number[c] < 0) {
            npi_fail(NPOS_INVALID_ARGUMENT,
                     "%s: class '%s' is not one of the model's %d classes (%s, ...)", images->spec,
                     images->class_names[c], classes, classes > 0 ? class_names[0] : "none");
            status = npi_hint(NPOS_INVALID_ARGUMENT,
                              "choose the model's classes with #class=a,b or #class=@file");
            goto done;
        }
    }
    for (int64_t i = 0; i < images->count; i++)
        to[i] = images->labels[i] >= 0 && images->labels[i] < images->classes
                    ? number[images->labels[i]]
                    : -1;
done:
    npi_free(number);
    return status;
}
