/* data/class_tree.h - from the paths of image files to splits, classes and an order; shared by
 * folders and archives, so that an archive and what is unpacked from it are the same set.
 *
 * 1. Folders that hold everything ("dtd/" of "dtd/banded/1.jpg", "dtd/dotted/2.jpg") are left out
 *    of account as long as class folders remain below them.
 * 2. If all folders of the first level are named train, test, val, valid or validation, they are
 *    splits.
 * 3. Below that, the first folder is the class; files without one are images without labels.
 *
 * Of a flat source (npi_source.flat) all files are images without labels, wherever they lie.
 *
 * The classes of a split are numbered as in train, in the order of their names, unless the split
 * has classes of its own that train lacks. */
#ifndef NPI_DATA_CLASS_TREE_H
#define NPI_DATA_CLASS_TREE_H

#include "data/format.h"

/* Files that stand beside images in published sets and are passed over: hidden ones, folders of
 * archivers, and text, tables and documents by name. */
bool npi_tree_side_file(const char *path);

/* Whether the name ends as those of images do. */
bool npi_tree_image_name(const char *path);

/* Whether a file could be part of the split, as far as its path alone tells. */
bool npi_tree_may_be_in(const char *path, npi_split split);

/* Whether these files have the split. */
bool npi_tree_has_split(char *const *paths, int64_t count, npi_split split);

/* Fills count, labels, classes and class_names of `source`; *order = the chosen files, sorted
 * bytewise by path, as indices into `paths`, to be freed with npi_free.  Paths are relative, with
 * '/' and without empty or "." parts. */
NPOS_MUST_CHECK npos_status npi_tree_build(char *const *paths, int64_t count, npi_split split,
                                           npi_source *source, int64_t **order);

/* Names found that are neither images nor side files: the first few and how many. */
typedef struct npi_strangers {
    int64_t count;
    char names[320];
} npi_strangers;
void npi_strangers_add(npi_strangers *strangers, const char *name);
/* NPOS_OK when there are none. */
NPOS_MUST_CHECK npos_status npi_strangers_check(const npi_strangers *strangers, const char *path);

#endif
