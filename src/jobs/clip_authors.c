#include "jobs/clip_authors.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "io/weights.h"
#include "jobs/name_list.h"

enum { NAME = 160 };

/* Sizes that a dimension stands for: of the tower's rows, three of them stacked, the MLP's hidden rows,
 * the embedding, the head's width (which the file says), one. */
typedef enum size_kind { NONE, WIDTH, THREE, HIDDEN, PROJECTION, HEAD, ONE } size_kind;

typedef struct entry {
    const char *theirs, *ours;
    size_kind shape[2]; /* as in the file */
    bool transposed;    /* ours is */
} entry;

/* Of a block, behind "transformer_resblocks.blockI." and "vision_model.encoder.layers.N.". */
static const entry block_entries[] = {
    {"ln_1.weight", "layer_norm1.weight", {WIDTH}, false},
    {"ln_1.bias", "layer_norm1.bias", {WIDTH}, false},
    {"attn.in_proj_weight", "self_attn.qkv_proj.weight", {THREE, WIDTH}, false},
    {"attn.in_proj_bias", "self_attn.qkv_proj.bias", {THREE}, false},
    {"attn.out_proj.weight", "self_attn.out_proj.weight", {WIDTH, WIDTH}, false},
    {"attn.out_proj.bias", "self_attn.out_proj.bias", {WIDTH}, false},
    {"ln_2.weight", "layer_norm2.weight", {WIDTH}, false},
    {"ln_2.bias", "layer_norm2.bias", {WIDTH}, false},
    {"mlp.c_fc.weight", "mlp.fc1.weight", {HIDDEN, WIDTH}, false},
    {"mlp.c_fc.bias", "mlp.fc1.bias", {HIDDEN}, false},
    {"mlp.c_proj.weight", "mlp.fc2.weight", {WIDTH, HIDDEN}, false},
    {"mlp.c_proj.bias", "mlp.fc2.bias", {WIDTH}, false}};

static const entry tail_entries[] = {
    {"ln_post.weight", "vision_model.post_layernorm.weight", {WIDTH}, false},
    {"ln_post.bias", "vision_model.post_layernorm.bias", {WIDTH}, false},
    {"proj", "visual_projection.weight", {WIDTH, PROJECTION}, true}};

static const entry head_entries[] = {
    {"outlier_MLP.0.weight", "phi.0.weight", {HEAD, PROJECTION}, false},
    {"outlier_MLP.0.bias", "phi.0.bias", {HEAD}, false},
    {"outlier_MLP.2.weight", "phi.2.weight", {ONE, HEAD}, false},
    {"outlier_MLP.2.bias", "phi.2.bias", {ONE}, false}};

#define COUNT(table) (int)(sizeof(table) / sizeof *(table))

typedef struct reading {
    const npi_clip_config *config;
    npi_weights *weights;
    const char *prefix; /* "" or "module." */
    int head;           /* width of the outlier head */
    bool *used;         /* [tensors] */
    npi_name_list missing, extra;
} reading;

void npi_clip_authors_clear(npi_clip_authors *authors) {
    if (authors->tuned.dev) {
        npi_params_free(&authors->tuned);
        npi_params_free(&authors->phi);
    }
    *authors = (npi_clip_authors){0};
}

static int64_t size_of(const reading *r, size_kind kind) {
    const npi_clip_tower_config *tower = &r->config->vision;
    switch (kind) {
    case WIDTH:
        return tower->width;
    case THREE:
        return 3 * (int64_t)tower->width;
    case HIDDEN:
        return tower->hidden;
    case PROJECTION:
        return r->config->projection;
    case HEAD:
        return r->head;
    default:
        return 1;
    }
}

static void their_name(const reading *r, int block, const entry *e, char to[NAME]) {
    if (block < 0)
        snprintf(to, NAME, "%s%s", r->prefix, e->theirs);
    else
        snprintf(to, NAME, "%stransformer_resblocks.block%d.%s", r->prefix, block, e->theirs);
}

/* One parameter: declared when `add`, else read into it. */
static npos_status one(reading *r, int first, int block, const entry *e, bool add,
                       npi_params *params) {
    char theirs[NAME], ours[NAME];
    int ndim = e->shape[1] == NONE ? 1 : 2, unused;
    int64_t shape[2] = {size_of(r, e->shape[0]), ndim > 1 ? size_of(r, e->shape[1]) : 1};
    int64_t turned[2] = {shape[1], shape[0]};
    their_name(r, block, e, theirs);
    if (block < 0)
        snprintf(ours, NAME, "%s", e->ours);
    else
        snprintf(ours, NAME, "vision_model.encoder.layers.%d.%s", first + block, e->ours);
    int found = npi_weights_find(r->weights, theirs);
    if (add) {
        if (found < 0)
            npi_name_list_add(&r->missing, theirs);
        else
            r->used[found] = true;
        return npi_params_add(params, ours, ndim, e->transposed ? turned : shape, false, false,
                              &unused);
    }
    int i = npi_params_find(params, ours);
    size_t count = params->list[i].count;
    float *file = NULL, *values = NULL;
    npos_status status;
    NPI_TRY_GOTO(npi_alloc(&file, count, sizeof *file, theirs), done);
    NPI_TRY_GOTO(npi_alloc(&values, count, sizeof *values, theirs), done);
    NPI_TRY_GOTO(npi_weights_get(r->weights, theirs, ndim, shape, file), done);
    for (size_t k = 0; k < count; k++) {
        size_t columns = (size_t)shape[ndim - 1], row = k / columns, column = k % columns;
        values[e->transposed ? column * (size_t)shape[0] + row : k] = file[k];
        if (!isfinite(file[k])) {
            status = npi_fail(NPOS_BAD_DATA, "%s: '%s' holds %g at place %zu",
                              npi_weights_path(r->weights), theirs, (double)file[k], k);
            goto done;
        }
    }
    status = npi_param_set(params, NPI_ARENA_VALUES, i, values);
done:
    npi_free(file);
    npi_free(values);
    return status;
}

