/* base/behind.h - one piece of work at a time on a thread of its own, while the caller prepares the next.
 *
 *     npi_behind behind = {0};
 *     for each piece:
 *         ... prepare slot i % 2 ...
 *         NPI_TRY_GOTO(npi_behind_run(&behind, work, context), done);     waits for the piece before it
 *     status = npi_behind_wait(&behind);
 *     done: npi_behind_join(&behind);
 *
 * What a piece of work fails with is what the next call returns, message and hint included; after it nothing more is
 * begun. */
#ifndef NPI_BASE_BEHIND_H
#define NPI_BASE_BEHIND_H

#include <pthread.h>
#include <stdbool.h>

#include "base/fail.h"

typedef npos_status npi_behind_fn(void *context);

typedef struct npi_behind {
    bool running;
    pthread_t thread;
    npi_behind_fn *work;
    void *context;
    npos_status status; /* of the newest piece */
    char message[1024], hint[512];
} npi_behind;

/* Waits for the piece before, then begins this one; where there is no thread to be had, does it here. */
NPOS_MUST_CHECK npos_status npi_behind_run(npi_behind *behind, npi_behind_fn *work, void *context);
/* Waits for the newest piece; at rest it returns at once. */
NPOS_MUST_CHECK npos_status npi_behind_wait(npi_behind *behind);
/* The same, but what it fails with is left to a later npi_behind_wait: for cleaning up behind an error, whose message
 * stays. */
void npi_behind_join(npi_behind *behind);

#endif
