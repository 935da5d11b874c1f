#include "report/evaluation_json.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json_text.h"
#include "io/npy.h"

/* ---- writing ---- */

/* Adds `value` (taken over) under `key`; a NULL value says that memory ran out. */
static void put(json_t *object, const char *key, json_t *value, bool *ok) {
    if (!value || json_object_set_new(object, key, value) != 0)
        *ok = false;
}

static void append(json_t *array, json_t *value, bool *ok) {
    if (!value || json_array_append_new(array, value) != 0)
        *ok = false;
}

static json_t *interval_json(const double ci[2], bool *ok) {
    json_t *array = json_array();
    append(array, npi_json_number(ci[0]), ok);
    append(array, npi_json_number(ci[1]), ok);
    return array;
}

static void put_measures(json_t *object, const npi_measures *measures, bool *ok) {
    put(object, "fpr95", npi_json_number(measures->fpr95), ok);
    put(object, "auroc", npi_json_number(measures->auroc), ok);
    put(object, "aupr_in", npi_json_number(measures->aupr_in), ok);
    put(object, "aupr_out", npi_json_number(measures->aupr_out), ok);
}

static void put_intervals(json_t *object, const npi_measures *measures, bool *ok) {
    put(object, "fpr95_ci", interval_json(measures->fpr95_ci, ok), ok);
    put(object, "auroc_ci", interval_json(measures->auroc_ci, ok), ok);
    put(object, "aupr_in_ci", interval_json(measures->aupr_in_ci, ok), ok);
    put(object, "aupr_out_ci", interval_json(measures->aupr_out_ci, ok), ok);
}

/* Under "skipped"; nothing where none was left out. */
static void put_skipped(json_t *object, const npi_evaluation *evaluation, int set, bool *ok) {
    const npi_skipped *list = npi_evaluation_skipped(evaluation, set);
    if (!list)
        return;
    json_t *names = json_array();
    for (int64_t i = 0; i < list->count; i++)
        append(names, npi_json_text(list->names[i]), ok);
    put(object, "skipped", names, ok);
}

static json_t *set_json(const npi_evaluation *evaluation, const npi_set_result *set, int number,
                        bool *ok) {
    json_t *object = json_object();
    put(object, "name", npi_json_text(set->name), ok);
    put(object, "group", npi_json_text(set->group), ok);
    put(object, "spec", npi_json_text(set->spec), ok);
    put(object, "n", json_integer(set->n), ok);
    put(object, "available", json_integer(set->available), ok);
    put_skipped(object, evaluation, number, ok);
    put_measures(object, &set->measures, ok);
    put_intervals(object, &set->measures, ok);
    return object;
}

static json_t *means_json(const npi_score_result *result, bool *ok) {
    json_t *means = json_object();
    const char *group = NULL;
    for (int i = -1; i < 0 || (group = npi_group_at(result, i)) != NULL; i++) {
        npi_measures mean;
        npi_mean_measures(result, group, &mean);
        json_t *object = json_object();
        put_measures(object, &mean, ok);
        if (result->mean)
            put_intervals(object, &mean, ok);
        put(means, group ? group : "all", object, ok);
    }
    return means;
}

static json_t *accuracy_json(const npi_accuracy *accuracy, bool *ok) {
    json_t *object = json_object();
    const struct {
        const char *key;
        double value;
    } rows[] = {{"knn", accuracy->knn},
                {"prototype", accuracy->prototype},
                {"head", accuracy->head},
                {"text", accuracy->text}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].value >= 0)
            put(object, rows[i].key, npi_json_number(rows[i].value), ok);
    return object;
}

/* Of a full spectrum: what counts as ID. */
static json_t *parts_json(const npi_evaluation *evaluation, bool *ok) {
    json_t *parts = json_array();
    for (int i = 0; i < evaluation->id_parts; i++) {
        const npi_id_part *part = &evaluation->id_part[i];
        json_t *object = json_object();
        put(object, "name", npi_json_text(part->name), ok);
        put(object, "spec", npi_json_text(part->spec), ok);
        put(object, "n", json_integer(part->n), ok);
        put(object, "accuracy", accuracy_json(&part->accuracy, ok), ok);
        append(parts, object, ok);
    }
    return parts;
}

static json_t *result_json(const npi_evaluation *evaluation, const npi_score_result *result,
                           bool *ok) {
    json_t *object = json_object(), *id = json_object(), *ood = json_array();
    put(id, "spec", npi_json_text(evaluation->id_spec), ok);
    put(id, "n", json_integer(result->id_n), ok);
    put_skipped(id, evaluation, -1, ok);
    put(id, "accuracy", accuracy_json(&result->accuracy, ok), ok);
    if (evaluation->id_parts > 0)
        put(id, "parts", parts_json(evaluation, ok), ok);
    for (int i = 0; i < result->sets; i++)
        append(ood, set_json(evaluation, &result->set[i], i, ok), ok);
    put(object, "score", npi_json_text(result->score), ok);
    put(object, "threshold", npi_json_number(result->threshold), ok);
    if (result->chosen_k > 0)
        put(object, "chosen_k", json_integer(result->chosen_k), ok);
    put(object, "id", id, ok);
    put(object, "ood", ood, ok);
    put(object, "means", means_json(result, ok), ok);
    return object;
}

