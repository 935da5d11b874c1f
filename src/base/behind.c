#include "base/behind.h"

#include <stdio.h>

static void *run(void *argument) {
    npi_behind *b = argument;
    b->status = b->work(b->context);
    if (b->status != NPOS_OK) { /* messages belong to a thread */
        snprintf(b->message, sizeof b->message, "%s", npos_error_message());
        snprintf(b->hint, sizeof b->hint, "%s", npos_error_hint());
    }
    return NULL;
}

void npi_behind_join(npi_behind *b) {
    if (b->running)
        pthread_join(b->thread, NULL);
    b->running = false;
}

npos_status npi_behind_wait(npi_behind *b) {
    npi_behind_join(b);
    return b->status == NPOS_OK ? NPOS_OK
                                : npi_hint(npi_fail(b->status, "%s", b->message), "%s", b->hint);
}

npos_status npi_behind_run(npi_behind *b, npi_behind_fn *work, void *context) {
    NPI_TRY(npi_behind_wait(b));
    b->work = work;
    b->context = context;
    b->running = pthread_create(&b->thread, NULL, run, b) == 0;
    if (!b->running)
        run(b);
    return NPOS_OK;
}
