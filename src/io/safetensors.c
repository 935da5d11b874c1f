#include "io/safetensors.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"

static const struct {
    const char *name;
    npi_dtype dtype;
} types[] = {
    {"U8", NPI_U8},   {"F16", NPI_F16}, {"BF16", NPI_BF16}, {"F32", NPI_F32},
    {"F64", NPI_F64}, {"I32", NPI_I32}, {"I64", NPI_I64},
};
enum { TYPES = sizeof types / sizeof *types };

/* ---- checksum -----------------------------------------------------------------------------------
 *
 * XXH3 (64 bits) of the whole file, with zeros in place of the checksum's own digits. */

enum { DIGITS = 16 };
static const char sum_key[] = "npos_xxh3";
static const char sum_start[] =
    "\"npos_xxh3\":\""; /* within a JSON string the quotes are escaped */
static const char no_sum[DIGITS + 1] = "0000000000000000";

/* The checksum's digits in the text of a header, or NULL. */
static const char *find_sum(const char *text, size_t length) {
    const char *start = memmem(text, length, sum_start, strlen(sum_start));
    const char *digits = start ? start + strlen(sum_start) : NULL;
    return digits && length - (size_t)(digits - text) >= DIGITS ? digits : NULL;
}

static void format_sum(uint64_t sum, char out[DIGITS + 1]) {
    snprintf(out, DIGITS + 1, "%016" PRIx64, sum);
}

/* ---- writing ------------------------------------------------------------------------------------
 */

static size_t bytes_of(const npi_named_tensor *tensor) {
    size_t bytes = npi_dtype_bytes(tensor->dtype);
    for (int i = 0; i < tensor->ndim; i++)
        bytes *= (size_t)tensor->shape[i];
    return bytes;
}

