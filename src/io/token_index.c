#include "io/token_index.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/json_text.h"

static const char format[] = "npos-tokens-1";

/* What can be: a chunk's bytes then fit 64 bits by far. */
enum { MOST_SIDE = 1 << 20, MOST_CHUNK = 1 << 16 };

npos_status npi_token_names_hash(char *const *names, int64_t count, uint64_t *out) {
    XXH3_state_t *state = XXH3_createState();
    *out = 0;
    if (!state)
        return npi_fail(NPOS_OUT_OF_MEMORY, "no memory for a hash of names");
    XXH3_64bits_reset(state);
    for (int64_t i = 0; i < count; i++)
        XXH3_64bits_update(state, names[i], strlen(names[i]) + 1);
    uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    *out = hash ? hash : 1;
    return NPOS_OK;
}

void npi_token_info_clear(npi_token_info *info) {
    for (int i = 0; info->class_names && i < info->classes; i++)
        npi_free(info->class_names[i]);
    npi_free(info->class_names);
    npi_free(info->labels);
    npi_free(info->spec);
    npi_free(info->transform);
    *info = (npi_token_info){0};
}

size_t npi_token_image_bytes(const npi_token_info *info) {
    return (size_t)info->rows * (size_t)info->width * sizeof(uint16_t);
}

int64_t npi_token_chunks(const npi_token_info *info) {
    return (info->images + info->chunk - 1) / info->chunk;
}

int64_t npi_token_chunk_images(const npi_token_info *info, int64_t number) {
    int64_t left = info->images - number * info->chunk;
    return left < info->chunk ? left : info->chunk;
}

npos_status npi_token_chunk_path(const char *folder, int64_t number, char **out) {
    return npi_format(out, "%s/%05" PRId64 ".tok", folder, number);
}

/* ---- writing ---- */

static json_t *hex(uint64_t value) {
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    return json_string(text);
}

static json_t *text_or_null(const char *text) {
    return text ? npi_json_text(text) : json_null();
}

json_t *npi_token_index_make(const npi_token_info *info) {
    json_t *classes = json_array(), *labels = json_array(), *skipped = NULL;
    bool whole = classes && labels;
    if (info->skipped_count > 0)
        whole = (skipped = json_array()) != NULL && whole;
    for (int64_t i = 0; whole && i < info->skipped_count; i++)
        whole = json_array_append_new(skipped, npi_json_text(info->skipped[i])) == 0;
    for (int i = 0; whole && i < info->classes; i++)
        whole = json_array_append_new(classes, npi_json_text(info->class_names[i])) == 0;
    for (int64_t i = 0; whole && i < info->images; i++)
        whole = json_array_append_new(labels, json_integer(info->labels[i])) == 0;
    json_t *gap = info->reducing_gap > 0 ? json_real(info->reducing_gap) : NULL;
    json_t *index =
        json_pack("{s:s, s:I, s:i, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o*, s:o*}",
                  "format", format, "images", (json_int_t)info->images, "block", info->block,
                  "rows", info->rows, "width", info->width, "chunk", info->chunk, "model",
                  hex(info->model), "names", hex(info->names), "spec", text_or_null(info->spec),
                  "transform", text_or_null(info->transform), "classes", classes, "labels", labels,
                  "skipped", skipped, "reducing_gap", gap);
    if (whole)
        return index;
    json_decref(index);
    return NULL;
}

/* ---- reading ---- */

static npos_status wrong(const char *path, const char *key, const char *expected) {
    return npi_fail(NPOS_BAD_DATA, "%s: '%s' is missing or wrong, expected %s", path, key,
                    expected);
}

static npos_status read_number(const char *path, const json_t *index, const char *key,
                               int64_t least, int64_t most, int64_t *out) {
    const json_t *value = json_object_get(index, key);
    char expected[80];
    snprintf(expected, sizeof expected, "a whole number from %" PRId64 " to %" PRId64, least, most);
    if (!json_is_integer(value) || json_integer_value(value) < least ||
        json_integer_value(value) > most)
        return wrong(path, key, expected);
    *out = json_integer_value(value);
    return NPOS_OK;
}

static npos_status read_int(const char *path, const json_t *index, const char *key, int least,
                            int most, int *out) {
    int64_t value = 0;
    NPI_TRY(read_number(path, index, key, least, most, &value));
    *out = (int)value;
    return NPOS_OK;
}

/* Only of images that were decoded smaller: indices of all others lack the key. */
static npos_status read_gap(const char *path, const json_t *index, double *out) {
    const json_t *value = json_object_get(index, "reducing_gap");
    *out = json_number_value(value);
    return !value || (json_is_number(value) && *out >= 1 && *out <= MOST_SIDE)
               ? NPOS_OK
               : wrong(path, "reducing_gap", "a number from 1 on");
}

static npos_status read_hex(const char *path, const json_t *index, const char *key, uint64_t *out) {
    const char *text = json_string_value(json_object_get(index, key));
    if (!text || strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16)
        return wrong(path, key, "16 hexadecimal digits");
    *out = strtoull(text, NULL, 16);
    return NPOS_OK;
}

