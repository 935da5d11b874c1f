/* A list of image files: "PATH LABEL" or "PATH" a line, as OpenOOD's benchmark_imglist and many others have.
 *
 * LABEL is a whole number from 0 on, or -1 throughout for a set without labels; or the WordNet id of a synset
 * (n01440764) throughout, which then is the class's name.  Paths that are not absolute start from
 * the nearest folder above the list that has the first image below it, below its images_classic or its images_largescale
 * (OpenOOD's data folder).  A class is called by its line in classes.txt beside the list, else by its images' folder
 * where each class has one of its own. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/class_tree.h"
#include "data/format.h"
#include "data/image_decode.h"

enum { START = 4096, MAX_LEVELS = 16, MOST_CLASSES = 1 << 20 };

typedef struct list {
    char *text;    /* the file; each path in it ends with a zero */
    char **path;   /* [count] */
    char **synset; /* [count] NULL: labels are numbers */
    char *root;    /* "" where the paths are absolute */
} list;

/* One line's path and label; the line may be changed: the path ends with a zero. */
typedef struct entry {
    char *path;
    bool labelled;
    int32_t label;
    char *synset; /* the label where it is a WordNet id, else NULL */
} entry;

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

/* Whether the text is a whole number, which is then *out (beyond MOST_CLASSES: MOST_CLASSES). */
static bool is_number(const char *text, size_t length, int32_t *out) {
    bool negative = length > 1 && text[0] == '-';
    int64_t value = 0;
    if (length == 0)
        return false;
    for (size_t i = negative; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value < MOST_CLASSES ? 10 * value + (text[i] - '0') : MOST_CLASSES;
    }
    value = value < MOST_CLASSES ? value : MOST_CLASSES;
    *out = (int32_t)(negative ? -value : value);
    return true;
}

static bool is_synset(const char *text, size_t length) {
    return length == 9 && text[0] == 'n' && strspn(text + 1, "0123456789") >= 8;
}

/* Parts a line of `length` bytes, behind which a byte may be written; false: it is empty. */
static bool part_line(char *line, size_t length, entry *out) {
    *out = (entry){.path = line};
    while (length > 0 && is_blank(line[length - 1]))
        length--;
    size_t word = length;
    while (word > 0 && !is_blank(line[word - 1]))
        word--;
    bool named = word > 0 && is_synset(line + word, length - word);
    if (named || (word > 0 && is_number(line + word, length - word, &out->label))) {
        out->labelled = true;
        if (named) {
            out->synset = line + word;
            line[length] = '\0';
        }
        length = word;
        while (length > 0 && is_blank(line[length - 1]))
            length--;
    }
    for (; length > 0 && is_blank(*out->path); length--)
        out->path++;
    out->path[length] = '\0';
    return length > 0;
}

static bool recognise(const char *path) {
    char start[START + 1];
    entry first;
    if (!npi_is_file(path))
        return false;
    size_t size = npi_file_start(path, start, START);
    start[size] = '\0';
    size_t length = strcspn(start, "\n");
    return strlen(start) == size && part_line(start, length, &first) &&
           npi_tree_image_name(first.path);
}

/* ---- where the images are ---- */

/* Whether FOLDER/BELOW/path is a file; *root is then FOLDER/BELOW. */
static bool starts_from(const char *folder, const char *below, const char *path, char **root) {
    char *whole;
    bool found = false;
    if ((*below ? npi_path_join(root, folder, below) : npi_strdup(root, folder)) != NPOS_OK)
        return false;
    if (npi_path_join(&whole, *root, path) == NPOS_OK) {
        found = npi_is_file(whole);
        npi_free(whole);
    }
    if (!found) {
        npi_free(*root);
        *root = NULL;
    }
    return found;
}

static npos_status find_root(const npi_source *source, const char *path, char **root) {
    static const char *const below[] = {"", "images_classic", "images_largescale"};
    char *folder;
    if (path[0] == '/')
        return npi_strdup(root, "");
    NPI_TRY(npi_format(&folder, "%.*s.", (int)(npi_path_name(source->path) - source->path),
                       source->path));
    for (int level = 0; level < MAX_LEVELS && !*root; level++) {
        for (size_t i = 0; i < sizeof below / sizeof *below && !*root; i++)
            if (starts_from(folder, below[i], path, root))
                break;
        char *above;
        npos_status status = npi_path_join(&above, folder, "..");
        npi_free(folder);
        NPI_TRY(status);
        folder = above;
    }
    npi_free(folder);
    if (*root)
        return NPOS_OK;
    return npi_hint(npi_fail(NPOS_NOT_FOUND,
                             "%s: its first image, '%s', lies below no folder above the list",
                             source->path, path),
                    "paths start from the list's folder or one above it, from images_classic or "
                    "images_largescale "
                    "there, or from /");
}