/* *out is to be freed with free. */
static npos_status evaluation_text(const npi_evaluation *evaluation, char **out) {
    bool ok = true;
    json_t *root = json_object(), *results = json_array();
    put(root, "schema", json_integer(1), &ok);
    put(root, "protocol", json_string(npi_protocol_name(evaluation->protocol)), &ok);
    put(root, "positive", json_string(npi_protocol_positive(evaluation->protocol)), &ok);
    put(root, "seed", json_integer((json_int_t)evaluation->seed), &ok);
    for (int i = 0; i < evaluation->results; i++)
        append(results, result_json(evaluation, &evaluation->result[i], &ok), &ok);
    put(root, "results", results, &ok);
    *out = ok ? json_dumps(root, JSON_INDENT(2)) : NULL;
    json_decref(root);
    return *out ? NPOS_OK : npi_fail(NPOS_OUT_OF_MEMORY, "no memory for the evaluation's JSON");
}

npos_status npi_evaluation_write(const npi_evaluation *evaluation, const char *path) {
    char *text;
    npi_atomic file;
    npos_status status = evaluation_text(evaluation, &text);
    if (status != NPOS_OK)
        return npi_fail_in(status, "%s", path);
    status = npi_atomic_open(&file, path);
    if (status == NPOS_OK) {
        fprintf(file.stream, "%s\n", text);
        status = npi_atomic_commit(&file);
    }
    free(text);
    return status;
}

npos_status npi_evaluation_print(const npi_evaluation *evaluation, FILE *out) {
    char *text;
    NPI_TRY(evaluation_text(evaluation, &text));
    fprintf(out, "%s\n", text);
    free(text);
    return fflush(out) != 0 || ferror(out) ? npi_fail_errno("writing the JSON") : NPOS_OK;
}

/* ---- reading ---- */

static npos_status expected(const char *path, const char *key, const char *type) {
    return npi_fail(NPOS_BAD_DATA, "%s: '%s' is missing or is not %s", path, key, type);
}

static npos_status get_fraction(const char *path, const json_t *object, const char *key,
                                double *out) {
    json_t *value = json_object_get(object, key);
    if (!json_is_number(value))
        return expected(path, key, "a number");
    *out = json_number_value(value);
    if (!(*out >= 0 && *out <= 1))
        return npi_fail(NPOS_BAD_DATA, "%s: '%s' is %g, expected a fraction in [0, 1]", path, key,
                        *out);
    return NPOS_OK;
}

static npos_status get_interval(const char *path, const json_t *object, const char *key,
                                double out[2]) {
    json_t *pair = json_object_get(object, key);
    for (size_t i = 0; i < 2; i++) {
        json_t *value = json_array_get(pair, i);
        if (!json_is_number(value))
            return expected(path, key, "a pair of numbers");
        out[i] = json_number_value(value);
    }
    return NPOS_OK;
}

static npos_status get_text(const char *path, const json_t *object, const char *key, char **out) {
    json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return expected(path, key, "a string");
    return npi_strdup(out, json_string_value(value));
}

static npos_status get_count(const char *path, const json_t *object, const char *key,
                             int64_t *out) {
    json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return expected(path, key, "a count");
    *out = json_integer_value(value);
    return NPOS_OK;
}

static npos_status read_skipped(const char *path, const json_t *object, npi_skipped *out) {
    json_t *names = json_object_get(object, "skipped");
    if (!names)
        return NPOS_OK;
    if (!json_is_array(names))
        return expected(path, "skipped", "a list of names");
    NPI_TRY(npi_alloc(&out->names, json_array_size(names), sizeof *out->names, "skipped images"));
    for (size_t i = 0; i < json_array_size(names); i++, out->count++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (!name)
            return expected(path, "skipped", "a list of names");
        NPI_TRY(npi_strdup(&out->names[i], name));
    }
    return NPOS_OK;
}

/* The lists of the ID images and of the sets, which are the same in all results. */
static npos_status read_all_skipped(const char *path, const json_t *result, npi_evaluation *out) {
    const json_t *sets = json_object_get(result, "ood");
    size_t count = json_array_size(sets);
    NPI_TRY(read_skipped(path, json_object_get(result, "id"), &out->id_skipped));
    NPI_TRY(npi_alloc(&out->skipped, count, sizeof *out->skipped, "skipped images"));
    for (size_t i = 0; i < count; i++) {
        out->skipped_sets++;
        NPI_TRY(read_skipped(path, json_array_get(sets, i), &out->skipped[i]));
    }
    return NPOS_OK;
}

