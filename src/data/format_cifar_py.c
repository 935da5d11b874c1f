/* CIFAR-10 and CIFAR-100 in their Python version (Krizhevsky 2009): pickles of a dict with "data", uint8
 * [N][3072] (3 planes of 32 x 32), and "labels" or "fine_labels", a list.  Python 2 wrote them; npos
 * executes nothing of them (io/pickle.h).
 *
 * A set is a folder of data_batch_1 to _5 and test_batch with batches.meta, or of train and test with
 * meta; the tar archive of such a folder, read in place; or one of the batches. */
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/cifar_files.h"
#include "data/format.h"
#include "io/pickle.h"

enum { PIXELS = NPI_CIFAR_PIXELS, PICKLE = 0x80 };

typedef struct batch {
    char *name; /* for messages and the images' names */
    npi_picked file;
    npi_pickle *pickle;
    const npi_pickle_array *images;
} batch;

typedef struct cifar {
    batch batches[NPI_CIFAR_BATCHES];
    int batch_count;
} cifar;

static bool is_pickle(const char *path) {
    unsigned char start[2];
    return npi_is_file(path) && npi_file_start(path, start, 2) == 2 && start[0] == PICKLE &&
           start[1] >= 2 && start[1] <= 5;
}

/* ---- what the pickles say ------------------------------------------------------------------------ */

/* The value of a dict's key, which Python 2 wrote as bytes; NULL: there is none. */
static const npi_pickle_value *value_of(const npi_pickle_value *dict, const char *key) {
    for (size_t i = 0; i < dict->count; i++) {
        const npi_pickle_value *own = dict->as.items[2 * i];
        if ((own->kind == NPI_PICKLE_BYTES || own->kind == NPI_PICKLE_TEXT) &&
            own->count == strlen(key) && memcmp(own->as.text, key, own->count) == 0)
            return dict->as.items[2 * i + 1];
    }
    return NULL;
}

/* Parses a file's pickle, which must be a dict. */
static npos_status read_dict(const char *name, const npi_picked *file, npi_pickle **pickle,
                             const npi_pickle_value **dict) {
    NPI_TRY(npi_pickle_read_arrays(name, file->bytes, file->size, pickle));
    *dict = npi_pickle_root(*pickle);
    if ((*dict)->kind == NPI_PICKLE_DICT)
        return NPOS_OK;
    return npi_fail(NPOS_BAD_DATA, "%s: the pickle is %s, expected a dict", name,
                    npi_pickle_kind_name((*dict)->kind));
}

static npos_status take_images(batch *b, const npi_pickle_value *data) {
    if (!data || data->kind != NPI_PICKLE_ARRAY)
        return npi_fail(NPOS_BAD_DATA, "%s: \"data\" is %s, expected an array", b->name,
                        data ? npi_pickle_kind_name(data->kind) : "not there");
    b->images = data->as.array;
    if (b->images->dtype != NPI_U8 || b->images->ndim != 2 || b->images->shape[1] != PIXELS ||
        b->images->fortran)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: \"data\" is %s of %d dimensions%s, expected uint8 [N][%d]", b->name,
                        npi_dtype_name(b->images->dtype), b->images->ndim,
                        b->images->fortran ? " in Fortran order" : "", PIXELS);
    return b->images->count > 0 ? NPOS_OK
                                : npi_fail(NPOS_BAD_DATA, "%s: \"data\" is empty", b->name);
}

static npos_status take_labels(npi_source *source, const batch *b, const npi_pickle_value *labels) {
    int64_t count = b->images->shape[0];
    if (labels->kind != NPI_PICKLE_LIST || (int64_t)labels->count != count)
        return npi_fail(NPOS_BAD_DATA, "%s: the labels are %s of %zu, expected a list of %lld",
                        b->name, npi_pickle_kind_name(labels->kind), labels->count,
                        (long long)count);
    NPI_TRY(npi_grow(&source->labels, (size_t)source->count, (size_t)(source->count + count),
                     sizeof *source->labels, "labels"));
    for (int64_t i = 0; i < count; i++) {
        const npi_pickle_value *label = labels->as.items[i];
        if (label->kind != NPI_PICKLE_INT || label->as.integer < 0 ||
            label->as.integer >= source->classes)
            return npi_fail(NPOS_BAD_DATA, "%s: label %lld of image %lld, expected 0..%d", b->name,
                            label->kind == NPI_PICKLE_INT ? (long long)label->as.integer : -1,
                            (long long)i, source->classes - 1);
        source->labels[source->count + i] = (int32_t)label->as.integer;
    }
    source->count += count;
    return NPOS_OK;
}

