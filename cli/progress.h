/* progress.h - how far a job is: a bar on a terminal, a plain line now and then elsewhere, on
 * stderr. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "npos/npos.h"

/* Sets the progress function of `compute`. */
void cli_progress_use(npos_compute *compute);

/* The npos_progress_fn.  A call with total 0, done 0 and a text is a message: it becomes a line of
 * its own.  Stops the job when the reader of stdout went away. */
int cli_progress(void *context, const char *phase, int64_t done, int64_t total, const char *text);

/* Ends the line of the bar, if one is on the screen, so that other text can follow. */
void cli_progress_break(void);

/* "0.8 s", "42 s", "3m05s", "2h07m" into text[16]. */
void cli_duration(double seconds, char text[16]);

#endif