static npos_status read_set(const char *path, const json_t *object, npi_set_result *out) {
    NPI_TRY(get_text(path, object, "name", &out->name));
    NPI_TRY(get_text(path, object, "group", &out->group));
    NPI_TRY(get_text(path, object, "spec", &out->spec));
    NPI_TRY(get_count(path, object, "n", &out->n));
    NPI_TRY(get_count(path, object, "available", &out->available));
    NPI_TRY(get_fraction(path, object, "fpr95", &out->measures.fpr95));
    NPI_TRY(get_fraction(path, object, "auroc", &out->measures.auroc));
    NPI_TRY(get_fraction(path, object, "aupr_in", &out->measures.aupr_in));
    NPI_TRY(get_fraction(path, object, "aupr_out", &out->measures.aupr_out));
    NPI_TRY(get_interval(path, object, "fpr95_ci", out->measures.fpr95_ci));
    NPI_TRY(get_interval(path, object, "auroc_ci", out->measures.auroc_ci));
    /* files written before these two were reported do not have them */
    out->measures.aupr_in_ci[1] = out->measures.aupr_out_ci[1] = 1;
    if (json_object_get(object, "aupr_in_ci"))
        NPI_TRY(get_interval(path, object, "aupr_in_ci", out->measures.aupr_in_ci));
    if (json_object_get(object, "aupr_out_ci"))
        NPI_TRY(get_interval(path, object, "aupr_out_ci", out->measures.aupr_out_ci));
    return NPOS_OK;
}

/* The means' intervals, which files of earlier versions do not have. */
static npos_status read_means(const char *path, const json_t *means, npi_score_result *out) {
    int groups = 0;
    if (!json_object_get(json_object_get(means, "all"), "fpr95_ci"))
        return NPOS_OK;
    while (npi_group_at(out, groups))
        groups++;
    NPI_TRY(npi_alloc(&out->mean, (size_t)groups + 1, sizeof *out->mean, "means"));
    for (int g = 0; g <= groups; g++) {
        const json_t *object = json_object_get(means, g < groups ? npi_group_at(out, g) : "all");
        npi_measures *mean = &out->mean[g];
        NPI_TRY(get_interval(path, object, "fpr95_ci", mean->fpr95_ci));
        NPI_TRY(get_interval(path, object, "auroc_ci", mean->auroc_ci));
        NPI_TRY(get_interval(path, object, "aupr_in_ci", mean->aupr_in_ci));
        NPI_TRY(get_interval(path, object, "aupr_out_ci", mean->aupr_out_ci));
    }
    return NPOS_OK;
}

static npos_status read_accuracy(const char *path, const json_t *object, npi_accuracy *out) {
    const struct {
        const char *key;
        double *to;
    } keys[] = {{"knn", &out->knn},
                {"prototype", &out->prototype},
                {"head", &out->head},
                {"text", &out->text}};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        *keys[i].to = -1;
        if (json_object_get(object, keys[i].key))
            NPI_TRY(get_fraction(path, object, keys[i].key, keys[i].to));
    }
    return NPOS_OK;
}

/* The parts of a full spectrum's ID images, which are the same in all results. */
static npos_status read_parts(const char *path, const json_t *id, int64_t n, npi_evaluation *out) {
    json_t *parts = json_object_get(id, "parts");
    size_t count = json_array_size(parts);
    int64_t sum = 0;
    if (!parts)
        return NPOS_OK;
    if (count == 0)
        return expected(path, "parts", "a list of sets");
    NPI_TRY(npi_alloc(&out->id_part, count, sizeof *out->id_part, "sets that count as ID"));
    for (size_t i = 0; i < count; i++) {
        const json_t *object = json_array_get(parts, i);
        npi_id_part *part = &out->id_part[out->id_parts++];
        NPI_TRY(get_text(path, object, "name", &part->name));
        NPI_TRY(get_text(path, object, "spec", &part->spec));
        NPI_TRY(get_count(path, object, "n", &part->n));
        NPI_TRY(read_accuracy(path, json_object_get(object, "accuracy"), &part->accuracy));
        sum = part->n <= n - sum ? sum + part->n : n + 1;
        if (sum > n)
            break;
    }
    return sum == n ? NPOS_OK
                    : npi_fail(NPOS_BAD_DATA, "%s: the parts of 'id' do not add up to its n, %lld",
                               path, (long long)n);
}

