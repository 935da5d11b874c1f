#include "data/class_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/image_decode.h"

static const char *const split_names[] = {"train", "test", "val", "valid", "validation"};
enum { SPLIT_NAMES = sizeof split_names / sizeof *split_names };

static bool has_ending(const char *name, const char *const *endings, size_t count) {
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < count; i++)
        if (strcasecmp(dot + 1, endings[i]) == 0)
            return true;
    return false;
}

bool npi_tree_image_name(const char *path) {
    static const char *const endings[] = {"jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm", "pbm"};
    return has_ending(npi_path_name(path), endings, sizeof endings / sizeof *endings);
}

bool npi_tree_side_file(const char *path) {
    static const char *const endings[] = {"txt", "csv", "tsv",  "md",  "json", "yaml", "yml",
                                          "xml", "htm", "html", "pdf", "mat",  "db",   "ini",
                                          "log", "py",  "sh",   "rst", "bib"};
    static const char *const names[] = {"README",  "LICENSE", "LICENCE",
                                        "COPYING", "MD5SUMS", "SHA256SUMS"};
    if (path[0] == '.' || strstr(path, "/.") || strncmp(path, "__MACOSX/", 9) == 0)
        return true;
    const char *name = npi_path_name(path);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return has_ending(name, endings, sizeof endings / sizeof *endings);
}