static json_t *describe(const npi_named_tensor *tensor, size_t start) {
    const char *type = "";
    for (int i = 0; i < TYPES; i++)
        if (types[i].dtype == tensor->dtype)
            type = types[i].name;
    json_t *shape = json_array();
    for (int i = 0; i < tensor->ndim; i++)
        json_array_append_new(shape, json_integer(tensor->shape[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", type, "shape", shape, "data_offsets",
                     (json_int_t)start, (json_int_t)(start + bytes_of(tensor)));
}

/* The header with spaces behind it up to a multiple of 8, to be freed with npi_free; its checksum is that of header
 * and tensors. */
static npos_status finish_header(const char *path, json_t *header, const npi_named_tensor *tensors,
                                 int count, char **out, uint64_t *length) {
    char *text = json_dumps(header, JSON_COMPACT), *padded = NULL, sum[DIGITS + 1];
    if (!text)
        return npi_fail(NPOS_OUT_OF_MEMORY, "%s: cannot build the header", path);
    *length = (strlen(text) + 7) / 8 * 8;
    npos_status status = npi_format(&padded, "%-*s", (int)*length, text);
    XXH3_state_t *state = status == NPOS_OK ? XXH3_createState() : NULL;
    if (status == NPOS_OK && !state)
        status = npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the checksum", path);
    if (status == NPOS_OK) {
        XXH3_64bits_reset(state);
        XXH3_64bits_update(state, length, sizeof *length);
        XXH3_64bits_update(state, padded, *length);
        for (size_t width = 8; width >= 1; width /= 2)
            for (int i = 0; i < count; i++)
                if (npi_dtype_bytes(tensors[i].dtype) == width && bytes_of(&tensors[i]) != 0)
                    XXH3_64bits_update(state, tensors[i].data, bytes_of(&tensors[i]));
        format_sum(XXH3_64bits_digest(state), sum);
        memcpy(padded + (find_sum(padded, *length) - padded), sum, DIGITS);
        *out = padded;
    } else {
        npi_free(padded);
    }
    XXH3_freeState(state);
    free(text);
    return status;
}

npos_status npi_safetensors_write(const char *path, const npi_named_tensor *tensors, int count,
                                  const char *const *metadata) {
    npos_status status = NPOS_OK;
    npi_atomic file = {0};
    char *text = NULL;
    uint64_t length;
    size_t start = 0;
    json_t *header = json_object(), *pairs = json_object();
    json_object_set_new(pairs, sum_key, json_string(no_sum));
    for (; metadata && *metadata; metadata += 2)
        json_object_set_new(pairs, metadata[0], json_string(metadata[1]));
    json_object_set_new(header, "__metadata__", pairs);
    for (size_t width = 8; width >= 1; width /= 2)
        for (int i = 0; i < count; i++) {
            if (npi_dtype_bytes(tensors[i].dtype) != width)
                continue;
            if (json_object_get(header, tensors[i].name)) {
                status = npi_fail(NPOS_INTERNAL, "%s: two tensors are called '%s'", path,
                                  tensors[i].name);
                goto done;
            }
            json_object_set_new(header, tensors[i].name, describe(&tensors[i], start));
            start += bytes_of(&tensors[i]);
        }
    NPI_TRY_GOTO(finish_header(path, header, tensors, count, &text, &length), done);
    NPI_TRY_GOTO(npi_atomic_open(&file, path), done);
    fwrite(&length, sizeof length, 1, file.stream);
    fwrite(text, 1, length, file.stream);
    for (size_t width = 8; width >= 1; width /= 2)
        for (int i = 0; i < count; i++)
            if (npi_dtype_bytes(tensors[i].dtype) == width && bytes_of(&tensors[i]) != 0)
                fwrite(tensors[i].data, 1, bytes_of(&tensors[i]), file.stream);
    status = npi_atomic_commit(&file);
done:
    npi_atomic_abort(&file);
    npi_free(text);
    json_decref(header);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------
 */

struct npi_safetensors {
    char *path;
    void *map;
    size_t size;
    json_t *header; /* owns the names and the metadata's strings */
    int count;
    npi_named_tensor *tensors;
};

/* Reads the `dtype`, `shape` and `data_offsets` of one entry; `body` is what the file holds behind
 * the header. */
static npos_status read_entry(const npi_safetensors *file, const char *name, json_t *entry,
                              const char *body, size_t body_bytes, npi_named_tensor *out) {
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    json_t *shape = json_object_get(entry, "shape");
    json_t *offsets = json_object_get(entry, "data_offsets");
    if (!type || !json_is_array(shape) || json_array_size(offsets) != 2)
        return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s' lacks dtype, shape or data_offsets",
                        file->path, name);
    int found = -1;
    for (int i = 0; i < TYPES; i++)
        if (strcmp(type, types[i].name) == 0)
            found = i;
    if (found < 0)
        return npi_fail(NPOS_UNSUPPORTED, "%s: tensor '%s' has elements of type %s", file->path,
                        name, type);
    size_t ndim = json_array_size(shape);
    if (ndim > NPI_TENSOR_MAX_DIMS)
        return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s' has %zu dimensions, at most %d are read",
                        file->path, name, ndim, NPI_TENSOR_MAX_DIMS);
    out->name = name;
    out->dtype = types[found].dtype;
    out->ndim = (int)ndim;
    uint64_t bytes = npi_dtype_bytes(out->dtype);
    for (size_t i = 0; i < ndim; i++) {
        json_t *size = json_array_get(shape, i);
        json_int_t value = json_is_integer(size) ? json_integer_value(size) : -1;
        if (value < 0 || (value > 0 && bytes > UINT64_MAX / 2 / (uint64_t)value))
            return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s' has an impossible shape", file->path,
                            name);
        out->shape[i] = value;
        bytes *= (uint64_t)value;
    }
    json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    json_int_t first = json_is_integer(from) ? json_integer_value(from) : -1;
    json_int_t last = json_is_integer(to) ? json_integer_value(to) : -1;
    if (first < 0 || last < first || (uint64_t)last > body_bytes)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: tensor '%s' lies at bytes %" PRId64 " to %" PRId64
                        ", the file holds %zu: it is truncated or damaged",
                        file->path, name, (int64_t)first, (int64_t)last, body_bytes);
    if ((uint64_t)(last - first) != bytes)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: tensor '%s' has %" PRId64 " bytes, its shape needs %" PRIu64,
                        file->path, name, (int64_t)(last - first), bytes);
    out->data = body + first;
    return NPOS_OK;
}

/* Files of other programs have no checksum. */
static npos_status check_sum(const npi_safetensors *file, const char *text, size_t length) {
    const char *written = npi_safetensors_metadata(file, sum_key);
    if (!written)
        return NPOS_OK;
    const char *digits = find_sum(text, length), *start = file->map;
    char sum[DIGITS + 1] = "";
    if (digits) {
        XXH3_state_t *state = XXH3_createState();
        if (!state)
            return npi_fail(NPOS_OUT_OF_MEMORY, "%s: no memory for the checksum", file->path);
        XXH3_64bits_reset(state);
        XXH3_64bits_update(state, start, (size_t)(digits - start));
        XXH3_64bits_update(state, no_sum, DIGITS);
        digits += DIGITS;
        XXH3_64bits_update(state, digits, file->size - (size_t)(digits - start));
        format_sum(XXH3_64bits_digest(state), sum);
        XXH3_freeState(state);
    }
    if (strcmp(sum, written) == 0)
        return NPOS_OK;
    return npi_hint(
        npi_fail(NPOS_BAD_DATA, "%s: damaged: the checksum of its bytes is %s, %s was written",
                 file->path, sum, written),
        "bring back a copy of the file; a program that changed it on purpose must leave '%s' out "
        "of the metadata",
        sum_key);
}