static npos_status read_result(const char *path, const json_t *object, npi_score_result *out) {
    NPI_TRY(get_text(path, object, "score", &out->score));
    json_t *threshold = json_object_get(object, "threshold"), *id = json_object_get(object, "id");
    if (!json_is_number(threshold) && !json_is_null(threshold))
        return expected(path, "threshold", "a number or null");
    out->threshold = json_number_value(threshold);
    int64_t chosen_k = 0;
    if (json_object_get(object, "chosen_k"))
        NPI_TRY(get_count(path, object, "chosen_k", &chosen_k));
    out->chosen_k = chosen_k < INT32_MAX ? (int)chosen_k : INT32_MAX;
    NPI_TRY(get_count(path, id, "n", &out->id_n));
    NPI_TRY(read_accuracy(path, json_object_get(id, "accuracy"), &out->accuracy));
    json_t *sets = json_object_get(object, "ood");
    if (!json_is_array(sets))
        return expected(path, "ood", "a list");
    NPI_TRY(npi_alloc(&out->set, json_array_size(sets), sizeof *out->set, "results of OOD sets"));
    for (size_t i = 0; i < json_array_size(sets); i++) {
        out->sets++;
        NPI_TRY(read_set(path, json_array_get(sets, i), &out->set[i]));
    }
    return read_means(path, json_object_get(object, "means"), out);
}

static npos_status read_root(const char *path, const json_t *root, npi_evaluation *out) {
    json_t *schema = json_object_get(root, "schema"), *seed = json_object_get(root, "seed"),
           *protocol = json_object_get(root, "protocol"),
           *results = json_object_get(root, "results");
    if (!json_is_integer(schema) || json_integer_value(schema) != 1)
        return npi_fail(NPOS_BAD_DATA, "%s: expected an evaluation with \"schema\": 1", path);
    if (!json_is_string(protocol))
        return expected(path, "protocol", "a string");
    if (npi_protocol_parse(json_string_value(protocol), &out->protocol) != NPOS_OK)
        return npi_fail_in(NPOS_BAD_DATA, "%s", path);
    if (!json_is_integer(seed))
        return expected(path, "seed", "a whole number");
    out->seed = (uint64_t)json_integer_value(seed);
    if (!json_is_array(results) || json_array_size(results) == 0)
        return expected(path, "results", "a list with at least one score");
    NPI_TRY(
        get_text(path, json_object_get(json_array_get(results, 0), "id"), "spec", &out->id_spec));
    NPI_TRY(npi_alloc(&out->result, json_array_size(results), sizeof *out->result,
                      "results of scores"));
    for (size_t i = 0; i < json_array_size(results); i++) {
        out->results++;
        NPI_TRY(read_result(path, json_array_get(results, i), &out->result[i]));
    }
    NPI_TRY(read_parts(path, json_object_get(json_array_get(results, 0), "id"), out->result[0].id_n,
                       out));
    NPI_TRY(read_all_skipped(path, json_array_get(results, 0), out));
    return NPOS_OK;
}

npos_status npi_evaluation_read(const char *path, npi_evaluation *out) {
    char *text = NULL;
    size_t size;
    *out = (npi_evaluation){0};
    NPI_TRY(npi_file_read(path, &text, &size));
    json_error_t error;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    npi_free(text);
    if (!root)
        return npi_fail(NPOS_BAD_DATA, "%s: line %d: %s", path, error.line, error.text);
    npos_status status = read_root(path, root, out);
    json_decref(root);
    if (status != NPOS_OK)
        npi_evaluation_clear(out);
    return status;
}

static npos_status read_scores(const char *run, const char *score, const char *set, int64_t n,
                               double **out) {
    char *path;
    int64_t shape[4];
    NPI_TRY(npi_format(&path, "%s/scores/%s/%s.npy", run, score, set));
    npos_status status = npi_npy_read_f64(path, 1, shape, out);
    if (status == NPOS_OK && shape[0] != n) {
        status = npi_fail(NPOS_SHAPE_MISMATCH, "%s: %lld scores, eval.json says %lld", path,
                          (long long)shape[0], (long long)n);
        npi_free(*out);
        *out = NULL;
    }
    npi_free(path);
    return status;
}

npos_status npi_evaluation_read_run(const char *run, npi_evaluation *out) {
    char *path;
    NPI_TRY(npi_path_join(&path, run, "eval.json"));
    npos_status status = npi_evaluation_read(path, out);
    npi_free(path);
    for (int r = 0; status == NPOS_OK && r < out->results; r++) {
        npi_score_result *result = &out->result[r];
        status = read_scores(run, result->score, "id", result->id_n, &result->id_scores);
        for (int i = 0; status == NPOS_OK && i < result->sets; i++) {
            double *scores = NULL;
            status =
                read_scores(run, result->score, result->set[i].name, result->set[i].n, &scores);
            result->set[i].scores = scores;
        }
    }
    if (status != NPOS_OK)
        npi_evaluation_clear(out);
    return status;
}
