#include "io/pt_file.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/pickle.h"
#include "io/zip_map.h"

enum {
    MOST_DEPTH = 64,
    MOST_NAME = 511,
    MOST_KEY = 255,        /* of a storage, and of the archive's folder */
    MOST_STEPS = 1 << 22,  /* values looked at: a pickle may hold one in many places */
    MOST_NAMES = 64 << 20, /* bytes of all names */
    MOST_TENSORS = 1 << 20,
};

/* Where a tensor's elements lie; strides of dimensions of one element are 0. */
typedef struct placed {
    const npi_zip_entry *entry;
    int64_t offset, strides[NPI_TENSOR_MAX_DIMS];
} placed;

struct npi_pt {
    char *path;
    npi_zip *zip;
    npi_pickle *pickle;
    char folder[MOST_KEY + 1]; /* "archive/", in front of all entries' names */
    int count, room;
    npi_named_tensor *tensors; /* own their names */
    placed *placed;            /* of each tensor */
    int *order;                /* of the tensors by name */
    bool *checked;             /* of each entry of the archive: its CRC-32 is right */
};

/* ---- tensors ------------------------------------------------------------------------------------- */

static npos_status find_storage(const npi_pt *file, const char *name,
                                const npi_pickle_storage *storage, const npi_zip_entry **out) {
    char path[2 * MOST_KEY + 8];
    if (storage->key_bytes > MOST_KEY)
        return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s': its storage's name has %zu bytes",
                        file->path, name, storage->key_bytes);
    int length = snprintf(path, sizeof path, "%sdata/%.*s", file->folder, (int)storage->key_bytes,
                          storage->key);
    const npi_zip_entry *entry = npi_zip_find(file->zip, path, (size_t)length);
    if (!entry)
        return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s': the archive has no entry '%s'", file->path,
                        name, path);
    if (!entry->data)
        return npi_hint(npi_fail(NPOS_UNSUPPORTED,
                                 "%s: entry '%s' is compressed; torch stores its tensors plainly",
                                 file->path, path),
                        "load the file in Python and save it again with torch.save");
    if ((uint64_t)storage->elements > entry->size / npi_dtype_bytes(storage->dtype))
        return npi_fail(NPOS_BAD_DATA,
                        "%s: tensor '%s': its storage should hold %" PRId64
                        " elements of %s, entry '%s' has %" PRIu64 " bytes",
                        file->path, name, storage->elements, npi_dtype_name(storage->dtype), path,
                        entry->size);
    *out = entry;
    return NPOS_OK;
}

/* Number of elements and index of the last one in the storage; false where they overflow. */
static bool measure(const npi_pickle_tensor *tensor, int64_t *count, int64_t *last) {
    *count = 1;
    *last = tensor->offset;
    for (int i = 0; i < tensor->ndim; i++)
        if (tensor->shape[i] == 0) {
            *count = 0;
            return true;
        }
    for (int i = 0; i < tensor->ndim; i++) {
        int64_t reach;
        if (__builtin_mul_overflow(*count, tensor->shape[i], count) ||
            __builtin_mul_overflow(tensor->shape[i] - 1, tensor->strides[i], &reach) ||
            __builtin_add_overflow(*last, reach, last))
            return false;
    }
    return *count <= INT64_MAX / 8;
}

static bool in_order(const npi_pickle_tensor *tensor) {
    int64_t step = 1;
    for (int i = tensor->ndim; i-- > 0;) {
        if (tensor->shape[i] != 1 && tensor->strides[i] != step)
            return false;
        step *= tensor->shape[i];
    }
    return true;
}

static npos_status grow(npi_pt *file) {
    if (file->count < file->room)
        return NPOS_OK;
    if (file->count == MOST_TENSORS)
        return npi_fail(NPOS_UNSUPPORTED, "%s: more than %d tensors", file->path, MOST_TENSORS);
    size_t old = (size_t)file->room, room = old ? 2 * old : 64;
    NPI_TRY(npi_grow(&file->tensors, old, room, sizeof *file->tensors, "tensor list"));
    NPI_TRY(npi_grow(&file->placed, old, room, sizeof *file->placed, "tensor list"));
    file->room = (int)room;
    return NPOS_OK;
}

