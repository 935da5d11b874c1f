#include "comm/comm.h"

static npos_status gather(npi_comm *comm, npi_device *dev, const void *from, void *to,
                          size_t bytes) {
    (void)comm;
    return to == from ? NPOS_OK : dev->memory->copy(dev, to, from, bytes);
}

static npos_status reduce(npi_comm *comm, npi_device *dev, float *values, size_t count) {
    (void)comm, (void)dev, (void)values, (void)count;
    return NPOS_OK;
}

static void close_nothing(npi_comm *comm) {
    (void)comm;
}

npi_comm *npi_comm_self(void) {
    static npi_comm self = {0, 1, gather, reduce, close_nothing, NULL};
    return &self;
}
