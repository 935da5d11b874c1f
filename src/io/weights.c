#include "io/weights.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/pt_file.h"

enum { MOST_FILES = 4096, PART = 1024 };

/* One file: exactly one of the two is open. */
typedef struct source {
    char *path;
    npi_safetensors *safetensors;
    npi_pt *pt;
} source;

typedef struct place {
    const npi_named_tensor *tensor;
    int file, index; /* number of the source, and of the tensor in it */
} place;

struct npi_weights {
    char *path;
    source *sources;
    int files;
    place *places; /* by name */
    int count;
};

/* ---- files --------------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *tail) {
    size_t length = strlen(text), part = strlen(tail);
    return length >= part && strcmp(text + length - part, tail) == 0;
}

static int count_of(const source *file) {
    return file->pt ? npi_pt_count(file->pt) : npi_safetensors_count(file->safetensors);
}

static const npi_named_tensor *tensor_of(const source *file, int i) {
    return file->pt ? npi_pt_at(file->pt, i) : npi_safetensors_at(file->safetensors, i);
}

/* Opens `path` into the next source, which there is room for. */
static npos_status open_source(npi_weights *weights, const char *path) {
    source *file = &weights->sources[weights->files];
    NPI_TRY(npi_strdup(&file->path, path));
    weights->files++; /* what has been opened is closed with the rest */
    return ends_with(path, ".safetensors") ? npi_safetensors_open(path, &file->safetensors)
                                           : npi_pt_open(path, &file->pt);
}

static int compare_places(const void *a, const void *b) {
    return strcmp(((const place *)a)->tensor->name, ((const place *)b)->tensor->name);
}

/* Sorts the places and refuses two of one name. */
static npos_status sort_places(npi_weights *weights) {
    qsort(weights->places, (size_t)weights->count, sizeof *weights->places, compare_places);
    for (int i = 1; i < weights->count; i++)
        if (compare_places(&weights->places[i - 1], &weights->places[i]) == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: two tensors are called '%s'", weights->path,
                            weights->places[i].tensor->name);
    return NPOS_OK;
}

static npos_status open_one(npi_weights *weights, const char *path) {
    NPI_TRY(npi_alloc(&weights->sources, 1, sizeof *weights->sources, path));
    NPI_TRY(open_source(weights, path));
    int count = count_of(&weights->sources[0]);
    NPI_TRY(npi_alloc(&weights->places, (size_t)count, sizeof *weights->places, path));
    for (; weights->count < count; weights->count++)
        weights->places[weights->count] =
            (place){tensor_of(&weights->sources[0], weights->count), 0, weights->count};
    return sort_places(weights);
}

/* ---- shards -------------------------------------------------------------------------------------- */

/* The shards' names, each once, as the keys of *out (a JSON object; values: their numbers). */
static npos_status list_shards(const char *path, json_t *map, json_t *out) {
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const char *shard = json_string_value(value);
        if (!shard || !*shard || strchr(shard, '/') || strcmp(shard, "..") == 0)
            return npi_fail(NPOS_BAD_DATA,
                            "%s: weight_map: the file of '%s' is not the name of a file beside it",
                            path, name);
        if (json_object_get(out, shard))
            continue;
        if (json_object_size(out) == MOST_FILES)
            return npi_fail(NPOS_UNSUPPORTED, "%s: more than %d files", path, MOST_FILES);
        if (json_object_set_new(out, shard, json_integer((json_int_t)json_object_size(out))) != 0)
            return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for its files' names", path);
    }
    return NPOS_OK;
}

