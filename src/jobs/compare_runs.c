#include "jobs/compare_runs.h"

#include <string.h>

#include <jansson.h>

#include "base/file.h"
#include "base/memory.h"
#include "report/evaluation_json.h"

/* The training's seed, as manifest.json has it. */
static npos_status read_seed(const char *run, int64_t *seed) {
    char *path, *text = NULL;
    size_t size;
    *seed = -1;
    NPI_TRY(npi_path_join(&path, run, "manifest.json"));
    npos_status status = NPOS_OK;
    if (npi_is_file(path)) {
        status = npi_file_read(path, &text, &size);
        json_t *root = status == NPOS_OK ? json_loadb(text, size, 0, NULL) : NULL;
        json_t *value = json_object_get(root, "seed");
        if (status == NPOS_OK && json_is_null(value))
            *seed = -1; /* nothing was trained */
        else if (status == NPOS_OK && !json_is_integer(value))
            status =
                npi_fail(NPOS_BAD_DATA, "%s: 'seed' is missing or is not a whole number", path);
        else if (status == NPOS_OK)
            *seed = (int64_t)json_integer_value(value);
        json_decref(root);
    }
    npi_free(text);
    npi_free(path);
    return status;
}

static npos_status find_method(npi_methods *methods, const char *name, size_t length,
                               npi_method **out) {
    for (int m = 0; m < methods->count; m++) {
        *out = &methods->list[m];
        if (strlen((*out)->name) == length && memcmp((*out)->name, name, length) == 0)
            return NPOS_OK;
    }
    *out = &methods->list[methods->count];
    NPI_TRY(npi_format(&(*out)->name, "%.*s", (int)length, name));
    methods->count++;
    return NPOS_OK;
}

/* With its scores where the run has kept them. */
static npos_status read_evaluation(const char *run, npi_evaluation *out) {
    char *scores = NULL, *json = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_path_join(&scores, run, "scores"), done);
    NPI_TRY_GOTO(npi_path_join(&json, run, "eval.json"), done);
    status =
        npi_is_folder(scores) ? npi_evaluation_read_run(run, out) : npi_evaluation_read(json, out);
    if (status != NPOS_OK)
        npi_hint(status, "a run to compare must have been evaluated (npos eval)");
done:
    npi_free(scores);
    npi_free(json);
    return status;
}

/* Reads a run into its method, behind the runs of smaller seeds. */
static npos_status add_run(npi_method *to, const char *path) {
    npi_evaluated run = {0};
    npos_status status;
    NPI_TRY_GOTO(npi_strdup(&run.path, path), fail);
    NPI_TRY_GOTO(read_seed(path, &run.seed), fail);
    NPI_TRY_GOTO(read_evaluation(path, &run.evaluation), fail);
    NPI_TRY_GOTO(npi_grow(&to->run, (size_t)to->runs, (size_t)to->runs + 1, sizeof *to->run,
                          "runs of a method"),
                 fail);
    int at = to->runs;
    for (; at > 0 && run.seed >= 0 && to->run[at - 1].seed > run.seed; at--)
        to->run[at] = to->run[at - 1];
    to->run[at] = run;
    to->runs++;
    return NPOS_OK;
fail:
    npi_evaluation_clear(&run.evaluation);
    npi_free(run.path);
    return status;
}

npos_status npi_methods_read(const char *const *runs, int count, bool seeds, npi_methods *out) {
    NPI_TRY(npi_alloc(&out->list, (size_t)count, sizeof *out->list, "methods"));
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(runs[i], '='), *path = equals ? equals + 1 : runs[i];
        const char *name = equals || !seeds ? runs[i] : "runs";
        npi_method *to;
        NPI_TRY(find_method(out, name, equals ? (size_t)(equals - name) : strlen(name), &to));
        if (!equals && !seeds && to->runs > 0)
            return npi_fail(NPOS_INVALID_ARGUMENT, "run '%s' was given twice", path);
        NPI_TRY(add_run(to, path));
    }
    for (int m = 0; m < out->count; m++) {
        npi_method *of = &out->list[m];
        NPI_TRY(npi_alloc(&of->paths, (size_t)of->runs, sizeof *of->paths, "paths"));
        NPI_TRY(npi_alloc(&of->seeds, (size_t)of->runs, sizeof *of->seeds, "seeds"));
        for (int i = 0; i < of->runs; i++) {
            of->paths[i] = of->run[i].path;
            of->seeds[i] = of->run[i].seed;
            if (i > 0 && of->seeds[i] >= 0 && of->seeds[i] == of->seeds[i - 1])
                return npi_fail(NPOS_INVALID_ARGUMENT, "%s: %s and %s both have seed %lld",
                                of->name, of->paths[i - 1], of->paths[i], (long long)of->seeds[i]);
        }
    }
    return NPOS_OK;
}