/* ---- the file ---- */

static npos_status add_line(npi_source *source, int64_t number, const entry *e, int64_t *capacity) {
    list *l = source->state;
    size_t count = (size_t)source->count;
    if (source->count > 0 && e->labelled != (source->labels != NULL))
        return npi_fail(NPOS_BAD_DATA, "%s: line %lld %s a label, unlike the lines before",
                        source->path, (long long)number, e->labelled ? "has" : "has not");
    if (e->labelled && (e->label < -1 || e->label >= MOST_CLASSES))
        return npi_fail(NPOS_BAD_DATA, "%s: line %lld: a label of %d, expected -1 to %d",
                        source->path, (long long)number, e->label, MOST_CLASSES - 1);
    if (source->count > 0 && (e->synset != NULL) != (l->synset != NULL))
        return npi_fail(NPOS_BAD_DATA, "%s: line %lld has a %s as label, unlike the lines before",
                        source->path, (long long)number, e->synset ? "WordNet id" : "number");
    if (source->count > 0 && e->labelled && (e->label < 0) != (source->labels[0] < 0))
        return npi_fail(NPOS_BAD_DATA, "%s: line %lld has label %d, unlike the lines before",
                        source->path, (long long)number, e->label);
    if (source->count == *capacity) {
        size_t larger = 2 * count + 1024;
        NPI_TRY(npi_grow(&l->path, count, larger, sizeof *l->path, "paths"));
        if (e->labelled)
            NPI_TRY(npi_grow(&source->labels, count, larger, sizeof *source->labels, "labels"));
        if (e->synset)
            NPI_TRY(npi_grow(&l->synset, count, larger, sizeof *l->synset, "labels"));
        *capacity = (int64_t)larger;
    }
    l->path[count] = e->path;
    if (e->synset)
        l->synset[count] = e->synset;
    if (e->labelled) {
        source->labels[count] = e->label;
        if (e->label >= source->classes)
            source->classes = e->label + 1;
    }
    source->count++;
    return NPOS_OK;
}