static npos_status add_tensor(npi_pt *file, const char *name, const npi_pickle_tensor *from) {
    const npi_zip_entry *entry;
    int64_t count, last;
    NPI_TRY(find_storage(file, name, from->storage, &entry));
    if (!measure(from, &count, &last))
        return npi_fail(NPOS_BAD_DATA, "%s: tensor '%s' has an impossible shape", file->path, name);
    if (count != 0 && last >= from->storage->elements)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: tensor '%s' reaches to element %" PRId64 " of a storage of %" PRId64
                        " elements",
                        file->path, name, last, from->storage->elements);
    NPI_TRY(grow(file));
    npi_named_tensor *tensor = &file->tensors[file->count];
    *tensor = (npi_named_tensor){.dtype = from->storage->dtype, .ndim = from->ndim};
    memcpy(tensor->shape, from->shape, sizeof tensor->shape);
    if (count == 0)
        tensor->data = entry->data;
    else if (in_order(from))
        tensor->data = entry->data + (size_t)from->offset * npi_dtype_bytes(tensor->dtype);
    char *copy;
    NPI_TRY(npi_strdup(&copy, name));
    tensor->name = copy;
    placed *place = &file->placed[file->count++];
    *place = (placed){.entry = entry, .offset = from->offset};
    for (int i = 0; i < from->ndim; i++)
        place->strides[i] = from->shape[i] > 1 ? from->strides[i] : 0;
    return NPOS_OK;
}

/* ---- names --------------------------------------------------------------------------------------- */

typedef struct walk {
    npi_pt *file;
    char name[MOST_NAME + 1];
    size_t length; /* of name */
    int depth, steps;
    size_t names; /* bytes of all names so far */
} walk;

static npos_status append(walk *w, const char *text, size_t bytes) {
    size_t dot = w->depth > 0;
    if (bytes + dot > MOST_NAME - w->length)
        return npi_fail(NPOS_UNSUPPORTED, "%s: the name below '%.80s' is longer than %d bytes",
                        w->file->path, w->name, MOST_NAME);
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return npi_fail(NPOS_BAD_DATA,
                            "%s: a name below '%.80s' holds the control character "
                            "0x%02x",
                            w->file->path, w->name, (unsigned char)text[i]);
    if (dot)
        w->name[w->length++] = '.';
    memcpy(w->name + w->length, text, bytes);
    w->length += bytes;
    w->name[w->length] = '\0';
    return NPOS_OK;
}

static npos_status append_key(walk *w, const npi_pickle_value *key) {
    char digits[24];
    if (key->kind == NPI_PICKLE_TEXT)
        return append(w, key->as.text, key->count);
    if (key->kind != NPI_PICKLE_INT)
        return npi_fail(NPOS_UNSUPPORTED,
                        "%s: a key below '%.80s' is %s, expected a text or an integer",
                        w->file->path, w->name, npi_pickle_kind_name(key->kind));
    int length = snprintf(digits, sizeof digits, "%" PRId64, key->as.integer);
    return append(w, digits, (size_t)length);
}

static npos_status descend(walk *w, const npi_pickle_value *value);

/* One item of a container; `key` NULL: its place i. */
static npos_status enter(walk *w, const npi_pickle_value *key, size_t i,
                         const npi_pickle_value *item) {
    if (item->kind < NPI_PICKLE_TUPLE) /* nothing that could hold a tensor */
        return ++w->steps > MOST_STEPS
                   ? npi_fail(NPOS_BAD_DATA, "%s: more than %d values", w->file->path, MOST_STEPS)
                   : NPOS_OK;
    size_t length = w->length;
    npi_pickle_value place = {.kind = NPI_PICKLE_INT, .as.integer = (int64_t)i};
    NPI_TRY(append_key(w, key ? key : &place));
    w->depth++;
    NPI_TRY(descend(w, item));
    w->depth--;
    w->length = length;
    w->name[length] = '\0';
    return NPOS_OK;
}

static npos_status descend(walk *w, const npi_pickle_value *value) {
    if (++w->steps > MOST_STEPS || w->depth > MOST_DEPTH)
        return npi_fail(NPOS_BAD_DATA, "%s: at '%.80s': more than %d levels or %d values",
                        w->file->path, w->name, MOST_DEPTH, MOST_STEPS);
    switch (value->kind) {
    case NPI_PICKLE_TENSOR:
        w->names += w->length + 1;
        if (w->names > MOST_NAMES)
            return npi_fail(NPOS_UNSUPPORTED, "%s: the tensors' names need more than %d bytes",
                            w->file->path, MOST_NAMES);
        return add_tensor(w->file, w->depth ? w->name : "tensor", value->as.tensor);
    case NPI_PICKLE_DICT:
    case NPI_PICKLE_OBJECT:
        for (size_t i = 0; i < value->count; i++)
            NPI_TRY(enter(w, value->as.items[2 * i], 0, value->as.items[2 * i + 1]));
        return NPOS_OK;
    case NPI_PICKLE_LIST:
    case NPI_PICKLE_TUPLE:
        for (size_t i = 0; i < value->count; i++)
            NPI_TRY(enter(w, NULL, i, value->as.items[i]));
        return NPOS_OK;
    default:
        return NPOS_OK;
    }
}