static npos_status read_header(npi_safetensors *file) {
    uint64_t length;
    if (file->size < sizeof length)
        return npi_fail(NPOS_BAD_DATA, "%s: %zu bytes, too short for safetensors", file->path,
                        file->size);
    memcpy(&length, file->map, sizeof length);
    const char *text = (const char *)file->map + sizeof length;
    size_t rest = file->size - sizeof length;
    if (length > rest)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: the header claims %" PRIu64
                        " bytes, the file has %zu: not safetensors, "
                        "or truncated",
                        file->path, length, rest);
    json_error_t error;
    file->header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(file->header))
        return npi_fail(NPOS_BAD_DATA, "%s: the header is not a JSON object: %s", file->path,
                        error.text);
    NPI_TRY(npi_alloc(&file->tensors, json_object_size(file->header), sizeof *file->tensors,
                      "tensor list"));
    const char *name;
    json_t *entry;
    json_object_foreach(file->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        NPI_TRY(read_entry(file, name, entry, text + length, rest - length,
                           &file->tensors[file->count]));
        file->count++;
    }
    return check_sum(file, text, length);
}

npos_status npi_safetensors_open(const char *path, npi_safetensors **out) {
    *out = NULL;
    npi_safetensors *file = NULL;
    struct stat info;
    npos_status status;
    if (!npi_is_file(path))
        return npi_fail(NPOS_NOT_FOUND, "%s: no such file", path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return npi_fail_errno("%s: cannot open", path);
    NPI_TRY_GOTO(npi_alloc(&file, 1, sizeof *file, path), done);
    NPI_TRY_GOTO(npi_strdup(&file->path, path), done);
    if (fstat(fd, &info) != 0) {
        status = npi_fail_errno("%s: cannot stat", path);
        goto done;
    }
    file->size = (size_t)info.st_size;
    if (file->size != 0) {
        file->map = mmap(NULL, file->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file->map == MAP_FAILED) {
            file->map = NULL;
            status = npi_fail_errno("%s: cannot map", path);
            goto done;
        }
    }
    status = read_header(file);
done:
    close(fd);
    if (status == NPOS_OK)
        *out = file;
    else
        npi_safetensors_close(file);
    return status;
}

void npi_safetensors_close(npi_safetensors *file) {
    if (!file)
        return;
    if (file->map)
        munmap(file->map, file->size);
    json_decref(file->header);
    npi_free(file->tensors);
    npi_free(file->path);
    npi_free(file);
}

int npi_safetensors_count(const npi_safetensors *file) {
    return file->count;
}

const npi_named_tensor *npi_safetensors_at(const npi_safetensors *file, int i) {
    return &file->tensors[i];
}

const npi_named_tensor *npi_safetensors_find(const npi_safetensors *file, const char *name) {
    for (int i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0)
            return &file->tensors[i];
    return NULL;
}

/* "[64, 3, 3, 3]", a -1 as "any". */
static void format_shape(char text[160], int ndim, const int64_t *shape) {
    int used = snprintf(text, 160, "[");
    for (int i = 0; i < ndim && used < 140; i++) {
        const char *comma = i == 0 ? "" : ", ";
        if (shape[i] < 0)
            used += snprintf(text + used, 160 - (size_t)used, "%sany", comma);
        else
            used += snprintf(text + used, 160 - (size_t)used, "%s%" PRId64, comma, shape[i]);
    }
    snprintf(text + used, 160 - (size_t)used, "]");
}

npos_status npi_safetensors_get(const npi_safetensors *file, const char *name, npi_dtype dtype,
                                int ndim, const int64_t *shape, const npi_named_tensor **out) {
    *out = NULL;
    const npi_named_tensor *tensor = npi_safetensors_find(file, name);
    if (!tensor)
        return npi_fail(NPOS_NOT_FOUND, "%s: has no tensor '%s'", file->path, name);
    int fits = tensor->ndim == ndim && tensor->dtype == dtype;
    for (int i = 0; fits && i < ndim; i++)
        fits = shape[i] < 0 || shape[i] == tensor->shape[i];
    if (!fits) {
        char seen[160], expected[160];
        format_shape(seen, tensor->ndim, tensor->shape);
        format_shape(expected, ndim, shape);
        return npi_fail(NPOS_SHAPE_MISMATCH, "%s: tensor '%s' is %s %s, expected %s %s", file->path,
                        name, npi_dtype_name(tensor->dtype), seen, npi_dtype_name(dtype), expected);
    }
    *out = tensor;
    return NPOS_OK;
}

const char *npi_safetensors_metadata(const npi_safetensors *file, const char *key) {
    return json_string_value(json_object_get(json_object_get(file->header, "__metadata__"), key));
}
