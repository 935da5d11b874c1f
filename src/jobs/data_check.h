/* jobs/data_check.h - all that npos_data_check finds, for its table, its JSON and its page. */
#ifndef NPI_JOBS_DATA_CHECK_H
#define NPI_JOBS_DATA_CHECK_H

#include <stdio.h>

#include "data/duplicates.h"
#include "jobs/data_contact.h"
#include "jobs/data_statistics.h"
#include "jobs/data_survey.h"

enum { NPI_CHECK_SETS = NPI_DUPLICATE_SETS };

typedef enum npi_part { NPI_PART_DATA, NPI_PART_TRAIN, NPI_PART_TEST, NPI_PART_OOD } npi_part;
extern const char *const npi_part_names[]; /* "data", "train", "test", "ood" */

typedef struct npi_check_set {
    npi_part part;
    char *group, *name, *spec; /* name "train" where the part is all that tells it */
    npi_survey survey;
    int64_t first; /* number of its first image in `prints` */
    npi_contact contact;
} npi_check_set;

/* A class of an OOD set that is called like one of the ID classes, or has its name in its own. */
typedef struct npi_overlap {
    int ood, ood_class, id, id_class; /* numbers of sets and classes */
    bool whole;                       /* the same name; else "frog" in "tree frog" */
    int64_t images;
    char *called; /* the OOD class as one calls it: for a WordNet id of ImageNet its name */
} npi_overlap;

typedef enum npi_gravity { NPI_NOTE, NPI_WARNING, NPI_ERROR } npi_gravity;
extern const char *const npi_gravity_names[]; /* "note", "warning", "error" */

typedef struct npi_finding {
    npi_gravity gravity;
    char *text;
} npi_finding;

typedef struct npi_check {
    npi_check_set set[NPI_CHECK_SETS];
    int sets;
    npi_fingerprint *prints;
    int64_t images;
    int distance;       /* of near copies; -1: not looked for */
    npi_shared *shared; /* [sets][sets] */
    npi_overlap *overlap;
    int overlaps;
    npi_finding *finding;
    int findings;
    const char *recipe; /* NULL: none was given */
    npi_statistics wanted, measured;
    npi_fit fit;
} npi_check;

static inline const npi_shared *npi_check_shared(const npi_check *check, int a, int b) {
    return &check->shared[a * check->sets + b];
}

/* The set that an image of the whole list is of. */
static inline const npi_check_set *npi_check_set_of(const npi_check *check, int64_t image) {
    int s = check->sets - 1;
    while (s > 0 && check->set[s].first > image)
        s--;
    return &check->set[s];
}

/* Looks for OOD classes that are called like ID classes (data_overlap.c). */
NPOS_MUST_CHECK npos_status npi_check_overlaps(npi_check *check);

/* Puts what was found into sentences, gravest first (data_findings.c). */
NPOS_MUST_CHECK npos_status npi_check_findings(npi_check *check, bool any_statistics);

/* As JSON, and as a table for people (data_check_write.c). */
NPOS_MUST_CHECK npos_status npi_check_json(const npi_check *check, const char *path);
NPOS_MUST_CHECK npos_status npi_check_table(const npi_check *check, FILE *out);

#endif