/* What is below "state_dict" of a checkpoint, or the root itself. */
static const npi_pickle_value *weights_of(const npi_pickle_value *root) {
    static const char key[] = "state_dict";
    for (size_t i = 0; root->kind == NPI_PICKLE_DICT && i < root->count; i++) {
        const npi_pickle_value *name = root->as.items[2 * i], *value = root->as.items[2 * i + 1];
        if (name->kind == NPI_PICKLE_TEXT && name->count == sizeof key - 1 &&
            memcmp(name->as.text, key, name->count) == 0 && value->kind == NPI_PICKLE_DICT)
            return value;
    }
    return root;
}

static int compare_names(const void *a, const void *b, void *file) {
    const npi_named_tensor *tensors = ((const npi_pt *)file)->tensors;
    return strcmp(tensors[*(const int *)a].name, tensors[*(const int *)b].name);
}

static npos_status sort_names(npi_pt *file) {
    NPI_TRY(npi_alloc(&file->order, (size_t)file->count, sizeof *file->order, "tensor list"));
    for (int i = 0; i < file->count; i++)
        file->order[i] = i;
    qsort_r(file->order, (size_t)file->count, sizeof *file->order, compare_names, file);
    for (int i = 1; i < file->count; i++)
        if (compare_names(&file->order[i - 1], &file->order[i], file) == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: two tensors are called '%s'", file->path,
                            file->tensors[file->order[i]].name);
    return NPOS_OK;
}

/* ---- opening ------------------------------------------------------------------------------------- */

/* Files of before PyTorch 1.6 begin with the pickle of a fixed number. */
static npos_status refuse_legacy(const char *path) {
    static const unsigned char magic[] = {0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c,
                                          0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    unsigned char seen[sizeof magic];
    FILE *stream = fopen(path, "rbe");
    if (!stream)
        return npi_fail_errno("%s: cannot open", path);
    bool legacy =
        fread(seen, 1, sizeof seen, stream) == sizeof seen && memcmp(seen, magic, sizeof seen) == 0;
    fclose(stream);
    if (!legacy)
        return NPOS_OK;
    return npi_hint(
        npi_fail(NPOS_UNSUPPORTED,
                 "%s: torch's old format, of before PyTorch 1.6, which is no zip archive", path),
        "convert it: python -c \"import torch; torch.save(torch.load('%s', map_location='cpu'), "
        "'new.pt')\"",
        npi_path_name(path));
}

/* Finds FOLDER/data.pkl and checks what goes with it. */
static npos_status find_pickle(npi_pt *file, const npi_zip_entry **out) {
    static const char tail[] = "/data.pkl";
    const size_t tail_bytes = sizeof tail - 1;
    *out = NULL;
    for (size_t i = 0; i < npi_zip_count(file->zip); i++) {
        const npi_zip_entry *entry = npi_zip_at(file->zip, i);
        if (entry->name_bytes <= tail_bytes)
            continue;
        size_t folder = entry->name_bytes - tail_bytes;
        if (folder >= MOST_KEY || memcmp(entry->name + folder, tail, tail_bytes) != 0 ||
            memchr(entry->name, '/', folder) || memchr(entry->name, '\0', folder))
            continue;
        if (*out)
            return npi_fail(NPOS_BAD_DATA, "%s: the archive holds '%.*s' and '%.*s'", file->path,
                            (int)(*out)->name_bytes, (*out)->name, (int)entry->name_bytes,
                            entry->name);
        *out = entry;
        memcpy(file->folder, entry->name, folder + 1);
    }
    if (!*out)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: a zip archive without data.pkl: not by torch.save or torch.jit.save",
                        file->path);
    if (!(*out)->data)
        return npi_fail(NPOS_UNSUPPORTED, "%s: entry '%.*s' is compressed; torch stores it plainly",
                        file->path, (int)(*out)->name_bytes, (*out)->name);
    char order[MOST_KEY + 16];
    int length = snprintf(order, sizeof order, "%sbyteorder", file->folder);
    const npi_zip_entry *entry = npi_zip_find(file->zip, order, (size_t)length);
    if (entry && entry->data && entry->size == 3 && memcmp(entry->data, "big", 3) == 0)
        return npi_fail(NPOS_UNSUPPORTED, "%s: its tensors are big endian", file->path);
    return npi_zip_check(file->zip, *out);
}

