/* npos_fit: a run from another program's embeddings, for all detectors that need no network. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/json_text.h"
#include "io/npy.h"
#include "jobs/external.h"
#include "jobs/model_file.h"
#include "jobs/options.h"
#include "npos/npos.h"
#include "ood/moments.h"
#include "ood/neighbours.h"

void npos_fit_options_init(npos_fit_options *options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}

typedef struct job {
    const npos_fit_options *options;
    npi_recipe recipe;
    npi_bank bank;
    int classes;
    char **class_names;
    float *weight, *bias, *logits, *prototypes;
} job;

/* Logits are of this classifier when they differ by rounding alone. */
static npos_status check_logits(const job *j) {
    int classes = j->classes;
    size_t rows = (size_t)j->bank.n;
    float *own;
    NPI_TRY(npi_alloc(&own, rows * (size_t)classes, sizeof *own, "logits"));
    npi_external_logits(j->weight, j->bias, classes, j->bank.dim, j->bank.n, j->bank.h, own);
    npos_status status = NPOS_OK;
    for (int64_t i = 0; status == NPOS_OK && i < j->bank.n * classes; i++) {
        double given = (double)j->logits[i], found = (double)own[i];
        if (!(fabs(given - found) <= 0.05 * (1 + fabs(found))))
            status = npi_hint(
                npi_fail(NPOS_BAD_DATA,
                         "%s: logit %lld of row %lld is %g, but %s times the embedding is %g",
                         j->options->logits, (long long)(i % classes), (long long)(i / classes),
                         given, j->options->head, found),
                "the head's weights are [classes][dim]; --bias gives what is added");
    }
    npi_free(own);
    return status;
}

static npos_status read_bias(job *j) {
    int64_t shape[4];
    NPI_TRY(npi_npy_read_f32(j->options->bias, 1, shape, &j->bias));
    if (shape[0] != j->classes)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: %lld numbers for %d classes", j->options->bias,
                        (long long)shape[0], j->classes);
    for (int c = 0; c < j->classes; c++)
        if (!isfinite(j->bias[c]))
            return npi_fail(NPOS_NOT_FINITE, "%s: number %d is %g", j->options->bias, c,
                            (double)j->bias[c]);
    return NPOS_OK;
}

static npos_status read_classifier(job *j) {
    const npos_fit_options *o = j->options;
    int64_t classes = j->classes, dim = j->bank.dim, rows = j->bank.n;
    if (o->head)
        NPI_TRY(npi_matrix_read(o->head, &classes, &dim, &j->weight));
    if (o->logits)
        NPI_TRY(npi_matrix_read(o->logits, &rows, &classes, &j->logits));
    if (o->bias)
        NPI_TRY(read_bias(j));
    return j->weight && j->logits ? check_logits(j) : NPOS_OK;
}

/* As many classes as the head or the logits have, else as the largest label says. */
static npos_status read_arrays(job *j) {
    const npos_fit_options *o = j->options;
    int64_t rows = 0, columns = 0;
    NPI_TRY(npi_matrix_read(o->embeddings, &rows, &columns, &j->bank.h));
    j->bank.n = rows;
    j->bank.dim = (int)columns;
    NPI_TRY(npi_label_file_read(o->labels, rows, 0, &j->bank.labels));
    const char *sized = o->head ? o->head : o->logits;
    if (sized) {
        npi_npy array;
        NPI_TRY(npi_npy_read(sized, &array));
        int64_t classes = array.ndim == 2 ? array.shape[o->head ? 0 : 1] : 0;
        npi_npy_clear(&array);
        if (classes < 1 || classes > INT32_MAX)
            return npi_fail(NPOS_SHAPE_MISMATCH, "%s: expected two dimensions", sized);
        j->classes = (int)classes;
    }
    for (int64_t i = 0; i < rows; i++) {
        if (sized && j->bank.labels[i] >= j->classes)
            return npi_fail(NPOS_BAD_DATA, "%s: label %lld is %d, but %s has %d classes", o->labels,
                            (long long)i, j->bank.labels[i], sized, j->classes);
        if (j->bank.labels[i] >= j->classes)
            j->classes = j->bank.labels[i] + 1;
    }
    return read_classifier(j);
}

/* mu_c = the normalised mean of the class's normalised embeddings, as training starts them. */
static npos_status make_prototypes(job *j) {
    int dim = j->bank.dim;
    size_t width = (size_t)dim, classes = (size_t)j->classes;
    int64_t *count = NULL;
    double *mean = NULL;
    float *z = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&z, (size_t)j->bank.n * width, sizeof *z, "normalised rows"), done);
    NPI_TRY_GOTO(npi_alloc(&mean, classes * width, sizeof *mean, "class means"), done);
    NPI_TRY_GOTO(npi_alloc(&count, classes, sizeof *count, "class counts"), done);
    NPI_TRY_GOTO(npi_alloc(&j->prototypes, classes * width, sizeof(float), "prototypes"), done);
    npi_normalise_rows(j->bank.n, dim, j->bank.h, z);
    NPI_TRY_GOTO(npi_class_means(j->bank.n, dim, z, j->bank.labels, j->classes, mean, count), done);
    for (size_t i = 0; i < classes * width; i++)
        j->prototypes[i] = (float)mean[i];
    npi_normalise_rows(j->classes, dim, j->prototypes, j->prototypes);
