#include <stdbool.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "ood/detector.h"

/* ---- the registry: a detector is one line here and its file ---- */

#define DETECTORS(X)                                                                               \
    X(knn)                                                                                         \
    X(head)                                                                                        \
    X(prototype)                                                                                   \
    X(msp)                                                                                         \
    X(maxlogit)                                                                                    \
    X(energy)                                                                                      \
    X(gen)                                                                                         \
    X(odin)                                                                                        \
    X(react)                                                                                       \
    X(ash)                                                                                         \
    X(she)                                                                                         \
    X(vim)                                                                                         \
    X(mahalanobis)                                                                                 \
    X(relative_mahalanobis)                                                                        \
    X(mcm)

#define DECLARE(name) extern const npi_detector_kind npi_detector_##name;
DETECTORS(DECLARE)
#undef DECLARE

#define ROW(name) &npi_detector_##name,
const npi_detector_kind *const npi_detector_kinds[] = {DETECTORS(ROW) NULL};
#undef ROW

enum { KINDS = sizeof npi_detector_kinds / sizeof *npi_detector_kinds - 1 };

static const npi_detector_kind *find(const char *name, size_t length) {
    for (int i = 0; i < KINDS; i++)
        if (strlen(npi_detector_kinds[i]->name) == length &&
            memcmp(npi_detector_kinds[i]->name, name, length) == 0)
            return npi_detector_kinds[i];
    return NULL;
}

static npos_status unknown(const char *name, size_t length) {
    const char *names[KINDS];
    char word[64], known[256] = "";
    for (int i = 0; i < KINDS; i++) {
        names[i] = npi_detector_kinds[i]->name;
        strncat(known, i ? ", " : "", sizeof known - strlen(known) - 1);
        strncat(known, names[i], sizeof known - strlen(known) - 1);
    }
    length = length < sizeof word - 1 ? length : sizeof word - 1;
    memcpy(word, name, length);
    word[length] = '\0';
    npos_status status = npi_fail(
        NPOS_INVALID_ARGUMENT, "score '%s' is not known, expected all or some of %s", word, known);
    const char *nearest = npi_nearest_name(word, names, KINDS);
    return nearest ? npi_hint(status, "did you mean '%s'?", nearest) : status;
}

/* ---- what a model can serve ---- */

static const struct {
    npi_detector_need need;
    const char *name;
} needs[] = {{NPI_NEEDS_BANK, "training embeddings"},
             {NPI_NEEDS_PROTOTYPES, "prototypes"},
             {NPI_NEEDS_HEAD, "an outlier head"},
             {NPI_NEEDS_CLASSIFIER, "a classifier"},
             {NPI_NEEDS_WEIGHTS, "a classifier's weights"},
             {NPI_NEEDS_PERTURBED, "gradients of images (a network with a classifier, in fp32)"},
             {NPI_NEEDS_TEXT, "text embeddings of its classes"}};

static const npi_saved_detector *find_saved(const npi_detector_kind *kind,
                                            const npi_detector_model *model) {
    for (int i = 0; kind->restore && i < model->saved_count; i++)
        if (strcmp(model->saved[i].name, kind->name) == 0)
            return &model->saved[i];
    return NULL;
}

static const char *lacking(const npi_detector_kind *kind, const npi_detector_model *model) {
    unsigned has =
        (model->bank || find_saved(kind, model) ? NPI_NEEDS_BANK : 0u) |
        (model->prototypes ? NPI_NEEDS_PROTOTYPES : 0u) | (model->has_head ? NPI_NEEDS_HEAD : 0u) |
        (model->has_classifier ? NPI_NEEDS_CLASSIFIER : 0u) |
        (model->weight ? NPI_NEEDS_WEIGHTS : 0u) |
        (model->has_perturbed ? NPI_NEEDS_PERTURBED : 0u) | (model->has_text ? NPI_NEEDS_TEXT : 0u);
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (kind->needs & needs[i].need & ~has)
            return needs[i].name;
    return NULL;
}

