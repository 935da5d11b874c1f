/* report/classes_file.h - RUN/scores/classes.safetensors: of each image of an evaluation the class that
 * the model takes it for, and the class that its own set says it is of.
 *
 * Tensors NAME.taken and NAME.own, int32 [n], one pair a set ("id": the ID images); metadata `format`
 * and `classes`, a JSON object of the names of each set's own classes: {"id": ["cat", ...], ...}. */
#ifndef NPI_REPORT_CLASSES_FILE_H
#define NPI_REPORT_CLASSES_FILE_H

#include <stdint.h>

#include "base/fail.h"

typedef struct npi_set_classes {
    char *name;         /* of the set */
    int64_t n;          /* images */
    int32_t *taken;     /* [n] class of the model; -1: it has no way to tell classes */
    int32_t *own;       /* [n] class of the set, -1: without.  Of "id": class of the model */
    int classes;        /* of the set */
    char **class_names; /* [classes] */
} npi_set_classes;

typedef struct npi_classes_list {
    int count;
    npi_set_classes *set;
} npi_classes_list;
void npi_classes_list_clear(npi_classes_list *list);

/* Adds a set with copies of all. */
NPOS_MUST_CHECK npos_status npi_classes_list_add(npi_classes_list *list, const char *name,
                                                 int64_t n, const int32_t *taken,
                                                 const int32_t *own, char *const *class_names,
                                                 int classes);
/* NULL when there is no such set. */
const npi_set_classes *npi_classes_list_find(const npi_classes_list *list, const char *name);

/* Written whole or not at all. */
NPOS_MUST_CHECK npos_status npi_classes_file_write(const npi_classes_list *list, const char *path);

/* Reads such a file into a zeroed *out; release it also after a failure.  `classes` is how many the
 * model has: a number that is none of its classes or of the set's own is an error. */
NPOS_MUST_CHECK npos_status npi_classes_file_read(const char *path, int classes,
                                                  npi_classes_list *out);

#endif