/* Length of the first folder's name, 0 when the path is a bare file. */
static size_t folder_length(const char *path) {
    const char *slash = strchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

/* Number in split_names, -1: another name. */
static int split_number(const char *path, size_t length) {
    for (int i = 0; i < SPLIT_NAMES; i++)
        if (strlen(split_names[i]) == length && strncmp(path, split_names[i], length) == 0)
            return i;
    return -1;
}

static bool split_matches(int number, npi_split split) {
    return split == NPI_SPLIT_ALL || (split == NPI_SPLIT_TRAIN) == (number == 0);
}

bool npi_tree_may_be_in(const char *path, npi_split split) {
    if (split == NPI_SPLIT_ALL)
        return true;
    for (size_t length; (length = folder_length(path)) > 0; path += length + 1) {
        int number = split_number(path, length);
        if (number >= 0 && split_matches(number, split))
            return true;
    }
    return false;
}

/* Length of what all paths share and what rule 1 leaves out. */
static size_t common_length(char *const *paths, int64_t count) {
    size_t skip = 0;
    for (;;) {
        size_t length = folder_length(paths[0] + skip);
        if (length == 0 || split_number(paths[0] + skip, length) >= 0)
            return skip;
        for (int64_t i = 0; i < count; i++) {
            const char *rest = paths[i] + skip;
            if (strncmp(rest, paths[0] + skip, length + 1) != 0 || !strchr(rest + length + 1, '/'))
                return skip;
        }
        skip += length + 1;
    }
}

/* Whether rule 2 holds; *present = the splits as bits of split_names. */
static bool find_splits(char *const *paths, int64_t count, size_t skip, unsigned *present) {
    *present = 0;
    for (int64_t i = 0; i < count; i++) {
        int number = split_number(paths[i] + skip, folder_length(paths[i] + skip));
        if (number < 0)
            return false;
        *present |= 1u << number;
    }
    return count > 0;
}

/* Of the splits present, those that answer #train or #test: "test" itself, else the first val. */
static unsigned chosen_splits(unsigned present, npi_split split) {
    if (split == NPI_SPLIT_ALL)
        return present;
    if (split == NPI_SPLIT_TRAIN)
        return present & 1u;
    for (int i = 1; i < SPLIT_NAMES; i++)
        if (present & 1u << i)
            return 1u << i;
    return 0;
}

bool npi_tree_has_split(char *const *paths, int64_t count, npi_split split) {
    unsigned present;
    return count > 0 && find_splits(paths, count, common_length(paths, count), &present) &&
           chosen_splits(present, split) != 0;
}

typedef struct item {
    const char *path, *rest; /* rest: below the split */
    int64_t index;
    int split;
} item;

static int by_path(const void *a, const void *b) {
    return strcmp(((const item *)a)->path, ((const item *)b)->path);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, int count) {
    for (int i = 0; i < count; i++)
        npi_free(names[i]);
    npi_free(names);
}

/* *names = the sorted class names of the items of the given splits. */
static npos_status list_classes(const item *items, int64_t count, unsigned splits, char ***names,
                                int *classes) {
    size_t capacity = 0, used = 0;
    const char *newest = "";
    size_t newest_length = 0;
    npos_status status = NPOS_OK;
    *names = NULL;
    *classes = 0;
    for (int64_t i = 0; i < count; i++) {
        size_t length = folder_length(items[i].rest);
        if (!(splits & 1u << items[i].split) || length == 0 ||
            (length == newest_length && strncmp(newest, items[i].rest, length) == 0))
            continue;
        if (used == capacity) {
            size_t larger = 2 * capacity + 16;
            NPI_TRY_GOTO(npi_grow(names, capacity, larger, sizeof **names, "class names"), failed);
            capacity = larger;
        }
        NPI_TRY_GOTO(npi_format(&(*names)[used], "%.*s", (int)length, items[i].rest), failed);
        used++;
        newest = items[i].rest;
        newest_length = length;
    }
    if (used == 0)
        return NPOS_OK;
    qsort(*names, used, sizeof **names, by_text);
    size_t kept = 1;
    for (size_t i = 1; i < used; i++)
        if (strcmp((*names)[i], (*names)[kept - 1]) == 0)
            npi_free((*names)[i]);
        else
            (*names)[kept++] = (*names)[i];
    *classes = (int)kept;
    return NPOS_OK;
failed:
    free_names(*names, (int)used);
    *names = NULL;
    return status;
}

static int class_number(char **names, int classes, const char *rest) {
    char name[1024];
    snprintf(name, sizeof name, "%.*s", (int)folder_length(rest), rest);
    const char *key = name;
    char **found = bsearch(&key, names, (size_t)classes, sizeof *names, by_text);
    return found ? (int)(found - names) : -1;
}

static bool within(char **some, int count, char **all, int all_count) {
    for (int i = 0; i < count; i++)
        if (!bsearch(&some[i], all, (size_t)all_count, sizeof *all, by_text))
            return false;
    return true;
}

/* The class list of the chosen splits (see the header). */
static npos_status choose_classes(const item *items, int64_t count, unsigned chosen,
                                  npi_source *source) {
    NPI_TRY(list_classes(items, count, chosen, &source->class_names, &source->classes));
    if (chosen & 1u)
        return NPOS_OK;
    char **names;
    int classes;
    NPI_TRY(list_classes(items, count, 1u, &names, &classes));
    if (source->classes > 0 && within(source->class_names, source->classes, names, classes)) {
        free_names(source->class_names, source->classes);
        source->class_names = names;
        source->classes = classes;
    } else {
        free_names(names, classes);
    }
    return NPOS_OK;
}

/* The chosen items become the source's images. */
static npos_status take_items(const item *items, int64_t count, unsigned chosen, npi_source *source,
                              int64_t *order) {
    const char *bare = NULL;
    NPI_TRY(npi_alloc(&source->labels, (size_t)count, sizeof *source->labels, "labels"));
    for (int64_t i = 0; i < count; i++) {
        if (!(chosen & 1u << items[i].split))
            continue;
        if (folder_length(items[i].rest) == 0)
            bare = items[i].path;
        else if (folder_length(items[i].rest) >= 1024)
            return npi_fail(NPOS_BAD_DATA, "%s: the class name of %.80s... is too long",
                            source->path, items[i].path);
        else
            source->labels[source->count] =
                class_number(source->class_names, source->classes, items[i].rest);
        order[source->count++] = items[i].index;
    }
    if (bare && source->classes > 0)
        return npi_hint(npi_fail(NPOS_BAD_DATA,
                                 "%s: %s lies beside class folders (%s ...), expected all images "
                                 "in class folders or none",
                                 source->path, bare, source->class_names[0]),
                        "flat:%s takes all of them, without labels", source->path);
    if (source->classes == 0) {
        npi_free(source->labels);
        source->labels = NULL;
    }
    return NPOS_OK;
}

npos_status npi_tree_build(char *const *paths, int64_t count, npi_split split, npi_source *source,
                           int64_t **order) {
    item *items = NULL;
    npos_status status;
    *order = NULL;
    if (count == 0)
        return npi_fail(NPOS_BAD_DATA, "%s: no images, expected image files in class folders",
                        source->path);
    size_t skip = source->flat ? 0 : common_length(paths, count);
    unsigned present, chosen = 1u;
    bool has_splits = !source->flat && find_splits(paths, count, skip, &present);
    if (!has_splits && split != NPI_SPLIT_ALL)
        return npi_no_split(source, split,
                            source->flat ? "flat: takes all images"
                                         : "expected folders train and test and no others");
    if (has_splits) {
        chosen = chosen_splits(present, split);
        if (chosen == 0)
            return npi_no_split(source, split, "there is no such folder");
    }
    NPI_TRY(npi_alloc(&items, (size_t)count, sizeof *items, "file list"));
    NPI_TRY_GOTO(npi_alloc(order, (size_t)count, sizeof **order, "file list"), done);
    for (int64_t i = 0; i < count; i++) {
        const char *rest = paths[i] + skip;
        size_t length = folder_length(rest);
        items[i] = (item){paths[i], rest, i, 0};
        if (has_splits) {
            items[i].split = split_number(rest, length);
            items[i].rest += length + 1;
        }
    }
    qsort(items, (size_t)count, sizeof *items, by_path);
    for (int64_t i = 1; i < count; i++)
        if (strcmp(items[i].path, items[i - 1].path) == 0) {
            status = npi_fail(NPOS_BAD_DATA, "%s: %s is there twice", source->path, items[i].path);
            goto done;
        }
    if (source->flat) {
        for (int64_t i = 0; i < count; i++)
            (*order)[i] = items[i].index;
        source->count = count;
        goto done;
    }
    NPI_TRY_GOTO(choose_classes(items, count, chosen, source), done);
    status = take_items(items, count, chosen, source, *order);
done:
    npi_free(items);
    if (status != NPOS_OK) {
        npi_free(*order);
        *order = NULL;
    }
    return status;
}

void npi_strangers_add(npi_strangers *strangers, const char *name) {
    size_t used = strlen(strangers->names);
    if (strangers->count++ < 3 && used + strlen(name) + 3 < sizeof strangers->names)
        snprintf(strangers->names + used, sizeof strangers->names - used, "%s%s",
                 used > 0 ? ", " : "", name);
}

npos_status npi_strangers_check(const npi_strangers *strangers, const char *path) {
    if (strangers->count == 0)
        return NPOS_OK;
    npi_fail(NPOS_BAD_DATA, "%s: %lld %s (" NPI_IMAGE_KINDS "): %s%s", path,
             (long long)strangers->count,
             strangers->count == 1 ? "file is no image" : "files are no images", strangers->names,
             strangers->count > 3 ? ", ..." : "");
    if (strstr(strangers->names, "data_batch"))
        return npi_hint(NPOS_BAD_DATA, "of CIFAR, give the folder that holds the batches itself");
    return npi_hint(NPOS_BAD_DATA, "move files that are no images out of the set");
}
