/* base/clock.h - time and signals. */
#ifndef NPI_BASE_CLOCK_H
#define NPI_BASE_CLOCK_H

#include <stdbool.h>

/* Seconds of a clock that never goes back. */
double npi_seconds(void);

/* "2026-11-23T16:40:00Z" into text[32]. */
void npi_utc_now(char text[32]);

/* Between watch and unwatch, SIGINT and SIGTERM only set a flag that npi_stop_requested returns; a
 * second signal has its ordinary effect.  Calls may nest. */
void npi_stop_watch(void);
void npi_stop_unwatch(void);
bool npi_stop_requested(void);

#endif