static npos_status add_batch(npi_source *source, int number, char **name, npi_picked *file) {
    (void)number; /* the labels' key tells which of the two it is */
    cifar *c = source->state;
    batch *b = &c->batches[c->batch_count++];
    const npi_pickle_value *dict;
    *b = (batch){.name = *name, .file = *file};
    *name = NULL;
    *file = (npi_picked){0};
    NPI_TRY(read_dict(b->name, &b->file, &b->pickle, &dict));
    const npi_pickle_value *fine = value_of(dict, "fine_labels"),
                           *labels = fine ? fine : value_of(dict, "labels");
    if (!labels)
        return npi_fail(NPOS_BAD_DATA,
                        "%s: neither \"labels\" nor \"fine_labels\", no batch of "
                        "CIFAR",
                        b->name);
    if (source->classes != 0 && source->classes != (fine ? 100 : 10))
        return npi_fail(NPOS_BAD_DATA, "%s: holds batches of both CIFAR-10 and CIFAR-100",
                        source->path);
    source->classes = fine ? 100 : 10;
    NPI_TRY(take_images(b, value_of(dict, "data")));
    return take_labels(source, b, labels);
}

static npos_status take_name(npi_source *source, const char *path, int label,
                             const npi_pickle_value *name) {
    if (name->kind != NPI_PICKLE_BYTES && name->kind != NPI_PICKLE_TEXT)
        return npi_fail(NPOS_BAD_DATA, "%s: the name of class %d is %s", path, label,
                        npi_pickle_kind_name(name->kind));
    if (name->count == 0 || name->count > 200 || memchr(name->as.text, '\0', name->count))
        return npi_fail(NPOS_BAD_DATA, "%s: the name of class %d is not 1 to 200 characters", path,
                        label);
    NPI_TRY(npi_format(&source->class_names[label], "%.*s", (int)name->count, name->as.text));
    for (int c = 0; c < label; c++)
        if (strcmp(source->class_names[c], source->class_names[label]) == 0)
            return npi_fail(NPOS_BAD_DATA, "%s: classes %d and %d are both called '%s'", path, c,
                            label, source->class_names[label]);
    return NPOS_OK;
}

/* Class names from batches.meta or meta. */
static npos_status read_names(npi_source *source, const char *path, const npi_picked *file) {
    npi_pickle *pickle = NULL;
    const npi_pickle_value *dict, *names;
    npos_status status;
    NPI_TRY_GOTO(read_dict(path, file, &pickle, &dict), done);
    names = value_of(dict, source->classes == 10 ? "label_names" : "fine_label_names");
    if (!names || names->kind != NPI_PICKLE_LIST || names->count != (size_t)source->classes) {
        status = npi_fail(NPOS_BAD_DATA, "%s: no list of %d class names", path, source->classes);
        goto done;
    }
    NPI_TRY_GOTO(
        npi_alloc(&source->class_names, names->count, sizeof *source->class_names, "class names"),
        done);
    for (int c = 0; c < source->classes; c++)
        NPI_TRY_GOTO(take_name(source, path, c, names->as.items[c]), done);
done:
    npi_pickle_close(pickle);
    return status;
}

/* ---- the set ------------------------------------------------------------------------------------- */

static const char *const file_names[NPI_CIFAR_FILES] = {
    "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5",
    "test_batch",   "test",         "train",        "batches.meta", "meta"};

static const npi_cifar_files files = {.names = file_names,
                                      .first = PICKLE,
                                      .is_batch = is_pickle,
                                      .add = add_batch,
                                      .take_names = read_names,
                                      .missing = "its batches are not there"};

static bool has_split(const char *path, npi_split split) {
    return npi_cifar_has_split(&files, path, split);
}

static bool recognise(const char *path) {
    if (npi_is_folder(path))
        return has_split(path, NPI_SPLIT_TRAIN) || has_split(path, NPI_SPLIT_TEST);
    return is_pickle(path) || npi_cifar_is_archive(&files, path);
}

static npos_status open_cifar(npi_source *source, npi_split split) {
    cifar *c;
    NPI_TRY(npi_alloc(&c, 1, sizeof *c, "CIFAR"));
    source->state = c;
    return npi_cifar_open(&files, source, split);
}

static void close_cifar(npi_source *source) {
    cifar *c = source->state;
    for (int i = 0; c && i < c->batch_count; i++) {
        npi_pickle_close(c->batches[i].pickle);
        npi_picked_clear(&c->batches[i].file, 1);
        npi_free(c->batches[i].name);
    }
    npi_free(c);
}

/* ---- images -------------------------------------------------------------------------------------- */

/* The batch that holds image *i; *i becomes its number there. */
static const batch *find(const cifar *c, int64_t *i) {
    const batch *b = c->batches;
    while (*i >= b->images->shape[0])
        *i -= b++->images->shape[0];
    return b;
}

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const batch *b = find(source->state, &i);
    return npi_format(out, "%s[%lld]", npi_path_name(b->name), (long long)i);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    const batch *b = find(source->state, &i);
    return npi_cifar_image(b->images->bytes + (size_t)i * PIXELS, b->name, out);
}

extern const npi_data_format npi_format_cifar_py;
const npi_data_format npi_format_cifar_py = {.name = "cifar-py",
                                             .recognise = recognise,
                                             .open = open_cifar,
                                             .name_of = name_of,
                                             .decode = decode,
                                             .has_split = has_split,
                                             .close = close_cifar};
