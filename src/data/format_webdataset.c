/* WebDataset: tar files whose members KEY.jpg, KEY.cls, KEY.json ... of one key, one behind the other,
 * are a sample (github.com/webdataset/webdataset).  A set is one such shard, a folder of them, or a
 * pattern (data/shard_list.h); a shard is of the split that its name tells.
 *
 * Opening reads the headers and labels alone; images stay in the shards, which must not be compressed. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/class_tree.h"
#include "data/format.h"
#include "data/image_decode.h"
#include "data/shard_list.h"
#include "io/tar_index.h"

enum { LOOKED_AT = 8, MAX_CLASSES = 1 << 20, MAX_LABEL_BYTES = 1 << 20 };

typedef struct sample {
    int shard;
    npi_tar_file image;
} sample;

typedef struct webdataset {
    npi_shards shards;
    sample *samples;
    int64_t room;
    bool labelled; /* of the first sample, and so of all */
} webdataset;

/* A member's name is KEY.EXTENSION, parted at the first '.' behind the last '/'. */
static size_t key_length(const char *name) {
    const char *own = npi_path_name(name);
    return (size_t)(own - name) + strcspn(own, ".");
}

static const char *extension(const char *name) {
    const char *dot = name + key_length(name);
    return *dot ? dot + 1 : dot;
}

static bool same_key(const char *a, const char *b) {
    size_t length = key_length(a);
    return length == key_length(b) && strncmp(a, b, length) == 0;
}

static bool is_image(const char *name) {
    return npi_tree_image_name(name);
}

/* Whether an image and its label stand beside each other among a shard's first members. */
static bool is_shard(const char *path) {
    npi_tar tar;
    bool found = false;
    if (!npi_tar_known(path) || npi_tar_read(path, LOOKED_AT, &tar) != NPOS_OK)
        return false;
    for (int64_t i = 1; i < tar.count; i++) {
        const char *a = tar.files[i - 1].name, *b = tar.files[i].name;
        bool told = strcasecmp(extension(a), "cls") == 0 || strcasecmp(extension(b), "cls") == 0 ||
                    strcasecmp(extension(a), "json") == 0 || strcasecmp(extension(b), "json") == 0;
        found = found || (told && same_key(a, b) && (is_image(a) || is_image(b)));
    }
    npi_tar_clear(&tar);
    return found;
}

static bool recognise(const char *path) {
    npi_shards shards;
    if (!npi_is_file(path) && !npi_is_folder(path) && !npi_is_pattern(path))
        return false;
    if (npi_shards_list(path, 1, &shards) != NPOS_OK)
        return false;
    bool found = is_shard(shards.paths[0]);
    npi_shards_clear(&shards);
    return found;
}

static npi_split shard_split(const char *path) {
    const char *name = npi_path_name(path);
    return strcasestr(name, "train")                             ? NPI_SPLIT_TRAIN
           : strcasestr(name, "test") || strcasestr(name, "val") ? NPI_SPLIT_TEST
                                                                 : NPI_SPLIT_ALL;
}

static bool has_split(const char *path, npi_split split) {
    npi_shards shards;
    bool found = false;
    if (npi_shards_list(path, 0, &shards) != NPOS_OK)
        return false;
    for (int i = 0; i < shards.count; i++)
        found = found || shard_split(shards.paths[i]) == split;
    npi_shards_clear(&shards);
    return found;
}

/* ---- labels -------------------------------------------------------------------------------------- */

static npos_status wrong_label(const char *shard, const npi_tar_file *file) {
    return npi_fail(NPOS_BAD_DATA, "%s: member %s is no label, expected a whole number 0 to %d",
                    shard, file->name, MAX_CLASSES - 1);
}

/* *label = what KEY.cls says, or "label" or "cls" of KEY.json; -1 where that has neither. */
static npos_status read_label(const char *shard, const npi_tar_file *file, int32_t *label) {
    uint8_t *bytes;
    long long value = -1;
    *label = -1;
    if (file->bytes > MAX_LABEL_BYTES)
        return npi_fail(NPOS_BAD_DATA, "%s: member %s takes %lld bytes, no label", shard,
                        file->name, (long long)file->bytes);
    NPI_TRY(npi_tar_bytes(shard, file, &bytes));
    if (strcasecmp(extension(file->name), "cls") == 0) {
        char *end;
        value = strtoll((char *)bytes, &end, 10);
        bool number = end != (char *)bytes && end[strspn(end, " \t\r\n")] == '\0' && value >= 0;
        npi_free(bytes);
        if (!number || value >= MAX_CLASSES)
            return wrong_label(shard, file);
        *label = (int32_t)value;
        return NPOS_OK;
    }
    json_error_t error;
    json_t *root = json_loadb((char *)bytes, (size_t)file->bytes, JSON_DECODE_ANY, &error);
    npi_free(bytes);
    if (!root)
        return npi_fail(NPOS_BAD_DATA, "%s: member %s is no JSON: %s", shard, file->name,
                        error.text);
    json_t *told = json_object_get(root, "label");
    if (!told)
        told = json_object_get(root, "cls");
    bool number = json_is_integer(told);
    value = number ? json_integer_value(told) : -1;
    bool other = told && !number;
    json_decref(root);
    if (other || (number && (value < 0 || value >= MAX_CLASSES)))
        return wrong_label(shard, file);
    *label = (int32_t)value;
    return NPOS_OK;
}

