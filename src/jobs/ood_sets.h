/* jobs/ood_sets.h - the OOD sets that a user names: "[GROUP/]NAME=WHERE". */
#ifndef NPI_JOBS_OOD_SETS_H
#define NPI_JOBS_OOD_SETS_H

#include "base/fail.h"

typedef struct npi_ood_set {
    char *group; /* "" without one */
    char *name;
    char *where; /* SPEC or file: all behind the first '=' */
} npi_ood_set;

/* Parses `count` arguments; *out is to be freed with npi_ood_sets_free.  A missing name or '=', a
 * name used twice, the names "id" and "all" (which files and JSON use), and names that cannot be
 * file names are errors that show the argument. */
NPOS_MUST_CHECK npos_status npi_ood_sets_parse(const char *const *arguments, int count,
                                               npi_ood_set **out);

/* The same for sets of images, where names of the catalogue (data/catalogue.h) will do without '=': "svhn" is
 * far/svhn=svhn, "near/mnist" near/mnist=mnist#test, and a benchmark is each of its near and far sets. *out_count
 * says how many there are. */
NPOS_MUST_CHECK npos_status npi_ood_specs_parse(const char *const *arguments, int count,
                                                npi_ood_set **out, int *out_count);

/* Sets of ID classes under other conditions, "NAME=WHERE"; a benchmark is each of its full-spectrum sets, BENCHMARK/PART one
 * of them.  No arguments are no sets. */
NPOS_MUST_CHECK npos_status npi_csid_specs_parse(const char *const *arguments, int count,
                                                 npi_ood_set **out, int *out_count);
void npi_ood_sets_free(npi_ood_set *sets, int count);

#endif
