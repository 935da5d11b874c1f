/* data/spec.h - the grammar of a SPEC.
 *
 *     [FORMAT:]PATH[#train|#test][#class=LIST|#class!=LIST|#first=N|#draw=N[:SEED]]...   LIST: A,B,... or @FILE
 *
 * PATH may be a name of the catalogue (data/catalogue.h) where no such file or folder exists. */
#ifndef NPI_DATA_SPEC_H
#define NPI_DATA_SPEC_H

#include "data/format.h"

enum { NPI_SPEC_FILTERS = 8 };

typedef enum npi_filter_kind {
    NPI_FILTER_CLASS,   /* the images of the classes in items */
    NPI_FILTER_EXCLUDE, /* all but those */
    NPI_FILTER_FIRST,   /* the first `number` of each class; without labels, of all */
    NPI_FILTER_DRAW /* `number` of the images, drawn with `seed` as subsets are, in their order */
} npi_filter_kind;

typedef struct npi_filter {
    npi_filter_kind kind;
    char **items; /* class names or numbers */
    int count;
    int64_t number;
    uint64_t seed;
} npi_filter;

typedef struct npi_spec {
    const npi_data_format *format; /* NULL: to be recognised */
    char *path;
    npi_split split;
    npi_filter filters[NPI_SPEC_FILTERS];
    int filter_count;
} npi_spec;

/* Parses a SPEC; files of "@FILE" lists (a class a line) are read, "@imagenet-100" and "@imagenet-1k" are
 * built in.  A path that contains '#' may be used when such a file or folder exists. */
NPOS_MUST_CHECK npos_status npi_spec_parse(const char *text, npi_spec *out);
void npi_spec_clear(npi_spec *spec);

#endif
