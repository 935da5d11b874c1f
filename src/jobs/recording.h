/* jobs/recording.h - the same work again and again: recorded once where the device can record, else simply called.
 *
 * For work that always enqueues the same operations on the same memory; what changes from time to time is read from
 * device memory. */
#ifndef NPI_JOBS_RECORDING_H
#define NPI_JOBS_RECORDING_H

#include "tensor/device.h"

typedef struct npi_recording {
    bool
        ran; /* once, operation by operation: whatever grows or is planned when first used has its size then */
    npi_graph *graph; /* recorded the second time; NULL before, and on host devices */
} npi_recording;

/* Runs the work, or launches its recording.  Start with a zeroed struct; a failed recording is made anew. */
NPOS_MUST_CHECK npos_status npi_recording_run(npi_recording *recording, npi_device *dev,
                                              npos_status (*work)(void *context), void *context);
void npi_recording_free(npi_recording *recording, npi_device *dev);

#endif