npos_status npi_pt_open(const char *path, npi_pt **out) {
    *out = NULL;
    npi_pt *file = NULL;
    npos_status status;
    const npi_zip_entry *pickle;
    if (!npi_is_file(path))
        return npi_fail(NPOS_NOT_FOUND, "%s: no such file", path);
    NPI_TRY(refuse_legacy(path));
    NPI_TRY(npi_alloc(&file, 1, sizeof *file, path));
    NPI_TRY_GOTO(npi_strdup(&file->path, path), done);
    NPI_TRY_GOTO(npi_zip_open(path, &file->zip), done);
    NPI_TRY_GOTO(
        npi_alloc(&file->checked, npi_zip_count(file->zip), sizeof *file->checked, "zip directory"),
        done);
    NPI_TRY_GOTO(find_pickle(file, &pickle), done);
    NPI_TRY_GOTO(npi_pickle_read(path, pickle->data, pickle->size, &file->pickle), done);
    walk w = {.file = file};
    NPI_TRY_GOTO(descend(&w, weights_of(npi_pickle_root(file->pickle))), done);
    status = sort_names(file);
done:
    if (status == NPOS_OK)
        *out = file;
    else
        npi_pt_close(file);
    return status;
}

void npi_pt_close(npi_pt *file) {
    if (!file)
        return;
    for (int i = 0; i < file->count; i++)
        npi_free((char *)file->tensors[i].name);
    npi_free(file->tensors);
    npi_free(file->placed);
    npi_free(file->order);
    npi_free(file->checked);
    npi_pickle_close(file->pickle);
    npi_zip_close(file->zip);
    npi_free(file->path);
    npi_free(file);
}

int npi_pt_count(const npi_pt *file) {
    return file->count;
}

const npi_named_tensor *npi_pt_at(const npi_pt *file, int i) {
    return &file->tensors[i];
}

const npi_named_tensor *npi_pt_find(const npi_pt *file, const char *name) {
    int low = 0, high = file->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const npi_named_tensor *tensor = &file->tensors[file->order[middle]];
        int order = strcmp(name, tensor->name);
        if (order == 0)
            return tensor;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* ---- reading ------------------------------------------------------------------------------------- */

/* to[i] = from[i * stride], elements of `width` bytes. */
static void copy_strided(char *to, const uint8_t *from, int64_t count, int64_t stride,
                         size_t width) {
    if (stride == 1) {
        memcpy(to, from, (size_t)count * width);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        memcpy(to + (size_t)i * width, from + (size_t)(i * stride) * width, width);
}

void npi_pt_read(const npi_pt *file, int i, int64_t first, int64_t count, void *out) {
    const npi_named_tensor *tensor = &file->tensors[i];
    const placed *from = &file->placed[i];
    size_t width = npi_dtype_bytes(tensor->dtype);
    char *to = out;
    if (count == 0)
        return;
    if (tensor->data) {
        memcpy(to, (const char *)tensor->data + (size_t)first * width, (size_t)count * width);
        return;
    }
    int last = tensor->ndim - 1; /* >= 0: what has no dimensions lies in order */
    int64_t index[NPI_TENSOR_MAX_DIMS], at = from->offset;
    for (int d = last; d >= 0; d--) {
        index[d] = first % tensor->shape[d];
        first /= tensor->shape[d];
        at += index[d] * from->strides[d];
    }
    while (count > 0) {
        int64_t run = tensor->shape[last] - index[last];
        if (run > count)
            run = count;
        copy_strided(to, from->entry->data + (size_t)at * width, run, from->strides[last], width);
        to += (size_t)run * width;
        count -= run;
        at -= index[last] * from->strides[last];
        index[last] = 0;
        for (int d = last - 1; d >= 0; d--) {
            at += from->strides[d];
            if (++index[d] < tensor->shape[d])
                break;
            at -= index[d] * from->strides[d];
            index[d] = 0;
        }
    }
}

npos_status npi_pt_check(npi_pt *file, int i) {
    const npi_zip_entry *entry = file->placed[i].entry;
    bool *checked = &file->checked[entry - npi_zip_at(file->zip, 0)];
    if (*checked)
        return NPOS_OK;
    NPI_TRY(npi_zip_check(file->zip, entry));
    *checked = true;
    return NPOS_OK;
}
