#include "jobs/clip_file.h"

#include <math.h>

#include "base/memory.h"
#include "jobs/clip_names.h"

/* Reads one tensor, `count` numbers, of rows x columns where the file has them transposed. */
static npos_status read_tensor(const npi_clip_weights *file, const char *name, bool transposed,
                               int ndim, const int64_t *shape, size_t count, float *to,
                               float *room) {
    const int64_t turned[2] = {shape[1], shape[0]};
    NPI_TRY(npi_weights_get(file->weights, name, ndim, transposed ? turned : shape,
                            transposed ? room : to));
    if (transposed)
        for (int64_t i = 0; i < shape[0]; i++)
            for (int64_t j = 0; j < shape[1]; j++)
                to[i * shape[1] + j] = room[j * shape[0] + i];
    for (size_t i = 0; i < count; i++)
        if (!isfinite(to[i]))
            return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s' holds numbers that are not finite",
                            npi_weights_path(file->weights), name);
    return NPOS_OK;
}

static npos_status read_param(const npi_clip_weights *file, npi_params *params, int i, float *host,
                              float *room, bool *used) {
    const npi_param *p = &params->list[i];
    npi_clip_source source;
    int64_t shape[4] = {p->shape[0], p->shape[1], p->shape[2], p->shape[3]};
    npi_clip_source_of(file, p->name, &source);
    shape[0] /= source.count;
    size_t part = p->count / (size_t)source.count;
    for (int k = 0; k < source.count; k++) {
        NPI_TRY(read_tensor(file, source.names[k], source.transposed, p->ndim, shape, part,
                            host + (size_t)k * part, room));
        used[npi_weights_find(file->weights, source.names[k])] = true;
    }
    return npi_param_set(params, NPI_ARENA_VALUES, i, host);
}

static npos_status read_tower(const npi_clip_weights *file, npi_params *params, bool *used) {
    size_t largest = 1;
    float *host, *room = NULL;
    npos_status status;
    for (int i = 0; i < params->count; i++)
        largest = params->list[i].count > largest ? params->list[i].count : largest;
    NPI_TRY(npi_alloc(&host, largest, sizeof *host, "weights"));
    NPI_TRY_GOTO(npi_alloc(&room, largest, sizeof *room, "weights"), done);
    for (int i = 0; i < params->count; i++)
        NPI_TRY_GOTO(read_param(file, params, i, host, room, used), done);
done:
    npi_free(room);
    npi_free(host);
    return status;
}

/* Every tensor was read or is known not to be needed. */
static npos_status check_all_used(const npi_clip_weights *file, npi_clip_towers towers,
                                  const bool *used) {
    const char *first = NULL;
    int more = 0;
    for (int i = 0; i < npi_weights_count(file->weights); i++) {
        const char *name = npi_weights_at(file->weights, i)->name;
        if (used[i] || npi_clip_unneeded(file, name, towers))
            continue;
        if (first)
            more++;
        else
            first = name;
    }
    if (!first)
        return NPOS_OK;
    return npi_fail(NPOS_UNSUPPORTED, "%s: tensor '%s' and %d more are not CLIP's",
                    npi_weights_path(file->weights), first, more);
}

npos_status npi_clip_load(npi_device *dev, const char *path, npi_clip_towers towers,
                          npi_clip_act act, npi_clip *out) {
    npi_clip_weights file = {0};
    npi_clip_config config;
    bool *used = NULL;
    npos_status status;
    *out = (npi_clip){.dev = dev};
    NPI_TRY_GOTO(npi_clip_weights_open(path, &file), done);
    NPI_TRY_GOTO(npi_clip_config_read(path, &file, towers, act, &config), done);
    NPI_TRY_GOTO(npi_weights_check(file.weights), done);
    NPI_TRY_GOTO(npi_clip_create(dev, &config, out), done);
    NPI_TRY_GOTO(npi_alloc(&used, (size_t)npi_weights_count(file.weights), sizeof *used, path),
                 done);
    if (towers & NPI_CLIP_VISION)
        NPI_TRY_GOTO(read_tower(&file, &out->vision.params, used), done);
    if (towers & NPI_CLIP_TEXT)
        NPI_TRY_GOTO(read_tower(&file, &out->text.params, used), done);
    status = check_all_used(&file, towers, used);
done:
    npi_free(used);
    npi_weights_close(file.weights);
    return status;
}

npos_status npi_clip_hash(const char *path, uint64_t *out) {
    npi_weights *weights;
    NPI_TRY(npi_weights_open(path, &weights));
    npos_status status = npi_weights_hash(weights, out);
    npi_weights_close(weights);
    return status;
}