void npi_methods_clear(npi_methods *methods) {
    for (int m = 0; m < methods->count; m++) {
        npi_method *of = &methods->list[m];
        for (int i = 0; i < of->runs; i++) {
            npi_evaluation_clear(&of->run[i].evaluation);
            npi_free(of->run[i].path);
        }
        npi_free(of->run);
        npi_free(of->paths);
        npi_free(of->seeds);
        npi_free(of->name);
    }
    npi_free(methods->list);
    *methods = (npi_methods){0};
}

/* ---- whether they can be compared ---- */

bool npi_has_scores(const npi_evaluated *run) {
    return run->evaluation.result[0].id_scores != NULL;
}

static npos_status same_list(const npi_evaluated *a, const npi_evaluated *b, const char *set) {
    char *paths[2] = {0}, *text[2] = {0};
    size_t size[2] = {0};
    const npi_evaluated *runs[2] = {a, b};
    npos_status status = NPOS_OK;
    for (int i = 0; i < 2 && status == NPOS_OK; i++) {
        status = npi_format(&paths[i], "%s/scores/%s.txt", runs[i]->path, set);
        if (status == NPOS_OK && npi_is_file(paths[i]))
            status = npi_file_read(paths[i], &text[i], &size[i]);
    }
    if (status == NPOS_OK && text[0] && text[1] &&
        (size[0] != size[1] || memcmp(text[0], text[1], size[0]) != 0))
        status = npi_hint(
            npi_fail(NPOS_INVALID_ARGUMENT, "%s and %s scored other images of '%s'", a->path,
                     b->path, set),
            "evaluate both with the same --id, --ood, --protocol, --max-images and --seed");
    for (int i = 0; i < 2; i++) {
        npi_free(paths[i]);
        npi_free(text[i]);
    }
    return status;
}

const npi_set_result *npi_find_set(const npi_score_result *result, const char *name) {
    for (int i = 0; i < result->sets; i++)
        if (strcmp(result->set[i].name, name) == 0)
            return &result->set[i];
    return NULL;
}

const npi_score_result *npi_find_score(const npi_evaluated *run, const char *score) {
    for (int i = 0; i < run->evaluation.results; i++)
        if (strcmp(run->evaluation.result[i].score, score) == 0)
            return &run->evaluation.result[i];
    return NULL;
}

static npos_status same_images(const npi_evaluated *a, const npi_evaluated *b) {
    const npi_score_result *x = &a->evaluation.result[0], *y = &b->evaluation.result[0];
    if (x->id_n != y->id_n)
        return npi_fail(NPOS_INVALID_ARGUMENT, "%s scored %lld ID images, %s %lld", a->path,
                        (long long)x->id_n, b->path, (long long)y->id_n);
    NPI_TRY(same_list(a, b, "id"));
    for (int i = 0; i < x->sets; i++) {
        const npi_set_result *set = &x->set[i], *other = npi_find_set(y, set->name);
        if (!other)
            return npi_fail(NPOS_INVALID_ARGUMENT, "%s has no scores of '%s', %s has them", b->path,
                            set->name, a->path);
        if (other->n != set->n)
            return npi_fail(NPOS_INVALID_ARGUMENT, "%s scored %lld images of '%s', %s %lld",
                            a->path, (long long)set->n, set->name, b->path, (long long)other->n);
        NPI_TRY(same_list(a, b, set->name));
    }
    return NPOS_OK;
}

static npos_status same_seeds(const npi_method *a, const npi_method *b) {
    bool same = a->runs == b->runs;
    for (int i = 0; same && i < a->runs; i++)
        same = a->seeds[i] < 0 || b->seeds[i] < 0 || a->seeds[i] == b->seeds[i];
    return same ? NPOS_OK
                : npi_hint(npi_fail(NPOS_INVALID_ARGUMENT,
                                    "the runs of '%s' (%d) and '%s' (%d) do not pair by seed",
                                    a->name, a->runs, b->name, b->runs),
                           "give each method one run of each seed");
}

npos_status npi_methods_check(const npi_methods *methods, bool *several) {
    const npi_method *first = &methods->list[0];
    *several = false;
    for (int m = 0; m < methods->count; m++)
        *several = *several || methods->list[m].runs > 1;
    for (int m = 0; m < methods->count; m++) {
        const npi_method *of = &methods->list[m];
        if (*several)
            NPI_TRY(same_seeds(first, of));
        for (int i = 0; i < of->runs; i++)
            NPI_TRY(same_images(&first->run[0], &of->run[i]));
    }
    return NPOS_OK;
}