/* Opens the shards in the order of their numbers; all that are missing are named, or the first few. */
static npos_status open_shards(npi_weights *weights, const char *path, json_t *shards) {
    const char *shard;
    json_t *unused;
    char missing[PART] = "";
    int absent = 0;
    size_t folder = (size_t)(npi_path_name(path) - path);
    NPI_TRY(npi_alloc(&weights->sources, json_object_size(shards), sizeof *weights->sources, path));
    json_object_foreach(shards, shard, unused) {
        char *whole;
        NPI_TRY(npi_format(&whole, "%.*s%s", (int)folder, path, shard));
        npos_status status = NPOS_OK;
        if (!npi_is_file(whole)) {
            size_t used = strlen(missing);
            if (absent++ < 5)
                snprintf(missing + used, sizeof missing - used, "%s%.150s", used ? ", " : "",
                         shard);
        } else if (absent == 0) {
            status = open_source(weights, whole);
        }
        npi_free(whole);
        NPI_TRY(status);
    }
    if (absent)
        return npi_hint(npi_fail(NPOS_NOT_FOUND, "%s: %d of %zu files are missing: %s%s", path,
                                 absent, json_object_size(shards), missing,
                                 absent > 5 ? ", ..." : ""),
                        "put them into the same folder");
    return NPOS_OK;
}

/* Places of the names that the map lists, each in the file it tells. */
static npos_status place_names(npi_weights *weights, const char *path, json_t *map,
                               json_t *shards) {
    NPI_TRY(npi_alloc(&weights->places, json_object_size(map), sizeof *weights->places, path));
    for (int file = 0; file < weights->files; file++) {
        const source *from = &weights->sources[file];
        for (int i = 0; i < count_of(from); i++) {
            const npi_named_tensor *tensor = tensor_of(from, i);
            const char *shard = json_string_value(json_object_get(map, tensor->name));
            if (shard && json_integer_value(json_object_get(shards, shard)) == file)
                weights->places[weights->count++] = (place){tensor, file, i};
        }
    }
    NPI_TRY(sort_places(weights));
    const char *name;
    json_t *shard;
    json_object_foreach(map, name, shard) {
        if (npi_weights_find(weights, name) < 0)
            return npi_fail(NPOS_BAD_DATA, "%s: weight_map: tensor '%s' is not in %s", path, name,
                            json_string_value(shard));
    }
    return NPOS_OK;
}

