/* data/spec.h - the grammar of a SPEC.
 *
 *     [FORMAT:]PATH[#train|#test][#class=LIST|#class!=LIST]...[#first=K]      LIST: A,B,... or @FILE */
#ifndef NPI_DATA_SPEC_H
#define NPI_DATA_SPEC_H

#include "data/format.h"

enum { NPI_SPEC_FILTERS = 8 };

typedef struct npi_class_filter {
    bool exclude;
    char **items; /* class names or numbers */
    int count;
} npi_class_filter;

typedef struct npi_spec {
    const npi_data_format *format; /* NULL: to be recognised */
    char *path;
    npi_split split;
    npi_class_filter filters[NPI_SPEC_FILTERS];
    int filter_count;
    int64_t first; /* images kept of each class, the first of them; 0: all */
} npi_spec;

/* Parses a SPEC; files of "@FILE" lists (a class a line) are read.  A path that contains '#' may be
 * used when such a file or folder exists. */
NPOS_MUST_CHECK npos_status npi_spec_parse(const char *text, npi_spec *out);
void npi_spec_clear(npi_spec *spec);

#endif