/* All parameters, in the tower's order. */
static npos_status all(reading *r, int first, bool add, npi_clip_authors *out) {
    for (int b = 0; b < r->config->vision.layers - first; b++)
        for (int i = 0; i < COUNT(block_entries); i++)
            NPI_TRY(one(r, first, b, &block_entries[i], add, &out->tuned));
    for (int i = 0; i < COUNT(tail_entries); i++)
        NPI_TRY(one(r, first, -1, &tail_entries[i], add, &out->tuned));
    for (int i = 0; i < COUNT(head_entries); i++)
        NPI_TRY(one(r, first, -1, &head_entries[i], add, &out->phi));
    return NPOS_OK;
}

/* How many blocks there are: one more than the largest number in a name. */
static int count_blocks(const reading *r) {
    int blocks = 0;
    char start[NAME];
    snprintf(start, sizeof start, "%stransformer_resblocks.block", r->prefix);
    for (int i = 0; i < npi_weights_count(r->weights); i++) {
        const char *name = npi_weights_at(r->weights, i)->name;
        int number, used = 0;
        if (strncmp(name, start, strlen(start)) == 0 &&
            sscanf(name + strlen(start), "%4d.%n", &number, &used) == 1 && used > 0 &&
            number >= blocks)
            blocks = number + 1;
    }
    return blocks;
}

static npos_status find_layout(reading *r, int *blocks) {
    static const char mark[] = "outlier_MLP.0.weight", module[] = "module.outlier_MLP.0.weight";
    const char *path = npi_weights_path(r->weights);
    int found = npi_weights_find(r->weights, mark);
    r->prefix = found >= 0 ? "" : "module.";
    found = found >= 0 ? found : npi_weights_find(r->weights, module);
    *blocks = count_blocks(r);
    if (found < 0 || *blocks == 0)
        return npi_hint(
            npi_fail(NPOS_UNSUPPORTED,
                     "%s: no fine-tuned CLIP of NPOS's authors: among its %d tensors there is no "
                     "'%s'",
                     path, npi_weights_count(r->weights),
                     found < 0 ? mark : "transformer_resblocks.block0"),
            "a whole CLIP model, fine-tuned or not, is WEIGHTS itself");
    if (*blocks > r->config->vision.layers)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: %d blocks, the model's image tower has %d", path,
                        *blocks, r->config->vision.layers);
    const npi_named_tensor *head = npi_weights_at(r->weights, found);
    if (head->ndim != 2 || head->shape[0] < 1 || head->shape[0] > 1 << 16)
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: '%s' is no matrix of 1 to %d rows", path,
                        head->name, 1 << 16);
    r->head = (int)head->shape[0];
    return NPOS_OK;
}

static npos_status read_all(reading *r, npi_clip_authors *out) {
    int blocks, tensors = npi_weights_count(r->weights);
    NPI_TRY(find_layout(r, &blocks));
    NPI_TRY(npi_alloc(&r->used, (size_t)tensors, sizeof *r->used, "tensors"));
    out->first = r->config->vision.layers - blocks;
    NPI_TRY(all(r, out->first, true, out));
    for (int i = 0; i < tensors; i++)
        if (!r->used[i])
            npi_name_list_add(&r->extra, npi_weights_at(r->weights, i)->name);
    NPI_TRY(npi_name_lists_fail(npi_weights_path(r->weights), &r->missing, &r->extra));
    NPI_TRY(npi_weights_check(r->weights));
    NPI_TRY(npi_params_alloc(&out->tuned, false));
    NPI_TRY(npi_params_alloc(&out->phi, false));
    return all(r, out->first, false, out);
}

npos_status npi_clip_authors_read(npi_device *dev, const char *path, const npi_clip_config *config,
                                  npi_clip_authors *out) {
    reading r = {.config = config};
    out->tuned.dev = out->phi.dev = dev;
    NPI_TRY(npi_weights_open(path, &r.weights));
    npos_status status = read_all(&r, out);
    npi_free(r.used);
    npi_weights_close(r.weights);
    return status;
}
