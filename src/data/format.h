/* data/format.h - what a format of image sets gives to data/dataset.c.
 *
 * A format is one file with one npi_data_format in it and one line in the table of data/formats.c
 * (docs/data.md). */
#ifndef NPI_DATA_FORMAT_H
#define NPI_DATA_FORMAT_H

#include <stddef.h>

#include "data/dataset.h"

typedef struct npi_data_format npi_data_format;

typedef enum npi_split { NPI_SPLIT_ALL, NPI_SPLIT_TRAIN, NPI_SPLIT_TEST } npi_split;

/* "train" or "test". */
const char *npi_split_name(npi_split split);

/* An opened set, filled by npi_data_format.open.  Arrays are of npi_alloc and belong to the source.
 */
typedef struct npi_source {
    const npi_data_format *format;
    char *path;
    bool flat;      /* class folders and splits are not looked at: set by format_flat */
    int least_side; /* what decode gives npi_image_decode; 0 while the set is opened */
    int64_t count;
    int classes;
    char **class_names; /* [classes]; NULL: the numbers as text */
    int32_t *labels;    /* [count], each in 0..classes-1; NULL: without labels */
    void *state;        /* the format's own */
} npi_source;

struct npi_data_format {
    const char *name;
    /* Whether the content of the file or folder is of this format.  Cheap; never fails. */
    bool (*recognise)(const char *path);
    /* Fills count, classes, class_names, labels, state; format and path are set already.  A set
     * without that split is NPOS_NOT_FOUND.  NPI_SPLIT_ALL takes all there is.  On failure close is
     * called with what was filled so far. */
    npos_status (*open)(npi_source *source, npi_split split);
    /* Name and pixels of image i; from several threads at once.  JPEG files, and they alone, may come
     * out smaller, as source->least_side lets them. */
    npos_status (*name_of)(const npi_source *source, int64_t i, char **out);
    npos_status (*decode)(const npi_source *source, int64_t i, npi_image *out);
    /* npi_dataset_stamp of image i.  NULL: decoding is cheap, its pixels are hashed. */
    npos_status (*stamp)(const npi_source *source, int64_t i, uint64_t *out);
    bool (*has_split)(const char *path, npi_split split);
    /* Frees state; may be NULL. */
    void (*close)(npi_source *source);
};

extern const npi_data_format *const npi_formats[];
extern const int npi_format_count;

/* Helpers that formats share. */

/* The first `size` bytes of a file into `bytes`; how many there were (0 for what is no readable
 * file). */
size_t npi_file_start(const char *path, void *bytes, size_t size);

/* Whether a file begins as archives do (format_archive.c). */
bool npi_archive_marked(const char *path);

/* Class names from a file with one a line, in the order of labels; lines beyond `classes` are not
 * used.  Too few, or two the same, are errors. */
NPOS_MUST_CHECK npos_status npi_class_names_read(npi_source *source, const char *path);
/* The same from a text, which `path` names in messages. */
NPOS_MUST_CHECK npos_status npi_class_names_parse(npi_source *source, const char *path,
                                                  const char *text);
/* The same from classes.txt in the set's folder, where there is one. */
NPOS_MUST_CHECK npos_status npi_class_names_beside(npi_source *source);
/* *out = the size of a file: the stamp of an image that is a file of its own. */
NPOS_MUST_CHECK npos_status npi_file_stamp(const char *path, uint64_t *out);

/* Error of a set that was asked for a split that it has not. */
NPOS_MUST_CHECK npos_status npi_no_split(const npi_source *source, npi_split split,
                                         const char *expected);

#endif
