/* devices/cuda/cuda_tune.cuh - choices that were measured once and are kept for later runs.
 *
 * Which of cuDNN's engines (or of cuBLAS's algorithms) is fastest is a measurement, and measurements vary: two runs that measured for themselves could
 * take different engines, and their weights would differ in the last bits.  So a choice is measured only where it can be
 * kept, and whoever finds one takes it: the file npos/cudnn-VERSION-GPU.txt in $XDG_CACHE_HOME or ~/.cache, one line a
 * choice, the first line of a key counts.  NPOS_CUDA_TUNE=0: nothing is measured, kept or read. */
#ifndef NPI_CUDA_TUNE_CUH
#define NPI_CUDA_TUNE_CUH

#include "devices/cuda/cuda.cuh"

enum { NPI_TUNE_KEY_BYTES = 128 };

typedef struct npi_choice {
    int place;  /* among the candidates in their order */
    int engine; /* its number: where another one stands at that place now, the choice is void */
} npi_choice;

/* Whether choices can be read and kept here. */
bool npi_tune_possible(npi_device *dev);
/* Whether there is one of this key (no spaces in it). */
bool npi_tune_find(npi_device *dev, const char *key, npi_choice *out);
/* Keeps it; whoever was first with this key wins, so the choice to use is written back. */
void npi_tune_keep(npi_device *dev, const char *key, npi_choice *choice);

#endif