static npos_status open_index(npi_weights *weights, const char *path) {
    char *text;
    size_t size;
    npos_status status = NPOS_OK;
    json_error_t error;
    NPI_TRY(npi_file_read(path, &text, &size));
    json_t *index = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    json_t *map = json_object_get(index, "weight_map"), *shards = json_object();
    if (!json_is_object(map))
        status = npi_fail(NPOS_BAD_DATA, "%s: no index of shards: %s", path,
                          index ? "it has no weight_map" : error.text);
    if (status == NPOS_OK)
        status = list_shards(path, map, shards);
    if (status == NPOS_OK)
        status = open_shards(weights, path, shards);
    if (status == NPOS_OK)
        status = place_names(weights, path, map, shards);
    json_decref(shards);
    json_decref(index);
    npi_free(text);
    return status;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static npos_status open_file(npi_weights *weights, const char *path) {
    return ends_with(path, ".index.json") ? open_index(weights, path) : open_one(weights, path);
}

static npos_status open_folder(npi_weights *weights, const char *folder) {
    static const char *const names[] = {
        "model.safetensors",           "model.safetensors.index.json",
        "pytorch_model.bin",           "pytorch_model.bin.index.json",
        "open_clip_model.safetensors", "open_clip_pytorch_model.bin",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path;
        NPI_TRY(npi_path_join(&path, folder, names[i]));
        bool there = npi_is_file(path);
        npos_status status = there ? open_file(weights, path) : NPOS_OK;
        npi_free(path);
        if (there)
            return status;
    }
    return npi_hint(npi_fail(NPOS_NOT_FOUND,
                             "%s: holds no weights: expected model.safetensors, its index "
                             "model.safetensors.index.json, or pytorch_model.bin",
                             folder),
                    "a file may also be named itself, e.g. %s/ViT-B-16.pt", folder);
}

npos_status npi_weights_open(const char *path, npi_weights **out) {
    *out = NULL;
    npi_weights *weights = NULL;
    npos_status status;
    NPI_TRY(npi_alloc(&weights, 1, sizeof *weights, path));
    NPI_TRY_GOTO(npi_strdup(&weights->path, path), done);
    if (npi_is_folder(path))
        status = open_folder(weights, path);
    else if (npi_is_file(path))
        status = open_file(weights, path);
    else
        status = npi_fail(NPOS_NOT_FOUND, "%s: no such file or folder", path);
done:
    if (status == NPOS_OK)
        *out = weights;
    else
        npi_weights_close(weights);
    return status;
}

void npi_weights_close(npi_weights *weights) {
    if (!weights)
        return;
    for (int i = 0; i < weights->files; i++) {
        npi_safetensors_close(weights->sources[i].safetensors);
        npi_pt_close(weights->sources[i].pt);
        npi_free(weights->sources[i].path);
    }
    npi_free(weights->sources);
    npi_free(weights->places);
    npi_free(weights->path);
    npi_free(weights);
}

const char *npi_weights_path(const npi_weights *weights) {
    return weights->path;
}

int npi_weights_count(const npi_weights *weights) {
    return weights->count;
}

const npi_named_tensor *npi_weights_at(const npi_weights *weights, int i) {
    return weights->places[i].tensor;
}

int npi_weights_find(const npi_weights *weights, const char *name) {
    int low = 0, high = weights->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(name, weights->places[middle].tensor->name);
        if (order == 0)
            return middle;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

int64_t npi_weights_elements(const npi_weights *weights, int i) {
    const npi_named_tensor *tensor = weights->places[i].tensor;
    for (int d = 0; d < tensor->ndim; d++)
        if (tensor->shape[d] == 0)
            return 0; /* the product of the others may be beyond all numbers */
    int64_t count = 1;
    for (int d = 0; d < tensor->ndim; d++)
        count *= tensor->shape[d];
    return count;
}

/* ---- reading ------------------------------------------------------------------------------------- */

static npos_status check_range(const npi_weights *weights, int i, int64_t first, int64_t count) {
    int64_t elements = npi_weights_elements(weights, i);
    if (first >= 0 && count >= 0 && first <= elements && count <= elements - first)
        return NPOS_OK;
    return npi_fail(NPOS_INVALID_ARGUMENT,
                    "%s: tensor '%s': %" PRId64 " elements from %" PRId64 " on, it has %" PRId64,
                    weights->path, weights->places[i].tensor->name, count, first, elements);
}

static npos_status wrong_type(const npi_weights *weights, int i, const char *expected) {
    const place *at = &weights->places[i];
    return npi_fail(NPOS_UNSUPPORTED, "%s: tensor '%s' is %s, expected %s",
                    weights->sources[at->file].path, at->tensor->name,
                    npi_dtype_name(at->tensor->dtype), expected);
}

/* The tensor's elements as they lie in the file. */
static void read_raw(const npi_weights *weights, int i, int64_t first, int64_t count, void *out) {
    const place *at = &weights->places[i];
    const source *from = &weights->sources[at->file];
    size_t width = npi_dtype_bytes(at->tensor->dtype);
    if (from->pt)
        npi_pt_read(from->pt, at->index, first, count, out);
    else if (count)
        memcpy(out, (const char *)at->tensor->data + (size_t)first * width, (size_t)count * width);
}

npos_status npi_weights_read(const npi_weights *weights, int i, int64_t first, int64_t count,
                             float *out) {
    union {
        uint16_t half[PART];
        double wide[PART];
    } part;
    npi_dtype dtype = weights->places[i].tensor->dtype;
    NPI_TRY(check_range(weights, i, first, count));
    if (dtype == NPI_F32) {
        read_raw(weights, i, first, count, out);
        return NPOS_OK;
    }
    if (dtype != NPI_F16 && dtype != NPI_BF16 && dtype != NPI_F64)
        return wrong_type(weights, i, "float16, bfloat16, float32 or float64");
    for (int64_t done = 0; done < count; done += PART) {
        int64_t n = count - done < PART ? count - done : PART;
        read_raw(weights, i, first + done, n, &part);
        for (int64_t k = 0; k < n; k++)
            out[done + k] = dtype == NPI_F16    ? npi_f16_to_f32(part.half[k])
                            : dtype == NPI_BF16 ? npi_bf16_to_f32(part.half[k])
                                                : (float)part.wide[k];
    }
    return NPOS_OK;
}

npos_status npi_weights_read_i64(const npi_weights *weights, int i, int64_t first, int64_t count,
                                 int64_t *out) {
    union {
        uint8_t bytes[PART];
        int32_t words[PART];
    } part;
    npi_dtype dtype = weights->places[i].tensor->dtype;
    NPI_TRY(check_range(weights, i, first, count));
    if (dtype == NPI_I64) {
        read_raw(weights, i, first, count, out);
        return NPOS_OK;
    }
    if (dtype != NPI_U8 && dtype != NPI_I32)
        return wrong_type(weights, i, "uint8, int32 or int64");
    for (int64_t done = 0; done < count; done += PART) {
        int64_t n = count - done < PART ? count - done : PART;
        read_raw(weights, i, first + done, n, &part);
        for (int64_t k = 0; k < n; k++)
            out[done + k] = dtype == NPI_U8 ? part.bytes[k] : part.words[k];
    }
    return NPOS_OK;
}

/* Room for 8 sizes of 19 digits. */
enum { SHAPE_TEXT = 200 };

/* "[64, 3, 3]", a -1 as "any". */
static void format_shape(char out[SHAPE_TEXT], int ndim, const int64_t *shape) {
    size_t used = 1;
    out[0] = '[';
    for (int i = 0; i < ndim && i < NPI_TENSOR_MAX_DIMS; i++) {
        const char *comma = i ? ", " : "";
        size_t room = SHAPE_TEXT - used;
        used += (size_t)(shape[i] < 0 ? snprintf(out + used, room, "%sany", comma)
                                      : snprintf(out + used, room, "%s%" PRId64, comma, shape[i]));
    }
    snprintf(out + used, SHAPE_TEXT - used, "]");
}

npos_status npi_weights_get(const npi_weights *weights, const char *name, int ndim,
                            const int64_t *shape, float *out) {
    int i = npi_weights_find(weights, name);
    if (i < 0)
        return npi_fail(NPOS_NOT_FOUND, "%s: has no tensor '%s'", weights->path, name);
    const npi_named_tensor *tensor = weights->places[i].tensor;
    bool fits = tensor->ndim == ndim;
    for (int d = 0; fits && d < ndim; d++)
        fits = shape[d] < 0 || shape[d] == tensor->shape[d];
    if (!fits) {
        char seen[SHAPE_TEXT], expected[SHAPE_TEXT];
        format_shape(seen, tensor->ndim, tensor->shape);
        format_shape(expected, ndim, shape);
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: tensor '%s' is %s, expected %s", weights->path,
                        name, seen, expected);
    }
    return npi_weights_read(weights, i, 0, npi_weights_elements(weights, i), out);
}

npos_status npi_weights_check(npi_weights *weights) {
    for (int i = 0; i < weights->count; i++) {
        const place *at = &weights->places[i];
        if (weights->sources[at->file].pt)
            NPI_TRY(npi_pt_check(weights->sources[at->file].pt, at->index));
    }
    return NPOS_OK;
}

npos_status npi_weights_hash(const npi_weights *weights, uint64_t *out) {
    unsigned char part[64 * PART];
    XXH3_state_t *state = XXH3_createState();
    *out = 0;
    if (!state)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for a hash", weights->path);
    XXH3_64bits_reset(state);
    for (int i = 0; i < weights->count; i++) {
        const npi_named_tensor *tensor = weights->places[i].tensor;
        const char *type = npi_dtype_name(tensor->dtype);
        int64_t width = (int64_t)npi_dtype_bytes(tensor->dtype),
                most = (int64_t)sizeof part / width;
        int64_t elements = npi_weights_elements(weights, i);
        XXH3_64bits_update(state, tensor->name, strlen(tensor->name) + 1);
        XXH3_64bits_update(state, type, strlen(type) + 1);
        XXH3_64bits_update(state, tensor->shape, (size_t)tensor->ndim * sizeof *tensor->shape);
        for (int64_t done = 0; done < elements; done += most) {
            int64_t n = elements - done < most ? elements - done : most;
            read_raw(weights, i, done, n, part);
            XXH3_64bits_update(state, part, (size_t)(n * width));
        }
    }
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    *out = hash ? hash : 1;
    return NPOS_OK;
}