static npos_status read_text(const char *path, const json_t *index, const char *key, char **out) {
    const json_t *value = json_object_get(index, key);
    if (json_is_null(value))
        return NPOS_OK;
    return json_is_string(value) ? npi_strdup(out, json_string_value(value))
                                 : wrong(path, key, "a text or null");
}

static npos_status read_classes(const char *path, const json_t *index, npi_token_info *info) {
    const json_t *classes = json_object_get(index, "classes");
    size_t count = json_array_size(classes), i;
    const json_t *name;
    if (!json_is_array(classes) || count > MOST_SIDE)
        return wrong(path, "classes", "a list of names");
    NPI_TRY(npi_alloc(&info->class_names, count, sizeof *info->class_names, "class names"));
    info->classes = (int)count;
    json_array_foreach(classes, i, name) {
        if (!json_is_string(name))
            return wrong(path, "classes", "a list of names");
        NPI_TRY(npi_strdup(&info->class_names[i], json_string_value(name)));
    }
    return NPOS_OK;
}

static npos_status read_labels(const char *path, const json_t *index, npi_token_info *info) {
    const json_t *labels = json_object_get(index, "labels"), *label;
    size_t i;
    if (!json_is_array(labels) || json_array_size(labels) != (size_t)info->images)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: %zu labels, expected one for each of %" PRId64 " images", path,
                        json_array_size(labels), info->images);
    NPI_TRY(npi_alloc(&info->labels, (size_t)info->images, sizeof *info->labels, "labels"));
    json_array_foreach(labels, i, label) {
        json_int_t value = json_integer_value(label);
        if (!json_is_integer(label) || value < -1 || value >= info->classes)
            return npi_fail(NPOS_BAD_DATA, "%s: label %zu is none of the %d classes", path, i,
                            info->classes);
        info->labels[i] = (int32_t)value;
    }
    return NPOS_OK;
}

static npos_status read_info(const char *path, const json_t *index, npi_token_info *info) {
    const char *is = json_string_value(json_object_get(index, "format"));
    if (!is || strcmp(is, format) != 0)
        return npi_fail(NPOS_UNSUPPORTED, "%s: its format is '%s', expected '%s'", path,
                        is ? is : "", format);
    NPI_TRY(read_number(path, index, "images", 1, INT32_MAX, &info->images));
    NPI_TRY(read_int(path, index, "block", 0, MOST_SIDE, &info->block));
    NPI_TRY(read_int(path, index, "rows", 1, MOST_SIDE, &info->rows));
    NPI_TRY(read_int(path, index, "width", 1, MOST_SIDE, &info->width));
    NPI_TRY(read_int(path, index, "chunk", 1, MOST_CHUNK, &info->chunk));
    NPI_TRY(read_hex(path, index, "model", &info->model));
    NPI_TRY(read_hex(path, index, "names", &info->names));
    NPI_TRY(read_gap(path, index, &info->reducing_gap));
    NPI_TRY(read_text(path, index, "spec", &info->spec));
    NPI_TRY(read_text(path, index, "transform", &info->transform));
    NPI_TRY(read_classes(path, index, info));
    return read_labels(path, index, info);
}

npos_status npi_token_index_read(const char *folder, npi_token_info *info, json_t **json,
                                 uint64_t *hash) {
    char *path, *text = NULL;
    size_t size;
    json_t *index = NULL;
    json_error_t error;
    npos_status status;
    *info = (npi_token_info){0};
    NPI_TRY(npi_path_join(&path, folder, "index.json"));
    NPI_TRY_GOTO(npi_file_read(path, &text, &size), done);
    *hash = XXH3_64bits(text, size);
    index = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!index)
        status = npi_fail(NPOS_BAD_DATA, "%s:%d: %s", path, error.line, error.text);
    else
        status = read_info(path, index, info);
done:
    if (status == NPOS_OK && json)
        *json = index;
    else
        json_decref(index);
    npi_free(text);
    npi_free(path);
    return status;
}

npos_status npi_token_header_check(const char *path, const npi_token_header *header,
                                   uint64_t file_bytes, const npi_token_info *info, int64_t number,
                                   uint64_t index) {
    uint64_t images = (uint64_t)npi_token_chunk_images(info, number);
    uint64_t image_bytes = npi_token_image_bytes(info);
    uint64_t expected = sizeof *header + images * image_bytes;
    if (file_bytes != expected)
        return npi_fail(NPOS_BAD_DATA, "%s: %" PRIu64 " bytes, expected %" PRIu64, path, file_bytes,
                        expected);
    if (memcmp(header->magic, NPI_TOKEN_MAGIC, sizeof header->magic) != 0 || header->zero[0] ||
        header->zero[1])
        return npi_fail(NPOS_BAD_DATA, "%s: is no chunk of tokens", path);
    if (header->index != index)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: belongs to another index.json, or the index was changed", path);
    if (header->number != (uint64_t)number || header->images != images ||
        header->image_bytes != image_bytes)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: says it is chunk %" PRIu64 " of %" PRIu64 " images of %" PRIu64
                        " bytes, expected chunk %" PRId64 " of %" PRIu64 " images of %" PRIu64,
                        path, header->number, header->images, header->image_bytes, number, images,
                        image_bytes);
    return NPOS_OK;
}
