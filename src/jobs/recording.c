#include "jobs/recording.h"

static npos_status record(npi_device *dev, npos_status (*work)(void *context), void *context,
                          npi_graph **out) {
    NPI_TRY(dev->graph->begin(dev));
    npos_status status = work(context), ended = dev->graph->end(dev, out);
    return status != NPOS_OK ? status : ended;
}

npos_status npi_recording_run(npi_recording *r, npi_device *dev, npos_status (*work)(void *context),
                              void *context) {
    if (!dev->graph || !r->ran) {
        r->ran = true;
        return work(context);
    }
    if (!r->graph)
        NPI_TRY(record(dev, work, context, &r->graph));
    return dev->graph->launch(dev, r->graph);
}

void npi_recording_free(npi_recording *r, npi_device *dev) {
    if (r->graph)
        dev->graph->free(dev, r->graph);
    *r = (npi_recording){0};
}
