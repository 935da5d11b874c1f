/* data/catalogue.h - the sets of images that papers on OOD detection use, by name: where they come from, where they lie
 * below a root folder, how they are opened.
 *
 * The rows are in data/catalogue_sets.inc and data/catalogue_benchmarks.inc.  A SPEC may be a name of this catalogue in
 * place of a path (data/spec.h):
 *
 *     cifar10#train                 datasets/CIFAR10/cifar-10-batches-bin#train
 *     svhn-select                   datasets/small_OOD_dataset/svhn/test_32x32.mat#first=1000
 *     openood-cifar10/tin           datasets/benchmark_imglist/cifar10/test_tin.txt
 *
 * The root is the environment's NPOS_DATA, else "datasets": the folder of the authors' code, or OpenOOD's "data". */
#ifndef NPI_DATA_CATALOGUE_H
#define NPI_DATA_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fail.h"

/* What a set serves as, in the papers; a set may have several roles. */
enum { NPI_ROLE_ID = 1, NPI_ROLE_NEAR = 2, NPI_ROLE_FAR = 4 };

/* A file to download. */
typedef struct npi_data_file {
    const char *name;     /* what it is called on a mirror, and below the set's home */
    const char *url[2];   /* in the order in which they are tried; NULL: none */
    int64_t bytes;        /* 0: not known */
    const char *checksum; /* "md5:...", "sha256:..."; NULL: none was published */
} npi_data_file;

enum { NPI_SET_PLACES = 9, NPI_SET_FILES = 4 };

typedef struct npi_data_set {
    const char *name, *title;
    unsigned roles;
    int64_t images; /* in all splits */
    const char *licence;
    const char
        *place[NPI_SET_PLACES]; /* SPECs below the root; the first whose path exists is the set */
    const char *test;           /* split to evaluate: "#test", or "" */
    const char *home;           /* folder below the root that files are put into */
    const char *top;     /* what the archive unpacks to, below home; NULL: files stay as they are */
    const char *by_hand; /* NULL, or why it cannot be fetched and where it is to be had */
    npi_data_file file[NPI_SET_FILES]; /* ends at the first without a name */
} npi_data_set;

/* A list of sets that are evaluated together. */
typedef struct npi_benchmark_part {
    const char *group, *name; /* "near", "tin"; group "id": images of the classes */
    const char *spec;         /* a name of the catalogue, or a list below the root */
} npi_benchmark_part;

enum { NPI_BENCHMARK_PARTS = 12 };

typedef struct npi_benchmark {
    const char *name, *title;
    npi_benchmark_part part[NPI_BENCHMARK_PARTS]; /* ends at the first without a name */
} npi_benchmark;

/* The set or benchmark number i, NULL behind the last. */
const npi_data_set *npi_catalogue_set(int i);
const npi_benchmark *npi_catalogue_benchmark(int i);

/* By name; NULL when there is none. */
const npi_data_set *npi_catalogue_find(const char *name);
const npi_benchmark *npi_catalogue_find_benchmark(const char *name);

/* NPOS_INVALID_ARGUMENT: no set has this name; with the nearest as hint. */
NPOS_MUST_CHECK npos_status npi_catalogue_unknown(const char *name);

/* Whether `length` characters of text are a set's name or BENCHMARK/PART. */
bool npi_catalogue_names(const char *text, size_t length);

/* The folder that names stand for: NPOS_DATA, else "datasets". */
const char *npi_data_root(void);

/* *out = the SPEC of a set or of BENCHMARK/PART below `root`, to be freed with npi_free.  Where it does not lie there:
 * NPOS_NOT_FOUND, with the places that were looked at and how to get it. */
NPOS_MUST_CHECK npos_status npi_catalogue_spec(const char *name, const char *root, char **out);

typedef enum npi_data_state {
    NPI_DATA_MISSING,
    NPI_DATA_THERE,      /* not counted: more images than are counted in a moment */
    NPI_DATA_COMPLETE,   /* as many images, or bytes, as there should be */
    NPI_DATA_INCOMPLETE, /* fewer or more images */
    NPI_DATA_UNREADABLE  /* `why` says what is wrong */
} npi_data_state;

typedef struct npi_data_found {
    npi_data_state state;
    char *spec;     /* NULL: missing */
    int64_t images; /* counted; -1: not counted */
    char *why;      /* NULL, or the error of opening it */
} npi_data_found;

/* Looks for a set below `root`.  A single file of its source's size is complete (`images` -1); other sets of up to 100,000
 * images are opened and counted.
 * Only a lack of memory is a failure.  Release with npi_data_found_clear. */
NPOS_MUST_CHECK npos_status npi_catalogue_look(const npi_data_set *set, const char *root,
                                               npi_data_found *out);
void npi_data_found_clear(npi_data_found *found);

#endif
