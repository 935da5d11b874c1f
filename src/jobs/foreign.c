#include "jobs/foreign.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/safetensors.h"
#include "io/weights.h"

enum { NAME = 640 };

typedef struct reading {
    npi_params *params;
    npi_weights *weights;
    bool *used;         /* [tensors] */
    char encoder[NAME]; /* P */
    char model[NAME];   /* B */
    npi_name_list missing, extra, *left;
} reading;

static bool begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends(const char *text, const char *with) {
    size_t length = strlen(text), tail = strlen(with);
    return length >= tail && strcmp(text + length - tail, with) == 0;
}

bool npi_foreign_is(const char *path) {
    npi_safetensors *file;
    if (!ends(path, ".safetensors"))
        return true;
    if (npi_safetensors_open(path, &file) != NPOS_OK)
        return false; /* whoever opens it next says what is wrong */
    bool own = npi_safetensors_metadata(file, "npos_xxh3") != NULL;
    npi_safetensors_close(file);
    return !own;
}

/* Finds P and B: of the stems "conv1.weight" beside a "layer1.0.conv1.weight" the one with the shortest name. */
static npos_status find_prefixes(reading *r) {
    static const char stem[] = "conv1.weight";
    static const char *const wrappers[] = {"encoder.", "backbone."};
    const char *found = NULL;
    for (int i = 0; i < npi_weights_count(r->weights); i++) {
        const npi_named_tensor *tensor = npi_weights_at(r->weights, i);
        char block[NAME];
        if (tensor->ndim != 4 || !ends(tensor->name, stem))
            continue;
        size_t before = strlen(tensor->name) - strlen(stem);
        snprintf(block, sizeof block, "%.*slayer1.0.conv1.weight", (int)before, tensor->name);
        if ((before == 0 || tensor->name[before - 1] == '.') &&
            npi_weights_find(r->weights, block) >= 0 &&
            (!found || strlen(tensor->name) < strlen(found)))
            found = tensor->name;
    }
    if (!found)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: no ResNet: no 'conv1.weight' beside a 'layer1.0.conv1.weight' among "
                        "its %d tensors",
                        npi_weights_path(r->weights), npi_weights_count(r->weights));
    snprintf(r->encoder, sizeof r->encoder, "%.*s", (int)(strlen(found) - strlen(stem)), found);
    snprintf(r->model, sizeof r->model, "%s", r->encoder);
    for (int i = 0; i < 2; i++)
        if (ends(r->model, wrappers[i]))
            r->model[strlen(r->model) - strlen(wrappers[i])] = '\0';
    return NPOS_OK;
}

/* The tensor PREFIX THEIRS REST, where `name` is OURS REST; -1 when there is none, or `name` is another's. */
static int find_as(const reading *r, const char *name, const char *ours, const char *prefix,
                   const char *theirs) {
    char wanted[2 * NAME];
    if (!begins(name, ours))
        return -1;
    snprintf(wanted, sizeof wanted, "%s%s%s", prefix, theirs, name + strlen(ours));
    return npi_weights_find(r->weights, wanted);
}

static int find_tensor(const reading *r, const char *name) {
    static const char *const heads[][2] = {{"fc.", "fc."},         {"fc.", "linear."},
                                           {"fc.", "classifier."}, {"head.", "head."},
                                           {"phi.", "mlp."},       {"phi.", "phi."}};
    int found = find_as(r, name, "encoder.", r->encoder, "");
    const char *branch = strstr(name, ".downsample.");
    if (found < 0 && branch) {
        char renamed[NAME];
        snprintf(renamed, sizeof renamed, "%.*s.shortcut.%s", (int)(branch - name), name,
                 branch + strlen(".downsample."));
        found = find_as(r, renamed, "encoder.", r->encoder, "");
    }
    for (size_t i = 0; found < 0 && i < sizeof heads / sizeof *heads; i++)
        found = find_as(r, name, heads[i][0], r->model, heads[i][1]);
    return found;
}

static npos_status read_param(reading *r, int i, int from) {
    const npi_param *p = &r->params->list[i];
    const char *name = npi_weights_at(r->weights, from)->name;
    float *values;
    NPI_TRY(npi_alloc(&values, p->count, sizeof *values, name));
    npos_status status = npi_weights_get(r->weights, name, p->ndim, p->shape, values);
    for (size_t k = 0; status == NPOS_OK && k < p->count; k++)
        if (!isfinite(values[k]))
            status = npi_fail(NPOS_BAD_DATA, "%s: '%s' holds %g at place %zu",
                              npi_weights_path(r->weights), name, (double)values[k], k);
    if (status == NPOS_OK)
        status = npi_param_set(r->params, NPI_ARENA_VALUES, i, values);
    npi_free(values);
    return status;
}

/* Passes over heads that the model lacks and counters that no one needs; everything else is too many. */
static void leave(reading *r, const char *name) {
    static const char *const heads[] = {"fc.",  "linear.", "classifier.", "head.",
                                        "mlp.", "phi.",    "prototypes"};
    if (!begins(name, r->model) || ends(name, "num_batches_tracked"))
        return;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (begins(name + strlen(r->model), heads[i])) {
            npi_name_list_add(r->left, name);
            return;
        }
    npi_name_list_add(&r->extra, name);
}

static npos_status read_all(reading *r) {
    const char *path = npi_weights_path(r->weights);
    NPI_TRY(find_prefixes(r));
    for (int i = 0; i < r->params->count; i++) {
        int from = find_tensor(r, r->params->list[i].name);
        if (from < 0)
            npi_name_list_add(&r->missing, r->params->list[i].name);
        else
            r->used[from] = true;
    }
    for (int i = 0; i < npi_weights_count(r->weights); i++)
        if (!r->used[i])
            leave(r, npi_weights_at(r->weights, i)->name);
    NPI_TRY(npi_name_lists_fail(path, &r->missing, &r->extra));
    NPI_TRY(npi_weights_check(r->weights));
    for (int i = 0; i < r->params->count; i++)
        NPI_TRY(read_param(r, i, find_tensor(r, r->params->list[i].name)));
    return NPOS_OK;
}

npos_status npi_foreign_read(npi_params *params, const char *path, npi_name_list *left) {
    reading r = {.params = params, .left = left};
    NPI_TRY(npi_weights_open(path, &r.weights));
    npos_status status =
        npi_alloc(&r.used, (size_t)npi_weights_count(r.weights) + 1, sizeof *r.used, "tensors");
    if (status == NPOS_OK)
        status = read_all(&r);
    npi_free(r.used);
    npi_weights_close(r.weights);
    return status;
}
