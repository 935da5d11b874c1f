/* data/images_open.h - what the loader in memory and the streaming one share. */
#ifndef NPI_DATA_IMAGES_OPEN_H
#define NPI_DATA_IMAGES_OPEN_H

#include "data/dataset.h"

enum { NPI_MAX_DECODERS = 256 };

/* The number of decoder threads that `wanted` asks for: 0 stands for as many as processors that the
 * process may use; never more than NPI_MAX_DECODERS. */
int npi_decoder_threads(int wanted);

/* *out = `limit` of 0..count-1, drawn with NPI_RANDOM_SUBSET and the seed, ascending. */
NPOS_MUST_CHECK npos_status npi_draw_subset(int64_t count, int64_t limit, uint64_t seed,
                                            int64_t **out);

#endif