/* ---- samples ------------------------------------------------------------------------------------- */

static npos_status add_sample(npi_source *source, int shard, npi_tar_file *image, int32_t label) {
    webdataset *w = source->state;
    const char *path = w->shards.paths[shard];
    if (source->count == 0)
        w->labelled = label >= 0;
    if ((label >= 0) != w->labelled)
        return npi_fail(NPOS_BAD_DATA, "%s: sample %s has %s label, unlike those before", path,
                        image->name, w->labelled ? "no" : "a");
    if (source->count == w->room) {
        int64_t larger = 2 * w->room + 1024;
        NPI_TRY(
            npi_grow(&w->samples, (size_t)w->room, (size_t)larger, sizeof *w->samples, "samples"));
        if (w->labelled)
            NPI_TRY(npi_grow(&source->labels, (size_t)w->room, (size_t)larger,
                             sizeof *source->labels, "labels"));
        w->room = larger;
    }
    if (w->labelled) {
        source->labels[source->count] = label;
        if (label >= source->classes)
            source->classes = label + 1;
    }
    w->samples[source->count++] = (sample){shard, *image};
    image->name = NULL;
    return NPOS_OK;
}

/* One sample: `count` members of one key.  Of several images the one called KEY.jpg or the like counts. */
static npos_status read_sample(npi_source *source, int shard, npi_tar_file *files, int64_t count) {
    const webdataset *w = source->state;
    const char *path = w->shards.paths[shard];
    npi_tar_file *image = NULL, *cls = NULL, *json = NULL;
    for (int64_t i = 0; i < count; i++) {
        const char *end = extension(files[i].name);
        if (is_image(files[i].name) && (!image || !strchr(end, '.')))
            image = image && !strchr(extension(image->name), '.') ? image : &files[i];
        else if (strcasecmp(end, "cls") == 0)
            cls = &files[i];
        else if (strcasecmp(end, "json") == 0)
            json = &files[i];
    }
    if (!image)
        return npi_fail(NPOS_BAD_DATA, "%s: the sample of %s has no image", path, files[0].name);
    int32_t label = -1;
    if (cls || json)
        NPI_TRY(read_label(path, cls ? cls : json, &label));
    return add_sample(source, shard, image, label);
}

static npos_status read_shard(npi_source *source, int shard) {
    const webdataset *w = source->state;
    npi_tar tar;
    npos_status status = NPOS_OK;
    NPI_TRY(npi_tar_read(w->shards.paths[shard], 0, &tar));
    for (int64_t i = 0, next; i < tar.count && status == NPOS_OK; i = next) {
        next = i + 1;
        if (npi_path_name(tar.files[i].name)[0] == '.') /* hidden */
            continue;
        while (next < tar.count && same_key(tar.files[i].name, tar.files[next].name))
            next++;
        status = read_sample(source, shard, &tar.files[i], next - i);
    }
    npi_tar_clear(&tar);
    return status;
}

static npos_status open_webdataset(npi_source *source, npi_split split) {
    webdataset *w;
    NPI_TRY(npi_alloc(&w, 1, sizeof *w, "WebDataset"));
    source->state = w;
    NPI_TRY(npi_shards_list(source->path, 0, &w->shards));
    bool chosen = false;
    for (int i = 0; i < w->shards.count; i++) {
        if (split != NPI_SPLIT_ALL && shard_split(w->shards.paths[i]) != split)
            continue;
        chosen = true;
        NPI_TRY(read_shard(source, i));
    }
    if (!chosen)
        return npi_no_split(source, split,
                            "expected shards with train, test or val in their names");
    if (source->count == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: no samples", source->path);
    return npi_class_names_beside(source);
}

static void close_webdataset(npi_source *source) {
    webdataset *w = source->state;
    if (!w)
        return;
    for (int64_t i = 0; i < source->count; i++)
        npi_free(w->samples[i].image.name);
    npi_free(w->samples);
    npi_shards_clear(&w->shards);
    npi_free(w);
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const webdataset *w = source->state;
    const sample *s = &w->samples[i];
    return npi_format(out, "%s/%s", npi_path_name(w->shards.paths[s->shard]), s->image.name);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const webdataset *w = source->state;
    const sample *s = &w->samples[i];
    const char *shard = w->shards.paths[s->shard];
    uint8_t *bytes;
    NPI_TRY(npi_tar_bytes(shard, &s->image, &bytes));
    npos_status status =
        npi_image_decode(bytes, (size_t)s->image.bytes, s->image.name, source->least_side, out);
    npi_free(bytes);
    return status == NPOS_OK ? status : npi_fail_in(status, "%s", shard);
}

static npos_status stamp(const npi_source *source, int64_t i, uint64_t *out) {
    const webdataset *w = source->state;
    *out = (uint64_t)w->samples[i].image.bytes;
    return NPOS_OK;
}

extern const npi_data_format npi_format_webdataset;
const npi_data_format npi_format_webdataset = {.name = "webdataset",
                                               .recognise = recognise,
                                               .open = open_webdataset,
                                               .name_of = name_of,
                                               .decode = decode,
                                               .stamp = stamp,
                                               .has_split = has_split,
                                               .close = close_webdataset};
