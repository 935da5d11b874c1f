/* data/duplicates.h - images that come twice, inside a set and across sets.
 *
 * Exact copies have the same `exact` fingerprint.  Near ones differ in at most `distance` of 64 bits and look alike in the
 * small image (correlation of at least NPI_NEAR_LIKENESS); exact copies are not near ones, flat images neither.
 *
 * Two of 64 bits that differ in at most d bits agree in one of d + 1 blocks: sorted by each block in turn, only images that
 * share a block are compared. */
#ifndef NPI_DATA_DUPLICATES_H
#define NPI_DATA_DUPLICATES_H

#include "data/fingerprint.h"

#define NPI_NEAR_LIKENESS 0.95

enum { NPI_DUPLICATE_SETS = 32, NPI_DUPLICATE_EXAMPLES = 12, NPI_NEAR_MOST = 15 };

/* Image numbers `a` < `b` of the whole list. */
typedef struct npi_duplicate {
    int64_t a, b;
    int distance; /* 0 and exact, or bits that differ */
    bool exact;
} npi_duplicate;

/* What set `b` shares with set `a`. */
typedef struct npi_shared {
    int64_t exact; /* images of b with a copy in a; a == b: images that repeat an earlier one */
    int64_t near;  /* images of b with a near one in a, copies of the same image counted once */
    npi_duplicate example[NPI_DUPLICATE_EXAMPLES];
    int examples;
} npi_shared;

/* *shared = [sets][sets], to be freed with npi_free: shared[a * sets + b].  Where the sets follow each
 * other, examples stand at a <= b.  Images of set -1 are passed over; distance < 0: exact copies alone.
 * `progress` may be NULL. */
NPOS_MUST_CHECK npos_status npi_duplicates_find(const npi_fingerprint *prints, int64_t count,
                                                int sets, int distance, npi_progress_fn *progress,
                                                void *context, npi_shared **shared);

#endif
