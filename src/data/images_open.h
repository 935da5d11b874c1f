/* data/images_open.h - what the loader in memory and the streaming one share. */
#ifndef NPI_DATA_IMAGES_OPEN_H
#define NPI_DATA_IMAGES_OPEN_H

#include "data/dataset.h"

enum { NPI_MAX_DECODERS = 256 };

/* The number of decoder threads that `wanted` asks for: 0 stands for as many as processors that the
 * process may use; never more than NPI_MAX_DECODERS. */
int npi_decoder_threads(int wanted);

#endif
