/* data/shard_list.h - the files that a pattern names: shards of one set.
 *
 *     shards/train-{000000..001281}.tar     a range, filled with zeros to the width of its first number
 *     shards/{train,val}-*.tar              alternatives and wildcards, as a shell knows them
 *
 * A range's files must all be there; what wildcards match comes in the order of the names. */
#ifndef NPI_DATA_SHARD_LIST_H
#define NPI_DATA_SHARD_LIST_H

#include <stdbool.h>

#include "base/fail.h"

enum { NPI_MOST_SHARDS = 1 << 17 };

typedef struct npi_shards {
    char **paths;
    int count;
} npi_shards;

/* Whether a path has characters of a pattern. */
bool npi_is_pattern(const char *path);

/* The files of a pattern, the .tar files of a folder, or the one file; at least one, at most `most`
 * (0: NPI_MOST_SHARDS, beyond which is an error). */
NPOS_MUST_CHECK npos_status npi_shards_list(const char *path, int most, npi_shards *out);
void npi_shards_clear(npi_shards *shards);

#endif
