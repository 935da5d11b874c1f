/* comm/comm.h - the group of processes that a job runs in.
 *
 * One process by default (npi_comm_self).  The objective is written against these five functions:
 * it gathers z, h and labels over the group, computes the losses on the whole, and sums gradients.
 */
#ifndef NPI_COMM_COMM_H
#define NPI_COMM_COMM_H

#include <stddef.h>

#include "tensor/device.h"

typedef struct npi_comm npi_comm;
struct npi_comm {
    int rank, size;
    /* to[size][count] = every member's from[count], in order of rank; device memory.  With one
     * member, `to` may equal `from`, and then nothing moves. */
    npos_status (*all_gather)(npi_comm *comm, npi_device *dev, const void *from, void *to,
                              size_t bytes);
    /* values[count] = sum over the group, in an order fixed by the ranks. */
    npos_status (*all_reduce)(npi_comm *comm, npi_device *dev, float *values, size_t count);
    void (*close)(npi_comm *comm);
    void *own;
};

/* The group of one. */
npi_comm *npi_comm_self(void);

#endif
