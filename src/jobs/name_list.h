/* jobs/name_list.h - names of tensors that are missing or too many, for one message: the first three are named, the
 * rest counted. */
#ifndef NPI_JOBS_NAME_LIST_H
#define NPI_JOBS_NAME_LIST_H

#include <stddef.h>

#include "base/fail.h"

typedef struct npi_name_list {
    int count;
    size_t used;
    char text[400];
} npi_name_list;

void npi_name_list_add(npi_name_list *list, const char *name);

/* Ends the text with the number of those that are not named; before it is shown. */
const char *npi_name_list_text(npi_name_list *list);

/* NPOS_OK when both are empty; else NPOS_BAD_DATA: the file at `path` lacks the ones and has the others. */
NPOS_MUST_CHECK npos_status npi_name_lists_fail(const char *path, npi_name_list *missing,
                                                npi_name_list *extra);

#endif