static npos_status read_lines(npi_source *source, size_t size) {
    list *l = source->state;
    int64_t capacity = 0, number = 0;
    if (memchr(l->text, '\0', size))
        return npi_fail(NPOS_BAD_DATA, "%s: holds a zero byte, expected text", source->path);
    for (size_t at = 0; at < size;) {
        size_t length = strcspn(l->text + at, "\n");
        entry e;
        number++;
        if (part_line(l->text + at, length, &e))
            NPI_TRY(add_line(source, number, &e, &capacity));
        at += length + 1;
    }
    if (source->count == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: lists no image", source->path);
    if (source->labels && source->labels[0] < 0) {
        npi_free(source->labels);
        source->labels = NULL;
    }
    return NPOS_OK;
}

/* The folder that an image lies in, or NULL. */
static const char *folder_of(const char *path, size_t *length) {
    const char *end = npi_path_name(path), *begin;
    if (end == path)
        return NULL;
    for (begin = --end; begin > path && begin[-1] != '/'; begin--) {
    }
    *length = (size_t)(end - begin);
    return *length > 0 ? begin : NULL;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether all classes have names, no two the same. */
static npos_status are_names(char *const *names, int count, bool *good) {
    char **sorted;
    *good = true;
    for (int i = 0; i < count; i++)
        *good = *good && names[i];
    if (!*good)
        return NPOS_OK;
    NPI_TRY(npi_alloc(&sorted, (size_t)count, sizeof *sorted, "class names"));
    memcpy(sorted, names, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, by_text);
    for (int i = 1; i < count; i++)
        *good = *good && strcmp(sorted[i - 1], sorted[i]) != 0;
    npi_free(sorted);
    return NPOS_OK;
}

/* Labels and class names from WordNet ids, in their order. */
static npos_status number_synsets(npi_source *source) {
    const list *l = source->state;
    char **sorted;
    size_t count = (size_t)source->count, kept = 0;
    NPI_TRY(npi_alloc(&sorted, count, sizeof *sorted, "class names"));
    memcpy(sorted, l->synset, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_text);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || strcmp(sorted[i], sorted[kept - 1]) != 0)
            sorted[kept++] = sorted[i];
    npos_status status =
        kept > MOST_CLASSES
            ? npi_fail(NPOS_BAD_DATA, "%s: %zu classes, at most %d are read", source->path, kept,
                       MOST_CLASSES)
            : npi_alloc(&source->class_names, kept, sizeof *source->class_names, "class names");
    if (status == NPOS_OK)
        source->classes = (int)kept;
    for (size_t c = 0; c < kept && status == NPOS_OK; c++)
        status = npi_strdup(&source->class_names[c], sorted[c]);
    for (size_t i = 0; i < count && status == NPOS_OK; i++) {
        char **found = bsearch(&l->synset[i], sorted, kept, sizeof *sorted, by_text);
        source->labels[i] = (int32_t)(found - sorted);
    }
    npi_free(sorted);
    return status;
}

static npos_status name_classes(npi_source *source) {
    const list *l = source->state;
    bool good = true;
    NPI_TRY(npi_class_names_beside(source));
    if (source->class_names)
        return NPOS_OK;
    NPI_TRY(npi_alloc(&source->class_names, (size_t)source->classes, sizeof *source->class_names,
                      "class names"));
    for (int64_t i = 0; good && i < source->count; i++) {
        size_t length = 0;
        const char *folder = folder_of(l->path[i], &length);
        char **name = &source->class_names[source->labels[i]];
        if (!folder)
            good = false;
        else if (!*name)
            NPI_TRY(npi_format(name, "%.*s", (int)length, folder));
        else
            good = strlen(*name) == length && memcmp(*name, folder, length) == 0;
    }
    if (good)
        NPI_TRY(are_names(source->class_names, source->classes, &good));
    if (good)
        return NPOS_OK;
    for (int c = 0; c < source->classes; c++)
        npi_free(source->class_names[c]);
    npi_free(source->class_names);
    source->class_names = NULL;
    return NPOS_OK;
}

static npos_status open_list(npi_source *source, npi_split split) {
    list *l;
    size_t size;
    if (split != NPI_SPLIT_ALL)
        return npi_no_split(source, split, "a list is one set");
    NPI_TRY(npi_alloc(&l, 1, sizeof *l, "list"));
    source->state = l;
    NPI_TRY(npi_file_read(source->path, &l->text, &size));
    NPI_TRY(read_lines(source, size));
    NPI_TRY(find_root(source, l->path[0], &l->root));
    if (l->synset)
        return number_synsets(source);
    return source->labels ? name_classes(source) : NPOS_OK;
}

static void close_list(npi_source *source) {
    list *l = source->state;
    if (l) {
        npi_free(l->text);
        npi_free(l->path);
        npi_free(l->synset);
        npi_free(l->root);
    }
    npi_free(l);
}

/* ---- images ---- */

static npos_status name_of(const npi_source *source, int64_t i, char **out) {
    const list *l = source->state;
    return npi_strdup(out, l->path[i]);
}

static npos_status whole_path(const npi_source *source, int64_t i, char **out) {
    const list *l = source->state;
    if (!*l->root || l->path[i][0] == '/')
        return npi_strdup(out, l->path[i]);
    return npi_path_join(out, l->root, l->path[i]);
}

static npos_status decode(const npi_source *source, int64_t i, npi_image *out) {
    char *path;
    NPI_TRY(whole_path(source, i, &path));
    npos_status status = npi_image_read(path, source->least_side, out);
    npi_free(path);
    return status;
}

static npos_status stamp(const npi_source *source, int64_t i, uint64_t *out) {
    char *path;
    NPI_TRY(whole_path(source, i, &path));
    npos_status status = npi_file_stamp(path, out);
    npi_free(path);
    return status;
}

static bool has_split(const char *path, npi_split split) {
    (void)path;
    (void)split;
    return false;
}

extern const npi_data_format npi_format_list;
const npi_data_format npi_format_list = {.name = "list",
                                         .recognise = recognise,
                                         .open = open_list,
                                         .name_of = name_of,
                                         .decode = decode,
                                         .stamp = stamp,
                                         .has_split = has_split,
                                         .close = close_list};