static npos_status fit_one(const npi_detector_kind *kind, const npi_detector_model *model,
                           npi_detector *out) {
    const char *missing = lacking(kind, model);
    if (missing)
        return npi_fail(NPOS_INVALID_ARGUMENT, "score '%s' needs %s, and %s has none", kind->name,
                        missing, model->name);
    const npi_saved_detector *saved = find_saved(kind, model);
    *out = (npi_detector){.kind = kind, .model = model, .restored = saved != NULL};
    if (!kind->fit)
        return NPOS_OK;
    npos_status status =
        saved ? kind->restore(model, saved, &out->state) : kind->fit(model, &out->state);
    return status == NPOS_OK ? status : npi_fail_in(status, "score '%s'", kind->name);
}

static npos_status fit_list(const char *list, const npi_detector_model *model, npi_detector *out,
                            int *count) {
    for (const char *at = list;; at++) {
        size_t length = strcspn(at, ",");
        const npi_detector_kind *kind = find(at, length);
        if (!kind)
            return unknown(at, length);
        for (int i = 0; i < *count; i++)
            if (out[i].kind == kind)
                return npi_fail(NPOS_INVALID_ARGUMENT, "score '%s' stands twice in '%s'",
                                kind->name, list);
        NPI_TRY(fit_one(kind, model, &out[(*count)++]));
        at += length;
        if (*at == '\0')
            return NPOS_OK;
    }
}

static npos_status fit_all(const npi_detector_model *model, npi_detector *out, int *count) {
    for (int i = 0; i < KINDS; i++)
        if (!lacking(npi_detector_kinds[i], model))
            NPI_TRY(fit_one(npi_detector_kinds[i], model, &out[(*count)++]));
    return *count > 0 ? NPOS_OK
                      : npi_fail(NPOS_INVALID_ARGUMENT, "%s serves no score at all", model->name);
}

npos_status npi_detectors_fit(const char *list, const npi_detector_model *model, npi_detector **out,
                              int *count) {
    *out = NULL;
    *count = 0;
    NPI_TRY(npi_alloc(out, KINDS, sizeof **out, "detectors"));
    npos_status status =
        strcmp(list, "all") == 0 ? fit_all(model, *out, count) : fit_list(list, model, *out, count);
    if (status != NPOS_OK) {
        npi_detectors_free(*out, *count);
        *out = NULL;
        *count = 0;
    }
    return status;
}

npos_status npi_saved_array(const npi_saved_detector *saved, const char *name, int64_t *rows,
                            int64_t *columns, double **out) {
    const npi_detector_array *found = NULL;
    *out = NULL;
    for (int i = 0; i < saved->count; i++)
        if (strcmp(saved->array[i].name, name) == 0)
            found = &saved->array[i];
    if (!found)
        return npi_fail(NPOS_BAD_DATA, "what was saved of it has no '%s'", name);
    if ((*rows > 0 && found->rows != *rows) || (*columns > 0 && found->columns != *columns))
        return npi_fail(NPOS_SHAPE_MISMATCH,
                        "saved '%s' is %lld x %lld, the model needs %lld x %lld", name,
                        (long long)found->rows, (long long)found->columns, (long long)*rows,
                        (long long)*columns);
    *rows = found->rows;
    *columns = found->columns;
    size_t count = (size_t)found->rows * (size_t)found->columns;
    NPI_TRY(npi_alloc(out, count, sizeof **out, name));
    memcpy(*out, found->values, count * sizeof **out);
    return NPOS_OK;
}

void npi_detectors_free(npi_detector *detectors, int count) {
    for (int i = 0; detectors && i < count; i++)
        if (detectors[i].kind && detectors[i].kind->free)
            detectors[i].kind->free(detectors[i].state);
    npi_free(detectors);
}

npos_status npi_detector_score(const npi_detector *detector, const npi_outputs *outputs,
                               double *score) {
    return detector->kind->score(detector->model, detector->state, outputs, score);
}

bool npi_detectors_need(const char *list, npi_detector_need need) {
    bool all = strcmp(list, "all") == 0;
    for (int i = 0; all && i < KINDS; i++)
        if (npi_detector_kinds[i]->needs & need)
            return true;
    for (const char *at = list; *at;) {
        size_t length = strcspn(at, ",");
        const npi_detector_kind *kind = find(at, length);
        if (kind && kind->needs & need)
            return true;
        at += length + (at[length] == ',');
    }
    return false;
}