done:
    npi_free(z);
    npi_free(mean);
    npi_free(count);
    return status;
}

static npos_status make_recipe(job *j) {
    const npos_fit_options *o = j->options;
    char text[128];
    NPI_TRY(npi_recipe_defaults(&j->recipe));
    NPI_TRY(npi_recipe_set(&j->recipe, "name=embeddings"));
    NPI_TRY(npi_recipe_set(&j->recipe, "encoder=none"));
    int64_t k = o->knn_k > 0 ? o->knn_k : j->recipe.knn_k;
    if (o->knn_k > j->bank.n)
        return npi_fail(NPOS_INVALID_ARGUMENT, "knn_k is %d, but there are %lld embeddings",
                        o->knn_k, (long long)j->bank.n);
    snprintf(text, sizeof text, "knn_k=%lld", (long long)(k < j->bank.n ? k : j->bank.n));
    NPI_TRY(npi_recipe_set(&j->recipe, text));
    snprintf(text, sizeof text, "score=%s", o->score ? o->score : "knn");
    return npi_recipe_set(&j->recipe, text);
}

static npos_status name_classes(job *j) {
    NPI_TRY(npi_alloc(&j->class_names, (size_t)j->classes, sizeof *j->class_names, "class names"));
    for (int c = 0; c < j->classes; c++)
        NPI_TRY(npi_format(&j->class_names[c], "%d", c));
    return NPOS_OK;
}

static npos_status write_text(const char *folder, const char *name, const char *text) {
    char *path;
    NPI_TRY(npi_path_join(&path, folder, name));
    npos_status status = npi_file_write(path, text, strlen(text));
    npi_free(path);
    return status;
}

static json_t *text_or_null(const char *text) {
    return text ? npi_json_text(text) : json_null();
}

static npos_status write_manifest(const job *j) {
    const npos_fit_options *o = j->options;
    char now[32];
    npi_utc_now(now);
    json_t *object =
        json_pack("{s:i, s:s, s:s, s:s, s:n, s:{s:o, s:o, s:o, s:o, s:o, s:I, s:i}}", "schema", 1,
                  "version", NPOS_VERSION, "started", now, "recipe", j->recipe.name, "seed", "fit",
                  "embeddings", text_or_null(o->embeddings), "labels", text_or_null(o->labels),
                  "logits", text_or_null(o->logits), "head", text_or_null(o->head), "bias",
                  text_or_null(o->bias), "n", (json_int_t)j->bank.n, "dim", j->bank.dim);
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    npos_status status = text ? write_text(o->out, "manifest.json", text)
                              : npi_fail(NPOS_OUT_OF_MEMORY, "manifest.json: no memory");
    free(text);
    json_decref(object);
    return status;
}

/* The model last: a folder with it is a whole run. */
static npos_status write_run(const job *j) {
    const char *out = j->options->out;
    char *text = NULL, *bank = NULL, *model = NULL;
    npos_status status;
    npi_model_file file = {.classes = j->classes,
                           .proj = j->bank.dim,
                           .class_names = j->class_names,
                           .prototypes = j->prototypes,
                           .dim = j->bank.dim,
                           .weight = j->weight,
                           .bias = j->bias,
                           .has_logits = j->weight || j->logits};
    NPI_TRY_GOTO(npi_path_join(&bank, out, "bank.safetensors"), done);
    NPI_TRY_GOTO(npi_path_join(&model, out, "model.safetensors"), done);
    if (npi_is_file(model)) {
        status = npi_hint(npi_fail(NPOS_INVALID_ARGUMENT, "%s: there is a run already", out),
                          "name another folder with --out");
        goto done;
    }
    NPI_TRY_GOTO(npi_make_folders(out), done);
    NPI_TRY_GOTO(npi_recipe_format(&j->recipe, true, &text), done);
    NPI_TRY_GOTO(write_text(out, "recipe.yaml", text), done);
    NPI_TRY_GOTO(write_manifest(j), done);
    NPI_TRY_GOTO(npi_bank_write(bank, &j->bank), done);
    status = npi_model_file_write(model, &file);
done:
    npi_free(text);
    npi_free(bank);
    npi_free(model);
    return status;
}

npos_status npos_fit(const npos_fit_options *options) {
    NPI_CHECK_OPTIONS(options, "npos_fit");
    if (!options->embeddings || !options->labels || !options->out)
        return npi_fail(NPOS_INVALID_ARGUMENT,
                        "npos_fit: embeddings, labels and out must be given, '%s' is missing",
                        !options->embeddings ? "embeddings"
                        : !options->labels   ? "labels"
                                             : "out");
    if (options->bias && !options->head)
        return npi_fail(NPOS_INVALID_ARGUMENT, "npos_fit: a bias belongs to a head's weights");
    job j = {.options = options};
    npos_status status;
    NPI_TRY_GOTO(read_arrays(&j), done);
    NPI_TRY_GOTO(make_recipe(&j), done);
    NPI_TRY_GOTO(name_classes(&j), done);
    NPI_TRY_GOTO(make_prototypes(&j), done);
    status = write_run(&j);
done:
    npi_bank_clear(&j.bank);
    npi_recipe_clear(&j.recipe);
    npi_class_names_free(j.class_names, j.class_names ? j.classes : 0);
    npi_free(j.weight);
    npi_free(j.bias);
    npi_free(j.logits);
    npi_free(j.prototypes);
    return status;
}
